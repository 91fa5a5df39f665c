import pytest

from stream.batch import Batch
from stream.events import Outcome


BATCH = Batch(
    "events",
    3,
    position=10,
    next_position=30,
    offsets=(12, 13, 20),
    arrivals=(100, 101, 102),
    values=(b"a", b"b", b"c"),
    headers=({"n": b"0"}, {"n": b"1"}, {"n": b"2"}),
    events=tuple(Outcome(name, actual=True) for name in "abc"),
    complete_to=500,
    log_start=7,
)


def test_the_whole_is_a_part() -> None:
    assert BATCH.part(0, 3) == BATCH
    assert BATCH.part(0, 99) == BATCH


@pytest.mark.parametrize("cut", [1, 2])
def test_parts_follow_each_other_without_a_gap(cut: int) -> None:
    head, tail = BATCH.part(0, cut), BATCH.part(cut, 3)
    assert (head.position, tail.next_position) == (10, 30)
    assert head.next_position == tail.position == BATCH.offsets[cut]
    for name in ("offsets", "arrivals", "values", "headers", "events"):
        assert (*getattr(head, name), *getattr(tail, name)) == getattr(BATCH, name)
    assert (head.log_start, tail.log_start, head.shard) == (7, 7, 3)


def test_only_the_last_part_says_that_the_end_was_reached() -> None:
    assert BATCH.part(0, 2).complete_to is None
    assert BATCH.part(2, 3).complete_to == 500


def test_an_empty_batch_is_a_part_of_itself() -> None:
    empty = Batch("events", 0, 5, 9, complete_to=1)
    assert empty.part(0, 1_000) == empty
    assert len(empty) == 0


def test_a_batch_without_headers_or_events_has_parts_without_them() -> None:
    part = Batch("events", 0, 0, 2, (0, 1), (5, 6), (b"", b"")).part(1, 2)
    assert (part.headers, part.events, len(part)) == (None, None, 1)
