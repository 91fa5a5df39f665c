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
    counted,
    hold_causes,
    leftover_share,
    mismatch,
    silence,
)
from alerts.judge import Judgement, judge
from alerts.judge import Phase as Verdict
from alerts.machine import (
    ACTING,
    Failed,
    Happening,
    Look,
    Standing,
    State,
    Verified,
)
from metrics.catalogue import CATALOGUE
from metrics.experiment import MINUTE, Experiment
from metrics.snapshot import Snapshot


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
    """The looks that have become possible since the book was written, in order."""
    found: list[Edge] = []
    if snapshot.watermark is not None and snapshot.first_pane is not None:
        step = gcd(MINUTE, *(int(guardrail.every) for guardrail in guardrails))
        first = snapshot.first_pane if book.looked_at is None else book.looked_at
        start = first - first % step + step
        found += [Edge(at, "arrival", at) for at in range(start, snapshot.watermark + 1, step)]
    if snapshot.matured is not None and snapshot.first_cohort is not None:
        cohort, wait = int(experiment.labels.cohort), experiment.labels.wait
        first = snapshot.first_cohort if book.cohort_at is None else book.cohort_at
        start = first - first % cohort + cohort
        found += [
            Edge(end + wait, "cohort", end) for end in range(start, snapshot.matured + 1, cohort)
        ]
    return sorted(found)


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
            return self._judged(
                msgspec.structs.replace(book, cohort_at=edge.judged_at), edge, snapshot
            )
        since = book.looked_at if book.looked_at is not None else snapshot.first_pane or edge.at
        split = self._split(book)
        phase = book.phase
        if phase is None or phase.split != split:
            started = edge.at if phase else since
            phase = Phase(since=started, split=split)
        phase = counted(phase, snapshot, max(since, phase.since), edge.at)
        p_value = mismatch(self._experiment, phase)
        mismatched = book.mismatched or (p_value is not None and p_value < MISMATCH)
        book = msgspec.structs.replace(book, looked_at=edge.at, phase=phase, mismatched=mismatched)
        return self._judged(book, edge, snapshot)

    def _split(self, book: Book) -> dict[str, float]:
        """The split that is intended now: nothing for a treatment whose traffic was taken away."""
        split = dict(self._experiment.variants)
        for treatment, standing in book.standings.items():
            if (
                treatment in split
                and standing.acted_at is not None
                and standing.verified is not False
            ):
                split[treatment] = 0.0
        return split

    def _judged(self, book: Book, edge: Edge, snapshot: Snapshot) -> Book:
        judgements = {}
        for treatment in self._experiment.treatments:
            latest = dict(book.judgements.get(treatment, {}))
            for guardrail in self._due(edge):
                latest[guardrail.name] = judge(
                    guardrail, self._experiment, treatment, snapshot, edge.judged_at
                )
            judgements[treatment] = latest
        return msgspec.structs.replace(book, judgements=judgements)

    def _due(self, edge: Edge) -> Iterator[Guardrail]:
        for guardrail in self._guardrails.values():
            kind = "cohort" if CATALOGUE[guardrail.metric].labelled else "arrival"
            if edge.kind == kind and (kind == "cohort" or edge.at % guardrail.every == 0):
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
        failed = {name for name, streak in streaks.items() if streak}
        breached = [n for n in failed if streaks[n] >= self._guardrails[n].consecutive]
        harm = tuple(judgements[name].reason for name in sorted(breached))
        options, experiment = self._options, self._experiment
        hold = stale
        if edge.kind == "arrival":
            harm += silence(experiment, treatment, snapshot, edge.at, options)
            hold += hold_causes(experiment, treatment, snapshot, edge.at, options)
            if book.mismatched:
                hold += ("sample ratio mismatch: the split is not the intended one",)
        elif standing.state is State.HOLD:
            hold += standing.causes
        phases = [judgements[name].phase for name in self._guardrails if name in judgements]
        healthy = len(phases) == len(self._guardrails) and all(p is Verdict.PASS for p in phases)
        return Look(
            edge.at,
            harm,
            tuple(sorted(failed)),
            hold,
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
        """Whether the traffic has moved since the order was accepted."""
        if edge.kind != "arrival" or standing.acted_at is None:
            return None
        options = self._options
        since = standing.acted_at + int(options.drain)
        share = leftover_share(self._experiment, treatment, snapshot, since, edge.at)
        if share is None:
            return None
        if share <= options.leftover:
            return Verified(edge.at)
        if edge.at >= since + options.verify_for and standing.state is State.VERIFYING:
            return Failed(edge.at, f"{treatment} still gets {share:.1%} of the predictions")
        return None
