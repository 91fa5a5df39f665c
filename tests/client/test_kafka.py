"""What arrives in a real Kafka."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from support.servers.kafka_secured import SecuredKafka
from support.topics import Topics

from abmonitor_client import ExperimentClient
from stream.events import Outcome, Prediction
from stream.sources import Decoder


if TYPE_CHECKING:
    from tests.client.conftest import Pair


TIMEOUT = 60.0
"""Seconds; what is waited for happens much sooner."""
NOW = 1_767_261_600_000


def decoded(pair: "Pair", topic: str) -> list[Any]:
    return Decoder().decode(topic, [record.value for record in pair.arrived(topic)])


def test_a_prediction_and_its_outcome_arrive_as_they_were_told(pair: "Pair") -> None:
    told = {
        "predicted": True,
        "unit_id": "customer-7",
        "latency_ms": 31.4,
        "error": False,
        "acted": False,
        "score": 0.61,
        "weight": 2.5,
        "segment": "new",
        "version": "2.0.1",
        "cost": 0.002,
        "time": NOW,
    }
    with pair.client() as client:
        client.predicted("offers", "ranker-v2", "r-1", **told)  # type: ignore[arg-type]
        client.outcome("r-1", False, time=NOW + 5, value=12.5, experiment="offers")
    assert decoded(pair, pair.predictions) == [Prediction("r-1", "offers", "ranker-v2", **told)]  # type: ignore[arg-type]
    assert decoded(pair, pair.outcomes) == [Outcome("r-1", False, NOW + 5, 12.5, "offers")]
    assert client.counts()[::2] == (2, 0)


def test_the_time_is_now_unless_it_is_told(pair: "Pair") -> None:
    before = int(time.time() * 1000)
    with pair.client() as client:
        client.predicted("e", "v", "r-1", predicted=True)
        client.outcome("r-1", True)
    (prediction,), (outcome,) = (decoded(pair, t) for t in (pair.predictions, pair.outcomes))
    assert before <= prediction.time <= outcome.time <= time.time() * 1000


@pytest.mark.parametrize("key_by", ["prediction_id", "unit_id"])
def test_predictions_meet_their_outcomes_in_partitions_of_the_same_number(
    pair: "Pair", key_by: Any
) -> None:
    with pair.client(key_by=key_by) as client:
        for number in range(60):
            unit = f"customer-{number % 10}"
            client.predicted("e", "v", f"r-{number}", predicted=True, unit_id=unit)
            client.outcome(f"r-{number}", True, unit_id=unit)
    predictions, outcomes = (
        {record.id: (record.partition, record.key) for record in pair.arrived(topic)}
        for topic in (pair.predictions, pair.outcomes)
    )
    assert len(predictions) == 60
    assert predictions == outcomes
    assert {partition for partition, _ in predictions.values()} == {0, 1, 2}
    keys = {key for _, key in predictions.values()}
    assert len(keys) == (60 if key_by == "prediction_id" else 10)


def test_one_topic_can_take_both(pair: "Pair") -> None:
    with pair.client(outcomes=pair.predictions) as client:
        client.predicted("e", "v", "r-1", predicted=True)
        client.outcome("r-1", True)
    assert {type(event) for event in decoded(pair, pair.predictions)} == {Prediction, Outcome}


def test_a_timed_request_tells_its_latency_and_what_was_set(pair: "Pair") -> None:
    with pair.client() as client:
        started = time.perf_counter()
        with client.timed("e", "v", "r-1", unit_id="u", segment="s", version="1") as request:
            time.sleep(0.02)
            request.predicted, request.score, request.acted = True, 0.9, False
        longest = (time.perf_counter() - started) * 1000
    (event,) = decoded(pair, pair.predictions)
    assert 20 <= event.latency_ms <= longest
    assert (event.predicted, event.score, event.acted, event.error) == (True, 0.9, False, None)
    assert (event.unit_id, event.segment, event.version) == ("u", "s", "1")


def test_a_request_that_raises_is_told_as_failed(pair: "Pair") -> None:
    with pair.client() as client:
        for decided in (None, True):
            with suppress(ZeroDivisionError), client.timed("e", "v", f"r-{decided}") as request:
                request.predicted = decided
                _ = 1 / 0
    found = {event.prediction_id: event for event in decoded(pair, pair.predictions)}
    assert all(event.error and event.latency_ms >= 0 for event in found.values())
    assert {name: event.predicted for name, event in found.items()} == {
        "r-None": None,
        "r-True": True,
    }


def test_flushing_waits_until_kafka_has_everything(pair: "Pair") -> None:
    with pair.client() as client:
        for number in range(3_000):
            client.predicted("e", "v", f"r-{number}", predicted=True)
        assert client.flush(TIMEOUT)
        assert (client.sent, client.pending) == (3_000, 0)
        assert len(pair.arrived(pair.predictions)) == 3_000


def test_threads_may_share_a_client(pair: "Pair") -> None:
    with pair.client(buffer=500) as client:

        def serve(thread: int) -> None:
            for number in range(1_000):
                client.predicted("e", "v", f"{thread}-{number}", predicted=True)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(serve, range(4)))
        assert client.flush(TIMEOUT)
    counts = client.counts()
    arrived = [record.id for record in pair.arrived(pair.predictions)]
    assert len(arrived) == len(set(arrived)) == counts.sent
    assert counts.sent + counts.dropped["buffer_full"] == 4_000


def test_a_missing_topic_does_not_hold_up_the_other_one(
    kafka_topics: Topics, pair: "Pair", caplog: pytest.LogCaptureFixture
) -> None:
    missing = kafka_topics.name("made-later")
    with pair.client(outcomes=missing, max_block_ms=300, retry_backoff_ms=100) as client:
        client.outcome("r-1", True)
        for number in range(10):
            client.predicted("e", "v", f"r-{number}", predicted=True)
        _wait_until(lambda: f"topic {missing!r} cannot be reached" in caplog.text)
        _wait_until(lambda: client.sent == 10)
        assert client.pending == 1
        kafka_topics.create("made-later", 3)
        assert client.flush(TIMEOUT)
    assert [record.id for record in pair.arrived(missing)] == ["r-1"]


def test_an_event_that_kafka_refuses_stops_no_other(kafka_topics: Topics, pair: "Pair") -> None:
    tiny = kafka_topics.create("tiny", configs={"max.message.bytes": "300"})
    with pair.client(predictions=tiny) as client:
        for number in range(3):
            client.predicted("e", "v", f"small-{number}", predicted=True)
            assert client.flush(TIMEOUT)
            client.predicted(
                "e", "v", "x" * 128, predicted=True, segment="y" * 128, version="z" * 128
            )
            assert client.flush(TIMEOUT)
    assert (client.sent, client.dropped["send_failed"]) == (3, 3)
    assert [record.id for record in pair.arrived(tiny)] == ["small-0", "small-1", "small-2"]


def test_compressed_events_arrive_too(pair: "Pair") -> None:
    with pair.client(compression_type="gzip") as client:
        for number in range(100):
            client.predicted("e", "v", f"r-{number}", predicted=True)
    assert len(decoded(pair, pair.predictions)) == 100


def test_options_for_security_open_the_doors_of_a_secured_kafka(
    secured_kafka: SecuredKafka,
) -> None:
    topics = Topics(secured_kafka.plaintext)
    names = {name: topics.create(name) for name in ("predictions", "outcomes")}
    with ExperimentClient(
        secured_kafka.sasl_tls,
        **names,  # type: ignore[arg-type]
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=secured_kafka.user,
        sasl_plain_password=secured_kafka.password,
        ssl_cafile=str(secured_kafka.certificates.authority),
    ) as client:
        client.predicted("e", "v", "r-1", predicted=True)
        assert client.flush(TIMEOUT)
    assert client.sent == 1
    topics.delete()


def _wait_until(is_true: Any) -> None:
    end = time.monotonic() + TIMEOUT
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)
