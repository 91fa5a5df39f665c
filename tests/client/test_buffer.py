import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from abmonitor_client.buffer import Buffer, Message


MESSAGE = Message(b"key", {"type": "prediction"})


def numbered(number: int) -> Message:
    return Message(b"%d" % number, {})


def test_the_oldest_is_sent_first_and_no_more_than_the_window_is_in_flight() -> None:
    buffer = Buffer(["t"], limit=10, window=3)
    for number in range(5):
        buffer.put("t", numbered(number))
    assert buffer.take() == [("t", [numbered(0), numbered(1), numbered(2)])]
    assert buffer.take() == []
    buffer.settle("t")
    assert buffer.take() == [("t", [numbered(3)])]


def test_what_is_in_flight_counts_towards_the_limit() -> None:
    buffer = Buffer(["t"], limit=3, window=2)
    assert [buffer.put("t", MESSAGE) for _ in range(3)] == [None] * 3
    buffer.take()
    assert buffer.put("t", MESSAGE) == "buffer_full"
    buffer.settle("t", "send_failed")
    assert buffer.put("t", MESSAGE) is None


def test_a_full_lane_leaves_the_other_one_alone() -> None:
    buffer = Buffer(["a", "b"], limit=1, window=1)
    assert [buffer.put(topic, MESSAGE) for topic in "aabb"] == [None, "buffer_full"] * 2


def test_what_is_put_back_waits_in_its_old_place_and_the_other_lane_goes_on() -> None:
    buffer = Buffer(["a", "b"], limit=10, window=2)
    for number in range(3):
        buffer.put("a", numbered(number))
    ((_, messages),) = buffer.take()
    buffer.put_back("a", messages)
    buffer.put("b", MESSAGE)
    assert buffer.take() == [("b", [MESSAGE])]
    assert buffer.wait_for_work()  # as soon as the pause of lane a is over
    assert buffer.take() == [("a", [numbered(0), numbered(1)])]


def test_closing_takes_nothing_in_and_still_gives_out() -> None:
    buffer = Buffer(["t"], limit=2, window=2)
    buffer.put("t", MESSAGE)
    buffer.close()
    assert buffer.put("t", MESSAGE) == "closed"
    assert buffer.wait_for_work()
    assert buffer.take() == [("t", [MESSAGE])]
    buffer.settle("t")
    assert not buffer.wait_for_work()
    assert buffer.counts() == (
        1,
        {"buffer_full": 0, "send_failed": 0, "invalid": 0, "closed": 1},
        0,
    )


def test_what_is_given_up_is_counted_once_even_if_it_is_settled_later() -> None:
    buffer = Buffer(["t"], limit=5, window=1)
    for _ in range(3):
        buffer.put("t", MESSAGE)
    ((_, messages),) = buffer.take()
    buffer.close()
    buffer.abandon()
    buffer.settle("t")
    buffer.put_back("t", messages)
    buffer.abandon()
    counts = buffer.counts()
    assert (counts.sent, counts.dropped["closed"], counts.pending) == (0, 3, 0)
    assert buffer.over


def test_waiting_for_an_empty_buffer_ends_with_the_last_event() -> None:
    buffer = Buffer(["t"], limit=5, window=5)
    buffer.put("t", MESSAGE)
    assert not buffer.wait_until_empty(0.01)
    buffer.take()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(buffer.wait_until_empty, 60)
        buffer.settle("t", "send_failed")
        assert waiting.result()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "refuse", "take", "sent", "failed", "back", "close", "abandon"]),
        st.sampled_from("ab"),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_event_is_accounted_for_whatever_happens(steps: list[tuple[str, str]]) -> None:
    buffer = Buffer("ab", limit=4, window=2)
    flying: dict[str, list[Message]] = {"a": [], "b": []}
    calls = 0
    for step, topic in steps:
        calls += step in ("put", "refuse")
        _do(buffer, flying, step, topic)
        counts = buffer.counts()
        assert counts.sent + sum(counts.dropped.values()) + counts.pending == calls
        assert 0 <= counts.pending <= 8


def _do(buffer: Buffer, flying: dict[str, list[Message]], step: str, topic: str) -> None:
    actions: dict[str, Any] = {
        "put": lambda: buffer.put(topic, MESSAGE),
        "refuse": buffer.refuse,
        "close": buffer.close,
        "abandon": buffer.abandon,
    }
    if step in actions:
        actions[step]()
    elif step == "take":
        for lane, messages in buffer.take():
            flying[lane] += messages
    elif step == "back":
        buffer.put_back(topic, flying.pop(topic))
        flying[topic] = []
    elif flying[topic]:
        flying[topic].pop()
        buffer.settle(topic, None if step == "sent" else "send_failed")


def test_threads_lose_no_event() -> None:
    buffer = Buffer(["t"], limit=50, window=20)
    putting = 4

    def put() -> None:
        for _ in range(2_000):
            buffer.put("t", MESSAGE)

    def drain() -> None:
        while buffer.wait_for_work():
            for topic, messages in buffer.take():
                for _ in messages:
                    buffer.settle(topic)

    drainer = threading.Thread(target=drain)
    drainer.start()
    with ThreadPoolExecutor(putting) as pool:
        done = [pool.submit(put) for _ in range(putting)]
    assert not any(each.exception() for each in done)
    assert buffer.wait_until_empty(60)
    buffer.close()
    drainer.join()
    counts = buffer.counts()
    assert counts.sent + counts.dropped["buffer_full"] == putting * 2_000
