"""Prometheus families of variants: what was counted of each by itself, in base units. Pure, but for the library.

Counters come from totals and mature cohorts, which never shrink; gauges from the latest snapshot. A
value that cannot be known has no series.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from metrics.compare import QUANTILES as COMPARED_QUANTILES
from metrics.compare import confusion_of, estimate, metrics_of
from metrics.drift import unlabelled
from metrics.experiment import Experiment
from metrics.latency import bucket_of
from metrics.ledger import Ledger
from metrics.moments import LATENCY_UNIT_MS
from metrics.snapshot import Snapshot, VariantFacts


QUANTILES = (0.5, 0.95, 0.99)
EDGES_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""Edges of the latency histogram. Ours are 2 % apart: each stands for the first of ours that is not below it."""

_OF = ["experiment", "variant"]
_ELSEWHERE = {"latency_mean_ms", *COMPARED_QUANTILES, "money_per_prediction"}
"""Metrics that are no ratios: latencies of windows are exposed in seconds, and money as money."""
_CONFUSION = {"tp": ("1", "1"), "fp": ("1", "0"), "tn": ("0", "0"), "fn": ("0", "1")}
"""Cells as label values: predicted, actual."""
_BUCKETS = bucket_of(np.array(EDGES_MS, dtype=np.float64))
_LESS_OR_EQUAL = [str(edge / 1000) for edge in EDGES_MS]


class VariantFamilies:
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
        self.unlabelled = counter(
            "abmonitor_matured_unlabelled_predictions",
            "Predictions whose label is final, that had to get one and never did, but for failed requests.",
            labels=_OF,
        )
        self.latencies = HistogramMetricFamily(
            "abmonitor_prediction_latency_seconds",
            "Latency of all predictions that state one; up to 2 % longer ones may count as within an edge.",
            labels=_OF,
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

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(self, experiment: Experiment, snapshot: Snapshot) -> None:
        """Add the series of all variants of one experiment."""
        for variant, facts in snapshot.variants.items():
            self._variant([experiment.name, variant], facts, experiment, snapshot.watermark)

    def _variant(
        self, labels: list[str], facts: VariantFacts, experiment: Experiment, end: int | None
    ) -> None:
        total = facts.total
        self.predictions.add_metric(labels, total.predictions)
        self.errors.add_metric(labels, total.errors)
        self.acted.add_metric(labels, total.acted)
        confusion, cells = confusion_of(facts.mature, experiment), total.cells
        acted_only = experiment.labels.observed == "acted"
        for cell, (predicted, actual) in _CONFUSION.items():
            if acted_only and predicted == "0":
                continue  # nobody learns what would have been
            where = [*labels, predicted, actual]
            self.labels.add_metric(where, getattr(cells, cell).n)
            self.matured.add_metric(where, getattr(confusion, cell).n)
        self.unlabelled.add_metric(labels, unlabelled(facts.mature, experiment))
        values = metrics_of(total, facts.mature, experiment)
        for metric, value in values.items():
            if value is not None and metric not in _ELSEWHERE:
                self.metric.add_metric([*labels, metric], value)
        if values["rap"] is not None:
            self.rap.add_metric(labels, values["rap"])
        self._declared(labels, facts, values, experiment)
        self._latencies(labels, total)
        for width in experiment.windows if end is not None else ():
            ledger = facts.window(end or 0, int(width))
            self._window([*labels, str(width)], ledger, experiment)

    def _latencies(self, labels: list[str], total: Ledger) -> None:
        timed = total.latency.total
        if not timed:
            return
        counts = [*total.latency.up_to(_BUCKETS).tolist(), timed]
        pairs = list(zip([*_LESS_OR_EQUAL, "+Inf"], counts, strict=True))
        seconds = total.moments.latency * LATENCY_UNIT_MS / 1000
        self.latencies.add_metric(labels, pairs, seconds)

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
