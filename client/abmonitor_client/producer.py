"""Touches Kafka: kafka-python's producer with the settings and the manners that a guest in a service needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable

from kafka import KafkaProducer


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DEFAULTS: dict[str, Any] = {
    "client_id": "abmonitor-client",
    "max_block_ms": 2_000,  # only blocks the thread that sends
    "bootstrap_timeout_ms": 5_000,
    "delivery_timeout_ms": 600_000,  # a broker's restart takes minutes at times
    "allow_auto_create_topics": False,  # a topic by accident would have other partitions
    "metrics_enabled": False,
    "retry_backoff_ms": 500,  # how often a missing topic is asked for, and complained of in the log
}
_OURS = {
    "acks": "an event counts as sent when all replicas have it",
    "bootstrap_servers": "it is the first argument",
    "kafka_client": "the client closes what it opened",
    "key_serializer": "keys are bytes",
    "partitioner": "both topics have to be partitioned alike",
    "retries": "delivery_timeout_ms limits them",
    "transactional_id": "events are independent of each other",
    "value_serializer": "values are JSON",
}
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Producer(KafkaProducer):  # type: ignore[misc] # kafka-python has no types
    """A producer that is closed by `hang_up` alone.

    kafka-python also closes producers at exit (before what still waits here could be sent) and in the
    children of a fork (where the threads that it would wait for do not exist, and the sockets and the epoll
    instance are shared with the parent).
    """

    def close(self, timeout: float | None = None, null_logger: bool = False) -> None:
        """Nothing."""

    def flush(self, timeout: float | None = None) -> None:
        """Nothing: events are counted one by one, and closing would give up on a flush that takes too long."""

    def hang_up(self, timeout: float) -> None:
        """Send what is left for at most `timeout` seconds, then fail the rest and disconnect."""
        super().close(timeout=timeout)


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for kafka-python. Raises ValueError for those that it does not know or that are ours."""
    for option in options:
        if option in _OURS:
            raise ValueError(f"option {option!r} cannot be set: {_OURS[option]}")
        if option not in KafkaProducer.DEFAULT_CONFIG:
            raise ValueError(f"option {option!r} is unknown to kafka-python's KafkaProducer")
    return {**_DEFAULTS, **options}


def checked_topic(parameter: str, topic: object) -> str:
    """The name of a topic. Raises ValueError."""
    if not isinstance(topic, str) or _TOPIC.fullmatch(topic) is None:
        raise ValueError(
            f"{parameter} is {topic!r}, expected a topic: 1 to 249 letters, digits, dots, dashes or underscores"
        )
    return topic


def connect(servers: Sequence[str], options: Mapping[str, Any]) -> Producer:
    """A connected producer. Raises what kafka-python raises, and leaves nothing open then."""
    opened: list[Any] = []
    make: Callable[..., Any] = KafkaProducer.DEFAULT_CONFIG["kafka_client"]

    def client(**configs: Any) -> Any:
        opened.append(make(**configs))
        return opened[-1]

    try:
        return Producer(bootstrap_servers=list(servers), acks="all", kafka_client=client, **options)
    except BaseException:
        for each in opened:
            each.close()
        raise
