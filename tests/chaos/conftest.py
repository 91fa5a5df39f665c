"""What the scenes need: a broker and a Redis that may be hurt, and how much of everything there is.

`ABMONITOR_CHAOS=long` (`make chaos`) makes them go on for longer, and more often.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.chaos import MakeScene
from support.scene import Scene, SceneOptions
from support.servers import KafkaServer, RedisServer
from support.servers.base import or_skip


def pytest_configure(config: pytest.Config) -> None:
    """Ignore what only kafka-python can mend: it does not close a socket that could not connect."""
    unbound = r"unclosed <socket.socket fd=\d+, family=2, type=1, proto=6, laddr=\('0.0.0.0'"
    config.addinivalue_line("filterwarnings", f"ignore:{unbound}:ResourceWarning")


IS_LONG = os.environ.get("ABMONITOR_CHAOS") == "long"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes and has no shorter form."""
    dropped = [item for item in items if item.get_closest_marker("long") and not IS_LONG]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session")
def is_long() -> bool:
    """Whether there is time for more than what has to be shown with every change."""
    return IS_LONG


@pytest.fixture(scope="session")
def _broker() -> Iterator[KafkaServer]:
    with or_skip(), KafkaServer() as server:
        yield server


@pytest.fixture
def broker(_broker: KafkaServer) -> Iterator[KafkaServer]:
    """A Kafka that the scenes share; whatever a scene does to it, the next one finds it running."""
    yield _broker
    _broker.resume()
    _broker.start()


@pytest.fixture
def make_scene(broker: KafkaServer, tmp_path: Path) -> Iterator[MakeScene]:
    """Sets a scene, over the given Redis."""
    with ExitStack() as stack:

        def make(redis: RedisServer, **options: object) -> Scene:
            wanted = SceneOptions(**options)  # type: ignore[arg-type]  # as each test says
            return stack.enter_context(Scene(broker.servers, redis.url, tmp_path, wanted))

        yield make
