"""Parquet files, read in batches that do not depend on row groups (touches files)."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
from pyarrow import parquet

from abmonitor.ranking.cells import Column, ContentsError, FileError, Part


Tables: TypeAlias = Iterator[tuple[dict[int, Column], int]]

BATCH_BYTES = 1 << 24
"""About how large the scores of a part are, at four bytes each."""
GROUP_BYTES = 1 << 28
"""Scores of a row group that are kept at once: read a few columns after the other, it takes no more than that."""
READER_BYTES = 9 << 18
"""What reading a column keeps of a long row group: its dictionary, packed and unpacked, and a page."""
MOST_BYTES = 1 << 29
"""What reading all columns of a pass may keep."""
_BUFFERS = 1 << 26
"""Read ahead for all columns together."""
_SCORE = pa.float32()


class ParquetFile:
    """A Parquet file; rows are counted from 1."""

    unit = "row"
    decimal = "."

    def __init__(self, path: Path) -> None:
        """Read the names of columns; raises FileError."""
        self.path = path
        with self._opened(1) as file:
            self.columns = tuple(file.schema_arrow.names)
            groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
            self._longest = max((group.num_rows for group in groups), default=0)
            self._bytes = max((group.total_byte_size for group in groups), default=0)

    def at_once(self, scores: int) -> int:
        """How many of so many columns of scores to read in one pass; see `Source`."""
        if 4 * scores * self._longest <= GROUP_BYTES:
            return scores
        column = self._bytes / max(len(self.columns), 1)
        return max(1, int(MOST_BYTES / max(1.0, min(READER_BYTES, 2 * column))))

    def tasks(
        self, exact: frozenset[int], scores: frozenset[int]
    ) -> Generator[Callable[[], Part], None, None]:
        """Give parts; see `Source`."""
        places = sorted(exact | scores)
        size = max(1024, min(BATCH_BYTES // (4 * len(places)), 1 << 17))
        whole = size < self._longest <= GROUP_BYTES // (4 * len(places))
        before = 0
        with self._opened(len(places)) as file:
            rows = max(file.metadata.num_rows, 1)
            tables = (
                self._groups(file, places, scores) if whole else self._batches(file, places, size)
            )
            for columns, length in self._checked(tables):
                for start in range(0, length, size):
                    cut = {place: column.slice(start, size) for place, column in columns.items()}
                    done = (before + min(start + size, length)) / rows
                    yield partial(Part, cut, partial(int.__add__, before + start + 1), done)
                before += length

    def _batches(self, file: parquet.ParquetFile, places: list[int], size: int) -> Tables:
        """A few rows of all columns after the other, whatever the row groups are."""
        names = [self.columns[place] for place in places]
        for batch in file.iter_batches(size, columns=names):
            yield {place: batch.column(self.columns[place]) for place in places}, len(batch)

    def _groups(
        self, file: parquet.ParquetFile, places: list[int], scores: frozenset[int]
    ) -> Tables:
        """Whole row groups, each read a few columns after the other: their buffers are larger than the scores."""
        step = max(1, _BUFFERS // max(1, 2 * self._bytes // len(self.columns)))
        for group in range(file.num_row_groups):
            columns = {}
            for start in range(0, len(places), step):
                some = places[start : start + step]
                table = file.read_row_group(group, [self.columns[place] for place in some])
                for place in some:
                    column = table.column(self.columns[place]).combine_chunks()
                    small = place in scores and pa.types.is_floating(column.type)
                    columns[place] = column.cast(_SCORE) if small else column
            yield columns, file.metadata.row_group(group).num_rows

    def _opened(self, columns: int) -> parquet.ParquetFile:
        buffer = max(1 << 13, min(_BUFFERS // columns, 1 << 20))
        try:
            return parquet.ParquetFile(
                self.path, buffer_size=buffer, pre_buffer=False, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise self._broken(error) from None

    def _checked(self, tables: Tables) -> Tables:
        try:
            yield from tables
        except (pa.ArrowException, OSError) as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> FileError:
        reason = str(error).splitlines()[0]
        return ContentsError(
            f"{self.path}: cannot be read as Parquet ({reason}); write or copy it again"
        )
