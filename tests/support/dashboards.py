"""Dashboards as a Grafana reads them: what they ask, and which of it a Prometheus cannot answer. This module does I/O (files, HTTP)."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.servers.prometheus import query_range


FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = tuple(FOLDER / f"{name}.json" for name in ("experiment", "fleet", "pipeline"))
SPAN_S = 900.0
"""How far back a dashboard looks."""
STEP_S = 2.0

SILENT: Mapping[str, str] = {
    "abmonitor-experiment/What happened/C": "only while something is held",
    "abmonitor-experiment/Net business value of the treatment/D": "only with a guardrail on that value",
    "abmonitor-experiment/For which assumed ROI (or q) is it ahead?/C": "only where an upper end is known",
    "abmonitor-pipeline/Dead letters by reason/A": "only when an event cannot be used",
    "abmonitor-pipeline/Log and flags/B": "only when a flag is not what it should be",
}
"""Questions without an answer where all is well, and why."""

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]")
_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Question:
    """What a panel, a variable or an annotation asks Prometheus."""

    where: str
    """UID of the dashboard, title of the panel, letter of the query."""
    expr: str
    """With variables in it."""
    legend: str = ""


def read(path: Path) -> dict[str, Any]:
    """A dashboard."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels but the headings of rows; those in closed rows too."""
    for panel in dashboard["panels"]:
        yield from panel.get("panels", ())
        if panel["type"] != "row":
            yield panel


def questions(dashboard: Mapping[str, Any]) -> Iterator[Question]:
    """What panels and annotations ask."""
    uid = dashboard["uid"]
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            where = f"{uid}/{panel['title']}/{target['refId']}"
            yield Question(where, target["expr"], target.get("legendFormat", ""))
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["type"] == "prometheus":
            told = annotation.get("titleFormat", "") + annotation.get("textFormat", "")
            yield Question(f"{uid}/annotation {annotation['name']}", annotation["expr"], told)


def lookups(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, Question]]:
    """Variables that Prometheus is asked for: the name, and what finds its values (by the label in `legend`)."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            parts = _VALUES.fullmatch(variable["query"])
            assert parts is not None, f"not label_values(…, …): {variable['query']}"
            metric, label = parts.groups()
            where = f"{dashboard['uid']}/variable {variable['name']}"
            yield variable["name"], Question(where, f"group by ({label}) ({metric})", label)


def expanded(expr: str, variables: Mapping[str, str]) -> str:
    """An expression with the variables' values; one that nobody defines is a mistake of the dashboard."""

    def value(found: re.Match[str]) -> str:
        name = next(filter(None, found.groups()))
        assert name in variables, f"no variable ${name} in {expr}"
        return variables[name]

    return _VARIABLE.sub(value, expr)


def unanswered(
    url: str,
    dashboards: Iterable[Path],
    variables: Mapping[str, str],
    *,
    silent: Mapping[str, str] = SILENT,
    span_s: float = SPAN_S,
) -> list[str]:
    """What of the dashboards gets no data from the Prometheus at `url`, each with what was asked.

    Every query of a panel, a variable and an annotation is asked for the latest `span_s` seconds; one that a
    panel asks for a single moment is answered when it was at one of them. `variables` are those that a person
    chooses, by name; all others get the first value that Prometheus finds, in the order of the dashboard.
    A label in a legend that no series has is told as well. Questions in `silent` need no answer.
    """
    asker = _Asker(url, span_s)
    problems: list[str] = []
    for path in dashboards:
        for each in asked(url, read(path), variables, span_s=span_s):
            if each.where not in silent:
                told = asker.problems(each.expr, each.legend)
                problems += [f"{each.where}: {problem}: {each.expr}" for problem in told]
    return problems


def asked(
    url: str, dashboard: Mapping[str, Any], variables: Mapping[str, str], *, span_s: float = SPAN_S
) -> list[Question]:
    """What a dashboard asks once its variables are filled in, those that look up variables first."""
    asker = _Asker(url, span_s)
    known = {**_built_in(span_s), **_plain(dashboard), **variables}
    made = []
    for name, question in lookups(dashboard):
        filled = replace(question, expr=expanded(question.expr, known))
        made.append(replace(filled, legend=f"{{{{{question.legend}}}}}"))
        known.setdefault(name, next(iter(asker.values(filled)), "no-such-value"))
    made += [replace(each, expr=expanded(each.expr, known)) for each in questions(dashboard)]
    return made


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks one Prometheus for the latest seconds."""

    url: str
    span_s: float

    def series(self, expr: str) -> list[dict[str, str]]:
        """The labels of all series that have a value at some moment."""
        now = time.time()
        found = query_range(self.url, expr, now - self.span_s, now, STEP_S)
        return [
            each["metric"] for each in found if any(text != "NaN" for _, text in each["values"])
        ]

    def values(self, question: Question) -> list[str]:
        """The values of a variable."""
        found = self.series(question.expr)
        return sorted({each[question.legend] for each in found if question.legend in each})

    def problems(self, expr: str, legend: str) -> Iterator[str]:
        """What is wrong with the answer to a question."""
        found = self.series(expr)
        if not found:
            yield "no data"
            return
        for label in _LEGEND.findall(legend):
            if not any(label in each for each in found):
                yield f"no series has the label {label} of the legend"


def _built_in(span_s: float) -> dict[str, str]:
    """Grafana's own variables, as they are for a time of `span_s` and a scrape in a few seconds."""
    return {
        "__rate_interval": "20s",
        "__interval": "5s",
        "__range": f"{span_s:.0f}s",
        "__range_s": f"{span_s:.0f}",
    }


def _plain(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Variables that need no asking: those that start with everything, and those that people write."""
    known = {}
    for variable in dashboard["templating"]["list"]:
        if variable.get("includeAll"):
            known[variable["name"]] = variable["allValue"]
        elif variable["type"] == "textbox":
            known[variable["name"]] = variable["query"]
    return known
