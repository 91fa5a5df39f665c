"""Reading the dead-letter topic. This module does I/O (Kafka)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from abmonitor.operate.admin import CONNECT_MS, KafkaFailedError, failures
from stream.batch import DeadLetter, headers_of
from stream.brokers import Brokers
from stream.dead_letters import from_record, truncated
from stream.redrive import Bookmark


POLL_MS = 500
POLL_RECORDS = 2_000
FETCH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record of the dead-letter topic."""

    partition: int
    offset: int
    at: int
    """Epoch milliseconds when it was written."""
    letter: DeadLetter | None
    """None: somebody else wrote it."""
    whole: bool
    """The letter has everything that the original had."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant."""

    reason: str | None = None
    topic: str | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of them."""
        return self.reason in (None, letter.reason) and self.topic in (None, letter.topic)


class LetterBox:
    """The letters that the topic has when it is opened. Methods raise KafkaFailedError."""

    def __init__(self, brokers: Brokers, topic: str, *, group: str | None = None) -> None:
        """Connect; `group` keeps the bookmarks."""
        self._brokers, self._topic = brokers, topic
        with failures(brokers):
            self._consumer: Any = KafkaConsumer(
                **brokers.kafka_python(),
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=FETCH_BYTES,
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=CONNECT_MS,
            )
        try:
            self._open()
        except BaseException:
            self._consumer.close(autocommit=False)
            raise

    def _open(self) -> None:
        with failures(self._brokers):
            numbers = self._consumer.partitions_for_topic(self._topic)
            if not numbers:
                raise KafkaFailedError(
                    f"topic {self._topic!r} does not exist; `abmonitor topics create` creates it"
                )
            self._parts = [TopicPartition(self._topic, number) for number in sorted(numbers)]
            self._consumer.assign(self._parts)
            self._begin = self._consumer.beginning_offsets(self._parts)
            self._end = self._consumer.end_offsets(self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._consumer.close(autocommit=False)

    @property
    def topic(self) -> str:
        """Its name."""
        return self._topic

    def beginnings(self, since: int | None = None) -> dict[int, int]:
        """By partition: the first offset there is, or the first since a time (epoch ms)."""
        if since is None:
            return {part.partition: self._begin[part] for part in self._parts}
        with failures(self._brokers):
            found = self._consumer.offsets_for_times(dict.fromkeys(self._parts, since))
        return {
            part.partition: found[part].offset if found.get(part) else self._end[part]
            for part in self._parts
        }

    def bookmarks(self) -> dict[int, Bookmark]:
        """By partition: how far the group is."""
        marks = {}
        for part in self._parts:
            with failures(self._brokers):
                stored = self._consumer.committed(part, metadata=True)
            mark = Bookmark() if stored is None else Bookmark.parse(stored.offset, stored.metadata)
            mark.forget_before(self._begin[part])
            marks[part.partition] = mark
        return marks

    def keep(self, marks: Mapping[int, Bookmark]) -> None:
        """Store bookmarks in the group."""
        with failures(self._brokers):
            self._consumer.commit(
                {
                    TopicPartition(self._topic, number): OffsetAndMetadata(
                        mark.next, mark.text(), -1
                    )
                    for number, mark in marks.items()
                }
            )

    def read(self, start: Mapping[int, int]) -> Iterator[list[Found]]:
        """All records from these offsets on, some of one partition at a time."""
        with failures(self._brokers):
            for part in self._parts:
                self._consumer.seek(part, max(start[part.partition], self._begin[part]))
            while self._behind():
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                for part, records in polled.items():
                    found = [
                        _found(record) for record in records if record.offset < self._end[part]
                    ]
                    if found:
                        yield found

    def _behind(self) -> bool:
        """Whether there is something to read yet; done partitions are not fetched any more."""
        behind = [part for part in self._parts if self._consumer.position(part) < self._end[part]]
        self._consumer.pause(*(part for part in self._parts if part not in behind))
        return bool(behind)


def _found(record: Any) -> Found:
    headers = headers_of(record.headers)
    letter = from_record(record.key, record.value, headers)
    return Found(
        record.partition, record.offset, record.timestamp, letter, whole=not truncated(headers)
    )


@dataclass(slots=True)
class Summary:
    """How many letters there are of each kind, and the last of them."""

    limit: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By reason and topic."""
    strange: int = 0
    """Records that are no letters."""
    _last: list[tuple[int, int, int, Found]] = field(default_factory=list)

    def note(self, records: Sequence[Found], wanted: Filter) -> None:
        """Count the letters that are wanted."""
        for found in records:
            if found.letter is None:
                self.strange += 1
            elif wanted(found.letter):
                self.counts[found.letter.reason, found.letter.topic] += 1
                entry = found.at, found.partition, found.offset, found
                if len(self._last) < self.limit:
                    heappush(self._last, entry)
                elif self.limit:
                    heappushpop(self._last, entry)

    @property
    def last(self) -> list[Found]:
        """The last letters, the latest first."""
        return [found for *_, found in sorted(self._last, key=lambda e: e[:3], reverse=True)]
