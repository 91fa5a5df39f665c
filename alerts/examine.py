"""Examining: the looks that a snapshot allows, and what each finds. Pure.

Looks happen at edges of panes, in order of time, once everything before the edge is complete; so the
decisions of a replay do not depend on when somebody looked.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import Literal, NamedTuple

import msgspec

from alerts.book import Book, Phase
from alerts.guardrails import Guardrail
from alerts.health import (
    MISMATCH,
    HoldOptions,
    arrived,
    counted,
    flows,
    hold_causes,
    leftover_share,
    mismatch,
    silence,
)
from alerts.judge import Judgement, judge
from alerts.judge import Phase as Verdict
from alerts.machine import Failed, Happening, Look, Verified
from alerts.standing import ACTING, Standing, State
from metrics.catalogue import CATALOGUE
from metrics.experiment import MINUTE, Experiment
from metrics.layout import RETENTION, Kind
from metrics.snapshot import LONGEST_FINE_WINDOW, Snapshot


LOOKS_BACK = RETENTION[Kind.FINE] - LONGEST_FINE_WINDOW
"""How far behind the watermark (ms) a look still finds all panes of its windows."""

MISMATCHED = "sample ratio mismatch: the split is not the intended one"


class Edge(NamedTuple):
    """When a look happens, and which guardrails it judges anew."""

    at: int
    """Arrival time from which on the look is possible."""
    kind: Literal["arrival", "cohort"]
    judged_at: int
    """The end of the panes it sees: `at`, or the end of the cohort that became complete."""


def edges(
    experiment: Experiment, guardrails: Sequence[Guardrail], book: Book, snapshot: Snapshot
) -> list[Edge]:
    """The looks that have become possible since the book was written, in order.

    Looks at arrivals that nobody made while their panes were kept are left out. A cohort whose labels
    became final late, after an outage, is looked at now and not in the past.
    """
    arrivals = _arrival_edges(guardrails, book, snapshot)
    return sorted([*arrivals, *_cohort_edges(experiment, guardrails, book, snapshot)])


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
    experiment: Experiment, guardrails: Sequence[Guardrail], book: Book, snapshot: Snapshot
) -> Iterator[Edge]:
    """Ends of cohorts from which some guardrail sees something, and the first from which none does.

    A log may have gaps of years, in which there is nothing to look at.
    """
    first = snapshot.first_cohort if book.cohort_at is None else book.cohort_at
    if snapshot.matured is None or first is None:
        return
    cohort, wait = int(experiment.labels.cohort), experiment.labels.wait
    first -= first % cohort
    reach = max((int(found.window or 0) for found in guardrails), default=0) + 2 * cohort
    kept = {start for facts in snapshot.variants.values() for start in facts.cohorts}
    ends = set[int]()
    for start in kept:
        if start > first - reach:
            # The width may have been another when it was written.
            own = start - start % cohort
            last = min(own + reach, snapshot.matured)
            ends.update(range(max(own, first) + cohort, last + 1, cohort))
    for end in ends:
        yield Edge(max(end + wait, book.looked_at or 0), "cohort", end)


class Examiner:
    """Looks at one experiment; holds its declaration, no state."""

    def __init__(
        self, experiment: Experiment, guardrails: Sequence[Guardrail], options: HoldOptions
    ) -> None:
        self._experiment, self._options = experiment, options
        self._guardrails = {guardrail.name: guardrail for guardrail in guardrails}

    def edges(self, book: Book, snapshot: Snapshot) -> list[Edge]:
        """See `edges`."""
        return edges(self._experiment, list(self._guardrails.values()), book, snapshot)

    def advance(self, book: Book, edge: Edge, snapshot: Snapshot) -> Book:
        """The book after a look at `edge`, but for the treatments' standings."""
        if edge.kind == "cohort":
            book = msgspec.structs.replace(book, cohort_at=edge.judged_at)
            return self._judged(book, edge, snapshot)
        looked_at = book.looked_at
        since = looked_at if looked_at is not None else snapshot.first_pane or edge.at
        split = self._split(book, snapshot, edge.at)
        phase = book.phase
        if phase is None:
            phase = Phase(since=since, split=split)
        elif phase.split != split:
            phase = Phase(since=edge.at, split=split)
        phase = counted(phase, snapshot, max(since, phase.since), edge.at)
        book = msgspec.structs.replace(
            book,
            looked_at=edge.at,
            phase=phase,
            mismatched=tuple(self._mismatched(book.mismatched, phase)),
        )
        book = msgspec.structs.replace(book, holds=self._holds(book, snapshot, edge.at))
        return self._judged(book, edge, snapshot)

    def _split(self, book: Book, snapshot: Snapshot, at: int) -> dict[str, float]:
        """The split that is intended now.

        The traffic of a treatment that was rolled back goes to the control. While that of another one
        is on its way, has yet to begin or was given up, nobody can tell the control's share.
        """
        split, control = dict(self._experiment.variants), self._experiment.control
        known = book.phase.split if book.phase else {}
        moving = False
        for treatment in self._experiment.treatments:
            standing = book.standings.get(treatment, Standing())
            began = known.get(treatment, 0) > 0 or flows(
                self._experiment, treatment, snapshot, at, self._options, standing.begun
            )
            if standing.state is State.ROLLED_BACK and standing.verified:
                split[control] += split[treatment]
                split[treatment] = 0.0
            elif standing.state in ACTING | {State.ENDED} or not began:
                moving = moving or split[treatment] > 0
                split[treatment] = 0.0
        return split | {control: 0.0} if moving else split

    def _mismatched(self, known: Sequence[str], phase: Phase) -> Iterator[str]:
        for treatment in self._experiment.treatments:
            p_value = mismatch(self._experiment, treatment, phase)
            if treatment in known or (p_value is not None and p_value < MISMATCH):
                yield treatment

    def _holds(self, book: Book, snapshot: Snapshot, at: int) -> dict[str, tuple[str, ...]]:
        """Why each treatment has to hold at the look `at` at what arrived."""
        holds = {}
        for treatment in self._experiment.treatments:
            causes = hold_causes(
                self._experiment,
                treatment,
                snapshot,
                at,
                self._options,
                begun=book.standings.get(treatment, Standing()).begun,
                known=book.holds.get(treatment, ()),
            )
            holds[treatment] = causes + ((MISMATCHED,) if treatment in book.mismatched else ())
        return holds

    def _judged(self, book: Book, edge: Edge, snapshot: Snapshot) -> Book:
        judgements = {}
        for treatment in self._experiment.treatments:
            known = book.judgements.get(treatment, {})
            latest = {name: known[name] for name in self._guardrails if name in known}
            begun = book.standings.get(treatment, Standing()).begun
            for guardrail in self._due(edge):
                latest[guardrail.name] = judge(
                    guardrail, self._experiment, treatment, snapshot, edge.judged_at, begun
                )
            judgements[treatment] = latest
        return msgspec.structs.replace(book, judgements=judgements)

    def _due(self, edge: Edge) -> Iterator[Guardrail]:
        for guardrail in self._guardrails.values():
            kind = "cohort" if CATALOGUE[guardrail.metric].labelled else "arrival"
            if edge.kind == kind and (kind == "cohort" or edge.at % guardrail.step == 0):
                yield guardrail

    def happening(
        self, book: Book, edge: Edge, treatment: str, snapshot: Snapshot, stale: tuple[str, ...]
    ) -> Happening | None:
        """What the look at `edge` means to `treatment`; `stale`: causes that the caller knows of."""
        standing = book.standings.get(treatment, Standing())
        if standing.state in ACTING:
            return self._effect(standing, edge, treatment, snapshot)
        judgements = book.judgements.get(treatment, {})
        streaks = self._streaks(standing, judgements, {g.name for g in self._due(edge)})
        breached = [n for n in streaks if streaks[n] >= self._guardrails[n].consecutive]
        harm = tuple(judgements[name].reason for name in sorted(breached))
        if edge.kind == "arrival" and book.phase and book.phase.split.get(treatment, 0) > 0:
            harm += silence(self._experiment, treatment, snapshot, edge.at, self._options)
        phases = [judgements[name].phase for name in self._guardrails if name in judgements]
        healthy = len(phases) == len(self._guardrails) and all(p is Verdict.PASS for p in phases)
        return Look(
            edge.at,
            harm,
            tuple(sorted(streaks)),
            tuple(dict.fromkeys(stale + book.holds.get(treatment, ()))),
            healthy=healthy and bool(phases),
            streaks=streaks,
        )

    def _streaks(
        self, standing: Standing, judgements: Mapping[str, Judgement], judged: set[str]
    ) -> dict[str, int]:
        """Failing looks in a row; a look that cannot tell ends a row, for missing data proves nothing."""
        streaks = {}
        for name, judgement in judgements.items():
            streak = standing.streaks.get(name, 0)
            if name in judged:
                streak = streak + 1 if judgement.phase is Verdict.FAIL else 0
            if streak:
                streaks[name] = streak
        return streaks

    def _effect(
        self, standing: Standing, edge: Edge, treatment: str, snapshot: Snapshot
    ) -> Happening | None:
        """Whether the traffic has moved since the order was accepted, or somebody moved it by hand."""
        options, experiment, ordered_at = self._options, self._experiment, standing.ordered_at or 0
        if edge.kind != "arrival":
            return None
        if standing.acted_at is None and not arrived(snapshot, treatment, ordered_at, edge.at):
            return None  # it may as well have crashed: that takes no traffic away
        since = (standing.acted_at or ordered_at) + int(options.drain)
        share = leftover_share(experiment, treatment, snapshot, since, edge.at)
        if share is None:
            return None
        if share <= options.leftover:
            return Verified(edge.at)
        if edge.at >= since + options.verify_for and standing.state is State.VERIFYING:
            return Failed(edge.at, f"{treatment} still gets {share:.1%} of its intended traffic")
        return None
