import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.events import LATEST_MS, Outcome, Prediction, Rejected, epoch_ms
from stream.sources import Decoder


PREDICTION: dict[str, Any] = {
    "type": "prediction",
    "prediction_id": "p",
    "experiment": "e",
    "variant": "v",
    "predicted": True,
}
OUTCOME: dict[str, Any] = {"type": "outcome", "prediction_id": "p", "actual": False}
TOPIC = "events"


def decoded(value: bytes | dict[str, Any]) -> object:
    packed = value if isinstance(value, bytes) else json.dumps(value).encode()
    (event,) = Decoder().decode(TOPIC, [packed])
    return event


def reason(value: bytes | dict[str, Any]) -> str:
    event = decoded(value)
    assert isinstance(event, Rejected)
    assert event.detail
    return event.reason


def test_the_least_that_a_prediction_must_say_is_enough() -> None:
    assert decoded(PREDICTION) == Prediction("p", "e", "v", predicted=True)


def test_the_least_that_an_outcome_must_say_is_enough() -> None:
    assert decoded(OUTCOME) == Outcome("p", actual=False)


def test_every_field_of_the_contract_is_read() -> None:
    fields: dict[str, Any] = {
        "time": 1_700_000_000_000,
        "latency_ms": 12.5,
        "error": False,
        "acted": False,
        "score": 0.25,
        "weight": 2,
        "unit_id": "customer 1",
        "segment": "north",
        "version": "7",
        "cost": 0.4,
    }
    event = decoded(PREDICTION | fields)
    assert isinstance(event, Prediction)
    assert {name: getattr(event, name) for name in fields} == fields


def test_fields_that_nobody_asked_for_are_no_trouble() -> None:
    assert isinstance(decoded(PREDICTION | {"features": [1, {"a": None}]}), Prediction)


@pytest.mark.parametrize(
    "name", ["time", "latency_ms", "error", "acted", "score", "weight", "cost"]
)
def test_null_means_absent(name: str) -> None:
    assert decoded(PREDICTION | {name: None}) == decoded(PREDICTION)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"type": "outcome", "prediction_id": "p", "actual": true} {}', "malformed_json"),
        (b'{"type": "outcome", "more": ' + b"[" * 100_000, "malformed_json"),
        (b'{"type": "outcome", "prediction_id": "\\ud800", "actual": true}', "malformed_json"),
        (b'{"type": "outcome", "prediction_id": "\xff", "actual": true}', "not_utf8"),
        (b"null", "wrong_type"),
        (b"[1, 2]", "wrong_type"),
        (b'"prediction"', "wrong_type"),
    ],
)
def test_what_is_not_a_json_object_is_rejected(value: bytes, expected: str) -> None:
    assert reason(value) == expected


@pytest.mark.parametrize("name", ["type", "prediction_id", "experiment", "variant"])
def test_a_prediction_that_lacks_a_required_field_is_rejected(name: str) -> None:
    assert reason({k: v for k, v in PREDICTION.items() if k != name}) == "missing_field"


@pytest.mark.parametrize("name", ["type", "prediction_id", "actual"])
def test_an_outcome_that_lacks_a_required_field_is_rejected(name: str) -> None:
    assert reason({k: v for k, v in OUTCOME.items() if k != name}) == "missing_field"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "surprise"}, "unknown_type"),
        ({"type": 1}, "wrong_type"),
        ({"prediction_id": ""}, "out_of_range"),
        ({"prediction_id": "x" * 129}, "out_of_range"),
        ({"prediction_id": 1}, "wrong_type"),
        ({"prediction_id": None}, "wrong_type"),
        ({"experiment": 1}, "wrong_type"),
        ({"variant": ["v"]}, "wrong_type"),
        ({"predicted": 1}, "wrong_type"),
        ({"predicted": "true"}, "wrong_type"),
        ({"time": -1}, "out_of_range"),
        ({"time": LATEST_MS + 1}, "out_of_range"),
        ({"time": True}, "wrong_type"),
        ({"time": "yesterday"}, "out_of_range"),
        ({"time": "2024-01-01T00:00:00"}, "out_of_range"),
        ({"latency_ms": -0.1}, "out_of_range"),
        ({"latency_ms": "12"}, "wrong_type"),
        ({"score": 1.01}, "out_of_range"),
        ({"score": -0.01}, "out_of_range"),
        ({"weight": 0}, "out_of_range"),
        ({"weight": -1}, "out_of_range"),
        ({"error": "no"}, "wrong_type"),
        ({"unit_id": "x" * 129}, "out_of_range"),
    ],
)
def test_a_field_that_cannot_be_used_gives_its_reason(
    fields: dict[str, Any], expected: str
) -> None:
    assert reason(PREDICTION | fields) == expected


def test_a_rejection_names_the_field_and_what_was_expected() -> None:
    event = decoded(PREDICTION | {"latency_ms": "12"})
    assert isinstance(event, Rejected)
    assert "latency_ms" in event.detail
    assert "float" in event.detail


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400])
def test_numbers_beyond_all_measure_are_rejected(number: str) -> None:
    body = json.dumps(PREDICTION)[:-1]
    assert reason(f'{body}, "latency_ms": {number}}}'.encode()) in {
        "out_of_range",
        "malformed_json",
    }


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, 0),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123.4, 1_700_000_000_123),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("2023-11-14T23:13:20.123+01:00", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123456Z", 1_700_000_000_123),
        ("1969-12-31T23:59:59Z", -1_000),
    ],
)
def test_times_are_epoch_milliseconds_or_rfc_3339(time: object, expected: int) -> None:
    event = decoded(OUTCOME | {"time": time})
    assert isinstance(event, Outcome)
    assert event.time is not None
    assert epoch_ms(event.time) == expected


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001  # hypothesis adds the zone
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001  # hypothesis adds the zone
        timezones=st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_any_date_becomes_whole_milliseconds(date: datetime) -> None:
    exact = (date - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    assert abs(epoch_ms(date) - exact) <= 0.51
    assert epoch_ms(date) < LATEST_MS


@given(st.binary(max_size=60))
def test_no_bytes_stop_the_decoder(value: bytes) -> None:
    assert isinstance(decoded(value), Rejected | Prediction | Outcome)


@given(
    st.dictionaries(
        st.sampled_from([*Prediction.__struct_fields__, "type", "actual", "value"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_no_values_of_fields_stop_the_decoder(fields: dict[str, Any]) -> None:
    for base in (PREDICTION, OUTCOME):
        assert isinstance(decoded(base | fields), Rejected | Prediction | Outcome)
