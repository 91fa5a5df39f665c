"""Feeding a shard: a log with topics, batches cut from it, and what is found in the store afterwards."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metrics.confusion import Cells
from metrics.experiment import Experiment
from metrics.layout import Keys, Kind, Meta, PaneName, decode_meta
from metrics.ledger import Ledger
from stream.batch import Batch, BatchReport, DeadLetter
from stream.pipeline import ShardPipeline
from stream.sources import Decoder, SourceOptions
from stream.store import Store
from support.events import EARLY_FOR, EXPERIMENTS, Records, sizes_of
from support.failing import HookedStore, KillAt, KilledError
from support.truth import Event, Facts, Truth


TOPIC = "events"
PREDICTIONS, OUTCOMES = "predictions", "outcomes"


def encoded(event: Event | bytes) -> bytes:
    """The bytes of an event on the wire."""
    return event if isinstance(event, bytes) else json.dumps(event).encode()


@dataclass(slots=True)
class Topic:
    """One partition of a topic: offsets rise, and may leave holes."""

    name: str
    arrivals: list[int]
    values: list[bytes]
    offsets: list[int]
    end: int

    @classmethod
    def of(cls, records: Records, name: str = TOPIC, *, holes: int | None = None) -> "Topic":
        """`holes` seeds the places where offsets are missing, None for none."""
        rnd, offsets, at = random.Random(holes), list[int](), 0
        for _ in records:
            at += 0 if holes is None else rnd.choice((0, 0, 0, 1, 7))
            offsets.append(at)
            at += 1
        values = [encoded(event) for _, event in records]
        return cls(name, [arrival for arrival, _ in records], values, offsets, at)

    def batch(self, position: int, size: int, shard: int = 0, *, log_start: int = 0) -> Batch:
        """At most `size` records from `position` on."""
        start = next(
            (i for i, offset in enumerate(self.offsets) if offset >= position), len(self.offsets)
        )
        stop = min(start + size, len(self.offsets))
        return Batch(
            self.name,
            shard,
            position,
            self.offsets[stop] if stop < len(self.offsets) else max(position, self.end),
            self.offsets[start:stop],
            self.arrivals[start:stop],
            self.values[start:stop],
            log_start=log_start,
        )

    def at_end(self, complete_to: int, shard: int = 0) -> Batch:
        """The empty batch that tells that the topic was read to its end."""
        return Batch(self.name, shard, self.end, self.end, complete_to=complete_to)


def split(records: Records, *, holes: int | None = None) -> tuple[Topic, Topic]:
    """The same records as two topics; what is neither goes with the predictions."""
    outcomes = [r for r in records if isinstance(r[1], dict) and r[1].get("type") == "outcome"]
    others = [r for r in records if not (isinstance(r[1], dict) and r[1].get("type") == "outcome")]
    return Topic.of(others, PREDICTIONS, holes=holes), Topic.of(outcomes, OUTCOMES, holes=holes)


class Letters(list[DeadLetter]):
    """Dead letters, kept."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters`."""
        self.extend(letters)


def pipeline(
    store: Store,
    experiments: Iterable[Experiment] = EXPERIMENTS,
    *,
    topics: tuple[str, ...] = (TOPIC,),
    shard: int = 0,
    letters: Letters | None = None,
    early_for: int = EARLY_FOR,
    sources: Mapping[str, SourceOptions] | None = None,
) -> ShardPipeline:
    """A worker's pipeline, as if its process had just been started."""
    return ShardPipeline(
        store,
        shard,
        experiments,
        Decoder(sources),
        Letters() if letters is None else letters,
        topics=topics,
        early_for=early_for,
    )


async def consume(worker: ShardPipeline, topic: Topic, sizes: Iterator[int]) -> list[BatchReport]:
    """Read one topic from the stored position to its end, going back where the worker says so."""
    reports = []
    stored = (await worker.stored()).get(topic.name)
    at = stored.offset if stored else 0
    while at < topic.end:
        batch = topic.batch(at, next(sizes), worker._shard.keys.shard)
        reports.append(await worker.process(batch))
        rewind = reports[-1].rewind
        at = batch.next_position if rewind is None else rewind[topic.name]
    return reports


async def finish(worker: ShardPipeline, *topics: Topic, complete_to: int) -> None:
    """Let the clock pass `complete_to` with everything read."""
    for topic in topics:
        report = await worker.process(topic.at_end(complete_to, worker._shard.keys.shard))
        assert report.rewind is None


@dataclass(slots=True)
class Found:
    """Everything that one shard has in the store."""

    meta: Meta
    ledgers: dict[PaneName, Ledger]
    pending: dict[bytes, bytes]
    early: dict[bytes, bytes]
    queues: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def counted(self) -> tuple[object, ...]:
        """What must be the same, whatever the batches and the crashes were.

        Not when an id that is no longer needed is forgotten: that goes by chunks, thus by batches.
        """
        packed = {str(name): ledger.pack() for name, ledger in self.ledgers.items()}
        tallies = {result: count for result, count in self.meta.tallies.items() if count}
        clocks = (self.meta.positions, self.meta.last_outcome, self.meta.last_prediction)
        return packed, self.early, tallies, clocks, self.meta.matured, self.meta.versions

    def of(self, kind: Kind) -> dict[tuple[str, str, int], Ledger]:
        """The ledgers of one kind by experiment, variant and start."""
        return {
            (name.experiment, name.variant, name.start): ledger
            for name, ledger in self.ledgers.items()
            if name.kind is kind
        }


async def found(store: Store, shard: int = 0) -> Found:
    """Read everything of a shard, without the reader."""
    client: Any = store.client  # it can be told to answer text, so that its types allow for text
    keys = Keys(store.deployment, shard)
    prefix = keys.ledger("")
    names = [key.decode() async for key in client.scan_iter(match=f"{prefix}*", count=1000)]
    ledgers = {}
    for name in names:
        ledgers[PaneName.parse(name.removeprefix(prefix))] = Ledger.unpack(await client.get(name))
    queues = {}
    for queue in ("due", "forget"):
        async for key in client.scan_iter(match=f"{keys.key(queue)}:*", count=1000):
            queues[key.decode()] = await client.lrange(key, 0, -1)
    queues["expire"] = await client.lrange(keys.key("expire"), 0, -1)
    return Found(
        decode_meta(await client.get(keys.meta)),
        ledgers,
        await client.hgetall(keys.pending),
        await client.hgetall(keys.early),
        queues,
    )


def plain(ledger: Ledger) -> Facts:
    """A ledger as the truth tells it."""
    cells = zip(Cells._fields, ledger.cells, strict=True)
    return Facts(
        ledger.predictions,
        ledger.errors,
        ledger.acted,
        {name: tuple(cell) for name, cell in cells if cell.n},
        ledger.moments,
        ledger.latency.total,
        {place: int(count) for place, count in enumerate(ledger.scores) if count},
    )


def assert_equal(found: Found, truth: Truth) -> None:
    """The store holds exactly what the truth says; panes may have been deleted."""
    totals = {(e, v): plain(ledger) for (e, v, _), ledger in found.of(Kind.TOTAL).items()}
    assert totals == dict(truth.totals)
    mature = {name: plain(ledger) for name, ledger in found.of(Kind.MATURE).items()}
    assert mature == dict(truth.mature)
    for kind, panes in ((Kind.FINE, truth.fine), (Kind.COARSE, truth.coarse)):
        kept = {name: plain(ledger) for name, ledger in found.of(kind).items()}
        assert kept == {name: facts for name, facts in panes.items() if name in kept}
    assert {k: n for k, n in found.meta.tallies.items() if n} == dict(truth.tallies)
    assert found.meta.last_outcome == truth.last_outcome
    assert found.meta.waiting == truth.waiting
    assert {
        (e, v): seen for e, by in found.meta.versions.items() for v, seen in by.items()
    } == dict(truth.versions)


async def assert_any_crash_changes_nothing(
    records: Records,
    expected: tuple[object, ...],
    worker_of: Callable[[Store], ShardPipeline],
    when: str,
    complete_to: int,
) -> None:
    """Whichever exchange with the store ends a worker, the next one leaves what is `expected`.

    `when`: "before" the exchange is sent or "after" it was answered. `expected`: see `Found.counted`.
    """
    topic, survived, at = Topic.of(records), False, 0
    while not survived:
        store = HookedStore(Store.embedded().client)
        try:
            setattr(store, when, KillAt(at))
            try:
                await consume(worker_of(store), topic, sizes_of(1, 30))
                survived = True
            except KilledError:
                store.calm()
                await consume(worker_of(store), topic, sizes_of(2, 30))
            store.calm()
            await finish(worker_of(store), topic, complete_to=complete_to)
            assert (await found(store)).counted == expected, f"killed {when} exchange {at}"
        finally:
            await store.close()
        at += 1
    assert at > 10
