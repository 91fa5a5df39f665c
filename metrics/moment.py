"""Moments as people write them (`2026-11-22T10:00:00Z`), held as whole epoch milliseconds."""

from datetime import UTC, datetime


LAST_YEAR = 9999


class Moment(int):
    """A point in time in epoch milliseconds that prints the way it is written in settings.

    >>> Moment.parse("2026-01-01T11:00:00+01:00")
    Moment('2026-01-01T10:00:00Z')
    """

    @classmethod
    def parse(cls, text: object) -> "Moment":
        """Read RFC 3339 with a zone; raises ValueError with what was expected."""
        try:
            found = datetime.fromisoformat(text) if isinstance(text, str) else text
        except ValueError:
            found = None
        told = isinstance(found, datetime) and found.tzinfo is not None
        if not isinstance(found, datetime) or not told or not 1000 <= found.year < LAST_YEAR:
            raise ValueError(
                f"expected a time with a zone such as '2026-01-31T10:00:00Z', got {text!s}"
            )
        return cls(round(found.timestamp() * 1000))

    def __str__(self) -> str:
        seconds, ms = divmod(int(self), 1000)
        shown = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{shown}.{ms:03d}Z" if ms else f"{shown}Z"

    def __repr__(self) -> str:
        return f"Moment('{self}')"
