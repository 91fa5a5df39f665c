"""Records to Kafka in whole batches, kept until all replicas have them. This module does I/O (Kafka).

Batches are packed here and handed over whole: that costs a quarter of sending record by record, and one
acknowledgement is one batch. What fails for the moment is sent again for as long as it takes, by a new
producer where the old one may have lost count of its sequence numbers.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from stream.brokers import Brokers


BATCH_BYTES = 512 << 10
"""Half of what a topic takes as one batch unless it says otherwise."""

MAX_REQUEST = 64 << 20
REQUEST_TIMEOUT_MS = 20_000
METADATA_TIMEOUT_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
CLOSING_S = 5.0

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_FOR_GOOD = (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
)
_FAILURES = (KafkaError, TimeoutError, OSError, AssertionError)  # asserted: an unknown partition

_log = logging.getLogger(__name__)

_Result = tuple[list[int], BaseException | None]
"""The numbers of the records of a batch, and what went wrong."""


class Record(NamedTuple):
    """What is written to a partition."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int | None = None
    """Epoch milliseconds; None: now. Topics with LogAppendTime have their own."""


class MissingTopicError(Exception):
    """The topic does not exist."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic!r} does not exist; create it with `abmonitor topics create`, which knows how"
        )


class RefusedError(Exception):
    """Kafka does not take records for this topic, and trying again would not help."""


class Producer:
    """Writes records so that they are safe when `send` returns. May be used by several tasks."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._kafka: Any = None  # aiokafka has no types
        self._connecting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises KafkaError where no broker answers."""
        kafka = AIOKafkaProducer(
            **self._brokers.aiokafka(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await kafka.start()
        except BaseException:
            await kafka.stop()
            raise
        self._kafka = kafka

    async def stop(self) -> None:
        """Disconnect; what was sent and is not acknowledged gets some seconds."""
        self._dismiss()
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSING_S)
            for task in late:
                task.cancel()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises MissingTopicError, RefusedError; waits for Kafka."""
        for attempt in count():
            kafka = await self._connected()
            with suppress(*_FAILURES):
                try:
                    async with asyncio.timeout(METADATA_TIMEOUT_S):
                        return len(await kafka.partitions_for(topic))
                except _FOR_GOOD as error:
                    raise _refused(topic, error) from error
                except (TimeoutError, UnknownTopicOrPartitionError) as error:
                    # It does not say whether the topic is missing or Kafka is.
                    if await _answers(kafka):
                        raise MissingTopicError(topic) from error
            await self._give_up(kafka, attempt)
        raise AssertionError("unreachable: the attempts never end")

    async def send(self, topic: str, records: Sequence[Record]) -> list[int]:
        """Write `records`; return when all are safe, but those that are too large for the topic.

        Gives the numbers of those. Records of a partition keep their order, unless some have to be sent
        again. Raises MissingTopicError and RefusedError; everything else is tried until it works.
        """
        refused: list[int] = []
        waiting = [list(range(len(records)))] if records else []
        for attempt in count():
            if not waiting:
                break
            await self.partitions(topic)  # a topic that was deleted meanwhile never comes back
            kafka = await self._connected()
            results = await _deliver(kafka, topic, records, waiting)
            waiting = [again for result in results for again in _again(topic, *result, refused)]
            if waiting:
                await self._give_up(kafka, attempt)
        return sorted(refused)

    async def _connected(self) -> Any:
        """A producer that is connected, after as many attempts as it takes."""
        async with self._connecting:
            for attempt in count():
                if self._kafka is not None:
                    break
                try:
                    await self.start()
                except (KafkaError, OSError) as error:
                    _log.warning("Kafka does not answer, trying again: %s", error)
                    await asyncio.sleep(_pause(attempt))
            return self._kafka

    async def _give_up(self, kafka: Any, attempt: int) -> None:
        """Let go of a producer that failed, so that the next attempt has a new one."""
        await asyncio.sleep(_pause(attempt))
        if kafka is self._kafka:
            self._dismiss()

    def _dismiss(self) -> None:
        """Close the producer as soon as the records of other tasks are safe."""
        if self._kafka is not None:
            task = asyncio.create_task(self._kafka.stop())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._kafka = None


async def _deliver(
    kafka: Any, topic: str, records: Sequence[Record], groups: Iterable[Sequence[int]]
) -> list[_Result]:
    """Send the records with these numbers once: what became of each batch."""
    sent: list[tuple[list[int], Any]] = []
    results: list[_Result] = []
    for group in groups:
        for partition, numbers, batch in _packed(kafka.create_batch, records, group):
            try:
                future = await kafka.send_batch(batch, topic, partition=partition)
            except _FAILURES as error:
                results.append((numbers, error))
            else:
                sent.append((numbers, future))
    ends = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
    for (numbers, _), end in zip(sent, ends, strict=True):
        results.append((numbers, end if isinstance(end, BaseException) else None))
    return results


def _again(
    topic: str, numbers: list[int], error: BaseException | None, refused: list[int]
) -> Iterator[list[int]]:
    """What of a batch has to be sent again; a record that is too large by itself is `refused`."""
    if error is None:
        return
    if isinstance(error, _FOR_GOOD):
        raise _refused(topic, error) from error
    if not isinstance(error, _TOO_LARGE):
        _log.warning("topic %s: %d records are sent again: %r", topic, len(numbers), error)
        yield numbers
    elif len(numbers) == 1:
        refused += numbers
    else:
        yield from ([number] for number in numbers)


async def _answers(kafka: Any) -> bool:
    with suppress(*_FAILURES):
        async with asyncio.timeout(METADATA_TIMEOUT_S):
            return bool(await kafka.client.force_metadata_update())
    return False


def _pause(attempt: int) -> float:
    """Seconds to wait after a failure."""
    return min(FIRST_PAUSE_S * 1.5 ** min(attempt, 20), LONGEST_PAUSE_S)


def _packed(
    create: Callable[[], Any], records: Sequence[Record], numbers: Iterable[int]
) -> Iterator[tuple[int, list[int], Any]]:
    """Batches of one partition each: partition, numbers of the records, and the batch."""
    by_partition: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        by_partition[records[number].partition].append(number)
    for partition, chosen in by_partition.items():
        batch, taken = create(), list[int]()
        for number in chosen:
            _, key, value, headers, timestamp = records[number]
            part = {"timestamp": timestamp, "key": key, "value": value, "headers": list(headers)}
            if (
                batch.append(**part) is None
            ):  # it is full; an empty batch takes a record of any size
                yield partition, taken, batch
                batch, taken = create(), []
                batch.append(**part)
            taken.append(number)
        batch.close()
        yield partition, taken, batch


def _refused(topic: str, error: BaseException) -> RefusedError:
    return RefusedError(f"topic {topic!r}: Kafka refuses to take records: {error}")
