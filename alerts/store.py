"""Where judgement is kept: book, audit trail and outbox of each experiment in Redis. This module does I/O.

They share one hash tag, so that a decision, the entry in the audit trail and the order to act are written
in one atomic step, or not at all.
"""

from collections.abc import Sequence

import msgspec
import redis.asyncio
from redis.exceptions import WatchError

from alerts.book import Book, Decision
from alerts.order import Order


class StaleBookError(Exception):
    """Somebody else has changed the book; nothing was written."""


class AlertStore:
    """The judgement of all experiments of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self._client, self._deployment = client, deployment

    def _key(self, experiment: str, name: str) -> str:
        return f"{{{self._deployment}:experiment:{experiment}}}:{name}"

    async def load(self, experiment: str) -> Book:
        """The book, an empty one where there is none."""
        packed = await self._client.get(self._key(experiment, "book"))
        return msgspec.json.decode(packed, type=Book) if packed else Book()

    async def save(
        self,
        experiment: str,
        book: Book,
        *,
        decisions: Sequence[Decision] = (),
        orders: Sequence[Order] = (),
        settled: Sequence[str] = (),
    ) -> Book:
        """Write the book and what goes with it; returns the book as it is now stored.

        `orders` go into the outbox, the orders with the ids `settled` out of it. Raises StaleBookError
        unless `book` was made from the stored one.
        """
        key = self._key(experiment, "book")
        fresh = msgspec.structs.replace(book, version=book.version + 1)
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            packed = await pipe.get(key)
            stored = msgspec.json.decode(packed, type=Book).version if packed else 0
            if stored != book.version:
                raise StaleBookError(
                    f"{experiment}: expected version {book.version}, found {stored}"
                )
            pipe.multi()  # type: ignore[no-untyped-call]  # as redis-py has it
            pipe.set(key, msgspec.json.encode(fresh))
            audit, outbox = self._key(experiment, "audit"), self._key(experiment, "outbox")
            for decision in decisions:
                pipe.rpush(audit, msgspec.json.encode(decision))
            for order in orders:
                pipe.hset(outbox, order.id, msgspec.json.encode(order))
            if settled:
                pipe.hdel(outbox, *settled)
            try:
                await pipe.execute()
            except WatchError as error:
                raise StaleBookError(f"{experiment}: changed while it was written") from error
        return fresh

    async def decisions(self, experiment: str, newest: int = 100) -> list[Decision]:
        """The newest decisions (at least one is asked for), oldest first."""
        entries = await self._client.lrange(self._key(experiment, "audit"), -newest, -1)
        return [msgspec.json.decode(entry, type=Decision) for entry in entries]

    async def outbox(self, experiment: str) -> list[Order]:
        """Orders that are not settled yet, oldest first."""
        entries = await self._client.hvals(self._key(experiment, "outbox"))
        orders = [msgspec.json.decode(entry, type=Order) for entry in entries]
        return sorted(orders, key=lambda order: (order.decided_at, order.id))
