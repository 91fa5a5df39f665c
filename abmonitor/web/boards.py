"""The boards of what is looked at: each view is rendered once, whoever looks, and only while somebody does. Pure, but for a clock."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from abmonitor.view import View
from abmonitor.web.board import Board, Picture
from abmonitor.web.experiment import ExperimentPage
from abmonitor.web.fleet import FleetPage


MOST = 128
"""Boards that are kept; who looks at one that was forgotten gets all of it anew."""

AGAIN_S = 0.5
"""A picture that is not whole is not made anew before, however many look."""

Draw = Callable[[View, str | None, int], Picture]


@dataclass(slots=True)
class _Kept:
    draw: Draw
    board: Board = field(default_factory=Board)
    picture: Picture | None = None
    seen: tuple[View, str | None] | None = None
    made: float = 0.0
    """When the picture was, in seconds."""

    def is_of(self, view: View, problem: str | None) -> bool:
        """Whether the picture is of this view."""
        return self.seen is not None and self.seen[0] is view and self.seen[1] == problem

    def is_due(self, view: View, problem: str | None) -> bool:
        """Whether another picture is to be made."""
        if self.picture is None or not self.is_of(view, problem):
            return True
        return not self.picture.whole and time.monotonic() - self.made >= AGAIN_S


@dataclass(frozen=True, slots=True)
class Shown:
    """A board, and the whole picture on it."""

    board: Board
    picture: Picture


@dataclass(slots=True)
class Boards:
    """Keeps boards up to date with the view, as they are asked for."""

    view: Callable[[], View]
    problem: Callable[[], str | None]
    clock: Callable[[], int]
    """Epoch milliseconds."""
    _fleet: FleetPage = field(default_factory=FleetPage)
    _kept: OrderedDict[tuple[str, ...], _Kept] = field(default_factory=OrderedDict)

    def fleet(self, names: tuple[str, ...]) -> Shown:
        """Of the experiments `names`."""

        def draw(view: View, problem: str | None, now: int) -> Picture:
            return self._fleet.picture(view, names, problem, now)

        return self._shown(("fleet", *names), draw)

    def experiment(self, name: str) -> Shown:
        """Of one experiment, which the view must know."""

        def made() -> Draw:
            page = ExperimentPage()
            return lambda view, problem, now: page.picture(view, name, problem, now)

        key = ("experiment", name)
        return self._shown(key, self._kept[key].draw if key in self._kept else made())

    def _shown(self, key: tuple[str, ...], draw: Draw) -> Shown:
        kept = self._kept.setdefault(key, _Kept(draw))
        self._kept.move_to_end(key)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        view, problem = self.view(), self.problem()
        if kept.picture is None or kept.is_due(view, problem):
            kept.picture = kept.draw(view, problem, self.clock())
            kept.seen, kept.made = (view, problem), time.monotonic()
            kept.board.show(kept.picture)
        return Shown(kept.board, kept.picture)
