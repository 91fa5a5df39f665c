"""Tables: the numbers of a run in Markdown. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


Row = Mapping[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its first columns as they are.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    drawn = ["| " + " | ".join(line) + " |" for line in lines]
    drawn[1] = "|" + "---|" * len(head)
    return "\n".join(drawn)


def _share(found: Row) -> str:
    return f"{found['rate']:.2%} (≤ {found['at_most']:.2%})"


def _count(value: float | None) -> str:
    return "—" if value is None else f"{value:,.0f}"


def false_rollbacks(rows: Iterable[Row]) -> str:
    """Ours under nulls; bounds above 5 % are bold."""
    head = ["world", "metric", "plan", "looks", "rolled back", "without late starts", "passed"]
    keys = ("false_rollbacks", "without_late_starts", "false_passes")
    return markdown(
        head,
        (
            [row["world"], row["metric"], row["plan"], str(row["looks"])]
            + [_marked(row[key]) for key in keys]
            for row in rows
        ),
    )


def _marked(found: Row) -> str:
    return f"**{_share(found)}**" if found["at_most"] > 0.05 else _share(found)


def rivals(rows: Iterable[Row]) -> str:
    """Of others under the null of equal arms."""
    head = ["world", "judge", "looks", "experiments", "rolled back"]
    return markdown(
        head,
        (
            [
                row["world"],
                row["rival"],
                str(row["looks"]),
                str(row["false_rollbacks"]["experiments"]),
                _share(row["false_rollbacks"]),
            ]
            for row in rows
        ),
    )


def delays(rows: Iterable[Row]) -> str:
    """Predictions an arm until the rollback, since the treatment was worse."""
    head = ["world", "judge", "drop of RAP", "false before", "power", "median", "p95", "lost"]
    return markdown(
        head,
        (
            [
                row["world"],
                row["judge"],
                f"{row['drop']:g}",
                "" if row["false_before"] is None else f"{row['false_before']:.1%}",
                f"{row['power']['rate']:.1%}",
                _count(row["median"]),
                _count(row["p95"]),
                _count(row["lost"]),
            ]
            for row in rows
        ),
    )


def promotions(rows: Iterable[Row]) -> str:
    """Predictions an arm until a treatment passes."""
    head = ["world", "metric", "plan", "passed", "within", "p5", "median", "p95"]
    return markdown(
        head,
        (
            [row["world"], row["metric"], row["plan"], f"{row['passed']['rate']:.1%}"]
            + [_count(row[key]) for key in ("within", "p5", "median", "p95")]
            for row in rows
        ),
    )


def shares(rows: Iterable[Row]) -> str:
    """Of label-free shares: nulls, then faults."""
    head = ["case", "looks", "rolled back", "passed", "power", "median", "p95"]
    return markdown(
        head,
        (
            [row["case"], str(row.get("looks", ""))]
            + [
                _marked(row[key]) if key in row else ""
                for key in ("false_rollbacks", "false_passes")
            ]
            + [f"{row['power']['rate']:.1%}" if "power" in row else ""]
            + [_count(row[key]) if key in row else "" for key in ("median", "p95")]
            for row in rows
        ),
    )


def sample_ratios(rows: Iterable[Row]) -> str:
    """How often a right split is called wrong."""
    return markdown(
        ["case", "looks", "called wrong"],
        ([row["case"], str(row["looks"]), _share(row["false"])] for row in rows),
    )


def labels(rows: Iterable[Row]) -> str:
    """Of labels that come late."""
    return markdown(
        ["the treatment's labels", "judged", "rolled back"],
        ([row["labels"], row["judged"], _marked(row["false_rollbacks"])] for row in rows),
    )


TABLES: Mapping[str, tuple[str, Callable[[Iterable[Row]], str]]] = {
    "nulls": ("False rollbacks, at the edge of the margin", false_rollbacks),
    "rivals": ("False rollbacks of others, equal arms", rivals),
    "delays": ("Predictions an arm until the rollback", delays),
    "promotion": ("Predictions an arm until a treatment passes", promotions),
    "rates": ("Label-free shares: exact tests", shares),
    "sample_ratio": ("A right split, looked at a hundred times", sample_ratios),
    "labels": ("Labels that come late, equal arms", labels),
}
"""By the name of a study: the title of its table, and how it is drawn."""
