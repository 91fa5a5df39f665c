"""Numbers and moments in plain words, for people who decide. Pure."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple


UNKNOWN = "\N{EN DASH}"
"""Stands for what cannot be known; it is never 0."""

MOST = 10
"""Times the evidence that decides: more is not told."""

MINUS = "\N{MINUS SIGN}"


class Wording(NamedTuple):
    """How a difference of two variants is said."""

    name: str
    """The metric."""
    scale: float
    """What numbers are multiplied by to be shown."""
    unit: str
    """What stands behind a number."""
    less: str
    more: str
    now: str
    past: str
    """The verb."""
    alike: str
    """What is said instead of a difference that is none."""


PERCENT = " %"
POINTS = " points"

HEADLINES = {
    found.name: found
    for found in (
        Wording(
            "rap",
            100,
            " % of the achievable profit",
            "less than the control",
            "more than the control",
            "earns",
            "earned",
            "about as much as the control",
        ),
        Wording(
            "profit_per_prediction",
            1,
            " costs of an action a prediction",
            "less than the control",
            "more than the control",
            "earns",
            "earned",
            "about as much as the control",
        ),
        Wording(
            "accuracy",
            100,
            POINTS,
            "less accurate than the control",
            "more accurate than the control",
            "is",
            "was",
            "about as accurate as the control",
        ),
        Wording(
            "precision",
            100,
            POINTS,
            "less precise than the control",
            "more precise than the control",
            "is",
            "was",
            "about as precise as the control",
        ),
    )
}
"""The metrics by which a treatment is told to be better or worse, the most telling first."""


def decimals(values: Iterable[float | None], digits: int = 2) -> int:
    """How many decimals show the largest of `values` in `digits` digits; at most 6."""
    return max(0, places(values, digits))


def places(values: Iterable[float | None], digits: int = 2) -> int:
    """To how many places the largest of `values` is rounded to `digits` digits; below 0 before the point."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    return min(6, digits - 1 - math.floor(math.log10(max(sizes))))


def number(value: float | None, form: str = ".3g") -> str:
    """A number, or a dash for what cannot be known; never "-0".

    >>> number(-0.0001, ".2f"), number(None), number(-3.2, "+.1f")
    ('0.00', '\N{EN DASH}', '\N{MINUS SIGN}3.2')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    told = format(value, form)
    if told[0] in "+-" and not any(digit in told for digit in "123456789"):
        told = told[1:]
    return told.replace("-", MINUS)


def moment(at: int | None, today: int | None = None) -> str:
    """A time in UTC, without the date where it is the day of `today` (both epoch ms).

    >>> moment(1767283560000), moment(1767283560000, 1767283860000)
    ('2026-01-01 16:06 UTC', '16:06 UTC')
    """
    if at is None:
        return UNKNOWN
    when = datetime.fromtimestamp(at / 1000, UTC)
    same = today is not None and datetime.fromtimestamp(today / 1000, UTC).date() == when.date()
    return f"{when:%H:%M} UTC" if same else f"{when:%Y-%m-%d %H:%M} UTC"


def stamp(at: int | None) -> str:
    """A time in UTC, for a column whose head says so."""
    return UNKNOWN if at is None else f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"


def about(count: float) -> str:
    """A number that is a guess, in two digits.

    >>> about(2371), about(5_594_405)
    ('2,400', '5.6 million')
    """
    if count >= 1_000_000:
        return f"{float(f'{count / 1e6:.2g}'):,g} million"
    return f"{float(f'{count:.2g}'):,.0f}"


def evidence_told(share: float | None) -> str:
    """Whole per cent, rounded down: 100 only where it decides; far beyond that it no longer matters how far.

    >>> evidence_told(0.9999), evidence_told(31.0), evidence_told(None) == UNKNOWN
    ('99', 'over 1,000', True)
    """
    if share is None:
        return UNKNOWN
    return f"{math.floor(100 * share)}" if share < MOST else f"over {100 * MOST:,}"


def span(ms: float) -> str:
    """A span of time in the unit that tells it.

    >>> span(45_000), span(5_400_000), span(172_800_000)
    ('45 s', '1.5 hours', '2 days')
    """
    for unit, name in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if ms >= unit:
            told = float(f"{ms / unit:.2g}")
            return f"{told:g} {name.removesuffix('s') if told == 1 else name}"
    return f"{ms / 1000:.0f} s"


def headline(differences: dict[str, dict[str, float | None]]) -> str | None:
    """The most telling metric of which a difference is known; None where none is."""
    return next(
        (name for name in HEADLINES if differences.get(name, {}).get("estimate") is not None), None
    )


def gap(metric: str, found: dict[str, Any], *, past: bool = False) -> str:
    """How far a treatment is from its control by a metric of `HEADLINES`, with its bounds in brackets.

    `found` has an estimate that is known, and bounds that may not be.

    >>> gap("rap", {"estimate": -0.31, "lower": -0.38, "upper": -0.24}, past=True)
    'earned 31 % of the achievable profit less than the control [24, 38]'
    >>> gap("rap", {"estimate": 0.021, "lower": -0.02, "upper": 0.07})
    'earns 2.1 % of the achievable profit more than the control [2.0 less, 7.0 more]'
    """
    words = HEADLINES[metric]
    value, lower, upper = (
        None if found[end] is None else words.scale * found[end]
        for end in ("estimate", "lower", "upper")
    )
    if value is None:
        raise ValueError(f"expected a difference of {metric} that is known, got {found}")
    form = f",.{decimals((value, lower, upper))}f"
    verb = words.past if past else words.now
    size = format(abs(value), form)
    if not any(digit in size for digit in "123456789"):
        return f"{verb} {words.alike} {_ends(lower, upper, form)}"
    side = words.more if value > 0 else words.less
    return f"{verb} {size}{words.unit} {side} {_ends(lower, upper, form)}"


def _ends(lower: float | None, upper: float | None, form: str) -> str:
    """Bounds: sizes where both lie on one side, else each with its side."""
    if lower is None or upper is None:
        return "[bounds not known]"
    if lower > 0 or upper < 0:
        ends = sorted((abs(lower), abs(upper)))
        return f"[{ends[0]:{form}}, {ends[1]:{form}}]"
    return f"[{abs(lower):{form}} less, {abs(upper):{form}} more]"
