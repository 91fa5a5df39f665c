"""The limit: aiokafka's getmany in a consumer group and our decoding, nothing else."""

import asyncio

from aiokafka import AIOKafkaConsumer
from score import Score, arguments

from stream.brokers import Brokers
from stream.faust_fetcher import MAX_RECORDS
from stream.faust_thread import Reading
from stream.sources import Decoder, SourceOptions


async def main():
    given, score = arguments(__doc__), Score()
    kinds = {given.predictions: "prediction", given.outcomes: "outcome"}
    decode = Decoder({topic: SourceOptions(type=kind) for topic, kind in kinds.items()}).decode
    # What the worker reads with, but that nobody tells it where to begin.
    options = Reading(Brokers((given.kafka,)), given.group).consumer()
    consumer = AIOKafkaConsumer(*kinds, **{**options, "auto_offset_reset": "earliest"})
    await consumer.start()
    seen = 0
    while seen < given.events:
        found = await consumer.getmany(timeout_ms=200, max_records=MAX_RECORDS)
        if found and not seen:
            score.start()
        for at, records in found.items():
            seen += len(decode(at.topic, [record.value for record in records]))
    score.tell(seen)
    await consumer.stop()


asyncio.run(main())
