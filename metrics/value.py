"""What decisions earned: profit, RAP, ROI and net business value, as pure functions of counts.

Economics come in as q = r/c, the revenue of one correct action in units of what one action costs. Every
ratio takes sums of weights, whose unit (thousandths) cancels; sums of money are scaled back to predictions.
A quantity that cannot be known is None: never 0, never NaN, never infinite.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from metrics.confusion import WEIGHT_UNIT, Confusion, ratio
from metrics.experiment import BusinessValue


def finite(number: float | None) -> float | None:
    """Pass `number` on, None where it is too large for a float or was None already."""
    return number if number is not None and math.isfinite(number) else None


def checked_q(q: float) -> float:
    """Pass `q` on; raises ValueError unless it is finite and above 1 (an action must be able to pay)."""
    if not (math.isfinite(q) and q > 1):
        raise ValueError(f"expected unit profitability q to be a finite number above 1, got {q:g}")
    return q


def profit(confusion: Confusion, q: float, unit_cost: float = 1.0) -> float | None:
    """TP*r - (TP + FP)*c: what the actions earned, in the currency of `unit_cost` c, where r = q*c.

    In unit costs when `unit_cost` is left out; 0 when nothing was acted on. None only where the sum is
    too large for a float. Raises ValueError for q <= 1.

    >>> from metrics.confusion import Cell
    >>> profit(Confusion(tp=Cell(3, 3_000), fp=Cell(5, 5_000)), q=4.0, unit_cost=2.0)
    8.0
    """
    earned = (checked_q(q) - 1) * (confusion.tp.w / WEIGHT_UNIT) - confusion.fp.w / WEIGHT_UNIT
    return finite(earned * unit_cost)


def achievable_profit(confusion: Confusion, q: float, unit_cost: float = 1.0) -> float | None:
    """TAP = (TP + FN)*(r - c): what acting on all positives and on nothing else would have earned.

    In the currency of `unit_cost`; 0 without positives. None only where it is too large for a float.
    Raises ValueError for q <= 1.

    >>> from metrics.confusion import Cell
    >>> achievable_profit(Confusion(tp=Cell(3, 3_000), fn=Cell(1, 1_000)), q=4.0)
    12.0
    """
    return finite((checked_q(q) - 1) * (confusion.positives / WEIGHT_UNIT) * unit_cost)


def rap(confusion: Confusion, q: float) -> float | None:
    """Relative achieved profit, profit / TAP = (TP - FP/(q - 1)) / (TP + FN).

    1 is the best that is possible, 0 what never acting earns, below 0 a loss; without a unit. None
    without positives. Raises ValueError for q <= 1.

    >>> from metrics.confusion import Cell
    >>> rap(Confusion(tp=Cell(3, 3_000), fp=Cell(3, 3_000), fn=Cell(1, 1_000)), q=4.0)
    0.5
    """
    return ratio(confusion.tp.w - confusion.fp.w / (checked_q(q) - 1), confusion.positives)


def roi(confusion: Confusion, q: float) -> float | None:
    """Return on investment, q*precision - 1: profit per unit of money spent on acting.

    None when nothing was acted on. Raises ValueError for q <= 1.

    >>> from metrics.confusion import Cell
    >>> roi(Confusion(tp=Cell(1, 1_000), fp=Cell(3, 3_000)), q=6.0)
    0.5
    """
    checked_q(q)
    precision = confusion.precision
    return None if precision is None else q * precision - 1


def profit_per_prediction(confusion: Confusion, q: float) -> float | None:
    """(q*TP - TP - FP)/n in unit costs, n all predictions including failed requests.

    Where only acted predictions get labels, n holds those that were not acted on, too (see
    `Confusion.unknown_idle`): only with them are variants comparable that act at different rates.
    None without predictions. Raises ValueError for q <= 1.

    >>> from metrics.confusion import Cell
    >>> acted = Confusion(tp=Cell(2, 2_000), fp=Cell(3, 3_000), unknown_idle=Cell(5, 5_000))
    >>> profit_per_prediction(acted, q=6.0)
    0.7
    """
    c, earned = confusion, checked_q(q) - 1
    n = c.total + c.unknown_idle.w
    return earned * (c.tp.w / n) - c.fp.w / n if n else None


@dataclass(frozen=True, slots=True)
class NetBusinessValue:
    """The parts of net business value in per cent, None for a term without data."""

    accuracy: float | None
    latency: float | None
    errors: float | None

    @property
    def total(self) -> float | None:
        """The sum of the parts in per cent, None when one of them is unknown."""
        if self.accuracy is None or self.latency is None or self.errors is None:
            return None
        return finite(self.accuracy + self.latency + self.errors)


def net_business_value(
    accuracy_points: float | None,
    latency_ms: float | None,
    error_points: float | None,
    weights: BusinessValue = BusinessValue(),  # frozen
) -> NetBusinessValue:
    """0.5*accuracy - 0.1*latency - 10*errors, in per cent; the three numbers are `weights`.

    The arguments are treatment minus control: accuracy and error rate in percentage points, mean latency
    in ms. A term whose weight is 0 is worth 0 whether or not it has data, so that a model without
    latencies can be valued.

    >>> value = net_business_value(accuracy_points=3.6, latency_ms=19, error_points=-0.4)
    >>> [round(part, 6) for part in (value.accuracy, value.latency, value.errors, value.total)]
    [1.8, -1.9, 4.0, 3.9]
    >>> net_business_value(3.6, None, -0.4).total is None
    True
    """
    return NetBusinessValue(
        _worth(weights.per_accuracy_point_pct, accuracy_points),
        _worth(weights.per_latency_ms_pct, latency_ms),
        _worth(weights.per_error_point_pct, error_points),
    )


def _worth(weight: float, change: float | None) -> float | None:
    if weight == 0:
        return 0.0
    return None if change is None else finite(weight * change)


class Recommendation(StrEnum):
    """What to do with a treatment."""

    STRONGLY_RECOMMEND = "strongly recommend"
    RECOMMEND = "recommend"
    CONTINUE = "continue testing"
    REJECT = "reject"


def recommendation(lower_bound: float | None, *, harm: bool) -> Recommendation:
    """Say what to do from the lower bound of net business value, in per cent.

    Above 2 recommends strongly, above 0.5 recommends; anything else, and no bound at all, means to
    continue testing. `harm`, a guardrail that failed, overrides whatever value there may be.

    >>> recommendation(3.9, harm=False)
    <Recommendation.STRONGLY_RECOMMEND: 'strongly recommend'>
    """
    if harm:
        return Recommendation.REJECT
    if lower_bound is None or not lower_bound > 0.5:
        return Recommendation.CONTINUE
    return Recommendation.STRONGLY_RECOMMEND if lower_bound > 2 else Recommendation.RECOMMEND
