"""What is added up over the rows of a file of candidates: counts, money, and replicates of both. Pure."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from metrics.candidates import (
    BASELINES,
    BoolArray,
    Counts,
    Earnings,
    FloatArray,
    Models,
    RowMoney,
    baseline_shares,
    baselines,
    count,
    earn,
)
from metrics.resampling import Replicates, resample


ALWAYS = BASELINES[0]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n consecutive rows: what was true, and value and cost of each where the file has them."""

    first_row: int
    labels: BoolArray
    values: FloatArray | None = None
    costs: FloatArray | None = None

    def money(self) -> RowMoney | None:
        """What acting would earn, None without values and costs; raises ValueError as `RowMoney.of`."""
        if self.values is None or self.costs is None:
            return None
        return RowMoney.of(self.labels, self.values, self.costs)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over rows for M models.

    `earnings` and `spent` (M,), the costs of all actions, are None without money of rows; `replicates` are None where none
    were asked for.
    """

    counts: Counts
    earnings: Earnings | None
    spent: FloatArray | None
    replicates: Replicates | None

    def __add__(self, other: "Tally") -> "Tally":
        """The same models on more rows; raises ValueError when they are not the same."""
        return Tally(
            self.counts + other.counts,
            self.earnings + other.earnings if self.earnings and other.earnings else None,
            None if self.spent is None or other.spent is None else self.spent + other.spent,
            self.replicates + other.replicates if self.replicates and other.replicates else None,
        )

    def of(self, chosen: npt.NDArray[np.intp]) -> "Tally":
        """The models at the places `chosen`, in this order."""
        return Tally(
            self.counts.of(chosen),
            self.earnings.of(chosen) if self.earnings else None,
            None if self.spent is None else self.spent[chosen],
            self.replicates.of(chosen) if self.replicates else None,
        )

    def but_last(self) -> "Tally":
        """All models but the last one."""
        return self.of(np.arange(len(self.counts.models) - 1))

    def beside(self, other: "Tally") -> "Tally":
        """More models on the same rows; raises ValueError when the rows cannot be the same."""
        mine, theirs = self.replicates, other.replicates
        counts = self.counts.beside(other.counts)
        earnings = self.earnings
        if earnings and other.earnings:
            gain = np.append(earnings.gain, other.earnings.gain)
            earnings = replace(earnings, models=counts.models, gain=gain)
        spent = self.spent
        if spent is not None and other.spent is not None:
            spent = np.append(spent, other.spent)
        return Tally(counts, earnings, spent, _beside(mine, theirs) if mine and theirs else None)


def _beside(mine: Replicates, theirs: Replicates) -> Replicates:
    gain = mine.gain
    if gain is not None and theirs.gain is not None:
        gain = np.append(gain, theirs.gain, axis=1)
    return replace(
        mine,
        tp=np.append(mine.tp, theirs.tp, axis=1),
        fp=np.append(mine.fp, theirs.fp, axis=1),
        models=mine.models + theirs.models,
        gain=gain,
    )


def tallied(
    models: Models, rows: Rows, decisions: BoolArray, *, replicates: int, seed: int
) -> Tally:
    """Add up one chunk: `decisions` (n, M) of M models; `replicates` 0 for none.

    Raises ValueError as `count`, `resample` and `RowMoney.of`.
    """
    money = rows.money()
    earnings = spent = None
    if money is not None and rows.costs is not None:
        earnings = earn(models, money, decisions)
        costs = RowMoney(rows.costs, np.zeros_like(rows.costs))
        spent = earn(models, costs, decisions).gain
    drawn = None
    if replicates:
        drawn = resample(
            *(models, rows.labels, decisions, rows.first_row, money),
            replicates=replicates,
            seed=seed,
        )
    return Tally(count(models, rows.labels, decisions), earnings, spent, drawn)


def with_baselines(tally: Tally) -> Tally:
    """Put the `BASELINES` in place of the last model, which must always act: (M + 1) becomes (M + 4)."""
    last = len(tally.counts.models) - 1
    counts = tally.counts
    shares = baseline_shares(counts.positives, counts.negatives)
    models, always = tally.but_last(), tally.of(np.array([last]))
    earnings, spent, drawn = always.earnings, always.spent, always.replicates
    if drawn is not None:
        drawn = replace(
            drawn,
            tp=drawn.tp * shares,
            fp=drawn.fp * shares,
            gain=None if drawn.gain is None else drawn.gain * shares,
            models=BASELINES,
        )
    if earnings is not None:
        # Never -0.0, which documents would show.
        earnings = replace(earnings, gain=earnings.gain * shares + 0.0, models=BASELINES)
    if spent is not None:
        spent = spent * shares
    return models.beside(Tally(baselines(counts), earnings, spent, drawn))
