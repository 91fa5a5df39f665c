"""The monitor: reads, judges, writes down, and acts. Its own failure never rolls back and never promotes."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count

import redis.asyncio

from abmonitor.acting import Acting
from abmonitor.books import Books
from abmonitor.hinting import Hinting, Subject
from abmonitor.settings import Settings
from abmonitor.view import View
from abmonitor.viewing import Comparing, views_of
from alerts import causes
from alerts.book import Book, Decision
from alerts.courier import Courier
from alerts.deliberate import Deliberation, Outcome
from alerts.edges import Edge
from alerts.machine import Alarm, Command, Elapsed, Look, needs_clock
from alerts.outbox import Dispatcher
from alerts.standing import Standing
from alerts.store import AlertStore, StaleBookError
from metrics.reader import Reader
from metrics.snapshot import Fleet, Snapshot


MAX_CONFLICTS = 5
SAVE_S = 0.5
"""What many looks in a row found is written down so often: whoever takes over goes on from there."""
COMPARING_S = 0.05
"""What a tick spends on comparisons for display, where time is not the data's own."""


@dataclass(frozen=True, slots=True)
class Commanded:
    """What became of a person's command, or of somebody else's alarm."""

    decisions: tuple[Decision, ...]
    refused: Mapping[str, str]
    """By treatment, why nothing changed."""


class Monitor:
    """Judges all experiments of a deployment, tick by tick."""

    def __init__(
        self,
        settings: Settings,
        client: "redis.asyncio.Redis",
        dispatchers: Mapping[str, Dispatcher],
        *,
        clock: Callable[[], int],
        books: Books | None = None,
        stale_after: int | None = None,
        patience: float | None = None,
        observes_traffic: bool = True,
        hints: bool = False,
    ) -> None:
        """`clock`: epoch ms. `observes_traffic`: what an order does can be seen in the events.

        `books`: with leases and a control log where several monitors may run. `stale_after`: data that
        is older (ms) than this holds; None where time is the data's own. `patience`: seconds that a tick
        waits for an actuator; None for as long as it takes. `hints`: ticks look for hints about drift,
        too; else only `add_hints` does.
        """
        self._settings = settings
        self._new_reader: Callable[[], Reader] = lambda: Reader(client, settings.deployment)
        self._reader = self._new_reader()
        self._clock, self._stale_after = clock, stale_after
        self._looks_for_hints, self._hinting = hints, Hinting()
        self._books = books or Books(AlertStore(client, settings.deployment))
        self._experiments = {each.name: each for each in settings.experiments}
        self._deliberations = {
            experiment.name: Deliberation(
                experiment,
                experiment.guardrails,
                experiment.hold,
                experiment.fingerprint,
                experiment.on_breach.dry_run,
                experiment.testing,
            )
            for experiment in settings.experiments
        }
        self._courier = Courier(dispatchers, patience)
        self._acting = Acting(
            self._books,
            self._courier,
            self._deliberations,
            clock,
            observes_traffic=observes_traffic,
        )
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One at a time changes an experiment: a tick, or a person's command."""
        self._alarms = asyncio.Lock()
        """One alarm is decided at a time, or many that come together would all find the brake off."""
        budget = None if stale_after is None else COMPARING_S
        self._comparing = Comparing(settings.experiments, budget)
        self.view = View()

    async def tick(self) -> View:
        """Read, judge every look that has become possible, and carry out what was decided.

        Raises what the store raises. One experiment that cannot be judged keeps no other from being
        judged and shown; where nothing can be read the view stays that of the tick before.
        """
        fleet = await self._read()
        await self._books.refresh(self._experiments)  # all: the brake looks at every book
        failures: list[Exception] = []
        for name in self._experiments:
            try:
                async with self._turns[name]:
                    # What a person said elsewhere, before it is acted on.
                    await self._books.note(name)
                    await self._judge(name, fleet.snapshots[name])
                    await self._books.note(name)
            except Exception as error:  # noqa: BLE001  # it is raised below
                failures.append(error)
        if self._looks_for_hints:
            await self._hinting.look_at_one(
                Subject(experiment, fleet.snapshots[name], self._books.known[name])
                for name, experiment in self._experiments.items()
            )
        self.view = self._seen(fleet)
        if failures:
            raise failures[0] if len(failures) == 1 else ExceptionGroup("tick", failures)
        return self.view

    async def close(self) -> None:
        """Leave everything that is under way; orders stay in the outbox."""
        await self._courier.close()

    async def command(
        self, name: str, treatment: str | None, command: Command | Alarm
    ) -> Commanded:
        """A person's word, or an alarm, about one treatment, or about all of an experiment (None).

        Any monitor takes it; the one that leads carries it out. Raises KeyError where there is no such
        experiment or treatment, UnknownStateError where nobody knows its state, and what the store raises.
        """
        experiment = self._experiments[name]
        if treatment is not None and treatment not in experiment.treatments:
            raise KeyError(treatment)
        wanted = experiment.treatments if treatment is None else (treatment,)
        seen = self.view.experiments.get(name)
        # Before the first tick has ended its reader may be at work.
        snapshot = seen.snapshot if seen else await self._snapshot(name)
        async with self._turns[name]:
            conflicts = 0
            while True:
                await self._books.reload(name)
                self._books.check_known(name)
                try:
                    return await self._commanded(name, wanted, command, snapshot)
                except StaleBookError:
                    conflicts += 1
                    if conflicts == MAX_CONFLICTS:
                        raise

    async def _commanded(
        self, name: str, wanted: Sequence[str], command: Command | Alarm, snapshot: Snapshot
    ) -> Commanded:
        alarm = isinstance(command, Alarm)
        async with self._alarms if alarm else nullcontext():
            outcome = Outcome(self._books.known[name])
            # A person's word is stronger than the brake. Other monitors get alarms, too.
            books = await self._books.stored(self._experiments) if alarm else ()
            for treatment in wanted:
                braked = alarm and self._is_braked(outcome, command.at, books)
                outcome = self._deliberations[name].apply(
                    outcome, treatment, command, snapshot, braked=braked
                )
            if outcome.decisions:
                await self._books.save_command(name, outcome)
        if outcome.decisions:
            await self._acting.dispatch(name, snapshot)
        return Commanded(outcome.decisions, outcome.refused)

    async def add_hints(self) -> View:
        """Look for hints about every experiment of the latest tick: what a replay does once, at its end."""
        shown = self.view.experiments
        await self._hinting.look_at_all(
            Subject(one.experiment, one.snapshot, one.book) for one in shown.values()
        )
        hinted = {
            name: replace(one, hinted=self._hinting.found(name)) for name, one in shown.items()
        }
        self.view = replace(self.view, experiments=hinted)
        return self.view

    async def _read(self) -> Fleet:
        try:
            return await self._reader.read(self._settings.experiments)
        except BaseException:
            self._reader = self._new_reader()  # this one may have read half, and takes it for all
            raise

    async def _snapshot(self, name: str) -> Snapshot:
        return (await self._new_reader().read([self._experiments[name]])).snapshots[name]

    def _seen(self, fleet: Fleet) -> View:
        """The view of everything as it is now."""
        books, log, known = self._books, self._books.journal, self._experiments
        return View(
            views_of(known, fleet, books, self._hinting, self._comparing),
            fleet,
            self._clock(),
            dict(books.unknown),
            frozenset(name for name in known if books.leads(name)),
            log.problem if log else None,
        )

    async def _judge(self, name: str, snapshot: Snapshot) -> None:
        """Judge one experiment, again from the start when somebody else changed its book meanwhile."""
        for conflicts in count(1):
            if name in self._books.unknown or not self._books.leads(name):
                return
            try:
                await self._advance(name, snapshot)
            except StaleBookError:
                if conflicts == MAX_CONFLICTS:
                    raise
                await self._books.reload(name)
            else:
                return

    async def _advance(self, name: str, snapshot: Snapshot) -> None:
        await self._acting.dispatch(name, snapshot)
        deliberation = self._deliberations[name]
        edges = deliberation.examiner.edges(self._books.known[name], snapshot)
        outcome = Outcome(self._books.known[name])
        saved_at = time.monotonic()
        for edge in edges:
            outcome = self._look(deliberation, outcome, edge, snapshot)
            late = time.monotonic() > saved_at + SAVE_S
            if outcome.orders or late:  # act on what was decided before looking further
                outcome, saved_at = await self._act(name, outcome, snapshot), time.monotonic()
            await asyncio.sleep(0)  # leases are renewed meanwhile
        if not edges:
            outcome = self._hold_if_stale(deliberation, outcome, snapshot)
        outcome = self._passed_time(deliberation, outcome, snapshot)
        if outcome.orders:
            outcome = await self._act(name, outcome, snapshot)
        if outcome.book != self._books.known[name]:
            await self._books.save(name, outcome)

    async def _act(self, name: str, outcome: Outcome, snapshot: Snapshot) -> Outcome:
        """Write down what was decided, then carry it out."""
        await self._books.save(name, outcome)
        await self._acting.dispatch(name, snapshot)
        return Outcome(self._books.known[name])

    def _passed_time(
        self, deliberation: Deliberation, outcome: Outcome, snapshot: Snapshot
    ) -> Outcome:
        """What the clock alone brings about, where time is not the data's own."""
        at = self._clock()
        for treatment in deliberation.experiment.treatments:
            standing = outcome.book.standings.get(treatment, Standing())
            if self._stale_after is not None and needs_clock(standing):
                braked = self._is_braked(outcome, at)
                outcome = deliberation.apply(
                    outcome, treatment, Elapsed(at), snapshot, braked=braked
                )
        return outcome

    def _hold_if_stale(
        self, deliberation: Deliberation, outcome: Outcome, snapshot: Snapshot
    ) -> Outcome:
        """Where no new data comes there are no looks; that it is missing must show all the same."""
        stale, at = self._stale(snapshot), self._clock()
        for treatment in deliberation.experiment.treatments if stale else ():
            book = outcome.book
            streaks = book.standings.get(treatment, Standing()).streaks
            look = Look(at, hold=stale + book.holds.get(treatment, ()), streaks=streaks)
            braked = self._is_braked(outcome, at)
            outcome = deliberation.apply(outcome, treatment, look, snapshot, braked=braked)
        return outcome

    def _look(
        self, deliberation: Deliberation, outcome: Outcome, edge: Edge, snapshot: Snapshot
    ) -> Outcome:
        seen = deliberation.look(
            outcome.book,
            edge,
            snapshot,
            allowed=self._allowed(edge.at),
            stale=self._stale(snapshot),
        )
        return Outcome(
            seen.book,
            outcome.decisions + seen.decisions,
            outcome.orders + seen.orders,
            {**outcome.evidence, **seen.evidence},
        )

    def _is_braked(self, outcome: Outcome, at: int, books: Iterable[Book] | None = None) -> bool:
        """Whether no more rollbacks may be ordered; one that is only sent again is none."""
        made = sum(decision.action == "rollback" for decision in outcome.decisions)
        return made >= self._allowed(at, books)

    def _stale(self, snapshot: Snapshot) -> tuple[str, ...]:
        if self._stale_after is None or snapshot.watermark is None:
            return ()
        if self._clock() - snapshot.watermark <= self._stale_after:
            return ()
        return (causes.stale(self._stale_after),)

    def _allowed(self, at: int, books: Iterable[Book] | None = None) -> int:
        """How many more rollbacks may be ordered around `at` before a person must decide.

        `books`: of all experiments; None: as they were when the tick began.
        """
        known = self._books.known.values() if books is None else books
        return self._settings.brake.left((when for book in known for when in book.rollbacks), at)
