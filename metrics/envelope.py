"""Which candidate is best for which assumed profitability: the upper envelope of the lines TP - k*FP, exactly.

k = 1/(q - 1) is what a false alarm costs in units of what a correct action gains, so that k near 0 is a cost
that does not matter (q without bound) and k without bound is a q that comes down to 1. Counts are taken as exact
fractions: models that meet in one point, or lie on one line, are never told apart by rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from metrics.assumptions import QRange, meant
from metrics.candidates import Counts, FloatArray, known


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of k over which `models`, whose counts are equal, are best; `k_high` None has no end.

    `k_low` is 0 where the cost of a false alarm does not matter. At an end that it shares with its
    neighbour, both are best.
    """

    models: tuple[str, ...]
    k_low: float
    k_high: float | None

    @property
    def q_low(self) -> float:
        """Where it begins in q = 1 + 1/k; 1, which q never is, where k has no end."""
        return 1.0 if self.k_high is None else 1 + 1 / self.k_high

    @property
    def q_high(self) -> float | None:
        """Where it ends in q; None without end."""
        return 1 + 1 / self.k_low if self.k_low else None

    def roi(self, reference_precision: float) -> tuple[float, float | None]:
        """The same in assumed ROI h = p0*q - 1, whose lower end is above p0 - 1; None without end.

        Raises ValueError unless the reference precision p0 is in (0, 1].

        >>> Stretch(("a",), 0.25, 1.0).roi(0.5)
        (0.0, 1.5)
        """
        p0 = reference_precision
        if not 0 < p0 <= 1:
            raise ValueError(
                f"expected the reference precision to be above 0 and at most 1, got {p0:g}"
            )
        high = self.q_high
        return p0 * self.q_low - 1, None if high is None else p0 * high - 1


@dataclass(frozen=True, slots=True)
class _Line:
    tp: Fraction
    fp: Fraction

    def crossing(self, other: "_Line") -> Fraction:
        """K where both are worth the same; their false alarms must differ."""
        return (self.tp - other.tp) / (self.fp - other.fp)


def envelope(counts: Counts, assumed: QRange | None = None) -> list[Stretch]:
    """Who is best, from the lowest k (the highest q) on; only within `assumed`, if given.

    Models that are best in a single point only, where others cross, are left out; for one single q ask with
    a range of it, whose answer names all that are best there. Empty without models or without positives, where
    RAP is not known.

    >>> counts = Counts(np.array([9.0, 6.0]), np.array([8.0, 2.0]), 10.0, 10.0, ("bold", "shy"))
    >>> [(each.models, each.q_low, each.q_high) for each in envelope(counts)]
    [(('bold',), 3.0, None), (('shy',), 1.0, 3.0)]
    """
    within = QRange(None, None) if assumed is None else assumed
    low, high = within.k
    if not counts.models or not counts.positives > 0:
        return []
    if within.low is not None and within.low == within.high:
        return [Stretch(_best_at(counts, within.low), low, high)]
    hull = _hull(_frontier(counts))
    # From k = 0 upwards the envelope runs from the most false alarms to the fewest.
    ends = [one.crossing(other) for one, other in pairwise(hull)]
    found = []
    for line, start, end in zip(hull, [Fraction(0), *ends], [*ends, None], strict=True):
        begins = max(low, float(start))
        stops = high if end is None else min(high, float(end))
        if begins < stops:
            found.append(Stretch(_named(counts, line), begins, None if stops == np.inf else stops))
    return found


def _frontier(counts: Counts) -> list[_Line]:
    """Lines from the most TP down, only those with fewer FP than all before them."""
    order = np.lexsort((counts.fp, -counts.tp))
    fp = counts.fp[order]
    fewest = np.append(np.inf, np.minimum.accumulate(fp)[:-1])
    kept = order[fp < fewest]
    return [_Line(Fraction(counts.tp[i].item()), Fraction(counts.fp[i].item())) for i in kept]


def _hull(lines: Sequence[_Line]) -> list[_Line]:
    """Those of a frontier that are best over more than a point (the monotone chain of Andrew 1979)."""
    hull: list[_Line] = []
    for line in lines:
        while len(hull) > 1 and hull[-1].crossing(line) <= hull[-2].crossing(hull[-1]):
            hull.pop()
        hull.append(line)
    return hull


def _named(counts: Counts, line: _Line) -> tuple[str, ...]:
    same = (counts.tp == float(line.tp)) & (counts.fp == float(line.fp))
    return tuple(counts.models[place] for place in np.flatnonzero(same))


def _best_at(counts: Counts, q: float) -> tuple[str, ...]:
    gain = meant(q) - 1
    worth = [
        gain * Fraction(tp) - Fraction(fp)
        for tp, fp in zip(counts.tp.tolist(), counts.fp.tolist(), strict=True)
    ]
    best = max(worth)
    return tuple(model for model, each in zip(counts.models, worth, strict=True) if each == best)


def rap_over(counts: Counts, q: FloatArray) -> FloatArray:
    """RAP (G, M) of each model at each of `q` (G,), for tables and figures; NaN where q is at most 1.

    NaN without positives, too.

    >>> counts = Counts(np.array([9.0]), np.array([8.0]), 10.0, 10.0, ("bold",))
    >>> rap_over(counts, np.array([1.0, 2.0, 5.0])).ravel()
    array([nan, 0.1, 0.7])
    """
    raps = np.full((len(q), len(counts.models)), np.nan)
    for row in np.flatnonzero(np.isfinite(q) & (q > 1)):
        raps[row] = counts.rap(float(q[row]))
    return raps


def break_even_unit_cost(counts: Counts, unit_revenue: float) -> FloatArray:
    """What an action may cost until a model (M,) earns nothing: revenue*precision, from TP*r = (TP + FP)*c.

    In the currency of `unit_revenue`; NaN where nothing is acted on. Raises ValueError unless it is finite and
    above 0.

    >>> counts = Counts(np.array([9.0, 0.0]), np.array([3.0, 0.0]), 10.0, 10.0, ("bold", "never"))
    >>> break_even_unit_cost(counts, 8.0)
    array([ 6., nan])
    """
    if not (np.isfinite(unit_revenue) and unit_revenue > 0):
        raise ValueError(
            f"expected the unit revenue to be a finite number above 0, got {unit_revenue:g}"
        )
    return known(unit_revenue * counts.precision)
