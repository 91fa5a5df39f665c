"""The business case in money: what better predictions bring a day, and what the investment returns.

The amounts are in one currency of the caller's choice. Nothing here is measured: these are the formulas of
a business case, to which the measured differences are one input among others.

The formulas take numbers, or arrays (n,) of draws where inputs are uncertain. What cannot be known is None
of a number, and NaN in an array. Nothing is discounted.
"""

from typing import overload

import numpy as np
from numpy.typing import NDArray

from metrics.confusion import ratio
from metrics.experiment import Profitability
from metrics.value import finite


DAYS_A_YEAR = 365

Floats = NDArray[np.float64]
Number = float | Floats
Known = float | Floats | None
"""A number that may be unknown, or an array in which NaN is."""


def unit_profitability(reference_precision: float, assumed_roi: float = 0.0) -> float:
    """Find q = (1 + ROI)/precision, at which the reference model returns that ROI.

    `reference_precision` is a share in (0, 1] and frozen: a live precision here would let a model that
    decays change the prices it is judged by. Raises ValueError for another precision, and when the
    resulting q is not above 1.

    >>> round(unit_profitability(4146 / 148837), 8)
    35.89893874
    """
    if not 0 < reference_precision <= 1:
        raise ValueError(
            f"expected the reference precision to be above 0 and at most 1, got {reference_precision:g}"
        )
    declared = Profitability(reference_precision=reference_precision, assumed_roi=assumed_roi)
    return declared.unit_profitability


@overload
def revenue_a_day(
    daily_revenue: float, accuracy_gain: float, revenue_per_accuracy: float
) -> float | None: ...
@overload
def revenue_a_day(
    daily_revenue: Floats, accuracy_gain: Floats, revenue_per_accuracy: Floats
) -> Floats: ...
def revenue_a_day(
    daily_revenue: Number, accuracy_gain: Number, revenue_per_accuracy: Number
) -> Known:
    """Additional revenue a day: daily revenue * accuracy gain * revenue share per unit of accuracy.

    `revenue_per_accuracy` is the share of revenue that one unit of `accuracy_gain` brings, so both must
    use the same unit: a gain in points needs a share per point. None where it is too large for a float.

    >>> round(revenue_a_day(10_000_000, accuracy_gain=3.6, revenue_per_accuracy=0.005), 6)
    180000.0
    """
    return _known(daily_revenue * accuracy_gain * revenue_per_accuracy)


@overload
def latency_cost_a_day(
    predictions_a_day: float, latency_increase_ms: float, cost_per_ms: float
) -> float | None: ...
@overload
def latency_cost_a_day(
    predictions_a_day: Floats, latency_increase_ms: Floats, cost_per_ms: Floats
) -> Floats: ...
def latency_cost_a_day(
    predictions_a_day: Number, latency_increase_ms: Number, cost_per_ms: Number
) -> Known:
    """Cost of slowness a day: predictions a day * added latency * cost of one ms of one prediction.

    Negative when latency fell. None where it is too large for a float.

    >>> round(latency_cost_a_day(50_000, latency_increase_ms=19, cost_per_ms=0.0001), 6)
    95.0
    """
    return _known(predictions_a_day * latency_increase_ms * cost_per_ms)


@overload
def risk_reduction_a_day(
    predictions_a_day: float, error_rate_decrease: float, cost_per_error: float
) -> float | None: ...
@overload
def risk_reduction_a_day(
    predictions_a_day: Floats, error_rate_decrease: Floats, cost_per_error: Floats
) -> Floats: ...
def risk_reduction_a_day(
    predictions_a_day: Number, error_rate_decrease: Number, cost_per_error: Number
) -> Known:
    """Money saved a day: predictions a day * decrease of the error rate (a share) * cost of one error.

    Negative when errors rose. None where it is too large for a float.

    >>> risk_reduction_a_day(50_000, error_rate_decrease=0.004, cost_per_error=500)
    100000.0
    """
    return _known(predictions_a_day * error_rate_decrease * cost_per_error)


@overload
def net_a_day(
    revenue: float | None, latency_cost: float | None, risk_reduction: float | None
) -> float | None: ...
@overload
def net_a_day(revenue: Floats, latency_cost: Floats, risk_reduction: Floats) -> Floats: ...
def net_a_day(revenue: Known, latency_cost: Known, risk_reduction: Known) -> Known:
    """Revenue - latency cost + risk reduction, each a day; None when one of them is unknown.

    >>> net_a_day(revenue=1_800, latency_cost=95, risk_reduction=100)
    1805
    """
    if revenue is None or latency_cost is None or risk_reduction is None:
        return None
    return _known(revenue - latency_cost + risk_reduction)


@overload
def benefit_a_year(
    revenue: float | None, latency_cost: float | None, risk_reduction: float | None
) -> float | None: ...
@overload
def benefit_a_year(revenue: Floats, latency_cost: Floats, risk_reduction: Floats) -> Floats: ...
def benefit_a_year(revenue: Known, latency_cost: Known, risk_reduction: Known) -> Known:
    """365 * (revenue - latency cost + risk reduction), each a day; None when one of them is unknown.

    >>> benefit_a_year(revenue=1_800, latency_cost=95, risk_reduction=100)
    658825
    """
    if revenue is None or latency_cost is None or risk_reduction is None:
        return None
    return _known(DAYS_A_YEAR * (revenue - latency_cost + risk_reduction))


@overload
def first_year_roi(
    benefit: float | None, running_cost: float, investment: float
) -> float | None: ...
@overload
def first_year_roi(benefit: Floats, running_cost: Floats, investment: Floats) -> Floats: ...
def first_year_roi(benefit: Known, running_cost: Number, investment: Number) -> Known:
    """(benefit - running cost - investment)/investment over the first year, as a share (1 is 100 %).

    None when the benefit is unknown or nothing was invested.

    >>> round(first_year_roi(658_825, running_cost=53_000, investment=78_000), 3)
    6.767
    """
    return None if benefit is None else _ratio(benefit - running_cost - investment, investment)


@overload
def ongoing_roi(benefit: float | None, running_cost: float) -> float | None: ...
@overload
def ongoing_roi(benefit: Floats, running_cost: Floats) -> Floats: ...
def ongoing_roi(benefit: Known, running_cost: Number) -> Known:
    """(benefit - running cost)/running cost of any later year, as a share (1 is 100 %).

    None when the benefit is unknown or nothing is spent.

    >>> round(ongoing_roi(658_825, running_cost=53_000), 2)
    11.43
    """
    return None if benefit is None else _ratio(benefit - running_cost, running_cost)


@overload
def payback_days(net_a_year: float | None, investment: float) -> float | None: ...
@overload
def payback_days(net_a_year: Floats, investment: Floats) -> Floats: ...
def payback_days(net_a_year: Known, investment: Number) -> Known:
    """Days until the net of running cost has returned the investment: 365 * investment/net a year.

    None where it never does (the net is not above 0), and when the net is unknown. In an array never is
    infinity, so that it counts as the longest of all times. Not discounted.

    >>> payback_days(730_000, investment=20_000)
    10.0
    >>> payback_days(-1, investment=20_000) is None
    True
    """
    if net_a_year is None:
        return None
    if isinstance(net_a_year, np.ndarray):
        with np.errstate(all="ignore"):
            days = DAYS_A_YEAR * investment / net_a_year
        return np.where(net_a_year > 0, days, np.where(np.isnan(net_a_year), np.nan, np.inf))
    return _ratio(DAYS_A_YEAR * investment, net_a_year) if net_a_year > 0 else None


@overload
def time_to_market_value(net_a_year: float | None, days_earlier: float) -> float | None: ...
@overload
def time_to_market_value(net_a_year: Floats, days_earlier: Floats) -> Floats: ...
def time_to_market_value(net_a_year: Known, days_earlier: Number) -> Known:
    """What it brings to start `days_earlier` days earlier: that many days of the net of running cost.

    Negative where a day brings a loss. None when the net is unknown.

    >>> time_to_market_value(730_000, days_earlier=30)
    60000.0
    """
    return None if net_a_year is None else _known(net_a_year / DAYS_A_YEAR * days_earlier)


@overload
def expected_loss(probability: float, loss: float) -> float | None: ...
@overload
def expected_loss(probability: Floats, loss: Floats) -> Floats: ...
def expected_loss(probability: Number, loss: Number) -> Known:
    """Probability (a share, over some time) * loss: what an event costs on average over that time.

    Expected losses add up whether or not the events depend on each other. Raises ValueError where a
    probability is not from 0 to 1.

    >>> expected_loss(0.25, loss=20_000)
    5000.0
    """
    if not np.all((np.asarray(probability) >= 0) & (np.asarray(probability) <= 1)):
        raise ValueError(f"expected probabilities from 0 to 1, got {probability}")
    return _known(probability * loss)


def _ratio(gain: Number, spent: Number) -> Known:
    """Gain a unit of what was spent; unknown where nothing was."""
    if isinstance(gain, np.ndarray) or isinstance(spent, np.ndarray):
        with np.errstate(all="ignore"):
            return _known(np.divide(gain, spent))
    return finite(ratio(gain, spent))


def _known(value: Number) -> Known:
    """Pass a value on, unknown where it is too large for a float."""
    if isinstance(value, np.ndarray):
        return np.where(np.isfinite(value), value, np.nan)
    return finite(value)
