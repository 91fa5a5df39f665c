"""When each version of a variant was last seen is as exact as the counts, and small whatever events say."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import BASE, FAST, Records, cuts, sizes_of
from support.failing import HookedStore
from support.feed import (
    OUTCOMES,
    PREDICTIONS,
    TOPIC,
    Letters,
    Topic,
    consume,
    found,
    pipeline,
)
from support.truth import Event

from metrics.layout import KEPT_VERSIONS, Keys, Versions, newest_versions
from stream.sources import FieldOptions, SourceOptions
from stream.store import Store


def prediction(
    number: int, at: int, version: object = "1", variant: str = "a", experiment: str = FAST.name
) -> tuple[int, Event]:
    event: Event = {"type": "prediction", "prediction_id": f"p{number}", "experiment": experiment}
    return BASE + at, event | {"variant": variant, "predicted": True, "version": version}


async def seen_in(store: Store, records: Sequence[tuple[int, Event]]) -> Versions:
    letters = Letters()
    await consume(pipeline(store, letters=letters), Topic.of(list(records)), sizes_of(1, 5))
    assert not letters
    return (await found(store)).meta.versions


# --- what is remembered ---------------------------------------------------------------------------


async def test_a_version_is_last_seen_when_its_latest_prediction_arrived(
    embedded_store: HookedStore,
) -> None:
    records = [
        prediction(1, 0, "1"),
        prediction(2, 10, "2"),
        prediction(3, 20, "1"),
        prediction(4, 30, "1", "b"),
    ]
    assert await seen_in(embedded_store, records) == {
        FAST.name: {"a": {"1": BASE + 20, "2": BASE + 10}, "b": {"1": BASE + 30}}
    }


async def test_predictions_that_do_not_count_show_no_version(embedded_store: HookedStore) -> None:
    records = [
        prediction(1, 0, "1"),
        prediction(1, 10, "again"),
        prediction(1, 20, "1"),
        prediction(2, 30, "elsewhere", experiment="elsewhere"),
    ]
    assert await seen_in(embedded_store, records) == {FAST.name: {"a": {"1": BASE}}}


@pytest.mark.parametrize("version", ["v" * 64, "é" * 32])
async def test_a_version_may_have_64_bytes(embedded_store: HookedStore, version: str) -> None:
    assert await seen_in(embedded_store, [prediction(1, 0, version)]) == {
        FAST.name: {"a": {version: BASE}}
    }


@pytest.mark.parametrize("version", [None, "", "v" * 65, "é" * 33, "v" * 100_000])
async def test_a_version_that_is_none_or_too_long_costs_neither_room_nor_the_prediction(
    embedded_store: HookedStore, version: str | None
) -> None:
    assert await seen_in(embedded_store, [prediction(1, 0, version)]) == {}
    assert (await found(embedded_store)).meta.tallies == {"predictions": 1}


async def test_where_events_have_no_version_nothing_is_written(embedded_store: HookedStore) -> None:
    at, event = prediction(1, 0)
    del event["version"]
    await seen_in(embedded_store, [(at, event)])
    stored: Any = await embedded_store.client.get(Keys(embedded_store.deployment, 0).meta)
    assert b"versions" not in stored


async def test_a_flood_of_versions_stays_small_and_keeps_the_newest(
    embedded_store: HookedStore,
) -> None:
    records = [prediction(n, n, f"build-{n}") for n in range(100)]
    newest = {f"build-{n}": BASE + n for n in range(100 - KEPT_VERSIONS, 100)}
    assert await seen_in(embedded_store, records) == {FAST.name: {"a": newest}}


async def test_a_version_that_comes_back_after_it_was_forgotten_is_seen_anew(
    embedded_store: HookedStore,
) -> None:
    records = [prediction(n, n, str(n)) for n in range(20)]
    found = await seen_in(embedded_store, [*records, prediction(20, 20, "3")])
    assert found[FAST.name]["a"]["3"] == BASE + 20
    assert len(found[FAST.name]["a"]) == KEPT_VERSIONS


async def test_a_topic_that_is_behind_does_not_take_a_version_back(
    embedded_store: HookedStore,
) -> None:
    worker = pipeline(embedded_store, topics=(PREDICTIONS, OUTCOMES))
    for topic, number, at in ((PREDICTIONS, 1, 500), (OUTCOMES, 2, 0)):
        await worker.process(Topic.of([prediction(number, at)], topic).batch(0, 1))
    assert (await found(embedded_store)).meta.versions == {FAST.name: {"a": {"1": BASE + 500}}}


async def test_a_version_can_be_mapped_from_anywhere(embedded_store: HookedStore) -> None:
    options = FieldOptions(path="build")
    sources = {TOPIC: SourceOptions(type="prediction", fields={"version": options})}
    at, event = prediction(1, 0)
    worker = pipeline(embedded_store, sources=sources)
    await consume(worker, Topic.of([(at, event | {"build": 1_234})]), sizes_of(1, 5))
    assert (await found(embedded_store)).meta.versions == {FAST.name: {"a": {"1234": at}}}


async def test_versions_of_before_are_known_after_a_flush(store: HookedStore) -> None:
    """The store is rebuilt from the log, and with it what was seen."""
    records = [prediction(n, 100 * n, str(n % 11), "ab"[n % 2]) for n in range(60)]
    before = await seen_in(store, records)
    await store.client.flushdb()
    assert await seen_in(store, records) == before
    assert all(len(seen) == KEPT_VERSIONS for seen in before[FAST.name].values())


# --- whatever the order ---------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijklm"), st.integers(0, 6), st.sampled_from("ab")),
        max_size=40,
    ).flatmap(lambda seen: st.tuples(st.just(seen), cuts(max(len(seen), 1))))
)
async def test_the_newest_are_the_same_however_the_log_is_cut(
    case: tuple[list[tuple[str, int, str]], list[int]],
) -> None:
    seen, sizes = case
    clock, records, last = 0, Records(), {variant: dict[str, int]() for variant in FAST.variants}
    for number, (version, gap, variant) in enumerate(seen):
        clock += gap
        records.append(prediction(number, clock, version, variant))
        last[variant][version] = BASE + clock
    store = Store.embedded()
    try:
        await consume(pipeline(store), Topic.of(records), iter(sizes))
        stored = (await found(store)).meta.versions.get(FAST.name, {})
    finally:
        await store.close()
    for variant, versions in last.items():
        newest = sorted(versions.items(), key=lambda item: (item[1], item[0]))[-KEPT_VERSIONS:]
        assert stored.get(variant, {}) == dict(newest)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdefghijklm"), st.integers(0, 5)),
        min_size=3,
        max_size=3,
    )
)
def test_adding_up_does_not_depend_on_the_order_nor_on_parts(parts: list[dict[str, int]]) -> None:
    expected = newest_versions(*parts)
    for one, two, three in permutations(parts):
        assert newest_versions(newest_versions(one, two), three) == expected
        assert newest_versions(one, newest_versions(two, three), one) == expected
    assert len(expected) == min(KEPT_VERSIONS, len({v for part in parts for v in part}))
    left_out = [at for part in parts for version, at in part.items() if version not in expected]
    assert not left_out or max(left_out) <= min(expected.values())
