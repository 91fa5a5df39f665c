"""The end of a log: final labels by event time, once it is known that nothing more will come.

Arrivals in a file are made from event times, so what is final here does not depend on how disordered
the file was, where maturity by arrival would.
"""

from metrics.ledger import Ledger
from stream.fold import Slice, fold_mature
from stream.ledgers import spread
from stream.maturity import Chunk, pack_chunks
from stream.queues import due_queue, forget_queue
from stream.resp import Command, fields
from stream.rows import digests_in, time_of, unpack_rows
from stream.screen import Spec
from stream.shard import Shard


async def finish(shard: Shard, at: int, *, complete: bool = False) -> None:
    """The log ended at `at` (epoch ms): give every prediction its final label that can be known.

    A label is final when time + horizon + grace lies before `at`, or, where the log is `complete`, in any
    case. Raises StoreUnavailableError and ConflictError; may be called again.
    """
    try:
        for spec in shard.specs.by_name.values():
            for _ in range(2 if await _was_interrupted(shard, spec) else 1):
                while await _finish_chunk(shard, spec, None if complete else at):
                    pass
    finally:
        shard.heads.forget_all()


async def _was_interrupted(shard: Shard, spec: Spec) -> bool:
    """Whether an earlier call set ids aside and did not put them back: they need a second pass."""
    rest = shard.keys.key(f"rest:{due_queue(spec.experiment.name)}")
    async with shard.session() as session:
        _, (left,) = await shard.begin(session, ("LLEN", rest))
    return bool(left)


async def _finish_chunk(shard: Shard, spec: Spec, at: int | None) -> bool:
    """Take the first chunk of a due queue; False when there was none left."""
    name = due_queue(spec.experiment.name)
    due, rest, forget = map(shard.keys.key, (name, f"rest:{name}", forget_queue(name)))
    async with shard.session() as session:
        meta, (packed, unripe) = await shard.begin(session, ("LINDEX", due, 0), ("LLEN", rest))
        if packed is None:
            if unripe:
                await shard.commit(session, meta, {}, [("RENAME", rest, due)], {})
            return False
        chunk, done = Chunk.unpack(packed), meta.cursors.pop(name, 0)
        ids, arrivals = digests_in(chunk.digests)[done:], chunk.arrivals[done:].tolist()
        found: list[bytes | None] = []
        if ids:
            (found,) = await session.read(("HMGET", shard.keys.pending, fields(ids)))
        grace = int(spec.experiment.labels.grace)
        limit = None if at is None else min(at, (meta.last_outcome or 0) + grace)
        writes: list[Command] = [("LPOP", due)]
        final: list[bytes] = []
        kept: dict[str, tuple[list[int], list[bytes]]] = {forget: ([], []), rest: ([], [])}
        for arrival, key, row in zip(arrivals, ids, found, strict=True):
            is_final = row is not None and (limit is None or time_of(row) + spec.wait < limit)
            if row is not None and is_final:
                final.append(row)
            times, digests = kept[forget if is_final or row is None else rest]
            times.append(arrival)
            digests.append(key)
        for queue, (times, digests) in kept.items():
            writes += [("RPUSH", queue, *pack_chunks(times, digests))] if digests else []
        mature: dict[Slice, Ledger] = fold_mature(unpack_rows(final), shard.specs.cohorts)
        await shard.commit(session, meta, spread(shard.specs, (), (mature,)), writes, {})
    return True
