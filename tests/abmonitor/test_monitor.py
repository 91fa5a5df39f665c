"""The monitor: whatever dies at whatever moment, a decision is made once and its order carried out."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.panes import START, World, pane, steady
from support.site import (
    BAD,
    END,
    GOOD_END,
    Killed,
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

import abmonitor.hinting
from abmonitor.breach import OnBreach
from abmonitor.monitor import MAX_CONFLICTS, Monitor
from abmonitor.settings import Brake
from alerts.book import Book, Decision
from alerts.health import HoldOptions
from alerts.order import Order, Receipt
from alerts.standing import Standing, State
from alerts.store import AlertStore, StaleBookError
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE
from metrics.layout import KEPT, Keys, Kind, Meta, PaneName, shards_key
from metrics.reader import Reader
from metrics.value import Recommendation
from stream.store import Store


# --- the way it goes --------------------------------------------------------------------------------


async def test_a_bad_treatment_is_rolled_back_verified_and_left_alone(store: Store) -> None:
    site = failing()
    made = monitor(store, site)
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    assert await actions(store) == GOOD_END
    assert (await standing(store)).verified is True
    assert len(site.received) == 1
    assert await kept(store).outbox("offers") == []
    assert view.experiments["offers"].book == await kept(store).load("offers")


async def test_a_good_treatment_is_left_alone(store: Store) -> None:
    site = Site(steady(END))
    view = await pass_time(monitor(store, site), site, START + 30 * MINUTE)
    assert view.experiments["offers"].book.worst() is State.HEALTHY
    assert await actions(store) == []
    assert site.received == []


async def test_it_does_not_matter_how_often_it_ticks(embedded_store: Store) -> None:
    outcomes = []
    for step in (10_000, 7 * MINUTE, 56 * MINUTE):
        await embedded_store.client.flushdb()
        site = failing()
        made = monitor(embedded_store, site, observes_traffic=False, clock=lambda: 0)
        await pass_time(made, site, START + 56 * MINUTE, step)
        book = await kept(embedded_store).load("offers")
        outcomes.append((await kept(embedded_store).decisions("offers"), book.standings))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert [found.action for found in outcomes[0][0]] == ["rollback", "rolled_back"]


async def test_a_treatment_that_was_harmful_is_not_recommended(store: Store) -> None:
    site = failing()
    view = await pass_time(monitor(store, site), site, BAD + 10 * MINUTE)
    comparison = view.experiments["offers"].comparisons["new"]
    assert comparison.recommendation is Recommendation.REJECT


async def test_the_view_holds_what_was_decided_and_is_as_of_the_clock(store: Store) -> None:
    site = failing()
    made = monitor(store, site)
    assert made.view.experiments == {}
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    shown = view.experiments["offers"]
    assert list(shown.decisions) == await kept(store).decisions("offers")
    assert (view.as_of, shown.snapshot.watermark) == (site.now, site.now)
    assert made.view is view


async def test_a_restarted_monitor_shows_what_was_decided_before(store: Store) -> None:
    site = failing()
    before = await pass_time(monitor(store, site), site, BAD + 10 * MINUTE)
    after = await monitor(store, site).tick()
    assert after.experiments["offers"].decisions == before.experiments["offers"].decisions
    assert after.experiments["offers"].book == before.experiments["offers"].book


# --- dying ------------------------------------------------------------------------------------------


class DyingStore(AlertStore):
    """A store whose process ends at one of its writes, before it or after it."""

    def __init__(self, store: Store, at: int, when: str) -> None:
        super().__init__(store.client, "shop")
        self._left, self._when = at, when

    async def save(self, *args: Any, **options: Any) -> Book:
        self._left -= 1
        if self._left < 0 and self._when == "before":
            raise Killed
        written = await super().save(*args, **options)
        if self._left < 0:
            raise Killed
        return written


async def survive(store: Store, site: Site, make: Callable[[], Monitor], until: int) -> int:
    """Let time pass, with a new monitor after each death; returns how many deaths there were."""
    deaths, made = 0, make()
    while site.now < until:
        site.now += MINUTE
        for _ in range(3):
            try:
                await made.tick()
            except Killed:
                deaths, made = deaths + 1, monitor(store, site)
            else:
                break
    return deaths


async def undisturbed(store: Store) -> tuple[list[Decision], Book]:
    """What is decided if nothing dies."""
    site = failing()
    await pass_time(monitor(store, site), site, BAD + 10 * MINUTE)
    found = await kept(store).decisions("offers"), await kept(store).load("offers")
    await store.client.flushdb()
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [0, 5, 10, 11, 12, 13, 14, 15, 16])
async def test_a_monitor_that_dies_at_any_write_decides_the_same_once(
    embedded_store: Store, at: int, when: str
) -> None:
    decisions, book = await undisturbed(embedded_store)
    site = failing()
    made = monitor(embedded_store, site)
    made._books.store = DyingStore(embedded_store, at, when)
    assert await survive(embedded_store, site, lambda: made, BAD + 10 * MINUTE) == 1
    assert await kept(embedded_store).decisions("offers") == decisions
    ended = await kept(embedded_store).load("offers")
    assert msgspec.structs.replace(ended, version=book.version) == book
    assert set(site.received) == {decisions[0].id}
    assert await kept(embedded_store).outbox("offers") == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_monitor_that_dies_as_it_acts_acts_again_with_the_same_order(
    store: Store, when: str
) -> None:
    decisions, _ = await undisturbed(store)
    site = failing()
    site.dies = when
    deaths = await survive(store, site, lambda: monitor(store, site), BAD + 10 * MINUTE)
    assert deaths == 1
    assert await actions(store) == GOOD_END
    assert set(site.received) == {decisions[0].id}
    assert len(site.received) == (1 if when == "before" else 2)


class Unsure(AlertStore):
    """A store whose connection breaks after it wrote: the monitor cannot know that it did."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client, "shop")

    async def save(self, experiment: str, book: Book, **options: Any) -> Book:
        await super().save(experiment, book, **options)
        raise RedisConnectionError


async def test_an_answer_that_got_lost_decides_nothing_twice(store: Store) -> None:
    decisions, _ = await undisturbed(store)
    site = failing()
    made = monitor(store, site)
    good, unsure = made._books.store, Unsure(store)
    while site.now < BAD + 10 * MINUTE:
        site.now += MINUTE
        made._books.store = unsure
        for _ in range(4):
            try:
                await made.tick()
            except RedisConnectionError:
                continue
            break
        made._books.store = good
        await made.tick()
    assert await kept(store).decisions("offers") == decisions
    assert set(site.received) == {decisions[0].id}


# --- acting -----------------------------------------------------------------------------------------

DOWN = Receipt(accepted=False, detail="503", retry=True)


async def test_a_dead_router_is_a_failed_rollback_that_is_tried_until_it_is_done(
    store: Store,
) -> None:
    site = failing()
    site.answers = [DOWN] * 8
    made = monitor(store, site)
    await pass_time(made, site, BAD + 4 * MINUTE)
    assert await actions(store) == ["rollback", "rollback_failed"]
    assert made.view.experiments["offers"].book.worst() is State.ROLLBACK_FAILED
    await pass_time(made, site, BAD + 20 * MINUTE)
    assert await actions(store) == ["rollback", "rollback_failed", "accepted", "rolled_back"]
    assert (await standing(store)).verified is True
    assert len(site.received) == 1


async def test_a_router_that_raises_is_a_dead_one(store: Store) -> None:
    class Broken(Site):
        async def apply(self, order: Order) -> Receipt:
            raise RuntimeError(order.id)

    site = Broken(failing().world)
    await pass_time(monitor(store, site), site, BAD + 5 * MINUTE)
    decisions = await kept(store).decisions("offers")
    assert [found.action for found in decisions] == ["rollback", "rollback_failed"]
    assert decisions[1].reasons == ("Broken raised RuntimeError",)
    assert len(await kept(store).outbox("offers")) == 1


async def test_traffic_that_is_moved_by_hand_ends_the_failure_but_the_order_is_still_delivered(
    store: Store,
) -> None:
    site = failing()
    site.answers = [DOWN] * 100
    made = monitor(store, site)
    await pass_time(made, site, BAD + 6 * MINUTE)
    site.move()
    await pass_time(made, site, BAD + 12 * MINUTE)
    assert await actions(store) == ["rollback", "rollback_failed", "rolled_back"]
    assert len(await kept(store).outbox("offers")) == 1
    site.answers = []
    await pass_time(made, site, BAD + 14 * MINUTE)
    assert await actions(store) == ["rollback", "rollback_failed", "rolled_back"]
    assert len(site.received) == 1
    assert await kept(store).outbox("offers") == []


async def test_an_order_that_changes_nothing_is_sent_again_until_the_traffic_goes(
    store: Store,
) -> None:
    site = failing()
    site.obeys = False
    made = monitor(store, site)
    await pass_time(made, site, BAD + 20 * MINUTE)
    assert await actions(store) == ["rollback", "accepted", "rollback_failed"]
    assert len(site.received) > 2
    assert len(set(site.received)) == 1
    site.obeys = True
    await pass_time(made, site, BAD + 25 * MINUTE)
    assert await actions(store) == ["rollback", "accepted", "rollback_failed", "rolled_back"]
    assert await kept(store).outbox("offers") == []


async def test_nothing_is_sent_while_it_is_not_known_whether_the_traffic_goes(
    store: Store,
) -> None:
    site = failing()
    site.obeys = False
    await pass_time(monitor(store, site), site, BAD + 10 * MINUTE)
    assert (await standing(store)).state is State.VERIFYING
    assert len(site.received) == 1


async def test_where_traffic_cannot_be_seen_an_accepted_order_is_the_end_of_it(
    store: Store,
) -> None:
    site = failing()
    await pass_time(monitor(store, site, observes_traffic=False), site, BAD + 5 * MINUTE)
    assert await actions(store) == ["rollback", "rolled_back"]
    assert (await standing(store)).verified is False
    assert await kept(store).outbox("offers") == []


async def test_an_order_from_before_a_treatment_was_armed_again_is_not_carried_out(
    store: Store,
) -> None:
    site = failing()
    site.answers = [DOWN] * 1000
    made = monitor(store, site)
    await pass_time(made, site, BAD + 6 * MINUTE)
    site.move()
    await pass_time(made, site, BAD + 12 * MINUTE)
    await command(store, site, "rearm", force=True)
    site.answers = []
    await pass_time(made, site, BAD + 14 * MINUTE)
    assert site.received == []
    assert await kept(store).outbox("offers") == []


async def test_a_dry_run_orders_nothing(store: Store) -> None:
    site = failing()
    dry = settings(declared(on_breach=OnBreach(dry_run=True)))
    await pass_time(monitor(store, site, dry), site, BAD + 10 * MINUTE)
    assert await actions(store) == ["would_roll_back"]
    assert site.received == []


# --- other people's words ---------------------------------------------------------------------------


async def test_a_pause_behind_the_monitors_back_is_noticed_in_the_very_next_tick(
    store: Store,
) -> None:
    site = failing()
    made = monitor(store, site)
    await pass_time(made, site, BAD)
    await command(store, site, "pause")
    await pass_time(made, site, BAD + 10 * MINUTE)
    assert await actions(store) == ["pause", "harm_while_paused"]
    assert site.received == []
    await command(store, site, "resume")
    view = await pass_time(made, site, BAD + 15 * MINUTE)
    assert await actions(store) == ["pause", "harm_while_paused", "resume", *GOOD_END]
    assert [found.action for found in view.experiments["offers"].decisions] == await actions(store)


async def test_what_somebody_else_decided_is_shown_after_the_next_tick(store: Store) -> None:
    site = Site(steady(END))
    made = monitor(store, site)
    await pass_time(made, site, BAD)
    await command(store, site, "pause")
    (shown,) = (await made.tick()).experiments["offers"].decisions
    assert (shown.action, shown.actor) == ("pause", "ann")


async def test_a_rollback_by_hand_is_carried_out(store: Store) -> None:
    site = Site(steady(END))
    made = monitor(store, site)
    await pass_time(made, site, BAD)
    await command(store, site, "rollback")
    await pass_time(made, site, BAD + 5 * MINUTE)
    assert await actions(store) == GOOD_END
    assert (await kept(store).decisions("offers"))[0].actor == "ann"


async def test_harm_in_a_pause_is_recommended_against(store: Store) -> None:
    site = failing()
    made = monitor(store, site)
    await pass_time(made, site, BAD)
    await command(store, site, "pause")
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    comparison = view.experiments["offers"].comparisons["new"]
    assert comparison.recommendation is Recommendation.REJECT


class Contested(AlertStore):
    """A store in which somebody else always writes first, as often as was said."""

    def __init__(self, store: Store, times: int) -> None:
        super().__init__(store.client, "shop")
        self.left = times

    async def save(self, experiment: str, book: Book, **options: Any) -> Book:
        if self.left > 0:
            self.left -= 1
            await super().save(experiment, await self.load(experiment))
        return await super().save(experiment, book, **options)


@pytest.mark.parametrize("times", [1, MAX_CONFLICTS - 1])
async def test_a_tick_begins_again_with_the_book_that_somebody_else_wrote(
    store: Store, times: int
) -> None:
    site = failing()
    made = monitor(store, site)
    await pass_time(made, site, BAD + 2 * MINUTE)
    made._books.store = Contested(store, times)
    view = await pass_time(made, site, BAD + 3 * MINUTE)
    assert await actions(store) == ["rollback", "accepted"]
    assert len(site.received) == 1
    assert view.experiments["offers"].book == await kept(store).load("offers")


async def test_a_book_that_never_stays_the_same_is_an_error_and_the_next_tick_goes_on(
    store: Store,
) -> None:
    site = failing()
    made = monitor(store, site)
    await pass_time(made, site, BAD + 2 * MINUTE)
    good, made._books.store = made._books.store, Contested(store, MAX_CONFLICTS)
    with pytest.raises(StaleBookError):
        await pass_time(made, site, BAD + 3 * MINUTE)
    assert made.view.experiments["offers"].decisions == ()
    assert site.received == []
    made._books.store = good
    await made.tick()
    assert await actions(store) == ["rollback", "accepted"]


# --- failing ----------------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_read_is_an_error_that_changes_nothing(store: Store) -> None:
    site = failing()
    made = monitor(store, site)
    before = await pass_time(made, site, BAD + 2 * MINUTE)
    book = await kept(store).load("offers")
    site.broken = RedisConnectionError("gone")
    with pytest.raises(RedisConnectionError, match="gone"):
        await pass_time(made, site, BAD + 10 * MINUTE)
    assert made.view is before
    assert await kept(store).load("offers") == book
    site.broken = None
    await made.tick()
    assert await actions(store) == ["rollback", "accepted"]


async def test_a_read_that_broke_half_way_is_read_again_as_a_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(World())
    made = monitor(store, site)
    made._new_reader = lambda: Reader(store.client, "shop")
    made._reader = made._new_reader()
    keys, name = Keys("shop", 0), str(PaneName(Kind.TOTAL, "offers", "new"))
    await store.client.sadd(shards_key("shop"), "0")

    async def count(seq: int, predictions: int) -> None:
        await store.client.set(keys.ledger(name), pane(predictions).pack())
        await store.client.zadd(keys.touched(KEPT), {name: seq})
        await store.client.set(keys.meta, msgspec.json.encode(Meta(seq=seq, lineage="one")))

    async def broken(*_: object) -> None:
        raise RedisConnectionError

    await count(1, 10)
    view = await made.tick()
    await count(2, 20)
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "mget", broken)
        with pytest.raises(RedisConnectionError):
            await made.tick()
    assert made.view is view
    found = (await made.tick()).experiments["offers"].snapshot.variants["new"]
    assert found.total.predictions == 20


def breaks(method: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
    async def broken(experiment: str, *args: Any, **options: Any) -> Any:
        if experiment == name:
            raise RedisConnectionError(name)
        return await method(experiment, *args, **options)

    return broken


async def test_books_that_cannot_be_read_are_an_error_that_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise RedisConnectionError

    site = failing()
    made = monitor(store, site)
    with monkeypatch.context() as patch:
        patch.setattr(made._books.store, "refresh", broken)
        with pytest.raises(RedisConnectionError):
            await made.tick()
    assert [key async for key in store.client.scan_iter()] == []
    await pass_time(made, site, BAD + 10 * MINUTE)
    assert await actions(store) == GOOD_END


async def test_an_experiment_that_cannot_be_written_keeps_no_other_from_being_judged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = failing()
    made = monitor(store, site, settings(declared("first"), declared("second")))
    monkeypatch.setattr(made._books.store, "save", breaks(made._books.store.save, "first"))
    while site.now < BAD + 3 * MINUTE:
        site.now += MINUTE
        with pytest.raises(RedisConnectionError, match="first"):
            await made.tick()
    assert await actions(store, "first") == []
    assert await actions(store, "second") == ["rollback", "accepted"]


async def test_several_failures_are_told_together(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = failing()
    made = monitor(store, site, settings(declared("first"), declared("second")))
    site.now += MINUTE
    for name in ("first", "second"):
        monkeypatch.setattr(made._books.store, "save", breaks(made._books.store.save, name))
    with pytest.raises(ExceptionGroup) as caught:
        await made.tick()
    assert [str(error) for error in caught.value.exceptions] == ["first", "second"]


# --- the brake --------------------------------------------------------------------------------------

MANY = tuple(declared(name) for name in ("a", "b", "c"))


async def test_more_rollbacks_than_allowed_over_all_experiments_page_instead_of_acting(
    store: Store,
) -> None:
    site = failing()
    site.obeys = False
    braked = settings(*MANY, brake=Brake(rollbacks=2))
    await pass_time(monitor(store, site, braked), site, BAD + 4 * MINUTE)
    for name, expected in (("a", GOOD_END[:2]), ("b", GOOD_END[:2]), ("c", ["braked"])):
        assert await actions(store, name) == expected
    assert (await standing(store, "c")).state is State.HOLD


async def test_the_brake_remembers_rollbacks_through_restarts_and_through_arming_again(
    store: Store,
) -> None:
    site = failing()
    site.obeys = False
    one = settings(declared("c"), brake=Brake(rollbacks=1))
    await pass_time(monitor(store, site, one), site, BAD + 4 * MINUTE)
    alerts, book = kept(store), await kept(store).load("c")
    gone = {"new": Standing(state=State.ROLLED_BACK)}
    await alerts.save("c", msgspec.structs.replace(book, standings=gone))
    await command(store, site, "rearm", "c")
    both = settings(declared("a"), declared("c"), brake=Brake(rollbacks=1))
    await monitor(store, site, both).tick()
    assert await actions(store, "a") == ["braked"]


async def test_the_brake_is_off_when_its_time_is_over_and_acts_on_harm_that_is_still_there(
    store: Store,
) -> None:
    site = failing()
    site.obeys = False
    quick = settings(*MANY[:2], brake=Brake(rollbacks=1, within=Duration(5 * MINUTE)))
    await pass_time(monitor(store, site, quick), site, BAD + 10 * MINUTE)
    assert await actions(store, "a") == GOOD_END[:2]
    assert await actions(store, "b") == ["braked", *GOOD_END[:2]]


async def test_dry_runs_do_not_use_the_brake_up(store: Store) -> None:
    site = failing()
    dry = declared("a", on_breach=OnBreach(dry_run=True))
    both = settings(dry, declared("b"), brake=Brake(rollbacks=1))
    await pass_time(monitor(store, site, both), site, BAD + 4 * MINUTE)
    assert await actions(store, "a") == ["would_roll_back"]
    assert (await actions(store, "b"))[0] == "rollback"


async def test_a_brake_of_nothing_never_acts(store: Store) -> None:
    site = failing()
    never = settings(brake=Brake(rollbacks=0))
    await pass_time(monitor(store, site, never), site, BAD + 10 * MINUTE)
    assert await actions(store) == ["braked"]
    assert site.received == []


# --- stale data -------------------------------------------------------------------------------------


async def test_data_that_stops_coming_holds_and_new_data_releases(store: Store) -> None:
    site = Site(steady(END))
    made = monitor(store, site, stale_after=5 * MINUTE)
    await pass_time(made, site, START + 20 * MINUTE)
    site.stops_at = site.now
    await pass_time(made, site, START + 25 * MINUTE)
    assert await actions(store) == []
    await pass_time(made, site, START + 26 * MINUTE)
    assert await actions(store) == ["hold"]
    assert (await standing(store)).causes == ("stale: no data is newer than 5m",)
    version = (await kept(store).load("offers")).version
    await pass_time(made, site, START + 40 * MINUTE)
    assert (await kept(store).load("offers")).version == version
    site.stops_at = END
    await pass_time(made, site, START + 45 * MINUTE)
    assert await actions(store) == ["hold", "release"]


async def test_harm_in_mind_is_acted_on_after_a_pause_even_if_no_data_comes_any_more(
    store: Store,
) -> None:
    site = failing()
    made = monitor(store, site, stale_after=5 * MINUTE)
    await pass_time(made, site, BAD)
    await command(store, site, "pause")
    await pass_time(made, site, BAD + 5 * MINUTE)
    site.stops_at = site.now
    await pass_time(made, site, BAD + 15 * MINUTE)
    await command(store, site, "resume")
    await pass_time(made, site, BAD + 16 * MINUTE)
    assert await actions(store) == ["pause", "harm_while_paused", "resume", *GOOD_END[:2]]
    assert len(site.received) == 1


async def test_the_brake_holds_for_stale_looks_too(store: Store) -> None:
    site = failing()
    hold = HoldOptions(deadline=Duration(10 * MINUTE))
    never = settings(declared(hold=hold, guardrails=()), brake=Brake(rollbacks=0))
    made = monitor(store, site, never, stale_after=5 * MINUTE)
    await pass_time(made, site, BAD)
    site.stops_at = site.now
    await pass_time(made, site, BAD + 30 * MINUTE)
    assert await actions(store) == ["hold", "braked"]


async def test_without_any_data_there_is_nothing_to_say(store: Store) -> None:
    site = Site(World())
    view = await pass_time(monitor(store, site, stale_after=MINUTE), site, BAD, 5 * MINUTE)
    assert view.experiments["offers"].book.worst(["new"]) in {State.COLLECTING, State.HOLD}
    assert site.received == []


# --- hints ------------------------------------------------------------------------------------------


def unlabelled() -> Site:
    """A site whose treatment gets no labels, and nothing else is wrong with it."""
    world = steady(END)
    world.arrive("new", START, END, pane(10, latency_ms=20))
    return Site(world)


async def test_hints_come_with_ticks_where_they_are_wanted_and_decide_nothing(
    embedded_store: Store,
) -> None:
    site = unlabelled()
    plain = await pass_time(monitor(embedded_store, site), site, END - HOUR // 2)
    assert plain.experiments["offers"].hints is None
    assert plain.experiments["offers"].drift is None
    decided = await actions(embedded_store)
    hinting = monitor(embedded_store, site, hints=True)
    shown = (await hinting.tick()).experiments["offers"]
    assert shown.hints is not None
    assert shown.drift is not None
    assert [(hint.kind, hint.variant) for hint in shown.hints] == [("label_rate", "new")]
    again = (await hinting.tick()).experiments["offers"]
    assert again.hinted is shown.hinted, "they were kept"
    assert await actions(embedded_store) == decided


async def test_hints_can_be_added_once_at_the_end_for_all_experiments(
    embedded_store: Store,
) -> None:
    site, both = unlabelled(), settings(declared("a"), declared("b"))
    made = monitor(embedded_store, site, both, observes_traffic=False)
    assert (await made.add_hints()).experiments == {}
    before = await pass_time(made, site, END - HOUR // 2)
    view = await made.add_hints()
    assert made.view is view
    for name, shown in view.experiments.items():
        assert before.experiments[name].hints is None
        assert [hint.kind for hint in shown.hints or ()] == ["label_rate"]
        assert shown.comparisons == before.experiments[name].comparisons
    assert (view.fleet, view.as_of) == (before.fleet, before.as_of)


async def test_hints_that_fail_stop_no_tick_and_no_rollback(
    embedded_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def broken(*given: object) -> None:
        tried.append(given)
        raise ZeroDivisionError

    monkeypatch.setattr(abmonitor.hinting, "drift", broken)
    site = failing()
    made = monitor(embedded_store, site, hints=True)
    view = await pass_time(made, site, BAD + 10 * MINUTE)
    assert tried
    assert await actions(embedded_store) == GOOD_END
    assert view.experiments["offers"].hints is None
    assert view.as_of == site.now


async def test_a_treatment_that_was_rolled_back_gets_no_hints(embedded_store: Store) -> None:
    site = failing()
    made = monitor(embedded_store, site, hints=True)
    before = await pass_time(made, site, BAD)
    after = await pass_time(made, site, BAD + 10 * MINUTE)
    looked_at = [
        view.experiments["offers"].drift.against_control.keys()  # type: ignore[union-attr]
        for view in (before, after)
    ]
    assert looked_at == [{"new"}, set()]
