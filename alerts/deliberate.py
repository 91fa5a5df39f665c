"""Deliberating: one look at one experiment, from its book to the next one, with decisions and orders. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from alerts import bookkeeping, quarantine
from alerts.book import Book, Decision
from alerts.chain import seal
from alerts.edges import Edge
from alerts.examine import Examiner
from alerts.gathering import evidence_of
from alerts.guardrails import Guardrail
from alerts.happenings import Happening, Policy, Transition
from alerts.health import HoldOptions
from alerts.machine import transition
from alerts.order import Order
from alerts.phases import split_without
from alerts.reasoning import Declared
from alerts.standing import Standing, ordered
from alerts.testing import DEFAULTS, Testing
from metrics.compare import confusion_of
from metrics.experiment import Experiment
from metrics.ledger import total
from metrics.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made: the next book, what people are told, and what actuators are asked."""

    book: Book
    decisions: tuple[Decision, ...] = ()
    orders: tuple[Order, ...] = ()
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """What decisions rest on, packed, by their ids."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By treatment, why a person's command changed nothing."""


@dataclass(frozen=True, slots=True)
class Deliberation:
    """Judges one experiment; holds what was declared, no state."""

    experiment: Experiment
    guardrails: Sequence[Guardrail]
    hold: HoldOptions
    fingerprint: str
    dry_run: bool = False
    testing: Testing = DEFAULTS
    examiner: Examiner = field(init=False)

    def __post_init__(self) -> None:
        made = Examiner(self.experiment, self.guardrails, self.hold, self.testing)
        object.__setattr__(self, "examiner", made)  # a frozen class has no other way

    @property
    def declared(self) -> Declared:
        """What people had declared, as it is kept with decisions."""
        return Declared.of(self.experiment, self.guardrails, self.hold, self.testing)

    def policy(self, *, braked: bool, quarantined: Mapping[str, int] | None = None) -> Policy:
        """How harm is acted on, and whether a treatment may be armed again."""
        return Policy(self.dry_run, braked, self.hold, quarantined or {})

    def look(
        self,
        book: Book,
        edge: Edge,
        snapshot: Snapshot,
        *,
        allowed: int | None = None,
        stale: tuple[str, ...] = (),
    ) -> Outcome:
        """Everything that the look at `edge` changes.

        `allowed`: how many more rollbacks may be ordered before the brake is on; None without a brake.
        """
        looked = self._renewed(book, edge.at)
        outcome = Outcome(self.examiner.advance(looked, edge, snapshot))
        for treatment in self.experiment.treatments:
            happening = self.examiner.happening(outcome.book, edge, treatment, snapshot, stale)
            if happening is not None:
                # Orders that are only given once more are no new rollbacks.
                made = sum(decision.action == "rollback" for decision in outcome.decisions)
                braked = allowed is not None and made >= allowed
                outcome = self.apply(
                    outcome, treatment, happening, snapshot, braked=braked, looked=looked
                )
        return outcome

    def apply(
        self,
        outcome: Outcome,
        treatment: str,
        happening: Happening,
        snapshot: Snapshot,
        *,
        braked: bool = False,
        looked: Book | None = None,
    ) -> Outcome:
        """The outcome after something happened to one treatment.

        `looked`: the book before the look that found it, for what is kept with the decision.
        """
        book, at = outcome.book, happening.at
        before = book.standings.get(treatment, Standing(since=at))
        versions = quarantine.versions_of(snapshot, treatment)
        barred = quarantine.blocking(book, treatment, versions)
        policy = self.policy(braked=braked, quarantined=barred)
        made = transition(before, happening, policy)
        if made.refused is not None:
            return replace(outcome, refused={**outcome.refused, treatment: made.refused})
        decisions, orders, action = outcome.decisions, outcome.orders, made.action
        evidence = outcome.evidence
        if action is not None:
            name = f"{self.experiment.name}:{treatment}:{at}:{book.decisions + 1}"
            if made.orders or action == "would_roll_back":
                made = msgspec.structs.replace(made, standing=ordered(made.standing, name, at))
            found = self._decision(name, action, made, before, treatment, at, book, snapshot)
            rests_on = (happening, policy, snapshot, looked or book, book)
            if proof := evidence_of(self.declared, found, *rests_on):
                found = msgspec.structs.replace(found, evidence=proof[0])
                evidence = {**evidence, name: proof[1]}
            decision = seal(found, book.head)
            decisions += (decision,)
            if made.orders:
                serving = quarantine.lately(versions, at, before.begun)
                orders += (self._order(decision, book, serving),)
            book = bookkeeping.decided(book, decision)
            book = quarantine.after(book, decision, before, versions, barred)
        book = bookkeeping.stands(book, treatment, made.standing, at)
        return replace(outcome, book=book, decisions=decisions, orders=orders, evidence=evidence)

    def _renewed(self, book: Book, at: int) -> Book:
        """A new epoch when something else is tested than before."""
        same = book.settings == self.fingerprint
        return book if same else bookkeeping.begun_anew(book, self.fingerprint, at)

    def _decision(
        self,
        name: str,
        action: str,
        made: Transition,
        before: Standing,
        treatment: str,
        at: int,
        book: Book,
        snapshot: Snapshot,
    ) -> Decision:
        watermark = snapshot.watermark
        return Decision(
            id=name,
            action=action,
            experiment=self.experiment.name,
            treatment=treatment,
            at=at,
            reasons=made.reasons,
            state=made.standing.state,
            before=before.state,
            epoch=made.standing.epoch,
            actor=made.actor,
            settings=self.fingerprint,
            dry_run=self.dry_run,
            # A look sees nothing behind it, however far the data goes when it is made.
            watermark=None if watermark is None else min(watermark, at),
            judgements=book.judgements.get(treatment, {}),
            counts=self._counts(snapshot, before.begun, book.cohort_at or 0),
            phase=book.phase,
        )

    def _counts(self, snapshot: Snapshot, begun: int, until: int) -> dict[str, dict[str, int]]:
        """What had matured by the latest look at cohorts, and belongs to the epoch."""
        counts = {}
        for variant, facts in snapshot.variants.items():
            starts = (start for start in facts.cohorts if begun <= start < until)
            mature = total(facts.cohorts[start] for start in starts)
            confusion = confusion_of(mature, self.experiment)
            cells = {name: getattr(confusion, name).n for name in ("tp", "fp", "tn", "fn")}
            rest = {"predictions": mature.predictions, "errors": mature.errors}
            counts[variant] = cells | rest
        return counts

    def _order(self, decision: Decision, book: Book, versions: tuple[str, ...]) -> Order:
        evidence = {
            "judgements": msgspec.to_builtins(decision.judgements),
            "counts": decision.counts,
            "phase": msgspec.to_builtins(decision.phase),
            "settings": decision.settings,
            "watermark": decision.watermark,
        }
        return Order(
            id=decision.id,
            experiment=decision.experiment,
            treatment=decision.treatment,
            control=self.experiment.control,
            decided_at=decision.at,
            epoch=decision.epoch,
            split=split_without(book, decision.treatment, self.experiment.control),
            versions=versions,
            reasons=decision.reasons,
            evidence=evidence,
        )
