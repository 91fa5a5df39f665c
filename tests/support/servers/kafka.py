"""A Kafka for the tests: the first that is found of four, or an own broker that may be hurt. This module does I/O."""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from support.servers.base import HOST, LocalServer, docker_answers, free_ports, run
from support.servers.kafka_jars import kafka_jars


ADDRESS = "ABMONITOR_TEST_KAFKA"
STARTED = b"Kafka Server started"

COMMON = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # Tests write events of long ago, which retention would delete while they are being read.
    "log.initial.task.delay.ms": "86400000",
    "log.retention.check.interval.ms": "86400000",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
}
"""What makes one broker a small and quick cluster, wherever it runs."""

JAVA = (
    "java",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a broker that lives for seconds is not worth optimising
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # says STARTED
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


@contextmanager
def kafka_server() -> Iterator[str]:
    """The addresses (host:port, comma-separated) of a Kafka to share; raises NoServerError.

    Topics are not made by themselves. Tests use names of their own, and tidy up.
    """
    given = os.environ.get(ADDRESS)
    if given:
        yield given
    elif docker_answers():
        with _container() as servers:
            yield servers
    else:
        with KafkaServer() as server:
            yield server.servers


class KafkaServer(LocalServer):
    """One broker, which is its own controller, on free ports of 127.0.0.1.

    `listeners` adds listeners: name → security protocol; `extra_properties` are the broker's, also for these
    listeners (`listener.name.<name in lower case>.…`); `scram` adds users before the first start:
    name → password, for both SCRAM-SHA-256 and SCRAM-SHA-512.
    """

    name = "kafka"

    def __init__(
        self,
        *,
        listeners: Mapping[str, str] | None = None,
        extra_properties: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._protocols = {"PLAINTEXT": "PLAINTEXT", **(listeners or {})}
        ports = free_ports(len(self._protocols) + 1)
        self._controller = f"{HOST}:{ports.pop()}"
        self._addresses = {
            name: f"{HOST}:{port}" for name, port in zip(self._protocols, ports, strict=True)
        }
        self._extra = dict(extra_properties or {})
        self._scram = dict(scram or {})
        self._jars = kafka_jars()
        self._said = 0

    @property
    def servers(self) -> str:
        """The address of the listener without security: host:port."""
        return self.at("PLAINTEXT")

    def at(self, listener: str) -> str:
        """The address of a listener: host:port."""
        return self._addresses[listener]

    def start(self) -> None:
        """Run it, and wait until it serves; raises NoServerError."""
        self._said = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def _command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", "server.properties")

    def _java(self, *arguments: str) -> Sequence[str]:
        return [*JAVA, "-cp", f"{self._jars}/*", *arguments]

    def _is_ready(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._said)
            return STARTED in log.read()

    def _prepare(self) -> None:
        text = "".join(f"{name}={value}\n" for name, value in self._properties().items())
        (self.folder / "server.properties").write_text(text)
        cluster = base64.urlsafe_b64encode(b"ab" + os.urandom(14)).decode().rstrip("=")
        arguments = ["-t", cluster, "-c", "server.properties"]
        for name, password in self._scram.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                arguments += ["-S", f"{mechanism}=[name={name},password={password}]"]
        tool = self._java("kafka.tools.StorageTool", "format", *arguments)
        run(tool, purpose="Kafka", folder=self.folder)

    def _properties(self) -> dict[str, str]:
        addresses = ",".join(f"{name}://{where}" for name, where in self._addresses.items())
        protocols = {"CONTROLLER": "PLAINTEXT", **self._protocols}
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{addresses},CONTROLLER://{self._controller}",
            "advertised.listeners": addresses,
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "log.dirs": str(self.folder / "data"),
            # After a kill the controller refuses the broker until its old session has ended.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "250",
            **COMMON,
            **self._extra,
        }


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer().with_kraft()
    for name, value in COMMON.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        yield container.get_bootstrap_server()
