"""A Kafka that comes late, goes away, or never comes."""

import time
from collections.abc import Callable, Iterator

import pytest
from support.servers import KafkaServer
from support.servers.kafka_secured import SecuredKafka
from support.topics import Topics

from abmonitor_client import ExperimentClient


TIMEOUT = 60.0
"""Seconds; what is waited for happens sooner."""
pytestmark = [
    pytest.mark.usefixtures("refused_sockets"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def topics(own_kafka: KafkaServer) -> dict[str, str]:
    made = Topics(own_kafka.servers)
    return {name: made.create(name, 3) for name in ("predictions", "outcomes")}


@pytest.fixture
def client(own_kafka: KafkaServer, topics: dict[str, str]) -> Iterator[ExperimentClient]:
    """One that tries again quickly."""
    made = ExperimentClient(
        own_kafka.servers,
        predictions=topics["predictions"],
        outcomes=topics["outcomes"],
        strict=True,
        bootstrap_timeout_ms=500,
        reconnect_backoff_max_ms=200,
    )
    yield made
    made.close(1)


def arrived(servers: str, topic: str) -> list[str]:
    """The keys of what is in `topic`."""
    from kafka import KafkaConsumer, TopicPartition

    with KafkaConsumer(bootstrap_servers=servers) as consumer:
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(parts)
        keys: list[str] = []
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(timeout_ms=200).values():
                keys += [record.key.decode() for record in records]
    return keys


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_events_wait_for_a_kafka_that_comes_late(
    own_kafka: KafkaServer, topics: dict[str, str], client: ExperimentClient
) -> None:
    own_kafka.stop()
    for number in range(20):
        client.predicted("e", "v", f"r-{number}", predicted=True)
    assert not client.flush(1)
    assert client.pending == 20
    own_kafka.start()
    assert client.flush(TIMEOUT)
    assert sorted(arrived(own_kafka.servers, topics["predictions"])) == sorted(
        f"r-{number}" for number in range(20)
    )


@pytest.mark.parametrize("end", [KafkaServer.stop, KafkaServer.kill])
def test_events_survive_a_restart_of_the_broker(
    own_kafka: KafkaServer,
    topics: dict[str, str],
    client: ExperimentClient,
    end: Callable[[KafkaServer], None],
) -> None:
    told: list[str] = []

    def tell(count: int) -> None:
        for _ in range(count):
            told.append(f"r-{len(told)}")
            client.predicted("e", "v", told[-1], predicted=True)

    tell(100)
    assert client.flush(TIMEOUT)
    tell(100)
    end(own_kafka)
    tell(100)
    own_kafka.start()
    tell(100)
    assert client.flush(TIMEOUT)
    assert client.sent == 400
    assert sorted(arrived(own_kafka.servers, topics["predictions"])) == sorted(told)


def test_a_broker_that_answers_nothing_holds_up_no_call_and_no_end(
    own_kafka: KafkaServer, topics: dict[str, str]
) -> None:
    client = ExperimentClient(own_kafka.servers, predictions=topics["predictions"], buffer=1_000)
    client.predicted("e", "v", "first", predicted=True)
    assert client.flush(TIMEOUT)
    own_kafka.suspend()
    for number in range(5_000):
        client.predicted("e", "v", f"r-{number}", predicted=True)
    assert client.dropped["buffer_full"] == 4_000
    assert not client.close(0.5)
    assert (client.sent, client.dropped["closed"], client.pending) == (1, 1_000, 0)
    own_kafka.resume()
    _forget(client)


def test_a_broker_that_never_comes_leaves_everything_accounted_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = ExperimentClient("127.0.0.1:1", buffer=50, bootstrap_timeout_ms=100)
    for number in range(200):
        client.predicted("e", "v", f"r-{number}", predicted=True)
    wait_until(lambda: "cannot connect to Kafka" in caplog.text)
    assert client.pending == 50
    client.close(0.1)
    dropped = {"buffer_full": 150, "send_failed": 0, "invalid": 0, "closed": 50}
    assert client.counts() == (0, dropped, 0)
    _forget(client)


def test_a_door_that_stays_shut_is_reported_and_tried_again(
    secured_kafka: SecuredKafka, caplog: pytest.LogCaptureFixture
) -> None:
    client = ExperimentClient(
        secured_kafka.sasl,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username=secured_kafka.user,
        sasl_plain_password="wrong",
        bootstrap_timeout_ms=500,
    )
    client.predicted("e", "v", "r-1", predicted=True)
    wait_until(lambda: "cannot connect to Kafka, trying on" in caplog.text)
    assert client.pending == 1
    client.close(0)
    _forget(client)


def _forget(client: ExperimentClient) -> None:
    """Wait for its thread: what is open belongs to this test."""
    thread = client._pump._thread
    assert thread is not None
    thread.join(TIMEOUT)
    assert not thread.is_alive()
