"""The truth of a simulation as arrays, and which variant a request belongs to. Pure."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from metrics.duration import Duration
from stream.simulation import LabelDelay, Score, SimulatedExperiment, Simulation, Truth
from stream.split import Split


START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

SCORE_STEPS = 10_000

_SALTS = 1_000
"""Apart from all draws."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """How much of a simulation is made, and when it takes place."""

    predictions: int
    seed: int = 1
    start: int = START
    """Epoch milliseconds."""
    rate: float = 50.0
    """Predictions a second; their outcomes come on top."""
    cycle: int | None = None
    """How many predictions the units are for that make them; None: for all of the run."""

    @property
    def span(self) -> float:
        """Milliseconds that the predictions take."""
        return self.predictions / self.rate * 1000


class Arms:
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
        scores = [truth.score or Score() for truth in truths]
        self.scored = np.array([truth.score is not None for truth in truths])
        self.threshold = np.array([_step(score.threshold) for score in scores])
        self.sharpness = np.array([score.sharpness for score in scores])
        self._delays(pairs)
        self._stretches(simulation, span)

    def _delays(self, pairs: list[tuple[SimulatedExperiment, str]]) -> None:
        delays = [
            experiment.variants[name].label_delay
            or LabelDelay(median=Duration(experiment.horizon // 10))
            for experiment, name in pairs
        ]
        self.delay = np.array([int(delay.median) for delay in delays])
        self.delay_sigma = np.array([delay.sigma for delay in delays])

    def _stretches(self, simulation: Simulation, span: float) -> None:
        """What changes: arrays of (stretch, arm), the stretches parted by `edges`."""
        changes = sorted(
            (
                (c.at.after_start(span), e.name, c)
                for e in simulation.experiments
                for c in e.changes
            ),
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


def _step(threshold: float) -> int:
    """The first step that reaches `threshold`."""
    step = round(threshold * SCORE_STEPS)  # rounding up would make 701 of 0.07
    return step if step / SCORE_STEPS >= threshold else step + 1


def _latency(truth: Truth) -> tuple[float, float]:
    """Median (0.1 ms; 0 for none) and sigma."""
    latency = truth.latency
    return (0.0, 0.0) if latency is None else (latency.median_ms * 10, latency.sigma)


class Assignment:
    """Which experiment and which variant a prediction belongs to; a hash of the unit decides.

    What is stopped by `split` at the time goes to the control.
    """

    def __init__(self, simulation: Simulation, run: Run, split: Split) -> None:
        experiments = simulation.experiments
        self._split, cycle = split, run.cycle or run.predictions
        traffic = np.array([experiment.traffic for experiment in experiments])
        self._shares = np.cumsum(traffic / traffic.sum())[:-1]
        salts = np.random.SeedSequence(run.seed, spawn_key=(_SALTS,))
        self._salts = salts.generate_state(len(experiments), np.uint64).astype(np.uint64)
        self._units: list[int | None] = []
        self._variants: list[tuple[int, Floats]] = []
        first = 0
        for experiment, share in zip(experiments, traffic / traffic.sum(), strict=True):
            each = experiment.predictions_per_unit
            self._units.append(None if each is None else ceil(cycle * share / each))
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
        return np.where(self._split.stopped[arms], self._split.controls[arms], arms), units


def _hashed(numbers: Ints, salt: npt.NDArray[np.uint64]) -> Floats:
    """Numbers in [0, 1) by the finaliser of SplitMix64, which mixes all bits."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53)
