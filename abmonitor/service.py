"""The monitor as a service: everything that its process consists of, put together from the settings."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiohttp import web

from abmonitor.api import Api
from abmonitor.api_guard import Guard, guard_of
from abmonitor.auth import TokensError
from abmonitor.breach import actuator_of
from abmonitor.canaries import Canaries
from abmonitor.channels import channels_of
from abmonitor.control_log import ControlLog
from abmonitor.exposition import Exposition
from abmonitor.flags import Following, Published
from abmonitor.flags import routes as flag_routes
from abmonitor.gates import Gates
from abmonitor.gates import routes as gate_routes
from abmonitor.hooks import Hooks
from abmonitor.hooks import routes as hook_routes
from abmonitor.journal import PATIENCE_S
from abmonitor.notify import Channel, Notifications
from abmonitor.secret import SecretError
from abmonitor.server import application
from abmonitor.service_telemetry import ServiceTelemetry
from abmonitor.settings import Settings
from abmonitor.telling import Telling
from abmonitor.watch import Watch
from alerts.actuators.flag_definition import Off
from alerts.actuators.flagd import Flagd
from alerts.order import Actuator
from stream.brokers import Brokers
from stream.store import Store


@dataclass(frozen=True, slots=True)
class Outside:
    """What the monitor talks to, looked up in the environment before anything begins."""

    actuators: Mapping[str, Actuator]
    """By experiment."""
    channels: tuple[Channel, ...] = ()
    guard: Guard = field(default_factory=Guard)
    """Who may do what over HTTP."""
    log: ControlLog | None = None
    """None where the store is all that remembers decisions."""

    async def switched_off(self, experiment: str) -> dict[str, Off]:
        """Treatments that a flag file keeps off. Raises what reading it raises."""
        actuator = self.actuators[experiment]
        return await actuator.off(experiment) if isinstance(actuator, Flagd) else {}

    async def close(self) -> None:
        """Release all connections."""
        for actuator in self.actuators.values():
            await actuator.close()
        if self.log is not None:
            await self.log.close()


def outside(settings: Settings, environ: Mapping[str, str]) -> Outside:
    """Look everything up. Raises SecretError with all that is missing, a line each, and no secret in it."""
    problems: list[str] = []
    actuators: dict[str, Actuator] = {}
    channels: tuple[Channel, ...] = ()
    brokers = _brokers(settings, environ, problems)
    for experiment in settings.experiments:
        try:
            actuators[experiment.name] = actuator_of(experiment.on_breach, environ, brokers)
        except (SecretError, ValueError) as error:
            problems.append(f"{experiment.name}: on_breach: {error}")
    try:
        channels = channels_of(settings.notify, environ)
    except SecretError as error:
        problems.append(str(error))
    guard = Guard()
    try:
        guard = guard_of(settings.api)
    except TokensError as error:
        problems.append(f"api.tokens: {error}")
    if problems:
        raise SecretError("\n".join(problems))
    log = None
    if brokers is not None and settings.kafka.control is not None:
        log = ControlLog(brokers, settings.kafka.control, settings.deployment, publish_s=PATIENCE_S)
    return Outside(actuators, channels, guard, log)


def _brokers(settings: Settings, environ: Mapping[str, str], problems: list[str]) -> Brokers | None:
    """Where Kafka is; None where a monitor does not need it, or cannot know."""
    ordered = any(each.on_breach.action == "kafka" for each in settings.experiments)
    if settings.kafka.control is None and not ordered:
        return None
    try:
        return settings.kafka.brokers(environ)
    except SecretError as error:
        problems.append(
            f"kafka.servers: {error}. Decisions are logged there before they are acted on; `kafka:"
            " {control: null}` keeps them in Redis alone: a Redis that loses its data then forgets what was"
            " rolled back"
        )
        return None


@dataclass(slots=True)
class Service:
    """One monitor: its loop, its server's application, and those who are told."""

    settings: Settings
    store: Store
    outside: Outside
    watch: Watch = field(init=False)
    telling: Telling = field(init=False)
    following: Following = field(init=False)
    exposition: Exposition = field(init=False)

    def __post_init__(self) -> None:
        out = self.outside
        self.following = Following(out.actuators)
        self.watch = Watch(
            self.settings,
            self.store,
            out.actuators,
            log=out.log,
            switched_off=out.switched_off,
        )
        self.telling = Telling(Notifications(out.channels), self.watch.store)
        monitor, told = self.watch.monitor, self.telling.notifications
        self.exposition = Exposition(lambda: monitor.view)
        self.exposition.register(
            ServiceTelemetry(
                lambda: monitor.view, told, self.following, self.watch.ticks, self.watch.problem
            )
        )
        self.watch.followers = (
            self.following.follow,
            self.telling.follow,
            self.exposition.follow,
        )

    def application(self) -> web.Application:
        """What is served."""
        watch = self.watch
        published = Published(lambda: watch.monitor.view, watch.problem)
        canaries = Canaries(self.store.client, self.settings.deployment)
        gates = Gates(lambda: watch.monitor.view, watch.problem, canaries)
        experiments = {each.name: each for each in self.settings.experiments}
        hooks = Hooks(watch.monitor, experiments, self.settings.hooks.alertmanager)
        return application(
            lambda: watch.monitor.view,
            watch.problem,
            api=Api(watch.monitor, watch.store, self.outside.guard),
            more=(*flag_routes(published), *gate_routes(gates), *hook_routes(hooks)),
            exposition=self.exposition,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop`, then tell what is still to be told."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.outside.close)
            silent = asyncio.Event()
            telling = asyncio.create_task(self.telling.notifications.run(silent))

            async def told() -> None:
                silent.set()
                await telling

            stack.push_async_callback(told)
            await self.watch.run(stop)
