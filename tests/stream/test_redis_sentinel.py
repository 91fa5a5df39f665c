"""A master that fails while batches are counted, and a replica that takes over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator
from support.feed import Topic, assert_equal, finish, found, pipeline
from support.servers import WatchedRedis, redis_sentinel
from support.servers.base import or_skip
from support.truth import truth_of

from metrics.layout import Keys, Meta
from metrics.reader import Reader
from stream.pipeline import ShardPipeline
from stream.store import Store, StoreUnavailableError


FAR = 4_000_000
PAUSE_S = 0.05


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    with or_skip(), redis_sentinel() as made:
        yield made


@pytest.fixture
async def store(watched: WatchedRedis) -> AsyncIterator[Store]:
    hosts = ",".join(f"{host}:{port}" for host, port in watched.addresses)
    made = Store.at(f"redis+sentinel://{hosts}/{watched.master_name}?socket_timeout=1")
    yield made
    await made.close()


async def read_all(worker: ShardPipeline, topic: Topic, *, start: int = 0) -> int:
    """Count everything, calling again as long as the store does not answer; how often it did not."""
    at, refused = start, 0
    while at < topic.end:
        batch = topic.batch(at, 20)
        try:
            report = await worker.process(batch)
        except StoreUnavailableError:
            refused += 1
            await asyncio.sleep(PAUSE_S)
            continue
        # A replica that had not got everything is behind: go back to where it is.
        at = batch.next_position if report.rewind is None else report.rewind[topic.name]
    return refused


async def test_the_master_s_failure_is_survived_and_every_event_is_counted_once(
    watched: WatchedRedis, store: Store
) -> None:
    records = Generator(2).records(300)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 100))
    watched.master.kill()
    refused = await read_all(worker, topic, start=100)
    assert refused > 0
    await finish(worker, topic, complete_to=BASE + FAR)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    assert_equal(await found(store), truth)
    fleet = await Reader(store.client, store.deployment).read(EXPERIMENTS)
    assert fleet.tallies == truth.tallies


async def test_a_master_that_became_a_replica_is_left_at_the_first_refusal(
    watched: WatchedRedis, store: Store
) -> None:
    async def commit(seq: int) -> None:
        async with store.session(0) as session:
            await session.begin()
            await session.commit(Meta(seq=seq), [])

    async def stored() -> bytes | None:
        try:
            with watched.replica.client() as client:
                role = client.info("replication")["role"]
                meta: bytes | None = client.get(Keys("default", 0).meta)
        except RedisConnectionError:  # the sentinel cuts all connections when it gives another role
            return None
        return meta if role == "master" else None

    await asyncio.gather(*(commit(1) for _ in range(5)), return_exceptions=True)
    await switch(watched)
    for _ in range(400):
        with contextlib.suppress(StoreUnavailableError):
            await commit(2)
        if await stored() == b'{"seq":2}':
            break
        await asyncio.sleep(PAUSE_S)
    assert await stored() == b'{"seq":2}'


async def switch(watched: WatchedRedis) -> None:
    """Let master and replica change places, as for maintenance."""
    with watched.sentinel.client() as client:
        for _ in range(200):
            try:
                client.execute_command("SENTINEL FAILOVER", watched.master_name)
            except ResponseError:  # it has not heard of the replica's state yet
                await asyncio.sleep(PAUSE_S)
            else:
                return


async def test_a_master_that_the_sentinels_do_not_know_is_told_by_name(
    watched: WatchedRedis,
) -> None:
    host, port = watched.addresses[0]
    store = Store.at(f"redis+sentinel://{host}:{port}/nobody")
    with pytest.raises(StoreUnavailableError, match="No master found for 'nobody'"):
        async with store.session(0):
            pass
    await store.close()


async def test_sentinels_that_are_not_there_are_told() -> None:
    store = Store.at("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main")
    with pytest.raises(StoreUnavailableError, match="No master found"):
        async with store.session(0):
            pass
    await store.close()


async def test_the_master_behind_the_sentinels_has_nothing_to_complain_of(store: Store) -> None:
    assert await store.problems() == []
