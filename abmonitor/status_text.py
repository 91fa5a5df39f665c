"""The status as people read it in a terminal. Pure, but for the look of things."""

from collections.abc import Iterator

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.text import Text

from abmonitor.api_types import (
    AtRisk,
    ExperimentStatus,
    GuardrailStatus,
    PauseShown,
    Status,
    TreatmentStatus,
)
from abmonitor.progress import bar
from abmonitor.summary import UNKNOWN, moment, rows_table, state_text
from metrics.duration import Duration


FORMULA = (
    "profit at risk an hour = (profit per prediction of the control - of the treatment)"
    " x predictions of the treatment an hour"
)
MOST_REASONS = 5


def show(console: Console, found: Status) -> None:
    """Print one screen; commands stay whole, however long they are."""
    console.print(render(found), crop=False)


def render(found: Status) -> RenderableType:
    """One screen."""
    parts: list[RenderableType] = []
    if found.problem:
        parts.append(Text(f"! the monitor is not ready: {found.problem}", style="bold red"))
    for experiment in found.experiments:
        parts += [*experiment_text(experiment, found.as_of), Text()]
    if not found.experiments:
        parts.append(Text("nothing was read yet"))
    else:
        parts.append(Text(FORMULA, style="dim"))
    return Group(*parts)


def experiment_text(
    found: ExperimentStatus, as_of: int | None, *, unbroken: bool = True
) -> Iterator[RenderableType]:
    """All of one experiment; `unbroken`: a command stays one line, wider than the screen if need be."""
    yield _head(found)
    yield rows_table(
        {
            "control": found.control,
            "monitor": "this monitor leads" if found.leads else "standing by: another one leads",
            "data": "none yet" if found.data_age_ms is None else f"{_span(found.data_age_ms)} old",
            "labels": _labels(found),
        }
    )
    for treatment in found.treatments:
        yield from _treatment(treatment, as_of, unbroken=unbroken)


def experiment_line(found: ExperimentStatus) -> Text:
    """One experiment on one line: the worst of it, and what it is estimated to lose."""
    line = _head(found)
    if found.labels_stalled:
        line.append("  labels STALLED", style="bold red")
    for treatment in found.treatments:
        line.append(f"  {treatment.treatment} {_percent(treatment.share)}")
        if treatment.at_risk.an_hour:
            line.append(f", at risk {_at_risk(treatment.at_risk)}")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _head(found: ExperimentStatus) -> Text:
    head = Text.assemble((found.name, "bold"), ": ", state_text(found.state))
    if found.dry_run:
        head.append(" (dry run: nothing is rolled back)", style="magenta")
    return head


def _labels(found: ExperimentStatus) -> str:
    final = f"final to {moment(found.labels_final_to)}"
    return f"STALLED: predictions get no outcomes; {final}" if found.labels_stalled else final


def _treatment(
    found: TreatmentStatus, as_of: int | None, *, unbroken: bool
) -> Iterator[RenderableType]:
    head = Text.assemble("\n", (found.treatment, "bold"), ": ", state_text(found.state))
    if found.since is not None:
        head.append(f" since {moment(found.since)}")
        if as_of is not None and as_of > found.since:
            head.append(f" ({_span(as_of - found.since)})", style="dim")
    yield head
    rows = {
        "share": _shares(found),
        "version": ", ".join(found.versions) or UNKNOWN,
        "profit at risk": _at_risk(found.at_risk),
    }
    if found.verified is False:
        rows["verified"] = "no: whether its traffic is gone cannot be seen"
    if found.quarantined:
        rows["quarantined"] = ", ".join(found.quarantined)
    if found.advice is not None:
        rows["to do"] = found.advice
    if found.paused is not None:
        rows["paused"] = _paused(found.paused)
    causes = (cause for cause in found.causes if cause not in found.latched)
    kept_by = "pause ends" if found.paused is not None else "brake is off"
    reasons = (*causes, *(f"when the {kept_by}: {harm}" for harm in found.latched))
    if reasons:
        rows["because"] = "\n".join(reasons[:MOST_REASONS])
    yield rows_table(rows)
    for guardrail in found.guardrails:
        yield _guardrail(guardrail)
    overflow: OverflowMethod = "ignore" if unbroken else "fold"
    for command in found.commands:
        yield Text(command, no_wrap=unbroken, overflow=overflow)  # one that is whole can be copied


def _shares(found: TreatmentStatus) -> str:
    return (
        f"{_percent(found.share)} of the traffic (intended {_percent(found.intended_share)});"
        f" last minute: {_percent(found.share_lately)}"
    )


def _guardrail(found: GuardrailStatus) -> Text:
    line = Text.assemble("  ", found.guardrail, ": ", found.phase, "  ")
    if found.nearest is None or found.evidence is None:
        return line.append(found.reason, style="dim")
    return line.append_text(bar(found.nearest, found.evidence))


def _paused(found: PauseShown) -> str:
    until = "until resumed" if found.until is None else f"until {moment(found.until)}"
    return f"by {found.actor} {until}: {found.reason}"


def _at_risk(found: AtRisk) -> str:
    if found.an_hour is None:
        return "n/a"
    rate = found.predictions_an_hour or 0
    unit = "" if found.unit == "money" else " unit costs"
    return f"{found.an_hour:,.2f}{unit} an hour ({rate:,} predictions an hour)"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.1%}"


def _span(ms: int) -> str:
    """How long, in whole seconds."""
    return str(Duration(ms - ms % 1000))
