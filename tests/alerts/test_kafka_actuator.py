import asyncio
import json
from collections.abc import Sequence

import msgspec
import pytest

from alerts.actuators.cloudevent import document
from alerts.actuators.kafka import Kafka, KafkaOptions, SendRefusedError
from alerts.order import Order, Verification


ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    split={"rules-v1": 1.0, "ranker-v2": 0.0},
    versions=("2.1",),
    reasons=("rap:sequential fails",),
)
Headers = Sequence[tuple[str, bytes]]


class Topic:
    """Takes records, or fails as told."""

    def __init__(self, error: Exception | None = None, hangs: bool = False) -> None:
        self.records: list[tuple[bytes, bytes, Headers]] = []
        self.error, self.hangs, self.closed = error, hangs, 0

    async def send(self, key: bytes, value: bytes, headers: Headers) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.records.append((key, value, headers))

    async def close(self) -> None:
        self.closed += 1


async def test_an_order_is_a_cloud_event_keyed_by_its_experiment() -> None:
    topic = Topic()
    receipt = await Kafka(topic.send).apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (True, False)
    assert receipt.detail == "topic abmonitor.decisions: all replicas have it"
    [(key, value, headers)] = topic.records
    assert key == b"offers"
    assert list(headers) == [("content-type", b"application/cloudevents+json")]
    assert value == document(ORDER)
    event = json.loads(value)
    assert (event["id"], event["type"]) == (ORDER.id, "dev.abmonitor.rollback.v1")
    assert event["data"]["split"] == {"rules-v1": 1.0, "ranker-v2": 0.0}


async def test_what_is_sent_again_has_the_same_id_and_body() -> None:
    topic = Topic()
    actuator = Kafka(topic.send)
    for _ in range(3):
        await actuator.apply(ORDER)
    assert len({value for _, value, _ in topic.records}) == 1


async def test_a_dry_run_has_a_type_of_its_own() -> None:
    topic = Topic()
    await Kafka(topic.send).apply(msgspec.structs.replace(ORDER, dry_run=True))
    event = json.loads(topic.records[0][1])
    assert (event["type"], event["dryrun"]) == ("dev.abmonitor.dryrun.v1", True)


async def test_no_acknowledgement_in_time_is_tried_again() -> None:
    receipt = await Kafka(Topic(hangs=True).send, KafkaOptions(timeout=0.05)).apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.endswith("not acknowledged within 0.05 s")


async def test_what_is_refused_for_good_is_not_tried_again_and_says_why() -> None:
    refused = SendRefusedError("topic 'x' does not exist; create it with `abmonitor topics create`")
    receipt = await Kafka(Topic(refused).send).apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert "abmonitor topics create" in receipt.detail


@pytest.mark.parametrize(
    "error", [OSError("hunter2"), RuntimeError("hunter2"), KeyError("hunter2")]
)
async def test_every_other_failure_is_tried_again_and_not_quoted(error: Exception) -> None:
    receipt = await Kafka(Topic(error).send).apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert type(error).__name__ in receipt.detail
    assert "hunter2" not in receipt.detail


async def test_cancelling_an_attempt_is_not_swallowed() -> None:
    attempt = asyncio.create_task(Kafka(Topic(hangs=True).send).apply(ORDER))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_nobody_knows_what_routers_did() -> None:
    assert await Kafka(Topic().send).verify(ORDER) is Verification.UNSUPPORTED


async def test_closing_closes_the_sender_once_and_later_orders_are_not_sent() -> None:
    topic = Topic()
    actuator = Kafka(topic.send, close=topic.close)
    await actuator.close()
    await actuator.close()
    receipt = await actuator.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert (topic.closed, topic.records) == (1, [])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"timeout": 0.0}, "timeout"), ({"timeout": 61.0}, "timeout"), ({"topic": ".."}, "topic")],
)
def test_options_that_cannot_work_are_named(options: dict[str, object], named: str) -> None:
    made = msgspec.structs.replace(KafkaOptions(), **options)
    assert [name for name, _ in made.problems()] == [named]
    with pytest.raises(ValueError, match=named):
        Kafka(Topic().send, made)
