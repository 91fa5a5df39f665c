"""The decision threshold that earns most: found by sorting scores, and judged on rows that did not choose it.

A model acts on a row whose score is at least the threshold. A threshold is always a score that occurs, so that
rows with equal scores stay together; None (NaN in arrays) means that never acting earns most.
"""

from dataclasses import dataclass

import numpy as np

from metrics.candidates import (
    BoolArray,
    FloatArray,
    ScoreArray,
    decide,
)
from metrics.value import checked_q


ROUNDING = 1e-10
"""Gains that differ by less, in shares of all that is at stake, are equal: sums of floats are rounded."""

COLUMNS = 64
"""Models whose scores are laid out one after the other at once: sorting needs them so."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where acting should start, how many rows that acts on, and what it earns, in the unit of the margins."""

    threshold: float | None
    actions: int
    gain: float


def margins(labels: BoolArray, q: float) -> FloatArray:
    """What acting on each row (n,) earns in unit costs: q - 1 on positives, -1 elsewhere.

    Their sum over the rows acted on is (q - 1)*TP - FP, highest where RAP is. For values and costs of rows take
    `RowMoney.margins` instead. Raises ValueError for q <= 1.
    """
    return np.where(labels, checked_q(q) - 1, -1.0)


def best_cut(scores: ScoreArray, row_margins: FloatArray) -> Cut:
    """The cut of one model's `scores` (n,) with the highest sum of margins over the rows it acts on.

    Of cuts that earn the same the one with the fewest actions: never acting, if nothing earns more than 0. Raises
    ValueError for other shapes and for scores or margins that are not finite.

    >>> best_cut(np.array([0.9, 0.8, 0.8, 0.1]), np.array([-1.0, 3.0, -1.0, -1.0]))
    Cut(threshold=0.8, actions=3, gain=1.0)
    >>> best_cut(np.array([0.9, 0.8]), np.array([-1.0, 1.0]))
    Cut(threshold=None, actions=0, gain=0.0)
    """
    _check_rows(scores, row_margins)
    order = np.argsort(scores)[::-1]
    return _cut(scores[order], row_margins[order])


def _check_rows(scores: ScoreArray, row_margins: FloatArray) -> None:
    if scores.ndim != 1 or scores.shape != row_margins.shape:
        raise ValueError(
            f"expected scores and margins (n,) of the same rows, got {scores.shape} and {row_margins.shape}"
        )
    for name, column in (("scores", scores), ("margins", row_margins)):
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise ValueError(
                f"expected {name} to be finite, got {column[bad[0]]:g} in row {bad[0]}"
            )


def _cut(scores: ScoreArray, row_margins: FloatArray) -> Cut:
    """`best_cut` of rows that are in descending order of their scores."""
    if not len(scores):
        return Cut(None, 0, 0.0)
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    gains = np.append(0.0, np.cumsum(row_margins)[ends])
    # The first of the best: cuts stand in ascending order of their actions.
    chosen = int(np.argmax(gains >= gains.max() - ROUNDING * np.abs(row_margins).sum()))
    if not chosen:
        return Cut(None, 0, 0.0)
    end = int(ends[chosen - 1])
    return Cut(float(scores[end]), end + 1, float(gains[chosen]))


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """Thresholds of M models; NaN: never act.

    `thresholds` (M,) were chosen on all rows: what they earn on the same rows is too good. `halves` (2, M) were chosen on
    each half of the rows alone; far apart, they say that the choice is unsure.
    """

    thresholds: FloatArray
    halves: FloatArray

    def beside(self, other: "Tuned") -> "Tuned":
        """More models, as columns may be tuned a few at a time."""
        return Tuned(
            np.append(self.thresholds, other.thresholds),
            np.append(self.halves, other.halves, axis=1),
        )

    def crosswise(self, scores: ScoreArray, first_half: BoolArray) -> BoolArray:
        """Decide each half of the rows (n, M) by the thresholds that were chosen on the other half.

        What this earns is an unbiased estimate of thresholds that are chosen on half the rows, and so slightly cautious
        for those chosen on all. Replicates of it are conditional on the thresholds: they leave out the chance of the choice,
        so that 95 % intervals held what `thresholds` truly earn in 80 % of test sets of 20 positives, in 83 to 91 % of
        those of 50, and in 86 to 95 % of those of 200 and 1,000.
        """
        decisions = np.empty(scores.shape, np.bool_)
        for side, half in ((first_half, self.halves[1]), (~first_half, self.halves[0])):
            decisions[side] = decide(scores[side], half)
        return decisions


def tune(scores: ScoreArray, row_margins: FloatArray, first_half: BoolArray) -> Tuned:
    """Choose each model's threshold on all rows and on each half: scores (n, M), `row_margins` and `first_half` (n,).

    A score is read in its own precision. Costs a sort of n scores per model. Raises ValueError as `best_cut`.
    """
    found = np.empty((3, scores.shape[1]))
    for start in range(0, scores.shape[1], COLUMNS):
        columns = np.ascontiguousarray(scores[:, start : start + COLUMNS].T)
        for model, column in enumerate(columns, start):
            _check_rows(column, row_margins)
            order = np.argsort(column)[::-1]
            sides = first_half[order]
            for place, rows in enumerate((order, order[sides], order[~sides])):
                threshold = _cut(column[rows], row_margins[rows]).threshold
                found[place, model] = np.nan if threshold is None else threshold
    return Tuned(found[0], found[1:])


def halves(labels: BoolArray, seed: int = 0) -> BoolArray:
    """Which rows (n,) are in the first half: drawn at random, positives and negatives apart.

    The halves have the same number of positives and of negatives, within one. Where one unit has many rows, draw by
    unit instead: rows of one unit in both halves make the held-out check too kind.

    >>> first = halves(np.array([True, True, False, False]), seed=1)
    >>> int(first[:2].sum()), int(first[2:].sum())
    (1, 1)
    """
    first = np.zeros(len(labels), np.bool_)
    generator = np.random.default_rng(seed)
    for side in (labels, ~labels):
        rows = generator.permutation(np.flatnonzero(side))
        first[rows[: (len(rows) + 1) // 2]] = True
    return first
