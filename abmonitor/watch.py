"""The monitor's loop: ticks until it is told to stop, and goes on when a tick fails."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from redis.exceptions import RedisError

from abmonitor.books import Books
from abmonitor.journal import Journal, Log
from abmonitor.monitor import Monitor
from abmonitor.restoring import Restoring
from abmonitor.settings import Settings
from abmonitor.ticks import Ticks
from abmonitor.view import View
from alerts.actuators.flag_definition import Off
from alerts.lease import TTL_MS, Leases
from alerts.order import Actuator
from alerts.outbox import Dispatcher
from alerts.store import AlertStore
from metrics.experiment import MINUTE
from stream.redis_health import in_words
from stream.store import Store


logger = logging.getLogger(__name__)

Follower = Callable[[View], Awaitable[None]]
"""Gets every view; it must not wait for anybody outside."""

EVERY_S = 0.5
RENEW_S = TTL_MS / 3000
RELEASE_S = 2.0
PATIENCE_S = 0.2
"""How long a tick waits for an actuator; others have their turn meanwhile."""
STALE_AFTER = 2 * MINUTE
"""Workers move the clocks of silent partitions, too: data older than this means that they stand still."""
OVERDUE_S = 15.0
"""Without a tick that went well for so long the monitor is not ready."""


class Watch:
    """Ticks a monitor."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        actuators: Mapping[str, Actuator],
        *,
        log: Log | None = None,
        switched_off: Callable[[str], Awaitable[Mapping[str, Off]]] | None = None,
        every_s: float = EVERY_S,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`actuators`: by experiment. `log`: None where the store is all that remembers decisions.

        `switched_off`: see `Restoring`. `seconds`: a clock that never goes back.
        """
        self.store = AlertStore(store.client, settings.deployment)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        self.leases = Leases(store.client, settings.deployment, holder, time.monotonic)
        journal = None if log is None else Journal(log, self.store)
        restoring = Restoring(journal, switched_off)
        self.monitor = Monitor(
            settings,
            store.client,
            {name: Dispatcher(actuator, time.monotonic) for name, actuator in actuators.items()},
            clock=lambda: int(time.time() * 1000),
            books=Books(self.store, self.leases, journal, restoring),
            stale_after=STALE_AFTER,
            patience=PATIENCE_S,
            hints=True,
        )
        self._names = [experiment.name for experiment in settings.experiments]
        self.followers: Sequence[Follower] = ()
        """Those who get every view, in this order."""
        self.ticks = Ticks()
        self._every_s, self._seconds = every_s, seconds
        self._ticked: float | None = None
        self._failure: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop`. A tick that fails changes nothing, and shows in `problem`."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not stop.is_set():
                started = self._seconds()
                await self._tick()
                await _sleep(stop, started + self._every_s - self._seconds())
        finally:
            renewing.cancel()
            await self.monitor.close()
            with suppress(RedisError, OSError, TimeoutError):  # it runs out by itself
                async with asyncio.timeout(RELEASE_S):
                    await self.leases.release()

    async def _renew(self) -> None:
        """Keep the leases, whatever a tick waits for."""
        while True:
            try:
                await self.leases.renew(self._names)
            except (RedisError, OSError):
                pass  # the tick tells of it
            except Exception:  # without leases nobody is judged: it has to go on
                logger.exception("the leases could not be renewed")
            await asyncio.sleep(RENEW_S)

    async def _tick(self) -> None:
        before, started = self.monitor.view, self._seconds()
        failure: Exception | None = None
        try:
            await self.monitor.tick()
        except (RedisError, OSError) as error:
            failure = error
            self._fail(in_words(error))
        except Exception as error:  # noqa: BLE001 # it is logged, once
            failure = error
            self._fail(f"the tick failed: {error!r}", error)
        else:
            self._ticked, self._failure = self._seconds(), None
        self.ticks.note(self._seconds() - started, failure)
        if self.monitor.view is not before:  # also where one of many experiments failed
            await self._pass_on(self.monitor.view)

    async def _pass_on(self, view: View) -> None:
        for follower in self.followers:
            try:
                await follower(view)
            except Exception:  # one that fails stops neither the others nor a rollback
                logger.exception("the view could not be passed on")

    def _fail(self, why: str, error: Exception | None = None) -> None:
        if why != self._failure:
            logger.warning("%s", why, exc_info=error)
        self._failure = why

    def problem(self) -> str | None:
        """Why the monitor is not ready, None when it is."""
        if self._ticked is None:
            return self._failure or "nothing was read yet"
        if self._seconds() - self._ticked > OVERDUE_S:
            return self._failure or f"no tick has ended for {OVERDUE_S:g} s"
        return None


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        pass
