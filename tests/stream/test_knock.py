"""Getting into a Kafka that asks who is there, with each library, and what is told when it refuses."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from support.servers import Certificate, SecuredKafka, secured_kafka
from support.servers.base import or_skip, run

from stream.brokers import Brokers, CertificateError
from stream.knock import explain, refusals


TOPIC = "letters"
MECHANISMS = ("plain", "scram-sha-256", "scram-sha-512")
HUSH = "hunter2"
Make = Callable[[SecuredKafka], Brokers]


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    """A Kafka with all listeners, and a topic."""
    with or_skip(), secured_kafka() as made:
        admin = KafkaAdminClient(bootstrap_servers=made.plaintext)
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        admin.close()
        yield made


def password(secured: SecuredKafka, mechanism: str, **different: Any) -> Brokers:
    options = {"password": secured.password, "ca": str(secured.certificates.authority)} | different
    return Brokers((secured.sasl_tls,), "sasl_ssl", mechanism, secured.user, **options)


def mutual(secured: SecuredKafka, client: Certificate, **options: Any) -> Brokers:
    return Brokers(
        (secured.mutual_tls,),
        "ssl",
        ca=str(secured.certificates.authority),
        certificate=str(client.certificate),
        key=str(client.key),
        **options,
    )


GOOD: dict[str, Make] = {
    "plaintext": lambda s: Brokers((s.plaintext,)),
    "tls": lambda s: Brokers((s.tls,), "ssl", ca=str(s.certificates.authority)),
    "mutual tls": lambda s: mutual(s, s.certificates.client),
    "plain without tls": lambda s: Brokers(
        (s.sasl,), "sasl_plaintext", "plain", s.user, s.password
    ),
    **{mechanism: partial(password, mechanism=mechanism) for mechanism in MECHANISMS},
    "oauthbearer": lambda s: Brokers(
        (s.sasl_tls,),
        "sasl_ssl",
        "oauthbearer",
        token=s.token,
        ca=str(s.certificates.authority),
    ),
    "a login and a certificate": lambda s: Brokers(
        (s.sasl_mutual_tls,),
        "sasl_ssl",
        "scram-sha-512",
        s.user,
        s.password,
        ca=str(s.certificates.authority),
        certificate=str(s.certificates.client.certificate),
        key=str(s.certificates.client.key),
    ),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_aiokafka_gets_in(secured: SecuredKafka, make: Make) -> None:
    brokers = make(secured)
    producer = AIOKafkaProducer(**brokers.aiokafka())
    await producer.start()
    sent = await producer.send_and_wait(TOPIC, b"aiokafka")
    await producer.stop()
    consumer = AIOKafkaConsumer(TOPIC, **brokers.aiokafka(), auto_offset_reset="earliest")
    await consumer.start()
    async for record in consumer:
        if record.offset == sent.offset:
            assert record.value == b"aiokafka"
            break
    await consumer.stop()
    assert await refusals(brokers) == []


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_kafka_python_gets_in(secured: SecuredKafka, make: Make) -> None:
    arguments = make(secured).kafka_python()
    admin = KafkaAdminClient(**arguments)
    assert TOPIC in admin.list_topics()
    admin.close()
    producer = KafkaProducer(**arguments)
    sent = producer.send(TOPIC, b"kafka-python").get(10)
    producer.close()
    consumer = KafkaConsumer(TOPIC, **arguments, auto_offset_reset="earliest")
    for record in consumer:
        if record.offset == sent.offset:
            assert record.value == b"kafka-python"
            break
    consumer.close()


def test_a_key_with_a_password_is_opened(secured: SecuredKafka, tmp_path: Path) -> None:
    shown = secured.certificates.client
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(shown.key), "-out", str(locked)]
    run([*command, "-passout", f"pass:{HUSH}"], purpose="a locked key")
    client = Certificate(shown.certificate, locked)
    brokers = mutual(secured, client, key_password=HUSH)
    assert asyncio.run(refusals(brokers)) == []
    admin = KafkaAdminClient(**brokers.kafka_python())
    assert TOPIC in admin.list_topics()
    admin.close()
    for wrong in (None, "wrong-word"):
        with pytest.raises(CertificateError, match=r"locked.key: expected PEM files") as caught:
            mutual(secured, client, key_password=wrong).tls()
        assert "wrong-word" not in str(caught.value)


async def test_a_token_is_read_again_for_each_connection(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(secured.token(lifetime_s=-60))
    brokers = Brokers((secured.sasl,), "sasl_plaintext", "oauthbearer", token=path.read_text)
    arguments = brokers.aiokafka()
    (told,) = await refusals(brokers)
    assert "is the token still valid?" in told
    path.write_text(secured.token())
    producer = AIOKafkaProducer(**arguments)
    await producer.start()
    await producer.send_and_wait(TOPIC, b"with the new token")
    await producer.stop()


BAD: dict[str, tuple[Make, str]] = {
    **{
        mechanism: (
            partial(password, mechanism=mechanism, password=HUSH),
            f"{mechanism} as user 'worker'): the user or the password is wrong",
        )
        for mechanism in MECHANISMS
    },
    "a token that is over": (
        lambda s: Brokers(
            (s.sasl,),
            "sasl_plaintext",
            "oauthbearer",
            token=lambda: s.token(lifetime_s=-60),
        ),
        "(sasl_plaintext, oauthbearer): it closed the connection; is the token still valid?",
    ),
    "another authority": (
        lambda s: password(s, "plain", ca=str(s.certificates.other_authority)),
        "its certificate is not trusted",
    ),
    "the system's authorities": (
        lambda s: Brokers((s.tls,), "ssl"),
        "its certificate is not trusted",
    ),
    "no certificate": (
        lambda s: Brokers((s.mutual_tls,), "ssl", ca=str(s.certificates.authority)),
        "(ssl): ",
    ),
    "a stranger's certificate": (
        lambda s: mutual(s, s.certificates.stranger),
        "(ssl): ",
    ),
    "plaintext where there is tls": (
        lambda s: Brokers((s.tls,)),
        "is the protocol right",
    ),
    "tls where there is none": (
        lambda s: Brokers((s.plaintext,), "ssl", ca=str(s.certificates.authority)),
        "(ssl): ",
    ),
    "nobody there": (lambda _: Brokers(("127.0.0.1:1",)), "cannot be reached: "),
}


@pytest.mark.parametrize(("make", "expected"), BAD.values(), ids=BAD)
async def test_a_refusal_is_told_with_server_user_and_mechanism_and_without_secrets(
    secured: SecuredKafka, make: Make, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    brokers = make(secured)
    (told,) = await refusals(brokers, 2.0)
    assert told.startswith(f"Kafka at {brokers.servers[0]} ({brokers.protocol}")
    assert expected in told
    assert HUSH not in told
    assert await explain(brokers, ValueError("unable to bootstrap")) == told


async def test_only_the_servers_that_refuse_are_told(secured: SecuredKafka) -> None:
    brokers = Brokers((secured.plaintext, "127.0.0.1:1"))
    (told,) = await refusals(brokers)
    assert told.startswith("Kafka at 127.0.0.1:1 (plaintext): cannot be reached")


async def test_an_error_that_has_nothing_to_do_with_getting_in_is_told_as_it_is(
    secured: SecuredKafka,
) -> None:
    brokers = Brokers((secured.plaintext,))
    told = await explain(brokers, ValueError("no such topic"))
    assert told == f"Kafka at {secured.plaintext} (plaintext): no such topic"
