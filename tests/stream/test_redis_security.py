"""Getting into a Redis that asks who is there: users, passwords, rights, certificates."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator
from support.feed import Topic, assert_equal, finish, found, pipeline
from support.servers import (
    RedisCluster,
    RedisServer,
    SecuredRedis,
    redis_cluster,
)
from support.servers.base import or_skip
from support.truth import truth_of

from alerts.book import Book
from alerts.store import AlertStore
from metrics.layout import Meta
from metrics.reader import Reader
from stream.store import Store, StoreUnavailableError


FAR = 4_000_000
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(scope="module")
def open_redis() -> Iterator[RedisServer]:
    """A Redis of its own, to which users are added."""
    with or_skip(), RedisServer() as server:
        yield server


@pytest.fixture(scope="module", params=[False, True], ids=["one-sided", "mutual"])
def secured(request: pytest.FixtureRequest) -> Iterator[SecuredRedis]:
    """A Redis with TLS."""
    with or_skip(), SecuredRedis(mutual=request.param) as server:
        yield server


def address(server: SecuredRedis, **different: str) -> str:
    options = {name: str(value) for name, value in server.tls().items()} | different
    return f"{server.url}?" + "&".join(f"{name}={value}" for name, value in options.items())


async def say(store: Store) -> Meta:
    async with store.session(0) as session:
        meta, _ = await session.begin()
        await session.commit(Meta(seq=meta.seq + 1), [])
    return meta


async def refusal(url: str) -> str:
    store = Store.at(url)
    with pytest.raises(StoreUnavailableError) as caught:
        await say(store)
    await store.close()
    await asyncio.sleep(0.1)  # redis-py does not wait until TLS has said good-bye
    return str(caught.value)


# --- TLS ------------------------------------------------------------------------------------------


async def test_the_store_works_over_tls(secured: SecuredRedis) -> None:
    store = Store.at(address(secured))
    before = await say(store)
    assert (await say(store)).seq == before.seq + 1
    assert await store.problems() == []
    await store.close()


async def test_a_redis_with_a_certificate_of_somebody_else_s_is_not_talked_to(
    secured: SecuredRedis,
) -> None:
    other = str(secured.certificates.other_authority)
    told = await refusal(address(secured, ssl_ca_certs=other))
    assert "certificate" in told.lower()
    assert secured.password not in told


async def test_the_system_s_authorities_are_asked_where_none_is_given(
    secured: SecuredRedis,
) -> None:
    assert "certificate" in (await refusal(secured.url)).lower()


async def test_a_wrong_password_is_told_over_tls(secured: SecuredRedis) -> None:
    told = await refusal(address(secured).replace(secured.password, "hunter2"))
    assert "refused the user or the password" in told
    assert "hunter2" not in told


# --- users ----------------------------------------------------------------------------------------


def add_user(server: RedisServer, name: str, *rules: str) -> str:
    with server.client() as client:
        client.execute_command("ACL SETUSER", name, "reset", "on", ">hunter2", *rules)
    return f"redis://{name}:hunter2@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
async def test_a_wrong_password_is_told_and_not_repeated(
    open_redis: RedisServer, scheme: str
) -> None:
    url = add_user(open_redis, "known", "~*", "+@all").replace("hunter2", "wrong-word")
    if scheme != "redis":
        url = url.replace("redis://", f"{scheme}://").replace("/0", "/main?sentinel_password=x")
    told = await refusal(url)
    assert "wrong-word" not in told
    assert "refused the user or the password" in told or "No master found" in told


async def test_a_redis_that_wants_a_password_says_so(open_redis: RedisServer) -> None:
    with open_redis.client() as client:
        client.config_set("requirepass", "hunter2")
        try:
            told = await refusal(open_redis.url)
        finally:
            client.config_set("requirepass", "")
    assert "refused the user or the password" in told


async def test_a_user_without_the_right_to_write_is_told(open_redis: RedisServer) -> None:
    told = await refusal(add_user(open_redis, "reader", "~*", "+@all", "-@write"))
    assert "may not do this" in told
    assert "hunter2" not in told


def documented(name: str) -> list[str]:
    """The rules of the user that the documentation shows."""
    text = DOCUMENT.read_text("utf-8")
    (rules,) = re.findall(
        rf"^ACL SETUSER {name} on >\S+ (.+?)\n```", text, re.MULTILINE | re.DOTALL
    )
    return str(rules).replace("\\\n", " ").split()


@pytest.fixture
async def limited(open_redis: RedisServer) -> AsyncIterator[Store]:
    """A store whose user has only the rights that the documentation names."""
    with open_redis.client() as client:
        client.flushdb()
    store = Store.at(add_user(open_redis, "abmonitor", *documented("abmonitor")))
    yield store
    await store.close()


async def test_the_documented_rights_are_enough(limited: Store, open_redis: RedisServer) -> None:
    records = Generator(1).records(300)
    topic, worker = Topic.of(records), pipeline(limited)
    await worker.process(topic.batch(0, 1000))
    await finish(worker, topic, complete_to=BASE + FAR)
    fleet = await Reader(limited.client, limited.deployment).read(EXPERIMENTS)
    assert fleet.shards == 1
    alerts = AlertStore(limited.client, limited.deployment)
    assert (await alerts.save("offers", Book())).version == 1
    assert await alerts.decisions("offers") == []
    assert await alerts.outbox("offers") == []
    assert await limited.problems() == []
    whole = Store.at(open_redis.url)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    assert_equal(await found(whole), truth)
    await whole.close()


@pytest.mark.parametrize(
    "command", ["FLUSHDB", "KEYS *", "CONFIG GET maxmemory", "GET other", "SET other 1"]
)
async def test_the_documented_rights_are_not_more_than_that(limited: Store, command: str) -> None:
    async def attempt() -> None:
        async with limited.session(0) as session:
            await session.read(tuple(command.split()))

    with pytest.raises(StoreUnavailableError, match="may not do this"):
        await attempt()


# --- users of a cluster ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with or_skip(), redis_cluster() as made:
        yield made


def add_user_everywhere(cluster: RedisCluster, name: str, *rules: str) -> str:
    for node in cluster.nodes:
        add_user(node, name, *rules)
    nodes = ",".join(f"{host}:{port}" for host, port in cluster.addresses)
    return f"redis+cluster://{name}:hunter2@{nodes}"


async def test_the_documented_rights_are_enough_on_a_cluster(cluster: RedisCluster) -> None:
    rules = [*documented("abmonitor"), "+cluster|slots"]
    store = Store.at(add_user_everywhere(cluster, "abmonitor", *rules))
    topic, worker = Topic.of(Generator(1).records(300)), pipeline(store)
    await worker.process(topic.batch(0, 1000))
    fleet = await Reader(store.client, store.deployment).read(EXPERIMENTS)
    assert fleet.shards == 1
    alerts = AlertStore(store.client, store.deployment)
    assert (await alerts.save("offers", Book())).version == 1
    assert await store.problems() == []
    await store.close()


async def test_a_wrong_password_is_told_by_a_cluster_too(cluster: RedisCluster) -> None:
    url = add_user_everywhere(cluster, "known", "~*", "+@all")
    told = await refusal(url.replace("hunter2", "wrong-word"))
    assert "refused the user or the password" in told
    assert "wrong-word" not in told


async def test_a_user_who_may_not_see_the_slots_of_a_cluster_is_told(
    cluster: RedisCluster,
) -> None:
    told = await refusal(add_user_everywhere(cluster, "blind", "~*", "+@all", "-cluster"))
    assert "no permissions to run the 'cluster|slots' command" in told


# --- sockets --------------------------------------------------------------------------------------


async def test_the_store_works_over_a_socket_of_this_machine(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with or_skip(), RedisServer(extra={"unixsocket": str(socket)}) as server:
        url = add_user(server, "known", "~*", "+@all")
        store = Store.at(f"unix://known:hunter2@{socket}?db=2")
        assert (await say(store)).seq == 0
        assert (await say(store)).seq == 1
        await store.close()
        other = Store.at(url)
        assert (await say(other)).seq == 0
        await other.close()
        told = await refusal(f"unix://known:wrong-word@{socket}")
        assert "refused the user or the password" in told


# --- how it is set up -----------------------------------------------------------------------------


async def test_a_redis_that_evicts_is_a_problem(open_redis: RedisServer) -> None:
    store = Store.at(open_redis.url)
    with open_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        (problem,) = await store.problems()
        client.config_set("maxmemory-policy", "noeviction")
    assert "allkeys-lru" in problem
    assert "set it to noeviction" in problem
    assert await store.problems() == []
    await store.close()


async def test_a_replica_is_a_problem(open_redis: RedisServer) -> None:
    store = Store.at(open_redis.url)
    with open_redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        (problem,) = await store.problems()
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert "replica" in problem
    await store.close()


async def test_what_a_redis_may_not_tell_is_no_problem(open_redis: RedisServer) -> None:
    store = Store.at(add_user(open_redis, "silent", "~*", "+@all", "-info"))
    assert await store.problems() == []
    await store.close()


async def test_the_embedded_store_has_no_problem() -> None:
    store = Store.embedded()
    assert await store.problems() == []
    await store.close()


async def test_a_redis_that_is_not_there_cannot_tell_its_problems() -> None:
    store = Store.at("redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        await store.problems()
    await store.close()
