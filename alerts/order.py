"""An order to act, the receipt for carrying it out, and who can do so."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision asks an actuator to do; `id` makes carrying it out twice harmless."""

    id: str
    experiment: str
    treatment: str
    control: str
    action: str = "rollback"
    decided_at: int
    """Epoch milliseconds of the look that decided."""
    epoch: int = 1
    """The treatment's life that the order belongs to."""
    split: dict[str, float] = msgspec.field(default_factory=dict)
    """The shares of the traffic that are intended once it is carried out; empty where nobody knows."""
    versions: tuple[str, ...] = ()
    """Versions of the treatment that were seen lately."""
    reasons: tuple[str, ...] = ()
    evidence: dict[str, object] = msgspec.field(default_factory=dict)
    dry_run: bool = False


class Verification(StrEnum):
    """What an actuator can say about the world after an order."""

    DONE = "done"
    PENDING = "pending"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one attempt to carry out an order went.

    `retry` tells a failure that may pass (a time-out, a 503) from one that will not (a 401);
    `retry_after` is the wait in seconds that the other side asked for.
    """

    accepted: bool
    detail: str
    retry: bool = False
    retry_after: float | None = field(default=None)


class Actuator(Protocol):
    """Something that moves traffic. Both calls are idempotent by `order.id` and never raise."""

    async def apply(self, order: Order) -> Receipt:
        """Carry out the order."""
        ...

    async def verify(self, order: Order) -> Verification:
        """Read back whether the order took effect, where that can be read."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
