"""The journal: what was decided goes to the control log before it is acted on, and comes back from it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from alerts.book import Book, Decision
from alerts.order import Order
from alerts.store import AlertStore


logger = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""How long an action waits for the control log: a rollback lowers a risk, and no outage of a log may stop it."""

DECIDED_MEANWHILE = 20
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


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one experiment outside of the store."""

    book: Book
    decisions: tuple[Decision, ...] = ()
    evidence: Mapping[str, bytes] = {}
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
        self._not_before: dict[str, float] = {}
        self._problems: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """Why the log is behind, None when it is not."""
        return next((f"{name}: {why}" for name, why in self._problems.items()), None)

    async def note(self, name: str, book: Book, leads: Callable[[], bool]) -> None:
        """Write down what of `book` is not in the log yet; waits a little, raises nothing.

        What could not be written is written at a later call. `leads`: whether this monitor may.
        """
        late = time.monotonic() < self._not_before.get(name, 0.0)
        if self._noted.get(name) is book or late or not leads():
            return
        kept = remembered(book)
        if self._written.get(name) != _still(kept):
            try:
                if not await self._write(name, book, kept, leads):
                    return
            except Exception as error:  # noqa: BLE001  # whatever fails: it shows, and is tried again
                self._failed(name, "no answer" if isinstance(error, TimeoutError) else str(error))
                return
            self._written[name] = _still(kept)
        self._noted[name] = book
        if self._problems.pop(name, None) is not None:
            logger.info("%s: the control log is no longer behind", name)

    def _failed(self, name: str, why: str) -> None:
        if name not in self._problems:
            logger.warning("%s: the control log is behind: %s", name, why)
        self._problems[name] = why
        self._not_before[name] = time.monotonic() + PAUSE_S

    async def _write(self, name: str, book: Book, kept: Book, leads: Callable[[], bool]) -> bool:
        """Write what is missing; False where another monitor has taken over meanwhile."""
        if self._logged.get(name, book.decisions + 1) > book.decisions:  # not known, or set back
            self._logged[name] = min(await self._store.logged(name), book.decisions)
        fresh = await self._missing(name, book.decisions)
        entries = [(f"{name}/decision/{each.id}", msgspec.json.encode(each)) for each in fresh]
        orders = await self._store.outbox(name) if fresh else []
        entries += [
            (f"{name}/order/{each.treatment}", msgspec.json.encode(each)) for each in orders
        ]
        entries.append((f"{name}/book", msgspec.json.encode(kept)))
        if not leads():
            return False
        await self._publish(entries)
        if fresh:
            await self._store.note_logged(name, book.decisions)
            self._logged[name] = book.decisions
            await self._write_evidence(name, fresh)
        return True

    async def _missing(self, name: str, until: int) -> list[Decision]:
        """The decisions of the book that are not in the log."""
        after = self._logged[name]
        if until <= after:
            return []
        # Somebody may have decided more since the book was read.
        newest = await self._store.decisions(name, until - after + DECIDED_MEANWHILE)
        return [each for each in newest if after < _number(each.id) <= until]

    async def _write_evidence(self, name: str, decisions: Iterable[Decision]) -> None:
        """Write what decisions rest on, if the topic takes that: nobody waits for it to act."""
        for decision in decisions:
            evidence = await self._store.evidence(name, decision.id)
            if evidence is None:
                continue
            try:
                await self._publish([(f"{name}/evidence/{decision.id}", evidence)])
            except Exception as error:  # noqa: BLE001  # the decision itself is safe
                logger.warning("%s: its evidence is not in the control log: %s", decision.id, error)

    async def _publish(self, entries: list[tuple[str, bytes]]) -> None:
        async with asyncio.timeout(1.5 * PATIENCE_S):  # it ends by itself before, and says why
            await self._log.publish(entries)

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
        # What came before was judged: nothing may be decided anew at times that are over.
        looked_at=book.looked_at,
        cohort_at=book.cohort_at,
        landmarks_at=book.landmarks_at,
        seen=book.seen,
    )


def _still(kept: Book) -> Book:
    """Without what moves on with every look: that alone is not worth a record."""
    return msgspec.structs.replace(kept, looked_at=None, cohort_at=None, landmarks_at={}, seen={})


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
        book=msgspec.json.decode(values["book"], type=Book),
        decisions=tuple(sorted(decisions, key=lambda decision: _number(decision.id))),
        evidence=of("evidence"),
        orders=tuple(orders),
    )


def _number(decision: str) -> int:
    """Which decision of its experiment it is; ids end with that."""
    return int(decision.rpartition(":")[2])
