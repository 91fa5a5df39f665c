"""Touches the clock: what a model service calls: predictions and outcomes in, nothing to wait for."""

from __future__ import annotations

import functools
import time as clock
from typing import TYPE_CHECKING, Any, Callable, Literal

from abmonitor_client import events
from abmonitor_client.buffer import Counts, Message
from abmonitor_client.fields import Identifier, Time, identifier
from abmonitor_client.notices import Notices
from abmonitor_client.producer import checked_options, checked_topic, connect
from abmonitor_client.pump import Pump
from abmonitor_client.timed import Request


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType


KeyBy = Literal["prediction_id", "unit_id"]


class ExperimentClient:
    """Sends predictions and outcomes to Kafka, in the background. Thread-safe; one for each process is enough.

    A call never waits for Kafka and, unless `strict`, never raises: what cannot be sent is counted and
    logged (logger `abmonitor_client`, each kind of trouble at most once a minute).

    - `servers`: `host:port` of one or more brokers, as a list or with commas between them.
    - `predictions`, `outcomes`: the topics, with equally many partitions; may be the same one.
    - `key_by`: what decides the partition. A prediction and its outcome need the same key. `unit_id` brings
      all of a unit into one partition, and then every call has to be told the unit.
    - `buffer`: how many events may be on their way to each topic; further ones are dropped.
    - `strict`: raise ValueError or TypeError for calls that make no usable event; for tests.
    - `options`: for kafka-python's KafkaProducer: `security_protocol`, `sasl_mechanism`, `ssl_cafile`,
      `compression_type` ... ValueError is raised at once for those that are unknown.

    Nothing is connected before the first event, so a client may be made before a server forks its workers.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        predictions: str = "predictions",
        outcomes: str = "outcomes",
        key_by: KeyBy = "prediction_id",
        buffer: int = 10_000,
        strict: bool = False,
        **options: Any,
    ) -> None:
        if key_by not in ("prediction_id", "unit_id"):
            raise ValueError(f"key_by is {key_by!r}, expected 'prediction_id' or 'unit_id'")
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}, expected at least 1 event")
        self._predictions = checked_topic("predictions", predictions)
        self._outcomes = checked_topic("outcomes", outcomes)
        self._key_by, self._strict = key_by, strict
        self._notices = Notices()
        self._pump = Pump(
            functools.partial(connect, _addresses(servers), checked_options(options)),
            (self._predictions, self._outcomes),
            buffer,
            self._notices,
        )

    def predicted(
        self,
        experiment: str,
        variant: str,
        prediction_id: Identifier,
        *,
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
        time: Time | None = None,
    ) -> None:
        """Tell what a variant decided for one request.

        - `prediction_id`: unique across experiments; 1 to 128 bytes.
        - `predicted`: the decision (offer, trade, alarm); may be left out with `error`.
        - `unit_id`: whom the variants are dealt to, for example the customer; 1 to 128 bytes.
        - `latency_ms`: how long the request took, >= 0.
        - `error`: the request failed.
        - `acted`: whether the decision was carried out, where that differs from `predicted`.
        - `score`: what the decision was made from, in [0, 1].
        - `weight`: inverse propensity, > 0.
        - `segment`, `version`: text of at most 128 bytes.
        - `cost`: money that the request cost.
        - `time`: epoch milliseconds or a datetime with a zone; now, if left out.
        """
        self._offer(
            self._predictions,
            unit_id,
            lambda: events.prediction(
                experiment,
                variant,
                prediction_id,
                time=_or_now(time),
                predicted=predicted,
                unit_id=unit_id,
                latency_ms=latency_ms,
                error=error,
                acted=acted,
                score=score,
                weight=weight,
                segment=segment,
                version=version,
                cost=cost,
            ),
        )

    def outcome(
        self,
        prediction_id: Identifier,
        actual: bool,
        *,
        time: Time | None = None,
        value: float | None = None,
        experiment: str | None = None,
        unit_id: Identifier | None = None,
    ) -> None:
        """Tell what turned out to be true of a prediction.

        - `actual`: the truth that `predicted` was about.
        - `time`: when it turned out; epoch milliseconds or a datetime with a zone; now, if left out.
        - `value`: money realised.
        - `experiment`: lets abmonitor ignore outcomes of experiments that it does not watch.
        - `unit_id`: as in the prediction; needed with `key_by="unit_id"` and not used otherwise.
        """
        self._offer(
            self._outcomes,
            unit_id,
            lambda: events.outcome(
                prediction_id, actual, time=_or_now(time), value=value, experiment=experiment
            ),
        )

    def timed(
        self,
        experiment: str,
        variant: str,
        prediction_id: Identifier,
        *,
        unit_id: Identifier | None = None,
        segment: str | None = None,
        version: str | None = None,
    ) -> Request:
        """A `with` block that measures the latency, and tells of a failure when it raises.

        Set `predicted` on what it gives (and, as needed, `score`, `acted`, `weight`, `cost`). A block that
        is left without a decision and without an exception is an invalid event.
        """
        return Request(
            self._served,
            experiment,
            variant,
            prediction_id,
            unit_id=unit_id,
            segment=segment,
            version=version,
        )

    def counts(self) -> Counts:
        """What has become of all events of this process, at one moment."""
        return self._pump.counts()

    @property
    def sent(self) -> int:
        """How many events Kafka has acknowledged."""
        return self.counts().sent

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many events were dropped, by reason: buffer_full, send_failed, invalid, closed."""
        return self.counts().dropped

    @property
    def pending(self) -> int:
        """How many events are still on their way."""
        return self.counts().pending

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait for at most `timeout` seconds until nothing is pending; whether that came true."""
        return self._pump.buffer.wait_until_empty(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what is pending for at most `timeout` seconds; whether all was settled.

        What is left then is counted as dropped (`closed`). Hanging up may take a second more.
        """
        return self._pump.close(timeout)

    def __enter__(self) -> ExperimentClient:  # noqa: PYI034  # Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _served(self, request: Request, latency_ms: float, *, failing: bool) -> None:
        facts = request.facts()
        unit_id = facts["unit_id"]
        self._offer(
            self._predictions,
            unit_id,
            lambda: events.prediction(**facts, latency_ms=latency_ms, time=_or_now(None)),
            failing=failing,
        )

    def _offer(
        self,
        topic: str,
        unit_id: Identifier | None,
        make: Callable[[], events.Event],
        *,
        failing: bool = False,
    ) -> None:
        """Have the event that `make` gives sent; `failing`: raise nothing even if strict."""
        try:
            event = make()
            message = Message(self._key(event, unit_id), event)
        except (
            Exception
        ) as error:  # values of any library may raise anything, and requests must go on
            self._pump.buffer.refuse()
            if self._strict and not failing:
                raise
            self._notices.warn(
                "invalid", "a call makes no usable event and is dropped: %s", str(error)
            )
            return
        self._pump.put(topic, message)

    def _key(self, event: events.Event, unit_id: Identifier | None) -> bytes:
        if self._key_by == "prediction_id":
            return str(event["prediction_id"]).encode()
        if unit_id is None:
            raise ValueError(
                f"unit_id is missing for {event['type']} {event['prediction_id']!r}: with key_by='unit_id'"
                " it decides the partition, and a prediction and its outcome have to meet there"
            )
        return identifier("unit_id", unit_id).encode()


def _or_now(time: Time | None) -> Time:
    return int(clock.time() * 1000) if time is None else time


def _addresses(servers: str | Sequence[str]) -> list[str]:
    parts = servers.split(",") if isinstance(servers, str) else servers
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise ValueError(f"servers is {servers!r}, expected host:port of at least one broker")
    return found
