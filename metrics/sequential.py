"""Sequential tests: evidence of harm that may be looked at all the time. Pure, vectorised, in logarithms.

The evidence is an e-value: under the null hypothesis its expectation is at most 1 at every moment, so that
it ever reaches 1/alpha with a probability of at most alpha (Ville 1939). Estimates that are
asymptotically normal give one by the normal mixture (Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021,
Annals of Statistics 49(2); for estimated variances Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2024,
arXiv 2103.06476): the likelihood ratio of the estimate, averaged over effects worth finding.

Estimate d of the excess harm has standard error se; the effects are half-normal with scale tau, r = tau^2 /
se^2 says how much of what is worth finding has been seen. Arrays broadcast; what cannot be known is NaN in,
and no evidence (minus infinity) out.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr


Floats = npt.NDArray[np.float64]

PLANNED = 10_000.0
"""Predictions an arm after which a decision is expected where nobody says otherwise."""

BISECTIONS = 60
_HIGHEST_Z = 60.0
"""A decision is due long before: evidence of exp(1,700)."""


def checked_alpha(alpha: float) -> float:
    """Pass `alpha` on; raises ValueError unless it lies between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha to be above 0 and below 1, got {alpha:g}")
    return alpha


def log_evidence(harm: npt.ArrayLike, se: npt.ArrayLike, r: npt.ArrayLike) -> Floats:
    """The ln E of the null that the excess harm is at most 0, E = 2 (1+r)^(-1/2) exp(Z^2 w/2) Phi(Z sqrt(w)).

    With Z = harm/se and w = r/(1+r). Minus infinity where se is 0 or something is unknown: two variants
    without any spread were seen too little, not surely.

    >>> [round(float(log_evidence(z, 1.0, 6.7)), 3) for z in (0.0, 2.76, 4.0)]
    [-1.021, 2.982, 6.633]
    """
    harm, se, r = (np.asarray(x, dtype=np.float64) for x in (harm, se, r))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = np.clip(harm / se, -_HIGHEST_Z * 10, _HIGHEST_Z * 10)
        w = r / (1 + r)
        found = math.log(2) - 0.5 * np.log1p(r) + 0.5 * z * z * w + log_ndtr(z * np.sqrt(w))
    return np.where((se > 0) & np.isfinite(se) & np.isfinite(found), found, -np.inf)


def critical_z(alpha: npt.ArrayLike, r: npt.ArrayLike) -> Floats:
    """The Z at which the evidence reaches 1/alpha, by bisection.

    >>> round(float(critical_z(0.05, 6.7)), 3)
    2.766
    """
    threshold = -np.log(np.asarray(alpha, dtype=np.float64))
    r = np.asarray(r, dtype=np.float64)
    shape = np.broadcast_shapes(threshold.shape, r.shape)
    low, high = np.zeros(shape), np.full(shape, _HIGHEST_Z)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = log_evidence(middle, 1.0, r) >= threshold
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


@lru_cache(maxsize=256)
def best_ratio(alpha: float) -> float:
    """The r = tau^2/se^2 at which the least Z suffices for 1/alpha: what r should be when one decides.

    Raises ValueError unless alpha lies between 0 and 1.

    >>> round(best_ratio(0.05), 1), round(best_ratio(0.05 / 6), 2)
    (6.7, 10.65)
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  # slow to import

    checked_alpha(alpha)

    def needed(log_r: float) -> float:
        return float(critical_z(alpha, math.exp(log_r)))

    found = minimize_scalar(needed, bounds=(-6.0, 8.0), method="bounded", options={"xatol": 1e-7})
    return math.exp(float(found.x))


@lru_cache(maxsize=4096)  # of what was declared, asked for at every look
def scale_for(effect: float, alpha: float) -> float:
    """Tau for an effect (beyond the margin) worth finding, in its unit; rounded up to two digits.

    An effect of that size is decided on when it is `critical_z` standard errors large, and there r
    should be `best_ratio`: tau = effect * sqrt(r)/Z. It never depends on the effect that is observed.
    Raises ValueError unless the effect is above 0 and alpha between 0 and 1.

    >>> scale_for(0.1, alpha=0.05)
    0.094
    """
    if not (math.isfinite(effect) and effect > 0):
        raise ValueError(f"expected an effect above 0, got {effect:g}")
    r = best_ratio(alpha)
    exact = effect * math.sqrt(r) / float(critical_z(alpha, r))
    step = 10.0 ** (math.floor(math.log10(exact)) - 1)
    return math.ceil(round(exact / step, 9)) * step


def half_width(se: npt.ArrayLike, r: npt.ArrayLike, alpha: float) -> Floats:
    """Half of the two-sided confidence sequence: se * sqrt((1 + 1/r) ln((1 + r)/alpha^2)).

    The true value is inside at all looks together with a probability of 1 - alpha. NaN where unknown.

    >>> round(float(half_width(1.0, 6.7, alpha=0.05)), 3)
    3.038
    """
    se, r = np.asarray(se, dtype=np.float64), np.asarray(r, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = se * np.sqrt((1 + 1 / r) * (np.log1p(r) - 2 * math.log(checked_alpha(alpha))))
    return np.where((se > 0) & (r > 0) & np.isfinite(reach), reach, np.nan)


def start_weights(starts: npt.ArrayLike) -> Floats:
    """Weights 1/(j(j+1)) of the starts j = 1, 2, ...: they add up to 1, so the mixture is an e-value."""
    j = np.asarray(starts, dtype=np.float64)
    return 1 / (j * (j + 1))


def ages(count: int) -> npt.NDArray[np.int64]:
    """How many cohorts back the starts lie that are looked at, of `count` cohorts; oldest first.

    All of the newest, and then ever fewer: a start that is left out makes the mixture only smaller, so
    that it stays valid, and a change is found from the next older start on. The first is always there.

    >>> ages(20).tolist()
    [20, 18, 15, 13, 11, 9, 7, 6, 5, 4, 3, 2, 1]
    """
    found, age = [], 1
    while age < count:
        found.append(age)
        age = max(age + 1, math.ceil(age * _SPACING))
    return np.array([count, *found[::-1]] if count else [], dtype=np.int64)


_SPACING = 1.15


def weighted(
    harm: npt.ArrayLike, se: npt.ArrayLike, r: npt.ArrayLike, starts: npt.ArrayLike
) -> Floats:
    """The ln of E^(j)/(j(j+1)), for the test that began with cohort j; `starts` numbers them from 1."""
    return log_evidence(harm, se, r) + np.log(start_weights(starts))


def added(evidence: Floats) -> Floats:
    """The ln of the sum over the last axis, of logarithms that may be minus infinity."""
    most = evidence.max(axis=-1)
    base = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(evidence - base[..., None]).sum(axis=-1)) + base)


def mixture(
    harm: npt.ArrayLike, se: npt.ArrayLike, r: npt.ArrayLike, starts: npt.ArrayLike
) -> Floats:
    """The ln of the mixture over starting cohorts, sum_j E^(j)/(j(j+1)), over the last axis.

    A cumulative test grows slow after much good data; this one finds a late change almost as fast as a
    test that began with it, at the price of ln(j(j+1)) of evidence. `starts` numbers the cohorts from 1.
    """
    return added(weighted(harm, se, r, starts))


def least_harm(
    harm: npt.ArrayLike, se: npt.ArrayLike, r: npt.ArrayLike, starts: npt.ArrayLike, alpha: float
) -> Floats:
    """The largest excess harm that the mixture's evidence rules out, over the last axis: its lower bound.

    The same test that decides, inverted: below 0 exactly when `mixture` is below 1/alpha. NaN where
    nothing is known, or so little that there is no bound within 60 standard errors.
    """
    harm, se = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (harm, se)))
    threshold, known = -math.log(checked_alpha(alpha)), (se > 0) & np.isfinite(harm)
    reach = np.where(known, _HIGHEST_Z * se, 0.0)
    low = np.min(np.where(known, harm - reach, np.inf), axis=-1)
    high = np.max(np.where(known, harm + reach, -np.inf), axis=-1)
    found = known.any(axis=-1)
    low, high = np.where(found, low, 0.0), np.where(found, high, 0.0)
    decided = mixture(harm - low[..., None], se, r, starts) >= threshold
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        ruled_out = mixture(harm - middle[..., None], se, r, starts) >= threshold
        low, high = np.where(ruled_out, middle, low), np.where(ruled_out, high, middle)
    return np.where(found & decided, low, np.nan)
