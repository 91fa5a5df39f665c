"""The courier: orders are carried out, and their effect read back, side by side; nobody waits for a slow one."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher


Answer = Receipt | Verification
"""What an actuator said: how carrying out an order went, or what it read back."""


@dataclass(slots=True)
class Courier:
    """Hands orders to the actuators of their experiments, one errand an order at a time."""

    dispatchers: Mapping[str, Dispatcher]
    """By experiment."""
    patience: float | None = None
    """Seconds to wait for an errand before going on without its answer; None: as long as it takes."""
    _errands: dict[str, asyncio.Task[Answer | None]] = field(default_factory=dict)
    """By order."""

    async def carry_out(self, orders: Sequence[Order]) -> dict[str, Answer]:
        """Begin to carry out what is not under way; answers by order, of this call or an earlier one."""
        return await self._run(orders, lambda order: self._of(order).attempt(order))

    async def read_back(self, orders: Sequence[Order]) -> dict[str, Answer]:
        """Ask the actuators whether the orders took effect, as `carry_out` does."""
        return await self._run(orders, lambda order: self._of(order).verify(order))

    def _of(self, order: Order) -> Dispatcher:
        return self.dispatchers[order.experiment]

    async def _run(
        self,
        orders: Sequence[Order],
        begin: Callable[[Order], Coroutine[Any, Any, Answer | None]],
    ) -> dict[str, Answer]:
        for order in orders:
            if order.id not in self._errands:
                self._errands[order.id] = asyncio.ensure_future(begin(order))
        errands = {order.id: self._errands[order.id] for order in orders}
        if not errands:
            return {}
        done, _ = await asyncio.wait(errands.values(), timeout=self.patience)
        answers = {}
        for name, errand in errands.items():
            if errand in done:
                del self._errands[name]
                answer = errand.result()
                if answer is not None:
                    answers[name] = answer
        return answers

    def forget(self, order_id: str) -> None:
        """Leave an order alone: it is settled."""
        errand = self._errands.pop(order_id, None)
        if errand is not None:
            errand.cancel()
        for dispatcher in self.dispatchers.values():
            dispatcher.forget(order_id)

    async def close(self) -> None:
        """Leave everything that is under way."""
        errands = list(self._errands.values())
        self._errands.clear()
        for errand in errands:
            errand.cancel()
        await asyncio.gather(*errands, return_exceptions=True)
