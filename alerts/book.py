"""The book of one experiment: everything that its judgement remembers between looks."""

import msgspec

from alerts.judge import Judgement
from alerts.machine import SEVERITY, Standing, State


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch with one intended split, and the predictions that arrived in it."""

    since: int
    split: dict[str, float]
    counts: dict[str, int] = {}


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Kept in Redis, changed only by compare-and-set of `version`."""

    version: int = 0
    standings: dict[str, Standing] = {}
    judgements: dict[str, dict[str, Judgement]] = {}
    """The latest judgement by treatment and guardrail."""
    looked_at: int | None = None
    """The latest look at what needs no labels (arrival time)."""
    cohort_at: int | None = None
    """The end of the newest mature cohort that was looked at."""
    phase: Phase | None = None
    mismatched: bool = False
    """A sample ratio mismatch was found in this phase; it takes a person to clear it."""
    decisions: int = 0
    """How many decisions were made: the next one's number."""
    settings: str = ""
    """Hash of what is tested, as it was when last judged."""

    def worst(self) -> State:
        """The state of the experiment: that of its worst treatment."""
        states = {standing.state for standing in self.standings.values()}
        return next((state for state in SEVERITY if state in states), State.COLLECTING)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A change that people are told of, with its evidence."""

    id: str
    action: str
    experiment: str
    treatment: str
    at: int
    """Epoch milliseconds in arrival time."""
    reasons: tuple[str, ...]
    state: State
    before: State
    epoch: int
    actor: str
    settings: str
    dry_run: bool
    watermark: int | None
    """How far the data was counted: the age of the evidence is `at` less this."""
    judgements: dict[str, Judgement]
    counts: dict[str, dict[str, int]]
    """By variant, of everything that had matured: tp, fp, tn, fn, predictions, errors."""
