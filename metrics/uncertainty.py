"""How sure a metric is: variances of estimates, and intervals of differences between two variants.

Every metric here but business value, a sum of three, is a ratio of two weighted sums,
v = sum(w*y) / sum(w*x), whose variance is linearised: sum(w^2 * (y - v*x)^2) / sum(w*x)^2. y and x are
constant within a confusion cell, so that the cells' counts and sums say everything. Predictions are
taken as independent of one another: where one unit makes many, the truth is less sure than these
variances say.

The intervals are confidence sequences: they may be looked at all the time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from metrics.confusion import Cell, Confusion, ratio
from metrics.experiment import BusinessValue
from metrics.ledger import Ledger
from metrics.moments import LATENCY_UNIT_MS, Moments
from metrics.ratios import CELLS, ratio_of
from metrics.sequential import best_ratio, half_width
from metrics.value import finite


ALPHA = 0.05
"""Of the intervals that are shown."""

CENT = 0.01
"""Ledgers count money in hundredths of the currency."""

ROUNDING = 1e-12
"""A smaller share of variances, left when they cancel each other, is rounding: no spread, or below 0."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one variant and the variance of that estimate, in the metric's unit and its square.

    The variance is None with fewer than two predictions, or where it is too large for a float.
    """

    value: float
    variance: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Treatment minus control in the metric's unit; the bounds are None where they cannot be known."""

    estimate: float
    lower: float | None
    upper: float | None


def difference(
    treatment: Estimate | None, control: Estimate | None, ratio: float | None = None
) -> Difference | None:
    """Treatment minus control with a 95 % confidence sequence: good at all looks together.

    `ratio` is r = tau^2/se^2 of its mixture (see `metrics.sequential`), how much of what is planned has been
    seen; without it the interval is the one at the planned end.

    None when one of the estimates is, or when they are too far apart for a float. The bounds are None when a
    variance is unknown, and when the variance of the difference is 0: two variants without any spread were
    seen too little, not surely. One variant without spread does not hide the other: a treatment that stopped
    acting has a RAP of exactly 0, and that it lost must be seen.
    """
    if treatment is None or control is None:
        return None
    estimate = finite(treatment.value - control.value)
    if estimate is None:
        return None
    if treatment.variance is None or control.variance is None:
        return Difference(estimate, None, None)
    variance = finite(treatment.variance + control.variance)
    r = best_ratio(ALPHA) if ratio is None else ratio
    if not variance or not r > 0:
        return Difference(estimate, None, None)
    reach = finite(float(half_width(math.sqrt(variance), r, ALPHA)))
    if reach is None:
        return Difference(estimate, None, None)
    return Difference(estimate, estimate - reach, estimate + reach)


def combined(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The weighted mean of independent estimates, whose weights add up to 1."""
    value = sum(weight * each.value for weight, each in parts)
    variances = [(weight, each.variance) for weight, each in parts if each.variance is not None]
    if len(variances) < len(parts):
        return Estimate(value, None)
    return Estimate(value, finite(sum(weight * weight * found for weight, found in variances)))


def rap(confusion: Confusion, q: float) -> Estimate | None:
    """Relative achieved profit R = (TP - k*FP)/(TP + FN), k = 1/(q - 1); None without positives.

    Variance: [S2(TP)*(1 - R)^2 + S2(FP)*k^2 + S2(FN)*R^2] / (TP + FN)^2 with S2 the sums of squared
    weights; a failed request that was truly positive is a false negative. Raises ValueError for q <= 1.
    """
    return ratio_estimate("rap", confusion, q)


def ratio_estimate(metric: str, confusion: Confusion, q: float | None = None) -> Estimate | None:
    """A metric of `metrics.ratios`; None when there is nothing below the line.

    Raises ValueError for q <= 1, or no q, where `metric` depends on it.
    """
    above, below = ratio_of(metric, q)
    cells = [getattr(confusion, name) for name in CELLS]
    return _ratio([(cell, y, x) for cell, y, x in zip(cells, above, below, strict=True) if y or x])


def share(count: int, of: int) -> Estimate | None:
    """Estimate count / of, for unweighted shares such as error rate and selection rate; None of nothing."""
    return _proportion([Cell(count, count, count)], [Cell(of - count, of - count, of - count)])


def mean_latency_ms(moments: Moments) -> Estimate | None:
    """Mean latency over the predictions that had one, in ms; None without any."""
    mean, variance = moments.mean_ms, moments.variance_ms2
    if mean is None or variance is None:
        return None
    return Estimate(mean, variance / moments.n if moments.n > 1 else None)


def mean_money(ledger: Ledger) -> Estimate | None:
    """Mean of value less cost (capped) over the predictions of a mature ledger; None without any.

    In the currency of the events.
    """
    n = ledger.predictions
    if not n:
        return None
    spread = n * ledger.money_squared - ledger.money**2
    return Estimate(ledger.money / n * CENT, spread / n**3 * CENT**2 if n > 1 else None)


def business_value(
    confusion: Confusion,
    moments: Moments,
    weights: BusinessValue = BusinessValue(),  # frozen
) -> Estimate | None:
    """50*accuracy - 0.1*latency - 1000*error rate of one variant, in per cent (with default `weights`).

    Only the difference of two variants means something: net business value. Each mean has its own
    denominator: accuracy the known results, latency the predictions that had one, error rate all. One
    prediction moves all three, so the variance is that of their weighted sum, covariances included.

    None when a term has no data; one whose weight is 0 needs none. The variance is None when a term
    rests on fewer than two predictions.
    """
    c = confusion
    failed = c.error_positive.plus(c.error_other)
    n = sum(cell.n for cell in (c.tp, c.fp, c.tn, c.fn, failed, c.unknown, c.unknown_idle))
    worths = (
        100 * weights.per_accuracy_point_pct,
        weights.per_latency_ms_pct,
        100 * weights.per_error_point_pct,
    )
    means = (ratio_estimate("accuracy", c), mean_latency_ms(moments), share(failed.n, n))
    covariances = (
        _accuracy_with_latency(c, moments),
        # Residuals of accuracy sum to 0: only those of the failed, which are never correct, remain.
        -(ratio(failed.w * (c.tp.w + c.tn.w), c.total**2 * n) or 0.0),
        (ratio(_slowness(failed, moments), moments.n**2 * n) or 0.0) * LATENCY_UNIT_MS,
    )
    return _weighted_sum(worths, means, covariances)


def _accuracy_with_latency(confusion: Confusion, moments: Moments) -> float:
    """Covariance of accuracy and mean latency: the sum of w*(correct - accuracy)/W * (ms - mean)/T.

    Within a cell the mean weight w/n stands for each weight. That is exact unless weights differ there
    and go with latency, and never makes a variance negative: squared weights are summed as they are.
    """
    c = confusion
    right, wrong = (c.tp, c.tn), (c.fp, c.fn, c.error_positive, c.error_other)
    hits = sum(cell.w for cell in right)
    # Residuals over the common denominator W: whole numbers, from which rounding takes nothing.
    residuals = [(cell, c.total - hits) for cell in right] + [(cell, -hits) for cell in wrong]
    terms = (
        ratio(cell.w * residual * _slowness(cell, moments), cell.n * c.total**2 * moments.n**2)
        for cell, residual in residuals
    )
    return sum(term or 0.0 for term in terms) * LATENCY_UNIT_MS


def _slowness(cell: Cell, moments: Moments) -> int:
    """How much longer the predictions in `cell` took than the mean, in sum, in units / `moments.n`."""
    return cell.latency * moments.n - cell.timed * moments.latency


def _weighted_sum(
    worths: tuple[float, float, float],
    means: tuple[Estimate | None, Estimate | None, Estimate | None],
    covariances: tuple[float, float, float],
) -> Estimate | None:
    """Sum of worth*mean; `covariances` are of the means 1 and 2, 1 and 3, 2 and 3.

    Means that are worth 0 are not asked for.
    """
    used = [(worth, mean) for worth, mean in zip(worths, means, strict=True) if worth]
    known = [(worth, mean) for worth, mean in used if mean is not None]
    value = finite(sum(worth * mean.value for worth, mean in known))
    if value is None or len(known) < len(used):
        return None
    spread = [(worth, mean.variance) for worth, mean in known if mean.variance is not None]
    if len(spread) < len(known):
        return Estimate(value, None)
    pairs = zip(combinations(worths, 2), covariances, strict=True)
    together = sum(one * other * shared for (one, other), shared in pairs)
    alone = sum(worth * worth * variance for worth, variance in spread)
    variance = finite(alone + 2 * together)
    if variance is not None and variance < ROUNDING * alone:
        variance = 0.0
    return Estimate(value, variance)


def _proportion(yes: Iterable[Cell], no: Iterable[Cell]) -> Estimate | None:
    return _ratio([*((cell, 1, 1) for cell in yes), *((cell, 0, 1) for cell in no)])


def _ratio(parts: list[tuple[Cell, float, float]]) -> Estimate | None:
    """sum(w*y) / sum(w*x) over `parts` (cell, y, x) and its linearised variance.

    None when the denominator is 0.
    """
    whole = sum(cell.w * x for cell, _, x in parts)
    if not whole:
        return None
    value = finite(sum(cell.w / whole * y for cell, y, _ in parts))
    if value is None:
        return None
    n = sum(cell.n for cell, _, x in parts if x)
    # Predictions that are all alike get exactly 0: their shares are exactly 1, or add up to it.
    residuals = [(cell.w2 / whole**2, y - value * x) for cell, y, x in parts]
    variance = sum(squares * residual * residual for squares, residual in residuals)
    return Estimate(value, finite(variance) if n > 1 else None)
