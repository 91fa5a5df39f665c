"""Worlds: what two models do to the predictions they get, and what is true of them. Pure.

A prediction is of a kind (its cell, latency, money, whether its truth is ever seen), and a kind adds fixed
amounts to the columns of `metrics.facts`. Facts are counts of kinds times what a kind adds (`draws`); true
values are the same sums with probabilities instead of counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.confusion import WEIGHT_UNIT
from metrics.contrast import value_of
from metrics.duration import Duration
from metrics.experiment import HOUR, Experiment, Labels, Money, Profitability
from metrics.facts import COLUMNS, Facts
from metrics.moments import LATENCY_UNIT_MS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXPERIMENT = Experiment(
    name="simulated",
    control="control",
    variants={"control": 0.5, "treatment": 0.5},
    labels=Labels(horizon=Duration(HOUR)),
    profitability=Profitability(q=5.0),
    money=Money(cap=1_000.0),
)

ALIKE = ("rap", "profit_per_prediction", "precision", "recall", "accuracy")
"""Metrics that need nothing but confusion cells."""
SIX = (*ALIKE, "net_business_value")
LABELLED = (*SIX, "money_per_prediction")

COLUMN_AT = {name: at for at, name in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class Model:
    """What a model does, whatever the prevalence."""

    recall: float = 0.8
    false_alarms: float = 0.03
    """Share of true negatives that it acts on."""
    errors: float = 0.0
    slowness: float = 1.0
    """Factor of all latencies."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Cohorts with one split."""

    cohorts: int = 100
    share: float = 0.5
    """Of the treatment."""
    total: int = 400
    """Predictions of both arms a cohort."""
    prevalence: tuple[float, float] = (0.1, 0.1)
    """Of positives, at the beginning and at the end."""


@dataclass(frozen=True, slots=True)
class Units:
    """Predictions of one unit are alike: each is, with probability sqrt(icc), what the unit is."""

    each: int = 10
    """Predictions a unit makes."""
    icc: float = 0.3
    """Correlation of any two of them being in some cell."""
    spread: bool = False
    """Over as many cohorts, one each, rather than all in one cohort."""
    known: bool = True
    """Predictions say which unit they are of, so that its variance can be told."""


@dataclass(frozen=True, slots=True)
class World:
    """Two models, what they are given and what is seen of it."""

    name: str
    control: Model = Model()
    treatment: Model = Model()
    phases: tuple[Phase, ...] = (Phase(),)
    broken: tuple[int, Model] | None = None
    """From which cohort on the treatment is another model."""
    timed: bool = False
    """Predictions have latencies."""
    priced: bool = False
    """Outcomes have a value and predictions a cost."""
    explored: float = 1.0
    """Share of what was not acted on whose truth is seen, with the inverse as weight."""
    units: Units | None = None

    @property
    def cohorts(self) -> int:
        """How many there are."""
        return sum(phase.cohorts for phase in self.phases)

    @property
    def strata(self) -> Ints:
        """The phase of each cohort."""
        return np.repeat(np.arange(len(self.phases)), [phase.cohorts for phase in self.phases])

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be known of it."""
        timed = ("net_business_value",) if self.timed else ()
        return (*ALIKE, *timed, *(("money_per_prediction",) if self.priced else ()))

    def model(self, arm: str, cohort: int) -> Model:
        """The model that an arm runs during a cohort."""
        if arm == "control":
            return self.control
        if self.broken is not None and cohort >= self.broken[0]:
            return self.broken[1]
        return self.treatment


class Kind(NamedTuple):
    """A kind of prediction: how probable, and what it adds to the columns."""

    probability: float
    adds: tuple[tuple[str, float], ...]


LATENCIES_MS = (18.0, 30.0, 50.0, 110.0, 400.0, 1_500.0)
_USUAL = (0.25, 0.35, 0.25, 0.11, 0.035, 0.005)
_FAILED = (0.1, 0.15, 0.2, 0.2, 0.2, 0.15)
"""Failed requests are slow: latency and errors go together."""

COST_CENTS = 100
_VALUES_CENTS = ((300, 0.7), (600, 0.25), (4_000, 0.05))
"""What a true positive brings, a mean of 5.6 times the cost, skewed."""


def kinds(world: World, model: Model, prevalence: float) -> Iterator[Kind]:
    """All kinds of predictions; their order and what they add do not depend on recall or prevalence."""
    served = 1 - model.errors
    cells = {
        "tp": served * prevalence * model.recall,
        "fp": served * (1 - prevalence) * model.false_alarms,
        "tn": served * (1 - prevalence) * (1 - model.false_alarms),
        "fn": served * prevalence * (1 - model.recall),
        "error_positive": model.errors * prevalence,
        "error_other": model.errors * (1 - prevalence),
    }
    for cell, probability in cells.items():
        for slow, latency in _latencies(world, model, cell):
            for seen, shown, weight in _seen(world, cell):
                for paid, money in _paid(world, cell):
                    part = probability * slow * seen * paid
                    yield Kind(part, (*_adds(shown, weight, latency), *money))


def _adds(cell: str, weight: float, latency: float | None) -> Iterator[tuple[str, float]]:
    whole = round(weight * WEIGHT_UNIT)
    yield from (("predictions", 1), (f"{cell}.n", 1))
    yield from ((f"{cell}.w", whole), (f"{cell}.w2", whole**2))
    if latency is not None:
        yield from (("timed", 1), ("latency", latency), ("latency_squared", latency**2))
        yield from ((f"{cell}.timed", 1), (f"{cell}.latency", latency))


def _latencies(world: World, model: Model, cell: str) -> Iterator[tuple[float, float | None]]:
    if not world.timed:
        yield 1.0, None
        return
    shares = _FAILED if cell.startswith("error") else _USUAL
    for share, latency in zip(shares, LATENCIES_MS, strict=True):
        yield share, float(round(latency * model.slowness / LATENCY_UNIT_MS))


def _seen(world: World, cell: str) -> Iterator[tuple[float, str, float]]:
    if cell in ("tn", "fn") and world.explored < 1:
        yield from (
            (world.explored, cell, 1 / world.explored),
            (1 - world.explored, "unknown", 1.0),
        )
    else:
        yield 1.0, cell, 1.0


def _paid(world: World, cell: str) -> Iterator[tuple[float, tuple[tuple[str, float], ...]]]:
    if not world.priced or cell not in ("tp", "fp"):
        yield 1.0, ()
        return
    for value, share in _VALUES_CENTS if cell == "tp" else ((0, 1.0),):
        gain = float(value - COST_CENTS)
        yield share, (("money", gain), ("money_squared", gain**2))


def columns_of(found: Sequence[Kind]) -> Floats:
    """What kinds add, shape (kinds, columns)."""
    columns = np.zeros((len(found), len(COLUMNS)))
    for row, kind in enumerate(found):
        for name, amount in kind.adds:
            columns[row, COLUMN_AT[name]] = amount
    return columns


def prevalences(world: World) -> Floats:
    """Of each cohort."""
    return np.concatenate([np.linspace(*phase.prevalence, phase.cohorts) for phase in world.phases])


def chances_of(world: World, arm: str) -> tuple[Floats, Floats]:
    """Probabilities of kinds, shape (cohorts, kinds), and what they add."""
    each = [
        list(kinds(world, world.model(arm, cohort), prevalence))
        for cohort, prevalence in enumerate(prevalences(world))
    ]
    chances = np.array([[kind.probability for kind in found] for found in each])
    return chances / chances.sum(axis=-1, keepdims=True), columns_of(each[0])


def true_value(world: World, metric: str, arm: str, cohort: int = 0) -> float:
    """The value of a metric that the arm's estimates go to."""
    prevalence = float(prevalences(world)[cohort])
    found = list(kinds(world, world.model(arm, cohort), prevalence))
    sums = np.array([kind.probability for kind in found]) @ columns_of(found)
    return float(value_of(metric, Facts(sums), EXPERIMENT)[0])


def true_harm(world: World, metric: str, cohort: int = 0) -> float:
    """How much worse the treatment truly is: a margin of this size is a null at its very edge."""
    return true_value(world, metric, "control", cohort) - true_value(
        world, metric, "treatment", cohort
    )


def alike(world: World) -> World:
    """The world with the control's model in both arms."""
    return replace(world, treatment=world.control, broken=None)
