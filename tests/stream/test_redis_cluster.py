"""A Redis Cluster whose slots move and whose nodes fail while batches are counted."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError
from support.events import BASE, EXPERIMENTS, Generator, Records
from support.feed import Topic, finish, found, pipeline
from support.servers import RedisCluster, redis_cluster
from support.servers.base import or_skip

from alerts.book import Book
from alerts.store import AlertStore
from metrics.layout import Keys, Meta
from metrics.reader import Reader
from stream.redis_clients import ClusterClient
from stream.store import ConflictError, Store, StoreUnavailableError


FAR = 4_000_000
KEYS = Keys("default", 0)


@pytest.fixture(scope="module")
def _cluster() -> Iterator[RedisCluster]:
    with or_skip(), redis_cluster() as made:
        yield made


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    _cluster.empty()
    return _cluster


def address(cluster: RedisCluster) -> str:
    return "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in cluster.addresses)


@pytest.fixture
async def store(cluster: RedisCluster) -> AsyncIterator[Store]:
    made = Store.at(address(cluster))
    yield made
    await made.close()


class Move:
    """A slot on its way from the node that has it to another one."""

    def __init__(self, cluster: RedisCluster, key: str) -> None:
        self.slot = key_slot(key.encode())
        self._clients: list[Any] = [node.client() for node in cluster.nodes]
        self._ids = [client.execute_command("CLUSTER MYID").decode() for client in self._clients]
        self._ports = [node.port for node in cluster.nodes]
        ranges = self._clients[0].execute_command("CLUSTER SLOTS")
        (owner,) = (node for first, last, node, *_ in ranges if first <= self.slot <= last)
        self._source = self._ports.index(owner[1])
        self._target = (self._source + 1) % len(self._clients)

    def begin(self) -> None:
        source, target = self._clients[self._source], self._clients[self._target]
        set_slot = ("CLUSTER SETSLOT", self.slot)
        target.execute_command(*set_slot, "IMPORTING", self._ids[self._source])
        source.execute_command(*set_slot, "MIGRATING", self._ids[self._target])

    def some(self, count: int) -> bool:
        """Move some keys; whether there were any."""
        source = self._clients[self._source]
        keys = source.execute_command("CLUSTER GETKEYSINSLOT", self.slot, count)
        if keys:
            port = self._ports[self._target]
            source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        return bool(keys)

    def end(self) -> None:
        while self.some(100):
            pass
        for index in (self._target, self._source):
            self._clients[index].execute_command(
                "CLUSTER SETSLOT", self.slot, "NODE", self._ids[self._target]
            )
        for client in self._clients:
            client.close()


async def undisturbed(records: Records) -> tuple[object, ...]:
    store = Store.embedded()
    worker, topic = pipeline(store), Topic.of(records)
    await worker.process(topic.batch(0, 10_000))
    await finish(worker, topic, complete_to=BASE + FAR)
    counted = (await found(store)).counted
    await store.close()
    return counted


@pytest.mark.parametrize("seed", range(3))
async def test_a_slot_that_moves_in_mid_stream_changes_no_count(
    cluster: RedisCluster, store: Store, seed: int
) -> None:
    records, rnd = Generator(seed).records(300), random.Random(seed)
    topic, worker, at, refused = Topic.of(records), pipeline(store), 0, 0
    moves: list[Move] = []
    while at < topic.end:
        if rnd.random() < 0.5 and not moves:
            moves.append(Move(cluster, KEYS.meta))
            moves[0].begin()
        elif moves and (not moves[0].some(rnd.randint(1, 8)) or rnd.random() < 0.3):
            moves.pop().end()
        batch = topic.batch(at, rnd.randint(1, 25))
        try:
            await worker.process(batch)
            at = batch.next_position
        except StoreUnavailableError as error:
            refused += "moving" in str(error)
    if moves:
        moves.pop().end()
    while True:
        try:
            await finish(worker, topic, complete_to=BASE + FAR)
            break
        except StoreUnavailableError:
            continue
    assert refused > 0
    assert (await found(store)).counted == await undisturbed(records)


async def test_a_slot_that_moves_under_a_session_refuses_its_commit(
    cluster: RedisCluster, store: Store
) -> None:
    async def moved() -> None:
        async with store.session(0) as session:
            await session.begin()
            move = Move(cluster, KEYS.meta)
            move.begin()
            move.end()
            await session.commit(Meta(seq=1), [("SET", KEYS.key("a"), "1")])

    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="another node"):
            await moved()
    async with store.session(0) as session:
        meta, _ = await session.begin()
        assert meta == Meta()
        await session.commit(Meta(seq=1), [])
    assert (await store.client.get(KEYS.meta)) is not None


async def test_a_slot_that_moved_there_and_back_under_a_session_is_a_refusal_too(
    cluster: RedisCluster, store: Store
) -> None:
    async with store.session(0) as session:
        await session.begin()
        await session.commit(Meta(seq=1), [])

    async def moved() -> None:
        async with store.session(0) as session:
            await session.begin()
            for _ in cluster.nodes:
                move = Move(cluster, KEYS.meta)
                move.begin()
                move.end()
            await session.commit(Meta(seq=2), [])

    with pytest.raises(
        (ConflictError, StoreUnavailableError), match=r"was changed by another worker|moving"
    ):
        await moved()
    async with store.session(0) as session:
        assert (await session.begin())[0] == Meta(seq=1)


async def test_readers_follow_slots_that_move(cluster: RedisCluster, store: Store) -> None:
    records = Generator(1).records(100)
    worker, topic = pipeline(store), Topic.of(records)
    await worker.process(topic.batch(0, 1000))
    reader = Reader(store.client, store.deployment)
    before = await reader.read(EXPERIMENTS)
    move = Move(cluster, KEYS.meta)
    move.begin()
    move.end()
    with pytest.raises(RedisError):
        await reader.read(EXPERIMENTS)
    after = await reader.read(EXPERIMENTS)
    fresh = await Reader(store.client, store.deployment).read(EXPERIMENTS)
    assert before.tallies == after.tallies == fresh.tallies
    assert after.shards == 1


async def test_the_book_is_guarded_on_a_cluster(cluster: RedisCluster, store: Store) -> None:
    alerts = AlertStore(store.client, "default")
    book = await alerts.save("offers", Book())
    move = Move(cluster, "{default:experiment:offers}:book")
    move.begin()
    move.end()
    with pytest.raises(RedisError):
        await alerts.save("offers", book)
    assert (await alerts.save("offers", book)).version == 2
    assert (await alerts.load("offers")).version == 2


async def test_a_transaction_on_a_cluster_sees_who_wrote_in_between(store: Store) -> None:
    async with store.client.pipeline(transaction=True) as pipe:
        await pipe.watch(KEYS.meta)
        assert await pipe.get(KEYS.meta) is None
        await store.client.set(KEYS.meta, "other")
        pipe.multi()  # type: ignore[no-untyped-call]
        pipe.set(KEYS.meta, "mine")
        with pytest.raises(WatchError):
            await pipe.execute()
    assert await store.client.get(KEYS.meta) == b"other"


async def test_what_a_pipeline_is_for_must_be_said_on_a_cluster(store: Store) -> None:
    with pytest.raises(ValueError, match="transaction=True or False"):
        store.client.pipeline(transaction=None)  # type: ignore[arg-type]


async def test_commands_on_many_slots_are_sent_at_once(store: Store) -> None:
    async with store.client.pipeline(transaction=False) as pipe:
        for number in range(40):
            pipe.set(f"key-{number}", number)
        await pipe.execute()
        for number in range(40):
            pipe.get(f"key-{number}")
        assert await pipe.execute() == [str(number).encode() for number in range(40)]


async def test_what_others_do_to_the_cluster_s_client_does_not_touch_a_session(
    store: Store,
) -> None:
    async with store.session(0) as session:
        await session.begin()
        assert isinstance(store.client, ClusterClient)
        await store.client.nodes_manager.aclose()  # what redis-py does when a node says CLUSTERDOWN
        await store.client.doubt()
        await store.client.set("something", "else")
        await session.commit(Meta(seq=1), [])
    assert await store.client.get(KEYS.meta) is not None


async def test_a_connection_closed_under_a_session_is_never_made_anew(store: Store) -> None:
    async def commit() -> None:
        async with store.session(0) as session:
            await session.begin()
            await session._connection.disconnect()
            await session.commit(Meta(seq=1), [])

    with pytest.raises(StoreUnavailableError, match="was closed"):
        await commit()
    assert await store.client.get(KEYS.meta) is None


async def test_a_node_that_stops_and_comes_back_costs_nothing_but_time(
    cluster: RedisCluster, store: Store
) -> None:
    records = Generator(5).records(120)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 60))
    slot = key_slot(KEYS.meta.encode())
    assert isinstance(store.client, ClusterClient)
    port = store.client.nodes_manager.get_node_from_slot(slot).port
    (node,) = (node for node in cluster.nodes if node.port == port)
    with node.client() as client:
        kept = {key: client.dump(key) for key in client.scan_iter()}
    node.kill()
    with pytest.raises(StoreUnavailableError):
        await worker.process(topic.batch(0, 1000))
    node.start()
    for _ in range(200):  # until the others see it again
        try:
            with node.client() as client:
                for key, value in kept.items():
                    client.restore(key, 0, value, replace=True)
            break
        except RedisError:
            await asyncio.sleep(0.1)
    for _ in range(200):
        try:
            await worker.process(topic.batch(0, 1000))
            break
        except StoreUnavailableError:
            await asyncio.sleep(0.1)
    await finish(worker, topic, complete_to=BASE + FAR)
    assert (await found(store)).counted == await undisturbed(records)


async def test_a_cluster_that_is_not_there_is_told() -> None:
    store = Store.at("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        async with store.session(0):
            pass
    with pytest.raises(RedisConnectionError):
        await store.client.smembers("x")
    await store.close()


async def test_a_single_redis_is_not_taken_for_a_cluster(redis_url: str) -> None:
    store = Store.at(redis_url.replace("redis://", "redis+cluster://"))
    with pytest.raises(StoreUnavailableError, match="Cluster mode is not enabled"):
        async with store.session(0):
            pass
    await store.close()


async def test_the_nodes_of_a_cluster_answer_for_themselves(
    cluster: RedisCluster, store: Store
) -> None:
    assert await store.problems() == []
    with cluster.nodes[1].client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (problem,) = await store.problems()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert str(cluster.nodes[1].port) in problem
    assert "noeviction" in problem
