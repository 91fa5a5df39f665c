"""Copying topics that are keyed, partitioned or shaped in another way into one. This module does I/O (Kafka, clock).

Each record is decoded as its source says, and written again as a plain event whose key is the id of its
prediction, so that a prediction and its outcome meet in one partition. Offsets are committed when what was
read before them is written: after a crash the last records come twice, and the join drops them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from msgspec.structs import astuple

from metrics.experiment import MINUTE
from stream.batch import DeadLetter, headers_of
from stream.brokers import Brokers
from stream.events import Outcome, Prediction, Rejected
from stream.pipeline import DeadLetters
from stream.producer import Producer, Record
from stream.sources import Decoder


POLL_MS = 500
POLL_RECORDS = 20_000
FETCH_BYTES = 2 << 20
PATIENCE_S = 10.0
"""How long the first record of each partition is waited for: one without a leader has none."""

MAX_SKEW = MINUTE
"""How far (ms) a partition may run ahead of one that lags: outcomes wait only so long for predictions."""

_log = logging.getLogger(__name__)


class _PlainPrediction(Prediction, omit_defaults=True, gc=False):
    """A prediction that says nothing of what it does not know."""


class _PlainOutcome(Outcome, omit_defaults=True, gc=False):
    """An outcome that says nothing of what it does not know."""


_encode = msgspec.json.Encoder().encode


def partition_of(key: bytes, partitions: int) -> int:
    """Where Java's clients, kafka-python and aiokafka place a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def plain(event: Prediction | Outcome, arrival: int) -> bytes:
    """An event in its flat form; one that does not say when it was gets its arrival (epoch ms)."""
    if event.time is None and arrival >= 0:
        event.time = arrival
    if isinstance(event, Prediction):
        return _encode(_PlainPrediction(*astuple(event)))
    return _encode(_PlainOutcome(*astuple(event)))


@dataclass(slots=True)
class Copied:
    """What was copied so far."""

    events: int = 0
    letters: int = 0


@dataclass(slots=True)
class _Poll:
    """What one poll gave, to be written."""

    records: list[Record] = field(default_factory=list)
    sources: list[tuple[str, Any]] = field(default_factory=list)
    """Topic and source record of each record."""
    letters: list[DeadLetter] = field(default_factory=list)


class Rekey:
    """Copies `topics` into the topic `into`."""

    def __init__(
        self,
        brokers: Brokers,
        topics: Sequence[str],
        into: str,
        *,
        group: str,
        decoder: Decoder,
        dead_letters: DeadLetters,
        producer: Producer,
    ) -> None:
        """`group` keeps how far it is; `producer` is started and stopped by the caller."""
        self._brokers, self._topics, self._into, self._group = brokers, topics, into, group
        self._decoder, self._dead_letters, self._producer = decoder, dead_letters, producer
        self._stopped = False
        self._reached: dict[TopicPartition, int] = {}
        """The timestamp of the last record of each partition."""
        self._unread: set[TopicPartition] = set()
        """Partitions that have something, of which nothing came yet."""
        self._patient_until = 0.0
        self.copied = Copied()

    def stop(self) -> None:
        """End after the current poll."""
        self._stopped = True

    async def run(
        self,
        *,
        from_beginning: bool = False,
        until_end: bool = False,
        progress: Callable[[Copied], None] = lambda _: None,
    ) -> None:
        """Copy until `stop`, or until the ends that the topics had when it began.

        Raises MissingTopicError, RefusedError, and KafkaError where Kafka cannot be reached at first.
        """
        partitions = await self._producer.partitions(self._into)
        parts = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in range(await self._producer.partitions(topic))
        ]
        consumer = AIOKafkaConsumer(
            **self._brokers.aiokafka(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            isolation_level="read_committed",  # what a producer took back was never sent
        )
        try:
            await consumer.start()
            consumer.assign(parts)
            if from_beginning:
                await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            self._unread = {p for p in parts if await consumer.position(p) < ends[p]}
            self._patient_until = time.monotonic() + PATIENCE_S
            await self._copy(consumer, partitions, ends if until_end else None, progress)
        finally:
            await consumer.stop()

    async def _copy(
        self,
        consumer: Any,
        partitions: int,
        ends: Mapping[TopicPartition, int] | None,
        progress: Callable[[Copied], None],
    ) -> None:
        uncommitted: dict[TopicPartition, int] = {}
        while not self._stopped and not await _at(consumer, ends):
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            if polled:
                await self._write(self._decoded(polled, partitions))
            for part, records in polled.items():
                uncommitted[part] = records[-1].offset + 1
                self._reached[part] = records[-1].timestamp
            self._unread -= polled.keys()
            await _commit(consumer, uncommitted)
            await self._keep_in_step(consumer)
            progress(self.copied)
        for _ in range(5):
            if await _commit(consumer, uncommitted):
                break
            await asyncio.sleep(1)

    def _decoded(self, polled: Mapping[TopicPartition, Sequence[Any]], partitions: int) -> _Poll:
        poll = _Poll()
        for part, records in polled.items():
            values = [record.value for record in records]
            headers = [headers_of(record.headers) for record in records]
            events = self._decoder.decode(part.topic, values, headers)
            for record, event in zip(records, events, strict=True):
                if isinstance(event, Rejected):
                    poll.letters.append(_letter(part.topic, record, event))
                    continue
                key = event.prediction_id.encode()
                value, at = plain(event, record.timestamp), max(record.timestamp, 0)
                where = partition_of(key, partitions)
                poll.records.append(Record(where, key, value, timestamp=at))
                poll.sources.append((part.topic, record))
        return poll

    async def _write(self, poll: _Poll) -> None:
        too_large = await self._producer.send(self._into, poll.records)
        why = Rejected("too_long", f"topic {self._into!r} takes no event of that size")
        poll.letters += [_letter(*poll.sources[number], why) for number in too_large]
        if poll.letters:
            await self._dead_letters.send(poll.letters)
        self.copied.events += len(poll.records) - len(too_large)
        self.copied.letters += len(poll.letters)

    async def _keep_in_step(self, consumer: Any) -> None:
        """Let those that lag catch up: outcomes that come long before their predictions are lost."""
        if self._unread and time.monotonic() < self._patient_until:
            consumer.pause(*self._reached)  # nobody knows yet how far behind the others are
            return
        lagging = set()
        for part in self._reached:
            end = consumer.highwater(part)
            if end is not None and await consumer.position(part) < end:
                lagging.add(part)
        if not lagging:
            consumer.resume(*consumer.paused())
            return
        limit = min(self._reached[part] for part in lagging) + MAX_SKEW
        ahead = {part for part, at in self._reached.items() if at > limit}
        consumer.resume(*(consumer.paused() - ahead))
        consumer.pause(*ahead)


async def _at(consumer: Any, ends: Mapping[TopicPartition, int] | None) -> bool:
    """Whether everything before `ends` was read."""
    if ends is None:
        return False
    for part, end in ends.items():
        if await consumer.position(part) < end:
            return False
    return True


async def _commit(consumer: Any, offsets: dict[TopicPartition, int]) -> bool:
    """Commit and forget `offsets`; where Kafka is away they are kept for the next time."""
    if offsets:
        try:
            await consumer.commit(dict(offsets))
        except KafkaError as error:
            _log.warning("offsets could not be committed, trying again: %r", error)
            return False
        offsets.clear()
    return True


def _letter(topic: str, record: Any, why: Rejected) -> DeadLetter:
    return DeadLetter(
        why.reason,
        why.detail,
        topic,
        record.partition,
        record.offset,
        record.value,
        record.key,
        headers_of(record.headers),
    )
