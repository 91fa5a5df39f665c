"""False rollbacks: how often a treatment that is exactly as bad as its margin allows is rolled back. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from . import rivals
from .draws import Drawn
from .looks import Firsts, first_true, guardrail, watch
from .runs import Effort, Row, chunks, cumulative, share
from .worlds import SIX, Model, Phase, Units, World, alike, true_harm


Floats = npt.NDArray[np.float64]

ALPHA = 0.05
PLANNED = 10_000.0
WORTH_FINDING = {
    "rap": 0.1,
    "profit_per_prediction": 0.03,
    "precision": 0.1,
    "recall": 0.1,
    "accuracy": 0.02,
    "net_business_value": 2.0,
    "money_per_prediction": 0.1,
}
"""What is declared as worth finding, beyond the margin."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a test is planned."""

    alpha: float
    declared: bool
    """The effect worth finding is; predictions an arm are planned otherwise."""

    @property
    def name(self) -> str:
        """For people."""
        return "effect declared" if self.declared else f"{PLANNED:,.0f} planned"

    def of(self, metric: str) -> tuple[float, float, float | None]:
        """Of a metric's test."""
        return self.alpha, PLANNED, WORTH_FINDING[metric] if self.declared else None


CONTROL = Model(errors=0.01)
WORSE = Model(recall=0.76, false_alarms=0.033, errors=0.012, slowness=1.02)


def worlds(effort: Effort) -> Iterator[World]:
    """Nulls; margins are what the treatment is truly worse by, unless its world says that it is equal."""
    yield World("50/50", CONTROL, WORSE, timed=True, priced=True)
    yield replace(_split(0.01, 20_000), name="99/1", timed=True, priced=True)
    yield replace(_split(0.99, 20_000), name="1/99")
    yield _rare("prevalence 1 %", 0.5, 400)
    yield _rare("prevalence 1 %, 99/1", 0.01, 20_000)
    for name, control, treatment in (("97", 0.97, 0.94), ("3", 0.06, 0.03)):
        models = Model(recall=control), Model(recall=treatment)
        yield World(f"recall {name} %", *models)
        yield World(f"recall {name} %, 99/1", *models, (Phase(share=0.01, total=20_000),))
    yield World("1 in 10 explored", CONTROL, WORSE, explored=0.1)
    yield World("ramp 1-10-50 %, equal", CONTROL, CONTROL, RAMP)
    # Only of these two does the difference not change with the prevalence.
    yield World("ramp 1-10-50 %", Model(), Model(recall=0.76), RAMP)
    for known, told in ((False, "not known"), (True, "known")):
        for spread, where in ((False, "one cohort"), (True, "ten cohorts")):
            units = Units(spread=spread, known=known)
            yield World(f"10 a unit in {where}, units {told}, equal", units=units)
    canary = (Phase(share=0.01, total=20_000),)
    yield World("10 a unit in one cohort, units known, 99/1, equal", phases=canary, units=Units())
    yield reference(effort)


RAMP = (
    Phase(30, 0.01, 4_000, (0.20, 0.15)),
    Phase(30, 0.10, 2_000, (0.15, 0.08)),
    Phase(40, 0.50, 1_000, (0.08, 0.05)),
)


def reference(effort: Effort) -> World:
    """The base world, equal models, many looks at little more each."""
    return World("reference", phases=(Phase(effort.long, total=100),))


def _split(treated: float, total: int) -> World:
    return World("", CONTROL, WORSE, (Phase(share=treated, total=total),))


def _rare(name: str, treated: float, total: int) -> World:
    phase = Phase(share=treated, total=total, prevalence=(0.01, 0.01))
    return World(name, CONTROL, replace(WORSE, false_alarms=0.0303), (phase,))


def metrics_of(world: World) -> tuple[str, ...]:
    """The metrics whose null is where the margin is, in all cohorts."""
    if world.name == "reference":
        return ("rap",)
    if world.name == "ramp 1-10-50 %":
        return ("rap", "recall")
    return ("rap", "profit_per_prediction") if world.units else world.metrics


def plans_of(world: World) -> list[Plan]:
    """Alpha, predictions planned and whether the effect is declared; both ways in the main worlds."""
    both = (False, True) if world.timed or world.name == "reference" else (False,)
    alphas = (ALPHA, ALPHA / len(SIX)) if world.timed else (ALPHA,)
    return [Plan(alpha, declared=declared) for alpha in alphas for declared in both]


def false_rollbacks(world: World, effort: Effort) -> list[Row]:
    """A row a metric and plan, and one for the set of six where all are known."""
    plans, metrics = plans_of(world), metrics_of(world)
    rails = [
        guardrail(each, true_harm(world, each), *(plan.of(each) for plan in plans))
        for each in metrics
    ]
    # What is so far off needs no more to be seen.
    many = effort.few if world.units and not world.units.known else effort.experiments
    found = [watch(drawn, rails, world.strata) for drawn in chunks(world, many)]
    rows = [
        _row(world, metric, plan.name, parts, number)
        for metric, parts in zip(metrics, zip(*found, strict=True), strict=True)
        for number, plan in enumerate(plans)
        if plan.alpha == ALPHA
    ]
    shared = [(number, plan) for number, plan in enumerate(plans) if plan.alpha < ALPHA]
    return rows + [_six(world, plan.name, found, number) for number, plan in shared]


def _row(world: World, metric: str, plan: str, parts: tuple[Firsts, ...], test: int) -> Row:
    alarm, first, passed = (
        np.concatenate([getattr(part, name)[test] for part in parts])
        for name in ("alarm", "alarm_first", "passed")
    )
    return {
        "world": world.name,
        "metric": metric,
        "plan": plan,
        "looks": world.cohorts,
        "false_rollbacks": share(alarm),
        "without_late_starts": share(first),
        "false_passes": share(passed),
        **_curves(world, by_look=alarm, by_look_without_late_starts=first),
    }


def _curves(world: World, **firsts: Floats) -> Row:
    """By look; only for the figure, which is of the reference world."""
    if world.name != "reference":
        return {}
    return {name: cumulative(first, world.cohorts) for name, first in firsts.items()}


def _six(world: World, plan: str, found: list[list[Firsts]], test: int) -> Row:
    """Any of six rolls back, each at a sixth of alpha; all of them have to pass, at one look."""
    at = [world.metrics.index(metric) for metric in SIX]
    alarm = [np.min([part[n].alarm[test] for n in at], axis=0) for part in found]
    first = [np.min([part[n].alarm_first[test] for n in at], axis=0) for part in found]
    safe = [np.all([part[n].safe[test] for n in at], axis=0) for part in found]
    return {
        "world": world.name,
        "metric": "six at once",
        "plan": plan,
        "looks": world.cohorts,
        "false_rollbacks": share(np.concatenate(alarm)),
        "without_late_starts": share(np.concatenate(first)),
        "false_passes": share(np.concatenate([first_true(each, 0) for each in safe])),
    }


KAYENTA_LOOKS = 100
"""What it costs grows with the third power of looks."""


def rivals_at(world: World, worth: float) -> dict[str, Callable[[Drawn], Floats]]:
    """Rivals in a world, by name; `worth` is the drop in RAP that is declared as worth finding."""
    last = min(world.cohorts, KAYENTA_LOOKS)
    planned = np.arange(1, 21) * world.cohorts // 20
    return {
        "peeking z": lambda drawn: rivals.peeking(rivals.seen(drawn, "rap")),
        "three strikes": lambda drawn: rivals.three_strikes(
            drawn, "rap", worth, window=max(2, world.cohorts // 10)
        ),
        "GrowthBook": lambda drawn: rivals.growthbook(rivals.seen(drawn, "rap")),
        "group-sequential": lambda drawn: rivals.group_sequential(
            rivals.seen(drawn, "rap"), planned
        ),
        "Kayenta": lambda drawn: rivals.kayenta(rivals.seen(drawn, "rap"), range(2, last + 1)),
    }


def rivals_false_rollbacks(world: World, effort: Effort) -> list[Row]:
    """Each rival's false rollbacks where both arms run the control's model."""
    rows = []
    for name, judge in rivals_at(world, WORTH_FINDING["rap"]).items():
        many = effort.few if name == "Kayenta" else effort.experiments
        first = np.concatenate([judge(drawn) for drawn in chunks(alike(world), many)])
        looks = min(world.cohorts, KAYENTA_LOOKS) if name == "Kayenta" else world.cohorts
        rows.append(
            {
                "world": world.name,
                "rival": name,
                "looks": looks,
                "false_rollbacks": share(first),
                **_curves(world, by_look=first),
            }
        )
    return rows
