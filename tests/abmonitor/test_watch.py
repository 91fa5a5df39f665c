"""The monitor's loop: it goes on whatever fails, says so, and is ready when it is."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError
from support.failing import HookedStore
from support.panes import EXPERIMENT, START, pane, steady

from abmonitor.settings import ExperimentSettings, Settings
from abmonitor.view import View
from abmonitor.watch import OVERDUE_S, Watch
from alerts.guardrails import Guardrail
from alerts.order import Actuator, Order, Receipt, Verification
from alerts.standing import State
from alerts.store import AlertStore
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE, Experiment
from metrics.snapshot import Fleet
from stream.store import Store


WAIT_S = 10.0
ERRORS = Guardrail(
    metric="error_rate", window=Duration(5 * MINUTE), max=0.1, consecutive=2, min_count=20
)


def declared(name: str = "offers", **options: Any) -> ExperimentSettings:
    fields = {field: getattr(EXPERIMENT, field) for field in EXPERIMENT.__struct_fields__}
    return ExperimentSettings(**fields | {"name": name, "guardrails": (ERRORS,)} | options)


def settings(*experiments: ExperimentSettings) -> Settings:
    return Settings(experiments=experiments or (declared(),), deployment="shop")


class Obedient:
    """An actuator that takes every order."""

    def __init__(self) -> None:
        self.received: list[Order] = []

    async def apply(self, order: Order) -> Receipt:
        self.received.append(order)
        return Receipt(accepted=True, detail="202")

    async def verify(self, order: Order) -> Verification:
        raise NotImplementedError(order.id)

    async def close(self) -> None:
        """Nothing to release."""


class Broken(Obedient):
    """An actuator that breaks its word."""

    async def apply(self, order: Order) -> Receipt:
        self.received.append(order)
        raise RuntimeError("its own mistake")


def watch_of(store: Store, actuator: Actuator | None = None) -> Watch:
    return Watch(settings(), store, {"offers": actuator or Obedient()}, every_s=0.005)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # the loop makes it true
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


@asynccontextmanager
async def running(watching: Watch) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(watching.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


class Ticks:
    """Counts the ticks of a watch, and lets them fail."""

    def __init__(self, watching: Watch) -> None:
        self._tick = watching.monitor.tick
        self.failure: Exception | None = None
        self.begun = self.ended = 0
        watching.monitor.tick = self  # type: ignore[method-assign]

    async def __call__(self) -> View:
        self.begun += 1
        if self.failure is not None:
            raise self.failure
        view = await self._tick()
        self.ended += 1
        return view


def told_by_the_watch(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the loop itself logged: who leads is told by others."""
    return [record for record in caplog.records if record.name == "abmonitor.watch"]


# --- ready or not ---------------------------------------------------------------------------------


async def test_it_is_ready_once_a_tick_has_ended(store: HookedStore) -> None:
    watching = watch_of(store)
    assert watching.problem() == "nothing was read yet"
    async with running(watching):
        await until(lambda: watching.problem() is None, "a tick")
    assert watching.monitor.view.as_of is not None


async def test_it_ticks_over_and_over_until_it_is_told_to_stop(embedded_store: HookedStore) -> None:
    watching = watch_of(embedded_store)
    ticks = Ticks(watching)
    async with running(watching):
        await until(lambda: ticks.ended >= 5, "ticks")
    ended = ticks.begun
    await asyncio.sleep(0.05)
    assert ticks.begun == ended


async def test_stopping_does_not_wait_for_the_next_tick(embedded_store: HookedStore) -> None:
    watching = Watch(settings(), embedded_store, {"offers": Obedient()}, every_s=3_600)
    async with running(watching):
        await until(lambda: watching.problem() is None, "a tick")


async def test_a_redis_that_is_away_from_the_start_is_why_it_is_not_ready() -> None:
    store = Store.at("redis://127.0.0.1:1/0")
    watching = watch_of(store)
    async with running(watching):
        await until(lambda: watching.problem() != "nothing was read yet", "the failure")
        assert (watching.problem() or "").startswith("Redis does not answer: ")
    await store.close()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RedisConnectionError("reset by peer"), "Redis does not answer: reset by peer"),
        (OSError("unreachable"), "Redis does not answer: unreachable"),
        (NoPermissionError("no"), "Redis refused: the user in its address may not do this: no"),
    ],
)
async def test_a_tick_that_fails_changes_nothing_and_shows_when_it_lasts(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    watching = watch_of(embedded_store)
    ticks = Ticks(watching)
    async with running(watching):
        await until(lambda: ticks.ended >= 1, "a tick")
        ticks.failure, begun = failure, ticks.begun
        await until(lambda: ticks.begun > begun, "a failing tick")
        view = watching.monitor.view
        await until(lambda: ticks.begun >= begun + 4, "failing ticks")
        assert watching.monitor.view is view
        assert watching.problem() is None  # one slow answer is no outage
        monkeypatch.setattr("abmonitor.watch.OVERDUE_S", 0.0)
        assert watching.problem() == told
        monkeypatch.undo()
        ticks.failure = None
        await until(lambda: watching.monitor.view is not view, "a tick that goes well")
        assert watching.problem() is None


async def test_a_tick_that_hangs_is_told(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, go_on = watch_of(embedded_store), asyncio.Event()
    ticks = Ticks(watching)
    async with running(watching):
        await until(lambda: ticks.ended >= 1, "a tick")

        async def hang() -> View:
            await go_on.wait()
            return watching.monitor.view

        watching.monitor.tick = hang  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        monkeypatch.setattr("abmonitor.watch.OVERDUE_S", 0.01)
        assert watching.problem() == "no tick has ended for 0.01 s"
        go_on.set()


async def test_a_mistake_in_a_tick_is_logged_once_with_its_trace_and_again_when_it_is_another(
    embedded_store: HookedStore, caplog: pytest.LogCaptureFixture
) -> None:
    watching = watch_of(embedded_store)
    ticks = Ticks(watching)
    ticks.failure = ZeroDivisionError("division by zero")
    with caplog.at_level(logging.WARNING, "abmonitor.watch"):
        async with running(watching):
            await until(lambda: ticks.begun >= 5, "failing ticks")
            assert watching.problem() == ("the tick failed: ZeroDivisionError('division by zero')")
            ticks.failure = KeyError("new")
            begun = ticks.begun
            await until(lambda: ticks.begun >= begun + 5, "other failures")
    told = told_by_the_watch(caplog)
    assert len(told) == 2
    assert all(record.exc_info is not None for record in told)


async def test_an_outage_is_logged_once_and_so_is_the_next_one(
    embedded_store: HookedStore, caplog: pytest.LogCaptureFixture
) -> None:
    watching = watch_of(embedded_store)
    ticks = Ticks(watching)
    async with running(watching):
        for _ in range(2):
            ticks.failure, begun = RedisConnectionError("reset by peer"), ticks.begun
            await until(lambda begun=begun: ticks.begun >= begun + 5, "failures")  # type: ignore[misc]
            ticks.failure, ended = None, ticks.ended
            await until(lambda ended=ended: ticks.ended >= ended + 2, "ticks")  # type: ignore[misc]
    told = [record.getMessage() for record in told_by_the_watch(caplog)]
    assert told == ["Redis does not answer: reset by peer"] * 2


# --- what it carries out --------------------------------------------------------------------------


class Site:
    """Events of which the treatment's fail from ten minutes on."""

    def __init__(self, watching: Watch) -> None:
        self.world = steady(START + HOUR)
        bad = pane(10, errors=5, latency_ms=20, labelled=5)
        self.world.arrive("new", START + 10 * MINUTE, START + HOUR, bad)
        self.now = START
        monitor: Any = watching.monitor
        monitor._clock = monitor._acting._clock = lambda: self.now
        monitor._new_reader = lambda: self
        monitor._reader = self

    async def read(self, experiments: Iterable[Experiment]) -> Fleet:
        """As the monitor's reader does."""
        return Fleet({found.name: self.world.snapshot(self.now) for found in experiments}, {})


async def until_rollback(watching: Watch, site: Site, actuator: Obedient) -> None:
    async with running(watching):
        while site.now < START + 20 * MINUTE:
            before, site.now = watching.monitor.view, site.now + MINUTE
            await until(lambda before=before: watching.monitor.view is not before, "a tick")  # type: ignore[misc]
        await until(lambda: actuator.received, "an order")
        assert watching.problem() is None


async def test_what_was_decided_is_carried_out(store: HookedStore) -> None:
    actuator = Obedient()
    watching = watch_of(store, actuator)
    await until_rollback(watching, Site(watching), actuator)
    assert len({order.id for order in actuator.received}) == 1
    book = await AlertStore(store.client, "shop").load("offers")
    assert book.standings["new"].state is State.VERIFYING


async def test_an_actuator_that_raises_stops_no_tick_and_keeps_its_order(
    store: HookedStore,
) -> None:
    actuator = Broken()
    watching = watch_of(store, actuator)
    await until_rollback(watching, Site(watching), actuator)
    kept = AlertStore(store.client, "shop")
    assert [order.id for order in await kept.outbox("offers")] == [actuator.received[0].id]
    book = await kept.load("offers")
    assert book.standings["new"].state is State.ROLLBACK_FAILED


# --- what is counted of ticks ---------------------------------------------------------------------


def counted(watching: Watch) -> dict[str, float]:
    """Samples of ticks without labels, by name."""
    families = watching.ticks.families()
    return {s.name: s.value for each in families for s in each.samples if not s.labels}


async def test_every_tick_is_counted_and_those_that_fail_twice_over(store: HookedStore) -> None:
    watching = watch_of(store)
    ticks = Ticks(watching)
    async with running(watching):
        await until(lambda: ticks.ended >= 2, "ticks")
        assert counted(watching)["abmonitor_redis_up"] == 1
        assert counted(watching)["abmonitor_tick_failures_total"] == 0
        ticks.failure = RedisConnectionError("away")
        await until(lambda: counted(watching)["abmonitor_redis_up"] == 0, "the failure")
    found = counted(watching)
    assert found["abmonitor_tick_seconds_count"] == ticks.begun
    assert found["abmonitor_tick_failures_total"] == ticks.begun - ticks.ended


async def test_ticks_are_timed_by_the_clock_that_was_given(store: HookedStore) -> None:
    now = [100.0]
    watching = Watch(
        settings(), store, {"offers": Obedient()}, every_s=0.005, seconds=lambda: now[0]
    )

    async def slow() -> View:
        now[0] += 3.5
        return View()

    watching.monitor.tick = slow  # type: ignore[method-assign]
    await watching._tick()
    assert counted(watching)["abmonitor_tick_seconds_sum"] == 3.5
    assert watching.problem() is None
    now[0] += OVERDUE_S + 1
    assert watching.problem() == f"no tick has ended for {OVERDUE_S:g} s"
