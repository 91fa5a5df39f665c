"""Text files, packed by gzip or not, in blocks of whole rows (touches files)."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from abmonitor.ranking.cells import ContentsError


BLOCK_BYTES = 1 << 23
"""How much text becomes one part: small enough for caches, large enough for thousands of columns."""
COLUMN_BYTES = 1 << 13
"""How much text of each column should be in a block: pyarrow takes 5 µs for a column, however short."""
LONGEST_ROW = 1 << 28
GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
_NEWLINE, _QUOTE, _RETURN = 10, 34, 13


@dataclass(frozen=True, eq=False)
class Block:
    """Whole rows of a text file."""

    data: bytes
    first_line: int
    done: float
    quoted: bool
    """Whether a line end between double quotes belongs to its cell."""

    def line(self, row: int) -> int:
        """The line on which the non-empty row of this number, from 0, begins."""
        return self.first_line + int(self._lines[row])

    @cached_property
    def _lines(self) -> npt.NDArray[np.intp]:
        """How many lines are before each row that is not empty."""
        text = np.frombuffer(self.data, np.uint8)
        ends = row_ends = np.flatnonzero(text == _NEWLINE)
        if self.quoted:
            quotes = np.searchsorted(np.flatnonzero(text == _QUOTE), ends)
            row_ends = ends[quotes % 2 == 0]
        starts = np.append(0, row_ends + 1)
        lengths = np.append(row_ends, len(text)) - starts
        returns = text[np.minimum(starts, len(text) - 1)] == _RETURN
        before: npt.NDArray[np.intp] = np.searchsorted(ends, starts[lengths > returns])
        return before


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedIOBase | BinaryIO, BinaryIO]]:
    """Open a file for reading as bytes: what is in it, and the file on disk itself.

    Raises ContentsError where gzip finds it broken.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        try:
            if packed:
                with gzip.open(raw) as unpacked:
                    yield unpacked, raw
            else:
                yield raw, raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ContentsError(
                f"{path}: the gzip file is broken ({error}); copy it again"
            ) from None


def blocks(
    path: Path, *, quoted: bool, skip: int = 0, first_line: int = 1, columns: int = 0
) -> Iterator[Block]:
    """Cut a file into blocks of whole rows of `columns`, from the byte `skip` on, which is on `first_line`.

    Raises ContentsError for a row without end.
    """
    size = max(BLOCK_BYTES, min(columns * COLUMN_BYTES, 4 * BLOCK_BYTES))
    whole_file = max(path.stat().st_size, 1)
    with opened(path) as (file, raw):
        file.seek(skip)
        rest, more = b"", True
        while more:
            read = file.read(size)
            more = len(read) > 0
            data = rest + read
            end = row_end(data, quoted=quoted) if more else len(data)
            if end == 0 and len(data) > LONGEST_ROW:
                raise _endless(path, data, first_line)
            rest = data[end:]
            if end:
                whole = data[:end]
                yield Block(
                    whole, first_line, min(raw.tell() / whole_file, 1.0), quoted and b'"' in whole
                )
                first_line += whole.count(b"\n")


def row_end(data: bytes, *, quoted: bool) -> int:
    r"""Where the last whole row of `data` ends: after a line end with an even number of quotes before it.

    >>> row_end(b'a\nb\n"c\n', quoted=True), row_end(b"a", quoted=True)
    (4, 0)
    """
    end = data.rfind(b"\n") + 1
    if not quoted:
        return end
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def first_rows(path: Path, *, quoted: bool) -> bytes:
    """The first rows of a file: as many whole ones as fit into a block, at least one; empty where there is none."""
    for block in blocks(path, quoted=quoted):
        return block.data
    return b""


def _endless(path: Path, data: bytes, line: int) -> ContentsError:
    quotes: npt.NDArray[np.intp] = np.flatnonzero(
        np.frombuffer(data[:LONGEST_ROW], np.uint8) == _QUOTE
    )
    if b"\n" in data and len(quotes):
        line += data.count(b"\n", 0, int(quotes[0]))
        return ContentsError(
            f'{path}: line {line} or a later one opens a double quote (") that is not closed within'
            f" {LONGEST_ROW >> 20} MB; remove it, or double it inside quoted text"
        )
    return ContentsError(
        f"{path}: line {line} is longer than {LONGEST_ROW >> 20} MB; expected one row on each line"
    )
