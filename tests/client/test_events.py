import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmonitor_client import events
from stream.events import Outcome, Prediction, epoch_ms
from stream.screen import MAX_ID_BYTES
from stream.sources import Decoder


NOW = 1_767_261_600_000
DECODER = Decoder()


def decoded(event: events.Event) -> Any:
    (found,) = DECODER.decode("predictions", [events.encoded(event)])
    return found


def prediction(**fields: Any) -> events.Event:
    usual = {"experiment": "e", "variant": "v", "prediction_id": "r-1", "time": NOW}
    return events.prediction(**{**usual, "predicted": True, **fields})


def outcome(**fields: Any) -> events.Event:
    return events.outcome(**{"prediction_id": "r-1", "actual": True, "time": NOW, **fields})


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=128).filter(lambda t: len(t.encode()) <= 128)
ids = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.fixed_dictionaries(
        {
            "experiment": names,
            "variant": names,
            "prediction_id": ids,
            "predicted": st.booleans(),
            "unit_id": optional(ids),
            "latency_ms": optional(st.floats(0, 1e9)),
            "error": optional(st.booleans()),
            "acted": optional(st.booleans()),
            "score": optional(st.floats(0, 1)),
            "weight": optional(st.floats(0, 1e6, exclude_min=True)),
            "segment": optional(texts),
            "version": optional(texts),
            "cost": optional(numbers),
            "time": st.integers(10**11, 10**14 - 1),
        }
    )
)
def test_what_the_client_accepts_abmonitor_reads_alike(fields: dict[str, Any]) -> None:
    assert decoded(events.prediction(**fields)) == Prediction(**fields)


@given(ids, st.booleans(), optional(numbers), optional(names))
def test_abmonitor_reads_outcomes_alike(
    prediction_id: str, actual: bool, value: float | None, experiment: str | None
) -> None:
    event = events.outcome(prediction_id, actual, time=NOW, value=value, experiment=experiment)
    assert decoded(event) == Outcome(
        prediction_id, actual, time=NOW, value=value, experiment=experiment
    )


def test_fields_that_are_not_given_are_not_sent() -> None:
    assert events.encoded(prediction(predicted=False)) == (
        b'{"type":"prediction","prediction_id":"r-1","experiment":"e","variant":"v",'
        b'"time":1767261600000,"predicted":false}'
    )
    assert events.encoded(outcome()) == (
        b'{"type":"outcome","prediction_id":"r-1","actual":true,"time":1767261600000}'
    )


@pytest.mark.parametrize(
    ("field", "given", "sent"),
    [
        ("predicted", np.bool_(False), False),
        ("predicted", np.int64(1), True),
        ("predicted", 0, False),
        ("acted", np.array(True), True),
        ("score", np.float32(0.5), 0.5),
        ("latency_ms", np.int32(12), 12.0),
        ("cost", Decimal("0.25"), 0.25),
        ("prediction_id", np.int64(17), "17"),
        ("unit_id", 17, "17"),
        ("unit_id", UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("unit_id", np.str_("customer"), "customer"),
        ("time", datetime.fromtimestamp(NOW / 1000, UTC), NOW),
        ("time", NOW + 0.4, NOW),
        ("time", np.int64(NOW), NOW),
    ],
)
def test_values_as_libraries_return_them_are_taken_as_what_they_stand_for(
    field: str, given: Any, sent: Any
) -> None:
    event = decoded(prediction(**{field: given}))
    assert getattr(event, field) == sent
    assert epoch_ms(event.time) == NOW


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prediction_id": ""}, "prediction_id is empty, expected 1 to 128 bytes"),
        ({"prediction_id": "x" * 129}, "prediction_id has 129 bytes, expected at most 128"),
        ({"prediction_id": "ü" * 65}, "prediction_id has 130 bytes"),
        ({"prediction_id": "\ud800"}, "UTF-8 cannot write"),
        ({"prediction_id": None}, "expected text, a whole number or a UUID"),
        ({"prediction_id": 1.0}, "expected text, a whole number or a UUID"),
        ({"prediction_id": True}, "expected text, a whole number or a UUID"),
        ({"unit_id": "x" * 129}, "unit_id has 129 bytes"),
        ({"segment": 7}, "segment is 7 .int., expected text"),
        ({"version": "x" * 129}, "version has 129 bytes"),
        ({"experiment": "an experiment"}, "experiment is 'an experiment' .str., expected 1 to 64"),
        ({"experiment": "x" * 65}, "experiment is"),
        ({"variant": ""}, "variant is '' .str."),
        ({"variant": "v\n"}, "variant is"),
        ({"variant": 2}, "variant is 2 .int."),
        ({"predicted": None}, "predicted is missing for prediction 'r-1'"),
        ({"predicted": None, "error": False}, "predicted is missing"),
        ({"predicted": 0.73}, "predicted is 0.73 .float., expected True or False"),
        ({"predicted": np.float64(1)}, "predicted is .*, expected True or False"),
        ({"predicted": "yes"}, "predicted is 'yes' .str., expected True or False"),
        ({"predicted": 2}, "predicted is 2 .int., expected True or False"),
        ({"latency_ms": -0.1}, "latency_ms is -0.1, expected a number >= 0"),
        ({"latency_ms": math.nan}, "latency_ms is nan, expected a number >= 0"),
        ({"latency_ms": math.inf}, "latency_ms is inf"),
        ({"latency_ms": "12"}, "latency_ms is '12' .str., expected a number"),
        ({"latency_ms": True}, "latency_ms is True .bool., expected a number"),
        ({"score": 1.01}, "score is 1.01, expected a number from 0 to 1"),
        ({"score": -0.01}, "score is -0.01"),
        ({"weight": 0}, "weight is 0, expected a number > 0"),
        ({"weight": 10**400}, "weight is inf, expected a finite number"),
        ({"cost": math.inf}, "cost is inf, expected a finite number"),
        (
            {"time": NOW / 1000},
            "time is 1767261600, expected epoch milliseconds .this looks like seconds",
        ),
        ({"time": NOW * 1000}, "time is 1767261600000000, expected epoch milliseconds"),
        ({"time": datetime(2026, 1, 1)}, "without a zone"),  # noqa: DTZ001
        ({"time": "2026-01-01T00:00:00Z"}, "time is .*, expected a number"),
    ],
)
def test_what_abmonitor_could_not_use_or_a_mistake_hides_in_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        prediction(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"actual": None}, "actual is None .NoneType., expected True or False"),
        ({"actual": 0.5}, "actual is 0.5"),
        ({"value": math.nan}, "value is nan, expected a finite number"),
        ({"experiment": ""}, "experiment is ''"),
    ],
)
def test_outcomes_are_checked_as_well(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        outcome(**fields)


def test_a_failed_request_needs_no_decision() -> None:
    event = decoded(prediction(predicted=None, error=True))
    assert (event.predicted, event.error) == (None, True)


def test_whole_tensors_do_not_flood_the_message() -> None:
    with pytest.raises(TypeError) as caught:
        prediction(segment=list(range(1000)))
    assert len(str(caught.value)) < 120


def test_ids_may_be_as_long_as_abmonitor_takes_them() -> None:
    assert len(decoded(prediction(prediction_id="x" * MAX_ID_BYTES)).prediction_id) == 128


def test_any_zone_will_do() -> None:
    there = datetime.fromtimestamp(NOW / 1000, UTC) + timedelta()
    assert prediction(time=there.astimezone())["time"] == NOW
