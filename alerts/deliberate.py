"""Deliberating: one look at one experiment, from its book to the next one, with decisions and orders. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from alerts.book import Book, Decision, Phase
from alerts.edges import Edge
from alerts.examine import Examiner
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.machine import Happening, Policy, Transition, transition
from alerts.order import Order
from alerts.phases import ended
from alerts.standing import WATCHED, Standing, State, renewed
from alerts.testing import DEFAULTS, Testing
from metrics.compare import confusion_of
from metrics.experiment import Experiment
from metrics.ledger import total
from metrics.snapshot import Snapshot


ROLLBACKS_KEPT = 100

_T = TypeVar("_T")


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
    testing: Testing = DEFAULTS
    examiner: Examiner = field(init=False)

    def __post_init__(self) -> None:
        made = Examiner(self.experiment, self.guardrails, self.hold, self.testing)
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
        allowed: int | None = None,
        stale: tuple[str, ...] = (),
    ) -> Outcome:
        """Everything that the look at `edge` changes.

        `allowed`: how many more rollbacks may be ordered before the brake is on; None without a brake.
        """
        book = self.examiner.advance(self._renewed(book, edge.at), edge, snapshot)
        outcome = Outcome(book)
        for treatment in self.experiment.treatments:
            happening = self.examiner.happening(outcome.book, edge, treatment, snapshot, stale)
            if happening is not None:
                braked = allowed is not None and len(outcome.orders) >= allowed
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
        book, at = outcome.book, happening.at
        before = book.standings.get(treatment, Standing(since=at))
        made = transition(before, happening, self.policy(braked=braked))
        name = f"{self.experiment.name}:{treatment}:{at}:{book.decisions + 1}"
        if made.action in {"rollback", "would_roll_back"}:
            fresh = {"decision": name, "ordered_at": at, "acted_at": None, "verified": None}
            ordered = msgspec.structs.replace(made.standing, **fresh)
            made = msgspec.structs.replace(made, standing=ordered)
        decisions, orders = outcome.decisions, outcome.orders
        if made.action is not None:
            decision = self._decision(
                name, made.action, made, before, treatment, at, book, snapshot
            )
            decisions += (decision,)
            if made.action == "rollback":
                orders += (self._order(decision),)
        fresh_book = _written(book, treatment, made, before, at)
        return Outcome(fresh_book, decisions, orders)

    def _renewed(self, book: Book, at: int) -> Book:
        """A new epoch when something else is tested than before; what was rolled back stays so."""
        if book.settings == self.fingerprint:
            return book
        over = WATCHED | {State.WOULD_ROLL_BACK}
        standings = {
            treatment: renewed(standing, at) if standing.state in over else standing
            for treatment, standing in book.standings.items()
        }
        return msgspec.structs.replace(
            book,
            settings=self.fingerprint,
            standings=standings,
            judgements={},
            evidence={},
            seen={},
            holds={},
            phase=_anew(book.phase, at),
            past=(),
            mismatched=(),
        )

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

    def _order(self, decision: Decision) -> Order:
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
            reasons=decision.reasons,
            evidence=evidence,
        )


def _written(book: Book, treatment: str, made: Transition, before: Standing, at: int) -> Book:
    """The book with what a transition made of one treatment."""
    book = msgspec.structs.replace(book, standings={**book.standings, treatment: made.standing})
    if made.standing.begun != before.begun:
        book = _forgotten(book, treatment, at)
    if made.action is None:
        return book
    mine = book.actions.get(treatment, {})
    counted = {**mine, made.action: mine.get(made.action, 0) + 1}
    ordered = (at,) if made.action == "rollback" else ()
    return msgspec.structs.replace(
        book,
        decisions=book.decisions + 1,
        actions={**book.actions, treatment: counted},
        rollbacks=(*book.rollbacks, *ordered)[-ROLLBACKS_KEPT:],
    )


def _forgotten(book: Book, treatment: str, at: int) -> Book:
    """The book without what was found about a treatment that begins anew."""

    def rest(known: Mapping[str, _T]) -> dict[str, _T]:
        return {name: found for name, found in known.items() if name != treatment}

    return msgspec.structs.replace(
        book,
        judgements=rest(book.judgements),
        evidence=rest(book.evidence),
        seen=rest(book.seen),
        holds=rest(book.holds),
        mismatched=tuple(name for name in book.mismatched if name != treatment),
        phase=_anew(book.phase, at),
        past=ended(book, at),
    )


def _anew(phase: Phase | None, at: int) -> Phase | None:
    """The phase with nothing counted yet; units that were seen before are not new for that."""
    return None if phase is None else phase.after(phase.split, at)
