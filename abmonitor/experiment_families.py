"""Prometheus families that take a snapshot and its book together: what is lost, and whether data can be trusted.

Pure, but for the library. A value that cannot be known has no series.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from abmonitor.at_risk import at_risk, difference_a_day
from abmonitor.view import ExperimentView
from alerts.health import labels_stalled, state_incomplete
from alerts.standing import WATCHED, Standing


_OF = ["experiment", "variant"]


def describe() -> list[Metric]:
    """All families, empty."""
    return list(_Families().all())


def families(experiments: Iterable[ExperimentView]) -> list[Metric]:
    """All families with the series of `experiments`, and of no others."""
    made = _Families()
    for view in experiments:
        made.add(view)
    return list(made.all())


class _Families:
    """The families of one scrape."""

    def __init__(self) -> None:
        self.a_day = GaugeMetricFamily(
            "abmonitor_profit_difference_per_day",
            "Profit per prediction of a treatment minus that of its control, times the treatment's predictions"
            " a day at the pace of the latest five minutes of data, in money or in costs of an action:"
            " estimate, and bounds that are valid at every look.",
            labels=[*_OF, "metric", "reason"],
        )
        self.at_risk = GaugeMetricFamily(
            "abmonitor_profit_at_risk_per_hour",
            "What a treatment loses against its control at the pace of the latest five minutes of data, at"
            " least 0, in money or in costs of an action; not of one that is rolled back.",
            labels=[*_OF, "reason"],
        )
        self.stalled = GaugeMetricFamily(
            "abmonitor_labels_stalled",
            "1 while predictions arrive and none has met its outcome for as long as that may take.",
            labels=["experiment"],
        )
        self.incomplete = GaugeMetricFamily(
            "abmonitor_state_incomplete",
            "1 where the log no longer reached back to the beginning of what is judged, which nothing is that"
            " was rolled back or has ended.",
            labels=["experiment"],
        )

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(self, view: ExperimentView) -> None:
        """Add the series of one experiment."""
        experiment, snapshot = view.experiment, view.snapshot
        name, end = experiment.name, snapshot.watermark
        for treatment in experiment.treatments:
            self._profit([name, treatment], view, treatment)
        if end is None:
            return
        self.stalled.add_metric([name], float(labels_stalled(experiment, snapshot, end)))
        standings = (view.book.standings.get(each, Standing()) for each in experiment.treatments)
        incomplete = any(
            state_incomplete(snapshot, each.begun) for each in standings if each.state in WATCHED
        )
        self.incomplete.add_metric([name], float(incomplete))

    def _profit(self, labels: list[str], view: ExperimentView, treatment: str) -> None:
        """What a treatment earns more, or less, than its control."""
        risk, a_day = at_risk(view, treatment), difference_a_day(view, treatment)
        reason = risk.unit.replace(" ", "_")
        if risk.an_hour is not None:
            self.at_risk.add_metric([*labels, reason], risk.an_hour)
        for metric in ("estimate", "lower", "upper") if a_day else ():
            value = getattr(a_day, metric)
            if value is not None:
                self.a_day.add_metric([*labels, metric, reason], value)
