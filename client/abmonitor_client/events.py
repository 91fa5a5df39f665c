"""Predictions and outcomes as the JSON objects that abmonitor reads. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Union

from abmonitor_client.fields import (
    Identifier,
    Time,
    epoch_ms,
    identifier,
    name,
    number,
    positive,
    text,
    truth,
)


if TYPE_CHECKING:
    from collections.abc import Callable


Event = dict[str, Union[str, float, bool]]

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def encoded(event: Event) -> bytes:
    """The event as a Kafka message."""
    return _encoder.encode(event).encode()


def prediction(
    experiment: str,
    variant: str,
    prediction_id: Identifier,
    *,
    time: Time,
    predicted: bool | None = None,
    unit_id: Identifier | None = None,
    latency_ms: float | None = None,
    error: bool | None = None,
    acted: bool | None = None,
    score: float | None = None,
    weight: float | None = None,
    segment: str | None = None,
    version: str | None = None,
    cost: float | None = None,
) -> Event:
    """One scored request; absent fields are left out. Raises ValueError or TypeError."""
    event: Event = {
        "type": "prediction",
        "prediction_id": identifier("prediction_id", prediction_id),
        "experiment": name("experiment", experiment),
        "variant": name("variant", variant),
        "time": epoch_ms("time", time),
    }
    _put(event, "predicted", predicted, truth)
    _put(event, "unit_id", unit_id, identifier)
    if latency_ms is not None:
        event["latency_ms"] = number("latency_ms", latency_ms, 0)
    _put(event, "error", error, truth)
    _put(event, "acted", acted, truth)
    if score is not None:
        event["score"] = number("score", score, 0, 1)
    _put(event, "weight", weight, positive)
    _put(event, "segment", segment, text)
    _put(event, "version", version, text)
    _put(event, "cost", cost, number)
    if "predicted" not in event and not event.get("error"):
        raise ValueError(
            f"predicted is missing for prediction {event['prediction_id']!r}, expected True or False,"
            " or error=True for a request that failed"
        )
    return event


def outcome(
    prediction_id: Identifier,
    actual: bool,
    *,
    time: Time,
    value: float | None = None,
    experiment: str | None = None,
) -> Event:
    """What turned out to be true of one prediction. Raises ValueError or TypeError."""
    event: Event = {
        "type": "outcome",
        "prediction_id": identifier("prediction_id", prediction_id),
        "actual": truth("actual", actual),
        "time": epoch_ms("time", time),
    }
    _put(event, "value", value, number)
    _put(event, "experiment", experiment, name)
    return event


def _put(
    event: Event, field: str, value: object, check: Callable[[str, object], str | float | bool]
) -> None:
    if value is not None:
        event[field] = check(field, value)
