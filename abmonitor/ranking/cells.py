"""What stands in the columns of a file, as numbers: booleans, decimals and text too (pure)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


Column: TypeAlias = Any
"""An array of pyarrow, which has no types of its own."""
Kind: TypeAlias = Any
"""What pyarrow calls a data type."""

Bools: TypeAlias = npt.NDArray[np.bool_]

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"})
"""Words, in small letters, that programs write where a table has nothing."""
TRUTH = {"true": 1.0, "false": 0.0}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?", re.ASCII)
_LONGEST = 40
"""Characters of a cell that a message shows."""


class FileError(Exception):
    """What is wrong with a file, for the person who gave it: where, what was found, what to do."""


class ContentsError(FileError):
    """The file was opened and has the columns asked for, but what stands in them cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Consecutive rows of a file as they stand there: columns by their places in the file."""

    columns: dict[int, Column]
    line: Callable[[int], int]
    """From a row of this part, counted from 0, to how its user counts it."""
    done: float
    """Share of the file that was read with it, 0 to 1."""


class Source(Protocol):
    """An open file of some format."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in the order of the file."""
        ...

    @property
    def unit(self) -> str:
        """What `Part.line` counts: `line` or `row`."""
        ...

    @property
    def decimal(self) -> str:
        """What stands between whole and fraction in text: `.` or `,`."""
        ...

    def at_once(self, scores: int) -> int:
        """How many of so many columns of scores to read in one pass, to need no more memory than is needful."""
        ...

    def tasks(self, exact: frozenset[int], scores: frozenset[int]) -> "Tasks":
        """What to call, in any thread, for the parts in order: `exact` columns as they stand, and `scores`.

        Columns of scores are numbers or booleans where they are nothing else, so that reading is fast. Calling a
        task, or asking for the next, raises FileError.
        """
        ...


Tasks: TypeAlias = Any
"""A generator of tasks, `Generator[Callable[[], Part], None, None]`, that closes the file when it is closed."""


def numbers(column: Column, kind: Kind, decimal: str = ".") -> Column:
    """Read `column` as numbers of the floating `kind`: null where there is none, whatever stands there.

    True is 1 and false 0, in text of any case too.

    >>> numbers(pa.array(["0.5", "True", "maybe", ""]), pa.float32()).to_pylist()
    [0.5, 1.0, None, None]
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == kind:
        return column
    if is_text(column.type):
        return _of_text(column, kind, decimal)
    if _is_number(column.type):
        return pc.cast(column, kind, safe=False)
    return pa.nulls(len(column), kind)


def is_text(kind: Kind) -> bool:
    """Whether a column of this kind holds text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: Kind) -> bool:
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _of_text(column: Column, kind: Kind, decimal: str) -> Column:
    if decimal == ".":
        try:
            return pc.cast(column, kind)
        except pa.ArrowInvalid:
            pass  # some cell is no number: each different text is looked at
    encoded = binary(column).dictionary_encode()
    meant = [
        None if text is None else number(text, decimal) for text in encoded.dictionary.to_pylist()
    ]
    return pa.array(meant, kind).take(encoded.indices)


def binary(column: Column) -> Column:
    """Text as its bytes, which need not be UTF-8."""
    return column.cast(pa.large_string()).cast(pa.large_binary())


def number(text: bytes, decimal: str = ".") -> float | None:
    """The number that a text stands for, or None.

    >>> number(b" 7e-1 "), number(b"TRUE"), number(b"0,5", ","), number(b"1_0")
    (0.7, 1.0, 0.5, None)
    """
    word = text.decode(errors="replace").strip().lower()
    if word in TRUTH:
        return TRUTH[word]
    word = word.replace(decimal, ".")
    return float(word) if _NUMBER.fullmatch(word) else None


def is_missing(text: bytes) -> bool:
    """Whether a text stands for nothing.

    >>> is_missing(b"NaN"), is_missing(b"no")
    (True, False)
    """
    return text.decode(errors="replace").strip().lower() in MISSING


def missing(column: Column) -> Bools:
    """Which cells of `column` stand for nothing, (n,).

    >>> missing(pa.array(["x", "NA", None]))
    array([False,  True,  True])
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    nothing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    if is_text(column.type):
        encoded = binary(column).dictionary_encode()
        words = [text is None or is_missing(text) for text in encoded.dictionary.to_pylist()]
        nothing = pc.or_(nothing, pa.array(words, pa.bool_()).take(encoded.indices).fill_null(True))
    mask: Bools = nothing.to_numpy(zero_copy_only=False)
    return mask


def found(column: Column, row: int) -> str | None:
    """What stands in a row of `column`, as a message shows it; None where nothing does.

    >>> found(pa.array([1.75, None], pa.float32()), 0), found(pa.array(["nan"]), 0), found(pa.array(["x"]), 0)
    ('1.75', None, "'x'")
    """
    cell = column.slice(row, 1)
    if pa.types.is_dictionary(cell.type):
        cell = cell.dictionary_decode()
    if is_text(cell.type):
        text = binary(cell)[0].as_py()
        if text is None or is_missing(text):
            return None
        readable = text.decode(errors="replace")
        return _shortened(readable.strip() if number(text) is not None else repr(readable))
    if pa.types.is_floating(cell.type):
        value = pc.cast(cell, pa.string())[0].as_py()
        return None if value in (None, "nan", "-nan") else str(value)
    value = cell[0].as_py()
    return None if value is None else _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
