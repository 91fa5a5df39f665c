"""How sure a ranking is: a Poisson bootstrap of many models at once, and who is statistically tied with the best.

Rows are weighted anew in each replicate instead of drawn (Hanley & MacGibbon 2006; Chamandy et al. 2012), so that
replicates add up over chunks. A row's weights follow from the seed and its number alone: however the file is
cut, the replicates are the same. All models share the weights, so that differences of two are paired.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from metrics.candidates import (
    BoolArray,
    Cells,
    FloatArray,
    Models,
    Room,
    RowMoney,
    blocks,
    check_chunk,
    check_same_models,
    quotient,
)
from metrics.value import checked_q


REPLICATES = 400
LEAST = 40
"""Replicates: 95 % needs that many to mean something."""
LEVEL = 0.95
DRAWS = 1 << 16
"""A weight is looked up by 16 random bits."""
ROUNDING = 1e-9
"""Shares of the sums that rounding may move."""


@dataclass(frozen=True, slots=True, eq=False)
class Replicates(Cells):
    """B replicates of the counts of M models: `tp` and `fp` are (B, M), `positives` and `negatives` (B, 1).

    With money of rows, `gain` (B, M) and `achievable` (B, 1) are replicates of `Earnings`.
    """

    positives: FloatArray
    negatives: FloatArray
    models: Models
    gain: FloatArray | None = None
    achievable: FloatArray | None = None

    def __add__(self, other: "Replicates") -> "Replicates":
        """Replicates over more rows; raises ValueError when models, B or what was counted differ."""
        check_same_models(self.models, other.models)
        if self.tp.shape != other.tp.shape or (self.gain is None) != (other.gain is None):
            raise ValueError(
                f"expected {len(self.tp)} replicates {'with' if self.gain is not None else 'without'} "
                f"money, got {len(other.tp)} {'with' if other.gain is not None else 'without'}"
            )
        return Replicates(
            self.tp + other.tp,
            self.fp + other.fp,
            self.positives + other.positives,
            self.negatives + other.negatives,
            self.models,
            _sum(self.gain, other.gain),
            _sum(self.achievable, other.achievable),
        )

    def of(self, chosen: npt.NDArray[np.intp]) -> "Replicates":
        """The replicates of the models at the places `chosen`, in this order."""
        models = tuple(self.models[place] for place in chosen)
        gain = None if self.gain is None else self.gain[:, chosen]
        return replace(self, tp=self.tp[:, chosen], fp=self.fp[:, chosen], models=models, gain=gain)

    @property
    def earned_rap(self) -> FloatArray | None:
        """Replicates (B, M) of instance-dependent RAP, gain / achievable; None without money of rows."""
        if self.gain is None or self.achievable is None:
            return None
        return quotient(self.gain, self.achievable)


def _sum(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    return None if one is None or other is None else one + other


def resample(
    models: Models,
    labels: BoolArray,
    decisions: BoolArray,
    first_row: int,
    money: RowMoney | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Replicates:
    """Replicate the counts of one chunk whose first row has the number `first_row` in the whole set.

    `labels` are bool (n,), `decisions` bool (n, M). Costs about n*M*`replicates` multiplications, twice that
    with `money`. Counts are exact sums; gains are good to about seven digits. Raises ValueError for other
    shapes, a negative `first_row` or fewer than `LEAST` replicates.
    """
    check_chunk(models, labels, decisions)
    if first_row < 0 or replicates < LEAST:
        raise ValueError(
            f"expected first_row >= 0 and replicates >= {LEAST}, got {first_row} and {replicates}"
        )
    shape = replicates, len(models)
    tp, fp, gain = np.zeros(shape), np.zeros(shape), np.zeros(shape) if money else None
    positives, negatives, achievable = np.zeros((3, replicates))
    room = Room(len(labels), *shape)
    for rows in blocks(len(labels)):
        drawn = weights(first_row + rows.start, len(labels[rows]), replicates, seed)
        for side, acted, total in ((labels, tp, positives), (~labels, fp, negatives)):
            chosen = np.flatnonzero(side[rows])
            room.add_sums(acted, drawn[chosen], decisions[rows][chosen])
            np.add(total, drawn[chosen].sum(0, np.float64), out=total)
        if money is not None and gain is not None:
            room.add_sums(gain, drawn * money.margins[rows, None], decisions[rows])
            achievable += money.achievable[rows] @ drawn
    sums = positives[:, None], negatives[:, None]
    return Replicates(tp, fp, *sums, models, gain, None if gain is None else achievable[:, None])


def weights(first_row: int, rows: int, replicates: int, seed: int) -> npt.NDArray[np.float32]:
    """Weights (rows, replicates) of the rows from `first_row` on: whole numbers of mean 1 and variance 1.

    >>> whole = weights(0, 9, 40, seed=1)
    >>> bool(np.array_equal(weights(5, 4, 40, seed=1), whole[5:]))
    True
    """
    words = -(-replicates // 4)  # a random word of 64 bits makes four weights
    bits = np.random.PCG64(seed).advance(first_row * words)
    drawn = bits.random_raw(rows * words).view(np.uint16).reshape(rows, 4 * words)
    return np.take(_poisson_table(), drawn[:, :replicates])


@cache
def _poisson_table() -> npt.NDArray[np.float32]:
    """Poisson(1) in steps of 2^-16: the counts of 0, 1 and 2 make mean and variance exactly 1."""
    size = DRAWS
    tail = {k: round(size / (math.e * math.factorial(k))) for k in range(3, 9)}
    twos = (size - sum(k * (k - 1) * times for k, times in tail.items())) // 2
    ones = size - sum(k * times for k, times in tail.items()) - 2 * twos
    times = [size - ones - twos - sum(tail.values()), ones, twos, *tail.values()]
    return np.repeat(np.arange(9, dtype=np.float32), times)


def interval(
    estimate: FloatArray,
    replicated: FloatArray,
    *,
    level: float = LEVEL,
    kind: Literal["percentile", "basic"] = "percentile",
) -> tuple[FloatArray, FloatArray]:
    """Bounds (M,) of each model by itself, from its `estimate` (M,) and replicates (B, M) of the same metric.

    `percentile` takes the quantiles of the replicates, which suits skewed counts; `basic` turns them round the
    estimate (Davison & Hinkley 1997, 5.2 and 5.3). The bounds of the model that came out best are too good, as it
    was chosen for its luck, too: see `tied_with_best` and `joint_interval`.

    NaN where the estimate is, where more replicates are undefined than lie outside the interval, and where
    replicates do not differ: no spread means seen too little, not sure. Raises ValueError for another `kind`.
    """
    if kind not in ("basic", "percentile"):
        raise ValueError(f"expected kind to be basic or percentile, got {kind!r}")
    ordered, usable = _ordered(estimate, replicated, level)
    low, high = (_quantile(ordered, usable, share) for share in ((1 - level) / 2, (1 + level) / 2))
    return (2 * estimate - high, 2 * estimate - low) if kind == "basic" else (low, high)


def joint_interval(
    estimate: FloatArray, replicated: FloatArray, *, level: float = LEVEL
) -> tuple[FloatArray, FloatArray]:
    """Bounds (M,) that hold for all models together, and so also for the one that came out best.

    estimate ± c*se, se the replicates' standard deviation and c the quantile of their largest deviation
    in units of se, over all models of a replicate (Westfall & Young 1993; Chernozhukov, Chetverikov & Kato 2013).
    The one that came out best was lucky, which makes its own se long enough: its bounds held in 90 to 100 % of test sets
    of 50 to 1,000 positives, 10 and 200 models. All bounds together need about 100 correct actions of each model: of
    200 models with 60 to 300 each they held in 90 to 95 %, with 20 each in 73 %, with 4 each in 10 %, as no se tells of what a
    model happened to do never. NaN as in `interval`.
    """
    _, usable = _ordered(estimate, replicated, level)
    usable &= ~np.isnan(replicated).any(axis=0)
    low, high = np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    if usable.any():
        spread = replicated[:, usable].std(axis=0, ddof=1)
        largest = (np.abs(replicated[:, usable] - estimate[usable]) / spread).max(axis=1)
        reach = float(_upper(largest, level)) * spread
        low[usable], high[usable] = estimate[usable] - reach, estimate[usable] + reach
    return low, high


def tied_with_best(
    net: FloatArray, replicated: FloatArray, *, row_worth: float = 1.0, level: float = LEVEL
) -> BoolArray:
    """Models (M,) that may be the truly best one: not shown to be worse than any other.

    `net` (M,) are the models' sums TP - FP/(q - 1) (`Counts.net`) or gains, `replicated` (B, M) the same of
    `Replicates`. Not divided by the positives, which all models share: the best sum is the best RAP, and a
    replicate without positives says something, too.

    Guarantee: over test sets drawn like this one, the set contains the model that is truly best (if several
    are, each of them) with probability `level`, however many models were tried and however they were tuned on
    *other* rows; approximately so, as every bootstrap, and well so from about 100 positives up (the table in
    its tests). Model i stays when max_j net_j - net_i is at most the `level` quantile, over replicates, of
    max_j dev_j - dev_i, where dev are deviations of replicates from `net`: for the truly best i the first is
    never more than the same deviations of `net` from the truth, whose distribution the bootstrap copies. With
    few positives that distribution is skewed and one tail of the copy too short: the longer tail is taken, and one
    row's worth is added as a continuity correction (`row_worth` for `Counts.net`; for gains the mean achievable of a
    positive or the mean cost of an action, whichever is more).

    These are comparisons with the best (Gupta 1965; Hsu 1984), as confidence sets of the best by Mogstad, Romano,
    Shaikh & Wilhelm 2024; for more models than rows they rest on Chernozhukov, Chetverikov & Kato 2013.
    Differences are not divided by their standard errors: those of models which differ in a few rows are too
    uncertain, and would throw the best one out too often where a false alarm costs little.
    """
    if not len(net):
        return np.zeros(0, np.bool_)
    deviations = replicated - net
    above = _upper(deviations.max(axis=1, keepdims=True) - deviations, level)
    below = _upper(deviations - deviations.min(axis=1, keepdims=True), level)
    slack = ROUNDING * float(np.abs(replicated).max())
    stays: BoolArray = net.max() - net <= np.maximum(above, below) + row_worth + slack
    return stays


def row_worth(q: float) -> float:
    """How far one row moves `Counts.net`: 1, or 1/(q - 1) where a false alarm costs more than a correct action gains.

    Raises ValueError unless q is finite and above 1.

    >>> row_worth(3.0), row_worth(1.25)
    (1.0, 4.0)
    """
    return max(1.0, 1 / (checked_q(q) - 1))


def _upper(sample: FloatArray, level: float) -> FloatArray:
    """The order statistic along the first axis that the next draw exceeds with at most 1 - level."""
    place = min(math.ceil((len(sample) + 1) * level), len(sample)) - 1
    top: FloatArray = np.partition(sample, place, axis=0)[place]
    return top


def _ordered(
    estimate: FloatArray, replicated: FloatArray, level: float
) -> tuple[FloatArray, BoolArray]:
    """Replicates in ascending order, NaN last, and for which models (M,) they say something."""
    ordered = np.sort(replicated, axis=0)
    undefined = np.isnan(ordered).sum(axis=0)
    few = undefined <= (1 - level) * len(ordered)
    spread = ordered[np.maximum(len(ordered) - undefined - 1, 0), np.arange(len(estimate))]
    return ordered, few & (spread > ordered[0]) & ~np.isnan(estimate)


def _quantile(ordered: FloatArray, usable: BoolArray, share: float) -> FloatArray:
    """The quantile of each column among what is defined, between its neighbours by straight line."""
    last = (~np.isnan(ordered)).sum(axis=0) - 1
    exact = share * np.maximum(last, 0)
    below = np.floor(exact).astype(np.intp)
    columns = np.arange(ordered.shape[1])
    left, right = ordered[below, columns], ordered[np.ceil(exact).astype(np.intp), columns]
    return np.where(usable, left + (exact - below) * (right - left), np.nan)
