"""The books of all experiments in one monitor: read, written under its leases, and brought back where they got lost."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from abmonitor.journal import Journal, Remembered
from alerts.book import Book, Decision
from alerts.deliberate import Outcome
from alerts.lease import Leases
from alerts.standing import Standing, State
from alerts.store import AlertStore, StaleBookError, TakenOverError


logger = logging.getLogger(__name__)

DECISIONS_SHOWN = 100


@dataclass(slots=True)
class Books:
    """What judgement remembers, as this monitor knows it."""

    store: AlertStore
    leases: Leases | None = None
    """None where there is only one monitor, in the process that also counts."""
    journal: Journal | None = None
    """None where the store is all there is."""
    switched_off: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By experiment, treatments that are off in what this monitor steers itself, and by which decision."""
    known: dict[str, Book] = field(default_factory=dict)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The newest decisions, oldest first."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Experiments that nobody may judge, because their state got lost and cannot be brought back yet; why."""
    _recalled: Mapping[str, Remembered] | None = None
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
        self._recalled = None  # it may be large, and is not needed again

    async def reload(self, name: str) -> None:
        """Read one book again."""
        await self._read(name, await self.store.load(name))

    async def _read(self, name: str, book: Book) -> None:
        self.unknown.pop(name, None)
        self.known[name] = book
        self.decisions[name] = await self.store.decisions(name, DECISIONS_SHOWN)

    async def _find(self, name: str, before: Book) -> None:
        """The book of an experiment of which the store knows nothing: a new one, or one that got lost."""
        if before.version:
            await self._put_back(name, Remembered(before, tuple(self.decisions[name])), "memory")
            return
        if name not in self._looked_up:
            try:
                found = await self._recall(name)
            except Exception as error:  # noqa: BLE001  # whatever fails, nothing may be judged until it works
                self._hold(name, f"its state cannot be read from the control log: {error}")
                return
            if found is not None:
                await self._put_back(name, found, "the control log")
                return
            self._looked_up.add(name)
        self.unknown.pop(name, None)
        self.known.setdefault(name, self._fresh(name))
        self.decisions.setdefault(name, [])

    def _fresh(self, name: str) -> Book:
        """The first book; what is switched off stays so until a person says otherwise."""
        off = {
            treatment: Standing(state=State.ROLLED_BACK, decision=decision, verified=False)
            for treatment, decision in self.switched_off.get(name, {}).items()
        }
        return Book(standings=off)

    async def _recall(self, name: str) -> Remembered | None:
        if self.journal is None:
            return None
        if self._recalled is None:
            self._recalled = await self.journal.recall()
        return self._recalled.get(name)

    def _hold(self, name: str, why: str) -> None:
        if self.unknown.get(name) != why:
            logger.warning("%s: held: %s", name, why)
        self.unknown[name] = why
        self.known[name], self.decisions[name] = Book(), []

    async def _put_back(self, name: str, found: Remembered, source: str) -> None:
        token = self.leases.token(name) if self.leases else None
        if not self.leads(name):
            return  # whoever leads does it
        try:
            book = await self.store.put_back(
                name, found.book, found.decisions, found.evidence, token
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
