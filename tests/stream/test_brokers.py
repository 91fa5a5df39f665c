import asyncio
import ssl
from pathlib import Path

import aiokafka.abc
import kafka.net.sasl.oauth
import pytest
from support.servers import Certificates, make_certificates
from support.servers.base import or_skip

from stream.brokers import Brokers, CertificateError


HUSH = "hunter2"
SERVERS = ("a:9092", "b:9092")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    with or_skip():
        return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_without_security_only_the_servers_are_told() -> None:
    brokers = Brokers(SERVERS)
    expected = {"bootstrap_servers": ["a:9092", "b:9092"]}
    assert brokers.aiokafka() == brokers.kafka_python() == expected


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
def test_users_and_passwords_are_called_the_same_by_both_libraries(mechanism: str) -> None:
    brokers = Brokers(SERVERS, "sasl_plaintext", mechanism, "bob", HUSH)
    assert (
        brokers.aiokafka()
        == brokers.kafka_python()
        == {
            "bootstrap_servers": ["a:9092", "b:9092"],
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": mechanism.upper(),
            "sasl_plain_username": "bob",
            "sasl_plain_password": HUSH,
        }
    )


async def test_each_library_gets_a_token_provider_of_its_own_that_asks_each_time() -> None:
    tokens = iter("abcd")
    brokers = Brokers(SERVERS, "sasl_plaintext", "oauthbearer", token=lambda: next(tokens))
    theirs = brokers.aiokafka()["sasl_oauth_token_provider"]
    assert isinstance(theirs, aiokafka.abc.AbstractTokenProvider)
    assert [await theirs.token(), await theirs.token()] == ["a", "b"]
    ours = brokers.kafka_python()["sasl_oauth_token_provider"]
    assert isinstance(ours, kafka.net.sasl.oauth.AbstractTokenProvider)
    assert [ours.token(), ours.token()] == ["c", "d"]
    assert "sasl_plain_password" not in brokers.aiokafka()


async def test_a_slow_token_does_not_stop_the_event_loop() -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()

    def slow() -> str:
        # Answered by the loop itself, which therefore has to go on.
        future = asyncio.run_coroutine_threadsafe(ready.wait(), loop)
        loop.call_soon_threadsafe(ready.set)
        return str(future.result(10))

    brokers = Brokers(SERVERS, "sasl_plaintext", "oauthbearer", token=slow)
    assert await brokers.aiokafka()["sasl_oauth_token_provider"].token() == "True"


def test_a_description_never_shows_a_secret() -> None:
    brokers = Brokers(
        SERVERS, "sasl_ssl", "plain", "bob", HUSH, token=lambda: HUSH, key_password=HUSH
    )
    assert HUSH not in f"{brokers!r}{brokers}"
    assert str(brokers) == "a:9092, b:9092 (sasl_ssl, plain as user 'bob')"


def test_certificates_and_host_names_are_checked_unless_told_otherwise(
    certificates: Certificates,
) -> None:
    context = Brokers(SERVERS, "ssl", ca=str(certificates.authority)).aiokafka()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    context = Brokers(SERVERS, "sasl_ssl", check_hostname=False).kafka_python()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname


def test_a_certificate_that_is_not_there_is_named(certificates: Certificates) -> None:
    shown, missing = certificates.client, "/nowhere/x.pem"
    with pytest.raises(CertificateError, match=r"cannot use /nowhere/x.pem as ca: No such file"):
        Brokers(SERVERS, "ssl", ca=missing).tls()
    with pytest.raises(CertificateError, match=r"certificate /nowhere/x.pem .*: No such file"):
        Brokers(SERVERS, "ssl", certificate=missing, key=str(shown.key)).tls()


def test_files_that_are_no_certificates_are_named(
    certificates: Certificates, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text(HUSH)
    with pytest.raises(CertificateError, match=r"junk.pem as ca: expected PEM files"):
        Brokers(SERVERS, "ssl", ca=str(junk)).tls()
    other = certificates.server.key
    brokers = Brokers(
        SERVERS, "ssl", certificate=str(certificates.client.certificate), key=str(other)
    )
    with pytest.raises(CertificateError, match="go together"):
        brokers.tls()
