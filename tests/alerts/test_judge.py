"""Thresholds: bounds in each direction of harm, what cannot be known, and which panes are seen."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, World, cells, matured, pane

from alerts.guardrails import Guardrail
from alerts.judge import Judgement, Phase, judge, settled
from metrics.catalogue import CATALOGUE
from metrics.confusion import Cell
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.ledger import Ledger


NOW = START + HOUR
PASS, FAIL, UNSURE = Phase.PASS, Phase.FAIL, Phase.INCONCLUSIVE
NOTHING = Ledger()


def guardrail(metric: str = "error_rate", *, window: int = 5 * MINUTE, **options: Any) -> Guardrail:
    return Guardrail(metric=metric, window=Duration(window), **options)


def seen(
    given_guardrail: Guardrail, treatment: Ledger, control: Ledger = NOTHING, *, at: int = NOW
) -> Judgement:
    """What is said where both ledgers lie in the newest pane and the newest cohort."""
    world = World()
    for variant, ledger in (("new", treatment), ("old", control)):
        world.arrive(variant, at - FINE_WIDTH, at, ledger)
        world.mature(variant, at - COHORT, at, ledger)
    snapshot = world.snapshot(at, final_to=at)
    return judge(given_guardrail, EXPERIMENT, "new", snapshot, at)


# --- bounds of its own ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "errors", "phase", "bound"),
    [
        ({"max": 0.05}, 4, PASS, 0.05),
        ({"max": 0.05}, 5, PASS, 0.05),
        ({"max": 0.05}, 6, FAIL, 0.05),
        ({"min": 0.05}, 6, PASS, 0.05),
        ({"min": 0.05}, 5, PASS, 0.05),
        ({"min": 0.05}, 4, FAIL, 0.05),
        ({"min": 0.02, "max": 0.10}, 1, FAIL, 0.02),
        ({"min": 0.02, "max": 0.10}, 11, FAIL, 0.10),
        ({"min": 0.02, "max": 0.10}, 3, PASS, 0.02),
        ({"min": 0.02, "max": 0.10}, 9, PASS, 0.10),
        ({"max": 0}, 0, PASS, 0.0),
    ],
)
def test_a_bound_itself_is_kept_and_the_nearest_one_is_told(
    options: dict[str, Any], errors: int, phase: Phase, bound: float
) -> None:
    found = seen(guardrail(**options), pane(100, errors=errors))
    assert (found.phase, found.bound, found.value) == (phase, bound, errors / 100)
    assert ("breaches" in found.reason) is (phase is FAIL)


# --- margins to the control -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "treatment", "phase"),
    [
        # rising is harm: error rate, control at 10 %
        ("error_rate", pane(100, errors=12), PASS),
        ("error_rate", pane(100, errors=13), FAIL),
        ("error_rate", pane(100, errors=0), PASS),
        # either is harm: selection rate, control at 50 %
        ("selection_rate", pane(100, acted=52), PASS),
        ("selection_rate", pane(100, acted=48), PASS),
        ("selection_rate", pane(100, acted=53), FAIL),
        ("selection_rate", pane(100, acted=47), FAIL),
    ],
)
def test_a_margin_is_tolerated_in_the_direction_of_harm(
    metric: str, treatment: Ledger, phase: Phase
) -> None:
    control = pane(100, errors=10, acted=50)
    found = seen(guardrail(metric, margin=0.0200001), treatment, control)
    assert found.phase is phase
    assert found.control == (0.1 if metric == "error_rate" else 0.5)


@pytest.mark.parametrize(("tp", "phase"), [(100, PASS), (48, PASS), (47, FAIL), (0, FAIL)])
def test_a_falling_metric_fails_below_the_control_less_the_margin(tp: int, phase: Phase) -> None:
    control = matured(tp=50, fp=50)  # a precision of 0.5
    found = seen(guardrail("precision", margin=0.0200001), matured(tp=tp, fp=100 - tp), control)
    assert found.phase is phase


def profit(tp: int, fp: int) -> Ledger:
    """Profit per prediction is (2·tp - fp) / 100, as a correct action earns three times its cost."""
    return matured(tp=tp, fp=fp, tn=100 - tp - fp)


@pytest.mark.parametrize(
    ("fp", "phase", "bound"),
    [(60, PASS, -0.6), (61, FAIL, -0.6), (50, PASS, -0.6), (0, PASS, -0.6)],
)
def test_a_relative_margin_of_a_negative_control_lies_below_it(
    fp: int, phase: Phase, bound: float
) -> None:
    control = profit(tp=0, fp=50)  # a loss of 0.5 a prediction
    found = seen(guardrail("profit_per_prediction", relative_margin=0.2), profit(0, fp), control)
    assert found.phase is phase
    assert found.bound == pytest.approx(bound)
    assert found.control == -0.5


def test_a_relative_margin_of_nothing_tolerates_nothing() -> None:
    rule = guardrail(relative_margin=0.5)
    assert seen(rule, pane(100, errors=1), pane(100)).phase is FAIL
    assert seen(rule, pane(100), pane(100)).phase is PASS


def test_the_tightest_of_several_bounds_decides() -> None:
    rule = guardrail(max=0.3, margin=0.05)
    assert seen(rule, pane(100, errors=20), pane(100, errors=10)).bound == pytest.approx(0.15)
    assert seen(rule, pane(100, errors=31), pane(100, errors=90)).bound == 0.3


def test_net_business_value_is_the_difference_to_the_control() -> None:
    rule = guardrail("net_business_value", min=0.0)
    good, bad = matured(tp=60, tn=40), matured(tp=10, fp=90)
    weights = msgspec.structs.replace(EXPERIMENT.business_value, per_latency_ms_pct=0.0)
    experiment = msgspec.structs.replace(EXPERIMENT, business_value=weights)
    world = World().mature("new", START, NOW, bad).mature("old", START, NOW, good)
    snapshot = world.snapshot(NOW, final_to=NOW)
    found = judge(rule, experiment, "new", snapshot, NOW)
    assert (found.phase, found.control) == (FAIL, None)
    assert found.value == pytest.approx(-45.0)


# --- what cannot be known ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "phase"), [(99, UNSURE), (100, PASS)])
def test_too_few_predictions_are_inconclusive(n: int, phase: Phase) -> None:
    assert seen(guardrail(max=0.5), pane(n)).phase is phase


def test_the_control_needs_enough_predictions_where_it_is_compared() -> None:
    few = pane(99, errors=1)
    assert seen(guardrail(margin=0.5), pane(100), few).phase is UNSURE
    assert seen(guardrail(max=0.5), pane(100), few).phase is PASS
    found = seen(guardrail(margin=0.5), pane(100), few)
    assert found.reason == "99 predictions in the window, 100 are needed"


def test_a_breached_bound_fails_even_if_the_control_is_unknown() -> None:
    rule = guardrail(max=0.5, margin=0.1)
    assert seen(rule, pane(100, errors=90), NOTHING).phase is FAIL
    assert seen(rule, pane(100, errors=10), NOTHING).phase is UNSURE


@pytest.mark.parametrize(
    ("metric", "treatment", "control"),
    [
        ("latency_p99_ms", pane(500), pane(500, latency_ms=10)),
        ("latency_p99_ms", pane(500, latency_ms=10), pane(500)),
        ("latency_mean_ms", pane(500), pane(500)),
        ("precision", matured(tn=500), matured(tp=500)),
        ("precision", matured(tp=500), matured(tn=500)),
        ("recall", matured(tn=500), matured(tp=500)),
        ("rap", matured(fp=500), matured(tp=500)),
        ("roi", matured(fn=500), matured(tp=500)),
        ("specificity", matured(tp=500), matured(tp=500)),
    ],
)
def test_what_has_no_value_is_inconclusive(metric: str, treatment: Ledger, control: Ledger) -> None:
    found = seen(guardrail(metric, margin=0.1), treatment, control)
    assert found.phase is UNSURE
    assert found.reason == f"{metric} cannot be known from this window"
    assert found.bound is None


def test_what_needs_the_label_of_everything_is_inconclusive_where_only_acted_ones_have_one() -> (
    None
):
    labels = msgspec.structs.replace(EXPERIMENT.labels, observed="acted")
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    world = World().mature("new", START, NOW, matured(tp=500)).mature("old", START, NOW, NOTHING)
    snapshot = world.snapshot(NOW, final_to=NOW)
    found = judge(guardrail("rap", min=0.0), experiment, "new", snapshot, NOW)
    assert found.phase is UNSURE


def test_without_profitability_profit_is_inconclusive() -> None:
    experiment = msgspec.structs.replace(EXPERIMENT, profitability=None)
    world = World().mature("new", START, NOW, matured(tp=500))
    snapshot = world.snapshot(NOW, final_to=NOW)
    found = judge(guardrail("profit_per_prediction", min=0.0), experiment, "new", snapshot, NOW)
    assert found.phase is UNSURE


counts = st.integers(0, 300)
ledgers = st.builds(
    lambda n, errors, acted, latency: pane(
        n, errors=min(errors, n), acted=min(acted, n), latency_ms=latency
    ),
    counts,
    counts,
    counts,
    st.one_of(st.none(), st.floats(0, 500)),
)
cohorts = st.builds(matured, counts, counts, counts, counts)
numbers = st.one_of(st.none(), st.floats(0, 2))


@given(
    st.sampled_from([name for name, known in CATALOGUE.items() if not known.relative_only]),
    st.data(),
)
def test_nothing_passes_with_data_missing(metric: str, data: st.DataObject) -> None:
    labelled = CATALOGUE[metric].labelled
    ours, theirs = (data.draw(cohorts if labelled else ledgers) for _ in range(2))
    rule = guardrail(
        metric,
        min=data.draw(numbers),
        max=data.draw(numbers),
        margin=data.draw(numbers),
        min_count=data.draw(st.integers(1, 200)),
    )
    found = seen(rule, ours, theirs)
    assert (found.n, found.n_control) == (ours.predictions, theirs.predictions)
    if found.phase is PASS:
        assert found.n >= rule.min_count
        assert found.value is not None
        assert found.bound is not None
        if rule.margin is not None:
            assert found.n_control >= rule.min_count
            assert found.control is not None
    if found.phase is FAIL:
        assert found.n >= rule.min_count
        assert found.value is not None


@given(ledgers, ledgers)
def test_a_judgement_survives_being_written_down(ours: Ledger, theirs: Ledger) -> None:
    found = seen(guardrail(margin=0.1), ours, theirs)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Judgement) == found


# --- which panes are seen ---------------------------------------------------------------------------


def test_a_window_holds_the_panes_from_its_start_to_the_look_and_no_others() -> None:
    world = World()
    for n, start in enumerate(range(NOW - 4 * FINE_WIDTH, NOW + 2 * FINE_WIDTH, FINE_WIDTH)):
        world.arrive("new", start, start + 1, pane(10**n))
    rule = guardrail(window=2 * FINE_WIDTH, max=1, min_count=1)
    found = judge(rule, EXPERIMENT, "new", world.snapshot(NOW + FINE_WIDTH), NOW)
    assert found.n == 10**2 + 10**3


def test_labelled_metrics_see_mature_cohorts_only() -> None:
    world = World()
    for n, start in enumerate(range(START, START + 6 * COHORT, COHORT)):
        world.mature("new", start, start + 1, matured(tp=10**n))
        world.arrive("new", start, start + COHORT, pane(7, labelled=7))
    final = START + 4 * COHORT  # the fifth cohort is there already, but not complete
    snapshot = world.snapshot(final + 30 * MINUTE, final_to=final)
    rule = guardrail("precision", window=2 * COHORT, min=0.5, min_count=1)
    assert judge(rule, EXPERIMENT, "new", snapshot, final).n == 10**2 + 10**3


def test_a_window_that_is_shorter_than_a_cohort_sees_the_newest_whole_one() -> None:
    world = World().mature("new", START, NOW, matured(tp=1))
    snapshot = world.snapshot(NOW, final_to=NOW)
    rule = guardrail("precision", window=MINUTE, min=0.5, min_count=1)
    assert judge(rule, EXPERIMENT, "new", snapshot, NOW).n == 1


@pytest.mark.parametrize(
    ("begun", "n"),
    [
        (NOW - 5 * MINUTE, 30),
        (NOW - 5 * MINUTE - 1, 30),
        (NOW - MINUTE, 6),
        (NOW - MINUTE - 1, 6),
        (NOW - MINUTE + 1, 5),
        (NOW, 0),
        (NOW + MINUTE, 0),
    ],
)
def test_what_arrived_before_the_epoch_is_left_out(begun: int, n: int) -> None:
    world = World().arrive("new", START, NOW, pane(1)).arrive("old", START, NOW, pane(2))
    rule = guardrail(max=1, min_count=1)
    found = judge(rule, EXPERIMENT, "new", world.snapshot(NOW), NOW, begun)
    assert (found.n, found.n_control) == (n, 2 * n)
    assert (found.phase is PASS) is (n > 0)


@pytest.mark.parametrize(
    ("begun", "n"), [(0, 3), (NOW - 3 * COHORT, 3), (NOW - 3 * COHORT + 1, 2), (NOW - 1, 0)]
)
def test_cohorts_that_began_before_the_epoch_are_left_out(begun: int, n: int) -> None:
    world = World().mature("new", START, NOW, matured(tp=1))
    snapshot = world.snapshot(NOW, final_to=NOW)
    rule = guardrail("precision", window=3 * COHORT, min=0.5, min_count=1)
    assert judge(rule, EXPERIMENT, "new", snapshot, NOW, begun).n == n


@given(st.integers(1, 3 * HOUR // FINE_WIDTH), st.integers(0, HOUR // FINE_WIDTH))
def test_a_look_sees_the_same_however_late_it_is_made(panes: int, late: int) -> None:
    at, rule = NOW + 4 * HOUR + 7 * MINUTE, guardrail(window=panes * FINE_WIDTH, max=1, min_count=1)
    world = World().arrive("new", START, at + 3 * HOUR, pane(1))
    at_once = judge(rule, EXPERIMENT, "new", world.snapshot(at), at)
    later = judge(rule, EXPERIMENT, "new", world.snapshot(at + late * FINE_WIDTH), at)
    assert later == at_once
    assert at_once.n == panes if panes <= 360 else panes - 60 < at_once.n <= panes


@pytest.mark.parametrize(
    ("width", "end"),
    [(FINE_WIDTH, 7 * MINUTE), (HOUR, 7 * MINUTE), (HOUR + FINE_WIDTH, 0), (DAY, 0)],
)
def test_wide_windows_end_where_coarse_panes_do(width: int, end: int) -> None:
    assert settled(START + 7 * MINUTE, width) == START + end
    assert START % COARSE_WIDTH == 0


@pytest.mark.parametrize(("when_missing", "precision"), [("negative", 0.25), ("exclude", 0.5)])
def test_a_missing_label_means_what_was_declared(
    when_missing: Literal["negative", "exclude"], precision: float
) -> None:
    labels = msgspec.structs.replace(EXPERIMENT.labels, when_missing=when_missing)
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    known = cells(tp=100, fp=100)._replace(missing_acted_yes=Cell(200, 200_000, 0))
    world = World().mature("new", START, NOW, Ledger(400, 0, 400, known))
    snapshot = world.snapshot(NOW, final_to=NOW)
    rule = guardrail("precision", min=0.5)
    assert judge(rule, experiment, "new", snapshot, NOW).value == precision
