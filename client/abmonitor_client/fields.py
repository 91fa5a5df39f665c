"""What a single field of an event may be, and how it is written; refuses what abmonitor would. Pure.

Model code hands over what its libraries return, so scalars of numpy and the like are taken as the plain
numbers that they stand for. Whatever could hide a mistake (a score given as the decision, seconds given
as milliseconds) is refused.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Union
from uuid import UUID


Identifier = Union[str, int, UUID]
Time = Union[float, datetime]
"""Epoch milliseconds, or a datetime with a zone."""

MAX_BYTES = 128
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EARLIEST_MS = 1e11  # 1973; epoch seconds stay below until the year 5138
_LATEST_MS = 1e14  # 5138; epoch microseconds are above since 1973


def name(field: str, value: object) -> str:
    """The name of an experiment or a variant."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(
            f"{field} is {_shown(value)}, expected 1 to 64 letters, digits, dots, dashes or underscores"
        )
    return value


def identifier(field: str, value: object) -> str:
    """An id as text of 1 to 128 bytes; whole numbers and UUIDs are written out."""
    if not isinstance(value, str):
        value = _written(field, value)
    if not value:
        raise ValueError(f"{field} is empty, expected 1 to {MAX_BYTES} bytes")
    return text(field, value)


def text(field: str, value: object) -> str:
    """Text of at most 128 bytes in UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{field} is {_shown(value)}, expected text")
    if len(value) > MAX_BYTES or not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ValueError(
                f"{field} is {_shown(value)}, which UTF-8 cannot write; expected proper text"
            ) from None
        if size > MAX_BYTES:
            raise ValueError(f"{field} has {size} bytes, expected at most {MAX_BYTES}")
    return value


def truth(field: str, value: object) -> bool:
    """True or false; also 1 and 0, which classifiers return."""
    if value is True or value is False:
        return bool(value)
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, int) and plain in (0, 1):
        return bool(plain)
    raise TypeError(f"{field} is {_shown(value)}, expected True or False")


def number(field: str, value: object, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{field} is {_shown(value)}, expected a number")
    try:
        plain = float(value)
    except OverflowError:
        plain = math.inf
    if not (math.isfinite(plain) and least <= plain <= most):
        raise ValueError(f"{field} is {plain:g}, expected {_range(least, most)}")
    return plain


def positive(field: str, value: object) -> float:
    """A finite number above 0."""
    plain = number(field, value)
    if plain <= 0:
        raise ValueError(f"{field} is {plain:g}, expected a number > 0")
    return plain


def epoch_ms(field: str, value: object) -> int:
    """Whole epoch milliseconds of a time."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{field} is {value.isoformat()} without a zone, expected one with")
        value = value.timestamp() * 1000
    plain = number(field, value)
    if not _EARLIEST_MS <= plain < _LATEST_MS:
        hint = " (this looks like seconds)" if 0 < plain < _EARLIEST_MS else ""
        raise ValueError(f"{field} is {plain:.17g}, expected epoch milliseconds{hint}")
    return round(plain)


def _written(field: str, value: object) -> str:
    """Ids that are not text, as text. Floats are refused: not all of them keep the digits of an id."""
    if isinstance(value, UUID) or (hasattr(value, "__index__") and not isinstance(value, bool)):
        return str(value)
    raise TypeError(f"{field} is {_shown(value)}, expected text, a whole number or a UUID")


def _range(least: float, most: float) -> str:
    if math.isinf(least):
        return "a finite number"
    return f"a number >= {least:g}" if math.isinf(most) else f"a number from {least:g} to {most:g}"


def _shown(value: object) -> str:
    """The start of a value and its type: whole tensors have no place in a message."""
    kept = repr(value)
    return f"{kept if len(kept) <= 60 else kept[:57] + '...'} ({type(value).__name__})"
