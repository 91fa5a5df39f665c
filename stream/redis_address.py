"""Addresses of the store, and the clients that they mean; nothing is connected before it is used.

    redis://[user:password@]host[:port][/database]           rediss:// with TLS
    unix://[user:password@]/path?db=0
    redis+cluster://[user:password@]host:port,host:port      rediss+cluster:// with TLS
    redis+sentinel://[user:password@]host:port,host:port/master[/database]      rediss+sentinel:// with TLS

Options follow after `?`. Messages never repeat any part of an address: it may be a password.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from stream.redis_clients import ClusterClient, SentinelClient


PORT, SENTINEL_PORT = 6379, 26379

ALWAYS = {
    # redis-py 8 speaks RESP3 by default; sessions read replies as RESP2 has them.
    "protocol": 2,
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    # Instead of redis-py's own health checks: these reconnect in the middle of a transaction, and what
    # was watched is then not watched any more.
    "socket_keepalive": True,
}


class AddressError(ValueError):
    """An address of the store that cannot be used; does not repeat it."""


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "yes", "1", "false", "no", "0"}:
        raise ValueError("expected true or false")
    return text.lower() in {"true", "yes", "1"}


def _positive(text: str) -> float:
    if not 0 < float(text) < 3600:
        raise ValueError("expected seconds, above 0")
    return float(text)


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"expected one of {', '.join(values)}")
        return text

    return parse


OPTIONS: Mapping[str, Callable[[str], object]] = {
    "db": int,
    "client_name": str,
    "max_connections": int,
    "socket_timeout": _positive,
    "socket_connect_timeout": _positive,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_check_hostname": _boolean,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
}
SENTINEL_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "sentinel_username": str,
    "sentinel_password": str,
}


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart."""

    kind: str
    """redis, unix, cluster or sentinel"""
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    master: str
    options: dict[str, Any] = field(repr=False)
    """Arguments for connections: log-in, database, TLS, time-outs."""

    def client(self) -> "redis.asyncio.Redis":
        """A client, not connected yet."""
        made = {"cluster": self._cluster, "sentinel": self._sentinel}.get(self.kind, self._plain)()
        # A cluster's client has the same commands, without being a Redis in redis-py's types.
        return cast("redis.asyncio.Redis", made)

    def _plain(self) -> object:
        options = dict(self.options)
        if self.kind == "unix":
            options |= {"connection_class": UnixDomainSocketConnection, "path": self.path}
            options.pop("socket_keepalive")
        else:
            options["host"], options["port"] = self.hosts[0]
            if self.tls:
                options["connection_class"] = SSLConnection
        return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))

    def _cluster(self) -> object:
        nodes = [ClusterNode(host, port) for host, port in self.hosts]
        return ClusterClient(startup_nodes=nodes, ssl=self.tls, **self.options)

    def _sentinel(self) -> object:
        options = dict(self.options)
        login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        shared = {
            name: value
            for name, value in options.items()
            if name.startswith(("socket_", "ssl_", "protocol"))
        }
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
            self.hosts,
            # The next sentinel is asked at once; redis-py would try the same one for seconds.
            sentinel_kwargs={**shared, **login, "ssl": self.tls, "retry": Retry(NoBackoff(), 0)},
            **options,
            ssl=self.tls,
        )
        return sentinel.master_for(self.master, redis_class=SentinelClient)


def parse(url: str) -> Address:
    """Take an address apart; raises AddressError, which says what was expected."""
    try:
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
    except ValueError:
        raise _wrong("expected brackets only around an IPv6 address") from None
    if parts.scheme == "unix":
        kind = "unix"
    elif scheme not in {"redis", "rediss"} or kind not in {"", "cluster", "sentinel"}:
        raise _wrong(
            "expected one that begins with redis://, rediss://, unix://, redis+cluster://,"
            " rediss+cluster://, redis+sentinel:// or rediss+sentinel://"
        )
    kind = kind or "redis"
    if parts.fragment or "#" in url:
        raise _wrong("expected no #; in a password it is written %23")
    tls = scheme == "rediss"
    login, _, netloc = parts.netloc.rpartition("@")
    options: dict[str, Any] = {**ALWAYS, **_login(login)}
    path, master = unquote(parts.path), ""
    if kind == "unix":
        if not path or netloc:
            raise _wrong("expected unix:///path/of/the/socket")
        options |= _options(parts.query, kind, tls=False)
        return Address(kind, False, (), path, "", options)
    hosts = tuple(_host(part, kind) for part in netloc.split(","))
    if kind == "redis" and len(hosts) > 1:
        raise _wrong("expected one host; several need redis+cluster:// or redis+sentinel://")
    if kind == "sentinel":
        _, master, path = f"{path}//".split("/", 2)
        if not master:
            raise _wrong(
                "expected the master's name after the sentinels, such as /mymaster or /mymaster/0"
            )
    options |= _options(parts.query, kind, tls=tls)
    _database(path.strip("/"), kind, options)
    return Address(kind, tls, hosts, "", master, options)


def client_at(url: str) -> "redis.asyncio.Redis":
    """A client of the Redis at `url`, not connected yet; raises AddressError."""
    return parse(url).client()


def _wrong(message: str) -> AddressError:
    return AddressError(f"the address of Redis is not understood: {message}")


def _host(text: str, kind: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(SENTINEL_PORT if kind == "sentinel" else PORT)
    bare = host.removeprefix("[").removesuffix("]")
    good = bare and (bare != host or ":" not in host)
    if not good or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise _wrong(
            "expected host:port, several with commas between;"
            " in a password / is written %2F, : is %3A, ? is %3F and @ is %40"
        )
    return unquote(bare), int(port)


def _login(text: str) -> dict[str, str]:
    user, _, password = text.partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    if found["username"] and not found["password"]:
        raise _wrong("expected user:password before the @, or :password")
    return {name: value for name, value in found.items() if value}


def _database(text: str, kind: str, options: dict[str, Any]) -> None:
    """Put the database of the path among the options."""
    if text:
        if not text.isascii() or not text.isdigit():
            raise _wrong("expected the number of a database at the end of the path")
        if "db" in options:
            raise _wrong("expected the database once, in the path or as db=")
        options["db"] = int(text)
    if kind == "cluster" and options.pop("db", 0):
        raise _wrong("a cluster has only the database 0")


def _options(query: str, kind: str, *, tls: bool) -> dict[str, object]:
    known: dict[str, Callable[[str], object]] = {
        **OPTIONS,
        **(SENTINEL_OPTIONS if kind == "sentinel" else {}),
    }
    if kind == "cluster":
        del known["ssl_password"]  # redis-py does not pass it on to the nodes
    found: dict[str, object] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise _wrong(f"expected options out of {', '.join(known)}")
        if name.startswith("ssl_") and not tls:
            raise _wrong(f"{name} needs rediss, with two s")
        try:
            found[name] = known[name](value)
        except ValueError:
            wanted = getattr(known[name], "__name__", "")
            kinds = {"int": "a whole number", "_positive": "seconds", "_boolean": "true or false"}
            raise _wrong(
                f"{name}: expected {kinds.get(wanted, 'required, optional or none')}"
            ) from None
    return found
