"""History: what metrics, differences and business value were at each of many moments. Pure.

Everything is summed up to a moment, as at a look: the interval at each point is the confidence sequence that
`metrics.compare` gives there, so that all of them hold together. Arrays have shape (points,), or (points, strata)
where stretches with different splits are compared within themselves; NaN stands for what is unknown.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from metrics.catalogue import CATALOGUE
from metrics.clusters import inflation
from metrics.contrast import KNOWN, value_of
from metrics.experiment import Experiment
from metrics.facts import Facts
from metrics.moments import LATENCY_UNIT_MS
from metrics.ratios import CELLS, ratio_of
from metrics.sequential import best_ratio, half_width
from metrics.uncertainty import ALPHA
from metrics.units import COLUMNS, UNIT_BUCKETS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Some = TypeVar("_Some", bound=np.generic)

_FAILED = np.array([cell.startswith("error") for cell in CELLS], dtype=np.float64)
_UNITS = COLUMNS.index("n")


@dataclass(frozen=True, slots=True)
class Line:
    """A value at each point, and between what it lies; shape (points,) each, NaN where unknown."""

    value: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of net business value in per cent; shape (points,) each, NaN where unknown."""

    accuracy: Floats
    latency: Floats
    errors: Floats


@dataclass(frozen=True, slots=True)
class Sums:
    """What the predictions of one variant add up to at each point, in each stratum."""

    facts: Facts
    """Shape (points, strata, columns)."""
    buckets: Ints
    """Sums by unit, shape (points, strata, UNIT_BUCKETS, columns of `metrics.units`); empty without units."""


@dataclass(frozen=True, slots=True)
class Grid:
    """At which point and in which stratum each row of an array (a cohort) counts; rows in order of time."""

    point: Ints
    """The first point at which a row counts, shape (rows,)."""
    stratum: Ints
    """Numbered from 0, shape (rows,)."""
    points: int
    strata: int = 1

    def sums(self, facts: Facts, buckets: Sequence[Ints]) -> Sums:
        """Everything up to each point; `facts` has shape (rows, columns), `buckets` an array a row."""
        keys = self.point * self.strata + self.stratum
        sized = [at for at, part in enumerate(buckets) if part.size]
        units = np.stack([buckets[at] for at in sized]) if sized else _NO_UNITS
        by_unit = self._up_to(keys[sized], units) if sized else _NO_UNITS
        return Sums(Facts(self._up_to(keys, facts.sums)), by_unit)

    def _up_to(self, keys: Ints, parts: npt.NDArray[_Some]) -> npt.NDArray[_Some]:
        found = np.zeros((self.points * self.strata, *parts.shape[1:]), dtype=parts.dtype)
        np.add.at(found, keys, parts)
        by_point = found.reshape(self.points, self.strata, *parts.shape[1:])
        return np.cumsum(by_point, axis=0, dtype=parts.dtype)


_NO_UNITS: Ints = np.zeros((0, UNIT_BUCKETS, len(COLUMNS)), dtype=np.int64)


def picked(count: int, most: int, wanted: Collection[int] = ()) -> list[int]:
    """So many as `most` (2 or more) of the indices 0 ... `count` - 1, ascending; all where they are fewer.

    The first and the last one are among them, and of `wanted` as many as there is room for in half of the rest,
    later ones first; the others lie evenly apart.

    >>> picked(10, 4), picked(10, 4, wanted=[7]), picked(3, 4)
    ([0, 3, 6, 9], [0, 4, 7, 9], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    ends = {0, count - 1}
    inner = sorted({*wanted} - ends)
    kept = ends | {*inner[max(0, len(inner) - (most - 1) // 2) :]}
    rest, room = [at for at in range(count) if at not in kept], most - len(kept)
    places = (np.arange(1, room + 1) * (len(rest) + 1) / (room + 1) + 0.5).astype(np.int64) - 1
    return sorted(kept | {rest[place] for place in places.tolist()})


def own(metric: str, sums: Sums, experiment: Experiment, planned: float) -> Line:
    """A metric of one variant, whose `sums` are one stratum, with a confidence sequence of its own.

    The normal mixture of `metrics.sequential`, narrowest when `planned` predictions were seen, as those of
    differences are: it holds at all points together with a probability of 1 - ALPHA. Differences are surer
    than two such bands look beside each other.
    """
    value, variance = _estimate(metric, sums, experiment)
    grown = best_ratio(ALPHA) * sums.facts.predictions / planned
    return _line(value[:, 0], variance[:, 0], grown[:, 0])


def difference(
    metric: str, treatment: Sums, control: Sums, experiment: Experiment, planned: float
) -> Line:
    """Treatment minus control at each point: what `metrics.compare` says there."""
    weights = _weights(treatment, control)
    arms = [_estimate(metric, sums, experiment) for sums in (treatment, control)]
    (ours, our_variance), (theirs, their_variance) = arms
    shares = _shares(weights, np.isfinite(ours) & np.isfinite(theirs))
    value = _combined(shares, ours - theirs)
    variance = _combined(shares * shares, our_variance + their_variance)
    grown = best_ratio(ALPHA) * 2 * weights.sum(axis=-1) / planned
    return _line(value, variance, grown)


def change(metric: str, treatment: Sums, control: Sums, experiment: Experiment) -> Floats:
    """The estimate of `difference` alone, shape (points,); also of mean latency and the error rate."""
    ours, theirs = (_value(metric, each.facts, experiment) for each in (treatment, control))
    with np.errstate(invalid="ignore", over="ignore"):
        shares = _shares(_weights(treatment, control), np.isfinite(ours) & np.isfinite(theirs))
        return _finite(_combined(shares, ours - theirs))


def parts(treatment: Sums, control: Sums, experiment: Experiment) -> Parts:
    """What accuracy, latency and errors add to net business value; 0 for what is worth nothing."""
    worth = experiment.business_value
    terms = (
        ("accuracy", 100 * worth.per_accuracy_point_pct),
        ("latency_mean_ms", worth.per_latency_ms_pct),
        ("error_rate", 100 * worth.per_error_point_pct),
    )
    moved = [(weight, change(metric, treatment, control, experiment)) for metric, weight in terms]
    # Added to 0.0, because a screen would show -0.0.
    return Parts(*(weight * by + 0.0 if weight else np.zeros_like(by) for weight, by in moved))


def _weights(treatment: Sums, control: Sums) -> Floats:
    """What each stratum counts for: half the harmonic mean of the predictions of both variants."""
    ours, theirs = treatment.facts.predictions, control.facts.predictions
    both = ours + theirs
    return np.divide(ours * theirs, both, out=np.zeros_like(both), where=both > 0)


def _shares(weights: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """What each stratum in which something is known counts for, shape (points, strata); NaN without any."""
    some = np.where(known, weights, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(some / some.sum(axis=-1, keepdims=True))


def _combined(shares: Floats, values: Floats) -> Floats:
    """The sum over strata that count for something, shape (points,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.where(shares == 0, 0.0, shares * values).sum(axis=-1))


def _line(value: Floats, variance: Floats, grown: Floats) -> Line:
    known = _finite(value)
    with np.errstate(invalid="ignore", over="ignore"):
        reach = half_width(np.sqrt(variance), grown, ALPHA)
        return Line(known, _finite(known - reach), _finite(known + reach))


def _finite(numbers: Floats) -> Floats:
    """The numbers, NaN for what is too large for a float."""
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _estimate(metric: str, sums: Sums, experiment: Experiment) -> tuple[Floats, Floats]:
    """A metric and its variance, no surer than units allow, shape (points, strata); NaN where unknown."""
    value, variance = _value_of(metric, sums.facts, experiment)
    variance = np.where(_seen(metric, sums.facts, experiment) > 1, variance, np.nan)
    if not sums.buckets.size or not np.isfinite(value).any():
        return value, variance
    more = inflation(metric, sums.buckets, sums.facts, experiment)
    named = sums.buckets[..., _UNITS].sum(axis=-1) > 0
    with np.errstate(invalid="ignore", over="ignore"):
        return value, np.where(named, variance * more, variance)


def _value(metric: str, facts: Facts, experiment: Experiment) -> Floats:
    return _value_of(metric, facts, experiment)[0]


def _value_of(metric: str, facts: Facts, experiment: Experiment) -> tuple[Floats, Floats]:
    """As `metrics.contrast.value_of`, and of mean latency and the error rate the value alone."""
    unknown = np.full(facts.predictions.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "error_rate":
            return facts.cells("n") @ _FAILED / facts.predictions, unknown
        if metric == "latency_mean_ms":
            return facts.column("latency") / facts.column("timed") * LATENCY_UNIT_MS, unknown
    return value_of(metric, facts, experiment) if knowable(metric, experiment) else (unknown,) * 2


def knowable(metric: str, experiment: Experiment) -> bool:
    """Whether what was declared, and the labels there are, allow for a labelled metric."""
    found = CATALOGUE[metric]
    unpriced = found.priced and experiment.q is None
    blind = found.every_label and experiment.labels.observed == "acted"
    return not unpriced and not blind


def _seen(metric: str, facts: Facts, experiment: Experiment) -> Floats:
    """The fewest predictions that any part of a labelled metric rests on."""
    n = facts.cells("n")
    if metric != "net_business_value":
        if not knowable(metric, experiment):
            return np.zeros(facts.predictions.shape)
        return np.asarray(n @ (np.array(ratio_of(metric, experiment.q).below) > 0))
    worth = experiment.business_value
    used = [
        (worth.per_accuracy_point_pct, n @ KNOWN),
        (worth.per_latency_ms_pct, facts.column("timed")),
        (worth.per_error_point_pct, n.sum(axis=-1)),
    ]
    some = [seen for weight, seen in used if weight]
    return np.minimum.reduce(some) if some else np.full(facts.predictions.shape, math.inf)
