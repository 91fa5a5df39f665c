"""Several Redis that belong together: a cluster, and a master that a sentinel watches. This module does I/O."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from support.servers.base import HOST, all_running, free_ports, wait_for
from support.servers.redis import RedisServer


SLOTS = 16_384
MASTER_NAME = "main"
DOWN_AFTER_MS = 500
"""How long a master may be silent until the sentinel replaces it."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisCluster:
    """Masters that share the slots among them, without replicas."""

    nodes: Sequence[RedisServer]

    @property
    def addresses(self) -> list[Address]:
        """Host and port of each node."""
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        """The address of the first node, from which clients find the others."""
        return self.nodes[0].url

    def empty(self) -> None:
        """Delete all keys."""
        for node in self.nodes:
            with node.client() as client:
                client.flushdb()


@dataclass(frozen=True, slots=True)
class WatchedRedis:
    """A master and its replica, which takes over when the master is silent for DOWN_AFTER_MS."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer
    master_name: str = MASTER_NAME

    @property
    def addresses(self) -> list[Address]:
        """Host and port of each sentinel."""
        return [self.sentinel.address]


class _Sentinel(RedisServer):
    name = "redis-sentinel"

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self._master = master

    def _prepare(self) -> None:
        monitor = f"sentinel monitor {MASTER_NAME} {HOST} {self._master.port} 1"
        down = f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}"
        failover = f"sentinel failover-timeout {MASTER_NAME} 3000"
        lines = [f"port {self.port}", f"bind {HOST}", f"dir {self.folder}", monitor, down, failover]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str]:
        return ["redis-server", "redis.conf", "--sentinel"]


@contextmanager
def redis_cluster(nodes: int = 3) -> Iterator[RedisCluster]:
    """A Redis Cluster of masters; raises NoServerError."""
    buses = free_ports(nodes)
    servers = [
        RedisServer(
            extra={
                "cluster-enabled": "yes",
                "cluster-port": str(bus),
                "cluster-node-timeout": "500",  # a node that starts waits as long before it serves
            }
        )
        for bus in buses
    ]
    with all_running(servers):
        _share_slots(servers)
        _introduce(servers, buses)
        wait_for(lambda: all(_is_whole(server, nodes) for server in servers), "a Redis Cluster")
        for server in servers:
            with server.client() as client:
                client.config_set("cluster-node-timeout", 5000)  # a busy machine is no failure
        yield RedisCluster(servers)


def _share_slots(servers: Sequence[RedisServer]) -> None:
    edges = [SLOTS * index // len(servers) for index in range(len(servers) + 1)]
    for index, server in enumerate(servers):
        with server.client() as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", edges[index], edges[index + 1] - 1)


def _introduce(servers: Sequence[RedisServer], buses: Sequence[int]) -> None:
    with servers[0].client() as client:
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            client.execute_command("CLUSTER MEET", HOST, server.port, bus)


def _is_whole(server: RedisServer, nodes: int) -> bool:
    with server.client() as client:
        told = client.execute_command("CLUSTER INFO")
    return bool(told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes)


@contextmanager
def redis_sentinel() -> Iterator[WatchedRedis]:
    """A master, a replica that has its data, and a sentinel that knows both; raises NoServerError."""
    master = RedisServer()
    replica = RedisServer(extra={"replicaof": f"{HOST} {master.port}"})
    sentinel = _Sentinel(master)
    # The sentinel comes last: it sees at once what is there, and what comes later only after ten seconds.
    with all_running([master, replica]):
        wait_for(lambda: _is_synchronous(replica), "a replica of Redis")
        with sentinel:
            wait_for(lambda: _knows_replica(sentinel), "a sentinel of Redis")
            yield WatchedRedis(master, replica, sentinel)


def _is_synchronous(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _knows_replica(sentinel: RedisServer) -> bool:
    with sentinel.client() as client:
        told = client.execute_command("SENTINEL REPLICAS", MASTER_NAME)
    return len(told) == 1
