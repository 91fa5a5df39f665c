"""The ledger: an additive record of neutral facts about one variant over one slice of time.

Panes, mature panes and totals are all ledgers. Nothing in a ledger depends on an assumption, so that
changing one never needs a replay. Everything is a whole number and cannot overflow: the scalars are
128-bit when packed, the bucket counts 64-bit.
"""

import struct
from collections.abc import Iterable
from itertools import chain

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, summed
from metrics.moments import Moments


VERSION = 1
SCORE_BINS = 20

_CELL_SIZE = len(Cell._fields)
_CELL_COUNT = _CELL_SIZE * len(Cells._fields)
_CELLS_END = 3 + _CELL_COUNT
_SCALAR_COUNT = _CELLS_END + len(Moments._fields)
_SCALARS = struct.Struct(f"<BB{2 * _SCALAR_COUNT}Q")
_LABELLED = [
    3 + _CELL_SIZE * Cells._fields.index(name)
    for name in ("tp", "fp", "tn", "fn", "error_positive", "error_other")
]
"""Where the counts of the cells that have a label stand among the scalars."""

_LOW = (1 << 64) - 1


class LedgerFormatError(ValueError):
    """A packed ledger that this version cannot read."""


Ints = npt.NDArray[np.int64]

_NO_SCORES: Ints = np.zeros(0, dtype=np.int64)


class Ledger:
    """Facts about predictions of one variant. Immutable.

    `scores` counts predictions by score in `SCORE_BINS` equal bins of [0, 1]; it is empty where no
    prediction had a score. The scalars are kept as one flat tuple, so that adding thousands of panes
    up stays cheap; cells and moments are made from it when asked for.
    """

    __slots__ = ("_scalars", "latency", "scores")

    latency: Histogram
    scores: Ints

    def __init__(
        self,
        predictions: int = 0,
        errors: int = 0,
        acted: int = 0,
        cells: Cells = Cells(),  # immutable
        moments: Moments = Moments(),  # immutable
        latency: Histogram = Histogram(),  # immutable
        scores: Ints = _NO_SCORES,
    ) -> None:
        self._scalars = (predictions, errors, acted, *chain.from_iterable(cells), *moments)
        self.latency, self.scores = latency, scores

    @classmethod
    def _of(cls, scalars: tuple[int, ...], latency: Histogram, scores: Ints) -> "Ledger":
        made = cls.__new__(cls)
        made._scalars, made.latency, made.scores = scalars, latency, scores  # noqa: SLF001  # its own
        return made

    @property
    def predictions(self) -> int:
        """How many predictions there were."""
        return self._scalars[0]

    @property
    def errors(self) -> int:
        """How many of them failed."""
        return self._scalars[1]

    @property
    def acted(self) -> int:
        """How many of them were acted on."""
        return self._scalars[2]

    @property
    def cells(self) -> Cells:
        """Where the predictions ended."""
        numbers = self._scalars[3:_CELLS_END]
        return Cells(*map(Cell._make, zip(*[iter(numbers)] * _CELL_SIZE, strict=True)))

    @property
    def moments(self) -> Moments:
        """Sums of latency."""
        return Moments._make(self._scalars[_CELLS_END:])

    def plus(self, other: "Ledger") -> "Ledger":
        """The facts of both."""
        return total((self, other))

    @property
    def labelled(self) -> int:
        """Predictions whose outcome was seen and in time (of panes and totals)."""
        return sum(self._scalars[at] for at in _LABELLED)

    @property
    def selection_rate(self) -> float | None:
        """Acted predictions per prediction."""
        return self.acted / self.predictions if self.predictions else None

    @property
    def error_rate(self) -> float | None:
        """Failed requests per prediction."""
        return self.errors / self.predictions if self.predictions else None

    def pack(self) -> bytes:
        """Version, number of score bins, scalars as 128-bit, score bins, latency histogram."""
        words = (word for number in self._scalars for word in (number & _LOW, number >> 64))
        head = _SCALARS.pack(VERSION, self.scores.size, *words)
        return head + self.scores.astype("<i8").tobytes() + self.latency.pack()

    @classmethod
    def unpack(cls, packed: bytes) -> "Ledger":
        """Read what `pack` wrote; raises LedgerFormatError on anything else."""
        if len(packed) < _SCALARS.size or packed[0] != VERSION:
            found = packed[0] if packed else "nothing"
            raise LedgerFormatError(f"a ledger of version {VERSION} was expected, found {found}")
        _, bins, *words = _SCALARS.unpack_from(packed)
        scalars = tuple(low | high << 64 for low, high in zip(words[::2], words[1::2], strict=True))
        try:
            scores = np.frombuffer(packed, dtype="<i8", count=bins, offset=_SCALARS.size)
            latency = Histogram.unpack(packed, _SCALARS.size + 8 * bins)
        except (ValueError, struct.error) as error:
            raise LedgerFormatError(f"a ledger of {len(packed)} bytes was cut: {error}") from error
        return cls._of(scalars, latency, scores.astype(np.int64))

    def __eq__(self, other: object) -> bool:
        return self.pack() == other.pack() if isinstance(other, Ledger) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # holds arrays


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """All ledgers together; the empty ledger for none."""
    parts = list(ledgers)
    if len(parts) < 2:
        return parts[0] if parts else Ledger()
    scalars = tuple(map(sum, zip(*(part._scalars for part in parts), strict=True)))  # noqa: SLF001
    scored = [part.scores for part in parts if part.scores.size]
    scores = np.stack(scored).sum(axis=0, dtype=np.int64) if scored else _NO_SCORES
    return Ledger._of(scalars, summed(part.latency for part in parts), scores)  # noqa: SLF001
