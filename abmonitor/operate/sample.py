"""The most recent records of topics, and how these are set up. Does I/O (Kafka).

Nothing is left behind: no consumer group, no offsets, no topics.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from stream.batch import Headers, headers_of
from stream.brokers import Brokers, CertificateError


RECORDS = 1_000
CONNECT_MS = 5_000
READ_S = 10.0
IDLE_S = 2.0
"""When nothing has come for so long, nothing will: the rest are markers of transactions."""

_LIMITS = {
    "bootstrap_timeout_ms": CONNECT_MS,
    "request_timeout_ms": CONNECT_MS,
    "client_id": "abmonitor-check",
}


class KafkaUnavailableError(Exception):
    """Kafka cannot be reached, or does not let us in."""


class Record(NamedTuple):
    """One record."""

    partition: int
    offset: int
    arrival: int
    """Its timestamp, epoch milliseconds; below 0 where it has none."""
    stamped_by_broker: bool
    key: bytes | None
    value: bytes | None
    headers: Headers


class Bounds(NamedTuple):
    """The offsets of a partition: from the first that there is to the next that there will be."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicSample:
    """A topic, and some of its most recent records, partition by partition."""

    topic: str
    partitions: Mapping[int, Bounds]
    """By number; empty where there is no such topic."""
    records: tuple[Record, ...]
    config: Mapping[str, str] | None
    """How the topic is set up; None where that may not be read."""

    def place(self, record: Record) -> str:
        """Where a record lies."""
        return f"{self.topic}[{record.partition}]@{record.offset}"


def sampled(brokers: Brokers, wanted: Mapping[str, int]) -> dict[str, TopicSample]:
    """Up to so many recent records of each topic. Raises KafkaUnavailableError within seconds."""
    try:
        _reach(brokers)
        with ExitStack() as stack:
            arguments = brokers.kafka_python() | _LIMITS | {"kafka_client": _closing(stack)}
            consumer = stack.enter_context(closing(_consumer(arguments)))
            known = consumer.topics()
            found = {
                topic: _read(consumer, topic, records)
                for topic, records in wanted.items()
                if topic in known
            }
            admin = stack.enter_context(closing(KafkaAdminClient(**arguments)))
            configs = {topic: _config(admin, topic) for topic in found}
    except (KafkaError, CertificateError, OSError, ValueError) as error:
        said = str(error) or type(error).__name__
        raise KafkaUnavailableError(f"Kafka at {brokers} cannot be used: {said}") from error
    return {
        topic: TopicSample(topic, *found.get(topic, ({}, ())), configs.get(topic))
        for topic in wanted
    }


def _reach(brokers: Brokers) -> None:
    """Raise OSError, with the reason that the library keeps to itself, where no server can be reached."""
    deadline = time.monotonic() + CONNECT_MS / 1000
    told = []
    for server in brokers.servers:
        host, _, port = server.rpartition(":")
        left = max(deadline - time.monotonic(), 0.1)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), left):
                return
        except OSError as error:
            told.append(f"{server}: {error.strerror or error}")
    raise OSError("; ".join(told))


def _closing(stack: ExitStack) -> Callable[..., Any]:
    """What makes the library's connections; they are closed even where it fails half-way."""

    def client(**arguments: object) -> Any:
        made = KafkaNetClient(**arguments)
        stack.callback(made.close)
        return made

    return client


def _consumer(arguments: Mapping[str, Any]) -> Any:
    return KafkaConsumer(
        **arguments,
        group_id=None,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        isolation_level="read_committed",
    )


def _read(consumer: Any, topic: str, records: int) -> tuple[dict[int, Bounds], tuple[Record, ...]]:
    """The partitions of a topic, and the end of each of them."""
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    if not partitions:
        return {}, ()
    starts = consumer.beginning_offsets(partitions, timeout_ms=CONNECT_MS)
    ends = consumer.end_offsets(partitions, timeout_ms=CONNECT_MS)
    bounds = {each.partition: Bounds(starts[each], ends[each]) for each in partitions}
    consumer.assign(partitions)
    share = -(-records // len(partitions))
    for each in partitions:
        consumer.seek(each, max(starts[each], ends[each] - share))
    found = sorted(_until(consumer, ends), key=lambda record: (record.partition, record.offset))
    return dict(sorted(bounds.items())), tuple(found)


def _until(consumer: Any, ends: Mapping[Any, int]) -> Iterator[Record]:
    """Records before `ends`, until all are there or nothing comes any more."""
    deadline = time.monotonic() + READ_S
    quiet = time.monotonic() + IDLE_S
    while any(consumer.position(each) < end for each, end in ends.items()):
        fetched = consumer.poll(timeout_ms=200)
        now = time.monotonic()
        if fetched:
            quiet = now + IDLE_S
        for partition, records in fetched.items():
            yield from (_record(each) for each in records if each.offset < ends[partition])
        if now > min(deadline, quiet):
            return


def _record(found: Any) -> Record:
    return Record(
        found.partition,
        found.offset,
        found.timestamp,
        found.timestamp_type == 1,
        found.key,
        found.value,
        headers_of(found.headers),
    )


def _config(admin: Any, topic: str) -> dict[str, str] | None:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = admin.describe_configs(asked, config_filter="all")
    found = answer.get("topic", {}).get(topic, {})
    return {name: entry["value"] for name, entry in found.items()} or None
