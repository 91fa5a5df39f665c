"""What is wrong with an experiment's settings, though each field is right by itself. Pure."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from abmonitor.convert import Check, Problem, UnknownFieldError, known
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, Experiment, Labels


if TYPE_CHECKING:
    from abmonitor.settings import ExperimentSettings


TEN_SECONDS = 10_000

LONGEST_LANDMARK = 49 * DAY
"""How late a label came is kept in 32 bits of milliseconds."""


def repeated(items: tuple[Any, ...], where: str, field: str) -> Iterator[Problem]:
    """Find names that a list has twice; `where` is the list, and `field` gives its items names."""
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            name = item.name
        except UnknownFieldError:
            continue
        if first.setdefault(name, index) != index:
            yield (
                (where, index, field),
                f"{name!r} is there already, in",
                (where, first[name], field),
            )


def _variants(experiment: Experiment) -> Iterator[Problem]:
    control, variants = experiment.control, experiment.variants
    if control not in variants:
        yield ("control",), f"{control!r} is not one of the variants: {', '.join(variants)}"
    elif len(variants) < 2:
        yield ("variants",), f"expected a treatment beside the control {control!r}"
    elif not variants[control] > 0:
        yield ("variants", control), "expected a share of the traffic for the control, got 0"
    if not math.isfinite(sum(variants.values())):
        yield ("variants",), "expected shares of the traffic with a finite sum"


def _ramp(experiment: Experiment) -> Iterator[Problem]:
    before: int | None = None
    for index, step in enumerate(experiment.ramp):
        if before is not None and step.at <= before:
            yield ("ramp", index, "at"), f"expected a time after the step before, got {step.at}"
        before = step.at
        for name in step.variants:
            if name not in experiment.variants:
                known = ", ".join(experiment.variants)
                yield ("ramp", index, "variants", name), f"{name!r} is not one of {known}"
        if not step.variants.get(experiment.control, 0.0) > 0:
            yield ("ramp", index, "variants"), "expected a share of the traffic for the control"
        if not math.isfinite(sum(step.variants.values())):
            yield ("ramp", index, "variants"), "expected shares of the traffic with a finite sum"


def _testing(experiment: "ExperimentSettings") -> Iterator[Problem]:
    testing = experiment.testing
    if testing.max_duration is not None and testing.max_duration < testing.min_duration:
        yield (
            ("testing", "max_duration"),
            (
                f"expected at least min_duration, {testing.min_duration}, before which nothing passes,"
                f" got {testing.max_duration}"
            ),
        )
    labelled = [
        found
        for found in experiment.guardrails
        if found.test == "sequential" and getattr(CATALOGUE.get(found.metric), "labelled", False)
    ]
    if experiment.testing.blind_budget is not None and not labelled:
        yield (
            ("testing", "blind_budget"),
            "expected a sequential guardrail on labels, whose verdict is waited for",
        )


def _profitability(experiment: Experiment) -> Iterator[Problem]:
    problem = experiment.profitability and experiment.profitability.problem()
    if problem:
        yield ("profitability",), problem


def _windows(experiment: Experiment) -> Iterator[Problem]:
    for index, window in enumerate(experiment.windows):
        if window % TEN_SECONDS or not 0 < window <= 8 * DAY:
            wrong = f"expected a multiple of 10s, above 0 and at most 8d, got {window}"
            yield ("windows", index), wrong
        if window in experiment.windows[:index]:
            yield ("windows", index), f"the window {window} is listed twice"


def _guardrails(experiment: "ExperimentSettings") -> Iterator[Problem]:
    for index, guardrail in enumerate(experiment.guardrails):
        where = "guardrails", index
        problems = guardrail.problems(experiment)
        yield from known(((*where, field), message) for field, message in problems)
    yield from repeated(experiment.guardrails, "guardrails", "metric")


def _horizon(labels: Labels) -> Iterator[Problem]:
    if not labels.horizon > 0:
        yield ("horizon",), f"expected a time above 0, got {labels.horizon}"


def _landmarks(labels: Labels) -> Iterator[Problem]:
    before = 0
    for index, landmark in enumerate(labels.landmarks):
        if not before < landmark < labels.horizon or landmark > LONGEST_LANDMARK:
            longest = min(labels.horizon, LONGEST_LANDMARK)
            yield (
                ("landmarks", index),
                f"expected times in order, above 0 and below {Duration(longest)}, got {landmark}",
            )
        before = int(landmark)


def _cohort(labels: Labels) -> Iterator[Problem]:
    if labels.cohort % TEN_SECONDS or not labels.cohort > 0:
        yield ("cohort",), f"expected a multiple of 10s, above 0, got {labels.cohort}"


EXPERIMENT: tuple[Check, ...] = (
    _variants,
    _ramp,
    _testing,
    _profitability,
    _windows,
    _guardrails,
)
LABELS: tuple[Check, ...] = (_horizon, _landmarks, _cohort)
