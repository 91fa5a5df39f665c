"""Where orders for routers are written: a topic of Kafka. This module does I/O (Kafka)."""

from collections.abc import Sequence

from alerts.actuators.kafka import Kafka, KafkaOptions, SendRefusedError
from stream.brokers import Brokers
from stream.producer import MissingTopicError, Producer, Record, RefusedError
from stream.rekey import partition_of


class DecisionsTopic:
    """Writes records that are safe on all replicas when `send` returns, placed by their keys (murmur2)."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._producer, self._topic = Producer(brokers), topic

    async def send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Write one record. Waits while Kafka is away, for as long as it is not cancelled.

        Raises SendRefusedError where the topic is missing, closed to us, or takes no record of this size.
        """
        try:
            partition = partition_of(key, await self._producer.partitions(self._topic))
            refused = await self._producer.send(
                self._topic, [Record(partition, key, value, headers)]
            )
        except (MissingTopicError, RefusedError) as error:
            raise SendRefusedError(str(error)) from error
        if refused:
            raise SendRefusedError(
                f"an order of {len(value):,} bytes is more than the topic takes; raise its max.message.bytes"
            )

    async def close(self) -> None:
        """Disconnect."""
        await self._producer.stop()


def kafka_actuator(brokers: Brokers, options: KafkaOptions) -> Kafka:
    """An actuator that writes to the topic of these options, with a connection of its own."""
    topic = DecisionsTopic(brokers, options.topic)
    return Kafka(topic.send, options, close=topic.close)
