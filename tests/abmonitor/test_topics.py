import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support.topics import Topics
from typer.testing import CliRunner

from abmonitor.cli import topics as command
from abmonitor.operate import topics as planning
from abmonitor.operate.admin import KafkaAdmin
from abmonitor.operate.topics import FoundTopic, Plan
from abmonitor.settings import Settings, load
from metrics.duration import Duration
from stream.brokers import Brokers


Write = Callable[..., Path]

SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 1, new: 1}
    labels: {horizon: HORIZON}
sources: {PREDICTIONS: {type: prediction}, OUTCOMES: {type: outcome}}
kafka: {dead_letters: LETTERS, control: CONTROL}
"""

GOOD = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
}
COMPACTED = {"cleanup.policy": "compact", "max.message.bytes": "2097152"}
ROOMY = {**GOOD, "max.message.bytes": "2097152"}


def settings(write: Write, horizon: str = "1h", **names: str) -> Settings:
    return load(write(text(horizon, **names)))


def text(horizon: str = "1h", **names: str) -> str:
    usual = {"LETTERS": "letters", "CONTROL": "abmonitor.control"}
    given = {"PREDICTIONS": "predictions", "OUTCOMES": "outcomes", **usual, **names}
    found = SETTINGS.replace("HORIZON", horizon)
    for name, value in given.items():
        found = found.replace(name, value)
    return found


def found(*topics: tuple[str, int, dict[str, str]]) -> dict[str, FoundTopic]:
    return {name: FoundTopic(name, count, configs) for name, count, configs in topics}


def told(plan: Plan) -> list[tuple[str, bool]]:
    return [(problem.topic, problem.breaks) for problem in plan.problems]


def test_where_there_is_nothing_everything_is_created(write: Write) -> None:
    plan = planning.plan(settings(write), {})
    names = ["predictions", "outcomes", "letters", "abmonitor.control"]
    assert [topic.name for topic in plan.create] == names
    predictions, outcomes, letters, control = plan.create
    assert predictions.partitions == outcomes.partitions == 12
    assert predictions.configs == {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(7 * 86_400_000),
    }
    assert letters.partitions == 1
    assert letters.configs["max.message.bytes"] == "2097152"
    assert letters.configs["retention.ms"] == str(30 * 86_400_000)
    assert control.partitions == 1
    assert control.configs == COMPACTED
    assert (plan.problems, plan.broken) == ([], False)


def test_events_are_kept_for_twice_as_long_as_labels_take(write: Write) -> None:
    long = settings(write, "30d")
    needed = Duration.parse("30d") + Duration.parse("5m") + Duration.parse("1d10m")
    assert planning.needed_retention(long) == needed
    assert planning.usual_retention(long) == 2 * needed
    chosen = planning.plan(long, {}, retention=Duration.parse("14d"), partitions=3, replication=2)
    assert chosen.create[0].configs["retention.ms"] == str(14 * 86_400_000)
    assert (chosen.create[0].partitions, chosen.create[0].replication) == (3, 2)


def test_a_new_topic_gets_as_many_partitions_as_the_other_has(write: Write) -> None:
    plan = planning.plan(settings(write), found(("outcomes", 5, GOOD)))
    assert [(topic.name, topic.partitions) for topic in plan.create[:-2]] == [("predictions", 5)]
    assert not plan.broken


@pytest.mark.parametrize(
    ("present", "partitions"),
    [
        (found(("predictions", 3, GOOD), ("outcomes", 4, GOOD)), None),
        (found(("predictions", 3, GOOD)), 4),
    ],
)
def test_different_numbers_of_partitions_break_exactness(
    write: Write, present: dict[str, FoundTopic], partitions: int | None
) -> None:
    plan = planning.plan(settings(write), present, partitions=partitions)
    assert plan.broken
    assert "predictions has 3, outcomes has 4" in plan.problems[0].message
    assert [topic.name for topic in plan.create] == ["letters", "abmonitor.control"]


@pytest.mark.parametrize(
    ("config", "value", "breaks", "says"),
    [
        ("cleanup.policy", "compact", True, "compact"),
        ("cleanup.policy", "compact,delete", True, "compact"),
        ("message.timestamp.type", "CreateTime", False, "LogAppendTime"),
        ("retention.ms", "60000", False, "60000 (1m)"),
        ("retention.bytes", "1000", False, "retention.bytes"),
    ],
)
def test_an_event_topic_is_told_what_is_wrong_with_it(
    write: Write, config: str, value: str, breaks: bool, says: str
) -> None:
    bad = {**GOOD, config: value}
    present = found(("predictions", 2, GOOD), ("outcomes", 2, bad), ("letters", 1, ROOMY))
    plan = planning.plan(settings(write), present)
    assert told(plan) == [("outcomes", breaks)]
    assert says in plan.problems[0].message
    assert plan.broken is breaks


@pytest.mark.parametrize(
    ("config", "value", "breaks"),
    [("cleanup.policy", "compact", True), ("max.message.bytes", "1048588", False)],
)
def test_a_dead_letter_topic_is_told_what_is_wrong_with_it(
    write: Write, config: str, value: str, breaks: bool
) -> None:
    present = found(
        ("predictions", 2, GOOD), ("outcomes", 2, GOOD), ("letters", 3, {**ROOMY, config: value})
    )
    assert told(planning.plan(settings(write), present)) == [("letters", breaks)]


def test_unlimited_retention_is_no_problem(write: Write) -> None:
    present = found(("predictions", 2, {**GOOD, "retention.ms": "-1"}))
    assert planning.plan(settings(write), present).problems == []


def test_letters_have_room_for_the_largest_source(write: Write) -> None:
    large = {**GOOD, "max.message.bytes": str(10 << 20)}
    plan = planning.plan(settings(write), found(("predictions", 2, large)))
    (letters,) = (topic for topic in plan.create if topic.name == "letters")
    assert letters.configs["max.message.bytes"] == str(11 << 20)


@pytest.mark.parametrize(
    ("config", "value", "breaks"),
    [
        ("cleanup.policy", "delete", True),
        ("cleanup.policy", "compact,delete", True),
        ("max.message.bytes", "1048588", False),
    ],
)
def test_a_control_topic_is_told_what_is_wrong_with_it(
    write: Write, config: str, value: str, breaks: bool
) -> None:
    bad = found(("abmonitor.control", 1, {**COMPACTED, config: value}))
    plan = planning.plan(settings(write), bad)
    assert told(plan) == [("abmonitor.control", breaks)]
    assert planning.plan(settings(write), found(("abmonitor.control", 2, COMPACTED))).problems == []


def test_without_a_control_log_it_gets_no_topic(write: Write) -> None:
    plan = planning.plan(settings(write, CONTROL="null"), {})
    assert [topic.name for topic in plan.create] == ["predictions", "outcomes", "letters"]


@pytest.mark.parametrize(
    ("breach", "name"),
    [
        ("{action: kafka}", "abmonitor.decisions"),
        ("{action: kafka, kafka: {topic: orders}}", "orders"),
    ],
)
def test_a_topic_for_orders_is_made_where_an_experiment_uses_it(
    write: Write, breach: str, name: str
) -> None:
    assert planning.decision_topics(settings(write)) == []
    acting = text().replace("    labels", f"    on_breach: {breach}\n    labels")
    given = load(write(acting))
    (orders,) = (topic for topic in planning.plan(given, {}).create if topic.name == name)
    assert orders.partitions == 1
    assert orders.configs["cleanup.policy"] == "delete"
    assert name in planning.all_topics(given)
    assert told(planning.plan(given, found((name, 1, COMPACTED)))) == [(name, True)]


@pytest.fixture
def config(write: Write, kafka_topics: Topics) -> Path:
    names = {name.upper(): kafka_topics.name(name) for name in ("predictions", "outcomes")}
    names |= {name.upper(): kafka_topics.name(name) for name in ("letters", "control")}
    return write(text(**names))


def run(topics: Topics | str, *arguments: object) -> Any:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    servers = topics if isinstance(topics, str) else topics.servers
    given = ["topics", "create", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(app, given, env={"ABMONITOR_KAFKA": servers})


def test_the_command_creates_what_is_missing_once(config: Path, kafka_topics: Topics) -> None:
    dry = run(kafka_topics, "-c", config, "--dry-run", "--json")
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert len(json.loads(dry.stdout)["would_create"]) == 4
    first = run(kafka_topics, "-c", config, "--partitions", 2, "--retention", "10d", "--json")
    assert first.exit_code == 0
    names = [topic["topic"] for topic in json.loads(first.stdout)["created"]]
    kinds = ("predictions", "outcomes", "letters", "control")
    assert names == [kafka_topics.name(name) for name in kinds]
    with KafkaAdmin(Brokers((kafka_topics.servers,))) as admin:
        made = admin.find([*names, kafka_topics.name("other")])
    assert [made[name].partitions for name in names] == [2, 2, 1, 1]
    assert made[names[0]].configs["message.timestamp.type"] == "LogAppendTime"
    assert made[names[0]].number("retention.ms") == 10 * 86_400_000
    assert made[names[2]].number("max.message.bytes") == 2 << 20
    assert made[names[3]].configs["cleanup.policy"] == "compact"
    assert made[names[3]].number("max.message.bytes") == 2 << 20
    again = run(kafka_topics, "-c", config, "--json")
    assert again.exit_code == 0
    document = json.loads(again.stdout)
    assert (document["created"], document["exist"], document["problems"]) == ([], names, [])


def test_the_command_ends_with_1_where_counts_would_not_be_exact(
    config: Path, kafka_topics: Topics
) -> None:
    kafka_topics.create("predictions", 1)
    kafka_topics.create("outcomes", 2, log_append_time=False)
    done = run(kafka_topics, "-c", config)
    assert done.exit_code == 1
    assert "error: " in done.stderr
    assert "abmonitor rekey" in done.stderr
    assert "warning: " in done.stderr
    assert "letters" in done.stdout  # created all the same


def test_the_command_warns_of_a_retention_that_is_too_short(
    config: Path, kafka_topics: Topics
) -> None:
    done = run(kafka_topics, "-c", config, "--retention", "1m", "--dry-run")
    assert done.exit_code == 0
    assert "--retention 1m" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--retention", "soon"), 2, "--retention: expected a duration"),
        (("--replication", "9"), 1, "ReplicationFactor"),
    ],
)
def test_the_command_says_what_is_wrong(
    config: Path, kafka_topics: Topics, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = run(kafka_topics, "-c", config, *arguments)
    assert done.exit_code == status
    assert says in done.stderr


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # kafka-python's socket
def test_the_command_says_where_no_kafka_answers(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abmonitor.operate.admin.CONNECT_MS", 500)
    done = run("127.0.0.1:1", "-c", config)
    assert done.exit_code == 1
    assert "127.0.0.1:1" in done.stderr
    assert run("", "-c", config).exit_code == 2
