"""Books: what is known outlasts a lost store, two monitors never both act, and decisions are logged before acts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.panes import START, pane, steady
from support.site import (
    BAD,
    END,
    GOOD_END,
    Site,
    actions,
    command,
    declared,
    failing,
    kept,
    monitor,
    pass_time,
    settings,
    standing,
)

import abmonitor.journal
from abmonitor.books import Books, UnknownStateError
from abmonitor.journal import Journal
from abmonitor.monitor import Monitor
from abmonitor.restoring import NOT_READ, Restoring
from alerts.actuators.flag_definition import Off
from alerts.book import Book
from alerts.chain import broken
from alerts.lease import Leases
from alerts.machine import Command
from alerts.order import Order, Receipt
from alerts.standing import State
from alerts.store import AlertStore
from metrics.experiment import MINUTE
from stream.store import Store


@dataclass
class FakeLog:
    """A compacted topic in memory."""

    values: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    broken: Exception | None = None
    slow: float = 0.0

    async def publish(self, entries: Sequence[tuple[str, bytes]]) -> None:
        await asyncio.sleep(self.slow)
        if self.broken is not None:
            raise self.broken
        for key, value in entries:
            self.values[key] = value
            self.order.append(key)

    async def read(self) -> Mapping[str, bytes]:
        if self.broken is not None:
            raise self.broken
        return dict(self.values)


AWAY = OSError("no broker answers")


def remembering(store: Store, site: Site, log: FakeLog | None = None, **options: Any) -> Monitor:
    """A monitor whose process was just started, with a control log."""
    journal = None if log is None else Journal(log, kept(store))
    return monitor(
        store, site, books=Books(kept(store), None, journal, Restoring(journal)), **options
    )


# --- a store that lost everything -------------------------------------------------------------------


async def test_a_flush_while_rolled_back_leaves_it_rolled_back(store: Store) -> None:
    site = failing()
    made = remembering(store, site)
    await pass_time(made, site, BAD + 10 * MINUTE)
    decided = await kept(store).decisions("offers")
    await store.client.flushdb()
    view = await pass_time(made, site, BAD + 20 * MINUTE)
    assert view.experiments["offers"].book.worst() is State.ROLLED_BACK
    assert (await standing(store)).state is State.ROLLED_BACK
    assert await kept(store).decisions("offers") == decided
    assert len(site.received) == 1


@pytest.mark.parametrize("minutes", range(1, 12))
async def test_a_flush_at_any_moment_changes_no_decision(store: Store, minutes: int) -> None:
    site = failing()
    made = remembering(store, site)
    await pass_time(made, site, BAD + minutes * MINUTE)
    await store.client.flushdb()
    await pass_time(made, site, BAD + 15 * MINUTE)
    assert await actions(store) == GOOD_END
    assert len(set(site.received)) == 1


async def test_a_new_monitor_finds_in_the_control_log_what_the_store_has_lost(
    store: Store,
) -> None:
    site, log = failing(), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    decided, before = await kept(store).decisions("offers"), await kept(store).load("offers")
    await store.client.flushdb()
    view = await pass_time(remembering(store, site, log), site, BAD + 20 * MINUTE)
    book = view.experiments["offers"].book
    assert book.standings["new"].state is State.ROLLED_BACK
    assert book.standings["new"].decision == before.standings["new"].decision
    assert (book.decisions, book.head) == (before.decisions, before.head)
    assert await kept(store).decisions("offers") == decided
    assert len(site.received) == 1


async def test_without_memory_and_log_nothing_is_judged_until_the_log_can_be_read(
    store: Store,
) -> None:
    site, log = failing(), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    await store.client.flushdb()
    log.broken = AWAY
    made = remembering(store, site, log)
    view = await pass_time(made, site, BAD + 15 * MINUTE)
    shown = view.experiments["offers"].book.standings["new"]
    assert shown.state is State.HOLD
    assert "no broker answers" in shown.causes[0]
    assert "no broker answers" in view.unknown["offers"]
    assert [key async for key in store.client.scan_iter()] == []
    log.broken = None
    made._books.restoring._not_before = 0.0  # it waits a little before it asks again
    view = await made.tick()
    assert view.unknown == {}
    assert view.experiments["offers"].book.standings["new"].state is State.ROLLED_BACK


async def test_a_control_log_that_takes_long_to_read_keeps_nobody_waiting(store: Store) -> None:
    site, log = failing(), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    await store.client.flushdb()
    go = asyncio.Event()
    read = log.read

    async def slowly() -> Mapping[str, bytes]:
        await go.wait()
        return await read()

    log.read = slowly  # type: ignore[method-assign]
    made = remembering(store, site, log)
    for _ in range(2):
        view = await made.tick()
        assert NOT_READ in view.unknown["offers"]
    go.set()
    assert (await made.tick()).unknown == {}
    assert (await standing(store)).state is State.ROLLED_BACK


async def test_a_persons_word_is_not_written_over_a_state_that_is_lost(store: Store) -> None:
    site, log = failing(), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    await store.client.flushdb()
    log.broken = AWAY
    made = remembering(store, site, log)
    await made.tick()
    with pytest.raises(UnknownStateError, match="no broker answers"):
        await made.command("offers", "new", Command(site.now, "pause", "ann", "because"))
    assert [key async for key in store.client.scan_iter()] == []
    log.broken = None
    made._books.restoring._not_before = 0.0
    await made.tick()
    assert (await standing(store)).state is State.ROLLED_BACK


async def copied(store: Store) -> dict[bytes, bytes]:
    found = {key: await store.client.dump(key) async for key in store.client.scan_iter()}
    return {key: value for key, value in found.items() if value is not None}


async def set_back(store: Store, copy: dict[bytes, bytes]) -> None:
    await store.client.flushdb()
    for key, value in copy.items():
        await store.client.restore(key, 0, value)


@pytest.mark.parametrize("minutes", [1, 2, 3, 5])
async def test_a_store_that_comes_back_older_forgets_no_decision(
    real_store: Store, minutes: int
) -> None:
    store, site, log = real_store, failing(), FakeLog()
    made = remembering(store, site, log)
    await pass_time(made, site, BAD + minutes * MINUTE)
    copy = await copied(store)
    await pass_time(made, site, BAD + 10 * MINUTE)
    decided = await kept(store).decisions("offers")
    await set_back(store, copy)
    view = await pass_time(made, site, BAD + 15 * MINUTE)
    assert view.experiments["offers"].book.worst() is State.ROLLED_BACK
    assert await kept(store).decisions("offers") == decided
    assert await kept(store).outbox("offers") == []
    assert len(set(site.received)) == 1
    assert broken(decided) is None
    assert [key for key in log.values if "/decision/" in key] == [
        f"offers/decision/{each.id}" for each in decided
    ]


async def test_an_order_that_nobody_took_outlasts_a_flush_though_the_traffic_is_gone(
    store: Store,
) -> None:
    site = failing()
    site.answers = [Receipt(accepted=False, detail="503", retry=True)] * 12
    made = remembering(store, site)
    await pass_time(made, site, BAD + 4 * MINUTE)
    site.move()
    await pass_time(made, site, BAD + 8 * MINUTE)
    assert (await standing(store)).state is State.ROLLED_BACK
    await store.client.flushdb()
    await pass_time(made, site, BAD + 30 * MINUTE)
    assert len(site.received) == 1
    assert await kept(store).outbox("offers") == []


async def test_a_book_that_cannot_be_understood_holds_its_own_experiment_only(
    store: Store,
) -> None:
    site, both = failing(), settings(declared("first"), declared("second"))
    made = monitor(store, site, both)
    await pass_time(made, site, BAD)
    await store.client.set("{shop:experiment:first}:book", b"{")
    await store.client.incr("{shop:experiment:first}:version")
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    assert await actions(store, "second") == GOOD_END
    assert "cannot be read" in view.unknown["first"]
    assert view.experiments["first"].book.standings["new"].state is State.HOLD
    assert await store.client.get("{shop:experiment:first}:book") == b"{"


async def test_nothing_is_decided_anew_at_times_that_were_looked_at(store: Store) -> None:
    site, log = failing(BAD + 8 * MINUTE), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    await command(store, site, "rearm", force=True)
    site.world.arrive("new", site.now, END, pane(10, latency_ms=20, labelled=5))
    site.world.arrive("old", site.now, END, pane(10, latency_ms=20, labelled=5))
    made = remembering(store, site, log)
    await pass_time(made, site, BAD + 40 * MINUTE)
    decided = await kept(store).decisions("offers")
    assert decided[-1].action == "rearm"
    await store.client.flushdb()
    await pass_time(remembering(store, site, log), site, BAD + 60 * MINUTE)
    assert await kept(store).decisions("offers") == decided
    assert len(site.received) == 1


async def test_an_experiment_that_is_in_no_log_is_new(store: Store) -> None:
    site = Site(steady(END))
    view = await pass_time(remembering(store, site, FakeLog()), site, START + 20 * MINUTE)
    assert view.experiments["offers"].book.worst() is State.HEALTHY
    assert view.unknown == {}


async def test_what_is_switched_off_elsewhere_stays_so_in_a_new_store(store: Store) -> None:
    site = Site(steady(END))

    async def switched_off(_: str) -> dict[str, Off]:
        return {"new": Off("offers:new:1:1", 3, START)}

    made = monitor(store, site, books=Books(kept(store), restoring=Restoring(None, switched_off)))
    view = await pass_time(made, site, START + 20 * MINUTE)
    kept_off = view.experiments["offers"].book.standings["new"]
    assert (kept_off.state, kept_off.epoch) == (State.ROLLED_BACK, 3)


# --- the control log --------------------------------------------------------------------------------


class Watchful(Site):
    """A site whose router notes what the control log knew when an order came."""

    log: FakeLog
    knew: list[bool]

    async def apply(self, order: Order) -> Receipt:
        self.knew.append(f"offers/decision/{order.id}" in self.log.values)
        return await super().apply(order)


async def test_a_decision_is_in_the_control_log_before_anybody_acts_on_it(store: Store) -> None:
    site = Watchful(failing().world)
    site.log, site.knew = FakeLog(), []
    await pass_time(remembering(store, site, site.log), site, BAD + 10 * MINUTE)
    assert site.knew == [True]
    logged = [key for key in site.log.order if "/decision/" in key]
    assert logged == [
        f"offers/decision/{each.id}" for each in await kept(store).decisions("offers")
    ]
    assert broken(await kept(store).decisions("offers")) is None


async def test_a_persons_word_is_in_the_control_log_too_before_it_is_acted_on(store: Store) -> None:
    site = Watchful(steady(END))
    site.log, site.knew = FakeLog(), []
    made = remembering(store, site, site.log)
    await pass_time(made, site, BAD)
    await command(store, site, "rollback")
    await made.tick()
    assert site.knew == [True]


@pytest.mark.parametrize("slow", [0.0, 30.0])
async def test_a_control_log_that_is_away_stops_no_rollback_and_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, slow: float
) -> None:
    monkeypatch.setattr(abmonitor.journal, "PATIENCE_S", 0.01)
    monkeypatch.setattr(abmonitor.journal, "PAUSE_S", 0.0)
    site, log = failing(), FakeLog(broken=None if slow else AWAY, slow=slow)
    made = remembering(store, site, log)
    view = made.view
    log_read, log.read = log.read, FakeLog().read  # type: ignore[method-assign]
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    assert await actions(store) == GOOD_END
    assert view.log_problem == ("offers: no answer" if slow else "offers: no broker answers")
    assert log.values == {}
    log.broken, log.slow, log.read = None, 0.0, log_read  # type: ignore[method-assign]
    view = await made.tick()
    assert view.log_problem is None
    assert len([key for key in log.values if "/decision/" in key]) == len(GOOD_END)


async def test_an_experiment_that_cannot_be_logged_keeps_no_other_out_of_the_log(
    store: Store,
) -> None:
    class Choosy(FakeLog):
        async def publish(self, entries: Sequence[tuple[str, bytes]]) -> None:
            if entries[0][0].startswith("first/"):
                raise OSError("too large")
            await super().publish(entries)

    site, both, log = failing(), settings(declared("first"), declared("second")), Choosy()
    journal = Journal(log, kept(store))
    books = Books(kept(store), None, journal, Restoring(journal))
    view = await pass_time(monitor(store, site, both, books=books), site, BAD + 10 * MINUTE)
    assert view.log_problem == "first: too large"
    assert len([key for key in log.values if key.startswith("second/decision/")]) == len(GOOD_END)


async def test_evidence_that_the_topic_does_not_take_keeps_no_decision_out_of_the_log(
    store: Store,
) -> None:
    class Small(FakeLog):
        async def publish(self, entries: Sequence[tuple[str, bytes]]) -> None:
            if any("/evidence/" in key for key, _ in entries):
                raise OSError("too large")
            await super().publish(entries)

    site, log = failing(), Small()
    view = await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    assert view.log_problem is None
    assert len([key for key in log.values if "/decision/" in key]) == len(GOOD_END)


async def test_after_a_restart_only_what_is_new_goes_to_the_control_log(store: Store) -> None:
    site, log = failing(), FakeLog()
    await pass_time(remembering(store, site, log), site, BAD + 10 * MINUTE)
    first = list(log.order)
    again = remembering(store, site, log)
    await pass_time(again, site, BAD + 12 * MINUTE)
    assert log.order[len(first) :] == ["offers/book"]


async def test_what_was_decided_just_before_a_crash_goes_to_the_control_log_later(
    store: Store,
) -> None:
    site, log = failing(), FakeLog()
    await pass_time(monitor(store, site), site, BAD + 10 * MINUTE)
    await pass_time(remembering(store, site, log), site, BAD + 11 * MINUTE)
    assert [key for key in log.order if "/decision/" in key] == [
        f"offers/decision/{each.id}" for each in await kept(store).decisions("offers")
    ]


# --- two monitors -----------------------------------------------------------------------------------


def led(store: Store, site: Site, name: str) -> tuple[Monitor, Leases]:
    leases = Leases(store.client, "shop", name, lambda: site.now / 1000, ttl_ms=600_000)
    return monitor(store, site, books=Books(kept(store), leases)), leases


async def test_a_standby_shows_everything_and_decides_nothing(store: Store) -> None:
    site = failing()
    active, leases = led(store, site, "active")
    standby, waiting = led(store, site, "standby")
    while site.now < BAD + 10 * MINUTE:
        site.now += MINUTE
        await leases.renew(["offers"])
        await waiting.renew(["offers"])
        shown = await standby.tick()
        view = await active.tick()
    assert await actions(store) == GOOD_END
    assert len(site.received) == 1
    assert (set(view.leads), set(shown.leads)) == ({"offers"}, set())
    shown = await standby.tick()
    assert shown.experiments["offers"].book == view.experiments["offers"].book
    assert shown.experiments["offers"].decisions == view.experiments["offers"].decisions


@pytest.mark.parametrize("minutes", range(1, 9))
async def test_whenever_the_active_one_dies_the_standby_goes_on_and_acts_once(
    store: Store, minutes: int
) -> None:
    site = failing()
    active, leases = led(store, site, "active")
    standby, waiting = led(store, site, "standby")
    await leases.renew(["offers"])
    while site.now < BAD + 15 * MINUTE:
        site.now += MINUTE
        if site.now <= BAD + minutes * MINUTE:
            await leases.renew(["offers"])
            await active.tick()
        elif site.now == BAD + (minutes + 1) * MINUTE:
            await leases.release()  # what its time to live does
        await waiting.renew(["offers"])
        await standby.tick()
    assert await actions(store) == GOOD_END
    assert len(set(site.received)) == 1


class Freezing(AlertStore):
    """A store whose process stands still just before it writes an order down, while others go on."""

    meanwhile: Callable[[], Awaitable[None]]

    async def save(self, experiment: str, book: Book, **options: Any) -> Book:
        if options["orders"]:
            await self.meanwhile()
        return await super().save(experiment, book, **options)


async def test_one_that_was_frozen_and_lost_its_lease_neither_writes_nor_acts(
    store: Store,
) -> None:
    site = failing()
    leases = Leases(store.client, "shop", "frozen", lambda: 0.0)
    standby, waiting = led(store, site, "standby")
    await leases.renew(["offers"])
    freezing = Freezing(store.client, "shop")
    frozen = monitor(store, site, books=Books(freezing, leases))

    async def others_go_on() -> None:
        token = leases.token("offers") or 0
        await store.client.delete(leases._key("offers", token))  # it ran out
        await waiting.renew(["offers"])
        await standby.tick()

    freezing.meanwhile = others_go_on
    await pass_time(frozen, site, BAD + 10 * MINUTE)
    assert leases.token("offers") is None, "it was told as it wanted to write"
    decided = await actions(store)
    assert decided.count("rollback") == 1
    assert len(site.received) == 1


async def test_a_standby_takes_a_persons_word_and_the_active_one_acts(store: Store) -> None:
    site = Site(steady(END))
    active, leases = led(store, site, "active")
    standby, _ = led(store, site, "standby")
    await pass_time(standby, site, BAD)
    await command(store, site, "rollback")
    await standby.tick()
    assert site.received == []
    await leases.renew(["offers"])
    await active.tick()
    assert len(site.received) == 1
