"""The pipeline of one shard: a batch in, one guarded commit out.

A batch is screened, joined and folded in memory, and written in ONE transaction that also advances the
stored positions, under WATCH of them. So whatever happens (a crash between any two steps, a frozen
worker that wakes up, a reply that got lost), an event is counted once or not yet, never twice.
"""

import uuid
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from metrics.experiment import MINUTE, Experiment
from metrics.layout import Keys, Meta
from stream.batch import Batch, BatchReport, DeadLetter
from stream.commit import Work
from stream.events import Event
from stream.fold import fold_mature
from stream.join import Joiner
from stream.ledgers import Deltas, LedgerCache, spread
from stream.maturity import Chunk, pack_chunks
from stream.queues import EXPIRE, Heads, Queue, due_queue, forget_queue, queues_of
from stream.rows import digests_in, time_of, unpack_rows
from stream.screen import ScreenedPrediction, Screening, Spec, SpecTable, screen
from stream.sources import Decoder
from stream.store import Command, ConflictError, Session, Store


MAX_RECORDS = 20_000
"""Records that one commit takes; a larger fetch is committed in parts."""

MAX_CONFLICTS = 20


class DeadLetters(Protocol):
    """Where records go that cannot be used."""

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters`; return when they are safe. After a crash a letter may come again."""
        ...


class ShardContestedError(Exception):
    """Other workers keep committing to the shard: this one does not own it."""


class _RewindError(Exception):
    """The store is behind the batch."""


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
        self._store, self._decoder, self._dead_letters = store, decoder, dead_letters
        self._topics, self._early_for = topics, early_for
        self._specs = SpecTable(experiments)
        self._keys = Keys(store.deployment, shard)
        self._ledgers = LedgerCache(self._keys)
        self._queues = queues_of(self._specs.by_name.values(), early_for)
        self._heads = Heads(self._queues)
        self._writer = uuid.uuid4().hex
        self._seq: int | None = None
        self._rewound = False

    async def positions(self) -> dict[str, int]:
        """The stored position of each topic; empty when nothing was ever counted."""
        async with self._store.session(self._keys.shard) as session:
            meta, _ = await session.begin()
        return {topic: position.offset for topic, position in meta.positions.items()}

    async def process(self, batch: Batch) -> BatchReport:
        """Count one batch exactly once, and everything that it made due.

        Raises StoreUnavailableError (then call again with the same batch) and ShardContestedError.
        """
        report = BatchReport()
        for start in range(0, max(len(batch), 1), MAX_RECORDS):
            await self._count(batch.part(start, start + MAX_RECORDS), report)
            if report.rewind is not None:
                break
        return report

    async def _count(self, batch: Batch, report: BatchReport) -> None:
        events = batch.events
        if events is None:
            events = self._decoder.decode(batch.topic, batch.values, batch.headers)
        prepared = self._prepare(batch, events, 0)
        letters = _letters(prepared)
        if letters:
            # Before the commit: a record may be kept twice there, but is never lost.
            await self._dead_letters.send(letters)
        start, reuse_waits, backlog = 0, True, True
        while start < len(batch) or backlog:
            try:
                work = await self._step(prepared, start, report, reuse_waits=reuse_waits)
            except ConflictError:
                report.conflicts += 1
                if report.conflicts > MAX_CONFLICTS:
                    raise ShardContestedError(
                        f"shard {self._keys.shard} of {self._keys.deployment!r}: others committed"
                        f" {MAX_CONFLICTS} times during one batch"
                    ) from None
                continue
            except _RewindError:
                return
            backlog = work.backlog
            # An id came again when it should have been forgotten: sweep up to there, then go on.
            reuse_waits = work.stop > start or work.swept > 0 or backlog
            start = work.stop

    def _prepare(self, batch: Batch, events: Sequence[Event], floor: int) -> _Prepared:
        raw = np.asarray(batch.arrivals, dtype=np.int64)
        arrivals: list[int] = np.maximum(np.maximum.accumulate(raw), floor).tolist()
        return _Prepared(batch, events, arrivals, screen(events, arrivals, self._specs))

    async def _step(
        self, prepared: _Prepared, start: int, report: BatchReport, *, reuse_waits: bool
    ) -> Work:
        """Commit the records from `start` on, or as many as one commit can take."""
        async with self._store.session(self._keys.shard) as session:
            work, joiner, prunable = await self._begin(session, prepared, start, report)
            joiner.reuse_waits = reuse_waits
            work.joined = joiner.join(
                [event for event in work.screening.usable if event.record >= work.start]
            )
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
        keys, batch = self._keys, prepared.batch
        usable = [event for event in prepared.screening.usable if event.record >= start]
        digests = [event.digest for event in usable]
        new = [event.digest for event in usable if type(event) is ScreenedPrediction]
        reads: list[Command] = list(self._ledgers.prune_reads())
        reads += _lookup(keys.pending, digests) + _lookup(keys.early, new)
        meta, replies = await session.begin(*reads)
        if (meta.writer, meta.seq) != (self._writer, self._seq):
            self._ledgers.forget_all()
            self._heads.forget_all()
        prunable, found = replies[:2], replies[2:]
        pending = _present(digests, found[:1])
        early = _present(new, found[1:])
        # An outcome whose prediction is unknown may have been here before.
        stray = list(set(digests) - pending.keys() - set(new))
        heads = self._heads.reads(keys)
        replies = await session.read(*heads, *_lookup(keys.early, stray))
        self._heads.learn(replies[: len(heads)])
        early |= _present(stray, replies[len(heads) :])
        self._check_position(meta, batch, start, report)
        known = meta.positions.get(batch.topic)
        if known:
            counted = bisect_left(batch.offsets, known.offset)
            report.trimmed += max(0, counted - start)
            start = max(start, counted)
            if start < len(batch) and prepared.arrivals[start] < known.arrival:
                screened = self._prepare(batch, prepared.events, known.arrival)
                prepared.arrivals, prepared.screening = screened.arrivals, screened.screening
        meta.topics = self._topics
        work = Work(batch, prepared.arrivals, prepared.screening, start, len(batch), meta)
        return work, Joiner(self._specs, pending, early, self._early_for), prunable

    def _check_position(self, meta: Meta, batch: Batch, start: int, report: BatchReport) -> None:
        """Refuse a batch that the store is behind of, unless the log has nothing earlier."""
        known = meta.positions.get(batch.topic)
        offset = known.offset if known else 0
        first = batch.position if start == 0 else batch.offsets[start] if start < len(batch) else 0
        if offset >= first or (known and start):
            return
        if batch.position > batch.log_start:
            report.rewind = dict.fromkeys(self._topics, batch.log_start)
            report.rewind |= {topic: p.offset for topic, p in meta.positions.items()}
            self._rewound = True
            raise _RewindError
        if len(batch):
            meta.complete_since = max(meta.complete_since or 0, batch.arrivals[0])

    async def _sweep(self, session: Session, work: Work) -> None:
        """Take from the queues what the new watermark makes due, and read what is stored of it."""
        meta = work.meta
        for queue in self._queues:
            harvest = self._heads.harvest(queue, meta)
            if harvest is not None:
                work.harvests[queue.name] = harvest
        wanted = [queue for queue in self._queues if self._needs_rows(queue, work)]
        deltas: list[Command] = []
        for queue in wanted:
            key = self._keys.early if queue.name == EXPIRE else self._keys.pending
            deltas.append(("HMGET", key, *work.harvests[queue.name].digests))
        for queue, found in zip(wanted, await session.read(*deltas), strict=True):
            digests = work.harvests[queue.name].digests
            changed = work.joined.pending if queue.name != EXPIRE else {}
            work.rows[queue.name] = [
                changed.get(digest, row) for digest, row in zip(digests, found, strict=True)
            ]
        work.take_expired(self._early_for)
        work.note_matured(self._queues)

    def _needs_rows(self, queue: Queue, work: Work) -> bool:
        harvest = work.harvests.get(queue.name)
        final = queue.awaits_labels or queue.name == EXPIRE
        return final and harvest is not None and bool(harvest.digests)

    async def _write(
        self, session: Session, work: Work, prunable: list[list[bytes]], report: BatchReport
    ) -> None:
        """Fold, and commit everything."""
        tallies = work.tally()
        writes = work.writes(self._keys, self._queues)
        writes += self._ledgers.prune(prunable, work.meta.watermark)
        await self._commit(session, work.meta, work.deltas(self._specs), writes, tallies)
        self._heads.committed(work.harvests, work.grown)
        report.commits += 1
        for result, count in tallies.items():
            report.tallies[result] = report.tallies.get(result, 0) + count

    async def _commit(
        self,
        session: Session,
        meta: Meta,
        deltas: Deltas,
        writes: list[Command],
        tallies: Mapping[str, int],
    ) -> None:
        """Add `deltas` to the stored ledgers, and write them with `writes` and the new meta."""
        missing = self._ledgers.missing(deltas)
        self._ledgers.learn(missing, await session.read(*self._ledgers.reads(missing)))
        values = self._ledgers.updated(deltas)
        for result, count in tallies.items():
            meta.tallies[result] = meta.tallies.get(result, 0) + count
        first = meta.seq == 0
        if first or self._rewound:
            meta.lineage, self._rewound = uuid.uuid4().hex, False
        meta.seq, meta.writer = meta.seq + 1, self._writer
        if first:
            await self._store.register(self._keys.shard)
        await session.commit(meta, [*writes, *self._ledgers.writes(values, meta.seq)])
        self._seq = meta.seq
        self._ledgers.committed(values)

    async def finish(self, at: int, *, complete: bool = False) -> None:
        """The log ended at `at` (epoch ms): give every prediction its final label that can be known.

        A label is final when time + horizon + grace lies before `at`, or, where the log is `complete`,
        in any case. Arrivals in a file are made from event times, so this does not depend on how
        disordered the file was. Raises StoreUnavailableError and ConflictError; may be called again.
        """
        for spec in self._specs.by_name.values():
            while await self._finish_chunk(spec, None if complete else at):
                pass
        self._heads.forget_all()

    async def _finish_chunk(self, spec: Spec, at: int | None) -> bool:
        """Take the first chunk of a due queue; False when there was none left."""
        name = due_queue(spec.experiment.name)
        due, rest, forget = map(self._keys.key, (name, f"rest:{name}", forget_queue(name)))
        async with self._store.session(self._keys.shard) as session:
            meta, (packed, unripe_chunks) = await session.begin(("LINDEX", due, 0), ("LLEN", rest))
            if (meta.writer, meta.seq) != (self._writer, self._seq):
                self._ledgers.forget_all()
            if packed is None:
                if unripe_chunks:
                    await self._commit(session, meta, {}, [("RENAME", rest, due)], {})
                return False
            writes: list[Command] = [("LPOP", due)]
            chunk, done = Chunk.unpack(packed), meta.cursors.pop(name, 0)
            ids = digests_in(chunk.digests)
            (found,) = await session.read(("HMGET", self._keys.pending, *ids))
            limit = None if at is None else min(at, (meta.last_outcome or 0) + spec.wait)
            ripe = [row and (limit is None or time_of(row) + spec.wait < limit) for row in found]
            for key, wanted in ((forget, True), (rest, False)):
                chosen = [n for n, is_ripe in enumerate(ripe) if bool(n < done or is_ripe) is wanted]
                arrivals = [int(chunk.arrivals[n]) for n in chosen]
                chunks = pack_chunks(arrivals, [ids[n] for n in chosen])
                writes += [("RPUSH", key, *chunks)] if chunks else []
            rows = [row for n, row in enumerate(found) if ripe[n] and n >= done]
            mature = fold_mature(unpack_rows(rows), self._specs.cohorts)
            await self._commit(session, meta, spread(self._specs, (), (mature,)), writes, {})
        return True


def _lookup(key: str, digests: Sequence[bytes]) -> list[Command]:
    return [("HMGET", key, *digests)] if digests else []


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
        )
        for index, rejected in prepared.screening.rejected
    ]
