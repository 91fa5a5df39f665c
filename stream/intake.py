"""The intake of one shard: takes its fetches in order into the pipeline, and decides which to take next.

It begins at the stored positions, goes back where the store says so, waits while the store is away, keeps
the topics in step, and tells the pipeline when a partition was read to its end.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NoReturn

from metrics.experiment import MINUTE
from stream.batch import Batch, BatchReport
from stream.fetch import Bounds, Fetch, Log, LogUnavailableError
from stream.maturity import MAX_SWEEP
from stream.pipeline import ShardContestedError, ShardPipeline
from stream.store import StoreUnavailableError


logger = logging.getLogger(__name__)


class IntakeState(StrEnum):
    """What an intake is doing."""

    STARTING = "starting"
    RUNNING = "running"
    STORE_AWAY = "store_away"
    LOG_AWAY = "log_away"
    CONTESTED = "contested"
    LOG_CUT = "log_cut"


class LogCutError(Exception):
    """The log ends before what was counted: it is not the log that was counted."""


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """How an intake behaves; times are in ms, unless they say otherwise."""

    max_skew: int = MINUTE
    """How far a topic may run ahead of the other."""
    clock_skew: int = 5_000
    """How much earlier than by this machine's clock a partition is taken to be complete."""
    idle_s: float = 1.0
    """How often a partition that is read to its end is said to be so."""
    lost_after_s: float = 30.0
    """How long a fetch may be on its way."""
    depth: int = 2
    """Fetches of a topic that wait here before no more are asked for."""
    backoff_s: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    """Pauses before the store or the log is tried again; the last one repeats."""


@dataclass(slots=True)
class _Lane:
    """One topic of the shard."""

    expected: int = 0
    """The offset that the next batch continues from."""
    generation: int = 0
    log_start: int = 0
    arrival: int = 0
    """No earlier one will come."""
    stuck: tuple[int, float] = -1, 0.0
    """Where the lane stands while a fetch is on its way, and since when."""
    queue: deque[Batch] = field(default_factory=deque)

    @property
    def queued_to(self) -> int:
        """The offset that the next fetch continues from."""
        return self.queue[-1].next_position if self.queue else self.expected

    def waits(self, handed_to: int, now: float) -> float:
        """Seconds for which something has been on its way that was handed over."""
        if handed_to <= self.queued_to or self.stuck[0] != self.queued_to:
            self.stuck = self.queued_to, now
        return now - self.stuck[1]


class ShardIntake:
    """Feeds one shard's pipeline; `run` in a task, `offer` from wherever fetches come."""

    def __init__(
        self,
        shard: int,
        pipeline: ShardPipeline,
        log: Log,
        topics: tuple[str, ...],
        options: IntakeOptions,
        *,
        clock: Callable[[], int],
        observe: Callable[[BatchReport], None],
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        """`clock`: epoch ms; `observe` is told what became of each batch.

        `prepare` is awaited before counting begins, and again where that failed; what it raises beside
        the errors that `run` waits for ends the intake.
        """
        self.shard, self._pipeline, self._log = shard, pipeline, log
        self._options, self._clock, self._observe, self._prepare = options, clock, observe, prepare
        self._lanes = {topic: _Lane() for topic in topics}
        self._news = asyncio.Event()
        self._begun = self._backlog = False
        self._owed = 0
        """Ids to sweep before the next fetch, so that catching up does not pile them up."""
        self._failures, self._look_at = 0, 0.0
        self.state = IntakeState.STARTING
        self.problem: str | None = None
        """Why the intake does not run, None while it does."""

    @property
    def positions(self) -> Mapping[str, int]:
        """The next offset to count of each topic; empty before they are known."""
        if not self._begun:
            return {}
        return {topic: lane.expected for topic, lane in self._lanes.items()}

    @property
    def watermark(self) -> int:
        """Arrival (epoch ms) up to which every topic was counted."""
        return min(lane.arrival for lane in self._lanes.values())

    def offer(self, topic: str, fetch: Fetch) -> None:
        """Take a fetch; what does not follow the one before it is dropped, and asked for again."""
        lane = self._lanes[topic]
        if fetch.generation != lane.generation:
            return  # from before a seek
        if fetch.batch is None or fetch.batch.position != lane.queued_to:
            lane.generation = 0  # a fetch got lost on the way, as in a rebalance: begin again
        else:
            lane.queue.append(fetch.batch)
            if len(lane.queue) >= self._options.depth:
                self._log.hold(topic, self.shard, held=True)
        self._news.set()

    async def run(self) -> NoReturn:
        """Count until cancelled. Raises NotOursError when the shard belongs to another worker."""
        while True:
            try:
                await self._begin()
                while not self._is_broken():
                    await self._step()
                    _heed_cancellation()
            except StoreUnavailableError as error:
                await self._pause(IntakeState.STORE_AWAY, error)
            except LogUnavailableError as error:
                await self._pause(IntakeState.LOG_AWAY, error)
            except ShardContestedError as error:
                await self._pause(IntakeState.CONTESTED, error)
            except LogCutError as error:
                await self._pause(IntakeState.LOG_CUT, error)

    async def _pause(self, state: IntakeState, error: Exception) -> None:
        pauses = self._options.backoff_s
        if self.state is not state:
            logger.warning("shard %d waits: %s", self.shard, error)
        self.state, self.problem = state, str(error)
        _heed_cancellation()
        await asyncio.sleep(pauses[min(self._failures, len(pauses) - 1)])
        self._failures += 1

    def _goes_on(self) -> None:
        """It works again. That something was read does not show it: Redis may be full."""
        if self.state is not IntakeState.RUNNING:
            logger.info("shard %d is at %s", self.shard, self.positions)
        self.state, self.problem, self._failures = IntakeState.RUNNING, None, 0

    def _is_broken(self) -> bool:
        return any(not lane.generation for lane in self._lanes.values())

    async def _begin(self) -> None:
        """Go to the stored positions, or to the beginning of the log where nothing is stored."""
        for lane in self._lanes.values():
            lane.generation = 0  # nothing that is still on its way is wanted
            lane.stuck = -1, 0.0
            lane.queue.clear()
        await self._prepare()
        stored = await self._pipeline.stored()
        bounds = await self._log.bounds(self._lanes, self.shard)
        for topic, lane in self._lanes.items():
            known, found = stored.get(topic), bounds[topic]
            if known is not None and known.offset > found.end:
                raise LogCutError(_cut(topic, self.shard, known.offset, found))
            # What is not in the log any more is missing for good; the pipeline writes that down.
            lane.expected = max(found.start, known.offset if known else 0)
            lane.arrival, lane.log_start = known.arrival if known else 0, found.start
            lane.generation = await self._log.seek(topic, self.shard, lane.expected)
        self._begun, self._backlog, self._owed = True, True, 0  # there may be some from before
        self._look_at = _time() + self._options.idle_s
        if self.state is IntakeState.STARTING:
            self._goes_on()

    async def _step(self) -> None:
        """Count the next fetch; where there is none, sweep, or see whether the log has ended."""
        self._news.clear()
        topic, left = self._next(), self._look_at - _time()
        if left <= 0 and not all(lane.queue for lane in self._lanes.values()):
            await self._complete()  # also while others are busy: a silent topic holds up all
        elif topic is not None and not (self._backlog and self._owed):
            lane = self._lanes[topic]
            await self._count(topic, replace(lane.queue[0], log_start=lane.log_start))
        elif self._backlog:
            await self._count(*self._nothing())
        else:
            await self._wait(left)

    def _next(self) -> str | None:
        """The topic to go on with: the one that is behind, unless it has nothing and the other may go."""
        waiting = {topic: lane for topic, lane in self._lanes.items() if lane.queue}
        if not waiting:
            return None
        topic = min(waiting, key=lambda each: self._lanes[each].arrival)
        ahead = self._lanes[topic].arrival - self.watermark
        return topic if ahead <= self._options.max_skew else None

    def _nothing(self, topic: str | None = None) -> tuple[str, Batch]:
        """A batch without records, to sweep by."""
        topic = topic or next(iter(self._lanes))
        lane = self._lanes[topic]
        at, start = lane.expected, lane.log_start
        return topic, Batch(topic, self.shard, at, at, log_start=start)

    async def _wait(self, seconds: float) -> None:
        """Wait for news, but not longer than that."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _complete(self) -> None:
        """Move the clocks of topics that were read to their ends, which no record moves."""
        complete_to = self._clock() - self._options.clock_skew  # what comes later may have arrived
        reach, ended = await self._log.reach(self._lanes, self.shard), 0
        self._look_at = _time() + self._options.idle_s
        for topic, lane in self._lanes.items():
            found = reach[topic]
            lost = lane.waits(found.handed_to, _time()) > self._options.lost_after_s
            if lost or found.end < lane.expected:
                lane.generation = 0  # nothing follows that would tell: see what the log has
            behind = found.read_to < found.end or found.handed_to != lane.expected
            if lane.queue or behind or found.uncommitted:
                continue
            ended += 1
            if complete_to > lane.arrival and not self._is_broken():
                await self._count(topic, replace(self._nothing(topic)[1], complete_to=complete_to))
        if ended == len(self._lanes) and not self._is_broken():
            self._goes_on()  # there may have been nothing to write

    async def _count(self, topic: str, batch: Batch) -> None:
        """Have one batch counted."""
        lane = self._lanes[topic]
        report = await self._pipeline.process(batch, drain=False)
        self._observe(report)
        if report.rewind is not None:
            logger.warning(
                "shard %d: the store has counted less than was read; going back to %s",
                self.shard,
                report.rewind,
            )
            lane.generation = 0
            return
        if report.commits:
            self._goes_on()
        self._backlog = report.backlog
        self._owed = max(0, self._owed + len(batch) - MAX_SWEEP) if report.backlog else 0
        lane.expected = batch.next_position
        lane.arrival = max(lane.arrival, report.clocks.get(topic, 0))
        if lane.queue and len(batch):
            lane.queue.popleft()
            if len(lane.queue) == self._options.depth - 1:
                self._log.hold(topic, self.shard, held=False)


def _time() -> float:
    return asyncio.get_running_loop().time()


def _heed_cancellation() -> None:
    """End where the task was cancelled and nobody noticed.

    Under Python 3.11 the time-outs of redis-py (`asyncio.wait_for`) may swallow a cancellation.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _cut(topic: str, shard: int, counted: int, found: Bounds) -> str:
    return (
        f"{topic}[{shard}] ends at offset {found.end:,}, but {counted:,} were counted: the topic was made"
        " anew, or has lost records. To count it from its beginning, use another `deployment:` name"
    )
