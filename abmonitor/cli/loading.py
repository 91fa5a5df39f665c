"""What `simulate --kafka` does with its arguments."""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import typer
from aiokafka.errors import KafkaError

from abmonitor.cli.common import failed, say, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of, counting
from abmonitor.http import serving
from abmonitor.operate.load import Load, Pace, Route, StuckError
from abmonitor.operate.traffic import TrafficRouter
from abmonitor.secret import Secret, SecretError
from stream.arms import Run
from stream.brokers import Brokers
from stream.producer import MissingTopicError, Producer, RefusedError
from stream.simulate import Simulator
from stream.simulation import Simulation
from stream.split import Split


BEHIND_S = 1.0
"""From when on it is told that the machine could not keep the pace."""

START_S, PAUSE_S = 60.0, 1.0
"""How long to wait for a Kafka that does not answer at the start, and between two attempts."""

PATIENCE_S, CLOSING_S = 6.0, 1.0
"""How long what is under way may take to become safe after a signal, and then the connection to close: together
less than the 10 s after which containers are killed."""

SECRET = "ABMONITOR_ROUTER_SECRET"  # noqa: S105  # the name of a variable


@dataclass(frozen=True, slots=True)
class Target:
    """Where a load goes, how fast, and who may change its split; as the arguments say."""

    config: Path | None = None
    speed: str | None = None
    from_now: bool = True
    """It starts when Kafka answers, and not when the run says."""
    router: str | None = None
    secret_file: Path | None = None


class _ListenError(Exception):
    """The router's address cannot be had."""


def send(simulation: Simulation, run: Run, target: Target) -> Simulator:
    """Send the events of a run to Kafka, and say how many; ends the program where that fails.

    A signal ends it, too: with status 0, once what is under way is safe.
    """
    split = Split(simulation)
    listener = _listener(target, split)
    pace = Pace(run.start, _speed(target.speed))
    settings = None if target.config is None else settings_from(target.config)
    try:
        route = Route() if settings is None else Route.of(settings)
    except ValueError as error:
        wrong_usage(f"--kafka: {error}")
    sending = _Sending(simulation, run, split, pace, from_now=target.from_now)
    brokers, started = brokers_of(settings), time.monotonic()
    try:
        asyncio.run(sending.run(brokers, route, listener))
    except (
        KafkaError,
        MissingTopicError,
        RefusedError,
        StuckError,
        ValueError,
        _ListenError,
    ) as error:
        failed(f"simulate: {error}")
    seconds = time.monotonic() - started
    say(f"simulate: {sending.sent:,} events sent, {sending.sent / seconds:,.0f} a second")
    if sending.behind_s > BEHIND_S:
        say(f"simulate: fell up to {sending.behind_s:.1f} s behind the clock; try fewer a second")
    if sending.simulator is None or sending.stop.is_set():
        say("simulate: stopped before its end; outcomes that were not due yet were not sent")
        raise typer.Exit(0)
    return sending.simulator


@dataclass(frozen=True, slots=True)
class _Listener:
    """The router of a load, and where it listens."""

    router: TrafficRouter
    host: str
    port: int

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve it while the context lasts. Raises _ListenError."""
        async with AsyncExitStack() as stack:
            served = serving(self.router.application(), self.host, self.port)
            try:
                bound = await stack.enter_async_context(served)
            except OSError as error:
                raise _ListenError(
                    f"cannot listen at {self.host}:{self.port}: {error.strerror or error};"
                    " choose another address with --router"
                ) from error
            say(f"simulate: orders are taken at http://{self.host}:{bound}/rollback")
            yield


def _listener(target: Target, split: Split) -> _Listener | None:
    if target.router is None:
        return None
    try:
        parts = urlsplit(f"//{target.router}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.netloc != target.router or parts.username is not None:
        wrong_usage(f"--router: expected HOST:PORT such as 127.0.0.1:8002, got {target.router!r}")
    file = target.secret_file
    secret = Secret(env=SECRET) if file is None else Secret(file=str(file))
    try:
        router = TrafficRouter(
            split, secret.resolve(os.environ), lambda what: say(f"simulate: {what}")
        )
    except (SecretError, ValueError) as error:
        wrong_usage(
            f"--router: {error}; orders have to be signed: give what `on_breach.secret` gives, in"
            f" --router-secret-file FILE or in {SECRET}"
        )
    return _Listener(router, host, port)


class _Sending:
    """A load, and the connection that it needs; a signal ends it."""

    def __init__(
        self, simulation: Simulation, run: Run, split: Split, pace: Pace, *, from_now: bool
    ) -> None:
        self._simulation, self._run, self._split, self._pace = simulation, run, split, pace
        self._from_now = from_now
        self.simulator: Simulator | None = None
        self.stop = asyncio.Event()
        self.sent, self.behind_s = 0, 0.0

    async def run(self, brokers: Brokers, route: Route, listener: _Listener | None) -> None:
        """Send everything, or until a signal comes."""
        working = asyncio.ensure_future(self._serve(brokers, route, listener))
        loop = asyncio.get_running_loop()

        def end() -> None:
            self.stop.set()
            for patience in (PATIENCE_S, PATIENCE_S + CLOSING_S):
                loop.call_later(patience, working.cancel)  # whatever it waits for

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        await asyncio.wait({working})
        if not (self.stop.is_set() and working.cancelled()):
            await working

    async def _serve(self, brokers: Brokers, route: Route, listener: _Listener | None) -> None:
        if listener is None:
            await self._send(brokers, route)
        else:
            async with listener.serving():
                await self._send(brokers, route)

    async def _send(self, brokers: Brokers, route: Route) -> None:
        producer = Producer(brokers)
        try:
            if not await self._reached(producer):
                return
            await self._load(producer, route)
        finally:
            await producer.stop()

    async def _load(self, producer: Producer, route: Route) -> None:
        run, pace = self._run, self._pace
        if self._from_now:  # a Kafka that came late would find all events late
            run = replace(run, start=int(time.time() * 1000))
            pace = replace(pace, start=run.start)
        simulator = Simulator(self._simulation, run, chunk=pace.chunk(run.rate), split=self._split)
        self.simulator, load = simulator, Load(producer, route, pace, self.stop)
        try:
            with counting("events") as progress:
                await load.run(simulator.blocks(), progress)
        finally:
            self.sent, self.behind_s = load.sent, load.behind_s

    async def _reached(self, producer: Producer) -> bool:
        """Whether Kafka answers, after as many attempts as START_S allows; False after a signal."""
        until, told = time.monotonic() + START_S, False
        while not self.stop.is_set():
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                if time.monotonic() >= until:
                    raise
                if not told:
                    say(f"simulate: {error}; trying again for {START_S:g} s")
                told = True
            else:
                return True
            await asyncio.sleep(PAUSE_S)
        return False


def _speed(text: str | None) -> float | None:
    """Seconds of the simulation a second; None: as fast as it goes."""
    if text == "max":
        return None
    try:
        speed = float(text or 1)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and sys.float_info.epsilon < speed):
        wrong_usage(f"--speed: expected a number above 0, or max, got {text!r}")
    return speed
