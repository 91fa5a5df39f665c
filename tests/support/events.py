"""Streams of events: a seeded generator of likely ones, hypothesis strategies for unlikely ones.

Two experiments with different horizons share the stream; `slow` asks for weights. Times are small, and
the ids of the strategies few, so that everything that can happen to an id happens often.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels
from support.truth import Event, remembered


BASE = 1_699_999_800_000
"""Where streams begin: an edge of fine and coarse panes and of cohorts."""

EARLY_FOR = 40_000

FAST = Experiment(
    name="fast",
    control="a",
    variants={"a": 0.5, "b": 0.5},
    labels=Labels(
        horizon=Duration(60_000),
        grace=Duration(10_000),
        late_for=Duration(30_000),
        cohort=Duration(20_000),
    ),
)
SLOW = Experiment(
    name="slow",
    control="old",
    variants={"old": 0.4, "new": 0.3, "newer": 0.3},
    labels=Labels(
        horizon=Duration(200_000),
        grace=Duration(20_000),
        late_for=Duration(60_000),
        cohort=Duration(60_000),
        observed="explored",
    ),
    weight_cap=20,
)
EXPERIMENTS = (FAST, SLOW)

Records = list[tuple[int, Event | bytes]]

SPOILT: tuple[tuple[dict[str, Any], str], ...] = (
    ({"type": "surprise"}, "unknown_type"),
    ({"prediction_id": ""}, "out_of_range"),
    ({"prediction_id": "x" * 129}, "out_of_range"),
    ({"prediction_id": 7}, "wrong_type"),
    ({"time": -1}, "out_of_range"),
    ({"time": [1]}, "wrong_type"),
    ({"predicted": "yes", "actual": "yes"}, "wrong_type"),
)
"""Fields that make an event unusable, whatever else it says, and the reason."""

NOT_EVENTS = (b"", b"{", b"[]", b"null", b'{"type": "prediction"', b"\xff\xfe")


VERSIONS = (None, "", "é" * 32, "é" * 33, "v" * 64, "v" * 65, "long" * 200, *map(str, range(9)))
"""Versions that are seen now and then; some are none, some too long to be remembered."""


def rfc3339(ms: int) -> str:
    """`ms` since the epoch as people write it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


# --- the seeded generator -------------------------------------------------------------------------


class Generator:
    """A stream as services send it, with everything that goes wrong now and then."""

    def __init__(self, seed: int, *, reuse: bool = True, gap: float = 300.0) -> None:
        self._random = random.Random(seed)
        self._reuse, self._gap = reuse, gap
        self._versions = random.Random(f"versions of {seed}")  # apart: nothing else depends on them
        self._records: Records = []

    def records(self, predictions: int) -> Records:
        """About `predictions` predictions and what belongs to them, in order of arrival."""
        rnd, clock = self._random, float(BASE)
        for number in range(predictions):
            clock += rnd.expovariate(1 / self._gap)
            self._prediction(f"p{number}", round(clock))
            if rnd.random() < 0.02:
                self._oddity(number, round(clock))
        self._records.sort(key=lambda record: record[0])
        return self._records

    def _add(self, arrival: float, event: Event | bytes) -> None:
        self._records.append((max(BASE, round(arrival)), event))

    def _prediction(self, name: str, arrival: int) -> None:
        rnd = self._random
        experiment = rnd.choice(EXPERIMENTS)
        event = self._scored(name, experiment, arrival)
        self._add(arrival, event)
        if rnd.random() < 0.06:  # sent again
            again = event if rnd.random() < 0.5 else self._scored(name, experiment, arrival)
            self._add(arrival + rnd.choice((0, 5, 20_000)), again)
        if rnd.random() < 0.85:
            for _ in range(rnd.choice((1, 1, 1, 1, 1, 2, 3))):
                self._outcome(name, arrival, int(experiment.labels.horizon))
        if self._reuse and rnd.random() < 0.04:
            later = arrival + remembered(experiment) + rnd.randint(1, 30_000)
            self._add(later, self._scored(name, rnd.choice(EXPERIMENTS), later))
            self._outcome(name, later, int(experiment.labels.horizon))

    def _scored(self, name: str, experiment: Experiment, arrival: int) -> Event:
        rnd = self._random
        event: Event = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": experiment.name,
            "variant": rnd.choice(list(experiment.variants)),
            "predicted": rnd.random() < 0.4,
        }
        extras: dict[str, Any] = {
            "time": rnd.choice((arrival, arrival - 40, rfc3339(arrival - 7), arrival - 0.25)),
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
        return event | self._version(arrival)

    def _version(self, arrival: int) -> Event:
        """One of those that are out at that time, a stray one, one that is none, or nothing."""
        rnd = self._versions
        if rnd.random() < 0.1:
            return {"version": rnd.choice(VERSIONS)} if rnd.random() < 0.7 else {}
        return {"version": f"1.{(arrival - BASE) // 8_000 - rnd.randrange(3)}"}

    def _outcome(self, name: str, arrival: int, horizon: int) -> None:
        rnd = self._random
        delay = rnd.choice(
            (
                rnd.uniform(0, 0.5 * horizon),
                rnd.uniform(0, 0.5 * horizon),
                rnd.uniform(-EARLY_FOR, 0),
                rnd.uniform(0.9 * horizon, 1.6 * horizon),
                rnd.uniform(-2 * EARLY_FOR, 3 * horizon),
            )
        )
        event: Event = {"type": "outcome", "prediction_id": name, "actual": rnd.random() < 0.3}
        if rnd.random() < 0.7:
            event["time"] = max(0, round(arrival + delay - rnd.choice((0, 0, 100, 5_000))))
        if rnd.random() < 0.2:
            event["value"] = 12.5
        self._add(arrival + delay, event)

    def _oddity(self, number: int, arrival: int) -> None:
        rnd = self._random
        kind = rnd.randrange(6)
        event = self._scored(f"odd{number}", FAST, arrival)
        if kind == 0:
            self._add(arrival, event | {"experiment": "elsewhere"})
        elif kind == 1:
            self._add(arrival, event | {"variant": "unheard-of"})
        elif kind == 2:
            spoilt, _ = rnd.choice(SPOILT)
            self._add(arrival, event | spoilt)
        elif kind == 3:
            self._add(arrival, rnd.choice(NOT_EVENTS))
        elif kind == 4:
            self._add(arrival, {"type": "outcome", "prediction_id": event["prediction_id"]})
        else:
            self._outcome(event["prediction_id"], arrival, int(FAST.labels.horizon))


# --- strategies -----------------------------------------------------------------------------------


def _edges() -> list[int]:
    found = {EARLY_FOR}
    for experiment in EXPERIMENTS:
        labels = experiment.labels
        found |= {labels.horizon, labels.horizon + labels.grace, remembered(experiment)}
    return sorted(edge + shift for edge in found for shift in (-1, 0, 1))


EDGES = _edges()
"""Spans of time (ms) on both sides of which something else happens."""

gaps = st.one_of(st.integers(0, 2), st.integers(0, 30_000), st.sampled_from(EDGES))
"""Milliseconds between two records."""


def _times(arrival: int) -> st.SearchStrategy[object]:
    shifts = st.sampled_from([0, -1, 1, *EDGES, *(-edge for edge in EDGES)])
    whole = shifts.map(lambda shift: arrival + shift)
    return st.one_of(st.none(), whole, whole.map(float), whole.map(rfc3339))


_names = st.integers(0, 3).map(lambda number: f"id-{number}")
_flags = st.one_of(st.none(), st.booleans())


@st.composite
def prediction_events(draw: st.DrawFn, arrival: int) -> Event:
    """A prediction, nearly always a usable one."""
    experiment = draw(st.sampled_from(EXPERIMENTS))
    event: Event = {
        "type": "prediction",
        "prediction_id": draw(_names),
        "experiment": experiment.name,
        "variant": draw(st.sampled_from(list(experiment.variants))),
        "predicted": draw(st.booleans()),
        "time": draw(_times(arrival)),
    }
    if draw(st.booleans()):
        event["latency_ms"] = draw(st.integers(0, 20_000)) / 10
        event["score"] = draw(st.sampled_from([0, 0.05, 0.5, 0.949, 1]))
    if experiment.labels.observed == "explored":
        event["weight"] = draw(st.sampled_from([0.001, 0.4, 1, 3, 20, 500]))
    event["version"] = draw(st.sampled_from((None, None, *VERSIONS)))
    event["acted"], event["error"] = draw(_flags), draw(st.sampled_from([None, False, False, True]))
    if event["error"] and draw(st.booleans()):
        del event["predicted"]
    odd: list[Event] = [{}] * 12 + [
        {"experiment": "elsewhere"},
        {"variant": "unheard-of"},
        {"predicted": None},
        *(fields for fields, _ in SPOILT),
    ]
    return event | draw(st.sampled_from(odd))


@st.composite
def outcome_events(draw: st.DrawFn, arrival: int) -> Event:
    """An outcome, nearly always a usable one."""
    event: Event = {
        "type": "outcome",
        "prediction_id": draw(_names),
        "actual": draw(st.booleans()),
        "time": draw(_times(arrival)),
    }
    odd: list[Event] = [{}] * 12 + [{"experiment": "elsewhere"}, *(fields for fields, _ in SPOILT)]
    return event | draw(st.sampled_from(odd))


@st.composite
def logs(draw: st.DrawFn, *, max_size: int = 25, backwards: bool = True) -> Records:
    """The records of one topic; with `backwards` the broker's timestamps now and then step back."""
    clock, records = BASE, Records()
    for _ in range(draw(st.integers(0, max_size))):
        clock += draw(gaps)
        back = draw(st.sampled_from([0, 0, 0, 0, 1, 5_000])) if backwards else 0
        kind = draw(st.integers(0, 9))
        if kind == 9:
            records.append((clock - back, draw(st.sampled_from(NOT_EVENTS))))
        else:
            event = prediction_events(clock) if kind < 4 else outcome_events(clock)
            records.append((clock - back, draw(event)))
    return records


def cuts(records: int, most: int = 6) -> st.SearchStrategy[list[int]]:
    """Sizes of the batches in which `records` records come."""
    return st.lists(st.integers(1, most), min_size=records, max_size=records)


def sizes_of(seed: int, most: int) -> Iterator[int]:
    """Sizes of batches without end."""
    rnd = random.Random(seed)
    while True:
        yield rnd.randint(1, most)
