"""Synthetic events with known truth, in order of time. Pure: seeded, and the same for the same seed.

Every quantity has a random generator of its own, so that neither the size of the chunks nor a truth
that changes shifts what is drawn for anything else. Events stand in the order (time, predictions before
outcomes, number of the prediction); outcomes wait in a buffer until their time has come.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from metrics.moments import LATENCY_CAP
from stream.events import LATEST_MS, Outcome, Prediction
from stream.simulation import LabelDelay, Latency, Score, Simulation, Truth


CHUNK = 16_384
START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

SCORE_STEPS = 10_000
_DRAWS = (
    "time experiment unit actual decision error latency delay missing late late_by "
    "twice_prediction twice_outcome"
).split()
_OUTCOME = np.dtype([("time", "i8"), ("index", "i8"), ("actual", "?"), ("copies", "i1")])

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]


class _SentPrediction(Prediction, omit_defaults=True, gc=False):
    """A prediction that says nothing of what it does not know."""


class _SentOutcome(Outcome, omit_defaults=True, gc=False):
    """An outcome that says nothing of what it does not know."""


@dataclass(frozen=True, slots=True)
class Run:
    """How much of a simulation is made, and when it takes place."""

    predictions: int
    seed: int = 1
    start: int = START
    """Epoch milliseconds."""
    rate: float = 50.0
    """Predictions a second; their outcomes come on top."""

    @property
    def span(self) -> float:
        """Milliseconds that the predictions take."""
        return self.predictions / self.rate * 1000


class _Arms:
    """The truth of all variants of all experiments, as arrays by arm (and by stretch of time)."""

    def __init__(self, simulation: Simulation, span: float) -> None:
        pairs = [(e, name) for e in simulation.experiments for name in e.variants]
        self.names = [(experiment.name, name) for experiment, name in pairs]
        truths = [experiment.variants[name] for experiment, name in pairs]
        self.prevalence = np.array([e.prevalence for e, _ in pairs])
        self.horizon = np.array([int(e.horizon) for e, _ in pairs])
        self.late_by = np.array([e.latest - int(e.horizon) for e, _ in pairs])
        self.acted_only = np.array([e.observed == "acted" for e, _ in pairs])
        self.has_units = np.array([e.predictions_per_unit is not None for e, _ in pairs])
        ends = (e.labels_stop for e, _ in pairs), (truth.silent_from for truth in truths)
        self.labels_stop, self.silent_from = (
            np.array([np.inf if end is None else end.after_start(span) for end in each])
            for each in ends
        )
        self.missing = np.array([truth.missing for truth in truths])
        self.late = np.array([truth.late for truth in truths])
        self.duplicates = np.array([truth.duplicates for truth in truths])
        tenth = (LabelDelay(median=type(e.horizon)(e.horizon // 10)) for e, _ in pairs)
        delays = [t.label_delay or usual for t, usual in zip(truths, tenth, strict=True)]
        self.delay = np.array([int(delay.median) for delay in delays])
        self.delay_sigma = np.array([delay.sigma for delay in delays])
        scores = [truth.score or Score() for truth in truths]
        self.scored = np.array([truth.score is not None for truth in truths])
        self.threshold = np.array([ceil(score.threshold * SCORE_STEPS) for score in scores])
        self.sharpness = np.array([score.sharpness for score in scores])
        self._stretches(simulation, span)

    def _stretches(self, simulation: Simulation, span: float) -> None:
        """What changes: arrays of (stretch, arm), the stretches parted by `edges`."""
        changes = sorted(
            ((c.at.after_start(span), e.name, c) for e in simulation.experiments for c in e.changes),
            key=lambda change: change[0],
        )
        truths = {(e.name, n): t for e in simulation.experiments for n, t in e.variants.items()}
        rows = [list(truths.values())]
        for _, experiment, change in changes:
            for where, truth in truths.items():
                if where[0] == experiment and change.variant in (None, where[1]):
                    truths[where] = change.applied(truth)
            rows.append(list(truths.values()))
        self.edges = np.array([at for at, _, _ in changes])
        self.tpr, self.fpr, self.error_rate = (
            np.array([[getattr(truth, name) for truth in row] for row in rows])
            for name in ("tpr", "fpr", "error_rate")
        )
        latencies = [[_latency(truth) for truth in row] for row in rows]
        self.median, self.sigma = np.moveaxis(np.array(latencies), -1, 0)


def _latency(truth: Truth) -> tuple[float, float]:
    """Median (0.1 ms; 0 for none) and sigma."""
    latency = truth.latency
    return (0.0, 0.0) if latency is None else _tenths(latency)


def _tenths(latency: Latency) -> tuple[float, float]:
    return latency.median_ms * 10, latency.sigma


class _Assignment:
    """Which experiment and which variant a prediction belongs to; a hash of the unit decides."""

    def __init__(self, simulation: Simulation, run: Run) -> None:
        experiments = simulation.experiments
        traffic = np.array([experiment.traffic for experiment in experiments])
        self._shares = np.cumsum(traffic / traffic.sum())[:-1]
        salts = np.random.SeedSequence(run.seed, spawn_key=(len(_DRAWS),))
        self._salts = salts.generate_state(len(experiments), np.uint64)
        self._units: list[int | None] = []
        self._variants: list[tuple[int, Floats]] = []
        first = 0
        for experiment, share in zip(experiments, traffic / traffic.sum(), strict=True):
            each = experiment.predictions_per_unit
            self._units.append(None if each is None else ceil(run.predictions * share / each))
            weights = np.array([truth.weight for truth in experiment.variants.values()])
            # The last bound is left out, so that rounding cannot lead beyond the last variant.
            last = int(np.flatnonzero(weights)[-1])
            bounds = np.cumsum(weights / weights.sum())[:last]
            self._variants.append((first, bounds))
            first += len(weights)

    def __call__(self, index: Ints, which: Floats, unit: Floats) -> tuple[Ints, Ints]:
        """Arm and unit of the predictions numbered `index`, from uniform draws."""
        chosen = np.searchsorted(self._shares, which, side="right")
        arms, units = np.zeros_like(index), index.copy()
        for number, (first, bounds) in enumerate(self._variants):
            of_it = chosen == number
            count = self._units[number]
            if count is not None:
                units[of_it] = (unit[of_it] * count).astype(np.int64)
            at = _hashed(units[of_it], self._salts[number : number + 1])
            arms[of_it] = first + np.searchsorted(bounds, at, side="right")
        return arms, units


def _hashed(numbers: Ints, salt: npt.NDArray[np.uint64]) -> Floats:
    """Numbers in [0, 1) by the finaliser of SplitMix64, which mixes all bits."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53)


@dataclass(frozen=True, slots=True)
class _Requests:
    """Predictions, one an element."""

    index: Ints
    time: Ints
    arm: Ints
    unit: Ints
    actual: Bools
    decided: Bools
    error: Bools
    tenths: Ints
    """Latency in 0.1 ms, -1 for none."""
    score: Ints
    """In steps, -1 for none."""
    copies: Ints


class Simulator:
    """Makes the events of one run, and knows the truth of what it has made so far."""

    def __init__(self, simulation: Simulation, run: Run, *, chunk: int = CHUNK) -> None:
        """`chunk`: predictions made at a time; what is made does not depend on it."""
        self._simulation, self._run, self._chunk = simulation, run, chunk
        self._arms = _Arms(simulation, run.span)
        self._assign = _Assignment(simulation, run)
        self._draws = {
            name: np.random.Generator(np.random.PCG64(np.random.SeedSequence(run.seed, spawn_key=(n,))))
            for n, name in enumerate(_DRAWS)
        }
        self._encode = msgspec.json.Encoder().encode_lines
        self._counts: dict[str, Ints] = {}
        self.made = 0
        """Requests made so far, out of `Run.predictions`."""

    def blocks(self) -> Iterator[bytes]:
        """All events as newline-delimited JSON, some at a time. To be used once."""
        waiting: Records = np.zeros(0, _OUTCOME)
        while self.made < self._run.predictions:
            upto = min(self.made + self._chunk, self._run.predictions)
            index = np.arange(self.made, upto)
            requests, outcomes = self._make(index)
            waiting = np.concatenate([waiting, outcomes])
            waiting = waiting[np.argsort(waiting["time"], kind="stable")]
            now = self._run.start + int(upto / self._run.rate * 1000)
            due = int(np.searchsorted(waiting["time"], now))
            self.made = upto
            yield self._written(requests, waiting[:due])
            waiting = waiting[due:]
        for first in range(0, len(waiting), self._chunk):
            yield self._written(None, waiting[first : first + self._chunk])

    def _draw(self, name: str, count: int) -> Floats:
        return self._draws[name].random(count)

    def _make(self, index: Ints) -> tuple[_Requests, Records]:
        """The predictions with the numbers `index`, and their outcomes."""
        run, arms, count = self._run, self._arms, len(index)
        draw = {name: self._draw(name, count) for name in _DRAWS if name not in ("latency", "delay")}
        normal = {name: self._draws[name].standard_normal(count) for name in ("latency", "delay")}
        after = ((index + draw["time"]) / run.rate * 1000).astype(np.int64)
        arm, unit = self._assign(index, draw["experiment"], draw["unit"])
        now = np.searchsorted(arms.edges, after, side="right"), arm
        actual = draw["actual"] < arms.prevalence[arm]
        chance = np.where(actual, arms.tpr[now], arms.fpr[now])
        error = draw["error"] < arms.error_rate[now]
        decided = (draw["decision"] < chance) & ~error
        tenths = np.rint(arms.median[now] * np.exp(arms.sigma[now] * normal["latency"]))
        tenths = np.where(arms.median[now] > 0, np.minimum(tenths, LATENCY_CAP), -1)
        requests = _Requests(
            index,
            run.start + after,
            arm,
            unit,
            actual,
            decided,
            error,
            tenths.astype(np.int64),
            np.where(error, -1, self._scores(arm, draw["decision"], chance)),
            1 + (draw["twice_prediction"] < arms.duplicates[arm]),
        )
        outcomes = self._outcomes(requests, after, draw, normal["delay"])
        return requests, outcomes
