import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import redis
from support.servers import KafkaServer, RedisServer
from support.topics import Topics
from support.views import settings_of
from typer.testing import CliRunner

from abmonitor.cli.main import app
from abmonitor.live import store as live_store
from abmonitor.live import topics as live_topics
from abmonitor.live.check import live_findings
from abmonitor.live.findings import Finding, has_errors, quantile, share, span
from abmonitor.operate import topics as planning


NOW = int(time.time() * 1000)
RECORDS = 40
Send = Callable[..., None]
Look = Callable[..., list[Finding]]


@pytest.fixture
def send(kafka_servers: str) -> Iterable[Send]:
    """A function that writes (key, value) or (key, value, more arguments of the producer) to a topic."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka_servers)

    def to(topic: str, records: Iterable[tuple[Any, ...]]) -> None:
        futures = []
        for key, value, *more in records:
            data = json.dumps(value).encode() if isinstance(value, dict) else value
            told = {} if key is None else {"key": str(key).encode()}
            futures.append(producer.send(topic, value=data, **told, **(more[0] if more else {})))
        producer.flush()
        for future in futures:
            future.get()

    yield to
    producer.close()


@pytest.fixture
def look(kafka_servers: str, redis_url: str) -> Look:
    """A function that checks, live, settings with the given topics."""

    def at(
        topics: Mapping[str, str],
        dead: str,
        *,
        more: str = "",
        labels: str = "horizon: 1h, grace: 5m",
        environ: Mapping[str, str] | None = None,
        records: int = 1_000,
    ) -> list[Finding]:
        sources = "".join(f"  {name}: {{{options}}}\n" for name, options in topics.items())
        text = (
            "experiments:\n"
            "  - name: offers\n"
            "    control: old\n"
            "    variants: {old: 0.5, new: 0.5}\n"
            f"    labels: {{{labels}}}\n"
            f"{more}"
            f"kafka: {{dead_letters: {dead}}}\n"
            f"sources:\n{sources}"
        )
        given = {"ABMONITOR_KAFKA": kafka_servers, "ABMONITOR_REDIS": redis_url}
        return list(live_findings(settings_of(text), given | dict(environ or {}), records))

    return at


def prediction(number: int, **more: object) -> dict[str, Any]:
    usual = {
        "type": "prediction",
        "prediction_id": f"p{number}",
        "experiment": "offers",
        "variant": "old" if number % 2 else "new",
        "predicted": True,
        "time": NOW,
    }
    return usual | more


def outcome(number: int, **more: object) -> dict[str, Any]:
    usual = {"type": "outcome", "prediction_id": f"p{number}", "actual": True, "time": NOW + 2_000}
    return usual | more


def predictions(**more: object) -> list[tuple[str, dict[str, Any]]]:
    return [(f"p{n}", prediction(n, **more)) for n in range(RECORDS)]


def outcomes(**more: object) -> list[tuple[str, dict[str, Any]]]:
    return [(f"p{n}", outcome(n, **more)) for n in range(RECORDS)]


def of(findings: Iterable[Finding], check: str, where: str | None = None) -> Finding:
    """The one finding about something."""
    found = [each for each in findings if each.check == check and where in (None, each.where)]
    assert len(found) == 1, found
    return found[0]


class Place:
    """Topics that are as they should be, unless a test has made them otherwise."""

    def __init__(self, topics: Topics, partitions: int = 3) -> None:
        self._topics, self._partitions = topics, partitions
        self.dead = topics.create("dead")
        self.control = topics.name("control")
        self.asked, self.answered = topics.name("asked"), topics.name("answered")

    def make(self, **configs: str) -> "Place":
        self.make_control()
        self.make_asked(configs=configs)
        self.make_answered(configs=configs)
        return self

    def make_control(self, **configs: str) -> None:
        usual = {"cleanup.policy": "compact", "max.message.bytes": str(2 << 20)}
        self._topics.create("control", log_append_time=False, configs=usual | configs)

    def make_asked(self, partitions: int | None = None, **options: Any) -> None:
        self._topics.create("asked", partitions or self._partitions, **options)

    def make_answered(self, partitions: int | None = None, **options: Any) -> None:
        self._topics.create("answered", partitions or self._partitions, **options)

    @property
    def both(self) -> dict[str, str]:
        return {self.asked: "", self.answered: ""}


@pytest.fixture
def place(kafka_topics: Topics, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(kafka_topics)
    for module in (planning, live_topics):
        monkeypatch.setattr(module, "control_topic", lambda _: made.control)
    return made


# --- what is well ---------------------------------------------------------------------------------


def test_what_is_well_is_said_to_be_well(place: Place, send: Send, look: Look) -> None:
    place.make(**{"retention.ms": "-1"})
    send(place.asked, predictions()[:20])
    time.sleep(0.05)
    send(place.asked, predictions()[20:])
    send(place.answered, outcomes())
    found = look(place.both, place.dead)
    assert not has_errors(found), found
    assert {each.check for each in found if each.level == "warning"} == {"redis_memory", "settings"}
    well = {each.check for each in found if each.level == "ok"}
    assert well == {
        "partition_count",
        "dead_letter_topic",
        "control_topic",
        "timestamps",
        "retention",
        "records",
        "event_time",
        "variants",
        "keys",
        "met",
        "same_partition",
        "same_key",
        "delay",
        "memory_needed",
        "redis_version",
        "redis_policy",
    }
    assert "40 of 40 (100.0 %)" in of(found, "met").message
    assert "2s (p50)" in of(found, "delay").message
    assert "for ever" in of(found, "retention", place.asked).message


def test_one_topic_may_hold_both(place: Place, send: Send, look: Look) -> None:
    place.make_asked()
    place.make_control()
    send(place.asked, [*predictions(), *outcomes()])
    found = look({place.asked: ""}, place.dead)
    assert not has_errors(found), found
    assert "40 are predictions and 40 outcomes" in of(found, "records").message


def test_only_recent_records_are_looked_at(place: Place, send: Send, look: Look) -> None:
    place.make_asked(1)
    send(place.asked, [("x", b"{")] * 10)
    send(place.asked, predictions()[:10])
    found = look({place.asked: ""}, place.dead, records=10)
    assert "of 10 recent records 10 are predictions" in of(found, "records").message
    assert "rejected" not in {each.check for each in found}


# --- topics ---------------------------------------------------------------------------------------


def test_a_topic_that_is_not_there_is_an_error(place: Place, look: Look) -> None:
    place.make_asked()
    found = look(place.both, place.dead)
    missing = of(found, "topic_exists")
    assert (missing.level, missing.where) == ("error", place.answered)
    assert "topics create" in missing.message
    assert of(found, "records", place.asked).level == "warning"  # it is empty


def test_topics_with_other_numbers_of_partitions_are_an_error(place: Place, look: Look) -> None:
    place.make_asked(3)
    place.make_answered(2)
    found = of(look(place.both, place.dead), "partition_count")
    assert found.level == "error"
    assert f"{place.asked} has 3, {place.answered} has 2" in found.message


def test_without_a_topic_for_dead_letters_a_worker_would_stop(place: Place, look: Look) -> None:
    place.make()
    found = of(look(place.both, place.dead + "-not"), "dead_letter_topic")
    assert (found.level, found.where) == ("error", place.dead + "-not")


def test_without_a_control_log_what_was_decided_could_not_be_restored(
    place: Place, look: Look
) -> None:
    place.make_asked()
    found = of(look({place.asked: ""}, place.dead), "control_topic")
    assert (found.level, found.where) == ("error", place.control)
    assert "abmonitor topics create" in found.message


@pytest.mark.parametrize(
    ("config", "value", "level", "mend"),
    [
        ("cleanup.policy", "delete", "error", "cleanup.policy=compact"),
        ("cleanup.policy", "compact,delete", "error", "cleanup.policy=compact"),
        ("max.message.bytes", "1048588", "warning", "max.message.bytes=2097152"),
    ],
)
def test_a_control_log_that_would_lose_something_is_told_how_to_mend(
    place: Place, look: Look, config: str, value: str, level: str, mend: str
) -> None:
    place.make_asked()
    place.make_control(**{config: value})
    found = of(look({place.asked: ""}, place.dead), "control_topic")
    assert (found.level, found.where) == (level, place.control)
    assert f"--entity-name {place.control} --add-config {mend}`" in found.message


def test_the_topic_for_orders_is_looked_at_where_an_experiment_uses_it(
    place: Place, look: Look, kafka_topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.make_asked()
    orders = kafka_topics.name("orders")
    for module in (planning, live_topics):
        monkeypatch.setattr(module, "decision_topics", lambda _: [orders])
    missing = of(look({place.asked: ""}, place.dead), "decisions_topic")
    assert (missing.level, missing.where) == ("error", orders)
    kafka_topics.create("orders", configs={"cleanup.policy": "compact"})
    compacted = of(look({place.asked: ""}, place.dead), "decisions_topic")
    assert compacted.level == "error"
    assert "--add-config cleanup.policy=delete" in compacted.message
    other = kafka_topics.create("more-orders")
    for module in (planning, live_topics):
        monkeypatch.setattr(module, "decision_topics", lambda _: [other])
    assert of(look({place.asked: ""}, place.dead), "decisions_topic").level == "ok"


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [("60000", "by at most 1m"), (str(2**63 - 1), "without any limit")],
)
def test_producers_clocks_are_a_warning(
    place: Place, look: Look, ahead: str, expected: str
) -> None:
    configs = {"message.timestamp.after.max.ms": ahead}
    place.make_asked(log_append_time=False, configs=configs)
    found = of(look({place.asked: ""}, place.dead), "timestamps")
    assert found.level == "warning"
    assert "LogAppendTime" in found.message
    assert expected in found.message


def test_records_from_before_the_brokers_clock_was_set_are_told(
    place: Place, send: Send, look: Look, kafka_servers: str
) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

    place.make_asked(log_append_time=False)
    send(place.asked, predictions())
    with KafkaAdminClient(bootstrap_servers=kafka_servers) as admin:
        change = {"message.timestamp.type": "LogAppendTime"}
        admin.alter_configs([ConfigResource("topic", place.asked, change)])
    found = of(look({place.asked: ""}, place.dead), "timestamps")
    assert found.level == "warning"
    assert "40 of 40 recent records" in found.message


def test_compaction_is_an_error(place: Place, look: Look) -> None:
    place.make_asked(configs={"cleanup.policy": "compact,delete"})
    found = of(look({place.asked: ""}, place.dead), "cleanup_policy")
    assert found.level == "error"
    assert "compact" in found.message


@pytest.mark.parametrize(
    ("kept", "level"),
    [("3600000", "error"), ("10800000", "warning"), ("604800000", "ok")],
)
def test_retention_has_to_reach_beyond_the_horizon(
    place: Place, look: Look, kept: str, level: str
) -> None:
    place.make_asked(configs={"retention.ms": kept})
    found = of(look({place.asked: ""}, place.dead), "retention")
    assert found.level == level
    assert f"retention.ms={kept}" in found.message


def test_retention_by_size_is_told_in_time(place: Place, send: Send, look: Look) -> None:
    place.make_asked(1, configs={"retention.bytes": "100000", "retention.ms": "-1"})
    for record in predictions()[:5]:
        send(place.asked, [record])
        time.sleep(0.02)
    found = of(look({place.asked: ""}, place.dead), "retention")
    assert found.level == "error"
    assert "retention.bytes=100000" in found.message


# --- records --------------------------------------------------------------------------------------


def test_records_that_cannot_be_used_are_told_with_their_place(
    place: Place, send: Send, look: Look
) -> None:
    place.make_asked(1)
    send(place.asked, [*predictions(), ("a", b"{"), ("b", None), ("c", prediction(1, variant="x"))])
    found = [each for each in look({place.asked: ""}, place.dead) if each.check == "rejected"]
    told = {each.message.split(":")[0]: each for each in found}
    assert told.keys() == {
        "rejected, malformed_json",
        "rejected, empty",
        "rejected, unknown_variant",
    }
    assert all(each.level == "warning" for each in found)
    assert f"{place.asked}[0]@40" in told["rejected, malformed_json"].message
    assert "expected one of old, new" in told["rejected, unknown_variant"].message


def test_a_topic_without_any_usable_record_is_an_error(
    place: Place, send: Send, look: Look
) -> None:
    place.make_asked()
    send(place.asked, [(n, {"id": n}) for n in range(10)])
    found = look({place.asked: ""}, place.dead)
    assert of(found, "records").level == "error"
    assert "10 of 10 (100.0 %)" in of(found, "rejected").message
    assert of(found, "rejected").level == "error"
    assert of(found, "predictions").level == "error"
    assert of(found, "outcomes").level == "warning"


def test_records_of_other_experiments_are_told(place: Place, send: Send, look: Look) -> None:
    place.make_asked()
    send(place.asked, predictions(experiment="others"))
    found = look({place.asked: ""}, place.dead)
    assert of(found, "ignored").level == "error"
    assert "others; configured: offers" in of(found, "ignored").message
    assert of(found, "variants").level == "warning"
    send(place.asked, predictions())
    assert of(look({place.asked: ""}, place.dead), "ignored").level == "warning"


def test_a_variant_without_traffic_is_told(place: Place, send: Send, look: Look) -> None:
    place.make_asked()
    send(place.asked, predictions(variant="old"))
    found = of(look({place.asked: ""}, place.dead), "variants")
    assert found.level == "warning"
    assert "no recent prediction of new" in found.message


def test_headers_are_read_as_workers_read_them(place: Place, send: Send, look: Look) -> None:
    place.make_asked()
    headers = [("model", b"old")]
    told = [(n, {"id": n, "yes": n % 2}, {"headers": headers}) for n in range(10)]
    send(place.asked, told)
    mapping = (
        "type: prediction, fields: {prediction_id: id, experiment: {constant: offers},"
        " variant: {header: model}, predicted: {path: yes, true_when: [1]}}"
    )
    found = look({place.asked: mapping.replace("yes,", '"yes",')}, place.dead)
    assert "10 are predictions" in of(found, "records").message


@pytest.mark.parametrize(
    ("shift", "level", "expected"),
    [
        (-600_000, "warning", "more than the grace of 5m"),
        (600_000, "warning", "Ahead of their arrival"),
        pytest.param(-NOW + NOW // 1000, "error", "unit: s", id="seconds"),
    ],
)
def test_times_far_from_arrival_are_told(
    place: Place, send: Send, look: Look, shift: int, level: str, expected: str
) -> None:
    place.make_asked()
    send(place.asked, predictions(time=NOW + shift))
    found = of(look({place.asked: ""}, place.dead), "event_time")
    assert found.level == level
    assert expected in found.message


def test_events_without_a_time_take_that_of_their_arrival(
    place: Place, send: Send, look: Look
) -> None:
    place.make_asked()
    send(place.asked, predictions(time=None))
    assert "arrival" in of(look({place.asked: ""}, place.dead), "event_time").message


# --- how the two fit together ---------------------------------------------------------------------


def test_pairs_in_different_partitions_are_an_error(place: Place, send: Send, look: Look) -> None:
    place.make()
    send(place.asked, [(k, v, {"partition": 0}) for k, v in predictions()])
    send(place.answered, [(k, v, {"partition": 1}) for k, v in outcomes()])
    found = of(look(place.both, place.dead), "same_partition")
    assert found.level == "error"
    assert "40 of 40" in found.message
    assert f"'p0' in {place.asked}[0]@0 and {place.answered}[1]@0" in found.message
    assert f"those of {place.asked} do not do as Java's" in found.message
    assert "murmur2_random" in found.message


def test_other_keys_are_an_error_where_there_are_several_partitions(
    place: Place, send: Send, look: Look
) -> None:
    place.make()
    send(place.asked, predictions())
    send(place.answered, [(f"order-{k}", v) for k, v in outcomes()])
    found = look(place.both, place.dead)
    assert of(found, "same_key").level == "error"
    assert "'order-p" in of(found, "same_key").message
    assert of(found, "same_partition").level == "error"
    assert "Send both with the same key" in of(found, "same_partition").message


def test_other_keys_are_a_warning_while_there_is_one_partition(
    kafka_topics: Topics, send: Send, look: Look
) -> None:
    place = Place(kafka_topics, partitions=1).make()
    send(place.asked, predictions())
    send(place.answered, [(f"order-{k}", v) for k, v in outcomes()])
    assert of(look(place.both, place.dead), "same_key").level == "warning"


@pytest.mark.parametrize(("partitions", "level"), [(1, "warning"), (3, "error")])
def test_records_without_a_key_are_told(
    kafka_topics: Topics, send: Send, look: Look, partitions: int, level: str
) -> None:
    place = Place(kafka_topics, partitions)
    place.make_asked()
    send(place.asked, [(None, value) for _, value in predictions()])
    found = of(look({place.asked: ""}, place.dead), "keys")
    assert found.level == level
    assert "40 of 40 (100.0 %)" in found.message


def test_where_none_met_nothing_is_claimed(place: Place, send: Send, look: Look) -> None:
    place.make()
    send(place.asked, predictions())
    send(place.answered, [(k, v | {"prediction_id": f"order-{k}"}) for k, v in outcomes()])
    found = look(place.both, place.dead)
    assert of(found, "met").level == "warning"
    assert "cannot be told" in of(found, "met").message
    assert "--records" in of(found, "met").message
    assert "'order-p" in of(found, "met").message
    assert not {"same_partition", "same_key", "delay"} & {each.check for each in found}


def test_outcomes_beyond_the_horizon_are_told(place: Place, send: Send, look: Look) -> None:
    place.make()
    send(place.asked, predictions())
    send(place.answered, outcomes())
    found = of(look(place.both, place.dead, labels="horizon: 1s, grace: 1h"), "delay")
    assert found.level == "warning"
    assert "too late for the horizon of 1s: 40 of 40" in found.message


# --- Redis ----------------------------------------------------------------------------------------


def configured(server: RedisServer, **options: str) -> dict[str, str]:
    with redis.Redis.from_url(server.url) as client:
        for name, value in options.items():
            client.config_set(name.replace("_", "-"), value)
    return {"ABMONITOR_REDIS": server.url}


# --- units ------------------------------------------------------------------------------------------


BY_UNIT = "    randomised_by: unit\n"


def test_units_that_are_the_key_are_well(place: Place, send: Send, look: Look) -> None:
    place.make()
    units = [f"u{n // 4}" for n in range(RECORDS)]
    send(place.asked, [(u, prediction(n - n % 4, unit_id=u)) for n, u in enumerate(units)])
    send(place.answered, outcomes())
    found = look(place.both, place.dead, more=BY_UNIT)
    assert of(found, "unit_key").level == "ok"
    assert not [each for each in found if each.check in ("unit_id", "unit_variant")]


def test_units_in_several_partitions_and_variants_and_missing_ones_are_told(
    place: Place, send: Send, look: Look
) -> None:
    place.make()
    named = [(f"p{n}", prediction(n, unit_id=f"u{n % 3}")) for n in range(RECORDS)]
    send(place.asked, [*named, ("q", prediction(RECORDS))])
    send(place.answered, outcomes())
    found = look(place.both, place.dead, more=BY_UNIT)
    assert of(found, "unit_id").level == "error"
    assert f"1 of {RECORDS + 1}" in of(found, "unit_id").message
    for check in ("unit_key", "unit_variant"):
        assert of(found, check).level == "warning"
        assert "3 of 3 (100.0 %)" in of(found, check).message


def test_units_that_never_change_the_variant_though_requests_are_randomised_are_told(
    place: Place, send: Send, look: Look
) -> None:
    place.make()
    faithful = [f"u{n % (RECORDS // 2)}" for n in range(RECORDS)]
    send(place.asked, [(f"p{n}", prediction(n, unit_id=u)) for n, u in enumerate(faithful)])
    send(place.answered, outcomes())
    found = of(look(place.both, place.dead), "randomised_by")
    assert found.level == "warning"
    assert "20 units came again" in found.message


@pytest.mark.parametrize("unit", [lambda n: f"u{n // 2}", lambda n: f"u{n}", lambda _: None])
def test_units_that_change_or_do_not_return_are_well_where_requests_are_randomised(
    place: Place, send: Send, look: Look, unit: Callable[[int], str | None]
) -> None:
    place.make()
    send(place.asked, [(f"p{n}", prediction(n, unit_id=unit(n))) for n in range(RECORDS)])
    send(place.answered, outcomes())
    checks = {each.check for each in look(place.both, place.dead)}
    assert not checks & {"unit_id", "unit_key", "unit_variant", "randomised_by"}


def test_a_redis_that_throws_keys_away_is_an_error(
    place: Place, look: Look, own_redis: RedisServer
) -> None:
    environ = configured(own_redis, maxmemory_policy="allkeys-lru")
    found = of(look({place.asked: ""}, place.dead, environ=environ), "redis_policy")
    assert found.level == "error"
    assert "allkeys-lru" in found.message


def test_a_redis_that_does_not_say_how_it_is_set_up_is_a_warning(
    place: Place, look: Look, own_redis: RedisServer
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">hush", "~*", "+@all", "-info")
    url = own_redis.url.replace("://", "://worker:hush@")
    found = of(look({place.asked: ""}, place.dead, environ={"ABMONITOR_REDIS": url}), "redis")
    assert found.level == "warning"
    assert "noeviction" in found.message
    assert "hush" not in found.message


@pytest.mark.parametrize(
    ("rate", "limit", "level"),
    [
        ("100000", "64mb", "error"),
        ("1", "48mb", "warning"),
        ("1", "256mb", "ok"),
        ("1", "0", "warning"),
    ],
)
def test_memory_has_to_suffice(
    place: Place, look: Look, own_redis: RedisServer, rate: str, limit: str, level: str
) -> None:
    environ = configured(own_redis, maxmemory=limit)
    if limit == "48mb":  # most of which somebody else uses
        with redis.Redis.from_url(own_redis.url) as client:
            for number in range(10):
                client.set(f"other-{number}", b"x" * 2_000_000)
    more = f"    predictions_per_second: {rate}\n    windows: [5m]\n"
    found = look({place.asked: ""}, place.dead, environ=environ, more=more)
    told = of(found, "redis_memory")
    assert told.level == level, told
    assert "as declared" in of(found, "memory_needed").message


def test_the_rate_is_seen_where_none_is_declared(place: Place, send: Send, look: Look) -> None:
    place.make_asked(1, log_append_time=False)
    sent = [(k, v, {"timestamp_ms": NOW + n * 100}) for n, (k, v) in enumerate(predictions())]
    send(place.asked, sent)
    found = look({place.asked: ""}, place.dead)
    assert (
        "10.26 predictions a second (as recent records come)" in of(found, "memory_needed").message
    )
    assert "predictions_per_second" not in "".join(each.message for each in found)


def test_without_any_rate_memory_is_not_claimed_to_be_known(place: Place, look: Look) -> None:
    found = look({place.asked: ""}, place.dead)
    assert any(
        each.check == "settings" and "predictions_per_second" in each.message for each in found
    )
    assert "memory_needed" not in {each.check for each in found}


@pytest.mark.parametrize(
    ("version", "level"), [("6.2.14", "error"), ("7.0.0", "ok"), ("8.2.1", "ok"), ("10.0.0", "ok")]
)
def test_a_redis_must_not_be_too_old(version: str, level: str) -> None:
    assert live_store._version({"redis_version": version}, "Redis").level == level


# --- what cannot be reached -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "check", "expected"),
    [
        ("ABMONITOR_KAFKA", "127.0.0.1:1,127.0.0.1:2", "kafka", "127.0.0.1:2: Connection refused"),
        ("ABMONITOR_KAFKA", "", "kafka", "ABMONITOR_KAFKA is not set"),
        ("ABMONITOR_KAFKA", "s3cret", "kafka", "expected host:port"),
        ("ABMONITOR_REDIS", "redis://:s3cret@127.0.0.1:1/0", "redis", "cannot be used"),
        ("ABMONITOR_REDIS", "", "redis", "ABMONITOR_REDIS is not set"),
        ("ABMONITOR_REDIS", "s3cret", "redis", "is not understood: expected"),
        (
            "ABMONITOR_REDIS",
            "redis://s3cret@127.0.0.1:s3cret/",
            "redis",
            "is not understood: expected",
        ),
    ],
)
def test_what_cannot_be_reached_is_a_finding(
    place: Place, look: Look, name: str, value: str, check: str, expected: str
) -> None:
    found = look({place.asked: ""}, place.dead, environ={name: value})
    told = of(found, check)
    assert told.level == "error"
    assert expected in told.message
    assert "s3cret" not in "".join(each.message for each in found)
    other = "redis_version" if check == "kafka" else "dead_letter_topic"
    assert of(found, other).level == "ok"


def test_a_kafka_that_does_not_answer_is_a_finding(own_kafka: KafkaServer, look: Look) -> None:
    own_kafka.suspend()
    found = look({"asked": ""}, "dead", environ={"ABMONITOR_KAFKA": own_kafka.servers})
    assert of(found, "kafka").level == "error"
    assert own_kafka.servers in of(found, "kafka").message


# --- the command ----------------------------------------------------------------------------------


def test_the_command_ends_with_1_where_something_must_be_mended(
    place: Place,
    send: Send,
    tmp_path: Any,
    kafka_servers: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ABMONITOR_KAFKA", kafka_servers)
    monkeypatch.setenv("ABMONITOR_REDIS", redis_url)
    path = tmp_path / "settings.yaml"
    path.write_text(
        "experiments:\n"
        "  - {name: offers, control: old, variants: {old: 1, new: 1}, labels: {horizon: 1h}}\n"
        f"kafka: {{dead_letters: {place.dead}}}  # TODO: one of our own?\n"
        f"sources: {{{place.asked}: {{}}, {place.answered}: {{}}}}\n"
    )
    failed = CliRunner().invoke(app, ["check", "--live", "-c", str(path), "--json"])
    assert failed.exit_code == 1
    document = json.loads(failed.stdout)
    assert not document["ok"]
    assert {each["check"] for each in document["findings"]} >= {"topic_exists", "todo"}
    assert "offers" in document["experiments"]

    place.make()
    send(place.asked, predictions())
    send(place.answered, outcomes())
    done = CliRunner().invoke(app, ["check", "--live", "-c", str(path), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["ok"]
    shown = CliRunner().invoke(app, ["check", "--live", "-c", str(path)])
    assert shown.exit_code == 0
    assert "0 errors" in shown.stdout
    assert "…" not in shown.stdout


# --- numbers for people ---------------------------------------------------------------------------


def test_a_share_is_never_rounded_to_all_or_nothing() -> None:
    assert share(1, 10_000) == "1 of 10,000 (<0.1 %)"
    assert share(9_999, 10_000) == "9,999 of 10,000 (>99.9 %)"
    assert share(0, 10) == "0 of 10 (0.0 %)"
    assert share(10, 10) == "10 of 10 (100.0 %)"


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0, "0s"), (1_234, "1s234ms"), (61_234, "1m1s"), (-5_000, "-5s"), (3_661_000, "1h1m")],
)
def test_spans_leave_out_what_does_not_matter(milliseconds: int, expected: str) -> None:
    assert span(milliseconds) == expected


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([1, 2, 3, 4], 0.5) == 2
    assert quantile(list(range(1, 101)), 0.99) == 99
    assert quantile([7], 0.99) == 7
