import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, bucket_of
from metrics.ledger import (
    SCORE_BINS,
    VERSION,
    Deferred,
    Ledger,
    LedgerFormatError,
    total,
    unpacked_total,
)
from metrics.moments import LATENCY_CAP, Moments
from metrics.units import (
    COLUMNS,
    NO_BUCKETS,
    UNIT_BUCKETS,
    column,
    pack_buckets,
    unpack_buckets,
)


numbers = st.integers(0, 10**24)
cells = st.builds(Cell, *[numbers] * len(Cell._fields))
histograms = st.lists(st.floats(0, 1e6), max_size=20).map(
    lambda values: Histogram.of(bucket_of(np.array(values, dtype=np.float64)))
)
scores = st.one_of(
    st.just([]), st.lists(st.integers(0, 10**9), min_size=SCORE_BINS, max_size=SCORE_BINS)
).map(lambda counts: np.array(counts, dtype=np.int64))
SHAPE = (UNIT_BUCKETS, len(COLUMNS))
some_buckets = st.builds(
    lambda seed, high, dense: (
        np.random.default_rng(seed).integers(-high, high, SHAPE, endpoint=True)
        * (np.random.default_rng(seed).random(SHAPE) < dense)
    ).astype(np.int64),
    st.integers(0, 1_000),
    st.sampled_from([1, 127, 128, 2**15, 2**31, 2**60]),
    st.sampled_from([0, 0.01, 1]),
)
ledgers = st.builds(
    Ledger,
    predictions=numbers,
    errors=numbers,
    acted=numbers,
    cells=st.builds(Cells, *[cells] * len(Cells._fields)),
    moments=st.builds(Moments, *[numbers] * len(Moments._fields)),
    latency=histograms,
    scores=scores,
    failing=numbers,
    units=numbers,
    crossed=numbers,
    unitless=numbers,
    money=st.integers(-(10**24), 10**24),
    money_squared=numbers,
    capped=numbers,
    buckets=st.just(NO_BUCKETS) | some_buckets,
)


def everything(ledger: Ledger) -> tuple[Any, ...]:
    return (
        ledger.predictions,
        ledger.errors,
        ledger.acted,
        ledger.cells,
        ledger.moments,
        ledger.latency.total,
        ledger.latency.quantiles(0.1, 0.5, 0.99),
        ledger.scores.tolist(),
        *extras(ledger),
        ledger.buckets.tolist(),
    )


def extras(ledger: Ledger) -> tuple[int, ...]:
    by_unit = ledger.failing, ledger.units, ledger.crossed, ledger.unitless
    return (*by_unit, ledger.money, ledger.money_squared, ledger.capped)


def of_version_1(ledger: Ledger) -> bytes:
    """What version 1 wrote: neither units nor money, and no place for buckets."""
    scalars = (
        ledger.predictions,
        ledger.errors,
        ledger.acted,
        *(number for cell in ledger.cells for number in cell),
        *ledger.moments,
    )
    halves = [half for number in scalars for half in (number % 2**64, number // 2**64)]
    head = struct.pack(f"<BB{len(halves)}Q", 1, ledger.scores.size, *halves)
    return head + ledger.scores.astype("<i8").tobytes() + ledger.latency.pack()


@settings(max_examples=30)
@given(ledgers)
def test_a_ledger_reads_back_as_it_was_packed(ledger: Ledger) -> None:
    found = Ledger.unpack(ledger.pack())
    assert everything(found) == everything(ledger)
    assert found == ledger
    assert found.pack() == ledger.pack()


def test_sums_of_a_trillion_events_fit() -> None:
    events = 10**12
    cell = Cell(events, events * 10**6, events * 10**12, events, events * LATENCY_CAP)
    moments = Moments(events, events * LATENCY_CAP, events * LATENCY_CAP**2)
    ledger = Ledger(
        events,
        events,
        events,
        Cells(*[cell] * len(Cells._fields)),
        moments,
        money=-events * LATENCY_CAP,
        money_squared=events * LATENCY_CAP**2,
    )
    assert everything(Ledger.unpack(ledger.pack())) == everything(ledger)
    assert events * 10**12 == 10**24


@settings(max_examples=30)
@given(ledgers, ledgers, ledgers)
def test_ledgers_add_up_in_any_order(a: Ledger, b: Ledger, c: Ledger) -> None:
    assert a.plus(b).plus(c) == a.plus(b.plus(c)) == c.plus(a).plus(b) == total([b, c, a])


@settings(max_examples=30)
@given(ledgers, ledgers)
def test_every_fact_is_added(a: Ledger, b: Ledger) -> None:
    both = a.plus(b)
    assert both.predictions == a.predictions + b.predictions
    assert both.errors == a.errors + b.errors
    assert both.acted == a.acted + b.acted
    assert both.moments == tuple(x + y for x, y in zip(a.moments, b.moments, strict=True))
    for mine, theirs, found in zip(a.cells, b.cells, both.cells, strict=True):
        assert found == tuple(x + y for x, y in zip(mine, theirs, strict=True)) == mine.plus(theirs)
    assert both.latency == a.latency.plus(b.latency)
    assert both.scores.sum() == a.scores.sum() + b.scores.sum()
    assert both.labelled == a.labelled + b.labelled
    assert extras(both) == tuple(x + y for x, y in zip(extras(a), extras(b), strict=True))
    assert both.buckets.sum(axis=0).tolist() == (
        (a.buckets.sum(axis=0) + b.buckets.sum(axis=0)).tolist()
    )


@settings(max_examples=30)
@given(ledgers)
def test_nothing_added_changes_nothing(ledger: Ledger) -> None:
    assert ledger.plus(Ledger()) == Ledger().plus(ledger) == total([ledger]) == ledger


@settings(max_examples=30)
@given(ledgers, ledgers)
def test_adding_changes_neither_side(a: Ledger, b: Ledger) -> None:
    before = a.pack(), b.pack()
    a.plus(b)
    assert (a.pack(), b.pack()) == before


def test_the_sum_of_no_ledgers_is_empty() -> None:
    assert total([]) == Ledger()
    assert everything(Ledger())[:3] == (0, 0, 0)
    assert Ledger().cells == Cells()
    assert Ledger().moments == Moments()


def test_labelled_are_those_in_a_cell_with_a_label() -> None:
    ledger = Ledger(cells=Cells(*(Cell(10**n) for n in range(len(Cells._fields)))))
    assert ledger.labelled == 1 + 10 + 100 + 1_000 + 10**8 + 10**9
    assert Cells._fields[:4] == ("tp", "fp", "tn", "fn")
    assert Cells._fields[8:] == ("error_positive", "error_other")


def test_rates_are_not_known_without_predictions() -> None:
    assert (Ledger().selection_rate, Ledger().error_rate) == (None, None)
    ledger = Ledger(predictions=8, errors=1, acted=2)
    assert (ledger.selection_rate, ledger.error_rate) == (0.25, 0.125)


@pytest.mark.parametrize("version", [0, 3, 255])
def test_another_version_is_refused(version: int) -> None:
    packed = bytes([version]) + Ledger(1).pack()[1:]
    with pytest.raises(LedgerFormatError, match=f"version 1 or 2 was expected, found {version}"):
        Ledger.unpack(packed)


@settings(max_examples=30)
@given(ledgers, ledgers)
def test_a_ledger_of_version_1_is_read_without_units_and_money(old: Ledger, new: Ledger) -> None:
    found = Ledger.unpack(of_version_1(old))
    known = Ledger(
        old.predictions,
        old.errors,
        old.acted,
        old.cells,
        old.moments,
        old.latency,
        old.scores,
        failing=old.errors,
    )
    assert everything(found) == everything(known)
    assert found == known
    assert sum(extras(found)) == found.failing == old.errors
    assert found.plus(new).failing == old.errors + new.failing


def test_nothing_is_no_ledger() -> None:
    with pytest.raises(LedgerFormatError, match="found nothing"):
        Ledger.unpack(b"")


@pytest.mark.parametrize("version", [1, VERSION])
@pytest.mark.parametrize("full", [True, False])
def test_a_ledger_that_was_cut_anywhere_is_refused(full: bool, version: int) -> None:
    bins = np.ones(SCORE_BINS if full else 0, dtype=np.int64)
    buckets = np.arange(64 * len(COLUMNS)).reshape(SHAPE) if full else NO_BUCKETS
    latency = Histogram(5, np.array([1, 2, 3], dtype=np.int64))
    ledger = Ledger(latency=latency, scores=bins, buckets=buckets)
    packed = of_version_1(ledger) if version == 1 else ledger.pack()
    for length in range(len(packed)):
        with pytest.raises(LedgerFormatError):
            Ledger.unpack(packed[:length])


@given(some_buckets)
def test_buckets_read_back_as_they_were_packed(buckets: Any) -> None:
    assert unpack_buckets(pack_buckets(buckets)).tolist() == buckets.tolist()


def test_buckets_of_a_ledger_that_is_not_by_unit_take_nothing() -> None:
    assert pack_buckets(NO_BUCKETS) == b""
    assert unpack_buckets(b"").shape == (0, len(COLUMNS))
    assert column(NO_BUCKETS, "n").size == 0


def test_a_column_of_buckets_is_found_by_its_name() -> None:
    buckets = np.arange(UNIT_BUCKETS * len(COLUMNS)).reshape(SHAPE)
    for at, name in enumerate(COLUMNS):
        assert column(buckets, name).tolist() == [row[at] for row in buckets.tolist()]


@pytest.mark.parametrize("lowest", [-(2**63), -129, -1, 0])
def test_buckets_with_the_largest_numbers_are_exact(lowest: int) -> None:
    buckets = np.full(SHAPE, 2**63 - 1, dtype=np.int64)
    buckets[0] = lowest
    assert unpack_buckets(pack_buckets(buckets)).tolist() == buckets.tolist()


def test_buckets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 79"):
        unpack_buckets(zlib.compress(bytes([1] + [0] * (len(COLUMNS) - 1))))
    with pytest.raises(ValueError, match="columns of 3, 0"):
        unpack_buckets(zlib.compress(bytes([3] + [0] * (len(COLUMNS) - 1 + 3 * UNIT_BUCKETS))))


def test_the_version_is_the_first_byte() -> None:
    assert struct.unpack_from("<B", Ledger().pack()) == (VERSION,)


def test_a_ledger_equals_only_a_ledger() -> None:
    assert Ledger(1) != Ledger(2)
    assert Ledger() != 0


small = st.integers(0, 10**12)
common = st.builds(
    Ledger,
    predictions=small,
    cells=st.builds(Cells, tp=st.builds(Cell, small, small)),
    latency=histograms,
    scores=scores,
    money=st.integers(-(10**12), 10**12),
    buckets=st.just(NO_BUCKETS) | some_buckets,
)
edges = st.builds(Ledger, money=st.integers(-2, 2).flatmap(lambda n: st.just((1 << 47) * n + n)))
packed = st.one_of(
    common.map(Ledger.pack),
    ledgers.map(Ledger.pack),
    edges.map(Ledger.pack),
    ledgers.map(of_version_1),
)


@given(st.lists(packed, max_size=5))
def test_packed_ledgers_add_up_as_unpacked_ones_do(parts: list[bytes]) -> None:
    assert everything(unpacked_total(parts)) == everything(total(map(Ledger.unpack, parts)))


@pytest.mark.parametrize("size", [0, 1, 500, 1_000_000])
def test_one_packed_ledger_that_was_cut_is_refused_among_others(size: int) -> None:
    whole = Ledger(5, latency=Histogram(3, np.ones(4, dtype=np.int64))).pack()
    with pytest.raises(LedgerFormatError, match=r"cut|nothing"):
        unpacked_total([whole, whole[: min(size, len(whole) - 1)]])


@given(ledgers)
def test_a_deferred_ledger_is_the_one_it_is_made_of(ledger: Ledger) -> None:
    deferred = Deferred(lambda: ledger)
    assert everything(deferred) == everything(ledger)
    assert deferred == ledger
    assert total([Deferred(lambda: ledger), Deferred(Ledger)]) == ledger


def test_a_deferred_ledger_is_made_once_and_not_before_it_is_asked_for() -> None:
    made: list[Ledger] = []

    def make() -> Ledger:
        made.append(Ledger(7))
        return made[-1]

    deferred = Deferred(make)
    assert not made
    assert (deferred.predictions, deferred.latency, deferred.predictions) == (7, Histogram(), 7)
    assert len(made) == 1
    assert not hasattr(deferred, "unheard_of")
