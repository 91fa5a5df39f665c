import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.batch import Headers
from stream.events import Event, Outcome, Prediction, Rejected
from stream.sources import Decoder, FieldOptions, Kind, SourceOptions


TOPIC = "scored"
FLAT: dict[str, Any] = {
    "prediction_id": "p",
    "experiment": "e",
    "variant": "v",
    "predicted": True,
}
TOLD: dict[str, Any] = {"prediction_id": "p", "actual": True}
AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
STRUCTURED: Headers = {"content-type": b"application/cloudevents+json; charset=UTF-8"}


def binary(**attributes: str) -> Headers:
    """The headers of a CloudEvent in binary mode."""
    usual = {"specversion": "1.0", "id": "A-1", "source": "/scoring", "type": "com.example.scored"}
    found = {f"ce_{name}": text.encode() for name, text in (usual | attributes).items()}
    return {"content-type": b"application/json", **found}


def envelope(**members: object) -> bytes:
    """A CloudEvent in structured mode."""
    usual = {"specversion": "1.0", "id": "A-1", "source": "/scoring", "type": "com.example.scored"}
    return json.dumps(usual | members).encode()


def decoded(
    value: bytes | None,
    headers: Headers | None = None,
    kind: Kind | None = None,
    fields: Mapping[str, str | FieldOptions] | None = None,
) -> Event:
    decoder = Decoder({TOPIC: SourceOptions(type=kind, fields=dict(fields or {}))})
    (event,) = decoder.decode(TOPIC, [value], None if headers is None else [headers])
    return event


def reason(event: Event) -> str:
    assert isinstance(event, Rejected)
    return event.reason


PREDICTED = Prediction("p", "e", "v", predicted=True)
DATA = json.dumps(FLAT | {"type": "prediction"}).encode()


# --- the two modes --------------------------------------------------------------------------------


def test_in_binary_mode_the_value_is_the_event() -> None:
    assert decoded(DATA, binary()) == PREDICTED


@pytest.mark.parametrize("headers", [STRUCTURED, {}, None, {"trace": b"1"}])
def test_in_structured_mode_the_event_is_in_the_data(headers: Headers | None) -> None:
    assert decoded(envelope(data=json.loads(DATA)), headers) == PREDICTED


def test_data_may_be_written_in_base64() -> None:
    value = envelope(data_base64=base64.b64encode(DATA).decode())
    assert decoded(value, STRUCTURED) == PREDICTED
    assert decoded(value) == PREDICTED


@pytest.mark.parametrize(
    "kind", [b"application/cloudevents+json", b"Application/CloudEvents+JSON ;charset=utf-8"]
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_media_types_are_read_as_they_are_meant(name: str, kind: bytes) -> None:
    assert decoded(envelope(data=json.loads(DATA)), {name: kind}) == PREDICTED


def test_batches_mix_with_plain_records() -> None:
    values = [DATA, envelope(data=json.loads(DATA)), DATA, b"{"]
    headers: list[Headers] = [binary(), STRUCTURED, {}, {}]
    events = Decoder().decode(TOPIC, values, headers)
    assert events[:3] == [PREDICTED] * 3
    assert reason(events[3]) == "malformed_json"


# --- what the envelope gives ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("com.example.prediction", FLAT, PREDICTED),
        ("prediction", FLAT, PREDICTED),
        ("com.example.outcome", TOLD, Outcome("p", actual=True)),
    ],
)
def test_the_type_ends_with_the_kind_of_event(kind: str, data: Any, expected: Event) -> None:
    assert decoded(json.dumps(data).encode(), binary(type=kind)) == expected
    assert decoded(envelope(type=kind, data=data)) == expected


@pytest.mark.parametrize(
    "kind", ["com.example.scored", "com.example.predictions", "my-prediction", "prediction.v1", ""]
)
def test_other_types_are_not_guessed_at(kind: str) -> None:
    event = decoded(json.dumps(FLAT).encode(), binary(type=kind))
    assert reason(event) == "missing_field"
    assert isinstance(event, Rejected)
    assert "`type`" in event.detail


def test_the_type_in_the_data_wins() -> None:
    data = json.dumps(TOLD | {"type": "outcome"}).encode()
    assert decoded(data, binary(type="com.example.prediction")) == Outcome("p", actual=True)


def test_the_type_of_the_source_wins_over_that_of_the_envelope() -> None:
    data, headers = json.dumps(TOLD).encode(), binary(type="com.example.prediction")
    assert decoded(data, headers, "outcome") == Outcome("p", actual=True)


def test_the_time_of_the_envelope_is_taken_where_the_data_has_none() -> None:
    told = "2023-11-14T22:13:20Z"
    for event in (
        decoded(DATA, binary(time=told)),
        decoded(envelope(data=json.loads(DATA), time=told)),
        decoded(json.dumps(FLAT).encode(), binary(time=told), "prediction", {"score": "s"}),
    ):
        assert isinstance(event, Prediction)
        assert event.time == AT


def test_the_time_in_the_data_wins() -> None:
    event = decoded(
        json.dumps(FLAT | {"type": "prediction", "time": 5}).encode(), binary(time="nonsense")
    )
    assert isinstance(event, Prediction)
    assert event.time == 5


@pytest.mark.parametrize("told", ["nonsense", "2023-11-14T22:13:20", "1700000000000"])
def test_a_time_that_is_none_is_told(told: str) -> None:
    event = decoded(DATA, binary(time=told))
    assert reason(event) == "out_of_range"
    assert isinstance(event, Rejected)
    assert "ce_time" in event.detail
    assert told in event.detail


# --- mappings -------------------------------------------------------------------------------------


MAPPED: dict[str, str | FieldOptions] = {
    "prediction_id": FieldOptions(header="ce_id"),
    "experiment": FieldOptions(constant="e"),
    "variant": "model.name",
    "version": FieldOptions(header="ce_modelversion"),
    "predicted": FieldOptions(path="decision", true_when=("offer",)),
}


def test_a_mapping_is_about_the_data_and_finds_attributes_as_headers() -> None:
    data = {"model": {"name": "v"}, "decision": "offer"}
    expected = Prediction("A-1", "e", "v", predicted=True, version="7", time=AT)
    told = {"modelversion": "7", "time": "2023-11-14T22:13:20Z"}
    for value, headers in (
        (json.dumps(data).encode(), binary(**told)),
        (envelope(data=data, **told), STRUCTURED),
        (envelope(data=data, **told), None),
    ):
        assert decoded(value, headers, "prediction", MAPPED) == expected


def test_attributes_that_are_no_text_are_found_as_text() -> None:
    fields: dict[str, str | FieldOptions] = {
        "prediction_id": FieldOptions(header="ce_sequence"),
        "actual": FieldOptions(header="ce_won"),
    }
    value = envelope(data={}, sequence=17, won=True, strange={"a": 1})
    assert decoded(value, None, "outcome", fields) == Outcome("17", actual=True)


def test_a_mapping_that_names_data_is_about_the_envelope() -> None:
    fields: dict[str, str | FieldOptions] = {
        "prediction_id": "id",
        "actual": "data.won",
        "value": FieldOptions(header="ce_amount"),
    }
    value = envelope(data={"won": False}, amount=5)
    for headers in (STRUCTURED, None):
        assert decoded(value, headers, "outcome", fields) == Outcome("A-1", actual=False, value=5.0)


def test_headers_of_the_record_stay_beside_attributes() -> None:
    fields: dict[str, str | FieldOptions] = {"variant": FieldOptions(header="x-model")}
    headers = {**STRUCTURED, "x-model": b"v2"}
    event = decoded(envelope(data=FLAT), headers, "prediction", fields)
    assert isinstance(event, Prediction)
    assert event.variant == "v2"


# --- what cannot be used --------------------------------------------------------------------------


def test_batches_of_cloud_events_are_refused_with_what_to_do() -> None:
    event = decoded(b"[]", {"content-type": b"application/cloudevents-batch+json"})
    assert reason(event) == "unsupported_content"
    assert isinstance(event, Rejected)
    assert "a record of its own" in event.detail


def test_other_formats_of_cloud_events_are_refused() -> None:
    event = decoded(b"\x00", {"content-type": b"application/cloudevents+avro"})
    assert reason(event) == "unsupported_content"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (envelope(), "missing_field"),
        (envelope(data=None), "wrong_type"),
        (envelope(data="text"), "wrong_type"),
        (envelope(data=[1]), "wrong_type"),
        (envelope(data_base64="?"), "wrong_type"),
        (envelope(data_base64=7), "wrong_type"),
        (b"[]", "wrong_type"),
        (b"7", "wrong_type"),
        (b"{", "malformed_json"),
        (b"", "malformed_json"),
        (b'{"specversion": "1.0", "data": ' + b"[" * 100_000, "malformed_json"),
        (b"\xff", "malformed_json"),
    ],
)
def test_an_envelope_that_holds_no_event_is_rejected(value: bytes, expected: str) -> None:
    assert reason(decoded(value, STRUCTURED)) == expected


@pytest.mark.parametrize("member", [1, None, True, ["1.0"], {"a": 1}])
def test_a_record_that_only_resembles_an_envelope_is_told_by_its_own_mistake(member: Any) -> None:
    event = decoded(envelope(specversion=member, type="prediction", data={}))
    assert reason(event) == "missing_field"
    assert isinstance(event, Rejected)
    assert "prediction_id" in event.detail


@pytest.mark.parametrize("headers", [None, {}, binary(), STRUCTURED])
@pytest.mark.parametrize("fields", [{}, {"variant": "x"}])
def test_a_deletion_is_no_event(headers: Headers | None, fields: dict[str, str]) -> None:
    assert reason(decoded(None, headers, "prediction", fields)) == "empty"


def test_a_deletion_does_not_touch_its_neighbours() -> None:
    events = Decoder().decode(TOPIC, [DATA, None, DATA])
    assert [events[0], events[2]] == [PREDICTED] * 2
    assert reason(events[1]) == "empty"


# --- no record stops anything ---------------------------------------------------------------------


_NAMES = st.sampled_from(
    ["content-type", "Content-Type", "ce_specversion", "ce_type", "ce_time", "ce_id", "x"]
)
_TEXTS = st.binary(max_size=8) | st.sampled_from(
    [
        b"application/cloudevents+json",
        b"application/cloudevents-batch+json",
        b"application/json",
        b"1.0",
        b"a.prediction",
        b"outcome",
        b"2023-11-14T22:13:20Z",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(max_size=3), inner)
        | st.fixed_dictionaries(
            {"specversion": st.just("1.0") | inner},
            optional={
                "data": inner | st.just(FLAT) | st.just(FLAT | {"type": "prediction"}),
                "data_base64": inner | st.just(base64.b64encode(DATA).decode()),
                "type": st.just("x.prediction") | inner,
                "time": st.just("2023-11-14T22:13:20Z") | inner,
                "id": inner,
            },
        )
    ),
    max_leaves=8,
)
_RECORDS = st.tuples(
    st.none()
    | st.binary(max_size=12)
    | _JSON.map(lambda found: json.dumps(found).encode())
    | _JSON.map(lambda found: json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")),
    # Kafka has headers without a value, whatever the type says.
    st.dictionaries(_NAMES, st.none() | _TEXTS, max_size=4),
)
_SOURCES = {
    "flat": SourceOptions(),
    "typed": SourceOptions(type="outcome"),
    "mapped": SourceOptions(type="prediction", fields=MAPPED),
    "whole": SourceOptions(type="outcome", fields={"prediction_id": "id", "actual": "data.x"}),
}


@given(records=st.lists(_RECORDS, min_size=1, max_size=4), bare=st.booleans())
def test_no_record_stops_the_decoder(records: list[tuple[Any, Any]], bare: bool) -> None:
    values = [value for value, _ in records]
    headers = None if bare else [header for _, header in records]
    for topic in _SOURCES:
        events = Decoder(_SOURCES).decode(topic, values, headers)
        assert len(events) == len(values)
        for value, event in zip(values, events, strict=True):
            assert isinstance(event, Prediction | Outcome | Rejected)
            assert (value is None) == (isinstance(event, Rejected) and event.reason == "empty")
