"""The monitor: reads, judges, writes down, and acts. Its own failure never rolls back and never promotes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

import redis.asyncio

from abmonitor.hinting import Hinted, Hinting, Subject
from abmonitor.settings import ExperimentSettings, Settings
from alerts.book import Book, Decision
from alerts.cohorts import pairs
from alerts.deliberate import Deliberation, Outcome
from alerts.edges import Edge
from alerts.machine import Accepted, Failed, Look
from alerts.order import Order, Receipt
from alerts.outbox import Dispatcher, Fate, fate
from alerts.standing import Standing
from alerts.store import AlertStore, StaleBookError
from metrics.compare import Comparison, compare
from metrics.drift import Drift
from metrics.duration import Duration
from metrics.hints import Hint
from metrics.reader import Reader
from metrics.snapshot import Fleet, Snapshot


MAX_CONFLICTS = 5


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """Everything that faces show of one experiment."""

    experiment: ExperimentSettings
    snapshot: Snapshot
    book: Book
    comparisons: Mapping[str, Comparison]
    decisions: tuple[Decision, ...] = ()
    hinted: Hinted | None = None
    """None where nobody looked for drift, or could."""

    @property
    def hints(self) -> tuple[Hint, ...] | None:
        """What a person should look at, as of the latest whole ten minutes; None as for `hinted`."""
        return None if self.hinted is None else self.hinted.hints

    @property
    def drift(self) -> Drift | None:
        """The raw numbers behind the hints."""
        return None if self.hinted is None else self.hinted.drift


@dataclass(frozen=True, slots=True)
class View:
    """What the monitor knows after a tick."""

    experiments: Mapping[str, ExperimentView] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=lambda: Fleet({}, {}))
    as_of: int | None = None
    """Epoch ms of the monitor's clock at the tick."""


class Monitor:
    """Judges all experiments of a deployment, tick by tick."""

    def __init__(
        self,
        settings: Settings,
        client: "redis.asyncio.Redis",
        dispatchers: Mapping[str, Dispatcher],
        *,
        clock: Callable[[], int],
        stale_after: int | None = None,
        observes_traffic: bool = True,
        hints: bool = False,
    ) -> None:
        """`clock`: epoch ms. `observes_traffic`: what an order does can be seen in the events.

        `stale_after`: data that is older (ms) than this holds; None where time is the data's own.
        `hints`: ticks look for hints about drift, too; else only `add_hints` does.
        """
        self._settings, self._dispatchers = settings, dispatchers
        self._new_reader: Callable[[], Reader] = lambda: Reader(client, settings.deployment)
        self._reader = self._new_reader()
        self._store = AlertStore(client, settings.deployment)
        self._clock, self._stale_after = clock, stale_after
        self._observes_traffic = observes_traffic
        self._looks_for_hints, self._hinting = hints, Hinting()
        self._books: dict[str, Book] = {}
        self._decisions: dict[str, list[Decision]] = {}
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
        self.view = View()

    async def tick(self) -> View:
        """Read, judge every look that has become possible, and carry out what was decided.

        Raises what the store raises. One experiment that cannot be judged keeps no other from being
        judged; the view stays the one of the latest tick that went well.
        """
        fleet = await self._read()
        for experiment in self._settings.experiments:  # all: the brake looks at every book
            await self._load(experiment.name)
        failures: list[Exception] = []
        for experiment in self._settings.experiments:
            try:
                await self._judge(experiment.name, fleet.snapshots[experiment.name])
            except Exception as error:  # noqa: BLE001  # it is raised below
                failures.append(error)
        if failures:
            raise failures[0] if len(failures) == 1 else ExceptionGroup("tick", failures)
        if self._looks_for_hints:
            await self._hinting.look_at_one(
                Subject(experiment, fleet.snapshots[experiment.name], self._books[experiment.name])
                for experiment in self._settings.experiments
            )
        self.view = View(
            {
                experiment.name: self._view(experiment, fleet.snapshots[experiment.name])
                for experiment in self._settings.experiments
            },
            fleet,
            self._clock(),
        )
        return self.view

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

    def _view(self, experiment: ExperimentSettings, snapshot: Snapshot) -> ExperimentView:
        book = self._books[experiment.name]
        harmed = frozenset(
            treatment
            for treatment, standing in book.standings.items()
            if standing.ordered_at is not None or standing.latched
        )
        paired = {
            treatment: pairs(book, treatment, experiment, snapshot)
            for treatment in experiment.treatments
        }
        return ExperimentView(
            experiment,
            snapshot,
            book,
            compare(experiment, paired, harmed, experiment.testing.planned),
            tuple(self._decisions[experiment.name]),
            self._hinting.found(experiment.name),
        )

    async def _load(self, name: str) -> None:
        """Read the book: somebody else, such as a person, may have changed it since the last tick."""
        book = await self._store.load(name)
        if name not in self._books or book.version != self._books[name].version:
            self._decisions[name] = await self._store.decisions(name)
        self._books[name] = book

    async def _judge(self, name: str, snapshot: Snapshot) -> None:
        """Judge one experiment, again from the start when somebody else changed its book meanwhile."""
        for conflicts in count(1):
            try:
                await self._advance(name, snapshot)
            except StaleBookError:
                if conflicts == MAX_CONFLICTS:
                    raise
                await self._load(name)
            else:
                return

    async def _advance(self, name: str, snapshot: Snapshot) -> None:
        await self._dispatch(name, snapshot)
        deliberation = self._deliberations[name]
        edges = deliberation.examiner.edges(self._books[name], snapshot)
        outcome = Outcome(self._books[name])
        for edge in edges:
            outcome = self._look(deliberation, outcome, edge, snapshot)
            if outcome.orders:  # act on what was decided before looking further
                outcome = await self._act(name, outcome, snapshot)
        if not edges:
            outcome = self._hold_if_stale(deliberation, outcome, snapshot)
        if outcome.orders:
            outcome = await self._act(name, outcome, snapshot)
        if outcome.book != self._books[name]:
            await self._save(name, outcome)

    async def _act(self, name: str, outcome: Outcome, snapshot: Snapshot) -> Outcome:
        """Write down what was decided, then carry it out."""
        await self._save(name, outcome)
        await self._dispatch(name, snapshot)
        return Outcome(self._books[name])

    def _hold_if_stale(
        self, deliberation: Deliberation, outcome: Outcome, snapshot: Snapshot
    ) -> Outcome:
        """Where no new data comes there are no looks; that it is missing must show all the same."""
        stale, at = self._stale(snapshot), self._clock()
        for treatment in deliberation.experiment.treatments if stale else ():
            book = outcome.book
            streaks = book.standings.get(treatment, Standing()).streaks
            look = Look(at, hold=stale + book.holds.get(treatment, ()), streaks=streaks)
            braked = len(outcome.orders) >= self._allowed(at)
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
        return Outcome(seen.book, outcome.decisions + seen.decisions, outcome.orders + seen.orders)

    def _stale(self, snapshot: Snapshot) -> tuple[str, ...]:
        if self._stale_after is None or snapshot.watermark is None:
            return ()
        if self._clock() - snapshot.watermark <= self._stale_after:
            return ()
        return (f"stale: no data is newer than {Duration(self._stale_after)}",)

    def _allowed(self, at: int) -> int:
        """How many more rollbacks may be ordered around `at` before a person must decide."""
        brake = self._settings.brake
        ordered = (when for book in self._books.values() for when in book.rollbacks)
        # Also later ones: after an outage experiments catch up one after the other.
        recent = [when for when in ordered if abs(at - when) <= brake.within]
        return max(0, brake.rollbacks - len(recent))

    async def _save(self, name: str, outcome: Outcome, settled: tuple[str, ...] = ()) -> None:
        self._books[name] = await self._store.save(
            name,
            outcome.book,
            decisions=outcome.decisions,
            orders=outcome.orders,
            settled=settled,
        )
        self._decisions[name] = [*self._decisions[name], *outcome.decisions][-100:]

    async def _dispatch(self, name: str, snapshot: Snapshot) -> None:
        """Offer every order in the outbox to the actuator, and write down what it said."""
        if not self._books[name].rollbacks:
            return
        for order in await self._store.outbox(name):
            outcome = Outcome(self._books[name])
            if _fate(order, outcome) is Fate.CARRY_OUT:
                receipt = await self._dispatchers[name].attempt(order)
                if receipt is None:
                    continue
                outcome = self._told(name, order, receipt, snapshot)
            settled = _fate(order, outcome) is Fate.SETTLED
            if settled or outcome.book != self._books[name]:
                await self._save(name, outcome, (order.id,) if settled else ())
            if settled:
                self._dispatchers[name].forget(order.id)

    def _told(self, name: str, order: Order, receipt: Receipt, snapshot: Snapshot) -> Outcome:
        """What the actuator's answer makes of the book."""
        at = max(self._clock(), order.decided_at)
        happening: Accepted | Failed = Failed(at, receipt.detail)
        if receipt.accepted:
            happening = Accepted(at, observable=self._observes_traffic)
        outcome = Outcome(self._books[name])
        return self._deliberations[name].apply(outcome, order.treatment, happening, snapshot)


def _fate(order: Order, outcome: Outcome) -> Fate:
    return fate(order, outcome.book.standings.get(order.treatment, Standing()))
