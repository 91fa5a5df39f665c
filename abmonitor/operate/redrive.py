"""Sending dead letters to their topics again. This module does I/O (Kafka)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer

from abmonitor.operate.admin import CONNECT_MS, failures
from abmonitor.operate.letter_box import Filter, Found, LetterBox
from abmonitor.settings import Settings
from stream.batch import DeadLetter
from stream.brokers import Brokers
from stream.redrive import Bookmark, Dated, Judge, headers_again
from stream.screen import SpecTable
from stream.sources import Decoder


MAX_REQUEST = 64 << 20

TRUNCATED = "truncated"
NO_TOPIC = "topic_not_configured"
NO_PARTITION = "no_such_partition"


class Sender:
    """Writes letters to the partitions that they came from. Methods raise KafkaFailedError."""

    def __init__(self, brokers: Brokers) -> None:
        """Connect."""
        self._brokers = brokers
        with failures(brokers):
            self._producer: Any = KafkaProducer(
                **brokers.kafka_python(),
                acks="all",
                enable_idempotence=True,
                max_request_size=MAX_REQUEST,
                linger_ms=5,
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=CONNECT_MS,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.close(timeout=5)

    def send(self, letters: Sequence[tuple[DeadLetter, str]]) -> None:
        """Write letters (with the place where each stands); return when Kafka has all of them."""
        with failures(self._brokers):
            futures = [
                self._producer.send(
                    letter.topic,
                    value=letter.value,
                    key=letter.key,
                    headers=headers_again(letter, place),
                    partition=letter.partition,
                )
                for letter, place in letters
            ]
            self._producer.flush()
            for future in futures:
                future.get()


@dataclass(slots=True)
class Redriven:
    """What became of the letters."""

    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the reason that they had, and topic."""
    unusable: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Left behind, by the reason that they have now, and topic."""
    done_before: int = 0
    strange: int = 0
    given_up: int = 0


class Redrive:
    """One run over the letters of a deployment."""

    def __init__(
        self,
        settings: Settings,
        box: LetterBox,
        partitions: Mapping[str, int],
        *,
        now: int,
        stale: bool = False,
    ) -> None:
        """`partitions` of the source topics; `stale`: send even predictions that are too old."""
        oldest = None if stale else now - int(settings.early_for)
        self._judge = Judge(
            Decoder(settings.sources), SpecTable(settings.experiments), oldest=oldest
        )
        self._box, self._partitions = box, partitions
        self.result = Redriven()

    def run(
        self,
        wanted: Filter,
        send: Callable[[Sequence[tuple[DeadLetter, str]]], None] | None,
        *,
        since: int | None = None,
        everything: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Send what can be used now and was not sent before; `send` None: only count.

        Where it stops half-way, the next run goes on: a letter may then be sent twice, if it was among
        the last. `everything`: even what was sent before. Raises KafkaFailedError.
        """
        begin = self._box.beginnings()
        marks = self._box.bookmarks()
        if everything:
            marks = {number: Bookmark(offset) for number, offset in begin.items()}
        start = {number: mark.first for number, mark in marks.items()}
        if since is not None:
            for number, offset in self._box.beginnings(since).items():
                marks[number].skip_to(offset)
                start[number] = max(start[number], offset)
        read = 0
        for records in self._box.read(start):
            mark = marks[records[0].partition]
            sendable = self._sift(records, mark, wanted)
            if send is not None:
                send(sendable)
                self._box.keep({records[0].partition: mark})
            read += len(records)
            progress(read)
        self.result.given_up = sum(mark.given_up for mark in marks.values())

    def _sift(
        self, records: Sequence[Found], mark: Bookmark, wanted: Filter
    ) -> list[tuple[DeadLetter, str]]:
        """Those letters that are to be sent; what becomes of each is noted."""
        open_ones = [found for found in records if mark.wants(found.offset)]
        self.result.done_before += len(records) - len(open_ones)
        reasons = self._reasons(open_ones, wanted)
        sendable = []
        for found in open_ones:
            letter, reason = found.letter, reasons.get(found.offset)
            if letter is None:
                self.result.strange += 1
            elif not wanted(letter):
                pass
            elif reason is None:
                self.result.sent[letter.reason, letter.topic] += 1
                place = f"{self._box.topic}/{found.partition}/{found.offset}"
                sendable.append((letter, place))
            else:
                self.result.unusable[reason, letter.topic] += 1
            done = letter is None or (wanted(letter) and reason is None)
            mark.note(found.offset, done=done)
        return sendable

    def _reasons(self, records: Sequence[Found], wanted: Filter) -> dict[int, str]:
        """By offset: why a letter that is wanted cannot be sent."""
        reasons: dict[int, str] = {}
        judged: list[tuple[int, Dated]] = []
        for found in records:
            letter = found.letter
            if letter is None or not wanted(letter):
                continue
            # What stands in a letter's headers must not decide where we write.
            if letter.topic not in self._partitions:
                reasons[found.offset] = NO_TOPIC
            elif letter.partition >= self._partitions[letter.topic]:
                reasons[found.offset] = NO_PARTITION
            elif not found.whole:
                reasons[found.offset] = TRUNCATED
            else:
                judged.append((found.offset, Dated(letter, found.at)))
        told = self._judge.reasons([dated for _, dated in judged])
        for (offset, _), reason in zip(judged, told, strict=True):
            if reason is not None:
                reasons[offset] = reason
        return reasons
