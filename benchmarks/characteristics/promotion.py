"""Promotion: how soon a treatment that is as good, or better, is shown to be no worse than its margin. Pure."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .looks import Guardrail, first_true, guardrail, watch
from .nulls import ALPHA, CONTROL, PLANNED
from .runs import Effort, Row, chunks, quantile, share
from .worlds import SIX, Model, Phase, World


Floats = npt.NDArray[np.float64]

MARGIN = 0.05
MARGINS = {
    "rap": MARGIN,
    "profit_per_prediction": 0.02,
    "precision": 0.05,
    "recall": 0.05,
    "accuracy": 0.02,
    "net_business_value": 4.0,
}
PHASES = (Phase(200, total=400),)


def promotions(effort: Effort) -> Iterator[Row]:
    """Equal, and better by 0.05 of RAP; RAP alone, and six guardrails that have to agree."""
    for name, recall in (("equal", 0.8), ("better by 0.05", 0.85)):
        alone = World(f"promotion, {name}", treatment=Model(recall=recall), phases=PHASES)
        plans = ((ALPHA, PLANNED, None), (ALPHA, PLANNED, MARGIN))
        rails = [guardrail("rap", MARGIN, *plans)]
        for number, plan in enumerate((f"{PLANNED:,.0f} planned", "effect declared")):
            yield _row(alone, "rap", plan, _passed(alone, rails, effort.experiments, number))
    six = World("promotion, equal, six", CONTROL, CONTROL, PHASES, timed=True)
    rails = [guardrail(each, MARGINS[each], (ALPHA / len(SIX), PLANNED, None)) for each in SIX]
    found = _passed(six, rails, effort.powers, 0)
    yield _row(six, "six at once", f"{PLANNED:,.0f} planned", found)


def _passed(world: World, rails: list[Guardrail], experiments: int, test: int) -> Floats:
    """After how many cohorts all guardrails were first safe at one look."""
    parts = []
    for drawn in chunks(world, experiments):
        found = watch(drawn, rails, world.strata, late_starts=False)
        safe = np.all([each.safe[test] for each in found], axis=0)
        parts.append(first_true(safe, axis=0))
    return np.concatenate(parts)


def _row(world: World, metric: str, plan: str, passed: Floats) -> Row:
    predictions = passed * world.phases[0].total / 2
    return {
        "world": world.name,
        "metric": metric,
        "plan": plan,
        "passed": share(predictions),
        "within": world.cohorts * world.phases[0].total / 2,
        "p5": quantile(predictions, 0.05),
        "median": quantile(predictions, 0.5),
        "p95": quantile(predictions, 0.95),
        "percentiles": [quantile(predictions, level / 100) for level in range(1, 100)],
    }
