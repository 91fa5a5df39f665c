"""The monitor's loop: ticks until it is told to stop, and goes on when a tick fails."""

import asyncio
import logging
import time
from collections.abc import Mapping

from redis.exceptions import RedisError

from abmonitor.monitor import Monitor
from abmonitor.settings import OnBreach, Settings
from alerts.actuators.log import Log
from alerts.actuators.webhook import Webhook, WebhookOptions
from alerts.order import Actuator
from alerts.outbox import Dispatcher
from metrics.experiment import MINUTE
from stream.redis_health import in_words
from stream.store import Store


logger = logging.getLogger(__name__)

EVERY_S = 0.5
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
        every_s: float = EVERY_S,
    ) -> None:
        """`actuators`: by experiment."""
        self.monitor = Monitor(
            settings,
            store.client,
            {name: Dispatcher(actuator, time.monotonic) for name, actuator in actuators.items()},
            clock=lambda: int(time.time() * 1000),
            stale_after=STALE_AFTER,
            hints=True,
        )
        self._every_s = every_s
        self._ticked: float | None = None
        self._failure: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop`. A tick that fails changes nothing, and shows in `problem`."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                await self.monitor.tick()
            except (RedisError, OSError) as error:
                self._fail(in_words(error))
            except Exception as error:  # noqa: BLE001 # it is logged, once
                self._fail(f"the tick failed: {error!r}", error)
            else:
                self._ticked, self._failure = time.monotonic(), None
            await _sleep(stop, started + self._every_s - time.monotonic())

    def _fail(self, why: str, error: Exception | None = None) -> None:
        if why != self._failure:
            logger.warning("%s", why, exc_info=error)
        self._failure = why

    def problem(self) -> str | None:
        """Why the monitor is not ready, None when it is."""
        if self._ticked is None:
            return self._failure or "nothing was read yet"
        if time.monotonic() - self._ticked > OVERDUE_S:
            return self._failure or f"no tick has ended for {OVERDUE_S:g} s"
        return None


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        pass


def actuators_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, Actuator]:
    """What carries orders out, by experiment. Raises SecretError where an address is missing."""
    return {
        experiment.name: _actuator(experiment.on_breach, environ)
        for experiment in settings.experiments
    }


def _actuator(breach: OnBreach, environ: Mapping[str, str]) -> Actuator:
    if breach.action == "log" or breach.url is None:
        return Log()
    secret = None if breach.secret is None else breach.secret.resolve(environ)
    return Webhook(WebhookOptions(url=breach.url.resolve(environ), secret=secret))
