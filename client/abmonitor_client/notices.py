"""Touches the clock and the log: says what went wrong, each kind at most once in a while."""

from __future__ import annotations

import logging
from time import monotonic


EVERY = 60.0
"""Seconds of silence about a kind of trouble that has just been told."""

_log = logging.getLogger("abmonitor_client")


class Notices:
    """Warnings that cannot flood a log, however many requests run into the same trouble."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._silent_until: dict[str, float] = {}

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Log `message` unless one of its kind was logged not long ago."""
        now = monotonic()
        if now >= self._silent_until.get(kind, now):
            self._silent_until[kind] = now + self._every
            _log.warning(message, *args)
