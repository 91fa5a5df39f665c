from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.maturity import MAX_SWEEP, Chunk, Harvest, harvest, pack_chunks
from stream.rows import DIGEST_BYTES, digest, digests_in


def ids(count: int, start: int = 0) -> list[bytes]:
    return [digest(str(number).encode()) for number in range(start, start + count)]


def chunk(*arrivals: int, first: int = 0) -> Chunk:
    (packed,) = pack_chunks(arrivals, ids(len(arrivals), first))
    return Chunk.unpack(packed)


class Queue:
    """A queue as the store keeps it, swept as the pipeline sweeps it."""

    def __init__(self, chunks: list[Chunk], seen: int) -> None:
        self.chunks, self.seen, self.cursor = chunks, seen, 0

    def sweep(self, limit: int, budget: int) -> Harvest:
        head = self.chunks[: self.seen]
        whole = len(self.chunks) <= self.seen
        found = harvest(head, self.cursor, limit, whole_queue=whole, budget=budget)
        del self.chunks[: found.finished]
        self.cursor = found.cursor
        return found


arrivals_of_chunks = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), max_size=8)


def queue_of(sizes: list[list[int]], seen: int) -> tuple[Queue, list[tuple[int, bytes]]]:
    """A queue in order of arrival, and the same as a plain list."""
    arrivals = sorted(at for chunk in sizes for at in chunk)
    names = ids(len(arrivals))
    chunks, start = [], 0
    for size in map(len, sizes):
        stop = start + size
        (packed,) = pack_chunks(arrivals[start:stop], names[start:stop])
        chunks.append(Chunk.unpack(packed))
        start = stop
    return Queue(chunks, seen), list(zip(arrivals, names, strict=True))


@given(
    sizes=arrivals_of_chunks,
    limits=st.lists(st.integers(0, 70), max_size=6),
    budget=st.integers(1, 9),
    seen=st.integers(1, 4),
)
def test_sweeps_take_exactly_what_is_due_in_order_and_within_the_budget(
    sizes: list[list[int]], limits: list[int], budget: int, seen: int
) -> None:
    queue, everything = queue_of(sizes, seen)
    taken: list[bytes] = []
    through = 0
    for limit in sorted(limits):
        complete = False
        while not complete:
            found = queue.sweep(limit, budget)
            assert len(found.digests) == len(found.arrivals) <= budget
            taken += found.digests
            assert all(name in taken for at, name in everything if at < found.through)
            through = max(through, found.through)
            complete = found.complete
            assert complete or found.digests or queue.seen > 0
        assert taken == [name for at, name in everything if at < limit]
        assert found.through == limit
        assert through <= limit


@given(sizes=arrivals_of_chunks, limits=st.lists(st.integers(0, 70)), budget=st.integers(1, 9))
def test_a_limit_that_steps_back_takes_nothing_twice(
    sizes: list[list[int]], limits: list[int], budget: int
) -> None:
    """A longer horizon in new settings moves the limit back."""
    queue, everything = queue_of(sizes, 100)
    taken: list[bytes] = []
    for limit in limits:
        taken += queue.sweep(limit, budget).digests
    assert taken == [name for _, name in everything[: len(taken)]]


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, 0), (10, 0), (11, 1), (20, 1), (21, 3), (100, 3)]
)
def test_what_arrived_at_the_limit_is_not_due_yet(limit: int, expected: int) -> None:
    found = harvest([chunk(10, 20, 20)], 0, limit, whole_queue=True)
    assert found.digests == ids(3)[:expected]
    assert (found.finished, found.cursor) == ((1, 0) if expected == 3 else (0, expected))
    assert found.complete
    assert found.through == limit


def test_a_sweep_that_ran_out_of_budget_says_up_to_where_it_came() -> None:
    found = harvest([chunk(10, 20, 30)], 1, 100, whole_queue=True, budget=1)
    assert (found.digests, found.arrivals) == (ids(3)[1:2], [20])
    assert (found.finished, found.cursor, found.complete) == (0, 2, False)
    assert found.through == 30


def test_a_sweep_goes_on_from_chunk_to_chunk() -> None:
    chunks = [chunk(10, 20), chunk(20, 30, first=2), chunk(40, first=4)]
    found = harvest(chunks, 1, 35, whole_queue=False)
    assert found.digests == ids(5)[1:4]
    assert (found.finished, found.cursor, found.through) == (2, 0, 35)
    assert found.complete


def test_beyond_the_chunks_that_were_read_nothing_is_claimed() -> None:
    found = harvest([chunk(10, 20)], 0, 100, whole_queue=False)
    assert (found.finished, found.complete, found.through) == (1, False, 20)


@pytest.mark.parametrize("limit", [0, 1_000])
def test_an_empty_queue_is_done_up_to_the_limit(limit: int) -> None:
    assert harvest([], 0, limit, whole_queue=True) == Harvest([], [], 0, 0, limit, complete=True)


@given(
    start=st.integers(0, 2**50),
    gaps=st.lists(st.integers(0, 2**33), max_size=30),
)
def test_chunks_give_back_what_was_packed(start: int, gaps: list[int]) -> None:
    arrivals = [start]
    for gap in gaps:
        arrivals.append(arrivals[-1] + gap)
    packed = pack_chunks(arrivals, ids(len(arrivals)))
    chunks = [Chunk.unpack(one) for one in packed]
    assert [int(at) for one in chunks for at in one.arrivals] == arrivals
    assert [name for one in chunks for name in digests_in(one.digests)] == ids(len(arrivals))
    assert all(one.arrivals[-1] - one.arrivals[0] < 2**32 for one in chunks)


def test_chunks_hold_no_more_than_a_sweep_takes() -> None:
    count = 2 * MAX_SWEEP + 1
    packed = pack_chunks(range(count), [bytes(DIGEST_BYTES)] * count)
    assert [Chunk.unpack(one).arrivals.size for one in packed] == [MAX_SWEEP, MAX_SWEEP, 1]


def test_a_waiting_id_takes_sixteen_bytes() -> None:
    sizes = [len(pack_chunks(range(count), ids(count))[0]) for count in (1, 2, 3)]
    assert [after - before for before, after in pairwise(sizes)] == [16, 16]


def test_nothing_packs_to_nothing() -> None:
    assert pack_chunks([], []) == []
