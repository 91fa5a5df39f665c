"""What a range of assumed profitability leaves open: q from ranges, RAP over it, and the ranks it allows.

With k = 1/(q - 1) every model is a line, TP - k*FP, and its RAP that line over the positives: whatever holds over a
whole range is decided at its ends and where lines cross.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from metrics.candidates import BoolArray, Counts, FloatArray


Certainty = Literal["certain", "possible", "impossible"]
IntArray = npt.NDArray[np.int64]


LARGEST_DENOMINATOR = 1_000_000
"""Of a q that people type: six decimals, or a quotient of amounts."""


def meant(q: float) -> Fraction:
    """The number above 1 whose rounding `q` is: 2.2 is 11/5, 90/70 is 9/7.

    Models that cross exactly there would else be ahead by a rounding. `q` as it is, where no short number is near.

    >>> meant(2.2), meant(90 / 70)
    (Fraction(11, 5), Fraction(9, 7))
    """
    short = Fraction(q).limit_denominator(LARGEST_DENOMINATOR)
    # Numerator, denominator and quotient were each rounded.
    near = abs(short - Fraction(q)) <= 4 * Fraction(math.ulp(q))
    return short if near and short > 1 else Fraction(q)


@dataclass(frozen=True, slots=True)
class Range:
    """An interval with its ends; None is an end that was left open, as in ">= 10"."""

    low: float | None = None
    high: float | None = None

    def problem(self, name: str) -> str | None:
        """Why this is no range, or None."""
        ends = [end for end in (self.low, self.high) if end is not None]
        if not ends:
            return f"expected {name} to have at least one end, got none"
        if not all(math.isfinite(end) for end in ends):
            return f"expected the ends of {name} to be finite, got {self.low} and {self.high}"
        if len(ends) == 2 and ends[0] > ends[1]:
            return f"expected {name} to rise from low to high, got {ends[0]:g}..{ends[1]:g}"
        return None

    @classmethod
    def point(cls, number: float) -> "Range":
        """The range that is one number."""
        return cls(number, number)


@dataclass(frozen=True, slots=True)
class QRange:
    """Assumed unit profitability q: `low` and `high` belong to it, None is an end it only comes near to.

    Without `low` it comes down to where q is 1 and acting can no longer pay, without `high` it has no end. `clipped`
    says that a part with q <= 1 was cut off. Raises ValueError unless 1 < low <= high.
    """

    low: float | None
    high: float | None
    clipped: bool = False

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        if not all(math.isfinite(end) and end > 1 for end in ends) or ends != sorted(ends):
            raise ValueError(
                "expected a range of unit profitability q that rises, finite and above 1, "
                f"got {self.low}..{self.high}"
            )

    @property
    def k(self) -> tuple[float, float]:
        """Ends of k = 1/(q - 1), lowest first: 0 where q has no end, infinite where it comes down to 1.

        Rounded once from what the ends are `meant` to be, as crossings are.
        """
        least = 0.0 if self.high is None else float(1 / (meant(self.high) - 1))
        return least, math.inf if self.low is None else float(1 / (meant(self.low) - 1))

    @property
    def note(self) -> str | None:
        """One sentence where something was cut off, or None."""
        if not self.clipped:
            return None
        return "Assumptions for which q is at most 1, where no action can pay, were left out."


def q_of_roi(reference_precision: Range, assumed_roi: Range) -> QRange:
    """Q = (1 + ROI)/precision over both ranges, each at the other's worst and best.

    An open precision reaches from 0 to 1, an open ROI from -1 up. Raises ValueError for a precision outside
    (0, 1], an ROI of -1 or less, and where q is nowhere above 1.

    >>> q_of_roi(Range(0.1, 0.2), Range(0.0, 0.5))
    QRange(low=5.0, high=15.0, clipped=False)
    >>> q_of_roi(Range.point(0.5), Range(-0.6, None))
    QRange(low=None, high=None, clipped=True)
    """
    _check("reference precision", reference_precision, lambda end: 0 < end <= 1, "in (0, 1]")
    _check("assumed ROI", assumed_roi, lambda end: end > -1, "above -1")
    highest = 1.0 if reference_precision.high is None else reference_precision.high
    low = None if assumed_roi.low is None else (1 + assumed_roi.low) / highest
    if assumed_roi.high is None or reference_precision.low is None:
        return _clipped(low, None)
    return _clipped(low, (1 + assumed_roi.high) / reference_precision.low)


def q_of_money(unit_revenue: Range, unit_cost: Range) -> QRange:
    """Q = revenue/cost over both ranges, in the same currency; open ends reach 0 and infinity.

    Raises ValueError for what is not above 0, and where q is nowhere above 1.

    >>> q_of_money(Range(90, 110), Range.point(10))
    QRange(low=9.0, high=11.0, clipped=False)
    """
    _check("unit revenue", unit_revenue, lambda end: end > 0, "above 0")
    _check("unit cost", unit_cost, lambda end: end > 0, "above 0")
    low = high = None
    if unit_revenue.low is not None and unit_cost.high is not None:
        low = unit_revenue.low / unit_cost.high
    if unit_revenue.high is not None and unit_cost.low is not None:
        high = unit_revenue.high / unit_cost.low
    return _clipped(low, high)


def q_of(q: Range) -> QRange:
    """A range of q as given, without the part that is at most 1.

    >>> q_of(Range(0.5, 3))
    QRange(low=None, high=3, clipped=True)
    """
    _check("q", q, lambda end: end > 0, "above 0")
    return _clipped(q.low, q.high)


def _check(name: str, given: Range, fits: Callable[[float], bool], wanted: str) -> None:
    problem = given.problem(name)
    if problem:
        raise ValueError(problem)
    for end in (given.low, given.high):
        if end is not None and not fits(end):
            raise ValueError(f"expected {name} to be {wanted}, got {end:g}")


def _clipped(low: float | None, high: float | None) -> QRange:
    if high is not None and high <= 1:
        raise ValueError(
            f"unit profitability q must be above 1 (an action must be able to pay), got at most {high:g}"
        )
    if low is None or low <= 1:
        return QRange(None, high, clipped=True)
    return QRange(low, high)


def rap_range(counts: Counts, assumed: QRange) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest RAP (M,) over the range: at its ends, as RAP never falls when q rises.

    -inf where q comes down to 1 and a model has false alarms: the loss has no bound. NaN without positives.
    """
    if not counts.positives > 0:
        return np.full_like(counts.tp, np.nan), np.full_like(counts.tp, np.nan)
    least, most = assumed.k
    loss = np.zeros_like(counts.fp)
    np.multiply(
        counts.fp, most, out=loss, where=counts.fp > 0
    )  # 0 false alarms cost nothing at any k
    return (counts.tp - loss) / counts.positives, (counts.tp - counts.fp * least) / counts.positives


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The best and the worst rank of each model (M,) over a range of assumptions, 1 is the highest RAP.

    A rank is 1 + the number of models strictly ahead: equal models share it.
    """

    best: IntArray
    worst: IntArray

    def certainty(self, rank: int) -> list[Certainty]:
        """Whether each model has `rank` for all assumptions of the range, perhaps for some, or for none."""
        return [
            "certain"
            if best == worst == rank
            else "possible"
            if best <= rank <= worst
            else "impossible"
            for best, worst in zip(self.best.tolist(), self.worst.tolist(), strict=True)
        ]

    def among(self, first: int) -> list[Certainty]:
        """The same for being among the `first` models: for all assumptions, for some, or for none."""
        return [
            "certain" if worst <= first else "possible" if best <= first else "impossible"
            for best, worst in zip(self.best.tolist(), self.worst.tolist(), strict=True)
        ]


def ranks(counts: Counts, assumed: QRange) -> Ranks:
    """Rank all models for every q of the range at once, by the crossings of their lines TP - k*FP.

    Exact for whole counts below 2^26 (67 million): crossings are correctly rounded quotients of such numbers, and
    two that differ stay apart. Costs M sorts of at most M numbers.
    """
    unique, place, times = np.unique(
        np.stack([counts.tp, counts.fp], 1), axis=0, return_inverse=True, return_counts=True
    )
    found = np.array(
        [_rank_ends(unique - line, times, assumed) for line in unique], np.int64
    ).reshape(-1, 2)[place.reshape(-1)]
    return Ranks(found[:, 0], found[:, 1])


def _rank_ends(others: FloatArray, times: IntArray, assumed: QRange) -> tuple[int, int]:
    """Best and worst rank of the line 0 among `others` (M, 2), their TP and FP less its own, each `times`.

    One with more FP is ahead before it crosses, one with fewer after it; between two crossings nothing changes.
    """
    low, high = assumed.k
    tp, fp = others[:, 0], others[:, 1]
    always = int(times[(fp == 0) & (tp > 0)].sum())
    crossed = fp != 0
    at, more = tp[crossed] / fp[crossed], fp[crossed] > 0
    times = times[crossed]
    seen = [
        int(times[np.where(more, at > k, at < k)].sum())
        for k, end in ((low, assumed.high), (high, assumed.low))
        if end is not None
    ]
    if low < high:  # and at each crossing, just after each, and just after the low end
        just_after = int(times[np.where(more, at > low, at <= low)].sum())
        inner = (at > low) & (at < high)
        seen += [just_after, *_ends_inside(at[inner], more[inner], times[inner], just_after)]
    return 1 + always + min(seen), 1 + always + max(seen)


def _ends_inside(at: FloatArray, more: BoolArray, times: IntArray, ahead: int) -> list[int]:
    """Fewest and most that are `ahead` at crossings `at` and just after them: nothing where there are none."""
    if not len(at):
        return []
    order = np.argsort(at)
    at = at[order]
    last = np.append(
        np.flatnonzero(at[1:] != at[:-1]), len(at) - 1
    )  # of those that meet in one point
    lost, won = (np.cumsum(np.where(side[order], times[order], 0))[last] for side in (more, ~more))
    here = ahead - lost + np.append(0, won[:-1])
    after = ahead - lost + won
    return [int(here.min()), int(after.max())]
