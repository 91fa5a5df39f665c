"""Clocks of event files: which times can be believed. Pure.

A file has no broker that says when a record arrived, so the running maximum of event time has to do. One
clock that is wrong would make everything after it look late: what leaps ahead of the records that follow
is rejected, what lies far behind them at the start of a file is taken to have arrived with them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import NamedTuple

from metrics.experiment import DAY, HOUR
from stream.events import Event, Rejected


LOOKAHEAD = 50
"""Records that are asked where time really is."""


class Line(NamedTuple):
    """One record of a file."""

    time: int | None
    """Its event time (epoch ms); None where it does not say."""
    file: int
    number: int
    value: bytes
    event: Event


class TimedLine(NamedTuple):
    """One record of a file, and the time to go by."""

    time: int
    file: int
    number: int
    value: bytes
    event: Event


@dataclass(frozen=True, slots=True)
class Clock:
    """How far (ms) the time of one record may be from that of others before it is not believed."""

    leap: int
    """Ahead of most of the records that follow."""
    far: int
    """Where that alone would prove nothing: a last record ahead of all before it, a first one behind."""

    @classmethod
    def of(cls, *, grace: int, wait: int) -> "Clock":
        """`grace`: disorder that is usual; `wait`: how long after its prediction an outcome may come."""
        return cls(max(HOUR, 2 * grace), max(30 * DAY, 2 * wait))

    def believed(self, lines: Iterator[Line]) -> Iterator[TimedLine]:
        """The lines of one file; those whose time cannot be right are rejected.

        A line without a time has that of the latest one before it.
        """
        ahead: deque[Line] = deque()
        now: int | None = None
        for line in _chained(ahead, lines):
            event, time = line.event, now if line.time is None else line.time
            if now is None or time is None or time > now + self.leap:
                ahead.extend(_take(lines, LOOKAHEAD - len(ahead)))
                following = [other.time for other in ahead if other.time is not None]
                time, wrong = self._checked(line.time, now, following)
                event = wrong or event
            now = time if now is None else max(now, time)
            yield TimedLine(time, *line[1:4], event)

    def _checked(
        self, time: int | None, now: int | None, following: Sequence[int]
    ) -> tuple[int, Rejected | None]:
        """The time to go by for the first record of a file, or one that leaps, and why it is wrong."""
        if not following:
            if time is not None and now is not None and time > now + self.far:
                return now, _leap(time - now, "the records before it, and nothing follows it")
            return 0 if time is None else time, None
        middle = median_low(following)
        if now is None:
            now = min(other for other in following if other > middle - self.far)
            if time is None or (len(following) > 1 and time < middle - self.far):
                return now, None
        if time is not None and time > middle + self.leap:
            return now, _leap(time - middle, "the records that follow")
        return now if time is None else time, None


def _leap(ahead: int, of_what: str) -> Rejected:
    far = f"{ahead / DAY:,.0f} days" if ahead > 2 * DAY else f"{ahead / HOUR:.1f} h"
    return Rejected("clock_leap", f"`time` is {far} ahead of {of_what}")


def _chained(ahead: deque[Line], lines: Iterator[Line]) -> Iterator[Line]:
    """What was read ahead first, then the rest; `ahead` may grow meanwhile."""
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        yield line


def _take(lines: Iterator[Line], count: int) -> list[Line]:
    return [line for _, line in zip(range(max(0, count)), lines, strict=False)]
