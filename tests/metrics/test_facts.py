from dataclasses import fields
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.confusion import Cell, Cells, Confusion
from metrics.duration import Duration
from metrics.experiment import Labels
from metrics.facts import COLUMNS, Facts, Rows, facts_of
from metrics.latency import CAP_MS, FINEST_MS, GROWTH, Histogram, bucket_of
from metrics.ledger import Ledger, total
from metrics.moments import Moments
from metrics.ratios import CELLS


Floats = npt.NDArray[np.float64]

FULL_CELL = Cell(10**12, 10**18, 10**24, 10**12, 10**19)
"""As many predictions of the highest weight and latency as a ledger may count."""


def policy(observed: str, when_missing: str) -> Labels:
    declared = {"observed": observed, "when_missing": when_missing}
    return Labels(horizon=Duration(60_000), **declared)  # type: ignore[arg-type]  # words of a table


POLICIES = [
    policy(observed, when_missing)
    for observed, when_missing in product(("all", "acted", "explored"), ("negative", "exclude"))
]
LABELS = POLICIES[0]


def random_ledger(rng: np.random.Generator) -> Ledger:
    """A mature ledger whose numbers are unlike each other; not all are possible together."""
    cells = Cells(*(Cell(*rng.integers(0, 10**6, size=5).tolist()) for _ in Cells._fields))
    predictions, money, squared, capped = rng.integers(0, 10**6, size=4).tolist()
    return Ledger(
        predictions,
        cells=cells,
        moments=Moments(*rng.integers(0, 10**6, size=3).tolist()),
        money=money - 500_000,
        money_squared=squared,
        capped=capped,
    )


def random_ledgers(count: int, seed: int = 21) -> list[Ledger]:
    rng = np.random.default_rng(seed)
    return [random_ledger(rng) for _ in range(count)]


# From ledgers


@pytest.mark.parametrize("labels", POLICIES)
def test_cells_are_those_of_the_resolved_confusion_under_every_label_policy(labels: Labels) -> None:
    ledgers = random_ledgers(5)
    found = facts_of(ledgers, labels)
    for row, ledger in enumerate(ledgers):
        confusion = Confusion.of(ledger.cells, labels)
        for fact in Cell._fields:
            expected = [getattr(getattr(confusion, cell), fact) for cell in CELLS]
            assert found.cells(fact)[row].tolist() == expected


def test_columns_are_the_sums_of_the_ledger() -> None:
    ledgers = random_ledgers(4)
    found = facts_of(ledgers, LABELS)
    expected = {
        "timed": [ledger.moments.n for ledger in ledgers],
        "latency": [ledger.moments.latency for ledger in ledgers],
        "latency_squared": [ledger.moments.latency_squared for ledger in ledgers],
        "predictions": [ledger.predictions for ledger in ledgers],
        "money": [ledger.money for ledger in ledgers],
        "money_squared": [ledger.money_squared for ledger in ledgers],
        "capped": [ledger.capped for ledger in ledgers],
        "fn.w2": [ledger.cells.fn.w2 for ledger in ledgers],
    }
    assert {name: found.column(name).tolist() for name in expected} == expected
    assert found.predictions.tolist() == expected["predictions"]


@pytest.mark.parametrize("labels", POLICIES)
def test_facts_of_ledgers_added_up_are_facts_added_up(labels: Labels) -> None:
    ledgers = random_ledgers(6)
    whole = facts_of([total(ledgers)], labels)
    rows = [facts_of([ledger], labels) for ledger in ledgers]
    assert np.array_equal(reduce(Facts.plus, rows).sums, whole.sums)
    assert np.array_equal(facts_of(ledgers, labels).sums.sum(axis=0), whole.sums[0])


def test_no_ledgers_have_no_rows_but_all_columns() -> None:
    assert facts_of([], LABELS).sums.shape == (0, len(COLUMNS))


def test_an_empty_ledger_is_nothing() -> None:
    assert not facts_of([Ledger()], LABELS).sums.any()


@pytest.mark.parametrize("labels", POLICIES)
def test_sums_beyond_64_bits_are_kept(labels: Labels) -> None:
    cells = Cells(*[FULL_CELL] * len(Cells._fields))
    moments = Moments(10**13, 10**20, 10**27)
    found = facts_of([Ledger(10**13, cells=cells, moments=moments, money=-(10**20))], labels)
    confusion = Confusion.of(cells, labels)
    squares = [float(getattr(confusion, field.name).w2) for field in fields(Confusion)]
    assert found.cells("w2")[0] == pytest.approx(np.array(squares), rel=1e-14)
    assert found.column("latency_squared").tolist() == [1e27]
    assert found.column("money").tolist() == [-1e20]


# Cohort by cohort


def test_cohorts_are_taken_in_the_order_asked_for_and_missing_ones_are_nothing() -> None:
    first, second = random_ledgers(2)
    found = Rows(LABELS).of("treatment", {600: first, 1_800: second}, [1_800, 1_200, 600])
    expected = facts_of([second, Ledger(), first], LABELS)
    assert np.array_equal(found.sums, expected.sums)


def test_no_cohorts_have_no_rows_but_all_columns() -> None:
    assert Rows(LABELS).of("treatment", {}, []).sums.shape == (0, len(COLUMNS))


def test_what_is_remembered_is_told_apart_by_variant_and_forgotten_when_a_ledger_is_replaced() -> (
    None
):
    ours, theirs, later = random_ledgers(3)
    rows = Rows(LABELS)
    for _ in range(2):
        assert np.array_equal(rows.of("a", {0: ours}, [0]).sums, facts_of([ours], LABELS).sums)
        assert np.array_equal(rows.of("b", {0: theirs}, [0]).sums, facts_of([theirs], LABELS).sums)
    replaced = rows.of("a", {0: later, 600: ours}, [0, 600])
    assert np.array_equal(replaced.sums, facts_of([later, ours], LABELS).sums)
    assert not rows.of("a", {}, [0]).sums.any()


# Sums since


@st.composite
def rows_and_starts(draw: st.DrawFn) -> tuple[Floats, list[int]]:
    """Whole numbers, shape (variants, rows, columns), and some rows."""
    rows = draw(st.integers(1, 30))
    starts = sorted(draw(st.sets(st.integers(0, rows - 1), min_size=1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(-(10**9), 10**9, size=(2, rows, len(COLUMNS))).astype(float), starts


@given(given_for=rows_and_starts())
def test_sums_since_a_start_are_of_that_row_and_all_that_follow(
    given_for: tuple[Floats, list[int]],
) -> None:
    rows, starts = given_for
    found = Facts(rows).since(np.array(starts))
    assert found.sums.shape == (2, len(starts), len(COLUMNS))
    for at, start in enumerate(starts):
        assert np.array_equal(found.sums[:, at], rows[:, start:].sum(axis=1))


def test_little_that_follows_after_much_is_not_lost_to_rounding() -> None:
    rows = np.full((4, len(COLUMNS)), 0.1)
    rows[0] = 1e24
    found = Facts(rows).since(np.array([0, 1, 3]))
    assert found.sums[1] == pytest.approx(np.full(len(COLUMNS), 0.3), rel=1e-15)
    assert np.array_equal(found.sums[2], rows[3])


def test_rows_that_are_not_wanted_count_as_nothing() -> None:
    ledgers = random_ledgers(4)
    found = facts_of(ledgers, LABELS).where(np.array([True, False, False, True]))
    expected = facts_of([ledgers[0], Ledger(), Ledger(), ledgers[3]], LABELS)
    assert np.array_equal(found.sums, expected.sums)


def test_adding_keeps_what_is_added_as_it_was() -> None:
    mine, theirs = (facts_of(random_ledgers(3, seed), LABELS) for seed in (22, 23))
    before = mine.sums.copy()
    assert np.array_equal(mine.plus(theirs).sums, theirs.plus(mine).sums)
    assert np.array_equal(mine.sums, before)


# How many were slow


@given(
    latencies=st.lists(st.floats(0, 2 * CAP_MS), max_size=50),
    limit=st.floats(FINEST_MS, CAP_MS),
)
def test_latencies_above_a_limit_are_counted_up_to_the_width_of_a_bucket(
    latencies: list[float], limit: float
) -> None:
    histogram = Histogram.of(bucket_of(np.array(latencies, dtype=np.float64)))
    longer = sum(latency > limit for latency in latencies)
    clearly = sum(min(latency, CAP_MS) > limit * GROWTH * (1 + 1e-9) for latency in latencies)
    assert clearly <= histogram.above(limit) <= longer


def test_what_shares_the_bucket_of_the_limit_is_not_above_it() -> None:
    histogram = Histogram.of(bucket_of(np.array([10.0, 100.0, 100.0, 1_000.0])))
    counted = {limit: histogram.above(limit) for limit in (1.0, 10.0, 100.0, 1_000.0, 5_000.0)}
    assert counted == {1.0: 4, 10.0: 3, 100.0: 1, 1_000.0: 0, 5_000.0: 0}
    assert Histogram().above(100.0) == 0


@given(latencies=st.lists(st.floats(0, CAP_MS), max_size=30), limit=st.floats(0.01, CAP_MS))
def test_slow_latencies_of_two_histograms_are_those_of_both_together(
    latencies: list[float], limit: float
) -> None:
    buckets = bucket_of(np.array(latencies, dtype=np.float64))
    one, other = Histogram.of(buckets[::2]), Histogram.of(buckets[1::2])
    assert one.plus(other).above(limit) == one.above(limit) + other.above(limit)
