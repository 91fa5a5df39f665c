"""A plain faust agent that decodes each event, over faust's own transport: no joining, no counting."""

import os
import sys

import faust
import msgspec
from score import Score, arguments

from stream.events import Outcome, Prediction


given, score = arguments(__doc__), Score()
# Without a web server and declared topics, and without waiting for the stream to run empty: what costs
# nothing to leave out. Commits (every 2.8 s) and buffers (4,096 messages) are faust's own.
app = faust.App(
    given.group,
    broker=f"kafka://{given.kafka}",
    consumer_auto_offset_reset="earliest",
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_enabled=False,
    stream_wait_empty=False,
    datadir=os.environ["TMPDIR"],
)
topics = app.topic(given.predictions, given.outcomes, value_type=bytes, value_serializer="raw")
decode = msgspec.json.Decoder(Prediction | Outcome).decode


@app.agent(topics)
async def take(stream):
    seen = 0
    async for value in stream:
        if not seen:
            score.start()
        decode(value)
        seen += 1
        if seen == given.events:
            score.tell(seen)
            os._exit(0)  # its way of ending has no part in this


sys.argv[1:] = ["worker", "--loglevel", "warn"]
app.main()
