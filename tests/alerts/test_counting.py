"""Counting: what arrives, judged against a known split; suspicion, suspension and what is remembered."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.panes import EXPERIMENT, START, pane

from alerts.book import Kept
from alerts.counting import SPLITS_KEPT, Counter, Tally
from alerts.guardrails import Guardrail
from alerts.judge import Judgement
from alerts.judge import Phase as Verdict
from alerts.testing import Testing
from metrics.experiment import MINUTE
from metrics.ledger import Ledger, total


ERRORS = Guardrail(metric="error_rate", test="sequential", relative_margin=0.2)
SELECTED = Guardrail(metric="selection_rate", test="sequential", margin=0.05)
SLOW = Guardrail(metric="slow_rate", test="sequential", relative_margin=0.5)
FAST_ENOUGH = msgspec.structs.replace(EXPERIMENT, slo_ms=100.0)
ALPHA = 0.01
HALF = 0.5


def counter(rule: Guardrail = ERRORS, **testing: Any) -> Counter:
    return Counter.of(rule, FAST_ENOUGH, Testing(**testing), ALPHA)


def counted(
    tallies: list[Tally], rule: Guardrail = ERRORS, kept: Kept | None = None
) -> list[tuple[Judgement, Kept]]:
    """A look a minute, at one tally each."""
    made, kept, found = counter(rule), kept or Kept(), []
    for n, tally in enumerate(tallies, start=1):
        judgement, kept = made.judge(tally, START + n * MINUTE, START, kept)
        found.append((judgement, kept))
    return found


def drawn(seed: int, shares: tuple[float, float], looks: int, n: int = 200) -> list[Tally]:
    """Random events of predictions that are assigned one by one, half of them to the treatment."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(looks):
        n_t = int(rng.binomial(n, HALF))
        x_t, x_c = rng.binomial(n_t, shares[0]), rng.binomial(n - n_t, shares[1])
        found.append(Tally(HALF, int(x_t), n_t, int(x_c), n - n_t))
    return found


# --- what counts ------------------------------------------------------------------------------------


def test_errors_of_one_unit_within_a_minute_count_once() -> None:
    storm, calm = pane(1000, errors=900, failing=1), pane(1000, errors=2, failing=2)
    assert counter().tally(HALF, storm, calm) == Tally(HALF, 1, 1000, 2, 1000)


def test_what_was_acted_on_is_counted_of_all_predictions() -> None:
    found = counter(SELECTED).tally(0.1, pane(100, acted=30), pane(900, acted=200))
    assert found == Tally(0.1, 30, 100, 200, 900)


def test_what_is_slower_than_allowed_is_counted_of_those_with_a_latency() -> None:
    ours = total([pane(90, latency_ms=20), pane(10, latency_ms=900), pane(50)])
    found = counter(SLOW).tally(HALF, ours, pane(100, latency_ms=20))
    assert found == Tally(HALF, 10, 100, 0, 100)


def test_two_tallies_of_one_split_are_one() -> None:
    assert Tally(0.3, 1, 2, 3, 4).plus(Tally(0.3, 10, 20, 30, 40)) == Tally(0.3, 11, 22, 33, 44)


# --- verdicts ---------------------------------------------------------------------------------------


def test_a_storm_of_errors_is_found_within_minutes() -> None:
    looks = counted(drawn(1, (0.01, 0.01), 60) + drawn(2, (0.3, 0.01), 10))
    phases = [judgement.phase for judgement, _ in looks]
    assert Verdict.FAIL not in phases[:60]
    assert phases.index(Verdict.FAIL) - 60 <= 2
    last, _ = looks[-1]
    assert "proven to be beyond what is tolerated (1.2 times the control's)" in last.reason
    assert last.effect is not None
    assert last.effect.kind == "ratio"


def test_an_alarm_outlasts_a_recovery_and_is_read_back_as_it_was() -> None:
    _, alarmed = counted(drawn(1, (0.3, 0.01), 5))[-1]
    assert alarmed.alarmed_at is not None
    kept = msgspec.json.decode(msgspec.json.encode(alarmed), type=Kept)
    assert kept == alarmed
    late, after = counted(drawn(2, (0.0, 0.3), 30), kept=kept)[-1]
    assert late.phase is Verdict.FAIL
    assert after.alarmed_at == alarmed.alarmed_at


def test_equal_variants_pass_only_when_it_is_proven_that_the_margin_is_kept() -> None:
    looks = counted(drawn(3, (0.3, 0.3), 60))
    for judgement, kept in looks:
        assert judgement.evidence is not None
        assert judgement.evidence.safe is not None
        proven = judgement.evidence.safe >= judgement.evidence.safe_needed
        assert (judgement.phase is Verdict.PASS) is proven
        assert kept.alarmed_at is None
    assert looks[0][0].phase is Verdict.INCONCLUSIVE
    assert looks[-1][0].phase is Verdict.PASS
    assert "1.2 times the control's is tolerated, and proven to be kept" in looks[-1][0].reason


@pytest.mark.parametrize(
    ("shares", "phase"),
    [
        ((0.3, 0.3), Verdict.PASS),
        ((0.45, 0.3), Verdict.FAIL),
        ((0.15, 0.3), Verdict.FAIL),
        ((0.35, 0.3), Verdict.INCONCLUSIVE),
    ],
)
def test_a_selection_rate_may_leave_the_control_s_on_neither_side(
    shares: tuple[float, float], phase: Verdict
) -> None:
    found, _ = counted(drawn(4, shares, 60), SELECTED)[-1]
    assert found.phase is phase
    assert found.effect is not None
    assert found.effect.kind == "difference"
    assert found.effect.estimate == pytest.approx(shares[0] - shares[1], abs=0.02)


def test_without_a_margin_no_more_than_the_control_s_is_tolerated() -> None:
    strict = msgspec.structs.replace(ERRORS, relative_margin=None)
    found, _ = counted(drawn(5, (0.3, 0.3), 60), strict)[-1]
    assert found.phase is Verdict.INCONCLUSIVE
    assert "no more than the control's is tolerated" in found.reason
    assert counted(drawn(5, (0.4, 0.3), 60), strict)[-1][0].phase is Verdict.FAIL


def test_the_alarm_comes_with_the_first_look_whose_evidence_reaches_one_over_alpha() -> None:
    looks = counted(drawn(6, (0.07, 0.04), 60))
    made = counter().test
    state, first = made.start(), None
    for n, tally in enumerate(drawn(6, (0.07, 0.04), 60)):
        state = made.look(state, *tally[1:], tally.rho)
        if first is None and float(state.peak) >= -math.log(ALPHA):
            first = n
    assert first is not None
    assert 0 < first < 59
    assert [kept.alarmed_at is not None for _, kept in looks] == [n >= first for n in range(60)]
    assert looks[-1][1].alarmed_at == looks[first][0].at


def test_in_fixed_runs_equal_variants_never_raise_an_alarm() -> None:
    for seed in range(8):
        assert counted(drawn(seed, (0.02, 0.02), 30))[-1][1].alarmed_at is None


# --- several splits ---------------------------------------------------------------------------------


def test_a_ramp_during_a_drift_of_errors_is_no_harm_but_would_be_if_all_were_one() -> None:
    ramp = [Tally(0.01, 0, 20, 0, 1980)] * 30 + [Tally(0.5, 100, 1000, 100, 1000)] * 30
    looks = counted(ramp)
    assert {kept.alarmed_at for _, kept in looks} == {None}
    last, kept = looks[-1]
    assert last.effect is not None
    assert last.effect.lower is not None
    assert last.effect.lower < 1.0
    assert kept.tallies == ((0.01, 0, 600, 0, 59400), (0.5, 3000, 30_000, 3000, 30_000))
    wrong = [tally._replace(rho=0.0334) for tally in ramp]
    assert counted(wrong)[-1][1].alarmed_at is not None


def test_rates_are_told_as_if_each_split_weighed_what_both_variants_have_in_it() -> None:
    found, _ = counted([Tally(0.01, 1, 10, 99, 990), Tally(0.5, 500, 1000, 500, 1000)])[-1]
    weights = (10 * 990 / 1000, 1000 * 1000 / 2000)
    expected = (weights[0] * 0.1 + weights[1] * 0.5) / sum(weights)
    assert found.value == found.control == pytest.approx(expected)
    assert (found.n, found.n_control, found.n_effective) == (1010, 1990, 1100)


def test_of_very_many_splits_the_newest_are_shown_and_the_evidence_keeps_all() -> None:
    ramp = [Tally(0.2 + 0.6 * n / 150, 1, 10, 1, 10) for n in range(150)]
    _, kept = counted(ramp)[-1]
    assert len(kept.tallies) == SPLITS_KEPT
    assert kept.tallies[-1][0] == ramp[-1].rho


# --- what cannot be known ---------------------------------------------------------------------------


def test_a_look_at_which_nothing_arrived_changes_no_evidence() -> None:
    _, before = counted(drawn(7, (0.05, 0.05), 5))[-1]
    found, after = counter().judge(Tally(0.5), START, START, before)
    assert (after.peak, after.alarmed_at) == (before.peak, before.alarmed_at)
    assert after.tallies == before.tallies
    assert found.phase is Verdict.INCONCLUSIVE


def test_a_suspended_count_says_why_and_does_not_forget_an_alarm() -> None:
    found = counter().suspended("because of this", START, Kept())
    assert (found.phase, found.reason) == (
        Verdict.INCONCLUSIVE,
        "error_rate: not counted, because of this",
    )
    found = counter().suspended("because of this", START, Kept(peak=9.0, alarmed_at=START))
    assert found.phase is Verdict.FAIL
    assert "not counted, because of this" in found.reason


NOTHING = Tally(HALF)


@pytest.mark.parametrize("rule", [ERRORS, SELECTED, SLOW])
@pytest.mark.parametrize(
    "tallies",
    [
        [NOTHING],
        [NOTHING, Tally(HALF, 0, 100, 0, 100)],
        [Tally(HALF, 100, 100, 100, 100)] * 3,
        [Tally(HALF, 100, 100, 0, 0)] * 3,
        [Tally(HALF, 0, 0, 100, 100)] * 3,
        [Tally(HALF, 0, 100, 100, 100)] * 3,
        [Tally(1e-6, 1, 1, 0, 10**6), Tally(1 - 1e-6, 1, 10**6, 0, 1)],
        [Tally(HALF, 10**9, 10**11, 10**9, 10**11)] * 3,
        [Tally(HALF, 10**11, 10**11, 0, 10**11)] * 3,
    ],
)
def test_whatever_arrives_every_number_is_finite_and_survives_being_written_down(
    rule: Guardrail, tallies: list[Tally]
) -> None:
    for found, kept in counted(tallies, rule):
        assert all(math.isfinite(number) for number in (*kept.state, *sum(kept.tallies, ())))
        for each in (found, kept):
            packed = msgspec.json.encode(each)
            again = msgspec.json.decode(packed, type=type(each))
            assert again == each  # what is not finite would have become null


@pytest.mark.parametrize("rule", [ERRORS, SELECTED, SLOW])
def test_of_nothing_nothing_is_said(rule: Guardrail) -> None:
    made = counter(rule)
    tally = made.tally(HALF, Ledger(), Ledger())
    found, kept = made.judge(tally, START, START, Kept())
    assert found.phase is Verdict.INCONCLUSIVE
    assert "nothing has arrived of one of the two variants" in found.reason
    assert (found.value, found.control, found.effect, found.missing) == (None, None, None, None)
    assert kept.alarmed_at is None


def test_what_is_missing_is_about_what_it_then_takes() -> None:
    tallies = [Tally(HALF, 150, 500, 150, 500)] * 40
    looks = counted(tallies)
    passed = next(n for n, (found, _) in enumerate(looks) if found.phase is Verdict.PASS)
    told = looks[passed // 2][0].missing
    assert told is not None
    needed = (passed - passed // 2) * 500
    assert needed / 2 < told.predictions < needed * 2
    assert "more predictions decide" in looks[passed // 2][0].reason
    assert looks[passed][0].missing is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_what_is_remembered_is_all_that_matters(events: list[tuple[int, int]], rho: float) -> None:
    tallies = [Tally(rho, x_t, 30, x_c, 30) for x_t, x_c in events]
    through = counted(tallies)[-1]
    kept = Kept()
    for n, tally in enumerate(tallies, start=1):
        kept = msgspec.json.decode(msgspec.json.encode(kept), type=Kept)
        found, kept = counter().judge(tally, START + n * MINUTE, START, kept)
    assert (found, kept) == through
