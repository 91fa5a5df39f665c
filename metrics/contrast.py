"""Contrasts: how much worse a treatment does than its control, beyond a margin, and how sure that is. Pure.

Variances are linearised (see `metrics.uncertainty`), and never taken smaller than what both variants
together, scaled to the size of each, would give: a small canary that has not met a rare cell yet seems surer
than it is. Arrays have shape (...) for facts of shape (..., columns); NaN stands for what is unknown.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.catalogue import CATALOGUE
from metrics.experiment import BusinessValue, Experiment
from metrics.facts import Facts
from metrics.moments import LATENCY_UNIT_MS
from metrics.ratios import CELLS, RATIOS, ratio_of
from metrics.uncertainty import CENT, ROUNDING


Floats = npt.NDArray[np.float64]

MIN_POSITIVES = 30
"""Effective number of positives (S1^2/S2) that each variant needs before anything is judged."""

MIN_CONTRIBUTIONS = 30
"""Effective number of predictions that a variance must rest on before a treatment may pass.

A treatment that has had few misses by luck looks better and surer at once. Finding harm is not
touched by that: bad luck looks worse and less sure.
"""

_POSITIVE = np.array([cell in ("tp", "fn", "error_positive") for cell in CELLS], dtype=np.float64)
_FAILED = np.array([cell.startswith("error") for cell in CELLS], dtype=np.float64)
RIGHT = np.array([cell in ("tp", "tn") for cell in CELLS], dtype=np.float64)
KNOWN = np.array([not cell.startswith("unknown") for cell in CELLS], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Treatment against control, each of shape (...)."""

    treatment: Floats
    control: Floats
    harm: Floats
    """How much worse the treatment is than the margin allows, in the metric's unit; below 0: it is not."""
    se: Floats
    """Standard error of `harm`."""
    n: Floats
    """Predictions an arm: twice the harmonic sum of both."""
    positives: Floats
    """The smaller effective number of positives of the two, both scaled from the pooled facts."""
    contributions: Floats
    """Effective number of predictions that the pooled variance rests on, in the smaller variant."""
    enough: npt.NDArray[np.bool_]
    """Whether normal approximations can be trusted to find harm."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse is tolerated: in the metric's unit, or as a share of the control's value."""

    absolute: float = 0.0
    relative: float = 0.0


def value_of(metric: str, facts: Facts, experiment: Experiment) -> tuple[Floats, Floats]:
    """A metric and its variance, NaN where unknown. Raises KeyError for metrics that need no labels."""
    if metric == "net_business_value":
        return _business_value(facts, experiment.business_value)
    if metric == "money_per_prediction":
        return _money(facts)
    return _ratio(metric, facts, experiment)


def contrast(
    metric: str,
    treatment: Facts,
    control: Facts,
    experiment: Experiment,
    margin: Margin,
    inflation: tuple[npt.ArrayLike, npt.ArrayLike] = (1.0, 1.0),
) -> Contrast:
    """Compare two variants; `inflation` is what units do to the variance of each (`metrics.clusters`)."""
    ours, our_variance = value_of(metric, treatment, experiment)
    theirs, their_variance = value_of(metric, control, experiment)
    pooled = treatment.plus(control)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rising = 1.0 if CATALOGUE[metric].harm == "rising" else -1.0
        scale = 1 + rising * margin.relative * np.sign(theirs)
        harm = rising * (ours - scale * theirs) - margin.absolute
        sizes = np.stack([treatment.predictions, control.predictions])
        shares = _sizes(metric, treatment, control, experiment)
        _, pooled_variance = value_of(metric, pooled, experiment)
        units = [np.asarray(each, dtype=np.float64) for each in inflation]
        # A small variant has few units, so that what they do to its variance is hardly known.
        together = shares[0] * units[0] + shares[1] * units[1]
        floor = together * pooled_variance * (1 / shares[0] + scale**2 / shares[1])
        own = units[0] * our_variance + units[1] * scale**2 * their_variance
        variance = np.fmax(own, floor)
        n = 2 / (1 / sizes).sum(axis=0)
        smaller = shares.min(axis=0)
        positives = _effective(pooled, _POSITIVE) * smaller
        contributions = _contributions(metric, pooled, experiment) * smaller
        enough = (positives >= MIN_POSITIVES) & _denominators(
            metric, treatment, control, experiment
        )
    known = np.isfinite(harm) & np.isfinite(variance) & (variance > 0)
    harm, se = np.where(known, harm, np.nan), np.sqrt(np.where(known, variance, np.nan))
    return Contrast(ours, theirs, harm, se, n, positives, contributions, enough & known)


def _sizes(metric: str, treatment: Facts, control: Facts, experiment: Experiment) -> Floats:
    """The share of all predictions that each variant has, shape (2, ...).

    Of business value, whose latency may be known for few of them, the share of those if it is smaller.
    """
    sizes = np.stack([treatment.predictions, control.predictions])
    shares = sizes / sizes.sum(axis=0)
    if metric != "net_business_value" or not experiment.business_value.per_latency_ms_pct:
        return np.asarray(shares)
    timed = np.stack([treatment.column("timed"), control.column("timed")])
    return np.asarray(np.minimum(shares, timed / timed.sum(axis=0)))


def _effective(facts: Facts, wanted: Floats) -> Floats:
    """S1^2/S2 of the wanted cells: how many predictions of weight 1 are as informative."""
    total, squares = facts.cells("w") @ wanted, facts.cells("w2") @ wanted
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, total * total / squares, 0.0)


def _contributions(metric: str, facts: Facts, experiment: Experiment) -> Floats:
    """How many predictions the variance rests on: (sum v)^2 / sum(v^2/n), v what each cell adds to it.

    Where nearly all are alike it is made by the few that are not, however many there are. Within a cell
    what differs (latency, money) is taken as spread evenly.
    """
    worth = experiment.business_value
    if metric in RATIOS:
        above, below = (np.array(part) for part in ratio_of(metric, experiment.q))
    elif metric == "money_per_prediction":
        above, below = _POSITIVE, np.ones_like(_POSITIVE)  # those are what money comes from
    else:
        above = worth.per_accuracy_point_pct * RIGHT + worth.per_error_point_pct * _FAILED
        below = KNOWN
    w, w2, n = facts.cells("w"), facts.cells("w2"), facts.cells("n")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (w @ above) / (w @ below)
        v = w2 * np.square(above - value[..., None] * below)
        each = np.where(n > 0, v * v / n, 0.0).sum(axis=-1)
        return np.where(each > 0, np.square(v.sum(axis=-1)) / each, 0.0)


def _denominators(
    metric: str, treatment: Facts, control: Facts, experiment: Experiment
) -> npt.NDArray[np.bool_]:
    """Whether what stands below the line rests on enough predictions, in both variants."""
    if metric == "money_per_prediction":
        least = np.minimum(treatment.predictions, control.predictions)
    elif metric == "net_business_value":
        arms = [_effective(facts, KNOWN) for facts in (treatment, control)]
        if experiment.business_value.per_latency_ms_pct:
            arms += [facts.column("timed") for facts in (treatment, control)]
        least = np.minimum.reduce(arms)
    else:
        below = np.array(ratio_of(metric, experiment.q).below) > 0
        arms = [_effective(facts, below.astype(np.float64)) for facts in (treatment, control)]
        least = np.minimum(*arms)
    return least >= MIN_POSITIVES


def _ratio(metric: str, facts: Facts, experiment: Experiment) -> tuple[Floats, Floats]:
    above, below = (np.array(part) for part in ratio_of(metric, experiment.q))
    w, w2 = facts.cells("w"), facts.cells("w2")
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = w @ below
        value = (w / whole[..., None]) @ above
        residual = above - value[..., None] * below
        terms = w2 / whole[..., None] ** 2 * residual**2
        most = (w2 / whole[..., None] ** 2) @ (above**2 + below**2)
    return value, _rounded(terms.sum(axis=-1), most)


def _rounded(variance: Floats, most: Floats) -> Floats:
    """The variance, exactly 0 where it is nothing but rounding of terms of size `most`."""
    return np.where(variance > ROUNDING**2 * most, variance, np.where(variance >= 0, 0.0, variance))


def _spread(mean: Floats, square: Floats) -> Floats:
    """The mean of squares less the square of the mean; exactly 0 where it is nothing but rounding."""
    spread = square - mean * mean
    return np.where(np.isnan(spread) | (spread > ROUNDING * square), spread, 0.0)


def _money(facts: Facts) -> tuple[Floats, Floats]:
    """Mean money of a prediction (value less cost, capped), in the currency of the events."""
    n = facts.predictions
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = facts.column("money") / n
        square = facts.column("money_squared") / n
        variance = _spread(mean, square) / n
    return mean * CENT, variance * CENT**2


def _business_value(facts: Facts, weights: BusinessValue) -> tuple[Floats, Floats]:
    """50*accuracy - 0.1*latency - 1000*error rate, in per cent (with default `weights`).

    One prediction moves all three means, so the variance is that of their weighted sum, covariances
    included; see `metrics.uncertainty.business_value`, which this is for many rows at once.
    """
    worth = np.array(
        [
            100 * weights.per_accuracy_point_pct,
            weights.per_latency_ms_pct,
            100 * weights.per_error_point_pct,
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        means, variances, covariances = _moments(facts)
        used = worth != 0
        value = (means[..., used] * worth[used]).sum(axis=-1)
        alone = (variances[..., used] * worth[used] ** 2).sum(axis=-1)
        pairs = np.array([worth[0] * worth[1], worth[0] * worth[2], worth[1] * worth[2]])
        together = (covariances[..., pairs != 0] * pairs[pairs != 0]).sum(axis=-1)
    variance = alone + 2 * together
    return value, np.where(variance > ROUNDING * alone, variance, np.where(alone >= 0, 0.0, alone))


def _moments(facts: Facts) -> tuple[Floats, Floats, Floats]:
    """Accuracy, mean latency and error rate: means, variances, and covariances 12, 13, 23."""
    w, w2, n = facts.cells("w"), facts.cells("w2"), facts.cells("n")
    timed, latency = facts.column("timed"), facts.column("latency")
    whole, everything = w @ KNOWN, n.sum(axis=-1)
    accuracy, mean = (w @ RIGHT) / whole, latency / timed
    failed, failures = n @ _FAILED, w @ _FAILED
    rate = failed / everything
    spread = _spread(mean, facts.column("latency_squared") / timed)
    residual = KNOWN * (RIGHT - accuracy[..., None])
    slowness = facts.cells("latency") - facts.cells("timed") * mean[..., None]
    typical = np.divide(w, n, out=np.zeros_like(w), where=n > 0)
    means = np.stack([accuracy, mean * LATENCY_UNIT_MS, rate], axis=-1)
    variances = np.stack(
        [
            (w2 * residual**2).sum(axis=-1) / whole**2,
            spread / timed * LATENCY_UNIT_MS**2,
            rate * (1 - rate) / everything,
        ],
        axis=-1,
    )
    covariances = np.stack(
        [
            (typical * residual * slowness).sum(axis=-1) / (whole * timed) * LATENCY_UNIT_MS,
            # Residuals of accuracy sum to 0: only those of the failed, which are never correct, remain.
            -failures * accuracy / (whole * everything),
            (slowness @ _FAILED) / (timed * everything) * LATENCY_UNIT_MS,
        ],
        axis=-1,
    )
    return means, variances, covariances
