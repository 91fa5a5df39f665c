import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import BASE, FAST, SLOW

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels
from metrics.moments import LATENCY_CAP
from stream.events import Event, Outcome, Prediction, Rejected
from stream.rows import ACTED, ERROR, PREDICTED, ROW, TIMED, digest, flags_of, slot_of, unpack_rows
from stream.screen import ScreenedOutcome, ScreenedPrediction, Screening, SpecTable, screen


SPECS = SpecTable([FAST, SLOW])


def prediction(**fields: Any) -> Prediction:
    named: dict[str, Any] = {
        "prediction_id": "p",
        "experiment": FAST.name,
        "variant": "a",
        "predicted": True,
    }
    return Prediction(**named | fields)


def screened(*events: Event, arrival: int = BASE) -> Screening:
    return screen(events, [arrival] * len(events), SPECS)


def usable(**fields: Any) -> ScreenedPrediction:
    (found,) = screened(prediction(**fields)).usable
    assert isinstance(found, ScreenedPrediction)
    return found


def row(**fields: Any) -> dict[str, int]:
    rows = unpack_rows([usable(**fields).row])
    found = {name: int(rows[name][0]) for name in ROW.names or ()}
    return found | {"flags": int(flags_of(rows)[0])}


def rejection(event: Event) -> Rejected:
    ((_, found),) = screened(event).rejected
    return found


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"predicted": True}, PREDICTED | ACTED),
        ({"predicted": False}, 0),
        ({"predicted": True, "acted": False}, PREDICTED),
        ({"predicted": False, "acted": True}, ACTED),
        ({"predicted": True, "acted": True}, PREDICTED | ACTED),
        ({"predicted": True, "latency_ms": 0.0}, PREDICTED | ACTED | TIMED),
        ({"predicted": True, "error": False}, PREDICTED | ACTED),
        ({"predicted": True, "error": True}, ERROR),
        ({"predicted": None, "error": True}, ERROR),
        ({"predicted": True, "acted": True, "error": True}, ERROR),
        ({"predicted": False, "error": True, "latency_ms": 3.0}, ERROR | TIMED),
    ],
)
def test_flags_say_what_was_decided_and_done(fields: dict[str, Any], flags: int) -> None:
    assert row(**fields)["flags"] == flags


@pytest.mark.parametrize(
    ("latency_ms", "units"),
    [(0, 0), (0.04, 0), (0.06, 1), (12.34, 123), (1e6, LATENCY_CAP), (1e7, LATENCY_CAP)],
)
def test_latency_is_kept_in_tenths_of_a_millisecond_up_to_a_cap(
    latency_ms: float, units: int
) -> None:
    assert row(latency_ms=latency_ms)["latency"] == units
    assert usable(latency_ms=latency_ms).latency_ms == latency_ms


def test_a_prediction_without_latency_or_score_says_so() -> None:
    found = usable()
    assert math.isnan(found.latency_ms)
    assert math.isnan(found.score)
    assert usable(score=0).score == 0


@pytest.mark.parametrize(
    ("weight", "thousandths"),
    [(1, 1_000), (0.001, 1), (0.0001, 1), (2.5, 2_500), (20, 20_000), (21, 20_000), (1e15, 20_000)],
)
def test_weights_are_thousandths_between_one_and_the_cap(weight: float, thousandths: int) -> None:
    assert row(experiment="slow", variant="new", weight=weight)["weight"] == thousandths


def test_without_a_weight_a_prediction_weighs_one() -> None:
    assert row()["weight"] == 1_000


def test_explored_labels_need_a_weight() -> None:
    found = rejection(prediction(experiment="slow", variant="new"))
    assert found.reason == "missing_field"
    assert "weight" in found.detail


@pytest.mark.parametrize(
    ("time", "expected"), [(None, BASE), (17, 17), (17.6, 18), (0, 0), (BASE + 9, BASE + 9)]
)
def test_an_event_without_a_time_happened_when_it_arrived(
    time: float | None, expected: int
) -> None:
    assert row(time=time)["time_and_flags"] & ((1 << 56) - 1) == expected
    (outcome,) = screened(Outcome("p", actual=True, time=time)).usable
    assert isinstance(outcome, ScreenedOutcome)
    assert (outcome.time, outcome.arrival) == (expected, BASE)


def test_rows_carry_the_arrival_and_a_number_for_the_variant() -> None:
    found = row(variant="b")
    assert found["arrival"] == BASE
    assert found["slot"] == slot_of("fast", "b")
    assert SPECS.variant_of[found["slot"]] == "b"


def test_ids_are_told_apart_by_their_digest() -> None:
    assert usable(prediction_id="p").digest == digest(b"p") != digest(b"q")
    assert len(digest(b"p")) == 12


def test_events_of_other_experiments_are_ignored() -> None:
    found = screened(
        prediction(experiment="elsewhere", variant="?", predicted=None),
        Outcome("p", actual=True, experiment="elsewhere"),
        Outcome("p", actual=True, experiment="fast"),
        Outcome("p", actual=True),
    )
    assert found.ignored == [0, 1]
    assert [event.record for event in found.usable] == [2, 3]


@pytest.mark.parametrize(
    ("event", "reason", "said"),
    [
        (prediction(variant="c"), "unknown_variant", "expected one of a, b"),
        (prediction(predicted=None), "missing_field", "predicted"),
        (prediction(predicted=None, error=False), "missing_field", "predicted"),
        (prediction(time=-1), "out_of_range", "1970"),
        (Outcome("p", actual=True, time=-1), "out_of_range", "1970"),
        (prediction(prediction_id="é" * 65), "out_of_range", "130 bytes"),
        (Outcome("é" * 65, actual=True), "out_of_range", "130 bytes"),
    ],
)
def test_what_cannot_be_used_is_told_why(event: Event, reason: str, said: str) -> None:
    found = rejection(event)
    assert found.reason == reason
    assert said in found.detail


def test_an_id_of_just_128_bytes_may_be_used() -> None:
    assert usable(prediction_id="é" * 64).digest == digest(("é" * 64).encode())


def test_rejections_of_the_decoder_keep_their_place() -> None:
    broken = Rejected("malformed_json", "broken")
    found = screened(prediction(), broken, Outcome("p", actual=False))
    assert found.rejected == [(1, broken)]
    assert [event.record for event in found.usable] == [0, 2]


def test_two_variants_with_one_checksum_are_refused() -> None:
    labels = Labels(horizon=Duration(1_000))
    first, second = "hieajhhgb", "ihaedbffc"
    experiment = Experiment(name="e", control=first, variants={first: 1, second: 1}, labels=labels)
    with pytest.raises(ValueError, match="share a checksum"):
        SpecTable([experiment])


@given(
    latency=st.none() | st.floats(0, 1e15),
    weight=st.none() | st.floats(0, 1e15, exclude_min=True),
    time=st.none()
    | st.floats(0, 2**53)
    | st.integers(0, 2**53)
    | st.datetimes().map(lambda d: d.astimezone()),
    arrival=st.integers(0, 2**53),
)
def test_whatever_passed_the_decoder_is_screened(
    latency: float | None, weight: float | None, time: Any, arrival: int
) -> None:
    event = prediction(latency_ms=latency, weight=weight, time=time)
    found = screened(event, Outcome("p", actual=True, time=time), arrival=arrival)
    assert len(found.usable) + len(found.rejected) == 2
