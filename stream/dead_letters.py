"""Dead letters in Kafka: a record that was not usable, as a record of a topic of its own.

`to_record` and `from_record` are pure; `KafkaDeadLetters` does I/O (Kafka).
"""

import re
import time
from collections.abc import Sequence
from itertools import count

from stream.batch import DeadLetter, Headers
from stream.brokers import Brokers
from stream.producer import Producer, Record, RefusedError


MAX_LETTER_BYTES = (2 << 20) - (4 << 10)
"""What a letter may need: the size that `topics create` gives the topic, less what surrounds a record."""

LEAST_BYTES = 512
"""No letter is cut to less: position and reason need about that."""

DETAIL_LENGTH = 500

PREFIX = "abmonitor-"
REASON, DETAIL = "abmonitor-reason", "abmonitor-detail"
TOPIC, PARTITION, OFFSET = "abmonitor-topic", "abmonitor-partition", "abmonitor-offset"
TRUNCATED = "abmonitor-truncated"
"""Bytes of the original's key, value and headers, where the letter has not all of them."""
REDRIVEN = "abmonitor-redriven"
"""On a record that was sent again: topic/partition/offset of the letter that it was."""

_OURS = re.compile(r"(original-)*abmonitor-")
_MOVED = "original-"
_HEADER_BYTES = 10
"""What the two lengths of a header take at most."""

Encoded = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers of a record."""


def to_record(letter: DeadLetter, limit: int = MAX_LETTER_BYTES) -> Encoded:
    """The record that keeps a letter, in at most `limit` bytes.

    The value is the original's, and so are the key and the headers; those whose names look like ours
    are moved behind `original-`. Where that is too much, the value is cut, and if need be the original's
    headers and key are left out; the header `abmonitor-truncated` tells that: the original still stands
    in its topic, as long as that keeps it.
    """
    headers = [
        (REASON, letter.reason.encode(errors="replace")),
        (DETAIL, letter.detail[:DETAIL_LENGTH].encode(errors="replace")),
        (TOPIC, letter.topic.encode(errors="replace")),
        (PARTITION, b"%d" % letter.partition),
        (OFFSET, b"%d" % letter.offset),
    ]
    original = [(_moved(name), value) for name, value in letter.headers.items()]
    key, value = letter.key, letter.value
    size = _size(key, original) + len(value or b"")
    if size + _size(None, headers) <= limit:
        return key, value, headers + original
    headers.append((TRUNCATED, b"%d" % size))
    room = max(limit, LEAST_BYTES) - _size(None, headers)
    if _size(key, original) > room // 2:
        key, original = None, []
    return key, (value or b"")[: max(room - _size(key, original), 0)], headers + original


def from_record(key: bytes | None, value: bytes | None, headers: Headers) -> DeadLetter | None:
    """The letter that a record keeps; None when it keeps none, because somebody else wrote it."""
    try:
        reason, detail, topic = (headers[name].decode() for name in (REASON, DETAIL, TOPIC))
        partition, offset = int(headers[PARTITION]), int(headers[OFFSET])
    except (KeyError, ValueError):
        return None
    if partition < 0 or offset < 0:
        return None
    original = {
        name.removeprefix(_MOVED) if _OURS.match(name) else name: held
        for name, held in headers.items()
        if not name.startswith(PREFIX)
    }
    return DeadLetter(reason, detail, topic, partition, offset, value or b"", key, original)


def truncated(headers: Headers) -> bool:
    """Whether the letter in a record with these headers lacks something of the original."""
    return TRUNCATED in headers


def _moved(name: str) -> str:
    """The name under which a letter keeps a header of the original; `from_record` undoes it."""
    return _MOVED + name if _OURS.match(name) else name


def _size(key: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    named = sum(len(name.encode(errors="replace")) + len(value) for name, value in headers)
    return len(key or b"") + named + _HEADER_BYTES * len(headers)


class KafkaDeadLetters:
    """Keeps letters in a topic. May be used by several tasks.

    Letters from one source partition keep their order.
    """

    def __init__(
        self,
        brokers: Brokers,
        topic: str,
        *,
        limit: int = MAX_LETTER_BYTES,
    ) -> None:
        """`limit`: bytes that a letter may need, a little less than the topic's `max.message.bytes`."""
        self._topic, self._limit = topic, limit
        self._producer = Producer(brokers)
        self._calls = count()
        self._sending: dict[int, float] = {}
        """When the calls of `send` began that have not returned."""

    @property
    def waiting_s(self) -> float:
        """For how long the oldest letters have been waiting for Kafka."""
        if not self._sending:
            return 0.0
        return time.monotonic() - min(self._sending.values())

    async def start(self) -> None:
        """Connect, however long that takes. Raises MissingTopicError, RefusedError."""
        await self._producer.partitions(self._topic)

    async def stop(self) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters`; return when Kafka has acknowledged all of them.

        While Kafka is away this waits. After a crash a letter may come again. Raises MissingTopicError,
        and RefusedError where no letter would ever be taken.
        """
        call = next(self._calls)
        self._sending[call] = time.monotonic()
        try:
            await self._send(letters)
        finally:
            del self._sending[call]

    async def _send(self, letters: Sequence[DeadLetter]) -> None:
        limit = self._limit
        while letters:
            partitions = await self._producer.partitions(self._topic)
            records = [_placed(letter, limit, partitions) for letter in letters]
            too_large = await self._producer.send(self._topic, records)
            if too_large and limit <= LEAST_BYTES:
                raise RefusedError(
                    f"topic {self._topic!r} takes no record of {LEAST_BYTES} bytes; its"
                    " max.message.bytes should be larger than that of the source topics"
                )
            letters = [letters[number] for number in too_large]
            limit = max(limit // 2, LEAST_BYTES)  # the topic takes less than it should


def _placed(letter: DeadLetter, limit: int, partitions: int) -> Record:
    key, value, headers = to_record(letter, limit)
    return Record(letter.partition % partitions, key, value, headers)
