"""What is asked of aiokafka's fetcher beside its interface. This module does I/O (Kafka).

To be looked at with each release of aiokafka: `tests/stream/test_faust_transport.py` fails when that is due.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import aiokafka
from aiokafka.errors import KafkaError

from stream.fetch import LogUnavailableError


T = TypeVar("T")

MAX_RECORDS = 20_000
"""Records of one poll over all partitions."""
POLL_S = 0.2
"""Longest wait of one poll: a partition that is released meanwhile is not looked at before."""
ASK_S = 10.0
"""Longest wait for offsets, after which a worker tells that Kafka is away; aiokafka would take 40 s."""


async def fetched(fetcher: Any, asked: set[Any]) -> dict[Any, list[Any]]:
    """What the fetcher has of the partitions `asked`, after waiting for a while where it has nothing."""
    _keep_as_they_are(fetcher)
    records: dict[Any, list[Any]]
    records = await fetcher.fetched_records(asked, timeout=0, max_records=MAX_RECORDS)
    if records:
        return records
    waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
    news, _ = await asyncio.wait([waiter], timeout=POLL_S)
    if not news:
        waiter.cancel()
        return {}
    waiter.result()  # raises where we may not read
    _keep_as_they_are(fetcher)
    records = await fetcher.fetched_records(asked, timeout=0, max_records=MAX_RECORDS)
    return records


async def told(offsets: Awaitable[T]) -> T:
    """Offsets that Kafka was asked for. Raises LogUnavailableError."""
    try:
        async with asyncio.timeout(ASK_S):
            return await offsets
    except (KafkaError, TimeoutError) as error:
        raise LogUnavailableError(f"Kafka does not tell its offsets: {error!r}") from error


def state_of(consumer: aiokafka.AIOKafkaConsumer, at: aiokafka.TopicPartition) -> Any:
    """What aiokafka knows of a partition, None where it is not assigned."""
    assignment = consumer._fetcher._subscriptions.subscription.assignment  # noqa: SLF001
    return None if assignment is None else assignment.state_value(at)


def _keep_as_they_are(fetcher: Any) -> None:
    """Spare aiokafka making an object of its own of each record, which takes longer than all else here.

    The records as they are read have all that is needed.
    """
    for result in fetcher._records.values():  # noqa: SLF001 # errors are among them
        fetched = getattr(result, "_partition_records", None)
        if fetched is not None:
            fetched._consumer_record = _as_it_is  # noqa: SLF001


def _as_it_is(_: Any, record: Any) -> Any:
    return record
