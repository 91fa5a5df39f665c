"""The store over all of its clients: embedded, one Redis, and a Redis Cluster."""

from collections.abc import AsyncIterator, Iterator

import pytest
from support.failing import HookedStore
from support.servers import RedisCluster, redis_cluster
from support.servers.base import or_skip

from stream.store import Store


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[RedisCluster]:
    with or_skip(), redis_cluster() as cluster:
        yield cluster


@pytest.fixture
async def cluster_store(_redis_cluster: RedisCluster) -> AsyncIterator[HookedStore]:
    """A store in a Redis Cluster that is empty."""
    _redis_cluster.empty()
    nodes = ",".join(f"{host}:{port}" for host, port in _redis_cluster.addresses)
    store = HookedStore(Store.at(f"redis+cluster://{nodes}").client)
    yield store
    await store.close()


@pytest.fixture(params=["embedded", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> HookedStore:
    """A store, over each client."""
    names = {"embedded": "embedded_store", "redis": "real_store", "cluster": "cluster_store"}
    found: HookedStore = request.getfixturevalue(names[request.param])
    return found
