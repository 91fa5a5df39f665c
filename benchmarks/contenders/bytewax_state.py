"""Bytewax joining predictions and outcomes with its own operator and recovery, which survives a crash."""

import os
from pathlib import Path

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from score import Score, arguments


given, score, counts = arguments(__doc__), Score(), {"events": 0}


class Prediction(msgspec.Struct, gc=False):
    prediction_id: str
    variant: str
    predicted: bool


class Outcome(msgspec.Struct, gc=False):
    prediction_id: str
    actual: bool


def keyed(decode, facts):
    """What makes (id, facts) of a batch of messages."""

    def take(messages):
        if not counts["events"]:
            score.start()
        counts["events"] += len(messages)
        events = [decode(message.value) for message in messages]
        if counts["events"] >= given.events:
            score.tell(counts["events"])  # the last batch is not joined yet
            os._exit(0)
        return [(event.prediction_id, facts(event)) for event in events]

    return take


def count(pairs):
    for _, (prediction, actual) in pairs:
        key = *prediction, actual
        counts[key] = counts.get(key, 0) + 1
    return ()


class Nowhere(DynamicSink, StatelessSinkPartition):
    """A dataflow needs a sink."""

    def build(self, *_):
        return self

    def write_batch(self, items):
        pass


def side(topic, kind, facts):
    source = KafkaSource([given.kafka], [topic], batch_size=10_000, tail=True)
    take = keyed(msgspec.json.Decoder(kind).decode, facts)
    return op.flat_map_batch(f"{kind.__name__}-decode", op.input(kind.__name__, flow, source), take)


# The join drops an id when both sides came, and recovery writes what changed to SQLite every 10 s: its
# defaults. The table of counts stays in memory.
flow = Dataflow("join")
predictions = side(given.predictions, Prediction, lambda each: (each.variant, each.predicted))
outcomes = side(given.outcomes, Outcome, lambda each: each.actual)
joined = op.join("join", predictions, outcomes)
op.output("nowhere", op.flat_map_batch("count", joined, count), Nowhere())
kept = Path(os.environ["TMPDIR"]) / "recovery"
kept.mkdir()
init_db_dir(kept, 1)
cli_main(flow, recovery_config=RecoveryConfig(str(kept)))
