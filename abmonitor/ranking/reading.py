"""Opens a file of labels and scores of many models (touches files), and hands it out in chunks of bounded size.

A chunk holds about 64 MB of scores however large the file is; text is parsed in threads, a few blocks ahead.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from abmonitor.ranking.cells import ContentsError, FileError, Part, Source
from abmonitor.ranking.checks import (
    Checked,
    Plan,
    Repeated,
    Rows,
    Scores,
    UnlabelledError,
    usable,
)
from abmonitor.ranking.formats import opened_source
from abmonitor.ranking.roles import Roles, plan_for
from metrics.candidates import BoolArray, FloatArray


__all__ = ["Candidates", "Chunk", "ContentsError", "FileError", "Roles", "open_candidates"]

CHUNK_BYTES = 1 << 26
"""About how large the scores of a chunk are."""
CHUNK_ROWS = 1 << 16
"""Rows of a chunk at most, however few models there are."""
_REASONS = 5
"""Models of which a message says what is wrong."""
WORKERS = 4
"""Threads that parse, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive usable rows: n labels and the scores (n, M) of M models, always from 0 to 1.

    A cell that cannot be used is 0 here, and when the pass has ended its model is among `Candidates.faults`.
    """

    first_row: int
    """How many usable rows came before."""
    labels: BoolArray
    scores: Scores
    values: FloatArray | None
    """What a correct action on each row brings (n,), where the file says it."""
    costs: FloatArray | None
    """What an action on each row costs (n,), where the file says it."""
    done: float
    """Share of the file that was read, 0 to 1."""


class Candidates:
    """A file of candidate models. What is said of its contents is known when all models were read to the end."""

    def __init__(self, path: Path, source: Source, plan: Plan) -> None:
        self.models: tuple[str, ...] = tuple(plan.columns[place] for place in plan.scores)
        """In the order of the file."""
        self.left_out: tuple[str, ...] = plan.left_out
        """Columns without a name, or named by pandas for its index, which are no models unless asked for."""
        self.faults: dict[str, str] = {}
        """Models that cannot be ranked, and why."""
        self.constant: tuple[str, ...] = ()
        """Models with the same score in all rows; they can be ranked."""
        self.rows = 0
        """Usable rows."""
        self.dropped = 0
        """Rows left out because they have no label."""
        self._path = path
        self._source = source
        self._plan = plan
        self._stamp = _stamp(path)
        self._seen: set[int] = set()
        self._ids_seen = False

    def groups(self) -> tuple[range, ...]:
        """Which models to read in one pass each, so that memory is bounded: all, but of wide and long Parquet.

        A column of Parquet needs up to 2 MB while its row group is read, so that thousands need gigabytes. Passes over
        some columns cost no more than one over all.
        """
        size = max(1, self._source.at_once(len(self.models)))
        return tuple(
            range(start, min(start + size, len(self.models)))
            for start in range(0, len(self.models), size)
        )

    def chunks(self, models: Sequence[int] | None = None) -> Iterator[Chunk]:
        """Read the file once: the scores of all models, or of those at the places `models` only.

        Raises FileError, most often ContentsError; for ids that come twice at the end of the first pass, for a file
        without a model that can be ranked at the end of the pass that has seen the last one.
        """
        places = range(len(self.models)) if models is None else models
        plan = replace(self._plan, scores=tuple(self._plan.scores[place] for place in places))
        if self._ids_seen:
            plan = replace(plan, id=None)
        checked = Checked(plan)
        most = CHUNK_BYTES // (4 * max(len(plan.scores), 1))
        gathered = _Gathered(plan, max(1, min(most, CHUNK_ROWS)))
        dropped = 0
        for read in self._reads(plan):
            dropped += read.dropped
            if read.rows is not None:
                checked.add(read.rows)
                yield from gathered.full(read.rows)
        yield from gathered.rest()
        self.rows, self.dropped = checked.rows, dropped
        self._judge(plan, checked)
        self._seen.update(places)
        if len(self.faults) == len(self.models) == len(self._seen):
            raise self._nothing_left()

    def _judge(self, plan: Plan, checked: Checked) -> None:
        """Keep what a pass has found, and refuse rows that cannot be used at all."""
        if not self.rows:
            none = (
                f"none of its {self.dropped:,} rows has a label"
                if self.dropped
                else "it has no rows"
            )
            raise ContentsError(f"{plan.file}: {none}; expected rows with a label and scores")
        suspects = checked.suspects()
        if suspects:
            repeated = Repeated(plan, suspects)
            for read in self._reads(replace(plan, scores=(), value=None, cost=None)):
                if read.rows is not None:
                    repeated.add(read.rows)
        self._ids_seen = True
        self.faults |= checked.reasons()
        same = {*self.constant, *checked.constant()}
        self.constant = tuple(model for model in self.models if model in same)

    def _nothing_left(self) -> ContentsError:
        """Say that no model can be ranked, and of some of them why."""
        some = list(self.faults.items())[:_REASONS]
        reasons = "".join(f"\n  {model!r}: {why}" for model, why in some)
        more = len(self.faults) - len(some)
        return ContentsError(
            f"{self._plan.file}: no model can be ranked:{reasons}"
            + (f"\n  and {more:,} more" if more else "")
        )

    def _reads(self, plan: Plan) -> Iterator["_Read"]:
        """Read all parts of the file in order, some of them ahead in threads."""
        if _stamp(self._path) != self._stamp:
            raise ContentsError(f"{plan.file}: has changed since it was opened; rank it again")
        try:
            yield from _ahead(plan, self._source)
        except UnlabelledError as error:
            raise self._unlabelled(error.line) from None
        except OSError as error:
            raise ContentsError(f"{plan.file}: cannot be read: {error.strerror or error}") from None

    def _unlabelled(self, line: int) -> ContentsError:
        labels = replace(
            self._plan, id=None, value=None, cost=None, scores=(), drop_unlabelled=True
        )
        total = dropped = 0
        for read in self._reads(labels):
            total += read.total
            dropped += read.dropped
        return self._plan.wrong(
            self._plan.label,
            line,
            f"no label; {dropped:,} of {total:,} rows have none: label them, or leave them out"
            " with --drop-unlabelled",
        )


def open_candidates(
    path: Path, roles: Roles, *, drop_unlabelled: bool = False, separator: str | None = None
) -> Candidates:
    """Open CSV, JSON lines (both packed by gzip too) or Parquet, told apart by what is in the file.

    `separator` is that of CSV, None to see it from the first lines. Raises FileError for what cannot be opened and
    for columns that are not there, ContentsError for what is broken.
    """
    try:
        source = opened_source(path, separator)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    return Candidates(path, source, plan_for(path, source, roles, drop_unlabelled=drop_unlabelled))


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A part that was read: `total` rows, and what can be used of them."""

    total: int
    rows: Rows | None

    @property
    def dropped(self) -> int:
        return self.total - (0 if self.rows is None else len(self.rows.labels))


def _ahead(plan: Plan, source: Source) -> Iterator[_Read]:
    workers = min(pa.cpu_count(), WORKERS)
    waiting: deque[Future[_Read]] = deque()
    tasks = source.tasks(plan.exact, frozenset(plan.scores))
    with ThreadPoolExecutor(workers, "reading") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(_read, plan, task))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
            tasks.close()


def _read(plan: Plan, task: Callable[[], Part]) -> _Read:
    part = task()
    label = part.columns.get(plan.label)
    return _Read(0 if label is None else len(label), usable(plan, part))


class _Gathered:
    """Usable rows on their way into chunks of `most` rows, each copied once."""

    def __init__(self, plan: Plan, most: int) -> None:
        self._most = most
        self._kinds = (
            (np.bool_, (most,)),
            (np.float32, (most, len(plan.scores))),
            None if plan.value is None else (np.float64, (most,)),
            None if plan.cost is None else (np.float64, (most,)),
        )
        self._before = self._rows = 0
        self._room: list[Any] = []

    def full(self, rows: Rows) -> Iterator[Chunk]:
        """Take rows, and give the chunks that have become full."""
        start, end = 0, len(rows.labels)
        while start < end:
            self._room = self._room or [kind and np.empty(kind[1], kind[0]) for kind in self._kinds]
            stop = min(end, start + self._most - self._rows)
            here = slice(self._rows, self._rows + stop - start)
            for room, column in zip(self._room, rows.columns, strict=True):
                if column is not None:
                    room[here] = column[start:stop]
            self._rows, start = here.stop, stop
            if self._rows == self._most:
                yield self._taken(rows.part.done)

    def rest(self) -> Iterator[Chunk]:
        """Give what is left, if anything is."""
        if self._rows:
            yield self._taken(1.0)

    def _taken(self, done: float) -> Chunk:
        columns: list[Any] = [
            None if column is None else column[: self._rows] for column in self._room
        ]
        labels, scores, values, costs = columns
        before, self._before = self._before, self._before + self._rows
        self._rows, self._room = 0, []
        return Chunk(before, labels, scores, values, costs, done)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
