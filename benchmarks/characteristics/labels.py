"""Labels that come late, and later in one arm: what looking at mature cohorts only is worth. Pure."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from metrics.confusion import WEIGHT_UNIT
from metrics.evidence import weigh
from metrics.facts import COLUMNS, Facts

from .looks import first_true, guardrail
from .nulls import ALPHA, PLANNED, WORTH_FINDING
from .runs import Effort, Row, chance_of, share
from .worlds import EXPERIMENT, Model, World, kinds


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COHORTS, TOTAL = 60, 400
CELLS = ("tp", "fp", "tn", "fn")
SLOWEST = {"alike": (4, 4), "slower": (4, 9)}
"""Cohorts until the last label of control and treatment; labels come evenly until then."""
HORIZON = 9


def label_rows(effort: Effort) -> Iterator[Row]:
    """Equal models, positives told late: mature cohorts beside all that is there (missing: negative)."""
    for name, slowest in SLOWEST.items():
        found: dict[str, list[Floats]] = {"mature cohorts": [], "all cohorts": []}
        chance = chance_of(f"labels {name}")
        for _ in range(max(1, effort.few // 200)):
            arms = [_labels(slow, min(200, effort.few), chance) for slow in reversed(slowest)]
            for way, parts in found.items():
                parts.append(_first_alarm(arms, mature=way == "mature cohorts"))
        for way, first in found.items():
            yield {
                "labels": name,
                "judged": way,
                "false_rollbacks": share(np.concatenate(first)),
            }


def _labels(slowest: int, experiments: int, chance: np.random.Generator) -> Ints:
    """Counts of predictions by cell and of how many cohorts later their label came.

    Shape (experiments, cohorts, cells, lags); what never turns out positive has no label.
    """
    each = list(kinds(World("labels"), Model(), 0.1))[: len(CELLS)]
    counts = chance.multinomial(
        TOTAL // 2, [kind.probability for kind in each], (experiments, COHORTS)
    )
    lags = np.zeros(HORIZON)
    lags[:slowest] = 1 / slowest
    return chance.multinomial(counts, lags)


def _first_alarm(arms: list[Ints], *, mature: bool) -> Floats:
    rail = guardrail("rap", 0.0, (ALPHA, PLANNED, WORTH_FINDING["rap"]))
    alarms = []
    for now in range(HORIZON, COHORTS):
        last = now - HORIZON + 1 if mature else now + 1
        ours, theirs = (_known(arm[:, :last], now) for arm in arms)
        found = weigh(rail.tests[0], EXPERIMENT, ours, theirs, np.zeros(last, dtype=np.int64))
        alarms.append(found.log_harm >= -np.log(ALPHA))
    return first_true(np.array(alarms), axis=0)


def _known(counts: Ints, now: int) -> Facts:
    """Facts at the end of cohort `now`: positives without a label count as negatives."""
    arrived = now - np.arange(counts.shape[1])
    told = np.arange(HORIZON) <= arrived[:, None]
    whole, labelled = counts.sum(axis=-1), (counts * told[:, None, :]).sum(axis=-1)
    tp, fn = labelled[..., CELLS.index("tp")], labelled[..., CELLS.index("fn")]
    acted = whole[..., CELLS.index("tp")] + whole[..., CELLS.index("fp")]
    idle = whole[..., CELLS.index("tn")] + whole[..., CELLS.index("fn")]
    sums = np.zeros((*acted.shape, len(COLUMNS)))
    for cell, n in (("tp", tp), ("fp", acted - tp), ("tn", idle - fn), ("fn", fn)):
        for power, fact in enumerate(("n", "w", "w2")):
            sums[..., COLUMNS.index(f"{cell}.{fact}")] = n * float(WEIGHT_UNIT) ** power
    sums[..., COLUMNS.index("predictions")] = acted + idle
    return Facts(sums)
