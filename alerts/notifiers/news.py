"""What notifiers are told, and what every notifier must do."""

from dataclasses import dataclass
from typing import Protocol

from alerts.book import Decision
from alerts.order import Receipt
from alerts.standing import Standing


@dataclass(frozen=True, slots=True)
class Situation:
    """How one treatment stands, with what was decided about it lately."""

    experiment: str
    treatment: str
    standing: Standing
    noticed: int
    """When its state was first seen (epoch ms of the monitor's clock); `standing.since` where it was found so."""
    decisions: tuple[Decision, ...] = ()
    """About this treatment, oldest first."""

    def decided(self, action: str) -> Decision | None:
        """The newest decision of this kind in the current state; None where there is none."""
        since = self.standing.since
        found = (d for d in reversed(self.decisions) if d.action == action and d.at >= since)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class News:
    """What a notifier is told at once: one decision, or how everything stands."""

    at: int
    """Epoch ms of the monitor's clock."""
    decision: Decision | None = None
    situations: tuple[Situation, ...] = ()


class Notifier(Protocol):
    """Tells people somewhere. Never raises, and its receipts hold no secrets."""

    @property
    def every_s(self) -> float | None:
        """Seconds after which it is told again how everything stands; None: it is told each decision."""
        ...

    async def notify(self, news: News) -> Receipt | None:
        """Pass the news on, once; None where there was nothing to pass on."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
