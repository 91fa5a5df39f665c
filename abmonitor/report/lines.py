"""Lines over time: each chart of a report with the table of its numbers. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from abmonitor.report.content import Chart, Section, Table, Text
from abmonitor.report.figures import bounded, ms, percent
from abmonitor.report.gather import Gathered
from abmonitor.report.saved import Range
from abmonitor.report.words import HEADLINES, PERCENT, UNKNOWN, number, stamp


MOST_ROWS = 12
"""Of a table beside a chart: its first and last rows are the first and last points of the lines."""

NAMES = {
    "rap": "RAP (share of the achievable profit)",
    "profit_per_prediction": "profit per prediction (costs of an action)",
    "accuracy": "accuracy",
    "precision": "precision",
}


def picked(count: int, most: int = MOST_ROWS) -> list[int]:
    """Places of at most `most` of `count` points, evenly, the first and the last among them.

    >>> picked(3), picked(100, 4)
    ([0, 1, 2], [0, 33, 66, 99])
    """
    if count <= most:
        return list(range(count))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]


def _at(found: dict[str, Any], place: int, first: str) -> Range | None:
    value = found[first][place]
    if value is None:
        return None
    return Range(value, found["lower"][place], found["upper"][place])


def _of(metric: str) -> tuple[float, str, str]:
    """What numbers of a metric are multiplied by, and the units of it and of a difference of it."""
    words = HEADLINES.get(metric)
    if words is None or words.scale == 1:
        return 1.0, "", ""
    return words.scale, PERCENT, " points"


def over_time(series: dict[str, Any], treatment: str) -> Chart | None:
    """The headline of a treatment against its control; None where nothing is known of it yet."""
    found = series["labelled"]["differences"].get(treatment)
    at = series["labelled"]["at"]
    if found is None or not at:
        return None
    scale, _, unit = _of(found["metric"])
    margin = found["margin"]
    limit = (
        "" if margin is None else f"; not tolerated beyond {number(scale * margin, '+.3g')}{unit}"
    )
    rows = tuple(
        (stamp(at[n]), bounded(_at(found, n, "estimate"), unit, scale=scale))
        for n in picked(len(at), 5)
    )
    name = NAMES.get(found["metric"], found["metric"])
    heading = f"{name}: treatment minus control, with bounds and decisions"
    caption = f"{treatment} minus control{limit}"
    return Chart("difference", heading, Table(caption, ("by (UTC)", "difference"), rows))


def lines(given: Gathered) -> Iterator[Section]:
    """Everything that is drawn over time, with its numbers."""
    series = given.series
    if series is None:
        text = "The source has no lines over time: it was written by an older version."
        yield Section(title="Over time", blocks=(Text(text),))
        return
    charts = [_labelled(series)]
    charts += [_value(series, name) for name in series["labelled"]["net_business_value"]]
    charts += [_split(series), _errors(series), _latency(series), _distribution(series)]
    yield Section(
        title="Over time",
        blocks=(
            Text(
                "Times are UTC. Lines of what needs labels go by the arrival of predictions whose label is"
                " final, and hold everything up to there; lines of what arrived are of each slice by itself."
            ),
            *charts,
        ),
    )


def _labelled(series: dict[str, Any]) -> Chart:
    found = series["labelled"]
    at, variants = found["at"], found["variants"]
    scale, unit, _ = _of(found["metric"])
    rows = [
        (
            stamp(at[n]),
            *(
                bounded(_at(each, n, "value"), unit, scale=scale, signed=False)
                for each in variants.values()
            ),
        )
        for n in picked(len(at))
    ]
    name = NAMES.get(found["metric"], found["metric"])
    table = Table(
        f"{name}, everything with a final label up to then", ("by (UTC)", *variants), tuple(rows)
    )
    return Chart("labelled", f"{name} of each variant", table)


def _value(series: dict[str, Any], treatment: str) -> Chart:
    found, at = series["labelled"]["net_business_value"][treatment], series["labelled"]["at"]
    rows = [
        (
            stamp(at[n]),
            bounded(_at(found, n, "estimate"), PERCENT),
            *(_percent(found[part][n]) for part in ("accuracy", "latency", "errors")),
        )
        for n in picked(len(at))
    ]
    columns = ("by (UTC)", "net business value", "accuracy", "latency", "errors")
    table = Table(f"Net business value of {treatment}, per cent", columns, tuple(rows))
    heading = f"Net business value of {treatment} and its parts"
    return Chart("value", heading, table, treatment=treatment)


def _percent(value: float | None) -> str:
    return number(value, "+,.2f") + PERCENT * (value is not None)


def _arrived(series: dict[str, Any], caption: str, columns: Sequence[tuple[str, str]]) -> Table:
    """Of each variant some columns of what arrived: (name of the column, its key)."""
    found = series["arrival"]
    variants = found["variants"]
    rows = [
        (
            stamp(found["at"][n]),
            *(_shown(key, each[key][n]) for each in variants.values() for _, key in columns),
        )
        for n in picked(len(found["at"]))
    ]
    names = [f"{name}{title}" for name in variants for title, _ in columns]
    return Table(caption, ("from (UTC)", *names), tuple(rows))


def _shown(key: str, value: float | None) -> str:
    if key == "predictions":
        return UNKNOWN if value is None else f"{value:,}"
    return ms(value) if key.startswith("p") else percent(value)


def _split(series: dict[str, Any]) -> Chart:
    columns = ((": predictions", "predictions"), (": share", "share"), (": intended", "intended"))
    table = _arrived(series, "Predictions of a slice, their share and the intended one", columns)
    return Chart("split", "Share of the traffic against what was intended", table)


def _errors(series: dict[str, Any]) -> Chart:
    table = _arrived(series, "Failed predictions of a slice", (("", "error_rate"),))
    return Chart("errors", "Error rate of each variant", table)


def _latency(series: dict[str, Any]) -> Chart:
    columns = ((" p50", "p50"), (" p95", "p95"), (" p99", "p99"))
    table = _arrived(series, "Percentiles of the latency of a slice", columns)
    return Chart("latency", "Latency of each variant", table)


def _distribution(series: dict[str, Any]) -> Chart:
    found = series["latency"]
    edges, variants = found["edges_ms"], found["variants"]
    bins = max(0, len(edges) - 1)
    step = -(-bins // MOST_ROWS) or 1
    rows = [
        (
            f"{edges[n]:,.1f} to {edges[min(n + step, bins)]:,.1f} ms",
            *(percent(_within(each["share"], n, step)) for each in variants.values()),
        )
        for n in range(0, bins, step)
    ]
    caption = "Share of the predictions of the latest hour of data, by latency"
    table = Table(caption, ("latency", *variants), tuple(rows))
    return Chart("distribution", "Distribution of latency over the latest hour", table)


def _within(share: Sequence[float | None], first: int, count: int) -> float | None:
    """The sum of some bins; None where they are not known."""
    found = [each for each in share[first : first + count] if each is not None]
    return sum(found) if found else None
