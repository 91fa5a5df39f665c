"""Summaries for terminals: tables of what a view holds. Pure, but for the look of things."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.document import INTERVAL, events, experiment
from abmonitor.plans import line
from abmonitor.progress import progress_table
from abmonitor.view import View


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
UNKNOWN = "\N{EN DASH}"
ABREAST = 3
"""Variants side by side, so that 80 columns hold their numbers whole."""

MOST_HINTS = 5
"""More of them are read by nobody; the JSON document has all."""

Rows = Mapping[str, Sequence[RenderableType]]
"""Title of a row, and one cell a variant."""


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


def standing(found: dict[str, Any], variant: str) -> Text:
    """The state of a variant: controls have none."""
    comparison = found["comparisons"].get(variant)
    return Text("control", style="dim") if comparison is None else state_text(comparison["state"])


def by_variant(variants: Sequence[str], rows: Rows) -> Iterator[Table]:
    """Tables with one column a variant, a few variants each; long names go on in the next line."""
    for start in range(0, len(variants), ABREAST):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
        table.add_column("", style="dim", no_wrap=True)
        for variant in variants[start : start + ABREAST]:
            table.add_column(variant, justify="right", overflow="fold")
        for title, cells in rows.items():
            table.add_row(title, *cells[start : start + ABREAST])
        yield table


def variants_tables(found: dict[str, Any]) -> Iterator[Table]:
    """What is known of each variant."""
    facts = list(found["variants"].values())
    latency = [fact["latency_ms"] for fact in facts]

    def metric(name: str, form: str = ".3f") -> list[str]:
        return [number(fact["metrics"][name], form) for fact in facts]

    rows: dict[str, Sequence[RenderableType]] = {
        "state": [standing(found, variant) for variant in found["variants"]],
        "predictions": [f"{fact['predictions']:,}" for fact in facts],
        "  failed (errors)": [f"{fact['errors']:,}" for fact in facts],
        "  with an outcome": [f"{fact['predictions'] - fact['unlabelled']:,}" for fact in facts],
        "  with a final label": [f"{fact['mature_predictions']:,}" for fact in facts],
        "RAP": metric("rap"),
        "ROI": metric("roi", "+.1%"),
        "profit per prediction": metric("profit_per_prediction", "+.3f"),
        "precision": metric("precision", ".1%"),
        "recall": metric("recall", ".1%"),
        "accuracy": metric("accuracy", ".1%"),
        "latency p50, ms": [number(each["p50"], ".1f") for each in latency],
        "latency p95, ms": [number(each["p95"], ".1f") for each in latency],
        "latency p99, ms": [number(each["p99"], ".1f") for each in latency],
    }
    return by_variant(list(found["variants"]), rows)


def comparison_rows(treatment: str, found: dict[str, Any]) -> dict[str, str]:
    """How a treatment stands against the control, line by line."""
    facts = found["comparisons"][treatment]
    value = facts["net_business_value"]
    verdict = facts["recommendation"].replace("_", " ")
    rows = {
        "net business value": f"{_interval(value, '+.2f', ' %')}: {verdict}",
        "difference of RAP": _interval(facts["rap_difference"], "+.3f"),
        "split of the traffic": _split(facts["sample_ratio"]),
    }
    if facts["state"] in {"collecting", "healthy", "suspect"} and facts["may_pass_from"]:
        rows["may pass"] = f"from {moment(facts['may_pass_from'])} on, once every guardrail passes"
    if facts["roi_range"]:
        rows["profitability"] = facts["roi_range"]["sentence"]
    return rows


def rows_table(rows: Mapping[str, str]) -> Table:
    """Titles, and what there is to say of each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, told in rows.items():
        table.add_row(title, Text(told))
    return table


def _interval(found: dict[str, Any], form: str, unit: str = "") -> str:
    if found["lower"] is None:
        return number(found["estimate"], form) + unit * (found["estimate"] is not None)
    return f"{found['estimate']:{form}}{unit} [{found['lower']:{form}}, {found['upper']:{form}}]"


def _split(found: dict[str, Any]) -> str:
    p_value, limit, what = found["p_value"], found["limit"], found["counted"]
    if found["mixed"]:
        return f"{found['crossed']:,} units were seen in two variants"
    if found["unitless"]:
        return f"{UNKNOWN} ({found['unitless']:,} predictions came without unit_id)"
    if p_value is None:
        return f"{UNKNOWN} (nothing to compare)"
    counts = " : ".join(f"{count:,}" for count in found["counts"].values())
    if found["mismatched"] or p_value < limit:
        return f"NOT as intended ({counts} {what}, p = {p_value:.2g}, limit {limit:.2g})"
    return f"as intended ({counts} {what}, p = {p_value:.2g})"


def decision_lines(found: dict[str, Any], newest: int = 10) -> Iterable[str]:
    """The newest decisions."""
    for decision in found["decisions"][-newest:]:
        what = f"{moment(decision['at'])}  {decision['action'].replace('_', ' ')}"
        reasons = "; ".join(decision["reasons"])
        yield f"{what}  {decision['treatment']}" + (f": {reasons}" if reasons else "")


def render(view: View) -> RenderableType:
    """Everything that a replay found."""
    parts: list[RenderableType] = []
    for name, shown in view.experiments.items():
        parts += [*_experiment(name, experiment(shown)), Text()]
    told = events(view)
    names = ("accepted", "duplicate", "late", "rejected", "ignored", "unmatched")
    parts.append(Text("events: " + ", ".join(f"{told[name]:,} {name}" for name in names)))
    return Group(*parts)


def _experiment(name: str, found: dict[str, Any]) -> Iterator[RenderableType]:
    yield Text.assemble((name, "bold"), ": ", state_text(found["state"]))
    yield Text()
    yield from variants_tables(found)
    for treatment in found["comparisons"]:
        yield Text()
        yield from _comparison(treatment, found)
    decisions = list(decision_lines(found))
    if decisions:
        yield Text("\ndecisions")
        yield from map(Text, decisions)
    yield from _hints(found)


def _hints(found: dict[str, Any]) -> Iterator[RenderableType]:
    hints = found["hints"] or []
    if hints:
        yield Text()
    yield from (Text(hint["sentence"], style="dim") for hint in hints[:MOST_HINTS])
    if len(hints) > MOST_HINTS:
        yield Text(f"and {len(hints) - MOST_HINTS} more hints (see --json)", style="dim")


def _comparison(treatment: str, found: dict[str, Any]) -> Iterator[RenderableType]:
    facts, level = found["comparisons"][treatment], f"{INTERVAL['level']:.0%}"
    yield Text(f"{treatment} against {found['control']} (in brackets {level} confidence sequences)")
    yield rows_table(comparison_rows(treatment, found))
    progress = progress_table(facts["guardrails"])
    if progress is not None:
        yield Text()
        yield progress
    yield from (Text(f"because: {cause}") for cause in facts["causes"])


def check_table(report: dict[str, Any]) -> RenderableType:
    """What settings will need."""
    parts: list[RenderableType] = []
    for name, found in report["experiments"].items():
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in found.items():
            if key not in ("warnings", "plans"):
                table.add_row(key.replace("_", " "), _needed(key, value))
        parts += [Text(f"{name}: settings are good", style="bold"), table]
        parts += [Text(line(plan)) for plan in found["plans"] if not _told(plan, found["warnings"])]
        parts += [Text(f"! {warning}", style="yellow") for warning in found["warnings"]]
    return Group(*parts)


def _told(plan: Mapping[str, Any], warnings: Iterable[str]) -> bool:
    """Whether all that a plan says is advice that a warning gives for all guardrails at once."""
    numbers = (plan[f"predictions_to_{what}"]["p80"] for what in ("detect", "pass"))
    note = plan["note"]
    return note is not None and not any(numbers) and any(note in warning for warning in warnings)


def _needed(key: str, value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(map(str, value)) or UNKNOWN
    if key.startswith("redis_bytes") and isinstance(value, int):
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:g}" if isinstance(value, float) else str(value)
