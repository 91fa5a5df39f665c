"""The records of a stream that is known: events that are made when they are due. Reads the clock.

Whatever happens to a stream happens here often: outcomes before their prediction, late ones, ones without a
prediction, predictions without one, both more than once, records that are no events, records of others. Ids
go to the partition that their checksum says, but never to the last one, which stays idle, and the last but
one never has an outcome of its own.
"""

import random
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels
from support.feed import encoded
from support.truth import Event


FAST = Experiment(
    name="fast",
    control="a",
    variants={"a": 0.5, "b": 0.5},
    labels=Labels(
        horizon=Duration(1_500),
        grace=Duration(1_500),
        late_for=Duration(60_000),
        cohort=Duration(10_000),
    ),
)
SLOW = Experiment(
    name="slow",
    control="old",
    variants={"old": 0.4, "new": 0.3, "newer": 0.3},
    labels=Labels(
        horizon=Duration(2_500),
        grace=Duration(1_500),
        cohort=Duration(20_000),
        observed="explored",
    ),
    weight_cap=20,
)
EXPERIMENTS = (FAST, SLOW)
EARLY_FOR = 3_000
LONGEST_WAIT_S = max(each.labels.wait for each in EXPERIMENTS) / 1000
AHEAD_S = 2 * EARLY_FOR / 1000
"""How far ahead predictions are planned, so that outcomes can come before them."""
MARGIN_S = 0.3

NOT_EVENTS = (b"", b"{", b"[]", b"null", b'{"type": "prediction"', b"\xff\xfe", b"\x01\x02", b"7")
SPOILT: tuple[Event, ...] = (
    {"type": "surprise"},
    {"prediction_id": ""},
    {"prediction_id": "x" * 129},
    {"prediction_id": 7},
    {"time": -1},
    {"time": [1]},
    {"predicted": "yes"},
    {"latency_ms": -0.1},
    {"score": 1.5},
    {"variant": "unheard-of"},
)
"""Fields that make a prediction unusable, whatever else it says."""


class Planned(NamedTuple):
    """A record that is to be sent."""

    due: float
    """On the monotonic clock."""
    number: int
    outcome: bool
    shard: int
    key: bytes
    value: bytes | None


def shard_of(name: str, shards: int) -> int:
    """The partition of an id; the last one has none."""
    return crc32(name.encode()) % max(shards - 1, 1)


def _epoch_ms(due: float) -> int:
    return round(1000 * (time.time() + due - time.monotonic()))


class Events:
    """Makes the records of one stream, one prediction with all that belongs to it at a time."""

    def __init__(self, seed: int, shards: int, *, clean: bool = False) -> None:
        """`clean`: every prediction gets its outcome soon, and nothing is wrong."""
        self._random, self._shards, self._clean = random.Random(seed), shards, clean
        self._seed, self._count, self._records = seed, 0, 0
        self._planned: list[Planned] = []

    def next(self, due: float) -> list[Planned]:
        """The records of one more prediction that is sent at `due`."""
        self._planned = []
        self._count += 1
        name = f"s{self._seed}-{self._count}"
        if self._clean:
            self._neat(name, due)
        else:
            self._prediction(name, due)
            if self._random.random() < 0.04:
                self._oddity(f"{name}-odd", due)
        return self._planned

    def last(self, due: float) -> list[Planned]:
        """What lets the clocks of the busy partitions pass all that was sent before, and labels too."""
        self._planned = []
        for shard in range(max(self._shards - 1, 1)):
            name = f"s{self._seed}-last-{self._count}-{shard}"
            others = self._scored(name, FAST, due) | {"experiment": "elsewhere"}
            self._add(due, others, outcome=False, shard=shard)
            told = self._told(name)
            if shard == self._shards - 2:
                told |= {"experiment": "elsewhere"}
            self._add(due, told, outcome=True, shard=shard)
        return self._planned

    def _add(
        self, due: float, event: Event | bytes | None, *, outcome: bool, shard: int | None = None
    ) -> None:
        name = str(event.get("prediction_id", "")) if isinstance(event, dict) else ""
        if shard is None:
            shard = shard_of(name or str(self._records), self._shards)
        value = None if event is None else encoded(event)
        self._records += 1
        self._planned.append(Planned(due, self._records, outcome, shard, name.encode(), value))

    def _neat(self, name: str, due: float) -> None:
        self._add(due, self._scored(name, FAST, due), outcome=False)
        if shard_of(name, self._shards) != self._shards - 2:
            self._add(due + self._random.uniform(0, 1), self._told(name), outcome=True)

    def _prediction(self, name: str, due: float) -> None:
        rnd = self._random
        experiment = rnd.choice(EXPERIMENTS)
        event = self._scored(name, experiment, due)
        self._add(due, event, outcome=False)
        if rnd.random() < 0.06:  # sent again
            again = event if rnd.random() < 0.5 else self._scored(name, experiment, due)
            self._add(due + rnd.choice((0, 0.01, 1)), again, outcome=False)
        if shard_of(name, self._shards) == self._shards - 2 > 0 or rnd.random() < 0.15:
            return
        for _ in range(rnd.choice((1, 1, 1, 1, 1, 2, 3))):
            self._outcome(name, due, experiment.labels.horizon / 1000)

    def _scored(self, name: str, experiment: Experiment, due: float) -> Event:
        rnd, now = self._random, _epoch_ms(due)
        event: Event = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": experiment.name,
            "variant": rnd.choice(list(experiment.variants)),
            "predicted": rnd.random() < 0.4,
        }
        extras: dict[str, Any] = {
            "time": rnd.choice((now, now - 40, _rfc3339(now - 7), now - 0.25)),
            "latency_ms": round(rnd.lognormvariate(3, 1), 1),
            "score": round(rnd.random(), 3),
            "segment": "north",
        }
        event |= {key: value for key, value in extras.items() if rnd.random() < 0.8}
        if rnd.random() < 0.1:
            event["acted"] = not event["predicted"]
        if rnd.random() < 0.05:
            event["error"] = True
            if rnd.random() < 0.5:
                del event["predicted"]
        if experiment is SLOW:
            event["weight"] = rnd.choice((0.001, 0.5, 1, 2.5, 19.999, 50))
        return event

    def _told(self, name: str) -> Event:
        return {"type": "outcome", "prediction_id": name, "actual": self._random.random() < 0.3}

    def _outcome(self, name: str, due: float, horizon: float) -> None:
        rnd = self._random
        delay = rnd.choice(
            (
                rnd.uniform(0, 0.5 * horizon),
                rnd.uniform(0, 0.5 * horizon),
                rnd.uniform(-EARLY_FOR / 1000, 0),
                rnd.uniform(0.9 * horizon, 2.2 * horizon),
                rnd.uniform(-AHEAD_S, 3 * horizon),
            )
        )
        event = self._told(name)
        if rnd.random() < 0.7:
            event["time"] = _epoch_ms(due + delay) - rnd.choice((0, 0, 50, 500))
        if rnd.random() < 0.2:
            event["value"] = 12.5
        self._add(due + delay, event, outcome=True)

    def _oddity(self, name: str, due: float) -> None:
        rnd = self._random
        event = self._scored(name, FAST, due)
        kind = rnd.randrange(7)
        if kind == 0:
            self._add(due, event | {"experiment": "elsewhere"}, outcome=False)
        elif kind == 1:
            told = self._told(name) | {"experiment": "elsewhere"}
            self._add(due, told, outcome=True)
        elif kind == 2:
            self._add(due, event | rnd.choice(SPOILT), outcome=False)
        elif kind == 3:
            self._add(due, rnd.choice(NOT_EVENTS), outcome=rnd.random() < 0.5)
        elif kind == 4:
            self._add(due, None, outcome=rnd.random() < 0.5)
        elif kind == 5:
            self._add(due, {"type": "outcome", "prediction_id": name}, outcome=True)
        else:
            self._outcome(name, due, 2)


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
