"""Notifications: hands what the monitor knows to everybody who is to be told, without ever waiting for them.

Best effort by design: `tell` only puts things into bounded queues; tasks of their own pass them on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec

from abmonitor.view import ExperimentView, View
from alerts.book import Decision
from alerts.notifiers.fresh import Fresh, Progress
from alerts.notifiers.news import Notifier, Situation
from alerts.notifiers.outlets import Decisions, Outlet, Situations
from alerts.notifiers.words import QUIET
from alerts.standing import Standing, State


logger = logging.getLogger(__name__)

FAREWELL_S = 2.0
"""How long the end may wait for what is not told yet."""

AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Channel:
    """A notifier, and what it is told of."""

    name: str
    """What it is called in metrics and logs."""
    notifier: Notifier
    experiments: tuple[str, ...] = ("*",)
    """Globs."""
    actions: Collection[str] | None = None
    """None: all that are not quiet."""

    def covers(self, experiment: str) -> bool:
        """Whether it is told of this experiment."""
        return any(fnmatchcase(experiment, glob) for glob in self.experiments)

    def wants(self, decision: Decision) -> bool:
        """Whether it is told of this decision."""
        action = decision.action
        asked = action not in QUIET if self.actions is None else action in self.actions
        return asked and self.covers(decision.experiment)


@dataclass(slots=True)
class _Told:
    """What is remembered of one experiment."""

    fresh: Fresh = field(default_factory=Fresh)
    progress: Progress = field(default_factory=Progress)
    noticed: dict[str, tuple[State, int, int]] = field(default_factory=dict)
    """By treatment: state, since when, and when that was first seen."""
    seen: tuple[int, str | None, bool, bool] | None = None
    """The book's version, the newest decision, whether this monitor led, and whether its state was lost."""
    mine: bool = False
    """This monitor leads the experiment."""
    situations: tuple[Situation, ...] = ()


class Notifications:
    """Tells all channels."""

    def __init__(
        self, channels: Sequence[Channel], *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock`: seconds since 1970."""
        self._clock = clock
        self._decisions: list[tuple[Channel, Decisions]] = []
        self._situations: list[tuple[Channel, Situations]] = []
        for channel in channels:
            if channel.notifier.every_s is None:
                queue = Decisions(channel.name, channel.notifier, self._settled, clock=clock)
                self._decisions.append((channel, queue))
            else:
                board = Situations(channel.name, channel.notifier, clock=clock)
                self._situations.append((channel, board))
        self._experiments: dict[str, _Told] = {}
        self._shown: tuple[Situation, ...] | None = None
        self._broken = False

    @property
    def _outlets(self) -> list[Outlet]:
        return [outlet for _, outlet in (*self._decisions, *self._situations)]

    def counts(self) -> dict[tuple[str, str], int]:
        """How often each notifier was told, by its name and the result: sent, failed or dropped."""
        return {
            (outlet.name, result): count
            for outlet in self._outlets
            for result, count in outlet.counts.items()
        }

    def cursors(self) -> dict[str, str]:
        """By experiment of this monitor's own, the newest decision up to which all was told, or given up."""
        own = {name: told for name, told in self._experiments.items() if told.mine}
        found = {name: told.progress.cursor for name, told in own.items()}
        return {name: cursor for name, cursor in found.items() if cursor is not None}

    def tell(self, view: View, *, cursors: Mapping[str, str] | None = None) -> None:
        """Take what a tick found; never waits and never raises.

        Experiments that another monitor leads are told of by that one. `cursors`: what `cursors()` gave
        last, wherever that was kept; only looked at when this monitor begins to lead an experiment.
        Without it the latest minute's decisions are told.
        """
        try:
            for name in view.experiments:
                self._look(name, view, (cursors or {}).get(name))
            self._show(view)
        except Exception:
            # Whoever decides must not fail because somebody cannot be told.
            if not self._broken:
                logger.exception("notifications: not told of what the latest tick found")
            self._broken = True
        else:
            self._broken = False

    def _look(self, name: str, view: View, cursor: str | None) -> None:
        told, found = self._experiments.setdefault(name, _Told()), view.experiments[name]
        newest = found.decisions[-1].id if found.decisions else None
        mine, lost = name in view.leads, name in view.unknown
        if told.seen == (found.book.version, newest, mine, lost):
            return
        now = int(self._clock() * 1000)
        if not lost:  # what comes back later was told before
            self._hand_out(told, found.decisions, now, mine=mine, cursor=cursor)
        told.situations = _situations(name, found, told.noticed, now)
        told.seen = found.book.version, newest, mine, lost

    def _hand_out(
        self,
        told: _Told,
        decisions: Sequence[Decision],
        now: int,
        *,
        mine: bool,
        cursor: str | None,
    ) -> None:
        new = told.fresh.look(decisions, now, mine=mine, cursor=cursor)
        old = len(decisions) - len(new)
        if mine and not told.mine and old:
            told.progress.add(decisions[old - 1].id, 0)
        told.mine = mine
        for decision in new:
            wanting = [queue for channel, queue in self._decisions if channel.wants(decision)]
            told.progress.add(decision.id, len(wanting))
            for queue in wanting:
                queue.offer(decision)

    def _show(self, view: View) -> None:
        own = [name for name in view.experiments if name in view.leads]
        everything = tuple(one for name in own for one in self._experiments[name].situations)
        if everything == self._shown:
            return
        self._shown = everything
        for channel, board in self._situations:
            board.show(tuple(one for one in everything if channel.covers(one.experiment)))

    def _settled(self, decision: Decision) -> None:
        self._experiments[decision.experiment].progress.settle(decision.id)

    async def run(self, stop: asyncio.Event) -> None:
        """Pass on what is told until `stop`, then for a moment what is not passed on yet."""
        tasks = [asyncio.create_task(_kept_up(outlet)) for outlet in self._outlets]
        try:
            await stop.wait()
            for outlet in self._outlets:
                outlet.end()
            if tasks:
                await asyncio.wait(tasks, timeout=FAREWELL_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for outlet in self._outlets:
                with suppress(Exception):
                    await outlet.notifier.close()


async def _kept_up(outlet: Outlet) -> None:
    """Run an outlet, and again where it fails by a mistake of its own."""
    while True:
        try:
            await outlet.run()
        except Exception:
            logger.exception("notifier %s: failed, and goes on", outlet.name)
            await asyncio.sleep(AGAIN_S)
        else:
            return


def _situations(
    name: str, found: ExperimentView, noticed: dict[str, tuple[State, int, int]], now: int
) -> tuple[Situation, ...]:
    """How the treatments stand; what is of no use for telling, such as streaks, is left out."""
    made = []
    for treatment in found.experiment.treatments:
        standing = found.book.standings.get(treatment)
        if standing is None:
            continue
        # A standing that stands in for one that got lost has no beginning.
        kept = msgspec.structs.replace(standing, streaks={}, since=standing.since or now)
        about = tuple(one for one in found.decisions if one.treatment == treatment)
        seen = _noticed(treatment, standing, noticed, now)
        made.append(Situation(name, treatment, kept, seen, about))
    return tuple(made)


def _noticed(
    treatment: str, standing: Standing, noticed: dict[str, tuple[State, int, int]], now: int
) -> int:
    """When the state was first seen. Data may lag: by its clock the state may be older than that."""
    state, since, seen = noticed.get(treatment, (standing.state, standing.since, standing.since))
    if (state, since) != (standing.state, standing.since):
        seen = max(now, standing.since)
    noticed[treatment] = standing.state, standing.since, seen
    return seen
