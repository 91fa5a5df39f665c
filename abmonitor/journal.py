"""The journal: what was decided goes to the control log before it is acted on, and comes back from it."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from alerts.book import Book, Decision
from alerts.order import Order
from alerts.store import AlertStore


logger = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""How long an action waits for the control log: a rollback lowers a risk, and no outage of a log may stop it."""

PAUSE_S = 5.0
"""After a failure nobody waits for it for so long."""


class Log(Protocol):
    """The control log; see `abmonitor.control_log.ControlLog`."""

    async def publish(self, entries: "list[tuple[str, bytes]]") -> None:
        """Write entries in order; raises where they are not safe."""
        ...

    async def read(self) -> Mapping[str, bytes]:
        """The newest value of each key."""
        ...


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the control log holds of one experiment."""

    book: Book
    decisions: tuple[Decision, ...] = ()
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    """The newest order about each treatment, carried out or not."""


class Journal:
    """Keeps the control log of one deployment up to date."""

    def __init__(self, log: Log, store: AlertStore) -> None:
        self._log, self._store = log, store
        self._logged: dict[str, int] = {}
        """How many decisions of each experiment are in the log."""
        self._written: dict[str, Book] = {}
        self._noted: dict[str, Book] = {}
        """The books as they were when they were last looked at."""
        self._not_before = 0.0
        self.problem: str | None = None
        """Why the log is behind, None when it is not."""

    async def note(self, name: str, book: Book) -> None:
        """Write down what of `book` is not in the log yet; waits a little, raises nothing.

        What could not be written is written at the next call.
        """
        if self._noted.get(name) is book or time.monotonic() < self._not_before:
            return
        kept = remembered(book)
        if self._written.get(name) != kept:
            try:
                await self._write(name, book, kept)
            except Exception as error:  # noqa: BLE001  # whatever fails: it shows, and is tried again
                self._failed("no answer" if isinstance(error, TimeoutError) else str(error))
                return
            self._written[name] = kept
        self._noted[name], self.problem = book, None

    def _failed(self, why: str) -> None:
        if self.problem is None:
            logger.warning("the control log is behind: %s", why)
        self.problem, self._not_before = why, time.monotonic() + PAUSE_S

    async def _write(self, name: str, book: Book, kept: Book) -> None:
        if name not in self._logged:
            self._logged[name] = await self._store.logged(name)
        missing, entries = book.decisions - self._logged[name], []
        fresh = await self._store.decisions(name, missing) if missing > 0 else []
        for decision in fresh:
            entries.append((f"{name}/decision/{decision.id}", msgspec.json.encode(decision)))
            evidence = await self._store.evidence(name, decision.id)
            if evidence is not None:
                entries.append((f"{name}/evidence/{decision.id}", evidence))
        orders = await self._store.outbox(name) if fresh else []
        entries += [
            (f"{name}/order/{each.treatment}", msgspec.json.encode(each)) for each in orders
        ]
        entries.append((f"{name}/book", msgspec.json.encode(kept)))
        async with asyncio.timeout(1.5 * PATIENCE_S):  # it ends by itself before, and says why
            await self._log.publish(entries)
        if fresh:
            await self._store.note_logged(name, book.decisions)
            self._logged[name] = book.decisions

    async def recall(self) -> dict[str, Remembered]:
        """Everything that the log holds, by experiment. Raises what the log raises."""
        found: dict[str, dict[str, bytes]] = {}
        for key, value in (await self._log.read()).items():
            name, _, what = key.partition("/")
            found.setdefault(name, {})[what] = value
        return {name: _recalled(values) for name, values in found.items() if "book" in values}


def remembered(book: Book) -> Book:
    """What of a book must outlast the store: judgements and evidence come again with the data."""
    standings = {
        name: msgspec.structs.replace(standing, streaks={})
        for name, standing in book.standings.items()
    }
    phase = book.phase
    if phase is not None:
        phase = msgspec.structs.replace(phase, counts={}, crossed=0, unitless=0, known=0)
    return Book(
        standings=standings,
        phase=phase,
        past=book.past,
        mismatched=book.mismatched,
        decisions=book.decisions,
        actions=book.actions,
        rollbacks=book.rollbacks,
        quarantined=book.quarantined,
        head=book.head,
        settings=book.settings,
    )


def _recalled(values: Mapping[str, bytes]) -> Remembered:
    def of(kind: str) -> dict[str, bytes]:
        return {
            key.removeprefix(f"{kind}/"): value
            for key, value in values.items()
            if key.startswith(f"{kind}/")
        }

    decisions = [msgspec.json.decode(one, type=Decision) for one in of("decision").values()]
    orders = [msgspec.json.decode(one, type=Order) for one in of("order").values()]
    return Remembered(
        msgspec.json.decode(values["book"], type=Book),
        tuple(sorted(decisions, key=lambda decision: _number(decision.id))),
        of("evidence"),
        tuple(orders),
    )


def _number(decision: str) -> int:
    """Which decision of its experiment it is; ids end with that."""
    return int(decision.rpartition(":")[2])
