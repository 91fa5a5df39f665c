"""What is told beside the tests of `rates`: intervals good at every look, and how long an answer takes."""

import math
from collections.abc import Callable, Iterable
from statistics import NormalDist

import numpy as np
from scipy.special import expit

from metrics.rates import HALF_AT_EQUAL, Floats, RateTest, Tally, difference_growth, ratio_growth


PRIOR_SCALE = 0.5
"""Scale of the logistic prior over log theta, about 0: ratios within e or so, and tails that forgive."""
FARTHEST = 1_500.0
"""Where the search along log theta ends: beyond the likeliest one for any counts and any rho."""
TELLABLE = 700.0
"""Ends of log theta farther out are open: exp of this is about the largest float."""
BELOW_PEAK = 40.0
"""Where the prior-weighted likelihood is exp(-40) of its highest, the integral may end."""
NODES = 1_001
THREE_QUARTERS = NormalDist().inv_cdf(0.75)
DISPLAY_FRACTIONS: Floats = np.geomspace(1e-6, 0.95, 24)
"""Finer bets than the tests': an interval is to shrink on until 10^12 predictions."""
CENTRES: Floats = np.array([0, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 1])
"""Guesses of the shares, one of which is always close enough: an interval cannot learn them on the way,
since it has to come from the totals alone."""


def ratio_interval(
    tallies_by_phase: Iterable[tuple[float, float, float]], alpha: float
) -> tuple[float | None, float | None] | None:
    """Confidence sequence of theta, the ratio of shares, from the totals (x_T, x_C, rho) of each phase.

    All theta whose likelihood, given how many events there were, is at least alpha times its mean under a
    logistic prior over log theta. At the true theta, mean over likelihood is a martingale that starts at 1,
    so that the interval holds it at all looks with a probability of at least 1 - alpha (Robbins 1970).

    None without events; an end is None where none can be known: the lower one until the treatment had an
    event, the upper one until the control had. Raises ValueError for alpha outside (0, 1), for negative
    counts, and for rho outside (0, 1).
    """
    seen = [phase for phase in tallies_by_phase if phase[0] or phase[1]]
    level = _log_alpha(alpha)
    if not seen:
        return None
    x_t, x_c, rho = map(np.array, zip(*seen, strict=True))
    tally = Tally.checked(x_t, x_t, x_c, x_c, rho)
    odds = np.log(tally.rho) - np.log1p(-tally.rho)

    def likelihood(at: Floats) -> Floats:
        return np.asarray(ratio_growth(tally, 0.0, at.ravel()).sum(axis=0)).reshape(at.shape)

    def slope(at: float) -> float:
        ours, theirs = expit(odds + at), expit(-odds - at)
        return float((tally.x_t * theirs - tally.x_c * ours).sum())

    floor = _log_mean(likelihood, slope) + level
    best = _crossing(slope, -FARTHEST, FARTHEST)
    lower = _fall(likelihood, best, -1, floor)
    upper = _fall(likelihood, best, 1, floor)
    return (
        math.exp(lower) if abs(lower) < TELLABLE else None,
        math.exp(upper) if abs(upper) < TELLABLE else None,
    )


def difference_interval(
    tallies_by_phase: Iterable[tuple[float, float, float, float, float]], alpha: float
) -> tuple[float, float] | None:
    """Confidence sequence of s_T - s_C from the totals (x_T, n_T, x_C, n_C, rho) of each phase.

    All differences that no mixture of bets against them disproves at alpha/2 a side. The bets and the
    constants c they use are fixed beforehand, so that a phase's totals say their whole product, and the
    interval is exact for any counts and good at every look (see `rates`).

    None without predictions, and where no difference fits, because the arms' traffic is nowhere near rho.
    Raises ValueError for alpha outside (0, 1) and impossible counts.
    """
    level = math.log(2) - _log_alpha(alpha)
    tallies = [Tally.checked(*phase) for phase in tallies_by_phase]
    if not sum(float(tally.n_t + tally.n_c) for tally in tallies):
        return None

    def evidence(side: float, bound: float) -> float:
        """Log e-value against side * (s_T - s_C) <= side * bound; falls as side * bound rises."""
        logs = sum(
            difference_growth(tally, CENTRES, side, bound, DISPLAY_FRACTIONS) for tally in tallies
        )
        return float(np.logaddexp.reduce(logs, axis=None)) - math.log(np.size(logs))

    lower = _crossing(lambda bound: evidence(1.0, bound) - level, -1.0, 1.0)
    upper = -_crossing(lambda bound: evidence(-1.0, -bound) - level, -1.0, 1.0)
    return (lower, upper) if lower <= upper else None


def predictions_needed(
    test: RateTest, share_control: float, effect: float, rho: float, alpha: float
) -> int | None:
    """Predictions of both arms until harm that is there from the start alarms, in half of the cases.

    `effect` is theta for a relative margin, s_T - s_C for an absolute one. Counts are taken as growing as
    expected, and the whole evidence as that of the first start, of weight 1/2. None when an effect is
    too small for any bet on it to grow. Raises ValueError for alpha or rho outside (0, 1) and for an
    effect or a share that no arm can have.
    """
    relative = test.relative_margin is not None
    share_treatment = share_control * effect if relative else share_control + effect
    tally, centre = _expected(share_treatment, share_control, rho)
    growth = test.harm_growth(tally, centre).ravel()
    weights = np.full(growth.size, -math.log(2 * growth.size))
    return _until(growth, weights, -_log_alpha(alpha))


def predictions_to_pass(
    test: RateTest, share_control: float, rho: float, alpha: float
) -> int | None:
    """Predictions of both arms until arms that are truly equal are shown to be, in half of the cases.

    Where either direction is harm, both have to be shown to be kept. Chance favours one at the cost of
    the other, so that each has to be shown in three quarters of the cases: with n * growth normal, of
    variance twice its mean, as it is for likelihood ratios near the null.

    None without a margin: that equal arms are no worse by anything at all cannot be shown. Raises
    ValueError for alpha or rho outside (0, 1) and for a share that no arm can have.
    """
    level = -_log_alpha(alpha)
    tally, centre = _expected(share_control, share_control, rho)
    if test.harm == "either":
        level = (THREE_QUARTERS / math.sqrt(2) + math.sqrt(THREE_QUARTERS**2 / 2 + level)) ** 2
    needs = [_until(side, HALF_AT_EQUAL, level) for side in test.safe_growth(tally, centre)]
    known = [need for need in needs if need is not None]
    return max(known) if len(known) == len(needs) else None


def _log_alpha(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha to be above 0 and below 1, got {alpha:g}")
    return math.log(alpha)


def _expected(share_treatment: float, share_control: float, rho: float) -> tuple[Tally, float]:
    """What one prediction adds on average, and the pooled share of events."""
    for arm, share in (("control", share_control), ("treatment", share_treatment)):
        if not 0 <= share <= 1:
            raise ValueError(f"expected the {arm}'s share to be from 0 to 1, got {share:g}")
    ours, theirs = rho * share_treatment, (1 - rho) * share_control
    return Tally.checked(ours, rho, theirs, 1 - rho, rho), ours + theirs


def _until(growth: Floats, weights: Floats, level: float) -> int | None:
    """The n at which log sum of exp(weights + n * growth) reaches `level`; None if it never does."""
    best = float(growth.max())
    if best <= 0:
        return None
    enough = (level - float(weights[growth.argmax()])) / best
    missing = _crossing(
        lambda n: level - float(np.logaddexp.reduce(weights + n * growth)), 0.0, enough
    )
    return math.ceil(missing)


def _log_mean(likelihood: Callable[[Floats], Floats], slope: Callable[[float], float]) -> float:
    """Log of the mean of exp(likelihood) under the prior, by the trapezoid rule around the peak.

    `slope` is that of `likelihood`. Likelihood times prior is log-concave: it has one peak and falls on
    both sides, at least as fast as the prior.
    """

    def density(at: Floats) -> Floats:
        from_middle = np.abs(at) / PRIOR_SCALE
        prior = -from_middle - 2 * np.log1p(np.exp(-from_middle)) - math.log(PRIOR_SCALE)
        return np.asarray(likelihood(at) + prior)

    def steepness(at: float) -> float:
        return slope(at) - math.tanh(at / PRIOR_SCALE / 2) / PRIOR_SCALE

    peak = _crossing(steepness, -FARTHEST, FARTHEST)
    end = float(density(np.array(peak))) - BELOW_PEAK
    nodes = np.linspace(_fall(density, peak, -1, end), _fall(density, peak, 1, end), NODES)
    return float(np.logaddexp.reduce(density(nodes))) + math.log(nodes[1] - nodes[0])


def _fall(log: Callable[[Floats], Floats], peak: float, way: int, floor: float) -> float:
    """Where the concave `log` gets down to `floor`, going up (`way` 1) or down (-1) from its peak."""
    room = max(FARTHEST - way * peak, 0.0)
    far = _crossing(lambda away: float(log(np.array(peak + way * away))) - floor, 0.0, room)
    return peak + way * far


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where `falling` gets to 0 between two ends, or the end that is nearest to it, by bisection."""
    if falling(high) > 0:
        return high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low
