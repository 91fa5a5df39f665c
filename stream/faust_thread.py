"""The thread in which faust's consumer reads, made to give whole fetches. This module does I/O (Kafka).

See `stream.faust_transport` for the reasons.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.batch import Batch, headers_of
from stream.brokers import Brokers
from stream.faust_fetcher import POLL_S, fetched, state_of, told
from stream.fetch import Bounds, Fetch, LogUnavailableError, NotOursError, Reach, arrivals


T = TypeVar("T")

LOGGER = logging.getLogger("faust.abmonitor")
"""Of faust's services: what they say on each start and stop is theirs, not ours."""

ENDED = "the thread that reads from Kafka has ended"
REPORT_S = 2.0
"""Longest wait for a report: aiokafka tries for as long as Kafka is away, and the worker would stand still."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the log is read."""

    brokers: Brokers
    group: str
    session_timeout_ms: int = 10_000
    fetch_bytes: int = 2 << 20
    """Of one partition."""

    def consumer(self) -> dict[str, Any]:
        """Arguments for aiokafka's consumer."""
        return {
            **self.brokers.aiokafka(),
            "client_id": "abmonitor",
            "group_id": self.group,
            "partition_assignment_strategy": [RangePartitionAssignor],
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # a position that is not in the log has to be noticed
            "isolation_level": "read_committed",  # what a producer took back was never sent
            "session_timeout_ms": self.session_timeout_ms,
            "heartbeat_interval_ms": self.session_timeout_ms // 5,
            "max_partition_fetch_bytes": self.fetch_bytes,
            "metadata_max_age_ms": 60_000,
        }


@dataclass(slots=True)
class _Track:
    """Where one partition is."""

    generation: int
    next: int
    """Everything before was handed over since the seek."""
    held: bool = False


class FetchThread(driver.AIOKafkaConsumerThread):
    """The thread that reads. Methods that begin with an underscore run in it."""

    logger = LOGGER

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tracks: dict[TP, _Track] = {}
        self._generations = count(1)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        reading: Any = transport
        return aiokafka.AIOKafkaConsumer(**reading.reading.consumer())

    async def on_thread_stop(self) -> None:
        """Leave. Cancelling a fetch that waits to be repeated ends aiokafka's `stop` half-way, and the thread with it."""
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            await self._ensure_consumer()._client.close()  # noqa: SLF001

    def forget(self) -> None:
        """Hand nothing over until the next seek."""
        self._tracks.clear()

    def hold(self, tp: TP, *, held: bool) -> None:
        """Hand nothing of `tp` over while held."""
        track = self._tracks.get(tp)
        if track is not None:
            track.held = held

    async def _at_once(self, work: Coroutine[Any, Any, T]) -> T:
        """Have `work` done in the thread; raises LogUnavailableError where that has ended.

        faust's own queue does two things at a time, and brokers tell offsets only between two fetches: fifty
        idle partitions would wait for ten seconds.
        """
        try:
            done = asyncio.run_coroutine_threadsafe(work, self.thread_loop)
        except RuntimeError as error:  # its loop is closed
            work.close()
            raise LogUnavailableError(ENDED) from error
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise LogUnavailableError(ENDED) from None  # the thread has cancelled what was left

    async def seek_to(self, tp: TP, offset: int) -> int:
        """Go on from `offset`; see `stream.fetch.Log.seek`."""
        return await self._at_once(self._seek_to(tp, offset))

    async def _seek_to(self, tp: TP, offset: int) -> int:
        try:
            self._ensure_consumer().seek(aiokafka.TopicPartition(*tp), offset)
        except IllegalStateError as error:
            raise NotOursError(f"{tp.topic}[{tp.partition}] is not assigned any more") from error
        track = self._tracks[tp] = _Track(next(self._generations), offset)
        return track.generation

    async def bounds(self, tps: Iterable[TP]) -> dict[TP, Bounds]:
        """The offsets that the partitions have; see `stream.fetch.Log.bounds`."""
        return await self._at_once(self._bounds(list(tps)))

    async def _bounds(self, tps: list[TP]) -> dict[TP, Bounds]:
        consumer = self._ensure_consumer()
        asked = [aiokafka.TopicPartition(*tp) for tp in tps]
        starts = await told(consumer.beginning_offsets(asked))
        ends = await told(consumer.end_offsets(asked))
        return {tp: Bounds(starts[at], ends[at]) for tp, at in zip(tps, asked, strict=True)}

    async def reach(self, tps: Iterable[TP]) -> dict[TP, Reach]:
        """How far the partitions were read; see `stream.fetch.Log.reach`."""
        return await self._at_once(self._reach(list(tps)))

    async def _reach(self, tps: list[TP]) -> dict[TP, Reach]:
        consumer = self._ensure_consumer()
        asked = [aiokafka.TopicPartition(*tp) for tp in tps]
        ends = await told(consumer.end_offsets(asked))
        found = {}
        for tp, at in zip(tps, asked, strict=True):
            track = self._tracks.get(tp)
            if track is None:
                raise NotOursError(f"{tp.topic}[{tp.partition}] is not assigned any more")
            state = state_of(consumer, at)
            high = state.highwater if state is not None else None
            uncommitted = high is not None and high > ends[at]
            found[tp] = Reach(ends[at], self._read_to(consumer, at), track.next, uncommitted)
        return found

    def _read_to(self, consumer: aiokafka.AIOKafkaConsumer, at: aiokafka.TopicPartition) -> int:
        """Control records end transactions and are never handed over, but they are read."""
        state = state_of(consumer, at)
        return int(state.position) if state is not None and state.has_valid_position else 0

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where it does not exist."""
        consumer = self._ensure_consumer()
        found = consumer.partitions_for_topic(topic)
        if not found:  # or Kafka has not told yet: do not wait for the next look a minute later
            self.thread_loop.call_soon_threadsafe(consumer._client.force_metadata_update)  # noqa: SLF001
        return len(found or ())

    def end(self, tp: TP) -> int | None:
        """The end of a partition as of its latest fetch."""
        try:
            end: int | None = self._ensure_consumer().last_stable_offset(
                aiokafka.TopicPartition(*tp)
            )
        except (AssertionError, IllegalStateError):  # asserted: that it is assigned
            return None
        return end

    async def report(self, offsets: Mapping[TP, int]) -> None:
        """Commit offsets for tools that show lag; nothing here ever reads them."""
        with suppress(LogUnavailableError):  # then there is no lag to show any more
            await self._at_once(self._report(dict(offsets)))

    async def _report(self, offsets: dict[TP, int]) -> None:
        consumer = self._ensure_consumer()
        ours = {tp: OffsetAndMetadata(offsets[tp], "") for tp in offsets if tp in self._tracks}
        if not ours:
            return
        try:
            async with asyncio.timeout(REPORT_S):
                await consumer.commit({aiokafka.TopicPartition(*tp): at for tp, at in ours.items()})
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self.log.info("offsets were not reported: %r", error)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 # faust's signature
        max_records: int | None = None,
    ) -> dict[TP, list[Fetch]]:
        """One fetch a partition; what is held stays with the fetcher, which then reads no more of it."""
        del timeout, max_records
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001 # as faust does
        tracks = dict(self._tracks)  # a rebalance, in the other thread, may clear them
        wanted = {tp for tp in active_partitions & tracks.keys() if not tracks[tp].held}
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001 # tells the group that we live
            if not wanted:  # none would mean all
                await asyncio.sleep(POLL_S)
                return {}
            asked = {aiokafka.TopicPartition(*tp) for tp in wanted}
            try:
                records = await fetched(fetcher, asked)
            except OffsetOutOfRangeError as error:
                return self._outside(error)
            except NoOffsetForPartitionError:
                return {}  # noticed between assignment and seek, and told only now
        tracks = dict(self._tracks)
        return {
            TP(*at): [self._fetch(consumer, at, found, tracks[TP(*at)])]
            for at, found in records.items()
            if TP(*at) in tracks
        }

    def _outside(self, error: OffsetOutOfRangeError) -> dict[TP, list[Fetch]]:
        """Tell the intakes that their positions are not in the log."""
        tracks = dict(self._tracks)
        lost = {TP(*at) for at in error.args[0]} & tracks.keys()
        return {tp: [Fetch(tracks[tp].generation, None)] for tp in lost}

    def _fetch(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        at: aiokafka.TopicPartition,
        records: list[Any],
        track: _Track,
    ) -> Fetch:
        position, track.next = track.next, max(self._read_to(consumer, at), records[-1].offset + 1)
        headers = [record.headers for record in records]
        batch = Batch(
            at.topic,
            at.partition,
            position,
            track.next,
            [record.offset for record in records],
            arrivals([record.timestamp for record in records], int(time.time() * 1000)),
            [record.value for record in records],
            [record.key for record in records],
            [headers_of(each) for each in headers] if any(headers) else None,
        )
        return Fetch(track.generation, batch)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing: that a partition waits is nothing unusual, and the worker's telemetry shows it."""
