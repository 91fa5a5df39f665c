"""Stores that fail, and stores that are set back. This module does I/O.

A session exchanges commands with Redis a few times; each of these exchanges can be intercepted, before it
is sent and after it was answered.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from stream.resp import Command, pack
from stream.store import Session, Store


class KilledError(Exception):
    """The process ended here."""


Hook = Callable[[Sequence[Command]], Awaitable[None]]
"""Called with the commands of an exchange; what it raises ends the process."""


async def nothing(_: Sequence[Command]) -> None:
    """Intercept nothing."""


def is_commit(commands: Sequence[Command]) -> bool:
    """Whether an exchange is the one that commits."""
    return bool(commands[-1][0] == "EXEC")


class _Session(Session):
    def __init__(self, session: Session, store: "HookedStore") -> None:
        super().__init__(session._connection, session.keys)
        self._store = store

    async def _exchange(self, *commands: Command) -> list[Any]:
        await self._store.before(commands)
        if self._store.tears and is_commit(commands):
            half = commands[: len(commands) // 2]
            await self._connection.send_packed_command(b"".join(map(pack, half)))
            await self._connection.disconnect()
            raise KilledError
        replies = await super()._exchange(*commands)
        await self._store.after(commands)
        return replies


class HookedStore(Store):
    """A store whose exchanges can be intercepted."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str = "default") -> None:
        super().__init__(client, deployment)
        self.before: Hook = nothing
        self.after: Hook = nothing
        self.tears = False
        """The process ends when half of a transaction has been sent."""

    def calm(self) -> None:
        """Intercept nothing any more."""
        self.before, self.after, self.tears = nothing, nothing, False

    @asynccontextmanager
    async def session(self, shard: int) -> AsyncIterator[Session]:
        """A session on one shard, with hooks."""
        async with super().session(shard) as session:
            yield _Session(session, self)


class KillAt:
    """Ends the process at the n-th exchange, counted from 0."""

    def __init__(self, at: int) -> None:
        self.left = at

    async def __call__(self, _: Sequence[Command]) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


Copy = dict[bytes, tuple[bytes, Any]]
"""Key: (type, content)."""


async def copy_of(client: "redis.asyncio.Redis") -> Copy:
    """Everything that is stored."""
    copy: Copy = {}
    kind: Any
    content: Any
    async for found in client.scan_iter(count=1000):
        key = bytes(found)
        kind = await client.type(key)
        if kind == b"string":
            content = await client.get(key)
        elif kind == b"hash":
            content = await client.hgetall(key)
        elif kind == b"list":
            content = await client.lrange(key, 0, -1)
        elif kind == b"zset":
            content = await client.zrange(key, 0, -1, withscores=True)
        else:
            content = await client.smembers(key)
        copy[key] = kind, content
    return copy


async def set_back(client: "redis.asyncio.Redis", copy: Copy) -> None:
    """Make the store what it was when `copy` was taken, as a failover to a late replica does."""
    await client.flushdb()
    for key, (kind, content) in copy.items():
        if kind == b"string":
            await client.set(key, content)
        elif kind == b"hash":
            await client.hset(key, mapping=content)
        elif kind == b"list":
            await client.rpush(key, *content)
        elif kind == b"zset":
            await client.zadd(key, dict(content))
        else:
            await client.sadd(key, *content)
