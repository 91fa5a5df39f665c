"""Tables of whole numbers in few bytes: the facts of many cohorts, so that they can be kept with a decision. Pure.

Each column is written in as many bytes as its largest number needs, column by column, so that what is
alike stands together; whoever keeps the table deflates it with all the rest.
"""

import struct

import numpy as np
import numpy.typing as npt

from metrics.facts import COLUMNS, Facts


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_HEAD = struct.Struct("<IH")
_WIDTHS = (1, 2, 4, 8)
_FLOATS = 0
"""Stands for a column that no 64-bit integer can hold."""
_EXACT = 2.0**53
"""Whole numbers below it are exact as floats."""

_WEIGHTS = [
    (COLUMNS.index(f"{cell}.{fact}"), COLUMNS.index(f"{cell}.n"), unit)
    for fact, unit in (("w", 1_000), ("w2", 1_000_000))
    for cell in (name.partition(".")[0] for name in COLUMNS if name.endswith(".n"))
]
"""Sums of weights, and what they are of as many predictions of weight 1."""

_WEIGHED = [(at, 1) for at, _, _ in _WEIGHTS] + [(n, unit) for _, n, unit in _WEIGHTS]
"""Columns that take part in that, and the largest factor each is multiplied by."""


def pack_facts(facts: Facts) -> bytes:
    """`facts`, shape (cohorts, columns); where no prediction had a weight, sums of weights take no room."""
    sums = facts.sums
    if all((unit * np.abs(sums[:, at]) < _EXACT).all() for at, unit in _WEIGHED):
        sums = sums.copy()
        for weight, n, unit in _WEIGHTS:
            sums[:, weight] -= unit * sums[:, n]
        return b"\x01" + pack(sums)
    return b"\x00" + pack(sums)


def unpack_facts(packed: bytes) -> Facts:
    """Read what `pack_facts` wrote; raises ValueError on anything else."""
    sums = unpack(packed[1:])
    if sums.shape[1] != len(COLUMNS):
        raise ValueError(f"facts have {sums.shape[1]} columns, expected {len(COLUMNS)}")
    if packed[:1] == b"\x01":
        for weight, n, unit in _WEIGHTS:
            sums[:, weight] += unit * sums[:, n]
    return Facts(sums)


def pack_times(times: Ints) -> bytes:
    """Ascending numbers, shape (n,): the first one, and then by how much each is more."""
    return pack(np.diff(times, prepend=0)[:, None].astype(np.float64))


def unpack_times(packed: bytes) -> Ints:
    """Read what `pack_times` wrote."""
    return np.cumsum(unpack(packed)[:, 0].astype(np.int64))


def pack(table: Floats) -> bytes:
    """Whole numbers, shape (rows, columns)."""
    rows, columns = table.shape
    high = np.abs(table).max(axis=0, initial=0.0)
    widths = [next((w for w in _WIDTHS if most < 2.0 ** (8 * w - 1)), _FLOATS) for most in high]
    types = ["<f8" if width == _FLOATS else f"<i{width}" for width in widths]
    parts = [table[:, at].astype(kind).tobytes() for at, kind in enumerate(types)]
    return _HEAD.pack(rows, columns) + bytes(widths) + b"".join(parts)


def unpack(packed: bytes) -> Floats:
    """Read what `pack` wrote, as floats of shape (rows, columns); raises ValueError on anything else."""
    try:
        rows, columns = _HEAD.unpack_from(packed)
    except struct.error as error:
        raise ValueError(f"a table of {len(packed)} bytes was cut: {error}") from error
    at = _HEAD.size + columns
    widths = packed[_HEAD.size : at]
    sizes = [8 if width == _FLOATS else width for width in widths]
    if len(packed) != at + rows * sum(sizes) or not {*widths} <= {_FLOATS, *_WIDTHS}:
        raise ValueError(
            f"a table of {rows} rows and {columns} columns has {len(packed)} bytes,"
            f" expected {at + rows * sum(sizes)}"
        )
    table = np.empty((rows, columns))
    for number, (width, size) in enumerate(zip(widths, sizes, strict=True)):
        kind = "<f8" if width == _FLOATS else f"<i{width}"
        table[:, number] = np.frombuffer(packed, kind, rows, at)
        at += rows * size
    return table
