"""The population stability index: how far two histograms of scores are apart. Pure."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.ledger import SCORE_BINS


MODERATE, LARGE = 0.1, 0.25
"""The usual reading of a population stability index: stable, moderate, large (Siddiqi 2006)."""
MIN_SCORES = 20 * SCORE_BINS
"""Fewer scores in a window say nothing about a histogram."""
NOISE_FACTOR = 3
"""A hint needs so many times the index that chance alone gives: with 19 degrees of freedom, 1 in 10^5."""

Ints = npt.NDArray[np.int64]


class Psi(NamedTuple):
    """The population stability index of two windows of scores."""

    value: float
    noise: float
    """What chance alone gives on average: (bins - 1)(1/n + 1/m)."""
    width: int
    """Of either window, ms."""

    @property
    def limit(self) -> float:
        """Above this it is worth a hint."""
        return max(MODERATE, NOISE_FACTOR * self.noise)


def psi(scores: Ints, others: Ints, width: int) -> Psi | None:
    """The population stability index sum((p - q) * ln(p/q)) of two histograms, shape (SCORE_BINS,).

    Every bin of both is raised by the share that half a score is in the smaller one, so that an empty
    bin has a logarithm and equal shares stay equal however unequal the counts. Under no change it is
    about (1/n + 1/m) times chi-squared with bins - 1 degrees of freedom (Yurdakul and Naranjo 2020,
    J. Risk Model Validation 14(4)). `width` (ms) is that of the windows. None below `MIN_SCORES`.
    """
    n, m = int(scores.sum()), int(others.sum())
    if min(n, m) < MIN_SCORES:
        return None
    raised = 0.5 / min(n, m)
    p, q = (
        (counts / counts.sum() + raised) / (1 + SCORE_BINS * raised) for counts in (scores, others)
    )
    value = float(((p - q) * np.log(p / q)).sum())
    return Psi(value, (SCORE_BINS - 1) * (1 / n + 1 / m), width)
