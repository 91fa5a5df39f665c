import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from support.feed import Letters, pipeline
from support.topics import Topics

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels
from stream.batch import Batch
from stream.brokers import Brokers
from stream.events import Outcome, Prediction
from stream.producer import MissingTopicError, Producer, Record
from stream.rekey import MAX_SKEW, Copied, Rekey, partition_of, plain
from stream.sources import Decoder, FieldOptions, SourceOptions
from stream.store import Store


OFFERS = Experiment(
    name="offers",
    control="old",
    variants={"old": 1.0, "new": 1.0},
    labels=Labels(horizon=Duration.parse("1h")),
)


def sources(scoring: str, orders: str) -> dict[str, SourceOptions]:
    """A topic of predictions keyed by customer, and one of outcomes without a key."""
    return {
        scoring: SourceOptions(
            type="prediction",
            fields={
                "prediction_id": "request.id",
                "experiment": FieldOptions(constant="offers"),
                "variant": FieldOptions(header="x-model"),
                "predicted": FieldOptions(path="result", true_when=("send",)),
                "time": FieldOptions(path="at", unit="s"),
            },
        ),
        orders: SourceOptions(
            type="outcome",
            fields={
                "prediction_id": "rid",
                "actual": FieldOptions(path="status", true_when=("accepted",)),
            },
        ),
    }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Prediction("1", "offers", "old", predicted=False),
            {
                "type": "prediction",
                "prediction_id": "1",
                "experiment": "offers",
                "variant": "old",
                "predicted": False,
                "time": 77,
            },
        ),
        (
            Outcome("1", actual=True, time=5.5),
            {"type": "outcome", "prediction_id": "1", "actual": True, "time": 5.5},
        ),
    ],
)
def test_a_plain_event_says_what_is_known_and_when_it_was(event: Any, expected: Any) -> None:
    assert json.loads(plain(event, 77)) == expected


def test_equal_keys_go_where_other_clients_put_them() -> None:
    assert {partition_of(b"%d" % n, 5) for n in range(100)} == set(range(5))
    assert partition_of(b"some-key", 7) == (murmur2(b"some-key") & 0x7FFFFFFF) % 7


class Deployment:
    """Two topics with different numbers of partitions, and one to copy them into."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.scoring = topics.create("scoring", 3)
        self.orders = topics.create("orders", 2, log_append_time=False)
        self.into = topics.create("into", 4)
        self.brokers = Brokers((topics.servers,))
        self.sources = sources(self.scoring, self.orders)
        self.letters = Letters()

    async def write(self, topic: str, records: Sequence[Record]) -> None:
        producer = Producer(self.brokers)
        assert await producer.send(topic, records) == []
        await producer.stop()

    async def fill(self, start: int, stop: int) -> None:
        """Predictions and their outcomes; the outcomes say nothing of their time."""
        await self.write(
            self.scoring,
            [
                Record(
                    n % 3,
                    b"customer",
                    json.dumps({"request": {"id": n}, "result": "send", "at": n}).encode(),
                    [("x-model", b"old" if n % 2 else b"new")],
                )
                for n in range(start, stop)
            ],
        )
        outcomes = [
            json.dumps({"rid": n, "status": "accepted"}).encode() for n in range(start, stop)
        ]
        await self.write(
            self.orders,
            [Record(n % 2, None, value, timestamp=9_000 + n) for n, value in enumerate(outcomes)],
        )

    def rekey(self, **changed: Any) -> tuple[Rekey, Producer]:
        producer = Producer(self.brokers)
        given = {
            "group": self.topics.name("group"),
            "decoder": Decoder(self.sources),
            "dead_letters": self.letters,
            "producer": producer,
        }
        topics = (self.scoring, self.orders)
        return Rekey(self.brokers, topics, self.into, **{**given, **changed}), producer

    async def copy(self, **options: Any) -> Copied:
        rekey, producer = self.rekey()
        try:
            await rekey.run(until_end=True, **options)
        finally:
            await producer.stop()
        return rekey.copied

    def copied(self) -> list[Any]:
        return read(self.topics.servers, self.into)


def read(servers: str, topic: str) -> list[Any]:
    """All records of a topic."""
    from kafka import KafkaConsumer, TopicPartition

    with KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        parts = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        found: list[Any] = []
        while any(consumer.position(part) < end for part, end in ends.items()):
            found += [r for part in consumer.poll(timeout_ms=500).values() for r in part]
    return found


@pytest.fixture
def deployment(kafka_topics: Topics) -> Deployment:
    return Deployment(kafka_topics)


def by_id(records: Sequence[Any]) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for record in records:
        found.setdefault(json.loads(record.value)["prediction_id"], []).append(record)
    return found


async def test_a_prediction_and_its_outcome_meet_in_one_partition(deployment: Deployment) -> None:
    await deployment.fill(0, 500)
    copied = await deployment.copy()
    assert (copied.events, copied.letters) == (1000, 0)
    found = by_id(deployment.copied())
    assert set(found) == {str(n) for n in range(500)}
    for name, records in found.items():
        assert {record.key for record in records} == {name.encode()}
        assert {record.partition for record in records} == {partition_of(name.encode(), 4)}
        kinds = {json.loads(record.value)["type"]: json.loads(record.value) for record in records}
        assert kinds["prediction"] == {
            "type": "prediction",
            "prediction_id": name,
            "experiment": "offers",
            "variant": "old" if int(name) % 2 else "new",
            "predicted": True,
            "time": int(name) * 1000.0,
        }
        expected = {"type": "outcome", "prediction_id": name, "actual": True}
        assert kinds["outcome"] == {**expected, "time": 9_000 + int(name)}


async def test_what_a_producer_took_back_is_not_copied(deployment: Deployment) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=deployment.topics.servers, transactional_id=deployment.topics.name("tx")
    )
    await producer.start()
    for number, kept in enumerate((True, False)):
        await producer.begin_transaction()
        event = json.dumps({"rid": number, "status": "accepted"}).encode()
        await producer.send_and_wait(deployment.orders, event, partition=0)
        await (producer.commit_transaction() if kept else producer.abort_transaction())
    await producer.stop()
    assert (await deployment.copy()).events == 1
    assert set(by_id(deployment.copied())) == {"0"}


async def test_a_second_run_goes_on_where_the_first_ended(deployment: Deployment) -> None:
    await deployment.fill(0, 100)
    assert (await deployment.copy()).events == 200
    assert (await deployment.copy()).events == 0
    await deployment.fill(100, 150)
    assert (await deployment.copy()).events == 100
    assert (await deployment.copy(from_beginning=True)).events == 300


async def test_what_cannot_be_decoded_goes_to_the_dead_letters(deployment: Deployment) -> None:
    junk = [b"\xff\x00", b"", None, b'{"rid": 1}', b"{" * 200_000]
    await deployment.write(deployment.orders, [Record(1, b"k", v, [("h", b"1")]) for v in junk])
    await deployment.write(deployment.orders, [Record(1, b"k", None)])
    copied = await deployment.copy()
    assert (copied.events, copied.letters) == (0, len(junk) + 1)
    assert [letter.offset for letter in deployment.letters] == list(range(len(junk) + 1))
    assert deployment.letters[0][2:] == (deployment.orders, 1, 0, junk[0], b"k", {"h": b"1"})
    reasons = [letter.reason for letter in deployment.letters]
    assert reasons[3] == "missing_field"
    assert reasons[2] == reasons[5] == "empty"


async def test_an_event_that_the_target_does_not_take_is_a_dead_letter(
    kafka_topics: Topics,
) -> None:
    deployment = Deployment(kafka_topics)
    deployment.into = kafka_topics.create("small", configs={"max.message.bytes": "1000"})
    await deployment.fill(0, 10)
    long = {"request": {"id": 77}, "unit_id": "ü" * 128, "segment": "ö" * 128, "version": "ä" * 128}
    value = json.dumps(long | {"result": "send", "at": 1}).encode()
    await deployment.write(deployment.scoring, [Record(0, None, value, [("x-model", b"x" * 300)])])
    copied = await deployment.copy()
    assert (copied.events, copied.letters) == (20, 1)
    assert [letter.reason for letter in deployment.letters] == ["too_long"]
    assert deployment.letters[0].value == value


class Crash(Exception):  # noqa: N818  # nobody made a mistake
    """The process died."""


async def test_after_a_crash_everything_is_there_at_least_once_and_counts_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.rekey.POLL_RECORDS", 70)
    monkeypatch.setattr("stream.rekey._commit", dying_at_every(2))
    await deployment.fill(0, 200)
    for _ in range(3):  # dies when records are written and the offsets are not committed
        with pytest.raises(Crash):
            await deployment.copy()
    monkeypatch.undo()
    await deployment.copy()
    records = deployment.copied()
    assert len(records) > 400
    assert all(len(both) >= 2 for both in by_id(records).values())
    assert len(by_id(records)) == 200
    tallies = await counted(records)
    assert (tallies["predictions"], tallies["outcomes"]) == (200, 200)
    assert tallies["duplicate"] == len(records) - 400


def dying_at_every(nth: int) -> Any:
    """A commit that works, but that the process dies before every nth of them."""
    from stream import rekey

    commit, calls = rekey._commit, 0

    async def crashing(consumer: Any, offsets: Any) -> bool:
        nonlocal calls
        calls += bool(offsets)
        if offsets and calls % nth == 0:
            raise Crash
        return await commit(consumer, offsets)

    return crashing


async def counted(records: Sequence[Any]) -> Mapping[str, int]:
    """What the pipeline makes of the records of all partitions."""
    tallies: dict[str, int] = {}
    for shard in range(4):
        mine = [record for record in records if record.partition == shard]
        batch = Batch(
            "events",
            shard,
            0,
            mine[-1].offset + 1,
            [record.offset for record in mine],
            [record.timestamp for record in mine],
            [record.value for record in mine],
        )
        store = Store.embedded("default")
        report = await pipeline(store, [OFFERS], shard=shard).process(batch)
        await store.close()
        for result, count in report.tallies.items():
            tallies[result] = tallies.get(result, 0) + count
    return tallies


async def test_it_follows_until_it_is_told_to_stop(deployment: Deployment) -> None:
    rekey, producer = deployment.rekey()
    task = asyncio.create_task(rekey.run())
    for start in (0, 50):
        await deployment.fill(start, start + 50)
        async with asyncio.timeout(30):
            while rekey.copied.events < 2 * (start + 50):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
    rekey.stop()
    await task
    await producer.stop()
    assert (await deployment.copy()).events == 0


class Recording(Producer):
    """Remembers what it was told to write."""

    polls: list[list[Any]]

    async def send(self, topic: str, records: Sequence[Record]) -> list[int]:
        self.polls.append([json.loads(record.value or b"") for record in records])
        return await super().send(topic, records)


async def test_topics_keep_in_step_however_unlike_they_are(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.rekey.POLL_RECORDS", 50)
    monkeypatch.setattr("stream.rekey.FETCH_BYTES", 4_000)
    deployment.scoring = deployment.topics.create("slow", 1, log_append_time=False)
    deployment.sources = sources(deployment.scoring, deployment.orders)
    ids, padding = range(1, 1_000), "x" * 700
    at = {n: n * MAX_SKEW // 4 for n in ids}
    values = {
        n: json.dumps({"request": {"id": n}, "result": "x", "at": n, "more": padding}).encode()
        for n in ids
    }
    old = [("x-model", b"old")]
    await deployment.write(
        deployment.scoring, [Record(0, None, values[n], old, at[n]) for n in ids]
    )
    short = {n: b'{"rid": %d, "status": "x"}' % n for n in ids}
    await deployment.write(
        deployment.orders, [Record(0, None, short[n], timestamp=at[n]) for n in ids]
    )
    producer = Recording(deployment.brokers)
    producer.polls = []
    rekey, _ = deployment.rekey(producer=producer)
    await rekey.run(until_end=True)
    await producer.stop()
    last, ahead = {"prediction": 0, "outcome": 0}, 0
    for events in producer.polls:
        for event in events:
            last[event["type"]] = int(event["prediction_id"])
        ahead = max(ahead, last["outcome"] - last["prediction"])
    assert last == {"prediction": 999, "outcome": 999}
    assert ahead <= 4 + 2 * 50


async def test_a_target_that_does_not_exist_is_told(deployment: Deployment) -> None:
    deployment.into = deployment.topics.name("nowhere")
    with pytest.raises(MissingTopicError, match="nowhere"):
        await deployment.copy()
