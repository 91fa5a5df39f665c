"""Examining: what each look at an experiment finds. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from alerts import aftermath, causes, quarantine
from alerts.book import Book
from alerts.causes import MISMATCHED, MIXED, UNNAMED
from alerts.edges import Edge, edges
from alerts.guardrails import Guardrail
from alerts.happenings import Happening, Look
from alerts.health import HoldOptions, hold_causes, silence
from alerts.judge import Judgement, judge
from alerts.judge import Phase as Verdict
from alerts.phases import Phases, mixed, unnamed
from alerts.standing import ACTING, Sighting, Standing, State
from alerts.testing import DEFAULTS, Testing
from alerts.trials import Trials, began
from metrics.catalogue import CATALOGUE
from metrics.experiment import Experiment
from metrics.snapshot import Snapshot


__all__ = ["MISMATCHED", "MIXED", "UNNAMED", "Examiner"]


class Examiner:
    """Looks at one experiment; holds its declaration, no state."""

    def __init__(
        self,
        experiment: Experiment,
        guardrails: Sequence[Guardrail],
        options: HoldOptions,
        testing: Testing = DEFAULTS,
    ) -> None:
        self._experiment, self._options, self._testing = experiment, options, testing
        self._guardrails = {guardrail.name: guardrail for guardrail in guardrails}
        self._phases = Phases(experiment, options)
        self._trials = Trials.of(experiment, guardrails, testing)

    def edges(self, book: Book, snapshot: Snapshot) -> list[Edge]:
        """See `edges`."""
        return edges(self._experiment, list(self._guardrails.values()), book, snapshot)

    def advance(self, book: Book, edge: Edge, snapshot: Snapshot) -> Book:
        """The book after a look at `edge`, but for the treatments' standings."""
        if edge.kind == "cohort":
            return self._matured(book, edge, snapshot)
        looked_at = book.looked_at
        since = looked_at if looked_at is not None else snapshot.first_pane or edge.at
        book = self._phases.advance(book, snapshot, since, edge.at)
        book = self._trials.at_arrival(book, since, edge.at, snapshot)
        book = msgspec.structs.replace(book, holds=self._holds(book, snapshot, edge.at))
        return self._judged(book, edge, snapshot)

    def _matured(self, book: Book, edge: Edge, snapshot: Snapshot) -> Book:
        """The book after a look at cohorts whose labels are final, or were so at a landmark."""
        if edge.landmark:
            reached = {**book.landmarks_at, edge.landmark: edge.judged_at}
            book = msgspec.structs.replace(book, landmarks_at=reached)
        else:
            book = msgspec.structs.replace(book, cohort_at=edge.judged_at)
            book = self._judged(book, edge, snapshot)
        return self._trials.at_cohort(book, edge.judged_at, snapshot, edge.landmark)

    def _holds(self, book: Book, snapshot: Snapshot, at: int) -> dict[str, tuple[str, ...]]:
        """Why each treatment has to hold at the look `at` at what arrived."""
        holds = {}
        for treatment in self._experiment.treatments:
            standing = book.standings.get(treatment, Standing())
            found = hold_causes(
                self._experiment,
                treatment,
                snapshot,
                at,
                self._options,
                begun=standing.begun,
                known=book.holds.get(treatment, ()),
            )
            found += (MISMATCHED,) if treatment in book.mismatched else ()
            found += (MIXED,) if book.phase and mixed(book.phase) else ()
            found += (UNNAMED,) if book.phase and unnamed(book.phase) else ()
            found += tuple(self._trials.blind(book, treatment, self._testing.blind_budget))
            found += tuple(self._too_long(book, treatment, at))
            sightings = self._sighted(book, treatment, snapshot, at)
            found += quarantine.causes(sightings, book.quarantined.get(treatment, {}))
            holds[treatment] = found
        return holds

    def _too_long(self, book: Book, treatment: str, at: int) -> Iterator[str]:
        """A cause to hold, where the experiment took its time and no verdict was reached."""
        longest, standing = self._testing.max_duration, book.standings.get(treatment, Standing())
        if longest is None or standing.passed or standing.state is State.PASSED:
            return
        if book.phase is not None and at - began(book, treatment) >= longest:
            yield causes.too_long(longest)

    def _sighted(
        self, book: Book, treatment: str, snapshot: Snapshot, at: int
    ) -> dict[str, Sighting]:
        """Which versions in quarantine the look `at` at what arrived finds."""
        standing, known = (
            book.standings.get(treatment, Standing()),
            book.quarantined.get(treatment, {}),
        )
        versions = quarantine.versions_of(snapshot, treatment)
        return quarantine.sighted(standing, known, versions, at)

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
            if guardrail.test == "sequential" or edge.landmark:
                continue
            kind = "cohort" if CATALOGUE[guardrail.metric].labelled else "arrival"
            if edge.kind == kind and (kind == "cohort" or edge.at % guardrail.step == 0):
                yield guardrail

    def happening(
        self, book: Book, edge: Edge, treatment: str, snapshot: Snapshot, stale: tuple[str, ...]
    ) -> Happening | None:
        """What the look at `edge` means to `treatment`; `stale`: causes that the caller knows of."""
        standing, arrival = book.standings.get(treatment, Standing()), edge.kind == "arrival"
        if standing.state in ACTING:
            return self._seen_of(aftermath.effect, standing, edge, treatment, snapshot)
        back = self._seen_of(aftermath.returned, standing, edge, treatment, snapshot)
        if back is not None:
            return back
        judgements = book.judgements.get(treatment, {})
        streaks = self._streaks(standing, judgements, {g.name for g in self._due(edge)})
        breached = [n for n in streaks if streaks[n] >= self._guardrails[n].consecutive]
        harm = tuple(judgements[name].reason for name in sorted(breached))
        harm += self._trials.alarms(book, treatment)
        # Silence from before its life began, when it had no traffic to begin with, is none of it.
        old_enough = edge.at - self._options.silence >= standing.begun
        if arrival and old_enough and book.phase and book.phase.split.get(treatment, 0) > 0:
            harm += silence(self._experiment, treatment, snapshot, edge.at, self._options)
        phases = [judgements[name].phase for name in self._guardrails if name in judgements]
        healthy = len(phases) == len(self._guardrails) and all(p is Verdict.PASS for p in phases)
        return Look(
            edge.at,
            harm,
            tuple(sorted(streaks)),
            tuple(dict.fromkeys(stale + book.holds.get(treatment, ()))),
            healthy=healthy and bool(phases),
            promotable=healthy and self._may_pass(book, edge, treatment),
            streaks=streaks,
            sightings=self._sighted(book, treatment, snapshot, edge.at) if arrival else None,
        )

    def _seen_of(
        self,
        ask: Callable[..., Happening | None],
        standing: Standing,
        edge: Edge,
        treatment: str,
        snapshot: Snapshot,
    ) -> Happening | None:
        """What the traffic says of a rollback; it is looked at with arrivals only."""
        if edge.kind != "arrival":
            return None
        return ask(self._experiment, treatment, standing, snapshot, edge.at, self._options)

    def _may_pass(self, book: Book, edge: Edge, treatment: str) -> bool:
        """Whether something was proven, and not too early: the absence of alarms promotes nothing."""
        if book.phase is None or not self._trials.names:
            return False
        return edge.at - began(book, treatment) >= self._testing.min_duration

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
