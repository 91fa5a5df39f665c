"""Guardrails as people declare them: what must not get worse, and by how much."""

import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, MINUTE, Experiment
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.snapshot import LONGEST_FINE_WINDOW


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

_OF_THRESHOLDS = {"every": MINUTE, "consecutive": 3, "min_count": 100}
_OF_SEQUENTIAL = {"weight": 1.0, "detect": None, "warm_up": 0}
"""Options of one kind of test only, with their defaults."""


class Guardrail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound on one metric of a treatment.

    A threshold compares the metric over the last `window` with `min` or `max`, or with the control's
    value by `margin` (absolute) or `relative_margin`; it fails after `consecutive` failing looks in a
    row. Label-free metrics are looked at every `every` (see `step`); metrics that need labels at every
    new mature cohort, over the last `window` of mature cohorts. Looks with fewer than `min_count`
    predictions of the treatment (and of the control, where it is compared) are inconclusive.

    A sequential test compares the treatment with the control since the epoch began, and may be looked
    at all the time: it fails once and for all when it is proven at its part of alpha (`weight`) that the
    treatment is worse by more than `margin` or `relative_margin` (0 where neither is given), and passes
    while it is proven that it is not.
    """

    metric: str
    test: Literal["threshold", "sequential"] = "threshold"
    window: Duration | None = None
    every: Duration = Duration(MINUTE)
    min: float | None = None
    max: float | None = None
    margin: Annotated[float, Meta(ge=0)] | None = None
    relative_margin: Annotated[float, Meta(ge=0)] | None = None
    consecutive: Annotated[int, Meta(ge=1)] = 3
    min_count: Annotated[int, Meta(ge=1)] = 100
    weight: Annotated[float, Meta(ge=0.001, le=1000)] = 1.0
    """The share of alpha that a sequential test gets, against the weights of the others."""
    detect: Annotated[float, Meta(gt=0)] | None = None
    """Harm beyond the margin that is worth finding; sequential tests are sharpest there."""
    warm_up: Duration = Duration(0)
    """What arrives this soon after an epoch begins is left out of a sequential test at arrival."""
    landmark: Duration | None = None
    """Judge labels as they were this long after the prediction (one of `labels.landmarks`)."""

    @property
    def name(self) -> str:
        """How reports and series call this guardrail; unique within an experiment."""
        parts = (self.metric, self.test, self.window, self.landmark)
        return ":".join(str(part) for part in parts if part)

    @property
    def step(self) -> int:
        """Milliseconds between two looks of a label-free metric.

        Longer windows are summed from coarse panes, so that they move on with those only.
        """
        pane = COARSE_WIDTH if (self.window or 0) > LONGEST_FINE_WINDOW else FINE_WIDTH
        return -(-self.every // pane) * pane

    def limit(self, control: float | None) -> float | None:
        """Where harm begins for a sequential test: an effect (`alerts.judge.Effect`) beyond it is harm.

        Treatment minus control, but of shares that are compared by a relative margin treatment over
        control. Where either direction is harm it is the upper limit, and the lower one its negative, or its
        inverse. `control` is the control's value; None where it is needed and not known.
        """
        metric, relative = CATALOGUE[self.metric], self.relative_margin
        if metric.share and self.margin is None:
            return 1 + (relative or 0.0)
        tolerated = self.margin or 0.0
        if relative:
            if control is None:
                return None
            tolerated = relative * abs(control)
        return -tolerated if tolerated and metric.harm == "falling" else tolerated

    def problems(self, experiment: Experiment) -> Iterator[Problem]:
        """Everything that is wrong with this guardrail in `experiment`."""
        metric = CATALOGUE.get(self.metric)
        if metric is None:
            close = get_close_matches(self.metric, CATALOGUE, n=1)
            meant = f"did you mean {close[0]!r}?" if close else None
            expected = meant or f"expected one of {', '.join(CATALOGUE)}"
            yield "metric", f"unknown metric {self.metric!r}; {expected}"
            return
        yield from self._unknowable(experiment)
        if self.margin is not None and self.relative_margin is not None:
            yield "relative_margin", "expected either margin or relative_margin, got both"
        for name in ("min", "max", "margin", "relative_margin"):
            bound = getattr(self, name)
            if bound is not None and not math.isfinite(bound):
                yield name, f"expected a finite number, got {bound}"
        yield from self._idle()
        yield from self._scale()
        if self.landmark is not None:
            yield from self._landmark_problems(experiment)
        if self.test == "threshold":
            yield from self._threshold_problems()
        else:
            yield from self._sequential_problems(experiment)

    def _idle(self) -> Iterator[Problem]:
        """Options that the other kind of test has."""
        names = _OF_THRESHOLDS if self.test == "sequential" else _OF_SEQUENTIAL
        for name, default in names.items():
            if getattr(self, name) != default:
                yield name, f"a {self.test} test has no `{name}`, so that it would do nothing"

    def _scale(self) -> Iterator[Problem]:
        """Bounds that no share can reach: points are meant, or per cent."""
        metric = CATALOGUE[self.metric]
        if not metric.bounded:
            return
        for name in ("min", "max", "margin", "detect"):
            bound = getattr(self, name)
            if bound is not None and 1 < abs(bound) < math.inf:
                yield (
                    name,
                    f"{self.metric} is a share: expected at most 1 (0.05 is five points), got {bound:g}",
                )

    def _unknowable(self, experiment: Experiment) -> Iterator[Problem]:
        metric = CATALOGUE[self.metric]
        if metric.priced and experiment.profitability is None:
            yield "metric", f"{self.metric} needs `profitability` of the experiment"
        if metric.every_label and experiment.labels.observed == "acted":
            unknown = "cannot be known where labels are observed for acted predictions only"
            yield "metric", f"{self.metric} {unknown}; use profit_per_prediction"
        if metric.needs and getattr(experiment, metric.needs) is None:
            yield "metric", f"{self.metric} needs `{metric.needs}` of the experiment"

    def _landmark_problems(self, experiment: Experiment) -> Iterator[Problem]:
        if self.test == "threshold":
            yield "landmark", "a threshold sees final labels only; expected test: sequential"
        elif not CATALOGUE[self.metric].labelled:
            yield "landmark", f"{self.metric} needs no labels, so that there is nothing to wait for"
        elif self.landmark not in experiment.labels.landmarks:
            known = ", ".join(map(str, experiment.labels.landmarks)) or "there are none"
            yield "landmark", f"expected one of `labels.landmarks` ({known}), got {self.landmark}"

    def _sequential_problems(self, experiment: Experiment) -> Iterator[Problem]:
        metric = CATALOGUE[self.metric]
        if not metric.sequential:
            yield (
                "test",
                f"there is no sequential test of {self.metric}; use slow_rate with `slo_ms`",
            )
        if self.min is not None or self.max is not None:
            yield "test", "a sequential test takes margin or relative_margin, not min or max"
        if metric.share and self.margin is not None and self.margin >= 1:
            told = "expected a difference of shares, below 1 (0.01 is one point)"
            yield "margin", f"{told}, got {self.margin:g}"
        if self.window is not None:
            yield "window", "a sequential test sees everything since the epoch began, not a window"
        if metric.share and self.metric != "error_rate" and experiment.randomised_by == "unit":
            assumed = "takes predictions as randomised one by one, but here units are"
            yield "test", f"the sequential test of {self.metric} {assumed}; use a threshold"
        if self.warm_up and metric.labelled:
            yield (
                "warm_up",
                f"{self.metric} is judged by cohorts; a warm-up is for what is known at arrival",
            )
        if self.relative_margin is not None and metric.may_be_negative:
            yield (
                "relative_margin",
                f"{self.metric} may be 0 or below, so that a share of it means nothing; use margin",
            )

    def _threshold_problems(self) -> Iterator[Problem]:
        relative = (self.margin, self.relative_margin) != (None, None)
        if CATALOGUE[self.metric].relative_only and relative:
            yield "margin", f"{self.metric} already is a difference to the control; use min or max"
        bounds = [self.min, self.max, self.margin, self.relative_margin]
        if all(bound is None for bound in bounds):
            yield "metric", "a threshold needs one of min, max, margin or relative_margin"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield "min", f"expected at most max, {self.max:g}, got {self.min:g}"
        if self.window is None:
            yield "metric", "a threshold needs a window, such as `window: 5m`"
        elif self.window % FINE_WIDTH or not 0 < self.window <= 8 * DAY:
            yield "window", f"expected a multiple of 10s, above 0 and at most 8d, got {self.window}"
        if self.every % FINE_WIDTH or not self.every:
            yield "every", f"expected a multiple of 10s, got {self.every}"
