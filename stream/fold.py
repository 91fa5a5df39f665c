"""Folding: rows of facts in, ledgers by variant and slice of time out. Pure and exact.

Sums are taken in 64-bit integers per batch and only then added to the unbounded integers of a ledger:
with at most `MAX_ROWS` rows a sum of squared latencies stays below 2^63.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, bucket_of
from metrics.layout import FINE_WIDTH
from metrics.ledger import SCORE_BINS, Ledger
from metrics.moments import LATENCY_CAP, Moments
from stream.rows import ACTED, ACTUAL, ERROR, LABELLED, PREDICTED, TIMED, Rows, flags_of


MAX_ROWS = (1 << 63) // LATENCY_CAP**2 // 2
"""Most rows a single fold may take (46,116)."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Slice(NamedTuple):
    """Which ledger a row belongs to: the slot of its variant and the start of the slice of time."""

    slot: int
    start: int


Ledgers = dict[Slice, Ledger]


class _Groups:
    """Rows grouped by variant and slice of time; sums any column over each group exactly."""

    def __init__(self, slots: npt.NDArray[Any], times: Ints, widths: Ints | int) -> None:
        starts = times - times % widths
        order = np.lexsort((starts, slots))
        slots, starts = slots[order], starts[order]
        changes = np.flatnonzero((slots[1:] != slots[:-1]) | (starts[1:] != starts[:-1])) + 1
        self._order = order
        self._edges = np.concatenate(([0], changes))
        self._ends = np.concatenate((changes, [len(order)]))
        self.slices = [Slice(int(slots[edge]), int(starts[edge])) for edge in self._edges]

    def sums(self, *columns: Ints) -> list[list[int]]:
        """For each group the sums of the columns, each of shape (n,)."""
        table = np.stack(columns, axis=1)[self._order]
        totals: list[list[int]] = np.add.reduceat(table, self._edges, axis=0).tolist()
        return totals

    def parts(self, column: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """For each group the values of a column."""
        return self._split(column[self._order])

    def _split(self, ordered: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        for edge, end in zip(self._edges, self._ends, strict=True):
            yield ordered[edge:end]

    def cells(self, rows: Rows, flags: Ints) -> list[Cells]:
        """For each group its cells."""
        kinds = _cell_kinds(flags)
        w, timed, latency = rows["weight"].astype(np.int64), *_latency_columns(rows, flags)
        table = np.stack([np.ones_like(w), w, w * w, timed, latency], axis=1)[self._order]
        made = []
        for kind, facts in zip(self.parts(kinds), self._split(table), strict=True):
            cells = [Cell()] * len(Cells._fields)
            for index in np.unique(kind):
                cells[int(index)] = Cell(*facts[kind == index].sum(axis=0).tolist())
            made.append(Cells(*cells))
        return made


def _cell_kinds(flags: Ints) -> Ints:
    """The index into `Cells` of each row."""
    field = Cells._fields.index
    predicted, actual = (flags & PREDICTED) > 0, (flags & ACTUAL) > 0
    acted, labelled = (flags & ACTED) > 0, (flags & LABELLED) > 0
    right = np.where(predicted, field("tp"), field("tn"))
    wrong = np.where(predicted, field("fp"), field("fn"))
    known = np.where(predicted == actual, right, wrong)
    acted_missing = np.where(predicted, field("missing_acted_yes"), field("missing_acted_no"))
    idle_missing = np.where(predicted, field("missing_idle_yes"), field("missing_idle_no"))
    kinds = np.where(labelled, known, np.where(acted, acted_missing, idle_missing))
    failed = np.where(labelled & actual, field("error_positive"), field("error_other"))
    return np.where((flags & ERROR) > 0, failed, kinds).astype(np.int64)


def _latency_columns(rows: Rows, flags: Ints) -> tuple[Ints, Ints]:
    """Whether each row had a latency, and it in units; 0 without."""
    timed = (flags & TIMED) // TIMED
    return timed, rows["latency"].astype(np.int64) * timed


def _facts(rows: Rows, flags: Ints) -> list[Ints]:
    """Columns whose sums are predictions, errors, acted and the moments."""
    timed, latency = _latency_columns(rows, flags)
    one = np.ones_like(flags)
    return [one, (flags & ERROR) // ERROR, (flags & ACTED) // ACTED, timed, latency, latency**2]


def fold_arrivals(rows: Rows, latencies_ms: Floats, scores: Floats) -> Ledgers:
    """Label-free facts of predictions by fine pane of their arrival.

    `latencies_ms` and `scores` are NaN where the prediction had none; all arguments have shape (n,).
    """
    if not len(rows):
        return {}
    groups = _Groups(rows["slot"], rows["arrival"], FINE_WIDTH)
    sums = groups.sums(*_facts(rows, flags_of(rows)))
    ledgers = {}
    parts = zip(groups.slices, sums, groups.parts(latencies_ms), groups.parts(scores), strict=True)
    for where, numbers, latency, score in parts:
        predictions, errors, acted, *moments = numbers
        ledgers[where] = Ledger(
            predictions,
            errors,
            acted,
            moments=Moments(*moments),
            latency=Histogram.of(bucket_of(_known(latency))),
            scores=_score_bins(_known(score)),
        )
    return ledgers


def _known(column: npt.NDArray[np.generic]) -> Floats:
    floats = column.astype(np.float64)
    return floats[~np.isnan(floats)]


def _score_bins(scores: Floats) -> Ints:
    if not scores.size:
        return np.zeros(0, dtype=np.int64)
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    return np.bincount(bins, minlength=SCORE_BINS).astype(np.int64)


def fold_labels(rows: Rows, seen_at: Ints) -> Ledgers:
    """Provisional labels by fine pane of the moment at which prediction and outcome were both there."""
    if not len(rows):
        return {}
    groups = _Groups(rows["slot"], seen_at, FINE_WIDTH)
    cells = groups.cells(rows, flags_of(rows))
    return {where: Ledger(cells=made) for where, made in zip(groups.slices, cells, strict=True)}


def fold_mature(rows: Rows, widths: Mapping[int, int]) -> Ledgers:
    """Final facts of predictions by cohort of their arrival; `widths` gives each slot its cohort's.

    Rows of slots that are not in `widths` (their experiment is no longer configured) are dropped.
    """
    wanted = np.isin(rows["slot"], list(widths))
    rows = rows if wanted.all() else rows[wanted]
    if not len(rows):
        return {}
    slots, inverse = np.unique(rows["slot"], return_inverse=True)
    width = np.array([widths[int(slot)] for slot in slots], dtype=np.int64)[inverse]
    groups, flags = _Groups(rows["slot"], rows["arrival"], width), flags_of(rows)
    sums, cells = groups.sums(*_facts(rows, flags)), groups.cells(rows, flags)
    return {
        where: Ledger(predictions, errors, acted, made, Moments(*moments))
        for where, (predictions, errors, acted, *moments), made in zip(
            groups.slices, sums, cells, strict=True
        )
    }
