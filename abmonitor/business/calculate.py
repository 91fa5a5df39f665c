"""From the inputs of a case to its results, with ranges carried through by Monte Carlo. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from abmonitor.business.case import FACTORS, Case
from abmonitor.business.distributions import Floats, strata
from metrics import money
from metrics.money import DAYS_A_YEAR


Values = dict[str, Floats]
"""Inputs and results by name, each of shape (n,): one value a draw."""
Formula = Callable[[Values], Floats]

CERTAIN = 1
"""So many draws are enough where every input is a point."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A result; None where it cannot be known, and for a payback that never comes."""

    likely: float | None
    """With every input at its likely value; not the median, where a formula is bent."""
    p5: float | None
    p50: float | None
    p95: float | None

    @property
    def exact(self) -> bool:
        """Whether no range had a part in it."""
        return self.p5 == self.p95 == self.likely


@dataclass(frozen=True, slots=True)
class Swing:
    """What an input does to the net of the first year, with the others at their likely values."""

    name: str
    low: float
    high: float
    """The ends of its range, in its own unit (shares as shares of 1)."""
    net_at_low: float
    net_at_high: float

    @property
    def width(self) -> float:
        """How far it moves the net."""
        return abs(self.net_at_high - self.net_at_low)


@dataclass(frozen=True, slots=True)
class Calculated:
    """All that follows from a case."""

    exact: bool
    """Whether every input is a point, and so nothing was drawn."""
    results: Mapping[str, Estimate]
    losses: Mapping[str, Estimate]
    """Expected loss a year by risk."""
    chance_net_positive: float
    """Chance that a later year brings more than it costs."""
    chance_payback_within_year: float
    """Chance that the investment is back within the first year."""
    swings: tuple[Swing, ...]
    """The input that moves the net most comes first."""


def _gain(values: Values) -> Floats:
    return money.revenue_a_day(*(values[name] for name in FACTORS["revenue_gain_per_day"]))


def _latency(values: Values) -> Floats:
    return money.latency_cost_a_day(*(values[name] for name in FACTORS["latency_cost_per_day"]))


def _reduction(values: Values) -> Floats:
    predictions, points, cost = (values[name] for name in FACTORS["risk_reduction_per_day"])
    return money.risk_reduction_a_day(predictions, points / 100, cost)


def _daily(values: Values) -> tuple[Floats, Floats, Floats]:
    gain, latency, reduction = (values[name] for name in FACTORS)
    return gain, latency, reduction


_FORMULAS: dict[str, Formula] = {
    "revenue_gain_per_day": _gain,
    "latency_cost_per_day": _latency,
    "risk_reduction_per_day": _reduction,
    "net_per_day": lambda values: money.net_a_day(*_daily(values)),
    "benefit_per_year": lambda values: money.benefit_a_year(*_daily(values)),
    "expected_loss_per_year": lambda values: values["expected_loss_per_year"],
    "net_per_year": lambda values: _after_loss(values) - values["running_cost_per_year"],
    "first_year_net": lambda values: values["net_per_year"] - values["investment"],
    "first_year_roi": lambda values: money.first_year_roi(
        _after_loss(values), values["running_cost_per_year"], values["investment"]
    ),
    "ongoing_roi": lambda values: money.ongoing_roi(
        _after_loss(values), values["running_cost_per_year"]
    ),
    "payback_days": lambda values: money.payback_days(values["net_per_year"], values["investment"]),
    "time_to_market_value": lambda values: money.time_to_market_value(
        values["net_per_year"], values["days_earlier"]
    ),
}
"""The results in the order in which they follow from each other."""

RESULTS = tuple(_FORMULAS)


def _after_loss(values: Values) -> Floats:
    return values["benefit_per_year"] - values["expected_loss_per_year"]


def steps(case: Case, inputs: Values, printed: Mapping[str, float]) -> Values:
    """Each result, by its formula from inputs and from the results before it.

    What was printed takes the place of a result wherever a later formula needs it, so that a wrong
    number shows where it arose and nowhere else. NaN is unknown, infinity a payback that never comes.
    """
    size = len(next(iter(inputs.values())))
    values = {
        **inputs,
        "expected_loss_per_year": sum(losses(case, inputs).values(), np.zeros(size)),
    }
    found = {}
    for name, formula in _FORMULAS.items():
        if name in FACTORS and name in inputs:
            found[name] = inputs[name]
        elif name != "time_to_market_value" or "days_earlier" in inputs:
            found[name] = formula(values)
        else:
            found[name] = np.full(size, np.nan)
        values[name] = np.full(size, printed[name]) if name in printed else found[name]
    return found


def losses(case: Case, inputs: Values) -> Values:
    """Expected loss a year of each risk."""
    return {
        risk.name: money.expected_loss(
            inputs[f"{risk.name}: probability"], inputs[f"{risk.name}: loss"]
        )
        for risk in case.risks
    }


def likely(case: Case) -> Values:
    """Every input at its likely value, shape (1,)."""
    return {name: np.array([each.shape.likely]) for name, each in case.quantities().items()}


def drawn(case: Case, draws: int, seed: int) -> Values:
    """Draws of every input, independent of each other; a single one where nothing is uncertain.

    An input of the same name draws from the same shares in every case, so that cases of one file
    differ by what was assumed and not by chance.
    """
    if is_exact(case):
        return likely(case)
    return {
        name: each.values(strata(draws, np.random.default_rng([seed, crc32(name.encode())])))
        for name, each in case.quantities().items()
    }


def is_exact(case: Case) -> bool:
    """Whether every input is a point."""
    return all(each.exact for each in case.quantities().values())


def calculate(case: Case, draws: int, seed: int) -> Calculated:
    """Work out a case by `draws` draws; the same seed gives the same numbers."""
    middle, inputs = likely(case), drawn(case, draws, seed)
    at_likely, found = steps(case, middle, {}), steps(case, inputs, {})
    by_risk, losses_at_likely = losses(case, inputs), losses(case, middle)
    return Calculated(
        exact=is_exact(case),
        results={name: estimate(at_likely[name], found[name]) for name in RESULTS},
        losses={name: estimate(losses_at_likely[name], by_risk[name]) for name in by_risk},
        chance_net_positive=float(np.mean(found["net_per_year"] > 0)),
        chance_payback_within_year=float(np.mean(found["payback_days"] <= DAYS_A_YEAR)),
        swings=_swings(case, middle),
    )


def estimate(at_likely: Floats, values: Floats) -> Estimate:
    """Sum up draws (n,) of a result and its value (1,) at the likely inputs."""
    shares = (0.05, 0.5, 0.95)
    if np.isnan(values).any():
        return Estimate(_told(at_likely[0]), None, None, None)
    # Draws as they are: between two of them there is nothing where one is infinite.
    low, median, high = np.quantile(values, shares, method="inverted_cdf")
    return Estimate(_told(at_likely[0]), _told(low), _told(median), _told(high))


def _told(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _swings(case: Case, middle: Values) -> tuple[Swing, ...]:
    """What each range does by itself, the widest swing first."""
    swings = [
        Swing(name, *each.ends(), *_nets(case, middle, name, each.ends()))
        for name, each in case.quantities().items()
        if not each.exact
    ]
    return tuple(sorted(swings, key=lambda swing: swing.width, reverse=True))


def _nets(case: Case, middle: Values, name: str, ends: tuple[float, float]) -> tuple[float, float]:
    """The net of the first year with one input at its ends."""
    inputs = {other: np.repeat(value, 2) for other, value in middle.items()}
    low, high = steps(case, inputs | {name: np.array(ends)}, {})["first_year_net"]
    return float(low), float(high)
