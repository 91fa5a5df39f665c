"""Leases: which monitor may judge and act on an experiment, with fencing tokens. This module does I/O (Redis).

The lease of an experiment is a key with a time to live whose *name* holds the fencing token, beside a key
`fence` with the newest token. So a lease is renewed by one command that cannot touch anybody else's; and
whoever writes states its token, under WATCH of `fence`: one that was frozen and lost its lease writes nothing.
In a store that has lost `fence` the tokens begin anew at a random number: counted from 1 again, the lease of a
monitor from before the loss would have the name of another one's, and be renewed by both.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import redis.asyncio
from redis.exceptions import WatchError

from alerts.keys import experiment_key


logger = logging.getLogger(__name__)

TTL_MS = 3_000
"""A monitor that was silent for so long has lost its leases."""

MARGIN_S = 0.5
"""Before its lease runs out by so much, a monitor no longer takes it for its own: clocks drift, calls take time."""


def _random_token() -> int:
    return secrets.randbelow(1 << 48) + 1


@dataclass(slots=True)
class _Lease:
    token: int
    until: float
    """Monotonic seconds."""


@dataclass(slots=True)
class Leases:
    """The leases of one monitor."""

    client: "redis.asyncio.Redis"
    deployment: str
    holder: str
    """Who holds them, for people."""
    clock: Callable[[], float]
    """Monotonic seconds."""
    ttl_ms: int = TTL_MS
    first: Callable[[], int] = _random_token
    """The token to begin with where the store knows of none."""
    _held: dict[str, _Lease] = field(default_factory=dict)

    def token(self, experiment: str) -> int | None:
        """The fencing token with which this monitor may write; None where it has no lease."""
        lease = self._held.get(experiment)
        if lease is None or self.clock() >= lease.until - MARGIN_S:
            return None
        return lease.token

    def drop(self, experiment: str) -> None:
        """Forget a lease that ran out, or that somebody else was found to have."""
        if self._held.pop(experiment, None) is not None:
            logger.warning("%s: this monitor no longer leads", experiment)

    async def renew(self, experiments: Iterable[str]) -> None:
        """Prolong the leases that are held, and take those that nobody holds. Raises what Redis raises."""
        names = list(experiments)
        held = [name for name in names if name in self._held]
        asked = self.clock()
        async with self.client.pipeline(transaction=False) as pipe:
            for name in held:
                pipe.pexpire(self._key(name, self._held[name].token), self.ttl_ms)
            for answer, name in zip(await pipe.execute(), held, strict=True):
                lease = self._held.get(name)  # it may have been dropped meanwhile
                if answer and lease is not None:
                    lease.until = asked + self.ttl_ms / 1000
                else:
                    self.drop(name)
        await self._take([name for name in names if name not in self._held])

    async def _take(self, names: list[str]) -> None:
        """Take the leases that nobody holds."""
        if not names:
            return
        async with self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(experiment_key(self.deployment, name, "fence"))
            fences = [int(fence or 0) for fence in await pipe.execute()]
            for name, fence in zip(names, fences, strict=True):
                pipe.exists(self._key(name, fence))
            taken = await pipe.execute()
        free = [
            (name, fence)
            for name, fence, alive in zip(names, fences, taken, strict=True)
            if not alive
        ]
        await asyncio.gather(*(self._claim(name, fence) for name, fence in free))

    async def _claim(self, name: str, fence: int) -> None:
        key, asked = experiment_key(self.deployment, name, "fence"), self.clock()
        async with self.client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            if int(await pipe.get(key) or 0) != fence:
                return
            token = fence + 1 if fence else self.first()
            pipe.multi()  # type: ignore[no-untyped-call]  # as redis-py has it
            pipe.set(key, token)
            pipe.set(self._key(name, token), self.holder, px=self.ttl_ms)
            try:
                await pipe.execute()
            except WatchError:  # somebody else was faster
                return
        self._held[name] = _Lease(token, asked + self.ttl_ms / 1000)
        logger.info("%s: this monitor leads", name)

    async def holders(self, experiments: Iterable[str]) -> dict[str, str]:
        """Who holds the lease of each experiment, of those that somebody holds."""
        names = list(experiments)
        async with self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(experiment_key(self.deployment, name, "fence"))
            fences = [int(fence or 0) for fence in await pipe.execute()]
            for name, fence in zip(names, fences, strict=True):
                pipe.get(self._key(name, fence))
            found = await pipe.execute()
        return {name: holder.decode() for name, holder in zip(names, found, strict=True) if holder}

    async def release(self) -> None:
        """Give all leases up, so that a standby need not wait for their end."""
        async with self.client.pipeline(transaction=False) as pipe:
            for name, lease in self._held.items():
                pipe.delete(self._key(name, lease.token))
            self._held.clear()
            await pipe.execute()

    def _key(self, experiment: str, token: int) -> str:
        return experiment_key(self.deployment, experiment, f"lease:{token}")
