"""Lasting changes of a variant from the same hours of its first day, by Page-Hinkley. Pure, but for a library.

The library is imported when there is first a series long enough to watch (see docs/drift.md).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from metrics.confusion import Confusion
from metrics.experiment import DAY, HOUR, Labels
from metrics.ledger import SCORE_BINS, Ledger
from metrics.snapshot import Panes


MIN_POINT = 30
"""Cohorts with fewer predictions than this are left out of a series."""
TOLERANCE, THRESHOLD, WARM_UP = 0.5, 25.0, 30
"""Page-Hinkley's delta and lambda, in standard errors of a cohort, and its first number of cohorts."""
MOST = 5.0
"""No cohort counts as further away (standard errors), so that a single strange one is no drift."""

_MIDDLES = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
_BIN_VARIANCE = 1 / (12 * SCORE_BINS**2)

Ints = npt.NDArray[np.int64]
Series = Literal["positive_rate", "mean_score"]


class Change(NamedTuple):
    """The first change of a series that Page-Hinkley noticed, and what has become of it."""

    at: int
    """The start of the cohort at which it was noticed (epoch ms)."""
    shift: float
    """Mean difference of the last day since then from the same hours of the first, in the series' unit."""
    distance: float
    """The same in standard errors of a cohort, each at most `MOST`."""


def changes(
    labels: Labels, cohorts: Panes, arrived: Panes
) -> tuple[dict[Series, Change | None], str | None]:
    """The first change of each series, and why changes could not be looked for (else None).

    The positive rate is that of `cohorts`, mature ledgers; the mean score that of `arrived`, panes by
    arrival; both by start (epoch ms), in order of time, and of one variant. Page-Hinkley as by Page
    (1954, Biometrika 41), with `TOLERANCE` and `THRESHOLD` in standard errors, upwards and downwards.
    """
    points: dict[Series, list[_Point]] = {
        "positive_rate": [_positive_rate(start, cohorts[start], labels) for start in cohorts],
        "mean_score": [_mean_score(start, arrived[start].scores) for start in arrived],
    }
    series = {name: _Differences.of(values) for name, values in points.items()}
    if not any(series.values()):
        return dict.fromkeys(series), None  # no import for nothing
    try:
        found = {
            name: None if each is None else each.change(_detector())
            for name, each in series.items()
        }
    except ImportError as error:
        return dict.fromkeys(series), str(error)
    return found, None


class _Detector(Protocol):
    def update(self, x: float) -> object: ...
    @property
    def drift_detected(self) -> bool: ...


def _detector() -> _Detector:
    made: _Detector = import_module("river.drift").PageHinkley(
        min_instances=WARM_UP,
        delta=TOLERANCE,
        threshold=THRESHOLD,
        alpha=1.0,  # forgetting would eat up delta in the course of days
        mode="both",
    )
    return made


class _Point(NamedTuple):
    """A cohort: predictions (effective number), their mean, and the variance of one of them."""

    start: int
    n: float
    mean: float
    variance: float


def _positive_rate(start: int, ledger: Ledger, labels: Labels) -> _Point:
    found = Confusion.of(ledger.cells, labels)
    weight, squares = (
        sum(getattr(cell, fact) for cell in (found.tp, found.fp, found.tn, found.fn))
        for fact in ("w", "w2")
    )
    if not weight:
        return _Point(start, 0, 0, 0)
    rate = (found.tp.w + found.fn.w) / weight
    return _Point(start, weight**2 / squares, rate, rate * (1 - rate))


def _mean_score(start: int, scores: Ints) -> _Point:
    """From the middles of the bins; how scores spread within a bin is taken as even."""
    n = int(scores.sum())
    if not n:
        return _Point(start, 0, 0, 0)
    mean, square = (float(scores @ _MIDDLES**power) / n for power in (1, 2))
    return _Point(start, n, mean, square - mean**2 + _BIN_VARIANCE)


class _Differences(NamedTuple):
    """Cohorts less the same hours of the first day; all of shape (n,), in order of time."""

    starts: Ints
    n: npt.NDArray[np.float64]
    raw: npt.NDArray[np.float64]
    standard: npt.NDArray[np.float64]
    """In standard errors, at most `MOST`."""

    @classmethod
    def of(cls, points: Sequence[_Point]) -> "_Differences | None":
        """None before there are cohorts enough, and some after the first day.

        The hours of the first day are what others are held against, so that day and night are no drift.
        """
        usable = [point for point in points if point.n >= MIN_POINT]
        if len(usable) < WARM_UP or usable[-1].start < usable[0].start + DAY:
            return None
        starts = np.array([point.start for point in usable], dtype=np.int64)
        n, mean, variance = np.array([point[1:] for point in usable], dtype=np.float64).T
        first, hours = starts < starts[0] + DAY, (starts - starts[0]) % DAY // HOUR
        known, sums = (
            np.bincount(hours[first], weights[first], DAY // HOUR) for weights in (n, n * mean)
        )
        # Where nothing varied on the first day: as if half a prediction had been another.
        spread = max(float((n * variance)[first].sum()), 0.5) / n[first].sum()
        there = known[hours] > 0
        starts, n, mean, hours = starts[there], n[there], mean[there], hours[there]
        raw = mean - sums[hours] / known[hours]
        standard = np.clip(raw / np.sqrt(spread * (1 / n + 1 / known[hours])), -MOST, MOST)
        return cls(starts, n, raw, standard)

    def change(self, detector: _Detector) -> Change | None:
        """The first change that `detector` notices.

        Later ones are not asked for: after an alarm the detector would take daily rises and falls of a
        level that is no longer near 0 for further changes.
        """
        for at, value in zip(self.starts.tolist(), self.standard.tolist(), strict=True):
            detector.update(value)
            if detector.drift_detected:
                late = self.starts >= max(at, self.starts[-1] - DAY + 1)
                shift = float(np.average(self.raw[late], weights=self.n[late]))
                return Change(at, shift, abs(float(self.standard[late].mean())))
        return None
