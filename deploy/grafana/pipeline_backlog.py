"""Panels of the pipeline: what waits, who works on it, and who leads. Pure."""

from board import Row
from grafana_foundation_sdk.builders import statetimeline, table, timeseries
from panels import columns, lines, timeline
from queries import Query, intakes
from style import GOOD, HARM, NEUTRAL, WARNING, intake_words, thresholds, words


def backlog() -> Row:
    """How far behind it is, and why."""
    return Row(
        "Backlog: how far behind, and why?",
        [_lag(), _age(), _pending(), _intakes(), _leaders(), _joins(), _versions()],
    )


def _lag() -> timeseries.Panel:
    return lines(
        "Records not counted yet, by partition",
        "Of those that were there at the latest fetch. One partition alone that grows has a hot key, or its"
        " worker is stuck.",
        [
            Query(
                "max by (topic, partition) (abmonitor_worker_lag_records)",
                "{{topic}} {{partition}}",
            )
        ],
        unit="short",
        low=0,
    )


def _age() -> timeseries.Panel:
    panel = lines(
        "Age of the watermark, by partition",
        "How long ago everything had arrived that is counted. It should stay below some seconds, quiet"
        " partitions too. A line that rises by a second a second has stopped.",
        [
            Query(
                "min by (partition) (abmonitor_worker_watermark_age_seconds)",
                "partition {{partition}}",
            )
        ],
        unit="s",
        low=0,
    )
    return panel.thresholds(thresholds((None, GOOD), (60, WARNING), (120, HARM)))


def _pending() -> timeseries.Panel:
    return lines(
        "Predictions and outcomes that wait",
        "Ids that are remembered in Redis, and outcomes that came before their prediction. Both level off"
        " when the oldest are forgotten; without end, labels never mature. This is most of Redis' memory.",
        [
            Query("max(abmonitor_pending_predictions)", "ids remembered"),
            Query("max(abmonitor_waiting_outcomes)", "outcomes waiting"),
        ],
        unit="short",
        low=0,
    )


def _intakes() -> statetimeline.Panel:
    return timeline(
        "What partitions do",
        "`running` is good. `store away`: Redis does not answer. `log away`: Kafka does not. `contested`: two"
        " groups count the same deployment. `log cut`: the topic was made anew or lost records. docs/worker.md"
        " says what to do about each.",
        [Query(intakes(), "partition {{partition}}")],
        size=(8, 8),
        mappings=intake_words(),
    )


def _leaders() -> statetimeline.Panel:
    return timeline(
        "Who leads",
        "Which monitor judges and acts, by experiment. It changes when a monitor ends; often changing means"
        " that monitors lose their lease: slow Redis, or a machine without time.",
        [
            Query(
                "max by (experiment, instance) (abmonitor_monitor_leader)",
                "{{experiment}} · {{instance}}",
            )
        ],
        size=(8, 8),
        mappings=words({0: ("stands by", NEUTRAL), 1: ("leads", GOOD)}),
    )


def _joins() -> timeseries.Panel:
    return lines(
        "Outcomes that met their prediction",
        "Share of the outcomes that met their prediction in time, since each worker began. Well below 100 %:"
        " ids differ between the two topics, outcomes come after the horizon, or keys are on different"
        " partitions; `abmonitor check --live` finds out which.",
        [Query("max by (instance) (abmonitor_worker_join_ratio)", "{{instance}}")],
        unit="percentunit",
        size=(8, 8),
        low=0,
        high=1,
    )


def _versions() -> table.Panel:
    return columns(
        "What runs",
        "Version of each process. They should be the same, but for the minutes of an upgrade.",
        {"runs": "max by (job, instance, version) (abmonitor_build_info)"},
        size=(24, 6),
        labels={"job": "job", "instance": "instance", "version": "version"},
        labels_only=True,
    )
