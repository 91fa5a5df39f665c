"""What is wrong with the rows of a file of candidates: refused, or gathered for each model (pure)."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from abmonitor.ranking.cells import (
    Column,
    ContentsError,
    Part,
    binary,
    found,
    is_text,
    missing,
    numbers,
)
from metrics.candidates import BoolArray, FloatArray


Scores: TypeAlias = npt.NDArray[np.float32]
_SCORE, _EXACT = pa.float32(), pa.float64()


class UnlabelledError(ContentsError):
    """A row has no label."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which columns of a file, by their places, are read as what."""

    file: str
    unit: str
    decimal: str
    columns: tuple[str, ...]
    label: int
    id: int | None
    value: int | None
    cost: int | None
    scores: tuple[int, ...]
    left_out: tuple[str, ...]
    """Columns that are no models, though they are nothing else."""
    drop_unlabelled: bool

    @property
    def exact(self) -> frozenset[int]:
        """Columns that are read as they stand."""
        places = (self.label, self.id, self.value, self.cost)
        return frozenset(place for place in places if place is not None)

    def wrong(self, place: int, line: int, what: str) -> ContentsError:
        """Say what is wrong in one cell."""
        name = self.columns[place]
        return ContentsError(f"{self.file}: {self.unit} {line}, column {name!r}: {what}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a model cannot be ranked."""

    line: int
    found: str | None
    rows: int

    def __add__(self, later: "Fault") -> "Fault":
        """The same fault with how often it was seen later, too."""
        return Fault(self.line, self.found, self.rows + later.rows)

    def text(self, unit: str) -> str:
        """The reason, for people."""
        what = "no score" if self.found is None else self.found
        expected = "" if self.found is None else ": expected a score from 0 to 1, or true or false"
        all_rows = f" ({self.rows:,} rows cannot be used)" if self.rows > 1 else ""
        return f"{what} in {unit} {self.line}{expected}{all_rows}"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The usable rows of a part, at least one: n labels and the scores of M models, 0 where there is a fault."""

    labels: BoolArray
    scores: Scores
    values: FloatArray | None
    costs: FloatArray | None
    ids: list[Hashable] | None
    part: Part
    kept: npt.NDArray[np.intp]
    """Which rows of the part these are (n,)."""
    lowest: Scores
    highest: Scores
    """Of each model (M,), NaN where there is a fault."""
    faults: dict[int, Fault]
    """By the place among the models."""

    @property
    def columns(self) -> tuple[BoolArray, Scores, FloatArray | None, FloatArray | None]:
        """What becomes of them in a chunk."""
        return self.labels, self.scores, self.values, self.costs

    def line(self, row: int) -> int:
        """Where a row is in the file."""
        return self.part.line(int(self.kept[row]))


def usable(plan: Plan, part: Part) -> Rows | None:
    """Take what can be used of a part; None where it has no rows with a label.

    Raises ContentsError for labels, values, costs and ids that cannot be used; UnlabelledError for a missing one.
    """
    labels, kept = _labels(plan, part)
    if not len(kept):
        return None
    scores = _scores(plan, part)
    scores = scores if len(kept) == len(scores) else scores[kept]
    lowest, highest = scores.min(axis=0), scores.max(axis=0)
    bad = np.flatnonzero(~((lowest >= 0) & (highest <= 1)))
    faults = {}
    for place in bad:
        outside = ~((scores[:, place] >= 0) & (scores[:, place] <= 1))
        row = int(kept[np.argmax(outside)])
        what = found(part.columns[plan.scores[place]], row)
        faults[int(place)] = Fault(part.line(row), what, int(outside.sum()))
    scores[:, bad] = 0
    lowest[bad] = highest[bad] = np.nan
    return Rows(
        labels,
        scores,
        _money(plan, part, plan.value, kept),
        _money(plan, part, plan.cost, kept),
        _ids(plan, part, kept),
        part,
        kept,
        lowest,
        highest,
        faults,
    )


def _labels(plan: Plan, part: Part) -> tuple[BoolArray, npt.NDArray[np.intp]]:
    """Labels of the rows that have one, and which these are."""
    column = part.columns.get(plan.label)
    if column is None:
        return np.zeros(0, np.bool_), np.zeros(0, np.intp)
    label = _floats(numbers(column, _EXACT, plan.decimal))
    strange = (label != 0) & (label != 1)
    if strange.any():
        nothing = missing(column)
        for row in np.flatnonzero(strange & ~nothing)[:1]:
            raise plan.wrong(
                plan.label,
                part.line(int(row)),
                f"expected a label of 0 or 1, or true or false, got {found(column, int(row))};"
                " write the labels that way",
            )
        if not plan.drop_unlabelled:
            raise UnlabelledError(part.line(int(np.argmax(nothing))))
    kept = np.flatnonzero(~strange)
    return label[kept] == 1, kept


def _scores(plan: Plan, part: Part) -> Scores:
    """Scores (n, M), NaN where there is none."""
    columns = [numbers(part.columns[place], _SCORE, plan.decimal) for place in plan.scores]
    if not columns:
        return np.zeros((len(part.columns[plan.label]), 0), np.float32)
    batch = pa.RecordBatch.from_arrays(columns, names=[str(place) for place in plan.scores])
    scores: Scores = batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return scores


def _floats(column: Column) -> FloatArray:
    floats: FloatArray = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return floats


def _money(
    plan: Plan, part: Part, place: int | None, kept: npt.NDArray[np.intp]
) -> FloatArray | None:
    if place is None:
        return None
    money = _floats(numbers(part.columns[place], _EXACT, plan.decimal))[kept]
    lowest = 0.0 if place == plan.cost else -np.inf
    bad = np.flatnonzero(~(np.isfinite(money) & (money >= lowest)))
    if len(bad):
        row = int(kept[bad[0]])
        wanted = "a cost of at least 0" if place == plan.cost else "a value as a number"
        got = found(part.columns[place], row) or "nothing"
        raise plan.wrong(place, part.line(row), f"expected {wanted} in every row, got {got}")
    return money


def _ids(plan: Plan, part: Part, kept: npt.NDArray[np.intp]) -> list[Hashable] | None:
    if plan.id is None:
        return None
    column = part.columns[plan.id].take(pa.array(kept))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    ids: list[Hashable] = (binary(column) if is_text(column.type) else column).to_pylist()
    for row, one in enumerate(ids):
        if one in (None, b"", "") or (isinstance(one, float) and math.isnan(one)):
            raise plan.wrong(
                plan.id,
                part.line(int(kept[row])),
                "no id; give every row one, or rank without a column of ids",
            )
    return ids


class Checked:
    """What was found out over the rows seen so far."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.rows = 0
        self.faults: dict[int, Fault] = {}
        self._lowest = np.full(len(plan.scores), np.inf, np.float32)
        self._highest = np.full(len(plan.scores), -np.inf, np.float32)
        self._hashes: list[npt.NDArray[np.int64]] = []

    def add(self, rows: Rows) -> None:
        """Look at the rows that come next."""
        self.rows += len(rows.labels)
        np.fmin(self._lowest, rows.lowest, out=self._lowest)
        np.fmax(self._highest, rows.highest, out=self._highest)
        for place, fault in rows.faults.items():
            before = self.faults.get(place)
            self.faults[place] = fault if before is None else before + fault
        if rows.ids is not None:
            self._hashes.append(np.fromiter(map(hash, rows.ids), np.int64, len(rows.ids)))

    def reasons(self) -> dict[str, str]:
        """Models that cannot be ranked, and why, in the order of the file."""
        return {
            self._name(place): fault.text(self._plan.unit)
            for place, fault in sorted(self.faults.items())
        }

    def constant(self) -> tuple[str, ...]:
        """Models whose scores are all the same, in the order of the file."""
        same = np.flatnonzero(self._lowest == self._highest)
        return tuple(self._name(int(place)) for place in same if place not in self.faults)

    def suspects(self) -> frozenset[int]:
        """Hashes that several ids have: the same id again, or once in 2^64 pairs another one."""
        hashes = np.sort(np.concatenate([np.zeros(0, np.int64), *self._hashes]))
        return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())

    def _name(self, place: int) -> str:
        return self._plan.columns[self._plan.scores[place]]


class Repeated:
    """Looks among ids whose hashes are suspected for one that comes twice."""

    def __init__(self, plan: Plan, suspects: frozenset[int]) -> None:
        self._plan = plan
        self._suspects = suspects
        self._lines: dict[Hashable, int] = {}

    def add(self, rows: Rows) -> None:
        """Look at the rows that come next; raises ContentsError for an id that was there before."""
        for row, one in enumerate(rows.ids or ()):
            if hash(one) not in self._suspects:
                continue
            line = rows.line(row)
            if one in self._lines:
                shown = one.decode(errors="replace") if isinstance(one, bytes) else one
                raise ContentsError(
                    f"{self._plan.file}: id {shown!r} is in {self._plan.unit} {self._lines[one]} and again in"
                    f" {self._plan.unit} {line}; every row needs an id of its own"
                )
            self._lines[one] = line
