"""Summaries for terminals: tables of what a view holds. Pure, but for the look of things."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.document import events, experiment
from abmonitor.monitor import View


STYLES = {
    "healthy": "green",
    "passed": "bold green",
    "collecting": "cyan",
    "hold": "yellow",
    "suspect": "yellow",
    "rolling_back": "bold red",
    "verifying": "bold red",
    "rolled_back": "red",
    "rollback_failed": "bold white on red",
    "would_roll_back": "magenta",
    "ended": "dim",
}
UNKNOWN = "–"


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash for what cannot be known."""
    return UNKNOWN if value is None else format(value, form)


def moment(at: int | None) -> str:
    """A time for people, in UTC."""
    if at is None:
        return UNKNOWN
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state.replace("_", " "), style=STYLES.get(state, ""))


def variants_table(name: str, found: dict[str, Any]) -> Table:
    """One row a variant."""
    table = Table(title=f"{name}: {found['state'].replace('_', ' ')}", title_justify="left")
    table.add_column("variant")
    columns = (
        "predictions labels mature RAP ROI profit/pred. accuracy errors p50 p95 p99 state".split()
    )
    for column in columns:
        table.add_column(column, justify="right")
    for variant, facts in found["variants"].items():
        metrics, latency = facts["metrics"], facts["latency_ms"]
        comparison = found["comparisons"].get(variant)
        state = state_text(comparison["state"]) if comparison else Text("control", style="dim")
        table.add_row(
            variant,
            f"{facts['predictions']:,}",
            f"{facts['predictions'] - facts['unlabelled']:,}",
            f"{facts['mature_predictions']:,}",
            number(metrics["rap"]),
            number(metrics["roi"]),
            number(metrics["profit_per_prediction"]),
            number(metrics["accuracy"]),
            f"{facts['errors']:,}",
            *(number(latency[key], ".1f") for key in ("p50", "p95", "p99")),
            state,
        )
    return table


def comparison_lines(found: dict[str, Any]) -> Iterable[str]:
    """Sentences about each treatment."""
    for treatment, facts in found["comparisons"].items():
        value, rap = facts["net_business_value"], facts["rap_difference"]
        yield (
            f"{treatment}: net business value {number(value['estimate'], '+.2f')} %"
            f" [{number(value['lower'], '+.2f')}, {number(value['upper'], '+.2f')}],"
            f" RAP {number(rap['estimate'], '+.3f')}"
            f" [{number(rap['lower'], '+.3f')}, {number(rap['upper'], '+.3f')}],"
            f" split p = {number(facts['srm_p_value'], '.3g')}"
        )
        if facts["roi_range"]:
            yield f"  {facts['roi_range']['sentence']}"
        for cause in facts["causes"]:
            yield f"  {cause}"


def decision_lines(found: dict[str, Any], newest: int = 10) -> Iterable[str]:
    """The newest decisions."""
    for decision in found["decisions"][-newest:]:
        reasons = "; ".join(decision["reasons"])
        yield f"{moment(decision['at'])}  {decision['action']}  {decision['treatment']}: {reasons}"


def render(view: View) -> RenderableType:
    """Everything that a replay found."""
    parts: list[RenderableType] = []
    for name, shown in view.experiments.items():
        found = experiment(shown)
        parts.append(variants_table(name, found))
        parts += [Text(line) for line in comparison_lines(found)]
        parts += [Text(line) for line in decision_lines(found)]
        parts.append(Text())
    told = events(view)
    names = ("accepted", "duplicate", "late", "rejected", "ignored", "unmatched")
    parts.append(Text("events: " + ", ".join(f"{told[name]:,} {name}" for name in names)))
    return Group(*parts)


def check_table(report: dict[str, Any]) -> RenderableType:
    """What settings will need."""
    parts: list[RenderableType] = []
    for name, found in report["experiments"].items():
        table = Table(title=f"{name}: settings are good", title_justify="left", show_header=False)
        for key, value in found.items():
            if key != "warnings":
                shown = ", ".join(value) if isinstance(value, list) else value
                if key.startswith("redis_bytes") and value is not None:
                    shown = f"{value / 2**20:,.1f} MiB"
                table.add_row(key.replace("_", " "), UNKNOWN if shown is None else str(shown))
        parts.append(table)
        parts += [Text(f"! {warning}", style="yellow") for warning in found["warnings"]]
    return Group(*parts)
