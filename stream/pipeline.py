"""The pipeline of one shard: a batch in, one guarded commit out.

A batch is screened, joined and folded in memory, and written in ONE transaction that also advances the
stored positions, under WATCH of them. So whatever happens (a crash between any two steps, a frozen
worker that wakes up, a reply that got lost), an event is counted once or not yet, never twice.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from metrics.experiment import MINUTE, Experiment
from metrics.layout import Meta, Position
from stream.batch import NO_HEADERS, Batch, BatchReport, DeadLetter
from stream.census import Census
from stream.commit import Work
from stream.ending import finish
from stream.events import Event
from stream.fleet import FleetClock
from stream.fold import MAX_ROWS
from stream.join import Joiner
from stream.queues import EXPIRE, Queue
from stream.resp import Command, fields
from stream.screen import Screening, SpecTable, screen
from stream.shard import Shard
from stream.sources import Decoder
from stream.store import ConflictError, Session, Store


MAX_RECORDS = min(20_000, MAX_ROWS)
"""Records that one commit takes; a larger fetch is committed in parts."""

MAX_CONFLICTS = 20


class DeadLetters(Protocol):
    """Where records go that cannot be used."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters`; return when they are safe. After a crash a letter may come again."""
        ...


class ShardContestedError(Exception):
    """Other workers keep committing to the shard: this one does not own it."""


class _RefusedError(Exception):
    """Nothing of the batch can be counted; the report says what to do instead, if anything."""


@dataclass(slots=True)
class _Prepared:
    """A batch with everything that can be said of it without the store."""

    batch: Batch
    events: Sequence[Event]
    arrivals: list[int]
    screening: Screening


class ShardPipeline:
    """Counts the batches of one shard. Not to be called concurrently for the same shard."""

    def __init__(
        self,
        store: Store,
        shard: int,
        experiments: Iterable[Experiment],
        decoder: Decoder,
        dead_letters: DeadLetters,
        *,
        topics: tuple[str, ...],
        early_for: int = 10 * MINUTE,
    ) -> None:
        self._decoder, self._dead_letters = decoder, dead_letters
        self._topics, self._early_for = topics, early_for
        self._shard = Shard(store, shard, SpecTable(experiments), early_for)

    async def stored(self) -> Mapping[str, Position]:
        """How far each topic has been counted; empty when nothing ever was."""
        async with self._shard.session() as session:
            meta, _ = await session.begin()
        return meta.positions

    def learn(self, fleet: FleetClock) -> None:
        """Take in how far the deployment's other shards are."""
        self._shard.fleet = fleet

    async def process(self, batch: Batch, *, drain: bool = True) -> BatchReport:
        """Count one batch exactly once, and everything that it made due.

        Without `drain` one commit's sweep has to do: where more is due the report says so, and the next
        call goes on. Raises StoreUnavailableError (then call again with the same batch) and
        ShardContestedError.
        """
        report, started = BatchReport(), perf_counter()
        for start in range(0, max(len(batch), 1), MAX_RECORDS):
            await self._count(batch.part(start, start + MAX_RECORDS), report, drain=drain)
            if report.rewind is not None:
                break
        report.seconds = perf_counter() - started
        return report

    async def _count(self, batch: Batch, report: BatchReport, *, drain: bool) -> None:
        events = batch.events
        if events is None:
            events = self._decoder.decode(batch.topic, batch.values, batch.headers)
        prepared = self._prepare(batch, events, 0)
        letters = _letters(prepared)
        if letters:
            # Before the commit: a record may be kept twice there, but is never lost.
            await self._dead_letters.send(letters)
        start, more = 0, True
        reuse_at: int | None = None
        while start < len(batch) or more:
            try:
                work = await self._step(prepared, start, report, reuse_at=reuse_at)
            except ConflictError:
                report.conflicts += 1
                if report.conflicts > MAX_CONFLICTS:
                    raise ShardContestedError(
                        f"shard {self._shard.keys.shard} of {self._shard.keys.deployment!r}: others committed"
                        f" {MAX_CONFLICTS} times during one batch"
                    ) from None
                continue
            except _RefusedError:
                return
            report.trimmed += work.start - start
            report.backlog, more = work.backlog, drain and work.backlog
            report.clocks = {topic: at.arrival for topic, at in work.meta.positions.items()}
            # An id came again when it should have been forgotten: sweep up to there, then go on.
            stuck = work.stop == start and not work.swept and not work.backlog
            start, reuse_at = work.stop, start if stuck else None

    def _prepare(self, batch: Batch, events: Sequence[Event], floor: int) -> _Prepared:
        raw = np.asarray(batch.arrivals, dtype=np.int64)
        arrivals: list[int] = np.maximum(np.maximum.accumulate(raw), floor).tolist()
        return _Prepared(batch, events, arrivals, screen(events, arrivals, self._shard.specs))

    async def _step(
        self, prepared: _Prepared, start: int, report: BatchReport, *, reuse_at: int | None
    ) -> Work:
        """Commit the records from `start` on, or as many as one commit can take."""
        async with self._shard.session() as session:
            work, joiner, prunable = await self._begin(session, prepared, start, report)
            joiner.reuse_at = reuse_at
            work.joined = joiner.join(work.usable)
            work.stop = work.joined.stop if work.joined.stop is not None else len(work.batch)
            before = dict(work.meta.positions)
            work.advance()
            await self._sweep(session, work)
            if before == work.meta.positions and not work.swept:
                return work  # nothing to say
            await self._write(session, work, prunable, report)
        return work

    async def _begin(
        self, session: Session, prepared: _Prepared, start: int, report: BatchReport
    ) -> tuple[Work, Joiner, list[list[bytes]]]:
        """Read under the watch what the records from `start` on can touch."""
        shard, keys, batch = self._shard, self._shard.keys, prepared.batch
        digests = [e.digest for e in prepared.screening.usable if e.record >= start]
        prunes = self._shard.ledgers.prune_reads()
        meta, replies = await shard.begin(session, *prunes, *_lookup(keys.pending, digests))
        prunable, pending = replies[: len(prunes)], _present(digests, replies[len(prunes) :])
        heads = self._shard.heads.reads(keys)
        # Outcomes wait so rarely that looking for them in every batch would be a waste.
        replies = await session.read(*heads, *_lookup(keys.early, digests if meta.waiting else ()))
        self._shard.heads.learn(replies[: len(heads)])
        early = _present(digests, replies[len(heads) :])
        self._check_position(meta, batch, start, report)
        known = meta.positions.get(batch.topic)
        if known:
            counted = bisect_left(batch.offsets, known.offset)
            start = max(start, counted)
            if start < len(batch) and prepared.arrivals[start] < known.arrival:
                screened = self._prepare(batch, prepared.events, known.arrival)
                prepared.arrivals, prepared.screening = screened.arrivals, screened.screening
        meta.topics = self._topics
        work = Work(batch, prepared.arrivals, prepared.screening, start, len(batch), meta)
        return work, Joiner(self._shard.specs, pending, early, self._early_for), prunable

    def _check_position(self, meta: Meta, batch: Batch, start: int, report: BatchReport) -> None:
        """Refuse a batch that the store is behind of, unless the log has nothing earlier."""
        known = meta.positions.get(batch.topic)
        offset = known.offset if known else 0
        expected = batch.position
        if start:
            expected = batch.offsets[start] if start < len(batch) else batch.next_position
        if offset >= expected:
            return
        if start or batch.position > batch.log_start:
            report.rewind = dict.fromkeys(self._topics, batch.log_start)
            report.rewind |= {topic: p.offset for topic, p in meta.positions.items()}
            self._shard.new_lineage = True
            raise _RefusedError
        # Records are missing. The next one tells since when the state is whole.
        since = batch.arrivals[0] if len(batch) else batch.complete_to
        if since is None:
            raise _RefusedError
        meta.complete_since = max(meta.complete_since or 0, since)

    async def _sweep(self, session: Session, work: Work) -> None:
        """Take from the queues what the new watermark makes due, and read what is stored of it."""
        meta = work.meta
        for queue in self._shard.queues:
            told = self._shard.told(meta)
            harvest = self._shard.heads.harvest(queue, meta, told, work.harvests)
            if harvest is not None:
                work.harvests[queue.name] = harvest
        wanted = [queue for queue in self._shard.queues if self._needs_rows(queue, work)]
        deltas: list[Command] = []
        for queue in wanted:
            key = self._shard.keys.early if queue.name == EXPIRE else self._shard.keys.pending
            deltas.append(("HMGET", key, fields(work.harvests[queue.name].digests)))
        if self._shard.specs.has_units or meta.failing:
            work.census = Census(work.joined.new, self._shard.keys)
            deltas += work.census.reads()
        replies = await session.read(*deltas)
        if work.census:
            work.census.learn(replies[len(wanted) :])
        for queue, found in zip(wanted, replies[: len(wanted)], strict=True):
            digests = work.harvests[queue.name].digests
            changed = work.joined.pending if queue.name != EXPIRE else {}
            work.rows[queue.name] = [
                changed.get(digest, row) for digest, row in zip(digests, found, strict=True)
            ]
        work.take_expired(self._early_for)
        work.append(self._shard.queues)
        work.note_progress(self._shard.queues, self._shard.told(meta))

    def _needs_rows(self, queue: Queue, work: Work) -> bool:
        harvest = work.harvests.get(queue.name)
        final = queue.awaits_labels or queue.name == EXPIRE
        return final and harvest is not None and bool(harvest.digests)

    async def _write(
        self, session: Session, work: Work, prunable: list[list[bytes]], report: BatchReport
    ) -> None:
        """Fold, and commit everything."""
        tallies = work.tally()
        writes = work.writes(self._shard.keys, self._shard.queues)
        writes += self._shard.ledgers.prune(prunable, self._shard.needless_before(work.meta))
        took = await self._shard.commit(
            session, work.meta, work.deltas(self._shard.specs, self._shard.queues), writes, tallies
        )
        report.commit_seconds.append(took)
        self._shard.heads.committed(work.harvests, work.grown)
        report.commits += 1
        for result, count in tallies.items():
            report.tallies[result] = report.tallies.get(result, 0) + count

    async def finish(self, at: int, *, complete: bool = False) -> None:
        """The log ended at `at`: see `stream.ending.finish`."""
        await finish(self._shard, at, complete=complete)


def _lookup(key: str, digests: Sequence[bytes]) -> list[Command]:
    return [("HMGET", key, fields(digests))] if digests else []


def _present(
    digests: Sequence[bytes], replies: Sequence[Sequence[bytes | None]]
) -> dict[bytes, bytes]:
    return {
        digest: packed
        for reply in replies
        for digest, packed in zip(digests, reply, strict=True)
        if packed is not None
    }


def _letters(prepared: _Prepared) -> list[DeadLetter]:
    batch = prepared.batch
    return [
        DeadLetter(
            rejected.reason,
            rejected.detail,
            batch.topic,
            batch.shard,
            batch.offsets[index],
            batch.values[index],
            batch.keys[index] if batch.keys else None,
            batch.headers[index] if batch.headers else NO_HEADERS,
        )
        for index, rejected in prepared.screening.rejected
    ]
