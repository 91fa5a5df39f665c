"""The order that a tally gives under a plan: who is ahead, who is tied, and what a range leaves open. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abmonitor.ranking.plan import Plan
from abmonitor.ranking.tally import Tally
from metrics.assumptions import IntArray, Ranks, ranks, rap_range
from metrics.candidates import BASELINES, BoolArray, Earnings, FloatArray
from metrics.resampling import LEVEL, row_worth, tied_with_best


ROUNDING = 1e-12
"""Sums that differ by less, in shares of the largest of them, are equal."""


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """What the range of assumptions leaves open for M models: RAP (-inf: no bound) and ranks."""

    rap: tuple[FloatArray, FloatArray]
    ranks: Ranks


def rap_of(plan: Plan, tally: Tally) -> FloatArray:
    """RAP of everything that was tallied, at the q that models are ordered by or of money of rows."""
    return _earned(tally).rap if plan.q is None else tally.counts.rap(plan.q)


def net_of(plan: Plan, tally: Tally) -> FloatArray:
    """What models are ordered by: gains of rows, or TP - FP/(q - 1)."""
    if plan.q is not None:
        return tally.counts.net(plan.q)
    return _earned(tally).gain


def _earned(tally: Tally) -> Earnings:
    if tally.earnings is None:
        raise ValueError("expected assumptions about profitability, or values and costs of rows")
    return tally.earnings


def ranked(net: FloatArray) -> tuple[IntArray, npt.NDArray[np.intp]]:
    """Rank of each, 1 + how many are ahead by more than rounding, and their order."""
    order = np.argsort(-net, kind="stable")
    placed = np.empty(len(net), np.int64)
    slack = ROUNDING * np.abs(net).max(initial=0.0)
    for run in _runs(net[order], slack):
        chosen = np.sort(order[run])
        order[run], placed[chosen] = chosen, run.start + 1
    return placed, order


def _runs(falling: FloatArray, slack: float) -> Iterator[slice]:
    """Stretches of equal numbers."""
    cuts = np.flatnonzero(falling[:-1] - falling[1:] > slack) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(falling)], strict=True):
        yield slice(int(start), int(stop))


def tied_of(plan: Plan, tally: Tally, net: FloatArray) -> BoolArray | None:
    """Which may truly be the best; None without replicates."""
    drawn = tally.replicates
    if drawn is None:
        return None
    if plan.q is not None:
        return tied_with_best(net, drawn.net(plan.q), row_worth=row_worth(plan.q), level=LEVEL)
    if drawn.gain is None:
        raise ValueError("expected replicates with money")
    return tied_with_best(net, drawn.gain, row_worth=_row_money(tally), level=LEVEL)


def _row_money(tally: Tally) -> float:
    """What one row more or less may be worth: the mean of what a positive may gain, or of what an action costs."""
    counts, always = tally.counts, len(tally.counts.models) - len(BASELINES)
    positives, rows = counts.positives, counts.positives + counts.negatives
    gain = _earned(tally).achievable / positives if positives else 0.0
    spent = 0.0 if tally.spent is None or not rows else float(tally.spent[always]) / rows
    return max(gain, spent)


def within_of(plan: Plan, tally: Tally) -> Within | None:
    """What a range of assumptions leaves open; None where there is none."""
    if plan.assumed is None or not plan.ranges:
        return None
    counts = tally.counts.of(np.arange(len(tally.counts.models) - len(BASELINES)))
    return Within(rap_range(tally.counts, plan.assumed.range), ranks(counts, plan.assumed.range))
