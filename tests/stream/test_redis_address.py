from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from stream.redis_address import AddressError, client_at, parse
from stream.redis_clients import ClusterClient, SentinelClient
from stream.store import Store


def kwargs_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = client_at(url).connection_pool.connection_kwargs
    return found


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://cache", (("cache", 6379),)),
        ("redis://cache:7000/2", (("cache", 7000),)),
        ("redis://[::1]:7000", (("::1", 7000),)),
        ("redis://[::1]", (("::1", 6379),)),
        ("redis://u:p@cache:7000", (("cache", 7000),)),
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2))),
        ("redis+cluster://u:p%2C@a,b", (("a", 6379), ("b", 6379))),
        ("redis+sentinel://a,b:7/main", (("a", 26379), ("b", 7))),
    ],
)
def test_hosts_and_ports_are_found(url: str, hosts: tuple[tuple[str, int], ...]) -> None:
    assert parse(url).hosts == hosts


def test_a_user_and_a_password_are_decoded() -> None:
    found = kwargs_of("redis://us%40er:pa%2Fss%3A%23@cache:7000/3")
    assert found["username"] == "us@er"
    assert found["password"] == "pa/ss:#"
    assert (found["host"], found["port"], found["db"]) == ("cache", 7000, 3)


def test_a_password_needs_no_user() -> None:
    found = kwargs_of("redis://:secret@cache")
    assert found["password"] == "secret"
    assert "username" not in found


def test_every_client_speaks_resp2_and_never_waits_for_ever() -> None:
    for url in ("redis://a", "rediss://a", "unix:///run/redis.sock", "redis+sentinel://a/main"):
        found = kwargs_of(url)
        assert found["protocol"] == 2
        assert 0 < found["socket_timeout"] <= 10
        assert 0 < found["socket_connect_timeout"] <= 10
    cluster = client_at("redis+cluster://a")
    assert isinstance(cluster, ClusterClient)
    assert cluster.connection_kwargs["protocol"] == 2
    assert 0 < cluster.connection_kwargs["socket_timeout"] <= 10


def test_no_client_checks_health_in_the_middle_of_a_transaction() -> None:
    for url in ("redis://a", "redis+sentinel://a/main"):
        assert not kwargs_of(url).get("health_check_interval")
    with pytest.raises(AddressError, match="expected options out of"):
        parse("redis://a?health_check_interval=30")


def test_rediss_is_encrypted() -> None:
    client = client_at(
        "rediss://a?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem"
        "&ssl_password=x&ssl_check_hostname=false"
    )
    assert client.connection_pool.connection_class is SSLConnection
    found = client.connection_pool.connection_kwargs
    assert found["ssl_ca_certs"] == "/ca.pem"
    assert found["ssl_check_hostname"] is False
    assert found["ssl_password"] == "x"


def test_a_socket_is_a_path() -> None:
    client = client_at("unix://u:p@/run/redis.sock?db=2")
    assert client.connection_pool.connection_class is UnixDomainSocketConnection
    found = client.connection_pool.connection_kwargs
    assert (found["path"], found["db"], found["username"]) == ("/run/redis.sock", 2, "u")


def test_a_cluster_gets_its_options() -> None:
    client = client_at("rediss+cluster://u:p@a:1,b:2/0?socket_timeout=3&ssl_ca_certs=/ca.pem")
    assert isinstance(client, ClusterClient)
    assert [(node.host, node.port) for node in client.startup_nodes] == [("a", 1), ("b", 2)]
    found = client.connection_kwargs
    assert found["connection_class"] is SSLConnection
    assert (found["username"], found["password"], found["socket_timeout"]) == ("u", "p", 3.0)
    assert found["ssl_ca_certs"] == "/ca.pem"


def test_sentinels_have_a_log_in_of_their_own() -> None:
    client = client_at(
        "rediss+sentinel://u:p@a:1,b:2/main/3?sentinel_password=s&ssl_ca_certs=/ca.pem"
    )
    assert isinstance(client, SentinelClient)
    pool: Any = client.connection_pool
    assert pool.service_name == "main"
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("p", 3)
    for sentinel in pool.sentinel_manager.sentinels:
        found = sentinel.connection_pool.connection_kwargs
        assert found["password"] == "s"
        assert found["username"] is None
        assert found["ssl_ca_certs"] == "/ca.pem"
        assert found["protocol"] == 2
        assert sentinel.connection_pool.connection_class is SSLConnection


HUSH = "hunter2"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (HUSH, "begins with redis://"),
        (f"http://:{HUSH}@a", "begins with redis://"),
        (f"redis+other://:{HUSH}@a", "begins with redis://"),
        (f"rediscluster://:{HUSH}@a", "begins with redis://"),
        (f"redis://:{HUSH}/x@a", "host:port"),
        (f"redis://:{HUSH}?x@a", "host:port"),
        (f"redis://:{HUSH}#x@a", "expected no #"),
        (f"redis://:{HUSH}@a#", "expected no #"),
        (f"redis://{HUSH}@a", "user:password before the @"),
        (f"redis://u:{HUSH}@", "host:port"),
        (f"redis://u:{HUSH}@a:x", "host:port"),
        (f"redis://u:{HUSH}@a:70000", "host:port"),
        (f"redis://u:{HUSH}@a:1:2", "IPv6|host:port"),
        (f"redis://u:{HUSH}@[::1", "IPv6"),
        (f"redis://u:{HUSH}@a,b", "expected one host"),
        (f"redis://u:{HUSH}@a,", "expected one host|host:port"),
        (f"redis+cluster://u:{HUSH}@a,,b", "host:port"),
        (f"redis://u:{HUSH}@a/{HUSH}", "number of a database"),
        (f"redis://u:{HUSH}@a/1?db=2", "the database once"),
        (f"redis+cluster://u:{HUSH}@a/1", "only the database 0"),
        (f"redis+cluster://u:{HUSH}@a?db=1", "only the database 0"),
        (f"redis+sentinel://u:{HUSH}@a", "the master's name"),
        (f"redis+sentinel://u:{HUSH}@a//0", "the master's name"),
        (f"redis+sentinel://u:{HUSH}@a/main/x", "number of a database"),
        (f"redis://u:p@a?{HUSH}=1", "expected options out of"),
        (f"redis://u:p@a?protocol=3&x={HUSH}", "expected options out of"),
        (f"redis://u:{HUSH}@a?decode_responses=true", "expected options out of"),
        (f"redis://u:p@a?socket_timeout={HUSH}", "socket_timeout: expected seconds"),
        ("redis://u:p@a?socket_timeout=0", "socket_timeout: expected seconds"),
        (f"redis://u:p@a?db={HUSH}", "db: expected a whole number"),
        (f"rediss://u:p@a?ssl_check_hostname={HUSH}", "expected true or false"),
        (f"rediss://u:p@a?ssl_cert_reqs={HUSH}", "expected required, optional or none"),
        (f"redis://u:{HUSH}@a?ssl_ca_certs=/ca", "ssl_ca_certs needs rediss"),
        (f"unix://u:{HUSH}@host/path", "unix:///path"),
        (f"unix://u:{HUSH}@", "unix:///path"),
    ],
)
def test_a_bad_address_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        Store.at(url)
    assert HUSH not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None


def test_an_address_never_shows_its_password() -> None:
    assert HUSH not in repr(parse(f"redis://u:{HUSH}@a"))


async def test_a_plain_address_gives_a_plain_client() -> None:
    store = Store.at("redis://a")
    assert type(store.client) is redis.asyncio.Redis
    await store.close()
