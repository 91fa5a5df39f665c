import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.batch import Headers
from stream.events import Event, Outcome, Prediction, Rejected
from stream.sources import Decoder, FieldOptions, Kind, SourceOptions


TOPIC = "orders"


def decoded(
    record: object,
    fields: Mapping[str, str | FieldOptions],
    kind: Kind = "prediction",
    headers: Headers | None = None,
) -> Event:
    options = SourceOptions(type=kind, fields=dict(fields))
    assert not options.problems()
    value = record if isinstance(record, bytes) else json.dumps(record).encode()
    given_headers = None if headers is None else [headers]
    (event,) = Decoder({TOPIC: options}).decode(TOPIC, [value], given_headers)
    return event


FLAT: dict[str, Any] = {
    "prediction_id": "p",
    "experiment": "e",
    "variant": "v",
    "predicted": True,
}
NAMED: dict[str, str | FieldOptions] = {
    "experiment": FieldOptions(constant="e"),
    "variant": "model",
}


# --- where fields are -----------------------------------------------------------------------------


def test_a_cloud_event_is_a_prediction_when_its_data_is_mapped() -> None:
    record = {
        "specversion": "1.0",
        "id": "A234-1234-1234",
        "source": "/scoring",
        "type": "com.example.scored",
        "time": "2023-11-14T22:13:20Z",
        "datacontenttype": "application/json",
        "data": {
            "model": {"name": "ranker-v2", "version": "7"},
            "decision": "offer",
            "timing": {"seconds": 0.0125},
            "customer": 4711,
        },
    }
    event = decoded(
        record,
        {
            "prediction_id": "id",
            "experiment": FieldOptions(constant="offers"),
            "variant": "data.model.name",
            "version": "data.model.version",
            "predicted": FieldOptions(path="data.decision", true_when=("offer", "upsell")),
            "latency_ms": FieldOptions(path="data.timing.seconds", unit="s"),
            "unit_id": "data.customer",
        },
    )
    assert isinstance(event, Prediction)
    assert (event.prediction_id, event.experiment, event.variant) == (
        "A234-1234-1234",
        "offers",
        "ranker-v2",
    )
    assert (event.version, event.predicted, event.unit_id) == ("7", True, "4711")
    assert event.latency_ms == pytest.approx(12.5)
    assert str(event.time) == "2023-11-14 22:13:20+00:00"


def test_fields_that_are_not_mapped_are_read_under_their_own_name() -> None:
    event = decoded(FLAT | {"who": "v2", "score": 0.5}, {"variant": "who"})
    assert event == Prediction("p", "e", "v2", predicted=True, score=0.5)


def test_the_type_of_a_mapped_topic_is_declared_not_read() -> None:
    event = decoded(
        {"type": "prediction", "order": "p", "paid": True},
        {"prediction_id": "order", "actual": "paid"},
        "outcome",
    )
    assert event == Outcome("p", actual=True)


def test_a_topic_with_a_type_needs_no_mapping() -> None:
    decoder = Decoder({TOPIC: SourceOptions(type="prediction")})
    (event,) = decoder.decode(TOPIC, [json.dumps(FLAT | {"type": "prediction"}).encode()])
    assert event == Prediction("p", "e", "v", predicted=True)


@pytest.mark.parametrize("name", ["a-b", "a b", "ü", "class", "0", "f_61", "__class__", "$id"])
def test_names_in_records_need_not_be_identifiers(name: str) -> None:
    record = FLAT | {name: {name: "v2"}}
    event = decoded(record, {"variant": f"{name}.{name}"})
    assert isinstance(event, Prediction)
    assert event.variant == "v2"


def test_two_fields_may_come_from_one_place() -> None:
    event = decoded(FLAT | {"x": {"a": "1"}}, {"variant": "x.a", "version": "x.a"})
    assert isinstance(event, Prediction)
    assert (event.variant, event.version) == ("1", "1")


@pytest.mark.parametrize(
    "x",
    [{}, {"x": None}, {"x": {}}, {"x": {"y": None}}, {"x": {"y": {}}}, {"x": {"y": {"z": None}}}],
)
def test_what_has_no_parent_is_absent(x: dict[str, Any]) -> None:
    event = decoded(FLAT | x, {"score": "x.y.z"})
    assert event == Prediction("p", "e", "v", predicted=True)


@pytest.mark.parametrize("x", [{"x": 1}, {"x": "text"}, {"x": [1]}, {"x": {"y": True}}])
def test_a_parent_that_is_no_object_is_the_wrong_type(x: dict[str, Any]) -> None:
    event = decoded(FLAT | x, {"score": "x.y.z"})
    assert isinstance(event, Rejected)
    assert event.reason == "wrong_type"


def test_a_missing_required_field_is_named() -> None:
    event = decoded({"prediction_id": "p"}, NAMED | {"predicted": FieldOptions(constant=True)})
    assert isinstance(event, Rejected)
    assert event.reason == "missing_field"
    assert "variant" in event.detail


# --- headers and constants ------------------------------------------------------------------------


def test_headers_give_fields() -> None:
    event = decoded(
        {"predicted": True},
        {
            "prediction_id": FieldOptions(header="x-request-id"),
            "experiment": FieldOptions(constant="e"),
            "variant": FieldOptions(header="x-model"),
            "latency_ms": FieldOptions(header="x-us", unit="us"),
            "score": FieldOptions(header="x-score"),
            "acted": FieldOptions(header="x-acted"),
            "time": FieldOptions(header="x-time"),
        },
        headers={
            "x-request-id": b"p",
            "x-model": b"v2",
            "x-us": b"12500",
            "x-score": b"0.5",
            "x-acted": b"false",
            "x-time": b"1700000000000",
        },
    )
    assert event == Prediction(
        "p",
        "e",
        "v2",
        predicted=True,
        latency_ms=12.5,
        score=0.5,
        acted=False,
        time=1_700_000_000_000,
    )


def test_a_header_that_is_not_there_leaves_its_field_absent() -> None:
    fields: dict[str, str | FieldOptions] = {"score": FieldOptions(header="x-score")}
    for headers in ({}, {"other": b"1"}, None):
        assert decoded(FLAT, fields, headers=headers) == Prediction("p", "e", "v", predicted=True)


@pytest.mark.parametrize("text", [b"\xff", b"a lot", b"nan", b"inf", b"-inf", b"1e999", b""])
@pytest.mark.parametrize("unit", [None, "s"])
@pytest.mark.parametrize("name", ["latency_ms", "time"])
def test_a_header_that_is_no_number_is_rejected_for_what_it_says(
    text: bytes, unit: Any, name: str
) -> None:
    event = decoded(FLAT, {name: FieldOptions(header="x", unit=unit)}, headers={"x": text})
    assert isinstance(event, Rejected)
    assert (
        event.reason == "not_utf8"
        if text == b"\xff"
        else event.reason in {"wrong_type", "out_of_range"}
    )


def test_each_record_is_read_with_its_own_headers() -> None:
    options = SourceOptions(type="prediction", fields={"variant": FieldOptions(header="m")})
    decoder, value = Decoder({TOPIC: options}), json.dumps(FLAT).encode()
    events = decoder.decode(TOPIC, [value, value], [{"m": b"a"}, {"m": b"b"}])
    assert [event.variant for event in events if isinstance(event, Prediction)] == ["a", "b"]


@pytest.mark.parametrize("constant", [False, 0, 0.0])
def test_a_constant_may_be_nothing(constant: bool | float) -> None:
    event = decoded(FLAT, {"cost": FieldOptions(constant=float(constant))})
    assert isinstance(event, Prediction)
    assert event.cost == 0


# --- what values mean -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "given", "expected"),
    [("us", 1500, 1.5), ("ms", 1500, 1500), ("s", 1.5, 1500), ("s", 0, 0), (None, 2, 2)],
)
def test_latency_may_come_in_other_units(unit: Any, given: float, expected: float) -> None:
    event = decoded(FLAT | {"took": given}, {"latency_ms": FieldOptions(path="took", unit=unit)})
    assert isinstance(event, Prediction)
    assert event.latency_ms == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "given"),
    [("us", 1_700_000_000_123_000), ("ms", 1_700_000_000_123), ("s", 1_700_000_000.123)],
)
def test_time_may_come_in_other_units(unit: Any, given: float) -> None:
    event = decoded(FLAT | {"at": given}, {"time": FieldOptions(path="at", unit=unit)})
    assert isinstance(event, Prediction)
    assert event.time == pytest.approx(1_700_000_000_123, abs=0.5)


@pytest.mark.parametrize("given", [True, "soon", [1], {"a": 1}])
def test_what_has_a_unit_must_be_a_number(given: object) -> None:
    event = decoded(FLAT | {"took": given}, {"latency_ms": FieldOptions(path="took", unit="s")})
    assert isinstance(event, Rejected)
    assert event.reason == "wrong_type"
    assert "latency_ms" in event.detail


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("accepted", True),
        ("refused", False),
        ("Accepted", False),
        (1, True),
        (True, False),
        ("1", False),
        (2, False),
        (["accepted"], False),
    ],
)
def test_only_the_declared_values_mean_true(status: object, expected: bool) -> None:
    event = decoded(
        {"prediction_id": "p", "status": status},
        {"actual": FieldOptions(path="status", true_when=("accepted", 1))},
        "outcome",
    )
    assert event == Outcome("p", actual=expected)


def test_a_number_means_true_however_json_writes_it() -> None:
    event = decoded(
        b'{"prediction_id": "p", "status": 1.0}',
        {"actual": FieldOptions(path="status", true_when=(1,))},
        "outcome",
    )
    assert event == Outcome("p", actual=True)


def test_a_status_that_is_missing_is_not_a_no() -> None:
    fields: dict[str, str | FieldOptions] = {
        "actual": FieldOptions(path="status", true_when=("accepted",))
    }
    for record in ({"prediction_id": "p"}, {"prediction_id": "p", "status": None}):
        event = decoded(record, fields, "outcome")
        assert isinstance(event, Rejected)
        assert event.reason == "missing_field"


@pytest.mark.parametrize("number", [0, 7, -7, 2**63, 10**20])
def test_whole_numbers_are_ids(number: int) -> None:
    event = decoded(FLAT | {"order": number}, {"prediction_id": "order"})
    assert isinstance(event, Prediction)
    assert event.prediction_id == str(number)


@pytest.mark.parametrize("given", [True, 1.5, ["a"], {"a": 1}])
def test_other_things_are_no_ids(given: object) -> None:
    event = decoded(FLAT | {"order": given}, {"prediction_id": "order"})
    assert isinstance(event, Rejected)
    assert event.reason == "wrong_type"


def test_mapped_values_are_held_to_the_same_limits() -> None:
    for name, value in (("score", 1.5), ("weight", 0), ("latency_ms", -1)):
        event = decoded(FLAT | {"x": value}, {name: "x"})
        assert isinstance(event, Rejected)
        assert event.reason == "out_of_range"


# --- declarations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (SourceOptions(), []),
        (SourceOptions(type="outcome"), []),
        (SourceOptions(fields={"variant": "x"}), ["fields"]),
        (SourceOptions(type="prediction", fields={"actual": "x"}), ["actual"]),
        (SourceOptions(type="outcome", fields={"actual": FieldOptions()}), ["actual"]),
        (
            SourceOptions(type="outcome", fields={"actual": FieldOptions(path="a", header="b")}),
            ["actual"],
        ),
        (SourceOptions(type="outcome", fields={"actual": 'a."b"'}), ["actual"]),
        (
            SourceOptions(type="outcome", fields={"actual": "a\\b", "value": "\x1f"}),
            ["actual", "value"],
        ),
        (
            SourceOptions(type="outcome", fields={"value": FieldOptions(path="a", unit="s")}),
            ["value"],
        ),
        (
            SourceOptions(type="outcome", fields={"value": FieldOptions(path="a", true_when=(1,))}),
            ["value"],
        ),
    ],
)
def test_a_mapping_that_means_nothing_is_told(options: SourceOptions, expected: list[str]) -> None:
    assert [name for name, _ in options.problems()] == expected
    assert all(message for _, message in options.problems())


def test_a_mapping_without_a_type_is_refused_when_it_is_used() -> None:
    decoder = Decoder({TOPIC: SourceOptions(fields={"variant": "x"})})
    with pytest.raises(ValueError, match="without a type"):
        decoder.decode(TOPIC, [b"{}"])


def test_topics_without_a_source_hold_events_as_they_are() -> None:
    decoder = Decoder({"other": SourceOptions(type="prediction", fields={"variant": "x"})})
    (event,) = decoder.decode(TOPIC, [json.dumps(FLAT | {"type": "prediction"}).encode()])
    assert event == Prediction("p", "e", "v", predicted=True)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abx"), inner),
    max_leaves=6,
)


@given(record=_JSON, header=st.binary(max_size=6))
def test_no_record_stops_a_mapping(record: object, header: bytes) -> None:
    event = decoded(
        record,
        {
            "prediction_id": "a",
            "experiment": FieldOptions(constant="e"),
            "variant": FieldOptions(constant="v"),
            "predicted": FieldOptions(path="x.a", true_when=("a", 1)),
            "latency_ms": FieldOptions(path="b.a", unit="s"),
            "time": FieldOptions(path="b.b", unit="us"),
            "score": FieldOptions(header="h"),
            "weight": "x.b.a",
        },
        headers={"h": header},
    )
    assert isinstance(event, Prediction | Rejected)
