"""Clients of a Redis Cluster and of Redis with Sentinel. This module does I/O.

Both know where a key's master is, and can be told to doubt it. redis-py's own client of a cluster closes
connections that others are using, and repeats transactions on new connections without their watch; so what
must be atomic has pools of its own here.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


T = TypeVar("T")

MOVING = (AskError, ClusterDownError, TryAgainError)
"""The key is elsewhere (MOVED is an AskError), on its way, or nowhere."""
DOUBTS = (*MOVING, ReadOnlyError, RedisConnectionError, RedisTimeoutError, OSError)
"""Errors after which another node may have the keys."""


class SentinelClient(redis.asyncio.Redis):
    """A client of the master that the sentinels name."""

    async def doubt(self) -> None:
        """Ask the sentinels again before the next use."""
        with contextlib.suppress(RedisError, OSError):
            await self.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to the master and to the sentinels."""
        await super().aclose(close_connection_pool)
        await self.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]


class ClusterClient(redis.asyncio.RedisCluster):
    """A client of a Redis Cluster. All that it raises for Redis' sake are RedisErrors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pools: dict[str, redis.asyncio.ConnectionPool] = {}
        # redis-py forgets the given addresses for those that nodes have now; names outlive those.
        self._given = [(node.host, node.port) for node in self.startup_nodes]
        self._doubts, self._settled = 1, 0
        self._looking = asyncio.Lock()

    async def doubt(self) -> None:
        """Ask which node has which slot before the next use."""
        self._doubts += 1

    async def pool_of(self, key: str) -> "redis.asyncio.ConnectionPool":
        """Connections to the node that has this key, which nobody else closes."""
        if self._settled < self._doubts:
            async with self._looking:
                if self._settled < self._doubts:
                    await self._look_around()
        with _told():
            node = self.nodes_manager.get_node_from_slot(self.keyslot(key))
        if node.name not in self._pools:
            self._pools[node.name] = _pool(node)
        return self._pools[node.name]

    async def _look_around(self) -> None:
        doubts = self._doubts
        await self.initialize()
        try:
            with _told():
                await self.nodes_manager.initialize()
        except RedisError:
            self._ask_the_given_ones()
            raise
        self._settled = doubts
        gone = self._pools.keys() - {node.name for node in self.get_nodes()}
        for name in gone:
            with contextlib.suppress(RedisError, OSError):
                await self._pools.pop(name).disconnect()

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> "ClusterClient":
        """Find the nodes, unless they are known."""
        try:
            with _told():
                await super().initialize(additional_startup_nodes_info, last_failed_node_name)
        except RedisError:
            self._ask_the_given_ones()
            raise
        return self

    def _ask_the_given_ones(self) -> None:
        manager = self.nodes_manager
        nodes = [ClusterNode(host, port, **self.connection_kwargs) for host, port in self._given]
        manager.set_nodes(manager.startup_nodes, {node.name: node for node in nodes})

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to where its key is, again where the key has moved."""
        with _told():
            return await super().execute_command(*args, **options)

    def pipeline(  # type: ignore[override]  # redis-py's is not a Pipeline
        self, transaction: bool | None = None, shard_hint: object = None
    ) -> "Pipeline | _Scattered":
        """A transaction on keys of one slot, with the promises of one on a single Redis.

        `transaction=False`: commands on keys of any slots, all nodes at once, with no promise at all.
        """
        if transaction is None or shard_hint is not None:
            raise ValueError("expected transaction=True or False, and nothing else")
        return _ClusterPipeline(self) if transaction else _Scattered(self)  # type: ignore[abstract]  # so is redis-py's

    async def aclose(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()
        await super().aclose()
        # redis-py leaves these open when it happens to be looking for the nodes.
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")


class _Scattered(ClusterPipeline):
    """Commands to many nodes; what fails is told as on a single Redis."""

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Send all commands, each to where its key is."""
        with _told():
            return await super().execute(raise_on_error, allow_redirections)


class _ClusterPipeline(Pipeline):
    """A Pipeline on a connection to the node that has the keys of the first command."""

    def __init__(self, cluster: ClusterClient) -> None:
        super().__init__(None, cluster.response_callbacks, True, None)  # type: ignore[arg-type]
        self._cluster = cluster

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, such as WATCH, now."""
        send: Any = super().immediate_execute_command
        return await self._routed(args, lambda: send(*args, **options))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands as one transaction."""
        first = self.command_stack[0][0] if self.command_stack else ()
        send = super().execute
        return await self._routed(first, lambda: send(raise_on_error))

    async def _routed(self, first: tuple[Any, ...], send: Callable[[], Awaitable[T]]) -> T:
        try:
            if self.connection is None and first:
                self.connection_pool = await self._cluster.pool_of(first[1])
            return await send()
        except DOUBTS:
            await self._cluster.doubt()
            raise


def _pool(node: ClusterNode) -> "redis.asyncio.ConnectionPool":
    return redis.asyncio.ConnectionPool(
        connection_class=node.connection_class, **node.connection_kwargs
    )


@contextlib.contextmanager
def _told() -> Any:
    """Raise what redis-py says of a cluster as the RedisError that is behind it."""
    try:
        yield
    except RedisClusterException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, RedisError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, AuthenticationError):
            raise cause from None
        behind = f" ({cause})" if cause is not None else ""
        raise RedisConnectionError(f"{error}{behind}") from error
