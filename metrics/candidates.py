"""Confusion counts of many candidate models on one labelled set, and every column that follows from them.

Rows come in chunks and counts are added up, so that the set may be larger than memory. All arrays have one
place per model. What cannot be known is NaN here (None where a person or a document gets it): never 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from metrics.value import checked_q


FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
ScoreArray: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Models: TypeAlias = tuple[str, ...]

BASELINES: Models = ("always", "never", "random at 50 %", "random at the base rate")
"""Ways to decide without a model, in the order of `baseline_shares`."""

BLOCK_ROWS = 4096
"""Rows multiplied at once: weights of at most 4,095 sum up below 2^24, where float32 is exact."""


def quotient(above: float | FloatArray, below: float | FloatArray) -> FloatArray:
    """`above / below`, NaN where there is nothing to divide by or the result is too large for a float.

    >>> quotient(np.array([1.0, 1.0]), np.array([4.0, 0.0]))
    array([0.25,  nan])
    """
    with np.errstate(all="ignore"):
        return known(np.divide(above, below))


def known(numbers: float | FloatArray) -> FloatArray:
    """`numbers` with NaN in place of what is infinite."""
    array = np.asarray(numbers, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Counts that broadcast: (M,) of M models, or (B, M) of B replicates of them (then sums are (B, 1))."""

    tp: FloatArray
    fp: FloatArray
    positives: float | FloatArray
    negatives: float | FloatArray

    def rap(self, q: float) -> FloatArray:
        """Relative achieved profit (TP - FP/(q - 1))/positives; NaN without positives.

        Raises ValueError unless q is finite and above 1, as all that take q.
        """
        return quotient(self.net(q), self.positives)

    def net(self, q: float) -> FloatArray:
        """TP - FP/(q - 1): RAP before it is divided, in correct actions; 0 where nothing was acted on."""
        return known(self.tp - self.fp / (checked_q(q) - 1))

    def roi(self, q: float) -> FloatArray:
        """q*precision - 1; NaN where nothing was acted on."""
        return known(checked_q(q) * self.precision - 1)

    def profit(self, q: float, unit_cost: float = 1.0) -> FloatArray:
        """(q - 1)*TP - FP times what one action costs: in its currency, else in unit costs."""
        with np.errstate(over="ignore", invalid="ignore"):
            return known(((checked_q(q) - 1) * self.tp - self.fp) * unit_cost)

    @property
    def precision(self) -> FloatArray:
        """TP / (TP + FP)."""
        return quotient(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> FloatArray:
        """TP / positives."""
        return quotient(self.tp, self.positives)

    @property
    def false_alarm_rate(self) -> FloatArray:
        """FP / negatives."""
        return quotient(self.fp, self.negatives)

    @property
    def specificity(self) -> FloatArray:
        """TN / negatives."""
        return quotient(self.negatives - self.fp, self.negatives)

    @property
    def accuracy(self) -> FloatArray:
        """(TP + TN) / all."""
        return quotient(self.tp + self.negatives - self.fp, self.positives + self.negatives)

    @property
    def f_score(self) -> FloatArray:
        """2*TP / (2*TP + FP + FN): the harmonic mean of precision and recall."""
        return quotient(2 * self.tp, self.tp + self.fp + self.positives)


@dataclass(frozen=True, slots=True, eq=False)
class Counts(Cells):
    """What M models decided on the same rows: `tp` and `fp` are (M,), the sums of rows are shared."""

    positives: float
    negatives: float
    models: Models

    def __post_init__(self) -> None:
        for name in ("tp", "fp"):
            check_models(self.models, name, getattr(self, name))

    def __add__(self, other: "Counts") -> "Counts":
        """Counts of the same models on more rows; raises ValueError when the models differ."""
        check_same_models(self.models, other.models)
        return Counts(
            self.tp + other.tp,
            self.fp + other.fp,
            self.positives + other.positives,
            self.negatives + other.negatives,
            self.models,
        )

    def beside(self, other: "Counts") -> "Counts":
        """More models on the same rows; raises ValueError when the rows cannot be the same."""
        mine, theirs = (self.positives, self.negatives), (other.positives, other.negatives)
        if not np.array_equal(mine, theirs, equal_nan=True):
            raise ValueError(
                "expected all models to be counted on the same rows, got "
                f"{mine[0]:g} positives and {mine[1]:g} negatives beside {theirs[0]:g} and {theirs[1]:g}"
            )
        tp, fp = np.append(self.tp, other.tp), np.append(self.fp, other.fp)
        return Counts(tp, fp, *mine, self.models + other.models)

    def of(self, chosen: npt.NDArray[np.intp]) -> "Counts":
        """The counts of the models at the places `chosen`, in this order."""
        models = tuple(self.models[place] for place in chosen)
        return replace(self, tp=self.tp[chosen], fp=self.fp[chosen], models=models)


def count(models: Models, labels: BoolArray, decisions: BoolArray) -> Counts:
    """Count one chunk: `labels` (n,) what was true, `decisions` (n, M) what each model would act on.

    Exact. Raises ValueError for other shapes or types.

    >>> labels, decisions = np.array([True, True, False]), np.array([[1], [0], [1]], bool)
    >>> counted = count(("a",), labels, decisions)
    >>> counted.tp, counted.fp, counted.positives, counted.negatives
    (array([1.]), array([1.]), 2.0, 1.0)
    """
    check_chunk(models, labels, decisions)
    tp, acted = _column_sums(decisions[labels]), _column_sums(decisions)
    positives = float(np.count_nonzero(labels))
    return Counts(tp, acted - tp, positives, len(labels) - positives, models)


def _column_sums(decisions: BoolArray) -> FloatArray:
    """How many rows each model acts on; 255 rows at once fit into bytes, thirty times as fast as products."""
    total = np.zeros(decisions.shape[1])
    for start in range(0, len(decisions), 255):
        total += decisions[start : start + 255].view(np.uint8).sum(axis=0, dtype=np.uint8)
    return total


class Room:
    """Memory that products of blocks share: to ask for it anew each time costs more than the products."""

    def __init__(self, rows: int, replicates: int, models: int) -> None:
        rows = min(rows, BLOCK_ROWS)
        self._acted = np.empty((rows, models), np.float32)
        self._weights = np.empty((rows, replicates), np.float32)
        self._sums = np.empty((replicates, models), np.float32)

    def add_sums(
        self, total: FloatArray, weights: npt.NDArray[np.generic], decisions: BoolArray
    ) -> None:
        """Add to `total` (B, M) the sums of `weights` (n, B) over the rows each model acts on.

        `decisions` are (n, M), n at most `BLOCK_ROWS`. Products are float32: exact for whole weights from 0 to 4,095,
        and good to about seven digits for others; `total` is float64, so that sums of many blocks stay so.
        """
        acted, drawn = self._acted[: len(weights)], self._weights[: len(weights)]
        np.copyto(acted, decisions)
        np.copyto(drawn, weights, casting="same_kind")
        total += np.matmul(drawn.T, acted, out=self._sums)


def blocks(rows: int) -> Iterator[slice]:
    """Cut `rows` into slices of at most `BLOCK_ROWS`."""
    return (slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS))


def decide(scores: ScoreArray, threshold: float | FloatArray = 0.5) -> BoolArray:
    """Act where a score is at least its threshold: (n, M) by one threshold or by one for each model (M,).

    The threshold is rounded to the scores' own precision, so that a score written as 0.7 reaches a threshold
    of 0.7. A threshold of NaN is never reached. Raises ValueError for a score that is NaN.

    >>> decide(np.array([[0.7, 0.2]], np.float32), 0.7)
    array([[ True, False]])
    """
    if scores.size and np.isnan(scores.min()):
        row, model = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"expected a score in row {row} of model {model}, got NaN")
    return scores >= np.asarray(threshold).astype(scores.dtype)


def baselines(counts: Counts) -> Counts:
    """What deciding without a model gives on the same rows: always, never, and two random senders.

    Random senders act on a share of all rows, 50 % or the share of positives. Their counts are expected
    counts, share*positives and share*negatives: RAP, profit, recall, false-alarm rate, specificity and accuracy are
    then exact expectations, precision and ROI those given that anything is sent; F is that of the expected counts.

    >>> baselines(Counts(np.zeros(0), np.zeros(0), 10.0, 30.0, ())).tp
    array([10. ,  0. ,  5. ,  2.5])
    """
    shares = baseline_shares(counts.positives, counts.negatives)
    return Counts(
        shares * counts.positives,
        shares * counts.negatives,
        counts.positives,
        counts.negatives,
        BASELINES,
    )


def baseline_shares(positives: float, negatives: float) -> FloatArray:
    """Which share (4,) of all rows each of the `BASELINES` acts on; NaN where there are no rows."""
    return np.array([1.0, 0.0, 0.5, float(quotient(positives, positives + negatives))])


@dataclass(frozen=True, slots=True, eq=False)
class RowMoney:
    """What acting on each row would earn, and what is achievable on it: both (n,), in one currency."""

    margins: FloatArray
    achievable: FloatArray

    @classmethod
    def of(cls, labels: BoolArray, values: FloatArray, costs: FloatArray) -> "RowMoney":
        """Margins y*v - c by `labels`, `values` of correct actions and `costs` of actions, all (n,).

        Achievable is max(v - c, 0) on positives, 0 elsewhere (Verbeke et al., instance-dependent profit).
        Raises ValueError for other shapes, for what is not finite, and for a negative cost.
        """
        for name, column in (("values", values), ("costs", costs)):
            if column.shape != labels.shape:
                raise ValueError(f"expected {name} of shape {labels.shape}, got {column.shape}")
            bad = np.flatnonzero(~np.isfinite(column) | ((column < 0) & (name == "costs")))
            if len(bad):
                raise ValueError(
                    f"expected {name} to be finite numbers{' of at least 0' * (name == 'costs')}, "
                    f"got {column[bad[0]]:g} in row {bad[0]} of the chunk"
                )
        return cls(
            np.where(labels, values, 0.0) - costs,
            np.where(labels, np.maximum(values - costs, 0.0), 0.0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Earnings:
    """Instance-dependent profit: `gain` (M,) sums the margins acted on, `achievable` the best there was."""

    models: Models
    gain: FloatArray
    achievable: float

    def __add__(self, other: "Earnings") -> "Earnings":
        """Earnings of the same models on more rows; raises ValueError when the models differ."""
        check_same_models(self.models, other.models)
        return Earnings(self.models, self.gain + other.gain, self.achievable + other.achievable)

    def of(self, chosen: npt.NDArray[np.intp]) -> "Earnings":
        """The earnings of the models at the places `chosen`, in this order."""
        models = tuple(self.models[place] for place in chosen)
        return replace(self, gain=self.gain[chosen], models=models)

    @property
    def rap(self) -> FloatArray:
        """Gain over achievable: 1 is the best that was possible; NaN where nothing could be earned."""
        return quotient(self.gain, self.achievable)


def earn(models: Models, money: RowMoney, decisions: BoolArray) -> Earnings:
    """Sum one chunk's margins over what each model acts on, in float64 throughout.

    >>> labels, decisions = np.array([True, True, False]), np.array([[1], [0], [1]], bool)
    >>> money = RowMoney.of(labels, np.array([9.0, 5.0, 7.0]), np.array([1.0, 1.0, 2.0]))
    >>> earned = earn(("a",), money, decisions)
    >>> earned.gain, earned.achievable, earned.rap
    (array([6.]), 12.0, array([0.5]))
    """
    check_models(models, "decisions", decisions[0] if len(decisions) else np.zeros(len(models)))
    gain = np.zeros(len(models))
    for rows in blocks(len(decisions)):
        gain += money.margins[rows] @ decisions[rows].astype(np.float64)
    return Earnings(models, gain, float(money.achievable.sum()))


def check_models(models: Models, name: str, array: npt.NDArray[np.generic]) -> None:
    """Raise ValueError unless `array` has exactly one place per model."""
    if array.shape != (len(models),):
        raise ValueError(f"expected {name} of shape ({len(models)},), got {array.shape}")


def check_same_models(mine: Models, theirs: Models) -> None:
    """Raise ValueError unless both are the same models in the same order."""
    if mine != theirs:
        raise ValueError(f"expected counts of the same models, got {mine[:5]} and {theirs[:5]}")


def check_chunk(models: Models, labels: BoolArray, decisions: BoolArray) -> None:
    """Raise ValueError unless `labels` are bool (n,) and `decisions` bool (n, M)."""
    if labels.dtype != bool or decisions.dtype != bool:
        raise ValueError(
            f"expected labels and decisions to be bool, got {labels.dtype} and {decisions.dtype}"
        )
    if labels.ndim != 1 or decisions.shape != (len(labels), len(models)):
        raise ValueError(
            f"expected labels (n,) and decisions (n, {len(models)}), got {labels.shape} and {decisions.shape}"
        )
