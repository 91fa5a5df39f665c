"""The list of all treatments, worst first: what the page at `/` shows. Pure, but for the clock that bounds the work."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from markupsafe import Markup

from abmonitor.api_types import AtRisk
from abmonitor.at_risk import SHARE_OVER, at_risk, came
from abmonitor.series import headline, spark
from abmonitor.view import ExperimentView, View
from abmonitor.web import words
from abmonitor.web.board import Cells, Picture
from abmonitor.web.drawing import COLOURS, HEIGHT
from abmonitor.web.drawing import spark as drawn
from abmonitor.web.rendering import macro, rendered
from alerts.standing import Pause, Standing
from metrics.experiment import MINUTE


OLD = 2 * MINUTE
"""Data that are older are told to be old."""
DRAWING_S = 0.06
"""Of every picture, for spark lines: those that are left are drawn with the next ones, the worst first."""
REDRAWN_S = 60.0
"""What a spark line goes through is not asked for again before; it ends at the number beside it."""
_CELLS = ("name", "state", "risk", "difference", "line", "traffic", "why")


@dataclass(frozen=True, slots=True)
class Row:
    """One treatment in the list."""

    experiment: str
    treatment: str
    place: int
    """Of the treatment in the settings."""
    dry_run: bool
    state: str
    since: int
    paused: Pause | None
    at_risk: AtRisk
    share: float | None
    """Of the predictions of the latest five minutes of data."""
    metric: str
    difference: float | None
    reasons: tuple[str, ...]
    old: bool = False
    """Whether its newest data is too old for anything to be called good."""
    spark: str = ""
    """SVG, once it is drawn."""

    @property
    def key(self) -> str:
        """The id of the row: short, and the same whenever it is shown."""
        return (
            "r" + blake2b(f"{self.experiment}/{self.treatment}".encode(), digest_size=6).hexdigest()
        )

    @property
    def level(self) -> str:
        """The level of its state; what rests on old data is to be looked at."""
        found = words.level_of(self.state)
        return "watch" if self.old and found != "bad" else found

    @property
    def order(self) -> tuple[int, float, str, int]:
        """Sorts worst first, and then what loses most."""
        risk = self.at_risk.an_hour or 0.0
        return words.severity(self.state), -risk, self.experiment, self.place


@dataclass(slots=True)
class _Line:
    """A spark line, drawn anew where its end has moved so far that it can be seen."""

    asked: float
    """When its values were asked for, in seconds."""
    values: Sequence[float | None]
    cls: str
    _end: float | None = None
    _drawn: Markup | None = None

    def to(self, end: float | None) -> Markup:
        """The line from its values to `end`; None: to the last of them."""
        if self._drawn is None or self._moved(end):
            self._end = end
            there = end is None or list(self.values[-1:]) == [end]
            self._drawn = drawn(self.values if there else (*self.values, end), self.cls)
        return self._drawn

    def _moved(self, end: float | None) -> bool:
        if end is None or self._end is None:
            return end is not self._end
        known = [value for value in (*self.values, self._end, 0.0) if value is not None]
        return abs(end - self._end) * HEIGHT > max(known) - min(known)


@dataclass(slots=True)
class FleetPage:
    """Makes pictures of all experiments; what did not change since the last one is not made again."""

    _sparks: dict[tuple[str, str], _Line] = field(default_factory=dict)
    """By experiment and treatment."""
    _cells: dict[tuple[str, str], tuple[Row, Cells]] = field(default_factory=dict)

    def picture(self, view: View, names: tuple[str, ...], problem: str | None, now: int) -> Picture:
        """The experiments `names` as of `view`; `problem`: why nothing may be newer. `now`: epoch ms."""
        found = sorted(
            (row for name in names for row in _rows(view.experiments[name], now)),
            key=lambda row: row.order,
        )
        whole = self._draw(view, found)
        parts = {
            "as-of-day": words.day(view.as_of),
            "as-of": words.clock(view.as_of),
            "problem": rendered("problem.html", problem=problem),
            "summary": rendered(
                "summary.html",
                levels=Counter(row.level for row in found),
                found=bool(found),
                old=any(row.old for row in found),
                read=view.as_of is not None,
            ),
        }
        rows = {row.key: self._celled(row) for row in found}
        return Picture(parts, {"rows": rows}, whole=whole)

    def _draw(self, view: View, rows: Iterable[Row]) -> bool:
        """Draw spark lines that are due, those that were never drawn first; False where some are left."""
        started = time.monotonic()
        due = [row for row in rows if self._drawn_at(row) + REDRAWN_S <= started]
        for row in sorted(due, key=self._drawn_at):
            if time.monotonic() - started > DRAWING_S:
                return False
            one = view.experiments[row.experiment]
            line = spark(one, row.treatment) if row.treatment in one.snapshot.variants else []
            key = row.experiment, row.treatment
            self._sparks[key] = _Line(started, line, f"v{1 + row.place % COLOURS}")
        return True

    def _drawn_at(self, row: Row) -> float:
        known = self._sparks.get((row.experiment, row.treatment))
        return -REDRAWN_S if known is None else known.asked

    def _celled(self, row: Row) -> Cells:
        key = row.experiment, row.treatment
        if key in self._sparks:
            row = replace(row, spark=self._sparks[key].to(row.difference))
        kept = self._cells.get(key)
        if kept is None or kept[0] != row:
            kept = row, tuple(macro("row.html", name)(row) for name in _CELLS)
            self._cells[key] = kept
        return kept[1]


def _rows(view: ExperimentView, now: int) -> Iterator[Row]:
    declared, end = view.experiment, view.snapshot.watermark
    metric = headline(declared)
    old = None if end is None or now - end <= OLD else now - end
    counts = {name: came(view, name, SHARE_OVER) for name in view.snapshot.variants}
    whole = sum(count or 0 for count in counts.values())
    for place, treatment in enumerate(declared.treatments):
        standing = view.book.standings.get(treatment, Standing())
        compared = view.comparisons.get(treatment)
        difference = None if compared is None else compared.differences.get(metric)
        ours = counts.get(treatment)
        yield Row(
            experiment=declared.name,
            treatment=treatment,
            place=place,
            dry_run=declared.on_breach.dry_run,
            state=standing.state.value,
            since=standing.since,
            paused=standing.paused,
            at_risk=at_risk(view, treatment),
            share=None if ours is None or not whole else ours / whole,
            metric=metric,
            difference=None if difference is None else difference.estimate,
            reasons=tuple(_reasons(standing, old)),
            old=old is not None,
        )


def _reasons(standing: Standing, old: int | None) -> Iterator[str]:
    """What a person should know at once, the most important first."""
    pause = standing.paused
    if pause is not None:
        lasts = "until resumed" if pause.until is None else f"until {words.moment(pause.until)}"
        yield f"paused by {pause.actor} {lasts}: {pause.reason}"
    if standing.verified is False:
        yield "whether its traffic is gone cannot be seen"
    if old is not None:
        yield f"the newest data is {words.span(old)} old"
    yield from dict.fromkeys((*standing.causes, *standing.latched))
