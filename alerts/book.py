"""The book of one experiment: everything that its judgement remembers between looks."""

from collections.abc import Iterable

import msgspec

from alerts.judge import Judgement
from alerts.standing import SEVERITY, Standing, State


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch with one intended split, and the predictions that arrived in it."""

    since: int
    split: dict[str, float]
    """Weights; 0 for a variant that gets no traffic, or whose share cannot be told at the moment."""
    counts: dict[str, int] = {}


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Kept in Redis, changed only by compare-and-set of `version`."""

    version: int = 0
    standings: dict[str, Standing] = {}
    judgements: dict[str, dict[str, Judgement]] = {}
    """The latest judgement by treatment and guardrail."""
    holds: dict[str, tuple[str, ...]] = {}
    """Causes to hold by treatment, from the latest look at what arrived."""
    looked_at: int | None = None
    """The latest look at what needs no labels (arrival time)."""
    cohort_at: int | None = None
    """The end of the newest mature cohort that was looked at."""
    phase: Phase | None = None
    mismatched: tuple[str, ...] = ()
    """Treatments whose share of the traffic was not the intended one; a person has to clear it."""
    decisions: int = 0
    """How many decisions were made: the next one's number."""
    actions: dict[str, dict[str, int]] = {}
    """How many decisions were made, by treatment and what they did."""
    rollbacks: tuple[int, ...] = ()
    """When the newest rollbacks were ordered (arrival time); a new epoch does not forget them."""
    settings: str = ""
    """Hash of what is tested, as it was when last judged."""

    def worst(self, treatments: Iterable[str] | None = None) -> State:
        """The state of the experiment: that of the worst of its treatments, or of all ever judged."""
        names = self.standings if treatments is None else treatments
        states = {self.standings.get(name, Standing()).state for name in names}
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
    """By variant, of the epoch's mature cohorts: tp, fp, tn, fn, predictions, errors."""
    phase: Phase | None = None
    """The intended split, and what had arrived under it."""
