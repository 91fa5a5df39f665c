"""Unit buckets: sums over the predictions of the units that share a hash, for variances by unit. Pure.

Predictions of one unit (say, a customer) are alike, so that a variance over predictions is too small. A
unit is always in the same bucket, and units fall into buckets independently of each other and of their
variant: the spread between buckets shows the variance that units really cause.
"""

import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cells


UNIT_BUCKETS: Final = 64

COLUMNS: Final = (
    *(f"w_{name}" for name in Cells._fields),
    "n",
    "failed",
    "timed",
    "latency",
    "money",
)
"""What a bucket sums: weights (thousandths) by the cell that a prediction ends in; then, without weights,
predictions, failed requests, timed ones, latency (units of `metrics.moments`) and money (cents)."""

Ints = npt.NDArray[np.int64]

NO_BUCKETS: Final[Ints] = np.zeros((0, len(COLUMNS)), dtype=np.int64)
"""What a ledger has that is not by unit."""

_WIDTHS = (1, 2, 4, 8)


def column(buckets: Ints, name: str) -> Ints:
    """One column of `buckets`, shape (UNIT_BUCKETS,), or (0,) where there are none."""
    found: Ints = buckets[:, COLUMNS.index(name)]
    return found


def pack_buckets(buckets: Ints) -> bytes:
    """`buckets`, shape (UNIT_BUCKETS, len(COLUMNS)) or empty, in few bytes: b"" where there are none.

    The width of each column, then the columns as little-endian integers of just that width, deflated.
    """
    if not buckets.size:
        return b""
    highest = np.maximum(buckets.max(axis=0), -1 - buckets.min(axis=0)).tolist()
    widths = [next(w for w in _WIDTHS if high < 1 << 8 * w - 1) for high in highest]
    columns = (buckets[:, at].astype(f"<i{width}") for at, width in enumerate(widths))
    return zlib.compress(bytes(widths) + b"".join(each.tobytes() for each in columns))


def unpack_buckets(packed: bytes) -> Ints:
    """Read what `pack_buckets` wrote; raises ValueError on anything else."""
    if not packed:
        return NO_BUCKETS
    try:
        inflated = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(
            f"unit buckets of {len(packed)} bytes cannot be inflated: {error}"
        ) from error
    widths = inflated[: len(COLUMNS)]
    expected = len(COLUMNS) + UNIT_BUCKETS * sum(widths)
    if len(inflated) != expected or not set(widths) <= set(_WIDTHS):
        raise ValueError(
            f"unit buckets have {len(inflated)} bytes, expected {expected}"
            f" for columns of {', '.join(map(str, widths))} bytes, each one of 1, 2, 4 and 8"
        )
    buckets, at = np.empty((UNIT_BUCKETS, len(COLUMNS)), dtype=np.int64), len(COLUMNS)
    for number, width in enumerate(widths):
        buckets[:, number] = np.frombuffer(inflated, f"<i{width}", UNIT_BUCKETS, at)
        at += width * UNIT_BUCKETS
    return buckets


def sum_of(parts: list[Ints]) -> Ints:
    """All buckets added up; none where no part has any."""
    found = [part for part in parts if part.size]
    if len(found) < 2:
        return found[0] if found else NO_BUCKETS
    summed: Ints = np.stack(found).sum(axis=0, dtype=np.int64)
    return summed
