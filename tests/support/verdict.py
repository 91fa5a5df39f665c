"""What the counts must be: computed from the topics, read back with a plain consumer, never from the system.

Per shard the two topics are merged by arrival, which is what the broker wrote down. This module does I/O (Kafka).
"""

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from metrics.experiment import Experiment
from metrics.layout import Kind
from support.feed import Found, assert_equal, plain
from support.known_events import EARLY_FOR
from support.truth import Event, Facts, Truth, reason_against, truth_of


class Logged(NamedTuple):
    """A record as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


MOST = 30
"""Lines of differences that are told."""

Place = tuple[str, int, int]
"""Topic, partition and offset."""

Read = Callable[[Logged], Event | bytes | str]
"""What a record is: an event, bytes that are none, or the reason why it cannot be used."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the counts must be, shard by shard."""

    experiments: Sequence[Experiment]
    logs: Mapping[int, list[tuple[int, Event | bytes]]]
    rejected: Mapping[int, Counter[str]]
    """Records that the truth need not look at, by shard and reason."""
    unusable: Mapping[Place, bytes]
    """Records that have to be among the dead letters, and their values."""
    predictions: int
    """How many count."""

    @classmethod
    def of(
        cls, logged: Iterable[Logged], shards: int, experiments: Sequence[Experiment], read: Read
    ) -> "Verdict":
        """`logged`: all records of both topics, each partition in order."""
        arrived: dict[tuple[str, int], list[tuple[int, Event | bytes]]] = defaultdict(list)
        clocks: dict[tuple[str, int], int] = defaultdict(int)
        rejected: dict[int, Counter[str]] = defaultdict(Counter)
        by_name = {experiment.name: experiment for experiment in experiments}
        unusable: dict[Place, bytes] = {}
        for one in logged:
            lane = one.topic, one.partition
            clocks[lane] = max(clocks[lane], one.timestamp)
            event = read(one)
            if isinstance(event, str):
                rejected[one.partition][f"rejected:{event}"] += 1
            else:
                arrived[lane].append((clocks[lane], event))
            if _is_unusable(event, by_name):
                unusable[one.topic, one.partition, one.offset] = one.value or b""
        logs = {
            shard: list(
                heapq.merge(
                    *(lane for (_, number), lane in arrived.items() if number == shard),
                    key=lambda record: record[0],
                )
            )
            for shard in range(shards)
        }
        counted = sum(
            len(truth_of(log, experiments, early_for=EARLY_FOR).lives) for log in logs.values()
        )
        return cls(experiments, logs, rejected, unusable, counted)

    def truths(self, marks: Sequence[int | None]) -> list[Truth]:
        """The truth of each shard when its clock stands at its mark."""
        truths = [
            truth_of(self.logs[shard], self.experiments, early_for=EARLY_FOR, watermark=mark)
            for shard, mark in enumerate(marks)
        ]
        told = max((truth.last_outcome or 0 for truth in truths), default=0)
        for shard, truth in enumerate(truths):
            truth.mature = _mature(truth, self.experiments, told)
            truth.tallies += self.rejected.get(shard, Counter())
        return truths

    def check(self, stores: Sequence[Found]) -> list[Truth]:
        """Everything is as it must be, and every prediction has its final label."""
        truths = self.truths([store.meta.watermark for store in stores])
        for store, truth in zip(stores, truths, strict=True):
            assert_equal(store, truth)
            assert store.meta.complete_since is None
            for kind, panes in ((Kind.FINE, truth.fine), (Kind.COARSE, truth.coarse)):
                assert store.of(kind).keys() == panes.keys()  # none is old enough to be deleted
            final = sum(facts.predictions for facts in truth.mature.values())
            assert final == len(truth.lives), "not every prediction has its final label yet"
        return truths

    def differences(self, stores: Sequence[Found]) -> str:
        """What is not as it must be, in brief."""
        truths = self.truths([store.meta.watermark for store in stores])
        found = ["differences (store, truth):"]
        for shard, (store, truth) in enumerate(zip(stores, truths, strict=True)):
            found += _unlike(f"shard {shard} tallies", store.meta.tallies, truth.tallies)
            totals = {name[:2]: plain(each) for name, each in store.of(Kind.TOTAL).items()}
            mature = {name: plain(each) for name, each in store.of(Kind.MATURE).items()}
            found += _unlike_facts(f"shard {shard}", totals, truth.totals)
            found += _unlike_facts(f"shard {shard} mature", mature, truth.mature)
            if store.meta.complete_since is not None:
                found.append(f"shard {shard} is complete only since {store.meta.complete_since}")
        return "\n".join(found[:MOST])

    def counted(self, experiment: str) -> list[Facts]:
        """The totals of one experiment, by shard and variant."""
        truths = self.truths([None] * len(self.logs))
        totals = [item for truth in truths for item in truth.totals.items()]
        return [facts for (name, _), facts in totals if name == experiment]


def final_in(stores: Iterable[Found]) -> int:
    """Predictions whose label is final."""
    return sum(each.predictions for store in stores for each in store.of(Kind.MATURE).values())


def _fields(facts: Facts) -> dict[str, Any]:
    names = "predictions", "errors", "acted", "moments", "timed", "scores"
    return {**facts.cells, **{name: getattr(facts, name) for name in names}}


def _unlike(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted(one.keys() | other.keys())
    return [
        f"{what}: {name}: {one.get(name)} != {other.get(name)}"
        for name in names
        if (one.get(name) or 0) != (other.get(name) or 0)
    ]


def _unlike_facts(what: str, one: Mapping[Any, Facts], other: Mapping[Any, Facts]) -> list[str]:
    found = []
    for name in sorted(one.keys() | other.keys()):
        facts = one.get(name, Facts()), other.get(name, Facts())
        found += _unlike(f"{what} {name}", *map(_fields, facts))
    return found


def _mature(truth: Truth, experiments: Iterable[Experiment], told: int) -> dict[Any, Facts]:
    """The mature panes of a shard, where outcomes are known up to `told` in any shard."""
    cohorts = {experiment.name: int(experiment.labels.cohort) for experiment in experiments}
    mature: dict[Any, Facts] = defaultdict(Facts)
    for life in truth.lives:
        if life.arrival + life.wait < min(truth.watermark, told + life.wait - life.horizon):
            start = life.arrival // cohorts[life.experiment] * cohorts[life.experiment]
            facts = mature[life.experiment, life.variant, start]
            facts.see(life)
            facts.see_cell(life)
    return mature


def read_plainly(one: Logged) -> Event | bytes | str:
    """What a record is, as far as JSON goes."""
    if one.value is None:
        return "empty"
    try:
        event = json.loads(one.value)
    except ValueError:
        return one.value
    return event if isinstance(event, dict) else one.value


def _is_unusable(event: Event | bytes | str, by_name: Mapping[str, Experiment]) -> bool:
    if not isinstance(event, dict) or reason_against(event):
        return True
    experiment = by_name.get(event.get("experiment", ""))
    if event["type"] == "outcome" or experiment is None:
        return False
    undecided = event.get("predicted") is None and not event.get("error")
    unweighted = event.get("weight") is None and experiment.labels.observed == "explored"
    return event["variant"] not in experiment.variants or undecided or unweighted


def read_back(servers: str, topic: str) -> Iterator[Logged]:
    """Everything that is in a topic now, each partition in order."""
    from kafka import KafkaConsumer, TopicPartition  # see `support.topics`

    with KafkaConsumer(bootstrap_servers=servers, fetch_max_bytes=50 << 20) as consumer:
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(timeout_ms=200, max_records=5_000).values():
                for one in records:
                    headers = tuple((name, value or b"") for name, value in one.headers)
                    yield Logged(
                        topic, one.partition, one.offset, one.timestamp, one.key, one.value, headers
                    )
