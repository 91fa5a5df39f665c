"""What a call does, without a Kafka to send to."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from abmonitor_client import ExperimentClient


NOWHERE = "127.0.0.1:1"
pytestmark = [
    pytest.mark.usefixtures("refused_sockets"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def unconnected(**options: Any) -> ExperimentClient:
    return ExperimentClient(NOWHERE, bootstrap_timeout_ms=100, **options)


@pytest.fixture
def client() -> Iterator[ExperimentClient]:
    """One that drops what is wrong, as in production."""
    made = unconnected()
    yield made
    made.close(0)


@pytest.fixture
def strict() -> Iterator[ExperimentClient]:
    made = unconnected(strict=True)
    yield made
    made.close(0)


def test_nothing_is_started_before_the_first_event(client: ExperimentClient) -> None:
    assert not [t for t in threading.enumerate() if t.name == "abmonitor-client"]
    client.predicted("e", "v", "r-1", predicted=True)
    assert [t for t in threading.enumerate() if t.name == "abmonitor-client"]


def test_a_wrong_call_is_counted_and_logged_once_and_raises_nothing(
    client: ExperimentClient, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        client.predicted("e", "v", "r-1", predicted=0.73)  # type: ignore[arg-type]
        client.outcome("", True)
    assert client.dropped["invalid"] == 10
    (record,) = caplog.records
    assert record.name == "abmonitor_client"
    assert record.levelno == logging.WARNING
    assert "predicted is 0.73 (float), expected True or False" in record.message


def test_a_strict_client_raises_for_a_wrong_call_and_counts_it(strict: ExperimentClient) -> None:
    with pytest.raises(TypeError, match="actual is 'yes'"):
        strict.outcome("r-1", "yes")  # type: ignore[arg-type]
    assert strict.dropped["invalid"] == 1


def test_values_that_break_while_they_are_looked_at_break_no_request(
    client: ExperimentClient,
) -> None:
    class Tensor:
        def item(self) -> bool:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")

    client.predicted("e", "v", "r-1", predicted=Tensor())  # type: ignore[arg-type]
    assert client.dropped["invalid"] == 1


def test_keys_by_unit_need_the_unit_in_both_calls() -> None:
    client = unconnected(strict=True, key_by="unit_id")
    with pytest.raises(ValueError, match="unit_id is missing for prediction 'r-1'"):
        client.predicted("e", "v", "r-1", predicted=True)
    with pytest.raises(ValueError, match="unit_id is missing for outcome 'r-1'"):
        client.outcome("r-1", True)
    assert client.dropped["invalid"] == 2


def test_a_full_buffer_drops_and_says_so_without_waiting_for_kafka(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = unconnected(buffer=50, strict=True)
    for number in range(1_000):
        client.predicted("e", "v", f"r-{number}", predicted=True)
    client.outcome("r-1", True)
    assert client.dropped["buffer_full"] == 950
    assert client.pending == 51
    client.close(0)
    assert [r.message for r in caplog.records if "buffer" not in r.message] == [
        "50 events for topic 'predictions' wait already: new ones are dropped"
    ]


def test_after_closing_events_are_dropped_and_nothing_is_raised(strict: ExperimentClient) -> None:
    strict.predicted("e", "v", "r-1", predicted=True)
    assert not strict.close(0)
    strict.outcome("r-1", True)
    assert strict.dropped["closed"] == 2
    assert strict.pending == 0
    assert strict.close()


def test_closing_what_was_never_used_is_at_once_done(client: ExperimentClient) -> None:
    assert client.close(60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linger": 5}, "option 'linger' is unknown to kafka-python"),
        ({"acks": 0}, "option 'acks' cannot be set: an event counts as sent when"),
        ({"partitioner": str}, "option 'partitioner' cannot be set: both topics have to"),
        ({"predictions": "a topic"}, "predictions is 'a topic', expected a topic"),
        ({"outcomes": ""}, "outcomes is '', expected a topic"),
        ({"key_by": "variant"}, "key_by is 'variant', expected 'prediction_id' or 'unit_id'"),
        ({"buffer": 0}, "buffer is 0, expected at least 1"),
    ],
)
def test_a_client_that_could_not_work_is_refused_at_once(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ExperimentClient(NOWHERE, **options)


@pytest.mark.parametrize("servers", ["", " , ", []])
def test_a_client_needs_a_broker(servers: str | list[str]) -> None:
    with pytest.raises(ValueError, match="expected host:port of at least one broker"):
        ExperimentClient(servers)


def test_leaving_a_timed_block_undecided_is_a_mistake_that_harms_nobody(
    client: ExperimentClient, caplog: pytest.LogCaptureFixture
) -> None:
    with client.timed("e", "v", "r-1"):
        pass
    assert client.dropped["invalid"] == 1
    assert "predicted is missing for prediction 'r-1'" in caplog.text


def test_leaving_a_timed_block_undecided_raises_when_strict(strict: ExperimentClient) -> None:
    with pytest.raises(ValueError, match="predicted is missing"), strict.timed("e", "v", "r-1"):
        pass


def test_an_exception_in_a_timed_block_reaches_the_caller_even_if_the_event_is_wrong(
    strict: ExperimentClient,
) -> None:
    with pytest.raises(ZeroDivisionError), strict.timed("e", "not a name", "r-1"):
        _ = 1 / 0
    assert strict.dropped["invalid"] == 1


async def test_a_cancelled_request_has_failed(strict: ExperimentClient) -> None:
    async def hang() -> None:
        with strict.timed("e", "v", "r-1"):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hang(), 0.01)
    assert strict.pending == 1
