"""Models in the order of what they earn, how sure that is, and what deciding without a model would earn. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from abmonitor.ranking.order import Within, net_of, ranked, tied_of, within_of
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.reading import Candidates
from abmonitor.ranking.tally import ALWAYS, Rows, Tally, tallied, with_baselines
from metrics.assumptions import IntArray
from metrics.candidates import BASELINES, BoolArray, FloatArray, Models, quotient
from metrics.resampling import Replicates, interval, joint_interval


Name = Literal[
    "rap",
    "roi",
    "profit",
    "precision",
    "recall",
    "false_alarm_rate",
    "specificity",
    "accuracy",
    "f_score",
    "tp",
    "fp",
    "fn",
    "tn",
]
NAMES: tuple[Name, ...] = get_args(Name)
"""Columns of numbers that models and baselines have."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """Thresholds of M models (NaN: never act) that earn most, and what else there is to know of them."""

    thresholds: FloatArray
    halves: FloatArray
    """(2, M): chosen on one half of the rows only; far apart, the choice is unsure."""
    in_sample: FloatArray
    """RAP with thresholds chosen on the rows that it is taken of: too good."""
    untuned: FloatArray
    """RAP at the threshold of the plan."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ranking:
    """M models and behind them the four `BASELINES`, on the same rows.

    With `tuning`, all sums are those of rows decided by thresholds that were chosen on other rows.
    """

    plan: Plan
    tally: Tally
    """Of M + 4."""
    ranks: IntArray
    """(M,): 1 + how many models earn more."""
    order: npt.NDArray[np.intp]
    """(M,): places of models, the best first; equal ones as in the file."""
    tied: BoolArray | None
    """(M + 4,): may truly be the best of all, baselines included; None without replicates."""
    within: Within | None = None
    tuning: Tuning | None = None
    dropped: int = 0
    faults: dict[str, str]
    """Models that are not ranked, and why."""
    constant: Models = ()
    left_out: tuple[str, ...] = ()
    """Columns that were taken for no models."""

    @property
    def models(self) -> Models:
        """The names of the M models."""
        return self.tally.counts.models[: len(self.ranks)]

    def of_models(self) -> Tally:
        """What was added up for the M models alone."""
        return self.tally.of(np.arange(len(self.ranks)))

    @property
    def leaders(self) -> list[int]:
        """Places of the models of rank 1."""
        return [int(place) for place in self.order if self.ranks[place] == 1]

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return round(self.tally.counts.positives + self.tally.counts.negatives)

    def net(self) -> FloatArray:
        """What models and baselines (M + 4,) are ordered by: gains, or TP - FP/(q - 1)."""
        return net_of(self.plan, self.tally)

    def column(self, name: Name) -> FloatArray:
        """One column (M + 4,): NaN where it cannot be known; profit in money where that is known."""
        counts, earnings, q = self.tally.counts, self.tally.earnings, self.plan.q
        if q is None and earnings is not None and name in {"rap", "roi", "profit"}:
            return {
                "rap": earnings.rap,
                "profit": earnings.gain,
                "roi": quotient(
                    earnings.gain, np.nan if self.tally.spent is None else self.tally.spent
                ),
            }[name]
        if name == "fn":
            return counts.positives - counts.tp
        if name == "tn":
            return counts.negatives - counts.fp
        if name == "profit" and q is not None:
            return counts.profit(q, self.plan.unit_cost or 1.0)
        found = getattr(counts, name)
        return np.asarray(found(q) if name in {"rap", "roi"} else found, np.float64)

    def interval(self, name: Name) -> tuple[FloatArray, FloatArray] | None:
        """95 % bounds (M + 4,) of each by itself; None where none can be told."""
        drawn = self._drawn(name)
        return None if drawn is None else interval(self.column(name), drawn)

    def joint(self) -> tuple[FloatArray, FloatArray] | None:
        """95 % bounds of RAP (M + 4,) that hold for all together, and so for the one that came out best."""
        drawn = self._drawn("rap")
        return None if drawn is None else joint_interval(self.column("rap"), drawn)

    def _of_all_rows(self, sums: FloatArray | None) -> FloatArray | None:
        """Replicated sums (B, M + 4) as of as many rows as there are: Poisson weights draw more or fewer."""
        drawn = self.tally.replicates
        if sums is None or drawn is None:
            return None
        return sums * quotient(self.rows, drawn.positives + drawn.negatives)

    def _drawn(self, name: Name) -> FloatArray | None:
        """Replicates (B, M + 4) of a column."""
        drawn, q = self.tally.replicates, self.plan.q
        if drawn is None:
            return None
        if q is None:
            own = {"rap": drawn.earned_rap, "profit": self._of_all_rows(drawn.gain), "roi": None}
            if name in own:
                return own[name]
        elif name == "profit":
            return self._of_all_rows(drawn.profit(q, self.plan.unit_cost or 1.0))
        elif name in {"rap", "roi"}:
            found: FloatArray = getattr(drawn, name)(q)
            return found
        return _ratio(drawn, name)


def _ratio(drawn: Replicates, name: Name) -> FloatArray | None:
    """Replicates of a ratio of counts; None for counts."""
    if name in {"tp", "fp", "fn", "tn"}:
        return None
    found: FloatArray = getattr(drawn, name)
    return found


def rank(
    candidates: Candidates, plan: Plan, *, progress: Callable[[float], None] = lambda _: None
) -> Ranking:
    """Rank all models that can be ranked, in a pass for each group of them; tells `progress` the share that is done.

    Raises FileError, and ValueError where values or costs of rows are impossible.
    """
    groups = candidates.groups()
    found: Tally | None = None
    for number, group in enumerate(groups):

        def tell(done: float, before: int = number) -> None:
            progress((before + done) / len(groups))

        part = one_pass(candidates, plan, group, progress=tell)
        found = part if found is None else found.but_last().beside(part)
    if found is None:
        raise ValueError("expected at least one model, got none")
    kept = sound(candidates)
    tally = with_baselines(found.of(np.append(kept, len(candidates.models))))
    return concluded(candidates, plan, tally)


def one_pass(
    candidates: Candidates,
    plan: Plan,
    group: Sequence[int],
    *,
    progress: Callable[[float], None],
    keep: list[Rows] | None = None,
) -> Tally:
    """Add up what the models at the places `group` do at the threshold of the plan, and last what always acting does.

    Appends to `keep` all rows without their scores. Raises as `rank`.
    """
    models = (*(candidates.models[place] for place in group), ALWAYS)
    whole = len(group) == len(candidates.models)
    total: Tally | None = None
    for chunk in candidates.chunks(None if whole else group):
        rows = plan.rows_of(chunk)
        decisions = acting(chunk.scores, np.float32(plan.threshold))
        part = tallied(models, rows, decisions, replicates=plan.replicates, seed=plan.seed)
        total = part if total is None else total + part
        if keep is not None:
            keep.append(rows)
        progress(chunk.done)
    if total is None:
        raise ValueError("expected at least one chunk of rows, got none")
    return total


def acting(scores: npt.NDArray[np.float32], threshold: np.float32 | FloatArray) -> BoolArray:
    """Decisions (n, M + 1) by scores (n, M): each model's, and last one that always acts.

    The threshold is rounded as the scores are; a threshold of NaN is never reached.
    """
    decisions = np.ones((scores.shape[0], scores.shape[1] + 1), np.bool_)
    np.greater_equal(scores, np.asarray(threshold, np.float32), out=decisions[:, :-1])
    return decisions


def sound(candidates: Candidates) -> npt.NDArray[np.intp]:
    """Places of the models in which a whole pass found no fault."""
    return np.array(
        [i for i, name in enumerate(candidates.models) if name not in candidates.faults], np.intp
    )


def concluded(
    candidates: Candidates, plan: Plan, tally: Tally, tuning: Tuning | None = None
) -> Ranking:
    """Order what was added up over the rows: models, and behind them the baselines."""
    net = net_of(plan, tally)
    placed, order = ranked(net[: -len(BASELINES)])
    return Ranking(
        plan=plan,
        tally=tally,
        ranks=placed,
        order=order,
        tied=tied_of(plan, tally, net),
        within=within_of(plan, tally),
        tuning=tuning,
        dropped=candidates.dropped,
        faults=dict(candidates.faults),
        constant=candidates.constant,
        left_out=candidates.left_out,
    )
