"""Which candidate is best for which assumed profitability, and what each earns over it. Pure.

The axis is assumed ROI h where one reference precision p0 is given (q = (1 + h)/p0), otherwise q itself. Always and
never acting compete with the models, so that "no model is worth it" is an answer, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

from abmonitor.ranking.assumed import Assumed
from metrics.assumptions import QRange, Range, q_of_roi
from metrics.candidates import Counts, FloatArray, baselines, quotient
from metrics.envelope import break_even_unit_cost, envelope, rap_over


Axis = Literal["assumed_roi", "q"]

SHOWN = (-0.3, 1.0)
"""Assumed ROI that is shown, unless what is assumed lies outside."""
FAR = 10.0
"""A range of q without an upper end is shown up to so many times its lower end."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two competitors are worth the same: k = 1/(q - 1), exactly."""

    k: Fraction

    @property
    def q(self) -> float:
        """The same in unit profitability, rounded once."""
        return float(1 + 1 / self.k)

    def roi(self, reference_precision: float) -> float:
        """The same in assumed ROI p0*q - 1, rounded once.

        >>> Crossing(Fraction(1, 3)).roi(0.25)
        0.0
        """
        return float(Fraction(reference_precision) * (1 + 1 / self.k) - 1)


@dataclass(frozen=True, slots=True)
class Best:
    """Competitors of equal counts (their places) that are best from `low` to `high`.

    `low` None: down to where q is 1 and no action can pay; `high` None: however cheap an action is.
    """

    places: tuple[int, ...]
    low: Crossing | None
    high: Crossing | None


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """RAP of all competitors over what is assumed, and who is best where.

    `counts` holds the models, then always and never; `at` (G,) is the axis, which belongs to `raps` (G, M + 2), NaN
    where q is at most 1. `best` are all stretches from the lowest assumption on, those inside the axis at
    `inside`. `at_assumed` are those that are best at the assumed point, or somewhere in the assumed range.
    """

    counts: Counts
    assumed: Assumed
    axis: Axis
    reference_precision: float | None
    at: FloatArray
    raps: FloatArray
    best: tuple[Best, ...]
    inside: slice
    at_assumed: tuple[Best, ...]
    clipped_below: float | None
    """Where on the axis q is 1, when the axis reaches down to it: nothing can be said from there down."""

    @property
    def models(self) -> int:
        """How many models there are; the places from here on are always and never."""
        return len(self.counts.models) - 2

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where the axis goes."""
        return float(self.at[0]), float(self.at[-1])

    @property
    def shown(self) -> tuple[Best, ...]:
        """The stretches that reach into the axis."""
        return self.best[self.inside]

    def where(self, crossing: Crossing | None) -> float | None:
        """A crossing on the axis, None where there is none."""
        if crossing is None:
            return None
        p0 = self.reference_precision
        return crossing.q if p0 is None else crossing.roi(p0)

    def q(self, at: float | FloatArray) -> FloatArray:
        """Unit profitability at places of the axis."""
        p0 = self.reference_precision
        return np.asarray(at if p0 is None else (1 + np.asarray(at)) / p0, np.float64)

    @property
    def point(self) -> float | None:
        """What is assumed, on the axis; None for a range."""
        low, high = self.range
        return low if low == high else None

    @property
    def range(self) -> tuple[float | None, float | None]:
        """What is assumed, on the axis; None is an end that is open, or where q is 1."""
        if self.axis == "assumed_roi" and self.assumed.assumed_roi is not None:
            return self.assumed.assumed_roi.low, self.assumed.assumed_roi.high
        return self.assumed.range.low, self.assumed.range.high

    @property
    def break_even_q(self) -> FloatArray:
        """(M + 2,) the q at which each competitor earns nothing, 1/precision; NaN where nothing is acted on."""
        return quotient(1.0, self.counts.precision)

    @property
    def break_even_unit_cost(self) -> tuple[FloatArray | None, FloatArray | None]:
        """(M + 2,) what an action may cost, at the lowest and highest unit revenue; None where it is not given."""
        revenue = self.assumed.unit_revenue or Range()
        low, high = (
            None if end is None else break_even_unit_cost(self.counts, end)
            for end in (revenue.low, revenue.high)
        )
        return low, high

    def rap(self, at: float) -> FloatArray:
        """(M + 2,) RAP at one place of the axis; NaN where q is at most 1."""
        found: FloatArray = rap_over(self.counts, self.q(at).reshape(1))[0]
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What people must know about the range, a sentence each."""
        return tuple(_notes(self))


def sensitivity(
    counts: Counts,
    assumed: Assumed,
    *,
    roi: tuple[float, float] = SHOWN,
    points: int = 131,
) -> Sensitivity:
    """Compare `counts` (models only, without baselines) over assumed ROI, from `roi[0]` to `roi[1]`.

    The axis is made longer where what is assumed lies outside. Without one reference precision it is q, from
    1 + roi[0] times the lowest to 1 + roi[1] times the highest that is assumed. Raises ValueError without
    positive labels, where RAP cannot be known, and where q is at most 1 on the whole axis.
    """
    if not counts.positives > 0:
        raise ValueError("expected positive labels, got none: without them RAP cannot be known")
    told = assumed.reference_precision
    p0 = told.low if told is not None and told.low == told.high else None
    if p0 is None:
        ends = _q_axis(assumed.range, roi)
        within = QRange(ends[0] if ends[0] > 1 else None, ends[1])
    else:
        ends = _roi_axis(assumed, roi)
        within = q_of_roi(Range.point(p0), Range(*ends))
    all_ = counts.beside(baselines(counts).of(np.array([0, 1])))
    best = tuple(_stretches(all_))
    at = np.round(np.linspace(*ends, points), 12)
    at[0], at[-1] = ends
    q = at if p0 is None else (1 + at) / p0
    return Sensitivity(
        counts=all_,
        assumed=assumed,
        axis="q" if p0 is None else "assumed_roi",
        reference_precision=p0,
        at=at,
        raps=rap_over(all_, q),
        best=best,
        inside=_inside(best, within),
        at_assumed=tuple(_at_assumed(all_, best, assumed)),
        clipped_below=None if within.low is not None else 1.0 if p0 is None else p0 - 1,
    )


def _roi_axis(assumed: Assumed, roi: tuple[float, float]) -> tuple[float, float]:
    told = assumed.assumed_roi or Range()
    low, high = (
        given if end is None else end for given, end in zip(roi, (told.low, told.high), strict=True)
    )
    return min(roi[0], low), max(roi[1], high)


def _q_axis(within: QRange, roi: tuple[float, float]) -> tuple[float, float]:
    if within.low is None:
        return 1.0, FAR if within.high is None else (1 + roi[1]) * within.high
    low = max(1.0, (1 + roi[0]) * within.low)
    return low, FAR * within.low if within.high is None else (1 + roi[1]) * within.high


def _names(counts: Counts, within: QRange) -> list[tuple[int, ...]]:
    """Places of who is best, stretch by stretch, from the lowest q on; names may be there twice."""
    numbered = replace(counts, models=tuple(map(str, range(len(counts.models)))))
    return [tuple(map(int, each.models)) for each in reversed(envelope(numbered, within))]


def _stretches(counts: Counts) -> Iterator[Best]:
    """All stretches, with their ends as exact quotients of counts."""
    places = _names(counts, QRange(None, None))
    first = [each[0] for each in places]
    crossings: list[Crossing | None] = [
        Crossing(
            (Fraction(counts.tp[one].item()) - Fraction(counts.tp[other].item()))
            / (Fraction(counts.fp[one].item()) - Fraction(counts.fp[other].item()))
        )
        for one, other in pairwise(first)
    ]
    for each, low, high in zip(places, [None, *crossings], [*crossings, None], strict=True):
        yield Best(each, low, high)


def _at_assumed(counts: Counts, best: tuple[Best, ...], assumed: Assumed) -> Sequence[Best]:
    """The stretches that hold the assumed point, two where they cross exactly there, or a part of the range."""
    if assumed.q is None:
        return best[_inside(best, assumed.range)]
    here = set(_names(counts, QRange(assumed.q, assumed.q))[0])
    found = [each for each in best if here.issuperset(each.places)]
    # A stretch too narrow for floats is none; then the one that begins last below the point is next to it.
    q = assumed.q
    return found or [each for each in best if each.low is None or each.low.q <= q][-1:]


def _inside(best: tuple[Best, ...], within: QRange) -> slice:
    """Which stretches reach into the range of q, more than by a point."""
    k_low, k_high = within.k
    kept = [
        place
        for place, each in enumerate(best)
        if (each.high is None or float(each.high.k) < k_high)
        and (each.low is None or float(each.low.k) > k_low)
    ]
    return slice(kept[0], kept[-1] + 1)


def _notes(found: Sensitivity) -> Iterator[str]:
    if found.clipped_below is not None:
        where = (
            f"Assumed ROI of {found.clipped_below * 100:.6g} % and less"
            if found.axis == "assumed_roi"
            else "q of 1 and less"
        )
        yield f"{where} is left out: q is at most 1 there, and no action can pay."
    elif found.assumed.clipped:
        yield found.assumed.clipped
    if found.axis == "q" and found.assumed.reference_precision is not None:
        yield "The reference precision is a range, so that assumed ROI does not tell q: shown over q."
    if found.axis == "q" and found.assumed.range.high is None:
        yield f"The range of q has no upper end; shown up to {found.ends[1]:g}."
