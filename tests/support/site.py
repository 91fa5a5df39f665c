"""A monitor and the world around it: what arrives, a router that takes orders, and a clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from abmonitor.monitor import Monitor
from abmonitor.settings import ExperimentSettings, Settings
from abmonitor.view import View
from alerts.deliberate import Deliberation, Outcome
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.machine import Command
from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher
from alerts.standing import Standing
from alerts.store import AlertStore
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE, Experiment
from metrics.snapshot import Fleet
from stream.store import Store
from support.panes import EXPERIMENT, START, World, pane, steady


BAD = START + 10 * MINUTE
END = START + 2 * HOUR
ERRORS = Guardrail(
    metric="error_rate", window=Duration(5 * MINUTE), max=0.1, consecutive=2, min_count=20
)


class Killed(BaseException):  # it is no error: the process ended here
    """The process ended here."""


def declared(name: str = "offers", **options: Any) -> ExperimentSettings:
    fields = {field: getattr(EXPERIMENT, field) for field in EXPERIMENT.__struct_fields__}
    return ExperimentSettings(**fields | {"name": name, "guardrails": (ERRORS,)} | options)


def settings(*experiments: ExperimentSettings, **options: Any) -> Settings:
    return Settings(experiments=experiments or (declared(),), deployment="shop", **options)


@dataclass
class Site:
    """The world outside of the monitor: a clock, what arrives, and the router that obeys orders."""

    world: World
    now: int = START
    obeys: bool = True
    """Whether the traffic follows an order that was taken."""
    answers: list[Receipt] = field(default_factory=list)
    """What the router says before it starts to take orders."""
    received: list[str] = field(default_factory=list)
    dies: str = ""
    """Whether the process ends before or after the router gets an order, once."""
    broken: Exception | None = None
    """What reading raises."""
    stops_at: int = END
    """From when on no data comes any more."""
    reads_back: Verification = Verification.UNSUPPORTED
    """What the router says when it is asked whether an order took effect."""

    async def read(self, experiments: Iterable[Experiment]) -> Fleet:
        """As the monitor's reader does."""
        if self.broken is not None:
            raise self.broken
        watermark = min(self.now, self.stops_at)
        return Fleet({found.name: self.world.snapshot(watermark) for found in experiments}, {})

    async def apply(self, order: Order) -> Receipt:
        """Take an order."""
        self._die("before")
        if self.answers:
            return self.answers.pop(0)
        self.received.append(order.id)
        if self.obeys:
            self.move()
        self._die("after")
        return Receipt(accepted=True, detail="202")

    def _die(self, when: str) -> None:
        if self.dies == when:
            self.dies = ""
            raise Killed

    def move(self) -> None:
        """Send all traffic to the control from now on."""
        start = self.now - self.now % MINUTE
        self.world.arrive("new", start, END, pane(0))
        self.world.arrive("old", start, END, pane(20, latency_ms=20, labelled=5))

    async def verify(self, order: Order) -> Verification:
        """Read back whether an order took effect."""
        del order
        return self.reads_back

    async def close(self) -> None:
        """Nothing to release."""


def failing(end: int = END) -> Site:
    """A site whose treatment begins to fail ten minutes in."""
    world = steady(END)
    world.arrive("new", BAD, end, pane(10, errors=5, latency_ms=20, labelled=5))
    return Site(world)


def monitor(store: Store, site: Site, given: Settings | None = None, **options: Any) -> Monitor:
    """A monitor whose process was just started."""
    chosen = given or settings()
    dispatchers = {
        found.name: Dispatcher(site, lambda: site.now / 1000, chance=lambda: 0.0)
        for found in chosen.experiments
    }
    given_clock = {"clock": lambda: site.now}
    made = Monitor(chosen, store.client, dispatchers, **given_clock | options)
    made._new_reader = lambda: site  # type: ignore[assignment, return-value]
    made._reader = made._new_reader()
    return made


async def pass_time(made: Monitor, site: Site, until: int, step: int = MINUTE) -> View:
    """Tick every `step` from now to `until`."""
    view = made.view
    while site.now < until:
        site.now += step
        view = await made.tick()
    return view


def kept(store: Store) -> AlertStore:
    return AlertStore(store.client, "shop")


async def actions(store: Store, name: str = "offers") -> list[str]:
    return [found.action for found in await kept(store).decisions(name)]


async def command(
    store: Store, site: Site, verb: str, name: str = "offers", *, force: bool = False
) -> None:
    """As an operator's tool would: change the book behind the monitor's back."""
    alerts, book = kept(store), await kept(store).load(name)
    judge = Deliberation(declared(name), (ERRORS,), HoldOptions(), book.settings)
    said = Command(site.now, verb, "ann", "because", force=force)
    made = judge.apply(Outcome(book), "new", said, site.world.snapshot(site.now))
    await alerts.save(name, made.book, decisions=made.decisions, orders=made.orders)


async def standing(store: Store, name: str = "offers") -> Standing:
    return (await kept(store).load(name)).standings["new"]


GOOD_END = ["rollback", "accepted", "rolled_back"]
