"""The list of all treatments, worst first: what the page at `/` shows. Pure, but for the clock that bounds the work."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from markupsafe import Markup

from abmonitor.api_types import AtRisk
from abmonitor.at_risk import SHARE_OVER, at_risk, came
from abmonitor.series import headline, spark
from abmonitor.view import ExperimentView, View
from abmonitor.web import words
from abmonitor.web.board import Cells, Picture
from abmonitor.web.drawing import spark as drawn
from abmonitor.web.rendering import macro, rendered
from alerts.standing import Pause, Standing
from metrics.experiment import MINUTE


OLD = 2 * MINUTE
"""Data that are older are told to be old."""
DRAWING_S = 0.06
"""Of every picture, for spark lines: those that are left are drawn with the next ones, the worst first."""
REDRAWN_S = 60.0
"""A spark line is not drawn again before: the number beside it is always of now."""
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
        """The level of its state."""
        return words.level_of(self.state)

    @property
    def order(self) -> tuple[int, float, str, int]:
        """Sorts worst first, and then what loses most."""
        risk = self.at_risk.an_hour or 0.0
        return words.severity(self.state), -risk, self.experiment, self.place


@dataclass(slots=True)
class FleetPage:
    """Makes pictures of all experiments; what did not change since the last one is not made again."""

    _sparks: dict[tuple[str, str], tuple[float, Markup]] = field(default_factory=dict)
    """By experiment and treatment: when it was drawn (seconds), and the line."""
    _cells: dict[tuple[str, str], tuple[Row, Cells]] = field(default_factory=dict)

    def picture(self, view: View, names: tuple[str, ...], problem: str | None, now: int) -> Picture:
        """The experiments `names` as of `view`; `problem`: why nothing may be newer. `now`: epoch ms."""
        found = sorted(
            (row for name in names for row in _rows(view.experiments[name], now)),
            key=lambda row: row.order,
        )
        whole = self._draw(view, found)
        parts = {
            "as-of": words.clock(view.as_of),
            "problem": rendered("problem.html", problem=problem),
            "summary": rendered(
                "summary.html",
                levels=Counter(row.level for row in found),
                found=bool(found),
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
            self._sparks[key] = started, drawn(line, f"v{1 + row.place % 5}")
        return True

    def _drawn_at(self, row: Row) -> float:
        return self._sparks.get((row.experiment, row.treatment), (-REDRAWN_S, ""))[0]

    def _celled(self, row: Row) -> Cells:
        key = row.experiment, row.treatment
        if key in self._sparks:
            row = replace(row, spark=self._sparks[key][1])
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
