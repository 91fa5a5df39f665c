"""Labels and scores of models in memory, in place of a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from abmonitor.ranking.checks import Scores
from abmonitor.ranking.reading import Candidates, Chunk
from metrics.candidates import BoolArray, FloatArray


@dataclass
class Sample:
    """What a file would give, in chunks of `step` rows; counts how often it was read."""

    labels: BoolArray
    scores: Scores
    models: tuple[str, ...]
    values: FloatArray | None = None
    costs: FloatArray | None = None
    step: int = 7
    faults: dict[str, str] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    dropped: int = 0
    at_once: int = 1_000_000
    reads: int = 0

    @property
    def rows(self) -> int:
        return len(self.labels)

    def groups(self) -> tuple[range, ...]:
        models = len(self.models)
        starts = range(0, models, self.at_once)
        return tuple(range(start, min(start + self.at_once, models)) for start in starts)

    def chunks(self, models: Sequence[int] | None = None) -> Iterator[Chunk]:
        self.reads += 1
        places = list(range(len(self.models))) if models is None else list(models)
        for start in range(0, self.rows, self.step):
            rows = slice(start, start + self.step)
            yield Chunk(
                start,
                self.labels[rows],
                self.scores[rows][:, places],
                None if self.values is None else self.values[rows],
                None if self.costs is None else self.costs[rows],
                min(1.0, (start + self.step) / self.rows),
            )

    @property
    def candidates(self) -> Candidates:
        """Itself, where a file is expected."""
        return cast(Candidates, self)


def sample(
    rows: int = 200, models: int = 4, *, seed: int = 1, base_rate: float = 0.3, step: int = 7
) -> Sample:
    """Models that know more and more: the last one most."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < base_rate
    known = np.linspace(0.0, 0.6, models) * labels[:, None]
    scores = np.round(rng.random((rows, models)) * 0.6 + known, 2).clip(0, 1).astype(np.float32)
    return Sample(labels, scores, tuple(f"m{place}" for place in range(models)), step=step)
