"""Telemetry: the families of the monitor's latest view, in a registry of its own."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import alerts.families
import metrics.families
from abmonitor import experiment_families
from abmonitor.view import ExperimentView, View


class ViewCollector(Collector):
    """Families of all configured experiments; a series ends with its experiment."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """All families without series: registering must not need a store."""
        return [*describe_experiments(), *own(View())]

    def collect(self) -> Iterable[Metric]:
        """All families as of the latest tick."""
        view = self._view()
        return [*of_experiments(view.experiments.values()), *own(view)]


def registry(view: Callable[[], View]) -> CollectorRegistry:
    """A registry that exposes what `view` returns; nothing global."""
    made = CollectorRegistry(auto_describe=False)
    made.register(ViewCollector(view))
    return made


def describe_experiments() -> list[Metric]:
    """The families of experiments, empty."""
    return [
        *metrics.families.describe(),
        *alerts.families.describe(),
        *experiment_families.describe(),
    ]


def of_experiments(experiments: Iterable[ExperimentView]) -> list[Metric]:
    """The same families, in the same order, with the series of `experiments`."""
    found = list(experiments)
    shown = [
        metrics.families.Shown(one.experiment, one.snapshot, one.comparisons, one.drift)
        for one in found
    ]
    judged = [
        alerts.families.Judged(
            one.experiment.name,
            one.experiment.control,
            one.experiment.treatments,
            one.book,
            one.experiment.guardrails,
        )
        for one in found
    ]
    return [
        *metrics.families.families(shown),
        *alerts.families.families(judged),
        *experiment_families.families(found),
    ]


def own(view: View) -> list[Metric]:
    """The monitor's own health."""
    events = CounterMetricFamily(
        "abmonitor_events", "Events by what became of them.", labels=["result", "reason"]
    )
    for name, count in view.fleet.tallies.items():
        result, _, reason = name.partition(":")
        events.add_metric([result, reason], count)
    pending = GaugeMetricFamily(
        "abmonitor_pending_predictions", "Predictions whose id is remembered.", labels=()
    )
    waiting = GaugeMetricFamily(
        "abmonitor_waiting_outcomes", "Outcomes that wait for their prediction.", labels=()
    )
    ticked = GaugeMetricFamily(
        "abmonitor_tick_timestamp_seconds", "The monitor's clock at its latest tick.", labels=()
    )
    if view.as_of is not None:  # before the first tick nothing is known
        pending.add_metric([], view.fleet.pending)
        waiting.add_metric([], view.fleet.waiting)
        ticked.add_metric([], view.as_of / 1000)
    return [events, pending, waiting, ticked]
