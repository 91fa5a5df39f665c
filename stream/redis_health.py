"""What is wrong with a Redis, in words: with how it is set up, or with its answer. This module does I/O."""

from collections.abc import Mapping
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.redis_clients import MOVING, ClusterClient


OLDEST = (7, 0)


async def problems(client: "redis.asyncio.Redis") -> list[str]:
    """In words, a line each; nothing where Redis does not tell.

    Raises redis.exceptions.RedisError when it does not answer.
    """
    try:
        nodes = await infos(client)
    except ResponseError:
        return []  # a managed Redis may hide it, and so may its access control
    return [
        f"Redis{f' at {name}' if name else ''}: {problem}"
        for name, info in nodes.items()
        for problem in _of_one(info)
    ]


async def infos(client: "redis.asyncio.Redis") -> dict[str, dict[str, Any]]:
    """What INFO tells of each master, by host:port; by "" where there is only one.

    Raises redis.exceptions.RedisError.
    """
    if not isinstance(client, ClusterClient):
        return {"": await client.info()}
    found: dict[str, Any] = await client.info(target_nodes=ClusterClient.PRIMARIES)
    # One master answers for itself, several in a mapping by name.
    return found if all(isinstance(one, dict) for one in found.values()) else {"": found}


def in_words(error: Exception) -> str:
    """What an error of redis-py, or an OSError, means."""
    # On a socket of this machine redis-py says it with another error.
    if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
        return f"Redis refused the user or the password in its address: {error}"
    if isinstance(error, NoPermissionError):
        return f"Redis refused: the user in its address may not do this: {error}"
    if isinstance(error, MovedError):
        return (
            "Redis refused: another node of the cluster has the key; the address of a Redis Cluster"
            f" begins with redis+cluster:// or rediss+cluster://: {error}"
        )
    if isinstance(error, MOVING):
        return f"Redis refused: the shard's keys are moving to another node: {error}"
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        return f"Redis does not answer: {error}"
    return f"Redis refused: {error}"


def _of_one(info: Mapping[str, Any]) -> list[str]:
    found = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"maxmemory-policy is {policy}: when memory is full, counts disappear without a word;"
            " set it to noeviction"
        )
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST:
        found.append(f"it is version {version}; 7.0 or newer is needed")
    if info.get("role") == "slave":
        found.append("it is a replica, and refuses what is written; give the master's address")
    return found
