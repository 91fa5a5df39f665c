"""Health: what keeps a treatment on hold, what silence means, and whether a rollback took effect. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from alerts.book import Phase
from metrics.duration import Duration
from metrics.experiment import DAY, MINUTE, Experiment
from metrics.layout import FINE_WIDTH
from metrics.snapshot import Snapshot
from metrics.srm import sample_ratio


MISMATCH = 0.001
"""Sample ratio mismatch holds below this p-value, which is valid at every look."""

ENOUGH = 20
"""Predictions that must have been expected before their absence means something."""

LABELS_EXPECTED = 100
LONGEST_WINDOW = 8 * DAY


class HoldOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a treatment is held, and when holding ends in a rollback."""

    silence: Duration = Duration(15 * MINUTE)
    """A treatment without predictions for this long, while control flows, is rolled back."""
    deadline: Duration | None = None
    """Holding this long counts as harm; absent: it holds until the cause is gone."""
    drain: Duration = Duration(MINUTE)
    """After a rollback, how long requests in flight may still arrive."""
    verify_for: Duration = Duration(10 * MINUTE)
    """Traffic that has not moved this long after the drain is a failed rollback."""
    leftover: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    """Share of predictions of a rolled back treatment that counts as none."""


def arrived(snapshot: Snapshot, variant: str, since: int, until: int) -> int:
    """Predictions of `variant` that arrived in [since, until)."""
    width = until - since
    return snapshot.variants[variant].predictions(until, width) if width > 0 else 0


def counted(phase: Phase, snapshot: Snapshot, since: int, until: int) -> Phase:
    """The phase with the predictions of [since, until) added."""
    counts = {
        variant: phase.counts.get(variant, 0) + arrived(snapshot, variant, since, until)
        for variant in phase.split
    }
    return msgspec.structs.replace(phase, counts=counts)


def mismatch(experiment: Experiment, phase: Phase) -> float | None:
    """The p-value of the intended split; None where predictions are not what was randomised."""
    if experiment.randomised_by == "unit":
        return None
    found = sample_ratio(phase.counts, phase.split)
    return None if found is None else found.p_value


def hold_causes(
    experiment: Experiment, treatment: str, snapshot: Snapshot, at: int, options: HoldOptions
) -> tuple[str, ...]:
    """Why nothing may be concluded at the look `at`, from what had arrived by then."""
    causes = []
    start = at - _whole(options.silence)
    if not any(arrived(snapshot, v, start, at) for v in (treatment, experiment.control)):
        causes.append(f"no data: no predictions for {options.silence}")
    elif _quiet(experiment, treatment, snapshot, at, _whole(options.silence / 3)):
        causes.append(f"{treatment} is silent while {experiment.control} flows")
    if labels_stalled(experiment, snapshot, at):
        wait = Duration(experiment.labels.wait)
        causes.append(f"labels stalled: no outcome has met a prediction for {wait}")
    if snapshot.complete_since is not None:
        causes.append("state incomplete: the log no longer reached back to the start")
    return tuple(causes)


def labels_stalled(experiment: Experiment, snapshot: Snapshot, at: int) -> bool:
    """Whether predictions arrive, but none has met its outcome for as long as that may take."""
    width = min(_whole(experiment.labels.wait), LONGEST_WINDOW)
    variants = snapshot.variants.values()
    predictions = sum(facts.predictions(at, width) for facts in variants)
    if predictions < LABELS_EXPECTED or any(facts.labelled(at, width) for facts in variants):
        return False
    return any(facts.predictions(at - width, width) for facts in variants)


def silence(
    experiment: Experiment, treatment: str, snapshot: Snapshot, at: int, options: HoldOptions
) -> tuple[str, ...]:
    """Harm: a treatment that had traffic and now has none, while control flows. Crashes emit nothing."""
    had_traffic = snapshot.variants[treatment].total.predictions > 0
    if had_traffic and _quiet(experiment, treatment, snapshot, at, _whole(options.silence)):
        return (f"{treatment} had no predictions for {options.silence} while control flowed",)
    return ()


def _quiet(experiment: Experiment, treatment: str, snapshot: Snapshot, at: int, width: int) -> bool:
    if arrived(snapshot, treatment, at - width, at):
        return False
    control = experiment.variants[experiment.control]
    flow = arrived(snapshot, experiment.control, at - width, at)
    return flow * experiment.variants[treatment] / control >= ENOUGH


def leftover_share(
    experiment: Experiment, treatment: str, snapshot: Snapshot, since: int, at: int
) -> float | None:
    """The treatment's share of what arrived in [since, at); None while too little has."""
    ours = arrived(snapshot, treatment, since, at)
    theirs = arrived(snapshot, experiment.control, since, at)
    return ours / (ours + theirs) if ours + theirs >= ENOUGH and theirs else None


def _whole(width: float) -> int:
    """`width` in whole panes, at least one."""
    return max(FINE_WIDTH, round(width / FINE_WIDTH) * FINE_WIDTH)
