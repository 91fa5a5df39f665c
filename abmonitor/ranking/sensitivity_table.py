"""Who is best for which assumption, for people (tables with honest digits) and for programs. Pure."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.operate.printable import printable
from abmonitor.ranking.columns import share
from abmonitor.ranking.sensitivity import Best, Crossing, Sensitivity
from abmonitor.summary import UNKNOWN
from metrics.candidates import FloatArray


STEPS = 14
"""Rows of the table of RAP: -30 %, -20 % ... +100 %, and no more for other axes."""
COLUMNS = 8
"""Competitors in the table of RAP: those that are best over the widest stretches."""
MODELS = 20
"""Models in the table of break-even costs."""
MOST_DECIMALS = 9
TITLE = {"assumed_roi": "assumed ROI", "q": "q"}


def render(found: Sensitivity) -> RenderableType:
    """The answer for people: in a sentence, stretch by stretch, step by step."""
    parts: list[RenderableType] = [_text(headline(found)), Text(), _stretches(found), Text()]
    parts += [_raps(found), Text()]
    if found.assumed.unit_revenue is not None:
        parts += [_costs(found), Text()]
    told = [
        "RAP: relative achieved profit; * the highest of all models, always and never.",
        *_outside(found),
        *found.notes,
    ]
    return Group(*parts, *(_text(line, style="dim") for line in told))


def _text(line: str, style: str = "") -> Text:
    """A line with names in it, which may hold what terminals act on."""
    return Text(printable(line), style=style)


def headline(found: Sensitivity, minus: str = "-") -> str:
    """Who is best at what is assumed, and how far that may be wrong; one sentence."""
    ends, named = Ends(found, minus), TITLE[found.axis]
    here, told = found.at_assumed, named if named.startswith("assumed") else f"assumed {named}"
    if found.point is None:
        every = "for all of" if len(here) == 1 else "somewhere in"
        what = f"{every} the {told} {ends.between(*found.range, typed=True)}"
    else:
        what = f"at the {told} of {ends.typed(found.point)}"
    names = " and ".join(name_of(found, each.places) for each in here[:3])
    if len(here) > 3:
        names = f"{names} and {len(here) - 3} more"
    if len(here) > 1:
        return f"{names} are best {what}."
    return f"{names} is best {what}, and stays so {span(found, here[0], minus)}."


def span(found: Sensitivity, best: Best, minus: str = "-") -> str:
    """From where to where a competitor is best, in words."""
    if best.low is None and best.high is None:
        return "whatever is assumed"
    return Ends(found, minus).between(found.where(best.low), found.where(best.high))


def name_of(found: Sensitivity, places: Sequence[int]) -> str:
    """The names of competitors with equal counts, baselines first, three of them."""
    names = [one_name(found, place) for place in sorted(places, key=lambda at: at < found.models)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return " = ".join(names[:3]) + more


def one_name(found: Sensitivity, place: int) -> str:
    """The name of a competitor; a baseline that shares its name with a model says what it is."""
    name = found.counts.models[place]
    taken = place >= found.models and name in found.counts.models[: found.models]
    return f"{name} (baseline)" if taken else name


class Ends:
    """Places of the axis as text; crossings with as many decimals as it takes to tell them apart."""

    def __init__(self, found: Sensitivity, minus: str = "-") -> None:
        self._roi, self._minus = found.axis == "assumed_roi", minus
        ends = [found.where(crossing) for each in found.shown for crossing in (each.low, each.high)]
        places = sorted({end for end in [*ends, found.point] if end is not None})
        apart = min((after - before for before, after in pairwise(places)), default=1.0)
        unit, least = (100, 1) if self._roi else (1, 2)
        needed = math.ceil(-math.log10(apart * unit / 2)) if apart else MOST_DECIMALS
        self._decimals = min(max(least, needed), MOST_DECIMALS)

    def crossing(self, at: float | None) -> str:
        """Where two are worth the same, rounded."""
        return UNKNOWN if at is None else self._written(at, f",.{self._decimals}f")

    def typed(self, at: float) -> str:
        """A place that somebody chose, as it was written."""
        return self._written(at, ",.10g")

    def between(self, low: float | None, high: float | None, *, typed: bool = False) -> str:
        """From where to where, in words; None is an open end, and one of them is none."""
        first, last = (
            "" if each is None else self.typed(each) if typed else self.crossing(each)
            for each in (low, high)
        )
        if low is None:
            return f"up to {last}"
        return f"from {first} on" if high is None else f"from {first} to {last}"

    def _written(self, at: float, form: str) -> str:
        shown = at * 100 if self._roi else at
        text = format(shown, ("+" if self._roi and shown else "") + form).replace("-", self._minus)
        return f"{text} %" if self._roi else text


def letters() -> Iterator[str]:
    """A, B ... Z, A2, B2 ...: short names of stretches for the columns of another table."""
    number = 1
    while True:
        yield from (letter if number == 1 else f"{letter}{number}" for letter in ascii_uppercase)
        number += 1


def _table(*columns: str, first: str = "") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column(first)
    for column in columns:
        table.add_column(Text(column), justify="right", no_wrap=True)
    return table


def _stretches(found: Sensitivity) -> Table:
    """Who is best from where to where; the mark is where the assumed point lies."""
    title = TITLE[found.axis]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column("")
    table.add_column("best", overflow="fold")
    for column in ("from", "to", "earns above"):
        table.add_column(Text(f"{column} {title}" if column == "from" else column), justify="right")
    table.add_column("")
    ends, break_even = Ends(found), found.break_even_q.tolist()
    for letter, each in zip(letters(), found.shown, strict=False):
        mark = "< assumed" if each in found.at_assumed else ""
        low, high = ends.crossing(found.where(each.low)), ends.crossing(found.where(each.high))
        earns = ends.crossing(earns_above(found, break_even[each.places[0]]))
        table.add_row(letter, _text(name_of(found, each.places)), low, high, earns, mark)
    return table


def earns_above(found: Sensitivity, break_even_q: float) -> float | None:
    """The same on the axis, above which a competitor earns. None where it never acts, and q is NaN."""
    if math.isnan(break_even_q):
        return None
    p0 = found.reference_precision
    return break_even_q if p0 is None else p0 * break_even_q - 1


def steps(found: Sensitivity) -> FloatArray:
    """Round places of the axis: -0.3, -0.2 ... 1 of the usual one.

    Those where q is at most 1 are left out.
    """
    low, high = found.ends
    least = (high - low) / (STEPS - 0.5)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    at = np.round(np.arange(first, last + 1) * step, 12)
    kept: FloatArray = at[found.q(at) > 1]
    return kept


def _raps(found: Sensitivity) -> Table:
    """RAP of those that are best over the widest stretches, and of always."""
    lettered = list(zip(letters(), found.shown, strict=False))
    widest = sorted(lettered, key=lambda each: -width(found, each[1]))[:COLUMNS]
    columns = {letter: each.places[0] for letter, each in lettered if (letter, each) in widest}
    always, never = found.models, found.models + 1
    columns |= {
        one_name(found, place): place for place in (always, never) if place not in columns.values()
    }
    table = _table(*columns, first=f"RAP % at {TITLE[found.axis]}")
    ends = Ends(found)
    for at in steps(found).tolist():
        raps = found.rap(at)
        top = raps.max()
        cells = (
            f"{share(float(raps[place]))}{'*' if raps[place] == top else ' '}"
            for place in columns.values()
        )
        table.add_row(ends.typed(at), *cells)
    return table


def width(found: Sensitivity, best: Best) -> float:
    """How much of the axis a stretch takes."""
    start, end = found.ends
    low, high = found.where(best.low), found.where(best.high)
    return min(end, math.inf if high is None else high) - max(
        start, -math.inf if low is None else low
    )


def _costs(found: Sensitivity) -> Table:
    """What an action may cost until a model earns nothing: who is best, who may pay most, and always."""
    low, high = found.break_even_unit_cost
    known = [each for each in (low, high) if each is not None]
    costs = np.nan_to_num(known[0], nan=-1.0)
    best = [place for each in found.shown for place in each.places if place < found.models]
    most = np.argsort(-costs[: found.models], kind="stable").tolist()
    order = list(dict.fromkeys(best + most))
    rest = len(order) - MODELS
    point = low is not None and high is not None and np.array_equal(low, high, equal_nan=True)
    titles = ["break-even unit cost"] if point else ["at the lowest unit revenue", "at the highest"]
    table = _table(*titles, first="model")
    for place in [*order[:MODELS], found.models]:
        cells = [UNKNOWN if each is None else _money(float(each[place])) for each in (low, high)]
        table.add_row(_text(one_name(found, place)), *cells[: len(titles)])
    if rest > 0:
        table.add_row(Text(f"and {rest:,} more: --json", style="dim"))
    return table


def _money(amount: float) -> str:
    return UNKNOWN if math.isnan(amount) else f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}"


def _outside(found: Sensitivity) -> Iterator[str]:
    """Who is best where the table does not reach."""
    above, below = found.best[found.inside.stop :], found.best[: found.inside.start]
    if above:
        yield f"Above, {name_of(found, above[-1].places)} is best {span(found, above[-1])}."
    if below:
        yield f"Below, {name_of(found, below[0].places)} is best {span(found, below[0])}."


def document(found: Sensitivity) -> dict[str, Any]:
    """All of it as plain data, in full precision; shares as shares of 1, null where nothing is known."""
    at = steps(found)
    raps = np.array([found.rap(each) for each in at.tolist()]).reshape(len(at), -1)
    low, high = found.break_even_unit_cost
    break_even = found.break_even_q.tolist()
    return {
        "axis": found.axis,
        "reference_precision": found.reference_precision,
        "from": found.ends[0],
        "to": found.ends[1],
        "assumed": {"from": found.range[0], "to": found.range[1]},
        "best_at_assumed": [
            found.counts.models[place] for each in found.at_assumed for place in each.places
        ],
        "stretches": [_stretch(found, number) for number in range(len(found.best))],
        "at": at.tolist(),
        "models": [
            {
                "model": name,
                "baseline": place >= found.models,
                "rap": [_number(rap) for rap in raps[:, place].tolist()],
                "break_even_q": _number(break_even[place]),
                "earns_above": earns_above(found, break_even[place]),
                "break_even_unit_cost": {
                    "at_lowest_revenue": None if low is None else _number(float(low[place])),
                    "at_highest_revenue": None if high is None else _number(float(high[place])),
                },
            }
            for place, name in enumerate(found.counts.models)
        ],
        "notes": list(found.notes),
    }


def _stretch(found: Sensitivity, number: int) -> dict[str, Any]:
    each = found.best[number]
    return {
        "models": [found.counts.models[place] for place in each.places],
        "baseline": any(place >= found.models for place in each.places),
        "from": _end(found, each.low),
        "to": _end(found, each.high),
        "on_axis": found.inside.start <= number < found.inside.stop,
    }


def _end(found: Sensitivity, crossing: Crossing | None) -> dict[str, Any] | None:
    if crossing is None:
        return None
    p0 = found.reference_precision
    return {
        "assumed_roi": None if p0 is None else crossing.roi(p0),
        "q": crossing.q,
        "k": float(crossing.k),
        "k_exact": f"{crossing.k.numerator}/{crossing.k.denominator}",
    }


def _number(number: float) -> float | None:
    return None if math.isnan(number) else number
