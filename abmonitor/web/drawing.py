"""Small pictures made on the server: SVG by attributes alone, which the content security policy allows. Pure."""

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup


WIDTH, HEIGHT = 120, 28
"""Of a spark line."""
COLOURS = 5
"""Of treatments; the sixth has that of the first again."""
BAR = 96
"""The width of a bar."""


def spark(values: Sequence[float | None], cls: str = "v1") -> Markup:
    """A line with the level of no difference; nothing where no value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    low, high = min(0.0, *known), max(0.0, *known)
    tall = high - low or 1.0

    def place(at: int, value: float) -> str:
        x = 3 + at * (WIDTH - 6) / max(1, len(values) - 1)
        return f"{x:.1f},{HEIGHT - 3 - (value - low) / tall * (HEIGHT - 6):.1f}"

    runs = groupby(enumerate(values), key=lambda each: each[1] is None)
    lines = [
        " ".join(place(at, value) for at, value in run if value is not None)
        for unknown, run in runs
        if not unknown
    ]
    zero = f"{HEIGHT - 3 + low / tall * (HEIGHT - 6):.1f}"
    drawn = "".join(f'<polyline points="{line}"/>' for line in lines)
    last = next(at for at in reversed(range(len(values))) if values[at] is not None)
    x, y = place(last, known[-1]).split(",")
    return Markup(  # noqa: S704  # numbers, and the name of a class of ours
        f'<svg class="spark {cls}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' aria-hidden="true"><line x1="0" x2="{WIDTH}" y1="{zero}" y2="{zero}"/>{drawn}'
        f'<circle cx="{x}" cy="{y}" r="2.5"/></svg>'
    )


def share_bar(share: float | None, cls: str, most: float = 1.0) -> Markup:
    """A bar that is full, up to its mark, at 1; with `most` above 1 it may go beyond."""
    filled = max(0.0, min(most, share or 0.0)) / most * BAR
    mark = ""
    if most > 1:
        at = f"{BAR / most:.1f}"
        mark = f'<line x1="{at}" x2="{at}" y1="0" y2="10"/>'
    return _svg(
        "bar",
        f'<rect class="rest" width="{BAR}" height="6" y="2" rx="3"/>{_rect(filled, cls)}{mark}',
    )


def diverging_bar(value: float | None, most: float, cls: str) -> Markup:
    """A bar to the left or right of nothing; `most` fills one half."""
    half = BAR / 2
    long = 0.0 if value is None or not most else min(1.0, abs(value) / most) * half
    left = half - long if (value or 0.0) < 0 else half
    return _svg(
        "bar",
        f'<rect class="{cls}" x="{left:.1f}" width="{long:.1f}" height="8" y="1"/>'
        f'<line x1="{half}" x2="{half}" y1="0" y2="10"/>',
    )


def range_line(
    low: float | None, high: float | None, floor: float, assumed: float | None
) -> Markup:
    """The assumptions from `floor` on, those for which the treatment is ahead, and the one that is made."""
    ends = [end for end in (low, high, assumed) if end is not None]
    far = max([end - floor for end in ends], default=1.0) * 1.5 or 1.0

    def place(at: float | None, otherwise: float) -> float:
        return otherwise if at is None else max(0.0, min(1.0, (at - floor) / far)) * 400

    left, right = place(low, 0.0), place(high, 400.0)
    marked = ""
    if assumed is not None:
        at = f"{place(assumed, 0.0):.1f}"
        marked = f'<line class="assumed" x1="{at}" x2="{at}" y1="0" y2="20"/>'
    return Markup(  # noqa: S704  # numbers
        '<svg class="range" viewBox="-2 0 404 20" width="100%" height="20" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rest" width="400" height="8" y="6"/>'
        f'<rect class="ahead" x="{left:.1f}" width="{max(0.0, right - left):.1f}" height="8" y="6"/>{marked}</svg>'
    )


def _rect(width: float, cls: str) -> str:
    return f'<rect class="{cls}" width="{width:.1f}" height="6" y="2" rx="3"/>'


def _svg(cls: str, inside: str) -> Markup:
    return Markup(  # noqa: S704  # numbers, and names of classes of ours
        f'<svg class="{cls}" viewBox="0 0 {BAR} 10" width="{BAR}" height="10" aria-hidden="true">{inside}</svg>'
    )
