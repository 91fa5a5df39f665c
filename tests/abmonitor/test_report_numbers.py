"""What a report computes: what a rollback saved, and what alone would flip the verdict."""

import copy
import doctest
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmonitor.report import figures, lines, words, write
from abmonitor.report.case import Case
from abmonitor.report.figures import bounded, share
from abmonitor.report.flip import terms
from abmonitor.report.opening import saved_sentence
from abmonitor.report.saved import Range, Saved, saved
from abmonitor.report.worth import in_money, revenue
from metrics.experiment import DAY, HOUR
from metrics.experiment import BusinessValue as Weights
from metrics.sequential import PLANNED
from metrics.value import net_business_value


START = 1_700_000_000_000
ROLLED_BACK = START + 10 * HOUR
LOSS = {"estimate": -0.3, "lower": -0.4, "upper": -0.2}


def range_of(estimate: float | None) -> dict[str, float | None]:
    if estimate is None:
        return dict.fromkeys(("estimate", "lower", "upper"))
    return {"estimate": estimate, "lower": estimate - 0.01, "upper": estimate + 0.01}


def case(**changes: Any) -> Case:
    """A treatment that was rolled back ten hours after it began, at 500 predictions an hour of 1,000."""
    phase = {
        "since": START,
        "split": {"old": 0.5, "new": 0.5},
        "counts": {"old": 5_000, "new": 5_000},
        "counted": "predictions",
    }
    decision = {
        "action": "rollback",
        "treatment": "new",
        "epoch": 1,
        "at": ROLLED_BACK,
        "phase": phase,
        "counts": {"new": {"predictions": 4_900}},
    }
    variant = {
        "predictions": 5_000,
        "mature_predictions": 5_000,
        "mature_counts": {"tp": 500, "fp": 500, "tn": 3_500, "fn": 500},
        "metrics": {"accuracy": 0.8, "latency_mean_ms": 30.0, "error_rate": 0.01},
        "errors": 0,
        "windows": {"1h": {"predictions": 500}, "1d": {"predictions": 5_000}},
    }
    facts = {
        "state": "rolled_back",
        "epoch": 1,
        "verified": True,
        "differences": {"profit_per_prediction": LOSS},
        "net_business_value": {**range_of(None), "parts": {}},
    }
    found = {
        "control": "old",
        "as_of": ROLLED_BACK + 2 * HOUR,
        "variants": {"old": variant, "new": variant},
        "comparisons": {"new": facts | changes.pop("facts", {})},
        "decisions": [decision],
        "phase": {**phase, "since": ROLLED_BACK},
        "past_phases": [{"since": START, "until": ROLLED_BACK, "split": phase["split"]}],
        "testing": {"max_duration_ms": 2 * DAY, "planned": PLANNED},
        "declared": {
            "q": 3.0,
            "profitability": {"unit_revenue": 60.0, "unit_cost": 20.0},
            "business_value": msgspec.to_builtins(Weights()),
            "ramp": [],
        },
    }
    return Case(found | changes, "new")


def left(found: Saved) -> float:
    assert found.exposure is not None
    return found.exposure.predictions


def test_what_a_rollback_saved_is_the_loss_of_a_prediction_times_those_still_planned() -> None:
    found = saved(case(), None)
    planned = 500 * (48 - 10)
    assert left(found) == pytest.approx(planned)
    assert found.unit == "currency units"
    assert found.saved is not None
    ends = (found.saved.estimate, found.saved.lower, found.saved.upper)
    assert ends == pytest.approx((0.3 * 20 * planned, 0.2 * 20 * planned, 0.4 * 20 * planned))
    assert found.lost is not None
    assert found.lost.estimate == pytest.approx(0.3 * 20 * 5_000)


def test_a_ramp_is_part_of_the_plan() -> None:
    made = case()
    later = {"at": ROLLED_BACK + 8 * HOUR, "variants": {"old": 0.0, "new": 1.0}}
    made.found["declared"]["ramp"] = [{"at": START, "variants": {"old": 1.0}}, later]
    assert left(saved(made, None)) == pytest.approx(500 * 8 + 1_000 * 30)


def test_a_plan_by_number_is_what_is_left_of_it() -> None:
    made = case(testing={"max_duration_ms": None, "planned": 12_000.0})
    assert left(saved(made, None)) == 7_000
    over = case(testing={"max_duration_ms": None, "planned": 3_000.0})
    assert left(saved(over, None)) == 0


def test_what_was_lost_and_what_was_gained_are_told_apart() -> None:
    assert "It has lost 30,000 [20,000, 40,000] currency units" in saved_sentence(
        saved(case(), None)
    )
    gain = {"estimate": 0.3, "lower": 0.2, "upper": 0.4}
    found = saved(case(facts={"differences": {"profit_per_prediction": gain}}), None)
    assert "It has gained 30,000 [20,000, 40,000] currency units" in saved_sentence(found)


def test_a_plan_that_is_over_leaves_nothing() -> None:
    made = case(testing={"max_duration_ms": 5 * HOUR, "planned": PLANNED})
    found = saved(made, None)
    assert left(found) == 0
    assert found.saved == Range(0.0, 0.0, 0.0)


def test_without_a_declared_plan_what_was_saved_is_not_known() -> None:
    made = case(testing={"max_duration_ms": None, "planned": PLANNED})
    found = saved(made, None)
    assert found.saved is None
    assert found.why_not is not None
    assert "testing.max_duration" in found.why_not
    assert found.lost is not None


def test_without_profitability_neither_loss_nor_saving_is_known() -> None:
    found = saved(case(facts={"differences": {"profit_per_prediction": range_of(None)}}), None)
    assert (found.rate, found.lost, found.saved) == (None, None, None)
    assert "no profitability is declared" in (found.why_not or "")


def test_without_bounds_a_saving_has_none() -> None:
    loss = {"estimate": -0.3, "lower": None, "upper": None}
    found = saved(case(facts={"differences": {"profit_per_prediction": loss}}), None)
    assert found.saved is not None
    assert (found.saved.lower, found.saved.upper) == (None, None)


@pytest.mark.parametrize("state", ["collecting", "would_roll_back"])
def test_what_was_not_rolled_back_saved_nothing_that_is_known(state: str) -> None:
    action = "would_roll_back" if state == "would_roll_back" else "pass"
    made = case(facts={"state": state})
    made.found["decisions"][0]["action"] = action
    found = saved(made, None)
    assert (found.saved, found.exposure) == (None, None)
    assert found.why_not


def test_where_units_were_counted_the_pace_is_that_of_what_arrived() -> None:
    made = case()
    made.found["phase"]["counted"] = "units"
    assert saved(made, None).saved is None
    slices = [START + n * HOUR for n in range(12)]
    each = {"predictions": [100] * 10 + [999] * 2}
    arrival = {"width_ms": HOUR, "at": slices, "variants": {"old": each, "new": each}}
    assert left(saved(made, {"arrival": arrival})) == pytest.approx(100 * 38)


def test_a_second_life_counts_its_own() -> None:
    made = case(facts={"epoch": 2})
    made.found["decisions"][0]["epoch"] = 2
    rearm = {"action": "rearm", "treatment": "new", "epoch": 2, "at": START + 5 * HOUR}
    made.found["decisions"].insert(0, rearm)
    found = saved(made, None)
    assert found.made == 4_900
    assert "since it was re-armed" in saved_sentence(found)
    assert left(found) == pytest.approx(500 * (5 + 48 - 10))


def test_a_rollback_that_left_the_traffic_where_it_was_saved_nothing() -> None:
    made = case(facts={"verified": False})
    found = saved(made, None)
    assert (found.saved, found.exposure) == (None, None)
    assert "it got 500 of the 1,000 predictions of the latest 1h" in (found.why_not or "")
    strays = copy.deepcopy(made)
    strays.found["variants"]["new"] = {
        **made.found["variants"]["new"],
        "windows": {"1h": {"predictions": 3}},
    }
    assert saved(strays, None).saved is not None
    assert "if its traffic went, which was not seen" in saved_sentence(saved(strays, None))
    assert "not seen" not in saved_sentence(saved(case(), None))


@pytest.mark.parametrize("state", ["rolling_back", "verifying", "rollback_failed"])
def test_a_rollback_that_is_not_done_saved_nothing_yet(state: str) -> None:
    found = saved(case(facts={"state": state, "verified": None}), None)
    assert found.saved is None
    assert "not done yet" in (found.why_not or "")


def test_revenue_is_a_mean_over_what_profit_is_a_mean_over() -> None:
    made = case()
    made.found["declared"]["labels"] = {"when_missing": "exclude", "observed": "all"}
    control = {**made.found["variants"]["old"], "mature_predictions": 10_000, "predictions": 10_000}
    made.found["variants"]["old"] = {**control, "errors": 100}
    assert revenue(made).each == pytest.approx(3.0 * 500 / 5_100 * 20)
    made.found["declared"]["labels"]["when_missing"] = "negative"
    assert revenue(made).each == pytest.approx(3.0 * 500 / 10_000 * 20)


POINTS = st.floats(-50, 50).filter(lambda value: abs(value) > 1e-3)
WEIGHTS = st.floats(0.01, 20)


def valued(accuracy: float, latency: float, errors: float, weights: Weights) -> Case:
    worth = net_business_value(accuracy, latency, errors, weights)
    parts = {name: getattr(worth, name) for name in ("accuracy", "latency", "errors")}
    facts = {
        "differences": {
            "accuracy": range_of(accuracy / 100),
            "latency_mean_ms": range_of(latency),
            "error_rate": range_of(errors / 100),
        },
        "net_business_value": {**range_of(worth.total), "parts": parts},
    }
    made = case(facts=facts)
    made.found["declared"]["business_value"] = msgspec.to_builtins(weights)
    return made


@given(POINTS, POINTS, POINTS, WEIGHTS, WEIGHTS, WEIGHTS)
def test_one_term_alone_takes_the_sum_to_nothing(
    accuracy: float, latency: float, errors: float, a: float, b: float, c: float
) -> None:
    weights = Weights(per_accuracy_point_pct=a, per_latency_ms_pct=-b, per_error_point_pct=-c)
    changes = {"accuracy": accuracy, "latency": latency, "errors": errors}
    for term in terms(valued(accuracy, latency, errors, weights)):
        assert term.needed is not None
        changed = changes | {term.part: term.needed}
        total = net_business_value(
            changed["accuracy"], changed["latency"], changed["errors"], weights
        ).total
        assert total == pytest.approx(0.0, abs=1e-6)
        if term.weight_needed is not None and term.difference is not None:
            rest = sum(
                each.worth or 0.0 for each in terms(valued(accuracy, latency, errors, weights))
            )
            assert term.worth is not None
            found = rest - term.worth + term.weight_needed * term.difference
            assert found == pytest.approx(0.0, abs=1e-6)


def test_the_terms_of_the_worked_example_flip_where_it_says() -> None:
    found = {term.part: term for term in terms(valued(3.6, 19, -0.4, Weights()))}
    assert found["accuracy"].needed == pytest.approx(3.6 - 3.9 / 0.5)
    assert found["latency"].needed == pytest.approx(19 + 39)
    assert found["errors"].needed == pytest.approx(-0.4 + 0.39)
    assert found["latency"].weight_needed == pytest.approx(-(1.8 + 4.0) / 19)
    assert [each.possible for each in found.values()] == [True, True, True]


def test_a_term_that_no_treatment_can_have_is_told_to_be_impossible() -> None:
    found = {term.part: term for term in terms(valued(-30.0, 20.8, 0.0, Weights()))}
    assert found["accuracy"].possible
    assert found["latency"].possible is False
    assert found["errors"].possible is False
    assert found["errors"].weight_needed is None


def test_a_term_without_a_weight_flips_nothing_and_one_without_data_is_not_known() -> None:
    weights = Weights(per_latency_ms_pct=0.0)
    found = {term.part: term for term in terms(valued(3.6, 19, -0.4, weights))}
    assert (found["latency"].needed, found["latency"].weight) == (None, 0.0)
    unknown = valued(3.6, 19, -0.4, Weights())
    facts = unknown.facts
    facts["differences"]["accuracy"] = range_of(None)
    facts["net_business_value"] |= range_of(None)
    facts["net_business_value"]["parts"]["accuracy"] = None
    assert all(term.needed is None for term in terms(unknown))


def test_without_settings_weights_follow_from_the_numbers() -> None:
    made = valued(3.6, 19, -0.4, Weights())
    del made.found["declared"]
    assert [term.weight for term in terms(made)] == pytest.approx([0.5, -0.1, -10.0])


def test_money_of_net_business_value_is_that_part_of_what_the_control_takes_in() -> None:
    taken = revenue(case())
    assert taken.each == pytest.approx(3.0 * 500 / 5_000 * 20)
    assert in_money(Range(-2.0, -3.0, -1.0), taken) == Range(-120.0, -180.0, -60.0)
    unknown = case()
    unknown.found["declared"]["q"] = None
    assert revenue(unknown).each is None
    assert in_money(Range(-2.0, None, None), revenue(unknown)) is None


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "\N{EN DASH}"),
        (Range(-0.3, -0.52, -0.08), "\N{MINUS SIGN}0.30 [\N{MINUS SIGN}0.52, \N{MINUS SIGN}0.08]"),
        (Range(0.0, None, None), "0 [\N{EN DASH}, \N{EN DASH}]"),
        (Range(1_234_567.0, 1_100_000.0, 1_400_000.0), "+1,230,000 [+1,100,000, +1,400,000]"),
        (Range(-1e-9, -0.5, 0.5), "0.00 [\N{MINUS SIGN}0.50, +0.50]"),
    ],
)
def test_a_range_is_told_in_two_digits_of_how_far_its_bounds_are(
    found: Range | None, told: str
) -> None:
    assert bounded(found) == told


@pytest.mark.parametrize("module", [figures, lines, words, write])
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_a_share_is_never_rounded_to_all_or_nothing() -> None:
    assert share(1, 100_000) == "<0.1 %"
    assert share(99_999, 100_000) == ">99.9 %"
    assert share(0, 5) == "0.0 %"
    assert share(0, 0) == "\N{EN DASH}"
