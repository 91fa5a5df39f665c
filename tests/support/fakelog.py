"""A log in memory that hands fetches to intakes as the transport does, and fails on demand. Pure but for waiting."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from stream.fetch import Bounds, Fetch, LogUnavailableError, NotOursError, Reach
from stream.intake import ShardIntake
from support.feed import Topic


@dataclass(slots=True)
class Track:
    """Where one partition is, since its latest seek."""

    generation: int
    next: int
    held: bool = False


@dataclass(slots=True)
class Partition:
    """One partition of a topic."""

    topic: Topic
    start: int = 0
    """Everything before was deleted."""
    written: int = 0
    """How many of the records are there by now."""
    control: int = 0
    """Offsets behind the last record that are no records, as transactions leave them."""
    uncommitted: bool = False
    """Behind the end there are records of a transaction that has not ended."""
    track: Track | None = None
    handed: list[Fetch] = field(default_factory=list)
    """All fetches so far."""

    @property
    def end(self) -> int:
        """The next offset that will be readable."""
        offsets = self.topic.offsets
        if self.written < len(offsets):
            return max(self.start, offsets[self.written])
        return max(self.start, self.topic.end + self.control)


class FakeLog:
    """Partitions by topic and shard."""

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._generations = count(1)
        self.away = False
        """Nothing can be asked, and nothing is handed over."""
        self.ours = True
        """Whether the partitions are assigned."""
        self.asked = 0
        """How often `bounds` and `reach` were."""

    def add(self, topic: Topic, shard: int = 0, *, written: int | None = None) -> Partition:
        """Make a partition, or make it anew."""
        known = len(topic.values) if written is None else written
        made = self._partitions[topic.name, shard] = Partition(topic, written=known)
        return made

    def at(self, topic: str, shard: int = 0) -> Partition:
        """One partition."""
        return self._partitions[topic, shard]

    async def bounds(self, topics: Iterable[str], shard: int) -> Mapping[str, Bounds]:
        """See `stream.fetch.Log.bounds`."""
        await self._answer()
        found = {topic: self._partitions[topic, shard] for topic in topics}
        return {topic: Bounds(each.start, each.end) for topic, each in found.items()}

    async def seek(self, topic: str, shard: int, offset: int) -> int:
        """See `stream.fetch.Log.seek`."""
        await asyncio.sleep(0)  # what was fetched before may come meanwhile
        if not self.ours:
            raise NotOursError(f"{topic}[{shard}] is not assigned any more")
        track = Track(next(self._generations), offset)
        self._partitions[topic, shard].track = track
        return track.generation

    async def reach(self, topics: Iterable[str], shard: int) -> Mapping[str, Reach]:
        """See `stream.fetch.Log.reach`."""
        await self._answer()
        found = {topic: self._partitions[topic, shard] for topic in topics}
        if not self.ours:
            raise NotOursError(f"{'/'.join(found)}[{shard}] is not assigned any more")
        return {topic: _reach(each) for topic, each in found.items()}

    def hold(self, topic: str, shard: int, *, held: bool) -> None:
        """See `stream.fetch.Log.hold`."""
        track = self._partitions[topic, shard].track
        if track is not None:
            track.held = held

    async def _answer(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise LogUnavailableError("Kafka does not tell its offsets")

    def fetch(self, topic: str, shard: int = 0, *, size: int = 1_000) -> Fetch | None:
        """What the next fetch of at most `size` records gives; None when there is nothing."""
        found, track = self._partitions[topic, shard], self._partitions[topic, shard].track
        if track is None or track.held or self.away or not self.ours:
            return None
        if not found.start <= track.next <= found.end:
            return Fetch(track.generation, None)
        written = sum(offset >= track.next for offset in found.topic.offsets[: found.written])
        if not written:
            return None
        batch = found.topic.batch(track.next, min(size, written), shard)
        made = Fetch(track.generation, batch)
        track.next = batch.next_position
        found.handed.append(made)
        return made

    def hand_over(self, intake: ShardIntake, topic: str, *, size: int = 1_000) -> bool:
        """Hand over the next fetch; False when there is nothing."""
        made = self.fetch(topic, intake.shard, size=size)
        if made is not None:
            intake.offer(topic, made)
        return made is not None

    def cut(self, topic: str, start: int, shard: int = 0) -> None:
        """Delete what is before `start`, as retention does."""
        self._partitions[topic, shard].start = start

    def append(self, topic: str, records: int, shard: int = 0) -> None:
        """Let `records` more records be there."""
        found = self._partitions[topic, shard]
        found.written = min(found.written + records, len(found.topic.values))


def _reach(found: Partition) -> Reach:
    if found.track is None:
        raise NotOursError(f"{found.topic.name} is not assigned any more")
    at = found.track.next
    # Behind the last record there is nothing to hand over, and all of it was read.
    left = any(offset >= at for offset in found.topic.offsets[: found.written])
    return Reach(found.end, at if left else max(at, found.end), at, found.uncommitted)
