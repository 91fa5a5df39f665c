"""The transport on a real Kafka, and what it relies on in faust and aiokafka."""

import asyncio
import inspect
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from support.servers import KafkaServer
from support.topics import Topics

from metrics.experiment import HOUR
from stream.brokers import Brokers
from stream.faust_thread import REPORT_S, FetchThread, Reading
from stream.faust_worker import FaustLog, Member
from stream.fetch import Fetch, LogUnavailableError, arrivals


WAIT_S = 20.0


class Taker:
    """An intake that only takes note."""

    def __init__(
        self, shard: int, log: FaustLog, topics: tuple[str, ...], start: int | None
    ) -> None:
        self.shard, self.log, self.topics, self.start = shard, log, topics, start
        self.generations: dict[str, int] = {}
        self.fetches: list[tuple[str, Fetch]] = []
        self.positions: dict[str, int] = {}

    async def run(self) -> NoReturn:
        for topic in self.topics if self.start is not None else ():
            await self.seek(topic, self.start or 0)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def seek(self, topic: str, offset: int) -> None:
        self.generations[topic] = await self.log.seek(topic, self.shard, offset)

    def offer(self, topic: str, fetch: Fetch) -> None:
        self.fetches.append((topic, fetch))

    def values(self, topic: str) -> list[bytes | None]:
        return [
            value
            for name, fetch in self.fetches
            if name == topic and fetch.batch and fetch.generation == self.generations[topic]
            for value in fetch.batch.values
        ]


@asynccontextmanager
async def member(
    topics: Topics, names: tuple[str, ...], start: int | None = 0
) -> AsyncIterator[Member]:
    """A member of the test's consumer group, whose intakes begin at `start`, or not at all."""

    def taker(shard: int, log: FaustLog) -> Any:
        return Taker(shard, log, names, start)

    made = Member(
        Reading(Brokers((topics.servers,)), topics.name("group"), session_timeout_ms=6_000),
        names,
        taker,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for `condition`; fails after a while."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # what is waited for is another thread's
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited {WAIT_S} s for {what}")


async def taker_of(found: Member, shard: int = 0) -> Any:
    await until(lambda: shard in found.intakes, f"partition {shard}")
    return found.intakes[shard]


async def send(
    topics: Topics, name: str, values: list[bytes], partition: int = 0, **record: Any
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=topics.servers)
    await producer.start()
    try:
        for value in values:
            await producer.send(name, value, partition=partition, **record)
        await producer.flush()
    finally:
        await producer.stop()


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# --- what is handed over --------------------------------------------------------------------------


async def test_a_message_is_a_whole_fetch_and_fetches_follow_each_other(
    kafka_topics: Topics,
) -> None:
    name = kafka_topics.create("one", partitions=1)
    await send(kafka_topics, name, numbered(5_000), key=b"k", headers=[("h", b"1")])
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: len(taker.values(name)) == 5_000, "all records")
    assert taker.values(name) == numbered(5_000)
    batches = [fetch.batch for _, fetch in taker.fetches]
    assert len(batches) < 50
    at = 0
    for batch in batches:
        assert (batch.position, batch.topic, batch.shard) == (at, name, 0)
        assert list(batch.offsets) == list(range(at, batch.next_position))
        assert set(batch.keys) == {b"k"}
        assert list(batch.headers) == [{"h": b"1"}] * len(batch)
        assert sorted(batch.arrivals) == list(batch.arrivals)
        at = batch.next_position
    assert at == 5_000


async def test_records_without_headers_have_none(kafka_topics: Topics) -> None:
    name = kafka_topics.create("bare", partitions=1)
    await send(kafka_topics, name, numbered(3))
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: len(taker.values(name)) == 3, "all records")
    assert {fetch.batch.headers for _, fetch in taker.fetches} == {None}


async def test_going_back_gives_again_what_was_given(kafka_topics: Topics) -> None:
    name = kafka_topics.create("back", partitions=1)
    await send(kafka_topics, name, numbered(100))
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: len(taker.values(name)) == 100, "all records")
        for offset in (10, 0, 99):
            await taker.seek(name, offset)
            left = numbered(100)[offset:]
            await until(lambda left=left: taker.values(name) == left, "the rest again")  # type: ignore[misc]


async def test_nothing_is_handed_over_before_a_seek(kafka_topics: Topics) -> None:
    name = kafka_topics.create("quiet", partitions=1)
    await send(kafka_topics, name, numbered(10))
    async with member(kafka_topics, (name,), start=None) as found:
        taker = await taker_of(found)
        await asyncio.sleep(1)
        assert taker.fetches == []
        await taker.seek(name, 4)
        await until(lambda: len(taker.values(name)) == 6, "what follows the seek")


async def test_a_held_partition_waits_while_others_go_on(kafka_topics: Topics) -> None:
    name = kafka_topics.create("held", partitions=2)
    async with member(kafka_topics, (name,)) as found:
        held, free = await taker_of(found, 0), await taker_of(found, 1)
        await until(lambda: held.generations and free.generations, "seeks")
        found.log.hold(name, 0, held=True)
        await asyncio.sleep(0.5)  # the poll that is under way
        for partition in (0, 1):
            await send(kafka_topics, name, numbered(10), partition)
        await until(lambda: len(free.values(name)) == 10, "the free partition")
        await asyncio.sleep(0.5)
        assert held.values(name) == []
        found.log.hold(name, 0, held=False)
        await until(lambda: len(held.values(name)) == 10, "the partition that was held")


async def test_what_a_producer_took_back_is_not_handed_over_but_counts_as_read(
    kafka_topics: Topics,
) -> None:
    name = kafka_topics.create("tx", partitions=1)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_topics.servers, transactional_id=kafka_topics.name("tx-id")
    )
    await producer.start()
    for number, kept in enumerate((True, False, True, False)):
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"%d" % number, partition=0)
        await (producer.commit_transaction() if kept else producer.abort_transaction())
    await producer.stop()
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: len(taker.values(name)) == 2, "what was committed")
        assert taker.values(name) == [b"0", b"2"]
        await asyncio.sleep(1)
        (reach,) = (await found.log.reach((name,), 0)).values()
        assert reach.read_to == reach.end == 8  # four records, four markers
        assert reach.handed_to <= reach.end


async def test_a_transaction_that_has_not_ended_is_told(kafka_topics: Topics) -> None:
    name = kafka_topics.create("open", partitions=1)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_topics.servers, transactional_id=kafka_topics.name("open-id")
    )
    await producer.start()
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: taker.generations, "a seek")

        async def uncommitted() -> bool:
            (reach,) = (await found.log.reach((name,), 0)).values()
            return reach.uncommitted

        await asyncio.sleep(1)
        assert not await uncommitted()
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"0", partition=0)
        await asyncio.sleep(1)  # longer than a fetch that brings nothing
        assert await uncommitted()
        assert taker.values(name) == []
        await producer.commit_transaction()
        await until(lambda: taker.values(name), "what was committed")
        await asyncio.sleep(1)
        assert not await uncommitted()
    await producer.stop()


async def test_headers_without_a_value_are_none(kafka_topics: Topics) -> None:
    name = kafka_topics.create("null", partitions=1)
    await send(kafka_topics, name, [b"0"], headers=[("null", None), ("empty", b""), ("h", b"1")])
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: taker.values(name), "the record")
    ((_, fetch),) = taker.fetches
    assert list(fetch.batch.headers) == [{"empty": b"", "h": b"1"}]


async def test_a_position_that_the_log_has_not_any_more_is_told(kafka_topics: Topics) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    name = kafka_topics.create("cut", partitions=1)
    await send(kafka_topics, name, numbered(20))
    admin = KafkaAdminClient(bootstrap_servers=kafka_topics.servers)
    admin.delete_records({TopicPartition(name, 0): 15})
    admin.close()
    async with member(kafka_topics, (name,), start=3) as found:
        taker = await taker_of(found)
        await until(lambda: taker.fetches, "word that the position is gone")
        assert taker.fetches[0] == (name, Fetch(taker.generations[name], None))
        (bounds,) = (await found.log.bounds((name,), 0)).values()
        assert (bounds.start, bounds.end) == (15, 20)
        await taker.seek(name, 15)
        await until(lambda: taker.values(name), "the rest")
        assert taker.values(name) == numbered(20)[15:]


# --- the group ------------------------------------------------------------------------------------


async def test_partitions_of_one_number_are_with_one_member_whatever_their_topic(
    kafka_topics: Topics,
) -> None:
    names = (kafka_topics.create("p", partitions=5), kafka_topics.create("o", partitions=5))
    async with member(kafka_topics, names) as one, member(kafka_topics, names) as two:
        await until(lambda: len(one.intakes) + len(two.intakes) == 5 and two.intakes, "a rebalance")
        for found in (one, two):
            assigned = found.log._reader.assignment()
            assert assigned == {TP(name, shard) for name in names for shard in found.intakes}
        assert not one.intakes.keys() & two.intakes.keys()
        assert one.rebalances >= 2
    assert one.failed.done() is False


async def test_offsets_are_committed_only_when_they_are_reported(kafka_topics: Topics) -> None:
    from kafka import KafkaAdminClient

    name = kafka_topics.create("offsets", partitions=1)
    await send(kafka_topics, name, numbered(10))
    admin = KafkaAdminClient(bootstrap_servers=kafka_topics.servers)
    group = kafka_topics.name("group")
    async with member(kafka_topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: len(taker.values(name)) == 10, "all records")
        await asyncio.sleep(3.5)  # longer than faust's interval of commits
        assert not any(admin.list_group_offsets(group).values())
        taker.positions = {name: 7}
        await found.log.report([taker])
        (committed,) = admin.list_group_offsets(group)[group].values()
        assert committed.offset == 7
    admin.close()


async def test_a_kafka_that_is_away_is_told_and_reports_do_not_wait_for_it(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.faust_fetcher.ASK_S", 1.0)
    topics = Topics(own_kafka.servers)
    name = topics.create("away", partitions=1)
    async with member(topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: taker.generations, "a seek")
        taker.positions = {name: 0}
        await found.log.report([taker])
        own_kafka.kill()
        async with asyncio.timeout(4 * REPORT_S):  # otherwise it would take as long as the outage
            await found.log.report([taker])
            await found.log.report([taker])
            with pytest.raises(LogUnavailableError, match="does not tell its offsets"):
                await found.log.reach((name,), 0)
        await asyncio.to_thread(own_kafka.start)
        await send(topics, name, [b"0"])
        intakes: Any = found.intakes
        await until(lambda: 0 in intakes and intakes[0].values(name), "what came later")


async def test_a_member_can_stop_while_kafka_is_away(own_kafka: KafkaServer) -> None:
    topics = Topics(own_kafka.servers)
    name = topics.create("gone", partitions=1)
    async with member(topics, (name,)) as found:
        taker = await taker_of(found)
        await until(lambda: taker.generations, "a seek")
        own_kafka.kill()
        await asyncio.sleep(1)  # by now fetches fail, and are tried again
        async with asyncio.timeout(WAIT_S):
            await found.stop()


async def test_what_is_asked_does_not_wait_for_what_else_is_asked(kafka_topics: Topics) -> None:
    name = kafka_topics.create("asked", partitions=1)
    async with member(kafka_topics, (name,)) as found:
        await taker_of(found)
        reader = found.log._reader
        others = [asyncio.create_task(reader._at_once(asyncio.sleep(3_600))) for _ in range(20)]
        async with asyncio.timeout(WAIT_S):
            assert await found.log.bounds((name,), 0)
        others.pop().cancel()
    async with asyncio.timeout(WAIT_S):  # the thread has ended, and nobody waits for it
        ends = await asyncio.gather(*others, return_exceptions=True)
    assert {type(end) for end in ends} == {LogUnavailableError}
    with pytest.raises(LogUnavailableError, match="has ended"):
        await found.log.bounds((name,), 0)


async def test_the_number_of_partitions_is_known_and_zero_for_what_does_not_exist(
    kafka_topics: Topics,
) -> None:
    name = kafka_topics.create("three", partitions=3)
    async with member(kafka_topics, (name,)) as found:
        await taker_of(found)
        assert found.log.partitions((name, "no-such-topic")) == {name: 3, "no-such-topic": 0}


async def test_faust_makes_no_folder_and_no_topic(
    kafka_topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka import KafkaAdminClient

    monkeypatch.chdir(tmp_path)
    name = kafka_topics.create("tidy", partitions=1)
    async with member(kafka_topics, (name,)) as found:
        await taker_of(found)
        assert found.app.conf.stream_buffer_maxsize == 2
    assert os.listdir(tmp_path) == []  # noqa: PTH208 # in an asynchronous test
    admin = KafkaAdminClient(bootstrap_servers=kafka_topics.servers)
    assert [each for each in admin.list_topics() if "group" in json.dumps(each)] == []
    admin.close()


# --- arrival --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([5, 1_000 + HOUR, 7], [5, 1_000 + HOUR, 7]),
        ([5, 1_001 + HOUR, 7], [5, 5, 7]),
        ([-1, 6, -1], [0, 6, 6]),
    ],
)
def test_a_record_from_the_future_or_without_a_time_arrived_with_the_one_before_it(
    timestamps: list[int], expected: list[int]
) -> None:
    assert arrivals(timestamps, now=1_000) == expected


# --- what a new release of faust or aiokafka must not change ---------------------------------------


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_what_is_overridden_in_faust_is_there_and_is_called_as_before() -> None:
    thread = driver.AIOKafkaConsumerThread
    assert parameters(thread._create_worker_consumer) == ["self", "transport"]
    assert parameters(thread._fetch_records) == parameters(FetchThread._fetch_records)
    assert "self._fetch_records" in inspect.getsource(thread.getmany)
    assert parameters(thread.verify_event_path) == ["self", "now", "tp"]
    assert parameters(driver.Consumer._new_consumer_thread) == ["self"]
    assert parameters(driver.Consumer._to_message) == ["self", "tp", "record"]
    assert "to_message(tp, record)" in inspect.getsource(Consumer.getmany)
    assert "self.seek_to_committed()" in inspect.getsource(Consumer.perform_seek)
    for method in ("_settings_default", "_settings_auth"):
        assert f"self.{method}()" in inspect.getsource(driver.Producer._new_producer)


def test_faust_still_drops_messages_by_offset_and_expands_gaps_only_of_topics_with_acks() -> None:
    drain = inspect.getsource(Consumer._drain_messages)
    assert "offset >= r_offset" in drain
    assert "if acks_enabled:" in drain
    assert "acks_enabled_for" in inspect.getsource(Consumer.ack)


def test_what_is_called_in_aiokafka_is_there() -> None:
    assert parameters(Fetcher.fetched_records) == ["self", "partitions", "timeout", "max_records"]
    # Without partitions it gives those of all, which is why it is not called then.
    assert "if partitions and tp not in partitions" in inspect.getsource(Fetcher.fetched_records)
    assert parameters(Fetcher._create_fetch_waiter) == ["self"]
    assert parameters(PartitionRecords._consumer_record) == ["self", "tp", "record"]
    assert "self._consumer_record(tp, record)" in inspect.getsource(
        PartitionRecords._unpack_records
    )
    assert "self._partition_records = partition_records" in inspect.getsource(FetchResult.__init__)


def test_the_records_that_aiokafka_reads_have_all_that_is_needed() -> None:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 16)
    batch.append(0, 123, b"key", b"value", [("name", b"text")])
    records = MemoryRecords(bytes(batch.build()))
    fetched = PartitionRecords(TopicPartition("t", 0), records, [], 0, None, None, True, 1)
    fetched._consumer_record = lambda _, record: record
    (record,) = fetched
    assert (record.offset, record.timestamp) == (0, 123)
    assert (record.key, record.value, list(record.headers)) == (
        b"key",
        b"value",
        [("name", b"text")],
    )
