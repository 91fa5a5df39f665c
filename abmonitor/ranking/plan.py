"""How candidates are ranked: what is assumed, which score acts, and how often rows are drawn anew. Pure."""

from dataclasses import dataclass

import numpy as np

from abmonitor.ranking.assumed import Assumed
from abmonitor.ranking.reading import Chunk
from abmonitor.ranking.tally import Rows
from metrics.resampling import REPLICATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to rank: assumptions, the threshold of scores, and the bootstrap (0 replicates: none)."""

    assumed: Assumed | None
    """None where values and costs of rows say what is earned."""
    threshold: float = 0.5
    replicates: int = REPLICATES
    seed: int = 0
    unit_revenue: float | None = None
    """The value of a correct action, where only costs of rows are given."""
    unit_cost: float | None = None
    """The cost of an action: of each row, where only values of rows are given, else for profit in money."""

    @property
    def q(self) -> float | None:
        """The q that models are ordered by; None where values and costs of rows do that."""
        return None if self.assumed is None else self.assumed.central

    @property
    def ranges(self) -> bool:
        """Whether assumptions leave more than one q open."""
        return self.assumed is not None and self.assumed.q is None

    def rows_of(self, chunk: Chunk) -> Rows:
        """Labels and money of a chunk; money only where it is what decides."""
        if self.assumed is not None:
            return Rows(chunk.first_row, chunk.labels)
        n = len(chunk.labels)
        values = np.full(n, self.unit_revenue) if chunk.values is None else chunk.values
        costs = np.full(n, self.unit_cost) if chunk.costs is None else chunk.costs
        return Rows(chunk.first_row, chunk.labels, values, costs)
