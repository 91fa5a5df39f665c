"""Touches threads, the clock and process exit: one thread that moves events from the buffer to Kafka.

It starts with the first event, connects when Kafka can be reached and connects anew when a producer is
beyond repair. The child of a fork starts with an empty buffer and without a thread.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from random import uniform
from typing import TYPE_CHECKING, Any, Callable

from kafka.errors import RetriableError

from abmonitor_client.buffer import Buffer, Counts, Message
from abmonitor_client.events import encoded


if TYPE_CHECKING:
    from collections.abc import Sequence

    from abmonitor_client.notices import Notices
    from abmonitor_client.producer import Producer


EXIT_TIMEOUT = 2.0
"""Seconds that the exit of the process may wait for what is still pending, all clients together."""

_WINDOW = 2_000  # in flight: the rest waits here, where it costs less and cannot time out
_GATHER = (
    0.05  # seconds; sending events one by one takes twice the CPU time, away from the requests
)
_HANG_UP = 1.0
_BACKOFF = 0.5
_BACKOFF_MOST = 30.0

_pumps: weakref.WeakSet[Pump] = weakref.WeakSet()
_inherited: list[Producer] = []  # of a parent process; kept so that nobody closes its sockets


class Pump:
    """Takes events in without waiting and sends them when it can."""

    def __init__(
        self,
        connect: Callable[[], Producer],
        topics: Sequence[str],
        limit: int,
        notices: Notices,
    ) -> None:
        self._connect, self._topics, self._limit = connect, topics, limit
        self._notices = notices
        self._begin()
        _pumps.add(self)

    def _begin(self) -> None:
        self.buffer = Buffer(self._topics, self._limit, _WINDOW)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._producer: Producer | None = None
        self._backoff = 0.0
        self._spoilt = False

    def put(self, topic: str, message: Message) -> None:
        """Have `message` sent, or drop and count it. Returns at once."""
        reason = self.buffer.put(topic, message)
        if reason == "buffer_full":
            self._notices.warn(
                reason,
                "%d events for topic %r wait already: new ones are dropped",
                self._limit,
                topic,
            )
        elif reason == "closed":
            self._notices.warn(reason, "an event for topic %r after close() is dropped", topic)
        elif self._thread is None:
            self._start()

    def counts(self) -> Counts:
        """What has become of everything so far."""
        return self.buffer.counts()

    def close(self, timeout: float) -> bool:
        """Send what is pending for about `timeout` seconds, then give up; whether all was settled."""
        end = time.monotonic() + timeout
        buffer, thread = self.buffer, self._thread
        buffer.close()
        settled = not buffer.counts().pending
        if thread is not None:
            settled = buffer.wait_until_empty(timeout)
        buffer.abandon()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(end - time.monotonic(), _HANG_UP))
        return settled

    def inherit(self) -> None:
        """Begin anew in the child of a fork: the parent sends its own events, and its thread is not here."""
        closed = self.buffer.closed
        if self._producer is not None:
            _inherited.append(self._producer)
        self._begin()
        if closed:
            self.buffer.close()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):  # another call is at it
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="abmonitor-client", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError as error:  # the next event tries again
            self._notices.warn(
                "thread", "cannot start the thread that sends events: %s", repr(error)
            )
        finally:
            self._starting.release()

    def _run(self) -> None:
        while self.buffer.wait_for_work():
            if not self.buffer.closed:
                time.sleep(_GATHER)
            try:
                self._move()
            except Exception as error:  # noqa: BLE001  # without this thread nothing would be sent any more
                self._notices.warn("thread", "sending events failed, trying on: %s", repr(error))
                self.buffer.rest(_BACKOFF, time.sleep)
        self._hang_up()

    def _move(self) -> None:
        """Hand all that may be sent now over to kafka-python."""
        if self._spoilt:
            self._hang_up()
        producer = self._connected()
        if producer is not None:
            for topic, messages in self.buffer.take():
                self._send_all(producer, topic, messages)

    def _connected(self) -> Producer | None:
        """The producer, as soon as there is one; None when it is no longer needed."""
        while self._producer is None and not self.buffer.over:
            if self._backoff:
                self.buffer.rest(self._backoff * uniform(0.5, 1.0), time.sleep)  # noqa: S311  # no secret
            try:
                self._producer = self._connect()
            except Exception as error:  # noqa: BLE001  # files of keys may be missing, resources short ...
                self._back_off()
                if not self.buffer.over:
                    self._notices.warn(
                        "connect",
                        "cannot connect to Kafka, trying on (logger kafka may know why): %s",
                        repr(error),
                    )
        return self._producer

    def _back_off(self) -> None:
        self._backoff = min(max(_BACKOFF, 2 * self._backoff), _BACKOFF_MOST)

    def _send_all(self, producer: Producer, topic: str, messages: list[Message]) -> None:
        for index, message in enumerate(messages):
            if not self._send(producer, topic, message):
                self.buffer.put_back(topic, messages[index:])
                return

    def _send(self, producer: Producer, topic: str, message: Message) -> bool:
        """Hand one event over to kafka-python; False if that has to be done later."""
        try:
            future = producer.send(topic, encoded(message.event), message.key)
        except RetriableError as error:
            self._notices.warn(
                topic, "topic %r cannot be reached, trying on: %s", topic, repr(error)
            )
            return False
        except Exception as error:  # noqa: BLE001  # one event must not stop all others
            self._failed(topic, error)
            return True
        if future.failed():  # the topic is refused to us; the producer is as good as before
            self._failed(topic, future.exception)
        else:
            future.add_callback(self._sent, topic)
            future.add_errback(self._failed_later, producer, topic)
        return True

    def _sent(self, topic: str, _: Any) -> None:
        self._backoff = 0.0
        self.buffer.settle(topic)

    def _failed(self, topic: str, error: BaseException) -> None:
        self._notices.warn(
            f"send_failed {topic}", "an event for topic %r is dropped: %s", topic, repr(error)
        )
        self.buffer.settle(topic, "send_failed")

    def _failed_later(self, producer: Producer, topic: str, error: BaseException) -> None:
        # To kafka-python whatever cannot be retried is fatal: no later event would get through either.
        if not isinstance(error, RetriableError) and producer is self._producer:
            self._spoilt = True
        self._failed(topic, error)

    def _hang_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._back_off()
            producer.hang_up(_HANG_UP)
        self._spoilt = False


def _at_exit() -> None:
    end = time.monotonic() + EXIT_TIMEOUT
    for pump in list(_pumps):
        pump.close(max(end - time.monotonic(), 0.0))


def _in_child() -> None:
    for pump in list(_pumps):
        pump.inherit()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
