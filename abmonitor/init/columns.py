"""The fields of records: where they stand and what is in them. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


DEPTH = 6
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

UNNAMEABLE = frozenset('."\\')
"""A dotted path cannot name what has these."""

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """One field of a sample."""

    place: str
    """A dotted path, or the name of a header."""
    header: bool
    values: tuple[Scalar | None, ...]
    """By record; None where it is absent, null or no scalar."""
    scalar: bool
    """There is nothing else in it, such as a list."""

    @cached_property
    def present(self) -> list[Scalar]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    @cached_property
    def share(self) -> float:
        """In which part of the records it has a value."""
        return len(self.present) / len(self.values)

    @cached_property
    def kinds(self) -> set[type]:
        """The types of its values."""
        return {type(value) for value in self.present}

    @cached_property
    def counts(self) -> Counter[Scalar]:
        """How often there is which value; only for columns that do not mix 1 and true."""
        return Counter(self.present)

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self.counts)

    @cached_property
    def numbers(self) -> list[float]:
        """Its numbers, in order of size."""
        return sorted(
            value
            for value in self.present
            if isinstance(value, int | float) and not isinstance(value, bool)
        )

    @property
    def numeric(self) -> bool:
        """Whether there are only numbers."""
        return bool(self.numbers) and len(self.numbers) == len(self.present)

    @property
    def median(self) -> float:
        """The number in the middle."""
        return self.numbers[len(self.numbers) // 2]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What it is called, in lower case with underscores: its own name, and with its parent's."""
        parts = [_words(part) for part in self.place.removeprefix("ce_").split(".")]
        own = "_".join(parts[-1])
        return (own, "_".join([*parts[-2], *parts[-1]])) if len(parts) > 1 else (own,)

    @property
    def words(self) -> set[str]:
        """The words of its own name and of its parent's."""
        return set(self.names[-1].split("_"))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)] or [name.lower()]


def columns(
    rows: Sequence[Mapping[str, Any]], headers: Sequence[Mapping[str, bytes]]
) -> list[Column]:
    """All fields of records, in the order in which they first stand there."""
    found: dict[tuple[str, bool], dict[int, Any]] = {}
    for index, (row, head) in enumerate(zip(rows, headers, strict=True)):
        for path, value in _flat(row):
            found.setdefault((path, False), {})[index] = value
        for name, text in head.items():
            if name.lower() != "content-type":
                found.setdefault((name, True), {})[index] = text.decode("utf-8", "replace")
    return [
        _column(place, header, values, len(rows))
        for (place, header), values in found.items()
        if any(value is not None for value in values.values())
    ]


def _column(place: str, header: bool, values: Mapping[int, Any], length: int) -> Column:
    scalars = [values.get(index) for index in range(length)]
    kept = tuple(value if isinstance(value, Scalar) else None for value in scalars)
    whole = all(value is None or isinstance(value, Scalar) for value in scalars)
    return Column(place, header, kept, whole)


def _flat(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The leaves of an object by their dotted path; some names cannot stand in one."""
    for name, value in row.items():
        if not name or not name.isprintable() or set(name) & UNNAMEABLE:
            continue
        if isinstance(value, dict):
            if depth < DEPTH:
                yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield prefix + name, value
