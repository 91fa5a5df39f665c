"""When hints about drift are looked for: every ten minutes of the watermark, aside of the event loop.

A look at eight days of panes takes some ten milliseconds, and the first one imports a library. So it is
taken in a thread, of one experiment at a time, and what it found is kept until the next one is due.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from alerts.book import Book
from alerts.standing import ACTING, State
from metrics.drift import Drift, drift
from metrics.experiment import MINUTE, Experiment
from metrics.hints import Hint, hints_of
from metrics.snapshot import Snapshot


logger = logging.getLogger(__name__)

EVERY = 10 * MINUTE
"""Of the watermark (ms). Looks are at its multiples, so that they do not depend on when ticks are."""
GONE = ACTING | {State.ROLLED_BACK}
"""States of treatments that are left out: that these differ is known."""


@dataclass(frozen=True, slots=True)
class Hinted:
    """What a look found."""

    drift: Drift
    hints: tuple[Hint, ...]


class Subject(NamedTuple):
    """An experiment, and what is known of it."""

    experiment: Experiment
    snapshot: Snapshot
    book: Book


class _Look(NamedTuple):
    """What the outcome of a look depends on."""

    at: int
    begun: int
    left_out: frozenset[str]


class Hinting:
    """What the latest looks at all experiments found."""

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}
        self._found: dict[str, Hinted] = {}
        self._failures: dict[str, str] = {}

    def found(self, name: str) -> Hinted | None:
        """What the latest look found; None before there was one, and where it failed."""
        return self._found.get(name)

    async def look_at_one(self, subjects: Iterable[Subject]) -> None:
        """Look at the one of `subjects` that has waited longest, if any is due."""
        due = [(subject, look) for subject in subjects if (look := self._due(subject)) is not None]
        if due:
            await self._look(*min(due, key=lambda one: self._looked_at(one[0])))

    async def look_at_all(self, subjects: Iterable[Subject]) -> None:
        """Look at all of `subjects` that are due."""
        for subject in subjects:
            look = self._due(subject)
            if look is not None:
                await self._look(subject, look)

    def _looked_at(self, subject: Subject) -> int:
        look = self._looks.get(subject.experiment.name)
        return -1 if look is None else look.at

    def _due(self, subject: Subject) -> _Look | None:
        """The look that is possible now, None if it was taken, or if nothing has come yet."""
        watermark, standings = subject.snapshot.watermark, subject.book.standings
        if watermark is None:
            return None
        look = _Look(
            watermark - watermark % EVERY,
            max((standing.begun for standing in standings.values()), default=0),
            frozenset(name for name, standing in standings.items() if standing.state in GONE),
        )
        return None if look == self._looks.get(subject.experiment.name) else look

    async def _look(self, subject: Subject, look: _Look) -> None:
        """Hints decide nothing: that they fail is logged, once, and stops nobody."""
        name = subject.experiment.name
        self._looks[name] = look
        try:
            self._found[name] = await asyncio.to_thread(_hinted, subject, look)
        except Exception as error:  # whatever it is
            self._found.pop(name, None)
            if self._failures.get(name) != repr(error):
                logger.warning("%s: cannot look for hints about drift", name, exc_info=error)
            self._failures[name] = repr(error)
        else:
            self._failures.pop(name, None)


def _hinted(subject: Subject, look: _Look) -> Hinted:
    experiment = subject.experiment
    found = drift(experiment, subject.snapshot, look.at, look.begun, look.left_out)
    return Hinted(found, hints_of(experiment, found))
