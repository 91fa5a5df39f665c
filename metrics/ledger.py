"""The ledger: an additive record of neutral facts about one variant over one slice of time.

Panes, mature panes and totals are all ledgers. Nothing in a ledger depends on an assumption, so that
changing one never needs a replay. Everything is a whole number and cannot overflow: the scalars are
128-bit when packed, the bucket counts 64-bit.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cell, Cells
from metrics.latency import Histogram, summed
from metrics.moments import Moments
from metrics.units import NO_BUCKETS, pack_buckets, sum_of, unpack_buckets


VERSION = 2
SCORE_BINS = 20

_CELL_SIZE = len(Cell._fields)
_CELL_COUNT = _CELL_SIZE * len(Cells._fields)
_CELLS_END = 3 + _CELL_COUNT
_MOMENTS_END = _CELLS_END + len(Moments._fields)
_FAILING, _UNITS, _CROSSED, _UNITLESS, _MONEY, _SQUARED, _CAPPED = range(
    _MOMENTS_END, _MOMENTS_END + 7
)
_SCALAR_COUNT = _CAPPED + 1
_SCALARS = {
    version: struct.Struct("<BB" + "Qq" * count)
    for version, count in ((1, _MOMENTS_END), (2, _SCALAR_COUNT))
}
"""By version: itself, the number of score bins, and of each scalar the low and the high half. Version 1
knew neither units nor money."""
_SIZE = struct.Struct("<H")
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
    prediction had a score. `buckets` are sums over units, shape (UNIT_BUCKETS, number of
    `metrics.units.COLUMNS`); only mature ledgers of experiments randomised by unit have any. The scalars
    are kept as one flat tuple, so that adding thousands of panes up stays cheap; cells and moments are
    made from it when asked for.
    """

    __slots__ = ("_scalars", "buckets", "latency", "scores")

    latency: Histogram
    scores: Ints
    buckets: Ints

    def __init__(
        self,
        predictions: int = 0,
        errors: int = 0,
        acted: int = 0,
        cells: Cells = Cells(),  # immutable
        moments: Moments = Moments(),  # immutable
        latency: Histogram = Histogram(),  # immutable
        scores: Ints = _NO_SCORES,
        *,
        failing: int = 0,
        units: int = 0,
        crossed: int = 0,
        unitless: int = 0,
        money: int = 0,
        money_squared: int = 0,
        capped: int = 0,
        buckets: Ints = NO_BUCKETS,
    ) -> None:
        counted = (predictions, errors, acted, *chain.from_iterable(cells), *moments)
        by_unit = failing, units, crossed, unitless
        self._scalars = (*counted, *by_unit, money, money_squared, capped)
        self.latency, self.scores, self.buckets = latency, scores, buckets

    @classmethod
    def _of(
        cls, scalars: tuple[int, ...], latency: Histogram, scores: Ints, buckets: Ints
    ) -> "Ledger":
        made = cls.__new__(cls)
        made._scalars, made.latency = scalars, latency  # noqa: SLF001  # its own
        made.scores, made.buckets = scores, buckets
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
        return Moments._make(self._scalars[_CELLS_END:_MOMENTS_END])

    @property
    def failing(self) -> int:
        """Errors, those of one unit in one minute counted once (of panes and totals)."""
        return self._scalars[_FAILING]

    @property
    def units(self) -> int:
        """Units of the sample that were seen for the first time (of panes and totals)."""
        return self._scalars[_UNITS]

    @property
    def crossed(self) -> int:
        """Units of the sample that had been seen in another variant (of panes and totals)."""
        return self._scalars[_CROSSED]

    @property
    def unitless(self) -> int:
        """Predictions without the unit that their experiment is randomised by (of panes and totals)."""
        return self._scalars[_UNITLESS]

    @property
    def money(self) -> int:
        """Cents gained: value less cost, of each prediction at most the cap (of mature ledgers)."""
        return self._scalars[_MONEY]

    @property
    def money_squared(self) -> int:
        """Sum of the squares of what `money` adds up."""
        return self._scalars[_SQUARED]

    @property
    def capped(self) -> int:
        """Predictions whose money was more than the cap, gained or lost."""
        return self._scalars[_CAPPED]

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
        """Version, number of score bins, scalars as 128-bit, score bins, buckets, latency histogram."""
        words = (word for number in self._scalars for word in (number & _LOW, number >> 64))
        head = _SCALARS[VERSION].pack(VERSION, self.scores.size, *words)
        buckets = pack_buckets(self.buckets)
        parts = (self.scores.astype("<i8").tobytes(), _SIZE.pack(len(buckets)), buckets)
        return b"".join((head, *parts, self.latency.pack()))

    @classmethod
    def unpack(cls, packed: bytes) -> "Ledger":
        """Read what `pack` wrote, or version 1 did; raises LedgerFormatError on anything else."""
        version = version_of(packed)
        layout = _SCALARS[version]
        try:
            _, _, *words = layout.unpack_from(packed)
            rest = _rest(packed)
        except (ValueError, struct.error) as error:
            raise LedgerFormatError(f"a ledger of {len(packed)} bytes was cut: {error}") from error
        scalars = [low | high << 64 for low, high in zip(words[::2], words[1::2], strict=True)]
        if version == 1:
            # Without units every error is one by itself.
            scalars += [scalars[1]] + [0] * (_SCALAR_COUNT - _FAILING - 1)
        return cls._of(tuple(scalars), *rest)

    def __eq__(self, other: object) -> bool:
        return self.pack() == other.pack() if isinstance(other, Ledger) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # holds arrays


class Deferred(Ledger):
    """A ledger that is made when something of it is asked for first: most panes are never looked at.

    Its slots are empty until then; Python asks `__getattr__` only for what is not there.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Ledger]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> object:
        """Fill all slots (twice, and alike, where two threads ask at once)."""
        if name not in Ledger.__slots__:
            raise AttributeError(name)
        made = self._make()
        for slot in Ledger.__slots__:
            setattr(self, slot, getattr(made, slot))
        return getattr(made, name)


def version_of(packed: bytes) -> int:
    """The version of a packed ledger; raises LedgerFormatError where it cannot be read."""
    if not packed or packed[0] not in _SCALARS:
        known, found = " or ".join(map(str, _SCALARS)), packed[0] if packed else "nothing"
        raise LedgerFormatError(f"a ledger of version {known} was expected, found {found}")
    return packed[0]


def _rest(packed: bytes) -> tuple[Histogram, Ints, Ints]:
    """Latency, scores and buckets of a packed ledger; raises ValueError or struct.error where it was cut."""
    version, bins = packed[:2]
    at, size = _SCALARS[version].size, 0
    scores = np.frombuffer(packed, "<i8", bins, at).astype(np.int64) if bins else _NO_SCORES
    at += 8 * bins
    if version > 1:
        (size,) = _SIZE.unpack_from(packed, at)
        at += _SIZE.size
    buckets = unpack_buckets(packed[at : at + size])
    return Histogram.unpack(packed, at + size), scores, buckets


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """All ledgers together; the empty ledger for none."""
    parts = list(ledgers)
    if len(parts) < 2:
        return parts[0] if parts else Ledger()
    scalars = tuple(map(sum, zip(*(part._scalars for part in parts), strict=True)))  # noqa: SLF001
    return _with_scalars(scalars, [(part.latency, part.scores, part.buckets) for part in parts])


def _with_scalars(
    scalars: tuple[int, ...], parts: Sequence[tuple[Histogram, Ints, Ints]]
) -> Ledger:
    latencies, scored, buckets = zip(*parts, strict=True)
    some = [scores for scores in scored if scores.size]
    scores = np.stack(some).sum(axis=0, dtype=np.int64) if some else _NO_SCORES
    return Ledger._of(scalars, summed(latencies), scores, sum_of(list(buckets)))  # noqa: SLF001


_SUMMABLE = 1 << 47
"""Numbers below this can be added up 65,536 times in 64 bits."""


def unpacked_total(packed: Sequence[bytes]) -> Ledger:
    """All packed ledgers together, at most 65,536: `total` of each one unpacked, and several times as fast.

    Raises LedgerFormatError as `Ledger.unpack` does.
    """
    scalars = _summed_scalars(packed) if len(packed) > 1 else None
    if scalars is None:
        return total(map(Ledger.unpack, packed))
    try:
        return _with_scalars(scalars, [_rest(part) for part in packed])
    except (ValueError, struct.error):
        return total(map(Ledger.unpack, packed))  # says which one was cut


def _summed_scalars(packed: Sequence[bytes]) -> tuple[int, ...] | None:
    """The sums of all scalars; None where not all are of this version, and small."""
    size = _SCALARS[VERSION].size
    if any(len(part) < size or part[0] != VERSION for part in packed):
        return None
    heads = b"".join([part[2:size] for part in packed])
    words = np.frombuffer(heads, "<i8").reshape(len(packed), _SCALAR_COUNT, 2)
    low, high = words[..., 0], words[..., 1]
    if (high != low >> 63).any() or low.max() >= _SUMMABLE or low.min() <= -_SUMMABLE:
        return None
    return tuple(low.sum(axis=0).tolist())
