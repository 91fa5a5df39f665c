import random
from functools import partial
from itertools import cycle, repeat
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import (
    BASE,
    EARLY_FOR,
    EXPERIMENTS,
    FAST,
    SLOW,
    Generator,
    Records,
    cuts,
    logs,
    sizes_of,
)
from support.failing import HookedStore, is_commit
from support.feed import (
    OUTCOMES,
    PREDICTIONS,
    TOPIC,
    Found,
    Letters,
    Topic,
    assert_equal,
    consume,
    finish,
    found,
    pipeline,
    plain,
    split,
)
from support.truth import Event, truth_of

from metrics.duration import Duration
from metrics.layout import Kind
from stream.batch import Batch, DeadLetter
from stream.maturity import MAX_SWEEP, harvest
from stream.pipeline import MAX_RECORDS, ShardPipeline
from stream.store import Store


FAR = 4_000_000
"""Milliseconds after which everything is over."""


def last_arrival(records: Records) -> int:
    return max((arrival for arrival, _ in records), default=BASE)


def prediction(name: str, *, predicted: bool = True, variant: str = "a") -> Event:
    return {
        "type": "prediction",
        "prediction_id": name,
        "experiment": FAST.name,
        "variant": variant,
        "predicted": predicted,
    }


def outcome(name: str, *, actual: bool = True) -> Event:
    return {"type": "outcome", "prediction_id": name, "actual": actual}


def sign_of_life(at: int) -> tuple[int, Event]:
    """An outcome of nothing that is known: it tells that outcomes still come."""
    return at, outcome("somebody else's")


async def counted(records: Records, sizes: list[int], complete_to: int | None = None) -> Found:
    """What an embedded store holds after `records` came in batches of `sizes`, over and over."""
    store = Store.embedded()
    try:
        worker, topic = pipeline(store), Topic.of(records)
        await consume(worker, topic, cycle(sizes or [1]))
        if complete_to is not None:
            await finish(worker, topic, complete_to=complete_to)
        return await found(store)
    finally:
        await store.close()


# --- counts ---------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(data=st.data())
async def test_counts_equal_the_reference_model_for_any_stream_and_any_batch_cuts(
    data: st.DataObject,
) -> None:
    records = data.draw(logs())
    sizes = data.draw(cuts(len(records)))
    ends = data.draw(st.none() | st.sampled_from([0, 1, 30_000, 80_000, 300_000, FAR]))
    complete_to = None if ends is None else last_arrival(records) + ends
    state = await counted(records, sizes, complete_to)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=complete_to)
    assert_equal(state, truth)


@pytest.mark.parametrize("seed", range(4))
async def test_counts_of_a_likely_stream_equal_the_reference_model(
    store: HookedStore, seed: int
) -> None:
    records = Generator(seed).records(250)
    topic, complete_to = Topic.of(records, holes=seed), last_arrival(records) + 100_000
    worker = pipeline(store)
    await consume(worker, topic, sizes_of(seed, 90))
    await finish(worker, topic, complete_to=complete_to)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=complete_to)
    assert truth.tallies["late"] > 5
    assert truth.tallies["duplicate"] > 5
    assert_equal(await found(store), truth)


@settings(max_examples=30)
@given(data=st.data())
async def test_batch_cuts_change_nothing_that_is_stored(data: st.DataObject) -> None:
    records = data.draw(logs())
    one_by_one = await counted(records, [1], last_arrival(records) + FAR)
    at_once = await counted(records, [len(records) or 1], last_arrival(records) + FAR)
    in_parts = await counted(records, data.draw(cuts(len(records))), last_arrival(records) + FAR)
    assert one_by_one.counted == at_once.counted == in_parts.counted


@settings(max_examples=30)
@given(records=logs())
async def test_every_event_is_tallied_exactly_once_or_waits(records: Records) -> None:
    state = await counted(records, [3])
    waiting = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR).waiting
    assert sum(state.meta.tallies.values()) + waiting == len(records)


async def test_reports_add_up_to_the_stored_tallies(embedded_store: HookedStore) -> None:
    records = Generator(5).records(120)
    reports = await consume(pipeline(embedded_store), Topic.of(records), sizes_of(5, 40))
    summed: dict[str, int] = {}
    for report in reports:
        for result, count in report.tallies.items():
            summed[result] = summed.get(result, 0) + count
    assert summed == (await found(embedded_store)).meta.tallies


async def test_a_fetch_larger_than_a_commit_is_counted_in_parts(
    embedded_store: HookedStore,
) -> None:
    records: Records = [(BASE + n, prediction(f"p{n}")) for n in range(MAX_RECORDS + 10)]
    topic = Topic.of(records)
    report = await pipeline(embedded_store).process(topic.batch(0, len(records)))
    assert report.tallies == {"predictions": len(records)}
    assert report.commits == 2
    assert (await found(embedded_store)).meta.positions[TOPIC].offset == topic.end


async def test_events_that_the_source_decoded_are_not_decoded_again(
    embedded_store: HookedStore,
) -> None:
    batch = Topic.of([(BASE, prediction("p")), (BASE, b"{")]).batch(0, 10)
    decoded = Batch(
        batch.topic,
        0,
        0,
        2,
        batch.offsets,
        batch.arrivals,
        [b"not", b"looked at"],
        events=pipeline(embedded_store)._decoder.decode(TOPIC, batch.values),
    )
    report = await pipeline(embedded_store).process(decoded)
    assert report.tallies == {"predictions": 1, "rejected:malformed_json": 1}


async def test_one_class_only_fills_only_its_cells(embedded_store: HookedStore) -> None:
    records: Records = []
    for n in range(10):
        records += [
            (BASE + 10 * n, prediction(f"p{n}", predicted=False)),
            (BASE + 10 * n + 5, outcome(f"p{n}", actual=False)),
        ]
    records.append(sign_of_life(BASE + 200_000))
    topic, worker = Topic.of(records), pipeline(embedded_store)
    await consume(worker, topic, repeat(4))
    await finish(worker, topic, complete_to=BASE + FAR)
    (ledger,) = (await found(embedded_store)).of(Kind.MATURE).values()
    assert (ledger.predictions, ledger.cells.tn.n) == (10, 10)


# --- nothing, and next to nothing -----------------------------------------------------------------


async def test_an_empty_batch_of_an_empty_shard_is_no_trouble(store: HookedStore) -> None:
    report = await pipeline(store).process(Batch(TOPIC, 0, 0, 0))
    assert (report.tallies, report.rewind) == ({}, None)


async def test_an_empty_batch_that_says_nothing_new_commits_nothing(store: HookedStore) -> None:
    worker, topic = pipeline(store), Topic.of([(BASE, prediction("p"))])
    await worker.process(topic.batch(0, 1))
    before = (await found(store)).meta.seq
    report = await worker.process(Batch(TOPIC, 0, 1, 1, complete_to=BASE))
    assert (report.commits, (await found(store)).meta.seq) == (0, before)


async def test_records_without_events_still_move_the_position(store: HookedStore) -> None:
    worker = pipeline(store)
    await worker.process(Batch(TOPIC, 0, 0, 7))  # transaction markers, or compacted away
    assert (await worker.stored())[TOPIC].offset == 7


async def test_complete_to_lets_labels_become_final_without_further_records(
    store: HookedStore,
) -> None:
    worker = pipeline(store)
    told = sign_of_life(BASE + FAST.labels.horizon + 2)
    topic = Topic.of([(BASE, prediction("p")), (BASE + 1, outcome("p")), told])
    await worker.process(topic.batch(0, 3))
    wait = FAST.labels.wait
    await finish(worker, topic, complete_to=BASE + wait)
    assert not (await found(store)).of(Kind.MATURE)
    await finish(worker, topic, complete_to=BASE + wait + 1)
    (ledger,) = (await found(store)).of(Kind.MATURE).values()
    assert ledger.cells.tp.n == 1


async def test_outcomes_without_any_prediction_are_unmatched(store: HookedStore) -> None:
    worker = pipeline(store)
    topic = Topic.of([(BASE + n, outcome(f"p{n}")) for n in range(5)])
    await consume(worker, topic, repeat(2))
    assert len((await found(store)).early) == 5
    await finish(worker, topic, complete_to=BASE + 4 + EARLY_FOR)
    assert len((await found(store)).early) == 1  # strictly: the fifth may still meet a prediction
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    assert (state.meta.tallies, state.early, state.ledgers) == ({"unmatched": 5}, {}, {})
    assert state.queues["expire"] == []


async def test_an_outcome_waits_to_the_very_end_also_behind_one_that_does_not(
    store: HookedStore,
) -> None:
    at = BASE + 10 + EARLY_FOR
    records: Records = [
        (BASE, outcome("p")),
        (BASE + 10, outcome("p", actual=False)),
        (at, prediction("other")),
        (at, prediction("p")),
    ]
    await consume(pipeline(store), Topic.of(records), repeat(1))
    state = await found(store)
    assert state.meta.tallies == {"unmatched": 1, "predictions": 2, "outcomes": 1}
    ((_, ledger),) = state.of(Kind.TOTAL).items()
    assert ledger.cells.fp.n == 1


# --- two topics -----------------------------------------------------------------------------------


async def interleaved(
    store: Store, records: Records, seed: int, *, holes: int | None = None
) -> ShardPipeline:
    """Read predictions and outcomes as two topics, now this one further and now that."""
    rnd, topics = random.Random(seed), split(records, holes=holes)
    worker = pipeline(store, topics=(PREDICTIONS, OUTCOMES))
    at = {topic.name: 0 for topic in topics}
    while any(at[topic.name] < topic.end for topic in topics):
        topic = rnd.choice([topic for topic in topics if at[topic.name] < topic.end])
        batch = topic.batch(at[topic.name], rnd.choice((1, 3, 30, 300)))
        assert (await worker.process(batch)).rewind is None
        at[topic.name] = batch.next_position
    await finish(worker, *topics, complete_to=last_arrival(records) + FAR)
    return worker


@settings(max_examples=60)
@given(records=logs(backwards=False), seed=st.integers(0, 1000))
async def test_two_topics_at_any_skew_count_what_one_merged_topic_would(
    records: Records, seed: int
) -> None:
    lives: set[str] = set()
    unique = []  # an id that comes again long after needs both topics at one place to be forgotten
    for arrival, event in records:
        if isinstance(event, dict) and event["type"] == "prediction":
            if str(event["prediction_id"]) in lives:
                continue
            lives.add(str(event["prediction_id"]))
        unique.append((arrival, event))
    store = Store.embedded()
    try:
        await interleaved(store, unique, seed)
        state = await found(store)
    finally:
        await store.close()
    watermark = last_arrival(unique) + FAR
    assert_equal(state, truth_of(unique, EXPERIMENTS, early_for=EARLY_FOR, watermark=watermark))


@pytest.mark.parametrize("seed", range(3))
async def test_two_likely_topics_count_what_one_merged_topic_would(
    store: HookedStore, seed: int
) -> None:
    records = Generator(seed, reuse=False).records(200)
    await interleaved(store, records, seed, holes=seed)
    watermark = last_arrival(records) + FAR
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=watermark)
    assert_equal(await found(store), truth)


async def test_nothing_is_final_before_every_topic_has_spoken(store: HookedStore) -> None:
    worker = pipeline(store, topics=(PREDICTIONS, OUTCOMES))
    topic = Topic.of([(BASE, prediction("p"))], PREDICTIONS)
    await consume(worker, topic, repeat(1))
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    assert state.meta.watermark is None
    assert not state.of(Kind.MATURE)


async def test_the_slower_topic_sets_the_watermark(store: HookedStore) -> None:
    worker = pipeline(store, topics=(PREDICTIONS, OUTCOMES))
    predictions = Topic.of([(BASE, prediction("p"))], PREDICTIONS)
    last = BASE + FAST.labels.horizon + 10
    outcomes = Topic.of([(BASE + 10, outcome("p")), sign_of_life(last)], OUTCOMES)
    await consume(worker, predictions, repeat(1))
    await finish(worker, predictions, complete_to=BASE + FAR)
    await consume(worker, outcomes, repeat(1))
    assert (await found(store)).meta.watermark == last
    assert not (await found(store)).of(Kind.MATURE)
    await finish(worker, outcomes, complete_to=BASE + FAR)
    assert len((await found(store)).of(Kind.MATURE)) == 1


# --- order ----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    delays=st.lists(st.integers(0, FAST.labels.grace), min_size=24, max_size=24),
    spread=st.lists(st.integers(-20_000, 100_000), min_size=12, max_size=12),
)
async def test_arriving_shuffled_within_grace_gives_the_same_labels(
    delays: list[int], spread: list[int]
) -> None:
    events: Records = []
    for n, after in enumerate(spread):
        at = BASE + 60_000 + 7_000 * n
        events.append((at, prediction(f"p{n}", predicted=n % 3 == 0) | {"time": at}))
        events.append((at + after, outcome(f"p{n}", actual=n % 2 == 0) | {"time": at + after}))
    shuffled = [(at + late, event) for (at, event), late in zip(events, delays, strict=True)]
    states = [
        await counted(sorted(records, key=lambda r: r[0]), [5]) for records in (events, shuffled)
    ]
    cells = [
        {name: ledger.cells for name, ledger in state.of(Kind.TOTAL).items()} for state in states
    ]
    assert cells[0] == cells[1]


# --- sweeps ---------------------------------------------------------------------------------------


async def test_a_commit_sweeps_a_bounded_number_of_ids_and_the_backlog_is_drained(
    embedded_store: HookedStore,
) -> None:
    count, swept, store = 2 * MAX_SWEEP + 50, list[int](), embedded_store
    records: Records = [(BASE + n // 100, prediction(f"p{n}")) for n in range(count)]
    records += [(BASE + 200, outcome("p0")), sign_of_life(BASE + 61_000)]
    topic, worker = Topic.of(records), pipeline(store)
    await consume(worker, topic, repeat(700))

    async def note(commands: list[tuple[Any, ...]]) -> None:
        swept.extend(
            c[2].number for c in commands if c[0] == "HMGET" and str(c[1]).endswith("pending")
        )

    store.before = note  # type: ignore[assignment]  # a list is a sequence
    await finish(worker, topic, complete_to=BASE + FAR)
    await finish(worker, topic, complete_to=BASE + FAR + 1)  # what that one moved on
    assert max(swept) <= MAX_SWEEP
    assert sum(swept) == count
    state = await found(store)
    assert sum(ledger.predictions for ledger in state.of(Kind.MATURE).values()) == count
    assert (state.pending, set(map(len, state.queues.values()))) == ({}, {0})
    assert state.meta.matured[FAST.name] == BASE + 1_000  # more is not known to have no outcome


async def test_ids_are_forgotten_only_after_late_outcomes_have_been_told(
    store: HookedStore,
) -> None:
    last = BASE + FAST.labels.remembered
    records: Records = [
        (BASE, prediction("p")),
        (BASE + 1, prediction("other")),
        (last, outcome("p")),
        (last + 1, outcome("p")),
    ]
    topic, worker = Topic.of(records), pipeline(store)
    await consume(worker, topic, repeat(1))
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    assert state.meta.tallies == {"predictions": 2, "late": 1, "unmatched": 1}
    assert state.pending == {}


async def test_when_outcomes_fall_silent_nothing_becomes_final_that_might_have_had_one(
    store: HookedStore,
) -> None:
    records: Records = [(BASE + 1_000 * n, prediction(f"p{n}")) for n in range(100)]
    records.append((BASE + 90_000, outcome("p80")))
    records.sort(key=lambda record: record[0])
    topic, worker = Topic.of(records), pipeline(store)
    await consume(worker, topic, repeat(30))
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    # Final is what arrived more than a horizon before the last outcome happened.
    assert sum(ledger.predictions for ledger in state.of(Kind.MATURE).values()) == 30
    assert state.meta.matured[FAST.name] == BASE + 30_000
    more = Topic.of([*records, (BASE + 2 * FAR, outcome("p1"))])
    await consume(worker, more, repeat(1))
    state = await found(store)
    assert sum(ledger.predictions for ledger in state.of(Kind.MATURE).values()) == 100


async def test_a_longer_horizon_counts_nothing_twice(store: HookedStore) -> None:
    """Settings change in the middle of a chunk: what is due steps back behind what was done."""
    records: Records = [(BASE + 1_000 * n, prediction(f"p{n}")) for n in range(20)]
    records.append((BASE + 80_000, outcome("p19")))
    topic = Topic.of(records)
    await consume(pipeline(store), topic, repeat(100))
    done = [ledger.predictions for ledger in (await found(store)).of(Kind.MATURE).values()]
    assert 0 < sum(done) < 20
    labels = msgspec.structs.replace(FAST.labels, horizon=Duration(90_000))
    worker = pipeline(store, [msgspec.structs.replace(FAST, labels=labels)])
    await finish(worker, topic, complete_to=BASE + 80_001)
    await consume(worker, Topic.of([*records, sign_of_life(BASE + FAR)]), repeat(1))
    ledgers = (await found(store)).of(Kind.MATURE).values()
    assert sum(ledger.predictions for ledger in ledgers) == 20


@pytest.mark.parametrize("seed", range(3))
async def test_limits_that_are_always_reached_change_nothing(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Chunks, sweeps, commits, heads and caches that are nearly empty, so that all of them overflow."""
    monkeypatch.setattr("stream.maturity.MAX_SWEEP", 3)
    monkeypatch.setattr("stream.queues.harvest", partial(harvest, budget=4))
    monkeypatch.setattr("stream.queues.HEAD_CHUNKS", 2)
    monkeypatch.setattr("stream.pipeline.MAX_RECORDS", 25)
    monkeypatch.setattr("stream.ledgers.MAX_CACHED", 2)
    records = Generator(seed).records(150)
    topic, worker = Topic.of(records, holes=seed), pipeline(embedded_store)
    await consume(worker, topic, sizes_of(seed, 80))
    await finish(worker, topic, complete_to=BASE + FAR)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    assert_equal(await found(embedded_store), truth)


# --- settings that change -------------------------------------------------------------------------


async def test_an_experiment_that_is_taken_out_for_a_while_does_not_disturb_the_others(
    store: HookedStore,
) -> None:
    records = Generator(3, reuse=False).records(200)
    topic = Topic.of(records)
    third = len(records) // 3
    await pipeline(store).process(topic.batch(0, third))
    without = pipeline(store, [FAST])
    await without.process(topic.batch(topic.offsets[third], third))
    worker = pipeline(store)
    await consume(worker, topic, sizes_of(3, 60))
    await finish(worker, topic, complete_to=BASE + FAR)
    truth = truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=BASE + FAR)
    state = await found(store)
    for kind, expected in ((Kind.TOTAL, truth.totals), (Kind.MATURE, truth.mature)):
        ledgers = {name: plain(ledger) for name, ledger in state.of(kind).items()}
        kept = {name: facts for name, facts in ledgers.items() if name[0] == FAST.name}
        fast = {name: facts for name, facts in expected.items() if name[0] == FAST.name}
        assert {name[: 3 if kind is Kind.MATURE else 2]: f for name, f in kept.items()} == fast
    slow = [ledger for (name, _, _), ledger in state.of(Kind.MATURE).items() if name == "slow"]
    total = [ledger for (name, _, _), ledger in state.of(Kind.TOTAL).items() if name == "slow"]
    assert sum(ledger.predictions for ledger in slow) == sum(ledger.predictions for ledger in total)
    assert state.pending == {}


async def test_an_experiment_that_is_added_later_counts_from_then_on(store: HookedStore) -> None:
    records = Generator(4, reuse=False).records(100)
    topic, half = Topic.of(records), len(records) // 2
    await pipeline(store, [SLOW]).process(topic.batch(0, half))
    assert "fast" not in (await found(store)).meta.matured
    worker = pipeline(store)
    await consume(worker, topic, sizes_of(4, 60))
    await finish(worker, topic, complete_to=BASE + FAR)
    fast = [
        life
        for life in truth_of(records[half:], EXPERIMENTS, early_for=0).lives
        if life.experiment == "fast"
    ]
    ledgers = (await found(store)).of(Kind.MATURE)
    counted = sum(ledger.predictions for (name, _, _), ledger in ledgers.items() if name == "fast")
    assert counted == len(fast)


# --- dead letters ---------------------------------------------------------------------------------


async def test_dead_letters_are_safe_before_the_commit_with_the_original_bytes(
    store: HookedStore,
) -> None:
    broken = b'{"type": "prediction", "prediction_id": 7,   "variant": "\xc3\xa4"}'
    unknown = prediction("p") | {"variant": "c"}
    topic = Topic.of([(BASE, broken), (BASE, prediction("q")), (BASE, unknown)], holes=3)
    letters, seen = Letters(), list[int]()

    async def note(commands: list[tuple[object, ...]]) -> None:
        if is_commit(commands):
            seen.append(len(letters))

    store.before = note  # type: ignore[assignment]  # a list is a sequence
    report = await pipeline(store, letters=letters).process(topic.batch(0, 10))
    assert seen == [2]
    assert letters[0][2:6] == (TOPIC, 0, topic.offsets[0], broken)
    assert letters[1] == DeadLetter(
        "unknown_variant",
        "variant 'c'; expected one of a, b",
        TOPIC,
        0,
        topic.offsets[2],
        msgspec.json.encode(unknown).replace(b'":', b'": ').replace(b',"', b', "'),
    )
    assert report.tallies["rejected:unknown_variant"] == 1


async def test_a_batch_whose_dead_letters_cannot_be_sent_is_not_counted(
    store: HookedStore,
) -> None:
    class Full(Letters):
        async def send(self, letters: object) -> None:
            raise OSError(letters)

    topic = Topic.of([(BASE, prediction("p")), (BASE, b"{")])
    with pytest.raises(OSError, match="malformed_json"):
        await pipeline(store, letters=Full()).process(topic.batch(0, 2))
    assert (await found(store)).meta.seq == 0
    await pipeline(store).process(topic.batch(0, 2))
    assert (await found(store)).meta.tallies == {"predictions": 1, "rejected:malformed_json": 1}


@pytest.mark.parametrize(
    "field", ['"weight": 1e308', '"latency_ms": 1e308', '"latency_ms": 1e-300', '"weight": 1e-300']
)
async def test_no_number_that_json_can_write_stops_the_stream(
    embedded_store: HookedStore, field: str
) -> None:
    value = (
        '{"type": "prediction", "prediction_id": "p", "experiment": "fast", "variant": "a",'
        f' "predicted": true, {field}}}'
    )
    topic = Topic.of([(BASE, value.encode())])
    report = await pipeline(embedded_store).process(topic.batch(0, 1))
    assert sum(report.tallies.values()) == 1
