"""What all tests share: servers, and the store over both clients of Redis."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from hypothesis import settings
from support import servers
from support.failing import HookedStore
from support.servers import flagd
from support.servers.base import or_skip
from support.topics import Topics

from stream.store import Store


pytest.register_assert_rewrite("support.feed")

# Speed is shown by benchmarks, never asserted; everything else is as hypothesis has it here or in CI.
settings.register_profile("abmonitor", settings.default, deadline=None)
settings.load_profile("abmonitor")


def pytest_configure(config: pytest.Config) -> None:
    """Ignore what only kafka-python can mend: it reads its message schemas by deprecated functions."""
    config.addinivalue_line(
        "filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning"
    )


SERIAL = {"browser", "kafka_servers", "kafka_topics", "own_kafka", "secured_kafka"}
"""Fixtures whose tests mostly wait: beside those that calculate, what they wait for would take its time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests on a Kafka, in a browser and those of chaos: no others are run beside them (`make test`).

    Tests on a real flagd are left out where there is none.
    """
    if flagd.program() is None:
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("flagd")])
        items[:] = [item for item in items if not item.get_closest_marker("flagd")]
    serial = set(SERIAL)
    if os.environ.get("ABMONITOR_TEST_REDIS"):
        serial.add("redis_url")  # one that is given is shared, and emptied by every test
    for item in items:
        if serial & set(getattr(item, "fixturenames", ())) or "chaos" in item.path.parts:
            item.add_marker(pytest.mark.serial)


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    with or_skip(), servers.redis_server() as url:
        yield url


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """The address of an empty Redis."""
    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
    return _redis_server


@pytest.fixture
def own_redis() -> Iterator[servers.RedisServer]:
    """A Redis of this test alone, to be hurt; it writes down every change before it answers."""
    with or_skip(), servers.RedisServer(append_only=True, fsync="always") as server:
        yield server


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[servers.RedisCluster]:
    with or_skip(), servers.redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(_redis_cluster: servers.RedisCluster) -> servers.RedisCluster:
    """An empty Redis Cluster of three masters, which all tests share."""
    _redis_cluster.empty()
    return _redis_cluster


@pytest.fixture
def watched_redis() -> Iterator[servers.WatchedRedis]:
    """A master, a replica and a sentinel of this test alone, to be hurt."""
    with or_skip(), servers.redis_sentinel() as watched:
        yield watched


@pytest.fixture
def secured_redis() -> Iterator[servers.SecuredRedis]:
    """A Redis that speaks only TLS, and only with a user that it knows."""
    with or_skip(), servers.SecuredRedis() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """The addresses of a Kafka that all tests share: host:port, comma-separated."""
    with or_skip(), servers.kafka_server() as addresses:
        yield addresses


@pytest.fixture
def kafka_topics(kafka_servers: str) -> Iterator[Topics]:
    """Makes topics in the shared Kafka; they are deleted after the test."""
    topics = Topics(kafka_servers)
    yield topics
    topics.delete()


@pytest.fixture
def own_kafka() -> Iterator[servers.KafkaServer]:
    """A Kafka of this test alone, to be hurt."""
    with or_skip(), servers.KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[servers.SecuredKafka]:
    """A Kafka with a listener for each way to get in, which all tests share."""
    with or_skip(), servers.secured_kafka() as secured:
        yield secured


@pytest.fixture
async def real_store(redis_url: str) -> AsyncIterator[HookedStore]:
    """A store in Redis."""
    store = HookedStore(Store.at(redis_url).client)
    yield store
    await store.close()


@pytest.fixture
async def embedded_store() -> AsyncIterator[HookedStore]:
    """A store in this process."""
    store = HookedStore(Store.embedded().client)
    yield store
    await store.close()


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest) -> HookedStore:
    """A store, over either client."""
    name = "embedded_store" if request.param == "embedded" else "real_store"
    found: HookedStore = request.getfixturevalue(name)
    return found
