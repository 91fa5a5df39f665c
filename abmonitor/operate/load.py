"""Sending a simulation to Kafka, at the pace of a clock or as fast as it goes. This module does I/O (Kafka)."""

import asyncio
import re
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from abmonitor.settings import Settings
from stream.producer import Producer, Record
from stream.rekey import partition_of
from stream.simulate import CHUNK
from stream.sources import SourceOptions


SLOT_S = 0.05
"""Events that are due within this time go together."""

GIVE_UP_S = 600.0
"""How long Kafka may take nothing before a load ends: longer than brokers take to restart."""

Result = TypeVar("Result")

_TIME = re.compile(rb'"time":(\d+)')


@dataclass(frozen=True, slots=True)
class Route:
    """Which topic takes which kind of event."""

    predictions: str = "predictions"
    outcomes: str = "outcomes"

    @classmethod
    def of(cls, settings: Settings) -> "Route":
        """The topics of a deployment; raises ValueError where they take no plain events."""
        sources = settings.sources or dict.fromkeys(settings.topics, SourceOptions())
        found: dict[str, str] = {}
        for kind, order in (("prediction", 1), ("outcome", -1)):
            plain = {name: source.type for name, source in sources.items() if not source.fields}
            # Where topics take both kinds, predictions go to the first one, and outcomes to the last.
            mixed = [name for name in plain if plain[name] is None][::order]
            declared = [name for name in plain if plain[name] == kind]
            if not declared + mixed:
                raise ValueError(
                    f"no source takes {kind}s as plain events: simulated events have the fields of"
                    " docs/events.md, so expected a source without `fields`"
                )
            found[kind] = (declared + mixed)[0]
        return cls(found["prediction"], found["outcome"])


@dataclass(frozen=True, slots=True)
class Pace:
    """How the times of events go with the clock."""

    start: int
    """Epoch milliseconds at which the simulation starts, by its own clock."""
    speed: float | None
    """Seconds of the simulation a second; None: as fast as it goes."""

    def chunk(self, rate: float) -> int:
        """How many predictions (of `rate` a second) to make at a time, so that none is made too late."""
        if self.speed is None:
            return CHUNK
        return max(1, min(CHUNK, int(rate * self.speed * SLOT_S)))


class StuckError(Exception):
    """Kafka took nothing for too long."""


class Load:
    """Sends blocks of events; what is sent is counted."""

    def __init__(
        self,
        producer: Producer,
        route: Route,
        pace: Pace,
        stop: asyncio.Event | None = None,
        *,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """`stop`: ends it once what is under way is safe. `give_up_s`: how long to try to send."""
        self._producer, self._route, self._pace = producer, route, pace
        self._stop, self._give_up_s = stop or asyncio.Event(), give_up_s
        self._began = 0.0
        self.sent = 0
        self.behind_s = 0.0
        """The furthest that it fell behind the clock."""

    async def run(
        self, blocks: Iterable[bytes], progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send all events of `blocks` (lines, in order of time), and return when Kafka has them.

        Raises MissingTopicError, RefusedError, StuckError, ValueError.
        """
        counts = dict.fromkeys((self._route.predictions, self._route.outcomes), 0)
        for topic in counts:
            counts[topic] = await self._within(self._producer.partitions(topic))
        self._began = time.monotonic()
        for block in blocks:
            async for lines in self._due(block):
                if self._stop.is_set():
                    return
                await self._within(self._send(lines, counts))
                self.sent += len(lines)
                progress(self.sent)

    async def _within(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await asyncio.wait_for(work, self._give_up_s)
        except TimeoutError as error:
            raise StuckError(
                f"Kafka took nothing for {self._give_up_s:g} s; look after it, and start again"
            ) from error

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or until it is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _due(self, block: bytes) -> AsyncIterator[list[bytes]]:
        """The lines of a block, some at a time, when their time has come."""
        lines = block.splitlines()
        speed = self._pace.speed
        if speed is None or not lines:
            yield lines
            return
        times = [int(text) for text in _TIME.findall(block)]
        first = 0
        while first < len(lines):
            slot = max(times[first], self._now(speed)) + SLOT_S * 1000 * speed
            stop = bisect_right(times, slot, lo=first)
            late = (self._now(speed) - times[stop - 1]) / 1000 / speed
            if late < 0:
                await self._sleep(-late)
            self.behind_s = max(self.behind_s, late)
            yield lines[first:stop]
            first = stop

    def _now(self, speed: float) -> float:
        """The clock of the simulation, epoch milliseconds."""
        return self._pace.start + (time.monotonic() - self._began) * 1000 * speed

    async def _send(self, lines: list[bytes], counts: dict[str, int]) -> None:
        by_topic: dict[str, list[Record]] = {topic: [] for topic in counts}
        for line, topic, key in _addressed(lines, self._route):
            by_topic[topic].append(Record(partition_of(key, counts[topic]), key, line))
        for topic, records in by_topic.items():
            if await self._producer.send(topic, records):
                raise ValueError(f"topic {topic!r} takes no event as large as those simulated")


def _addressed(lines: Iterable[bytes], route: Route) -> Iterator[tuple[bytes, str, bytes]]:
    """Each line, its topic and its key."""
    for line in lines:
        # The simulator writes `{"type":"prediction","prediction_id":"s1-0",...`, and nothing to escape.
        _, _, _, kind, _, _, _, key, _ = line.split(b'"', 8)
        yield line, route.outcomes if kind == b"outcome" else route.predictions, key
