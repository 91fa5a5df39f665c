"""Touches the clock: one notifier with what is to be told to it, and the patience to do so.

An outlet takes news at once and passes them on in a task of its own: a notifier that is slow, broken or
gone holds up nobody, and what waits for it is bounded.
"""

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

from alerts.actuators.patience import backoff
from alerts.book import Decision
from alerts.notifiers.news import News, Notifier, Situation
from alerts.order import Receipt


logger = logging.getLogger(__name__)

WAITING = 100
"""Decisions that wait for a notifier at most; the oldest make room."""

PATIENCE_S = 900.0
"""For so long it is tried to tell of a decision."""

PACE_S = 1.0
"""Between two messages: Slack takes one a second."""

LONGEST_ATTEMPT_S = 40.0
"""A notifier that does not answer for so long is left, whatever it has promised."""


class Outlet(ABC):
    """What all outlets share: attempts, counts, and how they end."""

    def __init__(
        self,
        name: str,
        notifier: Notifier,
        *,
        pace_s: float = PACE_S,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: seconds since 1970."""
        self.name, self.notifier = name, notifier
        self.counts: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        """`sent` and `failed` messages, and decisions that were `dropped`: refused, too old, or too many."""
        self._pace_s, self._chance, self._clock = pace_s, chance, clock
        self._woken, self._ending = asyncio.Event(), asyncio.Event()
        self._failure: str | None = None

    @abstractmethod
    async def run(self) -> None:
        """Pass on what comes, until `end`."""

    def end(self) -> None:
        """Let `run` end: it tries once more to pass on what waits."""
        self._ending.set()
        self._woken.set()

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _attempt(self, news: News) -> Receipt | None:
        """What the notifier says, also if it breaks its word to never raise and to answer."""
        try:
            async with asyncio.timeout(LONGEST_ATTEMPT_S):
                receipt = await self.notifier.notify(news)
        except TimeoutError:
            why = f"no answer within {LONGEST_ATTEMPT_S:g} s"
            receipt = Receipt(accepted=False, detail=why, retry=True)
        except Exception as error:  # noqa: BLE001 - a notifier is anybody's, and its message may hold secrets
            receipt = Receipt(accepted=False, detail=f"raised {type(error).__name__}")
        if receipt is not None:
            self._note(receipt)
        return receipt

    def _note(self, receipt: Receipt) -> None:
        self.counts["sent" if receipt.accepted else "failed"] += 1
        failure = None if receipt.accepted else receipt.detail
        if failure is not None and failure != self._failure:
            logger.warning("notifier %s: %s", self.name, failure)
        elif failure is None and self._failure is not None:
            logger.info("notifier %s: works again", self.name)
        self._failure = failure

    def _wait_after(self, receipt: Receipt, failures: int) -> float:
        """Seconds to wait after so many failures in a row, the latest with `receipt`."""
        return max(self._pace_s, backoff(failures - 1, self._chance), receipt.retry_after or 0.0)


class Decisions(Outlet):
    """Passes on each decision once, in their order."""

    def __init__(
        self,
        name: str,
        notifier: Notifier,
        settled: Callable[[Decision], None],
        *,
        pace_s: float = PACE_S,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`settled` is told of each decision that was passed on or dropped."""
        super().__init__(name, notifier, pace_s=pace_s, chance=chance, clock=clock)
        self._settled = settled
        self._queue: deque[tuple[Decision, float]] = deque()
        """With the time by which it has to be told."""

    def offer(self, decision: Decision) -> None:
        """Take a decision to pass on."""
        self._queue.append((decision, self._clock() + PATIENCE_S))
        if len(self._queue) > WAITING:
            self._drop(self._queue.popleft()[0])
        self._woken.set()

    def _drop(self, decision: Decision) -> None:
        self.counts["dropped"] += 1
        self._settled(decision)

    async def run(self) -> None:
        """Pass on what comes, until `end`."""
        failures = 0
        while not self._ending.is_set():
            if not self._queue:
                self._woken.clear()
                await self._woken.wait()
                continue
            receipt = await self._next(retry=True)
            failures = 0 if receipt is None or receipt.accepted else failures + 1
            if receipt is not None:
                await self._rest(self._wait_after(receipt, failures) if failures else self._pace_s)
        while self._queue:
            await self._next(retry=False)

    async def _next(self, *, retry: bool) -> Receipt | None:
        """Try to pass on the oldest; it stays the oldest where that may work later."""
        # Taken out meanwhile: what comes in could push it out while it is being told.
        decision, by = self._queue.popleft()
        if self._clock() > by:
            self._drop(decision)
            return None
        receipt = await self._attempt(News(int(self._clock() * 1000), decision=decision))
        if receipt is None or receipt.accepted:
            self._settled(decision)
        elif not receipt.retry or len(self._queue) >= WAITING:
            self._drop(decision)
        elif retry:
            self._queue.appendleft((decision, by))
        return receipt


class Situations(Outlet):
    """Tells how everything stands: at each change, and again and again."""

    _situations: tuple[Situation, ...] | None = None
    """None before anything is known: then nothing may be said."""

    def show(self, situations: tuple[Situation, ...]) -> None:
        """Take how everything stands now, in place of what was shown before."""
        self._situations = situations
        self._woken.set()

    async def run(self) -> None:
        """Tell until `end`."""
        failures = 0
        while not self._ending.is_set():
            self._woken.clear()
            receipt = await self._tell()
            if receipt is None or receipt.accepted:
                failures = 0
                await self._rest(self._pace_s)
                await self._until_woken(self.notifier.every_s)
            else:
                failures += 1
                refused = 0.0 if receipt.retry else self.notifier.every_s or 0.0
                await self._rest(max(refused, self._wait_after(receipt, failures)))
        if self._woken.is_set():
            await self._tell()

    async def _tell(self) -> Receipt | None:
        if self._situations is None:
            return None
        news = News(int(self._clock() * 1000), situations=self._situations)
        return await self._attempt(news)

    async def _until_woken(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
