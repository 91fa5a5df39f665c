"""A transport for faust that hands over whole fetches instead of single records. This module does I/O (Kafka).

Why: faust spends some 80 µs on each message that goes through an agent, seven times what decoding and
joining it takes. Here a message is what one fetch gave for one partition: faust keeps the consumer group,
the thread that reads, the agent and the life of the service, and pays its price once for thousands of records.

What follows from that:

- Positions are not faust's: they are stored with the counts (`stream.pipeline`). Topics are read without
  acknowledgement, so that faust neither tracks nor commits offsets, and after a rebalance nothing is handed
  over until the shard's intake has said where to go on (`FetchThread.seek_to`).
- faust drops messages whose offset is lower than one it has seen, which a rewind brings on purpose. So the
  messages are numbered here, and their offsets are nobody's.
- The partitions of one number have to be with one worker whatever their topic is: the range assignor sees to
  that, faust's own does not unless it has tables.

`tests/stream/test_faust_transport.py` fails when a release of faust changes what is relied on here.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from faust.types.transports import TransportT

from metrics.experiment import HOUR
from stream.batch import Batch, Headers
from stream.brokers import Brokers
from stream.fetch import Bounds, Fetch, LogUnavailableError, NotOursError, Reach


LOGGER = logging.getLogger("faust.abmonitor")
"""Of faust's services: what they say on each start and stop is theirs, not ours."""

MAX_RECORDS = 20_000
"""Records of one poll over all partitions."""
POLL_S = 0.2
"""Longest wait of one poll: a partition that is released meanwhile is not looked at before."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the log is read."""

    brokers: Brokers
    group: str
    session_timeout_ms: int = 10_000
    fetch_bytes: int = 1 << 20
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
        reading = _reading(transport)
        return aiokafka.AIOKafkaConsumer(loop=self.thread_loop, **reading.consumer())

    def forget(self) -> None:
        """Hand nothing over until the next seek."""
        self._tracks.clear()

    def hold(self, tp: TP, *, held: bool) -> None:
        """Hand nothing of `tp` over while held."""
        track = self._tracks.get(tp)
        if track is not None:
            track.held = held

    async def seek_to(self, tp: TP, offset: int) -> int:
        """Go on from `offset`; see `stream.fetch.Log.seek`."""
        generation: int = await self.call_thread(self._seek_to, tp, offset)
        return generation

    async def _seek_to(self, tp: TP, offset: int) -> int:
        try:
            self._ensure_consumer().seek(aiokafka.TopicPartition(*tp), offset)
        except IllegalStateError as error:
            raise NotOursError(f"{tp.topic}[{tp.partition}] is not assigned any more") from error
        track = self._tracks[tp] = _Track(next(self._generations), offset)
        return track.generation

    async def bounds(self, tps: Iterable[TP]) -> dict[TP, Bounds]:
        """The offsets that the partitions have; see `stream.fetch.Log.bounds`."""
        bounds: dict[TP, Bounds] = await self.call_thread(self._bounds, list(tps))
        return bounds

    async def _bounds(self, tps: list[TP]) -> dict[TP, Bounds]:
        consumer = self._ensure_consumer()
        asked = [aiokafka.TopicPartition(*tp) for tp in tps]
        try:
            starts = await consumer.beginning_offsets(asked)
            ends = await consumer.end_offsets(asked)
        except KafkaError as error:
            raise LogUnavailableError(f"Kafka does not tell its offsets: {error!r}") from error
        return {tp: Bounds(starts[at], ends[at]) for tp, at in zip(tps, asked, strict=True)}

    async def reach(self, tps: Iterable[TP]) -> dict[TP, Reach]:
        """How far the partitions were read; see `stream.fetch.Log.reach`."""
        reach: dict[TP, Reach] = await self.call_thread(self._reach, list(tps))
        return reach

    async def _reach(self, tps: list[TP]) -> dict[TP, Reach]:
        consumer = self._ensure_consumer()
        asked = [aiokafka.TopicPartition(*tp) for tp in tps]
        try:
            ends = await consumer.end_offsets(asked)
        except KafkaError as error:
            raise LogUnavailableError(f"Kafka does not tell its offsets: {error!r}") from error
        found = {}
        for tp, at in zip(tps, asked, strict=True):
            track = self._tracks.get(tp)
            if track is None:
                raise NotOursError(f"{tp.topic}[{tp.partition}] is not assigned any more")
            found[tp] = Reach(ends[at], self._read_to(consumer, at), track.next)
        return found

    def _read_to(self, consumer: aiokafka.AIOKafkaConsumer, at: aiokafka.TopicPartition) -> int:
        """Control records end transactions and are never handed over, but they are read."""
        assignment = consumer._fetcher._subscriptions.subscription.assignment  # noqa: SLF001
        state = assignment.state_value(at)
        return int(state.position) if state is not None and state.has_valid_position else 0

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where it does not exist."""
        return len(self._ensure_consumer().partitions_for_topic(topic) or ())

    def end(self, tp: TP) -> int | None:
        """The end of a partition as of its latest fetch."""
        try:
            end: int | None = self._ensure_consumer().last_stable_offset(
                aiokafka.TopicPartition(*tp)
            )
        except IllegalStateError:
            return None
        return end

    async def report(self, offsets: Mapping[TP, int]) -> None:
        """Commit offsets for tools that show lag; nothing here ever reads them."""
        await self.call_thread(self._report, dict(offsets))

    async def _report(self, offsets: dict[TP, int]) -> None:
        consumer = self._ensure_consumer()
        ours = {tp: OffsetAndMetadata(offsets[tp], "") for tp in offsets if tp in self._tracks}
        try:
            await consumer.commit({aiokafka.TopicPartition(*tp): at for tp, at in ours.items()})
        except (KafkaError, IllegalStateError) as error:
            self.log.info("offsets were not reported: %r", error)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 # faust's signature
        max_records: int | None = None,
    ) -> dict[TP, list[Fetch]]:
        """One fetch a partition; what is held stays with the fetcher, which then reads no more of it."""
        del max_records
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001 # as faust does
        wanted = {
            tp for tp in active_partitions if tp in self._tracks and not self._tracks[tp].held
        }
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001 # tells the group that we live
            if not wanted:  # none would mean all
                await asyncio.sleep(min(timeout or POLL_S, POLL_S))
                return {}
            asked = {aiokafka.TopicPartition(*tp) for tp in wanted}
            try:
                records = await fetcher.fetched_records(
                    asked, timeout=min(timeout or POLL_S, POLL_S), max_records=MAX_RECORDS
                )
            except OffsetOutOfRangeError as error:
                return self._outside(error)
        return {TP(*at): [self._fetch(consumer, at, found)] for at, found in records.items()}

    def _outside(self, error: OffsetOutOfRangeError) -> dict[TP, list[Fetch]]:
        """Tell the intakes that their positions are not in the log."""
        lost = [TP(*at) for at in error.args[0]]
        tracks = [(tp, self._tracks[tp]) for tp in lost if tp in self._tracks]
        return {tp: [Fetch(track.generation, None)] for tp, track in tracks}

    def _fetch(
        self, consumer: aiokafka.AIOKafkaConsumer, at: aiokafka.TopicPartition, records: list[Any]
    ) -> Fetch:
        track = self._tracks[TP(*at)]
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
            [_headers(each) for each in headers] if any(headers) else None,
        )
        return Fetch(track.generation, batch)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing: that a partition waits is nothing unusual, and the worker's telemetry shows it."""


def _headers(found: Iterable[tuple[str, bytes | None]]) -> Headers:
    return {name: value or b"" for name, value in found}


def arrivals(timestamps: list[int], now: int) -> list[int]:
    """The arrivals (epoch ms) that are believed: a producer's clock may be wrong, a broker's is not.

    A record from the future would make everything after it look as late; it has arrived with the record
    before it, as has one without a timestamp.
    """
    latest = now + HOUR
    if min(timestamps) >= 0 and max(timestamps) <= latest:
        return timestamps
    believed, before = [], 0
    for timestamp in timestamps:
        before = timestamp if 0 <= timestamp <= latest else before
        believed.append(before)
    return believed


class FetchConsumer(driver.Consumer):
    """faust's consumer, over the thread above."""

    logger = LOGGER
    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._numbers = count()

    @property
    def reader(self) -> FetchThread:
        """The thread that reads."""
        return self._thread

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek nowhere: each shard's intake does, when it knows what the store has counted."""
        return {}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """A rebalance begins: all partitions are taken, and those that stay come back."""
        self._thread.forget()
        await super().on_partitions_revoked(revoked)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A message whose value is a `Fetch`."""
        number, generation = next(self._numbers), self.app.consumer_generation_id
        nothing: Any = None
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            number,
            0.0,
            0,
            nothing,
            nothing,
            record,
            nothing,
            tp=tp,
            generation_id=generation,
        )


class FetchProducer(driver.Producer):
    """faust always starts a producer; nothing is sent through it, but it has to be let in."""

    logger = LOGGER

    def _settings_default(self) -> Mapping[str, Any]:
        return {**_reading(self.transport).brokers.aiokafka(), "client_id": "abmonitor"}

    def _settings_auth(self) -> Mapping[str, Any]:
        return {}


class FetchTransport(driver.Transport):
    """To be given to an app as `app.transport` and `app.producer_transport`."""

    Consumer = FetchConsumer
    Producer = FetchProducer

    def __init__(self, app: AppT, reading: Reading) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.reading = reading


def _reading(transport: TransportT) -> Reading:
    if not isinstance(transport, FetchTransport):
        raise TypeError(f"expected a FetchTransport, got {type(transport).__name__}")
    return transport.reading
