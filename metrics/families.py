"""Prometheus families of experiments: what a snapshot holds, in base units. Pure, but for the library.

Counters come from totals and mature cohorts, which never shrink; gauges from the latest snapshot. A
value that cannot be known has no series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from metrics.compare import QUANTILES as COMPARED_QUANTILES
from metrics.compare import Comparison, confusion_of, estimate, metrics_of
from metrics.drift import Drift
from metrics.experiment import Experiment
from metrics.ledger import Ledger
from metrics.snapshot import Snapshot, VariantFacts


QUANTILES = (0.5, 0.95, 0.99)
_OF = ["experiment", "variant"]
_ELSEWHERE = {"latency_mean_ms", *COMPARED_QUANTILES, "money_per_prediction"}
"""Metrics that are no ratios: latencies of windows are exposed in seconds, and money as money."""
_CONFUSION = {"tp": ("1", "1"), "fp": ("1", "0"), "tn": ("0", "0"), "fn": ("0", "1")}
"""Cells as label values: predicted, actual."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One experiment as it is exposed."""

    experiment: Experiment
    snapshot: Snapshot
    comparisons: Mapping[str, Comparison]
    drift: Drift | None = None
    """None where nobody looked for it."""


def describe() -> list[Metric]:
    """All families, empty: so that registering asks nobody for numbers."""
    return list(_Families().all())


def families(experiments: Iterable[Shown]) -> list[Metric]:
    """All families with the series of `experiments`, and of no others."""
    made = _Families()
    for shown in experiments:
        made.add(shown)
    return list(made.all())


class _Families:
    """The families of one scrape."""

    def __init__(self) -> None:
        counter, gauge = CounterMetricFamily, GaugeMetricFamily
        self.predictions = counter(
            "abmonitor_predictions", "Predictions that were counted.", labels=_OF
        )
        self.errors = counter(
            "abmonitor_prediction_errors", "Predictions whose request failed.", labels=_OF
        )
        self.acted = counter(
            "abmonitor_acted_predictions", "Predictions that were acted on.", labels=_OF
        )
        self.labels = counter(
            "abmonitor_labelled_predictions",
            "Predictions whose outcome was seen, by decision and truth; provisional.",
            labels=[*_OF, "predicted", "actual"],
        )
        self.matured = counter(
            "abmonitor_matured_predictions",
            "Predictions whose label is final, by decision and truth.",
            labels=[*_OF, "predicted", "actual"],
        )
        self.metric = gauge(
            "abmonitor_metric_ratio",
            "A metric of a variant since the beginning (profit in unit costs); those that need labels"
            " are of mature cohorts.",
            labels=[*_OF, "metric"],
        )
        self.rap = gauge(
            "abmonitor_rap_ratio", "Relative achieved profit of mature cohorts.", labels=_OF
        )
        self.money = gauge(
            "abmonitor_money_per_prediction",
            "Value less cost of a prediction of mature cohorts, capped, in the currency of the events.",
            labels=_OF,
        )
        self.capped = counter(
            "abmonitor_capped_predictions",
            "Predictions whose label is final and whose value less cost was more than the cap.",
            labels=_OF,
        )
        self.units = counter(
            "abmonitor_units",
            "Units of the sample by the variant that they were first seen in.",
            labels=_OF,
        )
        self.crossed = counter(
            "abmonitor_units_crossed",
            "Units of the sample that were seen in this variant after another one.",
            labels=_OF,
        )
        self.unitless = counter(
            "abmonitor_unitless_predictions",
            "Predictions without the unit that their experiment is randomised by.",
            labels=_OF,
        )
        self.latency = gauge(
            "abmonitor_latency_seconds",
            "Latency of predictions in a rolling window.",
            labels=[*_OF, "window", "quantile"],
        )
        self.mean_latency = gauge(
            "abmonitor_latency_mean_seconds",
            "Mean latency of predictions in a rolling window.",
            labels=[*_OF, "window"],
        )
        self.arrived = gauge(
            "abmonitor_window_predictions",
            "Predictions that arrived in a rolling window.",
            labels=[*_OF, "window"],
        )
        self.window_errors = gauge(
            "abmonitor_error_ratio",
            "Share of predictions that failed in a rolling window.",
            labels=[*_OF, "window"],
        )
        self.slow = gauge(
            "abmonitor_slow_ratio",
            "Share of predictions slower than slo_ms in a rolling window.",
            labels=[*_OF, "window"],
        )
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
        self.watermark = gauge(
            "abmonitor_watermark_timestamp_seconds",
            "All records that arrived before this are counted.",
            labels=["experiment"],
        )
        self.labels_final = gauge(
            "abmonitor_labels_final_timestamp_seconds",
            "The labels of all predictions that arrived before this are final.",
            labels=["experiment"],
        )

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(self, shown: Shown) -> None:
        """Add the series of one experiment."""
        name, snapshot = shown.experiment.name, shown.snapshot
        for variant, facts in snapshot.variants.items():
            self._variant([name, variant], facts, shown)
        for treatment, comparison in shown.comparisons.items():
            self._comparison([name, treatment], comparison)
        if shown.drift is not None:
            self._drift(shown.experiment, shown.drift)
        if snapshot.watermark is not None:
            self.watermark.add_metric([name], snapshot.watermark / 1000)
        if snapshot.matured is not None:
            self.labels_final.add_metric([name], snapshot.matured / 1000)

    def _variant(self, labels: list[str], facts: VariantFacts, shown: Shown) -> None:
        experiment, total = shown.experiment, facts.total
        self.predictions.add_metric(labels, total.predictions)
        self.errors.add_metric(labels, total.errors)
        self.acted.add_metric(labels, total.acted)
        confusion = confusion_of(facts.mature, experiment)
        acted_only = experiment.labels.observed == "acted"
        for cell, (predicted, actual) in _CONFUSION.items():
            if acted_only and predicted == "0":
                continue  # nobody learns what would have been
            where = [*labels, predicted, actual]
            self.labels.add_metric(where, getattr(total.cells, cell).n)
            self.matured.add_metric(where, getattr(confusion, cell).n)
        values = metrics_of(total, facts.mature, experiment)
        for metric, value in values.items():
            if value is not None and metric not in _ELSEWHERE:
                self.metric.add_metric([*labels, metric], value)
        if values["rap"] is not None:
            self.rap.add_metric(labels, values["rap"])
        self._declared(labels, facts, values, experiment)
        end = shown.snapshot.watermark
        for width in experiment.windows if end is not None else ():
            ledger = facts.window(end or 0, int(width))
            self._window([*labels, str(width)], ledger, experiment)

    def _declared(
        self,
        labels: list[str],
        facts: VariantFacts,
        values: Mapping[str, float | None],
        experiment: Experiment,
    ) -> None:
        """What only some experiments have."""
        if experiment.money is not None:
            self.capped.add_metric(labels, facts.mature.capped)
            if values["money_per_prediction"] is not None:
                self.money.add_metric(labels, values["money_per_prediction"])
        if experiment.randomised_by == "unit":
            self.units.add_metric(labels, facts.total.units)
            self.crossed.add_metric(labels, facts.total.crossed)
            self.unitless.add_metric(labels, facts.total.unitless)

    def _window(self, labels: list[str], ledger: Ledger, experiment: Experiment) -> None:
        self.arrived.add_metric(labels, ledger.predictions)
        if ledger.error_rate is not None:
            self.window_errors.add_metric(labels, ledger.error_rate)
        slow = estimate("slow_rate", ledger, experiment)
        if slow is not None:
            self.slow.add_metric(labels, slow.value)
        if ledger.moments.mean_ms is not None:
            self.mean_latency.add_metric(labels, ledger.moments.mean_ms / 1000)
        for quantile, value in zip(QUANTILES, ledger.latency.quantiles(*QUANTILES), strict=True):
            if value is not None:
                self.latency.add_metric([*labels, str(quantile)], value / 1000)

    def _comparison(self, labels: list[str], comparison: Comparison) -> None:
        for family, found, scale in (
            (self.value, comparison.net_business_value, 0.01),
            (self.difference, comparison.differences.get("rap"), 1),
        ):
            for metric in ("estimate", "lower", "upper") if found else ():
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
