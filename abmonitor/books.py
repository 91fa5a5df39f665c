"""The books of all experiments in one monitor: read, written under its leases, and brought back where they got lost."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from abmonitor.journal import Journal, Remembered
from abmonitor.restoring import NotKnownError, Restoring
from alerts.book import Book, Decision
from alerts.causes import LOST, UNREADABLE
from alerts.deliberate import Outcome
from alerts.lease import Leases
from alerts.order import Order
from alerts.outbox import is_open
from alerts.standing import Standing, State
from alerts.store import AlertStore, StaleBookError, TakenOverError


logger = logging.getLogger(__name__)

DECISIONS_SHOWN = 100


class UnknownStateError(Exception):
    """What an experiment remembers is lost and not back yet: nothing may be written over it."""


@dataclass(slots=True)
class Books:
    """What judgement remembers, as this monitor knows it."""

    store: AlertStore
    leases: Leases | None = None
    """None where there is only one monitor, in the process that also counts."""
    journal: Journal | None = None
    """None where the store is all there is."""
    restoring: Restoring = field(default_factory=Restoring)
    known: dict[str, Book] = field(default_factory=dict)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The newest decisions, oldest first."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Experiments that nobody may judge, because their state got lost and cannot be brought back yet; why."""
    _orders: dict[str, dict[str, Order]] = field(default_factory=dict)
    """By experiment, the newest order about each treatment that this monitor knows of."""

    def leads(self, name: str) -> bool:
        """Whether this monitor judges the experiment, and acts."""
        return self.leases is None or self.leases.token(name) is not None

    async def refresh(self, names: Iterable[str]) -> None:
        """Read the books: somebody else, such as a person, may have changed them since the last time."""
        before = {name: self.known.get(name, Book()) for name in names}
        for name, found in (await self.store.refresh(before)).items():
            await self._take(name, found)
        if not self.unknown:
            self.restoring.forget()

    async def reload(self, name: str) -> None:
        """Read one book again; one that the store has lost meanwhile comes back."""
        for found in (await self.store.refresh({name: Book(version=-1)})).values():
            await self._take(name, found)

    async def stored(self, names: Iterable[str]) -> list[Book]:
        """The books as they are in the store now, to be read only; what it has lost, as it is known here."""
        known = {name: self.known.get(name, Book(version=-1)) for name in names}
        found = await self.store.refresh(known)
        return [
            book
            if isinstance(book, Book) and book.decisions >= known[name].decisions
            else known[name]
            for name, book in found.items()
        ]

    async def _take(self, name: str, found: Book | msgspec.MsgspecError) -> None:
        """Take what the store holds for true, unless it has lost something."""
        before = self.known.get(name, Book())
        if not isinstance(found, Book):
            self._hold(name, f"{UNREADABLE}{found}")
        elif found.decisions < before.decisions:
            # Lost, or older than what is known: after a failover, or from an old copy.
            await self._put_back_mine(name, before, found.version)
        elif not found.version:
            await self._find(name, before)
        elif name not in self.known or name in self.unknown or found is not before:
            await self._read(name, found)

    async def _read(self, name: str, book: Book) -> None:
        self.decisions[name] = await self.store.decisions(name, DECISIONS_SHOWN)
        if any(map(is_open, book.standings.values())):
            self._note_orders(name, await self.store.outbox(name))
        self.unknown.pop(name, None)
        self.known[name] = book

    def _note_orders(self, name: str, orders: Iterable[Order]) -> None:
        self._orders.setdefault(name, {}).update({order.treatment: order for order in orders})

    async def _put_back_mine(self, name: str, mine: Book, version: int) -> None:
        orders = tuple(self._orders.get(name, {}).values())
        kept = Remembered(book=mine, decisions=tuple(self.decisions[name]), orders=orders)
        await self._put_back(name, await self.restoring.memory(name, kept), version, "memory")

    async def _find(self, name: str, before: Book) -> None:
        """The book of an experiment of which the store knows nothing: a new one, or one that got lost."""
        if before.version:
            await self._put_back_mine(name, before, 0)
            return
        try:
            found = await self.restoring.elsewhere(name)
        except NotKnownError as error:
            self._hold(name, f"{LOST}{error}")
            return
        if isinstance(found, Remembered):
            await self._put_back(name, found, 0, "the control log")
            return
        self.unknown.pop(name, None)
        # One that was judged before, and had nothing to remember, is as good.
        self.known[name] = before if before.standings else found
        self.decisions.setdefault(name, [])

    def _hold(self, name: str, why: str) -> None:
        if self.unknown.get(name) != why:
            logger.warning("%s: held: %s", name, why)
        self.unknown[name] = why
        self.known.setdefault(name, Book())
        self.decisions.setdefault(name, [])

    async def _put_back(self, name: str, found: Remembered, version: int, source: str) -> None:
        if not self.leads(name):
            return  # whoever leads does it
        token = self.leases.token(name) if self.leases else None
        open_ = {each.decision for each in found.book.standings.values() if is_open(each)}
        try:
            book = await self.store.put_back(
                name,
                found.book,
                version,
                decisions=found.decisions,
                evidence=found.evidence,
                orders=[order for order in found.orders if order.id in open_],
                fence=token,
            )
        except StaleBookError:  # somebody was faster
            return
        logger.warning("%s: the store had lost its state; it came back from %s", name, source)
        self.known.pop(name, None)  # what is stored is no older
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

    def check_known(self, name: str) -> None:
        """Raises UnknownStateError where nothing may be written."""
        if name in self.unknown:
            raise UnknownStateError(f"{name}: {self.unknown[name]}")

    async def _write(
        self, name: str, outcome: Outcome, settled: tuple[str, ...], token: int | None
    ) -> None:
        self.check_known(name)
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
        for each in outcome.decisions:
            told = (name, each.treatment, each.action, each.before, each.state, each.actor)
            logger.info("%s: %s: %s (%s -> %s) by %s: %s", *told, "; ".join(each.reasons))
        self._note_orders(name, outcome.orders)
        shown = [*self.decisions.get(name, ()), *outcome.decisions]
        self.decisions[name] = shown[-DECISIONS_SHOWN:]
        await self.note(name)

    async def note(self, name: str) -> None:
        """Write into the control log what is not in it yet, where this monitor leads; raises nothing."""
        book = self.known.get(name, Book())
        if self.journal is not None and book.version and name not in self.unknown:
            await self.journal.note(name, book, lambda: self.leads(name))

    def held(self, name: str, treatments: Iterable[str]) -> Book:
        """The book to show: of an experiment whose state is not known, that it holds, and why."""
        if name not in self.unknown:
            return self.known[name]
        why = (self.unknown[name],)
        standing = Standing(state=State.HOLD, causes=why)
        return msgspec.structs.replace(
            self.known[name], standings=dict.fromkeys(treatments, standing)
        )
