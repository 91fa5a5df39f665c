"""Maturity: which waiting ids are due at a watermark. Pure.

Ids wait in queues of chunks, one chunk an experiment and commit, in order of arrival. A chunk carries
the arrivals, so that what is due is known without looking anything up, and a sweep is a prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

import numpy as np
import numpy.typing as npt

from stream.rows import DIGEST_BYTES, digests_in


MAX_SWEEP = 5_000
"""Most ids a commit sweeps from one queue; also the most ids in one chunk."""

_BASE = Struct("<q")
_MAX_SPAN = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Ids in order of arrival."""

    arrivals: npt.NDArray[np.int64]
    digests: bytes

    @classmethod
    def unpack(cls, packed: bytes) -> "Chunk":
        """Read what `pack_chunks` wrote."""
        (base,) = _BASE.unpack_from(packed)
        count = (len(packed) - _BASE.size) // (4 + DIGEST_BYTES)
        offsets = np.frombuffer(packed, dtype="<u4", count=count, offset=_BASE.size)
        return cls(base + offsets.astype(np.int64), packed[_BASE.size + 4 * count :])


def pack_chunks(arrivals: Sequence[int], digests: Sequence[bytes]) -> list[bytes]:
    """Chunks of at most `MAX_SWEEP` ids: base arrival, 32-bit offsets from it in ms, digests."""
    chunks, start = [], 0
    while start < len(arrivals):
        base = arrivals[start]
        times = np.array(arrivals[start : start + MAX_SWEEP], dtype=np.int64) - base
        stop = start + int(np.searchsorted(times, _MAX_SPAN, side="right"))
        offsets = times[: stop - start].astype("<u4").tobytes()
        chunks.append(_BASE.pack(base) + offsets + b"".join(digests[start:stop]))
        start = stop
    return chunks


@dataclass(frozen=True, slots=True)
class Harvest:
    """The ids that a sweep takes from the head of a queue."""

    digests: list[bytes]
    arrivals: list[int]
    finished: int
    """Chunks that are done with."""
    cursor: int
    """Ids done in the chunk after those."""
    through: int
    """Every id of the queue that arrived before this is done."""
    complete: bool
    """Nothing else in the queue is due."""


def harvest(
    chunks: Sequence[Chunk], cursor: int, limit: int, *, whole_queue: bool, budget: int = MAX_SWEEP
) -> Harvest:
    """Take what arrived before `limit` (ms) from the head chunks of a queue, `budget` ids at most.

    `cursor` ids of the first chunk are done already; `whole_queue`: no chunks follow the given ones.
    """
    digests: list[bytes] = []
    arrivals: list[int] = []
    finished = 0
    for chunk in chunks:
        # A horizon that was made longer does not undo what is done.
        ripe = max(cursor, int(np.searchsorted(chunk.arrivals, limit, side="left")))
        stop = min(ripe, cursor + budget - len(digests))
        digests += digests_in(chunk.digests[cursor * DIGEST_BYTES : stop * DIGEST_BYTES])
        arrivals += chunk.arrivals[cursor:stop].tolist()
        cursor = stop
        if stop < chunk.arrivals.size:
            complete = stop == ripe
            through = limit if complete else int(chunk.arrivals[stop])
            return Harvest(digests, arrivals, finished, cursor, through, complete)
        finished, cursor = finished + 1, 0
    if whole_queue:
        return Harvest(digests, arrivals, finished, 0, limit, complete=True)
    through = arrivals[-1] if arrivals else 0
    return Harvest(digests, arrivals, finished, 0, through, complete=False)
