"""The documents name every metric, and none that there is not."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from abmonitor.api_guard import Guard
from abmonitor.flags import Following
from abmonitor.notify import Notifications
from abmonitor.service_telemetry import ServiceTelemetry
from abmonitor.telemetry import ViewCollector
from abmonitor.view import View
from abmonitor.worker_telemetry import WorkerTelemetry


DOCS = Path(__file__).parents[2] / "docs"
PREFIX = "abmonitor_"
OTHERS = "abmonitor_client"
"""What begins so is the client's: its module, and what it counts in the model service's process."""


def names_of(families: Iterable[Metric]) -> set[str]:
    """As PromQL calls them."""
    return {each.name + "_total" * (each.type == "counter") for each in families}


def of_monitor() -> set[str]:
    service = ServiceTelemetry(View, Notifications(()), Following({}))
    collectors = (ViewCollector(View), service, Guard())
    return {name for each in collectors for name in names_of(each.describe())}


def of_worker() -> set[str]:
    return names_of(WorkerTelemetry(0.05, lambda: 0.0).registry.collect())


def in_tables(text: str) -> set[str]:
    """The names in the first cells of the rows of tables."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", row)}


def test_the_table_of_the_monitor_is_complete_and_true() -> None:
    text = (DOCS / "metrics.md").read_text().partition("## Prometheus")[2]
    assert {PREFIX + name for name in in_tables(text)} == of_monitor()
    assert len(of_monitor()) > 60


def test_the_table_of_the_worker_is_complete_and_true() -> None:
    text = (DOCS / "worker.md").read_text()
    assert {name for name in in_tables(text) if name.startswith(PREFIX)} == of_worker()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_no_document_names_a_metric_that_there_is_not(path: Path) -> None:
    named = set(re.findall(r"\babmonitor_[a-z_]*[a-z]", path.read_text()))
    known = of_monitor() | of_worker()
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    assert {name for name in named if not name.startswith(OTHERS)} <= known


def test_labels_in_the_tables_are_those_that_series_have() -> None:
    text = (DOCS / "metrics.md").read_text().partition("## Prometheus")[2]
    told = {
        PREFIX + name: set(labels.split(","))
        for name, labels in re.findall(r"`([a-z_]+)\{([a-z,]+)\}`", text)
    }
    wrong = {}
    for collector in (
        ViewCollector(View),
        ServiceTelemetry(View, Notifications(()), Following({})),
    ):
        for family in collector.describe():
            name = family.name + "_total" * (family.type == "counter")
            has = set(getattr(family, "_labelnames", ())) - {"experiment", "variant"}
            has |= {"le"} if family.type == "histogram" else set()
            if has != told.get(name, set()):
                wrong[name] = has
    assert not wrong
