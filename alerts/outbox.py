"""The outbox: which orders are still to be carried out, and handing them to an actuator with patience."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from alerts.actuators.patience import CircuitBreaker, backoff
from alerts.order import Actuator, Order, Receipt, Verification
from alerts.standing import ACTING, Standing, State


LONGEST_ATTEMPT = 90.0
"""Seconds after which an actuator that does not answer is left, and asked anew."""

READ_BACK_EVERY = 2.0
"""Seconds between two questions whether an order took effect."""


class Fate(Enum):
    """What is to be done about an order in the outbox."""

    CARRY_OUT = auto()
    WAIT = auto()
    """It was accepted, and it is not known yet whether the world followed."""
    SETTLED = auto()
    """It took effect, or is void: another decision has taken its place."""


def is_open(standing: Standing) -> bool:
    """Whether the order about a treatment at `standing` is still to be carried out, or watched.

    Also where the traffic went away by itself, until an actuator has taken the order: somebody may
    put it back, and nothing else keeps it away.
    """
    untaken = standing.state is State.ROLLED_BACK and standing.acted_at is None
    return untaken or standing.state in ACTING


def fate(order: Order, standing: Standing) -> Fate:
    """What is to be done about `order`, with its treatment at `standing`.

    An order stays until it was accepted and its effect was seen; so one that was accepted without
    effect is sent again, and one whose traffic somebody moved by hand still reaches the actuator.
    """
    if standing.decision != order.id or not is_open(standing):
        return Fate.SETTLED
    return Fate.WAIT if standing.state is State.VERIFYING else Fate.CARRY_OUT


@dataclass(slots=True)
class _Attempts:
    """How often an order was tried, and when it may be tried again (s of the dispatcher's clock)."""

    made: int = 0
    not_before: float = 0.0
    asked_after: float = 0.0
    """When its effect may be asked for again."""


@dataclass(slots=True)
class Dispatcher:
    """Carries out the orders of one experiment.

    What it remembers is only for patience: after a restart every order in the outbox is tried at once,
    which does no harm, because carrying out an order twice does none.
    """

    actuator: Actuator
    clock: Callable[[], float]
    """Monotonic seconds."""
    chance: Callable[[], float] = random.random
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    longest: float = LONGEST_ATTEMPT
    _attempts: dict[str, _Attempts] = field(default_factory=dict)

    async def attempt(self, order: Order) -> Receipt | None:
        """Try to carry out `order`; None when it is not yet time to. Never raises.

        Also one that was accepted is tried again only after a wait.
        """
        attempts = self._attempts.setdefault(order.id, _Attempts())
        now = self.clock()
        if now < attempts.not_before or not self.breaker.allows(now):
            return None
        receipt = await self._apply(order)
        now = self.clock()
        self.breaker.record(receipt.accepted or not receipt.retry, now)
        wait = max(backoff(attempts.made, self.chance), receipt.retry_after or 0.0)
        attempts.made, attempts.not_before = attempts.made + 1, now + wait
        return receipt

    async def verify(self, order: Order) -> Verification | None:
        """Whether `order` took effect; None when it is not yet time to ask again. Never raises."""
        attempts = self._attempts.setdefault(order.id, _Attempts())
        if self.clock() < attempts.asked_after:
            return None
        try:
            async with asyncio.timeout(self.longest):
                return await self.actuator.verify(order)
        except Exception:  # noqa: BLE001  # an actuator is anybody's; what it cannot say is not known
            return Verification.PENDING
        finally:
            attempts.asked_after = self.clock() + READ_BACK_EVERY

    async def _apply(self, order: Order) -> Receipt:
        """What the actuator says, also if it breaks its word to never raise and to answer."""
        try:
            async with asyncio.timeout(self.longest):
                return await self.actuator.apply(order)
        except TimeoutError:
            why = f"no answer within {self.longest:g} s"
        except Exception as error:  # noqa: BLE001  # an actuator is anybody's, and orders must not be lost
            why = f"raised {type(error).__name__}"
        return Receipt(accepted=False, detail=f"{type(self.actuator).__name__} {why}", retry=True)

    def forget(self, order_id: str) -> None:
        """Remember nothing of an order that is settled."""
        self._attempts.pop(order_id, None)

    def forget_all(self) -> None:
        """Remember nothing of any order: each is tried at once when it is to be carried out again."""
        self._attempts.clear()
