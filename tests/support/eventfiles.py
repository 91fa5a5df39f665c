"""Event files: events as services write them down, and an experiment to replay them with."""

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


Event = dict[str, Any]

START = 1_704_067_200_000
"""1 January 2024, an edge of panes and cohorts, and long enough ago for clocks that are a year ahead."""

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
GRACE, HORIZON = 5 * MINUTE, 10 * MINUTE

SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {observed: all, horizon: 10m, grace: 5m, cohort: 1m}
    profitability: {unit_revenue: 60, unit_cost: 20}
    guardrails:
      - {metric: error_rate, window: 5m, max: 0.2, min_count: 20, consecutive: 2}
      - {metric: profit_per_prediction, window: 10m, min: -0.5, min_count: 50, consecutive: 2}
"""
"""An experiment that tolerates much, but neither failures nor a heavy loss."""


def prediction(name: str, at: int, variant: str = "old", **fields: Any) -> Event:
    """A prediction made at `at` (epoch ms)."""
    return {
        "type": "prediction",
        "prediction_id": name,
        "experiment": "offers",
        "variant": variant,
        "predicted": True,
        "time": at,
    } | fields


def outcome(name: str, at: int, *, actual: bool = True, **fields: Any) -> Event:
    """What became known at `at` (epoch ms)."""
    return {"type": "outcome", "prediction_id": name, "actual": actual, "time": at} | fields


def traffic(
    count: int, *, seed: int = 0, gap: int = SECOND, start: int = START, horizon: int = HORIZON
) -> list[Event]:
    """`count` predictions `gap` ms apart, half of them of each variant, and their outcomes, by time.

    Every prediction gets its outcome within nine tenths of `horizon`.
    """
    rnd, events = random.Random(seed), list[Event]()
    for number in range(count):
        at, name = start + number * gap, f"{seed}-{number}"
        variant, predicted = rnd.choice(("old", "new")), rnd.random() < 0.4
        latency = round(rnd.lognormvariate(3, 0.5), 1)
        events.append(prediction(name, at, variant, predicted=predicted, latency_ms=latency))
        told = at + round(rnd.random() * 0.9 * horizon)
        events.append(outcome(name, told, actual=rnd.random() < (0.6 if predicted else 0.2)))
    return by_time(events)


def by_time(events: Iterable[Event]) -> list[Event]:
    """The events in order of time; equal times stay as they are."""
    return sorted(events, key=lambda event: int(event["time"]))


def shuffled(events: Sequence[Event], within: int, seed: int) -> list[Event]:
    """The events, each up to `within` ms later in the order than its time says."""
    rnd = random.Random(seed)
    return sorted(events, key=lambda event: event["time"] + rnd.random() * within)


def lines(events: Iterable[Event | bytes], end: bytes = b"\n") -> bytes:
    """Newline-delimited JSON; bytes stay what they are."""
    texts = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in events)
    return b"".join(text + end for text in texts)


def written(path: Path, events: Iterable[Event | bytes], *, zipped: bool = False) -> Path:
    """Write the events to a file, gzipped whatever its name says."""
    content = lines(events)
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return path
