"""Sample ratio mismatch: whether the variants get the traffic that they were meant to get.

A mismatch says that assignment or logging is broken, so that no other comparison can be trusted. The test
may be looked at after every prediction: under the intended split the Bayes factor is a non-negative
martingale that starts at 1, so it ever reaches 1/alpha with a probability of at most alpha (Ville).

The counts must be of independently assigned units. Where a customer keeps a variant and makes many
predictions, count customers: their predictions vary more than the test allows for.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from scipy.special import gammaln


CONCENTRATION = 100.0
"""How strongly the alternative is drawn to the intended split: it bets on mismatches of about 5 points."""


class SampleRatio(NamedTuple):
    """Evidence against the intended split; the p-value holds at every look, not only at a planned one."""

    p_value: float
    log_bayes_factor: float


def sample_ratio(counts: Mapping[str, int], split: Mapping[str, float]) -> SampleRatio | None:
    """Test `counts` of assigned units per variant against the intended weights of `split`.

    The alternative puts a Dirichlet distribution of concentration `CONCENTRATION`, centred at the
    intended shares, over the true ones; the Bayes factor is the Dirichlet-multinomial likelihood over
    the multinomial one, and the p-value min(1, 1/BF) (Lindon and Malek 2022, arXiv 2011.03567).

    Weights need not add up to 1. Variants of weight 0, or not in `split`, were promised no share: they
    are left out on both sides, since no size of their count has a probability under the split. None
    with fewer than two positive weights or nothing counted. Raises ValueError for a weight that is
    negative or not finite.

    >>> even = {"control": 0.5, "treatment": 0.5}
    >>> sample_ratio({"control": 1_000, "treatment": 1_000}, even).p_value
    1.0
    >>> sample_ratio({"control": 1_000, "treatment": 1_300}, even).p_value < 0.001
    True
    """
    for variant, weight in split.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"expected the weight of {variant} to be a finite number of at least 0, got {weight:g}"
            )
    intended = {variant: weight for variant, weight in split.items() if weight > 0}
    whole = math.fsum(intended.values())
    seen = [(counts.get(variant, 0), weight / whole) for variant, weight in intended.items()]
    n = sum(count for count, _ in seen)
    if len(seen) < 2 or not n:
        return None
    # Logarithms throughout: the likelihoods themselves are below the smallest float from 10^3 units on.
    evidence = math.fsum(
        _rising(CONCENTRATION * share, count) - count * math.log(share) for count, share in seen
    )
    log_bayes_factor = evidence - _rising(CONCENTRATION, n)
    p_value = math.exp(-log_bayes_factor) if log_bayes_factor > 0 else 1.0
    return SampleRatio(p_value, log_bayes_factor)


def _rising(start: float, count: int) -> float:
    """Logarithm of start * (start + 1) * ... * (start + count - 1)."""
    return float(gammaln(start + count) - gammaln(start))
