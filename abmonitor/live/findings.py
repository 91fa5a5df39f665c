"""Findings: what a look at running systems saw, how bad that is and what to do about it. Pure."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.operate.printable import printable
from metrics.duration import Duration
from metrics.experiment import HOUR


Level = Literal["ok", "warning", "error"]

_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "error": "bold red"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    check: str
    """What was looked at, for machines: a name that stays."""
    where: str
    """The topic, the server or the experiment."""
    message: str
    """What is so and, unless it is well, what to do."""

    def document(self) -> dict[str, str]:
        """As JSON has it."""
        return self._asdict()


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether anything has to be mended before this can work."""
    return any(each.level == "error" for each in findings)


def rendered(findings: Sequence[Finding]) -> RenderableType:
    """Findings for people, and how many of which level there are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for each in findings:
        level = Text(each.level, style=_STYLES[each.level])
        table.add_row(
            level, Text(printable(each.where), style="dim"), Text(printable(each.message))
        )
    return Group(table, Text(), Text(_summary(findings)))


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(each.level == level for each in findings) for level in _STYLES}
    return f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok']} ok"


def share(part: int, whole: int) -> str:
    """A part of a whole in words, never rounded to all or nothing."""
    percent = f"{100 * part / whole:.1f}" if whole else "0.0"
    if 0 < part < whole:
        percent = {"0.0": "<0.1", "100.0": ">99.9"}.get(percent, percent)
    return f"{part:,} of {whole:,} ({percent} %)"


def span(milliseconds: float) -> str:
    """A span of time without the part that does not matter; with a sign where it is below 0."""
    size = abs(round(milliseconds))
    unit = 1 if size < 10_000 else 1_000 if size < HOUR else 60_000
    return "-" * (milliseconds < 0 and size > 0) + str(Duration(size // unit * unit))


def quantile(values: Sequence[float], at: float) -> float:
    """The smallest of the values that at least a share `at` of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(at * len(ordered)) - 1)]


def as_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings as JSON has them."""
    return {"ok": not has_errors(findings), "findings": [each.document() for each in findings]}
