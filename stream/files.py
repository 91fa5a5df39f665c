"""Event files: newline-delimited JSON, plain or gzipped, as batches. This module does I/O (files).

A file has no broker, so the running maximum of event time is the arrival time, as far as it can be
believed (see `stream.clocks`).
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics.experiment import DAY, HOUR, MINUTE
from stream.batch import Batch
from stream.clocks import Clock, Line, TimedLine
from stream.events import Event, Rejected, epoch_ms
from stream.lines import MAX_LINE_BYTES, EventFileError, chunks_of
from stream.sources import Decoder


__all__ = ["TOPIC", "EventFileError", "FileSource", "Input"]

BATCH_RECORDS = 5_000
BATCH_BYTES = 16 << 20
BATCH_SPAN = 30 * MINUTE
"""Arrival time that a batch spans at most, so that no pane expires before it was looked at."""

PAUSE = HOUR
"""After a gap in the data, how much of it is looked at before the panes ahead of it may expire."""

TOPIC = "events"


@dataclass(frozen=True, slots=True)
class Input:
    """A file, and the topic whose mapping decodes it."""

    path: Path
    topic: str = TOPIC


class FileSource:
    """The records of several files, merged by event time, with their arrival times."""

    def __init__(
        self, inputs: Sequence[Input], decoder: Decoder, *, now: int, grace: int = 0, wait: int = 0
    ) -> None:
        """`now` (epoch ms): times a day later are wrong clocks; `grace`, `wait`: see `Clock.of`."""
        self._inputs, self._decoder = list(inputs), decoder
        self._latest = now + DAY
        self._clock, self._grace = Clock.of(grace=grace, wait=wait), grace
        self.disordered = 0
        """Records that stood further behind one of a later time than `grace`."""
        self.untimed = 0
        """Usable records that do not say when they were."""
        self.disorder = 0
        """The furthest (ms) that a record stood behind one of a later time."""
        self.places: dict[int, str] = {}
        """`file:line` of the offsets in the latest batch."""
        self.first: int | None = None
        self.last: int | None = None

    def batches(self) -> Iterator[Batch]:
        """All records in order. Raises EventFileError where a file cannot be read."""
        lines: list[TimedLine] = []
        arrivals: list[int] = []
        offset = arrival = size = 0
        for line in self._merged():
            self._note(arrival - line.time)
            past, arrival = arrival, max(arrival, line.time)
            full = len(lines) == BATCH_RECORDS or size > BATCH_BYTES
            if lines and (full or arrival - arrivals[0] > BATCH_SPAN):
                yield self._batch(offset, lines, arrivals)
                offset, lines, arrivals, size = offset + len(lines), [], [], 0
                if arrival - past > PAUSE:  # nothing came: say so, as a broker's clock would
                    yield Batch(TOPIC, 0, offset, offset, complete_to=past + PAUSE)
            lines.append(line)
            arrivals.append(arrival)
            size += len(line.value)
        if lines:
            yield self._batch(offset, lines, arrivals)

    def _note(self, behind: int) -> None:
        self.disorder = max(self.disorder, behind)
        self.disordered += behind > self._grace

    def _batch(self, offset: int, lines: list[TimedLine], arrivals: list[int]) -> Batch:
        offsets = range(offset, offset + len(lines))
        names = [str(given.path) for given in self._inputs]
        self.places = {
            at: f"{names[line.file]}:{line.number}" for at, line in zip(offsets, lines, strict=True)
        }
        events = [line.event for line in lines]
        self.untimed += sum(
            not isinstance(event, Rejected) and event.time is None for event in events
        )
        self.first = arrivals[0] if self.first is None else self.first
        self.last = arrivals[-1]
        return Batch(
            TOPIC,
            0,
            offset,
            offsets.stop,
            offsets,
            arrivals,
            [line.value for line in lines],
            events=events,
        )

    def _merged(self) -> Iterator[TimedLine]:
        """The lines of all files by time; a file is open only while it is read."""
        waiting = sorted((self._start(number), number) for number in range(len(self._inputs)))
        waiting.reverse()
        # A file without any time has to lie somewhere: where the others begin.
        first = min((start for start, _ in waiting if start > 0), default=0)
        heads: list[tuple[int, int, TimedLine, Iterator[TimedLine]]] = []

        while waiting or heads:
            if waiting and (not heads or waiting[-1] <= heads[0][:2]):
                number = waiting.pop()[1]
                lines = self._believed(number)
                if (line := next(lines, None)) is not None:
                    heapq.heappush(heads, (line.time, number, line, lines))
                continue
            _, number, line, lines = heads[0]
            yield line if line.time else line._replace(time=first)
            if (line := next(lines, None)) is not None:
                heapq.heapreplace(heads, (line.time, number, line, lines))
            else:
                heapq.heappop(heads)

    def _start(self, number: int) -> int:
        """The time of a file's first line; what can be read only once has to be begun at once."""
        if len(self._inputs) == 1 or not self._inputs[number].path.is_file():
            return -1
        first = next(self._believed(number), None)
        return -1 if first is None else first.time

    def _believed(self, number: int) -> Iterator[TimedLine]:
        return self._clock.believed(self._lines(number))

    def _lines(self, number: int) -> Iterator[Line]:
        given = self._inputs[number]
        for first, values in chunks_of(given.path):
            for index, event in enumerate(self._decoder.decode(given.topic, values)):
                value = values[index]
                time, wrong = self._time(value, event)
                yield Line(time, number, first + index, value, wrong or event)

    def _time(self, value: bytes, event: Event) -> tuple[int | None, Rejected | None]:
        """What a record says of its time, and why it cannot be used."""
        if len(value) > MAX_LINE_BYTES:
            return None, Rejected("too_long", f"a line may have {MAX_LINE_BYTES:,} bytes")
        if isinstance(event, Rejected) or event.time is None:
            return None, None
        time = epoch_ms(event.time)
        if time > self._latest:
            return None, Rejected("time_in_future", "`time` is later than tomorrow")
        return (None if time < 0 else time), None
