"""What is wrong with how a Redis is set up. This module does I/O."""

from collections.abc import Mapping
from typing import Any

import redis.asyncio
from redis.exceptions import NoPermissionError, ResponseError

from stream.redis_clients import ClusterClient


OLDEST = (7, 0)


async def problems(client: "redis.asyncio.Redis") -> list[str]:
    """In words, a line each; nothing where Redis does not tell.

    Raises redis.exceptions.RedisError when it does not answer.
    """
    try:
        if isinstance(client, ClusterClient):
            found = await client.info(target_nodes=ClusterClient.PRIMARIES)
            # One master answers for itself, several in a mapping by name.
            nodes = found if all(isinstance(one, dict) for one in found.values()) else {"": found}
        else:
            nodes = {"": await client.info()}
    except (NoPermissionError, ResponseError):
        return []  # a managed Redis may hide it, and so may its access control
    return [
        f"Redis{f' at {name}' if name else ''}: {problem}"
        for name, info in nodes.items()
        for problem in _of_one(info)
    ]


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
