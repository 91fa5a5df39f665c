"""What the tests' own Redis promises: it keeps its data, freezes, comes back where it was, and refuses."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import redis
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from support.servers import (
    NoServerError,
    RedisCluster,
    RedisServer,
    SecuredRedis,
    WatchedRedis,
)
from support.servers.base import wait_for
from support.servers.redis_groups import SLOTS


def test_a_redis_that_was_killed_has_its_data_when_it_is_back(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.set("kept", "yes")
    own_redis.kill()
    assert not own_redis.is_running
    own_redis.start()
    with own_redis.client() as client:
        assert client.get("kept") == b"yes"


def test_a_redis_that_writes_nothing_down_is_empty_when_it_is_back(redis_url: str) -> None:
    assert redis_url  # there is a Redis, or this is skipped
    with RedisServer() as server:
        with server.client() as client:
            client.set("kept", "no")
        server.stop()
        server.start()
        with server.client() as client:
            assert client.dbsize() == 0


def test_a_frozen_redis_keeps_its_connections_and_does_not_answer(own_redis: RedisServer) -> None:
    never = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(own_redis.url, socket_timeout=0.2, retry=never) as client:
        client.ping()
        own_redis.suspend()
        with pytest.raises(RedisTimeoutError):
            client.ping()
        own_redis.resume()
        assert client.ping()


def test_a_cluster_answers_for_keys_in_all_slots(redis_cluster: RedisCluster) -> None:
    with redis.RedisCluster.from_url(redis_cluster.url) as client:
        slots = client.cluster_slots()
        assert sum(last - first + 1 for first, last in slots) == SLOTS
        for number in range(300):
            client.set(f"key-{number}", number)
        found = [int(client.get(f"key-{number}") or -1) for number in range(300)]
    assert found == list(range(300))
    assert len(redis_cluster.addresses) == 3
    for node in redis_cluster.nodes:
        with node.client() as one:
            assert one.dbsize() > 50


def test_a_replica_takes_over_from_a_master_that_was_killed(watched_redis: WatchedRedis) -> None:
    sentinel = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        watched_redis.addresses, socket_timeout=1
    )

    def has_taken_over() -> bool:
        try:
            found = sentinel.discover_master(  # type: ignore[no-untyped-call]
                watched_redis.master_name
            )
        except RedisError:
            return False
        return bool(found == watched_redis.replica.address)

    with watched_redis.master.client() as client:
        client.set("kept", "yes")
        assert client.wait(1, 5000) == 1
    watched_redis.master.kill()
    wait_for(has_taken_over, "the replica takes over")
    with watched_redis.replica.client() as client:
        assert client.get("kept") == b"yes"


def test_a_secured_redis_wants_tls_a_user_and_the_password(secured_redis: SecuredRedis) -> None:
    with secured_redis.client() as client:
        assert client.ping()
    plain = secured_redis.url.replace("rediss:", "redis:")
    wrong = secured_redis.url.replace(secured_redis.password, "wrong")
    never = Retry(NoBackoff(), 0)
    with (
        redis.Redis.from_url(plain, retry=never) as client,
        pytest.raises(RedisConnectionError),
    ):
        client.ping()
    with (
        redis.Redis.from_url(wrong, retry=never, **secured_redis.tls()) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_a_server_does_not_outlive_tests_that_were_killed(redis_url: str, tmp_path: Path) -> None:
    assert redis_url  # there is a Redis, or this is skipped
    program = """
        from support.servers import RedisServer
        with RedisServer() as server:
            print(server.port, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path)},
    ) as tests:
        assert tests.stdout is not None
        port = int(tests.stdout.readline())
        assert _is_open(port)
        tests.send_signal(signal.SIGKILL)
    wait_for(lambda: not _is_open(port), "the server ends")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(redis_url: str) -> None:
    assert redis_url  # there is a Redis, or this is skipped
    with (
        pytest.raises(NoServerError, match="must be one of the following"),
        RedisServer(extra={"maxmemory-policy": "sometimes"}),
    ):
        pytest.fail("it came up")


def test_a_redis_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoServerError, match="redis-server not found"):
        RedisServer()
