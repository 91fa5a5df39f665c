"""The courier: a slow actuator delays nobody, and no order has two errands at once."""

import asyncio
from dataclasses import dataclass, field

import pytest

from alerts.courier import Courier
from alerts.order import Order, Receipt, Verification
from alerts.outbox import READ_BACK_EVERY, Dispatcher


TAKEN = Receipt(accepted=True, detail="202")
BUSY = Receipt(accepted=False, detail="503", retry=True)


@dataclass
class Slow:
    """An actuator that answers when it is told to."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seen: Verification = Verification.DONE
    raises: Exception | None = None
    receipt: Receipt = TAKEN
    look: asyncio.Event | None = None
    """What reading back waits for; None: it does not."""

    async def apply(self, order: Order) -> Receipt:
        self.got.append(order.id)
        await self.go.wait()
        return self.receipt

    async def verify(self, order: Order) -> Verification:
        self.asked.append(order.id)
        if self.look:
            await self.look.wait()
        if self.raises:
            raise self.raises
        return self.seen

    async def close(self) -> None:
        pass


def order(name: str, experiment: str = "offers") -> Order:
    return Order(id=name, experiment=experiment, treatment="new", control="old", decided_at=1)


def courier(patience: float | None = 0.01, **actuators: Slow) -> Courier:
    return Courier({n: Dispatcher(a, lambda: 0.0) for n, a in actuators.items()}, patience)


async def test_a_slow_actuator_is_not_waited_for_and_its_answer_comes_later() -> None:
    slow, quick = Slow(), Slow()
    quick.go.set()
    made = courier(offers=slow, loans=quick)
    both = [order("a"), order("b", "loans")]
    assert await made.carry_out(both) == {"b": TAKEN}
    slow.go.set()
    assert await made.carry_out(both[:1]) == {"a": TAKEN}
    assert slow.got == ["a"]


async def test_an_order_that_is_under_way_is_not_sent_twice() -> None:
    slow = Slow()
    made = courier(offers=slow)
    for _ in range(5):
        assert await made.carry_out([order("a")]) == {}
    assert slow.got == ["a"]
    await made.close()


async def test_with_all_the_patience_every_answer_is_waited_for() -> None:
    slow = Slow()
    made = courier(None, offers=slow)
    asyncio.get_running_loop().call_later(0.02, slow.go.set)
    assert await made.carry_out([order("a")]) == {"a": TAKEN}


async def test_an_order_that_is_forgotten_is_left_alone() -> None:
    slow = Slow()
    made = courier(offers=slow)
    await made.carry_out([order("a")])
    made.forget("a")
    await asyncio.sleep(0)
    assert await made.carry_out([order("a")]) == {}
    assert slow.got == ["a", "a"]
    await made.close()


async def test_closing_ends_what_is_under_way() -> None:
    slow = Slow()
    made = courier(offers=slow)
    await made.carry_out([order("a")])
    await made.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others


@pytest.mark.parametrize("seen", list(Verification))
async def test_what_an_actuator_reads_back_is_told(seen: Verification) -> None:
    made = courier(offers=Slow(seen=seen))
    assert await made.read_back([order("a")]) == {"a": seen}


async def test_an_actuator_that_breaks_while_reading_back_knows_nothing_yet() -> None:
    made = courier(offers=Slow(raises=OSError("gone")))
    assert await made.read_back([order("a")]) == {"a": Verification.PENDING}


async def test_the_world_is_not_asked_all_the_time() -> None:
    now, actuator = [0.0], Slow()
    made = Courier({"offers": Dispatcher(actuator, lambda: now[0])}, None)
    for _ in range(3):
        await made.read_back([order("a")])
    now[0] = READ_BACK_EVERY
    await made.read_back([order("a")])
    assert actuator.asked == ["a", "a"]


# --- answers that come late -------------------------------------------------------------------------


async def test_a_late_refusal_is_no_answer_to_reading_back() -> None:
    slow = Slow(receipt=BUSY)
    made = courier(offers=slow)
    assert await made.carry_out([order("a")]) == {}
    slow.go.set()
    assert await made.read_back([order("a")]) == {"a": Verification.DONE}
    assert await made.carry_out([order("a")]) == {"a": BUSY}


async def test_an_attempt_does_not_wait_for_a_read_back_that_is_under_way() -> None:
    actuator = Slow(look=asyncio.Event())
    actuator.go.set()
    made = courier(offers=actuator)
    assert await made.read_back([order("a")]) == {}
    assert await made.carry_out([order("a")]) == {"a": TAKEN}
    await made.close()


async def test_what_was_asked_before_an_order_was_accepted_says_nothing_of_it() -> None:
    now, look = [0.0], asyncio.Event()
    actuator = Slow(look=look, seen=Verification.FAILED)
    actuator.go.set()
    made = Courier({"offers": Dispatcher(actuator, lambda: now[0])}, 0.01)
    assert await made.read_back([order("a")]) == {}
    assert await made.carry_out([order("a")]) == {"a": TAKEN}
    look.set()
    actuator.seen = Verification.DONE
    await asyncio.sleep(0)
    now[0] = READ_BACK_EVERY
    assert await made.read_back([order("a")]) == {"a": Verification.DONE}
    assert actuator.asked == ["a", "a"]


async def test_an_experiment_that_is_left_has_nothing_under_way_and_the_others_go_on() -> None:
    slow, other = Slow(receipt=BUSY, look=asyncio.Event()), Slow()
    made = courier(offers=slow, loans=other)
    both = [order("a"), order("b", "loans")]
    assert await made.carry_out(both) == {}
    assert await made.read_back(both[:1]) == {}
    made.leave("offers")
    made.leave("unheard of")
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert len(others) == 1
    slow.receipt = TAKEN
    slow.go.set()
    other.go.set()
    assert await made.carry_out(both) == {"a": TAKEN, "b": TAKEN}
    assert (slow.got, other.got) == (["a", "a"], ["b"])
    await made.close()


async def test_what_comes_back_to_an_experiment_that_was_left_is_tried_at_once() -> None:
    actuator = Slow(receipt=BUSY)
    actuator.go.set()
    made = Courier({"offers": Dispatcher(actuator, lambda: 0.0, lambda: 1.0)}, None)
    assert await made.carry_out([order("a")]) == {"a": BUSY}
    assert await made.carry_out([order("a")]) == {}
    made.leave("offers")
    assert await made.carry_out([order("a")]) == {"a": BUSY}


@pytest.mark.parametrize("way", ["leave", "forget"])
async def test_who_waits_for_an_order_that_is_dropped_goes_on_without_an_answer(way: str) -> None:
    slow = Slow()
    made = courier(None, offers=slow)
    drop = made.leave if way == "leave" else made.forget
    asyncio.get_running_loop().call_later(0.02, drop, "offers" if way == "leave" else "a")
    assert await made.carry_out([order("a")]) == {}
