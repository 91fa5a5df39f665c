"""The courier: orders are carried out, and their effect read back, side by side; nobody waits for a slow one."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher


Answer = Receipt | Verification
"""What an actuator said: how carrying out an order went, or what it read back."""


class _Kind(Enum):
    ATTEMPT = auto()
    READ_BACK = auto()


class _Errand(NamedTuple):
    """What an errand is about: the answer to one kind is none to the other."""

    experiment: str
    order: str
    kind: _Kind


@dataclass(slots=True)
class Courier:
    """Hands orders to the actuators of their experiments, one errand of a kind an order at a time."""

    dispatchers: Mapping[str, Dispatcher]
    """By experiment."""
    patience: float | None = None
    """Seconds to wait for an errand before going on without its answer; None: as long as it takes."""
    _errands: dict[_Errand, asyncio.Task[Answer | None]] = field(default_factory=dict)

    async def carry_out(self, orders: Sequence[Order]) -> dict[str, Answer]:
        """Begin to carry out what is not under way; answers by order, of this call or an earlier one."""
        kind = _Kind.ATTEMPT
        answers = await self._run(orders, kind, lambda order: self._of(order).attempt(order))
        for order in orders:
            answer = answers.get(order.id)
            if isinstance(answer, Receipt) and answer.accepted:
                # What is still being read back was asked for before that.
                self._drop(_Errand(order.experiment, order.id, _Kind.READ_BACK))
        return answers

    async def read_back(self, orders: Sequence[Order]) -> dict[str, Answer]:
        """Ask the actuators whether the orders took effect, as `carry_out` does."""
        kind = _Kind.READ_BACK
        return await self._run(orders, kind, lambda order: self._of(order).verify(order))

    def _of(self, order: Order) -> Dispatcher:
        return self.dispatchers[order.experiment]

    async def _run(
        self,
        orders: Sequence[Order],
        kind: _Kind,
        begin: Callable[[Order], Coroutine[Any, Any, Answer | None]],
    ) -> dict[str, Answer]:
        errands = {}
        for order in orders:
            errand = _Errand(order.experiment, order.id, kind)
            if errand not in self._errands:
                self._errands[errand] = asyncio.ensure_future(begin(order))
            errands[errand] = self._errands[errand]
        if not errands:
            return {}
        done, _ = await asyncio.wait(errands.values(), timeout=self.patience)
        answers = {}
        for errand, task in errands.items():
            if task in done and self._errands.get(errand) is task:  # not dropped meanwhile
                del self._errands[errand]
                answer = task.result()
                if answer is not None:
                    answers[errand.order] = answer
        return answers

    def forget(self, order_id: str) -> None:
        """Leave an order alone: it is settled."""
        for errand in [each for each in self._errands if each.order == order_id]:
            self._drop(errand)
        for dispatcher in self.dispatchers.values():
            dispatcher.forget(order_id)

    def leave(self, experiment: str) -> None:
        """Leave all orders of an experiment alone: somebody else carries them out now.

        What an actuator still answers is not told, for it may be older than what the other one writes.
        """
        for errand in [each for each in self._errands if each.experiment == experiment]:
            self._drop(errand)
        if experiment in self.dispatchers:
            self.dispatchers[experiment].forget_all()

    def _drop(self, errand: _Errand) -> None:
        task = self._errands.pop(errand, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Leave everything that is under way."""
        tasks = list(self._errands.values())
        self._errands.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
