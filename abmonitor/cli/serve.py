"""Commands that run as services: worker and monitor."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Literal

import typer
from aiohttp import web

from abmonitor.cli.common import Config, failed, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of
from abmonitor.http import base_application, serving
from abmonitor.secret import SecretError
from abmonitor.service import Service, outside
from abmonitor.settings import Settings
from abmonitor.worker import Worker, WorkerFailedError
from stream.brokers import CertificateError
from stream.dead_letters import KafkaDeadLetters
from stream.fleet import PartitionsChangedError
from stream.producer import MissingTopicError, RefusedError
from stream.store import Store


Host = Annotated[
    str, typer.Option(help="Address that the server listens at; 0.0.0.0 lets other machines in.")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged.")
]


_FOR_GOOD = (
    WorkerFailedError,
    PartitionsChangedError,
    MissingTopicError,
    RefusedError,
    CertificateError,  # a file that was changed since the start
)

PATIENCE_S = 8.0
"""How long a service may take to end by itself after a signal; it is safe to cut it short."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("worker")(worker_command)
    app.command("monitor")(monitor_command)


def worker_command(
    config: Config = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /metrics, /healthz and /readyz.")
    ] = 8001,
    log_level: LogLevel = "info",
) -> None:
    """Count the events in Kafka. Start as many as there are partitions, at most."""
    settings = settings_from(config)
    _log_at(log_level)
    brokers = brokers_of(settings)
    letters = KafkaDeadLetters(brokers, settings.kafka.dead_letters)

    async def work(stop: asyncio.Event, store: Store) -> None:
        worker = Worker(settings, brokers, store, letters)
        app = base_application(worker.telemetry.registry, worker.telemetry.problem)
        async with _served("worker", app, host, port):
            await worker.run(stop)

    try:
        _run("worker", settings, work)
    except _FOR_GOOD as error:
        failed(f"worker: {error}")


def monitor_command(
    config: Config = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /metrics and the API.")
    ] = 8000,
    log_level: LogLevel = "info",
) -> None:
    """Judge the experiments, show them, and roll bad variants back."""
    settings = settings_from(config)
    _log_at(log_level)
    try:
        found = outside(settings, os.environ)
    except (SecretError, ValueError) as error:
        wrong_usage(str(error))

    async def watch(stop: asyncio.Event, store: Store) -> None:
        service = Service(settings, store, found)
        async with _served("monitor", service.application(), host, port):
            await service.run(stop)

    _run("monitor", settings, watch)


def _run(
    name: str, settings: Settings, work: Callable[[asyncio.Event, Store], Awaitable[None]]
) -> None:
    """Run a service until a signal ends it."""
    try:
        store = Store.at(settings.redis.resolve(os.environ), settings.deployment)
    except (SecretError, ValueError) as error:
        wrong_usage(f"redis: {error}")
    try:
        asyncio.run(_until_signal(store, work))
    except PortTakenError as error:
        failed(f"{name}: {error}")


async def _until_signal(
    store: Store, work: Callable[[asyncio.Event, Store], Awaitable[None]]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work(stop, store))

    def end() -> None:
        stop.set()
        loop.call_later(PATIENCE_S, working.cancel)  # whatever it waits for

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        await asyncio.wait({working})
        if not (stop.is_set() and working.cancelled()):
            await working
    finally:
        await store.close()


class PortTakenError(Exception):
    """The server's port cannot be had."""


@asynccontextmanager
async def _served(name: str, app: web.Application, host: str, port: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(serving(app, host, port))
        except OSError as error:
            raise PortTakenError(
                f"cannot listen at {host}:{port}: {error.strerror}; choose another one with --port"
            ) from None
        logging.getLogger("abmonitor").info("%s: http://%s:%d/metrics", name, host, bound)
        yield


def _log_at(level: str) -> None:
    """Log to standard error; libraries only what is wrong."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for ours in ("abmonitor", "stream", "alerts", "metrics"):
        logging.getLogger(ours).setLevel(level.upper())
    for theirs in ("kafka", "aiokafka"):  # each failed attempt; ours say what fails, once
        logging.getLogger(theirs).setLevel(logging.CRITICAL)
