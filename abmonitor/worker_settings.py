"""What the settings say about workers."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from metrics.duration import Duration
from metrics.experiment import MINUTE


class WorkerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How workers count."""

    max_skew: Duration | None = None
    """How far a topic may run ahead of the other while both catch up; None: see `skew`."""
    clock_skew: Duration = Duration(5_000)
    """How far the clocks of workers and brokers may differ."""
    session_timeout: Duration = Duration(10_000)
    """A worker that is not heard of for so long loses its partitions to the others."""
    rejected_limit: Annotated[float, Meta(gt=0, le=1)] = 0.05
    """Share of events that cannot be used from which on a worker is not ready."""

    def skew(self, shortest_wait: int) -> int:
        """`max_skew` in ms, by default a minute, or less where labels are final sooner."""
        return min(MINUTE, shortest_wait) if self.max_skew is None else int(self.max_skew)

    def problems(self, shortest_wait: int) -> Iterator[tuple[str, str]]:
        """Fields, and what is wrong with them; `shortest_wait`: least horizon + grace (ms)."""
        if self.max_skew is not None and not 0 < self.max_skew <= shortest_wait:
            wait = Duration(shortest_wait)
            yield (
                "max_skew",
                f"expected a time above 0, at most the shortest horizon + grace ({wait}), got {self.max_skew}",
            )
        if self.clock_skew > shortest_wait:
            wait = Duration(shortest_wait)
            yield (
                "clock_skew",
                f"expected at most the shortest horizon + grace ({wait}), got {self.clock_skew}",
            )
        if not 6_000 <= self.session_timeout <= 5 * MINUTE:
            yield "session_timeout", f"expected 6s to 5m, got {self.session_timeout}"
