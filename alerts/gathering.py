"""Gathering: from what is at hand when something is decided, to the reasoning that is kept with it. Pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from alerts.book import Book, Decision, Kept
from alerts.cohorts import CohortView
from alerts.guardrails import Guardrail
from alerts.health import hold_causes, silence
from alerts.judge import Judgement, see
from alerts.machine import Elapsed, Happening, Look, Policy
from alerts.reasoning import (
    RESTING_ON_DATA,
    Asked,
    Count,
    Counted,
    Declared,
    Flow,
    Matured,
    Noting,
    Reasoning,
    Window,
    packed,
    seal_of,
)
from alerts.standing import Standing
from alerts.trials import Trials, began
from metrics.catalogue import CATALOGUE
from metrics.layout import RETENTION, Kind
from metrics.snapshot import LONGEST_FINE_WINDOW, Snapshot


logger = logging.getLogger(__name__)


def evidence_of(
    declared: Declared,
    decision: Decision,
    happening: Happening,
    policy: Policy,
    snapshot: Snapshot,
    before: Book,
    book: Book,
) -> tuple[str, bytes] | None:
    """What `decision` rests on (see `gather`): its seal, and all of it packed; None for no data."""
    try:
        reasoning = gather(declared, decision, happening, policy, snapshot, before, book)
        return None if reasoning is None else (reasoning.seal, packed(reasoning))
    except Exception:  # whatever fails: nothing may keep a treatment from being rolled back
        logger.exception("%s: what it rests on could not be written down", decision.id)
        return None


def gather(
    declared: Declared,
    decision: Decision,
    happening: Happening,
    policy: Policy,
    snapshot: Snapshot,
    before: Book,
    book: Book,
) -> Reasoning | None:
    """What `decision` rests on, None where it does not rest on data.

    `before` is the book before the look, `book` the one after it, in which the treatment's standing is still
    the old one.
    """
    if decision.action not in RESTING_ON_DATA or not isinstance(happening, Look | Elapsed):
        return None
    treatment = decision.treatment
    standing = book.standings.get(treatment, Standing(since=happening.at))
    view = _View(declared, treatment, snapshot, before, book, standing)
    reasoning = Reasoning(
        declared=declared,
        standing=standing,
        look=happening if isinstance(happening, Look) else None,
        at=happening.at,
        policy=policy,
        began=began(book, treatment),
        windows=view.windows(),
        remembered=view.remembered(),
        matured=view.matured(),
        counted=view.counted(),
        flow=view.flow(happening.at),
        mismatched=treatment in before.mismatched,
        stretches=len(book.past),
        seen=book.seen.get(treatment, 0),
    )
    return msgspec.structs.replace(reasoning, seal=seal_of(reasoning, decision))


@dataclass(frozen=True, slots=True)
class _View:
    """What is at hand when something is decided."""

    declared: Declared
    treatment: str
    snapshot: Snapshot
    before: Book
    book: Book
    standing: Standing

    @property
    def _judged(self) -> Mapping[str, Judgement]:
        return self.book.judgements.get(self.treatment, {})

    @property
    def _trials(self) -> Trials:
        return Trials.of(self.declared.experiment, self.declared.guardrails, self.declared.testing)

    def windows(self) -> dict[str, Window]:
        found = {}
        for guardrail in self.declared.guardrails:
            judged = self._judged.get(guardrail.name)
            if guardrail.test == "threshold" and judged and self._still_there(guardrail, judged):
                experiment, begun = self.declared.experiment, self.standing.begun
                seen = see(guardrail, experiment, self.treatment, self.snapshot, judged.at, begun)
                found[guardrail.name] = Window(
                    treatment=seen.treatment.pack(), control=seen.control.pack()
                )
        return found

    def _still_there(self, guardrail: Guardrail, judged: Judgement) -> bool:
        """Whether the panes are kept in which a threshold looked; cohorts always are."""
        known = self.before.judgements.get(self.treatment, {}).get(guardrail.name)
        if CATALOGUE[guardrail.metric].labelled or known != judged:
            return True
        width = int(guardrail.window or 0)
        kept = RETENTION[Kind.FINE if width <= LONGEST_FINE_WINDOW else Kind.COARSE]
        return judged.at - width >= (self.snapshot.watermark or 0) - kept

    def remembered(self) -> dict[str, Kept]:
        known = self.before.evidence.get(self.treatment, {})
        names = [each.guardrail.name for each in self._trials.weighers]
        return {name: known.get(name, Kept()) for name in names if name in self._judged}

    def matured(self) -> tuple[Matured, ...]:
        ends = {0: self.book.cohort_at, **self.book.landmarks_at}
        wanted = {int(found.landmark or 0) for found in self.declared.guardrails}
        view, made = CohortView(self.declared.experiment), []
        for landmark, until in sorted(ends.items()):
            if until is None or (landmark and landmark not in wanted):
                continue
            begun = self.standing.begun
            arms = view.arms(self.book, self.treatment, self.snapshot, begun, until, landmark)
            if arms.starts:
                made.append(Matured.of(arms, landmark, until))
        return tuple(made)

    def counted(self) -> dict[str, Counted]:
        known = self.before.evidence.get(self.treatment, {})
        after = self.book.evidence.get(self.treatment, {})
        said = self.before.judgements.get(self.treatment, {})
        trials, found = self._trials, {}
        why = trials.suspended(self.book, self.treatment)
        for name in (each.guardrail.name for each in trials.counters):
            if name in self._judged:
                step = _step(known.get(name, Kept()), after.get(name, Kept()))
                told = self._judged[name] if step.tally is None else said.get(name)
                known_as = None if told is None else msgspec.json.encode(told)
                found[name] = msgspec.structs.replace(step, known=known_as, suspended=why)
        return found

    def flow(self, at: int) -> Flow:
        looked_at = self.book.looked_at
        holds = self.before if looked_at == at else self.book
        known, experiment = holds.holds.get(self.treatment, ()), self.declared.experiment
        counts: dict[Asked, int] = {}
        variants = {
            name: Noting(name=name, counts=counts, source=facts)
            for name, facts in self.snapshot.variants.items()
        }
        since = self.snapshot.complete_since
        noting = Snapshot(experiment.name, variants, complete_since=since)
        options, begun = self.declared.hold, self.standing.begun
        if looked_at is not None:
            hold_causes(
                experiment, self.treatment, noting, looked_at, options, begun=begun, known=known
            )
        silence(experiment, self.treatment, noting, at, options)
        told = tuple(Count(asked, n) for asked, n in counts.items())
        return Flow(at=looked_at, known=known, complete_since=since, counts=told)


def _step(before: Kept, after: Kept) -> Counted:
    """The step that leads from one to the other: what is more in the newest split is what came."""
    if before == after or not after.tallies:
        return Counted(before=after)
    last = after.tallies[-1]
    if before.tallies and before.tallies[-1][0] == last[0]:
        more = (a - b for a, b in zip(last[1:], before.tallies[-1][1:], strict=True))
        return Counted(before=before, tally=(last[0], *more))
    return Counted(before=before, tally=last)
