"""What `stream` writes is what `metrics` reads, however the two take turns."""

import random
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import pytest
from msgspec.structs import replace
from support.events import BASE, EARLY_FOR, EXPERIMENTS, FAST, SLOW, Generator, Records, sizes_of
from support.failing import HookedStore, copy_of, set_back
from support.feed import TOPIC, Topic, consume, finish, pipeline, plain
from support.truth import MOST_VERSIONS, Facts, Truth, truth_of

from metrics.experiment import HOUR, Money
from metrics.layout import FINE_WIDTH, RETENTION, Kind
from metrics.reader import Reader
from metrics.snapshot import Fleet, Snapshot, VariantFacts
from metrics.units import COLUMNS, UNIT_BUCKETS, column
from stream.store import Store


FAR = 4_000_000


def facts_of(facts: VariantFacts) -> dict[str, object]:
    kinds = {"fine": facts.fine, "coarse": facts.coarse, "cohorts": facts.cohorts}
    panes = {
        (kind, start): plain(ledger)
        for kind, found in kinds.items()
        for start, ledger in found.items()
        if ledger.predictions or ledger.labelled
    }
    totals = {"total": plain(facts.total), "mature": plain(facts.mature)}
    return {**totals, "panes": panes, "versions": dict(facts.versions)}


def said(fleet: Fleet) -> dict[str, object]:
    """Everything that a fleet says, as plain values."""
    snapshots: dict[str, Any] = {}
    for name, s in fleet.snapshots.items():
        clocks = (s.watermark, s.matured, s.last_prediction, s.last_outcome, s.complete_since)
        variants = {variant: facts_of(facts) for variant, facts in s.variants.items()}
        snapshots[name] = (clocks, variants, s.first_pane)
    counts = (dict(fleet.tallies), fleet.waiting, fleet.pending, fleet.shards)
    return {"snapshots": snapshots, "counts": counts}


def reader_of(store: Store) -> Reader:
    return Reader(store.client, store.deployment)


async def assert_fresh(reader: Reader, store: Store) -> Fleet:
    """A reader that has read before knows what one that starts now does."""
    fleet = await reader.read(EXPERIMENTS)
    assert said(fleet) == said(await reader_of(store).read(EXPERIMENTS))
    return fleet


def added(*facts: Facts) -> Facts:
    made = Facts()
    for one in facts:
        made.predictions += one.predictions
        made.errors += one.errors
        made.acted += one.acted
        for name, cell in one.cells.items():
            known = made.cells.get(name, (0,) * len(cell))
            made.cells[name] = tuple(a + b for a, b in zip(known, cell, strict=True))
        n, total, squares = (a + b for a, b in zip(made.moments, one.moments, strict=True))
        made.moments = (n, total, squares)
        made.timed += one.timed
        for place, count in one.scores.items():
            made.scores[place] = made.scores.get(place, 0) + count
    return made


def assert_true(snapshot: Snapshot, *truths: Truth) -> None:
    """Totals and all that is mature are those of the truths together."""
    for variant, facts in snapshot.variants.items():
        who = (snapshot.experiment, variant)
        assert plain(facts.total) == added(*(t.totals[who] for t in truths))
        mature = [f for t in truths for (e, v, _), f in t.mature.items() if (e, v) == who]
        assert plain(facts.mature) == added(*mature)
        starts = {s for t in truths for e, v, s in t.mature if (e, v) == who}
        assert {start for start, ledger in facts.cohorts.items() if ledger.predictions} == starts
        assert facts.versions == newest_of([t.versions.get(who, {}) for t in truths])


def newest_of(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The newest versions of several shards, with the latest time of each."""
    latest: dict[str, int] = {}
    for version, at in (item for part in parts for item in part.items()):
        latest[version] = max(at, latest.get(version, at))
    ranked = sorted(latest, key=lambda version: (latest[version], version), reverse=True)
    return {version: latest[version] for version in ranked[:MOST_VERSIONS]}


def truth(records: Records, watermark: int | None = None) -> Truth:
    return truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=watermark)


# --- reading again and again ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_reading_bit_by_bit_is_reading_at_once(store: HookedStore, seed: int) -> None:
    records, rnd = Generator(seed, reuse=False).records(200), random.Random(seed)
    topic, worker, reader = Topic.of(records), pipeline(store), reader_of(store)
    at = 0
    while at < topic.end:
        batch = topic.batch(at, rnd.randint(1, 60))
        await worker.process(batch)
        at = batch.next_position
        if rnd.random() < 0.6:
            await assert_fresh(reader, store)
    await finish(worker, topic, complete_to=BASE + FAR)
    fleet = await assert_fresh(reader, store)
    expected = truth(records, BASE + FAR)
    for snapshot in fleet.snapshots.values():
        assert_true(snapshot, expected)
    assert fleet.tallies == expected.tallies
    assert (fleet.shards, fleet.waiting) == (1, expected.waiting)


async def test_a_snapshot_does_not_change_when_it_is_read_again(store: HookedStore) -> None:
    topic, worker, reader = (
        Topic.of(Generator(1, reuse=False).records(100)),
        pipeline(store),
        reader_of(store),
    )
    await worker.process(topic.batch(0, 60))
    first = await reader.read(EXPERIMENTS)
    before = said(first)
    await worker.process(topic.batch(topic.offsets[60], 1000))
    await reader.read(EXPERIMENTS)
    assert said(first) == before


async def test_an_empty_store_says_that_nothing_is_known(store: HookedStore) -> None:
    fleet = await reader_of(store).read(EXPERIMENTS)
    assert (fleet.shards, fleet.pending, fleet.waiting, dict(fleet.tallies)) == (0, 0, 0, {})
    for snapshot in fleet.snapshots.values():
        assert (snapshot.watermark, snapshot.matured, snapshot.first_pane) == (None, None, None)
        assert all(facts.total.predictions == 0 for facts in snapshot.variants.values())


async def test_clocks_are_those_of_the_experiment(store: HookedStore) -> None:
    records = Generator(2, reuse=False).records(100)
    topic, worker = Topic.of(records), pipeline(store)
    await consume(worker, topic, sizes_of(1, 40))
    fleet = await reader_of(store).read(EXPERIMENTS)
    expected = truth(records)
    for experiment in (FAST, SLOW):
        snapshot = fleet.snapshots[experiment.name]
        arrivals = [life.arrival for life in expected.lives if life.experiment == experiment.name]
        assert snapshot.last_prediction == max(arrivals)
        assert snapshot.last_outcome == expected.last_outcome
        assert snapshot.watermark == topic.arrivals[-1]
        wait = experiment.labels.wait
        known = (expected.last_outcome or 0) + experiment.labels.grace
        final = min(topic.arrivals[-1], known) - wait
        assert snapshot.matured == final
    assert fleet.waiting == expected.waiting


# --- shards ---------------------------------------------------------------------------------------


def sharded(records: Records) -> list[Records]:
    """Two partitions, by the id as key."""
    parts: list[Records] = [[], []]
    for arrival, event in records:
        key = event.get("prediction_id", "") if isinstance(event, dict) else ""
        parts[crc32(str(key).encode()) % 2].append((arrival, event))
    return parts


async def test_two_shards_add_up(store: HookedStore) -> None:
    parts, reader = sharded(Generator(3, reuse=False).records(200)), reader_of(store)
    workers = [pipeline(store, shard=shard) for shard in (0, 1)]
    for worker, records, sizes in zip(workers, parts, (30, 50), strict=True):
        await consume(worker, Topic.of(records), sizes_of(3, sizes))
        await assert_fresh(reader, store)
    for worker, records in zip(workers, parts, strict=True):
        await finish(worker, Topic.of(records), complete_to=BASE + FAR)
    fleet = await assert_fresh(reader, store)
    expected = [truth(records, BASE + FAR) for records in parts]
    for snapshot in fleet.snapshots.values():
        assert_true(snapshot, *expected)
    assert fleet.tallies == expected[0].tallies + expected[1].tallies
    assert fleet.shards == 2
    assert len(fleet.snapshots["fast"].variants["a"].versions) == MOST_VERSIONS


async def test_units_and_money_of_two_shards_add_up(store: HookedStore) -> None:
    shop = replace(FAST, randomised_by="unit", money=Money(cap=5))
    rnd, records = random.Random(7), Records()
    for arrival, event in Generator(7, reuse=False).records(200):
        named = {"unit_id": f"u{rnd.randrange(30)}", "cost": 0.5, "value": rnd.choice((1, 20))}
        records.append((arrival, event | named if isinstance(event, dict) else event))
    parts = sharded(records)
    for shard, part in enumerate(parts):
        worker, topic = pipeline(store, [shop, SLOW], shard=shard), Topic.of(part)
        await consume(worker, topic, sizes_of(7, 40))
        await finish(worker, topic, complete_to=BASE + FAR)
    fleet = await reader_of(store).read([shop, SLOW])
    truths = [
        truth_of(part, [shop, SLOW], early_for=EARLY_FOR, watermark=BASE + FAR) for part in parts
    ]
    for variant, facts in fleet.snapshots["fast"].variants.items():
        seen = [t.extras["total", "fast", variant, 0] for t in truths]
        final = [
            extras
            for truth in truths
            for (kind, *where, _), extras in truth.extras.items()
            if (kind, *where) == ("mature", "fast", variant)
        ]
        assert facts.total.units == sum(each.units for each in seen) > 10
        assert facts.total.crossed == sum(each.crossed for each in seen) > 0
        assert facts.total.failing == sum(each.failing for each in seen)
        assert facts.mature.money == sum(each.money for each in final)
        assert facts.mature.money_squared == sum(each.money_squared for each in final)
        assert facts.mature.capped == sum(each.capped for each in final) > 0
        for name in COLUMNS:
            expected = [
                sum(each.buckets.get((bucket, name), 0) for each in final)
                for bucket in range(UNIT_BUCKETS)
            ]
            assert column(facts.mature.buckets, name).tolist() == expected


async def test_the_slowest_shard_sets_the_clocks(store: HookedStore) -> None:
    parts = [Topic.of(records) for records in sharded(Generator(4, reuse=False).records(100))]
    workers = [pipeline(store, shard=shard) for shard in (0, 1)]
    await consume(workers[0], parts[0], sizes_of(4, 40))
    await workers[1].process(parts[1].batch(0, 10, 1))
    fleet = await reader_of(store).read(EXPERIMENTS)
    assert fleet.snapshots["fast"].watermark == parts[1].arrivals[9]
    await finish(workers[0], parts[0], complete_to=BASE + FAR)
    again = await reader_of(store).read(EXPERIMENTS)
    assert again.snapshots["fast"].watermark == parts[1].arrivals[9]
    assert again.snapshots["fast"].matured == fleet.snapshots["fast"].matured


# --- loss and rebuilding --------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [5, 40, 1000])
async def test_a_flushed_and_rebuilt_store_is_read_anew(store: HookedStore, sizes: int) -> None:
    records = Generator(5, reuse=False).records(150)
    topic, reader = Topic.of(records), reader_of(store)
    await consume(pipeline(store), topic, sizes_of(5, 40))
    await assert_fresh(reader, store)
    await store.client.flushdb()
    worker = pipeline(store)
    if sizes < 1000:
        await worker.process(topic.batch(0, sizes))
        await assert_fresh(reader, store)
    await consume(worker, topic, sizes_of(6, sizes))
    await finish(worker, topic, complete_to=BASE + FAR)
    fleet = await assert_fresh(reader, store)
    for snapshot in fleet.snapshots.values():
        assert_true(snapshot, truth(records, BASE + FAR))


async def test_a_flushed_store_that_is_not_rebuilt_yet_has_nothing(store: HookedStore) -> None:
    reader = reader_of(store)
    await consume(pipeline(store), Topic.of(Generator(5, reuse=False).records(50)), sizes_of(5, 40))
    await reader.read(EXPERIMENTS)
    await store.client.flushdb()
    await assert_fresh(reader, store)


@pytest.mark.parametrize("restarts", [False, True], ids=["same worker", "new worker"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_store_set_back_and_overtaken_before_anyone_looked_is_read_anew(
    store: HookedStore, seed: int, restarts: bool
) -> None:
    """The number of the last commit is then no help: it may be higher than the one that was read."""
    records, reader = Generator(seed, reuse=False).records(150), reader_of(store)
    topic, worker = Topic.of(records), pipeline(store)
    await worker.process(topic.batch(0, 20))
    earlier = await copy_of(store.client)
    at = topic.offsets[20]
    for _ in range(20):
        batch = topic.batch(at, 5)
        await worker.process(batch)
        at = batch.next_position
    await assert_fresh(reader, store)
    await set_back(store.client, earlier)
    if restarts:
        worker = pipeline(store)
    else:
        assert (await worker.process(topic.batch(at, 5))).rewind == {TOPIC: topic.offsets[20]}
    # A few large batches, which touch each pane once, then many that reach beyond the old number.
    at = topic.offsets[20]
    for size in (60, 60, 60, *[1] * 40):
        batch = topic.batch(at, size)
        await worker.process(batch)
        at = batch.next_position
    await assert_fresh(reader, store)


# --- age ------------------------------------------------------------------------------------------


async def test_expired_panes_disappear(store: HookedStore) -> None:
    records: Records = [
        (
            BASE + at,
            {
                "type": "prediction",
                "prediction_id": f"p{at}",
                "experiment": "fast",
                "variant": "a",
                "predicted": True,
            },
        )
        for at in range(0, 3 * HOUR, 30_000)
    ]
    topic, worker, reader = Topic.of(records), pipeline(store), reader_of(store)
    at = 0
    while at < topic.end:
        batch = topic.batch(at, 60)
        await worker.process(batch)
        at = batch.next_position
        await assert_fresh(reader, store)
    facts = (await reader.read(EXPERIMENTS)).snapshots["fast"].variants["a"]
    watermark = topic.arrivals[-1]
    oldest = watermark - RETENTION[Kind.FINE]
    assert min(facts.fine) == -(-oldest // FINE_WIDTH) * FINE_WIDTH
    assert facts.window(watermark + 1, HOUR).predictions == HOUR // 30_000
    assert facts.total.predictions == len(records)
