"""A store that lost what it had is made good from the log."""

import random
from collections.abc import Sequence

import pytest
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator, Records, sizes_of
from support.failing import HookedStore, copy_of, is_commit, set_back
from support.feed import (
    OUTCOMES,
    PREDICTIONS,
    TOPIC,
    Topic,
    assert_equal,
    consume,
    finish,
    found,
    pipeline,
    split,
)
from support.truth import truth_of

from metrics.layout import Keys, shards_key
from stream.batch import Batch
from stream.pipeline import ShardPipeline
from stream.resp import Command
from stream.store import Store, StoreUnavailableError


FAR = 4_000_000


async def assert_complete(
    store: Store, worker: ShardPipeline, topic: Topic, records: Records
) -> None:
    await finish(worker, topic, complete_to=BASE + FAR)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    state = await found(store)
    assert_equal(state, truth)
    assert state.meta.complete_since is None


async def test_a_flushed_store_asks_for_the_beginning_and_ends_up_the_same(
    store: HookedStore,
) -> None:
    records = Generator(1, reuse=False).records(100)
    topic, worker = Topic.of(records, holes=1), pipeline(store)
    await worker.process(topic.batch(0, 40))
    lineage = (await found(store)).meta.lineage
    await store.client.flushdb()
    batch = topic.batch(topic.offsets[40], 40)
    report = await worker.process(batch)
    assert (report.rewind, report.tallies, report.commits) == ({TOPIC: 0}, {}, 0)
    assert (await found(store)).meta.seq == 0
    await consume(worker, topic, sizes_of(1, 60))
    await assert_complete(store, worker, topic, records)
    assert (await found(store)).meta.lineage != lineage


async def test_a_store_set_back_asks_for_what_it_lost_and_ends_up_the_same(
    store: HookedStore,
) -> None:
    records = Generator(2, reuse=False).records(100)
    topic, worker = Topic.of(records, holes=2), pipeline(store)
    await worker.process(topic.batch(0, 40))
    earlier, lineage = await copy_of(store.client), (await found(store)).meta.lineage
    await worker.process(topic.batch(topic.offsets[40], 40))
    await set_back(store.client, earlier)
    report = await worker.process(topic.batch(topic.offsets[80], 40))
    assert report.rewind == {TOPIC: topic.offsets[40]}
    await consume(worker, topic, sizes_of(1, 60))
    await assert_complete(store, worker, topic, records)
    assert (await found(store)).meta.lineage != lineage


@pytest.mark.parametrize("seed", range(6))
async def test_losing_everything_now_and_then_changes_nothing(
    store: HookedStore, seed: int
) -> None:
    records, rnd = Generator(seed, reuse=False).records(120), random.Random(seed)
    topic, worker, at, losses = Topic.of(records), pipeline(store), 0, 0
    copies = [await copy_of(store.client)]
    while at < topic.end:
        batch = topic.batch(at, rnd.randint(1, 40))
        report = await worker.process(batch)
        at = batch.next_position if report.rewind is None else report.rewind[TOPIC]
        copies.append(await copy_of(store.client))
        if losses < 8 and rnd.random() < 0.4:
            losses += 1
            await set_back(store.client, rnd.choice(copies))
            if rnd.random() < 0.3:
                worker = pipeline(store)
    await consume(worker, topic, sizes_of(seed, 50))
    assert losses > 2
    await assert_complete(store, worker, topic, records)


async def test_another_past_of_the_same_worker_is_not_mistaken_for_its_own(
    store: HookedStore,
) -> None:
    """As when a failover is undone: writer and number of the last commit are then the same."""
    records = Generator(2, reuse=False).records(60)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 20))
    first = await copy_of(store.client)
    await worker.process(topic.batch(20, 20))
    second = await copy_of(store.client)
    await set_back(store.client, first)
    assert (await worker.process(topic.batch(40, 20))).rewind == {TOPIC: 20}
    await worker.process(topic.batch(20, 5))
    await set_back(store.client, second)
    await worker.process(topic.batch(25, 1000))
    await assert_complete(store, worker, topic, records)


@pytest.mark.parametrize("loss", ["flushed", "set back"])
async def test_a_loss_at_any_exchange_of_a_batch_changes_nothing(loss: str) -> None:
    """The store is lost between two exchanges of one call of `process`, which may commit often."""
    records = Generator(11, reuse=False).records(60)
    topic = Topic.of(records)
    at, lost = 0, True
    while lost:
        store = HookedStore(Store.embedded().client)
        try:
            worker = pipeline(store)
            await worker.process(topic.batch(0, 20))
            earlier = await copy_of(store.client) if loss == "set back" else {}
            await worker.process(topic.batch(topic.offsets[20], 20))
            left, lost = at, False

            async def lose(_: Sequence[Command]) -> None:
                nonlocal left, lost
                left -= 1
                if left == -1:
                    lost = True
                    await set_back(store.client, earlier)  # noqa: B023  # called within this round

            store.before = lose
            batch = topic.batch(topic.offsets[40], 1000)
            report = await worker.process(batch)
            store.calm()
            if report.rewind is not None:
                await consume(worker, topic, sizes_of(1, 60))
            # Where nothing was noticed yet, the next batch notices.
            report = await worker.process(topic.at_end(BASE + 1))
            if report.rewind is not None:
                await consume(worker, topic, sizes_of(1, 60))
            await assert_complete(store, worker, topic, records)
        except AssertionError as error:
            raise AssertionError(f"{loss} before exchange {at}: {error}") from None
        finally:
            await store.close()
        at += 1
    assert at > 5


async def test_a_loss_amid_a_first_batch_that_takes_several_commits_is_noticed(
    store: HookedStore,
) -> None:
    records = Generator(12).records(150)  # ids that are used again make one batch several commits
    topic, worker, commits = Topic.of(records), pipeline(store), 0

    async def lose(commands: Sequence[Command]) -> None:
        nonlocal commits
        commits += is_commit(commands)
        if is_commit(commands) and commits == 2:
            await store.client.flushdb()

    store.after = lose
    report = await worker.process(topic.batch(0, 1000))
    assert commits > 1
    store.calm()
    assert report.rewind == {TOPIC: 0}
    await consume(worker, topic, sizes_of(3, 60))
    await assert_complete(store, worker, topic, records)


async def test_both_topics_are_told_where_to_go_on(store: HookedStore) -> None:
    records = Generator(3, reuse=False).records(80)
    predictions, outcomes = split(records)
    worker = pipeline(store, topics=(PREDICTIONS, OUTCOMES))
    await worker.process(predictions.batch(0, 30))
    earlier = await copy_of(store.client)
    await worker.process(outcomes.batch(0, 30))
    await set_back(store.client, earlier)
    report = await worker.process(outcomes.batch(30, 10))
    assert report.rewind == {PREDICTIONS: 30, OUTCOMES: 0}


async def test_topics_whose_logs_begin_at_different_offsets_are_both_read_from_their_beginning(
    store: HookedStore,
) -> None:
    records = Generator(3, reuse=False).records(80)
    predictions, outcomes = split(records)
    worker, cut = pipeline(store, topics=(PREDICTIONS, OUTCOMES)), 30
    starts = {PREDICTIONS: cut, OUTCOMES: 0}
    at, topics = {PREDICTIONS: 50, OUTCOMES: 40}, (predictions, outcomes)  # and the store is empty
    while any(at[topic.name] < topic.end for topic in topics):
        topic = next(topic for topic in topics if at[topic.name] < topic.end)
        start = starts[topic.name]
        batch = topic.batch(max(start, at[topic.name]), 20, log_start=start)
        report = await worker.process(batch)
        at |= report.rewind or {topic.name: batch.next_position}
    await finish(worker, *topics, complete_to=BASE + FAR)
    lost = sum(1 for arrival, _ in records if arrival < predictions.arrivals[cut])
    early = [r for r in records[:lost] if isinstance(r[1], dict) and r[1]["type"] == "outcome"]
    whole = early + records[lost:]
    truth = truth_of(whole, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    state = await found(store)
    assert_equal(state, truth)
    assert state.meta.complete_since == predictions.arrivals[cut]


async def test_a_rewind_whose_first_commit_fails_still_begins_a_new_lineage(
    store: HookedStore,
) -> None:
    records = Generator(4, reuse=False).records(60)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 20))
    earlier, lineage = await copy_of(store.client), (await found(store)).meta.lineage
    await worker.process(topic.batch(topic.offsets[20], 20))
    await set_back(store.client, earlier)
    assert (await worker.process(topic.batch(topic.offsets[40], 20))).rewind

    async def refuse(commands: Sequence[Command]) -> None:
        if is_commit(commands):
            raise OSError("unreachable")

    store.before = refuse
    with pytest.raises(StoreUnavailableError):
        await worker.process(topic.batch(topic.offsets[20], 20))
    store.calm()
    await consume(worker, topic, sizes_of(4, 30))
    assert (await found(store)).meta.lineage != lineage


async def test_a_new_worker_begins_a_new_lineage_for_it_cannot_know_of_a_failover(
    store: HookedStore,
) -> None:
    topic = Topic.of(Generator(4, reuse=False).records(60))
    await pipeline(store).process(topic.batch(0, 20))
    lineage = (await found(store)).meta.lineage
    await pipeline(store).process(topic.batch(topic.offsets[20], 20))
    assert (await found(store)).meta.lineage != lineage


# --- where the log begins -------------------------------------------------------------------------


async def test_a_log_that_no_longer_reaches_back_says_since_when_the_state_is_whole(
    store: HookedStore,
) -> None:
    topic = Topic.of(Generator(5, reuse=False).records(60))
    start = topic.offsets[30]
    report = await pipeline(store).process(topic.batch(start, 10, log_start=start))
    assert report.rewind is None
    assert (await found(store)).meta.complete_since == topic.arrivals[30]


async def test_a_log_that_lost_what_the_store_was_to_read_next_says_so(store: HookedStore) -> None:
    topic, worker = Topic.of(Generator(5, reuse=False).records(60)), pipeline(store)
    await worker.process(topic.batch(0, 10))
    start = topic.offsets[30]
    report = await worker.process(topic.batch(start, 10, log_start=start))
    assert report.rewind is None
    assert (await found(store)).meta.complete_since == topic.arrivals[30]
    await worker.process(topic.batch(topic.offsets[40], 10, log_start=start))
    assert (await found(store)).meta.complete_since == topic.arrivals[30]


async def test_a_log_read_from_its_beginning_is_whole(store: HookedStore) -> None:
    await pipeline(store).process(Topic.of(Generator(5, reuse=False).records(30)).batch(0, 10))
    assert (await found(store)).meta.complete_since is None


@pytest.mark.parametrize("counted", [0, 10])
@pytest.mark.parametrize("knows", [True, False])
async def test_an_empty_batch_does_not_hide_that_the_log_was_cut(
    store: HookedStore, knows: bool, counted: int
) -> None:
    topic, worker = Topic.of(Generator(5, reuse=False).records(60)), pipeline(store)
    if counted:
        await worker.process(topic.batch(0, counted))
    complete_to = topic.arrivals[30] if knows else None
    await worker.process(Batch(TOPIC, 0, 30, 30, complete_to=complete_to, log_start=30))
    await worker.process(topic.batch(30, 10, log_start=30))
    assert (await found(store)).meta.complete_since == topic.arrivals[30]


async def test_a_shard_is_found_again_after_the_list_of_shards_was_lost(
    store: HookedStore,
) -> None:
    topic = Topic.of(Generator(5, reuse=False).records(60))
    await pipeline(store).process(topic.batch(0, 10))
    # It is in another slot, thus perhaps on another node, with a failover of its own.
    await store.client.delete(shards_key(store.deployment))
    await pipeline(store).process(topic.batch(topic.offsets[10], 10))
    assert await store.client.smembers(shards_key(store.deployment)) == {b"0"}


async def test_positions_are_those_of_the_store(store: HookedStore) -> None:
    topic, worker = Topic.of(Generator(5, reuse=False).records(30), holes=4), pipeline(store)
    assert await worker.stored() == {}
    await worker.process(topic.batch(0, 10))
    assert (await worker.stored())[TOPIC].offset == topic.offsets[10]
    assert await store.client.exists(Keys(store.deployment, 0).meta)
