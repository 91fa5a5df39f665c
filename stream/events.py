"""What services send: predictions, outcomes, and records that cannot be used."""

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta


LATEST_MS = 1 << 53

Time = (
    Annotated[int, Meta(ge=0, le=LATEST_MS)]
    | Annotated[float, Meta(ge=0, le=LATEST_MS)]
    | Annotated[datetime, Meta(tz=True)]
)
"""Epoch milliseconds, or RFC 3339 with a zone."""
Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=128)]


class Prediction(msgspec.Struct, tag_field="type", tag="prediction", gc=False):
    """One scored request with its decision (DESIGN: the event contract)."""

    prediction_id: Identifier
    experiment: str
    variant: str
    predicted: bool | None = None
    time: Time | None = None
    latency_ms: Annotated[float, Meta(ge=0)] | None = None
    error: bool | None = None
    acted: bool | None = None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    weight: Annotated[float, Meta(gt=0)] | None = None
    unit_id: Text | None = None
    segment: Text | None = None
    version: str | None = None
    """Of any length: one that is too long is not remembered, and no reason to lose the prediction."""
    cost: float | None = None


class Outcome(msgspec.Struct, tag_field="type", tag="outcome", gc=False):
    """What turned out to be true of one prediction."""

    prediction_id: Identifier
    actual: bool
    time: Time | None = None
    value: float | None = None
    experiment: str | None = None


class Rejected(NamedTuple):
    """A record that cannot be used: a reason to count by, and a sentence to mend it by."""

    reason: str
    detail: str


Event = Prediction | Outcome | Rejected


def epoch_ms(time: float | datetime) -> int:
    """Whole epoch milliseconds of an event's time; below 0 for dates before 1970."""
    return round(time.timestamp() * 1000) if isinstance(time, datetime) else round(time)


def rejection(error: Exception) -> Rejected:
    """The reason behind a decoding error of msgspec."""
    detail = str(error)
    if isinstance(error, RecursionError):
        return Rejected("malformed_json", "nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Rejected("not_utf8", detail)
    if not isinstance(error, msgspec.ValidationError):
        return Rejected("malformed_json", detail)
    if "missing required field" in detail:
        return Rejected("missing_field", detail)
    if "Invalid value" in detail and "$.type" in detail:
        return Rejected("unknown_type", detail)
    outside = ("<=", ">=", " < ", " > ", "length", "out of range", "RFC3339", "timezone")
    return Rejected("out_of_range" if any(s in detail for s in outside) else "wrong_type", detail)
