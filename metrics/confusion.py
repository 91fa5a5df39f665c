"""Weighted confusion counts and the classification metrics that follow from them.

A request that failed counts as not acted and not correct, in every denominator: it is neither a true
negative nor a false alarm, and a positive that it missed lowers recall.
"""

from dataclasses import dataclass
from typing import NamedTuple

from metrics.experiment import Labels


WEIGHT_UNIT = 1_000
"""Weights are whole thousandths, so that sums stay exact integers."""


class Cell(NamedTuple):
    """How often something happened, and how long it took: exact sums over the predictions in it."""

    n: int = 0
    w: int = 0
    """Sum of weights."""
    w2: int = 0
    """Sum of squared weights."""
    timed: int = 0
    """How many had a latency."""
    latency: int = 0
    """Sum of those latencies, in units of `metrics.moments`."""

    def plus(self, other: "Cell") -> "Cell":
        """The two cells together."""
        return Cell(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Cells(NamedTuple):
    """Where a prediction ends: every prediction is in exactly one of these.

    Without a label it is `missing`, by whether it was acted on or idle and by what the model decided.
    """

    tp: Cell = Cell()
    fp: Cell = Cell()
    tn: Cell = Cell()
    fn: Cell = Cell()
    missing_acted_yes: Cell = Cell()
    missing_acted_no: Cell = Cell()
    missing_idle_yes: Cell = Cell()
    missing_idle_no: Cell = Cell()
    error_positive: Cell = Cell()
    error_other: Cell = Cell()


def ratio(numerator: float, denominator: float) -> float | None:
    """`numerator / denominator`, None when there is nothing to divide by."""
    return numerator / denominator if denominator else None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Cells whose missing labels have been given their declared meaning."""

    tp: Cell = Cell()
    fp: Cell = Cell()
    tn: Cell = Cell()
    fn: Cell = Cell()
    error_positive: Cell = Cell()
    error_other: Cell = Cell()
    unknown: Cell = Cell()
    """Predictions whose truth is not known, and that count for nothing."""
    unknown_idle: Cell = Cell()
    """Not acted on where only acted predictions get labels: nobody learns the truth, but they cost
    and earned nothing, so that profit per prediction counts them."""

    @classmethod
    def of(cls, cells: Cells, labels: Labels) -> "Confusion":
        """Resolve missing labels as `labels` declares.

        Where only acted predictions get labels, a prediction that was not acted on stays unknown.
        """
        fp, tn, unknown = cells.fp, cells.tn, Cell()
        idle = cells.missing_idle_yes.plus(cells.missing_idle_no)
        if labels.when_missing == "negative":
            fp, tn = fp.plus(cells.missing_acted_yes), tn.plus(cells.missing_acted_no)
        else:
            unknown = cells.missing_acted_yes.plus(cells.missing_acted_no)
        if labels.observed == "all" and labels.when_missing == "negative":
            fp, tn, idle = fp.plus(cells.missing_idle_yes), tn.plus(cells.missing_idle_no), Cell()
        elif labels.observed != "acted":
            unknown, idle = unknown.plus(idle), Cell()
        failed = cells.error_positive, cells.error_other
        return cls(cells.tp, fp, tn, cells.fn, *failed, unknown, idle)

    @property
    def total(self) -> int:
        """Sum of weights of all predictions with a known result, failed requests included."""
        errors = self.error_positive.w + self.error_other.w
        return self.tp.w + self.fp.w + self.tn.w + self.fn.w + errors

    @property
    def positives(self) -> int:
        """Sum of weights of everything that was truly positive."""
        return self.tp.w + self.fn.w + self.error_positive.w

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP)."""
        return ratio(self.tp.w, self.tp.w + self.fp.w)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN)."""
        return ratio(self.tp.w, self.positives)

    @property
    def specificity(self) -> float | None:
        """TN / (TN + FP)."""
        return ratio(self.tn.w, self.tn.w + self.fp.w + self.error_other.w)

    @property
    def false_alarm_rate(self) -> float | None:
        """FP / (FP + TN)."""
        return ratio(self.fp.w, self.tn.w + self.fp.w + self.error_other.w)

    @property
    def accuracy(self) -> float | None:
        """(TP + TN) / all."""
        return ratio(self.tp.w + self.tn.w, self.total)

    @property
    def f_score(self) -> float | None:
        """2·TP / (2·TP + FP + FN): the harmonic mean of precision and recall."""
        return ratio(2 * self.tp.w, self.tp.w + self.fp.w + self.positives)
