"""Numbers with their bounds, as tables of reports show them. Pure."""

from typing import Any

from abmonitor.report.saved import Range
from abmonitor.report.words import PERCENT, UNKNOWN, number, places


def bounded(found: Range | None, unit: str = "", *, scale: float = 1.0, signed: bool = True) -> str:
    """An estimate with its bounds in brackets, in two digits of how far they are; a dash for what is not known.

    >>> bounded(Range(-0.31, -0.38, -0.24), " %", scale=100)
    '\N{MINUS SIGN}31.0 % [\N{MINUS SIGN}38.0, \N{MINUS SIGN}24.0]'
    >>> bounded(Range(0.0, None, None), " points")
    '0 points [\N{EN DASH}, \N{EN DASH}]'
    """
    if found is None:
        return UNKNOWN
    ends = [None if end is None else scale * end for end in (found.lower, found.upper)]
    value = scale * found.estimate
    far = [abs(end - value) for end in ends if end is not None]
    digits = places(far or [value])
    form = f"{'+' * signed},.{max(0, digits)}f"
    estimate, lower, upper = (
        number(each if each is None else round(each, digits), form) for each in (value, *ends)
    )
    return f"{estimate}{unit} [{lower}, {upper}]"


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent, never rounded to none or to all of it."""
    if not whole:
        return UNKNOWN
    told = f"{100 * part / whole:.1f}"
    if 0 < part < whole:
        told = {"0.0": "<0.1", "100.0": ">99.9"}.get(told, told)
    return told + PERCENT


def percent(value: float | None) -> str:
    """A share as per cent."""
    return number(value if value is None else 100 * value, ",.2f") + PERCENT * (value is not None)


def ratio(value: float | None) -> str:
    """A number without a unit."""
    return number(value, ",.4f")


def ms(value: float | None) -> str:
    """Milliseconds."""
    return number(value, ",.1f") + " ms" * (value is not None)


def told(value: Any) -> str:
    """A value of settings or of a document."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
