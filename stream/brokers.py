"""Where Kafka is and how to get in, for each of the client libraries that are used. Pure."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Brokers:
    """A Kafka cluster."""

    servers: tuple[str, ...]
    """host:port"""

    def aiokafka(self) -> dict[str, Any]:
        """Arguments for clients of aiokafka."""
        return {"bootstrap_servers": list(self.servers)}

    def kafka_python(self) -> dict[str, Any]:
        """Arguments for clients of kafka-python."""
        return {"bootstrap_servers": list(self.servers)}
