"""Profit at risk: what a treatment loses an hour, or earns or loses a day, at the pace of its latest data. Pure."""

from abmonitor.api_types import AtRisk
from abmonitor.view import ExperimentView
from alerts.standing import Standing, State
from metrics.experiment import DAY, HOUR, MINUTE
from metrics.uncertainty import Difference


SHARE_OVER = 5 * MINUTE
"""Of data, which the share of the traffic and its pace are taken of."""


def came(view: ExperimentView, variant: str, width: int) -> int | None:
    """Predictions of a variant in the latest `width` ms of data; None where none was read."""
    end = view.snapshot.watermark
    facts = view.snapshot.variants.get(variant)
    return None if end is None or facts is None else facts.predictions(end, width)


def at_risk(view: ExperimentView, treatment: str) -> AtRisk:
    """(Profit per prediction of the control - of the treatment) x the treatment's predictions an hour.

    Of one that is rolled back there is none: what it still gets is told by its share.
    """
    cost, difference = _cost(view), _difference(view, treatment)
    lately = came(view, treatment, SHARE_OVER)
    an_hour = None if lately is None else round(lately * HOUR / SHARE_OVER)
    standing = view.book.standings.get(treatment, Standing())
    lost: float | None
    if standing.state is State.ENDED and not an_hour:
        lost = 0.0
    elif standing.state is State.ROLLED_BACK or difference is None or an_hour is None:
        lost = None
    else:
        lost = max(0.0, -difference.estimate) * an_hour * (cost or 1.0)
    return AtRisk(
        an_hour=lost,
        unit="money" if cost is not None else "unit costs",
        predictions_an_hour=an_hour,
    )


def difference_a_day(view: ExperimentView, treatment: str) -> Difference | None:
    """(Profit per prediction of the treatment - of the control) x the treatment's predictions a day.

    In the unit of `at_risk`. It is 0 where the treatment gets no traffic.
    """
    found, lately = _difference(view, treatment), came(view, treatment, SHARE_OVER)
    if found is None or lately is None:
        return None
    scale = lately * DAY / SHARE_OVER * (_cost(view) or 1.0)
    ends = (found.lower, found.upper)
    lower, upper = (None if end is None else _scaled(end, scale) for end in ends)
    return Difference(_scaled(found.estimate, scale), lower, upper)


def _scaled(value: float, scale: float) -> float:
    """The product, which is never -0.0: screens would show that."""
    return value * scale + 0.0


def _cost(view: ExperimentView) -> float | None:
    """Of one action, where it is declared in money."""
    profitability = view.experiment.profitability
    return profitability.unit_cost if profitability else None


def _difference(view: ExperimentView, treatment: str) -> Difference | None:
    """Profit per prediction in costs of an action, treatment minus control."""
    comparison = view.comparisons.get(treatment)
    return comparison.differences.get("profit_per_prediction") if comparison else None
