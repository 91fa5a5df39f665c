"""Health: what keeps a treatment on hold, what silence means, and whether a rollback took effect. Pure."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from alerts import causes as say
from alerts.judge import settled
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE, Experiment
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.snapshot import Snapshot


ENOUGH = 20
"""Events that must have been expected before their absence means something."""

STRAYS = 5
LABELS_EXPECTED = 100
LONGEST_WINDOW = 8 * DAY

_SUCH_AS = {"deadline": "1h", "drain": "1m", "verify_for": "10m", "escalate_after": "15m"}


class HoldOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a treatment is held, and when holding ends in a rollback."""

    silence: Duration = Duration(15 * MINUTE)
    """A treatment without predictions for this long, while control flows, is rolled back."""
    deadline: Duration | None = None
    """Holding this long is too long; absent: it holds until the cause is gone."""
    on_deadline: Literal["alert", "rollback"] = "rollback"
    """What happens then: people are told, once, or it counts as harm."""
    drain: Duration = Duration(MINUTE)
    """After a rollback, how long requests in flight may still arrive."""
    verify_for: Duration = Duration(10 * MINUTE)
    """Traffic that has not moved this long after the drain is a failed rollback."""
    leftover: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    """Part of its intended traffic that a treatment may get and still counts as getting none."""
    escalate_after: Duration = Duration(15 * MINUTE)
    """A rollback that fails for this long is told once more."""
    cool_down: Duration = Duration(10 * MINUTE)
    """After a rollback took effect, how long arming the treatment again takes force."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Everything that is wrong with these options: the field, and what."""
        if not 0 < self.silence <= LONGEST_WINDOW:
            yield (
                "silence",
                (
                    f"expected a time above 0 and at most {Duration(LONGEST_WINDOW)}, such as 15m, got"
                    f" {self.silence}; a treatment that is meant to get no traffic is given 0 in `variants`"
                ),
            )
        for name in ("deadline", "drain", "verify_for", "escalate_after"):
            span = getattr(self, name)
            if span is not None and not span > 0:
                yield name, f"expected a time above 0, such as {_SUCH_AS[name]}, got {span}"
        if self.on_deadline == "alert" and self.deadline is None:
            yield (
                "on_deadline",
                "there is no `deadline`, so that it would do nothing; add one, such as 1h",
            )


def arrived(snapshot: Snapshot, variant: str, since: int, until: int) -> int:
    """Predictions of `variant` that arrived in [since, until); in whole coarse panes above an hour."""
    width = until - since
    if width <= 0:
        return 0
    return snapshot.variants[variant].predictions(settled(until, width), width)


def hold_causes(
    experiment: Experiment,
    treatment: str,
    snapshot: Snapshot,
    at: int,
    options: HoldOptions,
    *,
    begun: int = 0,
    known: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Why nothing may be concluded at the look `at`, from what had arrived by then.

    `begun`: what arrived earlier is not judged, so that it need not be complete. `known`: the causes
    at the look before; only a treatment's own traffic ends its silence, not that of the control too.
    """
    causes = []
    start, third = at - _whole(options.silence), _whole(options.silence / 3)
    if not any(arrived(snapshot, v, start, at) for v in (treatment, experiment.control)):
        causes.append(say.no_data(options.silence))
    silent = say.silent(treatment, experiment.control)
    still = silent in known and not arrived(snapshot, treatment, at - third, at)
    if still or _quiet(experiment, treatment, snapshot, at, third):
        causes.append(silent)
    if labels_stalled(experiment, snapshot, at):
        causes.append(say.labels_stalled(experiment.labels.wait))
    if state_incomplete(snapshot, begun):
        causes.append(say.STATE_INCOMPLETE)
    return tuple(causes)


def state_incomplete(snapshot: Snapshot, begun: int) -> bool:
    """Whether some of what arrived since `begun` (epoch ms) was lost before it was counted."""
    return snapshot.complete_since is not None and snapshot.complete_since > begun


def labels_stalled(experiment: Experiment, snapshot: Snapshot, at: int) -> bool:
    """Whether predictions arrive, but none has met its outcome for as long as that may take.

    Rare outcomes are missed only where enough of them were to be expected from the time before.
    """
    width = min(_whole(experiment.labels.wait), LONGEST_WINDOW)
    if HOUR / 2 < width <= HOUR:  # twice as far back fine panes are no longer kept
        width = HOUR + COARSE_WIDTH
    end = settled(at, width)
    predictions, labelled = _met(snapshot, end, width)
    predicted_before, labelled_before = _met(snapshot, end - width, width)
    if labelled or predictions < LABELS_EXPECTED or not predicted_before:
        return False
    return not labelled_before or predictions * labelled_before / predicted_before >= ENOUGH


def _met(snapshot: Snapshot, end: int, width: int) -> tuple[int, int]:
    """Predictions of all variants in a window, and how many met their outcome in it."""
    variants = snapshot.variants.values()
    return (
        sum(facts.predictions(end, width) for facts in variants),
        sum(facts.labelled(end, width) for facts in variants),
    )


def silence(
    experiment: Experiment, treatment: str, snapshot: Snapshot, at: int, options: HoldOptions
) -> tuple[str, ...]:
    """Harm, for a treatment that had traffic: now it has none, while control flows.

    A model that crashes emits nothing.
    """
    if _quiet(experiment, treatment, snapshot, at, _whole(options.silence)):
        return (f"{treatment} had no predictions for {options.silence} while control flowed",)
    return ()


def flows(
    experiment: Experiment,
    treatment: str,
    snapshot: Snapshot,
    at: int,
    options: HoldOptions,
    begun: int = 0,
) -> bool:
    """Whether `treatment` got more in the hour before `at`, but since `begun`, than counts as nothing.

    In a new epoch its traffic was taken away before: a few requests prove that some were left over.
    """
    ours, expected = against_intended(experiment, treatment, snapshot, max(begun, at - HOUR), at)
    return ours > max(options.leftover * expected, STRAYS if begun else 0)


def _quiet(experiment: Experiment, treatment: str, snapshot: Snapshot, at: int, width: int) -> bool:
    if arrived(snapshot, treatment, at - width, at):
        return False
    flow = arrived(snapshot, experiment.control, at - width, at)
    # Before a step of a ramp a treatment was meant to get less than it is now.
    times = [at - width, *(int(step.at) for step in experiment.ramp if at - width < step.at <= at)]
    splits = [experiment.split_at(time) for time in times]
    least = min(split[treatment] / split[experiment.control] for split in splits)
    return flow * least >= ENOUGH


def leftover_share(
    experiment: Experiment, treatment: str, snapshot: Snapshot, since: int, at: int
) -> float | None:
    """What `treatment` still gets, as a part of what it was meant to get.

    Over the shortest stretch before `at`, of a minute or twice that and so on, but not from before
    `since`, in which enough was to be expected; None while there is no such stretch.
    """
    width = MINUTE
    while True:
        start = max(since, at - width)
        ours, expected = against_intended(experiment, treatment, snapshot, start, at)
        if expected >= ENOUGH and at - start >= MINUTE:
            return ours / expected
        if start == since or width >= LONGEST_WINDOW:
            return None
        width *= 2


def against_intended(
    experiment: Experiment, treatment: str, snapshot: Snapshot, since: int, until: int
) -> tuple[int, float]:
    """How many predictions `treatment` got, and how many of those of it and control it was meant to.

    Of a treatment that was meant to get none, all of them.
    """
    ours = arrived(snapshot, treatment, since, until)
    theirs = arrived(snapshot, experiment.control, since, until)
    split = experiment.split_at(until)
    weight, control = split[treatment], split[experiment.control]
    return ours, (ours + theirs) * (weight / (weight + control) if weight else 1.0)


def _whole(width: float) -> int:
    """`width` in whole panes, at least one."""
    return max(FINE_WIDTH, round(width / FINE_WIDTH) * FINE_WIDTH)
