"""Orders as records of a Kafka topic, for routers that listen to one; who writes them is an argument."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from alerts.actuators.cloudevent import CONTENT_TYPE, document
from alerts.order import Order, Receipt, Verification


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

Send = Callable[[bytes, bytes, Sequence[tuple[str, bytes]]], Awaitable[None]]
"""Writes key, value and headers, and returns when all replicas have them. Raises SendRefusedError where
trying again would not help; every other error may pass. May be cancelled."""

TOPIC = "abmonitor.decisions"
MAX_TIMEOUT = 60.0
HEADERS = (("content-type", CONTENT_TYPE.encode()),)
"""Structured mode of the CloudEvents Kafka protocol binding 1.0.2, 3.3."""


class SendRefusedError(Exception):
    """The record will never be taken; says why and what to do, without secrets."""


class KafkaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which topic orders go to; `timeout` is in seconds and bounds the whole attempt."""

    topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = TOPIC
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT)] = 10.0

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options."""
        if self.topic in (".", ".."):
            yield "topic", f"{self.topic!r} is no name that Kafka takes"
        if not 0 < self.timeout <= MAX_TIMEOUT:
            text = f"expected over 0 and at most {MAX_TIMEOUT:g} seconds, got {self.timeout}"
            yield "timeout", text


class Kafka:
    """Writes each order as a CloudEvents document in structured mode, keyed by experiment.

    So the orders of an experiment are in one partition, in the order of their decisions. An attempt that
    was given up may still have been written: duplicates carry the same `id`. `close` releases what `send`
    needs. Raises ValueError for options that cannot work.
    """

    def __init__(
        self,
        send: Send,
        options: KafkaOptions | None = None,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._options = KafkaOptions() if options is None else options
        if problems := list(self._options.problems()):
            raise ValueError("kafka: " + "; ".join(f"{name}: {text}" for name, text in problems))
        self._send = send
        self._close = close
        self._closed = False

    def __repr__(self) -> str:
        return f"Kafka({self._options.topic})"

    async def apply(self, order: Order) -> Receipt:
        """Write the order once; accepted when all replicas have it. Never raises but when cancelled."""
        if self._closed:
            return Receipt(accepted=False, detail="the Kafka actuator is closed", retry=True)
        told = f"topic {self._options.topic}"
        try:
            key = order.experiment.encode("utf-8", "replace")
            async with asyncio.timeout(self._options.timeout):
                await self._send(key, document(order), HEADERS)
        except TimeoutError:
            why = f"not acknowledged within {self._options.timeout:g} s"
        except SendRefusedError as error:
            return Receipt(accepted=False, detail=f"{told}: {error}")
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever sending does
            why = type(error).__name__
        else:
            return Receipt(accepted=True, detail=f"{told}: all replicas have it")
        return Receipt(accepted=False, detail=f"{told}: {why}", retry=True)

    async def verify(self, order: Order) -> Verification:  # noqa: ARG002 - the protocol's argument
        """Answer that this is unsupported: nobody knows what those who listen have done."""
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        """Disconnect; later orders are not accepted."""
        if not self._closed:
            self._closed = True
            if self._close is not None:
                await self._close()
