"""What the shards of a deployment share: how far they are, and how many there are."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.events import BASE, EXPERIMENTS, Generator
from support.failing import HookedStore
from support.feed import OUTCOMES, PREDICTIONS, TOPIC, Topic, pipeline, split

from metrics.layout import Keys, Meta, Position, partitions_key, shards_key
from stream.fleet import (
    FleetClock,
    PartitionsChangedError,
    agree_on_partitions,
    fleet_clock,
    remembered,
)
from stream.screen import SpecTable
from stream.shard import MAX_AHEAD, Shard
from stream.store import Store, StoreUnavailableError


async def put(store: Store, shard: int, watermark: int | None, last_outcome: int | None) -> None:
    """A shard that is so far."""
    positions = {} if watermark is None else {TOPIC: Position(1, watermark)}
    meta = Meta(seq=1, topics=(TOPIC,), positions=positions, last_outcome=last_outcome)
    await store.client.set(Keys(store.deployment, shard).meta, msgspec.json.encode(meta))
    await store.register(shard)


async def test_nothing_is_known_of_a_deployment_that_never_counted(store: HookedStore) -> None:
    assert await fleet_clock(store) == FleetClock(None, None)


async def test_the_clock_is_the_latest_outcome_and_the_lowest_watermark(
    store: HookedStore,
) -> None:
    await put(store, 0, 500, 300)
    await put(store, 7, 400, None)
    await put(store, 12, 900, 700)
    assert await fleet_clock(store) == FleetClock(700, 400)


async def test_a_shard_that_has_not_heard_of_all_topics_yet_says_nothing_of_the_watermark(
    store: HookedStore,
) -> None:
    await put(store, 0, 500, 300)
    await put(store, 1, None, 600)
    assert await fleet_clock(store) == FleetClock(600, 500)


async def test_a_shard_whose_state_got_lost_says_nothing(store: HookedStore) -> None:
    await put(store, 0, 500, 300)
    await store.register(1)
    assert await fleet_clock(store) == FleetClock(300, 500)


async def test_other_deployments_are_not_asked(store: HookedStore) -> None:
    await put(Store(store.client, "elsewhere"), 0, 1, 999)
    await put(store, 0, 500, 300)
    assert await fleet_clock(store) == FleetClock(300, 500)


async def test_the_clock_of_what_a_pipeline_wrote(store: HookedStore) -> None:
    predictions, outcomes = split(Generator(1, reuse=False).records(50))
    worker = pipeline(store, topics=(PREDICTIONS, OUTCOMES))
    await worker.process(predictions.batch(0, 1_000))
    assert (await fleet_clock(store)).watermark is None
    await worker.process(outcomes.batch(0, 1_000))
    clock = await fleet_clock(store)
    assert clock.watermark == min(predictions.arrivals[-1], outcomes.arrivals[-1])
    assert clock.last_outcome is not None
    assert BASE < clock.last_outcome <= outcomes.arrivals[-1]


async def test_the_predictions_that_a_shard_remembers_are_counted(store: HookedStore) -> None:
    topic = Topic.of(Generator(1, reuse=False).records(30))
    report = await pipeline(store, shard=3).process(topic.batch(0, 40, 3))
    assert await remembered(store, [3, 4]) == {3: report.tallies["predictions"], 4: 0}
    assert await remembered(store, []) == {}


# --- the number of partitions ---------------------------------------------------------------------


async def test_the_first_worker_writes_down_how_many_partitions_there_are(
    store: HookedStore,
) -> None:
    await agree_on_partitions(store, 4)
    await agree_on_partitions(store, 4)
    assert await store.client.get(partitions_key(store.deployment)) == b"4"


async def test_another_number_of_partitions_is_refused_with_what_to_do(store: HookedStore) -> None:
    await agree_on_partitions(store, 4)
    with pytest.raises(PartitionsChangedError) as told:
        await agree_on_partitions(store, 6)
    message = str(told.value)
    assert "the topics have 6 partitions" in message
    assert "was counted with 4" in message
    assert "another `deployment:` name" in message
    assert "abmonitor rekey" in message
    await agree_on_partitions(store, 4)  # and nothing was overwritten


async def test_each_deployment_has_a_number_of_its_own(store: HookedStore) -> None:
    await agree_on_partitions(store, 4)
    await agree_on_partitions(Store(store.client, "another"), 6)


@pytest.mark.parametrize(
    "ask",
    [
        fleet_clock,
        lambda store: remembered(store, [0]),
        lambda store: agree_on_partitions(store, 1),
    ],
)
async def test_a_redis_that_is_away_is_told_as_such(
    ask: Callable[[Store], Awaitable[object]],
) -> None:
    store = Store.at("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailableError, match="Redis does not answer"):
        await ask(store)
    await store.close()


async def test_a_connection_that_breaks_is_told_as_such(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> set[bytes]:
        raise RedisConnectionError("reset by peer")

    monkeypatch.setattr(embedded_store.client, "smembers", broken)
    with pytest.raises(StoreUnavailableError, match="reset by peer"):
        await fleet_clock(embedded_store)


# --- what a shard makes of it ---------------------------------------------------------------------


def shard_at(own: int | None, fleet: int | None) -> tuple[Shard, Meta]:
    made = Shard(Store.embedded(), 0, SpecTable(EXPERIMENTS), 1_000)
    made.fleet = FleetClock(None, fleet)
    positions = {} if own is None else {TOPIC: Position(1, own)}
    return made, Meta(topics=(TOPIC,), positions=positions)


@pytest.mark.parametrize(
    ("own", "fleet", "expected"),
    [
        (None, None, None),
        (None, 500, None),
        (900, None, 900),
        (900, 500, 500),
        (500, 900, 500),
        (MAX_AHEAD + 900, 500, 900),
        (MAX_AHEAD + 900, 1_000, 1_000),
    ],
)
def test_panes_are_needed_until_the_whole_fleet_is_past_them_but_not_for_ever(
    own: int | None, fleet: int | None, expected: int | None
) -> None:
    shard, meta = shard_at(own, fleet)
    assert shard.needless_before(meta) == expected


@pytest.mark.parametrize(
    ("own", "fleet", "expected"),
    [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 7), (7, 5, 7)],
)
def test_the_latest_outcome_of_any_shard_tells_how_far_labels_are_known(
    own: int | None, fleet: int | None, expected: int | None
) -> None:
    shard, meta = shard_at(None, None)
    shard.fleet, meta.last_outcome = FleetClock(fleet, None), own
    assert shard.told(meta) == expected


async def test_the_list_of_shards_is_the_readers_list(store: HookedStore) -> None:
    topic = Topic.of(Generator(1, reuse=False).records(5))
    await pipeline(store, shard=5).process(topic.batch(0, 3, 5))
    assert await store.client.smembers(shards_key(store.deployment)) == {b"5"}
