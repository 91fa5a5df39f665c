"""The columns of a ranking: what they are called, which end is the better one, and how they are written. Pure."""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from abmonitor.operate.printable import printable
from abmonitor.ranking.ranking import NAMES, Ranking
from metrics.candidates import BASELINES, FloatArray


UNKNOWN = "\N{EN DASH}"
NO_BOUND = "-\N{INFINITY}"
Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; `needs` names what has to be asked for."""

    name: str
    title: str
    better: Better | None
    needs: Literal["ranges", "tuning", "replicates"] | None = None

    def missing(self, ranking: Ranking) -> str | None:
        """What would have to be asked for, or None."""
        there = {
            "ranges": ranking.within is not None,
            "tuning": ranking.tuning is not None,
            "replicates": ranking.tied is not None,
        }
        wanted = {
            "ranges": "a range of assumptions",
            "tuning": "--optimise-threshold",
            "replicates": "--replicates of 40 or more",
        }
        return None if self.needs is None or there[self.needs] else wanted[self.needs]


COLUMNS = (
    Column("tied", "tied", None, "replicates"),
    Column("rap", "RAP %", "more"),
    Column("interval", "95 % interval", None, "replicates"),
    Column("ranks", "ranks", None, "ranges"),
    Column("first", "first", None, "ranges"),
    Column("rap_range", "RAP in range", None, "ranges"),
    Column("threshold", "threshold", None, "tuning"),
    Column("untuned", "untuned", "more", "tuning"),
    Column("in_sample", "in sample", "more", "tuning"),
    Column("roi", "ROI %", "more"),
    Column("profit", "profit", "more"),
    Column("precision", "prec. %", "more"),
    Column("recall", "recall %", "more"),
    Column("accuracy", "acc. %", "more"),
    Column("f_score", "F %", "more"),
    Column("false_alarm_rate", "alarms %", "less"),
    Column("specificity", "spec. %", "more"),
    Column("tp", "TP", "more"),
    Column("fp", "FP", "less"),
    Column("fn", "FN", "less"),
    Column("tn", "TN", "more"),
)
"""In the order in which they are shown, and dropped from the end where there is no room."""

_COUNTS = {"tp", "fp", "fn", "tn"}
_SHARES = {*NAMES, "untuned", "in_sample"} - _COUNTS - {"profit"}


def chosen(names: Sequence[str], ranking: Ranking) -> tuple[Column, ...]:
    """The columns asked for by name, in that order; raises ValueError for one that there is not."""
    by_name = {column.name: column for column in COLUMNS}
    for name in names:
        check_name(name)
        missing = by_name[name].missing(ranking)
        if missing:
            raise ValueError(f"--columns: {name} is there only with {missing}")
    return tuple(by_name[name] for name in names)


def check_name(name: str) -> None:
    """Raise ValueError unless there is a column of this name."""
    names = [column.name for column in COLUMNS]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(names)}"
        raise ValueError(f"--columns: unknown column {printable(name, 60)!r}; {hint}")


def values(ranking: Ranking, name: str) -> FloatArray | None:
    """The numbers of a column (M + 4,), or (M,) where baselines have none; None where it has text."""
    tuning = ranking.tuning
    if tuning is not None and name in {"untuned", "in_sample"}:
        found: FloatArray = getattr(tuning, name)
        return found
    return ranking.column(name) if name in NAMES else None


def written(ranking: Ranking, name: str) -> Callable[[int], str]:
    """How the cells of a column are written, by place: models, then baselines."""
    numbers = values(ranking, name)
    if numbers is not None:
        form = _form(name, numbers)
        return lambda place: form(float(numbers[place])) if place < len(numbers) else ""
    return _TEXTS[name](ranking)


def _form(name: str, numbers: FloatArray) -> Callable[[float], str]:
    if name in _SHARES:
        return share
    if name in _COUNTS:
        return lambda number: f"{number:,.0f}"
    largest = max((abs(each) for each in numbers.tolist() if math.isfinite(each)), default=0.0)
    digits = 0 if largest >= 1_000 else 1 if largest >= 10 else 3
    return lambda number: fixed(number, digits)


def share(number: float) -> str:
    """A share in per cent, without the sign.

    >>> share(0.4123), share(-0.00001)
    ('41.2', '0.0')
    """
    return fixed(100 * number, 1)


def fixed(number: float, digits: int) -> str:
    """A number with so many digits behind the point, and no minus before a zero."""
    if math.isnan(number):
        return UNKNOWN
    if math.isinf(number):
        return NO_BOUND if number < 0 else NO_BOUND[1:]
    return f"{round(number, digits) + 0.0:,.{digits}f}"


def span(low: float, high: float) -> str:
    """An interval of shares, in per cent."""
    return UNKNOWN if math.isnan(low) or math.isnan(high) else f"[{share(low)}, {share(high)}]"


def _tied(ranking: Ranking) -> Callable[[int], str]:
    tied = ranking.tied
    return lambda place: "tied" if tied is not None and tied[place] else ""


def _interval(ranking: Ranking) -> Callable[[int], str]:
    bounds = ranking.joint()
    if bounds is None:
        return lambda _: UNKNOWN
    low, high = bounds
    never = len(ranking.models) + BASELINES.index("never")  # known, and not for lack of data
    return lambda place: "" if place == never else span(float(low[place]), float(high[place]))


def _rap_range(ranking: Ranking) -> Callable[[int], str]:
    if ranking.within is None:
        return lambda _: UNKNOWN
    low, high = ranking.within.rap
    return lambda place: f"{share(float(low[place]))} to {share(float(high[place]))}"


def _ranks(ranking: Ranking) -> Callable[[int], str]:
    if ranking.within is None:
        return lambda _: UNKNOWN
    ranks = ranking.within.ranks

    def cell(place: int) -> str:
        if place >= len(ranks.best):
            return ""
        best, worst = int(ranks.best[place]), int(ranks.worst[place])
        return str(best) if best == worst else f"{best} to {worst}"

    return cell


def _first(ranking: Ranking) -> Callable[[int], str]:
    told = ranking.within.ranks.certainty(1) if ranking.within else []
    return lambda place: told[place] if place < len(told) else ""


def _threshold(ranking: Ranking) -> Callable[[int], str]:
    found = [] if ranking.tuning is None else ranking.tuning.thresholds.tolist()

    def cell(place: int) -> str:
        if place >= len(found):
            return ""
        return "never acts" if math.isnan(found[place]) else f"{found[place]:.4g}"

    return cell


_TEXTS: dict[str, Callable[[Ranking], Callable[[int], str]]] = {
    "tied": _tied,
    "interval": _interval,
    "rap_range": _rap_range,
    "ranks": _ranks,
    "first": _first,
    "threshold": _threshold,
}
