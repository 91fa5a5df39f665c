"""Delays: how soon a worse treatment is rolled back, and what it has lost until then. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from . import rivals
from .looks import Firsts, guardrail, watch
from .nulls import ALPHA, PLANNED, WORTH_FINDING, reference, rivals_at
from .runs import Effort, Row, chunks, quantile, share
from .worlds import Model, Phase, World, true_harm


Floats = npt.NDArray[np.float64]

DECLARED = WORTH_FINDING["rap"]
PER_ARM = 200
"""Predictions an arm and cohort."""
GOOD_FOR = 200
"""Cohorts before a late change: 40,000 predictions an arm."""
EFFECTS = {"half": 0.5, "once": 1.0, "twice": 2.0}
DROPS = (0.34, 0.14, 0.054)
"""Of RAP, in the reference world."""
OURS = ("effect declared", f"{PLANNED:,.0f} planned")
MIXED, FIRST = "abmonitor", "abmonitor without late starts"


def dropped(by: float) -> Model:
    """The base model with a RAP that is lower by so much: it misses more positives."""
    return Model(recall=Model().recall - by)


def early(effect: str) -> World:
    """Worse from the beginning."""
    model = dropped(EFFECTS[effect] * DECLARED)
    return World(f"drop {effect}", treatment=model, phases=(Phase(100, total=2 * PER_ARM),))


def late(effect: str) -> World:
    """Good for 40,000 predictions an arm, then worse."""
    broken = GOOD_FOR, dropped(EFFECTS[effect] * DECLARED)
    phases = (Phase(GOOD_FOR + 100, total=2 * PER_ARM),)
    return World(f"late drop {effect}", phases=phases, broken=broken)


def delays(effort: Effort) -> Iterator[Row]:
    """All rows: ours and rivals at early and late drops, and ours in the reference world."""
    for effect in EFFECTS:
        yield from _ours(early(effect), effort.powers)
        yield from _rivals(early(effect), effort)
    for effect in ("once", "twice"):
        yield from _ours(late(effect), effort.few)
        yield from _late_rivals(late(effect), effort.few)
    for drop in DROPS:
        world = replace(reference(effort), name=f"reference, drop {drop}", treatment=dropped(drop))
        yield from _ours(world, effort.few)


def _ours(world: World, experiments: int) -> Iterator[Row]:
    plans = (DECLARED, None)
    rail = guardrail("rap", 0.0, *((ALPHA, PLANNED, worth) for worth in plans))
    begun = 0 if world.broken is None else world.broken[0]
    parts = [watch(drawn, [rail], world.strata)[0] for drawn in chunks(world, experiments)]
    for number, plan in enumerate(OURS):
        for name, pick in ((MIXED, _alarm), (FIRST, _alarm_first)):
            first = np.concatenate([pick(part)[number] for part in parts])
            yield _row(world, f"{name}, {plan}", first, begun)


def _alarm(part: Firsts) -> Floats:
    return part.alarm


def _alarm_first(part: Firsts) -> Floats:
    return part.alarm_first


def _rivals(world: World, effort: Effort) -> Iterator[Row]:
    for name, judge in rivals_at(world, DECLARED).items():
        many = effort.few if name == "Kayenta" else effort.powers
        first = np.concatenate([judge(drawn) for drawn in chunks(world, many)])
        yield _row(world, name, first, 0)


def _late_rivals(world: World, experiments: int) -> Iterator[Row]:
    """Those that can still look so late; a group-sequential plan has ended."""
    judges = rivals_at(world, DECLARED)
    for name in ("peeking z", "GrowthBook"):
        first = np.concatenate([judges[name](drawn) for drawn in chunks(world, experiments)])
        yield _row(world, name, first, GOOD_FOR)
    strikes = [
        rivals.three_strikes(drawn, "rap", DECLARED, window=10)
        for drawn in chunks(world, experiments)
    ]
    yield _row(world, "three strikes", np.concatenate(strikes), GOOD_FOR)
    asked = range(5, world.cohorts + 1, 5)
    judged = [
        rivals.kayenta(rivals.seen(drawn, "rap"), asked)
        for drawn in chunks(world, experiments // 10)
    ]
    yield _row(world, "Kayenta", np.concatenate(judged), GOOD_FOR)


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a treatment costs that is worse by so much a prediction."""

    per_prediction: float
    horizon: float
    """Predictions it gets at most, if nobody rolls back."""

    def until(self, predictions: Floats) -> float:
        return float(np.minimum(predictions, self.horizon).mean() * self.per_prediction)


def _row(world: World, name: str, first: Floats, begun: int) -> Row:
    """Delays since the change, of those who had not alarmed before it."""
    each = world.phases[0].total / 2
    kept = first[first > begun]
    waited = (kept - begun) * each
    last = world.cohorts - 1
    horizon = (world.cohorts - begun) * each
    cost = _Cost(true_harm(world, "profit_per_prediction", last), horizon)
    return {
        "world": world.name,
        "judge": name,
        "drop": round(true_harm(world, "rap", last), 6),
        "false_before": float((first <= begun).mean()) if begun else None,
        "power": share(waited),
        "within": horizon,
        "median": quantile(waited, 0.5),
        "p95": quantile(waited, 0.95),
        "lost": cost.until(waited),
        "deciles": [quantile(waited, level / 20) for level in range(1, 20)],
    }
