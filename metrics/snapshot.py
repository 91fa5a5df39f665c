"""A snapshot: everything that is known about one experiment at one moment, ready to be asked. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from metrics.experiment import HOUR
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.ledger import Ledger, total


Panes = Mapping[int, Ledger]
"""Ledgers by the start of their slice of time (epoch ms)."""

LONGEST_FINE_WINDOW = HOUR
"""Longer windows are summed from coarse panes; fine ones are kept twice as long."""


@dataclass(frozen=True, slots=True)
class VariantFacts:
    """The ledgers of one variant, summed over all shards."""

    total: Ledger = field(default_factory=Ledger)
    fine: Panes = field(default_factory=dict)
    coarse: Panes = field(default_factory=dict)
    cohorts: Panes = field(default_factory=dict)
    mature: Ledger = field(default_factory=Ledger)
    """All cohorts together."""
    landmarks: Mapping[int, Panes] = field(default_factory=dict)
    """By landmark (ms) the cohorts with just the labels that had come within it."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """When each version of it was last seen (arrival time, epoch ms), of the newest ones."""

    def matured(self, landmark: int) -> Panes:
        """Cohorts with the labels that were there `landmark` ms after the prediction; 0: the final ones."""
        return self.landmarks.get(landmark, {}) if landmark else self.cohorts

    def window(self, end: int, width: int) -> Ledger:
        """What arrived in the `width` ms before `end`."""
        return total(self._panes(end, width))

    def predictions(self, end: int, width: int) -> int:
        """How many predictions arrived in the `width` ms before `end`."""
        return sum(pane.predictions for pane in self._panes(end, width))

    def labelled(self, end: int, width: int) -> int:
        """How many predictions and outcomes met in the `width` ms before `end`."""
        return sum(pane.labelled for pane in self._panes(end, width))

    def _panes(self, end: int, width: int) -> Iterator[Ledger]:
        """Fine panes up to an hour, else coarse ones; whole ones, those that start in the window."""
        fine = width <= LONGEST_FINE_WINDOW
        step, panes = (FINE_WIDTH, self.fine) if fine else (COARSE_WIDTH, self.coarse)
        first = -(-(end - width) // step) * step
        if (end - first) // step > len(panes):  # a log may have gaps of years
            return (pane for start, pane in panes.items() if first <= start < end)
        return (panes[start] for start in range(first, end, step) if start in panes)

    def cohort_window(self, end: int, width: int, cohort: int) -> Ledger:
        """The mature cohorts that arrived in the `width` ms before `end`, an edge of cohorts."""
        starts = range(end - cohort, end - max(width, cohort) - 1, -cohort)
        return total(self.cohorts[start] for start in starts if start in self.cohorts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One experiment, over all shards."""

    experiment: str
    variants: Mapping[str, VariantFacts]
    watermark: int | None = None
    """All records that arrived before this (epoch ms) are counted."""
    matured: int | None = None
    """The labels of all predictions that arrived before this are final."""
    last_prediction: int | None = None
    last_outcome: int | None = None
    complete_since: int | None = None
    landmarks_matured: Mapping[int, int] = field(default_factory=dict)
    """By landmark, so far its labels are final; landmarks of which that is not known are left out."""

    @property
    def first_pane(self) -> int | None:
        """The start of the oldest fine pane that is kept."""
        return min(
            (start for facts in self.variants.values() for start in facts.fine), default=None
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """All configured experiments, and how many events had which result."""

    snapshots: Mapping[str, Snapshot]
    tallies: Mapping[str, int]
    waiting: int = 0
    """Outcomes that wait for their prediction."""
    pending: int = 0
    """Predictions that are remembered."""
    shards: int = 0
