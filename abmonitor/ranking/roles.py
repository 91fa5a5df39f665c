"""Which column of a file is what (pure)."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from abmonitor.ranking.cells import FileError, Source, number
from abmonitor.ranking.checks import Plan


_SHOWN = 12
"""Names of columns that a message lists."""
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Which column is what, by name. `label` None is a column called `label`.

    `models` are patterns as of a shell (`forest_*`), or exact names; none: all columns that are nothing else.
    """

    label: str | None = None
    id: str | None = None
    value: str | None = None
    cost: str | None = None
    models: tuple[str, ...] = ()


def plan_for(path: Path, source: Source, roles: Roles, *, drop_unlabelled: bool) -> Plan:
    """Find the columns; raises FileError for those that are not there, or cannot be told apart."""
    columns = source.columns
    label = _place(path, columns, "label", roles.label or "label")
    others = {
        role: None if name is None else _place(path, columns, role, name)
        for role, name in (("id", roles.id), ("value", roles.value), ("cost", roles.cost))
    }
    taken: dict[int, str] = {}
    for role, place in {"label": label, **others}.items():
        if place in taken:
            raise FileError(
                f"{path}: column {columns[place]!r} is given as --{taken[place]} and as --{role};"
                " expected another one for each"
            )
        if place is not None:
            taken[place] = role
    free = [place for place in range(len(columns)) if place not in taken]
    index = [place for place in free if _INDEX.fullmatch(columns[place])]
    scores = _scores(path, columns, free, frozenset(index), roles.models)
    return Plan(
        file=str(path),
        unit=source.unit,
        decimal=source.decimal,
        columns=columns,
        label=label,
        **others,
        scores=scores,
        left_out=tuple(columns[place] for place in index if place not in scores),
        drop_unlabelled=drop_unlabelled,
    )


def _place(path: Path, columns: Sequence[str], role: str, name: str) -> int:
    """Where the column of that name is."""
    if name not in columns:
        near = get_close_matches(name, columns, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if all(number(column.encode()) is not None for column in columns):
            hint = "; the first line has to hold the names of columns"
        raise FileError(
            f"{path}: no column {name!r}; expected --{role} to name one of {_listed(columns)}{hint}"
        )
    _check_once(path, columns, name)
    return columns.index(name)


def _check_once(path: Path, columns: Sequence[str], name: str) -> None:
    places = [place + 1 for place, column in enumerate(columns) if column == name]
    if len(places) > 1:
        raise FileError(
            f"{path}: columns {places[0]} and {places[1]} are both named {name!r}; rename one of them"
        )


def _scores(
    path: Path,
    columns: Sequence[str],
    free: Sequence[int],
    index: frozenset[int],
    patterns: Sequence[str],
) -> tuple[int, ...]:
    """The places of the models, in the order of the file."""
    for pattern in patterns:
        if not any(_matches(columns[place], pattern) for place in free):
            near = get_close_matches(pattern, [columns[place] for place in free], 1)
            raise FileError(
                f"{path}: --models {pattern!r}: expected a name or pattern of one of"
                f" {_listed([columns[place] for place in free])}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
    chosen = [
        place
        for place in free
        if (
            any(_matches(columns[place], pattern) for pattern in patterns)
            and (place not in index or columns[place] in patterns)
            if patterns
            else place not in index
        )
    ]
    if not chosen:
        raise FileError(
            f"{path}: no columns of models; expected decisions or scores beside {_listed(columns)}"
        )
    repeated = [
        name for name, times in Counter(columns[place] for place in chosen).items() if times > 1
    ]
    for name in repeated[:1]:
        _check_once(path, columns, name)
    return tuple(chosen)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(column) for column in columns[:_SHOWN])
    more = len(columns) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown or "none"
