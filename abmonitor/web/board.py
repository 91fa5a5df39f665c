"""A board: what a page shows, part by part, and what of it is newer than somebody has seen. Pure.

Pages are pictures of named parts. Whoever looks says which mark they have seen, and gets only what changed since:
a reader that is slow misses pictures in between, and never waits in a queue.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec


Cells = tuple[str, ...]
"""A row of a table: the HTML of each cell, marked as safe to show (`markupsafe.Markup`)."""

_MOST_FRAMES = 64
"""Of one picture: for readers with so many different marks."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be shown, all of it HTML that is safe to show."""

    parts: Mapping[str, str]
    """By the id of the element that holds it."""
    lists: Mapping[str, Mapping[str, Cells]] = field(default_factory=dict)
    """Rows in their order: by the id of the table's body, and of the row."""
    series: bytes | None = None
    """What charts draw: one JSON document."""
    whole: bool = True
    """False: something in it is older than the rest, and is to be made anew soon, though nothing else changed."""


@dataclass(slots=True)
class _Row:
    born: int
    cells: Cells
    changed: list[int]


@dataclass(slots=True)
class _List:
    order: tuple[str, ...]
    changed: int
    rows: dict[str, _Row]


class Board:
    """Remembers at which picture each part was last another one."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(4)
        self._number = 0
        self._parts: dict[str, tuple[str, int]] = {}
        self._lists: dict[str, _List] = {}
        self._series: tuple[bytes | None, int] = (None, 0)
        self._frames: dict[int, bytes] = {}

    @property
    def mark(self) -> str:
        """What a reader has seen who has seen everything."""
        return f"{self._name}.{self._number}"

    def show(self, picture: Picture) -> None:
        """Show the picture in place of the one before."""
        self._number += 1
        self._frames.clear()
        parts, number = self._parts, self._number
        self._parts = {
            name: parts[name] if name in parts and parts[name][0] == text else (text, number)
            for name, text in picture.parts.items()
        }
        self._lists = {
            name: self._listed(name, rows, number) for name, rows in picture.lists.items()
        }
        if picture.series != self._series[0]:
            self._series = (picture.series, number)

    def _listed(self, name: str, rows: Mapping[str, Cells], number: int) -> _List:
        order, before = tuple(rows), self._lists.get(name)
        if before is None:
            fresh = {key: _Row(number, cells, [number] * len(cells)) for key, cells in rows.items()}
            return _List(order, number, fresh)
        kept = {key: _renewed(before.rows.get(key), cells, number) for key, cells in rows.items()}
        return _List(order, before.changed if order == before.order else number, kept)

    def since(self, mark: str) -> bytes | None:
        """What changed since `mark` as a JSON document; all of it for a mark of another board; None for nothing."""
        seen = self._seen(mark)
        if seen == self._number:
            return None
        if seen not in self._frames:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.pop(next(iter(self._frames)))
            self._frames[seen] = msgspec.json.encode(self._newer(seen), enc_hook=str)
        return self._frames[seen]

    def _seen(self, mark: str) -> int:
        name, _, number = mark.partition(".")
        known = name == self._name and number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if known and int(number) <= self._number else 0

    def _newer(self, seen: int) -> dict[str, Any]:
        found: dict[str, Any] = {"mark": self.mark}
        found["parts"] = {key: text for key, (text, at) in self._parts.items() if at > seen}
        found["lists"] = {
            key: told for key, one in self._lists.items() if (told := _newer_rows(one, seen))
        }
        series, at = self._series
        if series is not None and at > seen:
            found["series"] = msgspec.Raw(series)
        return found


def _renewed(before: _Row | None, cells: Cells, number: int) -> _Row:
    if before is None or len(before.cells) != len(cells):
        return _Row(number, cells, [number] * len(cells))
    if before.cells != cells:
        before.changed = [
            at if old == new else number
            for at, old, new in zip(before.changed, before.cells, cells, strict=True)
        ]
        before.cells = cells
    return before


def _newer_rows(one: _List, seen: int) -> dict[str, Any]:
    """The order where it is another one, rows that are new, and cells that are, by their place."""
    new = {key: row.cells for key, row in one.rows.items() if row.born > seen}
    cells = {
        key: {str(at): row.cells[at] for at, when in enumerate(row.changed) if when > seen}
        for key, row in one.rows.items()
        if row.born <= seen and max(row.changed, default=0) > seen
    }
    found: dict[str, Any] = {"new": new} if new else {}
    if cells:
        found["cells"] = cells
    if one.changed > seen:
        found["order"] = one.order
    return found
