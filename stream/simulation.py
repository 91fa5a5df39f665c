"""What to simulate: experiments whose truth is known, as a person declares them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from metrics.duration import Duration
from metrics.experiment import HOUR, Name


Weight = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Sigma = Annotated[float, Meta(ge=0, le=5)]
Problem = tuple[tuple[str | int, ...], str]
"""Where something is wrong, and what."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a simulation: a time after its start, or a fraction of its length."""

    time: Duration | None = None
    fraction: float = 0.0

    def after_start(self, span: float) -> float:
        """Milliseconds from the start of a simulation that is `span` ms long."""
        return self.fraction * span if self.time is None else float(self.time)

    def __str__(self) -> str:
        return f"{self.fraction:g}" if self.time is None else str(self.time)


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lognormal latencies."""

    median_ms: Annotated[float, Meta(gt=0, le=1_000_000)]
    sigma: Sigma = 0.4


class LabelDelay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lognormal times from a prediction to its outcome."""

    median: Duration
    sigma: Sigma = 0.8


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores that reach `threshold` where, and only where, the decision is yes."""

    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    sharpness: Annotated[float, Meta(gt=0, le=100)] = 1.0
    """1: uniform on either side of the threshold; the more, the closer to 0 and 1."""


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is true of one variant."""

    tpr: Share
    """Share of yes among what is truly positive."""
    fpr: Share
    """Share of yes among what is truly negative."""
    weight: Weight = 1.0
    error_rate: Share = 0.0
    latency: Latency | None = None
    label_delay: LabelDelay | None = None
    """Absent: a median of a tenth of the horizon."""
    missing: Share = 0.0
    """Share of the outcomes that never come."""
    late: Share = 0.0
    """Share of the outcomes that come after the horizon, besides those whose delay is that long."""
    duplicates: Share = 0.0
    """Share of the predictions, and of the outcomes, that are written twice."""
    score: Score | None = None
    silent_from: Moment | None = None
    """From when on its requests leave no trace, as those of a service that crashes."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New values from a moment on, for one variant or for all."""

    at: Moment
    variant: Name | None = None
    tpr: Share | None = None
    fpr: Share | None = None
    error_rate: Share | None = None
    latency: Latency | None = None

    def applied(self, truth: Truth) -> Truth:
        """`truth` with the new values."""
        names = ("tpr", "fpr", "error_rate", "latency")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(truth, **given)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with it."""
        if all(value is None for value in (self.tpr, self.fpr, self.error_rate, self.latency)):
            yield (), "expected a new value for one of tpr, fpr, error_rate and latency"


class SimulatedExperiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment, and what is true of its variants."""

    name: Name
    variants: dict[Name, Truth]
    prevalence: Share
    """Share of what is truly positive."""
    horizon: Duration
    control: Name | None = None
    """Absent: the variant named first."""
    observed: Literal["all", "acted"] = "all"
    """`acted`: only predictions that were acted on have outcomes."""
    predictions_per_unit: Annotated[float, Meta(ge=1)] | None = None
    """On average; a unit always sees the same variant. Absent: each prediction is a unit."""
    change: Change | tuple[Change, ...] = ()
    labels_stop: Moment | None = None
    """From when on no outcomes come."""
    traffic: Annotated[float, Meta(gt=0, le=1e12)] = 1.0
    """Its share of all predictions, compared with that of the other experiments."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, in the order they were declared."""
        return self.change if isinstance(self.change, tuple) else (self.change,)

    @property
    def baseline(self) -> str:
        """The name of the control."""
        return self.control or next(iter(self.variants))

    @property
    def latest(self) -> int:
        """Milliseconds after its prediction at which even late outcomes have come."""
        return self.horizon + min(self.horizon, HOUR)

    def variant_problems(self) -> Iterator[Problem]:
        """What is wrong with the variants and the control."""
        if len(self.variants) < 2:
            yield ("variants",), f"expected at least two variants, got {len(self.variants)}"
        elif self.control is not None and self.control not in self.variants:
            yield ("control",), self._not_one(self.control)
        elif not self.variants[self.baseline].weight > 0:
            yield ("variants", self.baseline), "expected a weight above 0 for the control, got 0"

    def change_problems(self) -> Iterator[Problem]:
        """What is wrong with the changes."""
        for index, change in enumerate(self.changes):
            where = ("change", index) if isinstance(self.change, tuple) else ("change",)
            if change.variant is not None and change.variant not in self.variants:
                yield (*where, "variant"), self._not_one(change.variant)

    def _not_one(self, name: str) -> str:
        return f"{name!r} is not one of the variants: {', '.join(self.variants)}"


class Simulation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Experiments that run side by side."""

    experiments: Annotated[tuple[SimulatedExperiment, ...], Meta(min_length=1)]

    def moments(self) -> Iterator[tuple[str, Moment]]:
        """What happens to predictions at a moment: what, and when."""
        for experiment in self.experiments:
            for change in experiment.changes:
                yield f"{experiment.name}: the change", change.at
            for name, truth in experiment.variants.items():
                if truth.silent_from is not None:
                    yield f"{experiment.name}: the silence of {name}", truth.silent_from

    def label_moments(self) -> Iterator[tuple[str, Moment]]:
        """What happens to outcomes at a moment: what, and when."""
        for experiment in self.experiments:
            if experiment.labels_stop is not None:
                yield f"{experiment.name}: the end of the labels", experiment.labels_stop
