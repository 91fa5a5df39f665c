"""What all tests share: a Redis that is empty, and the store over both of its clients."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from hypothesis import settings
from support.failing import HookedStore
from support.servers import NoServerError, redis_server

from stream.store import Store


pytest.register_assert_rewrite("support.feed")

# Speed is shown by benchmarks, never asserted; everything else is as hypothesis has it here or in CI.
settings.register_profile("abmonitor", settings.default, deadline=None)
settings.load_profile("abmonitor")


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    try:
        with redis_server() as url:
            yield url
    except NoServerError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """The address of an empty Redis."""
    with redis.Redis.from_url(_redis_server) as client:
        client.flushdb()
    return _redis_server


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
