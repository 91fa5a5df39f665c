"""Bytewax joining predictions and outcomes in memory."""

import os

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from joining import Join
from score import Score, arguments


given, score, join = arguments(__doc__), Score(), Join()


class Prediction(msgspec.Struct, gc=False):
    prediction_id: str
    experiment: str
    variant: str
    predicted: bool


class Outcome(msgspec.Struct, gc=False):
    prediction_id: str
    actual: bool


decode_prediction = msgspec.json.Decoder(Prediction).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode


def take(messages):
    if not join.events:
        score.start()
    prediction, outcome, predictions = join.prediction, join.outcome, given.predictions
    for message in messages:
        if message.topic == predictions:
            event = decode_prediction(message.value)
            prediction(event.prediction_id, event.experiment, event.variant, event.predicted)
        else:
            event = decode_outcome(message.value)
            outcome(event.prediction_id, event.actual)
    if join.events == given.events:
        score.tell(join.events, join.counts())
        os._exit(0)  # a dataflow over Kafka has no other end
    return ()


class Nowhere(DynamicSink, StatelessSinkPartition):
    """A dataflow needs a sink."""

    def build(self, *_):
        return self

    def write_batch(self, items):
        pass


# The operator that gets whole batches, and one dictionary: its keyed state, `join` and `stateful_batch`,
# hands over groups of a key, of which each event is its own. Recovery is off, so nothing is committed.
flow = Dataflow("join")
source = KafkaSource(
    [given.kafka], [given.predictions, given.outcomes], batch_size=10_000, tail=True
)
events = op.input("kafka", flow, source)
op.output("nowhere", op.flat_map_batch("join", events, take), Nowhere())
cli_main(flow)
