"""Two topics for a client to send to, and what has arrived in them."""

import gc
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support.topics import Topics


# kafka-python is imported late, only once pytest knows which of its warnings to ignore.
if TYPE_CHECKING:
    from abmonitor_client import ExperimentClient


@dataclass(frozen=True)
class Arrived:
    """A record of a topic."""

    partition: int
    key: bytes
    value: bytes

    @property
    def id(self) -> str:
        return str(json.loads(self.value)["prediction_id"])


@dataclass(frozen=True)
class Pair:
    """Where predictions and outcomes go."""

    servers: str
    predictions: str
    outcomes: str

    def client(self, **options: Any) -> "ExperimentClient":
        """A client that sends there; mistakes raise."""
        from abmonitor_client import ExperimentClient

        topics = {"predictions": self.predictions, "outcomes": self.outcomes}
        return ExperimentClient(self.servers, **{**topics, "strict": True, **options})

    def arrived(self, topic: str) -> list[Arrived]:
        """All that is in a topic now."""
        from kafka import KafkaConsumer, TopicPartition

        with KafkaConsumer(bootstrap_servers=self.servers) as consumer:
            parts = [
                TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)
            ]
            consumer.assign(parts)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(parts)
            found: list[Arrived] = []
            while any(consumer.position(part) < ends[part] for part in parts):
                for records in consumer.poll(timeout_ms=200).values():
                    found += [Arrived(r.partition, r.key, r.value) for r in records]
        return found


@pytest.fixture
def pair(kafka_servers: str, kafka_topics: Topics) -> Pair:
    """Topics of three partitions each, of this test alone."""
    names = [kafka_topics.create(name, 3) for name in ("predictions", "outcomes")]
    return Pair(kafka_servers, *names)


@pytest.fixture
def refused_sockets() -> Iterator[None]:
    """Collects, while their warnings are ignored, the sockets of refused connections: kafka-python forgets them.

    Its log is silenced, because errors in records would keep them longer.
    """
    log = logging.getLogger("kafka")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)
    gc.collect()
