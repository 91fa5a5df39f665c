"""The view: what the monitor knows after a tick, for everybody who shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from abmonitor.hinting import Hinted
from abmonitor.settings import ExperimentSettings
from alerts.book import Book, Decision
from metrics.compare import Comparison
from metrics.drift import Drift
from metrics.hints import Hint
from metrics.snapshot import Fleet, Snapshot


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """Everything that faces show of one experiment."""

    experiment: ExperimentSettings
    snapshot: Snapshot
    book: Book
    comparisons: Mapping[str, Comparison]
    decisions: tuple[Decision, ...] = ()
    hinted: Hinted | None = None
    """None where nobody looked for drift, or could."""

    @property
    def hints(self) -> tuple[Hint, ...] | None:
        """What a person should look at, as of the latest whole ten minutes; None as for `hinted`."""
        return None if self.hinted is None else self.hinted.hints

    @property
    def drift(self) -> Drift | None:
        """The raw numbers behind the hints."""
        return None if self.hinted is None else self.hinted.drift


@dataclass(frozen=True, slots=True)
class View:
    """What the monitor knows after a tick."""

    experiments: Mapping[str, ExperimentView] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=lambda: Fleet({}, {}))
    as_of: int | None = None
    """Epoch ms of the monitor's clock at the tick."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Experiments whose state got lost and is not back yet, and why; they are shown as held."""
    leads: frozenset[str] = frozenset()
    """Experiments that this monitor judges; others stand by, or judge the rest."""
    log_problem: str | None = None
    """Why the control log is behind, None when it is not."""
