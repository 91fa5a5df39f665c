"""Files of JSON lines, one object a row, read by pyarrow block by block (touches files)."""

import json
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json

from abmonitor.ranking.cells import Column, ContentsError, FileError, Kind, Part
from abmonitor.ranking.lines import Block, blocks, first_rows


_NUMBERS = (_WHOLE, _FRACTION) = pa.int64(), pa.float64()
_BOOL, _TEXT, _SCORE = pa.bool_(), pa.string(), pa.float32()


class JsonFile:
    """JSON lines. Columns are the keys of the rows in the first 8 MB, which may come in any order."""

    unit = "line"
    decimal = "."

    def __init__(self, path: Path) -> None:
        """Read the names of columns; raises FileError."""
        self.path = path
        self._kinds: dict[str, Kind] = {}
        names: dict[str, None] = {}
        for number, line in enumerate(first_rows(path, quoted=False).splitlines(), 1):
            if line.strip():
                row = self._row(line, number)
                names.update(dict.fromkeys(row))
                for name, value in row.items():
                    self._kinds.setdefault(name, _kind([value]))
        if not names:
            raise FileError(f"{path}: the file is empty; expected one JSON object on each line")
        self.columns = tuple(names)

    def at_once(self, scores: int) -> int:
        """All of them: rows come one after the other; see `Source`."""
        return scores

    def tasks(
        self, exact: frozenset[int], scores: frozenset[int]
    ) -> Generator[Callable[[], Part], None, None]:
        """Give parts; see `Source`."""
        wanted = {place: self.columns[place] for place in exact | scores}
        for block in blocks(self.path, quoted=False):
            yield partial(self._part, block, wanted, scores)

    def _part(self, block: Block, wanted: dict[int, str], scores: frozenset[int]) -> Part:
        kinds = {place: self._kinds[name] for place, name in wanted.items()}
        for place in scores:
            if kinds[place] in _NUMBERS:
                kinds[place] = _SCORE
        schema = pa.schema([(wanted[place], kind) for place, kind in kinds.items()])
        try:
            table = arrow_json.read_json(
                pa.BufferReader(block.data),
                read_options=arrow_json.ReadOptions(
                    block_size=len(block.data) + 1, use_threads=False
                ),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=schema, unexpected_field_behavior="ignore"
                ),
            ).select(list(wanted.values()))
        except pa.ArrowInvalid:  # broken, or of another kind than thought
            table = self._slowly(block, wanted)
        batches = table.combine_chunks().to_batches()
        columns = dict(zip(wanted, batches[0].columns, strict=True)) if batches else {}
        return Part(columns, block.line, block.done)

    def _slowly(self, block: Block, wanted: dict[int, str]) -> Column:
        """Read what may differ from row to row; raises ContentsError with the line that is no JSON object."""
        rows = [
            self._row(line, number)
            for number, line in enumerate(block.data.split(b"\n"), block.first_line)
            if line.strip()
        ]
        columns = {}
        for name in wanted.values():
            values = [row.get(name) for row in rows]
            kind = self._kinds[name] = _kind(values)
            columns[name] = pa.array(
                [_written(value) for value in values] if kind == _TEXT else values, kind
            )
        return pa.table(columns)

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ContentsError(
                f"{self.path}: line {number} is not JSON ({error}); expected one object on each line"
            ) from None
        if not isinstance(row, dict):
            raise ContentsError(
                f"{self.path}: line {number}: expected a JSON object such as"
                ' {"label": 1, "model": 0.7}, got ' + type(row).__name__
            )
        return row


def _kind(values: list[Any]) -> Kind:
    """What pyarrow can read these values as."""
    types = {type(value) for value in values if value is not None}
    if types == {int}:
        small = all(value is None or abs(value) < 1 << 63 for value in values)
        return _WHOLE if small else _TEXT
    if types <= {int, float}:
        return _FRACTION
    return _BOOL if types == {bool} else _TEXT


def _written(value: object) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value)
