import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.topics import Topics
from support.views import settings_of
from typer.testing import CliRunner, Result

from abmonitor.cli.main import app
from abmonitor.init import first_settings
from abmonitor.init.sample import Sample, SampleError
from abmonitor.init.survey import Survey, surveyed
from abmonitor.settings import load
from metrics.duration import Duration
from metrics.experiment import MINUTE
from stream.arms import Run
from stream.simulate import Simulator
from stream.simulation import LabelDelay, Latency, Score, SimulatedExperiment, Simulation, Truth
from stream.sources import FieldOptions


Record = dict[str, Any]
Init = Callable[..., Result]


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Init:
    """A function that runs a command in a folder of its own."""
    monkeypatch.delenv("ABMONITOR_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, command: str = "init") -> Result:
        result = CliRunner().invoke(app, [command, *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def written(path: Path, records: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# --- without samples ------------------------------------------------------------------------------


def test_without_samples_a_commented_file_is_begun(init: Init, tmp_path: Path) -> None:
    assert init().exit_code == 0
    text = (tmp_path / "abmonitor.yaml").read_text()
    settings = load(tmp_path / "abmonitor.yaml")
    assert [each.name for each in settings.experiments] == ["my-experiment"]
    assert not settings.sources
    assert text.count("TODO") > 8
    for word in ("horizon", "profitability", "control", "margin", "ROLLBACK_URL"):
        assert word in text


def test_a_file_is_not_overwritten_unless_that_is_wanted(init: Init, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    refused = init("-o", path)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert path.read_text() == "mine"
    assert init("-o", path, "--force").exit_code == 0
    assert load(path).experiments


def test_a_file_that_cannot_be_written_is_told(init: Init, tmp_path: Path) -> None:
    result = init("-o", tmp_path / "no" / "such" / "folder.yaml")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_check_lists_what_is_left_to_do_until_it_is_done(init: Init, tmp_path: Path) -> None:
    init()
    path = tmp_path / "abmonitor.yaml"
    document = json.loads(init("-c", path, "--json", command="check").stdout)
    assert len(document["todos"]) > 8
    assert any(
        each.endswith(
            "TODO: which predictions get an outcome: all, acted (those acted on), or explored (those,"
            " and some others at random with a weight)"
        )
        for each in document["todos"]
    )
    assert "TODO: the variant that is there already" in init("-c", path, command="check").stdout
    path.write_text(path.read_text().replace("TODO", "done"))
    assert json.loads(init("-c", path, "--json", command="check").stdout)["todos"] == []


# --- round trips ----------------------------------------------------------------------------------


SIMULATED = Simulation(
    experiments=(
        SimulatedExperiment(
            name="offers",
            variants={
                name: Truth(
                    tpr=tpr,
                    fpr=0.2,
                    weight=weight,
                    error_rate=0.03,
                    latency=Latency(median_ms=40),
                    label_delay=LabelDelay(median=Duration(MINUTE)),
                    missing=0.1,
                    late=0.02,
                    duplicates=0.01,
                    score=Score(threshold=0.4),
                )
                for name, tpr, weight in (("rules-v1", 0.7, 3), ("ranker-v2", 0.8, 1))
            },
            prevalence=0.3,
            horizon=Duration(10 * MINUTE),
            predictions_per_unit=3,
        ),
    )
)


@pytest.fixture(scope="module")
def events() -> list[Record]:
    simulator = Simulator(SIMULATED, Run(3_000, 7, 1_767_225_600_000, 10.0))
    return [json.loads(line) for line in b"".join(simulator.blocks()).splitlines()]


def rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")


def nested(event: Record) -> Record:
    """Other names, nested, in seconds, with words for truth."""
    if event["type"] == "outcome":
        return {
            "order": {"request_id": event["prediction_id"]},
            "state": "paid" if event["actual"] else "expired",
            "updated_at": rfc3339(event["time"]),
        }
    failed = event.get("error", False)
    return {
        "request": {"uuid": event["prediction_id"], "at": event["time"] / 1000},
        "test_name": event["experiment"],
        "model": {"name": event["variant"], "features": [1, 2]},
        "customer_id": int(event["unit_id"][1:]),
        "timing": {"seconds": event["latency_ms"] / 1000},
        "status": "timeout" if failed else "ok",
        "result": {"decision": None if failed else "send" if event["predicted"] else "hold"},
        "result_proba": event.get("score"),
    }


def camel(event: Record) -> Record:
    """Camel case, microseconds, and numbers for truth; no time in outcomes but epoch seconds."""
    if event["type"] == "outcome":
        return {
            "eventId": f"x-{event['prediction_id']}-{event['time']}",
            "requestId": event["prediction_id"],
            "converted": int(event["actual"]),
            "ts": event["time"] * 1000,
        }
    failed = event.get("error", False)
    return {
        "requestId": event["prediction_id"],
        "experimentName": event["experiment"],
        "armName": event["variant"],
        "userId": event["unit_id"],
        "latencyUs": event["latency_ms"] * 1000,
        "httpStatus": 503 if failed else 200,
        "offered": None,
        "isPositive": None if failed else event["predicted"],
        "probability": event.get("score"),
        "ts": event["time"] * 1000,
    }


def misleading(event: Record) -> Record:
    """Our own names with other meanings."""
    if event["type"] == "outcome":
        return {
            "id": event["prediction_id"],
            "label": "Y" if event["actual"] else "N",
            "timestamp": event["time"],
            "value": ["none"],
        }
    failed = event.get("error", False)
    return {
        "id": event["prediction_id"],
        "test": event["experiment"],
        "bucket": event["variant"],
        "approved": None if failed else event["predicted"],
        "failed": failed,
        "timestamp": event["time"],
        "took_ms": event["latency_ms"],
        "weight": 0,
        "score": 730.5,
        "cost": "none",
        "error": None if not failed else "java.lang.Exception",
    }


def cloud_event(event: Record) -> Record:
    """The same as CloudEvents in structured mode, with ids and times on the envelope."""
    inside = nested(event)
    inside.pop("updated_at", None)
    inside.pop("request", None)
    return {
        "specversion": "1.0",
        "type": "com.example.scored",
        "source": "/scoring",
        "id": event["prediction_id"],
        "time": rfc3339(event["time"]),
        "data": inside | ({"ref": event["prediction_id"]} if event["type"] == "outcome" else {}),
    }


COMPARED = ("counts", "mature_counts", "predictions", "errors", "unlabelled")


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    """What two replays of the same events have in common; sums of latencies to a rounding."""
    variants = document["experiments"]["offers"]["variants"]
    found = {name: {key: each[key] for key in COMPARED} for name, each in variants.items()}
    for name, each in variants.items():
        found[name]["mean"] = pytest.approx(each["latency_ms"]["mean"], abs=0.05)
    return {"events": document["events"], "variants": found}


@pytest.mark.parametrize("shape", [nested, camel, misleading, cloud_event])
def test_a_replay_with_guessed_settings_counts_the_same(
    init: Init, tmp_path: Path, events: list[Record], shape: Callable[[Record], Record]
) -> None:
    own = tmp_path / "own.ndjson"
    written(own, events)
    for kind in ("prediction", "outcome"):
        shaped = [shape(event) for event in events if event["type"] == kind]
        written(tmp_path / f"shaped-{kind}s.ndjson", shaped)
    names = ["shaped-predictions.ndjson", "shaped-outcomes.ndjson"]
    begun = init("--from", names[1], "--from", names[0])
    assert begun.exit_code == 0, begun.stderr
    assert "outcomes met their prediction" in begun.stderr
    path = tmp_path / "abmonitor.yaml"
    text = path.read_text()
    assert "request_id: request.uuid" not in text
    # What only a person can know.
    text = text.replace("horizon: 30m", "horizon: 10m").replace("grace: 5m", "grace: 1m")
    path.write_text(text)
    sources = load(path).sources
    plain = text[: text.index("\nsources:")] + "\n"
    (tmp_path / "plain.yaml").write_text(plain)
    files = [f"{topic}={topic}.ndjson" for topic in sources]
    assert len(files) == 2
    first = init(own, "-c", "plain.yaml", "--json", command="replay")
    again = init(*files, "-c", path, "--json", command="replay")
    assert again.exit_code == 0, again.stderr
    expected = told(json.loads(first.stdout))
    assert expected["events"]["late"] > 0
    assert expected["events"]["duplicate"] > 0
    assert told(json.loads(again.stdout)) == expected


def test_events_as_they_are_need_no_mapping(
    init: Init, tmp_path: Path, events: list[Record]
) -> None:
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, events)).encode()))
    result = init("--from", path)
    assert "events as they are" in result.stderr
    settings = load(tmp_path / "abmonitor.yaml")
    assert {name: source.fields for name, source in settings.sources.items()} == {"events": {}}
    assert settings.sources["events"].type is None
    (experiment,) = settings.experiments
    assert experiment.name == "offers"
    assert experiment.control == "rules-v1"
    assert experiment.randomised_by == "unit"
    assert experiment.variants == pytest.approx({"rules-v1": 0.75, "ranker-v2": 0.25}, abs=0.03)
    assert experiment.predictions_per_second == pytest.approx(10, rel=0.01)
    text = (tmp_path / "abmonitor.yaml").read_text()
    assert "(p50)" in text
    assert "(p99)" in text


# --- what fields are ------------------------------------------------------------------------------


AT = 1_767_225_600


def sample(records: Iterable[Record], name: str = "sample") -> Sample:
    rows = tuple(records)
    values = tuple(json.dumps(row).encode() for row in rows)
    none: tuple[dict[str, bytes], ...] = ({},) * len(rows)
    return Sample(name, name, values, none, none, rows, 0)


def asked(**more: Callable[[int], object]) -> list[Record]:
    """Predictions in which everything but `more` is clear."""
    return [
        {"request_id": f"r{n}", "variant": "ab"[n % 2], "predicted": n % 3 == 0}
        | {name: value(n) for name, value in more.items()}
        for n in range(60)
    ]


def fields_of(records: Iterable[Record], name: str = "sample") -> dict[str, str | FieldOptions]:
    (source,) = surveyed([sample(records, name)]).sources
    text = first_settings.text(Survey(sources=[source]))
    return settings_of(text).sources[name].fields


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("latency_ms", 12, "ms"),
        ("duration_s", 12, "s"),
        ("elapsedMillis", 12, "ms"),
        ("took_us", 12, "us"),
        ("latency", 0.012, "s"),
        ("latency", 12, "ms"),
        ("latency", 120_000, "us"),
        ("time_ms", 12, "ms"),
    ],
)
def test_units_of_latency_are_told_by_name_or_size(name: str, value: float, unit: Any) -> None:
    fields = fields_of(asked(**{name: lambda n: value * (1 + n % 7 / 10)}))
    if name == "latency_ms":  # it is ours
        assert "latency_ms" not in fields
    else:
        assert fields["latency_ms"] == FieldOptions(path=name, unit=unit)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(AT, "s"), (AT + 0.25, "s"), (AT * 1000, "ms"), (AT * 1_000_000, "us"), (rfc3339(AT), None)],
)
def test_times_are_told_by_their_size(value: Any, unit: Any) -> None:
    step = lambda n: value if isinstance(value, str) else value + n  # noqa: E731
    fields = fields_of(asked(happened=step))
    expected: str | FieldOptions = "happened"
    if unit is not None:
        expected = FieldOptions(path="happened", unit=unit)
    assert fields["time"] == expected


@pytest.mark.parametrize("value", ["2026-01-01 00:00:00", "2026-01-01T00:00:00", "yesterday", 17])
def test_what_is_no_time_is_not_taken_for_one(value: object) -> None:
    fields = fields_of(asked(time=lambda _: value))
    assert fields.get("time", "not.used") == "not.used"


@pytest.mark.parametrize(
    ("yes", "no", "expected", "doubtful"),
    [
        ("send", "hold", ("send",), False),
        ("YES", "NO", ("YES",), False),
        (1, 0, (1,), False),
        ("grün", "none", ("grün",), True),
        ("x", "y2", ("x",), True),
    ],
)
def test_words_for_truth_are_found_or_asked_for(
    yes: object, no: object, expected: Any, doubtful: bool
) -> None:
    records = [each | {"predicted": yes if each["predicted"] else no} for each in asked()]
    assert fields_of(records)["predicted"] == FieldOptions(path="predicted", true_when=expected)
    text = first_settings.text(surveyed([sample(records)]))
    assert ("which values mean true?" in text) == doubtful


def test_ids_are_what_both_have_in_common() -> None:
    scored = [each | {"id": f"s{n}", "ref": f"o{n}"} for n, each in enumerate(asked())]
    for each in scored:
        del each["request_id"]
    orders = [{"id": f"x{n}", "order": f"o{n}", "converted": n % 2 == 0} for n in range(40)]
    survey = surveyed([sample(scored, "scored"), sample(orders, "orders")])
    found = {each.kind: each.guesses["prediction_id"].column.place for each in survey.sources}
    assert found == {"prediction": "ref", "outcome": "order"}
    assert (survey.outcomes, survey.met) == (40, 40)


def test_ids_that_do_not_meet_are_told() -> None:
    orders = [{"request_id": f"x{n}", "converted": n % 2 == 0} for n in range(40)]
    text = first_settings.text(surveyed([sample(asked(), "scored"), sample(orders, "orders")]))
    assert "Of 40 outcomes in the samples 0 met their prediction" in text
    assert "TODO: none did" in text


def test_outcomes_of_what_was_acted_on_are_noticed() -> None:
    predictions = asked(time=lambda n: AT * 1000 + n)
    orders = [
        {"request_id": each["request_id"], "converted": False, "time": AT * 1000 + 60_000}
        for each in predictions
        if each["predicted"]
    ]
    text = first_settings.text(surveyed([sample(predictions, "scored"), sample(orders, "orders")]))
    assert settings_of(text).experiments[0].labels.observed == "acted"


def test_what_no_field_says_is_a_placeholder_that_is_marked(tmp_path: Path) -> None:
    records = [{"request_id": f"r{n}", "predicted": n % 2 == 0, "n": n} for n in range(30)]
    text = first_settings.text(surveyed([sample(records, "scoring")]))
    fields = settings_of(text).sources["scoring"].fields
    assert fields["experiment"] == FieldOptions(constant="my-experiment")
    assert fields["variant"] == FieldOptions(constant="control")
    assert "experiment: {constant: my-experiment}  # TODO" in text
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert {each.name for each in load(path).experiments} == {"my-experiment"}


def test_a_decision_that_is_missing_is_asked_for() -> None:
    records = asked(latency_ms=lambda n: n + 1)
    for each in records:
        del each["predicted"]
    text = first_settings.text(surveyed([sample(records)]))
    assert "# TODO: no field looks like it: predicted: a.path" in text
    assert settings_of(text).sources


@pytest.mark.parametrize(
    "name", ["yes", "-", "0x1f", "null", "a:b", "a b", "grün", "{", "# x", "'"]
)
def test_names_are_written_so_that_they_are_read_back(name: str) -> None:
    records = [each | {name: {"decision": each.pop("predicted")}} for each in asked()]
    assert fields_of(records)["predicted"] == f"{name}.decision"


@pytest.mark.parametrize("name", ["1.0", ".", "\x1b[2J", 'a"b', "a\\b", ""])
def test_names_that_no_path_can_have_are_left_out(name: str) -> None:
    records = [each | {name: {"decision": each["predicted"]}} for each in asked()]
    assert "predicted" not in fields_of(records)  # it is found under its own name


# --- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "there are no records"),
        (b"\n\n  \n", "there are no records"),
        (b"\x00\x01\x02\xff" * 100, "is not text"),
        (b"PAR1\x15\x04\x15", "is not text"),
        (b"id,variant,score\n1,a,0.5\n2,b,0.25\n", "looks like CSV"),
        (b"id;variant\n1;a\n", "looks like CSV"),
        (b'[{"id": 1},\n{"id": 2}]\n', "JSON array"),
        (b'{\n  "id": 1\n}\n', "several lines"),
        (b"hello\n", "no JSON objects, such as 'hello'"),
        (b"1\n2\n", "no JSON objects"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (b'{"a": 1}\n', "neither a decision nor a truth"),
        (b"[" * 5_000, "JSON"),
    ],
)
def test_odd_samples_are_refused_with_what_was_expected(
    init: Init, tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    result = init("--from", path)
    assert result.exit_code == 1
    assert expected in result.stderr
    assert str(path) in result.stderr
    assert not (tmp_path / "abmonitor.yaml").exists()


def test_a_file_that_is_not_there_is_wrong_usage(init: Init, tmp_path: Path) -> None:
    assert init("--from", tmp_path / "nothing").exit_code == 2
    assert init("--from", tmp_path).exit_code == 2


def test_one_record_is_enough_to_begin_with(init: Init, tmp_path: Path) -> None:
    one = {"request_id": "r", "variant": "a", "predicted": True, "latency": 0.1}
    assert init("--from", written(tmp_path / "one", [one])).exit_code == 0
    assert load(tmp_path / "abmonitor.yaml").experiments[0].variants.keys() == {"a", "candidate"}


def test_some_broken_lines_are_left_out_and_told(init: Init, tmp_path: Path) -> None:
    path = written(tmp_path / "some", asked())
    path.write_bytes(path.read_bytes() + b"{\nnull\n")
    result = init("--from", path)
    assert result.exit_code == 0
    assert "left out, because they are no JSON objects: 2" in result.stderr


def test_both_kinds_in_one_file_cannot_be_mapped(init: Init, tmp_path: Path) -> None:
    both = [*asked(), *({"request_id": f"r{n}", "converted": True} for n in range(60))]
    result = init("--from", written(tmp_path / "both", both))
    assert result.exit_code == 1
    assert "predictions and outcomes in one" in result.stderr


def test_files_of_one_name_get_names_of_their_own(init: Init, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder / "scored.ndjson", asked())
    init("--from", "one/scored.ndjson", "--from", "other/scored.ndjson")
    assert list(load(tmp_path / "abmonitor.yaml").sources) == ["scored", "scored-2"]


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(
        ["send", "none", "v1", "v2", 0, 1, 0.5, AT, AT * 1000, "2026-01-01T00:00:00Z"]
    )
)
_NAMES = st.sampled_from(
    ["id", "variant", "predicted", "actual", "time", "latency", "status", "score", "experiment"]
) | st.text(max_size=4)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=4,
)
_ROWS = st.lists(st.dictionaries(_NAMES, _VALUES, max_size=5), min_size=1, max_size=6)


@hypothesis_settings(max_examples=150)
@given(samples=st.lists(_ROWS, min_size=1, max_size=2))
def test_whatever_records_are_the_file_loads(samples: list[list[Record]]) -> None:
    try:
        survey = surveyed([sample(rows) for rows in samples])
    except SampleError:
        return
    settings = settings_of(first_settings.text(survey))
    assert len(settings.sources) == len(samples)


# --- Kafka ----------------------------------------------------------------------------------------


@pytest.fixture
def sent(kafka_topics: Topics, kafka_servers: str) -> Iterator[Callable[..., str]]:
    """A function that makes a topic with records, and gives its name."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka_servers)

    def to(name: str, records: Iterable[tuple[bytes | None, list[tuple[str, bytes]]]]) -> str:
        topic = kafka_topics.create(name, 2)
        for value, headers in records:
            producer.send(topic, value=value, key=b"k", headers=headers)
        producer.flush()
        return topic

    yield to
    producer.close()


def test_topics_are_samples_too(
    init: Init,
    tmp_path: Path,
    sent: Callable[..., str],
    kafka_servers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ABMONITOR_KAFKA", kafka_servers)
    binary = [("ce_specversion", b"1.0"), ("ce_source", b"/s"), ("ce_type", b"scored")]
    predictions = [
        (
            json.dumps({"model": "ab"[n % 2], "decision": "offer" if n % 3 else "none"}).encode(),
            [*binary, ("ce_id", f"r{n}".encode()), ("ce_time", rfc3339(AT * 1000 + n).encode())],
        )
        for n in range(60)
    ]
    outcomes: list[Any] = [
        (json.dumps({"request": f"r{n}", "converted": n % 2 == 0}).encode(), []) for n in range(60)
    ]
    scored = sent("scored", [*predictions, (None, [])])
    orders = sent("orders", outcomes)
    result = init("--from", f"kafka:{scored}", "--from", f"kafka:{orders}")
    assert result.exit_code == 0, result.stderr
    assert "60 of 60 outcomes met" in result.stderr
    sources = load(tmp_path / "abmonitor.yaml").sources
    assert sources[scored].fields["prediction_id"] == FieldOptions(header="ce_id")
    assert sources[scored].fields["predicted"] == FieldOptions(
        path="decision", true_when=("offer",)
    )
    assert sources[orders].fields["prediction_id"] == "request"


def test_a_topic_that_cannot_be_read_is_told(
    init: Init,
    sent: Callable[..., str],
    kafka_topics: Topics,
    kafka_servers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ABMONITOR_KAFKA", kafka_servers)
    missing = init("--from", f"kafka:{kafka_topics.name('missing')}")
    assert (missing.exit_code, "no such topic" in missing.stderr) == (1, True)
    empty = init("--from", f"kafka:{sent('empty', [])}")
    assert (empty.exit_code, "there are no records" in empty.stderr) == (1, True)
    monkeypatch.setenv("ABMONITOR_KAFKA", "127.0.0.1:1")
    down = init("--from", "kafka:any")
    assert (down.exit_code, "Connection refused" in down.stderr) == (1, True)
    monkeypatch.delenv("ABMONITOR_KAFKA")
    unset = init("--from", "kafka:any")
    assert (unset.exit_code, "ABMONITOR_KAFKA is not set" in unset.stderr) == (2, True)


def test_settings_may_say_how_to_get_to_a_topic(
    init: Init,
    tmp_path: Path,
    sent: Callable[..., str],
    kafka_servers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ABMONITOR_KAFKA", raising=False)
    monkeypatch.setenv("OUR_KAFKA", kafka_servers)
    assert init("-o", "first.yaml").exit_code == 0
    with (tmp_path / "first.yaml").open("a") as file:
        file.write("kafka: {servers: {env: OUR_KAFKA}}\n")
    topic = sent("scored", [(json.dumps(each).encode(), []) for each in asked()])
    result = init("--from", f"kafka:{topic}", "-c", "first.yaml")
    assert result.exit_code == 0, result.stderr
    assert load(tmp_path / "abmonitor.yaml").sources[topic].type == "prediction"
