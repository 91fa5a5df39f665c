"""Looks: the product's evidence at every cohort of many experiments, as fast as it goes. Pure.

`metrics.evidence.weigh` adds up cohorts anew at every look. Here they are added up once, and every look takes
differences; contrasts, mixtures and ratios are the product's functions, and the test beside it says that
both give the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from metrics.clusters import inflation
from metrics.contrast import MIN_CONTRIBUTIONS, Margin, contrast
from metrics.evidence import Stacked, Test
from metrics.facts import COLUMNS, Facts
from metrics.sequential import ages, log_evidence, mixture

from .draws import Drawn
from .worlds import EXPERIMENT


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One metric and its margin, judged by several tests of it."""

    metric: str
    margin: float
    tests: tuple[Test, ...]


def guardrail(metric: str, margin: float, *plans: tuple[float, float, float | None]) -> Guardrail:
    """With a test for each plan: alpha, predictions an arm planned with, effect worth finding."""
    limit = Margin(margin)
    return Guardrail(
        metric,
        margin,
        tuple(
            Test(metric, limit, alpha, 0.05, planned, detect) for alpha, planned, detect in plans
        ),
    )


@dataclass(frozen=True, slots=True)
class Look:
    """Evidence of one guardrail at one look; arrays of shape (tests, experiments)."""

    log_harm: Floats
    log_first: Floats
    """Of harm, of the first start alone: without the mixture."""
    log_safe: Floats


class Sums:
    """Facts of one arm, added up along cohorts."""

    def __init__(self, facts: Facts, buckets: Ints | None) -> None:
        sums = np.moveaxis(facts.sums, -1, 0)  # columns, experiments, cohorts
        self.used = np.flatnonzero(sums.any(axis=(1, 2)))
        added = np.cumsum(sums[self.used].swapaxes(1, 2), axis=1)
        self.added = np.concatenate([np.zeros_like(added[:, :1]), added], axis=1)
        self.buckets = None if buckets is None else np.cumsum(buckets, axis=1)

    @property
    def experiments(self) -> int:
        """How many there are."""
        return int(self.added.shape[-1])

    def between(self, starts: Ints, end: int) -> Facts:
        """Facts from each start to the end, one row a start and experiment, column by column."""
        rows = np.zeros((len(COLUMNS), starts.size, self.experiments))
        rows[self.used] = self.added[:, end, None] - self.added[:, np.minimum(starts, end)]
        return Facts(rows.reshape(len(COLUMNS), -1).T)

    def inflation(self, metric: str, look: int) -> Floats:
        """What units do to the variance of a metric, shape (experiments,); 1 where they are not known."""
        if self.buckets is None:
            return np.ones(self.experiments)
        whole = self.between(np.zeros(1, dtype=np.int64), look)
        return inflation(metric, self.buckets[:, look - 1], whole, EXPERIMENT)


Arms = tuple[Sums, Sums]
Bounds = Sequence[tuple[int, int]]
"""First cohort and the one after the last of each stretch with one split."""


def arms_of(drawn: Drawn) -> Arms:
    """Treatment and control, added up."""
    ours, theirs = drawn.buckets or (None, None)
    return Sums(drawn.treatment, ours), Sums(drawn.control, theirs)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to see at a look, for all guardrails: facts since each start, by stratum."""

    arms: Arms
    look: int
    starts: Ints
    strata: tuple[tuple[Facts, Facts], ...]

    @classmethod
    def at(cls, look: int, arms: Arms, bounds: Bounds, starts: Ints) -> "Seen":
        """After `look` cohorts."""
        strata = []
        for first, last in bounds:
            if first < look:
                begin, end = np.maximum(starts, first), min(look, last)
                strata.append((arms[0].between(begin, end), arms[1].between(begin, end)))
        return cls(arms, look, starts, tuple(strata))


def stacked(rail: Guardrail, seen: Seen) -> tuple[Stacked, Floats]:
    """The contrast since each start, shape (experiments, starts): `metrics.evidence` over many at once.

    And how many predictions the variance rests on since the first start.
    """
    shape = (seen.starts.size, seen.arms[0].experiments)
    harm = information = n = contributions = np.zeros(shape)
    units = [np.tile(arm.inflation(rail.metric, seen.look), shape[0]) for arm in seen.arms]
    for ours, theirs in seen.strata:
        found = contrast(
            rail.metric, ours, theirs, EXPERIMENT, Margin(rail.margin), (units[0], units[1])
        )
        enough = found.enough.reshape(shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            known = np.where(enough, 1 / np.square(found.se.reshape(shape)), 0.0)
        harm = harm + known * np.where(enough, found.harm.reshape(shape), 0.0)
        information = information + known
        n = n + np.where(enough, found.n.reshape(shape), 0.0)
        rests = found.contributions.reshape(shape)
        contributions = contributions + np.where(enough, rests, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        since = Stacked((harm / information).T, (1 / np.sqrt(information)).T, n.T)
    return since, contributions[0]


def look_at(rail: Guardrail, seen: Seen) -> Look:
    """What one guardrail's tests say."""
    since, contributions = stacked(rail, seen)
    whole = Stacked(since.harm[:, 0], since.se[:, 0], since.n[:, 0])
    harm, first, safe = [], [], []
    for test in rail.tests:
        ratio = test.harm_ratio(since)
        harm.append(mixture(since.harm, since.se, ratio, seen.starts + 1))
        first.append(log_evidence(whole.harm, whole.se, ratio[:, 0]))
        passing = log_evidence(-whole.harm, whole.se, test.safe_ratio(whole))
        safe.append(np.where(contributions >= MIN_CONTRIBUTIONS, passing, -np.inf))
    return Look(np.array(harm), np.array(first), np.array(safe))


def phase_bounds(strata: Ints) -> Bounds:
    """Of each stratum, in order of time."""
    changes = np.flatnonzero(np.diff(strata)) + 1
    edges = [0, *changes.tolist(), strata.size]
    return list(pairwise(edges))


@dataclass(frozen=True, slots=True)
class Firsts:
    """After how many cohorts something first happened, infinite for never; shape (tests, experiments)."""

    alarm: Floats
    """Rolled back, late changes included: what the product does."""
    alarm_first: Floats
    """Without the mixture of starts."""
    safe: Bools
    """Whether harm was ruled out, by look: shape (tests, looks, experiments)."""

    @property
    def passed(self) -> Floats:
        """When harm was first ruled out."""
        return first_true(self.safe, axis=1)


def first_true(happened: Bools, axis: int) -> Floats:
    """The number, from 1 on, of the first look at which something happened; infinite for never."""
    at = happened.argmax(axis=axis) + 1.0
    return np.where(happened.any(axis=axis), at, np.inf)


def watch(
    drawn: Drawn,
    rails: Sequence[Guardrail],
    strata: Ints,
    looks: Sequence[int] | None = None,
    *,
    late_starts: bool = True,
) -> list[Firsts]:
    """Look at every cohort (or after as many cohorts as `looks` says), for each guardrail."""
    arms, bounds = arms_of(drawn), phase_bounds(strata)
    watchers = [_Watcher(rail, strata.size, arms[0].experiments) for rail in rails]
    for look in range(1, strata.size + 1) if looks is None else looks:
        starts = look - ages(look) if late_starts else np.zeros(1, dtype=np.int64)
        seen = Seen.at(look, arms, bounds, starts)
        for watcher in watchers:
            watcher.take(look_at(watcher.rail, seen), look)
    return [watcher.firsts for watcher in watchers]


class _Watcher:
    """Notes at which looks the evidence of a guardrail's tests was enough."""

    def __init__(self, rail: Guardrail, looks: int, experiments: int) -> None:
        self.rail = rail
        self._limit = -np.log([test.alpha for test in rail.tests])[:, None]
        self._passing = -np.log([test.alpha_pass for test in rail.tests])[:, None]
        shape = (len(rail.tests), looks, experiments)
        self._alarm, self._first, self._safe = (np.zeros(shape, dtype=np.bool_) for _ in range(3))

    def take(self, found: Look, look: int) -> None:
        self._alarm[:, look - 1] = found.log_harm >= self._limit
        self._first[:, look - 1] = found.log_first >= self._limit
        self._safe[:, look - 1] = found.log_safe >= self._passing

    @property
    def firsts(self) -> Firsts:
        return Firsts(first_true(self._alarm, 1), first_true(self._first, 1), self._safe)
