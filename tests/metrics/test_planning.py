import math

import numpy as np
import pytest

from metrics.contrast import MIN_POSITIVES, Margin
from metrics.duration import Duration
from metrics.evidence import Test as SequentialTest
from metrics.evidence import weigh
from metrics.experiment import (
    HOUR,
    BusinessValue,
    Expected,
    Experiment,
    Labels,
    Money,
    Profitability,
)
from metrics.facts import COLUMNS, Facts
from metrics.planning import MOST, Need, plan, undeclared
from metrics.rate_bounds import predictions_needed
from metrics.rate_planning import plan_rate, share_of
from metrics.rates import RateTest, log_safe
from metrics.ratios import CELLS


ALPHA, ALPHA_PASS, PLANNED = 0.025, 0.05, 5_000
EXPECTED = Expected(
    positive_rate=0.05, recall=0.6, false_alarm_rate=0.1, error_rate=0.02, money_sd=5.0
)
LABELS = Labels(horizon=Duration(HOUR))
EXPERIMENT = Experiment(
    name="offers",
    control="old",
    variants={"old": 1, "new": 1},
    labels=LABELS,
    profitability=Profitability(q=10.0),
    money=Money(cap=100.0),
    expected=EXPECTED,
)


def the_test(metric: str, margin: float, detect: float | None) -> SequentialTest:
    return SequentialTest(metric, Margin(margin), ALPHA, ALPHA_PASS, PLANNED, detect)


def drawn(rng: np.random.Generator, n: float, recall: float, runs: int, cohorts: int) -> Facts:
    """Cohorts of about `n` predictions in all that were drawn one by one, shape (runs, cohorts, ...)."""
    served, positive, alarms = 1 - EXPECTED.error_rate, EXPECTED.positive_rate, 0.1
    shares = {
        "tp": served * positive * recall,
        "fn": served * positive * (1 - recall),
        "fp": served * (1 - positive) * alarms,
        "tn": served * (1 - positive) * (1 - alarms),
        "error_positive": EXPECTED.error_rate * positive,
        "error_other": EXPECTED.error_rate * (1 - positive),
    }
    chances = [shares.get(cell, 0.0) for cell in CELLS]
    counts = rng.multinomial(rng.poisson(n / cohorts, (runs, cohorts)), chances)
    sums = np.zeros((runs, cohorts, len(COLUMNS)))
    for at, cell in enumerate(CELLS):
        for fact, unit in (("n", 1), ("w", 1_000), ("w2", 1_000_000)):
            sums[..., COLUMNS.index(f"{cell}.{fact}")] = counts[..., at] * unit
    sums[..., COLUMNS.index("predictions")] = counts.sum(axis=-1)
    return Facts(sums)


def weighed(
    test: SequentialTest, n: float, rho: float, recall: float, runs: int = 400
) -> tuple[float, float]:
    """The shares of experiments that alarm and that pass after `n` predictions of both."""
    rng, cohorts = np.random.default_rng(20), 20
    arms = drawn(rng, n * rho, recall, runs, cohorts), drawn(rng, n * (1 - rho), 0.6, runs, cohorts)
    found = weigh(test, EXPERIMENT, *arms, np.zeros(cohorts, dtype=np.int64))
    alarms = found.log_harm >= -math.log(ALPHA)
    return float(alarms.mean()), float((found.log_safe >= -math.log(ALPHA_PASS)).mean())


# --- metrics on labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.5, 0.1])
@pytest.mark.parametrize("detect", [0.15, None])
def test_harm_of_rap_is_found_as_often_as_planned(rho: float, detect: float | None) -> None:
    test = the_test("rap", 0.02, detect)
    found = plan(test, EXPERIMENT, EXPECTED, rho)
    assert found.effect is not None
    assert found.detect.p50 is not None
    assert found.detect.p80 is not None
    # Of the positives, those whose request failed are missed anyway: recall falls by this much more.
    recall = 0.6 - (0.02 + found.effect) / (1 - EXPECTED.error_rate)
    half, _ = weighed(test, found.detect.p50, rho, recall)
    most, _ = weighed(test, found.detect.p80, rho, recall)
    assert 0.42 < half < 0.62
    assert 0.72 < most < 0.90


@pytest.mark.parametrize("rho", [0.5, 0.1])
def test_an_equal_treatment_passes_as_often_as_planned(rho: float) -> None:
    test = the_test("rap", 0.05, 0.1)
    found = plan(test, EXPERIMENT, EXPECTED, rho).passing
    assert found.p50 is not None
    assert found.p80 is not None
    assert 0.42 < weighed(test, found.p50, rho, 0.6)[1] < 0.58
    assert 0.74 < weighed(test, found.p80, rho, 0.6)[1] < 0.86


def test_without_detect_the_plan_is_about_the_harm_that_planned_predictions_find() -> None:
    found = plan(the_test("rap", 0.02, None), EXPERIMENT, EXPECTED, 0.5)
    assert found.effect is not None
    assert found.detect.p80 == pytest.approx(2 * PLANNED, rel=1e-4)
    with_it = plan(the_test("rap", 0.02, found.effect), EXPERIMENT, EXPECTED, 0.5)
    assert with_it.detect.p80 == pytest.approx(2 * PLANNED, rel=0.05)


def test_an_equal_treatment_never_passes_without_a_margin() -> None:
    found = plan(the_test("recall", 0.0, 0.05), EXPERIMENT, EXPECTED, 0.5)
    assert found.passing == Need(None, None)
    assert found.detect.p80 is not None


def test_harm_that_no_treatment_can_do_is_never_found() -> None:
    assert plan(the_test("recall", 0.1, 0.6), EXPERIMENT, EXPECTED, 0.5).detect == Need()
    # Accuracy can fall further than by missing everything: false alarms rise then.
    assert plan(the_test("accuracy", 0.1, 0.6), EXPERIMENT, EXPECTED, 0.5).detect.p80 is not None


@pytest.mark.parametrize("rho", [0.5, 0.02])
def test_nothing_is_found_on_fewer_positives_than_are_judged(rho: float) -> None:
    found = plan(the_test("rap", 0.02, 0.5), EXPERIMENT, EXPECTED, rho).detect
    least = MIN_POSITIVES / (EXPECTED.positive_rate * min(rho, 1 - rho))
    assert found.p50 is not None
    assert found.p80 is not None
    assert least < found.p50 < found.p80 < 3 * least


@pytest.mark.parametrize(
    ("metric", "margin", "detect"),
    [
        ("rap", 0.02, 0.1),
        ("roi", 0.1, 0.5),
        ("recall", 0.05, 0.05),
        ("precision", 0.02, 0.05),
        ("specificity", 0.01, 0.01),
        ("false_alarm_rate", 0.01, 0.01),
        ("accuracy", 0.005, 0.01),
        ("f_score", 0.02, 0.03),
        ("profit_per_prediction", 0.02, 0.1),
        ("money_per_prediction", 0.1, 0.2),
        ("net_business_value", 0.5, 1.0),
    ],
)
def test_more_is_needed_for_less_harm_and_for_a_smaller_arm(
    metric: str, margin: float, detect: float
) -> None:
    known, smaller, uneven = (
        plan(the_test(metric, margin, effect), EXPERIMENT, EXPECTED, rho).detect
        for effect, rho in ((detect, 0.5), (detect / 2, 0.5), (detect, 0.1))
    )
    for one in (known, smaller, uneven):
        assert one.p50 is not None
        assert one.p80 is not None
        assert one.p50 < one.p80 < MOST
    assert known.p80 is not None
    assert smaller.p80 is not None
    assert uneven.p80 is not None
    assert smaller.p80 > 1.8 * known.p80
    assert uneven.p80 > 1.8 * known.p80


def test_money_needs_what_its_declared_spread_says() -> None:
    test = the_test("money_per_prediction", 0.1, 0.2)
    once = plan(test, EXPERIMENT, EXPECTED, 0.5).passing.p80
    wild = Expected(positive_rate=0.05, money_sd=10.0)
    twice = plan(test, EXPERIMENT, wild, 0.5).passing.p80
    assert once is not None
    assert twice == pytest.approx(4 * once, rel=1e-3)


def test_value_that_is_not_weighed_adds_no_spread() -> None:
    quiet = BusinessValue(per_latency_ms_pct=0.0)
    test = the_test("net_business_value", 0.5, 1.0)
    silent = Experiment(
        name="a", control="c", variants={"c": 1, "t": 1}, labels=LABELS, business_value=quiet
    )
    with_latency = plan(test, EXPERIMENT, EXPECTED, 0.5).passing.p80
    without = plan(test, silent, EXPECTED, 0.5).passing.p80
    assert with_latency is not None
    assert without is not None
    assert without < with_latency


def test_labels_of_acted_predictions_say_as_much_about_profit() -> None:
    acted = Experiment(
        name="a",
        control="c",
        variants={"c": 1, "t": 1},
        labels=Labels(horizon=Duration(HOUR), observed="acted"),
        profitability=Profitability(q=10.0),
    )
    test = the_test("profit_per_prediction", 0.02, 0.1)
    known = plan(test, EXPERIMENT, EXPECTED, 0.5)
    assert known.detect.p80 is not None
    assert plan(test, acted, EXPECTED, 0.5).detect.p80 == pytest.approx(known.detect.p80, rel=1e-6)
    # Of what was not acted on nobody learns that it was positive, so that fewer are known.
    large = the_test("profit_per_prediction", 0.02, 0.3)
    sure, unsure = plan(large, EXPERIMENT, EXPECTED, 0.1), plan(large, acted, EXPECTED, 0.1)
    assert sure.detect.p80 is not None
    assert unsure.detect.p80 is not None
    assert unsure.detect.p80 >= sure.detect.p80


def test_labels_of_explored_predictions_cannot_be_planned() -> None:
    explored = Experiment(
        name="a",
        control="c",
        variants={"c": 1, "t": 1},
        labels=Labels(horizon=Duration(HOUR), observed="explored"),
    )
    with pytest.raises(ValueError, match="all or acted, got explored"):
        plan(the_test("recall", 0.02, 0.1), explored, EXPECTED, 0.5)


@pytest.mark.parametrize("rho", [0.0, 1.0, -0.1, math.nan])
def test_an_arm_without_traffic_is_refused(rho: float) -> None:
    with pytest.raises(ValueError, match="share of traffic to be above 0 and below 1"):
        plan(the_test("recall", 0.02, 0.1), EXPERIMENT, EXPECTED, rho)


def test_what_has_to_be_declared_is_told() -> None:
    nothing = Experiment(name="a", control="c", variants={"c": 1, "t": 1}, labels=LABELS)
    some = Experiment(
        name="a",
        control="c",
        variants={"c": 1, "t": 1},
        labels=LABELS,
        expected=Expected(positive_rate=0.1),
    )
    assert "positive_rate" in (undeclared("recall", nothing) or "")
    assert "money_sd" in (undeclared("money_per_prediction", some) or "")
    assert undeclared("recall", some) is None
    assert undeclared("money_per_prediction", EXPERIMENT) is None


# --- shares of what arrives -----------------------------------------------------------------------


def counted(
    test: RateTest, n: float, rho: float, ours: float, theirs: float
) -> tuple[float, float]:
    """The shares of experiments that alarm and that pass after `n` predictions of both."""
    rng, runs, looks = np.random.default_rng(21), 600, 200
    state = test.start((runs,))
    for _ in range(looks):
        n_t, n_c = (rng.poisson(n * part / looks, runs) for part in (rho, 1 - rho))
        x_t, x_c = rng.binomial(n_t, ours), rng.binomial(n_c, theirs)
        state = test.look(state, x_t, n_t, x_c, n_c, rho)
    passed = log_safe(state) >= -math.log(ALPHA_PASS)
    return float((state.peak >= -math.log(ALPHA)).mean()), float(passed.mean())


def planned_rate(
    test: RateTest, share: float, rho: float, detect: float | None
) -> tuple[Need, Need]:
    found = plan_rate(
        test,
        share,
        rho,
        alpha=ALPHA,
        alpha_pass=ALPHA_PASS,
        detect=detect,
        planned=PLANNED,
    )
    return found.detect, found.passing


@pytest.mark.parametrize("rho", [0.5, 0.1])
@pytest.mark.parametrize(
    ("test", "share", "detect"),
    [
        (RateTest("rising", relative_margin=0.2), 0.02, 0.01),
        (RateTest("rising", margin=0.005), 0.02, 0.01),
        (RateTest("either", margin=0.02), 0.15, 0.03),
    ],
)
def test_a_share_is_found_and_passes_as_often_as_planned(
    test: RateTest, share: float, detect: float, rho: float
) -> None:
    edge = share + (test.margin or 0.0) + share * (test.relative_margin or 0.0)
    found, passing = planned_rate(test, share, rho, detect)
    assert found.p80 is not None
    assert passing.p80 is not None
    assert 0.72 < counted(test, found.p80, rho, edge + detect, share)[0] < 0.93
    assert 0.72 < counted(test, passing.p80, rho, share, share)[1] < 0.88


def test_half_of_the_cases_is_what_the_bounds_say() -> None:
    test = RateTest("rising", margin=0.005)
    found, _ = planned_rate(test, 0.02, 0.5, 0.01)
    assert found.p50 == predictions_needed(test, 0.02, 0.015, 0.5, ALPHA)


def test_planned_predictions_find_the_harm_that_is_told_without_detect() -> None:
    test = RateTest("rising", relative_margin=0.2)
    found, _ = planned_rate(test, 0.02, 0.5, None)
    assert found.p80 == pytest.approx(2 * PLANNED, rel=1e-3)


def test_a_share_cannot_grow_beyond_all_predictions() -> None:
    found, passing = planned_rate(RateTest("rising", margin=0.05), 0.9, 0.5, 0.2)
    assert found == Need()
    assert passing.p80 is not None


def test_an_equal_share_never_passes_without_a_margin() -> None:
    _, passing = planned_rate(RateTest("rising", relative_margin=0.0), 0.02, 0.5, 0.01)
    assert passing == Need()


def test_a_share_that_is_expected_to_be_0_can_be_planned() -> None:
    found, _ = planned_rate(RateTest("rising", relative_margin=0.2), 0.0, 0.5, 0.01)
    assert found.p80 is not None
    assert found.p80 < 10_000


def test_what_is_acted_on_follows_from_recall_and_false_alarms() -> None:
    assert share_of("selection_rate", EXPECTED) == pytest.approx(0.98 * (0.05 * 0.6 + 0.95 * 0.1))
    assert share_of("error_rate", EXPECTED) == EXPECTED.error_rate
    assert share_of("slow_rate", EXPECTED) == EXPECTED.slow_rate
