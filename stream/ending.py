"""The end of a log: final labels by event time, once it is known that nothing more will come.

Arrivals in a file are made from event times, so what is final here does not depend on how disordered
the file was, where maturity by arrival would.
"""

from stream.commit import final_of
from stream.ledgers import spread
from stream.maturity import Chunk, pack_chunks
from stream.queues import Queue
from stream.resp import Command, fields
from stream.rows import digests_in, time_of
from stream.shard import Shard


async def finish(shard: Shard, at: int, *, complete: bool = False) -> None:
    """The log ended at `at` (epoch ms): give every prediction its final label that can be known.

    A label is final when time + horizon + grace lies before `at`, or, where the log is `complete`, in any
    case; at a landmark, that stands for the horizon. Raises StoreUnavailableError and ConflictError; may be
    called again.
    """
    try:
        for queue in shard.queues:
            if not queue.awaits_labels:
                continue
            for _ in range(2 if await _was_interrupted(shard, queue) else 1):
                while await _finish_chunk(shard, queue, None if complete else at):
                    pass
    finally:
        shard.heads.forget_all()


async def _was_interrupted(shard: Shard, queue: Queue) -> bool:
    """Whether an earlier call set ids aside and did not put them back: they need a second pass."""
    rest = shard.keys.key(f"rest:{queue.name}")
    async with shard.session() as session:
        _, (left,) = await shard.begin(session, ("LLEN", rest))
    return bool(left)


async def _finish_chunk(shard: Shard, queue: Queue, at: int | None) -> bool:
    """Take the first chunk of a queue that awaits labels; False when there was none left."""
    name = queue.name
    due, rest = map(shard.keys.key, (name, f"rest:{name}"))
    done_with = shard.keys.key(queue.moves_to) if queue.moves_to else None
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
        limit = None if at is None else min(at, (meta.last_outcome or 0) + queue.grace)
        writes: list[Command] = [("LPOP", due)]
        final: list[bytes] = []
        kept: dict[str | None, tuple[list[int], list[bytes]]] = {
            done_with: ([], []),
            rest: ([], []),
        }
        for arrival, key, row in zip(arrivals, ids, found, strict=True):
            is_final = row is not None and (limit is None or time_of(row) + queue.delay < limit)
            if row is not None and is_final:
                final.append(row)
            times, digests = kept[done_with if is_final or row is None else rest]
            times.append(arrival)
            digests.append(key)
        for goal, (times, digests) in kept.items():
            writes += [("RPUSH", goal, *pack_chunks(times, digests))] if goal and digests else []
        counted = final_of(final, queue.landmark, shard.specs)
        await shard.commit(session, meta, spread(shard.specs, (), (counted,)), writes, {})
    return True
