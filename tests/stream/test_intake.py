"""The intake: whatever the log, the store and the group do, every event is counted once, and it goes on."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from support.events import BASE, EARLY_FOR, EXPERIMENTS, Generator, Records, logs, sizes_of
from support.failing import HookedStore, copy_of, is_commit, set_back
from support.fakelog import FakeLog
from support.feed import (
    OUTCOMES,
    PREDICTIONS,
    TOPIC,
    Found,
    Topic,
    assert_equal,
    consume,
    finish,
    found,
    pipeline,
    split,
)
from support.truth import truth_of

from metrics.layout import Keys
from metrics.reader import Reader
from stream.batch import BatchReport
from stream.fetch import Fetch, LogUnavailableError, NotOursError
from stream.intake import IntakeOptions, IntakeState, ShardIntake
from stream.pipeline import ShardPipeline
from stream.resp import Command
from stream.store import Store, StoreUnavailableError


FAR = 4_000_000
SKEW = 5_000
WAIT_S = 10.0
BOTH = (PREDICTIONS, OUTCOMES)
QUICK = IntakeOptions(
    max_skew=60_000,
    clock_skew=SKEW,
    idle_s=0.005,
    lost_after_s=0.03,
    backoff_s=(0.001, 0.002, 0.004),
)


async def nothing_to_prepare() -> None:
    """Counting may begin at once."""


@dataclass
class Site:
    """A log, a store, and the one intake that runs."""

    store: HookedStore
    topics: tuple[str, ...] = (TOPIC,)
    options: IntakeOptions = QUICK
    now: int = 0
    """This machine's clock (epoch ms)."""
    log: FakeLog = field(default_factory=FakeLog)
    reports: list[BatchReport] = field(default_factory=list)
    prepare: Callable[[], Awaitable[None]] = nothing_to_prepare
    paused: bool = False
    """The transport hands nothing over."""
    size: int = 1_000
    """Records of one fetch."""

    def __post_init__(self) -> None:
        self.worker = self.new_worker()
        self.intake = self.new_intake()
        self.task: asyncio.Task[Any] | None = None

    def new_worker(self) -> ShardPipeline:
        """A pipeline as after the start of a process."""
        self.worker = pipeline(self.store, topics=self.topics)
        return self.worker

    def new_intake(self) -> ShardIntake:
        return ShardIntake(
            0,
            self.worker,
            self.log,
            self.topics,
            self.options,
            clock=lambda: self.now,
            observe=self.reports.append,
            prepare=self.prepare,
        )

    def start(self) -> None:
        self.intake = self.new_intake()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.intake.run())
            group.create_task(self._hand_over())

    async def _hand_over(self) -> None:
        while True:
            ready = () if self.paused else self.topics
            came = [self.log.hand_over(self.intake, topic, size=self.size) for topic in ready]
            await asyncio.sleep(0 if any(came) else 0.001)

    async def stop(self) -> None:
        """Take the partitions away, as a rebalance does."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for `condition`; fails after a while, or when the intake ended."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    assert self.task is None or not self.task.done(), self.task
                    await asyncio.sleep(0.001)
        except TimeoutError:
            intake = self.intake
            pytest.fail(
                f"waited for {what}; {intake.state} at {intake.positions}: {intake.problem}"
            )

    def counted(self, topic: str = TOPIC, to: int | None = None) -> bool:
        """Whether the intake has counted everything before the offset `to`."""
        wanted = self.log.at(topic).topic.end if to is None else to
        return self.intake.positions.get(topic, -1) >= wanted

    async def finish(self, to: int = BASE + FAR) -> Found:
        """Let the clock pass `to`, and wait until everything due at that time has been swept."""
        self.now = to + SKEW
        await self.until(lambda: all(map(self.counted, self.topics)), "the end of the log")
        await self.until(lambda: self.intake.watermark >= to, "the watermark")
        await self.until(lambda: not self.intake._backlog, "the sweeps")
        return await found(self.store)


@asynccontextmanager
async def site_of(store: HookedStore, *topics: Topic, **options: Any) -> AsyncIterator[Site]:
    """A site whose log has `topics`; not started."""
    site = Site(store, tuple(topic.name for topic in topics), **options)
    for topic in topics:
        site.log.add(topic)
    try:
        yield site
    finally:
        await site.stop()


def assert_true(state: Found, records: Records) -> None:
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    assert_equal(state, truth)


def records_of(seed: int, predictions: int = 80) -> Records:
    """Records that may be split into two topics."""
    return Generator(seed, reuse=False).records(predictions)


class Failing:
    """Lets exchanges with the store fail, some of them or all."""

    def __init__(self, *, times: int = 1, only: Callable[[Sequence[Command]], bool] | None = None):
        self.left, self._only, self.failed = times, only, 0

    async def __call__(self, commands: Sequence[Command]) -> None:
        if self.left > 0 and (self._only is None or self._only(commands)):
            self.left -= 1
            self.failed += 1
            raise RedisConnectionError("reset by peer")


# --- where it begins ------------------------------------------------------------------------------


async def test_it_begins_at_the_start_of_the_log_where_nothing_is_stored(
    store: HookedStore,
) -> None:
    records = Generator(1).records(80)
    async with site_of(store, Topic.of(records, holes=1)) as site:
        site.start()
        assert_true(await site.finish(), records)
        assert (site.intake.state, site.intake.problem) == (IntakeState.RUNNING, None)


async def test_it_begins_at_the_stored_positions(store: HookedStore) -> None:
    records = Generator(2).records(80)
    topic = Topic.of(records, holes=2)
    await pipeline(store).process(topic.batch(0, 50))
    async with site_of(store, topic) as site:
        site.start()
        assert_true(await site.finish(), records)
        assert site.log.at(TOPIC).handed[0].batch.position == topic.offsets[50]  # type: ignore[union-attr]
        assert sum(report.trimmed for report in site.reports) == 0


async def test_positions_are_unknown_before_it_has_begun(embedded_store: HookedStore) -> None:
    topic = Topic.of(Generator(2).records(20))
    await pipeline(embedded_store).process(topic.batch(0, 10))
    async with site_of(embedded_store, topic) as site:
        embedded_store.before = Failing(times=10**9)
        site.start()
        await site.until(lambda: site.intake.state is IntakeState.STORE_AWAY, "the failure")
        assert site.intake.positions == {}  # 0 would be told to the group as its offset
        embedded_store.calm()
        await site.until(site.counted, "the end")
        assert site.intake.positions == {TOPIC: topic.end}


@pytest.mark.parametrize("counted", [0, 10])
async def test_a_log_that_does_not_reach_back_is_counted_from_where_it_begins(
    store: HookedStore, counted: int
) -> None:
    records = records_of(3)
    topic = Topic.of(records)
    if counted:
        await pipeline(store).process(topic.batch(0, counted))
    async with site_of(store, topic) as site:
        site.log.cut(TOPIC, 40)
        site.start()
        state = await site.finish()
        assert state.meta.complete_since == topic.arrivals[40]
        assert_true(state, records[:counted] + records[40:])


async def test_records_that_are_deleted_before_they_are_read_are_noticed(
    embedded_store: HookedStore,
) -> None:
    records = records_of(4)
    topic = Topic.of(records)
    async with site_of(embedded_store, topic, size=10) as site:
        site.start()
        await site.until(lambda: site.counted(to=20), "some records")
        site.paused = True
        await site.until(lambda: not site.intake._lanes[TOPIC].queue, "what was handed over")
        at = site.intake.positions[TOPIC]
        site.log.cut(TOPIC, at + 15)
        site.paused = False
        state = await site.finish()
        assert state.meta.complete_since == topic.arrivals[at + 15]
        assert_true(state, records[:at] + records[at + 15 :])


async def test_it_is_prepared_before_it_counts_and_what_that_raises_ends_it(
    embedded_store: HookedStore,
) -> None:
    async def refuse() -> None:
        raise ValueError("3 partitions, not 4")

    async with site_of(embedded_store, Topic.of(records_of(1)), prepare=refuse) as site:
        with pytest.raises(ValueError, match="3 partitions"):
            await site.intake.run()
    assert site.reports == []


async def test_where_it_cannot_be_prepared_yet_it_waits(embedded_store: HookedStore) -> None:
    records, left = Generator(1).records(30), 3

    async def not_yet() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            raise LogUnavailableError("Kafka does not tell the partitions")

    async with site_of(embedded_store, Topic.of(records), prepare=not_yet) as site:
        site.start()
        await site.until(lambda: site.intake.state is IntakeState.LOG_AWAY, "the failure")
        assert_true(await site.finish(), records)


async def test_partitions_of_another_worker_end_it(embedded_store: HookedStore) -> None:
    async with site_of(embedded_store, Topic.of(records_of(1))) as site:
        site.log.ours = False
        with pytest.raises(NotOursError, match="not assigned"):
            await site.intake.run()


# --- fetches --------------------------------------------------------------------------------------


async def test_a_fetch_that_got_lost_is_asked_for_again(embedded_store: HookedStore) -> None:
    records = Generator(5).records(80)
    async with site_of(embedded_store, Topic.of(records), size=7) as site:
        site.start()
        for at in (7, 40, 60):
            await site.until(lambda at=at: site.counted(to=at), "some records")  # type: ignore[misc]
            site.log.fetch(TOPIC, size=5)
        assert_true(await site.finish(), records)
        assert sum(report.trimmed for report in site.reports) == 0


async def test_the_last_fetch_of_a_log_is_missed_too_when_it_got_lost(
    embedded_store: HookedStore,
) -> None:
    records = Generator(5).records(40)
    async with site_of(embedded_store, Topic.of(records)) as site:
        site.paused = True
        site.start()
        await site.until(lambda: site.log.at(TOPIC).track, "a seek")
        assert site.log.fetch(TOPIC) is not None  # all of it, and nothing follows
        site.paused = False
        assert_true(await site.finish(), records)


async def test_fetches_from_before_a_seek_are_ignored(embedded_store: HookedStore) -> None:
    records = Generator(6).records(60)
    async with site_of(embedded_store, Topic.of(records), size=9) as site:
        partition = site.log.at(TOPIC)
        partition.written = 40
        site.start()
        await site.until(lambda: site.counted(to=40), "some records")
        stale = list(partition.handed)
        partition.written = len(records)
        site.log.fetch(TOPIC, size=1)  # gets lost: begins again
        await site.until(
            lambda: site.intake._lanes[TOPIC].generation not in (0, stale[0].generation), "a seek"
        )
        for fetch in stale:
            site.intake.offer(TOPIC, fetch)
        site.intake.offer(TOPIC, Fetch(stale[0].generation, None))
        assert_true(await site.finish(), records)
        assert sum(report.trimmed for report in site.reports) == 0


async def test_what_comes_while_it_begins_is_no_reason_to_begin_again(
    embedded_store: HookedStore,
) -> None:
    records = records_of(7)
    topics = split(records)
    async with site_of(embedded_store, *topics) as site:
        site.paused, begun = True, 0

        async def prepare() -> None:
            nonlocal begun
            begun += 1

        site.prepare = prepare
        site.start()
        await site.until(lambda: site.intake.positions and site.log.at(OUTCOMES).track, "a seek")
        late = site.log.fetch(PREDICTIONS, size=10)
        site.intake._lanes[OUTCOMES].generation = 0
        site.intake._news.set()
        assert late is not None
        seeks = site.log.at(OUTCOMES).track
        while site.log.at(OUTCOMES).track is seeks:
            if not site.intake._lanes[PREDICTIONS].queue:
                site.intake.offer(PREDICTIONS, late)
            await asyncio.sleep(0)
        site.paused = False
        assert_true(await site.finish(), records)
        assert begun == 2


async def test_no_more_is_asked_for_than_waits_here_and_then_it_goes_on(
    embedded_store: HookedStore,
) -> None:
    records = Generator(8).records(60)
    async with site_of(embedded_store, Topic.of(records), size=5) as site:
        released = asyncio.Event()

        async def wait(commands: Sequence[Command]) -> None:
            if is_commit(commands):
                await released.wait()

        embedded_store.before = wait
        site.start()
        partition = site.log.at(TOPIC)
        await site.until(lambda: partition.track and partition.track.held, "the hold")
        handed = len(partition.handed)
        await asyncio.sleep(0.02)
        assert len(partition.handed) == handed <= QUICK.depth
        released.set()
        assert_true(await site.finish(), records)
        assert partition.track is not None
        assert not partition.track.held


async def test_a_fetch_larger_than_one_commit_whose_later_part_fails_is_counted_once(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.pipeline.MAX_RECORDS", 25)
    records = Generator(9).records(80)
    commits = 0

    def third(commands: Sequence[Command]) -> bool:
        nonlocal commits
        commits += is_commit(commands)
        return is_commit(commands) and commits == 4

    async with site_of(embedded_store, Topic.of(records)) as site:
        embedded_store.after = Failing(only=third)  # it was written, and the answer got lost
        site.start()
        assert_true(await site.finish(), records)
        assert embedded_store.after.failed == 1
        assert len(site.log.at(TOPIC).handed) == 2


async def test_records_that_another_worker_has_counted_meanwhile_are_trimmed(
    store: HookedStore,
) -> None:
    records = Generator(10).records(60)
    topic = Topic.of(records)
    async with site_of(store, topic, size=20) as site:
        site.paused = True
        site.start()
        await site.until(lambda: site.intake.positions and site.reports, "the beginning")
        await pipeline(Store(store.client, store.deployment)).process(topic.batch(0, 50))
        site.paused = False
        assert_true(await site.finish(), records)
        assert sum(report.trimmed for report in site.reports) == 50


# --- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_at_any_exchange_loses_and_doubles_nothing(when: str) -> None:
    records = Generator(11).records(30)
    at, failed = 0, True
    while failed:
        store = HookedStore(Store.embedded().client)
        exchanges = 0

        def chosen(_: Sequence[Command], at: int = at) -> bool:
            nonlocal exchanges
            exchanges += 1
            return exchanges > at

        async with site_of(store, Topic.of(records), size=11) as site:
            hook = Failing(times=2, only=chosen)
            setattr(store, when, hook)
            site.start()
            state = await site.finish()
            assert_true(state, records)
            failed = hook.failed > 0 and at < 40
        await store.close()
        at += 1
    assert at > 10


async def test_while_the_store_is_away_it_waits_longer_and_longer_says_so_and_goes_on(
    embedded_store: HookedStore, caplog: pytest.LogCaptureFixture
) -> None:
    records = Generator(12).records(60)
    options = replace(QUICK, backoff_s=(0.001, 0.002, 0.05))
    with caplog.at_level(logging.INFO, "stream.intake"):
        async with site_of(embedded_store, Topic.of(records), options=options, size=5) as site:
            site.start()
            await site.until(lambda: site.counted(to=30), "some records")
            hook = embedded_store.before = Failing(times=10**9)
            await site.until(lambda: site.intake.state is IntakeState.STORE_AWAY, "the failure")
            assert "reset by peer" in (site.intake.problem or "")
            await asyncio.sleep(0.3)
            assert hook.failed <= 12
            embedded_store.calm()
            assert_true(await site.finish(), records)
            assert (site.intake.state, site.intake.problem) == (IntakeState.RUNNING, None)
    waits = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in waits] == [
        "shard 0 waits: Redis does not answer: reset by peer"
    ]


async def test_a_store_that_can_be_read_but_takes_no_writes_is_away_all_the_while(
    embedded_store: HookedStore, caplog: pytest.LogCaptureFixture
) -> None:
    records = Generator(13).records(60)
    full, states, refused = True, set[IntakeState](), 0

    async def refuse(commands: Sequence[Command]) -> None:
        nonlocal refused
        if full and is_commit(commands):
            refused += 1
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'")

    options = replace(QUICK, backoff_s=(0.001, 0.002, 0.05))
    with caplog.at_level(logging.INFO, "stream.intake"):
        async with site_of(embedded_store, Topic.of(records), options=options, size=5) as site:
            site.start()
            await site.until(lambda: site.counted(to=30), "some records")
            embedded_store.before = refuse
            await site.until(lambda: site.intake.state is IntakeState.STORE_AWAY, "the failure")
            for _ in range(100):
                states.add(site.intake.state)
                await asyncio.sleep(0.003)
            assert states == {IntakeState.STORE_AWAY}  # readiness does not flap
            assert refused <= 12  # and Kafka is not asked for the same fetch over and over
            full = False
            assert_true(await site.finish(), records)
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING", "INFO"]


@pytest.mark.parametrize("seed", range(3))
async def test_a_store_that_was_set_back_is_made_good_from_both_topics(
    store: HookedStore, seed: int
) -> None:
    records = records_of(seed)
    async with site_of(store, *split(records), size=10) as site:
        site.start()
        await site.until(lambda: site.counted(PREDICTIONS, 20), "some records")
        await site.stop()
        earlier = await copy_of(store.client)
        site.start()
        await site.until(lambda: site.counted(PREDICTIONS, 60), "more records")
        site.paused = True
        await site.until(lambda: not any(x.queue for x in site.intake._lanes.values()), "a rest")
        await site.until(lambda: not site.intake._backlog, "the sweeps")
        await set_back(store.client, earlier if seed else {})
        site.paused = False
        assert_true(await site.finish(), records)
        assert any(report.rewind for report in site.reports)


def facts_of(fleet: Any) -> Any:
    return {
        (name, variant): (facts.total.pack(), {at: x.pack() for at, x in facts.fine.items()})
        for name, snapshot in fleet.snapshots.items()
        for variant, facts in snapshot.variants.items()
    }


async def test_readers_notice_that_a_commit_was_lost_which_they_have_seen(
    store: HookedStore,
) -> None:
    records = Generator(14).records(60)
    reader = Reader(store.client, store.deployment)
    async with site_of(store, Topic.of(records)) as site:
        site.paused = True
        site.start()

        async def count_more(records: int) -> None:
            at = len(site.reports)
            await site.until(lambda: site.log.hand_over(site.intake, TOPIC, size=records), "more")
            await site.until(lambda: len(site.reports) > at, "a commit")

        await site.until(lambda: site.reports, "the beginning")
        await count_more(20)
        earlier = await copy_of(store.client)
        await count_more(10)
        seen = (await found(store)).meta.seq
        await reader.read(EXPERIMENTS)
        await set_back(store.client, earlier)  # a failover: the connection breaks, and later it
        store.before = Failing()  # goes on where the replica was
        site.log.hand_over(site.intake, TOPIC, size=1)
        await site.until(lambda: site.counted(to=20) and not site.counted(to=21), "the way back")
        await site.until(lambda: site.intake._lanes[TOPIC].generation, "the seek")
        await count_more(35)
        await count_more(35)
        while (await found(store)).meta.seq < seen:
            await count_more(1)
        anew = await Reader(store.client, store.deployment).read(EXPERIMENTS)
        assert facts_of(await reader.read(EXPERIMENTS)) == facts_of(anew)


async def test_a_shard_that_others_commit_to_waits_until_they_stop(
    embedded_store: HookedStore,
) -> None:
    records = Generator(15).records(60)
    client, key, fights = embedded_store.client, Keys(embedded_store.deployment, 0).meta, 0
    async with site_of(embedded_store, Topic.of(records), size=20) as site:
        site.start()
        await site.until(lambda: site.counted(to=20), "some records")

        async def touch(commands: Sequence[Command]) -> None:
            nonlocal fights
            if is_commit(commands):
                fights += 1
                await client.set(key, await client.get(key) or b"")

        embedded_store.before = touch
        site.now = BASE + 10 * FAR  # so that there is something to commit
        await site.until(lambda: site.intake.state is IntakeState.CONTESTED, "the fight")
        assert "others committed" in (site.intake.problem or "")
        embedded_store.calm()
        await site.until(lambda: site.intake.state is IntakeState.RUNNING, "peace")
        state = await site.finish(BASE + 10 * FAR)
        assert fights > 20
        truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + 10 * FAR)
        assert {name: n for name, n in state.meta.tallies.items() if n} == dict(truth.tallies)


# --- the log --------------------------------------------------------------------------------------


async def test_a_topic_that_was_made_anew_is_not_counted_and_the_problem_says_why(
    embedded_store: HookedStore,
) -> None:
    records = Generator(16).records(60)
    topic = Topic.of(records)
    async with site_of(embedded_store, topic) as site:
        site.start()
        await site.until(site.counted, "the end")
        before = (await found(embedded_store)).meta.tallies
        site.log.add(Topic.of(Generator(17).records(5)))
        site.log.at(TOPIC).track = None
        await site.stop()
        site.start()
        await site.until(lambda: site.intake.state is IntakeState.LOG_CUT, "the discovery")
        problem = site.intake.problem or ""
        assert f"events[0] ends at offset {site.log.at(TOPIC).end:,}" in problem
        assert f"{topic.end:,} were counted" in problem
        assert "use another `deployment:` name" in problem
        assert (await found(embedded_store)).meta.tallies == before
        site.log.add(topic)  # the right one is back
        assert_true(await site.finish(), records)


async def test_a_log_that_is_cut_below_what_was_read_is_noticed_while_running(
    embedded_store: HookedStore,
) -> None:
    async with site_of(embedded_store, Topic.of(Generator(16).records(60))) as site:
        site.start()
        await site.until(site.counted, "the end")
        track = site.log.at(TOPIC).track
        site.log.add(Topic.of(Generator(17).records(5))).track = track
        await site.until(lambda: site.intake.state is IntakeState.LOG_CUT, "the discovery")


async def test_while_the_log_is_away_it_says_so_and_then_goes_on(
    embedded_store: HookedStore, caplog: pytest.LogCaptureFixture
) -> None:
    records = Generator(18).records(60)
    async with site_of(embedded_store, Topic.of(records), size=5) as site:
        site.log.away = True
        site.start()
        await site.until(lambda: site.intake.state is IntakeState.LOG_AWAY, "the failure")
        assert site.intake.problem == "Kafka does not tell its offsets"
        site.log.away = False
        await site.until(lambda: site.counted(to=30), "some records")
        assert site.intake.state is IntakeState.RUNNING
        site.log.away = True
        await site.until(lambda: site.intake.state is IntakeState.LOG_AWAY, "another failure")
        await asyncio.sleep(0.05)
        site.log.away = False
        assert_true(await site.finish(), records)
        assert site.intake.state is IntakeState.RUNNING
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 2


# --- two topics -----------------------------------------------------------------------------------


def steady(name: str, count: int, gap: int, start: int = BASE) -> Topic:
    """Predictions of which none is ever told anything, `gap` ms apart."""
    event = {"type": "prediction", "experiment": "fast", "variant": "a", "predicted": True}
    made: Records = [
        (start + n * gap, event | {"prediction_id": f"{name}-{n}"}) for n in range(count)
    ]
    return Topic.of(made, name)


def told(count: int, gap: int, start: int = BASE) -> Topic:
    """Their outcomes, a second later each."""
    event = {"type": "outcome", "actual": True}
    made: Records = [
        (start + 1_000 + n * gap, event | {"prediction_id": f"{PREDICTIONS}-{n}"})
        for n in range(count)
    ]
    return Topic.of(made, OUTCOMES)


async def test_both_topics_are_counted_as_if_they_were_one(store: HookedStore) -> None:
    records = records_of(20, 120)
    async with site_of(store, *split(records, holes=20), size=13) as site:
        site.start()
        assert_true(await site.finish(), records)


async def test_a_topic_that_is_ahead_waits_for_the_other_without_spinning(
    embedded_store: HookedStore,
) -> None:
    topics = steady(PREDICTIONS, 60, 10_000), told(60, 10_000)
    async with site_of(embedded_store, *topics, size=2) as site:
        outcomes = site.log.at(OUTCOMES)
        outcomes.written = 1
        site.log.at(PREDICTIONS).written = 60
        ahead, steps, step = 0, 0, site.intake._step

        async def watched() -> None:
            nonlocal ahead, steps
            steps += 1
            lanes = site.intake._lanes
            if site.intake.watermark:
                ahead = max(ahead, lanes[PREDICTIONS].arrival - site.intake.watermark)
            await step()

        site.start()
        step, site.intake._step = site.intake._step, watched  # type: ignore[method-assign]
        await site.until(lambda: site.log.at(PREDICTIONS).track, "a seek")
        await site.until(lambda: site.counted(PREDICTIONS, 6), "what it may count")
        await asyncio.sleep(0.05)
        before, asked = steps, site.log.asked
        await asyncio.sleep(0.1)
        # Only to see now and then whether the log has ended.
        assert steps - before <= 3 * (site.log.asked - asked) + 3
        counted = site.intake.positions[PREDICTIONS]
        assert counted <= 10
        for _ in range(59):
            site.log.append(OUTCOMES, 1)
            await asyncio.sleep(0.002)
        await site.until(lambda: site.counted(PREDICTIONS) and site.counted(OUTCOMES), "the end")
        assert ahead <= QUICK.max_skew + 2 * 10_000  # and at most one fetch


@pytest.mark.parametrize("empty", [True, False])
async def test_a_topic_that_has_nothing_more_does_not_hold_up_the_other(
    embedded_store: HookedStore, empty: bool
) -> None:
    told_first = told(0 if empty else 3, 1_000)
    async with site_of(embedded_store, steady(PREDICTIONS, 60, 60_000), told_first, size=4) as site:
        site.now = BASE + FAR
        site.start()
        await site.until(lambda: site.counted(PREDICTIONS), "the end")


async def test_a_silent_topic_does_not_hold_up_the_watermark_while_the_other_is_busy(
    embedded_store: HookedStore,
) -> None:
    busy = steady(PREDICTIONS, 3_000, 1)
    options = replace(QUICK, max_skew=3_600_000, idle_s=0.02)
    async with site_of(embedded_store, busy, told(0, 1), options=options) as site:
        site.now, predictions = BASE + SKEW, site.log.at(PREDICTIONS)
        predictions.written = 0
        site.start()
        await site.until(lambda: site.intake.watermark >= BASE, "the beginning")
        for _ in range(60):  # news all the time, never 20 ms without
            site.log.append(PREDICTIONS, 50)
            site.now += 50
            await asyncio.sleep(0.005)
        assert site.intake.watermark >= BASE + 1_000


async def test_an_ended_log_moves_the_watermark_less_the_clocks_skew_and_matures(
    embedded_store: HookedStore,
) -> None:
    records = records_of(21)
    async with site_of(embedded_store, *split(records)) as site:
        site.start()
        await site.finish(BASE + FAR)
        meta = (await found(embedded_store)).meta
        assert meta.watermark == BASE + FAR  # the clock shows SKEW more
        assert meta.matured


async def test_a_log_that_ends_in_control_records_has_ended(embedded_store: HookedStore) -> None:
    records = Generator(22).records(20)
    async with site_of(embedded_store, Topic.of(records)) as site:
        site.log.at(TOPIC).control = 3
        site.start()
        assert_true(await site.finish(), records)


async def test_a_transaction_that_has_not_ended_keeps_the_clock_back(
    embedded_store: HookedStore,
) -> None:
    async with site_of(embedded_store, steady(TOPIC, 10, 1_000)) as site:
        site.log.at(TOPIC).uncommitted, site.now = True, BASE + FAR
        site.start()
        await site.until(site.counted, "the end of the log")
        counted_to, asked = site.intake.watermark, site.log.asked
        await site.until(lambda: site.log.asked > asked + 5, "some looks at the end")
        assert site.intake.watermark == counted_to < BASE + FAR - SKEW
        site.log.at(TOPIC).uncommitted = False
        await site.until(lambda: site.intake.watermark == BASE + FAR - SKEW, "its end")


async def test_what_was_read_but_is_not_counted_yet_keeps_the_clock_back(
    embedded_store: HookedStore,
) -> None:
    topic = steady(TOPIC, 10, 1_000)
    options = replace(QUICK, lost_after_s=60)
    async with site_of(embedded_store, topic, options=options) as site:
        site.paused, site.now = True, BASE + FAR
        site.start()
        await site.until(lambda: site.log.at(TOPIC).track, "a seek")
        on_its_way = site.log.fetch(TOPIC)
        assert on_its_way is not None
        asked = site.log.asked
        await site.until(lambda: site.log.asked > asked + 5, "some looks at the end")
        assert site.intake.watermark == 0
        site.intake.offer(TOPIC, on_its_way)
        await site.until(lambda: site.intake.watermark == BASE + FAR - SKEW, "the end")
        assert (await found(embedded_store)).meta.tallies == {"predictions": 10}


async def test_catching_up_does_not_pile_up_what_is_due(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("stream.intake", "stream.maturity"):
        monkeypatch.setattr(f"{module}.MAX_SWEEP", 10)
    monkeypatch.setattr("stream.maturity.harvest.__kwdefaults__", {"budget": 10})
    records = [record for n in range(600) for record in _both(BASE + n * 1_000, n)]
    async with site_of(embedded_store, Topic.of(records), size=100) as site:
        pending = list[int]()

        async def look(commands: Sequence[Command]) -> None:
            if is_commit(commands):
                keys = Keys(embedded_store.deployment, 0)
                pending.append(int(await embedded_store.client.hlen(keys.pending)))

        embedded_store.after = look
        site.start()
        await site.until(site.counted, "the end")
        # 100 s are remembered and 50 s come with a fetch; the ids are forgotten as fast as they come.
        assert max(pending) < 350


def _both(arrival: int, number: int) -> Records:
    event = {"prediction_id": f"p{number}"}
    asked = event | {
        "type": "prediction",
        "experiment": "fast",
        "variant": "a",
        "predicted": True,
    }
    return [(arrival, asked), (arrival, event | {"type": "outcome", "actual": True})]


# --- ends -----------------------------------------------------------------------------------------


async def test_it_may_be_cancelled_anywhere_and_the_next_one_goes_on_with_the_same_pipeline(
    store: HookedStore,
) -> None:
    records = records_of(23, 60)
    rnd = random.Random(23)
    async with site_of(store, *split(records), size=6) as site:
        stops = 0
        while stops < 60:
            site.start()
            for _ in range(rnd.randint(0, 40)):
                await asyncio.sleep(0)
            await asyncio.sleep(rnd.choice((0, 0, 0.002)))
            await site.stop()
            stops += 1
        site.start()
        assert_true(await site.finish(), records)


async def test_a_cancelled_intake_ends_though_the_store_swallows_the_cancellation(
    embedded_store: HookedStore,
) -> None:
    async with site_of(embedded_store, Topic.of(records_of(1))) as site:
        entered = asyncio.Event()

        async def swallow(_: Sequence[Command]) -> None:
            entered.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3_600)
            raise RedisConnectionError("refused")

        embedded_store.before = swallow
        task = asyncio.create_task(site.intake.run())
        await entered.wait()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
        assert task.cancelled()


# --- anything -------------------------------------------------------------------------------------


class Chaos:
    """Random things happen to a site."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site, self._random = site, random.Random(seed)
        self._copies: list[Any] = [{}]

    async def run(self, steps: int) -> None:
        site, rnd = self._site, self._random
        site.paused = True
        site.start()
        things = [self._hand, self._hand, self._hand, self._hand, self._lose, self._repeat]
        things += [self._fail, self._restart, self._set_back, self._away]
        for _ in range(steps):
            await rnd.choice(things)()
            for _turn in range(rnd.choice((0, 1, 5, 30))):
                await asyncio.sleep(0)
        site.store.calm()
        site.log.away, site.paused = False, False

    async def _hand(self) -> None:
        topic = self._random.choice(self._site.topics)
        self._site.log.hand_over(self._site.intake, topic, size=self._random.randint(1, 12))

    async def _lose(self) -> None:
        self._site.log.fetch(self._random.choice(self._site.topics), size=3)

    async def _repeat(self) -> None:
        topic = self._random.choice(self._site.topics)
        for fetch in self._site.log.at(topic).handed[-3:]:
            self._site.intake.offer(topic, replace(fetch, generation=fetch.generation - 1))

    async def _fail(self) -> None:
        exchanges = self._random.randint(0, 6)

        def later(_: Sequence[Command]) -> bool:
            nonlocal exchanges
            exchanges -= 1
            return exchanges < 0

        hook = Failing(times=self._random.randint(1, 3), only=later)
        setattr(self._site.store, self._random.choice(("before", "after")), hook)

    async def _restart(self) -> None:
        await self._site.stop()
        if self._random.random() < 0.5:
            self._site.new_worker()
        self._site.start()

    async def _set_back(self) -> None:
        site = self._site
        await site.stop()
        site.store.calm()
        if self._random.random() < 0.5:
            self._copies.append(await copy_of(site.store.client))
        else:
            await set_back(site.store.client, self._random.choice(self._copies))
        site.start()

    async def _away(self) -> None:
        self._site.log.away = not self._site.log.away


async def survives(
    store: HookedStore, topics: Sequence[Topic], records: Records, seed: int
) -> None:
    async with site_of(store, *topics) as site:
        await Chaos(site, seed).run(60)
        assert_true(await site.finish(), records)


@settings(max_examples=25)
@given(records=logs(max_size=30), seed=st.integers(0, 10_000))
async def test_whatever_happens_to_any_stream_every_event_is_counted_once(
    records: Records, seed: int
) -> None:
    store = HookedStore(Store.embedded().client)
    try:
        await survives(store, [Topic.of(records, holes=seed)], records, seed)
    finally:
        await store.close()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_two_topics_every_event_is_counted_once(
    store: HookedStore, seed: int
) -> None:
    records = records_of(seed, 100)
    await survives(store, split(records, holes=seed), records, seed)


async def test_what_was_read_of_a_lost_commit_is_not_believed_after_the_store_was_set_back(
    store: HookedStore,
) -> None:
    records = Generator(30, reuse=False).records(60)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 20))
    earlier = await copy_of(store.client)
    store.after = Failing(only=is_commit)  # it was written, and the answer got lost
    with pytest.raises(StoreUnavailableError):
        await worker.process(topic.batch(20, 10))
    store.before = Failing(only=is_commit)  # this time everything was read, and nothing written
    with pytest.raises(StoreUnavailableError):
        await worker.process(topic.batch(20, 20))
    store.calm()
    await set_back(store.client, earlier)
    await worker.process(topic.batch(20, 40))
    await consume(worker, topic, sizes_of(30, 20))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_true(await found(store), records)
