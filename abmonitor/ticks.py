"""Ticks of a monitor, counted: how long they take, how many failed, and whether Redis did its part. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from redis.exceptions import RedisError


_Families = tuple[HistogramMetricFamily, CounterMetricFamily, GaugeMetricFamily]
EDGES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Ticks:
    """What has become of all ticks; nothing is known before the first one has ended."""

    def __init__(self, edges: Sequence[float] = EDGES_S) -> None:
        """`edges`: of the histogram, in seconds, ascending."""
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0
        self._failures = 0
        self._redis_up: bool | None = None

    def note(self, seconds: float, failure: Exception | None = None) -> None:
        """Take note of a tick that took `seconds`; `failure`: why it came to nothing, None if it did not."""
        self._counts[bisect_left(self._edges, seconds)] += 1
        self._sum += seconds
        self._failures += failure is not None
        if failure is None:
            self._redis_up = True
        elif _by_redis(failure):
            self._redis_up = False
        # What else fails says nothing of Redis.

    @staticmethod
    def describe() -> _Families:
        """The families of ticks, empty."""
        return (
            HistogramMetricFamily("abmonitor_tick_seconds", "How long ticks took.", labels=()),
            CounterMetricFamily(
                "abmonitor_tick_failures",
                "Ticks that failed, wholly or for some experiments.",
                labels=(),
            ),
            GaugeMetricFamily(
                "abmonitor_redis_up", "1 if Redis did what the latest tick asked of it.", labels=()
            ),
        )

    def families(self) -> _Families:
        """The families of ticks with what is known."""
        took, failed, redis = self.describe()
        names = [*map(str, self._edges), "+Inf"]
        counts = accumulate(self._counts)
        took.add_metric([], list(zip(names, counts, strict=True)), self._sum)
        failed.add_metric([], self._failures)
        if self._redis_up is not None:
            redis.add_metric([], float(self._redis_up))
        return took, failed, redis


def _by_redis(failure: Exception) -> bool:
    """Whether Redis, or the way to it, let a tick fail, if only for one of many experiments."""
    if isinstance(failure, ExceptionGroup):
        return failure.subgroup((RedisError, OSError)) is not None
    return isinstance(failure, RedisError | OSError)
