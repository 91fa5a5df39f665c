"""What the benchmarks run on: a Kafka and a Redis, topics with events in them. This module does I/O."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from kafka import KafkaAdminClient
from machine import Reading
from workload import PARTITIONS, Workload

from stream.brokers import Brokers
from stream.producer import Producer


ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from support.servers import KafkaServer, RedisServer  # noqa: E402 # only now it can be found
from support.servers.base import free_ports  # noqa: E402


__all__ = ["ROOT", "Rig", "free_ports", "rig"]

IN_FLIGHT = 2
"""Chunks that are sent at a time."""


@dataclass(slots=True)
class Rig:
    """The servers, and what this run calls its topics."""

    kafka: str
    redis_url: str
    pids: dict[str, int] = field(default_factory=dict)
    """Of the servers, as far as known."""
    outside: frozenset[str] = frozenset()
    """Servers whose address was given."""
    prefix: str = field(default_factory=lambda: f"bench-{secrets.token_hex(4)}-")

    @property
    def topics(self) -> tuple[str, str]:
        """Predictions and outcomes."""
        return f"{self.prefix}predictions", f"{self.prefix}outcomes"

    @property
    def letters(self) -> str:
        """The topic for dead letters."""
        return f"{self.prefix}dead-letters"

    @property
    def brokers(self) -> Brokers:
        """Where Kafka is."""
        return Brokers((self.kafka,))

    def read(self, **more: int) -> Reading:
        """What the servers, and processes given by name, have used until now."""
        return Reading.now({**self.pids, **more}, self.outside)

    def store(self) -> "redis.Redis":
        """A client of Redis, to be closed by the caller."""
        return redis.Redis.from_url(self.redis_url)

    def admin(self) -> Any:
        """A client that makes and deletes topics."""
        return KafkaAdminClient(bootstrap_servers=self.kafka)

    @contextmanager
    def fresh_topics(self) -> Iterator[None]:
        """The topics, empty, until the end of the context."""
        wanted = {
            "num_partitions": PARTITIONS,
            "replication_factor": 1,
            "configs": {"message.timestamp.type": "LogAppendTime"},
        }
        names = (*self.topics, self.letters)
        with self.admin() as admin:
            admin.create_topics(dict.fromkeys(names, wanted), wait_for_metadata=True)
        try:
            yield
        finally:
            with self.admin() as admin:  # also what contenders have made
                admin.delete_topics([name for name in admin.list_topics() if self.prefix in name])

    async def fill(self, workload: Workload) -> None:
        """Send all events as fast as possible."""
        async with self.sending() as send:
            flying: set[asyncio.Task[None]] = set()
            for predictions, outcomes in workload.chunks():
                flying.add(asyncio.create_task(send(predictions, outcomes)))
                if len(flying) >= IN_FLIGHT:
                    done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*flying)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Any]:
        """A function that sends predictions and outcomes, and returns when they are safe."""
        producer = Producer(self.brokers)
        await producer.start()

        async def send(predictions: Any, outcomes: Any) -> None:
            ours = zip(self.topics, (predictions, outcomes), strict=True)
            await asyncio.gather(*(producer.send(topic, records) for topic, records in ours))

        try:
            yield send
        finally:
            await producer.stop()


@contextmanager
def rig(kafka: str | None, redis_url: str | None) -> Iterator[Rig]:
    """Own servers, but for those whose address is given (that Redis is emptied)."""
    with ExitStack() as stack:
        pids: dict[str, int] = {}
        outside = frozenset[str]() if redis_url is None else frozenset({"redis"})
        if kafka is None:
            broker = KafkaServer()
            stack.enter_context(broker)
            process = broker._process  # noqa: SLF001 # nobody else needs it
            pids |= {} if process is None else {"kafka": process.pid}
            kafka = broker.servers
        if redis_url is None:
            server = RedisServer()
            stack.enter_context(server)
            redis_url = server.url
        made = Rig(kafka, redis_url, pids, outside)
        with made.store() as client:
            pids["redis"] = client.info("server")["process_id"]
        yield made
