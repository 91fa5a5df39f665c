"""Touches the clock: a request that is being served, and how long that takes."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol


if TYPE_CHECKING:
    from types import TracebackType

    from abmonitor_client.fields import Identifier


class Report(Protocol):
    """Takes the prediction that a request has become."""

    def __call__(self, request: Request, latency_ms: float, *, failing: bool) -> None:
        """`failing`: an exception is on its way to the caller and must not be replaced."""


class Request:
    """One request: what is set on it within the `with` block is sent when the block is left.

    An exception makes it an error and goes on to the caller; also a cancellation does, because a variant that
    hangs until somebody loses patience has failed.
    """

    __slots__ = (
        "_report",
        "_started",
        "acted",
        "cost",
        "error",
        "experiment",
        "predicted",
        "prediction_id",
        "score",
        "segment",
        "unit_id",
        "variant",
        "version",
        "weight",
    )

    def __init__(
        self,
        report: Report,
        experiment: str,
        variant: str,
        prediction_id: Identifier,
        *,
        unit_id: Identifier | None = None,
        segment: str | None = None,
        version: str | None = None,
    ) -> None:
        self._report = report
        self._started = 0.0
        self.experiment = experiment
        self.variant = variant
        self.prediction_id = prediction_id
        self.unit_id = unit_id
        self.segment = segment
        self.version = version
        self.predicted: bool | None = None
        self.error: bool | None = None
        self.acted: bool | None = None
        self.score: float | None = None
        self.weight: float | None = None
        self.cost: float | None = None

    def facts(self) -> dict[str, Any]:
        """What has been set, as arguments of `ExperimentClient.predicted`."""
        return {field: getattr(self, field) for field in self.__slots__ if field[0] != "_"}

    def __enter__(self) -> Request:  # noqa: PYI034  # Self came with Python 3.11
        self._started = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        latency_ms = (perf_counter() - self._started) * 1000
        if kind is not None:
            self.error = True
        self._report(self, latency_ms, failing=kind is not None)
