"""The outbox: hands orders to an actuator until it takes them, with patience."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from alerts.actuators.patience import CircuitBreaker, backoff
from alerts.order import Actuator, Order, Receipt


@dataclass(slots=True)
class _Attempts:
    """How often an order was tried, and when it may be tried again (s of the dispatcher's clock)."""

    made: int = 0
    not_before: float = 0.0


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
    _attempts: dict[str, _Attempts] = field(default_factory=dict)

    async def attempt(self, order: Order) -> Receipt | None:
        """Try to carry out `order`; None when it is not yet time to."""
        attempts = self._attempts.setdefault(order.id, _Attempts())
        now = self.clock()
        if now < attempts.not_before or not self.breaker.allows(now):
            return None
        receipt = await self.actuator.apply(order)
        now = self.clock()
        self.breaker.record(receipt.accepted or not receipt.retry, now)
        if receipt.accepted:
            del self._attempts[order.id]
        else:
            wait = max(backoff(attempts.made, self.chance), receipt.retry_after or 0.0)
            attempts.made, attempts.not_before = attempts.made + 1, now + wait
        return receipt
