"""A ranking for people: what it says in sentences, and a table that fits the terminal. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.operate.printable import printable
from abmonitor.ranking.columns import COLUMNS, UNKNOWN, Column, chosen, values, written
from abmonitor.ranking.lead import basis, notes, sentences
from abmonitor.ranking.ranking import Ranking
from metrics.candidates import BoolArray


WIDTH = 100
"""Where nothing says how wide it may be."""
SHORTEST = 12
"""A model's name has at least so many characters..."""
SHARE = 0.27
"""... and takes at most this share of the width..."""
LONGEST = 40
"""... and so many characters, where columns need the room."""
GAP = 2
MARK = "*"
SAME = 1e-9
"""Numbers that differ by less, in shares of themselves, are marked alike."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A column as it is shown: cells of models, then of baselines, and which of them are the best."""

    column: Column
    cells: tuple[str, ...]
    marked: tuple[bool, ...]

    @property
    def width(self) -> int:
        return max(len(self.column.title), *(len(each) + 1 for each in self.cells))


def render(
    ranking: Ranking,
    *,
    top: int | None = 20,
    columns: Sequence[str] = (),
    width: int | None = None,
) -> RenderableType:
    """The first `top` models (None: all) and the baselines, in `width` characters.

    `columns` chooses by name, whatever room there is. Without a `width` names are whole and the other columns
    are those that fit `WIDTH`. Print it with `crop=False`. Raises ValueError for a column that there is not.
    """
    shown = ranking.order[:top].tolist()
    wanted = chosen(columns, ranking) or _possible(ranking)
    table, kept = _fitted(ranking, shown, wanted, width, every=bool(columns))
    first, *others = sentences(ranking)
    return Group(
        Text(first, style="bold"),
        *(Text(each) for each in others),
        Text(basis(ranking), style="dim"),
        Text(),
        table,
        Text(),
        *(Text(line, style="dim") for line in _legend(ranking, shown, wanted, kept)),
        *(note(each) for each in notes(ranking)),
    )


def note(told: str) -> Text:
    """What somebody who relies on the numbers has to know, so that it is seen."""
    return Text(f"! {told}", style="yellow")


def _fitted(
    ranking: Ranking,
    shown: Sequence[int],
    wanted: Sequence[Column],
    width: int | None,
    *,
    every: bool,
) -> tuple[Table, list[_Cells]]:
    """The table in `width` characters, and its columns: as many as fit, or `every` one."""
    places = [*shown, *range(len(ranking.models), len(ranking.tally.counts.models))]
    names = [printable(ranking.tally.counts.models[place]) for place in places]
    longest = max(cell_len(name) for name in names)
    most = WIDTH if width is None else width
    used = len(f"{len(ranking.models)}") + GAP
    kept = [_cells(ranking, column, places) for column in wanted]
    if not every:
        at_most = min(longest, LONGEST, max(SHORTEST, int(SHARE * most)))
        kept = _fitting(kept, most - used - at_most)
    used += sum(GAP + each.width for each in kept)
    room = longest if width is None else min(longest, max(SHORTEST, width - used))
    table = _table(ranking, places, [_cut(name, room) for name in names], kept)
    table.width = used + room
    return table, kept


def _possible(ranking: Ranking) -> tuple[Column, ...]:
    return tuple(column for column in COLUMNS if column.missing(ranking) is None)


def _fitting(cells: Sequence[_Cells], room: int) -> list[_Cells]:
    """Columns from the first on, as many as there is room for, and RAP in any case."""
    kept: list[_Cells] = []
    for each in cells:
        room -= GAP + each.width
        if room < 0:
            break
        kept.append(each)
    rap = [each for each in cells if each.column.name == "rap"]
    return kept if any(each.column.name == "rap" for each in kept) else rap


def _cells(ranking: Ranking, column: Column, places: Sequence[int]) -> _Cells:
    write, best = written(ranking, column.name), _best(ranking, column)
    marked = tuple(bool(place < len(best) and best[place]) for place in places)
    return _Cells(column, tuple(write(place) for place in places), marked)


def _best(ranking: Ranking, column: Column) -> BoolArray:
    """Which models (M,) have the best number of a column."""
    numbers = values(ranking, column.name)
    if numbers is None or column.better is None:
        return np.zeros(len(ranking.models), np.bool_)
    numbers = numbers[: len(ranking.models)]
    if np.isnan(numbers).all():
        return np.zeros(len(ranking.models), np.bool_)
    best = np.nanmax(numbers) if column.better == "more" else np.nanmin(numbers)
    return np.isclose(numbers, best, rtol=SAME, atol=0.0)


def _table(
    ranking: Ranking, places: Sequence[int], names: Sequence[str], cells: Sequence[_Cells]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold underline")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for each in cells:
        left = each.column.name in {"tied", "first"}
        table.add_column(Text(each.column.title), justify="left" if left else "right", no_wrap=True)
    models = len(ranking.models)
    for row, (place, name) in enumerate(zip(places, names, strict=True)):
        if place == models:
            table.add_row()
        rank = str(ranking.ranks[place]) if place < models else ""
        style = "italic" if place >= models else ""
        table.add_row(rank, Text(name), *(_cell(each, row) for each in cells), style=style)
    return table


def _cell(each: _Cells, row: int) -> Text:
    """A cell with its mark, which is there without colour, too."""
    if each.column.better is None:
        return Text(each.cells[row], style="cyan" if each.column.name == "tied" else "")
    if each.marked[row]:
        return Text(each.cells[row] + MARK, style="bold green")
    return Text(each.cells[row] + " ")


def _cut(name: str, width: int) -> str:
    """A name in so many cells; what is cut is in its middle, as ends tell models of one sweep apart."""
    if cell_len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{_begin(name, head)}…{_begin(name[::-1], width - 1 - head)[::-1]}"


def _begin(name: str, width: int) -> str:
    """As much of a name as fits into so many cells; some characters take two."""
    end = 0
    for end, used in enumerate(accumulate(map(cell_len, name)), 1):
        if used > width:
            return name[: end - 1]
    return name[:end]


def _legend(
    ranking: Ranking, shown: Sequence[int], wanted: Sequence[Column], kept: Sequence[_Cells]
) -> Iterator[str]:
    """What to know when reading the table, and how to see more."""
    hidden = len(ranking.models) - len(shown)
    if hidden:
        yield f"{hidden:,} more models: --top N, --all or --json."
    elsewhere = list(_elsewhere(ranking, shown, kept))
    if elsewhere:
        yield f"{MARK} further down: {'; '.join(elsewhere)}."
    names = [each.column.name for each in kept]
    yield from _meaning(names)
    left_out = [column.name for column in wanted if column.name not in names]
    if left_out:
        yield f"More columns by --columns: {', '.join(left_out)}."


def _meaning(names: Sequence[str]) -> Iterator[str]:
    told = [f"{MARK} best of all models", f"{UNKNOWN} cannot be known"]
    if "tied" in names:
        told.append("tied: may truly be the best (95 %)")
    yield "; ".join(told) + "."
    if "interval" in names:
        yield "Intervals hold for all models together, so for the one that came out first, too."


def _elsewhere(ranking: Ranking, shown: Sequence[int], kept: Sequence[_Cells]) -> Iterator[str]:
    """Who is best in columns of whose best models none is shown."""
    for each in kept:
        best = np.flatnonzero(_best(ranking, each.column))
        if len(best) and not set(best.tolist()) & set(shown):
            place = min(best.tolist(), key=lambda place: int(ranking.ranks[place]))
            cell = written(ranking, each.column.name)(place)
            name = printable(ranking.models[place], LONGEST)
            yield f"{each.column.title} {cell} {name} (rank {ranking.ranks[place]})"
