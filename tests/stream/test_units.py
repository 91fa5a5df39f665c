"""Units, repeated failures and money are counted as exactly as everything else, whatever happens."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.events import BASE, EARLY_FOR, FAST, SLOW, Generator, Records, cuts, logs, sizes_of
from support.failing import HookedStore, KillAt, KilledError
from support.feed import (
    OUTCOMES,
    PREDICTIONS,
    TOPIC,
    Found,
    Topic,
    assert_any_crash_changes_nothing,
    assert_equal,
    consume,
    finish,
    found,
    pipeline,
    plain,
    split,
)
from support.truth import Event, Extras, Truth, truth_of

from metrics.duration import Duration
from metrics.experiment import MINUTE, Experiment, Money
from metrics.layout import Keys, Kind, PaneName
from metrics.ledger import Ledger
from metrics.reader import Reader
from metrics.units import COLUMNS
from stream.maturity import Harvest, harvest
from stream.pipeline import ShardPipeline
from stream.queues import Heads, Queue
from stream.resp import Command
from stream.store import Store


FAR = 4_000_000
MOST = 20
"""Units that a sample holds in these tests."""

SHOP = replace(
    FAST,
    randomised_by="unit",
    money=Money(cap=8),
    labels=replace(FAST.labels, landmarks=(Duration(5_000), Duration(30_000))),
)
SAMPLED = replace(SLOW, randomised_by="unit", unit_share=0.6)
PRICED = replace(FAST, name="priced", money=Money(cap=0.004))
PLAIN = replace(FAST, name="plain")
MARKED = replace(FAST, name="marked", labels=replace(FAST.labels, landmarks=(Duration(20_000),)))
EXPERIMENTS = (SHOP, SAMPLED, PRICED, PLAIN, MARKED)


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.census.MAX_UNITS", MOST)


def dressed(records: Records, seed: int, *, units: int = 20) -> Records:
    """The same records with units, costs and values; now and then one lacks what others have.

    Requests fail in storms. A prediction that comes again may come with another unit.
    """
    rnd, made = random.Random(seed), Records()
    for arrival, event in records:
        if not isinstance(event, dict):
            made.append((arrival, event))
        elif event.get("type") == "prediction":
            made.append((arrival, event | _extras(rnd, event, units)))
        else:
            value = rnd.choice((None, 0, 3.21, -1.5, 7.99, 40, 1e300, -1e300))
            made.append((arrival, event | ({} if value is None else {"value": value})))
    return made


def _extras(rnd: random.Random, event: Event, units: int) -> Event:
    number, extras = rnd.randrange(units), Event()
    if rnd.random() < 0.9:
        extras["unit_id"] = rnd.choice((f"unit-{number}", f"unit-{number}", f"einheit-{number}-é"))
    elif rnd.random() < 0.5:
        extras["unit_id"] = rnd.choice(("", None))
    if event.get("experiment") == FAST.name:
        extras["experiment"] = rnd.choice((SHOP, SHOP, SHOP, PRICED, PLAIN, MARKED)).name
        if event.get("variant") in FAST.variants and rnd.random() < 0.6:
            extras["variant"] = "ab"[number % 2]
    if rnd.random() < 0.6:
        extras["cost"] = rnd.choice((0, 0.01, 2.5, -1, 1e12))
    if event.get("error") is None and rnd.random() < 0.15:
        extras |= {"error": True, "unit_id": rnd.choice(("broken", "stuck"))}
    return extras


def extras_of(ledger: Ledger) -> Extras:
    """A ledger as the truth tells it."""
    buckets = {
        (bucket, name): int(ledger.buckets[bucket, at])
        for at, name in enumerate(COLUMNS)
        for bucket in ledger.buckets[:, at].nonzero()[0].tolist()
    }
    by_unit = ledger.failing, ledger.units, ledger.crossed, ledger.unitless
    return Extras(*by_unit, ledger.money, ledger.money_squared, ledger.capped, buckets)


def assert_extras(state: Found, truth: Truth) -> None:
    """The store holds exactly what the truth says, beside what all experiments have."""
    kept = {
        (kind.value, *where): extras_of(ledger)
        for kind in Kind
        for where, ledger in state.of(kind).items()
        if kind is not Kind.LANDMARK
    }
    empty = Extras()
    assert {name: extras for name, extras in kept.items() if extras != empty} == {
        name: extras for name, extras in truth.extras.items() if name in kept and extras != empty
    }


def assert_landmarks(state: Found, truth: Truth) -> None:
    """The cohorts at each landmark are exactly those of the truth."""
    assert {
        (name.experiment, name.variant, name.start, name.landmark): (
            plain(ledger),
            extras_of(ledger),
        )
        for name, ledger in state.ledgers.items()
        if name.kind is Kind.LANDMARK
    } == dict(truth.landmarks)


def truth(records: Records, watermark: int | None = BASE + FAR) -> Truth:
    return truth_of(records, EXPERIMENTS, early_for=EARLY_FOR, watermark=watermark, most_units=MOST)


def assert_true(state: Found, records: Records, watermark: int | None = BASE + FAR) -> None:
    expected = truth(records, watermark)
    assert_equal(state, expected)
    assert_extras(state, expected)
    assert_landmarks(state, expected)


def worker_of(store: Store, *, topics: tuple[str, ...] = (TOPIC,)) -> ShardPipeline:
    return pipeline(store, EXPERIMENTS, topics=topics)


def last_arrival(records: Records) -> int:
    return max((arrival for arrival, _ in records), default=BASE)


async def counted(records: Records, sizes: Iterator[int]) -> Found:
    store = Store.embedded()
    try:
        worker, topic = worker_of(store), Topic.of(records)
        await consume(worker, topic, sizes)
        await finish(worker, topic, complete_to=BASE + FAR)
        return await found(store)
    finally:
        await store.close()


# --- the truth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_units_failures_and_money_of_a_likely_stream_equal_the_reference_model(
    store: HookedStore, seed: int
) -> None:
    records = dressed(Generator(seed).records(350), seed)
    topic, worker = Topic.of(records, holes=seed), worker_of(store)
    await consume(worker, topic, sizes_of(seed, 90))
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    assert_true(state, records)
    shop = [ledger for (name, *_), ledger in state.of(Kind.TOTAL).items() if name == SHOP.name]
    assert sum(ledger.units for ledger in shop) == MOST
    assert 3 < sum(ledger.crossed for ledger in shop) <= MOST
    assert sum(ledger.failing for ledger in shop) < 0.9 * sum(ledger.errors for ledger in shop)
    assert sum(ledger.unitless for ledger in shop) > 1
    mature = [ledger for (name, *_), ledger in state.of(Kind.MATURE).items() if name == SHOP.name]
    assert 0 < sum(ledger.capped for ledger in mature) < sum(each.predictions for each in mature)
    assert any(ledger.money < 0 for ledger in mature)


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10_000))
async def test_units_failures_and_money_of_any_stream_equal_the_reference_model(
    data: st.DataObject, seed: int
) -> None:
    records = dressed(data.draw(logs()), seed, units=4)
    assert_true(await counted(records, cycle(data.draw(cuts(len(records))) or [1])), records)


@settings(max_examples=30)
@given(data=st.data(), seed=st.integers(0, 10_000))
async def test_batch_cuts_change_nothing_that_is_stored(data: st.DataObject, seed: int) -> None:
    records = dressed(data.draw(logs()), seed, units=4)
    one_by_one = await counted(records, repeat(1))
    at_once = await counted(records, repeat(len(records) or 1))
    assert one_by_one.counted == at_once.counted


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_that_is_sent_twice_counts_as_one_that_is_sent_once(
    store: HookedStore, seed: int
) -> None:
    once = dressed(Generator(seed, reuse=False).records(120), seed)
    again = [(arrival + 1, event) for arrival, event in dressed(once, seed + 1)]
    records = sorted([*once, *again], key=lambda record: record[0])
    worker, topic = worker_of(store), Topic.of(records)
    await consume(worker, topic, sizes_of(seed, 40))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_true(await found(store), records)
    arrived = {
        name: extras for name, extras in truth(once).extras.items() if name[0] in ("total", "fine")
    }
    assert {name: truth(records).extras[name] for name in arrived} == arrived


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_two_topics_in_any_order_count_what_one_merged_topic_would(
    store: HookedStore, seed: int
) -> None:
    rnd, records = random.Random(seed), dressed(Generator(seed, reuse=False).records(200), seed)
    topics = split(records, holes=seed)
    worker, at = worker_of(store, topics=(PREDICTIONS, OUTCOMES)), {t.name: 0 for t in topics}
    while any(at[topic.name] < topic.end for topic in topics):
        topic = rnd.choice([topic for topic in topics if at[topic.name] < topic.end])
        batch = topic.batch(at[topic.name], rnd.choice((1, 3, 30, 300)))
        assert (await worker.process(batch)).rewind is None
        at[topic.name] = batch.next_position
    await finish(worker, *topics, complete_to=BASE + FAR)
    assert_true(await found(store), records)


@pytest.mark.parametrize("seed", range(3))
async def test_outcomes_that_come_before_or_after_their_prediction_give_the_same_money(
    seed: int,
) -> None:
    rnd, events = random.Random(seed), Records([(BASE + FAR, _sign_of_life())])
    for number in range(80):
        at, name = BASE + EARLY_FOR + 500 * number, f"p{number}"
        told: Event = {"type": "outcome", "prediction_id": name, "actual": True, "time": at}
        made: Event = {"type": "prediction", "prediction_id": name, "experiment": SHOP.name}
        made |= {
            "variant": "a",
            "predicted": True,
            "time": at,
            "cost": 0.5,
            "unit_id": f"u{at % 9}",
        }
        told["value"] = rnd.choice((0, 1.23, -4.5, 99))
        events += [(at, made), (at + rnd.randint(1, EARLY_FOR), told)]
    early = [(2 * BASE + 200_000 - at, event) for at, event in events[1:]] + events[:1]
    earned = []
    for log in (events, early):
        state = await counted(sorted(log, key=_at), repeat(7))
        ledgers = state.of(Kind.MATURE).values()
        earned.append([sum(x.money for x in ledgers), sum(x.money_squared for x in ledgers)])
    assert earned[0] == earned[1]
    assert earned[0][0] != 0


def _at(record: tuple[int, Event | bytes]) -> int:
    return record[0]


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_after_many_crashes_units_failures_and_money_are_counted_once(
    real_store: HookedStore, seed: int
) -> None:
    rnd, records = random.Random(seed), dressed(Generator(seed).records(350), seed)
    topic, worker, at, crashes = Topic.of(records, holes=seed), worker_of(real_store), 0, 0
    while at < topic.end:
        if crashes < 25 and rnd.random() < 0.6:
            where = rnd.choice(("before", "after", "tears"))
            setattr(real_store, where, where == "tears" or KillAt(rnd.randint(0, 5)))
        batch = topic.batch(at, rnd.randint(1, 40))
        try:
            await worker.process(batch)
            at = batch.next_position
        except KilledError:
            real_store.calm()
            crashes += 1
            worker = worker_of(real_store)
            stored = (await worker.stored()).get(TOPIC)
            at = max(0, (stored.offset if stored else 0) - rnd.choice((0, 25)))
        real_store.calm()
    await finish(worker, topic, complete_to=BASE + FAR)
    assert crashes > 10
    assert_true(await found(real_store), records)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_exchange_changes_nothing(when: str) -> None:
    records = dressed(Generator(11).records(40), 11)
    expected = (await counted(records, sizes_of(0, 40))).counted
    await assert_any_crash_changes_nothing(records, expected, worker_of, when, BASE + FAR)


async def test_a_flushed_store_is_rebuilt_with_its_units(store: HookedStore) -> None:
    records = dressed(Generator(5).records(150), 5)
    topic, worker = Topic.of(records), worker_of(store)
    await consume(worker, topic, sizes_of(5, 40))
    await store.client.flushdb()
    await consume(worker, topic, sizes_of(6, 60))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_true(await found(store), records)


# --- what is stored -------------------------------------------------------------------------------


def storm(number: int, at: int, unit: str | None = "u", variant: str = "a") -> tuple[int, Event]:
    """A failed request."""
    event = {"type": "prediction", "prediction_id": f"p{number}", "experiment": SHOP.name}
    return BASE + at, event | {"variant": variant, "error": True, "unit_id": unit}


@pytest.mark.parametrize(
    ("requests", "failing"),
    [
        ([(0, "u", "a"), (1, "u", "a"), (30_000, "u", "a")], 1),
        ([(0, "u", "a"), (59_999, "u", "a")], 1),
        ([(59_999, "u", "a"), (60_000, "u", "a")], 2),
        ([(0, "u", "a"), (0, "v", "a")], 2),
        ([(0, "u", "a"), (0, "u", "b"), (1, "u", "a"), (2, "u", "b")], 2),
        ([(0, None, "a"), (0, None, "a"), (0, "", "a")], 3),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
async def test_failures_of_a_unit_in_a_variant_count_once_a_minute(
    store: HookedStore, requests: list[tuple[int, str | None, str]], failing: int, size: int
) -> None:
    records: Records = [storm(n, *request) for n, request in enumerate(requests)]
    await consume(worker_of(store), Topic.of(records), repeat(size))
    ledgers = (await found(store)).of(Kind.TOTAL).values()
    assert sum(ledger.errors for ledger in ledgers) == len(requests)
    assert sum(ledger.failing for ledger in ledgers) == failing


async def test_units_that_failed_are_forgotten_by_the_watermark(store: HookedStore) -> None:
    keys, topic = Keys(store.deployment, 0), Topic.of([storm(n, 10_000 * n) for n in range(60)])
    await consume(worker_of(store), topic, repeat(7))
    state = await found(store)
    last = topic.arrivals[-1] // MINUTE
    assert state.meta.failing == [last]
    names = [key async for key in store.client.scan_iter(match=keys.key("failing:*"))]
    assert names == [keys.failing(last).encode()]
    await finish(worker_of(store), topic, complete_to=BASE + FAR)
    assert not [key async for key in store.client.scan_iter(match=keys.key("failing:*"))]


async def test_what_was_kept_of_failures_goes_when_nothing_is_by_unit_any_more(
    store: HookedStore,
) -> None:
    topic = Topic.of([storm(0, 0)])
    await consume(worker_of(store), topic, repeat(1))
    await finish(pipeline(store, [PLAIN]), topic, complete_to=BASE + FAR)
    keys = Keys(store.deployment, 0)
    assert not [key async for key in store.client.scan_iter(match=keys.key("failing:*"))]


async def test_a_full_sample_admits_nobody_and_still_sees_who_crosses(store: HookedStore) -> None:
    def seen(number: int, unit: int, variant: str) -> tuple[int, Event]:
        at, event = storm(number, number, f"u{unit}", variant)
        return at, event | {"error": False, "predicted": True}

    records: Records = [seen(n, n, "a") for n in range(MOST + 5)]
    records += [seen(100 + n, n, "b") for n in range(MOST + 5)]
    records += [seen(200 + n, n, "a") for n in range(MOST + 5)]
    await consume(worker_of(store), Topic.of(records), repeat(9))
    state = await found(store)
    ledgers = {variant: ledger for (_, variant, _), ledger in state.of(Kind.TOTAL).items()}
    assert (ledgers["a"].units, ledgers["b"].units) == (MOST, 0)
    assert (ledgers["a"].crossed, ledgers["b"].crossed) == (0, MOST)
    assert await store.client.hlen(Keys(store.deployment, 0).units(SHOP.name)) == MOST


async def test_plain_experiments_send_no_more_commands_and_bytes_than_without_units(
    store: HookedStore,
) -> None:
    seen: list[tuple[str, ...]] = []

    async def note(commands: Sequence[Command]) -> None:
        seen.append(tuple(str(command[0]) for command in commands))

    records = Generator(3).records(60)
    topic, worker = Topic.of(records), pipeline(store, (FAST, SLOW))
    store.before = note
    await worker.process(topic.batch(0, 60))
    pending = (await found(store)).pending.values()
    await consume(worker, topic, sizes_of(1, 40))
    await finish(worker, topic, complete_to=BASE + FAR)
    store.calm()
    assert not {"SMISMEMBER", "SADD", "HLEN"} & {name for names in seen for name in names}
    assert {len(row) for row in pending} == {28}


def plainer(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The same experiments without units, money and landmarks."""
    return [
        replace(e, randomised_by="request", money=None, labels=replace(e.labels, landmarks=()))
        for e in experiments
    ]


async def test_an_experiment_that_gets_money_and_units_keeps_what_is_stored_already(
    store: HookedStore,
) -> None:
    """Rows that wait are of both lengths then, in one batch of final labels."""
    records = dressed(Generator(7, reuse=False).records(200), 7)
    topic, half = Topic.of(records), len(records) // 2
    before = plainer(EXPERIMENTS)
    await pipeline(store, before).process(topic.batch(0, half))
    for_later = {len(row) for row in (await found(store)).pending.values()}
    worker = worker_of(store)
    await worker.process(topic.batch(topic.offsets[half], 20))
    assert for_later == {28}
    assert {len(row) for row in (await found(store)).pending.values()} == {28, 41}
    await consume(worker, topic, sizes_of(7, 500))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_equal(await found(store), truth(records))
    state = await found(store)
    for (name, _, _), ledger in state.of(Kind.MATURE).items():
        if name in (SHOP.name, SAMPLED.name):
            assert ledger.buckets[:, COLUMNS.index("n")].sum() == ledger.predictions


async def test_an_experiment_that_loses_units_and_money_keeps_what_is_stored_already(
    store: HookedStore,
) -> None:
    records = dressed(Generator(8, reuse=False).records(200), 8)
    topic, half = Topic.of(records), len(records) // 2
    await worker_of(store).process(topic.batch(0, half))
    worker = pipeline(store, plainer(EXPERIMENTS))
    await consume(worker, topic, sizes_of(7, 500))
    await finish(worker, topic, complete_to=BASE + FAR)
    state = await found(store)
    assert_equal(state, truth(records))
    assert not any(each.money or each.buckets.size for each in state.of(Kind.MATURE).values())


async def test_a_log_that_ended_counts_units_and_money_of_all_that_is_left(
    store: HookedStore,
) -> None:
    records = dressed(Generator(9, reuse=False).records(100), 9)
    topic, worker = Topic.of(records), worker_of(store)
    await consume(worker, topic, sizes_of(9, 50))
    for _ in range(2):
        await worker.finish(topic.arrivals[-1])
    await worker.finish(topic.arrivals[-1], complete=True)
    ended = await found(store)
    through = await counted([*records, (BASE + FAR // 2, _sign_of_life())], sizes_of(9, 50))
    final: list[dict[str, bytes]] = [
        {
            str(name): ledger.pack()
            for name, ledger in state.ledgers.items()
            if name.kind in (Kind.MATURE, Kind.LANDMARK)
        }
        for state in (ended, through)
    ]
    assert final[0] == final[1]


def _sign_of_life() -> Event:
    """An outcome of nothing that is known: it tells that outcomes still come."""
    return {"type": "outcome", "prediction_id": "somebody else's", "actual": True}


# --- landmarks ------------------------------------------------------------------------------------


async def test_a_landmark_is_judged_before_the_label_is_final_and_never_again(
    store: HookedStore,
) -> None:
    early, late = 4_000, 20_000
    records: Records = []
    for number, took in enumerate((early, late, 5_000, 5_001, None)):
        made: Event = {"type": "prediction", "prediction_id": f"p{number}", "predicted": True}
        records.append((BASE, made | {"experiment": SHOP.name, "variant": "a", "time": BASE}))
        told = {"type": "outcome", "prediction_id": f"p{number}", "actual": True}
        if took is not None:
            records.append((BASE + took, told | {"time": BASE + took, "value": 2}))
    records.append((BASE + 5_002, _sign_of_life()))
    records.sort(key=_at)
    topic, worker = Topic.of(records), worker_of(store)
    await consume(worker, topic, repeat(3))
    wait = 5_000 + int(SHOP.labels.grace)
    (ledger,) = (await found(store)).of(Kind.LANDMARK).values()
    assert (ledger.predictions, ledger.cells.tp.n, ledger.money) == (5, 2, 400)
    assert topic.arrivals[-1] < BASE + int(SHOP.labels.horizon)
    assert topic.arrivals[-1] > BASE + wait
    assert not (await found(store)).of(Kind.MATURE)
    await consume(worker, Topic.of([*records, (BASE + FAR, _sign_of_life())]), repeat(1))
    ledgers = {name.landmark: v for name, v in (await found(store)).ledgers.items() if name.start}
    assert ledgers[5_000] == ledger
    assert (ledgers[30_000].cells.tp.n, ledgers[30_000].money) == (4, 800)


async def test_how_far_landmarks_are_final_is_told_beside_how_far_labels_are(
    store: HookedStore,
) -> None:
    records: Records = [storm(n, 1_000 * n) for n in range(60)]
    records.append((BASE + 60_000, _sign_of_life()))
    await consume(worker_of(store), Topic.of(records), repeat(10))
    fleet = await Reader(store.client, store.deployment).read(EXPERIMENTS)
    grace = int(SHOP.labels.grace)
    assert fleet.snapshots[SHOP.name].landmarks_matured == {
        landmark: BASE + 60_000 - landmark - grace for landmark in (5_000, 30_000)
    }
    facts = fleet.snapshots[SHOP.name].variants["a"]
    assert {
        at: sum(p.predictions for p in panes.values()) for at, panes in facts.landmarks.items()
    } == {landmark: (60_000 - landmark - grace) // 1_000 for landmark in (5_000, 30_000)}
    assert fleet.snapshots[PLAIN.name].landmarks_matured == {}


async def test_when_outcomes_fall_silent_no_landmark_is_judged(store: HookedStore) -> None:
    topic, worker = Topic.of([storm(0, 0)]), worker_of(store)
    await consume(worker, topic, repeat(1))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert not (await found(store)).of(Kind.LANDMARK)


@pytest.mark.parametrize("seed", range(4))
async def test_limits_that_are_always_reached_change_nothing(
    embedded_store: HookedStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """No prediction is forgotten before its landmarks are judged, however far behind sweeps are."""

    def slow_at_landmarks(self: Heads, queue: Queue, *args: object) -> Harvest | None:
        budget = 1 if queue.landmark else 4
        monkeypatch.setattr("stream.queues.harvest", partial(harvest, budget=budget))
        return kept(self, queue, *args)  # type: ignore[arg-type]  # handed on as they are

    kept = Heads.harvest
    monkeypatch.setattr(Heads, "harvest", slow_at_landmarks)
    monkeypatch.setattr("stream.maturity.MAX_SWEEP", 3)
    monkeypatch.setattr("stream.queues.HEAD_CHUNKS", 2)
    records = dressed(Generator(seed, gap=50).records(200), seed)
    records = [record for record in records if record[0] < BASE + 15_000]
    records.append((BASE + FAR, _sign_of_life()))  # all at once is due, in all queues
    topic, worker = Topic.of(records, holes=seed), worker_of(embedded_store)
    await consume(worker, topic, sizes_of(seed, 80))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_true(await found(embedded_store), records)


async def test_an_experiment_whose_landmarks_change_keeps_its_final_labels(
    store: HookedStore,
) -> None:
    records = dressed(Generator(12, reuse=False).records(200), 12)
    topic, third = Topic.of(records), len(records) // 3
    other = replace(SHOP, labels=replace(SHOP.labels, landmarks=(Duration(9_000),)))
    for experiments in (EXPERIMENTS, (other, *EXPERIMENTS[1:])):
        worker = pipeline(store, experiments)
        at = (await worker.stored()).get(TOPIC)
        await worker.process(topic.batch(at.offset if at else 0, third))
    worker = worker_of(store)
    await consume(worker, topic, sizes_of(1, 50))
    await finish(worker, topic, complete_to=BASE + FAR)
    assert_equal(await found(store), truth(records))
    assert_extras(await found(store), truth(records))


@pytest.mark.parametrize(
    "name", [PaneName(Kind.MATURE, "e", "v", 7), PaneName(Kind.LANDMARK, "e", "v", 7, 60_000)]
)
def test_names_of_panes_are_read_back(name: PaneName) -> None:
    assert PaneName.parse(str(name)) == name
