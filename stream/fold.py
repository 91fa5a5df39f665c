"""Folding: rows of facts in, ledgers by variant and slice of time out. Pure and exact.

Sums are taken in 64-bit integers per batch and only then added to the unbounded integers of a ledger:
with at most `MAX_ROWS` rows a sum of squared latencies stays below 2^63, and so does one of squared cents,
which are capped at `MONEY_CAP` = `LATENCY_CAP`.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, bucket_of
from metrics.layout import FINE_WIDTH
from metrics.ledger import SCORE_BINS, Ledger
from metrics.moments import LATENCY_CAP, Moments
from metrics.units import COLUMNS, NO_BUCKETS, UNIT_BUCKETS
from stream.rows import (
    ACTED,
    ACTUAL,
    ERROR,
    LABELLED,
    PREDICTED,
    TIMED,
    Rows,
    buckets_in,
    cents_in,
    flags_of,
)


MONEY_CAP = LATENCY_CAP
"""Cents: the highest cap that an experiment may declare."""

MAX_ROWS = (1 << 63) // LATENCY_CAP**2 // 2
"""Most rows a single fold may take (46,116)."""

NO_CAPS: Mapping[int, int] = MappingProxyType({})

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


class Sightings(NamedTuple):
    """What each prediction says of units beside those known before: 0 or 1, each of shape (n,)."""

    failing: Ints
    units: Ints
    crossed: Ints
    unitless: Ints


def fold_arrivals(
    rows: Rows, latencies_ms: Floats, scores: Floats, sightings: Sightings | None = None
) -> Ledgers:
    """Label-free facts of predictions by fine pane of their arrival.

    `latencies_ms` and `scores` are NaN where the prediction had none; all arguments have shape (n,).
    Without `sightings` no prediction is of an experiment that is randomised by unit.
    """
    if not len(rows):
        return {}
    groups = _Groups(rows["slot"], rows["arrival"], FINE_WIDTH)
    sums = groups.sums(*_facts(rows, flags_of(rows)), *(sightings or ()))
    ledgers = {}
    parts = zip(groups.slices, sums, groups.parts(latencies_ms), groups.parts(scores), strict=True)
    for where, numbers, latency, score in parts:
        predictions, errors, acted, *others = numbers
        moments, (failing, units, crossed, unitless) = others[:3], others[3:] or (errors, 0, 0, 0)
        ledgers[where] = Ledger(
            predictions,
            errors,
            acted,
            moments=Moments(*moments),
            latency=Histogram.of(bucket_of(_known(latency))),
            scores=_score_bins(_known(score)),
            failing=failing,
            units=units,
            crossed=crossed,
            unitless=unitless,
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


def fold_mature(
    rows: Rows,
    widths: Mapping[int, int],
    by_unit: AbstractSet[int] = frozenset(),
    caps: Mapping[int, int] = NO_CAPS,
) -> Ledgers:
    """Final facts of predictions by cohort of their arrival; `widths` gives each slot its cohort's.

    Rows of slots that are not in `widths` (their experiment is no longer configured) are dropped. Slots in
    `by_unit` get sums by unit, those in `caps` money, of which a prediction counts so many cents at most.
    """
    wanted = np.isin(rows["slot"], list(widths))
    rows = rows if wanted.all() else rows[wanted]
    if not len(rows):
        return {}
    slots, inverse = np.unique(rows["slot"], return_inverse=True)
    width = np.array([widths[int(slot)] for slot in slots], dtype=np.int64)[inverse]
    groups, flags = _Groups(rows["slot"], rows["arrival"], width), flags_of(rows)
    cap = np.array([caps.get(int(slot), 0) for slot in slots], dtype=np.int64)[inverse]
    earned, *money = _money(rows, cap)
    sums, cells = groups.sums(*_facts(rows, flags), *money), groups.cells(rows, flags)
    buckets = _unit_sums(groups, rows, earned, by_unit)
    ledgers = {}
    for where, numbers, made, by_bucket in zip(groups.slices, sums, cells, buckets, strict=True):
        predictions, errors, acted, *others = numbers
        gained, squared, capped = others[3:] or (0, 0, 0)
        ledgers[where] = Ledger(
            predictions,
            errors,
            acted,
            made,
            Moments(*others[:3]),
            money=gained,
            money_squared=squared,
            capped=capped,
            buckets=by_bucket,
        )
    return ledgers


def _money(rows: Rows, cap: Ints) -> list[Ints]:
    """What each row earned, and the columns to sum: it, its square, and whether it was capped.

    No columns where nothing has money; `cap` is then 0.
    """
    if not cap.any():
        return [cap]
    cents = cents_in(rows)
    earned = np.clip(cents, -cap, cap)
    return [earned, earned, earned**2, ((cents != earned) & (cap > 0)).astype(np.int64)]


def _unit_sums(groups: _Groups, rows: Rows, earned: Ints, by_unit: AbstractSet[int]) -> list[Ints]:
    """For each group its buckets, which only slots in `by_unit` have."""
    if not any(where.slot in by_unit for where in groups.slices):
        return [NO_BUCKETS] * len(groups.slices)
    return [
        _by_bucket(part, gained) if where.slot in by_unit else NO_BUCKETS
        for where, part, gained in zip(
            groups.slices, groups.parts(rows), groups.parts(earned), strict=True
        )
    ]


def _by_bucket(rows: Rows, earned: Ints) -> Ints:
    """The rows of one group by bucket of their unit, shape (UNIT_BUCKETS, len(COLUMNS))."""
    flags, places = flags_of(rows), buckets_in(rows)
    errors, (timed, latency) = (flags & ERROR) // ERROR, _latency_columns(rows, flags)
    sums = np.zeros((UNIT_BUCKETS, len(COLUMNS)), dtype=np.int64)
    np.add.at(sums, (places, _cell_kinds(flags)), rows["weight"].astype(np.int64))
    others = np.stack([np.ones_like(flags), errors, timed, latency, earned], axis=1)
    np.add.at(sums[:, len(Cells._fields) :], places, others)
    return sums
