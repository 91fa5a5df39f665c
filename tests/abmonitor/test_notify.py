"""Notifications: everybody hears of each decision once, and the monitor waits for nobody."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.eventfiles import SECOND, prediction
from support.eventfiles import START as BEGIN
from support.news import NOW, Notified, Receiver, decision, served
from support.panes import EXPERIMENT, START, steady
from support.views import view_of

from abmonitor.channels import channels_of
from abmonitor.notify import Channel, Notifications
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView, View
from alerts.book import Book, Decision
from alerts.notifiers.news import News
from alerts.notifiers.outlets import WAITING
from alerts.notifiers.words import HEADLINES
from alerts.order import Receipt
from alerts.standing import Standing, State
from metrics.experiment import MINUTE


WAIT_S = 10.0
TOKEN = Secret(env="token")


def about(name: str, number: int, action: str = "rollback", **changes: Any) -> Decision:
    fields: dict[str, Any] = {"experiment": name, "treatment": "new", "at": NOW - 10 * MINUTE}
    return decision(number, action, **fields | changes)


def seen(
    name: str, decisions: Iterable[Decision] = (), version: int = 1, **standing: Any
) -> ExperimentView:
    """What a tick found of one experiment."""
    declared = {field: getattr(EXPERIMENT, field) for field in EXPERIMENT.__struct_fields__}
    made = tuple(decisions)
    book = Book(version=version, standings={"new": Standing(**{"since": NOW - MINUTE} | standing)})
    settings = ExperimentSettings(**declared | {"name": name})
    return ExperimentView(settings, steady(START).snapshot(START), book, {}, made)


def view(
    *experiments: ExperimentView, leads: Sequence[str] | None = None, unknown: Sequence[str] = ()
) -> View:
    found = {one.experiment.name: one for one in experiments}
    led = frozenset(found if leads is None else leads)
    return View(found, as_of=NOW, leads=led, unknown=dict.fromkeys(unknown, "lost"))


def notifications(*channels: Channel) -> Notifications:
    return Notifications(channels, clock=lambda: NOW / 1000)


@asynccontextmanager
async def running(telling: Notifications) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(telling.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # the outlets make it true
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


async def hang(_: News) -> Receipt:
    await asyncio.Event().wait()
    raise AssertionError("it never answers")


# --- decisions ------------------------------------------------------------------------------------


async def test_each_decision_is_told_once_to_everybody() -> None:
    chat, chart = Notified(), Notified()
    telling = notifications(Channel("chat", chat), Channel("chart", chart))
    old, new = about("offers", 1), about("offers", 2)
    async with running(telling):
        telling.tell(view(seen("offers", [old])))
        for version in range(2, 6):  # other things change, too
            telling.tell(view(seen("offers", [old, new], version)))
        await until(lambda: chat.told and chart.told, "both")
    assert chat.told == chart.told == [new.id]
    assert telling.counts() == {
        ("chat", "sent"): 1,
        ("chat", "failed"): 0,
        ("chat", "dropped"): 0,
        ("chart", "sent"): 1,
        ("chart", "failed"): 0,
        ("chart", "dropped"): 0,
    }


async def test_everybody_is_told_of_what_they_ask_for() -> None:
    told = {name: Notified() for name in ("all", "some", "theirs", "quiet")}
    telling = notifications(
        Channel("all", told["all"]),
        Channel("some", told["some"], actions=("rollback",)),
        Channel("theirs", told["theirs"], experiments=("price*",)),
        Channel("quiet", told["quiet"], actions=("accepted",)),
    )
    before = [view(seen("offers"), seen("prices"))]
    offers = [about("offers", 1), about("offers", 2, "accepted")]
    prices = [about("prices", 1, "hold")]
    telling.tell(*before)
    telling.tell(view(seen("offers", offers, 2), seen("prices", prices, 2)))
    async with running(telling):
        pass
    heard = {name: one.told for name, one in told.items()}
    assert heard == {
        "all": [offers[0].id, prices[0].id],
        "some": [offers[0].id],
        "theirs": [prices[0].id],
        "quiet": [offers[1].id],
    }


def test_telling_waits_for_nobody_and_keeps_only_so_much() -> None:
    assert not inspect.iscoroutinefunction(Notifications.tell)
    telling = notifications(
        Channel("chat", Notified(answer=hang)), Channel("pager", Notified(every_s=60, answer=hang))
    )
    telling.tell(view(seen("offers")))
    extra = 50
    for number in range(1, WAITING + extra + 1):  # no loop runs: nothing can be waited for
        newest = [about("offers", n) for n in range(max(1, number - 5), number + 1)]
        telling.tell(view(seen("offers", newest, number)))
    assert telling.counts()["chat", "dropped"] == extra
    [(_, queue)] = telling._decisions
    assert [one.id for one, _ in queue._queue] == [
        about("offers", number).id for number in range(extra + 1, WAITING + extra + 1)
    ]


async def test_one_that_hangs_holds_up_no_other_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("abmonitor.notify.FAREWELL_S", 0.01)
    stuck, chat, pager = Notified(answer=hang), Notified(), Notified(every_s=3600)
    telling = notifications(Channel("stuck", stuck), Channel("chat", chat), Channel("pager", pager))
    async with asyncio.timeout(WAIT_S), running(telling):
        telling.tell(view(seen("offers")))
        telling.tell(view(seen("offers", [about("offers", 1)], 2, state=State.ROLLING_BACK)))
        await until(lambda: stuck.news and chat.told and len(pager.news) == 1, "the others")
    assert all(one.closed for one in (stuck, chat, pager))


async def test_being_cut_short_closes_everything_too() -> None:
    chat = Notified(answer=hang)
    telling = notifications(Channel("chat", chat))
    task = asyncio.create_task(telling.run(asyncio.Event()))
    telling.tell(view(seen("offers")))
    telling.tell(view(seen("offers", [about("offers", 1)], 2)))
    await until(lambda: chat.news, "the attempt")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chat.closed


async def test_a_mistake_of_ours_is_logged_and_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("abmonitor.notify.AGAIN_S", 0)
    chat = Notified()
    telling = notifications(Channel("chat", chat))
    settle, decisions = telling._settled, [about("offers", 1), about("offers", 2)]

    def settled(one: Decision) -> None:
        if one is decisions[0]:
            raise ZeroDivisionError
        settle(one)

    telling._decisions[0][1]._settled = settled
    telling.tell(view(seen("offers")))
    telling.tell(view(seen("offers", decisions, 2)))
    async with running(telling):
        await until(lambda: len(chat.told) == 2, "both")
    assert caplog.messages == ["notifier chat: failed, and goes on"]


async def test_without_anybody_to_tell_nothing_happens() -> None:
    telling = notifications()
    async with running(telling):
        telling.tell(view(seen("offers", [about("offers", 1)])))
    assert telling.counts() == {}


def test_what_goes_wrong_is_logged_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telling = notifications(Channel("chat", Notified()))
    broken: Any = View(experiments={"offers": None})  # type: ignore[dict-item]
    for _ in range(3):
        telling.tell(broken)
    assert caplog.messages == ["notifications: not told of what the latest tick found"]
    telling.tell(view(seen("offers")))
    telling.tell(broken)
    assert len(caplog.messages) == 2


# --- after a start, a take-over, a loss -----------------------------------------------------------


def waiting_in(telling: Notifications) -> list[str]:
    """What the first channel is still to be told of."""
    return [one.id for one, _ in telling._decisions[0][1]._queue]


def test_a_cursor_says_where_to_go_on() -> None:
    decisions = [about("offers", number) for number in range(1, 5)]
    telling = notifications(Channel("chat", Notified()))
    telling.tell(view(seen("offers", decisions)), cursors={"offers": decisions[1].id})
    assert waiting_in(telling) == [decisions[2].id, decisions[3].id]
    assert telling.cursors() == {"offers": decisions[1].id}


async def test_the_cursor_follows_what_was_told_to_the_slowest() -> None:
    decisions = [about("offers", number) for number in range(1, 4)]
    answered = asyncio.Event()

    async def slow(_: News) -> Receipt:
        await answered.wait()
        return Receipt(accepted=True, detail="200")

    telling = notifications(Channel("chat", Notified()), Channel("chart", Notified(answer=slow)))
    telling.tell(view(seen("offers", decisions[:1])))
    assert telling.cursors() == {"offers": decisions[0].id}
    async with running(telling):
        telling.tell(view(seen("offers", decisions[:2], 2)))
        await until(lambda: telling.counts()["chat", "sent"] == 1, "the faster one")
        assert telling.cursors() == {"offers": decisions[0].id}
        answered.set()
        await until(lambda: telling.cursors() == {"offers": decisions[1].id}, "the slower one")
        nobody = about("offers", 4, "accepted")  # is told to nobody
        telling.tell(view(seen("offers", [*decisions[:2], nobody], 3)))
        assert telling.cursors() == {"offers": nobody.id}


def test_only_who_leads_tells_and_keeps_a_cursor() -> None:
    first, second = about("offers", 1), about("offers", 2)
    telling = notifications(Channel("chat", Notified()))
    telling.tell(view(seen("offers", [first]), leads=[]))
    telling.tell(view(seen("offers", [first, second], 2), leads=[]))
    assert (waiting_in(telling), telling.cursors()) == ([], {})
    # Whoever led did not get to it, perhaps: it was decided a moment ago.
    telling.tell(view(seen("offers", [first, second], 2)))
    assert waiting_in(telling) == [second.id]
    assert telling.cursors() == {"offers": first.id}


def test_a_state_that_is_lost_at_the_start_brings_back_nothing_to_tell() -> None:
    decisions = [about("offers", number) for number in range(1, 50)]
    telling = notifications(Channel("chat", Notified()))
    telling.tell(view(seen("offers", version=0), unknown=["offers"]))
    telling.tell(view(seen("offers", decisions, 1)))
    assert waiting_in(telling) == []
    fresh = about("offers", 50)
    telling.tell(view(seen("offers", [*decisions, fresh], 2)))
    assert waiting_in(telling) == [fresh.id]


@given(
    st.lists(
        st.tuples(st.sampled_from(["decide", "restart", "takeover", "lose"]), st.booleans()),
        max_size=30,
    )
)
def test_with_a_cursor_nothing_is_lost_and_in_one_life_nothing_is_told_twice(
    steps: list[tuple[str, bool]],
) -> None:
    """Two monitors take turns; each life's messages are delivered at once, or not at all."""
    decisions = [about("offers", 0)]
    kept = {"offers": decisions[0].id}
    told: list[tuple[int, str]] = []

    def life() -> Notifications:
        return notifications(Channel("chat", Notified()))

    pair, leader = [life(), life()], 0
    lives = list(pair)
    for number, (step, delivers) in enumerate(steps, start=1):
        if step == "decide":
            decisions.append(about("offers", number))
        elif step == "restart":
            pair[leader] = life()
            lives.append(pair[leader])
        elif step == "takeover":
            leader = 1 - leader
        for index, telling in enumerate(pair):
            shown = [] if step == "lose" else decisions[-100:]
            leads = ["offers"] if index == leader else []
            found = view(seen("offers", shown, number), leads=leads)
            telling.tell(found, cursors=kept)
        if delivers:
            queue = pair[leader]._decisions[0][1]
            while queue._queue:
                done, _ = queue._queue.popleft()
                told.append((lives.index(pair[leader]), done.id))
                queue._settled(done)
            kept |= pair[leader].cursors()
    last = life()
    last.tell(view(seen("offers", decisions[-100:], len(steps) + 1)), cursors=kept)
    told += [(len(lives), name) for name in waiting_in(last)]
    assert len(set(told)) == len(told)
    assert {name for _, name in told} == {one.id for one in decisions[1:]}


# --- how everything stands ------------------------------------------------------------------------


def shown_to(telling: Notifications, channel: int = 0) -> list[tuple[str, str, State]] | None:
    shown = telling._situations[channel][1]._situations
    if shown is None:
        return None
    return [(one.experiment, one.treatment, one.standing.state) for one in shown]


def test_how_everything_stands_is_shown_from_the_first_tick_on() -> None:
    telling = notifications(Channel("pager", Notified(every_s=60)))
    assert shown_to(telling) is None
    telling.tell(view(seen("offers", state=State.ROLLBACK_FAILED), seen("prices")))
    assert shown_to(telling) == [
        ("offers", "new", State.ROLLBACK_FAILED),
        ("prices", "new", State.COLLECTING),
    ]


def test_who_does_not_lead_shows_nothing_and_filters_hold_here_too() -> None:
    telling = notifications(
        Channel("pager", Notified(every_s=60)),
        Channel("theirs", Notified(every_s=60), experiments=("prices",)),
    )
    both = seen("offers", state=State.HOLD), seen("prices", state=State.HOLD)
    telling.tell(view(*both))
    assert shown_to(telling, 1) == [("prices", "new", State.HOLD)]
    telling.tell(view(*both, leads=["offers"]))
    assert shown_to(telling) == [("offers", "new", State.HOLD)]
    assert shown_to(telling, 1) == []


async def test_only_changes_are_told_at_once() -> None:
    pager = Notified(every_s=3600)
    telling = notifications(Channel("pager", pager))
    async with running(telling):
        for version in range(1, 20):
            found = seen("offers", (), version, state=State.SUSPECT, streaks={"rap": version})
            telling.tell(view(found))
        await until(lambda: pager.news, "the first")
        await asyncio.sleep(0.02)
        assert len(pager.news) == 1


def test_a_rollback_found_late_is_new_when_it_is_found() -> None:
    telling = notifications(Channel("pager", Notified(every_s=60)))
    long_ago = NOW - 600 * MINUTE

    def noticed() -> int:
        shown = telling._situations[0][1]._situations
        assert shown is not None
        return shown[0].noticed

    telling.tell(view(seen("offers", since=long_ago)))
    assert noticed() == long_ago
    done = seen("offers", (), 2, state=State.ROLLED_BACK, since=long_ago + MINUTE)
    telling.tell(view(done))
    assert noticed() == NOW
    telling.tell(view(seen("offers", (), 3, state=State.ROLLED_BACK, since=long_ago + MINUTE)))
    assert noticed() == NOW


def test_what_stands_in_for_a_lost_state_began_when_it_was_found() -> None:
    telling = notifications(Channel("pager", Notified(every_s=60)))
    lost = seen("offers", (), 0, state=State.HOLD, since=0, causes=("its state got lost",))
    telling.tell(view(lost, unknown=["offers"]))
    shown = telling._situations[0][1]._situations
    assert shown is not None
    assert (shown[0].standing.since, shown[0].standing.state) == (NOW, State.HOLD)


# --- from events to people ------------------------------------------------------------------------


@pytest.fixture
def failing() -> View:
    """What the monitor knows after events of which those of `new` all fail."""
    made = []
    for number in range(600):
        variant = "new" if number % 2 else "old"
        at = BEGIN + number * SECOND
        made.append(prediction(f"p{number}", at, variant, error=variant == "new"))
    return view_of(made)


async def test_what_is_decided_from_events_reaches_chat_charts_and_pagers(failing: View) -> None:
    found, at = failing, (failing.as_of or 0) / 1000
    decisions = found.experiments["offers"].decisions
    assert "rollback" in {one.action for one in decisions}
    receiver = Receiver()
    async with served(receiver) as url:
        environ = {name: f"{url}/{name}" for name in ("slack", "grafana", "alertmanager")}
        environ["token"] = "glsa_x"
        settings = NotifySettings(
            to=(
                NotifierSettings(kind="slack", url=Secret(env="slack")),
                NotifierSettings(kind="grafana", url=Secret(env="grafana"), token=TOKEN),
                NotifierSettings(kind="alertmanager", url=Secret(env="alertmanager")),
            )
        )
        telling = Notifications(channels_of(settings, environ), clock=lambda: at)
        before = {name: replace(one, decisions=()) for name, one in found.experiments.items()}
        telling.tell(replace(found, experiments=before))
        telling.tell(found)
        async with running(telling):
            await until(lambda: all(told_by(receiver).values()), "all three")
    told = told_by(receiver)
    words = HEADLINES[decisions[0].action]
    assert words in told["slack"][0]["text"]
    assert told["grafana"][0]["time"] == decisions[0].at
    assert decisions[0].reasons[0] in told["grafana"][0]["text"]
    [alert] = told["alertmanager"][0]
    assert alert["labels"]["alertname"] == "AbmonitorRollback"
    assert alert["labels"]["variant"] == "new"


def told_by(receiver: Receiver) -> dict[str, list[Any]]:
    """What each notifier has posted; the first part of the path tells them apart."""
    told: dict[str, list[Any]] = {"slack": [], "grafana": [], "alertmanager": []}
    for request, body in zip(receiver.requests, receiver.bodies, strict=True):
        told[request.path.split("/")[1]].append(json.loads(body))
    return told
