"""Draws: facts of experiments in a world, at random. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.facts import COLUMNS, Facts
from metrics.units import COLUMNS as UNIT_COLUMNS
from metrics.units import UNIT_BUCKETS

from .worlds import COLUMN_AT, Units, World, chances_of


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Facts of both arms, shape (experiments, cohorts, columns)."""

    treatment: Facts
    control: Facts
    buckets: tuple[Ints, Ints] | None = None
    """The same by unit bucket, shape (experiments, cohorts, UNIT_BUCKETS, columns of `metrics.units`)."""


def draw(world: World, experiments: int, chance: np.random.Generator) -> Drawn:
    """Draw experiments: traffic is split by chance, and so are predictions into kinds."""
    total = np.repeat(*np.array([(phase.total, phase.cohorts) for phase in world.phases]).T)
    share = np.array([phase.share for phase in world.phases])[world.strata]
    size = (experiments, world.cohorts)
    if world.units is None:
        ours = chance.binomial(total, share, size)
        parts = [_counted(world, arm, n, chance) for arm, n in _arms(ours, total)]
        treatment, control = (Facts(part) for part in parts)
        return Drawn(treatment, control)
    groups = total if world.units.spread else total // world.units.each
    ours = chance.binomial(groups, share, size)
    parts = [_by_unit(world, world.units, arm, n, chance) for arm, n in _arms(ours, groups)]
    treatment, control = (Facts(part.sum(axis=-2)) for part in parts)
    if not world.units.known:
        return Drawn(treatment, control)
    routes = _routes()
    ours, theirs = (np.rint(part @ routes).astype(np.int64) for part in parts)
    return Drawn(treatment, control, (ours, theirs))


def _arms(ours: Ints, total: Ints) -> tuple[tuple[str, Ints], tuple[str, Ints]]:
    return ("treatment", ours), ("control", total - ours)


def _counted(world: World, arm: str, n: Ints, chance: np.random.Generator) -> Floats:
    chances, columns = chances_of(world, arm)
    return np.asarray(chance.multinomial(n, chances) @ columns)


def _by_unit(
    world: World, alike: Units, arm: str, groups: Ints, chance: np.random.Generator
) -> Floats:
    """Facts by unit bucket (only one where units are not known), shape (..., buckets, columns).

    Predictions that copy what their unit is, and fresh ones.
    """
    chances, columns = chances_of(world, arm)
    chances, many = chances[:, None], alike.each
    buckets = np.full(UNIT_BUCKETS if alike.known else 1, 1.0)
    buckets /= buckets.size
    if alike.spread:
        # One prediction a cohort, until the next units come.
        first = chance.multinomial(groups[:, ::many], buckets)
        kind = chance.multinomial(first, chances[::many])
        size, kind = (np.repeat(each, many, axis=1)[:, : world.cohorts] for each in (first, kind))
        many = 1
    else:
        size = chance.multinomial(groups, buckets)
        kind = chance.multinomial(size, chances)
    copies = chance.binomial(kind * many, math.sqrt(alike.icc))
    fresh = chance.multinomial(size * many - copies.sum(axis=-1), chances)
    return np.asarray((copies + fresh) @ columns)


def _routes() -> Floats:
    """Which columns of facts go to which of a unit bucket: 0 or 1."""
    routes = np.zeros((len(COLUMNS), len(UNIT_COLUMNS)))
    for place, name in enumerate(UNIT_COLUMNS):
        sources = {"n": ["predictions"], "failed": ["error_positive.n", "error_other.n"]}.get(
            name, [f"{name.removeprefix('w_')}.w" if name.startswith("w_") else name]
        )
        for source in sources:
            if source in COLUMN_AT:  # labels that are missing are not simulated
                routes[COLUMN_AT[source], place] = 1.0
    return routes
