"""Event files: newline-delimited JSON, plain or gzipped, as batches. This module does I/O (files).

A file has no broker, so the running maximum of event time is the arrival time. One wrong clock would
then make everything look late: a record whose time leaps ahead of all that follow is rejected.
"""

import gzip
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple

from metrics.experiment import DAY, HOUR, MINUTE
from stream.batch import Batch
from stream.events import Event, Rejected, epoch_ms
from stream.sources import Decoder


MAX_LINE_BYTES = 1 << 20
BATCH_RECORDS = 5_000
BATCH_SPAN = 30 * MINUTE
"""Arrival time that a batch spans at most, so that no pane expires before it was looked at."""

LOOKAHEAD = 50
TOPIC = "events"


class EventFileError(Exception):
    """A file that cannot be read (to its end)."""


class _Line(NamedTuple):
    """One record of a file."""

    time: int
    """Its event time; of a record without one, that of the record before it."""
    file: int
    number: int
    value: bytes
    event: Event


@dataclass(frozen=True, slots=True)
class Input:
    """A file, and the topic whose mapping decodes it."""

    path: Path
    topic: str = TOPIC


class FileSource:
    """The records of several files, merged by event time, with their arrival times."""

    def __init__(
        self, inputs: Sequence[Input], decoder: Decoder, *, now: int, grace: int = 0
    ) -> None:
        """`now` (epoch ms): later times are wrong clocks; `grace`: disorder (ms) that is usual."""
        self._inputs, self._decoder = list(inputs), decoder
        self._latest = now + DAY
        self._leap = max(HOUR, 2 * grace)
        self.disorder = 0
        """The furthest (ms) that a record stood behind one of a later time."""
        self.places: dict[int, str] = {}
        """`file:line` of the offsets in the latest batch."""
        self.first: int | None = None
        self.last: int | None = None

    def batches(self) -> Iterator[Batch]:
        """All records in order. Raises EventFileError where a file cannot be read."""
        lines: list[_Line] = []
        arrivals: list[int] = []
        offset = arrival = 0
        for line in self._without_leaps(self._merged()):
            arrival = max(arrival, line.time)
            self.disorder = max(self.disorder, arrival - line.time)
            if lines and (len(lines) == BATCH_RECORDS or arrival - arrivals[0] > BATCH_SPAN):
                yield self._batch(offset, lines, arrivals)
                offset, lines, arrivals = offset + len(lines), [], []
            lines.append(line)
            arrivals.append(arrival)
        if lines:
            yield self._batch(offset, lines, arrivals)

    def _batch(self, offset: int, lines: list[_Line], arrivals: list[int]) -> Batch:
        offsets = range(offset, offset + len(lines))
        names = [str(given.path) for given in self._inputs]
        self.places = {
            at: f"{names[line.file]}:{line.number}" for at, line in zip(offsets, lines, strict=True)
        }
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
            events=[line.event for line in lines],
        )

    def _merged(self) -> Iterator[_Line]:
        streams = [self._lines(number) for number in range(len(self._inputs))]
        return (
            streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda line: line.time)
        )

    def _without_leaps(self, lines: Iterator[_Line]) -> Iterator[_Line]:
        """Reject a record that leaps ahead of what comes after it."""
        ahead: deque[_Line] = deque()
        now: int | None = None
        for line in _chained(ahead, lines):
            if now is None or line.time > now + self._leap:
                ahead.extend(_take(lines, LOOKAHEAD - len(ahead)))
                following = median(other.time for other in ahead) if ahead else line.time
                if following < line.time - self._leap:
                    hours = (line.time - following) / HOUR
                    detail = f"`time` leaps {hours:.1f} h ahead of the records that follow"
                    event = Rejected("clock_leap", detail)
                    yield line._replace(time=int(following) if now is None else now, event=event)
                    continue
            now = line.time if now is None else max(now, line.time)
            yield line

    def _lines(self, number: int) -> Iterator[_Line]:
        given, time = self._inputs[number], 0
        for first, values in _chunks(given.path):
            for index, event in enumerate(self._decoder.decode(given.topic, values)):
                if len(values[index]) > MAX_LINE_BYTES:
                    event = Rejected("too_long", f"a line may have {MAX_LINE_BYTES} bytes")
                said = None if isinstance(event, Rejected) else event.time
                if said is not None and epoch_ms(said) > self._latest:
                    event = Rejected("time_in_future", "`time` is later than tomorrow")
                elif said is not None:
                    time = max(0, epoch_ms(said))
                yield _Line(time, number, first + index, values[index], event)


def _chained(ahead: deque[_Line], lines: Iterator[_Line]) -> Iterator[_Line]:
    """What was read ahead first, then the rest; `ahead` may grow meanwhile."""
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        yield line


def _take(lines: Iterator[_Line], count: int) -> list[_Line]:
    return [line for _, line in zip(range(max(0, count)), lines, strict=False)]


def _chunks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Lines of a file in chunks: the number of the first line, and the lines; blank ones left out."""
    try:
        with _opened(path) as stream:
            for first, values in _grouped(stream):
                yield first, values
    except (OSError, EOFError) as error:  # BadGzipFile is an OSError
        raise EventFileError(f"{path}: {error}") from error


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        gzipped = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else path.open("rb")  # type: ignore[return-value]


def _grouped(stream: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    first, values = 1, list[bytes]()
    number = 0
    for line in _bounded(stream):
        number += 1
        stripped = line.strip()
        if stripped:
            values.append(stripped)
        if len(values) == 1_000 or not stripped:
            if values:
                yield first, values
            first, values = number + 1, []
    if values:
        yield first, values


def _bounded(stream: IO[bytes]) -> Iterable[bytes]:
    """Lines; of one that is too long only its beginning."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES + 1)
        yield line
