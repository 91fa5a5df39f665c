import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sanity import assert_sane

from metrics import uncertainty, value
from metrics.confusion import Cell, Cells, Confusion
from metrics.duration import Duration
from metrics.experiment import BusinessValue, Labels
from metrics.moments import Moments
from metrics.uncertainty import Difference, Estimate, difference


class Event(NamedTuple):
    """A prediction, or `times` of them that are alike."""

    kind: str
    """The field of `Cells` in which it ends."""
    latency: int | None
    """Tenths of a ms."""
    weight: int = 1_000
    """Thousandths."""
    times: int = 1


def policy(observed: str, when_missing: str) -> Labels:
    declared = {"observed": observed, "when_missing": when_missing}
    return Labels(horizon=Duration(60_000), **declared)  # type: ignore[arg-type]  # words of a table


POLICIES = [
    policy(observed, when_missing)
    for observed, when_missing in product(("all", "acted", "explored"), ("negative", "exclude"))
]
LABELS = POLICIES[0]
WEIGHTS = BusinessValue()
NO_ACCURACY = BusinessValue(per_accuracy_point_pct=0.0)
NO_LATENCY = BusinessValue(per_latency_ms_pct=0.0)
NO_ERRORS = BusinessValue(per_error_point_pct=0.0)
NOTHING = BusinessValue(per_accuracy_point_pct=0, per_latency_ms_pct=0, per_error_point_pct=0)

WEIGHT_OF = {"tp": 1, "fp": 2, "tn": 10, "fn": 7, "error_positive": 3, "error_other": 5}
MEANS = dict.fromkeys(Cells._fields[4:8:2], "fp") | dict.fromkeys(Cells._fields[5:8:2], "tn")
"""Where a prediction without a label ends if that means a negative."""
SHARES = dict(zip(Cells._fields, (12, 18, 30, 10, 4, 2, 3, 9, 4, 8), strict=True))
LATENCIES = dict(
    zip(Cells._fields, (300, 500, 200, 700, 400, 100, 900, 250, 5_000, 2_000), strict=True)
)
"""Failed requests are slow, hits are fast: latency depends on where a prediction ends."""


def weight_of(kind: str, weights: Mapping[str, int] = WEIGHT_OF) -> int:
    """The same for all predictions that may end in one cell."""
    return weights[MEANS.get(kind, kind)]


def population(*, weighted: bool = False) -> list[Event]:
    """Every kind of prediction, one in four without a latency, with the share of each in `times`."""
    return [
        Event(kind, latency, 1_000 * (weight_of(kind) if weighted else 1), SHARES[kind] * share)
        for kind in Cells._fields
        for latency, share in ((LATENCIES[kind], 2), (LATENCIES[kind] * 3, 1), (None, 1))
    ]


def facts(events: Iterable[Event]) -> tuple[Cells, Moments]:
    cells, moments = Cells(), Moments()
    for kind, latency, w, times in events:
        timed, x = times * (latency is not None), latency or 0
        cell = Cell(times, times * w, times * w * w, timed, timed * x)
        cells = cells._replace(**{kind: getattr(cells, kind).plus(cell)})
        more = (timed, timed * x, timed * x * x)
        moments = Moments(*(mine + new for mine, new in zip(moments, more, strict=True)))
    return cells, moments


def told(
    events: Iterable[Event], weights: BusinessValue = WEIGHTS, labels: Labels = LABELS
) -> Estimate | None:
    cells, moments = facts(events)
    return uncertainty.business_value(Confusion.of(cells, labels), moments, weights)


def sure(estimate: Estimate | None) -> tuple[float, float]:
    assert estimate is not None
    assert estimate.variance is not None
    return estimate.value, estimate.variance


def is_correct(kind: str, labels: Labels) -> bool | None:
    """Whether a prediction was correct, None where nobody knows."""
    if not kind.startswith("missing"):
        return kind in ("tp", "tn")
    known = labels.when_missing == "negative" and (
        kind.startswith("missing_acted") or labels.observed == "all"
    )
    return kind.endswith("no") if known else None


class Expected(NamedTuple):
    value: Fraction
    variance: Fraction
    parts: Fraction
    """The sum of squares of what the three terms contribute one by one."""


def event_by_event(events: Sequence[Event], weights: BusinessValue, labels: Labels) -> Expected:
    """Business value and its sum of squared influences, in exact fractions, one event at a time."""
    known, timed, everything, hits, slow, failures = (Fraction(0) for _ in range(6))
    for kind, latency, w, times in events:
        right = is_correct(kind, labels)
        known += times * w * (right is not None)
        hits += times * w * (right is True)
        timed += times * (latency is not None)
        slow += times * Fraction(latency or 0, 10)
        everything += times
        failures += times * kind.startswith("error")
    accuracy, mean, rate = hits / (known or 1), slow / (timed or 1), failures / (everything or 1)
    a, b, c = (
        100 * Fraction(weights.per_accuracy_point_pct),
        Fraction(weights.per_latency_ms_pct),
        100 * Fraction(weights.per_error_point_pct),
    )
    variance = parts = Fraction(0)
    for kind, latency, w, times in events:
        right = is_correct(kind, labels)
        by_label = Fraction(0) if right is None else a * w * (right - accuracy) / known
        by_latency = Fraction(0) if latency is None else b * (Fraction(latency, 10) - mean) / timed
        by_error = c * (kind.startswith("error") - rate) / everything
        variance += times * (by_label + by_latency + by_error) ** 2
        parts += times * (by_label**2 + by_latency**2 + by_error**2)
    return Expected(a * accuracy + b * mean + c * rate, variance, parts)


# The variance


@pytest.mark.parametrize("weights", [WEIGHTS, NO_ACCURACY, NO_LATENCY, NO_ERRORS])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", POLICIES)
def test_the_variance_is_the_sum_of_squared_influences_of_single_predictions(
    labels: Labels, weighted: bool, weights: BusinessValue
) -> None:
    events = population(weighted=weighted)
    expected = event_by_event(events, weights, labels)
    found, variance = sure(told(events, weights, labels))
    assert found == pytest.approx(float(expected.value), rel=1e-12)
    assert variance == pytest.approx(float(expected.variance), rel=1e-12)


def test_the_loop_over_events_agrees_with_a_loop_over_events_one_at_a_time() -> None:
    """`times` is only a shorthand."""
    many = population(weighted=True)
    single = [event._replace(times=1) for event in many for _ in range(event.times)]
    assert event_by_event(many, WEIGHTS, LABELS) == event_by_event(single, WEIGHTS, LABELS)
    assert facts(many) == facts(single)


COUNT = st.sampled_from([1, 2, 10**12]) | st.integers(1, 30) | st.integers(1, 10**12)
LATENCY = st.none() | st.sampled_from([0, 1, 10**7]) | st.integers(0, 10**7)
WEIGHT = st.sampled_from([1, 1_000, 10**6])
GROUP = st.tuples(st.sampled_from(Cells._fields), LATENCY, COUNT)
WORTH = st.sampled_from([0.0, 0.5, -0.1, -10.0, 1e-9, 1e9])
WORTHS = st.builds(
    BusinessValue, per_accuracy_point_pct=WORTH, per_latency_ms_pct=WORTH, per_error_point_pct=WORTH
)


@given(
    groups=st.lists(GROUP, min_size=1, max_size=12),
    by_cell=st.fixed_dictionaries(dict.fromkeys(WEIGHT_OF, WEIGHT)),
    weights=WORTHS,
    labels=st.sampled_from(POLICIES),
)
@settings(deadline=None)
def test_value_and_variance_are_exact_for_any_counts_latencies_weights_and_labels(
    groups: list[tuple[str, int | None, int]],
    by_cell: dict[str, int],
    weights: BusinessValue,
    labels: Labels,
) -> None:
    events = [Event(kind, latency, weight_of(kind, by_cell), n) for kind, latency, n in groups]
    estimate = told(events, weights, labels)
    assert_sane(estimate)
    if estimate is None or estimate.variance is None:
        return
    expected = event_by_event(events, weights, labels)
    terms = 100 * (abs(weights.per_accuracy_point_pct) + abs(weights.per_error_point_pct))
    size = terms + abs(weights.per_latency_ms_pct) * 1e6
    assert estimate.value == pytest.approx(float(expected.value), rel=1e-12, abs=1e-14 * size)
    precision = 1e-9 * float(expected.parts)
    assert estimate.variance == pytest.approx(float(expected.variance), rel=1e-9, abs=precision)


def test_weights_that_differ_but_do_not_go_with_latency_keep_the_variance_exact() -> None:
    weights, latencies = ((1_000, 3), (7_000, 2)), ((50, 4), (900, 1), (None, 2))
    events = [
        Event(kind, None if ms is None else ms * (2 + i % 3), w, n * m * (i + 1))
        for i, kind in enumerate(Cells._fields)
        for (w, n), (ms, m) in product(weights, latencies)
    ]
    expected = event_by_event(events, WEIGHTS, LABELS)
    assert sure(told(events))[1] == pytest.approx(float(expected.variance), rel=1e-12)


@given(
    events=st.lists(st.builds(Event, st.sampled_from(Cells._fields), LATENCY, WEIGHT, COUNT)),
    weights=WORTHS,
    labels=st.sampled_from(POLICIES),
)
@settings(deadline=None)
def test_weights_that_go_with_latency_leave_a_variance_that_is_finite_and_not_negative(
    events: list[Event], weights: BusinessValue, labels: Labels
) -> None:
    assert_sane(told(events, weights, labels))


@pytest.mark.parametrize("labels", POLICIES)
def test_the_variance_is_what_repeating_the_experiment_shows(labels: Labels) -> None:
    rng, n, events = np.random.default_rng(1), 2_000, population(weighted=True)
    shares = np.array([event.times for event in events], dtype=float)
    repeated = []
    for draw in rng.multinomial(n, shares / shares.sum(), size=3_000).tolist():
        drawn = (event._replace(times=k) for event, k in zip(events, draw, strict=True))
        repeated.append(sure(told(drawn, WEIGHTS, labels)))
    values, variances = np.array(repeated).T
    assert variances.mean() == pytest.approx(float(values.var()), rel=0.08)


def test_terms_taken_as_independent_would_tell_another_variance() -> None:
    events = population()
    cells, moments = facts(events)
    n = sum(cell.n for cell in cells)
    accuracy = sure(uncertainty.ratio_estimate("accuracy", Confusion.of(cells, LABELS)))[1]
    latency = sure(uncertainty.mean_latency_ms(moments))[1]
    errors = sure(uncertainty.share(cells.error_positive.n + cells.error_other.n, n))[1]
    independent = 50**2 * accuracy + 0.1**2 * latency + 1_000**2 * errors
    assert sure(told(events))[1] > 1.1 * independent


@pytest.mark.parametrize("times", [(12, 9), (13, 1), (18, 3), (27, 11), (4, 5), (10**12, 3)])
def test_what_rounding_leaves_of_terms_that_cancel_each_other_is_no_variance(
    times: tuple[int, int],
) -> None:
    """Right ones take 500 ms longer, which takes away exactly what they are worth."""
    right, wrong = times
    events = [Event("tp", 7_123, times=right), Event("fp", 2_123, times=wrong)]
    assert sure(told(events, NO_ERRORS))[1] == 0


@given(n=st.integers(2, 10**12), latency=st.integers(0, 10**7), weight=st.integers(1, 10**6))
@settings(deadline=None)
def test_predictions_that_are_all_alike_have_a_variance_of_0(
    n: int, latency: int, weight: int
) -> None:
    for kind in Cells._fields[:4] + Cells._fields[-2:]:
        assert sure(told([Event(kind, latency, weight, n)]))[1] == 0


# The value


def test_business_value_of_one_variant_is_the_weighted_sum_of_its_means() -> None:
    events = [Event("tp", 100, times=6), Event("fn", 300, times=2), Event("error_other", None)]
    events.append(Event("missing_idle_no", None))
    found, _ = sure(told(events))
    assert found == pytest.approx(50 * 7 / 10 - 0.1 * 15 - 1_000 / 10)
    excluded, _ = sure(told(events, labels=policy("all", "exclude")))
    assert excluded == pytest.approx(50 * 6 / 9 - 0.1 * 15 - 1_000 / 10)


def test_predictions_of_unknown_truth_count_into_the_error_rate_but_not_into_accuracy() -> None:
    known = [Event("tp", 100, times=8), Event("error_other", 100, times=2)]
    unknown = [Event("missing_idle_yes", 100, times=5), Event("missing_idle_no", 100, times=5)]
    for labels in (policy("acted", "negative"), policy("explored", "exclude")):
        assert sure(told(known, labels=labels))[0] == pytest.approx(40 - 1 - 200)
        assert sure(told(known + unknown, labels=labels))[0] == pytest.approx(40 - 1 - 100)


@pytest.mark.parametrize("labels", POLICIES)
def test_the_difference_of_business_values_is_net_business_value(labels: Labels) -> None:
    weights = BusinessValue(
        per_accuracy_point_pct=0.7, per_latency_ms_pct=-0.3, per_error_point_pct=-4.0
    )
    means = []
    arms = population(weighted=True), population()[:-4]
    for arm in arms:
        cells, moments = facts(arm)
        accuracy, mean = Confusion.of(cells, labels).accuracy, moments.mean_ms
        assert accuracy is not None
        assert mean is not None
        failed = cells.error_positive.n + cells.error_other.n
        means.append((100 * accuracy, mean, 100 * failed / sum(cell.n for cell in cells)))
    accuracy, latency, errors = (ours - theirs for ours, theirs in zip(*means, strict=True))
    expected = value.net_business_value(accuracy, latency, errors, weights)
    treatment, control = (told(arm, weights, labels) for arm in arms)
    found = difference(treatment, control)
    assert found is not None
    assert found.estimate == pytest.approx(expected.total)


# Where nothing can be said


def test_business_value_without_any_prediction_is_unknown() -> None:
    assert told([]) is None


def test_business_value_without_a_latency_is_unknown_unless_latency_is_worth_nothing() -> None:
    silent = [event._replace(latency=None) for event in population()]
    assert told(silent) is None
    assert told(silent, NO_LATENCY) == told(population(), NO_LATENCY)


def test_business_value_without_a_label_is_unknown_unless_accuracy_is_worth_nothing() -> None:
    unlabelled = [event for event in population() if event.kind.startswith("missing")]
    exclude = policy("all", "exclude")
    assert told(unlabelled, labels=exclude) is None
    mean = facts(unlabelled)[1].mean_ms
    assert mean is not None
    assert sure(told(unlabelled, NO_ACCURACY, exclude))[0] == pytest.approx(-0.1 * mean)


def test_terms_that_are_all_worth_nothing_need_no_prediction() -> None:
    assert told([], NOTHING) == Estimate(0.0, 0.0)
    assert difference(told([], NOTHING), told(population(), NOTHING)) == Difference(0, None, None)


@pytest.mark.parametrize(
    ("events", "free"),
    [
        ([Event("tp", 100), Event("missing_idle_no", 300)], NO_ACCURACY),
        ([Event("tp", 100), Event("fp", None)], NO_LATENCY),
    ],
    ids=["one label", "one latency"],
)
def test_a_term_that_rests_on_a_single_prediction_leaves_the_variance_unknown(
    events: list[Event], free: BusinessValue
) -> None:
    exclude = policy("all", "exclude")
    estimate = told(events, labels=exclude)
    assert estimate is not None
    assert estimate.variance is None
    assert sure(told(events, free, exclude))[1] > 0


def test_a_single_prediction_has_a_value_but_no_variance() -> None:
    assert told([Event("tp", 100)]) == Estimate(49.0, None)


@pytest.mark.parametrize("worth", [1e160, 1e308, -1e308, math.inf, math.nan])
@pytest.mark.parametrize(
    "term", ["per_accuracy_point_pct", "per_latency_ms_pct", "per_error_point_pct"]
)
def test_a_weight_too_large_for_a_float_makes_nothing_infinite_or_not_a_number(
    term: str, worth: float
) -> None:
    weights = BusinessValue(**{term: worth})
    assert_sane(told(population(), weights))
    for kind in Cells._fields:
        assert_sane(told([Event(kind, 0, times=2)], weights))


def test_business_values_too_far_apart_for_a_float_have_no_difference() -> None:
    assert difference(Estimate(1.7e308, 1.0), Estimate(-1.7e308, 1.0)) is None
