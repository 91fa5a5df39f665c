"""The story of a demo run: what the defect cost, and what it would have cost. Pure.

Customers' truths are real, so what any model would have earned from any customer is known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abmonitor.demo.offers import Decision, Offer
from abmonitor.demo.router import Router
from abmonitor.view import ExperimentView
from alerts.book import Decision as Rollback
from metrics.experiment import Profitability


@dataclass(frozen=True, slots=True)
class Story:
    """Money in the currency of the settings; all losses against the control."""

    defect_at: int
    """The first customer for whom the treatment was broken."""
    rolled_back_at: int | None
    """The first customer after the rollback."""
    customers: int
    bad_predictions: int
    """What the broken treatment decided before it was stopped."""
    lost: float
    would_have_been_lost: float
    verified: bool | None
    reasons: tuple[str, ...]
    false_alarms: float | None = None
    """At most this share of treatments whose harm is tolerated is ever rolled back by evidence such as
    this; None where a threshold was breached, of which nobody knows."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "defect_at_customer": self.defect_at,
            "rolled_back_at_customer": self.rolled_back_at,
            "customers": self.customers,
            "bad_predictions": self.bad_predictions,
            "lost": round(self.lost, 2),
            "would_have_been_lost": round(self.would_have_been_lost, 2),
            "saved": round(self.would_have_been_lost - self.lost, 2),
            "verified": self.verified,
            "reasons": list(self.reasons),
            "false_alarms": self.false_alarms,
        }


def tell(
    offers: Sequence[Offer], router: Router, view: ExperimentView, economics: Profitability
) -> Story:
    """The story so far. Raises ValueError unless unit revenue and unit cost are declared."""
    revenue, cost = economics.unit_revenue, economics.unit_cost
    if revenue is None or cost is None:
        raise ValueError("expected unit_revenue and unit_cost: a story is told in money")

    def earned(decision: Decision, offer: Offer) -> float:
        return (revenue * offer.accepted - cost) if decision.call else 0.0

    affected = [
        offer for offer in offers[router.defect_at :] if router.assigned(offer) == router.treatment
    ]
    losses = [earned(offer.control, offer) - earned(offer.defect, offer) for offer in affected]
    stopped = router.rolled_back_at
    before = [stopped is None or offer.number < stopped for offer in affected]
    standing = view.book.standings.get(router.treatment)
    rollbacks = [decision for decision in view.decisions if decision.action == "rollback"]
    return Story(
        router.defect_at,
        stopped,
        len(offers),
        sum(before),
        sum(loss for loss, was in zip(losses, before, strict=True) if was),
        sum(losses),
        standing.verified if standing else None,
        rollbacks[-1].reasons if rollbacks else (),
        view.experiment.testing.alpha if rollbacks and _proven(rollbacks[-1]) else None,
    )


def _proven(rollback: Rollback) -> bool:
    """Whether every reason of a rollback is that of a sequential guardrail."""
    proofs = {found.reason for found in rollback.judgements.values() if found.evidence is not None}
    return proofs.issuperset(rollback.reasons)
