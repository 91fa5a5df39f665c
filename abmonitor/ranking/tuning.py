"""Each model's decision threshold that earns most, judged on rows that did not choose it. Pure.

The file is read once for labels, faults and what the threshold of the plan earns, and then once per group of models
whose scores fit into memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from abmonitor.ranking.order import rap_of
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.ranking import (
    Ranking,
    Tuning,
    acting,
    concluded,
    one_pass,
    sound,
)
from abmonitor.ranking.reading import Candidates
from abmonitor.ranking.tally import ALWAYS, Rows, Tally, tallied, with_baselines
from metrics.candidates import BoolArray, FloatArray
from metrics.thresholds import Tuned, halves, margins, tune


GROUP_BYTES = 1 << 27
"""About how large the scores of a group of models are."""

Progress = Callable[[float], None]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A group of models and, last in the tally, always acting."""

    tuned: Tuned
    in_sample: FloatArray
    held_out: Tally

    def beside(self, other: "_Part") -> "_Part":
        return _Part(
            self.tuned.beside(other.tuned),
            np.append(self.in_sample, other.in_sample),
            self.held_out.but_last().beside(other.held_out),
        )


def rank_tuned(
    candidates: Candidates, plan: Plan, *, progress: Progress = lambda _: None
) -> Ranking:
    """Rank all models at thresholds of their own; tells `progress` the share that is done.

    Each half of the rows is decided by the threshold that earned most on the other half (at the q that models are
    ordered by). Raises FileError, and ValueError where values or costs of rows are impossible.
    """
    rows, untuned = _first_pass(candidates, plan, lambda done: progress(done / 4))
    kept = sound(candidates)
    most = max(len(group) for group in candidates.groups())  # so many may be read at once
    size = min(most, max(1, GROUP_BYTES // (4 * max(1, len(rows.labels)))))
    first_half = halves(rows.labels, plan.seed)
    found: _Part | None = None
    for start in range(0, len(kept), size):
        group = kept[start : start + size]
        part = _part(candidates, plan, rows, first_half, group)
        found = part if found is None else found.beside(part)
        progress(1 / 4 + 3 / 4 * (start + len(group)) / len(kept))
    if found is None:
        raise ValueError("expected at least one model without faults, got none")
    tuning = Tuning(
        thresholds=_shortest(found.tuned.thresholds),
        halves=_shortest(found.tuned.halves),
        in_sample=found.in_sample,
        untuned=untuned[kept],
    )
    return concluded(candidates, plan, with_baselines(found.held_out), tuning)


def _shortest(thresholds: FloatArray) -> FloatArray:
    """As people write them: the shortest numbers that are the same as single-precision scores are."""
    texts = [str(each) for each in thresholds.astype(np.float32).ravel()]
    return np.array(texts, np.float64).reshape(thresholds.shape)


def _first_pass(candidates: Candidates, plan: Plan, progress: Progress) -> tuple[Rows, FloatArray]:
    """All rows without their scores, and RAP of all models at the threshold of the plan."""
    seen, raps = list[Rows](), list[FloatArray]()
    groups = candidates.groups()
    quick = replace(plan, replicates=0)
    for number, group in enumerate(groups):

        def tell(done: float, before: int = number) -> None:
            progress((before + done) / len(groups))

        found = one_pass(candidates, quick, group, progress=tell, keep=seen if not number else None)
        raps.append(rap_of(plan, found)[:-1])
    return _joined(seen), np.concatenate(raps)


def _joined(seen: list[Rows]) -> Rows:
    def column(parts: list[FloatArray | None]) -> FloatArray | None:
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there else None

    labels: BoolArray = np.concatenate([rows.labels for rows in seen])
    values, costs = column([rows.values for rows in seen]), column([rows.costs for rows in seen])
    return replace(seen[0], labels=labels, values=values, costs=costs)


def _part(
    candidates: Candidates, plan: Plan, rows: Rows, first_half: BoolArray, group: Places
) -> _Part:
    """Tune a group of models, and count what they do on rows that did not choose their thresholds."""
    scores = np.empty((len(rows.labels), len(group)), np.float32)
    for chunk in candidates.chunks(group.tolist()):
        scores[chunk.first_row : chunk.first_row + len(chunk.labels)] = chunk.scores
    money = rows.money()
    earned = money.margins if money else margins(rows.labels, plan.q or np.nan)
    tuned = tune(scores, earned, first_half)
    models = tuple(candidates.models[place] for place in group)
    own = acting(scores, tuned.thresholds)
    in_sample = tallied((*models, ALWAYS), rows, own, replicates=0, seed=plan.seed)
    own[:, :-1] = tuned.crosswise(scores, first_half)
    held_out = tallied((*models, ALWAYS), rows, own, replicates=plan.replicates, seed=plan.seed)
    return _Part(tuned, rap_of(plan, in_sample)[:-1], held_out)
