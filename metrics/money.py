"""The business case in money: what better predictions bring a day, and what the investment returns.

The amounts are in one currency of the caller's choice. Nothing here is measured: these are the formulas of
a business case, to which the measured differences are one input among others.
"""

from metrics.confusion import ratio
from metrics.experiment import Profitability
from metrics.value import finite


DAYS_A_YEAR = 365


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


def revenue_a_day(
    daily_revenue: float, accuracy_gain: float, revenue_per_accuracy: float
) -> float | None:
    """Additional revenue a day: daily revenue * accuracy gain * revenue share per unit of accuracy.

    `revenue_per_accuracy` is the share of revenue that one unit of `accuracy_gain` brings, so both must
    use the same unit: a gain in points needs a share per point. None where it is too large for a float.

    >>> round(revenue_a_day(10_000_000, accuracy_gain=3.6, revenue_per_accuracy=0.005), 6)
    180000.0
    """
    return finite(daily_revenue * accuracy_gain * revenue_per_accuracy)


def latency_cost_a_day(
    predictions_a_day: float, latency_increase_ms: float, cost_per_ms: float
) -> float | None:
    """Cost of slowness a day: predictions a day * added latency * cost of one ms of one prediction.

    Negative when latency fell. None where it is too large for a float.

    >>> round(latency_cost_a_day(50_000, latency_increase_ms=19, cost_per_ms=0.0001), 6)
    95.0
    """
    return finite(predictions_a_day * latency_increase_ms * cost_per_ms)


def risk_reduction_a_day(
    predictions_a_day: float, error_rate_decrease: float, cost_per_error: float
) -> float | None:
    """Money saved a day: predictions a day * decrease of the error rate (a share) * cost of one error.

    Negative when errors rose. None where it is too large for a float.

    >>> risk_reduction_a_day(50_000, error_rate_decrease=0.004, cost_per_error=500)
    100000.0
    """
    return finite(predictions_a_day * error_rate_decrease * cost_per_error)


def benefit_a_year(
    revenue: float | None, latency_cost: float | None, risk_reduction: float | None
) -> float | None:
    """365 * (revenue - latency cost + risk reduction), each a day; None when one of them is unknown.

    >>> benefit_a_year(revenue=1_800, latency_cost=95, risk_reduction=100)
    658825
    """
    if revenue is None or latency_cost is None or risk_reduction is None:
        return None
    return finite(DAYS_A_YEAR * (revenue - latency_cost + risk_reduction))


def first_year_roi(benefit: float | None, running_cost: float, investment: float) -> float | None:
    """(benefit - running cost - investment)/investment over the first year, as a share (1 is 100 %).

    None when the benefit is unknown or nothing was invested.

    >>> round(first_year_roi(658_825, running_cost=53_000, investment=78_000), 3)
    6.767
    """
    return None if benefit is None else _return(benefit - running_cost - investment, investment)


def ongoing_roi(benefit: float | None, running_cost: float) -> float | None:
    """(benefit - running cost)/running cost of any later year, as a share (1 is 100 %).

    None when the benefit is unknown or nothing is spent.

    >>> round(ongoing_roi(658_825, running_cost=53_000), 2)
    11.43
    """
    return None if benefit is None else _return(benefit - running_cost, running_cost)


def _return(gain: float, spent: float) -> float | None:
    return finite(ratio(gain, spent))
