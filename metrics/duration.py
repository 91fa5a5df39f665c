"""Durations as people write them (`90s`, `1h30m`, `7d`), held as whole milliseconds."""

import re


_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$"
_WHOLE = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,6})?(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d|w)")


class Duration(int):
    """A span of time in milliseconds that prints the way it is written in settings.

    >>> Duration.parse("1h30m")
    Duration('1h30m')
    >>> Duration.parse("1.5s") + 1
    1501
    """

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Read `text`; raises ValueError with what was expected."""
        if not isinstance(text, str) or not _WHOLE.fullmatch(text):
            raise ValueError(
                f"expected a duration such as '30s', '10m', '1h30m' or '7d', got {text!r}"
            )
        return cls(round(sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text))))

    def __str__(self) -> str:
        rest, parts = int(self), []
        for unit in ("d", "h", "m", "s", "ms"):
            count, rest = divmod(rest, _UNITS[unit])
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"

    def __repr__(self) -> str:
        return f"Duration('{self}')"
