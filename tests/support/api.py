"""A monitor of two experiments over an embedded store, served as `abmonitor monitor` serves it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.auth import Role, Tokens, line, new_token
from abmonitor.monitor import Monitor
from abmonitor.server import application
from abmonitor.settings import ExperimentSettings, Settings
from alerts.guardrails import Guardrail
from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher
from alerts.store import AlertStore
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE, Experiment
from metrics.snapshot import Fleet
from stream.store import Store
from support.panes import EXPERIMENT, START, World, pane, steady


END = START + 2 * HOUR
ERRORS = Guardrail(
    metric="error_rate", window=Duration(5 * MINUTE), max=0.1, consecutive=2, min_count=20
)


def declared(name: str, **options: Any) -> ExperimentSettings:
    """An experiment of the shop."""
    fields = {each: getattr(EXPERIMENT, each) for each in EXPERIMENT.__struct_fields__}
    return ExperimentSettings(**fields | {"name": name, "guardrails": (ERRORS,)} | options)


@dataclass
class Shop:
    """Everything that the tests of the API look at."""

    folder: Path
    world: World = field(default_factory=lambda: steady(END))
    now: int = START
    received: list[str] = field(default_factory=list)
    """Orders that the router was given."""
    problems: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    """By name."""
    store: Store = field(default_factory=lambda: Store.embedded("shop"))
    monitor: Monitor = field(init=False)

    def __post_init__(self) -> None:
        settings = Settings(experiments=(declared("offers"), declared("prices")), deployment="shop")
        dispatchers = {
            each.name: Dispatcher(self, lambda: self.now / 1000, chance=lambda: 0.0)
            for each in settings.experiments
        }
        self.monitor = Monitor(settings, self.store.client, dispatchers, clock=lambda: self.now)
        self.monitor._new_reader = lambda: self  # type: ignore[assignment, return-value]
        self.monitor._reader = self.monitor._new_reader()
        self.file.write_text("tokens:\n")

    @property
    def file(self) -> Path:
        """The file of tokens."""
        return self.folder / "tokens.yaml"

    @property
    def kept(self) -> AlertStore:
        """What was decided."""
        return AlertStore(self.store.client, "shop")

    def token(self, name: str, role: Role = "operate", *experiments: str, **more: Any) -> None:
        """Give somebody a token."""
        self.tokens[name], entry = new_token(name, role, experiments or ("*",))
        entry = msgspec.structs.replace(entry, **more)
        text = line(entry)
        if entry.on_behalf:
            text = text[:-1] + f", on_behalf: {entry.on_behalf}}}"
        with self.file.open("a") as file:
            file.write(text + "\n")

    def bearer(self, name: str) -> dict[str, str]:
        """The header that says who asks."""
        return {"Authorization": f"Bearer {self.tokens[name]}"}

    def application(self, **guarded: Any) -> web.Application:
        """The server's application; without tokens where none were given."""
        tokens = Tokens(self.file) if self.tokens else None
        guard = Guard(tokens, **guarded)
        api = Api(self.monitor, self.kept, guard, lambda: self.now)
        problems = self.problems
        return application(
            lambda: self.monitor.view, lambda: problems[-1] if problems else None, api=api
        )

    async def pass_time(self, minutes: int = 5) -> None:
        """Tick every minute."""
        for _ in range(minutes):
            self.now += MINUTE
            await self.monitor.tick()

    def break_new(self) -> None:
        """From now on the treatment fails."""
        start = self.now - self.now % MINUTE
        self.world.arrive("new", start, END, pane(10, errors=8, latency_ms=20, labelled=5))

    async def read(self, experiments: Iterable[Experiment]) -> Fleet:
        """As the monitor's reader does."""
        return Fleet({found.name: self.world.snapshot(self.now) for found in experiments}, {})

    async def apply(self, order: Order) -> Receipt:
        """Take an order; the treatment's traffic goes to the control."""
        self.received.append(order.id)
        start = self.now - self.now % MINUTE
        self.world.arrive("new", start, END, pane(0))
        self.world.arrive("old", start, END, pane(20, latency_ms=20, labelled=5))
        return Receipt(accepted=True, detail="202")

    async def verify(self, order: Order) -> Verification:
        """Nothing can be read back."""
        del order
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        """Nothing to release."""


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    """A shop that is closed at the end."""
    made = Shop(folder)
    try:
        yield made
    finally:
        await made.store.close()
