"""Judging: a threshold and what a look sees, to a judgement. Pure.

A look is a moment in arrival time at which everything it asks for is complete and will not change, so
that a replay judges identically.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import msgspec

from alerts.guardrails import Guardrail
from metrics.catalogue import CATALOGUE
from metrics.compare import estimate
from metrics.experiment import Experiment
from metrics.layout import COARSE_WIDTH
from metrics.ledger import Ledger
from metrics.snapshot import LONGEST_FINE_WINDOW, Snapshot
from metrics.uncertainty import difference


class Phase(StrEnum):
    """What a guardrail says. Missing data or a broken source is never `pass`."""

    PASS = "pass"  # noqa: S105  # not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Treatment against control over the whole epoch, and between what it lies at every look."""

    kind: Literal["difference", "ratio"]
    """Treatment minus control in the metric's unit, or treatment over control."""
    estimate: float
    lower: float | None = None
    """Never above the estimate."""
    upper: float | None = None
    """Never below the estimate."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Logarithms of e-values against what they have to reach."""

    harm: float | None
    """The highest at any look, against the null that the harm is within the margin."""
    harm_needed: float
    safe: float | None
    """At this look, against the null that the harm is beyond the margin."""
    safe_needed: float


class Strongest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stretch that says most for harm, where that is not the whole epoch: something has changed.

    What is not known is left out, so that decisions that were sealed without a bound keep their hash.
    """

    since: int
    """Its beginning (epoch ms, arrival time)."""
    difference: float
    """Treatment minus control since then."""
    bound: float | None = None
    """The end of it that is nearest to no harm: it is as bad as that, or worse."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing until a verdict, if all goes on as it has."""

    predictions: int
    """Of the treatment."""
    ms: int


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What one guardrail says of one treatment at one look."""

    guardrail: str
    metric: str
    phase: Phase
    at: int
    reason: str
    value: float | None = None
    control: float | None = None
    bound: float | None = None
    n: int = 0
    n_control: int = 0
    effect: Effect | None = None
    evidence: Evidence | None = None
    n_effective: float | None = None
    """Positives of the smaller variant, or events, as many as of weight 1 would say as much."""
    missing: Missing | None = None
    strongest: Strongest | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The two ledgers that a threshold compares."""

    treatment: Ledger
    control: Ledger


def settled(at: int, width: int) -> int:
    """The end of the newest window of `width` ms up to `at` (epoch ms) that will not change any more.

    Windows of more than an hour are summed from coarse panes, and the newest of these may still fill.
    """
    return at if width <= LONGEST_FINE_WINDOW else at - at % COARSE_WIDTH


def judge(
    guardrail: Guardrail,
    experiment: Experiment,
    treatment: str,
    snapshot: Snapshot,
    at: int,
    begun: int = 0,
) -> Judgement:
    """What `guardrail` says of `treatment` at the look `at` (epoch ms, arrival time).

    For metrics that need labels, `at` is the end of the newest mature cohort. What arrived before
    `begun` is left out: it belongs to an earlier epoch. A bound that is breached fails whatever else
    cannot be known; to pass, everything must be.
    """
    return measured(
        guardrail, experiment, see(guardrail, experiment, treatment, snapshot, at, begun), at
    )


def measured(guardrail: Guardrail, experiment: Experiment, seen: Seen, at: int) -> Judgement:
    """What `guardrail` says of a window that was seen at the look `at`."""
    value, control = _values(guardrail, experiment, seen)
    found = Judgement(
        guardrail=guardrail.name,
        metric=guardrail.metric,
        phase=Phase.INCONCLUSIVE,
        at=at,
        reason=_unknown(guardrail, seen),
        value=value,
        control=control,
        n=seen.treatment.predictions,
        n_control=seen.control.predictions,
    )
    if value is None:
        return found
    room, bound = min(_room(guardrail, value, control), default=(0.0, None))
    if bound is None or (room >= 0 and _compared(guardrail) and control is None):
        return found
    side = "breaches" if room < 0 else "keeps to"
    against = f", control {control:.6g}" if control is not None else ""
    reason = f"{guardrail.metric} {value:.6g} {side} the bound {bound:.6g}{against}"
    phase = Phase.FAIL if room < 0 else Phase.PASS
    return msgspec.structs.replace(found, phase=phase, reason=reason, bound=bound)


def see(
    guardrail: Guardrail,
    experiment: Experiment,
    treatment: str,
    snapshot: Snapshot,
    at: int,
    begun: int,
) -> Seen:
    """What arrived, or matured, in the guardrail's window, but nothing from before `begun`."""
    width = int(guardrail.window or 0)
    both = (snapshot.variants[treatment], snapshot.variants[experiment.control])
    if not CATALOGUE[guardrail.metric].labelled:
        end = settled(at, width)
        return Seen(*(facts.window(end, min(width, end - begun)) for facts in both))
    cohort = int(experiment.labels.cohort)
    width = min(max(width, cohort), at - begun)
    if width < cohort:
        return Seen(Ledger(), Ledger())
    return Seen(*(facts.cohort_window(at, width, cohort) for facts in both))


def _compared(guardrail: Guardrail) -> bool:
    return guardrail.margin is not None or guardrail.relative_margin is not None


def _values(
    guardrail: Guardrail, experiment: Experiment, seen: Seen
) -> tuple[float | None, float | None]:
    """The metric of treatment and control; of a relative metric the difference, and None.

    None also for what rests on too few predictions.
    """
    ours, theirs = (
        estimate(guardrail.metric, ledger, experiment)
        if ledger.predictions >= guardrail.min_count
        else None
        for ledger in (seen.treatment, seen.control)
    )
    if CATALOGUE[guardrail.metric].relative_only:
        found = difference(ours, theirs)
        return (None if found is None else found.estimate), None
    return (None if ours is None else ours.value), (None if theirs is None else theirs.value)


def _unknown(guardrail: Guardrail, seen: Seen) -> str:
    """Why nothing can be said, if nothing can."""
    relative = _compared(guardrail) or CATALOGUE[guardrail.metric].relative_only
    n, n_control = seen.treatment.predictions, seen.control.predictions
    least = min(n, n_control) if relative else n
    if least < guardrail.min_count:
        return f"{least} predictions in the window, {guardrail.min_count} are needed"
    return f"{guardrail.metric} cannot be known from this window"


def _room(guardrail: Guardrail, value: float, control: float | None) -> list[tuple[float, float]]:
    """How far `value` is from each bound, with the bound; below 0 it is breached."""
    lower = [] if guardrail.min is None else [guardrail.min]
    upper = [] if guardrail.max is None else [guardrail.max]
    if control is not None:
        harm = CATALOGUE[guardrail.metric].harm
        margins = [] if guardrail.margin is None else [guardrail.margin]
        if guardrail.relative_margin is not None:
            margins.append(guardrail.relative_margin * abs(control))
        if harm in ("falling", "either"):
            lower += [control - margin for margin in margins]
        if harm in ("rising", "either"):
            upper += [control + margin for margin in margins]
    return [(value - bound, bound) for bound in lower] + [(bound - value, bound) for bound in upper]
