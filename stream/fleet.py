"""What the shards of a deployment share: their number, and how far they are. This module does I/O (Redis)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from metrics.layout import Keys, decode_meta, partitions_key, shards_key
from stream.redis_health import in_words
from stream.store import Store, StoreUnavailableError


@dataclass(frozen=True, slots=True)
class FleetClock:
    """How far the shards of a deployment are; epoch ms, None where nothing is known."""

    last_outcome: int | None = None
    """The latest time of an outcome in any shard."""
    watermark: int | None = None
    """The lowest watermark."""


class PartitionsChangedError(Exception):
    """The topics do not have as many partitions as when counting began."""


async def fleet_clock(store: Store) -> FleetClock:
    """Ask every shard. Raises StoreUnavailableError."""
    told, marks = list[int](), list[int]()
    with _told():
        for number in await store.client.smembers(shards_key(store.deployment)):
            packed: Any = await store.client.get(Keys(store.deployment, int(number)).meta)
            meta = decode_meta(packed)
            told += [] if meta.last_outcome is None else [meta.last_outcome]
            marks += [] if meta.watermark is None else [meta.watermark]
    return FleetClock(max(told, default=None), min(marks, default=None))


async def remembered(store: Store, shards: Iterable[int]) -> dict[int, int]:
    """How many predictions each shard remembers. Raises StoreUnavailableError."""
    with _told():
        keys = {shard: Keys(store.deployment, shard).pending for shard in shards}
        return {shard: int(await store.client.hlen(key)) for shard, key in keys.items()}


async def agree_on_partitions(store: Store, count: int) -> None:
    """Write down how many partitions the topics have, or compare with what was written down.

    An id that was counted in one partition would come in another one after the number has changed. Raises
    PartitionsChangedError and StoreUnavailableError.
    """
    with _told():
        key = partitions_key(store.deployment)
        await store.client.set(key, count, nx=True)
        stored = int(await store.client.get(key) or count)
    if stored != count:
        raise PartitionsChangedError(
            f"the topics have {count} partitions, but deployment {store.deployment!r} was counted with"
            f" {stored}: events of one id may now lie in different partitions, and would be counted wrong."
            " To count everything anew from the log, use another `deployment:` name, after `abmonitor rekey`"
            " into a topic of the new size"
        )


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the client raises into what those who ask here expect."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(in_words(error)) from error
