"""Views of experiments whose mature cohorts were drawn prediction by prediction. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from alerts.book import Book, Decision
from alerts.cohorts import pairs
from metrics.compare import compare
from metrics.confusion import Cell, Cells
from metrics.ledger import Ledger, total
from metrics.moments import Moments
from metrics.snapshot import Snapshot, VariantFacts
from metrics.units import COLUMNS, NO_BUCKETS, UNIT_BUCKETS
from support.panes import COHORT, EXPERIMENT, START


Ints = npt.NDArray[np.int64]

SHARES = (0.12, 0.15, 0.3, 0.08, 0.05, 0.04, 0.06, 0.1, 0.04, 0.06)
"""Of the cells of a ledger, missing labels and failed requests among them."""

Cohorts = Mapping[str, Mapping[int, Ledger]]
"""By variant and start."""


def declared(**changes: Any) -> ExperimentSettings:
    """The experiment of `support.panes`, with two treatments."""
    fields = {name: getattr(EXPERIMENT, name) for name in EXPERIMENT.__struct_fields__}
    split = {"old": 0.4, "new": 0.3, "newer": 0.3}
    return ExperimentSettings(**fields | {"variants": split} | changes)


def cohort(
    rng: np.random.Generator,
    n: int,
    *,
    shares: Sequence[float] = SHARES,
    weighted: bool = True,
    timed: float = 0.8,
    units: bool = False,
) -> Ledger:
    """A mature ledger of `n` predictions, in cells by `shares`, a part of them `timed`."""
    cell = rng.choice(len(shares), size=n, p=shares)
    weight = rng.integers(1_000, 4_000, size=n) if weighted else np.full(n, 1_000)
    has_time = (rng.random(n) < timed).astype(np.int64)
    took = np.where(has_time > 0, rng.integers(50, 900, size=n), 0)
    columns = (np.ones(n, dtype=np.int64), weight, weight**2, has_time, took)
    cells = Cells(
        *(Cell(*(int(each[cell == at].sum()) for each in columns)) for at in range(len(shares)))
    )
    failed = (cell >= Cells._fields.index("error_positive")).astype(np.int64)
    return Ledger(
        n,
        int(failed.sum()),
        int(np.isin(cell, (0, 1, 4, 5)).sum()),
        cells,
        Moments(int(has_time.sum()), int(took.sum()), int((took**2).sum())),
        buckets=_buckets(rng, cell, weight, failed, has_time, took) if units else NO_BUCKETS,
    )


def _buckets(
    rng: np.random.Generator, cell: Ints, weight: Ints, failed: Ints, timed: Ints, took: Ints
) -> Ints:
    """The same predictions by unit: units keep to a few cells, so that they make metrics less sure."""
    bucket = (cell * 7 + rng.integers(0, 30, size=cell.size)) % UNIT_BUCKETS
    found = np.zeros((UNIT_BUCKETS, len(COLUMNS)), dtype=np.int64)
    np.add.at(found, (bucket, cell), weight)
    others = {"n": np.ones_like(cell), "failed": failed, "timed": timed, "latency": took}
    for name, each in others.items():
        np.add.at(found[:, COLUMNS.index(name)], bucket, each)
    return found


def cohorts(
    seed: int, count: int, names: Iterable[str] = ("old", "new", "newer"), **drawn: Any
) -> dict[str, dict[int, Ledger]]:
    """So many cohorts of each variant, of 20 to 60 predictions each; some are missing."""
    rng = np.random.default_rng(seed)
    return {
        name: {
            START + at * COHORT: cohort(rng, int(rng.integers(20, 60)), **drawn)
            for at in range(count)
            if rng.random() < 0.9 or not at
        }
        for name in names
    }


def shown(
    experiment: ExperimentSettings,
    found: Cohorts,
    *,
    book: Book | None = None,
    until: int | None = None,
    final_to: int | None = None,
    decisions: Sequence[Decision] = (),
    facts: VariantFacts | None = None,
) -> ExperimentView:
    """The view once the cohorts before `until` (epoch ms) are there, and as `metrics.compare` compares them.

    Labels are final up to the end of the newest one, or to `final_to`; `facts` are what else is known.
    """
    book, variants = book or Book(), {}
    for name in experiment.variants:
        kept = {at: ledger for at, ledger in found.get(name, {}).items() if not until or at < until}
        variants[name] = replace(
            facts or VariantFacts(), cohorts=kept, mature=total(kept[at] for at in sorted(kept))
        )
    newest = max((at for each in variants.values() for at in each.cohorts), default=START - COHORT)
    final = newest + COHORT if final_to is None else final_to
    snapshot = Snapshot(experiment.name, variants, final + COHORT, final)
    paired = {name: pairs(book, name, experiment, snapshot) for name in experiment.treatments}
    comparisons = compare(experiment, paired, frozenset(), experiment.testing.planned)
    return ExperimentView(experiment, snapshot, book, comparisons, tuple(decisions))
