"""Moments of latency as exact integers, from which means and variances follow.

Of x = (correct, latency, error), correct and error are 0 or 1 and constant within a confusion cell, so
the cells hold their moments, and with each cell's sum of latencies those mixed with latency. What is
left is the sum of squared latencies. Latencies are whole tenths of a millisecond.
"""

from typing import NamedTuple

from metrics.confusion import ratio


LATENCY_UNIT_MS = 0.1
LATENCY_CAP = 10_000_000
"""In units: 1,000 s, so that the sum of squares of 10^12 latencies fits into 128 bits."""


class Moments(NamedTuple):
    """Sums over the predictions that had a latency."""

    n: int = 0
    latency: int = 0
    latency_squared: int = 0

    @property
    def mean_ms(self) -> float | None:
        """Mean latency in ms, None without any."""
        mean = ratio(self.latency, self.n)
        return None if mean is None else mean * LATENCY_UNIT_MS

    @property
    def variance_ms2(self) -> float | None:
        """Population variance of latency in ms², exact up to the last division."""
        if not self.n:
            return None
        spread = self.n * self.latency_squared - self.latency**2
        return spread / self.n**2 * LATENCY_UNIT_MS**2
