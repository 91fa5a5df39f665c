"""Quix Streams joining predictions and outcomes in memory."""

from joining import Join
from quixstreams import Application
from score import Score, arguments


given, score, join = arguments(__doc__), Score(), Join()
# Two dataframes with stateless callbacks: no RocksDB, no changelog, no alignment of the topics by time.
# "json" is orjson in Quix. Offsets are committed every 5 s, its default.
app = Application(
    broker_address=given.kafka,
    consumer_group=given.group,
    auto_offset_reset="earliest",
    auto_create_topics=False,
    use_changelog_topics=False,
    loglevel="WARNING",
)


def begun():
    if not join.events:
        score.start()


def ended():
    if join.events == given.events:
        score.tell(join.events, join.counts())
        app.stop()


def prediction(event):
    begun()
    join.prediction(
        event["prediction_id"], event["experiment"], event["variant"], event["predicted"]
    )
    ended()


def outcome(event):
    begun()
    join.outcome(event["prediction_id"], event["actual"])
    ended()


for name, take in ((given.predictions, prediction), (given.outcomes, outcome)):
    topic = app.topic(name, key_deserializer="bytes", value_deserializer="json")
    app.dataframe(topic).update(take)
app.run()
