"""A Redis for the tests: the first that is found of four. This module does I/O.

The address in ABMONITOR_TEST_REDIS; a container, where a Docker engine answers; a local `redis-server`
process; otherwise none, which is a visible skip, and a failure in continuous integration.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import redis
from redis.exceptions import RedisError


ADDRESS = "ABMONITOR_TEST_REDIS"
PORT = 6379
TRIES = 300


class NoServerError(Exception):
    """There is nothing to test against."""


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a Redis that the tests may empty; raises NoServerError."""
    given = os.environ.get(ADDRESS)
    if given:
        yield given
    elif _docker_answers():
        with _container() as url:
            yield url
    elif shutil.which("redis-server"):
        with _process() as url:
            yield url
    else:
        raise NoServerError(f"no Redis: set {ADDRESS}, or have Docker or redis-server")


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None or find_spec("testcontainers") is None:
        return False
    asked = subprocess.run([docker, "version"], capture_output=True, timeout=10, check=False)
    return asked.returncode == 0  # the client alone answers 1


@contextmanager
def _container() -> Iterator[str]:
    # Not from testcontainers.redis: that module has moved, and warns where it is still found.
    from testcontainers.core.container import DockerContainer

    with DockerContainer("redis:7.0").with_exposed_ports(PORT) as container:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}/0"
        _await_answer(url)
        yield url


@contextmanager
def _process() -> Iterator[str]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": folder,
            "maxmemory-policy": "noeviction",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _await_answer(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_answer(url: str) -> None:
    for _ in range(TRIES):
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
        except RedisError:
            time.sleep(0.05)
        else:
            return
    raise NoServerError(f"the Redis at {url} does not answer")
