"""The stack's rules: promtool's own checks and tests, and that every rule is tested both ways and asks for what there is."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.exposed import VALUES, series_names
from support.servers.base import or_skip
from support.servers.prometheus import promtool


FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RUNBOOKS = FOLDER.parent / "runbooks"
DASHBOARDS = FOLDER.parent / "grafana"
FILES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOK = "http://localhost:8000/runbooks/"
DASHBOARD = "http://localhost:3000/d/"
UIDS = {"abmonitor-experiment", "abmonitor-fleet", "abmonitor-pipeline"}
ALWAYS = "AbmonitorWatchdog"
"""It has no case in which it does not fire."""
NAMES = {
    "Rollback": "warning",
    "RollbackFailed": "critical",
    "GuardrailFailing": "warning",
    "HoldOverdue": "critical",
    "SampleRatioMismatch": "warning",
    "DataStale": "critical",
    "Silent": "critical",
    "MissingLabels": "warning",
    "DeadLetters": "warning",
    "WorkerLag": "warning",
    "WatermarkStalled": "critical",
    "LabelsStalled": "critical",
    "RedisDown": "critical",
    "StateIncomplete": "warning",
    "NoLeader": "critical",
    "Watchdog": "none",
    "MonitorDown": "critical",
    "WorkerDown": "critical",
    "PausedHarm": "critical",
    "Braked": "critical",
    "ControlLogBehind": "warning",
    "NotificationsFailing": "warning",
    "FlagWrong": "warning",
}
"""What routes and dashboards go by: the alerts, and the worst that each can be."""
WORST = "none", "warning", "critical"


class Rule(NamedTuple):
    """An alert: what tells it from others of its name is how severe it is."""

    alert: str
    severity: str
    expr: str
    annotations: Mapping[str, str]
    labels: Mapping[str, str]


class Case(NamedTuple):
    """What a unit test expects of an alert at one moment; no severities: that it does not fire."""

    alert: str
    severities: frozenset[str]
    where: str


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return found


def entries() -> Iterator[dict[str, Any]]:
    for file in FILES:
        for group in read(file)["groups"]:
            yield from group["rules"]


def alerts() -> list[Rule]:
    return [
        Rule(
            each["alert"],
            each["labels"]["severity"],
            each["expr"],
            each["annotations"],
            each["labels"],
        )
        for each in entries()
        if "alert" in each
    ]


def recorded() -> dict[str, str]:
    return {each["record"]: each["expr"] for each in entries() if "record" in each}


def cases() -> list[Case]:
    return [
        Case(
            check["alertname"],
            frozenset(e["exp_labels"]["severity"] for e in check.get("exp_alerts", ())),
            f"{file.name}: {test['name']}, at {check['eval_time']}",
        )
        for file in TESTS
        for test in read(file)["tests"]
        for check in test["alert_rule_test"]
    ]


def checked(*arguments: str) -> str:
    """What promtool says; a failed check fails the test."""
    with or_skip():
        status, said = promtool(*arguments, folder=FOLDER)
    assert status == 0, said
    return said


def bare(expr: str) -> str:
    """An expression without its comments."""
    return re.sub(r"#.*", "", expr)


def series_of(expr: str) -> set[str]:
    """The names of series that an expression asks for."""
    unquoted = re.sub(r'"[^"]*"', '""', bare(expr))
    return set(re.findall(r"(?<![\w:])(?:\w+:)?abmonitor_\w+(?::\w+)?", unquoted))


def name(rule: Rule) -> str:
    return f"{rule.alert}-{rule.severity}"


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    said = checked("check", "rules", "--lint=all", *map(str, FILES))
    assert said.count("SUCCESS") == len(FILES) == 4


def test_promtool_finds_nothing_wrong_with_the_configuration_as_it_is_deployed() -> None:
    said = checked("check", "config", "prometheus.yml")
    assert f"{len(FILES)} rule files found" in said


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_rules_do_what_their_unit_tests_say(file: Path) -> None:
    assert "SUCCESS" in checked("test", "rules", str(file))


def test_the_jobs_are_those_that_rules_ask_for() -> None:
    config = read(FOLDER / "prometheus.yml")
    jobs = {each["job_name"] for each in config["scrape_configs"]}
    asked = {job for rule in alerts() for job in re.findall(r'job="([^"]*)"', rule.expr)}
    assert asked == {"abmonitor-monitor", "abmonitor-worker"}
    assert asked <= jobs


def test_the_alerts_are_those_that_are_known_and_as_severe() -> None:
    found: dict[str, set[str]] = {}
    for rule in alerts():
        found.setdefault(rule.alert, set()).add(rule.severity)
    worst = {alert: max(levels, key=WORST.index) for alert, levels in found.items()}
    assert worst == {f"Abmonitor{each}": severity for each, severity in NAMES.items()}
    assert len(alerts()) == len({(rule.alert, rule.severity) for rule in alerts()})


@pytest.mark.parametrize("rule", alerts(), ids=name)
def test_an_alert_tells_what_it_is_about_and_where_to_look(rule: Rule) -> None:
    assert set(rule.labels) == {"severity", "source"}
    assert rule.labels["source"] == "prometheus"
    assert set(rule.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule.annotations["runbook_url"] == RUNBOOK + rule.alert
    assert (RUNBOOKS / f"{rule.alert}.md").is_file()
    where, _, variables = rule.annotations["dashboard_url"].removeprefix(DASHBOARD).partition("?")
    assert where in UIDS
    assert variables in {"", "var-experiment={{ $labels.experiment | urlquery }}"}


@pytest.mark.parametrize("rule", alerts(), ids=name)
def test_a_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(rule: Rule) -> None:
    about = [case for case in cases() if case.alert == rule.alert]
    assert [case.where for case in about if rule.severity in case.severities]
    assert rule.alert == ALWAYS or [case.where for case in about if not case.severities]


def test_unit_tests_are_of_alerts_that_there_are() -> None:
    assert {case.alert for case in cases()} == {rule.alert for rule in alerts()}


def test_rules_ask_for_nothing_that_is_not_exposed_or_recorded() -> None:
    known = series_names() | recorded().keys()
    asked = {each["expr"]: series_of(each["expr"]) for each in entries()}
    unknown = {expr: names - known for expr, names in asked.items() if names - known}
    assert not unknown
    assert len(frozenset().union(*asked.values())) > 25


def test_rules_ask_for_no_value_of_a_label_that_it_cannot_have() -> None:
    asked = 0
    for each in entries():
        for series, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", bare(each["expr"])):
            for label, _, values in re.findall(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"', matchers):
                if label != "job":
                    assert set(values.split("|")) <= VALUES[series, label], (series, label, values)
                    asked += 1
    assert asked > 15


def test_what_is_recorded_is_used_by_an_alert_or_a_dashboard() -> None:
    texts = [each["expr"] for each in entries()]
    texts += [file.read_text("utf-8") for file in DASHBOARDS.rglob("*.json")]
    for series in recorded():
        assert any(series in text for text in texts), series
        assert re.fullmatch(r"[a-z_]+:abmonitor_[a-z_]+:[a-z0-9_]+", series)


def test_unit_tests_give_series_that_are_exposed() -> None:
    known = series_names() | {"up"}
    for file in TESTS:
        for test in read(file)["tests"]:
            given = {each["series"].partition("{")[0] for each in test["input_series"]}
            assert given <= known, (test["name"], given - known)
