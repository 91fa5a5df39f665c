"""A stream whose every record is known, sent to two topics while the test runs. This module does I/O (Kafka)."""

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from support.known_events import AHEAD_S, LONGEST_WAIT_S, MARGIN_S, Events, Planned


class Stream:
    """Sends a stream in a thread of its own, as fast as asked, whatever happens to the broker.

    What is not acknowledged is sent again; so a record may be there twice, as with any producer.
    """

    def __init__(
        self, servers: str, topics: tuple[str, str], events: Events, *, per_second: float = 150
    ) -> None:
        """`topics`: those of predictions and of outcomes; `per_second`: predictions."""
        self._servers, self._topics, self._events = servers, topics, events
        self._gap = 1 / per_second
        self._queue: list[Planned] = []
        self._ending, self._failure = threading.Event(), list[BaseException]()
        self._given_up = False
        self._release = threading.Event()
        self._release.set()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def flood(self, predictions: int) -> None:
        """Send so many predictions at once, with what belongs to them; return when it is in the log."""
        with sender(self._servers) as send:
            for _ in range(predictions):
                for planned in sorted(self._events.next(time.monotonic())):
                    self._send(send, planned)

    def hold_outcomes(self) -> None:
        """Send no outcomes until `release_outcomes`; they wait."""
        self._release.clear()

    def release_outcomes(self) -> None:
        """Send outcomes again, those that waited first."""
        self._release.set()

    def finish(self, seconds: float = 120) -> None:
        """Send no more predictions, then what belongs to those sent; return when all is in the log."""
        self._ending.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the stream was not sent within {seconds} s"
        if self._failure:
            raise self._failure[0]

    def give_up(self) -> None:
        """Send no more, wherever it is."""
        self._given_up = True
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 # `finish` raises it
            self._failure.append(error)

    def _send_all(self) -> None:
        next_at = time.monotonic()
        with sender(self._servers, lambda: self._given_up) as send:
            while not self._ending.is_set():
                now = time.monotonic()
                while next_at <= now + AHEAD_S:
                    self._plan(self._events.next(next_at))
                    next_at += self._gap
                self._send_due(send, now)
                time.sleep(min(self._gap, 0.01))
            ended_at = time.monotonic()
            self._queue = [each for each in self._queue if each.outcome]
            heapq.heapify(self._queue)
            while time.monotonic() < ended_at + LONGEST_WAIT_S + MARGIN_S and not self._given_up:
                self._send_due(send, time.monotonic())
                time.sleep(0.01)
            for planned in self._events.last(time.monotonic()):
                self._send(send, planned)

    def _plan(self, planned: Sequence[Planned]) -> None:
        for each in planned:
            heapq.heappush(self._queue, each)

    def _send_due(self, send: "Send", now: float) -> None:
        held = []
        while self._queue and self._queue[0].due <= now:
            planned = heapq.heappop(self._queue)
            if planned.outcome and not self._release.is_set():
                held.append(planned)
            else:
                self._send(send, planned)
        self._plan(held)

    def _send(self, send: "Send", planned: Planned) -> None:
        send(self._topics[planned.outcome], planned.shard, planned.key, planned.value)


Send = Callable[..., None]
"""(topic, partition, key, value, headers=…)"""


class sender:  # noqa: N801 # it is used as a function
    """A context in which records can be sent; at its end all of them are in the log."""

    def __init__(self, servers: str, given_up: Callable[[], bool] = bool) -> None:
        """`given_up`: whether it does not matter any more."""
        from kafka import KafkaProducer  # only once pytest knows which of its warnings to ignore

        self._lost: list[tuple[Any, ...]] = []
        self._given_up = given_up
        self._producer: Any = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            enable_idempotence=False,
            max_block_ms=60_000,
            linger_ms=5,
            reconnect_backoff_max_ms=200,
            max_request_size=4 << 20,
        )

    def __enter__(self) -> Send:
        return self._send

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and not self._given_up():
                self._producer.flush(timeout=60)
                again, self._lost = self._lost, []
                if not again:
                    break
                for record in again:
                    self._send(*record)
        finally:
            self._producer.close(timeout=5)

    def _send(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        record = (topic, partition, key, value, headers)
        sent = self._producer.send(
            topic, value, key=key, partition=partition, headers=list(headers)
        )
        sent.add_errback(lambda _: self._lost.append(record))
