"""The tables behind the charts: the same numbers, row by row, newest first. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from abmonitor.web import words
from abmonitor.web.board import Cells


Rows = dict[str, Cells]

_QUANTILES = ("p50", "p95", "p99")
MOST_DECISIONS = 50
"""On the page; the API has all."""


def tables(found: dict[str, Any], treatments: Sequence[str]) -> dict[str, Rows]:
    """The rows of every table, by the id of its body; `found`: the series."""
    made = {
        "rows-labelled": labelled_rows(found),
        "rows-latency": _over_time(found, _QUANTILES, words.milliseconds),
        "rows-distribution": distribution_rows(found),
        "rows-split": _over_time(found, ("share", "intended"), words.percent),
        "rows-errors": _over_time(found, ("error_rate",), words.percent),
        "rows-difference": difference_rows(found),
    }
    for place, treatment in enumerate(treatments):
        made[f"rows-value{place}"] = value_rows(found, treatment)
    return made


def bounded(write: Any, found: dict[str, Any], at: int, estimate: str) -> str:
    """A number with its bounds where it has any."""
    value, lower, upper = (found[each][at] for each in (estimate, "lower", "upper"))
    if lower is None or upper is None:
        return str(write(value))
    return f"{write(value)} [{write(lower)}, {write(upper)}]"


def labelled_rows(found: dict[str, Any]) -> Rows:
    """The headline metric of every variant."""
    told = found["labelled"]
    metric = told["metric"]

    def write(value: float | None) -> str:
        return words.of_metric(metric, value)

    return _rows(
        told["at"],
        [
            [bounded(write, one, at, "value") for one in told["variants"].values()]
            for at in range(len(told["at"]))
        ],
    )


def difference_rows(found: dict[str, Any]) -> Rows:
    """Every treatment minus the control, and what is tolerated."""
    told = found["labelled"]
    metric = told["metric"]

    def write(value: float | None) -> str:
        return words.difference_of(metric, value)

    cells = [
        [
            text
            for one in told["differences"].values()
            for text in (bounded(write, one, at, "estimate"), write(one["margin"]))
        ]
        for at in range(len(told["at"]))
    ]
    return _rows(told["at"], cells)


def value_rows(found: dict[str, Any], treatment: str) -> Rows:
    """Net business value and its parts."""
    at, one = found["labelled"]["at"], found["labelled"]["net_business_value"].get(treatment)
    if one is None:
        return {}
    parts = ("accuracy", "latency", "errors")
    return _rows(
        at,
        [
            [
                bounded(words.points, one, n, "estimate"),
                *(words.points(one[part][n]) for part in parts),
            ]
            for n in range(len(at))
        ],
    )


def distribution_rows(found: dict[str, Any]) -> Rows:
    """The share of each bin of latency."""
    edges = found["latency"]["edges_ms"]
    shares = [one["share"] for one in found["latency"]["variants"].values()]
    return {
        f"b{n}": (
            _head(f"{words.fixed(low, 1)} to {words.milliseconds(high)}"),
            *(_cell(words.percent(share[n] if share else None)) for share in shares),
        )
        for n, (low, high) in enumerate(pairwise(edges))
    }


def decision_rows(decisions: Sequence[dict[str, Any]]) -> Rows:
    """The audit trail, newest first."""
    cell = Markup("<td>{}</td>")
    named = Markup('<td data-label="{}">{}</td>')
    link = Markup('<td><a href="../api/v1/decisions/{}"><code>{}</code></a></td>')
    action = Markup('<td class="action {}">{}{}</td>')
    return {
        f"d-{one['id']}": (
            _head(words.moment(one["at"])),
            action.format(
                one["action"], words.state_name(one["action"]), " (dry run)" * one["dry_run"]
            ),
            named.format("treatment", one["treatment"]),
            named.format("by", one["actor"]),
            cell.format("; ".join(one["reasons"]) or words.UNKNOWN),
            link.format(one["id"], one["id"]),
        )
        for one in reversed(decisions[-MOST_DECISIONS:])
    }


def _over_time(found: dict[str, Any], columns: Sequence[str], write: Any) -> Rows:
    """Columns of every variant, by the starts of slices of time."""
    told = found["arrival"]
    lines = [one[column] for one in told["variants"].values() for column in columns]
    return _rows(told["at"], [[write(line[n]) for line in lines] for n in range(len(told["at"]))])


def _rows(at: Sequence[int], cells: Sequence[Sequence[str]]) -> Rows:
    """One row a moment, the newest first."""
    return {
        f"m{when}": (_head(words.moment(when)), *map(_cell, texts))
        for when, texts in zip(reversed(at), reversed(cells), strict=True)
    }


def _head(number: str) -> Markup:
    """Numbers and times hold nothing that would have to be escaped; names do, and are not given to this."""
    return Markup(f'<th scope="row">{number}</th>')  # noqa: S704


def _cell(number: str) -> Markup:
    return Markup(f'<td class="n">{number}</td>')  # noqa: S704
