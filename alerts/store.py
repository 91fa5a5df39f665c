"""Where judgement is kept: book, audit trail and outbox of each experiment in Redis. This module does I/O.

They share one hash tag, so that a decision, the entry in the audit trail and the order to act are written
in one atomic step, or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import redis.asyncio
from redis.exceptions import WatchError

from alerts.book import Book, Decision
from alerts.keys import experiment_key
from alerts.order import Order


class StaleBookError(Exception):
    """Somebody else has changed the book; nothing was written."""


class TakenOverError(StaleBookError):
    """Another monitor has the lease; nothing was written."""


class AlertStore:
    """The judgement of all experiments of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self._client, self._deployment = client, deployment

    def _key(self, experiment: str, name: str) -> str:
        return experiment_key(self._deployment, experiment, name)

    async def load(self, experiment: str) -> Book:
        """The book, an empty one where there is none."""
        packed = await self._client.get(self._key(experiment, "book"))
        return msgspec.json.decode(packed, type=Book) if packed else Book()

    async def refresh(self, books: Mapping[str, Book]) -> dict[str, Book | msgspec.MsgspecError]:
        """The books of the same experiments as they are now; those that did not change are not fetched.

        An error stands for one that cannot be understood.
        """
        versions = await self._all([("get", self._key(name, "version")) for name in books])
        changed = [
            name
            for (name, book), version in zip(books.items(), versions, strict=True)
            if int(version or 0) != book.version
        ]
        packed = await self._all([("get", self._key(name, "book")) for name in changed])
        fresh = {name: _decoded(one) for name, one in zip(changed, packed, strict=True)}
        return {**books, **fresh}

    async def _all(self, commands: Iterable[tuple[str, str]]) -> list[Any]:
        """The answers to many commands, in one round trip (to each node of a cluster)."""
        async with self._client.pipeline(transaction=False) as pipe:
            for command, key in commands:
                getattr(pipe, command)(key)
            return await pipe.execute()

    async def save(
        self,
        experiment: str,
        book: Book,
        *,
        decisions: Sequence[Decision] = (),
        orders: Sequence[Order] = (),
        settled: Sequence[str] = (),
        evidence: Mapping[str, bytes] | None = None,
        fence: int | None = None,
    ) -> Book:
        """Write the book and what goes with it; returns the book as it is now stored.

        `orders` go into the outbox, the orders with the ids `settled` out of it; `evidence` is what
        decisions rest on, by their ids. Raises StaleBookError unless `book` was made from the stored one
        and TakenOverError unless `fence`, the writer's token, is the newest (None: a person's word, which
        needs no lease).
        """
        fresh = msgspec.structs.replace(book, version=book.version + 1)
        pipe = self._client.pipeline(transaction=True)
        async with pipe:
            await self._guard(pipe, experiment, book.version, fence)
            pipe.multi()  # type: ignore[no-untyped-call]  # as redis-py has it
            self._write(pipe, experiment, fresh, decisions, orders, evidence or {})
            if settled:
                pipe.hdel(self._key(experiment, "outbox"), *settled)
            try:
                await pipe.execute()
            except WatchError as error:
                raise StaleBookError(f"{experiment}: changed while it was written") from error
        return fresh

    async def _guard(self, pipe: Any, experiment: str, version: int, fence: int | None) -> None:
        """Watch the book's version and the fence; raises where they are not as expected."""
        keys = [self._key(experiment, name) for name in ("version", "fence")]
        await pipe.watch(*keys)
        stored, newest = [int(await pipe.get(key) or 0) for key in keys]
        if fence is not None and newest != fence:
            raise TakenOverError(f"{experiment}: another monitor has taken over (fence {newest})")
        if stored != version:
            raise StaleBookError(f"{experiment}: expected version {version}, found {stored}")

    def _write(
        self,
        pipe: Any,
        experiment: str,
        book: Book,
        decisions: Iterable[Decision],
        orders: Iterable[Order],
        evidence: Mapping[str, bytes],
    ) -> None:
        pipe.set(self._key(experiment, "version"), book.version)
        pipe.set(self._key(experiment, "book"), msgspec.json.encode(book))
        for decision in decisions:
            pipe.rpush(self._key(experiment, "audit"), msgspec.json.encode(decision))
        for order in orders:
            pipe.hset(self._key(experiment, "outbox"), order.id, msgspec.json.encode(order))
        for name, packed in evidence.items():
            pipe.hset(self._key(experiment, "evidence"), name, packed)

    async def put_back(
        self,
        experiment: str,
        book: Book,
        version: int,
        *,
        decisions: Sequence[Decision] = (),
        evidence: Mapping[str, bytes] | None = None,
        orders: Sequence[Order] = (),
        fence: int | None = None,
    ) -> Book:
        """Write what a store that lost something once held, over the book with `version` (0: none).

        `orders` are those that are still open. Raises as `save` does where it holds another version.
        """
        fresh = msgspec.structs.replace(book, version=max(book.version, version) + 1)
        pipe = self._client.pipeline(transaction=True)
        async with pipe:
            await self._guard(pipe, experiment, version, fence)
            pipe.multi()  # type: ignore[no-untyped-call]  # as redis-py has it
            pipe.delete(*(self._key(experiment, name) for name in ("audit", "outbox")))
            self._write(pipe, experiment, fresh, decisions, orders, evidence or {})
            try:
                await pipe.execute()
            except WatchError as error:
                raise StaleBookError(f"{experiment}: changed while it was put back") from error
        return fresh

    async def decisions(self, experiment: str, newest: int = 100) -> list[Decision]:
        """The newest decisions (at least one is asked for), oldest first."""
        entries = await self._client.lrange(self._key(experiment, "audit"), -newest, -1)
        return [msgspec.json.decode(entry, type=Decision) for entry in entries]

    async def decision(self, experiment: str, name: str) -> Decision | None:
        """The decision with the id `name`, None where there is none."""
        every = reversed(await self._client.lrange(self._key(experiment, "audit"), 0, -1))
        decoded = (msgspec.json.decode(entry, type=Decision) for entry in every)
        return next((decision for decision in decoded if decision.id == name), None)

    async def evidence(self, experiment: str, decision: str) -> bytes | None:
        """What a decision rests on, as it was given to `save`; None where nothing was."""
        found: Any = await self._client.hget(self._key(experiment, "evidence"), decision)
        return None if found is None else bytes(found)

    async def logged(self, experiment: str) -> int:
        """How many decisions are in the control log, as far as `note_logged` was told."""
        return int(await self._client.get(self._key(experiment, "logged")) or 0)

    async def note_logged(self, experiment: str, decisions: int) -> None:
        """Remember that so many decisions are in the control log."""
        await self._client.set(self._key(experiment, "logged"), decisions)

    async def told(self, experiment: str) -> str:
        """The newest decision that people were told of, as far as `note_told` was told; "" for none."""
        found: Any = await self._client.get(self._key(experiment, "told"))
        return bytes(found).decode() if found else ""

    async def note_told(self, experiment: str, decision: str) -> None:
        """Remember that people were told of all decisions up to this one."""
        await self._client.set(self._key(experiment, "told"), decision)

    async def outbox(self, experiment: str) -> list[Order]:
        """Orders that are not settled yet, oldest first."""
        entries = await self._client.hvals(self._key(experiment, "outbox"))
        orders = [msgspec.json.decode(entry, type=Order) for entry in entries]
        return sorted(orders, key=lambda order: (order.decided_at, order.id))


def _decoded(packed: bytes | None) -> Book | msgspec.MsgspecError:
    try:
        return msgspec.json.decode(packed, type=Book) if packed else Book()
    except msgspec.MsgspecError as error:
        return error
