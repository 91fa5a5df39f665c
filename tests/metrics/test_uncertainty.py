import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sanity import assert_sane

from metrics import uncertainty, value
from metrics.confusion import Cell, Confusion
from metrics.moments import Moments
from metrics.sequential import best_ratio
from metrics.uncertainty import Difference, Estimate, difference


Ints = npt.NDArray[np.int64]
Metric = Callable[[Confusion], Estimate | None]

Q = 5.0
CELLS = len(fields(Confusion))
SHARES = [0.15, 0.2, 0.3, 0.1, 0.04, 0.06, 0.05, 0.1]
"""Of TP, FP, TN, FN, failed positive, failed, unknown, unknown and not acted on."""


def rap(confusion: Confusion) -> Estimate | None:
    return uncertainty.rap(confusion, Q)


def ratio(metric: str) -> Metric:
    return partial(uncertainty.ratio_estimate, metric, q=Q)


profit, roi = ratio("profit_per_prediction"), ratio("roi")
PRICED = [
    partial(uncertainty.ratio_estimate, name) for name in ("rap", "roi", "profit_per_prediction")
]


# What a prediction in each cell adds above and below the line.
RATIOS: list[tuple[Metric, list[float], list[float]]] = [
    (rap, [1, -1 / (Q - 1), 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 0]),
    (profit, [Q - 1, -1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 1]),
    (roi, [Q - 1, -1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]),
    (ratio("precision"), [1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]),
    (ratio("recall"), [1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 0]),
    (ratio("specificity"), [0, 0, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 0, 0]),
    (ratio("false_alarm_rate"), [0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 0, 0]),
    (ratio("accuracy"), [1, 0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]),
    (ratio("f_score"), [2, 0, 0, 0, 0, 0, 0, 0], [2, 1, 0, 1, 1, 0, 0, 0]),
]
METRICS: list[Metric] = [ratio[0] for ratio in RATIOS]


@dataclass(frozen=True)
class Events:
    """Predictions one by one: cell and weight in thousandths."""

    cell: Ints
    weight: Ints

    @classmethod
    def random(cls, rng: np.random.Generator, n: int, *, weighted: bool = False) -> "Events":
        cell = rng.choice(CELLS, size=n, p=SHARES)
        return cls(cell, rng.integers(1_000, 20_000, size=n) if weighted else np.full(n, 1_000))

    @property
    def confusion(self) -> Confusion:
        of = [self.weight[self.cell == i] for i in range(CELLS)]
        return Confusion(*(Cell(w.size, int(w.sum()), int((w**2).sum())) for w in of))


def cells(*counts: int) -> Confusion:
    return Confusion(*(Cell(n, 1_000 * n, 10**6 * n) for n in counts))


def variance_of(estimate: Estimate | None) -> float:
    assert estimate is not None
    assert estimate.variance is not None
    return estimate.variance


# Variances


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("metric", "above", "below"), RATIOS)
def test_the_variance_is_the_sum_of_squared_influences_of_single_predictions(
    metric: Metric, above: list[float], below: list[float], weighted: bool
) -> None:
    events = Events.random(np.random.default_rng(1), 500, weighted=weighted)
    y, x, w = np.array(above)[events.cell], np.array(below)[events.cell], events.weight
    expected = (w * y).sum() / (w * x).sum()
    influence = w * (y - expected * x) / (w * x).sum()
    estimate = metric(events.confusion)
    assert estimate is not None
    assert estimate.value == pytest.approx(expected)
    assert estimate.variance == pytest.approx((influence**2).sum())


def test_the_variance_of_rap_is_the_declared_formula() -> None:
    c = Events.random(np.random.default_rng(2), 400, weighted=True).confusion
    k = 1 / (Q - 1)
    missed, missed_squared = c.fn.w + c.error_positive.w, c.fn.w2 + c.error_positive.w2
    r = (c.tp.w - k * c.fp.w) / (c.tp.w + missed)
    spread = c.tp.w2 * (1 - r) ** 2 + c.fp.w2 * k**2 + missed_squared * r**2
    assert variance_of(rap(c)) == pytest.approx(spread / (c.tp.w + missed) ** 2)


@pytest.mark.parametrize("metric", METRICS)
def test_the_variance_is_what_repeating_the_experiment_shows(metric: Metric) -> None:
    rng, n = np.random.default_rng(3), 2_000
    repeated = [metric(cells(*map(int, row))) for row in rng.multinomial(n, SHARES, size=8_000)]
    shown = np.var([estimate.value for estimate in repeated if estimate])
    told = variance_of(metric(cells(*(n * np.array(SHARES)).astype(int))))
    assert told == pytest.approx(float(shown), rel=0.06)


def test_the_variance_of_rap_with_inverse_propensities_is_what_repeating_shows() -> None:
    """Truth is seen for all acted predictions and for one in ten of the others, which weigh 10."""
    rng, n = np.random.default_rng(4), 4_000
    seen = np.array([0.1, 0.15, 0.65 * 0.1, 0.1 * 0.1])
    draws = rng.multinomial(n, [*seen, 1 - seen.sum()], size=8_000)[:, :4]
    weights = (1_000, 1_000, 10_000, 10_000)
    repeated = [
        rap(Confusion(*(Cell(k, k * w, k * w * w) for k, w in zip(row, weights, strict=True))))
        for row in draws.tolist()
    ]
    shown = np.var([estimate.value for estimate in repeated if estimate])
    told = np.mean([variance_of(estimate) for estimate in repeated])
    assert told == pytest.approx(float(shown), rel=0.06)


def test_the_interval_of_a_difference_holds_the_truth_at_all_looks_together_in_95_of_100() -> None:
    rng, looks, planned = np.random.default_rng(5), 20, 10
    treatment, control = [0.12, 0.3, 0.5, 0.08], [0.1, 0.2, 0.6, 0.1]
    size = (400, looks)
    arms = [rng.multinomial(500, p, size=size).cumsum(axis=1) for p in (treatment, control)]
    truth = (0.12 - 0.3 / (Q - 1)) / 0.2 - (0.1 - 0.2 / (Q - 1)) / 0.2
    missed, missed_at_end = 0, 0
    for ours, theirs in zip(*arms, strict=True):
        held = [
            _holds(truth, rap(cells(*map(int, t))), rap(cells(*map(int, c))), (look + 1) / planned)
            for look, (t, c) in enumerate(zip(ours, theirs, strict=True))
        ]
        missed += not all(held)
        missed_at_end += not held[-1]
    assert missed_at_end < missed <= 0.05 * 400


def _holds(
    truth: float, treatment: Estimate | None, control: Estimate | None, progress: float
) -> bool:
    found = difference(treatment, control, best_ratio(0.05) * progress)
    assert found is not None
    assert found.lower is not None
    assert found.upper is not None
    return found.lower <= truth <= found.upper


def test_shares_and_mean_latency_have_the_textbook_variances() -> None:
    errors = uncertainty.share(30, 120)
    assert errors is not None
    assert errors.value == 0.25
    assert errors.variance == pytest.approx(0.25 * 0.75 / 120)
    latencies = np.array([12.3, 40.0, 8.1, 99.9])
    tenths = [123, 400, 81, 999]
    moments = Moments(4, sum(tenths), sum(t * t for t in tenths))
    mean = uncertainty.mean_latency_ms(moments)
    assert mean is not None
    assert mean.value == pytest.approx(float(latencies.mean()))
    assert mean.variance == pytest.approx(float(latencies.var()) / 4)


@given(counts=st.tuples(*[st.integers(0, 40)] * CELLS))
@settings(deadline=None)
def test_estimates_agree_with_the_metrics_themselves(counts: tuple[int, ...]) -> None:
    c = cells(*counts)
    pairs = [
        (rap(c), value.rap(c, Q)),
        (profit(c), value.profit_per_prediction(c, Q)),
        (roi(c), value.roi(c, Q)),
        (ratio("precision")(c), c.precision),
        (ratio("recall")(c), c.recall),
        (ratio("specificity")(c), c.specificity),
        (ratio("false_alarm_rate")(c), c.false_alarm_rate),
        (ratio("accuracy")(c), c.accuracy),
        (ratio("f_score")(c), c.f_score),
    ]
    for estimate, metric in pairs:
        if metric is None:
            assert estimate is None
        else:
            assert estimate is not None
            assert estimate.value == pytest.approx(metric, abs=1e-12)


def test_predictions_not_acted_on_count_into_the_variance_of_profit_though_their_truth_is_unknown() -> (
    None
):
    with_all_labels = profit(cells(20, 30, 900, 50))
    only_acted = profit(cells(20, 30, 0, 0, 0, 0, 0, 950))
    assert only_acted is not None
    assert with_all_labels is not None
    assert only_acted.value == pytest.approx(with_all_labels.value)
    assert only_acted.variance == pytest.approx(with_all_labels.variance)


# Where nothing can be said


@pytest.mark.parametrize("metric", METRICS)
def test_an_estimate_without_any_prediction_is_unknown(metric: Metric) -> None:
    assert metric(Confusion()) is None


def test_means_without_any_prediction_are_unknown() -> None:
    assert uncertainty.share(0, 0) is None
    assert uncertainty.mean_latency_ms(Moments()) is None


def test_rap_without_positives_is_unknown() -> None:
    assert rap(cells(0, 5, 5, 0)) is None


@pytest.mark.parametrize("q", [1.0, 0.5, math.nan, math.inf])
@pytest.mark.parametrize("metric", PRICED)
def test_a_profitability_at_which_acting_cannot_pay_is_refused(
    metric: Callable[[Confusion, float], Estimate | None], q: float
) -> None:
    with pytest.raises(ValueError, match="unit profitability q"):
        metric(cells(1, 1, 1, 1), q)


def test_a_single_prediction_has_no_variance() -> None:
    assert ratio("accuracy")(cells(1)) == Estimate(1.0, None)
    assert rap(cells(1, 30, 30, 0)) == Estimate(1 - 30 / 4, None)
    assert uncertainty.mean_latency_ms(Moments(1, 100, 10_000)) == Estimate(10.0, None)


@given(n=st.integers(2, 10**12), weight=st.integers(1, 10**6), q=st.floats(1.001, 1e9))
@settings(deadline=None)
def test_predictions_that_are_all_alike_have_a_variance_of_0(n: int, weight: int, q: float) -> None:
    alike = Confusion(tp=Cell(n, n * weight, n * weight**2))
    for metric in PRICED:
        assert variance_of(metric(alike, q)) == 0


@given(hits=st.integers(1, 10**12), passes=st.integers(1, 10**12))
@settings(deadline=None)
def test_rounding_is_not_taken_for_a_variance(hits: int, passes: int) -> None:
    assert variance_of(ratio("accuracy")(cells(hits, 0, passes))) == 0


def test_a_difference_without_spread_or_without_a_variance_has_no_bounds() -> None:
    sure, single = Estimate(0.5, 0.0), Estimate(0.5, None)
    assert difference(sure, sure) == Difference(0.0, None, None)
    assert difference(single, Estimate(0.2, 0.1)) == Difference(0.3, None, None)
    assert difference(Estimate(0.2, 0.1), single) == Difference(-0.3, None, None)


def test_a_difference_to_an_unknown_estimate_is_unknown() -> None:
    assert difference(None, Estimate(0.5, 0.1)) is None
    assert difference(Estimate(0.5, 0.1), None) is None


def test_a_treatment_that_stopped_acting_is_seen_to_lose_though_it_has_no_spread() -> None:
    dead, control = rap(cells(0, 0, 900, 100)), rap(cells(80, 40, 860, 20))
    found = difference(dead, control)
    assert found is not None
    assert found.upper is not None
    assert found.upper < 0


def test_the_interval_is_the_two_sided_confidence_sequence() -> None:
    found = difference(Estimate(3.0, 9.0), Estimate(1.0, 16.0), 3.0)
    assert found is not None
    bounds = (found.lower, found.estimate, found.upper)
    reach = 5 * math.sqrt((1 + 1 / 3) * math.log(4 / 0.05**2))
    assert bounds == pytest.approx((2 - reach, 2, 2 + reach))


def test_estimates_of_several_stretches_are_averaged_with_their_weights() -> None:
    one, other = Estimate(1.0, 4.0), Estimate(3.0, 8.0)
    found = uncertainty.combined([(0.25, one), (0.75, other)])
    assert found == Estimate(0.25 + 2.25, 0.0625 * 4 + 0.5625 * 8)
    assert uncertainty.combined([(0.5, one), (0.5, Estimate(3.0, None))]).variance is None


EXTREME = st.sampled_from([0, 1, 2, 10**12]) | st.integers(0, 10**12)
WEIGHT = st.sampled_from([1, 1_000, 10**6])
FACTS = st.tuples(*[st.builds(lambda n, w: Cell(n, n * w, n * w * w), EXTREME, WEIGHT)] * CELLS)


@given(
    facts=FACTS,
    q=st.sampled_from([math.nextafter(1, 2), 2.0, 35.9, 1e12, 2e154, 1e308]),
)
@settings(deadline=None)
def test_no_count_makes_an_estimate_infinite_or_not_a_number(
    facts: tuple[Cell, ...], q: float
) -> None:
    c = Confusion(*facts)
    priced = PRICED
    estimates = [metric(c, q) for metric in priced] + [metric(c) for metric in METRICS]
    for estimate in estimates:
        assert_sane(estimate)


@given(n=st.integers(1, 10**12), slow=st.integers(0, 10**12), latency=st.integers(0, 10**7))
@settings(deadline=None)
def test_no_latency_makes_a_mean_infinite_or_not_a_number(n: int, slow: int, latency: int) -> None:
    slow = min(slow, n)
    assert_sane(uncertainty.mean_latency_ms(Moments(n, slow * latency, slow * latency**2)))
