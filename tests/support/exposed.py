"""What monitors and workers expose: the names of their series, and which values labels can have. Pure."""

from collections.abc import Iterable, Mapping
from typing import get_args

from prometheus_client.core import Metric

from abmonitor.api_guard import Guard
from abmonitor.flags import Following
from abmonitor.notify import Notifications
from abmonitor.service_telemetry import ServiceTelemetry
from abmonitor.telemetry import ViewCollector
from abmonitor.view import View
from abmonitor.worker_telemetry import WorkerTelemetry
from alerts.actions import ACTIONS
from alerts.causes import Word
from alerts.judge import Phase
from alerts.standing import State
from stream.intake import IntakeState


_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
}

EVENTS = frozenset(
    {"predictions", "outcomes", "duplicate", "late", "ignored", "unmatched", "rejected"}
)
"""What can become of an event, as docs/worker.md has it."""

VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("abmonitor_treatment_state", "state"): frozenset(State),
    ("experiment_variant_state:abmonitor_treatment_state:max", "state"): frozenset(State),
    ("abmonitor_guardrail_phase", "state"): frozenset(Phase),
    ("abmonitor_guardrail_evidence_ratio", "reason"): frozenset({"harm", "safe"}),
    ("abmonitor_treatment_hold_cause", "reason"): frozenset(get_args(Word)),
    ("abmonitor_decisions_total", "reason"): frozenset(ACTIONS),
    ("abmonitor_worker_partition_state", "state"): frozenset(IntakeState),
    ("abmonitor_events_total", "result"): EVENTS,
    ("abmonitor_worker_events_total", "result"): EVENTS,
    ("abmonitor_notifications_total", "result"): frozenset({"sent", "failed", "dropped"}),
}
"""By metric and label: all values that there are."""


def series_names() -> frozenset[str]:
    """The names of all series that a monitor or a worker can expose, as PromQL has them."""
    service = ServiceTelemetry(View, Notifications(()), Following({}))
    collectors = (ViewCollector(View), service, Guard())
    of_monitor = (name for each in collectors for name in _names(each.describe()))
    of_worker = _names(WorkerTelemetry(0.05, lambda: 0.0).registry.collect())
    return frozenset((*of_monitor, *of_worker))


def _names(families: Iterable[Metric]) -> Iterable[str]:
    for family in families:
        yield from (family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",)))
