"""Weighing: what mature cohorts prove of one guardrail, what is told, and what is remembered."""

import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, World, drawn, matured

from alerts.book import Book, Kept, Phase
from alerts.cohorts import Arms, CohortView
from alerts.guardrails import Guardrail
from alerts.judge import Judgement
from alerts.judge import Phase as Verdict
from alerts.testing import Testing
from alerts.weighing import Weigher
from metrics.catalogue import CATALOGUE
from metrics.contrast import MIN_POSITIVES
from metrics.evidence import weigh
from metrics.experiment import Money
from metrics.ledger import Ledger
from metrics.moment import Moment
from metrics.units import COLUMNS, UNIT_BUCKETS


RAP = Guardrail(metric="rap", test="sequential", margin=0.05)
TESTING = Testing(planned=5_000)
ALPHA = 0.02
BOOK = Book(phase=Phase(since=START, split={"old": 0.5, "new": 0.5}))
MONEY = msgspec.structs.replace(EXPERIMENT, money=Money(cap=100.0))
LABELLED = sorted(name for name, metric in CATALOGUE.items() if metric.labelled)
GOOD, BAD = matured(tp=120, fp=80, tn=720, fn=80), matured(tp=60, fp=80, tn=720, fn=140)


def weigher(rule: Guardrail = RAP, alpha: float = ALPHA, **testing: Any) -> Weigher:
    made = msgspec.structs.replace(TESTING, **testing)
    return Weigher.of(rule, MONEY, made, alpha)


def arms(ours: Iterable[Ledger], theirs: Iterable[Ledger]) -> Arms:
    """Cohorts that follow each other, under one split."""
    world, until = World(), START
    for variant, ledgers in (("new", ours), ("old", theirs)):
        for n, ledger in enumerate(ledgers):
            world.mature(variant, START + n * COHORT, START + n * COHORT + 1, ledger)
            until = max(until, START + (n + 1) * COHORT)
    snapshot = world.snapshot(until, final_to=until)
    return CohortView(MONEY).arms(BOOK, "new", snapshot, 0, until, 0)


@pytest.mark.parametrize(
    "rule", [RAP, Guardrail(metric="recall", test="sequential", relative_margin=0.2)]
)
def test_the_limit_is_the_difference_at_which_the_harm_beyond_the_margin_is_0(
    rule: Guardrail,
) -> None:
    """The one that is exposed is the one that decides."""
    for ours in (GOOD, BAD):
        seen = arms([ours] * 3, [GOOD] * 3)
        harm = float(weigher(rule).found(seen).whole.harm)
        judgement, _ = judged([ours] * 3, [GOOD] * 3, rule)
        limit = rule.limit(judgement.control)
        assert limit is not None
        assert judgement.effect is not None
        assert limit - judgement.effect.estimate == pytest.approx(harm)  # falling is harm


def judged(
    ours: Iterable[Ledger], theirs: Iterable[Ledger], rule: Guardrail = RAP, **testing: Any
) -> tuple[Judgement, Kept]:
    """One look at all the cohorts."""
    seen = arms(ours, theirs)
    return weigher(rule, **testing).judge(seen, START + len(seen.starts) * COHORT, Kept())


def each_look(
    ours: list[Ledger], theirs: list[Ledger], rule: Guardrail = RAP
) -> list[tuple[Judgement, Kept]]:
    """A look after every cohort, each of which remembers the one before."""
    kept, found, made = Kept(), [], weigher(rule)
    for n in range(1, len(ours) + 1):
        judgement, kept = made.judge(arms(ours[:n], theirs[:n]), START + n * COHORT, kept)
        found.append((judgement, kept))
    return found


def numbers(value: object) -> list[float]:
    """All floating-point numbers in something that is about to be written down."""
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [n for part in value for n in numbers(part)] if isinstance(value, list | tuple) else []


# --- verdicts ---------------------------------------------------------------------------------------


def test_harm_beyond_the_margin_fails_and_tells_how_much_it_is_at_least() -> None:
    found, kept = judged([BAD] * 6, [GOOD] * 6)
    assert found.phase is Verdict.FAIL
    assert [found.value, found.control] == pytest.approx([0.1, 0.4])
    assert found.effect is not None
    assert found.effect.estimate == pytest.approx(-0.3)
    assert found.effect.upper is not None
    assert found.effect.upper < -0.05
    assert f"worse by {-found.effect.upper:.3g} or more, 0.05 is tolerated" in found.reason
    assert kept.alarmed_at == found.at == START + 6 * COHORT


def test_an_equal_treatment_passes_once_it_is_proven_that_it_is_not_worse_than_the_margin() -> None:
    found, kept = judged([GOOD] * 60, [GOOD] * 60)
    assert found.phase is Verdict.PASS
    assert found.evidence is not None
    assert found.evidence.safe is not None
    assert found.evidence.safe >= found.evidence.safe_needed == -math.log(0.05)
    assert found.effect is not None
    assert found.effect.lower is not None
    assert found.effect.lower > -0.05
    assert kept.alarmed_at is None


def test_the_same_without_a_margin_never_passes() -> None:
    strict = msgspec.structs.replace(RAP, margin=None)
    assert judged([GOOD] * 60, [GOOD] * 60, strict)[0].phase is Verdict.INCONCLUSIVE


def test_in_between_nothing_is_decided_and_it_is_told_how_much_is_missing() -> None:
    found, kept = judged([GOOD] * 3, [GOOD] * 3)
    assert found.phase is Verdict.INCONCLUSIVE
    assert kept.alarmed_at is None
    assert found.missing is not None
    assert found.missing.predictions > 0
    assert found.missing.ms > 0
    assert f"about {found.missing.predictions:,} more predictions decide" in found.reason
    enough = math.ceil(found.missing.predictions / 1_000) + 3
    assert judged([GOOD] * enough, [GOOD] * enough)[0].phase is Verdict.PASS


def test_what_is_missing_is_not_told_once_it_is_decided() -> None:
    for ours in (GOOD, BAD):
        assert judged([ours] * 60, [GOOD] * 60)[0].missing is None


@pytest.mark.parametrize("metric", LABELLED)
def test_whatever_the_metric_clear_harm_fails_and_its_opposite_does_not(metric: str) -> None:
    rising = CATALOGUE[metric].harm == "rising"
    margin = 5.0 if metric == "net_business_value" else 0.1
    rule = Guardrail(metric=metric, test="sequential", margin=margin)
    best = matured(tp=300, fp=10, tn=690)
    worst = matured(tp=30, fp=200, tn=500, fn=270)
    if metric == "money_per_prediction":
        best, worst = (
            Ledger(1000, cells=GOOD.cells, money=n, money_squared=1000 * 400)
            for n in (9_000, -9_000)
        )
    if metric == "net_business_value":
        weights = msgspec.structs.replace(MONEY.business_value, per_latency_ms_pct=0.0)
        experiment = msgspec.structs.replace(MONEY, business_value=weights)
    else:
        experiment = MONEY
    made = Weigher.of(rule, experiment, TESTING, ALPHA)
    harmed, _ = made.judge(arms([worst] * 8, [best] * 8), START, Kept())
    fine, _ = made.judge(arms([best] * 8, [worst] * 8), START, Kept())
    assert (harmed.phase, fine.phase) == (Verdict.FAIL, Verdict.PASS)
    assert harmed.effect is not None
    assert fine.effect is not None
    assert (harmed.effect.estimate > 0) is rising
    assert harmed.effect.estimate == pytest.approx(-fine.effect.estimate)
    assert (harmed.control is None) is (metric == "net_business_value")


def test_a_relative_margin_is_a_share_of_the_control_s_value() -> None:
    # precision 0.5 against 0.6: a sixth worse
    ours, theirs = matured(tp=100, fp=100, tn=800), matured(tp=120, fp=80, tn=800)
    for margin, phase in ((0.05, Verdict.FAIL), (0.4, Verdict.PASS)):
        rule = Guardrail(metric="precision", test="sequential", relative_margin=margin)
        assert judged([ours] * 40, [theirs] * 40, rule)[0].phase is phase


# --- the test that decides --------------------------------------------------------------------------


def test_the_alarm_comes_with_the_first_look_whose_evidence_reaches_one_over_alpha() -> None:
    rng = np.random.default_rng(11)
    ours = [drawn(rng, 300, recall=0.45) for _ in range(40)]
    theirs = [drawn(rng, 300) for _ in range(40)]
    looks = each_look(ours, theirs)
    reached = []
    for n in range(1, 41):
        seen, made = arms(ours[:n], theirs[:n]), weigher()
        found = weigh(made.test, MONEY, seen.treatment, seen.control, seen.strata)
        reached.append(float(found.log_harm) >= -math.log(ALPHA))
    first = reached.index(True)
    assert 0 < first < 39
    failed = [judgement.phase is Verdict.FAIL for judgement, _ in looks]
    assert failed == [n >= first for n in range(40)]
    assert {kept.alarmed_at for _, kept in looks[first:]} == {looks[first][0].at}


def test_an_alarm_outlasts_a_recovery() -> None:
    looks = each_look([BAD] * 4 + [matured(tp=200, tn=800)] * 40, [GOOD] * 44)
    (early, early_kept), (late, late_kept) = looks[3], looks[-1]
    assert early_kept.alarmed_at is not None
    proven = (
        f"proven at {Moment(early_kept.alarmed_at)} to be worse than the 0.05 that is tolerated"
    )
    assert late.reason.endswith(proven)
    assert early.phase is late.phase is Verdict.FAIL
    assert late_kept.alarmed_at == early_kept.alarmed_at
    assert late.value is not None
    assert late.control is not None
    assert late.value > late.control
    assert late.evidence is not None
    assert late.evidence.harm == late_kept.peak
    # Of the evidence at this look alone nothing would be left.
    assert judged([BAD] * 4 + [matured(tp=200, tn=800)] * 40, [GOOD] * 44)[1].alarmed_at is None


def test_the_peak_is_the_highest_evidence_at_any_look() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = ([drawn(rng, 300) for _ in range(16)] for _ in range(2))
    looks = each_look(ours, theirs)
    peaks = [kept.peak for _, kept in looks if kept.peak is not None]
    alone = [judged(ours[:n], theirs[:n])[1].peak for n in range(1, 17)]
    known = [peak for peak in alone if peak is not None]
    assert peaks == np.maximum.accumulate(known).tolist()


def test_a_change_after_a_long_time_of_health_is_found_and_told() -> None:
    found, kept = judged([GOOD] * 60 + [BAD] * 10, [GOOD] * 70)
    assert found.phase is Verdict.FAIL
    assert kept.alarmed_at is not None
    assert found.strongest is not None
    assert START + 55 * COHORT <= found.strongest.since <= START + 62 * COHORT
    assert found.strongest.difference == pytest.approx(-0.3, abs=0.1)
    assert found.strongest.bound is not None
    assert found.effect is not None
    assert found.strongest.difference <= found.strongest.bound < -0.05
    told = (
        f": since about {Moment(found.strongest.since)} worse by {-found.strongest.bound:.3g} or more;"
        f" over the whole epoch worse by about {-found.effect.estimate:.3g}, 0.05 is tolerated"
    )
    assert found.reason.endswith(told)


def test_a_change_that_only_spoils_what_was_better_before_is_told_as_such() -> None:
    best = matured(tp=180, fp=80, tn=720, fn=20)
    found, _ = judged([best] * 60 + [BAD] * 10, [GOOD] * 70)
    assert found.phase is Verdict.FAIL
    assert found.effect is not None
    assert f"; over the whole epoch better by about {found.effect.estimate:.3g}, " in found.reason


def test_the_bounds_of_a_whole_epoch_with_an_abrupt_end_stand_on_their_sides_of_the_estimate() -> (
    None
):
    worst = matured(tp=0, fp=300, tn=500, fn=200)
    found, _ = judged([GOOD] * 60 + [worst] * 6, [GOOD] * 66)
    assert found.effect is not None
    assert found.strongest is not None
    lower, upper = found.effect.lower, found.effect.upper
    assert lower is not None
    assert upper is not None
    assert lower < found.effect.estimate < upper
    assert found.strongest.bound is not None
    assert found.strongest.bound < lower, "what changed is worse than the epoch can be as a whole"


def test_harm_from_the_beginning_needs_no_word_about_since_when() -> None:
    found, _ = judged([BAD] * 6, [GOOD] * 6)
    assert found.strongest is None
    assert "since" not in found.reason


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 0.8), st.integers(1, 12))
def test_bounds_and_verdict_are_of_one_mind(seed: int, recall: float, cohorts: int) -> None:
    rng = np.random.default_rng(seed)
    ours = [drawn(rng, 400, recall=recall) for _ in range(cohorts)]
    theirs = [drawn(rng, 400) for _ in range(cohorts)]
    found, kept = judged(ours, theirs)
    if found.effect is None:
        assert kept.peak is None
        return
    lower, upper = found.effect.lower, found.effect.upper
    assert lower is not None
    assert upper is not None
    assert lower <= found.effect.estimate <= upper
    harm = found.strongest.bound if found.strongest else upper
    assert harm is not None
    assert (harm < -0.05) is (found.phase is Verdict.FAIL)
    assert (lower > -0.05) is (found.phase is Verdict.PASS) or found.phase is Verdict.FAIL


FALLING, RISING = RAP, Guardrail(metric="false_alarm_rate", test="sequential", margin=0.02)


@st.composite
def changing(draw: st.DrawFn) -> tuple[list[Ledger], list[Ledger]]:
    """Random cohorts of treatment and control; the treatment changes up to twice, for better or worse."""
    rng, size = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.integers(50, 1_000))
    ours: list[Ledger] = []
    for _ in range(draw(st.integers(1, 3))):
        recall = draw(st.floats(0.0, 1.0))
        alarms = draw(st.floats(0.0, 0.6))
        count = draw(st.integers(1, 30))
        ours += [drawn(rng, size, recall=recall, false_alarms=alarms) for _ in range(count)]
    return ours, [drawn(rng, size) for _ in ours]


@settings(max_examples=80, deadline=None)
@given(changing(), st.sampled_from([FALLING, RISING]), st.booleans())
def test_no_bound_is_on_the_wrong_side_of_its_estimate_whatever_changes(
    series: tuple[list[Ledger], list[Ledger]], rule: Guardrail, before: bool
) -> None:
    found = changed(series, rule, before=before)
    rising = rule is RISING
    if found.effect is None:
        return
    lower, estimate, upper = found.effect.lower, found.effect.estimate, found.effect.upper
    assert lower is None or lower <= estimate
    assert upper is None or estimate <= upper
    late = found.strongest
    if late is not None and late.bound is not None:
        assert late.bound <= late.difference if rising else late.bound >= late.difference


@settings(max_examples=80, deadline=None)
@given(changing(), st.sampled_from([FALLING, RISING]), st.booleans())
def test_the_numbers_of_the_sentence_are_those_of_its_judgement(
    series: tuple[list[Ledger], list[Ledger]], rule: Guardrail, before: bool
) -> None:
    found = changed(series, rule, before=before)
    if found.effect is None or found.value is None or found.control is None:
        return
    effect, late, wait = found.effect, found.strongest, found.missing
    known = [found.value, found.control, effect.estimate, effect.lower, effect.upper, rule.margin]
    known += [late.bound if late else None, wait.predictions if wait else None]
    forms = ("{:.3g}", "{:.4g}", "{:,}")
    told = {form.format(abs(number)) for number in known if number is not None for form in forms}
    for number in re.findall(r"(?<![\w:.])[+-]?(\d[\d,.]*(?:e[+-]\d+)?)(?=[ ;,]|$)", found.reason):
        assert number.rstrip(",") in told, found.reason
    sign, nearest = (1, effect.lower) if rule is RISING else (-1, effect.upper)
    nearest = late.bound if late else nearest
    if found.phase is Verdict.FAIL and " or more" in found.reason:
        assert nearest is not None
        assert f"worse by {sign * nearest:.3g} or more" in found.reason
        assert sign * nearest >= (rule.margin or 0.0)
        assert ("over the whole epoch" in found.reason) is (late is not None)
    if "over the whole epoch" in found.reason:
        side = "worse" if sign * effect.estimate > 0 else "better"
        assert f"whole epoch {side} by about {abs(effect.estimate):.3g}, " in found.reason


def changed(
    series: tuple[list[Ledger], list[Ledger]], rule: Guardrail, *, before: bool
) -> Judgement:
    """The judgement of one look, with or without an alarm at a look before."""
    seen = arms(*series)
    kept = Kept(peak=9.0, alarmed_at=START) if before else Kept()
    return weigher(rule).judge(seen, START + len(seen.starts) * COHORT, kept)[0]


# --- what cannot be known ---------------------------------------------------------------------------


def test_without_cohorts_nothing_is_said_and_nothing_is_remembered() -> None:
    found, kept = judged([], [])
    assert (found.phase, found.reason) == (Verdict.INCONCLUSIVE, "no label is final yet")
    assert kept == Kept()


@pytest.mark.parametrize("positives", [0, 1, MIN_POSITIVES - 1])
def test_too_few_positives_say_nothing(positives: int) -> None:
    few = matured(tp=positives, tn=500)
    found, kept = judged([few], [few])
    assert found.phase is Verdict.INCONCLUSIVE
    assert kept == Kept()
    assert f"{positives} positives (effective) in the smaller variant" in found.reason
    assert found.n_effective == positives
    assert (found.n, found.n_control) == (500 + positives, 500 + positives)


ODD = {
    "nothing": Ledger(),
    "nothing but errors": matured(errors=900),
    "positives only": matured(tp=500, fn=300),
    "negatives only": matured(fp=50, tn=900),
    "all right": matured(tp=100, tn=900),
    "all wrong": matured(fp=900, fn=100),
    "never acted": matured(tn=900, fn=100),
    "always acted": matured(tp=100, fp=900),
    "one": matured(tp=1),
    "huge": matured(tp=10**12, fp=10**12, tn=10**13, fn=10**12),
    "good": GOOD,
}


@pytest.mark.parametrize("metric", LABELLED)
@pytest.mark.parametrize("theirs", ["nothing", "good", "positives only", "negatives only"])
def test_whatever_matures_every_number_is_finite_and_survives_being_written_down(
    metric: str, theirs: str
) -> None:
    for ours in sorted(ODD.keys() - {"nothing"}):
        assert_written(metric, ours, theirs)


def assert_written(metric: str, ours: str, theirs: str) -> None:
    """What is judged of two odd variants can be kept, and says nothing where one of them is empty."""
    rule = Guardrail(metric=metric, test="sequential", margin=0.01)
    found, kept = judged([ODD[ours]] * 3, [ODD[theirs]] * 3, rule)
    for each in (found, kept):
        assert all(math.isfinite(number) for number in numbers(msgspec.to_builtins(each)))
        packed = msgspec.json.encode(each)
        assert msgspec.json.decode(packed, type=type(each)) == each
    if "nothing" in (ours, theirs):
        assert found.phase is Verdict.INCONCLUSIVE
        assert kept == Kept()


def test_a_control_with_labels_of_one_kind_only_decides_nothing() -> None:
    for theirs in (matured(tn=900), matured(errors=900)):
        for ours in ODD.values():
            found, kept = judged([ours] * 5, [theirs] * 5)
            assert (found.phase, kept.alarmed_at) == (Verdict.INCONCLUSIVE, None)


def test_remembered_evidence_and_the_alarm_are_read_back_as_they_were() -> None:
    _, kept = each_look([BAD] * 5, [GOOD] * 5)[-1]
    assert kept.alarmed_at is not None
    again = msgspec.json.decode(msgspec.json.encode(kept), type=Kept)
    assert again == kept
    seen = arms([GOOD] * 6, [GOOD] * 6)
    assert weigher().judge(seen, START, again)[0].phase is Verdict.FAIL


# --- units ------------------------------------------------------------------------------------------


def by_unit(cohort: Ledger, *, alike: bool) -> Ledger:
    """The cohort with sums by unit: each bucket gets its share of every cell, or of one kind only."""
    kinds = ("tp", "fp", "tn", "fn")
    buckets = np.zeros((UNIT_BUCKETS, len(COLUMNS)), dtype=np.int64)
    for kind, name in enumerate(kinds):
        whole = getattr(cohort.cells, name).w
        mine = slice(None) if alike else slice(kind * 16, (kind + 1) * 16)
        buckets[mine, COLUMNS.index(f"w_{name}")] = whole // buckets[mine].shape[0]
    buckets[:, COLUMNS.index("n")] = cohort.predictions // UNIT_BUCKETS + 1
    return Ledger(cohort.predictions, cells=cohort.cells, buckets=buckets)


def test_predictions_of_units_that_are_all_of_a_kind_prove_less_than_as_many_of_mixed_ones() -> (
    None
):
    plain, alike, kinds = (
        judged([ours] * 6, [theirs] * 6)
        for ours, theirs in (
            (BAD, GOOD),
            (by_unit(BAD, alike=True), by_unit(GOOD, alike=True)),
            (by_unit(BAD, alike=False), by_unit(GOOD, alike=False)),
        )
    )
    assert plain == alike
    assert plain[0].phase is Verdict.FAIL
    assert kinds[0].phase is Verdict.INCONCLUSIVE
    assert plain[1].peak is not None
    assert kinds[1].peak is not None
    assert kinds[1].peak < plain[1].peak


def test_a_pass_that_rests_on_too_little_has_no_evidence_rather_than_an_infinite_one() -> None:
    found, _ = judged([matured(tp=40, fp=1, tn=900)] * 6, [matured(tp=40, fp=1, tn=900)] * 6)
    assert found.phase is Verdict.INCONCLUSIVE
    assert found.effect is not None
    assert found.evidence is not None
    assert found.evidence.safe is None
