"""What decisions rest on, as it is stored with them. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from alerts.book import Decision
from alerts.deliberate import Deliberation, Outcome
from alerts.reasoning import Reasoning, unpacked


@dataclass(slots=True)
class Reasons:
    """Every decision that was made, and what those that rest on data rest on."""

    decisions: list[Decision] = field(default_factory=list)
    found: dict[str, Reasoning] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[Decision, Reasoning]]:
        """Decisions that rest on data, with it."""
        for decision in self.decisions:
            if decision.id in self.found:
                yield decision, self.found[decision.id]

    def of(self, action: str) -> tuple[Decision, Reasoning]:
        """The first decision that did `action`."""
        return next(pair for pair in self.pairs() if pair[0].action == action)


@contextmanager
def gathered() -> Iterator[Reasons]:
    """Everything that is decided while the context lasts."""
    reasons, apply = Reasons(), Deliberation.apply

    def applying(self: Deliberation, outcome: Outcome, *given: Any, **options: Any) -> Outcome:
        after = apply(self, outcome, *given, **options)
        for decision in after.decisions[len(outcome.decisions) :]:
            reasons.decisions.append(decision)
            if decision.id in after.evidence:
                reasons.found[decision.id] = unpacked(after.evidence[decision.id])
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deliberation, "apply", applying)
        yield reasons
