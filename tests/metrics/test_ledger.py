import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, bucket_of
from metrics.ledger import SCORE_BINS, VERSION, Ledger, LedgerFormatError, total
from metrics.moments import LATENCY_CAP, Moments


numbers = st.integers(0, 10**24)
cells = st.builds(Cell, *[numbers] * len(Cell._fields))
histograms = st.lists(st.floats(0, 1e6), max_size=20).map(
    lambda values: Histogram.of(bucket_of(np.array(values, dtype=np.float64)))
)
scores = st.one_of(
    st.just([]), st.lists(st.integers(0, 10**9), min_size=SCORE_BINS, max_size=SCORE_BINS)
).map(lambda counts: np.array(counts, dtype=np.int64))
ledgers = st.builds(
    Ledger,
    predictions=numbers,
    errors=numbers,
    acted=numbers,
    cells=st.builds(Cells, *[cells] * len(Cells._fields)),
    moments=st.builds(Moments, *[numbers] * len(Moments._fields)),
    latency=histograms,
    scores=scores,
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
    )


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
    ledger = Ledger(events, events, events, Cells(*[cell] * len(Cells._fields)), moments)
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


@pytest.mark.parametrize("version", sorted({0, 1, 2, 255} - {VERSION}))
def test_another_version_is_refused(version: int) -> None:
    packed = bytes([version]) + Ledger(1).pack()[1:]
    with pytest.raises(LedgerFormatError, match=f"version {VERSION} was expected, found {version}"):
        Ledger.unpack(packed)


def test_nothing_is_no_ledger() -> None:
    with pytest.raises(LedgerFormatError, match="found nothing"):
        Ledger.unpack(b"")


@pytest.mark.parametrize("scored", [True, False])
def test_a_ledger_that_was_cut_anywhere_is_refused(scored: bool) -> None:
    bins = np.ones(SCORE_BINS if scored else 0, dtype=np.int64)
    packed = Ledger(latency=Histogram(5, np.array([1, 2, 3], dtype=np.int64)), scores=bins).pack()
    for length in range(len(packed)):
        with pytest.raises(LedgerFormatError):
            Ledger.unpack(packed[:length])


def test_the_version_is_the_first_byte() -> None:
    assert struct.unpack_from("<B", Ledger().pack()) == (VERSION,)


def test_a_ledger_equals_only_a_ledger() -> None:
    assert Ledger(1) != Ledger(2)
    assert Ledger() != 0
