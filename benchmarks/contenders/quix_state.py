"""Quix Streams joining predictions and outcomes with its own state, which survives a crash."""

from quixstreams import Application
from score import Score, arguments


given, score, counts = arguments(__doc__), Score(), {"events": 0}
# Both topics in one dataframe, which Quix reads in the order of time; state in RocksDB under the record's key,
# which is the id, with a changelog topic, committed every 5 s: its defaults. The table of counts stays in memory.
app = Application(
    broker_address=given.kafka,
    consumer_group=given.group,
    auto_offset_reset="earliest",
    loglevel="WARNING",
)


def take(event, state):
    if not counts["events"]:
        score.start()
    counts["events"] += 1
    known = state.get("known")
    if event["type"] == "prediction":
        if known is None:
            state.set("known", [event["variant"], event["predicted"]])
    elif known:
        key = *known, event["actual"]
        counts[key] = counts.get(key, 0) + 1
        state.set("known", [])
    if counts["events"] == given.events:
        score.tell(given.events)
        app.stop()


predictions, outcomes = (
    app.dataframe(app.topic(name, key_deserializer="bytes", value_deserializer="json"))
    for name in (given.predictions, given.outcomes)
)
predictions.concat(outcomes).update(take, stateful=True)
app.run()
