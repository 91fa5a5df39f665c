"""When to try again and when to leave something alone: pure pieces, `now` is an argument."""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum


RETRY_AFTER_CAP = 300.0
"""Seconds of `Retry-After` that are honoured at most: a bad variant serves customers meanwhile."""


def backoff(
    attempt: int, random: Callable[[], float], *, base: float = 0.5, cap: float = 60.0
) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0.

    "Full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015): uniform
    between 0 and min(cap, base · 2^attempt), which spreads competing clients best. `random` returns
    numbers in [0, 1). Raises ValueError for a negative attempt.

    >>> backoff(3, lambda: 0.5, base=1.0)
    4.0
    """
    if attempt < 0:
        raise ValueError(f"attempt {attempt}: expected 0 or more")
    # 2^64 seconds is beyond every cap; 2^1024 would be beyond a float.
    return random() * min(cap, base * 2.0 ** min(attempt, 64))


def retry_after(value: str | None, now: float, *, cap: float = RETRY_AFTER_CAP) -> float | None:
    """Read the wait in seconds from a `Retry-After` header (RFC 9110, 10.2.3).

    The header holds whole seconds or a date; `now` is in seconds since 1970. The answer is in
    [0, cap], or None where there is no header or it cannot be read.

    >>> retry_after("120", 0.0), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 40.0)
    (120.0, 20.0)
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # float() because int() refuses thousands of digits.
        return min(cap, float(text))
    try:
        moment = parsedate_to_datetime(text)
        # A date without a zone is one of GMT: HTTP knows no other.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(cap, max(0.0, seconds - now))


class Circuit(StrEnum):
    """What a circuit breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Leaves a receiver that keeps failing alone for a while, then tries it with one call.

    After `failures` failures in a row it opens for `open_for` seconds; then one call, the probe, may
    pass: its success closes the breaker, its failure opens it again. `now` is in seconds of a clock
    that does not jump back (`time.monotonic`). Record as `ok` what shows the receiver alive, which a
    refusal (a 401) does: `receipt.accepted or not receipt.retry`.
    """

    __slots__ = ("_failed", "_failures", "_open_for", "_opened_at", "_probed_at")

    def __init__(self, *, failures: int = 5, open_for: float = 30.0) -> None:
        if failures < 1:
            raise ValueError(f"failures {failures}: expected 1 or more")
        if not open_for > 0:
            raise ValueError(f"open_for {open_for}: expected more than 0 seconds")
        self._failures = failures
        self._open_for = open_for
        self._failed = 0
        self._opened_at: float | None = None
        self._probed_at: float | None = None

    def state(self, now: float) -> Circuit:
        """Tell what the breaker would do at `now`; asking changes nothing."""
        if self._opened_at is None:
            return Circuit.CLOSED
        return Circuit.OPEN if now - self._opened_at < self._open_for else Circuit.HALF_OPEN

    def allows(self, now: float) -> bool:
        """Whether a call may be made; True while half-open makes this call the probe."""
        state = self.state(now)
        if state is not Circuit.HALF_OPEN:
            return state is Circuit.CLOSED
        # A probe whose result never came (its task was cancelled) must not block for ever.
        if self._probed_at is not None and now - self._probed_at < self._open_for:
            return False
        self._probed_at = now
        return True

    def record(self, ok: bool, now: float) -> None:
        """Take in how a call went."""
        if ok:
            # Also of a call made before the breaker opened: the receiver lives, orders are urgent.
            self._failed, self._opened_at = 0, None
            return
        self._failed += 1
        state = self.state(now)
        # While open, late failures of earlier calls do not prolong the wait.
        if state is Circuit.HALF_OPEN or (
            state is Circuit.CLOSED and self._failed >= self._failures
        ):
            self._opened_at = now
