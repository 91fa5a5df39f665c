"""Restoring: what an experiment remembered that the store has lost, from memory, the control log or flag files."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from abmonitor.journal import Journal, Remembered
from alerts.actuators.flag_definition import Off
from alerts.book import Book
from alerts.standing import Standing, State


NOT_READ = "the control log is being read"
RECALL_S = 0.3
"""How long a tick waits for the control log."""
AGAIN_S = 2.0
"""After it could not be read, how long until it is tried again."""


class NotKnownError(Exception):
    """What an experiment remembered cannot be had at the moment; says why."""


@dataclass(slots=True)
class Restoring:
    """Looks in all places but the store."""

    journal: Journal | None = None
    """None where the store is all there is."""
    switched_off: Callable[[str], Awaitable[Mapping[str, Off]]] | None = None
    """Tells which treatments of an experiment are off in what this monitor steers itself."""
    _reading: "asyncio.Task[dict[str, Remembered]] | None" = None
    _not_before: float = 0.0
    _failure: str = ""
    _new: set[str] = field(default_factory=set)
    """Experiments of which nobody knows anything."""

    async def memory(self, name: str, mine: Remembered) -> Remembered:
        """What this monitor knows, with what only the control log has, where that is at hand."""
        try:
            logged = await self._logged(name)
        except NotKnownError:
            return mine
        if logged is None:
            return mine
        decisions = {each.id: each for each in (*logged.decisions, *mine.decisions)}
        return msgspec.structs.replace(
            mine, decisions=tuple(decisions.values()), evidence=logged.evidence
        )

    async def elsewhere(self, name: str) -> Remembered | Book:
        """What the control log holds, or else the first book of a new experiment. Raises NotKnownError."""
        if name in self._new:
            return Book()
        found = await self._logged(name)
        if found is not None:
            return found
        try:
            fresh = await self._fresh(name)
        except Exception as error:  # whatever fails, what is off must not come back
            raise NotKnownError(f"its flag file: {error}") from error
        self._new.add(name)
        return fresh

    def forget(self) -> None:
        """Let go of what was read: it may be large."""
        if self._reading is not None and self._reading.done():
            self._reading = None

    async def _logged(self, name: str) -> Remembered | None:
        """What the control log has. It is read aside, so that others are judged meanwhile."""
        if self.journal is None:
            return None
        if self._reading is None:
            if time.monotonic() < self._not_before:
                raise NotKnownError(self._failure)
            self._reading = asyncio.ensure_future(self.journal.recall())
        await asyncio.wait({self._reading}, timeout=RECALL_S)
        if not self._reading.done():
            raise NotKnownError(NOT_READ)
        try:
            return self._reading.result().get(name)
        except Exception as error:  # whatever fails, nothing may be judged until it works
            self._reading, self._failure = None, str(error)
            self._not_before = time.monotonic() + AGAIN_S
            raise NotKnownError(self._failure) from error

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
