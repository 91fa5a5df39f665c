"""Facts: the sums that statistics need, of many ledgers at once, as columns of an array. Pure.

A row is what a variant's predictions in one slice of time add up to; rows are added like ledgers. Arrays
have shape (..., columns), so that every function works on one row, on all cohorts, or on many experiments.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cell, Cells, Confusion
from metrics.experiment import Labels
from metrics.ledger import Ledger
from metrics.ratios import CELLS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FACTS = Cell._fields
_REST = ("timed", "latency", "latency_squared", "predictions", "money", "money_squared", "capped")
COLUMNS = tuple(f"{cell}.{fact}" for fact in _FACTS for cell in CELLS) + _REST
"""Five facts of each resolved confusion cell (see `Cell`), the moments of latency, predictions, money."""

_AT = {name: at for at, name in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class Facts:
    """Sums over predictions of one variant, shape (..., columns); see `COLUMNS`."""

    sums: Floats

    def cells(self, fact: str) -> Floats:
        """One fact of every confusion cell, shape (..., cells); see `metrics.ratios.CELLS`."""
        start = _FACTS.index(fact) * len(CELLS)
        return self.sums[..., start : start + len(CELLS)]

    def column(self, name: str) -> Floats:
        """One of the columns that are not of a cell, shape (...)."""
        return self.sums[..., _AT[name]]

    @property
    def predictions(self) -> Floats:
        """How many predictions there were, shape (...)."""
        return self.column("predictions")

    def plus(self, other: "Facts") -> "Facts":
        """The facts of both."""
        return Facts(self.sums + other.sums)

    def since(self, starts: Ints) -> "Facts":
        """Sums from each start to the end, shape (..., starts, columns), of rows in order of time.

        `starts` are indices of rows, ascending. Added up from the end, so that nothing is lost to
        rounding where little follows after much.
        """
        parts = np.add.reduceat(self.sums, starts, axis=-2)
        return Facts(np.flip(np.cumsum(np.flip(parts, axis=-2), axis=-2), axis=-2))

    def where(self, rows: npt.NDArray[np.bool_]) -> "Facts":
        """The facts of some rows, 0 for the others."""
        return Facts(np.where(rows[..., None], self.sums, 0.0))


def facts_of(ledgers: Iterable[Ledger], labels: Labels) -> Facts:
    """The facts of mature ledgers, shape (ledgers, columns), under the experiment's label policy."""
    rows = [_row(ledger) for ledger in ledgers]
    raw = np.array(rows, dtype=np.float64).reshape(len(rows), _RAW_COLUMNS)
    cells = raw[:, : -len(_REST)].reshape(len(rows), len(Cells._fields), len(_FACTS))
    resolved = np.einsum("jcf,cr->jfr", cells, routing(labels))
    resolved = resolved.reshape(len(rows), len(CELLS) * len(_FACTS))
    return Facts(np.concatenate([resolved, raw[:, -len(_REST) :]], axis=1))


_RAW_COLUMNS = len(Cells._fields) * len(_FACTS) + len(_REST)


def _row(ledger: Ledger) -> list[int]:
    money = tuple(getattr(ledger, name, 0) for name in ("money", "money_squared", "capped"))
    return [*chain.from_iterable(ledger.cells), *ledger.moments, ledger.predictions, *money]


def routing(labels: Labels) -> Floats:
    """Which resolved cell each raw cell goes to under `labels`: 0 or 1, shape (raw, resolved)."""
    routes = np.zeros((len(Cells._fields), len(CELLS)))
    for at, name in enumerate(Cells._fields):
        resolved = Confusion.of(Cells(**{name: Cell(n=1)}), labels)
        routes[at] = [getattr(resolved, cell).n for cell in CELLS]
    return routes


class Rows:
    """Turns ledgers into facts, and remembers what each was turned into: cohorts never change again."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._known: dict[tuple[str, int], tuple[Ledger, Floats]] = {}

    def of(self, variant: str, cohorts: Mapping[int, Ledger], starts: Iterable[int]) -> Facts:
        """The facts of the cohorts that begin at `starts`, one row each; of nothing where one is missing."""
        wanted = [(start, cohorts.get(start, _NOTHING)) for start in starts]
        fresh = [
            (start, ledger)
            for start, ledger in wanted
            if self._known.get((variant, start), (None,))[0] is not ledger
        ]
        for (start, ledger), row in zip(
            fresh, facts_of((each for _, each in fresh), self._labels).sums, strict=True
        ):
            self._known[variant, start] = ledger, row
        rows = [self._known[variant, start][1] for start, _ in wanted]
        return Facts(np.array(rows).reshape(len(rows), len(COLUMNS)))


_NOTHING = Ledger()
