"""Numbers over time: what comparisons say at each moment, and bands that hold at all of them together."""

from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.drawn import cohort
from support.panes import EXPERIMENT

from metrics import history
from metrics.compare import compare, estimate
from metrics.experiment import BusinessValue, Experiment, Profitability
from metrics.facts import COLUMNS, Facts, facts_of
from metrics.history import Grid, Line, Sums, knowable, picked
from metrics.ledger import Ledger, total
from metrics.units import COLUMNS as UNIT_COLUMNS
from metrics.units import NO_BUCKETS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLANNED = 2_000.0


# Points


@given(st.integers(0, 3_000), st.integers(2, 130), st.sets(st.integers(0, 2_999), max_size=200))
def test_points_are_few_begin_and_end_with_the_line_and_keep_what_is_wanted(
    count: int, most: int, numbers: set[int]
) -> None:
    wanted = {number for number in numbers if number < count}
    found = picked(count, most, wanted)
    assert len(found) == min(count, most)
    assert found == sorted({*found})
    if count:
        assert (found[0], found[-1]) == (0, count - 1)
    inner = sorted(wanted - {0, count - 1})
    room = min(len(inner), (most - 1) // 2)
    assert {*inner[len(inner) - room :]} <= {*found}


@given(st.integers(2, 3_000), st.integers(2, 130))
def test_points_are_as_far_apart_as_each_other(count: int, most: int) -> None:
    found = picked(count, most)
    apart = [later - one for one, later in pairwise(found)]
    assert max(apart) - min(apart) <= 1


# Sums


def sums(grid: Grid, ledgers: list[Ledger]) -> Sums:
    return grid.sums(facts_of(ledgers, EXPERIMENT.labels), [each.buckets for each in ledgers])


@pytest.mark.parametrize("units", [False, True])
def test_sums_are_of_everything_up_to_each_point_in_each_stratum(
    units: bool,
) -> None:  # a parameter of the table
    rng = np.random.default_rng(5)
    ledgers = [cohort(rng, 30, units=units) for _ in range(9)]
    point = np.array([0, 0, 1, 1, 1, 2, 3, 3, 3])
    stratum = np.array([0, 0, 0, 1, 1, 1, 0, 1, 2])
    found = sums(Grid(point, stratum, points=5, strata=3), ledgers)
    assert found.buckets.size == (5 * 3 * 64 * len(UNIT_COLUMNS) if units else 0)
    for at in range(5):
        for number in range(3):
            inside = (point <= at) & (stratum == number)
            whole = total(each for each, yes in zip(ledgers, inside, strict=True) if yes)
            (row,) = facts_of([whole], EXPERIMENT.labels).sums
            assert found.facts.sums[at, number] == pytest.approx(row)
            if whole.buckets.size:
                assert np.array_equal(found.buckets[at, number], whole.buckets)


def test_of_no_cohorts_there_are_no_points() -> None:
    nothing = sums(Grid(np.zeros(0, np.int64), np.zeros(0, np.int64), points=0), [])
    line = history.own("rap", nothing, EXPERIMENT, PLANNED)
    assert line.value.shape == line.lower.shape == line.upper.shape == (0,)
    apart = history.difference("rap", nothing, nothing, EXPERIMENT, PLANNED)
    assert apart.value.shape == (0,)
    assert history.parts(nothing, nothing, EXPERIMENT).latency.shape == (0,)


# Differences

METRICS = ("rap", "profit_per_prediction", "accuracy", "precision", "roi", "recall")


def one_point(pairs: list[tuple[Ledger, Ledger]]) -> tuple[Sums, Sums]:
    """Both variants at a single moment, a stratum each pair."""
    grid = Grid(np.zeros(len(pairs), np.int64), np.arange(len(pairs)), points=1, strata=len(pairs))
    ours, theirs = zip(*pairs, strict=True)
    return sums(grid, list(ours)), sums(grid, list(theirs))


def ends(line: Line) -> tuple[float | None, ...]:
    found = (line.value[0], line.lower[0], line.upper[0])
    return tuple(None if np.isnan(each) else float(each) for each in found)


PAIRS = st.lists(
    st.tuples(*[st.tuples(st.integers(0, 40), st.integers(0, 10**6)) for _ in range(2)]),
    min_size=1,
    max_size=4,
)


@given(PAIRS, st.booleans())
def test_a_difference_is_what_a_comparison_says(
    sizes: list[tuple[tuple[int, int], tuple[int, int]]],
    units: bool,  # drawn
) -> None:
    """Also of two or three predictions, of which hardly anything can be known."""
    pairs = [
        (
            cohort(np.random.default_rng(ours[1]), ours[0], units=units),
            cohort(np.random.default_rng(theirs[1]), theirs[0], units=units),
        )
        for ours, theirs in sizes
    ]
    told = compare(EXPERIMENT, {"new": pairs}, frozenset(), PLANNED)["new"]
    both = one_point(pairs)
    for metric in METRICS:
        expected = told.differences[metric]
        found = ends(history.difference(metric, *both, EXPERIMENT, PLANNED))
        if expected is None:
            assert found == (None, None, None)
            continue
        for number, each in zip(
            found, (expected.estimate, expected.lower, expected.upper), strict=True
        ):
            assert (number is None) == (each is None), (metric, found, expected)
            assert number is None or number == pytest.approx(each, rel=1e-8, abs=1e-10)
    parts = history.parts(*both, EXPERIMENT)
    for name in ("accuracy", "latency", "errors"):
        (part,), known = getattr(parts, name), getattr(told.parts, name)
        assert np.isnan(part) if known is None else part == pytest.approx(known, abs=1e-9)


def test_a_part_that_is_worth_nothing_is_nothing_though_it_is_not_known() -> None:
    free = msgspec.structs.replace(EXPERIMENT, business_value=BusinessValue(per_latency_ms_pct=0))
    ledger = cohort(np.random.default_rng(1), 50, timed=0)
    parts = history.parts(*one_point([(ledger, ledger)]), free)
    assert parts.latency.tolist() == [0.0]
    assert np.isnan(history.parts(*one_point([(ledger, ledger)]), EXPERIMENT).latency[0])


def test_no_part_is_minus_zero() -> None:
    ledger = cohort(np.random.default_rng(1), 50)
    parts = history.parts(*one_point([(ledger, ledger)]), EXPERIMENT)
    for part in (parts.accuracy, parts.latency, parts.errors):
        assert np.signbit(part).tolist() == [False]


@pytest.mark.parametrize("observed", ["all", "acted", "explored"])
@pytest.mark.parametrize("q", [None, 3.0])
def test_what_cannot_be_known_is_not_drawn(observed: str, q: float | None) -> None:
    experiment: Experiment = msgspec.structs.replace(
        EXPERIMENT,
        profitability=None if q is None else Profitability(q=q),
        labels=msgspec.structs.replace(EXPERIMENT.labels, observed=observed),
    )
    ledger = cohort(np.random.default_rng(2), 60)
    both = one_point([(ledger, ledger)])
    for metric in (*METRICS, "net_business_value"):
        known = estimate(metric, ledger, experiment) is not None
        assert knowable(metric, experiment) == known
        for line in (
            history.own(metric, both[0], experiment, PLANNED),
            history.difference(metric, *both, experiment, PLANNED),
        ):
            assert np.isnan(line.value).tolist() == [not known]
            assert np.isnan(line.upper).tolist() == [not known]


# Bands of single variants


def simulated(rng: np.random.Generator, n: int, points: int, shares: list[float]) -> Sums:
    """What a variant adds up to after each of `points` cohorts of `n` predictions in tp, fp, tn and fn."""
    counts = rng.multinomial(n, shares, size=points)
    rows = np.zeros((points, len(COLUMNS)))
    for at, cell in enumerate(("tp", "fp", "tn", "fn")):
        for fact, each in (("n", 1), ("w", 1_000), ("w2", 10**6)):
            rows[:, COLUMNS.index(f"{cell}.{fact}")] = each * counts[:, at]
    rows[:, COLUMNS.index("predictions")] = n
    grid = Grid(np.arange(points), np.zeros(points, np.int64), points)
    return grid.sums(Facts(rows), [NO_BUCKETS] * points)


WORLDS = {
    "common": (100, 0.2, 0.6, 0.1),
    "rare": (50, 0.05, 0.6, 0.1),
    "large": (1_000, 0.2, 0.6, 0.1),
}
RUNS = 300


@pytest.mark.parametrize("metric", ["rap", "profit_per_prediction", "accuracy"])
@pytest.mark.parametrize("world", WORLDS)
def test_the_band_of_a_variant_holds_at_all_points_together(world: str, metric: str) -> None:
    n, positive, recall, false_alarms = WORLDS[world]
    tp, fp = positive * recall, (1 - positive) * false_alarms
    shares = [tp, fp, 1 - positive - fp, positive - tp]
    truth = {
        "rap": (tp - fp / 2) / positive,  # q is 3
        "profit_per_prediction": 2 * tp - fp,
        "accuracy": tp + shares[2],
    }[metric]
    rng, missed = np.random.default_rng(8), 0
    for _ in range(RUNS):
        line = history.own(metric, simulated(rng, n, 60, shares), EXPERIMENT, PLANNED)
        missed += bool(((line.lower > truth) | (line.upper < truth)).any())
        assert line.upper[-1] - line.lower[-1] < line.upper[9] - line.lower[9]
    # Five in a hundred are allowed for ever; sixty looks use up a part of them.
    assert missed / RUNS <= 0.05


def test_looks_at_a_band_of_one_look_only_would_be_wrong_too_often() -> None:
    """What the band is for: the usual interval is left by half of all lines."""
    rng, missed = np.random.default_rng(8), 0
    for _ in range(RUNS):
        found = simulated(rng, 100, 60, [0.12, 0.08, 0.72, 0.08])
        line = history.own("accuracy", found, EXPERIMENT, PLANNED)
        se = np.sqrt(0.84 * 0.16 / (100 * np.arange(1, 61)))
        missed += bool((np.abs(line.value - 0.84) > 1.96 * se).any())
    assert missed / RUNS > 0.2
