from collections.abc import Callable
from pathlib import Path

import pytest

from abmonitor.connections import KafkaSettings
from abmonitor.secret import Secret, SecretError
from abmonitor.settings import Settings, SettingsError, json_schema, load


Write = Callable[..., Path]
HUSH = "hunter2"
ENVIRON = {"ABMONITOR_KAFKA": "a:9092, b:9093", "USER": "bob", "WORD": HUSH}
LOGIN = "username: {env: USER}, password: {env: WORD}"


def loaded(write: Write, sample: str, kafka: str) -> Settings:
    return load(write(f"{sample}kafka: {{{kafka}}}\n"))


def mistakes(write: Write, sample: str, kafka: str) -> list[str]:
    path = write(f"{sample}kafka: {{{kafka}}}\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    return [str(mistake).removeprefix(f"{path}:") for mistake in caught.value.mistakes]


# --- what can be said -----------------------------------------------------------------------------


def test_nothing_need_be_said_of_kafka(write: Write, sample: str) -> None:
    settings = load(write(sample))
    assert settings.kafka == KafkaSettings()
    assert settings.group == "abmonitor-default"
    assert settings.topics == ("predictions", "outcomes")
    assert settings.kafka.dead_letters == "abmonitor.dead-letters"
    assert settings.kafka.brokers(ENVIRON).servers == ("a:9092", "b:9093")


def test_the_group_is_named_after_the_deployment_unless_it_is_given(
    write: Write, sample: str
) -> None:
    assert load(write(sample + "deployment: shop\n")).group == "abmonitor-shop"
    assert loaded(write, sample, "group: mine").group == "mine"


def test_the_topics_are_those_that_are_mapped(write: Write, sample: str) -> None:
    sources = "sources: {scores: {type: prediction}, sales: {type: outcome}}\n"
    assert load(write(sample + sources)).topics == ("scores", "sales")


def test_everything_of_kafka_can_be_said(write: Write, sample: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text(f"{HUSH}\n")
    settings = loaded(
        write,
        sample,
        "servers: {env: ABMONITOR_KAFKA}, group: g, dead_letters: letters,"
        " protocol: sasl_plaintext, mechanism: scram-sha-512,"
        f" username: {{env: USER}}, password: {{file: '{tmp_path / 'word'}'}}",
    )
    brokers = settings.kafka.brokers(ENVIRON)
    assert (brokers.protocol, brokers.mechanism) == ("sasl_plaintext", "scram-sha-512")
    assert (brokers.username, brokers.password) == ("bob", HUSH)
    assert brokers.check_hostname


# --- what does not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kafka", "expected"),
    [
        ("mechanism: plain", "kafka.mechanism: mechanism needs protocol: sasl_ssl or sasl_"),
        ("protocol: ssl, username: {env: USER}", "kafka.username: username needs protocol: sasl_"),
        ("token: {env: T}", "kafka.token: token needs protocol: sasl_"),
        ("protocol: sasl_ssl", "kafka.protocol: protocol: sasl_ssl needs a mechanism: plain, "),
        (
            "protocol: sasl_ssl, mechanism: plain, password: {env: P}",
            "kafka.mechanism: mechanism: plain needs a username: {env: KAFKA_USERNAME}",
        ),
        (
            "protocol: sasl_ssl, mechanism: scram-sha-256, username: {env: P}",
            "kafka.mechanism: mechanism: scram-sha-256 needs a password: {env: KAFKA_PASSWORD}",
        ),
        (
            "protocol: sasl_ssl, mechanism: oauthbearer",
            "kafka.mechanism: mechanism: oauthbearer needs a token: {env: KAFKA_TOKEN}",
        ),
        (
            "protocol: sasl_ssl, mechanism: oauthbearer, token: {env: T}, username: {env: U}",
            "kafka.username: mechanism: oauthbearer has no use for a username",
        ),
        (
            f"protocol: sasl_ssl, mechanism: plain, {LOGIN}, token: {{env: T}}",
            "kafka.token: mechanism: plain has no use for a token",
        ),
        ("ca: /ca.pem", "kafka.ca: ca needs protocol: ssl or sasl_ssl, got plaintext"),
        ("key_password: {env: P}", "kafka.key_password: key_password needs protocol: ssl or"),
        (
            f"protocol: sasl_plaintext, mechanism: plain, {LOGIN}, certificate: /c.pem",
            "kafka.certificate: certificate needs protocol: ssl or sasl_ssl, got sasl_plaintext",
        ),
        ("protocol: ssl, certificate: /c.pem", "kafka.certificate: certificate needs a key: "),
        ("protocol: ssl, key: /c.key", "kafka.key: key needs a certificate: the path"),
        (
            "protocol: ssl, key_password: {env: P}",
            "kafka.key_password: key_password needs a key: the path of a PEM file",
        ),
        ("check_hostname: false", "kafka.check_hostname: protocol: plaintext checks no host name"),
        ("protocol: SSL", "kafka.protocol: expected one of plaintext, ssl, sasl_plaintext, sasl"),
        ("servers: 'a:9092'", "kafka.servers: expected {env: NAME} or {file: path}"),
        (f"password: {HUSH}", "kafka.password: expected {env: NAME} or {file: path}"),
        ("topic: a", "kafka.topic: unknown key 'topic'; expected one of servers, group"),
        ("dead_letters: 'a b'", "kafka.dead_letters: expected text matching regex"),
        (
            "dead_letters: outcomes",
            "kafka.dead_letters: 'outcomes' is one of the topics that events come in",
        ),
        ("group: ''", "kafka.group: expected text matching regex"),
        ("ca: ''", "kafka.ca: expected text of length >= 1"),
    ],
)
def test_what_does_not_go_together_is_told_where_it_stands(
    write: Write, sample: str, kafka: str, expected: str
) -> None:
    (told,) = mistakes(write, sample, kafka)
    assert expected in told
    assert told.startswith(f"{len(sample.splitlines()) + 1}:")
    assert HUSH not in told


def test_all_that_does_not_go_together_is_told_at_once(write: Write, sample: str) -> None:
    told = mistakes(write, sample, "mechanism: plain, password: {env: P}, key: /k, ca: /c")
    assert [line.split(": ")[1] for line in told] == [
        "kafka.mechanism",
        "kafka.password",
        "kafka.key",
        "kafka.ca",
    ]


def test_a_broken_field_hides_no_others_and_causes_none(write: Write, sample: str) -> None:
    told = mistakes(write, sample, "protocol: sasl_ssl, mechanism: magic, key: /k")
    assert len(told) == 1
    assert "expected one of plain, scram-sha-256" in told[0]


# --- looking things up ----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["ABMONITOR_KAFKA", "USER", "WORD"])
def test_what_is_missing_in_the_environment_is_named(missing: str) -> None:
    settings = KafkaSettings(
        protocol="sasl_plaintext",
        mechanism="plain",
        username=Secret(env="USER"),
        password=Secret(env="WORD"),
    )
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(SecretError, match=f"the environment variable {missing} is not set") as told:
        settings.brokers(environ)
    assert HUSH not in str(told.value)


@pytest.mark.parametrize("servers", [HUSH, f":{HUSH}", ",", "a", "a:", ":9092", "a:99999", "a:b"])
def test_servers_that_are_none_are_told_by_where_they_stand(servers: str) -> None:
    with pytest.raises(SecretError, match="ABMONITOR_KAFKA: expected host:port") as told:
        KafkaSettings().brokers({"ABMONITOR_KAFKA": servers})
    assert HUSH not in str(told.value)


def test_servers_may_have_addresses_of_ipv6() -> None:
    brokers = KafkaSettings().brokers({"ABMONITOR_KAFKA": "[::1]:9092"})
    assert brokers.servers == ("[::1]:9092",)


def test_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    settings = KafkaSettings(
        protocol="sasl_plaintext", mechanism="oauthbearer", token=Secret(file=str(path))
    )
    with pytest.raises(SecretError, match="cannot read the file"):
        settings.brokers(ENVIRON)
    path.write_text("one\n")
    brokers = settings.brokers(ENVIRON)
    assert brokers.token is not None
    assert brokers.token() == "one"
    path.write_text("two\n")
    assert brokers.token() == "two"
    path.unlink()
    with pytest.raises(OSError, match="no token: cannot read the file"):
        brokers.token()


def test_a_certificate_that_cannot_be_read_is_a_secret_that_is_missing() -> None:
    settings = KafkaSettings(protocol="ssl", ca="/nowhere/ca.pem")
    with pytest.raises(SecretError, match=r"cannot use /nowhere/ca.pem as ca: No such file"):
        settings.brokers(ENVIRON)


def test_resolved_settings_never_show_a_secret() -> None:
    settings = KafkaSettings(
        protocol="sasl_plaintext",
        mechanism="plain",
        username=Secret(env="USER"),
        password=Secret(env="WORD"),
    )
    brokers = settings.brokers(ENVIRON)
    assert HUSH not in f"{brokers!r}{brokers}{settings!r}"
    assert str(brokers) == "a:9092, b:9093 (sasl_plaintext, plain as user 'bob')"


# --- for editors ----------------------------------------------------------------------------------


def test_the_published_schema_knows_kafka() -> None:
    schema = json_schema()["$defs"]
    assert set(schema["KafkaSettings"]["properties"]) == set(KafkaSettings.__struct_fields__)
    assert schema["KafkaSettings"]["properties"]["servers"]["default"] == {"env": "ABMONITOR_KAFKA"}
    assert schema["Settings"]["properties"]["redis"]["default"] == {"env": "ABMONITOR_REDIS"}


def test_the_documentation_names_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
    for name in ("redis", "kafka", *KafkaSettings.__struct_fields__):
        assert f"`{name}`" in text
