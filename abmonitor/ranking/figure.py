"""The picture of who is best for which assumption (file system): RAP over assumed ROI, as PNG or SVG.

Drawn by matplotlib without pyplot, so that nothing global stays behind; the same input gives the same bytes.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from abmonitor.ranking.figure_names import (
    EDGE,
    FAINT,
    GREY,
    INK,
    MINUS,
    PLOT,
    RULE,
    Line,
    band,
    cut,
    name_lines,
    named_lines,
    unbroken,
)
from abmonitor.ranking.labels import fitted
from abmonitor.ranking.sensitivity import Sensitivity
from abmonitor.ranking.sensitivity_table import Ends, headline, steps
from metrics.candidates import FloatArray


SIZE: Final = (12.0, 7.5)
"""Inches; at 100 pixels an inch 1,200 pixels wide, drawn at twice that for sharp screens."""
DPI = 200
MANY = 100
"""More grey lines than this are one picture inside an SVG: a path for each would be slow to open."""
_STYLE: Final[Mapping[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "abmonitor",
    "font.size": 11,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
}


def draw(found: Sensitivity, path: Path) -> None:
    """Write the picture to `path`, which ends in .png or .svg; raises ValueError for anything else."""
    form = path.suffix.lower().removeprefix(".")
    if form not in {"png", "svg"}:
        raise ValueError(f"expected the name of a figure to end in .png or .svg, got {path.name!r}")
    written = io.BytesIO()
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box in PNG, itself in SVG
        figure, used = _figure(found)
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(written, format=form, dpi=DPI, metadata=metadata, bbox_inches=used)
    path.write_bytes(written.getvalue())


def _figure(found: Sensitivity) -> tuple[Figure, Bbox]:
    """The picture, and what of its paper is used, in inches."""
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.patch.set_bounds(0, -1, 1, 2)  # names may need more paper below
    lines = list(named_lines(found))
    axes = figure.add_axes(PLOT)
    low, high = _heights(found, lines)
    axes.set_xlim(*found.ends)
    axes.set_ylim(low, high)
    _titles(figure, found)
    _frame(axes, found)
    _assumed(axes, found)
    _others(axes, found, lines)
    for line in lines:
        _draw_line(axes, found, line)
    name_lines(figure, axes, found, lines)
    bottom = band(figure, axes, found, lines)
    unnamed = len(found.shown) - sum(line.best is not None for line in lines)
    one = "stretch in grey has" if unnamed == 1 else "stretches in grey have"
    told = [f"{unnamed} narrower {one} no name here."] if unnamed else []
    for note in [*told, *found.notes]:
        bottom -= 0.028
        figure.text(EDGE, bottom, fitted(figure, note, 0.98, 1, size=9), size=9, color=FAINT)
    return figure, Bbox([[0, (bottom - 0.02) * SIZE[1]], SIZE])


def _heights(found: Sensitivity, lines: Sequence[Line]) -> tuple[float, float]:
    """From where to where RAP is shown: all that is best, and losses only as far as they leave room for it."""
    top = float(np.nanmax(found.raps))
    chosen = found.raps[:, [line.place for line in lines if not line.baseline]]
    lowest = float(np.nanmin(chosen)) if chosen.size else 0.0
    if top <= 0:
        return max(lowest, -1.0) * 1.05 - 0.02, 0.1
    return max(min(lowest, 0.0), -0.45 * top) - 0.06 * top, 1.06 * top


def _titles(figure: Figure, found: Sensitivity) -> None:
    style: dict[str, Any] = {"size": 14, "weight": "bold", "color": INK}
    text = fitted(figure, unbroken(headline(found, MINUS)), 0.91, 2, **style)
    figure.text(PLOT[0], 0.925, text, va="bottom", **style)
    rows = found.counts.positives + found.counts.negatives
    models = f"{found.models:,} model{'s' * (found.models != 1)}"
    told = f"Relative achieved profit (RAP) of {models} on {rows:,.0f} rows"
    if found.reference_precision is not None:
        told += f", reference precision {found.reference_precision * 100:.4g} %"
    figure.text(PLOT[0], 0.885, told, size=11, color=FAINT)


def _frame(axes: Axes, found: Sensitivity) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, colors=INK, labelsize=10)
    ends, at = Ends(found, MINUS), steps(found)
    axes.set_xticks(at, [ends.typed(each).lstrip("+") for each in at.tolist()])
    axes.tick_params(axis="x", length=4, color=FAINT)
    axes.yaxis.set_major_formatter(_per_cent)
    axes.set_ylabel("RAP %", color=INK, rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(-0.078, 1.025)
    named = "assumed ROI" if found.axis == "assumed_roi" else "unit profitability q"
    axes.set_xlabel(f"{named}  \N{RIGHTWARDS ARROW}", color=INK, loc="right", labelpad=3)
    _hatch(axes, found)


def _per_cent(share: float, _place: float) -> str:
    return f"{round(100 * share, 9) + 0.0:,.10g}".replace("-", MINUS)


def _hatch(axes: Axes, found: Sensitivity) -> None:
    """Cover where q is at most 1, where nothing can be said."""
    start, stop = found.ends[0], found.clipped_below
    if stop is None or stop <= start:
        return
    axes.axvspan(start, stop, facecolor="#f2f2f2", edgecolor=GREY, hatch="///", lw=0)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    middle = (start + min(stop, found.ends[1])) / 2, sum(axes.get_ylim()) / 2
    axes.text(
        *middle,
        "no action can pay",
        rotation=90,
        size=9,
        color=FAINT,
        ha="center",
        va="center",
        bbox=box,
    )


def _assumed(axes: Axes, found: Sensitivity) -> None:
    """Mark what is assumed: a line, or a shade."""
    start, end = found.ends
    low, high = found.range
    ends = Ends(found, MINUS)
    if found.point is not None:
        axes.axvline(found.point, color=INK, linewidth=1.2, zorder=1.5)
        text, at = f"assumed {ends.typed(found.point)}", found.point
    else:
        left, right = start if low is None else max(low, start), end if high is None else high
        axes.axvspan(left, right, color="#0072b2", alpha=0.08, lw=0, zorder=0)
        text, at = f"assumed {ends.between(low, high, typed=True)}", (left + right) / 2
    share = (at - start) / (end - start)
    side = "left" if share < 0.12 else "right" if share > 0.88 else "center"
    axes.annotate(
        text,
        (at, 1.0),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=INK,
        size=10.5,
        annotation_clip=False,
    )


def _others(axes: Axes, found: Sensitivity, lines: Sequence[Line]) -> None:
    """All without a name: thin and grey, each different line once."""
    named = {line.place for line in lines}
    rest = [place for place in range(found.models) if place not in named]
    pairs = np.stack([found.counts.tp[rest], found.counts.fp[rest]], 1)
    once = np.sort(np.unique(pairs, axis=0, return_index=True)[1]) if rest else np.array([], int)
    points = [_points(found, found.raps[:, rest[place]]) for place in once.tolist()]
    visible = [each for each in points if len(each) and each[:, 1].max() >= axes.get_ylim()[0]]
    alpha = float(np.clip(60 / max(len(visible), 1), 0.06, 0.9))
    grey = LineCollection(visible, colors="#8c8c8c", linewidths=0.7, alpha=alpha, zorder=1)
    grey.set_rasterized(len(visible) > MANY)
    axes.add_collection(grey, autolim=False)


def _points(found: Sensitivity, raps: FloatArray) -> FloatArray:
    points = np.stack([found.at, raps], 1)
    kept: FloatArray = points[np.isfinite(raps)]
    return kept


def _draw_line(axes: Axes, found: Sensitivity, line: Line) -> None:
    """A named line, heavy where it is the best; baselines dashed."""
    points = _points(found, found.raps[:, line.place])
    dash = (0, (5, 3)) if line.baseline else "solid"
    low, high = (np.inf, np.inf) if line.best is None else cut(found, line.best)
    at = np.unique(np.concatenate([points[:, 0], [each for each in (low, high) if each < np.inf]]))
    at = at[found.q(at) > 1]
    raps = np.array([found.rap(each)[line.place] for each in at.tolist()])
    best = (at >= low) & (at <= high)
    rest = (at <= low) | (at >= high)
    plain = 0.9 if line.colour == GREY else 1.5
    for part, lw in ((rest, plain), (best, 3.4)):
        shown = np.where(part, raps, np.nan)
        axes.plot(
            at, shown, c=line.colour, lw=lw, ls=dash, zorder=2 + lw / 10, dash_capstyle="butt"
        )
