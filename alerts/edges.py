"""Edges: the looks that a snapshot allows, in order of time. Pure.

Looks happen at edges of panes, once everything before the edge is complete; so the decisions of a replay do
not depend on when somebody looked.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Literal, NamedTuple

from alerts.book import Book
from alerts.guardrails import Guardrail
from metrics.catalogue import CATALOGUE
from metrics.experiment import MINUTE, Experiment
from metrics.layout import RETENTION, Kind
from metrics.snapshot import LONGEST_FINE_WINDOW, Snapshot


LOOKS_BACK = RETENTION[Kind.FINE] - LONGEST_FINE_WINDOW
"""How far behind the watermark (ms) a look still finds all panes of its windows."""


class Edge(NamedTuple):
    """When a look happens, and which guardrails it judges anew."""

    at: int
    """Arrival time from which on the look is possible."""
    kind: Literal["arrival", "cohort"]
    judged_at: int
    """The end of the panes it sees: `at`, or the end of the cohort that became complete."""
    landmark: int = 0
    """Of a cohort: its labels as they were this long (ms) after the predictions; 0: the final ones."""


def edges(
    experiment: Experiment, guardrails: Sequence[Guardrail], book: Book, snapshot: Snapshot
) -> list[Edge]:
    """The looks that have become possible since the book was written, in order.

    Looks at arrivals that nobody made while their panes were kept are left out. A cohort whose labels
    became final late, after an outage, is looked at now and not in the past.
    """
    found = [*_arrival_edges(guardrails, book, snapshot)]
    for landmark in {0, *(int(each.landmark or 0) for each in guardrails)}:
        found += _cohort_edges(experiment, guardrails, book, snapshot, landmark)
    return sorted(found)


def _arrival_edges(
    guardrails: Sequence[Guardrail], book: Book, snapshot: Snapshot
) -> Iterator[Edge]:
    first = snapshot.first_pane if book.looked_at is None else book.looked_at
    if snapshot.watermark is None or first is None:
        return
    steps = (found.step for found in guardrails if not CATALOGUE[found.metric].labelled)
    step = gcd(MINUTE, *steps)
    if book.looked_at is not None:
        first = max(first, snapshot.watermark - LOOKS_BACK)
    for at in range(first - first % step + step, snapshot.watermark + 1, step):
        yield Edge(at, "arrival", at)


def _cohort_edges(
    experiment: Experiment,
    guardrails: Sequence[Guardrail],
    book: Book,
    snapshot: Snapshot,
    landmark: int,
) -> Iterator[Edge]:
    """Ends of cohorts from which some guardrail sees something, and the first from which none does.

    A log may have gaps of years, in which there is nothing to look at.
    """
    kept = {start for facts in snapshot.variants.values() for start in facts.matured(landmark)}
    matured = snapshot.landmarks_matured.get(landmark) if landmark else snapshot.matured
    first = book.landmarks_at.get(landmark) if landmark else book.cohort_at
    if first is None:
        first = min(kept, default=None)
    if matured is None or first is None:
        return
    cohort = int(experiment.labels.cohort)
    wait = landmark + experiment.labels.grace if landmark else experiment.labels.wait
    first -= first % cohort
    reach = max((int(found.window or 0) for found in guardrails), default=0) + 2 * cohort
    ends = set[int]()
    for start in kept:
        if start > first - reach:
            # The width may have been another when it was written.
            own = start - start % cohort
            last = min(own + reach, matured)
            ends.update(range(max(own, first) + cohort, last + 1, cohort))
    for end in ends:
        yield Edge(max(end + wait, book.looked_at or 0), "cohort", end, landmark)
