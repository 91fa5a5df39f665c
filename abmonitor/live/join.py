"""Whether recent predictions and outcomes find each other: ids, keys, partitions and delays. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kafka.partitioner.default import murmur2

from abmonitor.live.events import MANY, Read
from abmonitor.live.findings import Finding, Level, quantile, share, span
from abmonitor.operate.sample import Record, TopicSample
from abmonitor.settings import Settings
from stream.events import Outcome, Prediction, epoch_ms


OR_REKEY = ", or have `abmonitor rekey` copy both into one topic"


class Met(NamedTuple):
    """A prediction and its first outcome among the recent records."""

    prediction: Prediction
    outcome: Outcome
    asked: Record
    answered: Record
    asked_in: TopicSample
    answered_in: TopicSample

    def places(self) -> str:
        """Where both lie."""
        asked = self.asked_in.place(self.asked)
        return f"{self.prediction.prediction_id!r} in {asked} and {self.answered_in.place(self.answered)}"


def join_findings(reads: Sequence[Read], settings: Settings) -> Iterator[Finding]:
    """All that is to be said of how the two kinds of events fit together."""
    where = ", ".join(each.sample.topic for each in reads)
    for each in reads:
        yield from _keys(each)
    outcomes = {event.prediction_id for each in reads for _, event in each.told(Outcome)}
    if not outcomes or not any(each.told(Prediction) for each in reads):
        return
    found = _met(reads)
    if not found:
        yield _strangers(reads, where, len(outcomes))
        return
    met = (
        f"{share(len(found), len(outcomes))} of the ids in recent outcomes have a recent prediction"
    )
    yield Finding("ok", "met", where, met)
    yield _partitions(found, where)
    yield from _equal_keys(found, where)
    yield from _delays(found, settings, where)


def _met(reads: Sequence[Read]) -> list[Met]:
    predictions: dict[str, tuple[Record, Prediction, TopicSample]] = {}
    for each in reads:
        for record, event in each.told(Prediction):
            if isinstance(event, Prediction):
                predictions.setdefault(event.prediction_id, (record, event, each.sample))
    found: dict[str, Met] = {}
    for each in reads:
        for record, event in each.told(Outcome):
            asked = predictions.get(event.prediction_id)
            if asked is not None and isinstance(event, Outcome):
                pair = Met(asked[1], event, asked[0], record, asked[2], each.sample)
                found.setdefault(event.prediction_id, pair)
    return list(found.values())


def _keys(read: Read) -> Iterator[Finding]:
    """Whether records have keys at all."""
    topic, records = read.sample.topic, [read.sample.records[index] for index in read.usable]
    keyless = sum(record.key is None for record in records)
    if not records:
        return
    if not keyless:
        yield Finding("ok", "keys", topic, "all records have a key")
        return
    several = len(read.sample.partitions) > 1
    yield Finding(
        "error" if several else "warning",
        "keys",
        topic,
        f"records without a key: {share(keyless, len(records))}; they go to any partition"
        + ("" if several else " as soon as there are several")
        + ", where their counterpart is not. Send prediction and outcome with the same key, such as"
        " the prediction_id",
    )


def _strangers(reads: Sequence[Read], where: str, outcomes: int) -> Finding:
    """None of the ids is in both: little can be told, and perhaps why."""
    examples = [
        next((event.prediction_id for each in reads for _, event in each.told(kind)), "")
        for kind in (Prediction, Outcome)
    ]
    return Finding(
        "warning",
        "met",
        where,
        f"none of the {outcomes:,} ids in recent outcomes has a recent prediction, so it cannot be told"
        " whether both lie in the same partition, nor how long outcomes take. If outcomes take longer than"
        " these records reach back, look at more of them (--records 100000); if they do not, compare the"
        f" ids: a prediction has {examples[0]!r}, an outcome {examples[1]!r}",
    )


def _partitions(found: list[Met], where: str) -> Finding:
    apart = [each for each in found if each.asked.partition != each.answered.partition]
    if not apart:
        told = f"predictions and outcomes that met lie in the same partition: all {len(found):,}"
        return Finding("ok", "same_partition", where, told)
    return Finding(
        "error",
        "same_partition",
        where,
        f"predictions and outcomes in different partitions, so that they never meet:"
        f" {share(len(apart), len(found))}; for example {apart[0].places()}. {_why(apart)}",
    )


def _why(apart: list[Met]) -> str:
    """What to do about pairs that lie apart."""
    same = [each for each in apart if each.asked.key is not None]
    if not all(each.asked.key == each.answered.key for each in apart) or not same:
        return f"Send both with the same key{OR_REKEY}"
    told = "Their keys are equal, so they are sent by producers with different partitioners"
    for topic, records in (
        (same[0].asked_in, [each.asked for each in same]),
        (same[0].answered_in, [each.answered for each in same]),
    ):
        kind = "do" if _as_java(records, len(topic.partitions)) else "do not do"
        told += f"; those of {topic.topic} {kind} as Java's"
    return (
        told
        + ". For librdkafka (Python's confluent-kafka, Go, .NET) set partitioner=murmur2_random"
        + OR_REKEY
    )


def _as_java(records: list[Record], partitions: int) -> bool:
    return all(
        (murmur2(record.key or b"") & 0x7FFFFFFF) % partitions == record.partition
        for record in records
    )


def _equal_keys(found: list[Met], where: str) -> Iterator[Finding]:
    unequal = [each for each in found if each.asked.key != each.answered.key]
    if not unequal:
        if found[0].asked.key is not None:
            told = "predictions and their outcomes have the same key"
            yield Finding("ok", "same_key", where, told)
        return
    one = unequal[0]
    several = max(len(one.asked_in.partitions), len(one.answered_in.partitions)) > 1
    yield Finding(
        "error" if several else "warning",
        "same_key",
        where,
        f"predictions whose outcome has another key: {share(len(unequal), len(found))}; for example"
        f" {one.prediction.prediction_id!r}: {_shown(one.asked.key)} and {_shown(one.answered.key)}."
        f" Send both with the same key, such as the prediction_id{OR_REKEY}",
    )


def _shown(key: bytes | None) -> str:
    return "no key" if key is None else repr(key.decode("utf-8", "replace"))


def _delays(found: list[Met], settings: Settings, where: str) -> Iterator[Finding]:
    """How long outcomes take, and how many come too late."""
    for experiment in settings.experiments:
        labels = experiment.labels
        mine = [each for each in found if each.prediction.experiment == experiment.name]
        if not mine:
            continue
        took = [
            _time(each.outcome, each.answered) - _time(each.prediction, each.asked) for each in mine
        ]
        late = sum(
            took[index] > labels.horizon or each.answered.arrival - each.asked.arrival > labels.wait
            for index, each in enumerate(mine)
        )
        level: Level = "warning" if late > MANY * len(mine) else "ok"
        told = f"{experiment.name}: outcomes come {span(quantile(took, 0.5))} (p50) and"
        told += f" {span(quantile(took, 0.99))} (p99) after their prediction; too late for the horizon of"
        told += f" {labels.horizon}: {share(late, len(mine))}"
        if level == "warning":
            told += "; raise `labels.horizon`, or what they say is not counted"
        yield Finding(level, "delay", where, told)


def _time(event: Prediction | Outcome, record: Record) -> int:
    return record.arrival if event.time is None else epoch_ms(event.time)
