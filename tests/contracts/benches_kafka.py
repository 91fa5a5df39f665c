"""The bench of orders on a topic; see test_actuator_contract.py."""

import json
from collections.abc import Sequence

from alerts.actuators.kafka import Kafka


class KafkaBench:
    """A router that listens to the topic, and acts once for each order."""

    async def open(self) -> None:
        self._done: dict[str, tuple[str, str, bool]] = {}
        self.actuator = Kafka(self._send)

    async def _send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        assert dict(headers) == {"content-type": b"application/cloudevents+json"}
        event = json.loads(value)
        assert key.decode() == event["data"]["experiment"]
        dry = event["type"] != "dev.abmonitor.rollback.v1"
        self._done.setdefault(event["id"], (event["id"], event["subject"], dry))

    def effects(self) -> set[tuple[str, str, bool]]:
        """What the router did."""
        return set(self._done.values())

    async def close(self) -> None:
        await self.actuator.close()
