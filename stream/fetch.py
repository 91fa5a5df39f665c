"""What a transport hands over, and what is asked of it: the partitions of one shard of a log. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from metrics.experiment import HOUR
from stream.batch import Batch


@dataclass(frozen=True, slots=True)
class Fetch:
    """What one fetch gave for one partition."""

    generation: int
    """Which seek it follows; what was fetched before the latest one is void."""
    batch: Batch | None
    """None: the position that was asked for is not in the log."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets that a partition has."""

    start: int
    end: int
    """The next offset that will be readable."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a partition was read."""

    end: int
    """The end of the log, asked for after the request for `Reach` was made."""
    read_to: int
    """Everything before was read."""
    handed_to: int
    """Everything readable before was handed over."""
    uncommitted: bool = False
    """Behind `end` there are records of a transaction that has not ended: they have arrived already."""


class LogUnavailableError(Exception):
    """The log cannot be asked now; try again."""


class NotOursError(Exception):
    """The partition belongs to another worker now."""


class Log(Protocol):
    """The log as the intakes of its shards see it."""

    async def bounds(self, topics: Iterable[str], shard: int) -> Mapping[str, Bounds]:
        """The bounds of each topic's partition. Raises LogUnavailableError."""
        ...

    async def seek(self, topic: str, shard: int, offset: int) -> int:
        """Go on from `offset`, and hand over; gives the generation of the fetches to come.

        Raises NotOursError.
        """
        ...

    async def reach(self, topics: Iterable[str], shard: int) -> Mapping[str, Reach]:
        """How far each topic's partition was read. Raises LogUnavailableError and NotOursError."""
        ...

    def hold(self, topic: str, shard: int, *, held: bool) -> None:
        """Hand nothing over while held."""
        ...


def arrivals(timestamps: list[int], now: int) -> list[int]:
    """The arrivals (epoch ms) that are believed: a producer's clock may be wrong, a broker's is not.

    A record from the future would make everything after it look as late; it has arrived with the record
    before it, as has one without a timestamp.
    """
    latest = now + HOUR
    if min(timestamps) >= 0 and max(timestamps) <= latest:
        return timestamps
    believed, before = [], 0
    for timestamp in timestamps:
        before = timestamp if 0 <= timestamp <= latest else before
        believed.append(before)
    return believed
