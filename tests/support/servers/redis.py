"""A Redis for the tests: the first that is found of four, or an own one that may be hurt. This module does I/O."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import redis
from redis.exceptions import RedisError

from support.servers.base import HOST, LocalServer, docker_answers, free_ports, need, wait_for


ADDRESS = "ABMONITOR_TEST_REDIS"
PORT = 6379

Fsync = Literal["always", "everysec", "no"]


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a Redis that the tests may empty; raises NoServerError."""
    given = os.environ.get(ADDRESS)
    if given:
        yield given
    elif docker_answers():
        with _container() as url:
            yield url
    else:
        with RedisServer() as server:
            yield server.url


class RedisServer(LocalServer):
    """One Redis on a free port of 127.0.0.1.

    With `append_only` it writes down every change, and so still has its data after `kill`; `fsync` says how
    often that is forced to the disk. `extra` are more settings: name → value.
    """

    name = "redis"

    def __init__(
        self,
        *,
        append_only: bool = False,
        fsync: Fsync = "everysec",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        need("redis-server", purpose="Redis")
        (self.port,) = free_ports(1)
        self._append_only = append_only
        self._fsync = fsync
        self._extra = dict(extra or {})

    @property
    def url(self) -> str:
        """Its address, with database 0."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self.port

    def client(self) -> "redis.Redis":
        """A client, to be closed by the caller."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def _options(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.folder),
            "save": '""',
            "appendonly": "yes" if self._append_only else "no",
            "appendfsync": self._fsync,
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            **self._extra,
        }

    def _prepare(self) -> None:
        # A file, because Redis writes down there what a failover has changed.
        text = "".join(f"{name} {value}\n" for name, value in self._options().items())
        (self.folder / "redis.conf").write_text(text)

    def _command(self) -> Sequence[str]:
        return ["redis-server", "redis.conf"]

    def _is_ready(self) -> bool:
        with self.client() as client:
            return _answers(client)


@contextmanager
def _container() -> Iterator[str]:
    # Not from testcontainers.redis: that module has moved, and warns where it is still found.
    from testcontainers.core.container import DockerContainer

    with DockerContainer("redis:7.0").with_exposed_ports(PORT) as container:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}/0"
        with redis.Redis.from_url(url) as client:
            wait_for(lambda: _answers(client), f"the Redis at {url} answers")
        yield url


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except RedisError:  # also where it still loads its data
        return False
