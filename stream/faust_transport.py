"""A transport for faust that hands over whole fetches instead of single records. This module does I/O (Kafka).

Why: faust spends some 80 µs on each message that goes through an agent, seven times what decoding and
joining it takes. Here a message is what one fetch gave for one partition: faust keeps the consumer group,
the thread that reads, the agent and the life of the service, and pays its price once for thousands of records.

What follows from that:

- Positions are not faust's: they are stored with the counts (`stream.pipeline`). Topics are read without
  acknowledgement, so that faust neither tracks nor commits offsets, and after a rebalance nothing is handed
  over until the shard's intake has said where to go on (`FetchThread.seek_to`).
- faust drops messages whose offset is lower than one it has seen, which a rewind brings on purpose. So the
  messages are numbered here, and their offsets are nobody's.
- The partitions of one number have to be with one worker whatever their topic is: the range assignor sees to
  that, faust's own does not unless it has tables.

`tests/stream/test_faust_transport.py` fails when a release of faust changes what is relied on here.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from faust.types.transports import TransportT

from stream.faust_thread import LOGGER, FetchThread, Reading


class FetchConsumer(driver.Consumer):
    """faust's consumer, over the thread above."""

    logger = LOGGER
    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._numbers = count()

    @property
    def reader(self) -> FetchThread:
        """The thread that reads."""
        return self._thread

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek nowhere: each shard's intake does, when it knows what the store has counted."""
        return {}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """A rebalance begins: all partitions are taken, and those that stay come back."""
        self._thread.forget()
        await super().on_partitions_revoked(revoked)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A message whose value is a `Fetch`."""
        number, generation = next(self._numbers), self.app.consumer_generation_id
        nothing: Any = None
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            number,
            0.0,
            0,
            nothing,
            nothing,
            record,
            nothing,
            tp=tp,
            generation_id=generation,
        )


class FetchProducer(driver.Producer):
    """faust always starts a producer; nothing is sent through it, but it has to be let in."""

    logger = LOGGER

    def _settings_default(self) -> Mapping[str, Any]:
        return {**_reading(self.transport).brokers.aiokafka(), "client_id": "abmonitor"}

    def _settings_auth(self) -> Mapping[str, Any]:
        return {}


class FetchTransport(driver.Transport):
    """To be given to an app as `app.transport` and `app.producer_transport`."""

    Consumer = FetchConsumer
    Producer = FetchProducer

    def __init__(self, app: AppT, reading: Reading) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.reading = reading


def _reading(transport: TransportT) -> Reading:
    if not isinstance(transport, FetchTransport):
        raise TypeError(f"expected a FetchTransport, got {type(transport).__name__}")
    return transport.reading
