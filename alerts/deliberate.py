"""Deliberating: one look at one experiment, from its book to the next one, with decisions and orders. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from alerts.book import Book, Decision
from alerts.examine import Edge, Examiner
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.machine import (
    WATCHED,
    Happening,
    Policy,
    Standing,
    Transition,
    transition,
)
from alerts.order import Order
from metrics.compare import confusion_of
from metrics.experiment import Experiment
from metrics.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made: the next book, what people are told, and what actuators are asked."""

    book: Book
    decisions: tuple[Decision, ...] = ()
    orders: tuple[Order, ...] = ()


@dataclass(frozen=True, slots=True)
class Deliberation:
    """Judges one experiment; holds what was declared, no state."""

    experiment: Experiment
    guardrails: Sequence[Guardrail]
    hold: HoldOptions
    fingerprint: str
    dry_run: bool = False
    examiner: Examiner = field(init=False)

    def __post_init__(self) -> None:
        made = Examiner(self.experiment, self.guardrails, self.hold)
        object.__setattr__(self, "examiner", made)  # a frozen class has no other way

    def policy(self, *, braked: bool) -> Policy:
        """How harm is acted on."""
        deadline = None if self.hold.deadline is None else int(self.hold.deadline)
        return Policy(self.dry_run, braked, deadline)

    def look(
        self,
        book: Book,
        edge: Edge,
        snapshot: Snapshot,
        *,
        braked: bool = False,
        stale: tuple[str, ...] = (),
    ) -> Outcome:
        """Everything that the look at `edge` changes."""
        book = self.examiner.advance(self._renewed(book, edge.at), edge, snapshot)
        outcome = Outcome(book)
        for treatment in self.experiment.treatments:
            happening = self.examiner.happening(outcome.book, edge, treatment, snapshot, stale)
            if happening is not None:
                outcome = self.apply(outcome, treatment, happening, snapshot, braked=braked)
        return outcome

    def apply(
        self,
        outcome: Outcome,
        treatment: str,
        happening: Happening,
        snapshot: Snapshot,
        *,
        braked: bool = False,
    ) -> Outcome:
        """The outcome after something happened to one treatment."""
        book = outcome.book
        before = book.standings.get(treatment, Standing(since=happening.at))
        made = transition(before, happening, self.policy(braked=braked))
        standing = made.standing
        decisions, orders = outcome.decisions, outcome.orders
        number = book.decisions
        if made.action:
            number += 1
            name = f"{self.experiment.name}:{treatment}:{happening.at}:{number}"
            if made.action in {"rollback", "would_roll_back"}:
                changes = {"decision": name, "ordered_at": happening.at, "acted_at": None}
                standing = msgspec.structs.replace(standing, verified=None, **changes)
            decision = self._decision(name, made, before, treatment, happening.at, book, snapshot)
            decisions += (decision,)
            if made.action == "rollback":
                orders += (self._order(decision),)
        standings = {**book.standings, treatment: standing}
        fresh = msgspec.structs.replace(book, standings=standings, decisions=number)
        return Outcome(fresh, decisions, orders)

    def _renewed(self, book: Book, at: int) -> Book:
        """A new epoch when something else is tested than before; what was rolled back stays so."""
        if book.settings == self.fingerprint:
            return book
        standings = {
            treatment: Standing(since=at, epoch=standing.epoch + 1, paused=standing.paused)
            if standing.state in WATCHED
            else standing
            for treatment, standing in book.standings.items()
        }
        return msgspec.structs.replace(
            book, settings=self.fingerprint, standings=standings, phase=None, mismatched=False
        )

    def _decision(
        self,
        name: str,
        made: Transition,
        before: Standing,
        treatment: str,
        at: int,
        book: Book,
        snapshot: Snapshot,
    ) -> Decision:
        return Decision(
            id=name,
            action=made.action or "",
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
            watermark=snapshot.watermark,
            judgements=book.judgements.get(treatment, {}),
            counts=self._counts(snapshot),
        )

    def _counts(self, snapshot: Snapshot) -> dict[str, dict[str, int]]:
        counts = {}
        for variant, facts in snapshot.variants.items():
            confusion = confusion_of(facts.mature, self.experiment)
            cells = {name: getattr(confusion, name).n for name in ("tp", "fp", "tn", "fn")}
            rest = {"predictions": facts.total.predictions, "errors": facts.total.errors}
            counts[variant] = cells | rest
        return counts

    def _order(self, decision: Decision) -> Order:
        evidence = {
            "judgements": msgspec.to_builtins(decision.judgements),
            "counts": decision.counts,
            "settings": decision.settings,
            "watermark": decision.watermark,
        }
        return Order(
            id=decision.id,
            experiment=decision.experiment,
            treatment=decision.treatment,
            control=self.experiment.control,
            decided_at=decision.at,
            reasons=decision.reasons,
            evidence=evidence,
        )
