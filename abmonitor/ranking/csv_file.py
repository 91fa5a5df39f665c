"""CSV files of any separator, read by pyarrow block by block (touches files)."""

import csv as plain
import re
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from abmonitor.ranking.cells import (
    MISSING,
    Column,
    ContentsError,
    FileError,
    Kind,
    Part,
    binary,
    number,
)
from abmonitor.ranking.lines import BOM, Block, blocks, first_rows


SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_NUMBER, _BOOL, _TEXT = pa.float32(), pa.bool_(), pa.string()
_CASES = (str.lower, str.capitalize, str.upper)
_TRUE, _FALSE = ([case(word) for case in _CASES] for word in ("true", "false"))
_NOTHING = sorted({case(word) for word in MISSING for case in _CASES} | {"NaN", "-NaN"})
_TRUTH_BYTES = {word.encode() for word in _TRUE + _FALSE}
_NOTHING_BYTES = {word.encode() for word in _NOTHING}
_SAMPLE_BYTES = 1 << 20
"""How much of the first rows is looked at to see how numbers and rows are written."""


class CsvFile:
    """A CSV file whose first line names the columns."""

    unit = "line"

    def __init__(self, path: Path, separator: str | None = None) -> None:
        """Read the names of columns; raises FileError."""
        separator = "\t" if separator == r"\t" else separator  # as shells pass it on
        if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
            raise FileError(f"--separator: expected one character, got {separator!r}")
        rows = first_rows(path, quoted=True)
        header, self._skip, self._first_line = _header(path, rows)
        sample = rows[self._skip :][:_SAMPLE_BYTES].decode(errors="replace")
        self.path = path
        self.separator = separator or _sniffed(header, sample)
        self.columns = _names(path, header, self.separator)
        comma = self.separator != "," and _has_decimal_comma(sample, self.separator)
        self.decimal = "," if comma else "."
        self._kinds: dict[int, Kind] = {}

    def at_once(self, scores: int) -> int:
        """All of them: rows come one after the other; see `Source`."""
        return scores

    def tasks(
        self, exact: frozenset[int], scores: frozenset[int]
    ) -> Generator[Callable[[], Part], None, None]:
        """Give parts; see `Source`."""
        found = blocks(
            self.path,
            quoted=True,
            skip=self._skip,
            first_line=self._first_line,
            columns=len(self.columns),
        )
        for block in found:
            yield partial(self._part, block, exact, scores)

    def _part(self, block: Block, exact: frozenset[int], scores: frozenset[int]) -> Part:
        kinds = {place: self._kinds.get(place, _NUMBER) for place in scores}
        text = dict.fromkeys(exact, _TEXT)
        try:
            columns = self._parsed(block, kinds | text)
        except pa.ArrowInvalid:  # some column is of another kind than thought
            columns = self._parsed(block, dict.fromkeys(scores, _TEXT) | text)
            for place, kind in kinds.items() if columns else ():
                better = _kind(columns[place])
                if better != kind:
                    self._kinds[place] = better if kind == _NUMBER else _TEXT
        return Part(columns, block.line, block.done)

    def _parsed(self, block: Block, kinds: dict[int, Kind]) -> dict[int, Column]:
        """Columns of the block by their places; raises pa.ArrowInvalid where one is not of its kind."""
        wrong: list[csv.InvalidRow] = []

        def ragged(row: csv.InvalidRow) -> str:
            wrong.append(row)
            return "skip"

        names = [str(place) for place in range(len(self.columns))]  # real ones may be there twice
        table = csv.read_csv(
            pa.BufferReader(block.data),
            read_options=csv.ReadOptions(
                block_size=len(block.data) + 1, use_threads=False, column_names=names
            ),
            parse_options=csv.ParseOptions(
                delimiter=self.separator,
                newlines_in_values=block.quoted,
                invalid_row_handler=ragged,
            ),
            convert_options=csv.ConvertOptions(
                column_types={str(place): kind for place, kind in kinds.items()},
                include_columns=[str(place) for place in kinds],
                check_utf8=False,
                null_values=_NOTHING,
                true_values=_TRUE,
                false_values=_FALSE,
                decimal_point=self.decimal,
            ),
        )
        if wrong:
            raise self._ragged(block, wrong[0])
        batches = table.combine_chunks().to_batches()
        return dict(zip(kinds, batches[0].columns, strict=True)) if batches else {}

    def _ragged(self, block: Block, row: csv.InvalidRow) -> ContentsError:
        hint = ""
        if self.separator == "," and row.actual_columns > row.expected_columns:
            hint = "; text with a comma needs double quotes around it, and numbers a decimal point"
        return ContentsError(
            f"{self.path}: line {block.line(row.number - 1)}: expected {row.expected_columns} cells separated by"
            f" {self.separator!r} as in the first line, got {row.actual_columns}{hint}"
        )


def _header(path: Path, rows: bytes) -> tuple[str, int, int]:
    """The row of names, where the next one begins, and on which line; raises FileError."""
    if rows.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError(f"{path}: this is UTF-16; save it as UTF-8")
    start = end = len(BOM) * rows.startswith(BOM)
    while end < len(rows):
        end = rows.find(b"\n", end) + 1 or len(rows)
        row = rows[start:end].strip(b"\r\n")  # a tab may stand for an index without a name
        if not row.strip():
            start = end
        elif row.count(b'"') % 2 == 0:
            return _decoded(path, row), end, 1 + rows.count(b"\n", 0, end)
    raise FileError(
        f"{path}: the file is empty; expected a line with the names of columns, and rows"
    )


def _decoded(path: Path, row: bytes) -> str:
    """The row of names as text; raises FileError where it is none."""
    if b"\0" in row:
        raise FileError(f"{path}: this is no text; expected CSV, Parquet or JSON lines")
    if b"\r" in row:
        raise FileError(
            f"{path}: its lines end with a carriage return alone; convert them (`tr '\\r' '\\n'`)"
        )
    try:
        return row.decode()
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path}: the names of columns are not UTF-8 (byte {error.object[error.start]:#04x});"
            " save the file as UTF-8 (`iconv -f latin1 -t utf-8`)"
        ) from None


def _names(path: Path, header: str, separator: str) -> tuple[str, ...]:
    try:
        return tuple(name.strip() for name in next(plain.reader([header], delimiter=separator)))
    except plain.Error as error:
        raise FileError(f"{path}: the first line does not name the columns: {error}") from None


def _sniffed(header: str, sample: str) -> str:
    """The separator that cuts the names and the first row into equally many cells; else the most frequent one."""
    first = sample[: sample.find("\n") + 1 or len(sample)]

    def cells(line: str, separator: str) -> int:
        return _QUOTED.sub("", line).count(separator) + 1

    wide = {separator: cells(header, separator) for separator in SEPARATORS}
    equal = [one for one in SEPARATORS if wide[one] > 1 and cells(first, one) == wide[one]]
    return max(equal or SEPARATORS, key=wide.__getitem__)


def _has_decimal_comma(sample: str, separator: str) -> bool:
    """Whether some cells are numbers with a decimal comma, and none with a point."""
    cells = sample.replace("\n", separator).split(separator)
    written = {
        mark
        for cell in cells
        for mark in ",."
        if mark in cell and number(cell.encode(), mark) is not None
    }
    return written == {","}


def _kind(column: Column) -> Kind:
    """What pyarrow can read a column of text as."""
    words = set(binary(column).unique().to_pylist()) - _NOTHING_BYTES
    if words <= _TRUTH_BYTES:
        return _BOOL if words else _NUMBER
    try:
        pc.cast(pa.array(words, pa.binary()).cast(_TEXT), _NUMBER)
    except pa.ArrowInvalid:
        return _TEXT
    return _NUMBER
