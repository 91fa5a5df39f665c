"""What an experiment is: its variants, labels and economics, as a person declares them."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from metrics.duration import Duration
from metrics.moment import Moment


Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Positive = Annotated[float, Meta(gt=0)]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which labels exist, how long they may take, and what a missing one means."""

    horizon: Duration
    grace: Duration = Duration(5 * MINUTE)
    observed: Literal["all", "acted", "explored"] = "all"
    when_missing: Literal["negative", "exclude"] = "negative"
    cohort: Duration = Duration(10 * MINUTE)
    late_for: Duration | None = None
    """How long after maturing an outcome is still told as late (not as unmatched)."""
    landmarks: tuple[Duration, ...] = ()
    """Shorter horizons, ascending, at which the labels that have come by then are counted, too."""

    @property
    def wait(self) -> int:
        """Milliseconds from a prediction's arrival until its label is final."""
        return self.horizon + self.grace

    @property
    def remembered(self) -> int:
        """Milliseconds from a prediction's arrival until its id is forgotten."""
        late_for = min(max(self.wait, HOUR), DAY) if self.late_for is None else self.late_for
        return self.wait + late_for


class Profitability(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a correct action earns for what an action costs, from one of three declarations."""

    reference_precision: Annotated[float, Meta(gt=0, le=1)] | None = None
    assumed_roi: Annotated[float, Meta(gt=-1)] | None = None
    q: Positive | None = None
    unit_revenue: Positive | None = None
    unit_cost: Positive | None = None

    def problem(self) -> str | None:
        """Why unit profitability cannot be told from this, or None."""
        q = self._ratio()
        if q is None:
            return (
                "expected exactly one of: q; unit_revenue and unit_cost; "
                "reference_precision and assumed_roi"
            )
        if not math.isfinite(q) or q <= 1:
            return (
                f"unit profitability q must be above 1 (an action must be able to pay), got {q:g}"
            )
        return None

    @property
    def unit_profitability(self) -> float:
        """Q = r/c: revenue of a correct action in units of an action's cost; always above 1.

        Raises ValueError when the declaration allows no such q.
        """
        q = self._ratio()
        problem = self.problem()
        if q is None or problem:
            raise ValueError(problem)
        return q

    def _ratio(self) -> float | None:
        pairs = (
            (self.q, 1.0),
            (self.unit_revenue, self.unit_cost),
            (None if self.assumed_roi is None else 1 + self.assumed_roi, self.reference_precision),
        )
        given = [pair for pair in pairs if pair[0] is not None]
        stray = (self.unit_cost is not None and self.unit_revenue is None) or (
            self.reference_precision is not None and self.assumed_roi is None
        )
        if len(given) != 1 or stray or given[0][1] is None or given[0][0] is None:
            return None
        return given[0][0] / given[0][1]


class BusinessValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a point of accuracy, a millisecond and a point of errors are worth, in per cent."""

    per_accuracy_point_pct: float = 0.5
    per_latency_ms_pct: float = -0.1
    per_error_point_pct: float = -10.0


class Money(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That outcomes have a value and predictions a cost, in one currency."""

    cap: Annotated[float, Meta(gt=0, le=100_000)]
    """Value less cost of one prediction counts as at most this much, gained or lost."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A planned change of the split."""

    at: Moment
    variants: dict[Name, Annotated[float, Meta(ge=0)]]


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the control is expected to do: how many predictions tests need follows from it."""

    positive_rate: Annotated[float, Meta(gt=0, lt=1)]
    recall: Annotated[float, Meta(ge=0, le=1)] = 0.5
    false_alarm_rate: Annotated[float, Meta(ge=0, le=1)] = 0.05
    error_rate: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    slow_rate: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    latency_sd_ms: Annotated[float, Meta(ge=0)] = 50.0
    money_sd: Annotated[float, Meta(gt=0)] | None = None


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A control, its treatments, and the assumptions under which they are compared."""

    name: Name
    control: Name
    variants: dict[Name, Annotated[float, Meta(ge=0)]]
    labels: Labels
    ramp: tuple[Step, ...] = ()
    """Later splits, in order of time; `variants` is the first one."""
    randomised_by: Literal["unit", "request"] = "request"
    unit_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The share of units, by a hash of their ids, that is looked at one by one."""
    profitability: Profitability | None = None
    business_value: BusinessValue = BusinessValue()
    windows: tuple[Duration, ...] = (Duration(5 * MINUTE), Duration(HOUR), Duration(DAY))
    weight_cap: Annotated[float, Meta(ge=1, le=1000)] = 1000.0
    money: Money | None = None
    slo_ms: Positive | None = None
    """Slower predictions are slow (see `slow_rate`), rounded up to an edge of a bucket of latency."""
    predictions_per_second: Positive | None = None
    expected: Expected | None = None

    def split_at(self, at: int) -> dict[str, float]:
        """The intended weights of all variants at `at` (epoch ms, arrival time)."""
        steps = [step for step in self.ramp if step.at <= at]
        return dict.fromkeys(self.variants, 0.0) | (steps[-1].variants if steps else self.variants)

    @property
    def treatments(self) -> tuple[str, ...]:
        """All variants but the control, in the order they were declared."""
        return tuple(variant for variant in self.variants if variant != self.control)

    @property
    def q(self) -> float | None:
        """Unit profitability, None where none was declared."""
        return self.profitability.unit_profitability if self.profitability else None

    @property
    def reference_precision(self) -> float | None:
        """The precision of the reference model, None where q was declared otherwise."""
        return self.profitability.reference_precision if self.profitability else None
