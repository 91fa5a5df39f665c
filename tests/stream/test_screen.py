import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.events import BASE, FAST, SLOW

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels, Money
from metrics.moments import LATENCY_CAP
from metrics.units import UNIT_BUCKETS
from stream.events import Event, Outcome, Prediction, Rejected
from stream.rows import (
    ACTED,
    ERROR,
    LONG_ROW,
    NEVER,
    PREDICTED,
    ROW,
    TIMED,
    bucket_of,
    digest,
    flags_of,
    slot_of,
    unit_digest,
    unpack_rows,
)
from stream.screen import (
    ScreenedOutcome,
    ScreenedPrediction,
    Screening,
    SpecTable,
    cents_of,
    screen,
)


BY_UNIT = replace(FAST, name="by-unit", randomised_by="unit", unit_share=0.25)
PRICED = replace(FAST, name="priced", money=Money(cap=1))
SPECS = SpecTable([FAST, SLOW, BY_UNIT, PRICED])


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
    found = {name: int(rows[name][0]) for name in rows.dtype.names or ()}
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


@pytest.mark.parametrize(
    ("experiment", "size"),
    [
        (FAST, ROW.itemsize),
        (PRICED, LONG_ROW.itemsize),
        (BY_UNIT, LONG_ROW.itemsize),
    ],
)
def test_only_experiments_with_units_or_money_have_long_rows(
    experiment: Experiment, size: int
) -> None:
    assert (ROW.itemsize, LONG_ROW.itemsize) == (28, 41)
    found = usable(experiment=experiment.name, unit_id="u", cost=1.5)
    assert len(found.row) == size
    assert found.row[: ROW.itemsize][:24] == usable().row[:24]  # the last is the variant's number


@pytest.mark.parametrize("unit_id", [None, ""])
def test_a_prediction_without_a_unit_is_one_of_its_own(unit_id: str | None) -> None:
    found = usable(experiment="by-unit", unit_id=unit_id)
    assert found.unit == b""
    assert row(experiment="by-unit", unit_id=unit_id)["bucket"] == bucket_of(digest(b"p"))


def test_all_predictions_of_a_unit_are_in_one_bucket_of_64() -> None:
    buckets = [
        row(experiment="by-unit", unit_id=f"u{n}", prediction_id=f"p{n % 7}{m}")["bucket"]
        for n in range(2_000)
        for m in "xy"
    ]
    assert buckets[::2] == buckets[1::2]
    counts = np.bincount(buckets[::2])
    assert counts.size == UNIT_BUCKETS
    expected = 2_000 / UNIT_BUCKETS
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi², 63 degrees: p = 10^-5


def test_units_of_experiments_randomised_by_request_are_not_looked_at() -> None:
    assert usable(unit_id="u").unit == b""
    assert usable(experiment="priced", unit_id="u").unit == b""


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.25, 0.25), (0.001, 0.001)])
def test_the_sample_has_the_share_of_units_that_was_declared(share: float, expected: float) -> None:
    table = SpecTable([replace(BY_UNIT, unit_share=share)])
    below = table.by_name["by-unit"].sampled_below
    assert (unit_digest("u") < below) or share < 1
    inside = sum(unit_digest(f"u{n}") < below for n in range(20_000)) / 20_000
    assert abs(inside - expected) <= 4 * (expected * (1 - expected) / 20_000) ** 0.5
    assert (below > b"\xff" * 8) == (share == 1)


@pytest.mark.parametrize(
    ("amount", "cents"),
    [(0, 0), (12.34, 1_234), (-0.29, -29), (0.004, 0), (1e300, 2 * 10**9), (-1e300, -2 * 10**9)],
)
def test_money_is_whole_cents_up_to_what_nobody_pays(amount: float, cents: int) -> None:
    assert cents_of(amount) == cents
    assert row(experiment="priced", cost=amount)["cost"] == cents
    assert row(experiment="priced", cost=amount)["needed"] == NEVER
    (outcome,) = screened(Outcome("p", actual=True, value=amount)).usable
    assert isinstance(outcome, ScreenedOutcome)
    assert outcome.cents == cents


def test_rows_of_both_lengths_are_unpacked_as_long_ones() -> None:
    short, long = usable().row, usable(experiment="by-unit", unit_id="u").row
    rows = unpack_rows([short, long, short])
    assert rows.dtype == LONG_ROW
    assert rows["arrival"].tolist() == [BASE] * 3
    assert rows["needed"].tolist() == [NEVER] * 3
    assert rows["bucket"].tolist() == [UNIT_BUCKETS, bucket_of(unit_digest("u")), UNIT_BUCKETS]
    assert unpack_rows([short, short]).dtype == ROW
    assert unpack_rows([long]).dtype == LONG_ROW


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
