"""How a prediction and an early outcome are packed while they wait in Redis.

A pending prediction is 28 bytes under a 12-byte digest of its id: with Redis' own overhead about 100
bytes, where text ids and one field per fact would take several times that. Experiments that need more of
a prediction have 13 bytes more; rows are told apart by their length.
"""

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from metrics.units import UNIT_BUCKETS


DIGEST_BYTES = 12
UNIT_BYTES = 8

ROW = np.dtype(
    [
        ("arrival", "<i8"),
        ("time_and_flags", "<u8"),
        ("latency", "<u4"),
        ("weight", "<u4"),
        ("slot", "<u4"),
    ]
)
LONG_ROW = np.dtype(
    [*ROW.descr, ("value", "<i4"), ("cost", "<i4"), ("needed", "<u4"), ("bucket", "u1")]
)
"""A row, the value of its outcome and its own cost (cents), how long its label took (ms; `NEVER` without
one), and the bucket of its unit (`NO_BUCKET` where that is not known)."""
Rows = npt.NDArray[np.void]
"""Of `ROW` or `LONG_ROW`."""

ROW_STRUCT = Struct("<qQIII")
TAIL_STRUCT = Struct("<iiIB")
"""What a long row has more."""
EARLY_STRUCT = Struct("<qqB")
_VALUE_STRUCT = Struct("<i")
_VALUED = 2
"""Beside the label of an early outcome: its value follows."""

NEVER = (1 << 32) - 1
NO_BUCKET = UNIT_BUCKETS
_NO_TAIL = TAIL_STRUCT.pack(0, 0, NEVER, NO_BUCKET)

FLAG_SHIFT = 56
TIME_MASK = (1 << FLAG_SHIFT) - 1

PREDICTED, ACTED, ERROR, LABELLED, ACTUAL, TIMED = (1 << bit for bit in range(6))
"""What a row's flags say; `TIMED`: the prediction had a latency."""
_UNLABELLED = (1 << 64) - 1 - ((LABELLED | ACTUAL) << FLAG_SHIFT)


_FRESH = blake2b(digest_size=DIGEST_BYTES)
_FRESH_UNIT = blake2b(digest_size=UNIT_BYTES, person=b"abmonitor-unit")
"""Of its own kind: where a unit falls must have nothing to do with how variants are dealt."""


def digest(prediction_id: bytes) -> bytes:
    """96 bits of the id: two of 10^12 ids collide with a probability below 10^-5."""
    hashed = _FRESH.copy()  # quicker than to make a new one
    hashed.update(prediction_id)
    return hashed.digest()


def slot_of(experiment: str, variant: str) -> int:
    """The number that stands for a variant in rows; the same in every process, without a registry."""
    return crc32(f"{experiment}:{variant}".encode())


def unit_digest(unit_id: str) -> bytes:
    """64 bits of a unit's id: the first ones tell whether it is in a sample, the last ones its bucket."""
    hashed = _FRESH_UNIT.copy()
    hashed.update(unit_id.encode())
    return hashed.digest()


def bucket_of(hashed: bytes) -> int:
    """The bucket of a unit, or of a prediction that is a unit of its own, by its digest."""
    return hashed[-1] % UNIT_BUCKETS


def unpack_rows(packed: list[bytes]) -> Rows:
    """Rows as one structured array, shape (n,); all of them long where one is."""
    joined = b"".join(packed)
    if len(joined) == len(packed) * ROW.itemsize:
        return np.frombuffer(joined, dtype=ROW)
    if len(joined) < len(packed) * LONG_ROW.itemsize:  # an experiment's settings have changed
        joined = b"".join(row if len(row) > ROW.itemsize else row + _NO_TAIL for row in packed)
    return np.frombuffer(joined, dtype=LONG_ROW)


def buckets_in(rows: Rows) -> npt.NDArray[np.int64]:
    """The bucket of each row; those whose unit is not known are spread by their arrival."""
    spread = rows["arrival"] % UNIT_BUCKETS
    if rows.dtype == ROW:
        return spread.astype(np.int64)
    known = rows["bucket"] < NO_BUCKET
    return np.where(known, rows["bucket"], spread).astype(np.int64)


def cents_in(rows: Rows) -> npt.NDArray[np.int64]:
    """What each row earned: the value of its outcome less its cost."""
    if rows.dtype == ROW:
        return np.zeros(len(rows), dtype=np.int64)
    cents: npt.NDArray[np.int64] = rows["value"].astype(np.int64) - rows["cost"]
    return cents


def accepted_within(rows: Rows, landmark: int) -> Rows:
    """The rows with just the labels that came within `landmark` (ms), as if it were the horizon.

    Rows that do not tell how long their label took have none.
    """
    late = np.ones(len(rows), bool) if rows.dtype == ROW else rows["needed"] > landmark
    found = rows.copy()
    found["time_and_flags"][late] &= np.uint64(_UNLABELLED)
    if rows.dtype == LONG_ROW:
        found["value"][late] = 0
    return found


class Early(NamedTuple):
    """An outcome that waits for its prediction."""

    arrival: int
    time: int
    actual: int
    cents: int = 0


def pack_early(early: Early) -> bytes:
    """17 bytes, and 4 more where it has a value."""
    if not early.cents:
        return EARLY_STRUCT.pack(*early[:3])
    known = EARLY_STRUCT.pack(early.arrival, early.time, early.actual | _VALUED)
    return known + _VALUE_STRUCT.pack(early.cents)


def early_in(packed: bytes) -> list[Early]:
    """All outcomes that wait for one id, in order."""
    found, at = [], 0
    while at < len(packed):
        arrival, time, flags = EARLY_STRUCT.unpack_from(packed, at)
        at, cents = at + EARLY_STRUCT.size, 0
        if flags & _VALUED:
            (cents,) = _VALUE_STRUCT.unpack_from(packed, at)
            at += _VALUE_STRUCT.size
        found.append(Early(arrival, time, flags & ~_VALUED, cents))
    return found


def flags_of(rows: Rows) -> npt.NDArray[np.int64]:
    """The flags of each row."""
    flags: npt.NDArray[np.int64] = (rows["time_and_flags"] >> np.uint64(FLAG_SHIFT)).astype(
        np.int64
    )
    return flags


def time_of(row: bytes) -> int:
    """The event time of a packed row."""
    time_and_flags: int = ROW_STRUCT.unpack_from(row)[1]
    return time_and_flags & TIME_MASK


def digests_in(chunk: bytes) -> list[bytes]:
    """The digests that a due chunk holds, in order of arrival."""
    return [chunk[at : at + DIGEST_BYTES] for at in range(0, len(chunk), DIGEST_BYTES)]
