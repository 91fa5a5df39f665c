"""At the end of a log that will not go on, labels become final without a clock that passes them."""

import pytest
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator, Records, sizes_of
from support.failing import HookedStore, KillAt, KilledError
from support.feed import Found, Topic, consume, finish, found, pipeline, plain
from support.truth import Facts, Life, Truth, truth_of

from metrics.layout import Kind
from stream.pipeline import ShardPipeline
from stream.store import Store


Mature = dict[tuple[str, str, int], Facts]


def mature_of(truth: Truth, at: int | None) -> Mature:
    """What must be final when the log has ended at `at`, None for a complete log."""
    widths = {e.name: int(e.labels.cohort) for e in EXPERIMENTS}

    def labels_known(life: Life) -> int:
        return (truth.last_outcome or 0) + life.wait - life.horizon

    def is_final(life: Life) -> bool:
        if at is None:
            return True
        return life.time + life.wait < min(at, labels_known(life))

    made: Mature = dict(truth.mature)
    for life in truth.lives:
        final_before = life.arrival + life.wait < min(truth.watermark, labels_known(life))
        if is_final(life) and not final_before:
            width = widths[life.experiment]
            where = (life.experiment, life.variant, life.arrival // width * width)
            made.setdefault(where, Facts())
            made[where].see(life)
            made[where].see_cell(life)
    return made


def found_mature(state: Found) -> Mature:
    return {name: plain(ledger) for name, ledger in state.of(Kind.MATURE).items()}


def cut_short(seed: int, after: int) -> Records:
    """A log that ended while most labels were open."""
    records = Generator(seed, reuse=False).records(150)
    return [record for record in records if record[0] <= BASE + after]


async def read(store: Store, records: Records) -> tuple[ShardPipeline, Topic, Truth]:
    worker, topic = pipeline(store), Topic.of(records)
    await consume(worker, topic, sizes_of(1, 30))
    return worker, topic, truth_of(records, EXPERIMENTS, early_for=EARLY_FOR)


@pytest.mark.parametrize("seed", range(3))
async def test_a_complete_log_leaves_no_label_open(store: HookedStore, seed: int) -> None:
    worker, _, truth = await read(store, cut_short(seed, 60_000))
    await worker.finish(BASE, complete=True)
    state = await found(store)
    assert found_mature(state) == mature_of(truth, None)
    assert sum(facts.predictions for facts in found_mature(state).values()) == len(truth.lives)


@pytest.mark.parametrize("after", [0, 30_000, 60_000, 1_000_000])
async def test_a_log_that_ended_makes_final_what_is_old_enough_by_its_own_time(
    store: HookedStore, after: int
) -> None:
    worker, topic, truth = await read(store, cut_short(7, 60_000))
    at = topic.arrivals[-1] + after
    await worker.finish(at)
    assert found_mature(await found(store)) == mature_of(truth, at)


async def test_finishing_twice_or_going_on_afterwards_counts_nothing_twice(
    store: HookedStore,
) -> None:
    records = cut_short(8, 60_000)
    worker, topic, truth = await read(store, records)
    at = topic.arrivals[-1]
    for _ in range(2):
        await worker.finish(at)
    await finish(worker, topic, complete_to=at + 10_000_000)
    await worker.finish(at, complete=True)
    assert found_mature(await found(store)) == mature_of(truth, None)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_while_finishing_is_made_good_by_finishing_again(when: str) -> None:
    records = cut_short(9, 9_000)
    killed, at = True, 0
    while killed:
        store = HookedStore(Store.embedded().client)
        try:
            worker, topic, truth = await read(store, records)
            ended = topic.arrivals[-1] + 65_000
            setattr(store, when, KillAt(at))
            try:
                await worker.finish(ended)
                killed = False
            except KilledError:
                store.calm()
                await pipeline(store).finish(ended)
            assert found_mature(await found(store)) == mature_of(truth, ended)
        finally:
            await store.close()
        at += 1
    assert at > 5


async def test_finishing_an_empty_shard_is_no_trouble(store: HookedStore) -> None:
    await pipeline(store).finish(BASE, complete=True)
    assert not (await found(store)).ledgers


async def test_a_finish_that_failed_half_way_can_be_completed_by_the_same_worker() -> None:
    records, at, failed = cut_short(9, 9_000), 0, True
    while failed:
        store = HookedStore(Store.embedded().client)
        try:
            worker, topic, truth = await read(store, records)
            store.before, failed = KillAt(at), False
            try:
                await worker.finish(topic.arrivals[-1] + 65_000)
            except KilledError:
                failed = True
            store.calm()
            await finish(worker, topic, complete_to=topic.arrivals[-1] + 1)
            await worker.finish(0, complete=True)
            assert found_mature(await found(store)) == mature_of(truth, None), at
        finally:
            await store.close()
        at += 1
    assert at > 5
