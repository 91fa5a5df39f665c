"""Runs: experiments drawn in chunks with a seed of their own, and what is told about them. Pure."""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from .draws import Drawn, draw
from .worlds import World


Floats = npt.NDArray[np.float64]
Row = dict[str, Any]

SEED = 20_260_101
CHUNK = 400
"""Experiments that are drawn at a time, so that they fit into memory."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated."""

    experiments: int = 4_000
    powers: int = 2_000
    """Experiments with an effect."""
    few: int = 1_000
    """Experiments for what takes long."""
    long: int = 400
    """Cohorts of the reference case."""

    def fewer(self, parts: int) -> "Effort":
        """So many times less, for a first look."""
        return replace(
            self,
            experiments=self.experiments // parts,
            powers=self.powers // parts,
            few=self.few // parts,
            long=self.long // 2,
        )


def chance_of(name: str) -> np.random.Generator:
    """Random numbers of a study: the same whatever else is run."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def chunks(world: World, experiments: int) -> Iterator[Drawn]:
    """Draw `experiments` of a world, some at a time."""
    chance = chance_of(world.name)
    # Unit buckets take sixty times the room.
    chunk = CHUNK // 8 if world.units and world.units.known else CHUNK
    for start in range(0, experiments, chunk):
        yield draw(world, min(chunk, experiments - start), chance)


def highest(count: float, of: int, level: float = 0.95) -> float:
    """Upper bound of a probability (Clopper and Pearson 1934), one-sided at `level`.

    >>> round(highest(0, 59), 3)
    0.05
    """
    return 1.0 if count >= of else float(beta.ppf(level, count + 1, of - count))


def share(happened: npt.ArrayLike) -> Row:
    """How often something happened, finite meaning that it did, and how often it may at most."""
    yes = np.isfinite(np.asarray(happened, dtype=np.float64))
    return {
        "experiments": yes.size,
        "rate": float(yes.mean()),
        "at_most": highest(float(yes.sum()), yes.size),
    }


def quantile(values: npt.ArrayLike, level: float) -> float | None:
    """The lowest value that a share `level` does not pass; None where it is infinite."""
    found = float(np.quantile(np.asarray(values), level, method="inverted_cdf"))
    return found if math.isfinite(found) else None


def cumulative(first: Floats, looks: int) -> list[float]:
    """The share of experiments in which it had happened by each look."""
    return [float((first <= look).mean()) for look in range(1, looks + 1)]
