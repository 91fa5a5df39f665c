"""Sweeps of one commit each: they take turns with new batches, and end up where full sweeps do."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import BASE, EARLY_FOR, EXPERIMENTS, FAST, Generator, Records, logs, sizes_of
from support.failing import HookedStore
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

from metrics.experiment import HOUR
from metrics.layout import FINE_WIDTH, RETENTION, Kind
from stream.batch import Batch, BatchReport
from stream.fleet import FleetClock, fleet_clock
from stream.maturity import harvest
from stream.pipeline import ShardPipeline
from stream.shard import MAX_AHEAD
from stream.store import Store


FAR = 4_000_000
BUDGET = 7
WAIT = int(FAST.labels.horizon + FAST.labels.grace)


@pytest.fixture
def small_sweeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A commit sweeps at most BUDGET ids of a queue."""
    kept = harvest.__kwdefaults__
    monkeypatch.setattr(harvest, "__kwdefaults__", {**(kept or {}), "budget": BUDGET})
    return iter(())


@pytest.fixture(autouse=True)
def _small(small_sweeps: None) -> None:
    """All tests of this module."""


def empty(topic: Topic, shard: int = 0, complete_to: int | None = None) -> Batch:
    """A batch without records, to sweep by."""
    return Batch(topic.name, shard, topic.end, topic.end, complete_to=complete_to)


async def swept(worker: ShardPipeline, topic: Topic, complete_to: int) -> list[BatchReport]:
    """Let the clock pass `complete_to` and sweep until nothing is due."""
    reports = [await worker.process(empty(topic, 0, complete_to), drain=False)]
    while reports[-1].backlog:
        reports.append(await worker.process(empty(topic), drain=False))
        assert len(reports) < 5_000
    return reports


def asked(count: int, gap: int = 1, start: int = BASE) -> Records:
    """Predictions `gap` ms apart."""
    return [
        (
            start + n * gap,
            {
                "type": "prediction",
                "prediction_id": f"p{start}-{n}",
                "experiment": "fast",
                "variant": "a",
                "predicted": True,
            },
        )
        for n in range(count)
    ]


def answer(at: int, name: str = "nobody") -> Records:
    """An outcome that tells that outcomes keep coming."""
    return [(at, {"type": "outcome", "prediction_id": name, "actual": True})]


# --- bounded --------------------------------------------------------------------------------------


async def test_one_call_sweeps_one_commit_and_says_that_more_is_due(store: HookedStore) -> None:
    records = asked(100) + answer(BASE + FAR)
    topic, worker = Topic.of(records), pipeline(store)
    report = await worker.process(topic.batch(0, 1_000), drain=False)
    assert (report.commits, report.backlog) == (1, True)
    reports = await swept(worker, topic, BASE + FAR)
    assert all(each.commits <= 1 for each in reports)
    assert len(reports) >= 100 // BUDGET
    await worker.process(empty(topic), drain=False)
    assert (await worker.process(empty(topic), drain=False)).commits == 0  # nothing is left
    assert_equal(
        await found(store),
        truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR),
    )


async def test_new_batches_are_counted_while_more_is_due(store: HookedStore) -> None:
    late = BASE + 10 * WAIT
    records = asked(60) + answer(late) + asked(40, start=late)
    topic, worker = Topic.of(records), pipeline(store)
    for at in range(0, len(records), 10):
        report = await worker.process(topic.batch(at, 10), drain=False)
        assert report.commits == 1
        state = await found(store)
        assert state.meta.positions[TOPIC].offset == min(at + 10, len(records))
    assert report.backlog
    state = await found(store)
    assert state.meta.matured["fast"] <= BASE + 60
    done = sum(ledger.predictions for ledger in state.of(Kind.MATURE).values())
    assert 0 < done < 60


async def test_what_is_due_is_not_said_to_be_final_before_it_was_swept(store: HookedStore) -> None:
    records = asked(50) + answer(BASE + FAR)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 1_000), drain=False)
    backlog = True
    while backlog:
        state = await found(store)
        done = sum(ledger.predictions for ledger in state.of(Kind.MATURE).values())
        assert state.meta.matured.get("fast", 0) <= BASE + done or done == 50
        backlog = (await worker.process(empty(topic), drain=False)).backlog


@pytest.mark.parametrize("seed", range(3))
async def test_bounded_sweeps_end_up_with_the_counts_of_full_ones(
    store: HookedStore, seed: int
) -> None:
    records, rnd = Generator(seed, reuse=False).records(200), random.Random(seed)
    topic = Topic.of(records, holes=seed)
    drained = Store.embedded()
    worker = pipeline(drained)
    await consume(worker, topic, sizes_of(seed, 30))
    await finish(worker, topic, complete_to=BASE + FAR)
    worker, at = pipeline(store), 0
    while at < topic.end:
        batch = topic.batch(at, rnd.randint(1, 30))
        report = await worker.process(batch, drain=False)
        at = batch.next_position
        for _ in range(rnd.choice((0, 0, 1, 3))):
            if report.backlog:
                now = Batch(TOPIC, 0, at, at)
                report = await worker.process(now, drain=False)
    await swept(worker, topic, BASE + FAR)
    state = await found(store)
    assert state.counted == (await found(drained)).counted
    assert_equal(state, truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR))
    await drained.close()


@settings(max_examples=40)
@given(records=logs(max_size=25), seed=st.integers(0, 10_000))
async def test_bounded_sweeps_give_the_true_counts_of_any_stream(
    records: Records, seed: int
) -> None:
    store = Store.embedded()
    try:
        topic, worker, at = Topic.of(records, holes=seed), pipeline(store), 0
        sizes = sizes_of(seed, 6)
        while at < topic.end:
            batch = topic.batch(at, next(sizes))
            await worker.process(batch, drain=False)
            at = batch.next_position
        await swept(worker, topic, BASE + FAR)
        truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
        assert_equal(await found(store), truth)
    finally:
        await store.close()


# --- the fleet's clock ----------------------------------------------------------------------------


async def mature(store: Store, shard: int) -> int:
    """Predictions of a shard whose label is final."""
    ledgers = (await found(store, shard)).of(Kind.MATURE).values()
    return sum(ledger.predictions for ledger in ledgers)


async def test_a_quiet_shard_matures_when_another_one_hears_of_outcomes(
    store: HookedStore,
) -> None:
    quiet, busy = pipeline(store, shard=0), pipeline(store, shard=1)
    topic, other = Topic.of(asked(20)), Topic.of(answer(BASE + FAR))
    await quiet.process(topic.batch(0, 100))
    await quiet.process(topic.at_end(BASE + FAR))
    assert await mature(store, 0) == 0  # silence is not "everybody declined"
    await busy.process(other.batch(0, 100, 1))
    quiet.learn(await fleet_clock(store))
    await quiet.process(empty(topic))
    assert await mature(store, 0) == 20


@pytest.mark.parametrize("short", [0, 1])
async def test_outcomes_elsewhere_mature_nothing_that_arrived_too_late_for_them(
    store: HookedStore, short: int
) -> None:
    topic, worker = Topic.of(asked(1)), pipeline(store)
    await worker.process(topic.batch(0, 100))
    grace = int(FAST.labels.grace)
    worker.learn(FleetClock(BASE + WAIT - grace + 1 - short, None))
    await worker.process(topic.at_end(BASE + FAR))
    assert await mature(store, 0) == (0 if short else 1)


@pytest.mark.parametrize("short", [0, 1])
async def test_outcomes_elsewhere_mature_nothing_before_the_shards_own_watermark(
    store: HookedStore, short: int
) -> None:
    topic, worker = Topic.of(asked(1)), pipeline(store)
    await worker.process(topic.batch(0, 100))
    worker.learn(FleetClock(BASE + FAR, BASE + FAR))
    await worker.process(topic.at_end(BASE + WAIT + 1 - short))
    assert await mature(store, 0) == (0 if short else 1)


@pytest.mark.parametrize("seed", range(3))
async def test_a_fleet_that_knows_of_each_other_counts_what_each_counts_alone(
    store: HookedStore, seed: int
) -> None:
    logs_of = [Generator(100 * seed + n, reuse=False).records(60) for n in range(3)]
    workers = [pipeline(store, topics=(PREDICTIONS, OUTCOMES), shard=n) for n in range(3)]
    topics, rnd = [split(records) for records in logs_of], random.Random(seed)
    at = [dict.fromkeys((PREDICTIONS, OUTCOMES), 0) for _ in topics]
    left = [(n, topic) for n, pair in enumerate(topics) for topic in pair]
    while left:
        shard, topic = rnd.choice(left)
        batch = topic.batch(at[shard][topic.name], rnd.randint(1, 15), shard)
        await workers[shard].process(batch, drain=False)
        at[shard][topic.name] = batch.next_position
        if batch.next_position >= topic.end:
            left.remove((shard, topic))
        if rnd.random() < 0.5:
            rnd.choice(workers).learn(await fleet_clock(store))
    latest = max(found for found in [(await fleet_clock(store)).last_outcome] if found is not None)
    for shard, pair in enumerate(topics):
        workers[shard].learn(FleetClock(latest, None))
        for topic in pair:
            await workers[shard].process(topic.at_end(BASE + FAR, shard))
        state, records = await found(store, shard), logs_of[shard]
        # Alone it would be as if an outcome of nobody had come at that time.
        alone = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
        told = sorted([*records, *answer(latest)], key=lambda record: record[0])
        expected = truth_of(told, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
        matured = {where: facts.predictions for where, facts in expected.mature.items()}
        kept = {where: x.predictions for where, x in state.of(Kind.MATURE).items()}
        assert kept == matured
        assert {k: n for k, n in state.meta.tallies.items() if n} == dict(alone.tallies)


# --- panes ----------------------------------------------------------------------------------------


async def fine_panes(store: Store) -> set[int]:
    return {start for _, _, start in (await found(store)).of(Kind.FINE)}


async def moved_on(store: Store, fleet: int | None, by: int) -> set[int]:
    """The fine panes that are left after a shard has moved on, with the fleet's watermark at `fleet`."""
    worker = pipeline(store)
    topic = Topic.of(asked(1) + asked(1, start=BASE + by))
    worker.learn(FleetClock(None, fleet))
    await worker.process(topic.batch(0, 1))
    await worker.process(topic.batch(1, 1))
    for second in range(1, 4):
        await worker.process(topic.at_end(BASE + by + second))
    return await fine_panes(store)


@pytest.mark.parametrize(
    ("fleet", "kept"),
    [
        (None, False),
        (BASE, True),
        (BASE + RETENTION[Kind.FINE] + FINE_WIDTH - 1, True),
        (BASE + RETENTION[Kind.FINE] + FINE_WIDTH, False),
    ],
)
async def test_panes_that_the_fleets_window_needs_survive_in_a_shard_that_is_ahead(
    store: HookedStore, fleet: int | None, kept: bool
) -> None:
    assert (BASE in await moved_on(store, fleet, 4 * HOUR)) is kept


async def test_a_shard_that_never_comes_back_does_not_keep_panes_for_ever(
    store: HookedStore,
) -> None:
    by = MAX_AHEAD + RETENTION[Kind.FINE] + FINE_WIDTH
    assert BASE not in await moved_on(store, BASE, by)
