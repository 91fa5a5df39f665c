"""The books of all experiments in one monitor: read, written under its leases, and brought back where they got lost."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from abmonitor.journal import Journal, Remembered
from alerts.actuators.flag_definition import Off
from alerts.book import Book, Decision
from alerts.deliberate import Outcome
from alerts.lease import Leases
from alerts.order import Order
from alerts.standing import ACTING, Standing, State
from alerts.store import AlertStore, StaleBookError, TakenOverError


logger = logging.getLogger(__name__)

DECISIONS_SHOWN = 100

LOST = "its state is not in Redis, and not to be had elsewhere: "
NOT_READ = "the control log is being read"
RECALL_S = 0.3
"""How long a tick waits for the control log."""
AGAIN_S = 2.0
"""After it could not be read, how long until it is tried again."""


@dataclass(slots=True)
class Books:
    """What judgement remembers, as this monitor knows it."""

    store: AlertStore
    leases: Leases | None = None
    """None where there is only one monitor, in the process that also counts."""
    journal: Journal | None = None
    """None where the store is all there is."""
    switched_off: Callable[[str], Awaitable[Mapping[str, Off]]] | None = None
    """Tells which treatments of an experiment are off in what this monitor steers itself."""
    known: dict[str, Book] = field(default_factory=dict)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The newest decisions, oldest first."""
    orders: dict[str, dict[str, Order]] = field(default_factory=dict)
    """By experiment, the newest order about each treatment that this monitor knows of."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Experiments that nobody may judge, because their state got lost and cannot be brought back yet; why."""
    _recalling: "asyncio.Task[dict[str, Remembered]] | None" = None
    _not_before: float = 0.0
    _looked_up: set[str] = field(default_factory=set)
    """Experiments without a book of which the control log was asked."""

    def leads(self, name: str) -> bool:
        """Whether this monitor judges the experiment, and acts."""
        return self.leases is None or self.leases.token(name) is not None

    async def refresh(self, names: Iterable[str]) -> None:
        """Read the books: somebody else, such as a person, may have changed them since the last time."""
        before = {name: self.known.get(name, Book()) for name in names}
        after = await self.store.refresh(before)
        for name, book in after.items():
            if not book.version:
                await self._find(name, before[name])
            elif name not in self.known or book is not before[name]:
                await self._read(name, book)
        if not self.unknown:
            self._recalling = None  # what was read may be large, and is not needed again

    async def reload(self, name: str) -> None:
        """Read one book again; one that the store has lost meanwhile comes back."""
        book = await self.store.load(name)
        if book.version:
            await self._read(name, book)
        else:
            await self._find(name, self.known.get(name, Book()))

    async def _read(self, name: str, book: Book) -> None:
        self.unknown.pop(name, None)
        self.known[name] = book
        self.decisions[name] = await self.store.decisions(name, DECISIONS_SHOWN)
        if any(standing.state in ACTING for standing in book.standings.values()):
            self._note_orders(name, await self.store.outbox(name))

    def _note_orders(self, name: str, orders: Iterable[Order]) -> None:
        self.orders.setdefault(name, {}).update({order.treatment: order for order in orders})

    async def _find(self, name: str, before: Book) -> None:
        """The book of an experiment of which the store knows nothing: a new one, or one that got lost."""
        if before.version:
            orders = tuple(self.orders.get(name, {}).values())
            found = Remembered(before, tuple(self.decisions[name]), orders=orders)
            await self._put_back(name, found, "memory")
            return
        if name not in self._looked_up:
            try:
                recalled = await self._recall(name)
                fresh = await self._fresh(name) if recalled is None else Book()
            except Exception as error:  # noqa: BLE001  # whatever fails, nothing may be judged until it works
                self._hold(name, str(error))
                return
            if recalled is not None:
                await self._put_back(name, recalled, "the control log")
                return
            self._looked_up.add(name)
            self.known[name] = fresh
        self.unknown.pop(name, None)
        self.known.setdefault(name, Book())
        self.decisions.setdefault(name, [])

    async def _fresh(self, name: str) -> Book:
        """The first book; what is switched off stays so until a person says otherwise."""
        off = await self.switched_off(name) if self.switched_off else {}
        standings = {
            treatment: Standing(
                state=State.ROLLED_BACK,
                since=why.at,
                epoch=why.epoch,
                decision=why.decision,
                ordered_at=why.at,
                acted_at=why.at,
                verified=False,
            )
            for treatment, why in off.items()
        }
        return Book(standings=standings)

    async def _recall(self, name: str) -> Remembered | None:
        """What the control log has of an experiment. It is read aside: others are judged meanwhile."""
        if self.journal is None:
            return None
        if self._recalling is None:
            if time.monotonic() < self._not_before:
                raise OSError(self.unknown.get(name, NOT_READ))
            self._recalling = asyncio.ensure_future(self.journal.recall())
        await asyncio.wait({self._recalling}, timeout=RECALL_S)
        if not self._recalling.done():
            raise OSError(NOT_READ)
        try:
            return self._recalling.result().get(name)
        except Exception:
            self._recalling, self._not_before = None, time.monotonic() + AGAIN_S
            raise

    def _hold(self, name: str, error: str) -> None:
        why = error if error.startswith(LOST) else f"{LOST}{error}"
        if self.unknown.get(name) != why:
            logger.warning("%s: held: %s", name, why)
        self.unknown[name] = why
        self.known[name], self.decisions[name] = Book(), []

    async def _put_back(self, name: str, found: Remembered, source: str) -> None:
        token = self.leases.token(name) if self.leases else None
        if not self.leads(name):
            return  # whoever leads does it
        open_ = {each.decision for each in found.book.standings.values() if each.state in ACTING}
        try:
            book = await self.store.put_back(
                name,
                found.book,
                found.decisions,
                found.evidence,
                [order for order in found.orders if order.id in open_],
                token,
            )
        except StaleBookError:  # somebody was faster
            return
        logger.warning("%s: the store had lost its state; it came back from %s", name, source)
        await self._read(name, book)

    async def save(self, name: str, outcome: Outcome, settled: tuple[str, ...] = ()) -> None:
        """Write down what was decided, all or nothing, and then in the control log, too.

        Raises StaleBookError where somebody else was faster, or has taken over.
        """
        token = self.leases.token(name) if self.leases else None
        if not self.leads(name):
            raise TakenOverError(f"{name}: the lease is lost")
        try:
            await self._write(name, outcome, settled, token)
        except TakenOverError:
            if self.leases is not None:
                self.leases.drop(name)
            raise

    async def save_command(self, name: str, outcome: Outcome) -> None:
        """Write down a person's word: that needs no lease. Raises StaleBookError as `save` does."""
        await self._write(name, outcome, (), None)

    async def _write(
        self, name: str, outcome: Outcome, settled: tuple[str, ...], token: int | None
    ) -> None:
        book = await self.store.save(
            name,
            outcome.book,
            decisions=outcome.decisions,
            orders=outcome.orders,
            settled=settled,
            evidence=outcome.evidence,
            fence=token,
        )
        self.known[name] = book
        self._note_orders(name, outcome.orders)
        shown = [*self.decisions.get(name, ()), *outcome.decisions]
        self.decisions[name] = shown[-DECISIONS_SHOWN:]
        await self.note(name)

    async def note(self, name: str) -> None:
        """Write into the control log what is not in it yet, where this monitor leads; raises nothing."""
        book = self.known[name]
        if self.journal is not None and self.leads(name) and book.version:
            await self.journal.note(name, book)

    def held(self, name: str, treatments: Iterable[str]) -> Book:
        """The book to show: of an experiment whose state is not known, that it holds, and why."""
        if name not in self.unknown:
            return self.known[name]
        why = (self.unknown[name],)
        standing = Standing(state=State.HOLD, causes=why)
        return msgspec.structs.replace(
            self.known[name], standings=dict.fromkeys(treatments, standing)
        )
