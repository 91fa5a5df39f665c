"""Hints: what a person should look at, in sentences, because scores, labels or the world may have changed.

They have no error guarantee and decide nothing: they are looked at again and again without correction,
and one unit's many predictions count as independent. Pure.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from metrics.changes import TOLERANCE, Series
from metrics.drift import Drift, Share
from metrics.experiment import DAY, Experiment
from metrics.moment import Moment
from metrics.stability import LARGE, Psi


MIN_SHARE = 100
"""Fewer predictions say nothing about a share of labels."""
LABEL_Z, LABEL_GAP = 4.0, 0.02
"""Shares of labels differ strongly beyond both: standard errors, and difference."""

HintKind = (
    Literal["score_control", "score_reference", "label_rate", "missing_labels", "unwatched"]
    | Series
)


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that a person should look at; it has no error guarantee."""

    kind: HintKind
    variant: str
    value: float | None
    limit: float | None
    """What the value is above."""
    sentence: str


def hints_of(experiment: Experiment, found: Drift) -> tuple[Hint, ...]:
    """The hints that raw numbers give: hints about scores first, then labels, then the control."""
    made = _score_hints(experiment, found), _label_hints(experiment, found)
    return tuple(chain(*made, _change_hints(experiment, found)))


def _score_hints(experiment: Experiment, found: Drift) -> Iterator[Hint]:
    for name, index in found.against_control.items():
        what = f"scores of {name} differ from those of {experiment.control} in the last {{0}}"
        why = "two models may be meant to score differently; if not, compare what they are fed"
        yield from _score_hint("score_control", name, index, what, why)
    for name, index in found.against_reference.items():
        what = f"scores of {name} in the last {{0}} differ from those of its first kept {{0}}"
        why = "what it is asked, or fed, may have changed"
        if index is not None and index.width < DAY:
            why += "; or only the time of day, which whole days would tell"
        yield from _score_hint("score_reference", name, index, what, why)


def _score_hint(
    kind: HintKind, variant: str, index: Psi | None, what: str, why: str
) -> Iterator[Hint]:
    if index is not None and index.value > index.limit:
        size = "large" if index.value > LARGE else "moderate"
        sentence = (
            f"hint: {what.format('day' if index.width == DAY else 'hour')}: a {size} shift, "
            f"stability index {index.value:.2f}, worth a hint above {index.limit:.2f}; {why}"
        )
        yield Hint(kind, variant, index.value, index.limit, sentence)


def _label_hints(experiment: Experiment, found: Drift) -> Iterator[Hint]:
    came = "labels that came in the last hour, per prediction"
    missing = "predictions of the last day that never got a label"
    why = "compare how outcomes of the two are sent"
    if experiment.labels.when_missing == "negative":
        missing += " (which counts as no)"
        why += "; where only a yes is sent, the two may differ in truth"
    for name in found.against_control:
        if name in found.steady:
            yield from _label_hint("label_rate", experiment, name, found.label_rate, came, why)
        yield from _label_hint(
            "missing_labels", experiment, name, found.missing_labels, missing, why
        )


def _label_hint(
    kind: HintKind,
    experiment: Experiment,
    name: str,
    shares: Mapping[str, Share | None],
    what: str,
    why: str,
) -> Iterator[Hint]:
    ours, theirs = shares[name], shares[experiment.control]
    if ours is None or theirs is None or not _differ(ours, theirs):
        return
    sentence = f"hint: {what}: {ours.value:.1%} of {name}, {theirs.value:.1%} of {experiment.control}; {why}"
    yield Hint(kind, name, abs(ours.value - theirs.value), LABEL_GAP, sentence)


def _differ(ours: Share, theirs: Share) -> bool:
    """By a two-proportion z-test beyond `LABEL_Z`, and by more than `LABEL_GAP`."""
    if min(ours.of, theirs.of) < MIN_SHARE:
        return False
    gap, of = abs(ours.value - theirs.value), ours.of + theirs.of
    pooled = (ours.some + theirs.some) / of
    error = math.sqrt(pooled * (1 - pooled) * (1 / ours.of + 1 / theirs.of))
    return gap > LABEL_GAP and gap > LABEL_Z * error


def _change_hints(experiment: Experiment, found: Drift) -> Iterator[Hint]:
    control = experiment.control
    if found.unwatched is not None:
        sentence = (
            f"hint: whether the positive rate and mean score of {control} changed is not watched: "
            f"{found.unwatched}; pip install '.[drift]' where abmonitor is"
        )
        yield Hint("unwatched", control, None, None, sentence)
    for series, change in found.changes.items():
        if change is None or change.distance <= TOLERANCE:  # it came back
            continue
        words = f"{abs(change.shift):.4g} {'higher' if change.shift > 0 else 'lower'}"
        sentence = (
            f"hint: the {series.replace('_', ' ')} of {control} changed, noticed at "
            f"{Moment(change.at)}: lately {words} than at the same hours of the first kept day; "
            f"the world, or what is logged of it, may have changed for every variant"
        )
        yield Hint(series, control, change.distance, TOLERANCE, sentence)
