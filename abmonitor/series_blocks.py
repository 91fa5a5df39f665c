"""Blocks: the mature cohorts of an experiment in runs, few enough to be kept and to be drawn. Pure.

A block never lies across a change of the split, the beginning of an epoch or a decision, and blocks stay as they
are while cohorts are added: only what has changed is added up again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abmonitor.series_memory import Ledgers, Remembered
from abmonitor.view import ExperimentView
from alerts.book import Book
from alerts.cohorts import strata_of
from alerts.standing import Standing
from metrics.evidence import LEFT_OUT
from metrics.experiment import Labels
from metrics.facts import COLUMNS, Facts, facts_of
from metrics.history import Grid, Sums
from metrics.ledger import total
from metrics.snapshot import Panes
from metrics.units import NO_BUCKETS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DECISIONS = 60
"""The newest so many begin a block."""


def begun(book: Book, treatment: str) -> int:
    """When the treatment's epoch began (epoch ms, arrival time); 0 for its first one."""
    return book.standings.get(treatment, Standing()).begun


def starts_of(panes: Iterable[int]) -> Ints:
    """When panes begin, ascending."""
    return np.array(sorted(panes), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Runs of cohorts; arrays have shape (blocks,)."""

    starts: Ints
    """When the first cohort of each block began (epoch ms)."""
    lasts: Ints
    """When the last one did."""
    strata: Mapping[str, Ints]
    """By treatment, the stretch with one split; `LEFT_OUT` between two of them, and before its epoch."""
    begun: Mapping[str, int]
    """By treatment, when its epoch began."""

    def until(self, moment: int, width: int) -> int | None:
        """The last block whose cohorts, each `width` ms long, were over at `moment`; None before the first."""
        found = int(np.searchsorted(self.lasts + width, moment, side="right"))
        return found - 1 if found else None

    def together(self, treatment: str, kept: Ints) -> tuple[Grid, npt.NDArray[np.bool_]]:
        """Where each block counts in a comparison at the ends of blocks `kept`, and which ones do."""
        strata = self.strata[treatment]
        inside = strata != LEFT_OUT
        numbers, stratum = np.unique(strata[inside], return_inverse=True)
        points = np.searchsorted(kept, np.flatnonzero(inside))
        grid = Grid(points, stratum.astype(np.int64), kept.size, max(1, numbers.size))
        return grid, inside

    def alone(self, since: int, kept: Ints) -> tuple[Grid, npt.NDArray[np.bool_]]:
        """The same for a variant by itself, from `since` on."""
        inside = self.starts >= since
        points = np.searchsorted(kept, np.flatnonzero(inside))
        return Grid(points, np.zeros_like(points), kept.size), inside


def blocks_of(
    view: ExperimentView, treatments: Sequence[str], most: int, until: int | None = None
) -> Blocks:
    """The cohorts of `treatments` and the control since the oldest of their epochs began, until `until`.

    About `most` blocks at most, and at least half as many where there are as many cohorts.
    """
    declared, book = view.experiment, view.book
    width = int(declared.labels.cohort)
    since = {treatment: begun(book, treatment) for treatment in treatments}
    names = (*treatments, declared.control)
    starts = starts_of({start for name in names for start in view.snapshot.variants[name].cohorts})
    starts = starts[starts >= min(since.values(), default=0)]
    if until is not None:
        starts = starts[starts + width <= until]
    strata = {
        name: np.where(
            starts < first, LEFT_OUT, strata_of(book, name, declared, starts.tolist(), width)
        )
        for name, first in since.items()
    }
    # The first cohort that was not over yet begins a block.
    decided = [each.at - width + 1 for each in view.decisions[-DECISIONS:]]
    firsts = _firsts(starts, most, [*decided, *since.values()], strata)
    lasts = np.append(firsts[1:], starts.size)[: firsts.size] - 1
    by_block = {name: found[firsts] for name, found in strata.items()}
    return Blocks(starts[firsts], starts[lasts], by_block, since)


def _firsts(starts: Ints, most: int, begins: Sequence[int], strata: Mapping[str, Ints]) -> Ints:
    """Which cohorts begin a block: the first from each of `begins` on (epoch ms), and of each stratum."""
    border = np.zeros(starts.size + 2, dtype=np.bool_)
    border[: starts.size : _step(starts.size, most)] = True
    border[1] = True  # so that lines begin where the experiment does
    border[np.searchsorted(starts, np.array(begins, dtype=np.int64))] = True
    for found in strata.values():
        border[1 : starts.size] |= np.diff(found) != 0
    return np.flatnonzero(border[: starts.size])


def _step(count: int, most: int) -> int:
    """Cohorts a block: a power of 2, so that blocks stay the same until twice as many have come."""
    return 1 << max(0, (-(-count // most) - 1).bit_length())


@dataclass(frozen=True, slots=True)
class Rows:
    """What one variant's cohorts add up to in each block."""

    facts: Facts
    """Shape (blocks, columns)."""
    buckets: Sequence[Ints]
    """Sums by unit of each block; empty ones without units."""

    def sums(self, where: tuple[Grid, npt.NDArray[np.bool_]]) -> Sums:
        """Everything up to each point (see `Blocks`)."""
        grid, inside = where
        buckets = [self.buckets[at] for at in np.flatnonzero(inside).tolist()]
        return grid.sums(Facts(self.facts.sums[inside]), buckets)


class Adding:
    """Adds the cohorts of variants up by block; remembers the blocks that stay as they are."""

    def __init__(self, labels: Labels, *, units: bool) -> None:
        """`units`: whether sums by unit are wanted, without which there are no variances."""
        self._labels, self._units = labels, units
        self._remembered = Remembered[tuple[str, int], tuple[Floats, Ints]](self._made)

    def of(self, cohorts: Mapping[str, Panes], blocks: Blocks) -> dict[str, Rows]:
        """By variant the facts of its cohorts in each of `blocks`."""
        runs = {
            (name, start): run
            for name, panes in cohorts.items()
            for start, run in zip(blocks.starts.tolist(), _runs(panes, blocks), strict=True)
        }
        found, count = self._remembered.of(runs), blocks.starts.size
        parts = {name: found[at * count :][:count] for at, name in enumerate(cohorts)}
        nothing = np.zeros((0, len(COLUMNS)))
        return {
            name: Rows(Facts(np.array([row for row, _ in part] or nothing)), [b for _, b in part])
            for name, part in parts.items()
        }

    def _made(self, runs: Sequence[Ledgers]) -> Iterable[tuple[Floats, Ints]]:
        whole = [total(run) for run in runs]
        buckets = [each.buckets if self._units else NO_BUCKETS for each in whole]
        return zip(facts_of(whole, self._labels).sums, buckets, strict=True)


def _runs(panes: Panes, blocks: Blocks) -> list[Ledgers]:
    """The cohorts in each block, in order of time."""
    starts = starts_of(panes)
    ledgers = [panes[start] for start in starts.tolist()]
    firsts = np.searchsorted(starts, blocks.starts).tolist()
    ends = np.searchsorted(starts, blocks.lasts, side="right").tolist()
    return [ledgers[first:end] for first, end in zip(firsts, ends, strict=True)]
