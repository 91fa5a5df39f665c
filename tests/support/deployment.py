"""A deployment with traffic, a router and monitors that may come to harm, and what came of it. This module does I/O."""

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from abmonitor.http import serving
from abmonitor.settings import load
from abmonitor.watch import EVERY_S
from alerts.book import Book, Decision
from alerts.chain import broken
from alerts.keys import experiment_key
from alerts.lease import Leases
from alerts.standing import ACTING, Standing, State
from alerts.store import AlertStore
from metrics.experiment import MINUTE
from stream.batch import Batch, DeadLetter
from stream.pipeline import ShardPipeline
from stream.sources import Decoder
from stream.store import Store
from support.dying_monitor import Birth
from support.monitors import MonitorProcess, Nursery, until
from support.order_router import Router


TAIL = 3_000
"""Characters of each log that an error shows."""
ERRORS = "{metric: error_rate, window: 1m, max: 0.1, consecutive: 2, min_count: 20}"
A_MINUTE = 60
"""Predictions of each variant in a minute."""
NOWHERE = "127.0.0.1:1"


class _NoLetters:
    async def send(self, letters: Sequence[DeadLetter]) -> None:
        assert not letters


class Deployment:
    """One deployment under test, with its traffic, its router and its monitors.

    Traffic is written as a worker would, a minute at a time; its arrival times run ahead of the clock.
    """

    def __init__(
        self,
        nursery: Nursery,
        redis: str,
        folder: Path,
        *,
        names: Sequence[str] = ("offers",),
        options: str = "",
        guardrails: Sequence[str] = (),
        action: str = "action: webhook, url: {env: ROLLBACK_URL}",
        kafka: Mapping[str, str] | None = None,
    ) -> None:
        """`options`: more lines of each experiment. `guardrails`: more of them.

        `kafka`: `servers`, and the topic `control`.
        """
        self._nursery, self._redis, self._folder, self._kafka = nursery, redis, folder, kafka or {}
        self.names = tuple(names)
        self.config = folder / "settings.yaml"
        self.config.write_text(self._settings(options, guardrails, action))
        self.settings = load(self.config)
        self.router, self.monitors = Router(), list[MonitorProcess]()
        self.store = Store.at(redis, self.settings.deployment)
        self.kept = AlertStore(self.store.client, self.settings.deployment)
        self._leases = Leases(self.store.client, self.settings.deployment, "", time.monotonic)
        self.at = int(time.time() * 1000) // MINUTE * MINUTE
        self._batches: list[Batch] = []
        self._number = 0
        self._pipeline = self._new_pipeline()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        port = await self._stack.enter_async_context(
            serving(self.router.application(), "127.0.0.1", 0)
        )
        self.router.url = f"http://127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        for monitor in self.monitors:
            if monitor.is_alive:
                monitor.kill()
        self.router.release()
        await self._stack.aclose()
        await self.store.close()

    def _settings(self, options: str, guardrails: Sequence[str], action: str) -> str:
        more = "".join(f"    {line}\n" for line in options.splitlines())
        limits = ", ".join([ERRORS, *guardrails])
        experiments = "".join(
            f"""\
  - name: {name}
    control: old
    variants: {{old: 0.5, new: 0.5}}
    labels: {{horizon: 1d, grace: 1m}}
    guardrails: [{limits}]
    on_breach: {{{action}}}
{more}"""
            for name in self.names
        )
        return f"""\
deployment: {self._folder.name}
kafka: {{control: {self._kafka.get("control", "null")}}}
brake: {{rollbacks: 10}}
experiments:
{experiments}"""

    # --- monitors -----------------------------------------------------------------------------------

    def start(self, point: str = "", *, freezes: bool = False) -> MonitorProcess:
        """A new monitor, which may die or freeze at a point."""
        log = self._folder / f"monitor-{len(self.monitors)}.log"
        environ = {
            "ABMONITOR_REDIS": self._redis,
            "ABMONITOR_KAFKA": self._kafka.get("servers", NOWHERE),
            "ROLLBACK_URL": self.router.url,
        }
        birth = Birth(
            arguments=["monitor", "-c", str(self.config), "--port", "0"],
            environ=environ,
            log=str(log),
            point=point,
            freezes=freezes,
        )
        self.monitors.append(MonitorProcess(self._nursery.bear(birth), log))
        return self.monitors[-1]

    async def lead(self, point: str = "", *, freezes: bool = False) -> MonitorProcess:
        """A new monitor, once it has all leases."""
        monitor = self.start(point, freezes=freezes)
        await self.until_leads(monitor)
        return monitor

    async def leads(self, monitor: MonitorProcess) -> bool:
        """Whether it has the leases of all experiments."""
        holders = await self._leases.holders(self.names)
        mine = [each for each in holders.values() if each.endswith(f":{monitor.pid}")]
        return len(mine) == len(self.names)

    # --- traffic ------------------------------------------------------------------------------------

    def _new_pipeline(self) -> ShardPipeline:
        experiments = self.settings.experiments
        return ShardPipeline(
            self.store, 0, experiments, Decoder(), _NoLetters(), topics=("events",)
        )

    async def arrive(self, errors: float | None = 0.0) -> None:
        """A minute of traffic: this share of the treatments' predictions fail; None: nothing arrives."""
        values = [
            self._event(name, variant, i, errors)
            for i in range(A_MINUTE)
            for name in self.names
            for variant in self._served(name)
            if errors is not None
        ]
        first = self._batches[-1].next_position if self._batches else 0
        offsets = range(first, first + len(values))
        arrivals = [self.at + MINUTE * i // len(values) for i in range(len(values))]
        self.at += MINUTE
        batch = Batch(
            "events", 0, first, offsets.stop, offsets, arrivals, values, complete_to=self.at
        )
        self._batches.append(batch)
        await self._pipeline.process(batch)

    async def lose_everything(self) -> None:
        """Empty Redis, and count everything again, as workers do then."""
        await self.store.client.flushall()
        self._pipeline = self._new_pipeline()
        for batch in self._batches:
            report = await self._pipeline.process(batch)
            assert report.rewind is None

    def _served(self, name: str) -> tuple[str, ...]:
        return ("old", "old") if self.router.effects[name] else ("old", "new")

    def _event(self, name: str, variant: str, i: int, errors: float) -> bytes:
        self._number += 1
        event = {
            "type": "prediction",
            "prediction_id": f"p{self._number}",
            "experiment": name,
            "variant": variant,
            "predicted": False,
            "time": self.at,
        }
        if variant == "new" and i < errors * A_MINUTE:
            event["error"] = True
        return json.dumps(event).encode()

    async def reconnect(self) -> None:
        """Leave connections that may have broken."""
        await self.store.client.connection_pool.disconnect()
        self._pipeline = self._new_pipeline()

    # --- what came of it ----------------------------------------------------------------------------

    async def book(self, name: str = "offers") -> Book:
        return await self.kept.load(name)

    async def standing(self, name: str = "offers") -> Standing:
        return (await self.book(name)).standings.get("new", Standing())

    async def looked_at(self) -> bool:
        """Whether everything that arrived was looked at."""
        books = [await self.book(name) for name in self.names]
        return all((book.looked_at or 0) >= self.at for book in books)

    async def looked(self) -> bool:
        """Whether everything that arrived was looked at, and no order is to be carried out."""
        states = {(await self.standing(name)).state for name in self.names}
        return await self.looked_at() and not states & (ACTING - {State.VERIFYING})

    async def written(self) -> dict[str, Any]:
        """Everything that is stored of judgement, but for leases, which come and go."""
        found: dict[str, Any] = {}
        for name in self.names:
            for key in ("version", "book", "fence", "logged", "told"):
                where = experiment_key(self.settings.deployment, name, key)
                found[where] = await self.store.client.get(where)
            audit = experiment_key(self.settings.deployment, name, "audit")
            found[audit] = await self.store.client.lrange(audit, 0, -1)
            found[f"{name} outbox"] = await self.kept.outbox(name)
        return found

    async def until(self, is_true: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for something; fails with the logs of all monitors."""
        await until(is_true, what, self.tails)

    async def until_ticks(self, monitor: MonitorProcess) -> None:
        """Wait until a tick has begun and ended from now on."""
        now = time.time()

        async def ticked() -> bool:
            return (await monitor.ticked()) > now + EVERY_S

        await self.until(ticked, f"monitor {monitor.pid} ticks")

    async def until_leads(self, monitor: MonitorProcess) -> None:
        """Wait until a monitor has the leases of all experiments."""
        await self.until(lambda: self.leads(monitor), f"monitor {monitor.pid} takes the leases")

    async def until_back(self) -> None:
        """Wait until Redis has a book of every experiment again."""

        async def there() -> bool:
            return all([(await self.book(name)).version for name in self.names])

        await self.until(there, "the books are there again")

    async def until_remembered(self) -> None:
        """Wait until a monitor has put back from its memory what Redis has lost."""

        async def told() -> bool:
            return any("it came back from memory" in each.said() for each in self.monitors)

        await self.until(told, "a monitor puts back what it remembers")

    async def until_dead(self, monitor: MonitorProcess) -> None:
        """Wait until a monitor has ended."""

        async def dead() -> bool:
            return not monitor.is_alive

        await self.until(dead, f"monitor {monitor.pid} dies")

    async def until_state(self, *states: State, name: str = "offers") -> None:
        async def reached() -> bool:
            return (await self.standing(name)).state in states

        await self.until(reached, f"{name} is {' or '.join(states)}")

    def tails(self) -> str:
        """The ends of all logs, and what the router got."""
        told = [f"--- monitor {each.pid}:\n{each.said()[-TAIL:]}" for each in self.monitors]
        return "\n".join([self.config.parent.name, str(dict(self.router.attempts)), *told])

    async def trail(self, name: str = "offers") -> list[tuple[Any, ...]]:
        """The audit trail in short: what was decided when, relative to the end of the traffic."""
        decisions = await self.kept.decisions(name)
        return [_short(each, self.at, self.router.url.rstrip("/")) for each in decisions]

    async def check(self, name: str = "offers") -> None:
        """One rollback had an effect, all attempts were of it, the trail is whole, nothing is left."""
        decisions = await self.kept.decisions(name)
        ordered = [each.id for each in decisions if each.action == "rollback"]
        assert len(ordered) == 1, f"{decisions}\n{self.tails()}"
        assert self.router.effects[name] == ordered, self.tails()
        assert set(self.router.attempts[name]) == set(ordered), self.tails()
        assert broken(decisions) is None
        assert decisions[0].previous == ""
        book = await self.book(name)
        assert (book.decisions, book.head) == (len(decisions), decisions[-1].hash)
        assert await self.kept.outbox(name) == []
        assert Counter(each.action for each in decisions) == book.actions["new"]


def _short(decision: Decision, end: int, router: str) -> tuple[Any, ...]:
    number, at = decision.id.rpartition(":")[2], decision.at - end
    reasons = tuple(reason.replace(router, "the router") for reason in decision.reasons)
    return number, decision.action, decision.before, decision.state, at, reasons
