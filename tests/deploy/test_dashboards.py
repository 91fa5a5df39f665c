"""Dashboards: what the generator made, by the rules of Grafana's dashboard-linter, with metrics that are exposed."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.dashboards import (
    DASHBOARDS,
    SILENT,
    Question,
    expanded,
    lookups,
    panels,
    questions,
    read,
)
from support.servers.base import or_skip
from support.servers.prometheus import program, promtool

from abmonitor.api_guard import Guard
from abmonitor.flags import Following
from abmonitor.notify import Notifications
from abmonitor.service_telemetry import ServiceTelemetry
from abmonitor.telemetry import ViewCollector
from abmonitor.view import View
from abmonitor.worker_telemetry import WorkerTelemetry
from alerts.judge import Phase
from alerts.standing import State
from stream.intake import IntakeState


ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / "deploy" / "grafana" / "generate.py"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
UIDS = {"abmonitor-experiment", "abmonitor-fleet", "abmonitor-pipeline"}
UNITS = {"percentunit", "s", "reqps", "short", "none", "sci"}
CHECKED = {"stat", "gauge", "timeseries", "table", "heatmap", "bargauge", "state-timeline"}
"""All types of panels that are used; the linter knows the first three."""

EXCLUDED = {
    "template-job-rule": "names of experiments are unique in a deployment: nobody chooses a job",
    "template-instance-rule": "replicas say the same and are reduced by max: nobody chooses one",
    "target-job-rule": "as there is no variable `job`",
    "target-instance-rule": "as there is no variable `instance`",
    "target-counter-agg-rule": (
        "totals of labels come from the store and survive restarts: the table shows the very counts that"
        " RAP is computed from, which no rate over some hours can"
    ),
}
"""Rules that do not apply, and why."""

CUMULATIVE = {
    "abmonitor-experiment/Decisions and truth (final labels)",
    "abmonitor-experiment/Final labels",
}
"""The panels that show totals since the beginning."""

_SELECTOR = re.compile(r"\b((?:abmonitor_|ALERTS|up\b)\w*)(\{[^}]*\})?(\[[^\]]+\])?")
_RANGE = re.compile(r"(\w+)\((?:[^()\[\]]|\([^()]*\))*?\[([^\]]+)\]")
_STRING = re.compile(r'"[^"]*"')


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_files_are_what_the_generator_makes() -> None:
    told = subprocess.run(
        [sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


def test_the_generator_finds_a_file_that_was_changed_by_hand(tmp_path: Path) -> None:
    copy = tmp_path / "grafana"
    copy.mkdir()
    for source in GENERATOR.parent.glob("*.py"):
        (copy / source.name).write_text(source.read_text())
    run = [sys.executable, str(copy / "generate.py")]
    subprocess.run(run, check=True, capture_output=True, cwd=ROOT)
    assert subprocess.run([*run, "--check"], check=False, cwd=ROOT).returncode == 0
    changed = copy / "dashboards" / "fleet.json"
    changed.write_text(changed.read_text().replace("Fleet", "Float"))
    told = subprocess.run([*run, "--check"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert told.returncode == 1
    assert "fleet.json is not what the generator makes" in told.stderr


def test_uids_are_those_that_alerts_lead_to() -> None:
    assert {read(path)["uid"] for path in DASHBOARDS} == UIDS


# The rules of https://github.com/grafana/dashboard-linter, by its names; those on LogQL ask nothing here.


def _template_datasource(dashboard: dict[str, Any]) -> Iterator[str]:
    found = [each for each in _variables(dashboard) if each["type"] == "datasource"]
    if [(each["name"], each["label"]) for each in found] != [("datasource", "Data source")]:
        yield f"expected one data source variable, got {found}"
    if any(each["query"] != "prometheus" for each in found):
        yield f"expected a variable for Prometheus, got {found}"


def _template(name: str) -> Callable[[dict[str, Any]], Iterator[str]]:
    def rule(dashboard: dict[str, Any]) -> Iterator[str]:
        if name not in {each["name"] for each in _variables(dashboard)}:
            yield f"no variable {name}"

    return rule


def _template_label(dashboard: dict[str, Any]) -> Iterator[str]:
    for name, question in lookups(dashboard):
        if not re.fullmatch(r"group by \(\w+\) \(abmonitor_\w+(\{.*\})?\)", question.expr):
            yield f"{name}: {question.expr}"


def _template_reload(dashboard: dict[str, Any]) -> Iterator[str]:
    for each in _variables(dashboard):
        if each["type"] == "query" and each["refresh"] != 2:
            yield f"{each['name']} is not asked again when the time changes"


def _panel_datasource(dashboard: dict[str, Any]) -> Iterator[str]:
    asking = [
        *panels(dashboard),
        *(target for panel in panels(dashboard) for target in panel["targets"]),
        *(each for each in _variables(dashboard) if each["type"] == "query"),
        *(each for each in dashboard["annotations"]["list"] if "expr" in each),
    ]
    for each in asking:
        if each["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"{each.get('title', each)} asks {each['datasource']}"


def _panel_described(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        if not panel["title"] or len(panel.get("description", "").split()) < 10:
            yield f"{panel['title']!r}: {panel.get('description')!r}"


def _panel_units(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        unit = defaults.get("unit")
        if panel["type"] == "heatmap":
            unit = panel["options"]["yAxis"]["unit"]
        if panel["type"] not in CHECKED:
            yield f"{panel['title']}: unknown type {panel['type']}"
        if unit not in UNITS and not defaults.get("mappings"):
            yield f"{panel['title']}: unit {unit}"


def _panel_targets(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        if not panel.get("targets") or not all(target["expr"] for target in panel["targets"]):
            yield panel["title"]


def _target_promql(dashboard: dict[str, Any]) -> Iterator[str]:
    asked = [_filled(question, dashboard) for question in questions(dashboard)]
    yield from _refused(asked)


def _target_rate_interval(dashboard: dict[str, Any]) -> Iterator[str]:
    for question in questions(dashboard):
        for function, span in _RANGE.findall(question.expr):
            whole = function == "increase" and span == "$__range"
            if span != "$__rate_interval" and not whole:
                yield f"{question.where}: {function} over {span}"


def _target_matcher(label: str) -> Callable[[dict[str, Any]], Iterator[str]]:
    def rule(dashboard: dict[str, Any]) -> Iterator[str]:
        for question in questions(dashboard):
            for metric, where, _ in _SELECTOR.findall(question.expr):
                if f'{label}=~"${label}"' not in where:
                    yield f"{question.where}: {metric}{where}"

    return rule


def _target_counter(dashboard: dict[str, Any]) -> Iterator[str]:
    for question in questions(dashboard):
        for metric, where, span in _SELECTOR.findall(question.expr):
            if metric in _counters() and not span:
                yield f"{question.where}: {metric}{where}"


def _uneditable(dashboard: dict[str, Any]) -> Iterator[str]:
    if dashboard["editable"]:
        yield "is editable"


RULES: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "template-datasource-rule": _template_datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": _template_label,
    "template-on-time-change-reload-rule": _template_reload,
    "panel-datasource-rule": _panel_datasource,
    "panel-title-description-rule": _panel_described,
    "panel-units-rule": _panel_units,
    "panel-no-targets-rule": _panel_targets,
    "target-promql-rule": _target_promql,
    "target-rate-interval-rule": _target_rate_interval,
    "target-job-rule": _target_matcher("job"),
    "target-instance-rule": _target_matcher("instance"),
    "target-counter-agg-rule": _target_counter,
    "uneditable-dashboard": _uneditable,
}


@pytest.mark.parametrize("name", sorted(RULES.keys() - EXCLUDED.keys()))
def test_the_linters_rules_hold(name: str, dashboard: dict[str, Any]) -> None:
    with or_skip():
        assert list(RULES[name](dashboard)) == []


@pytest.mark.parametrize("name", sorted(EXCLUDED))
def test_no_rule_is_excluded_without_need(name: str) -> None:
    assert any(list(RULES[name](read(path))) for path in DASHBOARDS)


def test_what_is_no_promql_is_found() -> None:
    with or_skip():
        assert list(_refused(["up", "sum(up"]))
        assert not list(_refused(["up", "sum(up)"]))


def test_only_two_panels_show_totals_since_the_beginning(dashboard: dict[str, Any]) -> None:
    found = {where.split(": abmonitor")[0] for where in _target_counter(dashboard)}
    assert {where.rsplit("/", 1)[0] for where in found} <= CUMULATIVE


def test_rates_of_what_replicas_repeat_are_never_added_up() -> None:
    for path in DASHBOARDS[:2]:
        for question in questions(read(path)):
            rates = len(re.findall(r"\b(?:rate|increase)\(", question.expr))
            reduced = re.findall(r"max by \([\w, ]+\) \((?:rate|increase)\(", question.expr)
            assert len(reduced) == rates, question


STUCK = [
    ("abmonitor-experiment/State now/A", {'{variant="new"}': 8}),
    ("abmonitor-experiment/Held because of/A", {'{reason="nothing"}': 0}),
    ("abmonitor-experiment/What happened/B", {'{guardrail="rap"}': 24}),
    ("abmonitor-experiment/What happened/C", {}),
    ("abmonitor-fleet/Rollbacks under way/A", {"{}": 0}),
    ("abmonitor-fleet/Treatments by state/A", {'{state="rolled_back"}': 1}),
    (
        "abmonitor-fleet/Treatments, what costs most first/B",
        {'{experiment="offers",variant="new"}': 300},
    ),
]
"""What is shown beside a monitor that knows nothing of the last five minutes; states by `style.STATES`."""


def test_a_monitor_that_lost_redis_does_not_tell_what_was_long_ago(tmp_path: Path) -> None:
    own = 'experiment="offers",variant="new"'
    said = {
        f'abmonitor_treatment_state{{{own},state="rolled_back"}}': "0x4 1x5",
        f'abmonitor_treatment_state{{{own},state="rollback_failed"}}': "1x4 0x5",
        f'abmonitor_treatment_state{{{own},state="hold"}}': "0x9",
        f"abmonitor_treatment_state_since_timestamp_seconds{{{own}}}": "600x4 240x5",
        f'abmonitor_treatment_hold_cause{{{own},reason="stale"}}': "1x4 stale",
        f'abmonitor_guardrail_phase{{{own},guardrail="rap",state="pass"}}': "1x4 0x5",
        f'abmonitor_guardrail_phase{{{own},guardrail="rap",state="fail"}}': "0x4 1x5",
        "abmonitor_tick_timestamp_seconds{}": "0+60x9",
    }
    series = [
        {
            "series": name.replace("{", f'{{job="m",instance="{number}",', 1).replace(",}", "}"),
            "values": values,
        }
        for name, told in said.items()
        for number, values in ((1, told), (2, f"{told.split()[0].split('x')[0].split('+')[0]}x9"))
    ]
    asked = {each.where: each.expr for path in DASHBOARDS[:2] for each in questions(read(path))}
    chosen = {"experiment": "offers", "treatment": "new", "variant": ".+"}
    checks = [
        {
            "expr": expanded(asked[where], chosen),
            "eval_time": "9m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in shown.items()],
        }
        for where, shown in STUCK
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]
    file = tmp_path / "stuck.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    with or_skip():
        status, told_of_it = promtool("test", "rules", str(file))
    assert status == 0, told_of_it


def test_every_metric_is_exposed_by_the_product(dashboard: dict[str, Any]) -> None:
    asked = {
        metric
        for question in [*questions(dashboard), *(each for _, each in lookups(dashboard))]
        for metric, _, _ in _SELECTOR.findall(question.expr)
        if metric.startswith("abmonitor_")
    }
    assert asked
    assert asked - _exposed() == set()


def test_every_word_of_the_product_has_a_colour() -> None:
    words = {
        text["text"].replace(" ", "_")
        for path in DASHBOARDS
        for panel in panels(read(path))
        for mapping in _mappings(panel)
        if mapping["type"] == "value"
        for text in mapping["options"].values()
    }
    known = [each.value for enum in (State, Phase, IntakeState) for each in enum]
    assert set(known) <= words


def test_panels_fill_the_grid_without_lying_on_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(at["x"], at["x"] + at["w"])
            for line in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    lines = max(line for _, line in taken) + 1
    assert len(taken) >= 0.97 * 24 * lines, "there are holes between the panels"


def test_the_verdict_fits_on_a_laptops_screen() -> None:
    experiment = read(DASHBOARDS[0])
    rows = [panel for panel in experiment["panels"] if panel["type"] == "row"]
    pixels = 38 * rows[1]["gridPos"]["y"]
    assert pixels <= 900 - 150, (
        "what is above the second row, below the browser's and Grafana's bars"
    )


def test_panels_have_numbers_and_names_of_their_own(dashboard: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    titles = [panel["title"] for panel in panels(dashboard)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(set(titles)) == len(titles)


def test_bands_are_filled_between_lines_that_exist() -> None:
    banded = 0
    for panel in panels(read(DASHBOARDS[0])):
        lines = {target.get("legendFormat") for target in panel["targets"]}
        for override in panel["fieldConfig"].get("overrides") or ():
            for each in override["properties"]:
                if each["id"] == "custom.fillBelowTo":
                    assert {each["value"], override["matcher"]["options"]} <= lines
                    banded += 1
    assert banded == 3


def test_overrides_speak_of_what_is_there(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        letters = {target["refId"] for target in panel["targets"]}
        for override in panel["fieldConfig"].get("overrides") or ():
            if override["matcher"]["id"] == "byFrameRefID":
                assert override["matcher"]["options"] in letters, panel["title"]


def test_links_lead_to_dashboards_and_pages_of_the_monitor(dashboard: dict[str, Any]) -> None:
    known = {each["name"] for each in _variables(dashboard)} | {"__value", "__url_time_range"}
    links = [link["url"] for link in dashboard["links"] if link["type"] == "link"]
    links += [
        link["url"]
        for panel in panels(dashboard)
        for override in panel["fieldConfig"].get("overrides") or ()
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    ]
    assert any("/runbooks/" in link for link in links)
    for link in links:
        assert link.startswith(("${monitor:raw}/", "/d/abmonitor-")), link
        assert set(re.findall(r"\$\{(\w+)", link)) <= known, link


def test_decisions_and_notes_are_lines_through_the_panels() -> None:
    decisions, notes = read(DASHBOARDS[0])["annotations"]["list"]
    assert 'abmonitor_decisions_total{experiment="$experiment"' in decisions["expr"]
    assert notes["datasource"] == {"type": "grafana", "uid": "-- Grafana --"}
    assert notes["target"]["tags"] == ["abmonitor", "experiment:$experiment"]


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = _yaml(PROVISIONING / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = _yaml(PROVISIONING / "dashboards" / "abmonitor.yaml")["providers"]
    compose = _yaml(ROOT / "deploy" / "compose.yaml")["services"]
    mounted = [mount.split(":") for mount in compose["grafana"]["volumes"]]
    prometheus = _yaml(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    assert (source["uid"], source["type"]) == ("prometheus", "prometheus")
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert ["./grafana/dashboards", provider["options"]["path"], "ro"] in mounted
    assert ["./grafana/provisioning", "/etc/grafana/provisioning", "ro"] in mounted


def test_the_list_of_silent_questions_has_no_stale_line() -> None:
    known = {question.where for path in DASHBOARDS for question in questions(read(path))}
    assert SILENT.keys() <= known


def _variables(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard["templating"]["list"]
    return found


def _mappings(panel: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from panel["fieldConfig"]["defaults"].get("mappings") or ()
    for override in panel["fieldConfig"].get("overrides") or ():
        for each in override["properties"]:
            if each["id"] == "mappings":
                yield from each["value"]


def _filled(question: Question, dashboard: dict[str, Any]) -> str:
    """An expression with something in place of each variable."""
    spans = {"__rate_interval": "1m", "__range": "1h"}
    return expanded(
        question.expr, {**{each["name"]: "x" for each in _variables(dashboard)}, **spans}
    )


def _refused(expressions: Sequence[str]) -> Iterator[str]:
    """What Prometheus' own parser says of those that it does not take."""
    rules = [{"record": f"asked:{n}", "expr": each} for n, each in enumerate(expressions)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.yml"
        path.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
        command = [program("promtool"), "check", "rules", str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        yield told.stdout + told.stderr


def _registries() -> Iterator[Any]:
    yield from ViewCollector(View).describe()
    yield from Guard().collect()
    yield from WorkerTelemetry(0.05, time.monotonic).registry.collect()
    yield from ServiceTelemetry(View, Notifications(()), Following({})).describe()


def _exposed() -> set[str]:
    """Names of series, as Prometheus stores them."""
    names = set()
    for family in _registries():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + end for end in ends.get(family.type, ("",))}
    return names


def _counters() -> set[str]:
    return {f"{family.name}_total" for family in _registries() if family.type == "counter"}


def _yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found
