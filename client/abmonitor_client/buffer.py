"""Touches the clock: events on their way, bounded in number, each of them accounted for exactly once.

A lane per topic, so that a topic that is missing cannot hold up the other one. An event of a lane is
waiting, then in flight, then settled: sent, or dropped for a reason.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from abmonitor_client.events import Event


Reason = Literal["buffer_full", "send_failed", "invalid", "closed"]

_REASONS: tuple[Reason, ...] = ("buffer_full", "send_failed", "invalid", "closed")
_RETRY_AFTER = 0.5
_RETRY_AFTER_MOST = 10.0


class Counts(NamedTuple):
    """What has become of all events of this process: every call is counted in one of the three."""

    sent: int
    """Acknowledged by Kafka."""
    dropped: Mapping[str, int]
    """By reason: buffer_full, send_failed, invalid, closed."""
    pending: int
    """Neither yet."""


class Message(NamedTuple):
    """An event and the key that decides its partition."""

    key: bytes
    event: Event


class _Lane:
    """What is on its way to one topic."""

    __slots__ = ("delay", "in_flight", "not_before", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self.in_flight = 0
        self.not_before = 0.0
        self.delay = 0.0

    @property
    def pending(self) -> int:
        return len(self.waiting) + self.in_flight


class Buffer:
    """At most `limit` events a topic, at most `window` of them in flight. Thread-safe.

    The lock is reentrant: a finalizer or signal handler may send an event in the middle of another.
    """

    def __init__(self, topics: Iterable[str], limit: int, window: int) -> None:
        self._limit, self._window = limit, window
        self._lanes = {topic: _Lane() for topic in topics}
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._empty = threading.Condition(self._lock)
        self._idle = False
        self._sent = 0
        self._dropped: dict[str, int] = dict.fromkeys(_REASONS, 0)
        self._closing = threading.Event()
        self._abandoned = False

    def put(self, topic: str, message: Message) -> Reason | None:
        """Keep `message` to be sent; the reason if it is dropped instead. Never waits for Kafka."""
        reason: Reason
        with self._lock:
            lane = self._lanes[topic]
            if self._closing.is_set():
                reason = "closed"
            elif lane.pending >= self._limit:
                reason = "buffer_full"
            else:
                lane.waiting.append(message)
                if self._idle:
                    self._work.notify()
                return None
            self._dropped[reason] += 1
        return reason

    def refuse(self) -> None:
        """Count an event that is not one."""
        with self._lock:
            self._dropped["invalid"] += 1

    def wait_for_work(self) -> bool:
        """Wait until something may be sent; False when nothing ever will be."""
        with self._lock:
            while not self.over:
                now = monotonic()
                if any(self._may_send(lane, now) for lane in self._lanes.values()):
                    return True
                later = [lane.not_before - now for lane in self._lanes.values() if lane.waiting]
                self._idle = True
                self._work.wait(min((wait for wait in later if wait > 0), default=None))
                self._idle = False
        return False

    def take(self) -> list[tuple[str, list[Message]]]:
        """All that may be sent now, by topic. It is in flight from now on, until settled or put back."""
        taken = []
        with self._lock:
            now = monotonic()
            for topic, lane in self._lanes.items():
                if self._may_send(lane, now):
                    room = min(len(lane.waiting), self._window - lane.in_flight)
                    taken.append((topic, [lane.waiting.popleft() for _ in range(room)]))
                    lane.in_flight += room
        return taken

    def put_back(self, topic: str, messages: Sequence[Message]) -> None:
        """Try these later; the longer the more often the topic has failed in a row."""
        with self._lock:
            if self._abandoned:
                return
            lane = self._lanes[topic]
            lane.in_flight -= len(messages)
            lane.waiting.extendleft(reversed(messages))
            lane.delay = min(max(_RETRY_AFTER, 2 * lane.delay), _RETRY_AFTER_MOST)
            lane.not_before = monotonic() + lane.delay

    def settle(self, topic: str, reason: Reason | None = None) -> None:
        """One event in flight has been acknowledged, or is dropped for `reason`."""
        with self._lock:
            if self._abandoned:  # it was counted when that was done
                return
            lane = self._lanes[topic]
            lane.in_flight -= 1
            if reason is None:
                self._sent += 1
                lane.delay = 0.0
            else:
                self._dropped[reason] += 1
            if lane.waiting and self._idle:
                self._work.notify()
            if not self._pending():
                self._empty.notify_all()
                self._work.notify()

    def counts(self) -> Counts:
        """What has become of everything so far, at one moment."""
        with self._lock:
            return Counts(self._sent, self._dropped.copy(), self._pending())

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until everything is settled, for at most `timeout` seconds; whether it is."""
        with self._lock:
            return self._empty.wait_for(lambda: not self._pending(), timeout)

    def close(self) -> None:
        """Take nothing in any more. What is there already can still be sent."""
        with self._lock:
            self._closing.set()
            self._work.notify()

    def abandon(self) -> None:
        """Give up on everything that is not settled: it counts as dropped, though some may arrive."""
        with self._lock:
            self._dropped["closed"] += self._pending()
            self._abandoned = True
            for lane in self._lanes.values():
                lane.waiting.clear()
                lane.in_flight = 0
            self._empty.notify_all()
            self._work.notify()

    def rest(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Let `seconds` pass; while closing, only a moment, because time is short."""
        if self._closing.is_set():
            sleep(min(seconds, 0.1))
        else:
            self._closing.wait(seconds)

    @property
    def closed(self) -> bool:
        """Whether nothing is taken in any more."""
        return self._closing.is_set()

    @property
    def over(self) -> bool:
        """Whether there is nothing to be sent and never will be."""
        return self._closing.is_set() and not self._pending()

    def _may_send(self, lane: _Lane, now: float) -> bool:
        return bool(lane.waiting) and lane.in_flight < self._window and lane.not_before <= now

    def _pending(self) -> int:
        return sum(lane.pending for lane in self._lanes.values())
