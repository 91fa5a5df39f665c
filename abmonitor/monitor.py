"""The monitor: reads, judges, writes down, and acts. Its own failure never rolls back and never promotes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import redis.asyncio

from abmonitor.settings import ExperimentSettings, Settings
from alerts.book import Book, Decision
from alerts.deliberate import Deliberation, Outcome
from alerts.examine import Edge
from alerts.machine import Accepted, Failed, Look, Standing
from alerts.order import Order
from alerts.outbox import Dispatcher
from alerts.store import AlertStore
from metrics.compare import Comparison, compare
from metrics.reader import Reader
from metrics.snapshot import Fleet, Snapshot


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """Everything that faces show of one experiment."""

    experiment: ExperimentSettings
    snapshot: Snapshot
    book: Book
    comparisons: Mapping[str, Comparison]
    decisions: tuple[Decision, ...] = ()


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
    ) -> None:
        """`clock`: epoch ms. `observes_traffic`: what an order does can be seen in the events.

        `stale_after`: data that is older (ms) than this holds; None where time is the data's own.
        """
        self._settings, self._dispatchers = settings, dispatchers
        self._reader = Reader(client, settings.deployment)
        self._store = AlertStore(client, settings.deployment)
        self._clock, self._stale_after = clock, stale_after
        self._observes_traffic = observes_traffic
        self._books: dict[str, Book] = {}
        self._decisions: dict[str, list[Decision]] = {}
        self._deliberations = {
            experiment.name: Deliberation(
                experiment,
                experiment.guardrails,
                experiment.hold,
                experiment.fingerprint,
                experiment.on_breach.dry_run,
            )
            for experiment in settings.experiments
        }
        self.view = View()

    async def tick(self) -> View:
        """Read, judge every look that has become possible, and carry out what was decided."""
        fleet = await self._reader.read(self._settings.experiments)
        for experiment in self._settings.experiments:
            await self._judge(experiment, fleet.snapshots[experiment.name])
        self.view = View(
            {
                experiment.name: self._view(experiment, fleet.snapshots[experiment.name])
                for experiment in self._settings.experiments
            },
            fleet,
            self._clock(),
        )
        return self.view

    def _view(self, experiment: ExperimentSettings, snapshot: Snapshot) -> ExperimentView:
        book = self._books[experiment.name]
        harmed = frozenset(
            treatment for treatment, standing in book.standings.items() if standing.ordered_at
        )
        return ExperimentView(
            experiment,
            snapshot,
            book,
            compare(experiment, snapshot, harmed),
            tuple(self._decisions[experiment.name]),
        )

    async def _judge(self, experiment: ExperimentSettings, snapshot: Snapshot) -> None:
        name = experiment.name
        if name not in self._books:
            self._books[name] = await self._store.load(name)
            self._decisions[name] = await self._store.decisions(name)
        await self._dispatch(name, snapshot)
        deliberation = self._deliberations[name]
        edges = deliberation.examiner.edges(self._books[name], snapshot)
        outcome = Outcome(self._books[name])
        for edge in edges:
            outcome = self._look(deliberation, outcome, edge, snapshot)
            if outcome.orders:  # act on what was decided before looking further
                await self._save(name, outcome)
                await self._dispatch(name, snapshot)
                outcome = Outcome(self._books[name])
        if not edges:
            outcome = self._hold_if_stale(deliberation, outcome, snapshot)
        if edges or outcome.decisions:
            await self._save(name, outcome)

    def _hold_if_stale(
        self, deliberation: Deliberation, outcome: Outcome, snapshot: Snapshot
    ) -> Outcome:
        """Where no new data comes there are no looks; that it is missing must show all the same."""
        stale = self._stale(snapshot)
        for treatment, standing in outcome.book.standings.items() if stale else ():
            look = Look(self._clock(), hold=stale, streaks=standing.streaks)
            outcome = deliberation.apply(outcome, treatment, look, snapshot)
        return outcome

    def _look(
        self, deliberation: Deliberation, outcome: Outcome, edge: Edge, snapshot: Snapshot
    ) -> Outcome:
        seen = deliberation.look(
            outcome.book,
            edge,
            snapshot,
            braked=self._braked(edge.at),
            stale=self._stale(snapshot),
        )
        return Outcome(seen.book, outcome.decisions + seen.decisions, outcome.orders + seen.orders)

    def _stale(self, snapshot: Snapshot) -> tuple[str, ...]:
        if self._stale_after is None or snapshot.watermark is None:
            return ()
        age = self._clock() - snapshot.watermark
        return (f"stale: data is {age / 1000:.0f} s old",) if age > self._stale_after else ()

    def _braked(self, at: int) -> bool:
        """Whether so many rollbacks were ordered lately that a person must decide on the next."""
        brake = self._settings.brake
        recent = [
            standing
            for book in self._books.values()
            for standing in book.standings.values()
            if standing.ordered_at is not None and at - brake.within <= standing.ordered_at <= at
        ]
        return len(recent) >= brake.rollbacks

    async def _save(self, name: str, outcome: Outcome, settled: Iterable[str] = ()) -> None:
        self._books[name] = await self._store.save(
            name,
            outcome.book,
            decisions=outcome.decisions,
            orders=outcome.orders,
            settled=tuple(settled),
        )
        self._decisions[name] = [*self._decisions[name], *outcome.decisions][-100:]

    async def _dispatch(self, name: str, snapshot: Snapshot) -> None:
        """Offer every order in the outbox to the actuator, and write down what it said."""
        if not any(standing.decision for standing in self._books[name].standings.values()):
            return
        for order in await self._store.outbox(name):
            receipt = await self._dispatchers[name].attempt(order)
            if receipt is None:
                continue
            at = max(self._clock(), order.decided_at)
            happening: Accepted | Failed = Failed(at, receipt.detail)
            if receipt.accepted:
                happening = Accepted(at, observable=self._observes_traffic)
            outcome = self._apply(name, order, happening, snapshot)
            await self._save(name, outcome, [order.id] if receipt.accepted else [])

    def _apply(
        self, name: str, order: Order, happening: Accepted | Failed, snapshot: Snapshot
    ) -> Outcome:
        book = self._books[name]
        standing = book.standings.get(order.treatment, Standing())
        if standing.decision != order.id:  # superseded: the order is void
            return Outcome(book)
        return self._deliberations[name].apply(Outcome(book), order.treatment, happening, snapshot)
