"""What the tests' own Kafka promises: it keeps its records, freezes, comes back where it was, and refuses."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.net.sasl.oauth import AbstractTokenProvider
from support.servers import Certificate, KafkaServer, NoServerError, SecuredKafka
from support.servers.base import wait_for
from support.servers.kafka_secured import MECHANISMS
from support.topics import Topics


@contextmanager
def _producer(servers: str) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=servers, acks="all")
    try:
        yield producer
    finally:
        producer.close()


def _send(servers: str, topic: str, *values: bytes) -> list[int]:
    """Send values, and give the timestamps that the broker acknowledged them with."""
    with _producer(servers) as producer:
        sent = [producer.send(topic, value, timestamp_ms=1) for value in values]
        return [each.get(30).timestamp for each in sent]


def _read(servers: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of a topic."""
    found: list[bytes] = []
    consumer = KafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    try:
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                found += [record.value for record in records]
    finally:
        consumer.close()
    return found


def test_topics_have_the_wanted_partitions_and_the_brokers_clock(kafka_topics: Topics) -> None:
    topic = kafka_topics.create("clock", partitions=3)
    (stamp,) = _send(kafka_topics.servers, topic, b"one")
    assert stamp > 1_600_000_000_000  # it was sent with 1
    with KafkaAdminClient(bootstrap_servers=kafka_topics.servers) as admin:
        (told,) = admin.describe_topics([topic])
        assert len(told["partitions"]) == 3


def test_topics_of_a_test_are_deleted_and_others_are_left(kafka_topics: Topics) -> None:
    kept, others = kafka_topics.create("kept"), Topics(kafka_topics.servers)
    deleted = others.create("deleted")
    others.delete()
    with KafkaAdminClient(bootstrap_servers=kafka_topics.servers) as admin:
        wait_for(lambda: deleted not in admin.list_topics(), "a topic is deleted")
        assert kept in admin.list_topics()


def test_a_kafka_that_was_killed_has_its_records_when_it_is_back(own_kafka: KafkaServer) -> None:
    topic = Topics(own_kafka.servers).create("kept")
    _send(own_kafka.servers, topic, b"one", b"two")
    own_kafka.kill()
    assert not own_kafka.is_running
    own_kafka.start()
    assert _read(own_kafka.servers, topic, 2) == [b"one", b"two"]


def test_a_frozen_kafka_acknowledges_nothing_until_it_goes_on(own_kafka: KafkaServer) -> None:
    topic = Topics(own_kafka.servers).create("slow")
    with _producer(own_kafka.servers) as producer:
        producer.send(topic, b"one").get(30)
        own_kafka.suspend()
        sent = producer.send(topic, b"two")
        with pytest.raises(KafkaTimeoutError):
            sent.get(0.3)
        own_kafka.resume()
        assert sent.get(30).offset == 1


def _gets_in(servers: str, *, within_s: float = 30, **access: Any) -> bool:
    """Whether a client is answered; kafka-python tries again and again whatever the refusal says."""
    wait = round(within_s * 1000)
    try:
        with KafkaAdminClient(
            bootstrap_servers=servers, bootstrap_timeout_ms=wait, **access
        ) as admin:
            return isinstance(admin.list_topics(), list)
    except KafkaTimeoutError:
        return False


def _is_refused(servers: str, **access: Any) -> bool:
    return not _gets_in(servers, within_s=0.5, **access)


class _Token(AbstractTokenProvider):  # type: ignore[misc]
    def __init__(self, text: str) -> None:
        self._text = text

    def token(self) -> str:
        return self._text


def _login(kafka: SecuredKafka, mechanism: str, password: str | None = None) -> dict[str, Any]:
    if mechanism == "OAUTHBEARER":
        token = kafka.token(lifetime_s=3600 if password is None else -3600)
        return {"sasl_mechanism": mechanism, "sasl_oauth_token_provider": _Token(token)}
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": kafka.user,
        "sasl_plain_password": kafka.password if password is None else password,
    }


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_secured_kafka_lets_in_who_has_credentials(
    secured_kafka: SecuredKafka, mechanism: str
) -> None:
    login = _login(secured_kafka, mechanism)
    shown = secured_kafka.certificates.context(secured_kafka.certificates.client)
    kinds: list[tuple[str, dict[str, Any]]] = [
        (secured_kafka.sasl, {"security_protocol": "SASL_PLAINTEXT"}),
        (secured_kafka.sasl_tls, {"security_protocol": "SASL_SSL", "ssl_context": shown}),
        (secured_kafka.sasl_mutual_tls, {"security_protocol": "SASL_SSL", "ssl_context": shown}),
    ]
    for servers, access in kinds:
        assert _gets_in(servers, **access, **login)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_secured_kafka_refuses_wrong_credentials(
    secured_kafka: SecuredKafka, mechanism: str
) -> None:
    login = _login(secured_kafka, mechanism, "wrong")
    access = {"security_protocol": "SASL_PLAINTEXT", **login}
    assert _is_refused(secured_kafka.sasl, **access)


def test_a_secured_kafka_refuses_a_client_without_credentials(secured_kafka: SecuredKafka) -> None:
    assert _gets_in(secured_kafka.plaintext)
    assert _is_refused(secured_kafka.sasl)
    assert _is_refused(secured_kafka.tls)


def test_a_kafka_with_mutual_tls_wants_a_certificate_that_it_trusts(
    secured_kafka: SecuredKafka,
) -> None:
    made = secured_kafka.certificates

    def showing(client: Certificate | None) -> dict[str, Any]:
        return {"security_protocol": "SSL", "ssl_context": made.context(client)}

    assert _gets_in(secured_kafka.tls, **showing(None))
    assert _is_refused(secured_kafka.mutual_tls, **showing(None))
    assert _is_refused(secured_kafka.mutual_tls, **showing(made.stranger))
    assert _gets_in(secured_kafka.mutual_tls, **showing(made.client))


def test_a_kafka_without_java_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoServerError, match="java not found"):
        KafkaServer()
