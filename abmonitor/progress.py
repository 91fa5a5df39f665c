"""How far sequential guardrails are from a verdict, one line each. Pure, but for the look of things."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


CELLS = 5
"""Of the bar that shows how much of the evidence is there."""

GAP = "  "
_STYLES = {"pass": "green", "fail": "bold red", "error": "yellow"}
_COLOURS = {"rollback": "red", "pass": "green"}
MOST = 10
_HEADS = ("100 % decides", "difference [bounds]", "to go")
_UNKNOWN = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN} "


def share_of(log_evidence: float | None, needed: float) -> float:
    """Evidence as a part of what decides, at least 0: 1 decides.

    Both are logarithms of e-values, so that equal amounts of data add about equal parts.
    """
    return max(0.0, (log_evidence or 0.0) / needed)


def nearest(judgement: dict[str, Any]) -> tuple[str, float]:
    """The verdict that was reached or is nearest, "rollback" or "pass", and the part of its evidence."""
    evidence = judgement["evidence"]
    shares = {
        "rollback": share_of(evidence["harm"], evidence["harm_needed"]),
        "pass": share_of(evidence["safe"], evidence["safe_needed"]),
    }
    reached = {"fail": "rollback", "pass": "pass"}.get(judgement["phase"])
    verdict = reached or max(shares, key=lambda each: shares[each])
    return verdict, shares[verdict]


def bar(verdict: str, share: float) -> Text:
    """A bar that is full, and a percentage that is 100, only where the evidence decides."""
    full = min(CELLS, math.floor(share * CELLS))
    return Text.assemble(
        ("▮" * full, _COLOURS[verdict]),
        ("▯" * (CELLS - full), "dim"),
        f" {verdict} {_percent(share)} %",
    )


def _percent(share: float) -> str:
    """Whole per cent; far beyond what decides it no longer matters how far."""
    return str(math.floor(share * 100)) if share < MOST else f">{MOST * 100}"


def effect_text(effect: dict[str, Any]) -> str:
    """Treatment against control with its bounds: two digits of a ratio, or of how wide bounds are."""
    estimate, ends = effect["estimate"], (effect["lower"], effect["upper"])
    ratio = effect["kind"] == "ratio"
    mark, form = (_TIMES, ".2g") if ratio else ("", _form(estimate, ends))
    if ends == (None, None):
        return f"{mark}{estimate:{form}}"
    lower, upper = (_UNKNOWN if end is None else format(end, form) for end in ends)
    return f"{mark}{estimate:{form}} [{lower}, {upper}]"


def _form(estimate: float, ends: tuple[float | None, float | None]) -> str:
    """How to write a difference, so that how far the nearest bound is has two digits."""
    far = [abs(end - estimate) for end in ends if end is not None and end != estimate]
    if not far:
        return "+.3g"
    return f"+.{max(0, 1 - math.floor(math.log10(max(far))))}f"


def about(count: int) -> str:
    """A number that is a guess, in two digits.

    >>> about(2371), about(5_594_405)
    ('~2,400', '~5.6 M')
    """
    if count >= 1_000_000:
        return f"~{float(f'{count / 1e6:.2g}'):,g} M"
    return f"~{float(f'{count:.2g}'):,.0f}"


def progress_table(guardrails: dict[str, dict[str, Any]]) -> Table | None:
    """One line a sequential guardrail of a treatment (see `document`); None without any.

    Where nothing can be compared the line says why.
    """
    tested = [found for found in guardrails.values() if found["test"] == "sequential"]
    if not tested:
        return None
    compared = {found["guardrail"]: _cells(found) for found in tested if _judged(found)}
    widths = [max(map(len, column)) for column in zip(_HEADS, *compared.values(), strict=True)]
    table = Table.grid(padding=(0, len(GAP), 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    heads = [Text(head) for head in _HEADS]
    table.add_row("guardrail", "phase", _line(heads, widths), style="dim")
    for found in tested:
        name, phase = found["guardrail"], found["phase"]
        told = _line(compared[name], widths) if name in compared else _why_not(found)
        shown = Text(name.replace(":sequential", ""))
        table.add_row(shown, Text(phase, style=_STYLES.get(phase, "")), told)
    return table


def _judged(found: dict[str, Any]) -> bool:
    """Whether there is evidence, be it of nothing: two shares of 0 have no ratio."""
    weighed = found["evidence"] is not None and found["evidence"]["safe"] is not None
    valued = found["value"] is not None and found["control"] is not None
    return found["effect"] is not None or (weighed and valued)


def _cells(found: dict[str, Any]) -> tuple[Text, Text, Text]:
    missing, effect = found["missing"], found["effect"]
    if effect is None:
        shown = f"{found['value']:.3g} against {found['control']:.3g}"
    else:
        shown = effect_text(effect)
    more = "" if missing is None else about(missing["predictions"])
    return bar(*nearest(found)), Text(shown), Text(more)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Cells below one another, and in one text, so that a reason may stand where they do."""
    line = Text()
    for cell, width in zip(cells, widths, strict=True):
        line.append_text(cell).append(" " * (width - len(cell)) + GAP)
    line.rstrip()
    return line


def _why_not(found: dict[str, Any]) -> Text:
    """A reason without the name of the metric, which stands before it already."""
    return Text(found["reason"].removeprefix(f"{found['metric']}: "))
