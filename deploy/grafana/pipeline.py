"""The dashboard of the pipeline: rate, errors, durations and backlog of workers and monitors. Pure."""

from dataclasses import dataclass

from board import Board, Row, noted, to_monitor
from grafana_foundation_sdk.builders import stat, timeseries
from panels import lines, numbers
from pipeline_backlog import backlog
from queries import QUANTILES, RATE, Query, quantile
from style import CONTROL, GOOD, HARM, KNOWN, NEUTRAL, WARNING, thresholds, words


WORKER, MONITOR = 'job="abmonitor-worker"', 'job="abmonitor-monitor"'
UP = {0: ("down", HARM), 1: ("up", GOOD)}


@dataclass(frozen=True, slots=True)
class _Timed:
    """Something that takes time, and the histogram that tells how much."""

    title: str
    histogram: str
    description: str


_TIMED = (
    _Timed(
        "A batch",
        "abmonitor_worker_batch_seconds",
        "From taking a batch to having counted it. When it grows with the lag, add workers, up to one a"
        " partition.",
    ),
    _Timed(
        "A commit to Redis",
        "abmonitor_worker_commit_seconds",
        "Writing a batch to Redis. When it grows and the batch with it, Redis is slow: see its memory, its"
        " disk, and who else uses it.",
    ),
    _Timed(
        "A tick of the monitor",
        "abmonitor_tick_seconds",
        "Reading everything and judging it. Near the interval between two ticks the monitor cannot keep up:"
        " it has too many experiments, or Redis is slow.",
    ),
)


_RIGHT: dict[str, object] = {
    "unit": "percentunit",
    "custom.axisPlacement": "right",
    "custom.axisSoftMax": 0.1,
    "custom.lineStyle": {"fill": "dash", "dash": [4, 6]},
    "color": {"mode": "fixed", "fixedColor": NEUTRAL},
}


def pipeline() -> Board:
    """The dashboard of whoever runs abmonitor."""
    return Board(
        uid="abmonitor-pipeline",
        title="abmonitor / Pipeline",
        description="Workers and monitors: do events flow, is anything lost, how far behind are we.",
        since="now-1h",
        variables=[],
        annotations=[noted()],
        links=[
            to_monitor("Runbooks", "/runbooks/", "doc"),
            to_monitor("Is the monitor ready?", "/readyz"),
        ],
        rows=[
            Row("Now", [_workers(), _monitors(), _redis(), _leaderless(), _behind(), _lag_now()]),
            Row("Rate and errors", [_events(), _rejected(), _failures(), *_corrections()]),
            Row("Durations", [_seconds(each) for each in _TIMED]),
            backlog(),
        ],
    )


def _workers() -> stat.Panel:
    return numbers(
        "Workers",
        "Workers that answer, of those that Prometheus knows. A worker that is gone is no loss as long as"
        " another takes its partitions: watch the age of the data.",
        [Query(f"sum(up{{{WORKER}}})", "up"), Query(f"count(up{{{WORKER}}})", "known")],
        size=(4, 4),
        steps=thresholds((None, HARM), (1, CONTROL)),
        named=True,
    )


def _monitors() -> stat.Panel:
    return numbers(
        "Monitors",
        "Monitors that answer, and those that are ready: read Redis and judge. One that is ready is enough; the"
        " others stand by. None: nobody is rolled back.",
        [Query(f"sum(up{{{MONITOR}}})", "up"), Query("sum(abmonitor_ready)", "ready")],
        size=(4, 4),
        steps=thresholds((None, HARM), (1, CONTROL)),
        named=True,
    )


def _redis() -> stat.Panel:
    return numbers(
        "Redis",
        "Whether Redis answers all workers and all monitors. While it is down nothing is lost, and nothing is"
        " decided: events wait in Kafka.",
        [
            Query("min(abmonitor_worker_redis_up)", "for workers"),
            Query("min(abmonitor_redis_up)", "for monitors"),
        ],
        size=(4, 4),
        steps=thresholds((None, HARM), (1, GOOD)),
        mappings=words(UP),
        named=True,
    )


def _leaderless() -> stat.Panel:
    led = "max by (experiment) (abmonitor_monitor_leader)"
    return numbers(
        "Without a leader",
        "Experiments that no monitor judges. For some seconds when a monitor ends; longer means that no monitor"
        " can write to Redis, and nobody is rolled back.",
        [Query(f"count({led}) - sum({led})")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (1, HARM)),
    )


def _behind() -> stat.Panel:
    return numbers(
        "Oldest watermark",
        "How far the slowest partition is behind. From two minutes on experiments hold.",
        [Query("max(min by (partition) (abmonitor_worker_watermark_age_seconds))")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (60, WARNING), (120, HARM)),
        unit="s",
        decimals=0,
    )


def _lag_now() -> stat.Panel:
    return numbers(
        "Records to count",
        "Of all partitions. A steady number is what is on its way; a growing one says that workers are too few"
        " or too slow.",
        [Query("sum(max by (topic, partition) (abmonitor_worker_lag_records))")],
        size=(4, 4),
        steps=thresholds((None, CONTROL)),
    )


def _events() -> timeseries.Panel:
    return lines(
        "Events by what became of them",
        "`predictions` and `outcomes` were counted; `duplicate` came twice and counts once; `late` and"
        " `unmatched` outcomes count nowhere; `ignored` are of experiments that are not configured;"
        " `rejected` went to the dead letters. A drop to 0 means that nothing arrives.",
        [
            Query(
                f"sum by (result) (rate(abmonitor_worker_events_total[{RATE}]))",
                "{{result}}",
            )
        ],
        unit="reqps",
        low=0,
        stacked=True,
    )


def _rejected() -> timeseries.Panel:
    return lines(
        "Dead letters by reason",
        "Events that cannot be used, a second. They are kept with their bytes: `abmonitor letters` shows and"
        " replays them. A new reason after a release of a producer is that release's mistake.",
        [
            Query(
                f'sum by (reason) (rate(abmonitor_worker_events_total{{result="rejected"}}[{RATE}]))',
                "{{reason}}",
            ),
            Query("max(abmonitor_worker_rejected_ratio)", "share of all", _RIGHT),
        ],
        unit="reqps",
        low=0,
    )


def _failures() -> timeseries.Panel:
    return lines(
        "Failed ticks, and notifications",
        "Ticks of monitors that failed, and notifications by what became of them. Failed ones are tried again;"
        " while they fail, people are told by Prometheus' own rules only. Anything but 0 here needs a look at"
        " the monitor's log.",
        [
            Query(f"sum(rate(abmonitor_tick_failures_total[{RATE}]))", "failed ticks"),
            Query(
                f"sum by (notifier, result) (rate(abmonitor_notifications_total[{RATE}]))",
                "{{notifier}}: {{result}}",
            ),
        ],
        unit="reqps",
        low=0,
    )


def _corrections() -> list[timeseries.Panel]:
    counters = {
        "rebalances": "abmonitor_worker_rebalances_total",
        "rewinds": "abmonitor_worker_rewinds_total",
        "conflicts": "abmonitor_worker_commit_conflicts_total",
    }
    return [
        lines(
            "Rebalances, rewinds and conflicts",
            "Partitions that moved, batches that were counted again because Redis had lost them, and commits"
            " that another worker was faster with. Each is put right by itself. Many of them: workers come and"
            " go, Redis loses data, or two groups count the same deployment.",
            [
                Query(f"sum(increase({counter}[{RATE}]))", name)
                for name, counter in counters.items()
            ],
            unit="short",
            low=0,
            high=1,
        ),
        lines(
            "Records counted before",
            "Records that came again after a restart and were left out: that is how counts stay exact. It"
            " should fall back to 0 soon.",
            [
                Query(
                    f"sum by (instance) (rate(abmonitor_worker_trimmed_records_total[{RATE}]))",
                    "{{instance}}",
                )
            ],
            unit="reqps",
            low=0,
            high=1,
        ),
        lines(
            "Log and flags",
            "1 while decisions cannot be written to the control log, or an experiment's flag is not what it"
            " should be. Rollbacks go on; what could not be written is written later.",
            [
                Query("max(abmonitor_control_log_behind)", "control log behind"),
                Query("max by (experiment) (abmonitor_flag_wrong)", "flag wrong: {{experiment}}"),
            ],
            unit="short",
            low=0,
            high=1,
            decimals=0,
        ),
    ]


def _seconds(timed: _Timed) -> timeseries.Panel:
    queries = [
        Query(quantile(share, timed.histogram), f"p{100 * share:.0f}") for share in QUANTILES
    ]
    described = f"{timed.description} Half of them, and 99 %, are at least this fast."
    return lines(timed.title, described, queries, unit="s", size=(8, 7), low=0)
