"""Judging: a guardrail and what a look sees, to a judgement. Pure.

A look is a moment in arrival time at which everything it asks for is complete and will not change, so
that a replay judges identically.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from alerts.guardrails import Guardrail
from metrics.catalogue import CATALOGUE
from metrics.compare import estimate
from metrics.experiment import Experiment
from metrics.ledger import Ledger
from metrics.snapshot import Snapshot
from metrics.uncertainty import difference


class Phase(StrEnum):
    """What a guardrail says. Missing data or a broken source is never `pass`."""

    PASS = "pass"  # noqa: S105  # not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


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


@dataclass(frozen=True, slots=True)
class _Seen:
    """The two ledgers that a threshold compares."""

    treatment: Ledger
    control: Ledger


def judge(
    guardrail: Guardrail, experiment: Experiment, treatment: str, snapshot: Snapshot, at: int
) -> Judgement:
    """What `guardrail` says of `treatment` at the look `at` (epoch ms, arrival time).

    For metrics that need labels, `at` is the end of the newest mature cohort.
    """
    if guardrail.test == "sequential":
        return _judgement(
            guardrail, at, Phase.INCONCLUSIVE, "sequential tests are not part of this version yet"
        )
    seen = _see(guardrail, experiment, treatment, snapshot, at)
    compared = guardrail.margin is not None or guardrail.relative_margin is not None
    relative = compared or CATALOGUE[guardrail.metric].relative_only
    n, n_control = seen.treatment.predictions, seen.control.predictions
    least = min(n, n_control) if relative else n
    counts = {"n": n, "n_control": n_control}
    if least < guardrail.min_count:
        reason = f"{least} predictions in the window, {guardrail.min_count} are needed"
        return _judgement(guardrail, at, Phase.INCONCLUSIVE, reason, **counts)
    value, control = _values(guardrail.metric, experiment, seen)
    if value is None or (compared and control is None):
        reason = f"{guardrail.metric} cannot be known from this window"
        return _judgement(guardrail, at, Phase.INCONCLUSIVE, reason, **counts)
    bound, breached = _breach(guardrail, value, control)
    side = "breaches" if breached else "keeps to"
    against = f", control {control:.6g}" if control is not None else ""
    reason = f"{guardrail.metric} {value:.6g} {side} the bound {bound:.6g}{against}"
    return Judgement(
        guardrail=guardrail.name,
        metric=guardrail.metric,
        phase=Phase.FAIL if breached else Phase.PASS,
        at=at,
        reason=reason,
        value=value,
        control=control,
        bound=bound,
        n=n,
        n_control=n_control,
    )


def _judgement(
    guardrail: Guardrail, at: int, phase: Phase, reason: str, **counts: int
) -> Judgement:
    return Judgement(
        guardrail=guardrail.name,
        metric=guardrail.metric,
        phase=phase,
        at=at,
        reason=reason,
        n=counts.get("n", 0),
        n_control=counts.get("n_control", 0),
    )


def _see(
    guardrail: Guardrail, experiment: Experiment, treatment: str, snapshot: Snapshot, at: int
) -> _Seen:
    width = int(guardrail.window or 0)
    cohort = int(experiment.labels.cohort)
    both = (snapshot.variants[treatment], snapshot.variants[experiment.control])
    if CATALOGUE[guardrail.metric].labelled:
        return _Seen(*(facts.cohort_window(at, width, cohort) for facts in both))
    return _Seen(*(facts.window(at, width) for facts in both))


def _values(metric: str, experiment: Experiment, seen: _Seen) -> tuple[float | None, float | None]:
    """The metric of treatment and control; of a relative metric the difference, and None."""
    ours, theirs = (
        estimate(metric, ledger, experiment) for ledger in (seen.treatment, seen.control)
    )
    if CATALOGUE[metric].relative_only:
        found = difference(ours, theirs)
        return (None if found is None else found.estimate), None
    return (None if ours is None else ours.value), (None if theirs is None else theirs.value)


def _breach(guardrail: Guardrail, value: float, control: float | None) -> tuple[float, bool]:
    """The bound that is breached, or the one that `value` is closest to breaching."""
    lower, upper = [], []
    if guardrail.min is not None:
        lower.append(guardrail.min)
    if guardrail.max is not None:
        upper.append(guardrail.max)
    if control is not None:
        harm = CATALOGUE[guardrail.metric].harm
        margins = [] if guardrail.margin is None else [guardrail.margin]
        if guardrail.relative_margin is not None:
            margins.append(guardrail.relative_margin * abs(control))
        if harm in ("falling", "either"):
            lower += [control - margin for margin in margins]
        if harm in ("rising", "either"):
            upper += [control + margin for margin in margins]
    room = [(value - bound, bound) for bound in lower] + [(bound - value, bound) for bound in upper]
    least, bound = min(room)
    return bound, least < 0
