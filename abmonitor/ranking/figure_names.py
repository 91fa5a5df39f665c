"""The names in the picture of who is best: of lines at their right ends, of stretches below the axis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from abmonitor.ranking.labels import NO_BREAK, extent, fitted, spread
from abmonitor.ranking.sensitivity import Best, Sensitivity
from abmonitor.ranking.sensitivity_table import name_of, one_name, span, width


NAMED = 8
"""So many lines have a colour and a name."""
FEW = 6
"""Up to so many models each line has a name, also where it is never the best."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa3377", "#56b4e9", "#e69f00", "#66558e", "#7a7a1a")
"""Okabe and Ito's (2008), and four more that stay apart for colour-blind eyes; neighbours differ in lightness."""
INK, FAINT, GREY, RULE = "#222222", "#666666", "#c4c4c4", "#dddddd"
PLOT: Final = (0.07, 0.335, 0.65, 0.515)
BAND: Final = (0.07, 0.215, 0.65, 0.032)
LABEL_LEFT, LABEL_RIGHT, EDGE, GAP = 0.76, 0.995, 0.01, 0.014
"""Places in shares of the figure: left, bottom, width, height; and where names of lines stand."""
NARROW = 0.004
"""A stretch that takes less of the axis is drawn as a line, so that it can be seen at all."""
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Line:
    """A competitor that is drawn with a name."""

    name: str
    place: int
    colour: str
    baseline: bool = False
    best: Best | None = None


def named_lines(found: Sensitivity) -> Iterator[Line]:
    """Those with names: always and never, who is best over the widest stretches, and at the assumed point."""
    always, never = found.models, found.models + 1
    firm = [each for each in found.shown if found.point is not None and each in found.at_assumed]
    widest = sorted(found.shown, key=lambda each: (each not in firm, -width(found, each)))
    chosen = [each for each in widest if max(each.places) < always][:NAMED]
    colours = iter(COLOURS)
    taken: set[int] = set()
    for each in found.shown:
        taken.update(each.places)
        name = name_of(found, each.places)
        if max(each.places) >= always:
            yield Line(name, each.places[0], INK if always in each.places else FAINT, True, each)
        elif each in chosen:
            yield Line(name, each.places[0], next(colours), best=each)
    for place, colour in ((always, INK), (never, FAINT)):
        if place not in taken:
            yield Line(one_name(found, place), place, colour, baseline=True)
    if found.models <= FEW:
        for place in range(found.models):
            if place not in taken:
                yield Line(one_name(found, place), place, GREY)


def cut(found: Sensitivity, best: Best) -> tuple[float, float]:
    """The part of a stretch that is on the axis."""
    low, high = found.where(best.low), found.where(best.high)
    start, end = found.ends
    start = max(start, found.clipped_below or start) if found.clipped_below is not None else start
    return start if low is None else max(start, low), end if high is None else min(end, high)


def name_lines(figure: Figure, axes: Axes, found: Sensitivity, lines: Sequence[Line]) -> None:
    """Names beside the right ends of their lines, moved apart and led to them."""
    bottom, tall = PLOT[1], PLOT[3]
    low, high = axes.get_ylim()
    shares = (found.raps[-1, [line.place for line in lines]] - low) / (high - low)
    at = bottom + tall * np.clip(shares, 0, 1)
    order = np.argsort(at, kind="stable")
    texts: list[tuple[str, dict[str, Any]]] = []
    sizes: list[float] = []
    for place in order:
        style: dict[str, Any] = {
            "size": 10.5,
            "weight": "bold" if lines[place].best else "normal",
            "linespacing": 1.1,
        }
        below = " \N{DOWNWARDS ARROW}" if shares[place] < 0 else ""
        text = fitted(figure, lines[place].name + below, LABEL_RIGHT - LABEL_LEFT, 2, **style)
        texts.append((text, style))
        sizes.append(extent(figure, text, **style)[1] + 0.012)
    right = PLOT[0] + PLOT[2]
    centres = spread(at[order].tolist(), sizes, bottom - 0.05, 0.9)
    for place, centre, (text, style) in zip(order, centres, texts, strict=True):
        line = lines[place]
        x = [right, right + 0.004, LABEL_LEFT - 0.012, LABEL_LEFT - 0.004]
        y = [at[place], at[place], centre, centre]
        _lead(figure, x, y, line.colour)
        figure.text(LABEL_LEFT, centre, text, va="center", color=INK, **style)


def _lead(figure: Figure, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """A thin line to a name, thick at its end."""
    for part, lw in ((slice(None), 1.0), (slice(-2, None), 3.4)):
        figure.add_artist(Line2D(x[part], y[part], color=colour, lw=lw, solid_capstyle="butt"))


def band(figure: Figure, axes: Axes, found: Sensitivity, lines: Sequence[Line]) -> float:
    """Who is best, as a band below the axis, each crossing marked on the lines, too."""
    strip = figure.add_axes(BAND)
    strip.set_xlim(*found.ends)
    strip.set_axis_off()
    colours = {line.best.places: line.colour for line in lines if line.best}
    start, end = found.ends
    for each in found.shown:
        low, high = cut(found, each)
        colour = colours.get(each.places, GREY)
        if high - low < NARROW * (end - start):
            strip.axvline((low + high) / 2, color=colour, lw=1.6, zorder=3)
        else:
            strip.axvspan(low, high, facecolor=colour, edgecolor="white", lw=0.8)
        if low > start and each.low is not None:
            rap = float(found.rap(low)[each.places[0]])
            axes.plot([low, low], [axes.get_ylim()[0], rap], color=GREY, lw=0.7, zorder=1.4)
            axes.plot([low], [rap], "o", ms=5, mfc="white", mec=INK, mew=1.1, zorder=4)
    figure.text(BAND[0], BAND[1] + BAND[3] + 0.006, "best model", color=FAINT, size=10, va="bottom")
    return _name_band(figure, found, [(line, line.best) for line in lines if line.best])


def _name_band(figure: Figure, found: Sensitivity, named: Sequence[tuple[Line, Best]]) -> float:
    """Names and exact ends of stretches below the band, in its order; where the lowest ends."""
    style: dict[str, Any] = {"size": 9.5, "weight": "bold", "linespacing": 1.1}
    faint: dict[str, Any] = {"size": 9, "linespacing": 1.1}
    start, end = found.ends
    ordered = sorted(named, key=lambda each: cut(found, each[1])[0])
    room = min((LABEL_RIGHT - EDGE) / len(ordered) - GAP, 0.25)
    middles, texts, sizes = [], [], []
    for line, best in ordered:
        middles.append(BAND[0] + BAND[2] * (sum(cut(found, best)) / 2 - start) / (end - start))
        name = fitted(figure, line.name, room, 5, **style)
        ends = unbroken(span(found, best, MINUS).removeprefix("from "))
        told = fitted(figure, ends, room, 2, **faint)
        texts.append((name, told))
        sizes.append(max(extent(figure, name, **style)[0], extent(figure, told, **faint)[0]) + GAP)
    lowest, top = BAND[1], BAND[1] - 0.034
    places = spread(middles, sizes, EDGE, LABEL_RIGHT)
    for (line, _), middle, at, (name, told) in zip(ordered, middles, places, texts, strict=True):
        y = [BAND[1], BAND[1] - 0.006, BAND[1] - 0.022, BAND[1] - 0.028]
        _lead(figure, [middle, middle, at, at], y, line.colour)
        figure.text(at, top, name, ha="center", va="top", color=INK, **style)
        below = top - extent(figure, name, **style)[1] - 0.006
        figure.text(at, below, told, ha="center", va="top", color=FAINT, **faint)
        lowest = min(lowest, below - extent(figure, told, **faint)[1])
    return lowest


def unbroken(text: str) -> str:
    """Keep numbers and their per cent signs in one line."""
    return text.replace(" %", f"{NO_BREAK}%")
