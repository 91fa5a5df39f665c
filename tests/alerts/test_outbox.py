"""The outbox: what becomes of orders, and patience with an actuator."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.machine import Accepted, Command, Failed, Happening, Look, Policy, Verified, transition
from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher, Fate, fate, is_open
from alerts.standing import ACTING, Standing, State


ORDER = Order(id="d1", experiment="offers", treatment="new", control="old", decided_at=1)
TAKEN = Receipt(accepted=True, detail="202")
BUSY = Receipt(accepted=False, detail="503", retry=True)
REFUSED = Receipt(accepted=False, detail="401")


# --- what becomes of orders -------------------------------------------------------------------------

FATES = {
    State.ROLLING_BACK: (Fate.CARRY_OUT, Fate.CARRY_OUT),
    State.ROLLBACK_FAILED: (Fate.CARRY_OUT, Fate.CARRY_OUT),
    State.VERIFYING: (Fate.WAIT, Fate.WAIT),
    State.ROLLED_BACK: (Fate.CARRY_OUT, Fate.SETTLED),
}
"""Of an order that was not accepted yet, and of one that was."""


@pytest.mark.parametrize("state", sorted(State))
def test_an_order_stays_until_it_was_accepted_and_took_effect(state: State) -> None:
    expected = FATES.get(state, (Fate.SETTLED, Fate.SETTLED))
    for acted_at, found in zip((None, 5), expected, strict=True):
        standing = Standing(state=state, decision="d1", acted_at=acted_at)
        assert fate(ORDER, standing) is found


@pytest.mark.parametrize("state", sorted(State))
@pytest.mark.parametrize("acted_at", [None, 5])
def test_an_order_is_open_exactly_where_something_is_still_to_be_done_about_it(
    state: State, acted_at: int | None
) -> None:
    standing = Standing(state=state, decision="d1", acted_at=acted_at)
    assert is_open(standing) is (fate(ORDER, standing) is not Fate.SETTLED)
    untaken = state is State.ROLLED_BACK and acted_at is None
    assert is_open(standing) is (untaken or state in ACTING)


@pytest.mark.parametrize("state", sorted(State))
@pytest.mark.parametrize("decision", [None, "d2"])
def test_an_order_of_another_decision_is_void(state: State, decision: str | None) -> None:
    assert fate(ORDER, Standing(state=state, decision=decision)) is Fate.SETTLED


happenings = st.one_of(
    st.builds(Accepted, st.just(5)),
    st.builds(Failed, st.just(5), st.just("503")),
    st.builds(Verified, st.just(5)),
    st.builds(Look, st.just(5), harm=st.just(("bad",))),
    st.builds(
        Command,
        st.just(5),
        st.sampled_from(["pause", "resume", "rollback"]),
        st.just("ann"),
        st.just(""),
    ),
)


@given(st.lists(happenings, max_size=12))
def test_no_order_is_lost_before_an_actuator_took_it(path: Sequence[Happening]) -> None:
    standing, taken = Standing(state=State.ROLLING_BACK, decision="d1"), False
    for happening in path:
        taken = taken or isinstance(happening, Accepted)
        standing = transition(standing, happening, Policy()).standing
        if not taken:
            assert fate(ORDER, standing) is Fate.CARRY_OUT
        if standing.state in ACTING:
            assert fate(ORDER, standing) is not Fate.SETTLED


# --- patience ---------------------------------------------------------------------------------------


@dataclass
class Scripted:
    """An actuator that answers what it was told to, the last answer for ever."""

    answers: list[Receipt | BaseException]
    seen: list[str] = field(default_factory=list)

    async def apply(self, order: Order) -> Receipt:
        self.seen.append(order.id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def verify(self, order: Order) -> Verification:
        raise NotImplementedError(order.id)

    async def close(self) -> None:
        """Nothing to release."""


class Hanging(Scripted):
    """An actuator that never answers."""

    async def apply(self, order: Order) -> Receipt:
        self.seen.append(order.id)
        await asyncio.Event().wait()
        raise AssertionError("unreachable: nobody sets the event")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def dispatcher(actuator: Scripted, clock: Clock, chance: float = 1.0) -> Dispatcher:
    return Dispatcher(actuator, clock, chance=lambda: chance)


async def attempts(
    made: Dispatcher, clock: Clock, seconds: float, step: float = 0.25
) -> list[float]:
    """When attempts were made while `seconds` passed."""
    found, end = [], clock.now + seconds
    while clock.now < end:
        if await made.attempt(ORDER) is not None:
            found.append(clock.now)
        clock.now += step
    return found


async def test_an_order_is_tried_at_once() -> None:
    actuator = Scripted([TAKEN])
    assert await dispatcher(actuator, Clock()).attempt(ORDER) == TAKEN
    assert actuator.seen == ["d1"]


async def test_failed_attempts_come_ever_further_apart_up_to_a_minute() -> None:
    clock = Clock()
    made = dispatcher(Scripted([REFUSED]), clock)
    found = await attempts(made, clock, 400)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert gaps[:9] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert set(gaps[9:]) == {60}


async def test_an_actuator_that_keeps_failing_is_left_alone_but_for_probes() -> None:
    clock = Clock()
    made = dispatcher(Scripted([BUSY]), clock, chance=0.0)
    found = await attempts(made, clock, 100)
    assert found == [0.0, 0.25, 0.5, 0.75, 1.0, 31.0, 61.0, 91.0]


async def test_a_refusal_shows_an_actuator_that_lives() -> None:
    clock = Clock()
    made = dispatcher(Scripted([REFUSED]), clock, chance=0.0)
    assert len(await attempts(made, clock, 10)) == 40


async def test_the_wait_that_an_actuator_asks_for_is_honoured() -> None:
    clock = Clock()
    later = Receipt(accepted=False, detail="429", retry=True, retry_after=20.0)
    made = dispatcher(Scripted([later, BUSY, TAKEN]), clock)
    assert (await attempts(made, clock, 30))[:2] == [0.0, 20.0]


async def test_a_shorter_wait_than_patience_asks_for_is_not_taken() -> None:
    clock = Clock()
    soon = Receipt(accepted=False, detail="429", retry=True, retry_after=0.25)
    made = dispatcher(Scripted([soon]), clock)
    assert (await attempts(made, clock, 2))[:2] == [0.0, 0.5]


async def test_orders_wait_for_themselves() -> None:
    clock, other = Clock(), msgspec.structs.replace(ORDER, id="d2")
    made = dispatcher(Scripted([REFUSED]), clock)
    assert await made.attempt(ORDER) == REFUSED
    assert await made.attempt(ORDER) is None
    assert await made.attempt(other) == REFUSED


async def test_an_accepted_order_is_not_sent_again_at_once() -> None:
    clock = Clock()
    made = dispatcher(Scripted([TAKEN]), clock)
    assert await attempts(made, clock, 4) == [0.0, 0.5, 1.5, 3.5]


async def test_after_a_restart_everything_is_tried_at_once() -> None:
    clock, actuator = Clock(), Scripted([BUSY])
    first = dispatcher(actuator, clock)
    assert await first.attempt(ORDER) == BUSY
    assert await first.attempt(ORDER) is None
    assert await dispatcher(actuator, clock).attempt(ORDER) == BUSY


async def test_what_is_settled_is_forgotten() -> None:
    clock = Clock()
    made = dispatcher(Scripted([REFUSED]), clock)
    await made.attempt(ORDER)
    made.forget(ORDER.id)
    made.forget("never seen")
    assert await made.attempt(ORDER) == REFUSED


@pytest.mark.parametrize("raised", [RuntimeError("token=secret"), OSError(), KeyError("x")])
async def test_an_actuator_that_raises_has_failed_and_is_tried_again(raised: Exception) -> None:
    clock = Clock()
    made = dispatcher(Scripted([raised, TAKEN]), clock)
    receipt = await made.attempt(ORDER)
    assert receipt == Receipt(
        accepted=False, detail=f"Scripted raised {type(raised).__name__}", retry=True
    )
    clock.now = 1.0
    assert await made.attempt(ORDER) == TAKEN


async def test_an_actuator_that_never_answers_is_left_after_a_while() -> None:
    clock = Clock()
    made = Dispatcher(Hanging([]), clock, longest=0.001)
    receipt = await made.attempt(ORDER)
    assert receipt is not None
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail == "Hanging no answer within 0.001 s"


async def test_who_cancels_the_monitor_cancels_the_attempt() -> None:
    made = Dispatcher(Hanging([]), Clock())
    task = asyncio.create_task(made.attempt(ORDER))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
