"""Prometheus families of experiments: what a snapshot holds, in base units. Pure, but for the library.

A value that cannot be known has no series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric

from metrics.compare import Comparison
from metrics.comparison_families import ComparisonFamilies
from metrics.drift import Drift
from metrics.experiment import Experiment
from metrics.snapshot import Snapshot
from metrics.variant_families import VariantFamilies


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
        self.variants, self.comparisons = VariantFamilies(), ComparisonFamilies()
        self.watermark = GaugeMetricFamily(
            "abmonitor_watermark_timestamp_seconds",
            "All records that arrived before this are counted.",
            labels=["experiment"],
        )
        self.labels_final = GaugeMetricFamily(
            "abmonitor_labels_final_timestamp_seconds",
            "The labels of all predictions that arrived before this are final.",
            labels=["experiment"],
        )

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from self.variants.all()
        yield from self.comparisons.all()
        yield from (self.watermark, self.labels_final)

    def add(self, shown: Shown) -> None:
        """Add the series of one experiment."""
        name, snapshot = shown.experiment.name, shown.snapshot
        self.variants.add(shown.experiment, snapshot)
        self.comparisons.add(shown.experiment, shown.comparisons, shown.drift)
        if snapshot.watermark is not None:
            self.watermark.add_metric([name], snapshot.watermark / 1000)
        if snapshot.matured is not None:
            self.labels_final.add_metric([name], snapshot.matured / 1000)
