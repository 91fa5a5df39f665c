"""Figures of a run, as PNG files. This module does I/O (files)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl


mpl.use("Agg")

import matplotlib.pyplot as plt  # only now the backend is chosen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter


Row = Mapping[str, Any]

OURS = "#0b6e4f"
OURS_PALE = "#7cc6a8"
COLOURS = {
    "peeking z": "#c0392b",
    "three strikes": "#e08e2b",
    "Kayenta": "#7d5ba6",
    "GrowthBook": "#2f6fb0",
    "group-sequential": "#777777",
}
OURS_NAME = "abmonitor, effect declared"
STYLE = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
DPI = 120
PERCENT = FuncFormatter(lambda value, _: f"{value * 100:g} %")
COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")


def draw_all(results: Mapping[str, list[Row]], folder: Path) -> list[Path]:
    """Draw every figure that `results` have the numbers for; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with mpl.rc_context(STYLE):
        if {"nulls", "rivals"} <= results.keys():
            made.append(
                _saved(
                    false_alarms(results["nulls"], results["rivals"]), folder / "false_alarms.png"
                )
            )
        if "delays" in results:
            made.append(_saved(delay_curves(results["delays"]), folder / "delays.png"))
            made.append(_saved(late_change(results["delays"]), folder / "late_change.png"))
        if "promotion" in results:
            made.append(_saved(promotion(results["promotion"]), folder / "promotion.png"))
    return made


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def false_alarms(nulls: Iterable[Row], rivals: Iterable[Row]) -> Figure:
    """Share of equal treatments rolled back by each look, in the reference world."""
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    ours = next(
        row for row in nulls if row["world"] == "reference" and row["plan"] == "effect declared"
    )
    ends = [
        (row["rival"], _curve(axes, row["by_look"], COLOURS[row["rival"]], 1.8))
        for row in rivals
        if row["world"] == "reference"
    ]
    pale = ours["by_look_without_late_starts"]
    ends.append(("without late starts", _curve(axes, pale, OURS_PALE, 1.8)))
    ends.append(("abmonitor", _curve(axes, ours["by_look"], OURS, 2.8)))
    axes.axhline(0.05, color="black", linewidth=1, linestyle=(0, (4, 3)))
    last = len(ours["by_look"])
    axes.annotate("5 % promised", (last * 0.6, 0.053), fontsize=11)
    _labelled(axes, ends, last)
    axes.set(
        xlim=(1, last),
        ylim=(0.001, 1),
        yscale="log",
        xlabel="looks (50 predictions an arm each)",
        ylabel="equal treatments rolled back",
        title="False rollbacks: how many equal treatments have been rolled back",
    )
    axes.yaxis.set_major_formatter(PERCENT)
    return figure


def _curve(axes: Axes, by_look: list[float], colour: str, width: float) -> tuple[int, float, str]:
    shown = [value if value > 0 else float("nan") for value in by_look]  # has no logarithm
    axes.plot(range(1, len(shown) + 1), shown, color=colour, linewidth=width)
    return len(shown), by_look[-1], colour


def _labelled(axes: Axes, ends: list[tuple[str, tuple[int, float, str]]], last: int) -> None:
    """Names at the ends of curves, moved apart where they are too near on the logarithmic scale."""
    floor = 0.0
    for name, (looks, value, colour) in sorted(ends, key=lambda end: end[1][1]):
        at = value * 1.09
        if looks == last:
            at = max(value, floor * 1.28)
            floor = at
        axes.annotate(
            f"{name} {value * 100:.1f} %",
            (looks, value),
            xytext=(looks + last * 0.012, at),
            color=colour,
            fontsize=11,
            va="center",
            annotation_clip=False,
        )


DELAY_JUDGES = {
    OURS_NAME: ("abmonitor", OURS, 2.8),
    "abmonitor without late starts, effect declared": ("without late starts", OURS_PALE, 1.8),
    "GrowthBook": ("GrowthBook", COLOURS["GrowthBook"], 1.8),
    "Kayenta": ("Kayenta", COLOURS["Kayenta"], 1.8),
    "group-sequential": ("group-sequential", COLOURS["group-sequential"], 1.8),
    "peeking z": ("peeking z (alarms falsely)", COLOURS["peeking z"], 1.4),
    "three strikes": ("three strikes (alarms falsely)", COLOURS["three strikes"], 1.4),
}


def delay_curves(delays: Iterable[Row]) -> Figure:
    """Share rolled back against predictions an arm, a panel an effect."""
    figure, panels = plt.subplots(1, 3, figsize=(11.4, 4.6), layout="constrained", sharey=True)
    rows = list(delays)
    for axes, effect in zip(panels, ("half", "once", "twice"), strict=True):
        of = [row for row in rows if row["world"] == f"drop {effect}"]
        for row in of:
            if row["judge"] in DELAY_JUDGES:
                name, colour, width = DELAY_JUDGES[row["judge"]]
                _deciles(axes, row, colour, width, name)
        axes.set(
            xscale="log",
            xlim=(180, 20_000),
            ylim=(0, 1),
            title=f"RAP lower by {of[0]['drop']:g}, {effect} the declared",
            xlabel="predictions an arm",
        )
        axes.xaxis.set_major_formatter(COUNT)
        axes.title.set_fontsize(12)
    panels[0].yaxis.set_major_formatter(PERCENT)
    panels[0].set_ylabel("rolled back")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=10.5,
    )
    return figure


def _deciles(axes: Axes, row: Row, colour: str, width: float, name: str) -> None:
    levels = [number / 20 for number in range(1, 20)]
    points = [
        (value, level)
        for value, level in zip(row["deciles"], levels, strict=True)
        if value is not None
    ]
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, label=name)


LATE_JUDGES = (
    "abmonitor, effect declared",
    "abmonitor without late starts, effect declared",
    "GrowthBook",
    "Kayenta",
    "three strikes",
    "peeking z",
)


def late_change(delays: Iterable[Row]) -> Figure:
    """Median and 95th percentile of predictions until the rollback after a late change."""
    figure, panels = plt.subplots(1, 2, figsize=(11.4, 4.4), layout="constrained", sharey=True)
    rows = {(row["world"], row["judge"]): row for row in delays}
    for axes, effect in zip(panels, ("once", "twice"), strict=True):
        for place, judge in enumerate(LATE_JUDGES):
            row = rows[f"late drop {effect}", judge]
            _bar(axes, row, place, DELAY_JUDGES[judge][1])
        drop = rows[f"late drop {effect}", OURS_NAME]["drop"]
        axes.set(
            xlim=(0, 27_000),
            title=f"good for 40,000 an arm, then RAP lower by {drop:g}",
            xlabel="predictions an arm until found: median, p95",
        )
        axes.set_xticks(range(0, 20_001, 5_000))
        axes.xaxis.set_major_formatter(COUNT)
        axes.title.set_fontsize(12)
        axes.grid(visible=False, axis="y")
    names = [DELAY_JUDGES[judge][0].split(" (")[0] for judge in LATE_JUDGES]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return figure


def _bar(axes: Axes, row: Row, place: int, colour: str) -> None:
    end = row["within"]
    median, late = row["median"], row["p95"]
    reach = end if late is None else late
    axes.plot([median or end, reach], [place, place], color=colour, linewidth=3, alpha=0.45)
    if median is not None:
        axes.barh(place, median, height=0.5, color=colour)
    told = f"{row['power']['rate'] * 100:.0f} % found"
    if row["false_before"]:
        told += f"\n{row['false_before'] * 100:.1f} % false before"
    axes.annotate(told, (20_600, place), fontsize=10.5, va="center", color="#444444")


def promotion(rows: Iterable[Row]) -> Figure:
    """Share of treatments that have passed, against predictions an arm."""
    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    shown = {
        ("promotion, better by 0.05", "effect declared"): ("RAP better by 0.05", OURS, "-"),
        ("promotion, equal", "effect declared"): ("equal", OURS, (0, (5, 2))),
        ("promotion, equal, six", "10,000 planned"): (
            "equal, six guardrails that all have to agree",
            COLOURS["group-sequential"],
            (0, (2, 2)),
        ),
    }
    for row in rows:
        if (row["world"], row["plan"]) in shown:
            name, colour, dashes = shown[row["world"], row["plan"]]
            points = [
                (value, level / 100)
                for level, value in enumerate(row["percentiles"], 1)
                if value is not None
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linestyle=dashes,
                linewidth=2.4,
                label=name,
            )
    axes.set(
        xlim=(0, 40_000),
        ylim=(0, 1),
        xlabel="predictions an arm",
        ylabel="passed",
        title="Promotion: no worse than the margin of 0.05 RAP, shown at 95 %",
    )
    axes.xaxis.set_major_formatter(COUNT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.7))
    return figure
