"""Which panes are kept, and that there is room for what waits."""

from itertools import repeat
from typing import Any

import pytest
from support.events import BASE, FAST, Records
from support.failing import HookedStore
from support.feed import OUTCOMES, PREDICTIONS, TOPIC, Topic, consume, finish, found, pipeline
from support.truth import Event

from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, Experiment, Labels
from metrics.layout import COARSE_WIDTH, FINE_WIDTH, RETENTION, Keys, Kind, PaneName
from stream.batch import Batch
from stream.events import Prediction


BYTES_A_PREDICTION = 120
PAST_A_DOUBLING = 300_000
"""A little more than 2^18: Redis has lately doubled the hash, which is when it takes most."""

WIDTH = {Kind.FINE: FINE_WIDTH, Kind.COARSE: COARSE_WIDTH}


def prediction(name: str) -> Event:
    return {
        "type": "prediction",
        "prediction_id": name,
        "experiment": FAST.name,
        "variant": "a",
        "predicted": True,
    }


def every(width: int, span: int) -> Records:
    return [(BASE + at, prediction(f"p{at}")) for at in range(0, span, width)]


@pytest.mark.parametrize(
    ("kind", "span"), [(Kind.FINE, 3 * HOUR), (Kind.COARSE, 9 * DAY)], ids=["fine", "coarse"]
)
async def test_panes_are_kept_as_long_as_declared_and_then_deleted(
    embedded_store: HookedStore, kind: Kind, span: int
) -> None:
    width = WIDTH[kind]
    topic = Topic.of(every(width, span))
    await consume(pipeline(embedded_store), topic, repeat(60))
    state = await found(embedded_store)
    watermark = state.meta.watermark
    assert watermark is not None
    kept = {start for _, _, start in state.of(kind)}
    starts = range(BASE, BASE + span, width)
    assert kept == {start for start in starts if start + width + RETENTION[kind] > watermark}
    assert len(state.of(Kind.TOTAL)) == 1


async def test_deleted_panes_are_no_longer_listed(embedded_store: HookedStore) -> None:
    await consume(pipeline(embedded_store), Topic.of(every(FINE_WIDTH, 3 * HOUR)), repeat(60))
    keys = Keys(embedded_store.deployment, 0)
    listed: list[Any] = await embedded_store.client.zrange(keys.touched(Kind.FINE), 0, -1)
    names = {PaneName.parse(name.decode()) for name in listed}
    state = await found(embedded_store)
    assert names == {name for name in state.ledgers if name.kind is Kind.FINE}


async def test_a_jump_of_the_clock_deletes_old_panes_bit_by_bit(
    embedded_store: HookedStore,
) -> None:
    worker, topic = pipeline(embedded_store), Topic.of(every(FINE_WIDTH, HOUR))
    await consume(worker, topic, repeat(400))
    for ahead in range(8):
        await finish(worker, topic, complete_to=BASE + 5 * HOUR + ahead)
    assert not (await found(embedded_store)).of(Kind.FINE)


async def test_the_slower_topic_keeps_the_panes_that_it_may_still_need(
    embedded_store: HookedStore,
) -> None:
    worker = pipeline(embedded_store, topics=(PREDICTIONS, OUTCOMES))
    predictions = Topic.of(every(FINE_WIDTH, 4 * HOUR), PREDICTIONS)
    await consume(worker, predictions, repeat(100))
    outcome = {"type": "outcome", "prediction_id": "p0", "actual": True}
    await consume(worker, Topic.of([(BASE + 5_000, outcome)], OUTCOMES), repeat(1))
    fine = (await found(embedded_store)).of(Kind.FINE)
    assert len(fine) == 4 * HOUR // FINE_WIDTH
    assert fine[(FAST.name, "a", BASE)].cells.tp.n == 1


async def test_events_of_years_ago_are_kept_by_their_own_clock(store: HookedStore) -> None:
    await consume(pipeline(store), Topic.of(every(FINE_WIDTH, HOUR)), repeat(500))
    keys = Keys(store.deployment, 0)
    state = await found(store)
    assert len(state.of(Kind.FINE)) == HOUR // FINE_WIDTH
    for name in state.ledgers:
        left = await store.client.pttl(keys.ledger(str(name)))
        if name.kind in RETENTION:
            assert left > 2 * RETENTION[name.kind]  # a safety net, far behind the watermark's
        else:
            assert left == -1


async def test_a_pending_prediction_takes_at_most_120_bytes_of_redis(
    real_store: HookedStore,
) -> None:
    labels = Labels(horizon=Duration(30 * DAY))
    experiment = Experiment(name="x", control="a", variants={"a": 1, "b": 1}, labels=labels)
    worker, client = pipeline(real_store, [experiment]), real_store.client
    size = 5_000
    await worker.process(Batch(TOPIC, 0, 0, 0))
    await client.execute_command("MEMORY", "PURGE")  # type: ignore[no-untyped-call]
    before = (await client.info("memory"))["used_memory"]
    for start in range(0, PAST_A_DOUBLING, size):
        numbers = range(start, start + size)
        events = [
            Prediction(f"request-{n:012d}", "x", "ab"[n % 2], predicted=True, latency_ms=n % 900)
            for n in numbers
        ]
        arrivals = [BASE + n // 5 for n in numbers]
        await worker.process(
            Batch(TOPIC, 0, start, start + size, numbers, arrivals, [b""] * size, events=events)
        )
    await client.execute_command("MEMORY", "PURGE")  # type: ignore[no-untyped-call]
    used = (await client.info("memory"))["used_memory"] - before
    assert await client.hlen(Keys(real_store.deployment, 0).pending) == PAST_A_DOUBLING
    assert used / PAST_A_DOUBLING <= BYTES_A_PREDICTION
