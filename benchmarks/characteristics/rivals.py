"""Rivals: what others would do with the same cohorts. Pure.

All get what the product gets, cohort by cohort, and say after how many they would roll back (infinite for
never). They know no margin: worse is worse than the control.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import norm

from metrics.contrast import value_of
from metrics.facts import Facts

from .draws import Drawn
from .looks import first_true
from .worlds import EXPERIMENT


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a metric, by experiment and look, since the first cohort; shape (..., looks)."""

    harm: Floats
    """Control less treatment."""
    se: Floats
    n: Ints
    """Predictions of both arms."""
    ours: Floats
    """The treatment's value in each cohort alone."""
    theirs: Floats


def seen(drawn: Drawn, metric: str) -> Seen:
    """Add up cohorts, without strata: rivals know none."""
    whole = [Facts(arm.sums.cumsum(axis=-2)) for arm in (drawn.treatment, drawn.control)]
    (ours, our_variance), (theirs, their_variance) = (
        value_of(metric, arm, EXPERIMENT) for arm in whole
    )
    alone = (value_of(metric, arm, EXPERIMENT)[0] for arm in (drawn.treatment, drawn.control))
    n = whole[0].predictions + whole[1].predictions
    return Seen(theirs - ours, np.sqrt(our_variance + their_variance), n.astype(int), *alone)


def peeking(found: Seen, alpha: float = 0.05) -> Floats:
    """A two-sided z-test at every look, as if it were the only one; rolls back what looks worse."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = found.harm / found.se
    return first_true(np.isfinite(z) & (z > ndtri(1 - alpha / 2)), axis=-1)


def growthbook(found: Seen, alpha: float = 0.05, tuned_for: float = 5_000) -> Floats:
    """GrowthBook's sequential test: a two-sided asymptotic confidence sequence.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476v7, eq. 9 and 161; in GrowthBook's gbstats
    `sequential_rho` and `sequential_interval_halfwidth`, n counting both arms and the tuning
    parameter 5,000 unless changed. On the absolute difference, which is what RAP can be compared by.
    """
    log_alpha = math.log(alpha)
    rho = math.sqrt((-2 * log_alpha + math.log(-2 * log_alpha + 1)) / tuned_for)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = found.n * rho**2 + 1
        reach = np.sqrt(found.se**2 * found.n) * np.sqrt(
            2 * spread * np.log(np.sqrt(spread) / alpha) / (found.n * rho) ** 2
        )
        worse = np.isfinite(reach) & (found.se > 0) & (found.harm > reach)
    return first_true(worse, axis=-1)


def three_strikes(
    drawn: Drawn, metric: str, worse_by: float, window: int = 5, strikes: int = 3
) -> Floats:
    """A fixed threshold on a rolling window of cohorts; rolls back after so many failures in a row."""
    values = []
    for arm in (drawn.treatment, drawn.control):
        whole = np.cumsum(arm.sums, axis=-2)
        whole[..., window:, :] -= whole[..., :-window, :].copy()
        values.append(value_of(metric, Facts(whole), EXPERIMENT)[0])
    with np.errstate(invalid="ignore"):
        failed = values[1] - values[0] > worse_by
    failed[..., : window - 1] = False
    row = failed.copy()
    for back in range(1, strikes):
        row[..., back:] &= failed[..., :-back]
        row[..., :back] = False
    return first_true(row, axis=-1)


def kayenta(
    found: Seen, asked: Iterable[int], confidence: float = 0.98, tolerance: float = 0.25
) -> Floats:
    """The judge of Spinnaker's Kayenta, `asked` after so many cohorts each about all cohorts so far.

    Its Mann-Whitney classifier calls a metric Low when the whole confidence interval of the shift
    (treatment less control, one value a cohort) lies below -`tolerance` times the absolute
    Hodges-Lehmann estimate (MannWhitneyClassifier.scala; the judge sets 0.98 and 0.25). The interval is
    that of R's wilcox.test with a normal approximation and continuity correction (MannWhitney.scala). Its
    ends are where the rank sum crosses a bound, which is at an order statistic of all pairwise differences.
    Cohorts in which the metric is undefined are left out.
    """
    experiments, looks = found.ours.shape
    alarm = np.zeros((experiments, looks), dtype=np.bool_)
    for look in asked:
        ours, theirs = found.ours[:, :look], found.theirs[:, :look]
        pairs = look * look
        # Undefined values become differences above all others, on the side that raises no alarm.
        shifts = (ours[:, :, None] - theirs[:, None, :]).reshape(experiments, pairs)
        shifts = np.where(np.isfinite(shifts), shifts, np.inf)
        sigma = math.sqrt(pairs * (2 * look + 1) / 12)
        upper = pairs / 2 + ndtri((1 + confidence) / 2) * sigma + 0.5
        if upper >= pairs:
            continue
        ranks = np.array([pairs // 2, math.ceil(upper) - 1])
        middle, high = np.partition(shifts, ranks, axis=1)[:, ranks].T
        alarm[:, look - 1] = high < -tolerance * np.abs(middle)
    return first_true(alarm, axis=1)


def group_sequential(found: Seen, looks: Ints, alpha: float = 0.05) -> Floats:
    """Planned looks only, with O'Brien-Fleming-like error spending, one-sided; see `boundary`."""
    bound = boundary(tuple((looks / looks[-1]).tolist()), alpha)
    at = looks - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        z = found.harm[..., at] / found.se[..., at]
    crossed = first_true(np.isfinite(z) & (z >= bound), axis=-1)
    known = np.isfinite(crossed)
    return np.where(known, looks[np.where(known, crossed, 1).astype(int) - 1], np.inf)


def spending(share: npt.ArrayLike, alpha: float) -> Floats:
    """Error spent at a share of the planned information, 2 - 2 Phi(z_(alpha/2) / sqrt(share)).

    Lan and DeMets 1983, Biometrika 70(3), the form that resembles O'Brien and Fleming's bounds.
    """
    return np.asarray(2 * norm.sf(ndtri(1 - alpha / 2) / np.sqrt(share)))


def boundary(shares: tuple[float, ...], alpha: float, points: int = 1_001) -> Floats:
    """Upper bounds of z at shares of the planned information that spend `alpha` as `spending` says.

    Recursive numerical integration of the density of the score B(t) = z sqrt(t) that has not crossed yet
    (Armitage, McPherson, Rowe 1969, JRSS-A 132(2)), by the trapezoidal rule.
    """
    spent = np.diff(spending(shares, alpha), prepend=0.0)
    nodes, mass, before = np.zeros(1), np.ones(1), 0.0  # all paths begin at 0
    found = []
    for share, goal in zip(shares, spent.tolist(), strict=True):
        width = math.sqrt(share - before)
        crossing = float(brentq(_excess, -_FAR, _FAR, args=(nodes, mass, width, goal), xtol=1e-12))
        grid = np.linspace(-_FAR, crossing, points)
        density = norm.pdf(grid[:, None] - nodes, scale=width) @ mass
        weights = np.full(points, grid[1] - grid[0])
        weights[[0, -1]] /= 2
        nodes, mass, before = grid, density * weights, share
        found.append(crossing / math.sqrt(share))
    return np.array(found)


_FAR = 9.0
"""The score's standard deviation is at most 1."""


def _excess(score: float, nodes: Floats, mass: Floats, width: float, goal: float) -> float:
    """By how much the probability of passing `score` next is above the goal."""
    return float(mass @ norm.sf((score - nodes) / width)) - goal
