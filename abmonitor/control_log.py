"""The control log: what was decided, in a compacted topic that outlives the store. Does I/O (Kafka).

Each record is the newest value of its key, `<deployment>/<key>`; one without a value (a tombstone) removes
it. All are in partition 0, so that their order is one. Only that order says what is newest: so records are
sent one batch after the other, each acknowledged by all replicas before the next, and a connection that
failed is closed with all that was under way on it before another is made.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from stream.brokers import Brokers, CertificateError


TOPIC = "abmonitor.control"
MAX_VALUE_BYTES = (2 << 20) - (4 << 10)
"""What a value and its key may need: what `topics create` lets the topic take, less what surrounds them."""

BATCH_BYTES = 1 << 20
FETCH_BYTES = 4 << 20
PARTITION = 0
REQUEST_TIMEOUT_MS = 5_000
PUBLISH_S = 10.0
READ_S = 30.0
CLOSING_S = 2.0
POLL_MS = 200
ENOUGH_ANSWERS = 2

Entry = tuple[str, bytes | None]
"""A key and its newest value; None removes it."""

_FAILURES = (
    KafkaError,
    CertificateError,
    OSError,
    AssertionError,
)  # asserted: an unknown partition
_CLOSED = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class ControlLogError(Exception):
    """The control log cannot be written or read; says why, and what to do."""


class ControlLog:
    """The control log of one deployment. Others may share the topic: their keys are not seen.

    May be used by several tasks. Nothing is connected before it is needed.
    """

    def __init__(
        self, brokers: Brokers, topic: str, deployment: str, *, publish_s: float = PUBLISH_S
    ) -> None:
        """`publish_s`: seconds that writing may take at most."""
        self._brokers, self._topic, self._publish_s = brokers, topic, publish_s
        self._prefix = f"{deployment}/".encode()
        self._producer: Any = None  # aiokafka has no types
        self._ending: set[asyncio.Task[None]] = set()
        """Of producers that were let go, until nothing of theirs is under way."""
        self._left: set[asyncio.Task[None]] = set()
        """Of consumers."""
        self._writing = asyncio.Lock()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"ControlLog({self._topic}, {self._prefix.decode()})"

    async def publish(self, entries: Sequence[Entry]) -> None:
        """Write entries in this order; return when all replicas have all of them.

        Raises ControlLogError, within `publish_s` seconds; then some may have been written, the first ones
        first. Write them again: the newest value of a key counts, however often it is there.
        """
        self._check_sizes(entries)
        if not entries:
            return
        async with self._limited(self._publish_s, "write to"), self._writing:
            try:
                producer = await self._connected()
                await self._write(producer, entries)
            except BaseException:
                # Also when cancelled: what is under way must not come after what is written next.
                self._let_go()
                raise

    async def read(
        self, within: float = READ_S, *, wanted: Callable[[str], bool] | None = None
    ) -> dict[str, bytes]:
        """Give the newest value of each key, as of now; keys come without the deployment.

        `wanted` says which keys are kept; others need no memory. Removed keys are left out, and an empty
        topic gives nothing. Raises ControlLogError, within `within` seconds: what is given is whole.
        """
        found: dict[str, bytes] = {}
        async with self._limited(within, "read"), self._consumer() as consumer:
            place = TopicPartition(self._topic, PARTITION)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            async for record in _until(consumer, place, end):
                self._take(record, found, wanted)
        return found

    async def close(self) -> None:
        """Disconnect; later calls fail."""
        self._is_closed = True
        self._let_go()
        if closing := self._ending | self._left:
            _, late = await asyncio.wait(closing, timeout=CLOSING_S)
            for task in late:
                task.cancel()

    def _take(
        self, record: Any, found: dict[str, bytes], wanted: Callable[[str], bool] | None
    ) -> None:
        if record.key is None or not record.key.startswith(self._prefix):
            return
        try:
            key = record.key[len(self._prefix) :].decode()
        except UnicodeDecodeError:
            return  # not ours, whatever it begins with
        if record.value is None:
            found.pop(key, None)
        elif wanted is None or wanted(key):
            found[key] = record.value

    def _check_sizes(self, entries: Sequence[Entry]) -> None:
        for key, value in entries:
            size = len(self._prefix) + len(key.encode()) + len(value or b"")
            if size > MAX_VALUE_BYTES:
                raise ControlLogError(
                    f"topic {self._topic!r}: {key} needs {size:,} bytes;"
                    f" expected at most {MAX_VALUE_BYTES:,}"
                )

    async def _write(self, producer: Any, entries: Sequence[Entry]) -> None:
        batch = producer.create_batch()
        for key, value in entries:
            record = {"key": self._prefix + key.encode(), "value": value, "timestamp": None}
            # An empty batch takes a record of any size.
            if batch.append(**record) is None:
                await self._acknowledged(producer, batch)
                batch = producer.create_batch()
                batch.append(**record)
        await self._acknowledged(producer, batch)

    async def _acknowledged(self, producer: Any, batch: Any) -> None:
        batch.close()
        await (await producer.send_batch(batch, self._topic, partition=PARTITION))

    async def _connected(self) -> Any:
        """A producer, when nothing of an earlier one is under way any more."""
        if self._is_closed:
            raise ControlLogError(f"topic {self._topic!r}: the control log is closed")
        if self._producer is not None:
            return self._producer
        if not await self._ended():
            raise ControlLogError(
                f"topic {self._topic!r}: the last connection to Kafka at {self._brokers} is still closing"
            )
        producer = AIOKafkaProducer(
            **self._brokers.aiokafka(),
            acks="all",
            enable_idempotence=True,
            compression_type="gzip",
            max_batch_size=BATCH_BYTES,
            max_request_size=FETCH_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        topics = await _started(producer, self._ending)
        self._producer = producer  # from here on, what fails lets it go
        self._check_exists(topics)
        return producer

    def _check_exists(self, topics: set[str]) -> None:
        # Before anything asks for it by name: brokers may be set to make topics, which would not be compacted.
        if self._topic not in topics:
            raise ControlLogError(
                f"topic {self._topic!r} does not exist, or this user may not see it;"
                " create it with `abmonitor topics create`, which knows how"
            )

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        if self._is_closed:
            raise ControlLogError(f"topic {self._topic!r}: the control log is closed")
        consumer = AIOKafkaConsumer(
            **self._brokers.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=POLL_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        topics = await _started(consumer, self._left)
        try:
            self._check_exists(topics)
            yield consumer
        finally:
            _end(consumer, self._left)

    @asynccontextmanager
    async def _limited(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Turn what goes wrong into one error that says where, after so many seconds at most."""
        told = f"cannot {what} topic {self._topic!r} of Kafka at {self._brokers}"
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise ControlLogError(f"{told}: not done within {seconds:g} s") from error
        except _CLOSED as error:
            rights = "Write and Describe" if what != "read" else "Read and Describe"
            raise ControlLogError(f"{told}: this user needs {rights} on it: {error}") from error
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise ControlLogError(
                f"{told}: it takes smaller records only; raise its max.message.bytes,"
                " as `abmonitor topics create` would have it"
            ) from error
        except _FAILURES as error:
            raise ControlLogError(f"{told}: {str(error) or type(error).__name__}") from error

    def _let_go(self) -> None:
        if self._producer is not None:
            _end(self._producer, self._ending)
            self._producer = None

    async def _ended(self) -> bool:
        """Whether all producers that were let go are closed, after some seconds at most."""
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=CLOSING_S)
        return not self._ending


async def _started(client: Any, ending: set[asyncio.Task[None]]) -> set[str]:
    """Connect a client, and give the topics that it sees; where that fails it is closed.

    Whoever gives up does not end the attempt: the library would leave its sockets open.
    """
    starting = asyncio.create_task(_start(client))
    try:
        return await asyncio.shield(starting)
    except BaseException:
        _end(client, ending, starting)
        raise


async def _start(client: Any) -> set[str]:
    await client.start()
    if isinstance(client, AIOKafkaProducer):
        return set((await client.client.fetch_all_metadata()).topics())
    return set(await client.topics())


def _end(
    client: Any, ending: set[asyncio.Task[None]], starting: asyncio.Task[set[str]] | None = None
) -> None:
    """Close a client beside what goes on: one whose broker is away takes its time."""
    task = asyncio.create_task(_stopped(client, starting))
    ending.add(task)
    task.add_done_callback(ending.discard)


async def _stopped(client: Any, starting: asyncio.Task[set[str]] | None) -> None:
    if starting is not None:
        await asyncio.wait([starting])
    with suppress(*_FAILURES):
        await client.stop()


async def _until(consumer: Any, place: TopicPartition, end: int) -> AsyncIterator[Any]:
    """The records before `end`, an offset.

    Compaction may have left nothing before `end`, and then no record ever takes us there. So it is also
    over when the broker, which has all up to `end`, answered twice that there is nothing more: that nothing
    comes does not do, because nothing comes from a broker that stands still, either.
    """
    answers = set[int]()
    while await consumer.position(place) < end:
        fetched = (await consumer.getmany(place, timeout_ms=POLL_MS)).get(place, ())
        for record in fetched:
            if record.offset < end:
                yield record
        if fetched:
            answers.clear()
            continue
        if (answered := consumer.last_poll_timestamp(place)) is not None:
            answers.add(answered)
        # The first may be the answer to what was asked before.
        if len(answers) > ENOUGH_ANSWERS and (consumer.highwater(place) or 0) >= end:
            return
