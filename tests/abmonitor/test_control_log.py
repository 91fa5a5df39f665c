"""The control log on a real Kafka: what is newest, what compaction leaves, and what happens without one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from support.servers import KafkaServer
from support.servers.base import wait_for
from support.topics import Topics

from abmonitor.control_log import MAX_VALUE_BYTES, ControlLog, ControlLogError, _until
from stream.brokers import Brokers


COMPACTED = {"cleanup.policy": "compact", "max.message.bytes": str(2 << 20)}
QUICK = {
    **COMPACTED,
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.0",
    "delete.retention.ms": "0",
    "max.compaction.lag.ms": "100",
}
Opened = Callable[..., ControlLog]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Makes control logs, which are closed after the test."""
    made: list[ControlLog] = []

    def new(servers: str, topic: str, deployment: str = "shop", **options: Any) -> ControlLog:
        made.append(ControlLog(Brokers((servers,)), topic, deployment, **options))
        return made[-1]

    yield new
    for log in made:
        await log.close()


@contextmanager
def admin(servers: str) -> Iterator[Any]:
    from kafka import KafkaAdminClient  # only once pytest knows which of its warnings to ignore

    with KafkaAdminClient(bootstrap_servers=servers) as client:
        yield client


def written(servers: str, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Every record that is still there."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        end, found = consumer.end_offsets([place])[place], list[Any]()
        quiet = time.monotonic() + 2
        while consumer.position(place) < end and time.monotonic() < quiet:
            found += [r for records in consumer.poll(timeout_ms=100).values() for r in records]
        return [(record.key, record.value) for record in found]
    finally:
        consumer.close()


async def test_what_is_read_is_the_newest_value_of_each_key(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    assert await log.read() == {}
    await log.publish([("offers/book", b"1"), ("offers/decision/1", b"{}"), ("offers/book", b"2")])
    await log.publish([("offers/book", b"3"), ("späße/book", b"x")])
    await log.publish([])
    expected = {"offers/book": b"3", "offers/decision/1": b"{}", "späße/book": b"x"}
    assert await log.read() == expected
    other_process = opened(kafka_topics.servers, topic)
    assert await other_process.read(10.0) == expected


async def test_a_removed_key_is_gone_and_can_come_back(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    await log.publish([("a", b"1"), ("b", b"1"), ("c", b"1"), ("a", None), ("b", None)])
    await log.publish([("b", b"2"), ("never", None)])
    assert await log.read() == {"b": b"2", "c": b"1"}


async def test_deployments_share_a_topic_and_do_not_see_each_other(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    shop, shop2, sh = (
        opened(kafka_topics.servers, topic, name) for name in ("shop", "shop2", "sh")
    )
    await shop.publish([("offers/book", b"shop")])
    await shop2.publish([("offers/book", b"shop2"), ("only/book", b"2")])
    await sh.publish([("op/offers/book", b"sh")])
    await shop2.publish([("only/book", None)])
    assert await shop.read() == {"offers/book": b"shop"}
    assert await shop2.read() == {"offers/book": b"shop2"}
    assert await sh.read() == {"op/offers/book": b"sh"}


async def test_records_of_strangers_are_passed_over(kafka_topics: Topics, opened: Opened) -> None:
    from kafka import KafkaProducer

    topic = kafka_topics.create(
        "control"
    )  # not compacted, or it would not take a record without a key
    producer = KafkaProducer(bootstrap_servers=kafka_topics.servers)
    for key in (None, b"", b"shop", b"shop/\xff", b"\x00"):
        producer.send(topic, key=key, value=b"?").get(30)
    producer.close()
    log = opened(kafka_topics.servers, topic)
    assert await log.read() == {}
    await log.publish([("a", b"1")])
    assert await log.read() == {"a": b"1"}


async def test_only_what_is_wanted_is_kept(kafka_topics: Topics, opened: Opened) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    large = b"e" * (1 << 20)
    await log.publish([(f"offers/evidence/{n}", large + b"%d" % n) for n in range(6)])
    await log.publish([("offers/book", b"1")])
    assert await log.read(wanted=lambda key: key.endswith("/book")) == {"offers/book": b"1"}
    assert (await log.read())["offers/evidence/5"] == large + b"5"


async def test_a_value_that_is_too_large_is_named_and_nothing_is_written(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    with pytest.raises(ControlLogError, match=r"offers/evidence/1 needs [\d,]+ bytes"):
        await log.publish([("a", b"1"), ("offers/evidence/1", b"x" * MAX_VALUE_BYTES)])
    assert await log.read() == {}


async def test_a_topic_that_takes_smaller_records_only_is_told_how_to_mend(
    kafka_topics: Topics, opened: Opened
) -> None:
    import random

    topic = kafka_topics.create("control", configs={**COMPACTED, "max.message.bytes": "10000"})
    log = opened(kafka_topics.servers, topic)
    with pytest.raises(ControlLogError, match=r"max\.message\.bytes"):
        await log.publish([("a", random.Random(1).randbytes(100_000))])
    await log.publish([("a", b"small")])
    assert await log.read() == {"a": b"small"}


async def test_a_missing_topic_is_told_how_to_make(kafka_topics: Topics, opened: Opened) -> None:
    topic = kafka_topics.name("missing")
    log = opened(kafka_topics.servers, topic)
    for call in (log.publish([("a", b"1")]), log.read()):
        with pytest.raises(ControlLogError, match="abmonitor topics create"):
            await call
    kafka_topics.create("missing", configs=COMPACTED)
    await log.publish([("a", b"1")])
    assert await log.read() == {"a": b"1"}


async def test_what_several_tasks_write_is_written_in_the_order_of_their_calls(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    await asyncio.gather(*(log.publish([("a", b"%d" % n), ("b", b"%d" % n)]) for n in range(50)))
    assert await log.read() == {"a": b"49", "b": b"49"}
    values = [int(value or b"") for _, value in written(kafka_topics.servers, topic)]
    assert values == [n for n in range(50) for _ in range(2)]


async def test_a_call_that_is_given_up_leaves_the_log_as_it_should_be(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    for n in range(20):
        with_patience = asyncio.timeout(n / 2_000)
        try:
            async with with_patience:
                await log.publish([("a", b"old %d" % n)])
        except TimeoutError:
            pass
    await log.publish([("a", b"new")])
    await asyncio.sleep(0.5)  # what was given up would be there by now
    assert await log.read() == {"a": b"new"}


async def test_a_closed_log_says_so(kafka_topics: Topics, opened: Opened) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    log = opened(kafka_topics.servers, topic)
    await log.publish([("a", b"1")])
    await log.close()
    await log.close()
    for call in (log.publish([("a", b"2")]), log.read()):
        with pytest.raises(ControlLogError, match="closed"):
            await call


async def test_where_nobody_listens_both_fail_within_their_time(opened: Opened) -> None:
    log = opened("127.0.0.1:1", "abmonitor.control", publish_s=1.0)
    for call in (log.publish([("a", b"1")]), log.read(1.0)):
        with pytest.raises(ControlLogError, match=r"Kafka at 127\.0\.0\.1:1") as caught:
            await asyncio.wait_for(call, 30)
        assert "abmonitor.control" in str(caught.value)


async def test_a_broker_that_went_away_is_told_and_found_again(
    own_kafka: KafkaServer, opened: Opened
) -> None:
    topic = Topics(own_kafka.servers).create("control", configs=COMPACTED)
    log = opened(own_kafka.servers, topic, publish_s=2.0)
    await log.publish([("a", b"1"), ("b", b"1")])
    own_kafka.kill()
    for call in (log.publish([("a", b"lost or not")]), log.read(2.0)):
        with pytest.raises(ControlLogError):
            await asyncio.wait_for(call, 30)
    own_kafka.start()
    await _until_it_works(log, [("a", b"2")])
    assert await log.read() == {"a": b"2", "b": b"1"}


async def test_a_broker_that_stands_still_fails_and_an_old_write_never_comes_last(
    own_kafka: KafkaServer, opened: Opened
) -> None:
    topic = Topics(own_kafka.servers).create("control", configs=COMPACTED)
    log = opened(own_kafka.servers, topic, publish_s=1.0)
    await log.publish([("a", b"1")])
    own_kafka.suspend()
    with pytest.raises(ControlLogError, match="not done within 1 s"):
        await asyncio.wait_for(log.publish([("a", b"2")]), 30)
    with pytest.raises(ControlLogError, match="read"):
        await asyncio.wait_for(log.read(1.0), 30)
    own_kafka.resume()
    await _until_it_works(log, [("a", b"3")])
    await asyncio.sleep(1.0)
    assert await log.read() == {"a": b"3"}


async def test_what_compaction_leaves_is_read_to_its_end(opened: Opened) -> None:
    with KafkaServer(extra_properties={"log.cleaner.backoff.ms": "100"}) as server:
        topic = Topics(server.servers).create("control", configs=QUICK)
        log = opened(server.servers, topic)
        for n in range(5):
            await log.publish([("a", b"%d" % n), ("b", b"%d" % n), ("c", b"%d" % n)])
            await asyncio.sleep(0.15)
        await log.publish([("b", None)])
        await asyncio.sleep(0.15)
        await log.publish([("c", None)])

        def cleaned() -> bool:
            return len(written(server.servers, topic)) < 10  # of 17

        await asyncio.to_thread(wait_for, cleaned, "the topic is compacted")
        assert await log.read() == {"a": b"4"}
        await log.publish([("c", b"again")])
        assert await log.read() == {"a": b"4", "c": b"again"}


async def test_what_ends_with_the_mark_of_a_transaction_is_read_to_its_end(
    kafka_topics: Topics, opened: Opened
) -> None:
    topic = kafka_topics.create("control", configs=COMPACTED)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_topics.servers, transactional_id=kafka_topics.name("stranger")
    )
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"1", key=b"shop/a")
    await producer.stop()
    assert await opened(kafka_topics.servers, topic).read(10.0) == {"a": b"1"}


class Consumer:
    """A consumer of a partition whose last offset nothing reaches; it answers as told."""

    def __init__(self, answers: list[int | None], highwater: int) -> None:
        self._answers, self._highwater = iter(answers), highwater

    async def position(self, _: object) -> int:
        return 3

    async def getmany(self, *_: object, **__: object) -> dict[object, list[object]]:
        self._answered = next(self._answers)
        return {}

    def last_poll_timestamp(self, _: object) -> int | None:
        return self._answered

    def highwater(self, _: object) -> int:
        return self._highwater


async def test_an_end_that_compaction_took_away_is_believed_when_the_broker_says_so() -> None:
    consumer = Consumer([None, 1, 1, 2, 3], highwater=5)
    assert [record async for record in _until(consumer, TopicPartition("t", 0), 5)] == []


@pytest.mark.parametrize(
    ("answers", "highwater"), [([1] * 50, 5), ([None] * 50, 5), (list(range(50)), 4)]
)
async def test_a_broker_that_does_not_answer_or_lags_is_waited_for(
    answers: list[int | None], highwater: int
) -> None:
    consumer = Consumer(answers, highwater)
    with pytest.raises(RuntimeError):  # it still asks when there are no answers left
        [record async for record in _until(consumer, TopicPartition("t", 0), 5)]


async def test_a_user_without_rights_is_told_which_are_missing(opened: Opened) -> None:
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
        "early.start.listeners": "CONTROLLER",
    }
    with KafkaServer(
        extra_properties=rules | LOGIN, listeners={"SASL": "SASL_PLAINTEXT"}
    ) as server:
        topic = Topics(server.servers).create("control", configs=COMPACTED)
        _allow_to_describe(server.servers, topic)
        brokers = Brokers((server.at("SASL"),), "sasl_plaintext", "plain", "bob", "secret-of-bob")
        log = ControlLog(brokers, topic, "shop")
        try:
            with pytest.raises(ControlLogError, match="Write and Describe") as caught:
                await log.publish([("a", b"1")])
            assert "secret-of-bob" not in str(caught.value)
            await opened(server.servers, topic).publish(
                [("a", b"1")]
            )  # or there is nothing to read
            with pytest.raises(ControlLogError, match="Read and Describe"):
                await log.read()
        finally:
            await log.close()


LOGIN = {
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="secret-of-bob";'
    ),
}


def _allow_to_describe(servers: str, topic: str) -> None:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    rule = ACL(
        principal="User:bob",
        host="*",
        operation=ACLOperation.DESCRIBE,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType.TOPIC, topic),
    )
    with admin(servers) as client:
        client.create_acls([rule])


async def _until_it_works(log: ControlLog, entries: list[tuple[str, bytes | None]]) -> None:
    """Publish, as often as it takes: the broker may need a while until it leads again."""
    for _ in range(60):
        try:
            return await log.publish(entries)
        except ControlLogError:
            await asyncio.sleep(0.5)
    pytest.fail("the control log did not come back")
