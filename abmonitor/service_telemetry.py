"""What a monitor tells of itself: how it works, what it leads, whether its log and flags are behind, whom it told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from abmonitor import __version__
from abmonitor.flags import Following
from abmonitor.http import Ready
from abmonitor.notify import Notifications
from abmonitor.ticks import Ticks
from abmonitor.view import View


_Family = GaugeMetricFamily | CounterMetricFamily
_Sample = tuple[list[str], float]
"""Labels and value."""


@dataclass(frozen=True, slots=True, eq=False)
class ServiceTelemetry(Collector):
    """Families of one monitor, beside those of the experiments."""

    view: Callable[[], View]
    notifications: Notifications
    following: Following
    ticks: Ticks | None = None
    """None where nobody counts them."""
    ready: Ready | None = None
    """Says why the monitor is not ready; None where nobody can tell."""

    def describe(self) -> Iterable[Metric]:
        """All families, without series."""
        return [*(each for each, _ in self._families()), *Ticks.describe()]

    def collect(self) -> Iterable[Metric]:
        """All families as of now."""
        for family, samples in self._families():
            for labels, value in samples:
                family.add_metric(labels, value)
            yield family
        if self.ticks is not None:
            yield from self.ticks.families()

    def _families(self) -> list[tuple[_Family, list[_Sample]]]:
        view = self.view()
        names = list(view.experiments)
        behind: list[_Sample] = (
            [] if view.as_of is None else [([], float(view.log_problem is not None))]
        )
        ready: list[_Sample] = [] if self.ready is None else [([], float(self.ready() is None))]
        return [
            (
                GaugeMetricFamily(
                    "abmonitor_build_info", "1 for the version that runs.", labels=["version"]
                ),
                [([__version__], 1.0)],
            ),
            (
                GaugeMetricFamily(
                    "abmonitor_ready",
                    "1 while the monitor is ready: its latest tick that went well is not long over.",
                    labels=[],
                ),
                ready,
            ),
            (
                GaugeMetricFamily(
                    "abmonitor_monitor_leader",
                    "1 for experiments that this monitor judges and acts on; another one has the rest.",
                    labels=["experiment"],
                ),
                [([name], float(name in view.leads)) for name in names],
            ),
            (
                GaugeMetricFamily(
                    "abmonitor_state_unknown",
                    "1 for experiments whose state got lost and is not back yet: nothing is judged.",
                    labels=["experiment"],
                ),
                [([name], float(name in view.unknown)) for name in names],
            ),
            (
                GaugeMetricFamily(
                    "abmonitor_control_log_behind",
                    "1 while decisions cannot be written to the control log.",
                    labels=[],
                ),
                behind,
            ),
            (
                GaugeMetricFamily(
                    "abmonitor_flag_wrong",
                    "1 for experiments whose flag is not what it should be.",
                    labels=["experiment"],
                ),
                [([name], 1.0) for name in sorted(self.following.problems)],
            ),
            (
                CounterMetricFamily(
                    "abmonitor_notifications",
                    "Notifications by notifier and what became of them.",
                    labels=["notifier", "result"],
                ),
                [([*key], float(n)) for key, n in sorted(self.notifications.counts().items())],
            ),
        ]
