"""The scene: router, pipeline, monitor and server in one process, on a simulated clock."""

import os
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from itertools import islice

from abmonitor.breach import OnBreach
from abmonitor.demo.flagging import Flagging, flagging
from abmonitor.demo.offers import Offer, load_offers
from abmonitor.demo.router import Router, Sent
from abmonitor.http import serving
from abmonitor.monitor import Monitor
from abmonitor.server import application
from abmonitor.settings import ExperimentSettings, Settings, load
from abmonitor.view import View
from alerts.actuators.webhook import Webhook, WebhookOptions
from alerts.order import Actuator
from alerts.outbox import Dispatcher
from metrics.experiment import MINUTE, Profitability
from stream.batch import Batch, DeadLetter
from stream.files import TOPIC
from stream.pipeline import ShardPipeline
from stream.sources import Decoder
from stream.store import Store


START = 1_767_261_600_000
"""When the simulated clock starts: 1 January 2026, 10:00 UTC."""

PACE = 6_000
"""Simulated milliseconds between two customers."""

STEP = MINUTE
"""Simulated time that passes between two ticks of the monitor."""

DEFECT_AT = 3_000
CUSTOMERS = 7_500
HOST = "127.0.0.1"
DEFAULT_PORT = 8000


class Way(StrEnum):
    """How a rollback reaches the router."""

    WEBHOOK = "webhook"  # as an order
    FLAGD = "flagd"  # by the feature flag that deals its customers


class PortError(Exception):
    """The server's port cannot be had."""


class _NoRejects:
    """The router's own events are always usable; anything else is a bug of the demo."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Refuse to go on."""
        raise RuntimeError(f"the demo sent an unusable event: {letters[0]}")


@dataclass(slots=True)
class Scene:
    """The demo between two steps."""

    settings: Settings
    offers: list[Offer]
    router: Router
    pipeline: ShardPipeline
    monitor: Monitor
    port: int
    clock: list[int]
    """The simulated time, epoch ms: one number that everybody looks at."""
    flagging: Flagging | None = None
    """Where a flag deals the customers."""
    offset: int = 0
    served: int = 0

    @property
    def now(self) -> int:
        """The simulated time, epoch ms."""
        return self.clock[0]

    @property
    def experiment(self) -> str:
        """The demo's only experiment."""
        return self.settings.experiments[0].name

    @property
    def economics(self) -> Profitability:
        """What the demo's offers cost and earn."""
        found = self.settings.experiments[0].profitability
        if found is None:
            raise RuntimeError("the demo's settings have lost their profitability")
        return found

    @property
    def served_all(self) -> bool:
        """Every customer has been called; labels may still come."""
        return self.served == len(self.offers)

    async def step(self) -> View:
        """Let one minute pass: customers are served, events counted, and the monitor looks."""
        self.clock[0] += STEP
        sent: list[Sent] = []
        due = (self.now - START) // PACE
        for offer in islice(self.offers, self.served, due):
            sent += self.router.serve(offer, START + (offer.number + 1) * PACE)
        self.served = min(due, len(self.offers))
        sent += self.router.due(self.now)
        end = self.offset + len(sent)
        batch = Batch(
            TOPIC,
            0,
            self.offset,
            end,
            range(self.offset, end),
            [event.arrival for event in sent],
            [event.value for event in sent],
            complete_to=self.now,
        )
        await self.pipeline.process(batch)
        self.offset = end
        view = await self.monitor.tick()
        if self.flagging is not None and await self.flagging.follow(view):
            self.router.note_rollback()
        return view

    async def end(self) -> View:
        """The router knows that no outcome is missing any more: every label is final."""
        await self.pipeline.finish(self.now, complete=True)
        return await self.monitor.tick()

    @property
    def finished(self) -> bool:
        """Every customer has been called and every label is final."""
        wait = self.settings.experiments[0].labels.wait
        return self.served_all and self.now > START + len(self.offers) * PACE + wait + 2 * STEP


def demo_settings() -> Settings:
    """The bundled settings."""
    with as_file(files("abmonitor.demo") / "demo.yaml") as path:
        return load(path)


@asynccontextmanager
async def scene(port: int | None, way: Way = Way.WEBHOOK) -> AsyncIterator[Scene]:
    """Set everything up and take it down again; `port` of the server, None for 8000 or a free one.

    Raises PortError when a wanted port cannot be had, and MissingError where OpenFeature is missing.
    """
    settings = demo_settings()
    declared = settings.experiments[0]
    offers = load_offers()[:CUSTOMERS]
    clock = [START]
    async with AsyncExitStack() as stack:
        flags = None
        if way is Way.FLAGD:
            numbers = (offer.number for offer in offers)
            flags = await stack.enter_async_context(flagging(declared, numbers, START))
        router = _router(declared, flags)
        actuator: Actuator
        if flags is not None:
            actuator = flags.actuator
        else:
            actuator = await _webhook(declared.on_breach, router, stack)
        store = Store.embedded(settings.deployment)
        stack.push_async_callback(store.close)
        monitor = Monitor(
            settings,
            store.client,
            {declared.name: Dispatcher(actuator, time.monotonic)},
            clock=lambda: clock[0],
        )
        served_at = await _serve(monitor, port, stack)
        pipeline = _pipeline(settings, store)
        yield Scene(settings, offers, router, pipeline, monitor, served_at, clock, flags)


def _router(declared: ExperimentSettings, flags: Flagging | None) -> Router:
    secret = "whsec_" + b64encode(secrets.token_bytes(24)).decode()
    return Router(
        declared.name,
        declared.control,
        declared.treatments[0],
        DEFECT_AT,
        secret,
        time.time,
        dealing=None if flags is None else flags.deals,
    )


async def _webhook(breach: OnBreach, router: Router, stack: AsyncExitStack) -> Webhook:
    """What sends orders to the router, found in the settings the way any deployment finds it."""
    port = await stack.enter_async_context(serving(router.application(), HOST, 0))
    environ = {
        "DEMO_ROUTER_URL": f"http://{HOST}:{port}/rollback",
        "DEMO_ROUTER_SECRET": router.secret,
    }
    if breach.url is None or breach.secret is None:
        raise RuntimeError("the demo's settings have lost their webhook")
    webhook = Webhook(
        WebhookOptions(url=breach.url.resolve(environ), secret=breach.secret.resolve(environ))
    )
    stack.push_async_callback(webhook.close)
    return webhook


def _pipeline(settings: Settings, store: Store) -> ShardPipeline:
    return ShardPipeline(
        store,
        0,
        settings.experiments,
        Decoder(settings.sources),
        _NoRejects(),
        topics=(TOPIC,),
        early_for=int(settings.early_for),
    )


async def _serve(monitor: Monitor, port: int | None, stack: AsyncExitStack) -> int:
    """Start the monitor's server on `port`; without a wish on 8000, or a free port if that is taken."""

    def ready() -> str | None:
        return "nothing was read yet" if monitor.view.as_of is None else None

    for wanted in (DEFAULT_PORT, 0) if port is None else (port,):
        app = application(lambda: monitor.view, ready)
        try:
            return await stack.enter_async_context(serving(app, HOST, wanted))
        except OSError as error:
            failure = error
    why = os.strerror(failure.errno) if failure.errno else str(failure)
    raise PortError(f"port {port} on {HOST} cannot be used: {why}; --port 0 picks a free one")
