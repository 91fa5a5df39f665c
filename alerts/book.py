"""The book of one experiment: everything that its judgement remembers between looks."""

from collections.abc import Iterable

import msgspec

from alerts.judge import Judgement
from alerts.standing import SEVERITY, Standing, State


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch with one intended split, and what was assigned in it."""

    since: int
    split: dict[str, float]
    """Weights; 0 for a variant that gets no traffic, or whose share cannot be told at the moment."""
    counts: dict[str, int] = {}
    """By variant, what the experiment is randomised by: predictions, or units of the sample."""
    crossed: int = 0
    """Units that had been seen in another variant."""
    unitless: int = 0
    """Predictions without a unit, where units are randomised."""
    known: int = 0
    """Units that had been seen before it."""
    moved: float = 0.0
    """The share of the traffic that all changes before this phase have moved to other variants."""

    def after(self, split: dict[str, float], since: int) -> "Phase":
        """The phase that follows, from `since` (epoch ms) on."""
        return Phase(
            since=since,
            split=split,
            known=self.known + sum(self.counts.values()),
            moved=min(1.0, self.moved + _moved(self.split, split)),
        )


def _moved(before: dict[str, float], after: dict[str, float]) -> float:
    """The share of the traffic that another split sends elsewhere; all of it where one is unknown."""
    whole, new = sum(before.values()), sum(after.values())
    if not whole or not new:
        return 1.0
    names = {*before, *after}
    return sum(abs(before.get(n, 0) / whole - after.get(n, 0) / new) for n in names) / 2


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A phase that is over."""

    since: int
    until: int
    split: dict[str, float]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequential guardrail remembers between looks at one treatment."""

    peak: float | None = None
    """The highest ln of the e-value at any look; None before there was any evidence."""
    alarmed_at: int | None = None
    """The look at which it reached 1/alpha; from then on the guardrail fails."""
    state: tuple[float, ...] = ()
    """Of a test at arrival: see `metrics.rates.RateState.packed`."""
    tallies: tuple[tuple[float, ...], ...] = ()
    """Of a test at arrival, for each split: see `alerts.counting.Tally`."""
    alarm: tuple[float, ...] = ()
    """Of a test at arrival, what came between the alarm and the look before it (a `Tally`)."""


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
    landmarks_at: dict[int, int] = {}
    """The same for labels at each landmark (ms)."""
    phase: Phase | None = None
    past: tuple[Stretch, ...] = ()
    """The phases before the current one, oldest first."""
    evidence: dict[str, dict[str, Kept]] = {}
    """What sequential tests remember, by treatment and guardrail."""
    seen: dict[str, int] = {}
    """Predictions of each treatment since it began."""
    mismatched: tuple[str, ...] = ()
    """Treatments whose share of the traffic was not the intended one; a person has to clear it."""
    decisions: int = 0
    """How many decisions were made: the next one's number."""
    actions: dict[str, dict[str, int]] = {}
    """How many decisions were made, by treatment and what they did."""
    rollbacks: tuple[int, ...] = ()
    """When the newest rollbacks were ordered (arrival time); a new epoch does not forget them."""
    quarantined: dict[str, dict[str, int]] = {}
    """By treatment the versions that were rolled back, and when (arrival time)."""
    head: str = ""
    """Hash of the newest decision: the next one names it, so that none can be taken out."""
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
    evidence: str = ""
    """The seal of what it rests on (`alerts.reasoning`), which is kept beside it; empty without any."""
    previous: str = ""
    """The hash of the decision before this one of the experiment; empty for the first."""
    hash: str = ""
    """Of everything else in it."""
