"""Outlets: nothing holds anybody up, nothing grows without bounds, and the newest is never lost."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from support.news import NOW, Notified, decision, situation

from alerts.book import Decision
from alerts.notifiers.news import News
from alerts.notifiers.outlets import PATIENCE_S, WAITING, Decisions, Outlet, Situations
from alerts.order import Receipt
from alerts.standing import State


WAIT_S = 10.0
TAKEN = Receipt(accepted=True, detail="200")
LATER = Receipt(accepted=False, detail="503", retry=True)
NEVER = Receipt(accepted=False, detail="401")


class Clock:
    """Seconds since 1970 that a test sets."""

    def __init__(self) -> None:
        self.now = NOW / 1000

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(outlet: Outlet) -> AsyncIterator[None]:
    task = asyncio.create_task(outlet.run())
    try:
        yield
    finally:
        outlet.end()
        await asyncio.wait_for(task, WAIT_S)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # the outlet makes it true
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


def answers(*receipts: Receipt) -> Callable[[News], Awaitable[Receipt]]:
    """Gives these receipts, the last one for ever."""
    left = list(receipts)

    async def answer(_: News) -> Receipt:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


async def hang(_: News) -> Receipt:
    await asyncio.Event().wait()
    raise AssertionError("it never answers")


async def fail(_: News) -> Receipt:
    raise RuntimeError("T0P5ECRET")


def chat(
    notifier: Notified, settled: list[str] | None = None, clock: Clock | None = None
) -> Decisions:
    done = [] if settled is None else settled

    def settle(one: Decision) -> None:
        done.append(one.id)

    return Decisions("chat", notifier, settle, pace_s=0, chance=lambda: 0, clock=clock or Clock())


def ids(*numbers: int) -> list[str]:
    return [decision(number).id for number in numbers]


# --- each decision once ---------------------------------------------------------------------------


async def test_decisions_are_told_once_and_in_order() -> None:
    notifier, settled = Notified(), list[str]()
    outlet = chat(notifier, settled)
    async with running(outlet):
        for number in range(3):
            outlet.offer(decision(number))
        await until(lambda: len(notifier.told) == 3, "three decisions")
    assert notifier.told == settled == ids(0, 1, 2)
    assert outlet.counts == {"sent": 3, "failed": 0, "dropped": 0}


def test_offering_and_showing_wait_for_nobody() -> None:
    # Without a loop there is nothing that could be waited for.
    assert not inspect.iscoroutinefunction(Decisions.offer)
    outlet = chat(Notified(answer=hang))
    outlet.offer(decision())
    board = Situations("pager", Notified(every_s=60, answer=hang))
    board.show((situation(),))
    assert outlet.counts == board.counts == {"sent": 0, "failed": 0, "dropped": 0}


async def test_what_waits_is_bounded_and_the_oldest_make_room() -> None:
    notifier, settled = Notified(), list[str]()
    outlet = chat(notifier, settled)
    extra = 7
    for number in range(WAITING + extra):
        outlet.offer(decision(number))
    assert settled == ids(*range(extra))
    assert outlet.counts["dropped"] == extra
    async with running(outlet):
        await until(lambda: len(notifier.told) == WAITING, "the rest")
    assert notifier.told == ids(*range(extra, WAITING + extra))


async def test_a_notifier_that_hangs_still_leaves_the_newest() -> None:
    waiting = asyncio.Event()

    async def slow(_: News) -> Receipt:
        await waiting.wait()
        return LATER if len(notifier.news) == 1 else TAKEN

    notifier = Notified(answer=slow)
    outlet = chat(notifier)
    async with running(outlet):
        outlet.offer(decision(0))
        await until(lambda: notifier.news, "the first attempt")
        for number in range(1, WAITING + 1):
            outlet.offer(decision(number))
        waiting.set()
        await until(lambda: len(notifier.told) == WAITING + 1, "the rest")
    # The first could have been told later, but there was no room for it any more.
    assert notifier.told == ids(*range(WAITING + 1))
    assert outlet.counts == {"sent": WAITING, "failed": 1, "dropped": 1}


async def test_what_fails_is_told_later_before_what_came_after_it() -> None:
    notifier = Notified(answer=answers(LATER, LATER, TAKEN))
    outlet = chat(notifier)
    async with running(outlet):
        outlet.offer(decision(0))
        outlet.offer(decision(1))
        await until(lambda: outlet.counts["sent"] == 2, "both")
    assert notifier.told == ids(0, 0, 0, 1)
    assert outlet.counts == {"sent": 2, "failed": 2, "dropped": 0}


async def test_what_is_refused_for_good_holds_up_nothing() -> None:
    notifier, settled = Notified(answer=answers(NEVER, TAKEN)), list[str]()
    outlet = chat(notifier, settled)
    async with running(outlet):
        outlet.offer(decision(0))
        outlet.offer(decision(1))
        await until(lambda: outlet.counts["sent"] == 1, "the second")
    assert notifier.told == settled == ids(0, 1)
    assert outlet.counts == {"sent": 1, "failed": 1, "dropped": 1}


async def test_a_decision_is_given_up_when_it_is_old() -> None:
    clock, settled = Clock(), list[str]()

    async def away(_: News) -> Receipt:
        clock.now += PATIENCE_S / 2 + 1
        return LATER

    notifier = Notified(answer=away)
    outlet = chat(notifier, settled, clock)
    async with running(outlet):
        outlet.offer(decision())
        await until(lambda: settled, "that it is given up")
    assert outlet.counts == {"sent": 0, "failed": 2, "dropped": 1}


@pytest.mark.parametrize(
    ("asked", "least"), [(None, 1.0), (0.0, 1.0), (7.0, 7.0)], ids=["no", "none", "7 s"]
)
def test_after_a_failure_it_waits_as_long_as_it_was_asked_to(
    asked: float | None, least: float
) -> None:
    outlet = Decisions("chat", Notified(), lambda _: None, chance=lambda: 0)
    receipt = Receipt(accepted=False, detail="429", retry=True, retry_after=asked)
    assert outlet._wait_after(receipt, 1) == least


def test_it_waits_longer_after_each_failure() -> None:
    outlet = Decisions("chat", Notified(), lambda _: None, chance=lambda: 1)
    waits = [outlet._wait_after(LATER, failures) for failures in range(1, 11)]
    assert waits == [1, 1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_notifier_that_breaks_its_word_is_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notifier = Notified(answer=fail)
    outlet = chat(notifier)
    async with running(outlet):
        outlet.offer(decision(0))
        outlet.offer(decision(1))
        await until(lambda: outlet.counts["dropped"] == 2, "both")
    assert "raised RuntimeError" in caplog.text
    assert "T0P5ECRET" not in caplog.text


async def test_one_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.notifiers.outlets.LONGEST_ATTEMPT_S", 0.01)
    notifier = Notified(answer=hang)
    outlet = chat(notifier)
    async with running(outlet):
        outlet.offer(decision())
        await until(lambda: outlet.counts["failed"] >= 2, "another attempt")


async def test_recovery_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outlet = chat(Notified(answer=answers(LATER, LATER, TAKEN)))
    async with running(outlet):
        outlet.offer(decision())
        await until(lambda: outlet.counts["sent"], "success")
    assert caplog.messages == ["notifier chat: 503", "notifier chat: works again"]


async def test_the_end_tries_once_more_without_waiting() -> None:
    notifier, settled = Notified(answer=answers(LATER)), list[str]()
    outlet = Decisions("chat", notifier, lambda one: settled.append(one.id), pace_s=3600)
    async with running(outlet):
        outlet.offer(decision(0))
        outlet.offer(decision(1))
        await until(lambda: notifier.news, "the first attempt")
    assert notifier.told == ids(0, 0, 1)
    assert settled == []  # whoever starts next tells them again


# --- how everything stands ------------------------------------------------------------------------


def board(notifier: Notified, *, pace_s: float = 0) -> Situations:
    return Situations("pager", notifier, pace_s=pace_s, chance=lambda: 0, clock=Clock())


HOLD, FAILED = (situation(State.HOLD),), (situation(State.ROLLBACK_FAILED),)


async def test_nothing_is_said_before_anything_is_known() -> None:
    notifier = Notified(every_s=0.005)
    async with running(board(notifier)):
        await asyncio.sleep(0.05)
    assert notifier.news == []


async def test_a_change_is_told_at_once() -> None:
    notifier = Notified(every_s=3600)
    outlet = board(notifier)
    async with running(outlet):
        outlet.show(HOLD)
        await until(lambda: len(notifier.news) == 1, "the first")
        outlet.show(FAILED)
        await until(lambda: len(notifier.news) == 2, "the second")
    assert [news.situations for news in notifier.news][:2] == [HOLD, FAILED]
    assert notifier.news[0].at == NOW


async def test_what_stays_is_told_again_and_again() -> None:
    notifier = Notified(every_s=0.005)
    outlet = board(notifier)
    async with running(outlet):
        outlet.show(HOLD)
        await until(lambda: len(notifier.news) >= 5, "five times")
    assert all(news.situations == HOLD for news in notifier.news)


async def test_after_a_failure_only_the_newest_is_told() -> None:
    release = asyncio.Event()

    async def slow(news: News) -> Receipt:
        if news.situations == HOLD:
            await release.wait()
            return LATER
        return TAKEN

    notifier = Notified(every_s=3600, answer=slow)
    outlet = board(notifier)
    async with running(outlet):
        outlet.show(HOLD)
        await until(lambda: notifier.news, "the first attempt")
        for number in range(1000):
            outlet.show((situation(State.SUSPECT, noticed=number),))
        outlet.show(FAILED)
        release.set()
        await until(lambda: outlet.counts["sent"], "success")
    assert [news.situations for news in notifier.news][:2] == [HOLD, FAILED]


async def test_changes_in_a_row_make_few_messages() -> None:
    notifier = Notified(every_s=3600)
    outlet = board(notifier, pace_s=0.05)
    async with running(outlet):
        for number in range(20):
            outlet.show((situation(State.SUSPECT, noticed=number),))
            await asyncio.sleep(0)
        outlet.show(FAILED)
        await until(lambda: notifier.news[-1:] and notifier.news[-1].situations == FAILED, "last")
    assert len(notifier.news) <= 4


async def test_what_cannot_be_told_now_is_told_when_it_is_told_again_anyway() -> None:
    notifier = Notified(every_s=0.01, answer=answers(NEVER, NEVER, TAKEN))
    outlet = board(notifier)
    async with running(outlet):
        outlet.show(HOLD)
        await until(lambda: outlet.counts["sent"], "success")
    assert outlet.counts["failed"] == 2


async def test_the_end_tells_what_changed_last() -> None:
    notifier = Notified(every_s=3600)
    outlet = board(notifier, pace_s=3600)
    async with running(outlet):
        outlet.show(HOLD)
        await until(lambda: notifier.news, "the first")
        outlet.show(FAILED)
    assert notifier.news[-1].situations == FAILED
