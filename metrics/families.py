"""Prometheus families of experiments: what a snapshot holds, in base units. Pure, but for the library.

Counters come from totals and mature cohorts, which never shrink; gauges from the latest snapshot. A
value that cannot be known has no series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from metrics.compare import QUANTILES as COMPARED_QUANTILES
from metrics.compare import Comparison, confusion_of, metrics_of
from metrics.experiment import Experiment
from metrics.snapshot import Snapshot, VariantFacts


QUANTILES = (0.5, 0.95, 0.99)
_OF = ["experiment", "variant"]
_MILLISECONDS = {"latency_mean_ms", *COMPARED_QUANTILES}
"""Metrics that are exposed in seconds, as latencies of windows."""
_CONFUSION = {"tp": ("1", "1"), "fp": ("1", "0"), "tn": ("0", "0"), "fn": ("0", "1")}
"""Cells as label values: predicted, actual."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One experiment as it is exposed."""

    experiment: Experiment
    snapshot: Snapshot
    comparisons: Mapping[str, Comparison]


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
        self.value = gauge(
            "abmonitor_net_business_value_ratio",
            "Net business value of a treatment against its control (0.01 is 1 %): estimate and interval.",
            labels=[*_OF, "metric"],
        )
        self.difference = gauge(
            "abmonitor_rap_difference_ratio",
            "RAP of a treatment minus that of its control: estimate and interval.",
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
            if value is not None and metric not in _MILLISECONDS:
                self.metric.add_metric([*labels, metric], value)
        if values["rap"] is not None:
            self.rap.add_metric(labels, values["rap"])
        end = shown.snapshot.watermark
        for width in experiment.windows if end is not None else ():
            self._window([*labels, str(width)], facts, end or 0, int(width))

    def _window(self, labels: list[str], facts: VariantFacts, end: int, width: int) -> None:
        ledger = facts.window(end, width)
        self.arrived.add_metric(labels, ledger.predictions)
        if ledger.error_rate is not None:
            self.window_errors.add_metric(labels, ledger.error_rate)
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
