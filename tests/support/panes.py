"""Snapshots made by hand: what arrived and what matured, cut off at any watermark. Pure.

A world knows everything that will ever arrive. Its snapshots show what a reader would have found at a
watermark: panes that are still filling hold more than what arrived before it, and old panes are gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from metrics.confusion import Cell, Cells
from metrics.duration import Duration
from metrics.experiment import MINUTE, Experiment, Labels, Profitability
from metrics.latency import Histogram, bucket_of
from metrics.layout import COARSE_WIDTH, FINE_WIDTH, RETENTION, Kind
from metrics.ledger import Ledger, total
from metrics.moments import LATENCY_UNIT_MS, Moments
from metrics.snapshot import Snapshot, VariantFacts


START = 1_700_002_800_000
"""An edge of fine and coarse panes, of minutes, hours and cohorts."""

COHORT = 10 * MINUTE
WAIT = 20 * MINUTE

EXPERIMENT = Experiment(
    name="offers",
    control="old",
    variants={"old": 0.5, "new": 0.5},
    labels=Labels(
        horizon=Duration(15 * MINUTE), grace=Duration(5 * MINUTE), cohort=Duration(COHORT)
    ),
    profitability=Profitability(q=3.0),
)


def cells(tp: int = 0, fp: int = 0, tn: int = 0, fn: int = 0) -> Cells:
    """Confusion cells of unweighted predictions."""
    return Cells(*(Cell(n, 1000 * n, 1_000_000 * n) for n in (tp, fp, tn, fn)))


def pane(
    predictions: int,
    *,
    errors: int = 0,
    acted: int = 0,
    latency_ms: float | None = None,
    labelled: int = 0,
    failing: int | None = None,
    units: int = 0,
    crossed: int = 0,
    unitless: int = 0,
) -> Ledger:
    """What arrived in a slice of time; every prediction took `latency_ms`.

    Each error is one of a unit of its own, unless `failing` says how many minutes of units had any.
    """
    n = 0 if latency_ms is None else predictions
    took = round((latency_ms or 0) / LATENCY_UNIT_MS)
    moments = Moments(n, n * took, n * took**2)
    histogram = Histogram.of(bucket_of(np.full(n, latency_ms or 0, dtype=np.float64)))
    return Ledger(
        predictions,
        errors,
        acted,
        cells(tn=labelled),
        moments,
        histogram,
        failing=errors if failing is None else failing,
        units=units,
        crossed=crossed,
        unitless=unitless,
    )


def matured(tp: int = 0, fp: int = 0, tn: int = 0, fn: int = 0, *, errors: int = 0) -> Ledger:
    """A cohort whose labels are final."""
    found = cells(tp, fp, tn, fn)._replace(error_other=Cell(errors, 1000 * errors, 0))
    return Ledger(tp + fp + tn + fn + errors, errors, tp + fp, found)


def drawn(
    rng: np.random.Generator,
    n: int,
    *,
    positive: float = 0.2,
    recall: float = 0.6,
    false_alarms: float = 0.1,
) -> Ledger:
    """A cohort of `n` random predictions: the share of positives, and what is made of each kind."""
    tp, fn = positive * recall, positive * (1 - recall)
    fp, tn = (1 - positive) * false_alarms, (1 - positive) * (1 - false_alarms)
    return matured(*map(int, rng.multinomial(n, (tp, fp, tn, fn))))


Panes = dict[str, dict[int, Ledger]]


@dataclass(slots=True)
class World:
    """All that ever arrives and matures, by variant."""

    fine: Panes = field(default_factory=dict)
    cohorts: Panes = field(default_factory=dict)

    def arrive(self, variant: str, start: int, end: int, ledger: Ledger) -> "World":
        """Put `ledger` into every fine pane of [start, end), in place of what was there."""
        panes = self.fine.setdefault(variant, {})
        panes.update(dict.fromkeys(range(start, end, FINE_WIDTH), ledger))
        return self

    def mature(self, variant: str, start: int, end: int, ledger: Ledger) -> "World":
        """Put `ledger` into every cohort of [start, end)."""
        panes = self.cohorts.setdefault(variant, {})
        panes.update(dict.fromkeys(range(start, end, COHORT), ledger))
        return self

    def snapshot(
        self,
        watermark: int,
        *,
        final_to: int | None = None,
        complete_since: int | None = None,
        variants: Iterable[str] = tuple(EXPERIMENT.variants),
    ) -> Snapshot:
        """What is known at `watermark`; labels are final up to `final_to`, else to WAIT before it.

        The totals stay empty: nothing may be decided from what a reader happens to know already.
        """
        final = watermark - WAIT if final_to is None else final_to
        return Snapshot(
            EXPERIMENT.name,
            {name: self._facts(name, watermark, final) for name in variants},
            watermark,
            final,
            complete_since=complete_since,
        )

    def _facts(self, variant: str, watermark: int, final: int) -> VariantFacts:
        known = self.fine.get(variant, {})
        cohorts = self.cohorts.get(variant, {})
        return VariantFacts(
            fine=_seen(known, watermark - RETENTION[Kind.FINE], watermark),
            coarse=_coarse(_seen(known, watermark - RETENTION[Kind.COARSE], watermark)),
            # A cohort that is filling holds labels already; a reader shows it.
            cohorts=_seen(cohorts, 0, final),
        )


def _seen(panes: dict[int, Ledger], oldest: int, newest: int) -> dict[int, Ledger]:
    """Panes up to the one that is filling at `newest`, and that one as if it were full."""
    return {start: ledger for start, ledger in panes.items() if oldest <= start <= newest}


def _coarse(fine: dict[int, Ledger]) -> dict[int, Ledger]:
    """The coarse panes that fine ones add up to."""
    parts: dict[int, list[Ledger]] = {}
    for start, ledger in fine.items():
        parts.setdefault(start - start % COARSE_WIDTH, []).append(ledger)
    return {start: total(ledgers) for start, ledgers in parts.items()}


def steady(end: int, *, per_pane: int = 10, latency_ms: float = 20.0, labelled: int = 5) -> World:
    """Both variants alike, from START to `end`: well, balanced, and labelled."""
    world = World()
    for variant in EXPERIMENT.variants:
        world.arrive(variant, START, end, pane(per_pane, latency_ms=latency_ms, labelled=labelled))
        world.mature(variant, START, end, matured(tp=200, fp=100, tn=250, fn=50))
    return world
