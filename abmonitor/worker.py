"""The worker: counts the shards that its consumer group gives it, until it is told to stop."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count

from abmonitor.settings import Settings
from abmonitor.worker_telemetry import ShardStatus, WorkerStatus, WorkerTelemetry
from stream.brokers import Brokers
from stream.dead_letters import KafkaDeadLetters
from stream.faust_thread import Reading
from stream.faust_worker import FaustLog, Member
from stream.fetch import LogUnavailableError
from stream.fleet import PartitionsChangedError, agree_on_partitions, fleet_clock, remembered
from stream.intake import IntakeOptions, ShardIntake
from stream.knock import explain, refusals
from stream.pipeline import ShardPipeline
from stream.producer import Producer
from stream.sources import Decoder
from stream.store import Store, StoreUnavailableError


logger = logging.getLogger(__name__)

FLEET_EVERY_S = 2.0
LETTERS_WAIT_S = 10.0
"""Dead letters that wait longer than that are told of."""
REPORT_EVERY = 3
"""In how many of these rounds offsets are reported to the group."""


class WorkerFailedError(Exception):
    """The worker had to end."""


class Worker:
    """One member of a deployment's consumer group."""

    def __init__(
        self, settings: Settings, brokers: Brokers, store: Store, letters: KafkaDeadLetters
    ) -> None:
        self._settings, self._store, self._letters = settings, store, letters
        self._brokers = brokers
        self._topics, self._options = settings.topics, settings.worker
        self._decoder = Decoder(settings.sources)
        self._pipelines: dict[int, ShardPipeline] = {}
        self._store_problem: str | None = None
        self._member = Member(
            Reading(brokers, settings.group, int(settings.worker.session_timeout)),
            self._topics,
            self._intake,
        )
        self.telemetry = WorkerTelemetry(settings.worker.rejected_limit, time.monotonic)

    async def run(self, stop: asyncio.Event) -> None:
        """Count until `stop`. Raises WorkerFailedError and PartitionsChangedError."""
        _collect_less_garbage()
        try:
            if await _done_before(stop, self._wait_for_kafka()):
                async with self._joined():
                    await self._watch(stop)
        finally:
            await self._letters.stop()

    async def _watch(self, stop: asyncio.Event) -> None:
        for number in count(1):
            await self._pause(stop)
            if stop.is_set():
                return
            await self._raise_failure()
            await self._look_around()
            if number % REPORT_EVERY == 0:
                await self._member.log.report(self._member.intakes.values())
                await self._examine_store()
                self._tell_of_letters()

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait for the next round, unless something happens before."""
        stopped: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
        failed: asyncio.Future[object] = asyncio.ensure_future(asyncio.shield(self._member.failed))
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait({stopped, failed}, timeout=FLEET_EVERY_S, return_when=first)
        finally:
            stopped.cancel()
            failed.cancel()

    @asynccontextmanager
    async def _joined(self) -> AsyncIterator[None]:
        try:
            await self._member.start()
            yield
        finally:
            await self._member.stop()

    async def _wait_for_kafka(self) -> None:
        """Raises MissingTopicError where it has not what is to be counted."""
        self.telemetry.look_at(WorkerStatus(problem="waiting for Kafka"), _now())
        for refusal in await refusals(self._brokers):
            logger.warning("%s", refusal)
        producer = Producer(self._brokers)
        try:
            for topic in self._topics:
                await producer.partitions(topic)
        finally:
            await producer.stop()
        await self._letters.start()

    def _tell_of_letters(self) -> None:
        rejected = self.telemetry.rejected()
        if rejected:
            logger.warning("%d events could not be used: see `abmonitor dead-letters`", rejected)

    async def _examine_store(self) -> None:
        """See whether Redis is set up to keep what it is given."""
        with suppress(StoreUnavailableError):
            found = "; ".join(await self._store.problems()) or None
            if found and found != self._store_problem:
                logger.error("%s", found)
            self._store_problem = found

    async def _raise_failure(self) -> None:
        if self._member.failed.done():
            self._member.failed.result()
        reason = self._member.crash
        if reason is not None:
            raise WorkerFailedError(await explain(self._brokers, reason)) from reason

    async def _look_around(self) -> None:
        """See how far the other shards are, and write down how far ours are."""
        pending: dict[int, int] = {}
        store_up = False
        with suppress(StoreUnavailableError):  # the intakes say so
            clock = await fleet_clock(self._store)
            for pipeline in self._pipelines.values():
                pipeline.learn(clock)
            pending = await remembered(self._store, self._member.intakes)
            store_up = True
        member = self._member
        shards = tuple(self._status(each, pending) for each in member.intakes.values())
        joined = member.has_joined
        problem = self._store_problem
        if self._letters.waiting_s > LETTERS_WAIT_S:
            problem = (
                "Kafka does not take the dead letters; nothing is counted before they are safe"
            )
        status = WorkerStatus(shards, joined, store_up, member.rebalances, problem)
        self.telemetry.look_at(status, _now())

    def _status(self, intake: ShardIntake, pending: Mapping[int, int]) -> ShardStatus:
        ends = {topic: self._member.log.end(topic, intake.shard) for topic in self._topics}
        lag = {
            topic: max(0, end - position)
            for topic, position in intake.positions.items()
            if (end := ends[topic]) is not None
        }
        return ShardStatus(
            intake.shard,
            intake.state,
            intake.problem,
            lag,
            intake.watermark or None,
            pending.get(intake.shard),
        )

    def _intake(self, shard: int, log: FaustLog) -> ShardIntake:
        settings, options = self._settings, self._options
        shortest = min(experiment.labels.wait for experiment in settings.experiments)
        pipeline = self._pipelines.get(shard)
        if pipeline is None:
            pipeline = self._pipelines[shard] = ShardPipeline(
                self._store,
                shard,
                settings.experiments,
                self._decoder,
                self._letters,
                topics=self._topics,
                early_for=int(settings.early_for),
            )
        return ShardIntake(
            shard,
            pipeline,
            log,
            self._topics,
            IntakeOptions(options.skew(shortest), int(options.clock_skew)),
            clock=_now,
            observe=self.telemetry.note,
            prepare=self._agree,
        )

    async def _agree(self) -> None:
        """Make sure that the topics still have the partitions that were counted."""
        counts = self._member.log.partitions(self._topics)
        unknown = ", ".join(topic for topic, count in counts.items() if not count)
        if unknown:  # between two answers of Kafka; whether a topic exists was seen at the start
            raise LogUnavailableError(f"Kafka does not tell the partitions of {unknown}")
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
            raise PartitionsChangedError(
                f"all topics must have the same number of partitions, but {told}: events of one id would"
                " lie in different partitions; `abmonitor rekey` copies them into one topic"
            )
        await agree_on_partitions(self._store, max(counts.values()))


def _collect_less_garbage() -> None:
    """Look for cycles less often.

    Fetches make tens of thousands of objects that live shortly and have no cycles; looking through them
    again and again takes an eighth of the worker's time.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


async def _done_before(stop: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Whether `work` was done before `stop`; it is cancelled where it was not. Raises what it raises."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.done() and working.result() is None
    finally:
        working.cancel()
        stopped.cancel()
        await asyncio.wait({working, stopped})


def _now() -> int:
    return int(time.time() * 1000)
