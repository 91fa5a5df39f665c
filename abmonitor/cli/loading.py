"""What `simulate --kafka` does with its arguments."""

import asyncio
import math
import sys
import time
from pathlib import Path

import typer
from aiokafka.errors import KafkaError

from abmonitor.cli.common import failed, say, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of, counting
from abmonitor.operate.load import Load, Pace, Route
from stream.arms import Run
from stream.brokers import Brokers
from stream.producer import MissingTopicError, Producer, RefusedError
from stream.simulate import Simulator
from stream.simulation import Simulation


BEHIND_S = 1.0
"""From when on it is told that the machine could not keep the pace."""


def send(simulation: Simulation, run: Run, config: Path | None, speed: str | None) -> Simulator:
    """Send the events of a run to Kafka, and say how many; ends the program where that fails."""
    pace = Pace(run.start, _speed(speed))
    settings = None if config is None else settings_from(config)
    try:
        route = Route() if settings is None else Route.of(settings)
    except ValueError as error:
        wrong_usage(f"--kafka: {error}")
    brokers = brokers_of(settings)
    simulator = Simulator(simulation, run, chunk=pace.chunk(run.rate))
    load = _Sending(brokers, route, pace)
    started = time.monotonic()
    try:
        asyncio.run(load.run(simulator))
    except (KafkaError, MissingTopicError, RefusedError, ValueError) as error:
        failed(f"simulate: {error}")
    except KeyboardInterrupt:
        say(f"simulate: stopped; about {load.sent:,} events sent")
        raise typer.Exit(130) from None
    seconds = time.monotonic() - started
    say(f"simulate: {load.sent:,} events sent, {load.sent / seconds:,.0f} a second")
    if load.behind_s > BEHIND_S:
        say(f"simulate: fell up to {load.behind_s:.1f} s behind the clock; try fewer a second")
    return simulator


class _Sending:
    """The load, and the connection that it needs."""

    def __init__(self, brokers: Brokers, route: Route, pace: Pace) -> None:
        self._brokers, self._route, self._pace = brokers, route, pace
        self.sent, self.behind_s = 0, 0.0

    async def run(self, simulator: Simulator) -> None:
        producer = Producer(self._brokers)
        load = Load(producer, self._route, self._pace)
        try:
            await producer.start()
            with counting("events") as progress:
                await load.run(simulator.blocks(), progress)
        finally:
            self.sent, self.behind_s = load.sent, load.behind_s
            await producer.stop()


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
