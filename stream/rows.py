"""How a prediction and an early outcome are packed while they wait in Redis.

A pending prediction is 28 bytes under a 12-byte digest of its id: with Redis' own overhead about 100
bytes, where text ids and one field per fact would take several times that.
"""

from hashlib import blake2b
from struct import Struct
from zlib import crc32

import numpy as np
import numpy.typing as npt


DIGEST_BYTES = 12

ROW = np.dtype(
    [
        ("arrival", "<i8"),
        ("time_and_flags", "<u8"),
        ("latency", "<u4"),
        ("weight", "<u4"),
        ("slot", "<u4"),
    ]
)
Rows = npt.NDArray[np.void]

ROW_STRUCT = Struct("<qQIII")
EARLY_STRUCT = Struct("<qqB")

FLAG_SHIFT = 56
TIME_MASK = (1 << FLAG_SHIFT) - 1

PREDICTED, ACTED, ERROR, LABELLED, ACTUAL, TIMED = (1 << bit for bit in range(6))
"""What a row's flags say; `TIMED`: the prediction had a latency."""


_FRESH = blake2b(digest_size=DIGEST_BYTES)


def digest(prediction_id: bytes) -> bytes:
    """96 bits of the id: two of 10^12 ids collide with a probability below 10^-5."""
    hashed = _FRESH.copy()  # quicker than to make a new one
    hashed.update(prediction_id)
    return hashed.digest()


def slot_of(experiment: str, variant: str) -> int:
    """The number that stands for a variant in rows; the same in every process, without a registry."""
    return crc32(f"{experiment}:{variant}".encode())


def unpack_rows(packed: list[bytes]) -> Rows:
    """Rows as one structured array, shape (n,)."""
    return np.frombuffer(b"".join(packed), dtype=ROW)


def flags_of(rows: Rows) -> npt.NDArray[np.int64]:
    """The flags of each row."""
    flags: npt.NDArray[np.int64] = (rows["time_and_flags"] >> np.uint64(FLAG_SHIFT)).astype(
        np.int64
    )
    return flags


def time_of(row: bytes) -> int:
    """The event time of a packed row."""
    time_and_flags: int = ROW_STRUCT.unpack(row)[1]
    return time_and_flags & TIME_MASK


def digests_in(chunk: bytes) -> list[bytes]:
    """The digests that a due chunk holds, in order of arrival."""
    return [chunk[at : at + DIGEST_BYTES] for at in range(0, len(chunk), DIGEST_BYTES)]
