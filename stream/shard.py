"""A shard as its one writer knows it: caches that are true until somebody else commits. Does I/O (Redis)."""

import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any

from metrics.experiment import HOUR
from metrics.layout import Keys, Meta
from stream.fleet import FleetClock
from stream.ledgers import Deltas, LedgerCache
from stream.queues import Heads, queues_of
from stream.resp import Command
from stream.screen import SpecTable
from stream.store import Session, Store


MAX_AHEAD = 6 * HOUR
"""How far panes may outlive their time for the sake of a shard that is behind."""


class Shard:
    """Begins and commits; everything between is up to the caller."""

    def __init__(self, store: Store, number: int, specs: SpecTable, early_for: int) -> None:
        self.store, self.specs = store, specs
        self.keys = Keys(store.deployment, number)
        self.queues = queues_of(specs.by_name.values(), early_for)
        self.heads = Heads(self.queues)
        self.ledgers = LedgerCache(self.keys)
        self.new_lineage = True
        """A worker that starts, or goes back, cannot know what readers have seen of a lost commit."""
        self.fleet = FleetClock()
        self._latest = ""
        """The commit as of which the caches are."""

    def told(self, meta: Meta) -> int | None:
        """The latest time of an outcome anywhere: one shard may have none for hours and miss none."""
        told = [at for at in (meta.last_outcome, self.fleet.last_outcome) if at is not None]
        return max(told, default=None)

    def needless_before(self, meta: Meta) -> int | None:
        """The watermark to delete panes by: the fleet's, as long as this shard is not far ahead of it.

        Windows end at the fleet's watermark: what they need must be there in every shard.
        """
        own, fleet = meta.watermark, self.fleet.watermark
        return own if own is None or fleet is None else min(own, max(fleet, own - MAX_AHEAD))

    def session(self) -> AbstractAsyncContextManager[Session]:
        """A session on this shard; see `Store.session`."""
        return self.store.session(self.keys.shard)

    async def begin(self, session: Session, *reads: Command) -> tuple[Meta, list[Any]]:
        """Begin a session; drop the caches if the latest commit was not ours.

        Then ours may have been lost after readers saw it, and its number be given a second time.
        """
        meta, replies = await session.begin(*reads)
        if meta.commit != self._latest:
            self._latest, self.new_lineage = meta.commit, True
            self.ledgers.forget_all()
            self.heads.forget_all()
        return meta, replies

    async def commit(
        self,
        session: Session,
        meta: Meta,
        deltas: Deltas,
        writes: list[Command],
        tallies: Mapping[str, int],
    ) -> float:
        """Add `deltas` to the stored ledgers, and write them with `writes` and the new meta.

        Returns the seconds that the writing took.
        """
        missing = self.ledgers.missing(deltas)
        self.ledgers.learn(missing, await session.read(*self.ledgers.reads(missing)))
        values = self.ledgers.updated(deltas)
        for result, count in tallies.items():
            meta.tallies[result] = meta.tallies.get(result, 0) + count
        if self.new_lineage:
            meta.lineage = uuid.uuid4().hex
            await self.store.register(self.keys.shard)
        self.new_lineage = True  # unless it is known to have been written: readers may see it
        meta.seq, meta.commit = meta.seq + 1, uuid.uuid4().hex
        started = perf_counter()
        await session.commit(meta, [*writes, *self.ledgers.writes(values, meta.seq)])
        took = perf_counter() - started
        self._latest, self.new_lineage = meta.commit, False
        self.ledgers.committed(values)
        return took
