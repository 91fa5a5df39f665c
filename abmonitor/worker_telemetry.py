"""The worker's own health as Prometheus metrics, and whether it is ready."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from abmonitor import __version__
from stream.batch import BatchReport
from stream.intake import IntakeState


LEAST_EVENTS = 100
"""Of fewer events a share says nothing."""
SPAN_S = 300.0
"""How far back the share of rejected events looks."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """How one shard of the worker is doing."""

    shard: int
    state: IntakeState
    problem: str | None
    lag: Mapping[str, int]
    """By topic: records that are not counted yet, where known."""
    watermark: int | None
    """Epoch ms."""
    pending: int | None
    """Predictions whose id is remembered."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """How the worker is doing."""

    shards: tuple[ShardStatus, ...] = ()
    joined: bool = False
    """The group has given it its shards, if there are enough for all."""
    store_up: bool | None = None
    """None before it was asked."""
    rebalances: int = 0
    problem: str | None = None
    """What else is wrong: what keeps it from starting, or may lose what it counts."""


class RejectedShare:
    """The share of rejected events among the latest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()
        self._rejected = self._total = 0

    def add(self, rejected: int, total: int) -> None:
        """Take note of events."""
        self._seen.append((self._clock(), rejected, total))
        self._rejected += rejected
        self._total += total

    @property
    def value(self) -> float | None:
        """The share, None while there are too few events to tell."""
        while self._seen and self._seen[0][0] < self._clock() - SPAN_S:
            _, rejected, total = self._seen.popleft()
            self._rejected -= rejected
            self._total -= total
        return self._rejected / self._total if self._total >= LEAST_EVENTS else None


class WorkerTelemetry:
    """What a worker tells of itself."""

    def __init__(self, rejected_limit: float, clock: Callable[[], float]) -> None:
        """`rejected_limit`: share of rejected events from which on something is wrong."""
        self.registry = made = CollectorRegistry(auto_describe=True)
        self._limit, self._rejected = rejected_limit, RejectedShare(clock)
        self._status: WorkerStatus | None = None
        self._rebalances_seen = 0
        self._joined_outcomes = self._outcomes = self._untold = 0
        self._events = Counter(
            "abmonitor_worker_events",
            "Events by what became of them.",
            ("result", "reason"),
            registry=made,
        )
        self._batch = Histogram(
            "abmonitor_worker_batch_seconds",
            "From taking a batch to having counted it.",
            buckets=_SECONDS,
            registry=made,
        )
        self._commit = Histogram(
            "abmonitor_worker_commit_seconds",
            "Writing a batch to Redis.",
            buckets=_SECONDS,
            registry=made,
        )
        self._conflicts = Counter(
            "abmonitor_worker_commit_conflicts",
            "Commits refused because another worker had committed.",
            registry=made,
        )
        self._trimmed = Counter(
            "abmonitor_worker_trimmed_records",
            "Records that had been counted before.",
            registry=made,
        )
        self._rewinds = Counter(
            "abmonitor_worker_rewinds", "Times the store had lost what was counted.", registry=made
        )
        self._rebalances = Counter(
            "abmonitor_worker_rebalances", "Times the group was divided anew.", registry=made
        )
        self._gauges(made)
        build = Gauge(
            "abmonitor_build_info", "1 for the version that runs.", ("version",), registry=made
        )
        build.labels(__version__).set(1)

    def _gauges(self, made: CollectorRegistry) -> None:
        self._lag = Gauge(
            "abmonitor_worker_lag_records",
            "Records that are not counted yet.",
            ("topic", "partition"),
            registry=made,
        )
        self._age = Gauge(
            "abmonitor_worker_watermark_age_seconds",
            "How long ago everything had arrived that is counted.",
            ("partition",),
            registry=made,
        )
        self._pending = Gauge(
            "abmonitor_worker_pending_predictions",
            "Predictions whose id is remembered.",
            ("partition",),
            registry=made,
        )
        self._state = Gauge(
            "abmonitor_worker_partition_state",
            "1 for what the partition's intake is doing.",
            ("partition", "state"),
            registry=made,
        )
        self._redis = Gauge("abmonitor_worker_redis_up", "Redis answers.", registry=made)
        self._share = Gauge(
            "abmonitor_worker_rejected_ratio", "Share of rejected events of late.", registry=made
        )
        self._joins = Gauge(
            "abmonitor_worker_join_ratio",
            "Share of the outcomes that met their prediction in time.",
            registry=made,
        )
        for unknown in (self._share, self._joins):
            unknown.set(float("nan"))

    def note(self, report: BatchReport) -> None:
        """Count what became of a batch."""
        rejected = 0
        for name, count in report.tallies.items():
            result, _, reason = name.partition(":")
            self._events.labels(result, reason).inc(count)
            rejected += count if result == "rejected" else 0
        self._untold += rejected
        total = sum(report.tallies.values())
        self._rejected.add(rejected, total)
        if total:
            self._batch.observe(report.seconds)
        for seconds in report.commit_seconds:
            self._commit.observe(seconds)
        self._conflicts.inc(report.conflicts)
        self._trimmed.inc(report.trimmed)
        self._rewinds.inc(report.rewind is not None)
        self._note_joins(report.tallies)

    def rejected(self) -> int:
        """How many events were rejected since this was asked last."""
        untold, self._untold = self._untold, 0
        return untold

    def _note_joins(self, tallies: Mapping[str, int]) -> None:
        joined = tallies.get("outcomes", 0)
        self._joined_outcomes += joined
        self._outcomes += joined + tallies.get("late", 0) + tallies.get("unmatched", 0)
        if self._outcomes:
            self._joins.set(self._joined_outcomes / self._outcomes)

    def look_at(self, status: WorkerStatus, now: int) -> None:
        """Take in how the worker is doing; `now`: epoch ms."""
        self._status = status
        self._rebalances.inc(max(0, status.rebalances - self._rebalances_seen))
        self._rebalances_seen = status.rebalances
        up = status.store_up
        self._redis.set(float("nan") if up is None else up)
        share = self._rejected.value
        self._share.set(float("nan") if share is None else share)
        for gauge in (self._lag, self._age, self._pending, self._state):
            gauge.clear()  # a partition that moved is another worker's to tell of
        for shard in status.shards:
            self._show(shard, now)

    def _show(self, shard: ShardStatus, now: int) -> None:
        partition = str(shard.shard)
        for topic, lag in shard.lag.items():
            self._lag.labels(topic, partition).set(lag)
        if shard.watermark:
            self._age.labels(partition).set((now - shard.watermark) / 1000)
        if shard.pending is not None:
            self._pending.labels(partition).set(shard.pending)
        for state in IntakeState:
            self._state.labels(partition, state.value).set(state is shard.state)

    def problem(self) -> str | None:
        """Why the worker is not ready, None when it is."""
        status = self._status
        if status is None:
            return "starting"
        return next(self._problems(status), None)

    def _problems(self, status: WorkerStatus) -> Iterator[str]:
        if status.problem:
            yield status.problem
        if not status.joined:
            yield "the consumer group has not given this worker its partitions yet"
        for shard in status.shards:
            if shard.state is not IntakeState.RUNNING:
                yield f"partition {shard.shard}: {shard.problem or shard.state.value}"
        if status.store_up is False:
            yield "Redis does not answer"
        share = self._rejected.value
        if share is not None and share > self._limit:
            yield (
                f"{share:.1%} of the latest events cannot be used, more than {self._limit:.1%}:"
                " see `abmonitor dead-letters`"
            )
