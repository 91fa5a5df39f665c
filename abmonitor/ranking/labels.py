"""Names in a picture: cleaned, wrapped into the room there is, and moved apart so that none covers another."""

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure


ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
NO_BREAK = "\N{NO-BREAK SPACE}"
_PIECES = re.compile(r".*?(?:[ _\-=/,:;|]|\.(?!\d)|$)")
"""A name breaks after such a sign; not inside of numbers, and not at a no-break space."""


def cleaned(name: str) -> str:
    r"""A name in one line, with a dot for what no picture can show.

    >>> cleaned("gbm\n v2\x00")
    'gbm v2·'
    """
    return "".join(
        each if each.isprintable() or each == NO_BREAK else "\N{MIDDLE DOT}"
        for each in " ".join(re.split(r"[ \t\r\n]+", name.strip()))
    )


def shortened(name: str, most: int) -> str:
    """At most so many characters; both ends stay, for versions and seeds stand there.

    >>> shortened("gradient-boosting-seed-17", 12)
    'gradie…ed-17'
    """
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return name[: most - 1 - tail] + ELLIPSIS + name[len(name) - tail :]


def wrapped(name: str, width: int, rows: int) -> list[str]:
    """At most `rows` lines of at most `width` characters, broken at signs where the whole name then fits.

    Otherwise broken anywhere, and shortened only where that is not enough: names often differ in their middle.

    >>> wrapped("boosting_depth=6_rate=0.05", 12, 3)
    ['boosting_', 'depth=6_', 'rate=0.05']
    >>> wrapped("boosting_depth=6_rate=0.05", 10, 2)
    ['boosting_d', '…rate=0.05']
    """
    lines = _filled(name, width)
    if len(lines) <= rows:
        return lines
    text = shortened(name, width * rows)
    return [text[start : start + width] for start in range(0, len(text), width)]


def _filled(name: str, width: int) -> list[str]:
    lines = [""]
    for piece in _PIECES.findall(name):
        rest = piece
        if len(lines[-1]) + len(piece.rstrip()) > width and lines[-1]:
            lines.append("")
        while len(rest.rstrip()) > width:
            lines[-1], rest = rest[:width], rest[width:]
            lines.append("")
        lines[-1] += rest
    return [line.strip() for line in lines if line.strip()]


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Centres as near as can be to `wanted` (ascending), so that things of `sizes` do not overlap.

    The least squares solution (pool adjacent violators), then moved inside `low` to `high`; what is larger than
    the room starts at `low` and goes beyond `high`.

    >>> spread([1.0, 1.0, 5.0], [1.0, 1.0, 1.0], 0.0, 10.0)
    [0.5, 1.5, 5.0]
    """
    offsets, total = [], 0.0
    for size in sizes:
        offsets.append(total + size / 2)
        total += size
    starts = [at - offset for at, offset in zip(wanted, offsets, strict=True)]
    pools: list[tuple[float, int]] = []
    for start in starts:
        pools.append((start, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, count), (other, more) = pools[-2:]
            pools[-2:] = [((one * count + other * more) / (count + more), count + more)]
    firm = [max(low, min(mean, high - total)) for mean, count in pools for _ in range(count)]
    return [start + offset for start, offset in zip(firm, offsets, strict=True)]


def fitted(figure: Figure, name: str, room: float, rows: int, **style: Any) -> str:
    """Wrap a name so that it takes at most `room` (a share of the figure's width) and `rows` lines."""
    clean = cleaned(name)
    longest = max(8, int(room * figure.bbox.width / 8))
    text = clean
    for width in range(min(longest, len(clean) + 1), 3, -1):
        text = "\n".join(wrapped(clean, width, rows))
        if extent(figure, text, **style)[0] <= room:
            break
    return text


def extent(figure: Figure, text: str, **style: Any) -> tuple[float, float]:
    """Width and height of a text, as shares of the figure's."""
    drawn = figure.text(0, 0, text, **style)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width / figure.bbox.width, box.height / figure.bbox.height
