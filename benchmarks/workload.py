"""What the benchmarks send: predictions, their outcomes a little later, a few of each twice, and the truth about them."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

from stream.producer import Record


VARIANTS = ("rules-v1", "ranker-v2")
PARTITIONS = 4
CHUNK = 5_000
"""Predictions that are made and sent at a time."""
LAGS = range(2_000, 20_000)
"""How many predictions later an outcome follows."""
TWICE = 0.001
"""Share of events that come twice."""


@dataclass(slots=True)
class Workload:
    """Events of one run, made as they are sent.

    An id belongs to a partition, and a partition to one of `experiments`. What comes twice is the same record
    again. `truth` is complete when `chunks` has ended: counts by (experiment, variant, cell), where a
    cell is tp, fp, tn, fn or predictions.
    """

    predictions: int
    experiments: tuple[str, ...] = ("offer-recommender",)
    seed: int = 7
    truth: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    """Records by kind: prediction, outcome."""
    size: int = 0
    """Bytes of all keys and values."""
    _later: dict[str, dict[int, list[Record]]] = field(
        default_factory=lambda: {kind: defaultdict(list) for kind in ("prediction", "outcome")}
    )
    _due: dict[int, list[tuple[str, str, bool]]] = field(default_factory=lambda: defaultdict(list))
    """By chunk: id, experiment and truth of outcomes that are not made yet, because they tell their time."""

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[list[Record], list[Record]]]:
        """Predictions and outcomes to send together, until the last outcome."""
        chance = random.Random(self.seed)
        number = 0
        while number * size < self.predictions or self._due or any(self._later.values()):
            wanted = range(number * size, min(self.predictions, (number + 1) * size))
            now = int(time.time() * 1000)
            predictions = [self._prediction(at, size, now, chance) for at in wanted]
            outcomes = [_outcome(*due, now, chance) for due in self._due.pop(number, ())]
            yield (
                self._some_twice("prediction", predictions, number, chance),
                self._some_twice("outcome", outcomes, number, chance),
            )
            number += 1

    def _some_twice(
        self, kind: str, records: list[Record], number: int, chance: random.Random
    ) -> list[Record]:
        again = self._later[kind].pop(number, [])
        for record in records:
            if chance.random() < TWICE:
                self._later[kind][number + chance.randrange(1, 3)].append(record)
        records += again
        self.sent[kind] += len(records)
        self.size += sum(len(each.key or b"") + len(each.value or b"") for each in records)
        return records

    def _prediction(self, at: int, size: int, now: int, chance: random.Random) -> Record:
        bits = f"{chance.getrandbits(128):032x}"
        identifier = f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}"
        key = identifier.encode()
        partition = crc32(key) % PARTITIONS
        experiment = self.experiments[partition % len(self.experiments)]
        variant = VARIANTS[chance.random() < 0.5]
        predicted, actual = chance.random() < 0.3, chance.random() < 0.2
        text = (
            f'{{"type":"prediction","prediction_id":"{identifier}","experiment":"{experiment}",'
            f'"variant":"{variant}","predicted":{"true" if predicted else "false"},"time":{now},'
            f'"latency_ms":{chance.lognormvariate(3, 0.5):.2f},"score":{chance.random():.3f}}}'
        )
        cell = ("tp" if actual else "fp") if predicted else ("fn" if actual else "tn")
        self.truth[experiment, variant, cell] += 1
        self.truth[experiment, variant, "predictions"] += 1
        self._due[(at + chance.choice(LAGS)) // size].append((identifier, experiment, actual))
        return Record(partition, key, text.encode())


def _outcome(
    identifier: str, experiment: str, actual: bool, now: int, chance: random.Random
) -> Record:
    key = identifier.encode()
    text = (
        f'{{"type":"outcome","prediction_id":"{identifier}","experiment":"{experiment}",'
        f'"actual":{"true" if actual else "false"},"time":{now},"value":{chance.random() * 100:.2f}}}'
    )
    return Record(crc32(key) % PARTITIONS, key, text.encode())
