"""What has arrived over time: predictions, shares, errors and latency, slice after slice. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abmonitor.series_labelled import POINTS
from abmonitor.series_memory import Ledgers, Remembered
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from alerts.book import Stretch
from alerts.cohorts import stretches_of
from metrics.experiment import HOUR, MINUTE
from metrics.latency import FINEST_MS, GROWTH, Histogram
from metrics.layout import COARSE_WIDTH, FINE_WIDTH, RETENTION, Kind
from metrics.ledger import total
from metrics.snapshot import Snapshot, VariantFacts


BINS = 60
"""Of the distribution of latency."""

LATENCY_OVER = HOUR
"""Of data, which the distribution of latency is taken of."""

_FINE = (FINE_WIDTH, 30_000, MINUTE)
_COARSE = (COARSE_WIDTH, 30 * MINUTE, HOUR, 2 * HOUR)
"""Widths of slices, of which `POINTS` reach over as long as panes are kept."""

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of time, one after the other, of whole panes."""

    width: int
    """In ms."""
    starts: Sequence[int]

    @property
    def step(self) -> int:
        """The width of the panes that they are made of."""
        return COARSE_WIDTH if self.width > _FINE[-1] else FINE_WIDTH

    def panes(self, facts: VariantFacts) -> dict[int, Ledgers]:
        """The panes of each slice, by when it begins."""
        known, step = facts.fine if self.step == FINE_WIDTH else facts.coarse, self.step
        return {
            start: [known[at] for at in range(start, start + self.width, step) if at in known]
            for start in self.starts
        }


def slices_of(snapshot: Snapshot) -> Slices:
    """Slices up to the newest whole pane, as far back as there are data and panes are kept.

    The last two hours of fine panes where that is all there is, else the last eight days of coarse ones.
    """
    end, first = snapshot.watermark, _first(snapshot)
    if end is None or first is None:
        return Slices(FINE_WIDTH, ())
    fine = first >= end - RETENTION[Kind.FINE]
    oldest = first if fine else max(first, end - RETENTION[Kind.COARSE])
    age = end - end % FINE_WIDTH - oldest
    widths = _FINE if fine else _COARSE
    width = next((each for each in widths if each * POINTS >= age), widths[-1])
    step = width if fine else COARSE_WIDTH  # long slices move on by panes, so that none is old news
    last = end - end % step
    count = min(POINTS, -(-(last - oldest) // width))
    return Slices(width, range(last - count * width, last, width))


def _first(snapshot: Snapshot) -> int | None:
    """When the oldest pane begins that is kept."""
    kept = (panes for each in snapshot.variants.values() for panes in (each.fine, each.coarse))
    return min((min(panes) for panes in kept if panes), default=None)


@dataclass(frozen=True, slots=True)
class _Slice:
    """What is drawn of one variant in one slice."""

    predictions: int
    error_rate: float | None
    quantiles: tuple[float | None, ...]


def _made(runs: Sequence[Ledgers]) -> Iterable[_Slice]:
    for run in runs:
        found = total(run)
        quantiles = found.latency.quantiles(*_QUANTILES.values())
        yield _Slice(found.predictions, found.error_rate, quantiles)


class Arrival:
    """The slices of one experiment, each made anew only where its panes have changed."""

    def __init__(self, experiment: ExperimentSettings) -> None:
        self._experiment = experiment
        self._remembered = {name: Remembered[int, _Slice](_made) for name in experiment.variants}

    def of(self, view: ExperimentView) -> dict[str, Any]:
        """By variant and slice what came, what was meant to come, and how it went."""
        slices, variants = slices_of(view.snapshot), view.snapshot.variants
        found = {
            name: made.of(slices.panes(variants[name])) for name, made in self._remembered.items()
        }
        came = [sum(each.predictions for each in at) for at in zip(*found.values(), strict=True)]
        intended = shares(stretches_of(view.book, self._experiment), slices, self._experiment)
        return {
            "width_ms": slices.width,
            "at": list(slices.starts),
            "variants": {
                name: _columns(each, came) | {"intended": intended[name]}
                for name, each in found.items()
            },
        }


def _columns(found: Sequence[_Slice], came: Sequence[int]) -> dict[str, Any]:
    return {
        "predictions": [each.predictions for each in found],
        "share": [
            each.predictions / whole if whole else None
            for each, whole in zip(found, came, strict=True)
        ],
        "error_rate": [each.error_rate for each in found],
        **{name: [each.quantiles[at] for each in found] for at, name in enumerate(_QUANTILES)},
    }


def shares(
    stretches: Sequence[Stretch], slices: Slices, experiment: ExperimentSettings
) -> dict[str, list[float | None]]:
    """The share that was intended of each variant in each slice, on average over the time it is known.

    A split holds until the next one is intended; `Stretch.since` comes later by what routers take to follow.
    Where the control's share cannot be told, nobody's can.
    """
    firsts = np.asarray(slices.starts, dtype=np.int64)
    known, sums = np.zeros(firsts.size), {n: np.zeros(firsts.size) for n in experiment.variants}
    since = firsts - slices.width
    for stretch in stretches:
        until = np.minimum(firsts + slices.width, stretch.until)
        lasted = np.maximum(until - np.maximum(firsts, since), 0)
        since = np.maximum(since, stretch.until)
        whole = sum(stretch.split.values())
        if stretch.split.get(experiment.control) and whole:
            known += lasted
            for name in sums:
                sums[name] += lasted * (stretch.split.get(name, 0.0) / whole)
    return {
        name: [
            float(share / time) if time else None for share, time in zip(each, known, strict=True)
        ]
        for name, each in sums.items()
    }


def latency(snapshot: Snapshot) -> dict[str, Any]:
    """How latency is distributed over the last hour of data, in bins that grow by one factor each.

    Null for a variant without any; no bins where no variant has one.
    """
    end, variants = snapshot.watermark, snapshot.variants
    found = {
        name: Histogram() if end is None else facts.window(end, LATENCY_OVER).latency
        for name, facts in variants.items()
    }
    some = [each for each in found.values() if each.counts.size]
    if not some:
        return {"edges_ms": [], "variants": {name: {"share": []} for name in found}}
    first = min(each.start for each in some)
    last = max(each.start + each.counts.size for each in some)
    step = -(-(last - first) // BINS)
    # A bucket ends at its number: the first bin begins where the bucket before `first` ends.
    ends = np.arange(first - 1, last - 1 + step, step)
    return {
        "edges_ms": [FINEST_MS * GROWTH**end if end >= 0 else 0.0 for end in ends.tolist()],
        "variants": {name: {"share": _shares(each, ends)} for name, each in found.items()},
    }


def _shares(histogram: Histogram, ends: npt.NDArray[np.int64]) -> list[float | None]:
    whole = histogram.total
    if not whole:
        return [None] * (ends.size - 1)
    return [float(n) / whole for n in np.diff(histogram.up_to(ends)).tolist()]
