"""Looking at topics and creating them. This module does I/O (Kafka)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from abmonitor.operate.topics import FoundTopic, NewTopic
from stream.brokers import Brokers


CONNECT_MS = 10_000


class KafkaFailedError(Exception):
    """Kafka does not answer, or does not let us."""


@contextmanager
def failures(brokers: Brokers) -> Iterator[None]:
    """Turn what goes wrong with Kafka into one error that says where."""
    try:
        yield
    except KafkaError as error:
        raise KafkaFailedError(f"Kafka at {brokers}: {_shown(error)}") from error


def _shown(error: KafkaError) -> str:
    """What went wrong, and what the broker says of it, without the whole request and response."""
    text, _, rest = str(error).partition(": Request '")
    said = re.search(r"error_message='([^']*)'", rest)
    text = f"{text}: {said[1]}" if said else text
    if "Unable to bootstrap" in text:
        seconds = CONNECT_MS // 1000
        text = f"no broker let us in within {seconds} s; see that it runs, and that address and `kafka.protocol` are right"
    return text if len(text) <= 300 else text[:300] + "..."


class KafkaAdmin:
    """A cluster's topics. Methods raise KafkaFailedError."""

    def __init__(self, brokers: Brokers) -> None:
        """Connect."""
        self._brokers = brokers
        with failures(brokers):
            self._client: Any = KafkaAdminClient(
                **brokers.kafka_python(), bootstrap_timeout_ms=CONNECT_MS
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def find(self, names: Sequence[str]) -> dict[str, FoundTopic]:
        """Those of the topics that exist."""
        with failures(self._brokers):
            told = self._client.describe_topics(list(dict.fromkeys(names)))
            counts = {}
            for topic in told:
                if topic["error_code"] == 0:
                    counts[topic["name"]] = len(topic["partitions"])
                elif topic["error_code"] != _UNKNOWN:
                    raise for_code(topic["error_code"])(topic["name"])
            configs = self._configs(list(counts))
        return {name: FoundTopic(name, count, configs[name]) for name, count in counts.items()}

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {
            name: {key: str(given["value"]) for key, given in found[name].items()} for name in names
        }

    def create(self, topics: Sequence[NewTopic], *, validate_only: bool = False) -> None:
        """Create topics, and wait until they can be used; what somebody else just made is left alone."""
        with failures(self._brokers):
            for topic in topics:
                wanted = {
                    "num_partitions": topic.partitions,
                    "replication_factor": topic.replication,
                    "configs": dict(topic.configs),
                }
                try:
                    self._client.create_topics({topic.name: wanted}, validate_only=validate_only)
                except TopicAlreadyExistsError:
                    continue
            if not validate_only:
                self._client.wait_for_topics([topic.name for topic in topics])


_UNKNOWN = 3
"""The broker's error code for a topic that it does not have."""
