"""Whatever ends a worker, wherever: the next one leaves the same state as if nothing had happened."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator, Records, logs, sizes_of
from support.failing import HookedStore, KillAt, KilledError, is_commit
from support.feed import (
    TOPIC,
    Found,
    Topic,
    assert_any_crash_changes_nothing,
    assert_equal,
    consume,
    finish,
    found,
    pipeline,
)
from support.truth import truth_of

from metrics.layout import Keys
from stream.pipeline import MAX_CONFLICTS, ShardContestedError
from stream.resp import Command
from stream.store import Store, StoreUnavailableError


FAR = 4_000_000


async def undisturbed(records: Records) -> Found:
    store = Store.embedded()
    try:
        worker, topic = pipeline(store), Topic.of(records)
        await consume(worker, topic, sizes_of(0, 40))
        await finish(worker, topic, complete_to=BASE + FAR)
        return await found(store)
    finally:
        await store.close()


def assert_true(state: Found, records: Records) -> None:
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    assert_equal(state, truth)


class Dying:
    """Reads a topic with a worker that is killed over and over, and replaced."""

    def __init__(self, store: HookedStore, topic: Topic, rnd: random.Random) -> None:
        self._store, self._topic, self._random = store, topic, rnd
        self._worker = pipeline(store)
        self.crashes = 0

    async def run(self, *, most: int, tears: bool = False) -> None:
        rnd, at = self._random, 0
        while at < self._topic.end:
            if self.crashes < most and rnd.random() < 0.6:
                self._arm(tears=tears)
            batch = self._topic.batch(at, rnd.randint(1, 40))
            try:
                await self._worker.process(batch)
                at = batch.next_position
            except KilledError:
                self._store.calm()
                self.crashes += 1
                self._worker = pipeline(self._store)
                stored = (await self._worker.stored()).get(TOPIC)
                at = stored.offset if stored else 0
                if (
                    rnd.random() < 0.5
                ):  # the broker's own offset was committed earlier, or not at all
                    at = max(0, at - rnd.randint(0, 60))
            self._store.calm()
        await finish(self._worker, self._topic, complete_to=BASE + FAR)

    def _arm(self, *, tears: bool) -> None:
        kill = KillAt(self._random.randint(0, 8))
        where = self._random.randrange(3 if tears else 2)
        if where == 0:
            self._store.before = kill
        elif where == 1:
            self._store.after = kill
        else:
            self._store.tears = True


@pytest.mark.parametrize("seed", range(3))
async def test_after_many_random_crashes_every_event_is_counted_once(
    real_store: HookedStore, seed: int
) -> None:
    records = Generator(seed).records(450)
    dying = Dying(real_store, Topic.of(records, holes=seed), random.Random(seed))
    await dying.run(most=25, tears=True)
    assert dying.crashes >= 15
    assert_true(await found(real_store), records)


@settings(max_examples=40)
@given(records=logs(max_size=20), seed=st.integers(0, 10_000))
async def test_crashes_change_nothing_for_any_stream(records: Records, seed: int) -> None:
    store = HookedStore(Store.embedded().client)
    try:
        await Dying(store, Topic.of(records), random.Random(seed)).run(most=6)
        assert_true(await found(store), records)
    finally:
        await store.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_exchange_with_the_store_changes_nothing(when: str) -> None:
    records = Generator(11).records(40)
    expected = (await undisturbed(records)).counted
    await assert_any_crash_changes_nothing(records, expected, pipeline, when, BASE + FAR)


async def test_a_lost_reply_to_a_commit_is_found_out_by_calling_again(store: HookedStore) -> None:
    records = Generator(3).records(60)
    topic, worker, lost = Topic.of(records), pipeline(store), 0

    async def lose(commands: Sequence[Command]) -> None:
        if is_commit(commands) and lost % 2 == 0:
            raise RedisConnectionError("reset by peer")

    store.after = lose
    at = 0
    while at < topic.end:
        batch = topic.batch(at, 20)
        try:
            await worker.process(batch)
            at = batch.next_position
        except StoreUnavailableError:
            pass
        lost += 1
    store.calm()
    await finish(worker, topic, complete_to=BASE + FAR)
    assert (await found(store)).counted == (await undisturbed(records)).counted


async def test_a_commit_that_never_arrived_is_made_by_calling_again(store: HookedStore) -> None:
    records = Generator(4).records(60)
    topic, worker = Topic.of(records), pipeline(store)
    batch = topic.batch(0, 1000)

    async def refuse(commands: Sequence[Command]) -> None:
        if is_commit(commands):
            raise RedisConnectionError("reset by peer")

    store.before = refuse
    with pytest.raises(StoreUnavailableError, match="reset by peer"):
        await worker.process(batch)
    store.calm()
    report = await worker.process(batch)
    assert report.trimmed == 0
    await finish(worker, topic, complete_to=BASE + FAR)
    assert (await found(store)).counted == (await undisturbed(records)).counted


# --- two workers ----------------------------------------------------------------------------------


async def test_a_frozen_worker_that_wakes_up_before_its_commit_counts_nothing(
    store: HookedStore,
) -> None:
    records = Generator(6).records(60)
    topic, other = Topic.of(records), pipeline(Store(store.client, store.deployment))
    worker = pipeline(store)
    await worker.process(topic.batch(0, 30))
    batch = topic.batch(topic.offsets[30], 30)

    async def freeze(commands: Sequence[Command]) -> None:
        if is_commit(commands):
            store.calm()
            assert (await other.process(batch)).conflicts == 0

    store.before = freeze
    report = await worker.process(batch)
    assert (report.conflicts, report.trimmed, report.tallies) == (1, 30, {})
    await consume(worker, topic, sizes_of(1, 40))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert (await found(store)).counted == (await undisturbed(records)).counted


async def test_a_conflict_does_not_count_trimmed_records_twice(store: HookedStore) -> None:
    topic = Topic.of(Generator(6).records(60))
    await pipeline(store).process(topic.batch(0, 10))
    key, client = Keys(store.deployment, 0).meta, store.client

    async def touch(commands: Sequence[Command]) -> None:
        if is_commit(commands):
            store.calm()
            await client.set(key, await client.get(key) or b"")

    store.before = touch
    report = await pipeline(store).process(topic.batch(0, 30))
    assert (report.conflicts, report.trimmed) == (1, 10)


@pytest.mark.parametrize("seed", range(3))
async def test_two_workers_that_fight_for_a_shard_never_count_twice(
    store: HookedStore, seed: int
) -> None:
    records = Generator(seed).records(120)
    topic, rnd, conflicts = Topic.of(records), random.Random(seed), list[int]()

    async def dawdle(_: Sequence[Command]) -> None:
        for _turn in range(rnd.randint(0, 3)):
            await asyncio.sleep(0)

    store.before = store.after = dawdle

    async def work(sizes: int) -> None:
        worker, at = pipeline(store), 0
        while at < topic.end:
            batch = topic.batch(at, rnd.randint(1, sizes))
            try:
                report = await worker.process(batch)
            except ShardContestedError:
                continue
            conflicts.append(report.conflicts)
            at = batch.next_position if report.rewind is None else report.rewind[TOPIC]

    await asyncio.gather(work(20), work(20))
    assert sum(conflicts) > 0
    store.calm()
    await finish(pipeline(store), topic, complete_to=BASE + FAR)
    assert_true(await found(store), records)


async def test_workers_that_take_turns_do_not_believe_their_own_caches(store: HookedStore) -> None:
    records = Generator(8).records(120)
    topic, workers = Topic.of(records), [pipeline(store), pipeline(store)]
    sizes, at, turn = sizes_of(8, 15), 0, 0
    while at < topic.end:
        batch = topic.batch(at, next(sizes))
        report = await workers[turn % 2].process(batch)
        assert (report.conflicts, report.trimmed) == (0, 0)
        at, turn = batch.next_position, turn + 1
    await finish(workers[0], topic, complete_to=BASE + FAR)
    assert_true(await found(store), records)


async def test_a_worker_gives_up_when_others_keep_committing(store: HookedStore) -> None:
    key, client = Keys(store.deployment, 0).meta, store.client
    topic = Topic.of(Generator(9).records(20))
    await pipeline(store).process(topic.batch(0, 1))
    before = (await found(store)).counted

    async def meddle(commands: Sequence[Command]) -> None:
        if is_commit(commands):
            await client.set(key, await client.get(key) or b"")

    store.before = meddle
    with pytest.raises(ShardContestedError, match=f"committed {MAX_CONFLICTS} times"):
        await pipeline(store).process(topic.batch(topic.offsets[1], 10))
    store.calm()
    assert (await found(store)).counted == before
