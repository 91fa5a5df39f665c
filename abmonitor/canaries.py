"""Which revision of a canary a treatment's epoch judges, and what Flagger told of it. This module does I/O (Redis).

A verdict is about what was judged. So the first revision that is seen in an epoch is remembered, and no other
one is ever promoted or taken back by that verdict; a new epoch may belong to another one.
"""

from typing import Any

import msgspec
import redis.asyncio

from alerts.keys import experiment_key


KEPT = 200
"""Events of an experiment that are kept; the oldest go first."""


class Canary(msgspec.Struct, frozen=True):
    """A revision that Flagger moves traffic to."""

    name: str
    namespace: str
    checksum: str
    """Flagger's hash of the pods' template and of the configuration that they read."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What Flagger said that it did."""

    at: int
    """When it came (epoch ms)."""
    name: str
    namespace: str
    phase: str
    checksum: str
    message: str
    kind: str
    """Flagger's own word for how serious it is."""
    sent: str
    """When it was sent, as Flagger says it (epoch ms)."""


class Canaries:
    """The canaries of all experiments of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self._client, self._deployment = client, deployment

    async def bound(self, experiment: str, treatment: str, epoch: int) -> Canary | None:
        """The revision that the epoch belongs to, None where none was seen. Raises what Redis raises."""
        packed: Any = await self._client.hget(self._bindings(experiment), _field(treatment, epoch))
        return None if packed is None else msgspec.json.decode(packed, type=Canary)

    async def bind(self, experiment: str, treatment: str, epoch: int, canary: Canary) -> Canary:
        """Let the epoch belong to `canary` unless it belongs to another one; returns whose it is.

        Raises what Redis raises.
        """
        key, field = self._bindings(experiment), _field(treatment, epoch)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, field, msgspec.json.encode(canary))
            pipe.hget(key, field)
            _, packed = await pipe.execute()
        return msgspec.json.decode(packed, type=Canary)

    async def note(self, experiment: str, event: Event) -> None:
        """Add an event to the trail. Raises what Redis raises."""
        key = experiment_key(self._deployment, experiment, "canary_events")
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(key, msgspec.json.encode(event))
            pipe.ltrim(key, -KEPT, -1)
            await pipe.execute()

    async def events(self, experiment: str, newest: int = KEPT) -> list[Event]:
        """The newest events (at least one is asked for), oldest first. Raises what Redis raises."""
        key = experiment_key(self._deployment, experiment, "canary_events")
        entries: Any = await self._client.lrange(key, -newest, -1)
        return [msgspec.json.decode(entry, type=Event) for entry in entries]

    def _bindings(self, experiment: str) -> str:
        return experiment_key(self._deployment, experiment, "canaries")


def _field(treatment: str, epoch: int) -> str:
    return f"{epoch}:{treatment}"
