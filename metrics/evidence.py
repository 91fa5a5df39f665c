"""Evidence: what the mature cohorts of two variants say about harm, so that it holds at every look. Pure.

Cohorts are summed since the epoch began, never over a rolling window: a window forgets, and a test that
forgets alarms falsely sooner or later. Where the split of the traffic changed, each stretch with one split is
a stratum of its own, compared within itself, so that days of different quality do not pass for a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from metrics.contrast import MIN_CONTRIBUTIONS, Contrast, Margin, contrast
from metrics.experiment import Experiment
from metrics.facts import Facts
from metrics.sequential import (
    added,
    ages,
    best_ratio,
    critical_z,
    least_harm,
    log_evidence,
    scale_for,
    weighted,
)


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEFT_OUT = -1
"""The stratum of cohorts that belong to no stretch with one split."""


@dataclass(frozen=True, slots=True)
class Test:
    """A one-sided sequential test of one metric, both ways: for harm, and for its absence."""

    __test__: ClassVar[bool] = False  # pytest takes it for tests otherwise

    metric: str
    margin: Margin
    alpha: float
    """Of a false alarm."""
    alpha_pass: float
    """Of passing a treatment that harms by more than the margin."""
    planned: float
    """Predictions an arm at which a decision is expected."""
    detect: float | None = None
    """The harm beyond the margin that is worth finding, in the metric's unit; the plan decides without."""

    @property
    def room(self) -> float | None:
        """How far an equal treatment is from harm, in the metric's unit, where that is declared."""
        return self.margin.absolute or self.detect

    def ratio(self, contrast: "Stacked", alpha: float, effect: float | None) -> Floats:
        """The r = tau^2/se^2 of the mixture, for a test at `alpha` that is to find `effect`.

        With the effect tau is a number. Without one it is what is best when `planned` predictions an arm
        have been seen, where r grows in proportion to their number.
        """
        if effect is None:
            return best_ratio(alpha) * contrast.n / self.planned
        tau = scale_for(effect, alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.square(tau / contrast.se)

    def harm_ratio(self, contrast: "Stacked") -> Floats:
        """The ratio of the test for harm."""
        return self.ratio(contrast, self.alpha, self.detect)

    def safe_ratio(self, contrast: "Stacked") -> Floats:
        """The ratio of the test for the absence of harm."""
        return self.ratio(contrast, self.alpha_pass, self.room)


@dataclass(frozen=True, slots=True)
class Stacked:
    """A contrast over all strata, shape (...)."""

    harm: Floats
    se: Floats
    n: Floats


@dataclass(frozen=True, slots=True)
class Evidence:
    """What all cohorts so far say; arrays have the shape (...) of the experiments, NaN for unknown."""

    since: Stacked
    """Since each start, shape (..., starts); the first start is the beginning of the epoch."""
    starts: Ints
    """The numbers of the cohorts that they begin with, from 1 on."""
    positives: Floats
    """The smaller effective number of positives of the two variants since the beginning."""
    by_start: Floats
    """Each start's part of the evidence of harm, ln, shape (..., starts)."""
    log_harm: Floats
    """Their sum: ln of the e-value against harm of at most the margin, late changes included."""
    log_safe: Floats
    """The ln of the e-value against harm of at least the margin, since the beginning."""

    @property
    def whole(self) -> Stacked:
        """The contrast since the beginning, shape (...)."""
        return Stacked(self.since.harm[..., 0], self.since.se[..., 0], self.since.n[..., 0])

    @property
    def strongest(self) -> Ints:
        """Which start counts most in the evidence of harm, shape (...); 0 is the beginning of the epoch."""
        return np.asarray(self.by_start.argmax(axis=-1))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what the harm beyond the margin lies; shape (...), NaN where nothing is known."""

    least: Floats
    """Over the whole epoch, never above its estimate."""
    most: Floats
    """Over the whole epoch, never below its estimate; infinite where that rests on too little."""
    late: Floats
    """Since the start that counts most, never above the estimate since then; `least` where that is the first."""


def weigh(
    test: Test,
    experiment: Experiment,
    treatment: Facts,
    control: Facts,
    strata: Ints,
    inflation: tuple[npt.ArrayLike, npt.ArrayLike] = (1.0, 1.0),
) -> Evidence:
    """Weigh mature cohorts, in order of time: facts of shape (..., cohorts, columns), at least one cohort.

    `strata` numbers the stretch with one split that each cohort belongs to, shape (cohorts,);
    `inflation` is what units do to the variance of treatment and control, shape (...) each
    (`metrics.clusters`).
    """
    count = treatment.sums.shape[-2]
    rows = count - ages(count)
    units = [np.asarray(each, dtype=np.float64)[..., None] for each in inflation]
    compared = partial(
        contrast,
        test.metric,
        experiment=experiment,
        margin=test.margin,
        inflation=(units[0], units[1]),
    )
    since, positives, contributions = _stacked(compared, treatment, control, strata, rows)
    ratio = test.harm_ratio(since)
    parts = weighted(since.harm, since.se, ratio, rows + 1)
    found = Evidence(since, rows + 1, positives[..., 0], parts, added(parts), np.zeros(()))
    whole = found.whole
    safe = log_evidence(-whole.harm, whole.se, test.safe_ratio(whole))
    sure = contributions[..., 0] >= MIN_CONTRIBUTIONS
    return replace(found, log_safe=np.where(sure, safe, -np.inf))


def bounds(test: Test, found: Evidence) -> Bounds:
    """Between what the harm beyond the margin lies: each end inverts the test that decides on its side.

    What all starts together prove is proven of some stretch, which is about the one that counts most:
    `late` is above 0 when `log_harm` reaches 1/alpha. Of the whole epoch it is only told where the first
    start counts most. Where it would be above the estimate of what it is told of, and for the whole epoch
    otherwise, the bound is what that start proves by itself, at its part of alpha: lower, so that all hold
    together. `most` is below 0 when `log_safe` reaches 1/alpha_pass.
    """
    since, whole, strongest = found.since, found.whole, found.strongest
    late = least_harm(since.harm, since.se, test.harm_ratio(since), found.starts, test.alpha)
    crossing = late > _at(since.harm, strongest)[..., 0]
    if crossing.any():
        late = np.where(crossing, _alone(test, found, strongest), late)
    least = late
    if strongest.any():
        least = np.where(strongest == 0, late, _alone(test, found, np.zeros_like(strongest)))
    reach = critical_z(test.alpha_pass, test.safe_ratio(whole))
    most = whole.harm + whole.se * reach
    most = np.where(np.isneginf(found.log_safe) & np.isfinite(most), np.inf, most)
    return Bounds(least, most, late)


def _alone(test: Test, found: Evidence, start: Ints) -> Floats:
    """The least harm that one start proves by itself, at its part of alpha; shape (...) as `start`."""
    since = Stacked(*(_at(of, start) for of in (found.since.harm, found.since.se, found.since.n)))
    number = found.starts[start][..., None]
    return least_harm(since.harm, since.se, test.harm_ratio(since), number, test.alpha)


def _at(of: Floats, start: Ints) -> Floats:
    """What belongs to a start, shape (..., 1)."""
    return np.take_along_axis(of, start[..., None], axis=-1)


def _stacked(
    compared: Callable[[Facts, Facts], Contrast],
    ours: Facts,
    theirs: Facts,
    strata: Ints,
    starts: Ints,
) -> tuple[Stacked, Floats, Floats]:
    """The contrast since each start, over all strata weighted by what they know.

    With it the effective numbers of positives, and of predictions that the variance rests on.
    """
    harm = information = n = positives = contributions = np.zeros(
        (*ours.sums.shape[:-2], starts.size)
    )
    for stratum in np.unique(strata[strata != LEFT_OUT]):
        rows = strata == stratum
        found = compared(ours.where(rows).since(starts), theirs.where(rows).since(starts))
        known = _information(found)
        harm = harm + known * np.where(found.enough, found.harm, 0.0)
        information = information + known
        n = n + np.where(found.enough, found.n, 0.0)
        positives = positives + np.where(np.isfinite(found.positives), found.positives, 0.0)
        contributions = contributions + np.where(found.enough, found.contributions, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        since = Stacked(harm / information, 1 / np.sqrt(information), n)
    return since, positives, contributions


def _information(found: Contrast) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(found.enough, 1 / np.square(found.se), 0.0)


def missing(test: Test, found: Evidence) -> float | None:
    """How many times as many predictions decide, if all goes on as it has; None beyond a hundred times.

    Of one experiment, for a person who waits: neither a promise nor part of any decision.
    """
    whole = found.whole
    if not np.isfinite(whole.harm):
        return None
    harmful = bool(whole.harm > 0)
    # The first start has half of the weight of all starts.
    alpha = test.alpha / 2 if harmful else test.alpha_pass
    ratio = test.harm_ratio(whole) if harmful else test.safe_ratio(whole)
    z = abs(whole.harm) / whole.se * np.sqrt(_TIMES)
    enough = z >= critical_z(alpha, ratio * _TIMES)
    return float(_TIMES[np.argmax(enough)]) if enough.any() else None


_TIMES = np.geomspace(1.0, 100.0, 400)
