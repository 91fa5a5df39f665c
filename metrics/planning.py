"""Planning: how many predictions a sequential test needs, to find a harm and to pass an equal treatment. Pure.

The counts that `expected` promises are taken as they come on average, and the tests that decide are asked what
they would say of them. An estimate is normal around its mean, so that evidence is reached with a probability
of 80 % when it is reached by an estimate that is 0.84 standard errors worse than its mean. Evidence that is
there earlier by luck, and starts later than the first, are left out: both only make answers come sooner.

A harmed treatment misses more: its recall falls, and when nothing is found any more and that is not bad
enough, its false alarms rise. What does not depend on recall (specificity, false alarms) gets more false
alarms; of money every prediction earns less. Everything else stays as with the control.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np

from metrics.confusion import WEIGHT_UNIT, Cell, Cells
from metrics.contrast import MIN_POSITIVES, Contrast, contrast
from metrics.evidence import Stacked, Test
from metrics.experiment import Expected, Experiment
from metrics.facts import Facts, facts_of
from metrics.ledger import Ledger
from metrics.moments import LATENCY_UNIT_MS, Moments
from metrics.sequential import log_evidence, start_weights
from metrics.uncertainty import CENT


MOST: Final = 1e15
"""More predictions than anybody will ever make: what takes more is never reached."""
Z_75: Final = NormalDist().inv_cdf(0.75)
Z_80: Final = NormalDist().inv_cdf(0.8)
Z_90: Final = NormalDist().inv_cdf(0.9)

_ONE: Final = 10**15
"""Predictions of which cells are whole numbers, for any shares worth declaring."""
_BISECTIONS = 100
_MISSING_MORE: Final = 1.0
"""Badness up to which recall falls, to 0; from there false alarms rise until they are all."""
_ALARMS_ONLY = frozenset({"specificity", "false_alarm_rate"})
_FOUND_ONLY = frozenset({"recall", "precision", "roi", "f_score"})


@dataclass(frozen=True, slots=True)
class Need:
    """Predictions of both arms until an answer comes with a probability of 50 % and of 80 %.

    None where it never comes.
    """

    p50: int | None = None
    p80: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one test of one treatment needs."""

    effect: float | None
    """Harm beyond the margin, in the metric's unit, that `detect` is about; None: no harm is found."""
    detect: Need
    passing: Need
    """Of a treatment that is truly equal to the control."""


def undeclared(metric: str, experiment: Experiment) -> str | None:
    """What has to be declared for a plan of `metric`; None where nothing is missing."""
    if experiment.expected is None:
        return "expected: {positive_rate: ...} (what the control is expected to do)"
    if metric == "money_per_prediction" and experiment.expected.money_sd is None:
        return "expected: {money_sd: ...} (the standard deviation of money_per_prediction)"
    return None


def plan(test: Test, experiment: Experiment, expected: Expected, rho: float) -> Plan:
    """Plan a test of mature cohorts; `rho` is the treatment's share of the traffic of both, in (0, 1).

    Without `test.detect` it is about the harm that is found with a probability of 80 % when there are
    `test.planned` predictions an arm (or the fewest that anything is judged on). Raises ValueError for
    labels of explored predictions, whose weights nothing declares.
    """
    arms = _Arms(
        test, experiment, checked_rho(rho), _Expectation(test.metric, experiment, expected)
    )
    least = arms.least(arms.control)
    passing = _later(Need(*(smallest(arms.passed(z)) for z in (0.0, Z_80))), least)
    badness = arms.badness(least)
    if badness is None:
        return Plan(test.detect, Need(), passing)
    ours = arms.treatment(badness)
    found = Need(*(smallest(arms.found(badness, z)) for z in (0.0, Z_80)))
    effect = test.detect or float(arms.contrast(ours, MOST).harm)
    return Plan(effect, _later(found, arms.least(ours)), passing)


def checked_rho(rho: float) -> float:
    """Pass the treatment's share of traffic on; raises ValueError unless it is above 0 and below 1."""
    if not 0 < rho < 1:
        raise ValueError(
            f"expected the treatment's share of traffic to be above 0 and below 1, got {rho:g}"
        )
    return rho


def smallest(reached: Callable[[float], bool]) -> int | None:
    """The smallest number of predictions at which `reached`."""
    if not reached(MOST):
        return None
    low, high = 0.0, math.log(MOST)
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(math.exp(middle)) else (middle, high)
    return round(math.exp(high))


def first(reached: Callable[[float], bool], low: float, high: float) -> float | None:
    """Where `reached` begins between two ends; None where it is not at the upper one."""
    if not reached(high):
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _later(one: Need, other: Need) -> Need:
    def both(mine: int | None, theirs: int | None) -> int | None:
        return None if mine is None or theirs is None else max(mine, theirs)

    return Need(both(one.p50, other.p50), both(one.p80, other.p80))


@dataclass(frozen=True, slots=True)
class _Arms:
    """The test of a treatment that is so and so bad: 0 is like the control."""

    test: Test
    experiment: Experiment
    rho: float
    treatment: "_Expectation"
    control: Facts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "control", self.treatment(0.0))  # a frozen class has no other way

    def contrast(self, ours: Facts, predictions: float) -> Contrast:
        """Compare after `predictions` of both arms, as they are on average."""
        each = predictions / _ONE
        arms = (
            Facts(ours.sums * (self.rho * each)),
            Facts(self.control.sums * ((1 - self.rho) * each)),
        )
        return contrast(self.test.metric, *arms, self.experiment, self.test.margin)

    def least(self, ours: Facts) -> Need:
        """When anything is judged; evidence has to be there too, so that each is in more of the cases."""
        return Need(*(smallest(self.judged(ours, z)) for z in (Z_75, Z_90)))

    def judged(self, ours: Facts, z: float) -> Callable[[float], bool]:
        """Whether there are enough positives (or whatever it takes), even if z standard deviations (Poisson) fewer come."""
        root = z / 2 + math.sqrt(z * z / 4 + MIN_POSITIVES)
        return lambda n: bool(self.contrast(ours, n * MIN_POSITIVES / root**2).enough)

    def found(self, badness: float, z: float) -> Callable[[float], bool]:
        """Whether harm is proven when the estimate is z standard errors too good."""
        ours, level = self.treatment(badness), -math.log(self.test.alpha)
        return lambda n: self._log_harm(self.contrast(ours, n), z) >= level

    def passed(self, z: float) -> Callable[[float], bool]:
        """Whether an equal treatment is proven to be harmless, though it looks z standard errors worse."""
        level = -math.log(self.test.alpha_pass)
        return lambda n: self._log_safe(self.contrast(self.control, n), z) >= level

    def badness(self, least: Need) -> float | None:
        """How bad the treatment is that the plan is about; None where none can be."""
        detect, worst = self.test.detect, self.treatment.worst
        if detect is not None:
            return first(
                lambda bad: bool(self.contrast(self.treatment(bad), MOST).harm >= detect),
                0.0,
                worst,
            )
        planned = self.test.planned / (2 * self.rho * (1 - self.rho))
        n = max(planned, least.p80 or MOST)
        return first(lambda bad: self.found(bad, Z_80)(n), 0.0, worst)

    def _log_harm(self, seen: Contrast, z: float) -> float:
        ratio = self.test.harm_ratio(Stacked(seen.harm, seen.se, seen.n))
        found = log_evidence(seen.harm - z * seen.se, seen.se, ratio)
        return float(found + np.log(start_weights(1)))

    def _log_safe(self, seen: Contrast, z: float) -> float:
        ratio = self.test.safe_ratio(Stacked(seen.harm, seen.se, seen.n))
        return float(log_evidence(-seen.harm - z * seen.se, seen.se, ratio))


@dataclass(frozen=True, slots=True)
class _Expectation:
    """What is expected of a variant that does so and so badly by a metric."""

    metric: str
    experiment: Experiment
    expected: Expected

    @property
    def worst(self) -> float:
        """The highest badness."""
        one_thing = {*_ALARMS_ONLY, *_FOUND_ONLY, "money_per_prediction"}
        return 1.0 if self.metric in one_thing else 2.0

    def __call__(self, badness: float) -> Facts:
        """The facts of `_ONE` predictions, shape (columns,); all labels come in time."""
        labels, expected = self.experiment.labels, self.expected
        if labels.observed == "explored":
            raise ValueError("expected labels that are observed for all or acted, got explored")
        missing, alarms = min(badness, _MISSING_MORE), max(badness - _MISSING_MORE, 0.0)
        if self.metric in _ALARMS_ONLY:
            missing, alarms = 0.0, badness
        elif self.metric == "money_per_prediction":
            missing = 0.0
        shares = shares_of(
            expected,
            expected.recall * (1 - missing),
            expected.false_alarm_rate + (1 - expected.false_alarm_rate) * alarms,
        )
        if labels.observed == "acted":
            shares = _of_acted(shares)
        cells = Cells(**{name: _cell(share) for name, share in shares.items()})
        slow = round(_ONE * (expected.latency_sd_ms / LATENCY_UNIT_MS) ** 2)
        money, squared = self._money(badness)
        ledger = Ledger(
            _ONE, cells=cells, moments=Moments(_ONE, 0, slow), money=money, money_squared=squared
        )
        return Facts(facts_of([ledger], labels).sums[0])

    def _money(self, badness: float) -> tuple[int, int]:
        """Sums of cents and of their squares: a mean of 0 for the control, down to all the cap allows."""
        declared = self.experiment.money
        mean = 0.0 if declared is None else -2 * declared.cap * badness / CENT
        spread = (self.expected.money_sd or 0.0) / CENT
        return round(mean * _ONE), round((mean**2 + spread**2) * _ONE)


def shares_of(expected: Expected, recall: float, false_alarm_rate: float) -> dict[str, float]:
    """The share of each cell; recall and false alarms are those of requests that did not fail."""
    positive, failed = expected.positive_rate, expected.error_rate
    served = 1 - failed
    return {
        "tp": served * positive * recall,
        "fn": served * positive * (1 - recall),
        "fp": served * (1 - positive) * false_alarm_rate,
        "tn": served * (1 - positive) * (1 - false_alarm_rate),
        "error_positive": failed * positive,
        "error_other": failed * (1 - positive),
    }


def _of_acted(shares: dict[str, float]) -> dict[str, float]:
    """The cells that are left where only acted predictions get labels."""
    return {
        "tp": shares["tp"],
        "fp": shares["fp"],
        "missing_idle_no": shares["tn"] + shares["fn"],
        "error_other": shares["error_positive"] + shares["error_other"],
    }


def _cell(share: float) -> Cell:
    n = round(share * _ONE)
    return Cell(n, n * WEIGHT_UNIT, n * WEIGHT_UNIT**2, n)
