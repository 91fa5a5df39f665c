"""Latency distributions: a mergeable histogram with logarithmic buckets.

Bucket i holds (g^(i-1), g^i] times `FINEST_MS` with g = 1.02, and stands for 2·g^i / (g + 1), which is
within (g - 1)/(g + 1) = 0.99 % of every value in it (Masson, Rim, Lee 2019: DDSketch, VLDB 12(12)).
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


GROWTH = 1.02
FINEST_MS = 0.001
CAP_MS = 1_000_000.0
"""Longer latencies are counted as this long (about 17 minutes)."""

_LOG_GROWTH = math.log(GROWTH)
_HEADER = struct.Struct("<HH")

Counts = npt.NDArray[np.int64]


def bucket_of(latency_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bucket of each latency (ms, shape (n,)); bucket 0 holds everything up to `FINEST_MS`."""
    clipped = np.clip(latency_ms, FINEST_MS, CAP_MS)
    return np.ceil(np.log(clipped / FINEST_MS) / _LOG_GROWTH).astype(np.int64)


def value_of(bucket: int) -> float:
    """The latency in ms that `bucket` stands for."""
    return 0.0 if bucket == 0 else FINEST_MS * 2 * GROWTH**bucket / (GROWTH + 1)


_NONE = np.zeros(1, dtype=np.int64)


def _nothing() -> Counts:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of consecutive buckets from `start` on; empty ends are not kept."""

    start: int = 0
    counts: Counts = field(default_factory=_nothing)

    @classmethod
    def of(cls, buckets: npt.NDArray[np.int64]) -> "Histogram":
        """The histogram of bucket numbers, shape (n,)."""
        if not buckets.size:
            return cls()
        start = int(buckets.min())
        return cls(start, np.bincount(buckets - start).astype(np.int64))

    def plus(self, other: "Histogram") -> "Histogram":
        """The two histograms together."""
        return summed((self, other))

    @property
    def total(self) -> int:
        """How many latencies were counted."""
        return int(self.counts.sum())

    def above(self, latency_ms: float) -> int:
        """How many latencies lie above the bucket that `latency_ms` is in: at least 2 % longer ones do."""
        first = int(bucket_of(np.array([latency_ms], dtype=np.float64))[0]) + 1 - self.start
        return int(self.counts[max(first, 0) :].sum())

    def up_to(self, buckets: Counts) -> Counts:
        """How many latencies lie in each of `buckets` (numbers of buckets, shape (n,)) or in one below it."""
        running = np.concatenate((_NONE, np.cumsum(self.counts)))
        return running[np.clip(buckets - self.start + 1, 0, self.counts.size)]

    def quantiles(self, *probabilities: float) -> tuple[float | None, ...]:
        """The smallest latencies (ms) that at least each share of all latencies do not exceed.

        Within 1 % of the exact nearest-rank quantile above `FINEST_MS`; None when nothing was counted.
        """
        running = np.cumsum(self.counts)
        if not running.size or not running[-1]:
            return (None,) * len(probabilities)
        ranks = [max(1, math.ceil(p * int(running[-1]))) for p in probabilities]
        found = np.searchsorted(running, ranks)
        return tuple(value_of(self.start + int(index)) for index in found)

    def pack(self) -> bytes:
        """Two header words (start, length), then the counts as little-endian 64-bit integers."""
        return _HEADER.pack(self.start, self.counts.size) + self.counts.astype("<i8").tobytes()

    @classmethod
    def unpack(cls, packed: bytes, offset: int = 0) -> "Histogram":
        """Read what `pack` wrote at `offset`."""
        start, length = _HEADER.unpack_from(packed, offset)
        counts = np.frombuffer(packed, dtype="<i8", count=length, offset=offset + _HEADER.size)
        return cls(start, counts.astype(np.int64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        empty = not self.counts.size and not other.counts.size
        return empty or (self.start == other.start and np.array_equal(self.counts, other.counts))

    __hash__ = None  # type: ignore[assignment]  # holds an array


def summed(histograms: Iterable[Histogram]) -> Histogram:
    """All histograms together."""
    parts = [part for part in histograms if part.counts.size]
    if len(parts) < 2:
        return parts[0] if parts else Histogram()
    start = min(part.start for part in parts)
    end = max(part.start + part.counts.size for part in parts)
    counts = np.zeros(end - start, dtype=np.int64)
    for part in parts:
        counts[part.start - start : part.start - start + part.counts.size] += part.counts
    return Histogram(start, counts)
