"""How the traffic of a simulation is split now: some of it may be taken from a treatment. No I/O.

What is taken goes to the control, and no other unit moves.
"""

import numpy as np
import numpy.typing as npt

from stream.simulation import SimulatedExperiment, Simulation


class Split:
    """Which treatments of a simulation get their declared share, and which get nothing."""

    def __init__(self, simulation: Simulation) -> None:
        self._experiments = {each.name: each for each in simulation.experiments}
        pairs = [(each, name) for each in simulation.experiments for name in each.variants]
        self._arms = {(each.name, name): number for number, (each, name) in enumerate(pairs)}
        self.stopped: npt.NDArray[np.bool_] = np.zeros(len(pairs), np.bool_)
        """By arm, in the order of the declaration: whether it gets nothing."""
        self.controls = np.array([self._arms[each.name, each.baseline] for each, _ in pairs])
        """By arm, the arm of its experiment's control."""

    def stop(self, experiment: str, treatment: str, *, stopped: bool = True) -> bool:
        """Take all traffic from a treatment, or give it back; False where there is no such treatment."""
        found = self._experiments.get(experiment)
        if found is None or treatment not in found.variants or treatment == found.baseline:
            return False
        self.stopped[self._arms[experiment, treatment]] = stopped
        return True

    def shares(self) -> dict[str, dict[str, float]]:
        """By experiment, the share of its traffic that each variant gets; they add up to 1."""
        return {name: self._shares(each) for name, each in self._experiments.items()}

    def _shares(self, experiment: SimulatedExperiment) -> dict[str, float]:
        weights = dict.fromkeys(experiment.variants, 0.0)
        for name, truth in experiment.variants.items():
            stopped = self.stopped[self._arms[experiment.name, name]]
            weights[experiment.baseline if stopped else name] += truth.weight
        whole = sum(weights.values())
        return {name: weight / whole for name, weight in weights.items()}
