"""Orders on a real Kafka: acknowledged, refused for good, and while nobody answers."""

import json
from typing import Any

import msgspec
from support.servers import KafkaServer
from support.topics import Topics

from abmonitor.decisions_topic import kafka_actuator
from alerts.actuators.kafka import KafkaOptions
from alerts.order import Order
from stream.brokers import Brokers


ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
)


def records(servers: str, topic: str, count: int) -> list[Any]:
    from kafka import KafkaConsumer  # only once pytest knows which of its warnings to ignore

    consumer = KafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    try:
        return [next(consumer) for _ in range(count)]
    finally:
        consumer.close()


async def test_orders_of_an_experiment_are_in_one_partition_in_their_order(
    kafka_topics: Topics,
) -> None:
    topic = kafka_topics.create("decisions", 5)
    actuator = kafka_actuator(Brokers((kafka_topics.servers,)), KafkaOptions(topic=topic))
    try:
        for number in range(3):
            order = msgspec.structs.replace(ORDER, id=f"o:{number}")
            receipt = await actuator.apply(order)
            assert receipt.accepted, receipt.detail
    finally:
        await actuator.close()
    found = records(kafka_topics.servers, topic, 3)
    assert len({record.partition for record in found}) == 1
    assert [json.loads(record.value)["id"] for record in found] == ["o:0", "o:1", "o:2"]
    assert {record.key for record in found} == {b"offers"}
    assert list(found[0].headers) == [("content-type", b"application/cloudevents+json")]


async def test_a_missing_topic_is_refused_for_good_and_told_how_to_make(
    kafka_topics: Topics,
) -> None:
    options = KafkaOptions(topic=kafka_topics.name("missing"))
    actuator = kafka_actuator(Brokers((kafka_topics.servers,)), options)
    try:
        receipt = await actuator.apply(ORDER)
    finally:
        await actuator.close()
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert "abmonitor topics create" in receipt.detail


async def test_an_order_that_is_too_large_for_the_topic_is_refused_for_good(
    kafka_topics: Topics,
) -> None:
    topic = kafka_topics.create("decisions", configs={"max.message.bytes": "1000"})
    actuator = kafka_actuator(Brokers((kafka_topics.servers,)), KafkaOptions(topic=topic))
    large = Order(
        id="a", experiment="b", treatment="c", control="d", decided_at=1, reasons=("x" * 2_000,)
    )
    try:
        receipt = await actuator.apply(large)
    finally:
        await actuator.close()
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert "max.message.bytes" in receipt.detail


async def test_while_kafka_is_away_orders_are_to_be_tried_again_and_then_arrive(
    own_kafka: KafkaServer,
) -> None:
    topic = Topics(own_kafka.servers).create("decisions")
    options = KafkaOptions(topic=topic, timeout=3.0)
    actuator = kafka_actuator(Brokers((own_kafka.servers,)), options)
    try:
        assert (await actuator.apply(ORDER)).accepted
        own_kafka.kill()
        away = await actuator.apply(ORDER)
        assert (away.accepted, away.retry) == (False, True)
        own_kafka.start()
        receipts = [await actuator.apply(ORDER) for _ in range(10)]
        assert any(receipt.accepted for receipt in receipts)
    finally:
        await actuator.close()
    found = records(own_kafka.servers, topic, 2)
    assert {json.loads(record.value)["id"] for record in found} == {ORDER.id}
