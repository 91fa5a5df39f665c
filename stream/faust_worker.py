"""The faust app: a consumer group whose shards each have an intake. This module does I/O (Kafka)."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import faust
from faust.types import TP

from stream.faust_thread import LOGGER, FetchThread, Reading
from stream.faust_transport import FetchConsumer, FetchTransport
from stream.fetch import Bounds, Fetch, NotOursError, Reach
from stream.intake import ShardIntake


logger = logging.getLogger(__name__)


class FaustLog:
    """The log, as the thread of a faust app reads it (see `stream.fetch.Log`)."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    @property
    def _reader(self) -> FetchThread:
        consumer: Any = self._app.consumer
        if not isinstance(consumer, FetchConsumer):
            raise TypeError(f"expected an app with FetchTransport, got {type(consumer).__name__}")
        return consumer.reader

    async def bounds(self, topics: Iterable[str], shard: int) -> Mapping[str, Bounds]:
        """See `Log.bounds`."""
        found = await self._reader.bounds(TP(topic, shard) for topic in topics)
        return {tp.topic: bounds for tp, bounds in found.items()}

    async def seek(self, topic: str, shard: int, offset: int) -> int:
        """See `Log.seek`."""
        return await self._reader.seek_to(TP(topic, shard), offset)

    async def reach(self, topics: Iterable[str], shard: int) -> Mapping[str, Reach]:
        """See `Log.reach`."""
        found = await self._reader.reach(TP(topic, shard) for topic in topics)
        return {tp.topic: reach for tp, reach in found.items()}

    def hold(self, topic: str, shard: int, *, held: bool) -> None:
        """See `Log.hold`."""
        self._reader.hold(TP(topic, shard), held=held)

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions each topic has; 0 where it does not exist."""
        return {topic: self._reader.partitions(topic) for topic in topics}

    def end(self, topic: str, shard: int) -> int | None:
        """The end of a partition as of its latest fetch."""
        return self._reader.end(TP(topic, shard))

    async def report(self, intakes: Iterable[ShardIntake]) -> None:
        """Let tools that show a group's lag see how far the intakes are."""
        positions = {
            TP(topic, intake.shard): offset
            for intake in intakes
            for topic, offset in intake.positions.items()
        }
        await self._reader.report(positions)


class Member:
    """One member of the consumer group: the app, and an intake for each shard that it was given."""

    def __init__(
        self,
        reading: Reading,
        topics: tuple[str, ...],
        new_intake: Callable[[int, FaustLog], ShardIntake],
    ) -> None:
        """`new_intake` makes the intake of a shard."""
        self.app = _app(reading)
        self.log = FaustLog(self.app)
        self.intakes: dict[int, ShardIntake] = {}
        self.rebalances = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the error for which the worker has to end."""
        self._new_intake = new_intake
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribe(topics)

    @property
    def has_joined(self) -> bool:
        """The group has said which partitions are ours, if any."""
        return self.rebalances > 0 and not self.app.rebalancing

    @property
    def crash(self) -> BaseException | None:
        """Why faust has ended, None while it runs."""
        reason: BaseException | None = self.app.crash_reason
        return reason

    async def start(self) -> None:
        """Join the group."""
        await self.app.start()

    async def stop(self) -> None:
        """Leave the group."""
        await self._stop_intakes()
        await self.app.stop()

    def _subscribe(self, topics: tuple[str, ...]) -> None:
        # Nothing is acknowledged: positions are stored with the counts.
        channel = self.app.topic(
            *topics, key_serializer="raw", value_serializer="raw", value_type=None, acks=False
        )

        async def take(stream: Any) -> None:
            async for event in stream.events():
                self._offer(event.message.tp, event.value)

        self.app.agent(channel, name="abmonitor.take")(take)
        revoked: Any = self._revoked
        assigned: Any = self._assigned
        self.app.on_partitions_revoked.connect(revoked, weak=False)
        self.app.on_partitions_assigned.connect(assigned, weak=False)

    def _offer(self, tp: TP, fetch: Fetch) -> None:
        intake = self.intakes.get(tp.partition)
        if intake is not None:
            intake.offer(tp.topic, fetch)

    async def _revoked(self, _: Any, revoked: set[TP], **__: Any) -> None:
        del revoked  # a rebalance takes all partitions, and gives some back
        await self._stop_intakes()

    async def _assigned(self, _: Any, assigned: set[TP], **__: Any) -> None:
        await self._stop_intakes()
        self.rebalances += 1
        for shard in sorted({tp.partition for tp in assigned}):
            intake = self.intakes[shard] = self._new_intake(shard, self.log)
            self._tasks.append(asyncio.create_task(self._run(intake), name=f"shard {shard}"))
        logger.info("shards: %s", ", ".join(map(str, self.intakes)) or "none")

    async def _run(self, intake: ShardIntake) -> None:
        try:
            await intake.run()
        except NotOursError as error:
            logger.info("shard %d: %s", intake.shard, error)  # who has it now goes on with it
        except Exception as error:  # noqa: BLE001 # the worker's main task raises it
            if not self.failed.done():
                self.failed.set_exception(error)

    async def _stop_intakes(self) -> None:
        tasks, self._tasks = self._tasks, []
        self.intakes.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _App(faust.App):
    """faust's app, without what we have no use for."""

    logger = LOGGER

    def _create_directories(self) -> None:
        """Make none: there are no tables."""


def _app(reading: Reading) -> faust.App:
    app = _App(
        reading.group,
        broker="kafka://",  # the transport knows better
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,  # what was not counted is read again
        stream_buffer_maxsize=2,  # each is a whole fetch
    )
    app.finalize()
    app.transport = app.producer_transport = FetchTransport(app, reading)
    return app
