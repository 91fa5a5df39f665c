import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import uncertainty
from metrics.catalogue import CATALOGUE
from metrics.confusion import Cell, Cells, Confusion
from metrics.contrast import MIN_POSITIVES, Contrast, Margin, contrast, value_of
from metrics.duration import Duration
from metrics.experiment import BusinessValue, Experiment, Labels, Profitability
from metrics.facts import Facts, facts_of
from metrics.ledger import Ledger, total
from metrics.moments import Moments
from metrics.ratios import RATIOS
from metrics.uncertainty import Estimate


Floats = npt.NDArray[np.float64]

Q = 5.0
METRICS = sorted({*RATIOS, "net_business_value", "money_per_prediction"})
NO_MARGIN = Margin()
NO_LATENCY = BusinessValue(per_latency_ms_pct=0.0)


def experiment(
    observed: str = "all",
    when_missing: str = "negative",
    q: float = Q,
    worth: BusinessValue = BusinessValue(),  # frozen
) -> Experiment:
    declared = {"observed": observed, "when_missing": when_missing}
    return Experiment(
        name="offers",
        control="old",
        variants={"old": 0.5, "new": 0.5},
        labels=Labels(horizon=Duration(60_000), **declared),  # type: ignore[arg-type]  # words of a table
        profitability=Profitability(q=q),
        business_value=worth,
    )


PLAIN = experiment()
POLICIES = [
    experiment(observed, when_missing)
    for observed, when_missing in product(("all", "acted", "explored"), ("negative", "exclude"))
]


class Event(NamedTuple):
    """A prediction, or `times` of them that are alike."""

    kind: str
    """The field of `Cells` in which it ends."""
    weight: int = 1_000
    """Thousandths."""
    latency: int | None = None
    """Tenths of a ms."""
    money: int = 0
    """Cents."""
    times: int = 1


def ledger(events: Iterable[Event]) -> Ledger:
    """What a worker would have added up."""
    cells, parts = dict.fromkeys(Cells._fields, Cell()), [Ledger()]
    for kind, w, latency, money, n in events:
        timed, x = (0, 0) if latency is None else (n, latency)
        cells[kind] = cells[kind].plus(Cell(n, n * w, n * w * w, timed, timed * x))
        moments = Moments(timed, timed * x, timed * x * x)
        parts.append(Ledger(n, moments=moments, money=n * money, money_squared=n * money**2))
    return total([*parts, Ledger(cells=Cells(**cells))])


def facts(events: Iterable[Event], of: Experiment = PLAIN) -> Facts:
    return facts_of([ledger(events)], of.labels)


def counts(
    tp: int = 0, fp: int = 0, tn: int = 0, fn: int = 0, failed: int = 0, weight: int = 1_000
) -> Facts:
    named = {"tp": tp, "fp": fp, "tn": tn, "fn": fn, "error_other": failed}
    return facts(Event(kind, weight, times=n) for kind, n in named.items())


def random_events(rng: np.random.Generator, n: int) -> list[Event]:
    """Predictions of all kinds and weights; some have no latency, and money may be lost."""
    return [
        Event(
            Cells._fields[rng.integers(len(Cells._fields))],
            int(rng.choice([1, 500, 1_000, 7_300, 1_000_000])),
            int(rng.gamma(2.0, 400.0)) if rng.random() < 0.8 else None,
            int(rng.normal(50, 700)),
        )
        for _ in range(n)
    ]


def only(column: Floats) -> float:
    (number,) = column.tolist()
    return float(number)


def found(
    metric: str,
    treatment: Facts,
    control: Facts,
    margin: Margin = NO_MARGIN,
    of: Experiment = PLAIN,
) -> Contrast:
    return contrast(metric, treatment, control, of, margin)


# A metric and its variance


def one_by_one(metric: str, of: Ledger, declared: Experiment) -> Estimate | None:
    """The same in exact integers, a ledger at a time."""
    confusion = Confusion.of(of.cells, declared.labels)
    if metric == "net_business_value":
        return uncertainty.business_value(confusion, of.moments, declared.business_value)
    if metric == "money_per_prediction":
        return uncertainty.mean_money(of)
    return uncertainty.ratio_estimate(metric, confusion, declared.q)


def assert_as_one_by_one(metric: str, ledgers: Sequence[Ledger], declared: Experiment) -> None:
    values, variances = value_of(metric, facts_of(ledgers, declared.labels), declared)
    assert values.shape == variances.shape == (len(ledgers),)
    for value, variance, each in zip(values, variances, ledgers, strict=True):
        expected = one_by_one(metric, each, declared)
        if expected is None:
            assert math.isnan(value)
            assert math.isnan(variance)
            continue
        assert value == pytest.approx(expected.value, rel=1e-9, abs=1e-12)
        if expected.variance is not None:
            assert variance == pytest.approx(expected.variance, rel=1e-6, abs=1e-24)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("declared", POLICIES)
def test_many_ledgers_at_once_give_what_each_gives_by_itself(
    metric: str, declared: Experiment
) -> None:
    rng = np.random.default_rng(31)
    sizes = [0, 2, 3, 5, 10, 40, 200, 600]
    assert_as_one_by_one(metric, [ledger(random_events(rng, n)) for n in sizes], declared)


@pytest.mark.parametrize(
    "worth",
    [
        NO_LATENCY,
        BusinessValue(per_accuracy_point_pct=0.0),
        BusinessValue(per_error_point_pct=0.0, per_latency_ms_pct=3.0),
        BusinessValue(per_accuracy_point_pct=0.0, per_error_point_pct=0.0),
    ],
)
def test_business_value_takes_the_declared_worths_and_a_worthless_term_needs_no_data(
    worth: BusinessValue,
) -> None:
    rng, declared = np.random.default_rng(32), experiment(worth=worth)
    timeless = [event._replace(latency=None) for event in random_events(rng, 50)]
    ledgers = [ledger(random_events(rng, 80)), ledger(timeless)]
    assert_as_one_by_one("net_business_value", ledgers, declared)


@pytest.mark.parametrize("metric", METRICS)
def test_arrays_of_any_shape_give_what_each_row_gives(metric: str) -> None:
    rng = np.random.default_rng(33)
    rows = [ledger(random_events(rng, 300)) for _ in range(12)]
    flat = facts_of(rows, PLAIN.labels).sums
    ours, theirs = Facts(flat[:6].reshape(2, 3, -1)), Facts(flat[6:].reshape(2, 3, -1))
    together = found(metric, ours, theirs, Margin(0.01, 0.1))
    for i, j in product(range(2), range(3)):
        alone = found(metric, Facts(ours.sums[i, j]), Facts(theirs.sums[i, j]), Margin(0.01, 0.1))
        for name in (field.name for field in fields(Contrast)):
            assert getattr(together, name)[i, j] == pytest.approx(getattr(alone, name), rel=1e-12)


@pytest.mark.parametrize("metric", ["error_rate", "latency_p99_ms", "selection_rate"])
def test_metrics_that_need_no_labels_are_not_known_here(metric: str) -> None:
    with pytest.raises(KeyError, match=metric):
        value_of(metric, counts(tp=40), PLAIN)


# Fixed-horizon standard errors, by somebody else

CONTROL = [
    Event("tp", 1_000, 210, 2_400, 70),
    Event("tp", 2_500, 480, 900, 20),
    Event("fp", 1_000, 330, -100, 110),
    Event("fp", 4_000, 150, -100, 30),
    Event("tn", 10_000, 90, 0, 200),
    Event("tn", 1_000, 640, 0, 240),
    Event("fn", 10_000, 75, 0, 25),
    Event("fn", 1_000, 800, 0, 15),
    Event("error_positive", 1_000, 3_000, -20, 6),
    Event("error_other", 3_000, 5_000, -20, 14),
]
TREATMENT = [
    Event("tp", 1_000, 250, 2_500, 52),
    Event("tp", 2_500, 520, 700, 26),
    Event("fp", 1_000, 390, -100, 84),
    Event("fp", 4_000, 210, -100, 17),
    Event("tn", 10_000, 110, 0, 141),
    Event("tn", 1_000, 700, 0, 160),
    Event("fn", 10_000, 95, 0, 12),
    Event("fn", 1_000, 900, 0, 10),
    Event("error_positive", 1_000, 3_100, -20, 3),
    Event("error_other", 3_000, 5_200, -20, 5),
]

FIXED_HORIZON = [
    ("net_business_value", False, 12.580962933118608, 8.90107635796825),
    ("money_per_prediction", False, 0.35402095084609275, 0.43314826864109757),
    ("precision", False, 0.044449842118047145, 0.0491253140474599),
    ("precision", True, 0.09208709506107271, 0.056001411964098635),
    ("recall", False, 0.09551684751570544, 0.058618381766166114),
    ("recall", True, 0.1610946291560102, 0.08603090143782567),
    ("specificity", False, -0.0011830011830011866, 0.028247616758945476),
    ("specificity", True, 0.012137479877818658, 0.016750316042263416),
    ("false_alarm_rate", False, 0.012467012467012456, 0.027622436503110876),
    ("false_alarm_rate", True, -0.004053313238653655, 0.015465356151110702),
    ("accuracy", False, 0.01710985764168682, 0.025453362497957672),
    ("accuracy", True, 0.036066502538633305, 0.026798148743444813),
    ("f_score", False, 0.06138821067317762, 0.04797845351430189),
    ("f_score", True, 0.12698041234700808, 0.058260372890995955),
    ("rap", False, 0.10772415762421478, 0.07468791792057085),
    ("rap", True, 0.156153452685422, 0.07397532932627723),
    ("roi", False, 0.2222492105902356, 0.24562657023730058),
    ("roi", True, 0.4604354753053638, 0.2800070598204949),
    ("profit_per_prediction", False, 0.11235562718237979, 0.0877767684453557),
    ("profit_per_prediction", True, 0.07291591001170024, 0.03849501886831742),
]
"""Metric, whether weighted, and what tea-tasting 1.14.0 says of TREATMENT minus CONTROL, q = 5: effect and
standard error (effect / statistic) of `Mean` for the first two, with a column of 50*correct - 0.1*ms -
1000*failed for business value, and of `RatioOfMeans` of w*y over w*x for the others; `use_t` and `equal_var`
are False. Unweighted, w is 1."""


@pytest.mark.parametrize(("metric", "weighted", "effect", "error"), FIXED_HORIZON)
def test_standard_errors_are_the_fixed_horizon_ones_of_tea_tasting(
    metric: str, weighted: bool, effect: float, error: float
) -> None:
    ours, theirs = (
        facts(event if weighted else event._replace(weight=1_000) for event in arm)
        for arm in (TREATMENT, CONTROL)
    )
    (mine, variance), (other, other_variance) = (value_of(metric, f, PLAIN) for f in (ours, theirs))
    assert only(mine - other) == pytest.approx(effect, rel=1e-9)
    # It divides by n - 1 where a linearised variance divides by n.
    unbiased = sum(
        only(spread * f.predictions / (f.predictions - 1))
        for spread, f in ((variance, ours), (other_variance, theirs))
    )
    assert math.sqrt(unbiased) == pytest.approx(error, rel=1e-9)
    assert error * 0.998 <= only(found(metric, ours, theirs).se) <= error * 1.25


# Harm and margins


@pytest.mark.parametrize("metric", METRICS)
def test_harm_is_rising_or_falling_as_the_catalogue_says(metric: str) -> None:
    ours, theirs = facts(TREATMENT), facts(CONTROL)
    difference = only(value_of(metric, ours, PLAIN)[0] - value_of(metric, theirs, PLAIN)[0])
    rising = CATALOGUE[metric].harm == "rising"
    harm = only(found(metric, ours, theirs).harm)
    assert harm == pytest.approx(difference if rising else -difference)
    assert only(found(metric, theirs, ours).harm) == pytest.approx(-harm)


def test_false_alarms_that_rise_are_the_harm_of_a_specificity_that_falls() -> None:
    ours, theirs = counts(tp=50, fp=80, tn=300, fn=50), counts(tp=50, fp=60, tn=400, fn=40)
    rising, falling = (
        found(metric, ours, theirs, Margin(0.01)) for metric in ("false_alarm_rate", "specificity")
    )
    assert only(rising.harm) > 0
    assert only(falling.harm) == pytest.approx(only(rising.harm))
    assert only(falling.se) == pytest.approx(only(rising.se))


@pytest.mark.parametrize("metric", METRICS)
def test_an_absolute_margin_is_tolerated_and_makes_nothing_surer(metric: str) -> None:
    ours, theirs = facts(TREATMENT), facts(CONTROL)
    without, within = found(metric, ours, theirs), found(metric, ours, theirs, Margin(0.03))
    assert only(within.harm) == pytest.approx(only(without.harm) - 0.03)
    assert only(within.se) == only(without.se)


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "relative"),
    [
        ("recall", counts(tp=72, fn=28, tn=900), counts(tp=90, fn=10, tn=900), 0.2),
        ("false_alarm_rate", counts(tp=90, fp=12, tn=88), counts(tp=90, fp=10, tn=90), 0.2),
        # RAP below 0: a tenth worse is further below.
        ("rap", counts(tp=20, fp=212, fn=80), counts(tp=20, fp=200, fn=80), 0.1),
        ("net_business_value", counts(tp=64, tn=8, fn=28), counts(tp=72, tn=8, fn=20), 0.1),
    ],
)
def test_exactly_as_much_worse_as_a_relative_margin_allows_is_no_harm(
    metric: str, ours: Facts, theirs: Facts, relative: float
) -> None:
    declared = experiment(worth=NO_LATENCY)

    def harm(share: float) -> float:
        return only(found(metric, ours, theirs, Margin(relative=share), declared).harm)

    assert harm(relative) == pytest.approx(0.0, abs=1e-9)
    assert harm(relative * 0.9) > 0 > harm(relative * 1.1)


def test_a_relative_margin_scales_the_controls_part_of_the_standard_error() -> None:
    ours, theirs = counts(tp=850, fn=150, tn=10_000), counts(tp=900, fn=100, tn=10_000)
    (_, mine), (_, other) = (value_of("recall", f, PLAIN) for f in (ours, theirs))
    told = found("recall", ours, theirs, Margin(relative=0.5)).se
    assert only(told) == pytest.approx(math.sqrt(only(mine + 0.25 * other)), rel=0.03)


@given(
    absolute=st.floats(0, 1),
    relative=st.floats(0, 0.9),
    shares=st.tuples(*[st.integers(50, 500)] * 4),
)
def test_both_margins_together_are_tolerated_one_after_the_other(
    absolute: float, relative: float, shares: tuple[int, int, int, int]
) -> None:
    hits, misses, more_hits, more_misses = shares
    ours, theirs = counts(tp=hits, fn=misses), counts(tp=more_hits, fn=more_misses)
    both = found("recall", ours, theirs, Margin(absolute, relative))
    expected = (1 - relative) * more_hits / (more_hits + more_misses) - hits / (hits + misses)
    assert only(both.harm) == pytest.approx(expected - absolute, abs=1e-12)


# Never surer than both together


def rap_variance(tp: int, fp: int, fn: int) -> float:
    """[S2(TP)*(1 - R)^2 + S2(FP)*k^2 + S2(FN)*R^2] / (TP + FN)^2 for weights of 1."""
    k = 1 / (Q - 1)
    r = (tp - k * fp) / (tp + fn)
    return (tp * (1 - r) ** 2 + fp * k**2 + fn * r**2) / (tp + fn) ** 2


def test_a_small_canary_that_has_not_met_a_rare_cell_is_not_surer_than_both_together_allow() -> (
    None
):
    canary, rest = counts(tp=40, tn=1_000, fn=10), counts(tp=4_000, fp=6_000, tn=94_000, fn=1_000)
    told = found("rap", canary, rest)
    share = 1_050 / 106_050
    pooled = rap_variance(4_040, 6_000, 1_010)
    assert only(told.se) >= math.sqrt(pooled / share + pooled / (1 - share)) * (1 - 1e-12)
    assert only(told.se) > 1.4 * math.sqrt(
        rap_variance(40, 0, 10) + rap_variance(4_000, 6_000, 1_000)
    )


@given(cells=st.tuples(*[st.integers(0, 300)] * 8), metric=st.sampled_from(METRICS))
def test_no_contrast_is_surer_than_its_two_variants_or_than_both_pooled(
    cells: tuple[int, ...], metric: str
) -> None:
    kinds, declared = ("tp", "fp", "tn", "fn"), experiment(worth=NO_LATENCY)
    ours, theirs = (
        facts(Event(kind, 1_000, None, 7 * n, n) for kind, n in zip(kinds, part, strict=True))
        for part in (cells[:4], cells[4:])
    )
    told = found(metric, ours, theirs, of=declared)
    if math.isnan(only(told.se)):
        assert not told.enough.any()
        return
    pieces = [value_of(metric, f, declared)[1] for f in (ours, theirs, ours.plus(theirs))]
    mine, other, pooled = map(only, pieces)
    n, m = only(ours.predictions), only(theirs.predictions)
    least = max(mine + other, pooled * (n + m) / n + pooled * (n + m) / m)
    assert only(told.se) >= math.sqrt(least) * (1 - 1e-9)


def test_of_many_alike_predictions_the_standard_error_is_the_plain_one() -> None:
    ours, theirs = counts(400, 700, 9_000, 300), counts(3_950, 7_100, 90_000, 3_000)
    for metric in sorted(RATIOS):
        (_, mine), (_, other) = (value_of(metric, f, PLAIN) for f in (ours, theirs))
        told = only(found(metric, ours, theirs).se)
        assert told == pytest.approx(math.sqrt(only(mine + other)), rel=0.03)


def test_units_that_inflate_a_variance_widen_the_standard_error_of_their_variant() -> None:
    ours, theirs = counts(400, 700, 9_000, 300), counts(3_950, 7_100, 90_000, 3_000)
    (_, mine), (_, other) = (value_of("rap", f, PLAIN) for f in (ours, theirs))
    inflated = contrast("rap", ours, theirs, PLAIN, NO_MARGIN, inflation=(3.0, 2.0))
    assert only(inflated.se) == pytest.approx(math.sqrt(only(3 * mine + 2 * other)), rel=0.03)
    assert only(inflated.harm) == only(found("rap", ours, theirs).harm)


# When there is enough


def test_a_variant_needs_its_number_of_positives() -> None:
    control, many = counts(tp=5_000, fn=5_000, tn=10**6), 10**5
    few = MIN_POSITIVES // 3
    assert not found("recall", counts(tp=few, fn=few, tn=2_000), control).enough.any()
    assert not found("recall", control, counts(tp=few, fn=few, tn=2_000)).enough.any()
    plenty = counts(tp=10 * MIN_POSITIVES, fn=10 * MIN_POSITIVES, tn=many)
    assert found("recall", plenty, control).enough.all()


def test_what_stands_below_the_line_needs_its_number_in_both_variants() -> None:
    """A treatment that acted twice has a precision nobody should trust, however many positives."""
    idle, busy = counts(tp=1, fp=1, tn=9_000, fn=999), counts(tp=500, fp=500, tn=8_000, fn=500)
    for ours, theirs in ((idle, busy), (busy, idle)):
        assert not found("precision", ours, theirs).enough.any()
        assert found("recall", ours, theirs).enough.all()


def test_a_few_heavy_predictions_do_not_make_up_for_many() -> None:
    heavy = facts(
        [
            Event("tp", 1_000_000, times=3),
            Event("tp", 1_000, times=200),
            Event("fn", 1_000, times=200),
            Event("tn", 1_000, times=5_000),
        ]
    )
    light = counts(tp=200, fn=200, tn=5_000)
    assert found("recall", light, light).enough.all()
    told = found("recall", heavy, heavy)
    assert only(told.positives) < 5
    assert not told.enough.any()


def test_weights_that_are_all_alike_are_worth_what_1_is_worth() -> None:
    light, heavy = (counts(60, 90, 900, 40, weight=weight) for weight in (1_000, 500_000))
    mine, other = found("rap", light, light), found("rap", heavy, heavy)
    for name in (field.name for field in fields(Contrast)):
        assert only(getattr(mine, name)) == pytest.approx(only(getattr(other, name)), abs=1e-12)
    assert only(mine.positives) == pytest.approx(100)


def test_a_variance_rests_on_the_few_that_are_not_like_the_others() -> None:
    """Of a recall of 99.9 % it rests on the misses, of one of 50 % on all positives alike."""
    rare, even = counts(tp=99_900, fn=100, tn=10**6), counts(tp=500, fn=500, tn=10**6)
    assert only(found("recall", rare, rare).contributions) == pytest.approx(100, rel=0.02)
    assert only(found("recall", even, even).contributions) == pytest.approx(1_000)
    canary = counts(tp=999, fn=1, tn=10_000)
    assert only(found("recall", canary, rare).contributions) == pytest.approx(101 / 101, rel=0.02)


def test_positives_and_predictions_an_arm_are_those_of_the_smaller_variant() -> None:
    told = found("recall", counts(tp=30, fn=20, tn=950), counts(tp=2_700, fn=1_800, tn=94_500))
    assert only(told.positives) == pytest.approx(4_550 * 0.01, rel=1e-12)
    assert only(told.n) == pytest.approx(2 / (1 / 1_000 + 1 / 99_000))


# What cannot be known


@pytest.mark.parametrize(
    ("metric", "ours"),
    [
        ("rap", counts(fp=500, tn=500)),
        ("recall", counts(fp=500, tn=500)),
        ("precision", counts(tn=500, fn=500)),
        ("specificity", counts(tp=500, fn=500)),
        ("net_business_value", counts(tp=500, tn=500)),
        ("money_per_prediction", counts()),
        ("accuracy", counts()),
    ],
)
def test_a_metric_that_is_undefined_in_one_variant_cannot_be_compared(
    metric: str, ours: Facts
) -> None:
    whole = facts(CONTROL)
    for one, other in ((ours, whole), (whole, ours), (ours, ours)):
        told = found(metric, one, other)
        assert np.isnan([only(told.harm), only(told.se)]).all()
        assert not told.enough.any()


SPREADLESS = [
    ("recall", counts(tp=10_000, tn=10_000)),
    ("rap", counts(tp=10_000)),
    ("rap", counts(fn=500, tn=10_000)),
    ("accuracy", counts(tp=700, tn=9_300)),
    ("profit_per_prediction", counts(tp=10_000)),
    ("money_per_prediction", facts([Event("tp", money=-35, times=1_000)])),
    ("net_business_value", facts([Event("tp", latency=123, times=1_000)])),
]


@pytest.mark.parametrize(("metric", "ours"), SPREADLESS)
@pytest.mark.parametrize("margin", [NO_MARGIN, Margin(0.1), Margin(relative=0.1)])
def test_two_variants_without_any_spread_were_seen_too_little_not_surely(
    metric: str, ours: Facts, margin: Margin
) -> None:
    told = found(metric, ours, ours, margin)
    assert math.isnan(only(told.se))
    assert not told.enough.any()


def test_a_treatment_that_stopped_acting_is_seen_to_lose_though_it_has_no_spread() -> None:
    told = found("rap", counts(tn=9_000, fn=1_000), counts(tp=800, fp=400, tn=8_600, fn=200))
    assert told.enough.all()
    assert only(told.harm) > 5 * only(told.se)


EXTREME = st.sampled_from([0, 1, 2, 30, 31, 10**6, 10**12])
WEIGHT = st.sampled_from([1, 1_000, 10**6])
ARM = st.lists(
    st.builds(
        Event,
        kind=st.sampled_from(Cells._fields),
        weight=WEIGHT,
        latency=st.none() | st.sampled_from([0, 1, 10**7]),
        money=st.sampled_from([0, 1, -(10**7), 10**7]),
        times=EXTREME,
    ),
    max_size=6,
)


@given(
    ours=ARM,
    theirs=ARM,
    q=st.sampled_from([1 + 1e-9, Q, 1e6]),
    relative=st.sampled_from([0.0, 0.5]),
    declared=st.sampled_from(POLICIES),
)
def test_no_counts_make_a_contrast_infinite_or_surely_without_spread(
    ours: list[Event], theirs: list[Event], q: float, relative: float, declared: Experiment
) -> None:
    priced = experiment(declared.labels.observed, declared.labels.when_missing, q)
    for metric in METRICS:
        mine, other = facts(ours, priced), facts(theirs, priced)
        told = found(metric, mine, other, Margin(0.01, relative), priced)
        harm, se = only(told.harm), only(told.se)
        assert math.isnan(harm) == math.isnan(se)
        assert not math.isinf(harm)
        assert math.isnan(se) or 0 < se < math.inf
        assert told.enough.any() <= math.isfinite(se)
        assert math.isfinite(only(told.n))
