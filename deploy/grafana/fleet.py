"""The dashboard of all experiments: which of them needs somebody. Pure."""

from board import Board, Row, decided, noted, to_monitor
from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from panels import columns, lines, numbers, timeline
from queries import Query, of_now, states
from style import (
    CONTROL,
    GOOD,
    HARM,
    KNOWN,
    NEUTRAL,
    STATE_COLOURS,
    WARNING,
    cell,
    colour,
    coloured_cell,
    properties,
    state_words,
    thresholds,
)


BOTH = "experiment, variant"
ROLLED_BACK = 'abmonitor_decisions_total{reason="rollback"}'
LOUD = 'ALERTS{alertname=~"Abmonitor.*",alertname!="AbmonitorWatchdog",alertstate="firing"}'
AT_RISK = "profit at risk, an hour"


def fleet() -> Board:
    """The dashboard to begin with."""
    return Board(
        uid="abmonitor-fleet",
        title="abmonitor / Fleet",
        description="All experiments: what stands how, what costs money, and what rings.",
        since="now-24h",
        variables=[],
        annotations=[decided('experiment!=""'), noted()],
        links=[
            to_monitor("Runbooks", "/runbooks/", "doc"),
            to_monitor("Decisions", "/api/v1/decisions"),
            to_monitor("Page of the monitor", "/"),
        ],
        rows=[
            Row(
                "Now", [_experiments(), _acting(), _rollbacks(), _risk(), _alerts_now(), _oldest()]
            ),
            Row("Experiments", [_table()]),
            Row("What happened", [_counts(), _history(), _decided(), _alerts()]),
        ],
    )


def _experiments() -> stat.Panel:
    return numbers(
        "Experiments",
        "How many the monitor knows. Fewer than you have declared: their settings were refused; see the"
        " monitor's log.",
        [Query("count(count by (experiment) (abmonitor_treatment_state))")],
        size=(4, 4),
        steps=thresholds((None, CONTROL)),
    )


def _acting() -> stat.Panel:
    states_of = "rolling_back|verifying|rollback_failed"
    said = of_now(f'abmonitor_treatment_state{{state=~"{states_of}"}}')
    found = f"max by ({BOTH}) ({said})"
    return numbers(
        "Rollbacks under way",
        "Treatments whose traffic is being taken away, or should be: more than a few minutes in this state"
        " means that a router does not obey. Red needs you.",
        [Query(f"sum({found})")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (1, HARM)),
    )


def _rollbacks() -> stat.Panel:
    return numbers(
        "Rollbacks, shown time",
        "How many were ordered. Several of different teams at once point to the platform (or to a brake that"
        " should have held) rather than to models.",
        [Query(f"round(sum(max by ({BOTH}) (increase({ROLLED_BACK}[$__range]))))")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (1, WARNING), (3, HARM)),
    )


def _risk() -> stat.Panel:
    return numbers(
        "Profit at risk, an hour",
        "What all treatments that are behind lose each hour against their controls, by what it is counted in:"
        " money, or costs of an action. 0 is what you want.",
        [
            Query(
                f"sum by (reason) (max by ({BOTH}, reason) (abmonitor_profit_at_risk_per_hour))",
                "{{reason}}",
            )
        ],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (0.01, WARNING)),
        named=True,
        nothing="none known",
    )


def _alerts_now() -> stat.Panel:
    return numbers(
        "Alerts that fire",
        "Alerts of abmonitor that fire now, without the watchdog, which always does. The list is below; each"
        " has a runbook.",
        [Query(f"count({LOUD}) or 0 * count(up)")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (1, HARM)),
    )


def _oldest() -> stat.Panel:
    return numbers(
        "Oldest data",
        "The age of the data of the experiment that is furthest behind. When this grows for all, workers or"
        " Kafka are the cause: see the pipeline dashboard.",
        [Query("time() - min(max by (experiment) (abmonitor_watermark_timestamp_seconds))")],
        size=(4, 4),
        steps=thresholds((None, NEUTRAL), (KNOWN, GOOD), (60, WARNING), (120, HARM)),
        unit="s",
        decimals=0,
    )


def _table() -> table.Panel:
    since = f"max by ({BOTH}) ({of_now('abmonitor_treatment_state_since_timestamp_seconds')})"
    harm = 'abmonitor_guardrail_evidence_ratio{reason="harm"}'
    lower = 'abmonitor_net_business_value_ratio{metric="lower"}'
    seen = "max by (experiment) (abmonitor_watermark_timestamp_seconds)"
    panel = columns(
        "Treatments, what costs most first",
        "One line a treatment: its state and for how long, what it loses an hour against its control, how near"
        " a rollback is (100 % rolls back), the lower bound of its net business value, and the age of its"
        " data. Click an experiment for the whole story.",
        {
            "state": states(by=BOTH),
            "for": f"time() - {since}",
            AT_RISK: f"max by ({BOTH}, reason) (abmonitor_profit_at_risk_per_hour)",
            "evidence of harm": f"clamp(max by ({BOTH}) ({harm}), 0, 1)",
            "value, at least": f"max by ({BOTH}) ({lower})",
            "age of data": f"{since} * 0 + on (experiment) group_left () (time() - {seen})",
        },
        size=(24, 8),
        labels={"experiment": "experiment", "variant": "treatment", "reason": "counted in"},
        sorted_by=AT_RISK,
    )
    link = {
        "title": "Open ${__value.text}",
        "url": "/d/abmonitor-experiment?var-experiment=${__value.text}"
        "&var-datasource=${datasource}&${__url_time_range}",
    }
    panel.override_by_name("experiment", properties(links=[link]))
    panel.override_by_name("state", coloured_cell(state_words()))
    for name in ("for", "age of data"):
        panel.override_by_name(name, cell(130, unit="dtdurations", decimals=0))
    for name in ("evidence of harm", "value, at least"):
        panel.override_by_name(name, cell(140, unit="percentunit", decimals=1))
    return panel.override_by_name("counted in", cell(110))


def _counts() -> timeseries.Panel:
    panel = lines(
        "Treatments by state",
        "How many treatments are in which state. Many in `hold` at once: something that they share is broken,"
        " such as labels or the pipeline.",
        [
            Query(
                f"sum by (state) (max by ({BOTH}, state) ({of_now('abmonitor_treatment_state')})) > 0",
                "{{state}}",
            )
        ],
        unit="short",
        size=(12, 8),
        low=0,
        decimals=0,
        stacked=True,
    )
    for state, shown in STATE_COLOURS.items():
        panel.override_by_name(state.value, properties(color=colour(shown)))
    return panel


def _history() -> statetimeline.Panel:
    return timeline(
        "States over time",
        "One row a treatment. Look for what changed at the same time in several experiments.",
        [Query(states(by=BOTH), "{{experiment}} · {{variant}}")],
        size=(12, 8),
        mappings=state_words(),
    )


def _decided() -> table.Panel:
    rose = f"max by ({BOTH}, reason) (increase(abmonitor_decisions_total[$__range]))"
    return columns(
        "Decisions in the shown time",
        "What the monitor and people decided, and how often. `explain` on the monitor tells the reasons of"
        " each; the link `Decisions` above lists them.",
        {"times": f"round({rose}) > 0"},
        size=(12, 8),
        labels={"experiment": "experiment", "variant": "treatment", "reason": "decision"},
        unit="none",
    )


def _alerts() -> table.Panel:
    panel = columns(
        "Alerts that fire now",
        "All of abmonitor's; the watchdog fires always, so that its silence is noticed. Each name leads to its"
        " runbook.",
        {
            "firing": 'max by (alertname, severity, experiment, variant) (ALERTS{alertname=~"Abmonitor.*",alertstate="firing"})'
        },
        size=(12, 8),
        labels={
            "alertname": "alert",
            "severity": "severity",
            "experiment": "experiment",
            "variant": "treatment",
        },
        labels_only=True,
    )
    link = {
        "title": "Runbook",
        "url": "${monitor:raw}/runbooks/${__value.text}",
        "targetBlank": True,
    }
    return panel.override_by_name("alert", properties(links=[link]))
