"""Prometheus families of comparisons: treatments against their control, and hints. Pure, but for the library.

A value that cannot be known has no series.
"""

import math
from collections.abc import Iterator, Mapping
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric

from metrics.advantage import Standing
from metrics.compare import Comparison
from metrics.drift import Drift
from metrics.experiment import Experiment


_OF = ["experiment", "variant"]
_BOUNDS = ("estimate", "lower", "upper")
_PARTS = ("accuracy", "latency", "errors")


class ComparisonFamilies:
    """The families of one scrape."""

    def __init__(self) -> None:
        gauge = GaugeMetricFamily
        self.value = gauge(
            "abmonitor_net_business_value_ratio",
            "Net business value of a treatment against its control (0.01 is 1 %): estimate, and bounds of"
            " its 95 % confidence sequence, valid at every look.",
            labels=[*_OF, "metric"],
        )
        self.difference = gauge(
            "abmonitor_rap_difference_ratio",
            "RAP of a treatment minus that of its control: estimate, and bounds of its 95 % confidence"
            " sequence, valid at every look.",
            labels=[*_OF, "metric"],
        )
        self.part = gauge(
            "abmonitor_net_business_value_part_ratio",
            "The three terms of the net business value of a treatment (0.01 is 1 %): gain in accuracy, cost of"
            " latency, risk of errors.",
            labels=[*_OF, "metric"],
        )
        self.ahead_from = gauge(
            "abmonitor_ahead_from",
            "Assumed profitability (ROI of the reference model as a share, or q) above which the treatment's RAP"
            " is ahead; the least that is possible where it is ahead from there on.",
            labels=[*_OF, "metric"],
        )
        self.ahead_to = gauge(
            "abmonitor_ahead_to",
            "Assumed profitability (ROI of the reference model as a share, or q) below which the treatment's RAP"
            " is ahead; +Inf where nothing bounds it.",
            labels=[*_OF, "metric"],
        )
        self.standing = gauge(
            "abmonitor_advantage_state",
            "1 for what the bounds of the difference of RAP say at the assumed profitability, 0 for the rest.",
            labels=[*_OF, "state"],
        )
        self.assumed = gauge(
            "abmonitor_assumed_profitability",
            "What the settings assume: unit profitability q, and the ROI of the reference model as a share.",
            labels=["experiment", "metric"],
        )
        self.stability = gauge(
            "abmonitor_score_stability_index",
            "Population stability index of a variant's scores, against those of its control or against its"
            " own first ones (reference): a hint, without an error guarantee.",
            labels=[*_OF, "reason"],
        )
        self.label_rate = gauge(
            "abmonitor_label_ratio",
            "Labels that came in an hour per prediction that arrived in it: a hint, without an error"
            " guarantee.",
            labels=_OF,
        )
        self.missing_labels = gauge(
            "abmonitor_missing_label_ratio",
            "Share of a day's predictions that never got a label: a hint, without an error guarantee.",
            labels=_OF,
        )
        self.changed = gauge(
            "abmonitor_cohort_change_standard_errors",
            "Distance of the control's latest day from the same hours of its first one, in standard errors"
            " of a cohort, where a change was noticed: a hint, without an error guarantee.",
            labels=[*_OF, "metric"],
        )

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(
        self, experiment: Experiment, comparisons: Mapping[str, Comparison], drift: Drift | None
    ) -> None:
        """Add the series of one experiment; `drift`: None where nobody looked for it."""
        self._assumed(experiment)
        for treatment, comparison in comparisons.items():
            self._comparison([experiment.name, treatment], comparison)
            self._advantage([experiment.name, treatment], comparison)
        if drift is not None:
            self._drift(experiment, drift)

    def _assumed(self, experiment: Experiment) -> None:
        q, precision = experiment.q, experiment.reference_precision
        if q is not None:
            self.assumed.add_metric([experiment.name, "q"], q)
        if q is not None and precision is not None:
            self.assumed.add_metric([experiment.name, "roi"], precision * q - 1)

    def _advantage(self, labels: list[str], comparison: Comparison) -> None:
        """For which assumptions the treatment is ahead, and whether it is proven at the declared one."""
        found = comparison.advantage
        if found is not None and found.ahead not in ("never", "level"):
            low, high = found.low, found.high
            where = [*labels, found.scale]
            self.ahead_from.add_metric(where, found.floor if low is None else low)
            self.ahead_to.add_metric(where, math.inf if high is None else high)
        if comparison.differences.get("rap") is not None:
            for state in get_args(Standing):
                self.standing.add_metric([*labels, state], float(state == comparison.standing))

    def _comparison(self, labels: list[str], comparison: Comparison) -> None:
        for part in _PARTS:
            worth = getattr(comparison.parts, part)
            if worth is not None:
                # Never -0.0, which a risk of no errors would be, and screens would show.
                self.part.add_metric([*labels, part], 0.01 * worth + 0.0)
        for family, found, scale in (
            (self.value, comparison.net_business_value, 0.01),
            (self.difference, comparison.differences.get("rap"), 1),
        ):
            for metric in _BOUNDS if found else ():
                value = getattr(found, metric)
                if value is not None:
                    family.add_metric([*labels, metric], scale * value)

    def _drift(self, experiment: Experiment, drift: Drift) -> None:
        """The raw numbers behind hints."""
        name = experiment.name
        for reason, indices in (
            ("control", drift.against_control),
            ("reference", drift.against_reference),
        ):
            for variant, index in indices.items():
                if index is not None:
                    self.stability.add_metric([name, variant, reason], index.value)
        for family, shares in (
            (self.label_rate, drift.label_rate),
            (self.missing_labels, drift.missing_labels),
        ):
            for variant, share in shares.items():
                if share is not None:
                    family.add_metric([name, variant], share.value)
        for series, change in drift.changes.items():
            if change is not None:
                self.changed.add_metric([name, experiment.control, series], change.distance)
