"""The store: guarded sessions on one shard's keys in Redis. This module does I/O.

One class over the clients of redis.asyncio (one Redis, Sentinel, Cluster) and, embedded, fakeredis. A
session speaks on one connection, because WATCH belongs to a connection, and sends many commands in one
round trip.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import msgspec
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from metrics.layout import Keys, Meta, decode_meta, shards_key
from stream.redis_address import client_at
from stream.redis_clients import DOUBTS, ClusterClient, SentinelClient
from stream.redis_health import in_words, problems
from stream.resp import Command, pack


PIECE = 4_096
"""Bytes that are sent at a time: the embedded server's parser copies all that it was given, a field."""


class StoreUnavailableError(Exception):
    """Redis cannot be reached, or did not answer; what was sent may or may not have been done."""


class ConflictError(Exception):
    """Somebody else has committed to the shard since the session began; nothing was written."""


class Session:
    """One guarded read-and-write of a shard."""

    def __init__(self, connection: AbstractConnection, keys: Keys) -> None:
        self._connection = connection
        self.keys = keys

    async def begin(self, *reads: Command) -> tuple[Meta, list[Any]]:
        """Watch the shard, then read its meta and whatever else, in one round trip."""
        _, meta, *replies = await self._exchange(
            ("WATCH", self.keys.meta), ("GET", self.keys.meta), *reads
        )
        return decode_meta(meta), replies

    async def read(self, *reads: Command) -> list[Any]:
        """Further reads under the same watch."""
        return await self._exchange(*reads) if reads else []

    async def commit(self, meta: Meta, writes: Sequence[Command]) -> None:
        """Write everything and the new meta in one transaction.

        Raises ConflictError when the shard was changed since `begin`; then nothing was written.
        """
        packed = msgspec.json.encode(meta)
        replies = await self._exchange(
            ("MULTI",), *writes, ("SET", self.keys.meta, packed), ("EXEC",)
        )
        if replies[-1] is None:
            raise ConflictError(f"shard {self.keys.shard} was changed by another worker")
        for reply in replies[-1]:
            if isinstance(reply, Exception):
                raise reply

    async def _exchange(self, *commands: Command) -> list[Any]:
        connection = self._connection
        if not connection.is_connected:
            # Sending would connect anew, and what was watched would not be watched any more.
            raise RedisConnectionError("the connection of the session was closed")
        packed = b"".join(map(pack, commands))
        pieces = [packed[at : at + PIECE] for at in range(0, len(packed), PIECE)]
        # A health check would connect anew, too, without a word.
        await connection.send_packed_command(pieces, check_health=False)
        replies, failure = [], None
        for _ in commands:
            try:
                replies.append(await connection.read_response(disable_decoding=True))
            except ResponseError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return replies


class Store:
    """All shards of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self.client = client
        self.deployment = deployment

    @classmethod
    def embedded(cls, deployment: str = "default") -> "Store":
        """A store in this process' memory, gone when it ends."""
        return cls(fakeredis.FakeAsyncRedis(protocol=2), deployment)

    @classmethod
    def at(cls, url: str, deployment: str = "default") -> "Store":
        """A store in the Redis at `url`, such as redis://127.0.0.1:6379/0.

        `stream.redis_address` lists all forms. Raises ValueError, which does not repeat the address.
        """
        return cls(client_at(url), deployment)

    @asynccontextmanager
    async def session(self, shard: int) -> AsyncIterator[Session]:
        """A session on one shard.

        Raises StoreUnavailableError when Redis fails in it. Whatever happens inside, the watch ends
        with the session.
        """
        keys = Keys(self.deployment, shard)
        connection = None
        try:
            pool = await self._pool(keys.meta)
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's
            yield Session(connection, keys)
        except (RedisError, OSError) as error:
            if isinstance(error, DOUBTS) and isinstance(
                self.client, SentinelClient | ClusterClient
            ):
                await self.client.doubt()
            raise StoreUnavailableError(in_words(error)) from error
        finally:
            if connection is not None:
                await self._put_back(pool, connection)

    async def _pool(self, key: str) -> ConnectionPool:
        """Connections to where this key is."""
        if isinstance(self.client, ClusterClient):
            return await self.client.pool_of(key)
        return self.client.connection_pool

    async def _put_back(self, pool: ConnectionPool, connection: AbstractConnection) -> None:
        """Return a connection without a watch and without unread replies."""
        clean = False
        try:
            if connection.is_connected:
                await connection.send_command("UNWATCH", check_health=False)
                await connection.read_response()
                clean = True
        except (RedisError, OSError):
            pass  # it is closed below; whoever used it has been told already, or had finished
        finally:
            if not clean:
                await connection.disconnect()
            await pool.release(connection)

    async def problems(self) -> list[str]:
        """What is wrong with how Redis is set up, in words; what Redis does not tell is left out.

        Raises StoreUnavailableError when Redis does not answer.
        """
        try:
            return await problems(self.client)
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(in_words(error)) from error

    async def register(self, shard: int) -> None:
        """Let readers know that the shard exists."""
        await self.client.sadd(shards_key(self.deployment), str(shard))

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
