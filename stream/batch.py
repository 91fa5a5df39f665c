"""What one fetch gave for one partition, and what became of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from stream.events import Event


Headers = Mapping[str, bytes]

NO_HEADERS: Headers = MappingProxyType({})


def headers_of(found: Iterable[tuple[str, bytes | None]]) -> Headers:
    """A record's headers by name; the last of a name counts, and one without a value is none."""
    return {name: value for name, value in found if value is not None}


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition of one topic, as parallel sequences.

    The log may have holes (compaction, transaction markers), so a batch says itself from which offset
    it continues (`position`) and from which the next one will (`next_position`).
    """

    topic: str
    shard: int
    position: int
    next_position: int
    offsets: Sequence[int] = ()
    arrivals: Sequence[int] = ()
    """Epoch milliseconds, the broker's timestamp of each record."""
    values: Sequence[bytes | None] = ()
    """None for tombstones."""
    keys: Sequence[bytes | None] | None = None
    headers: Sequence[Headers] | None = None
    """None where no record has any."""
    events: Sequence[Event] | None = None
    """The decoded values, where the source had to decode them anyway."""
    complete_to: int | None = None
    """The partition was read to its end at this time: no record with an earlier arrival will come."""
    log_start: int = 0
    """The first offset that the log still has."""

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> "Batch":
        """Records `start` to `stop`, as a batch that continues where the records before it end."""
        last = stop >= len(self)
        if last and start == 0:
            return self
        return Batch(
            self.topic,
            self.shard,
            self.position if start == 0 else self.offsets[start],
            self.next_position if last else self.offsets[stop],
            self.offsets[start:stop],
            self.arrivals[start:stop],
            self.values[start:stop],
            None if self.keys is None else self.keys[start:stop],
            None if self.headers is None else self.headers[start:stop],
            None if self.events is None else self.events[start:stop],
            self.complete_to if last else None,
            self.log_start,
        )


class DeadLetter(NamedTuple):
    """A record that was not usable, with all that is needed to look at it and to send it again."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Headers = NO_HEADERS


@dataclass(slots=True)
class BatchReport:
    """What one call of `process` did."""

    tallies: dict[str, int] = field(default_factory=dict)
    """Events by result: predictions and outcomes (accepted), duplicate, late, ignored, unmatched,
    rejected:<reason>."""
    commits: int = 0
    conflicts: int = 0
    commit_seconds: list[float] = field(default_factory=list)
    """How long each commit took."""
    seconds: float = 0.0
    """How long all of it took."""
    trimmed: int = 0
    """Records that had been counted before."""
    backlog: bool = False
    """More is due than was swept."""
    clocks: Mapping[str, int] = field(default_factory=dict)
    """By topic: no record with an earlier arrival will be counted."""
    rewind: dict[str, int] | None = None
    """The store is behind this batch: nothing was counted; continue each topic from these offsets."""
