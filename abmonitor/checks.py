"""Checks: what settings will need, and what a replay's counts say is wrong with the events. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.document import events, join_rate
from abmonitor.replay import Replayed
from abmonitor.settings import ExperimentSettings, Settings
from metrics.duration import Duration
from metrics.experiment import DAY


BYTES_PER_PENDING = 120
"""Redis memory of one remembered prediction, at most (benchmarks/README.md has the measurement)."""

BYTES_PER_LEDGER = 2_500
GOOD_JOIN_RATE = 0.95
MANY_LATE = 0.01


def check(settings: Settings) -> dict[str, Any]:
    """What each experiment will need, and what is worth knowing before it starts."""
    return {
        "deployment": settings.deployment,
        "experiments": {found.name: _experiment(found) for found in settings.experiments},
    }


def _experiment(found: ExperimentSettings) -> dict[str, Any]:
    labels, rate = found.labels, found.predictions_per_second
    remembered = None if rate is None else round(rate * labels.remembered / 1000)
    panes = len(found.variants) * (720 + 8 * 144 + DAY // labels.cohort * 90)
    pending = None if remembered is None else remembered * BYTES_PER_PENDING
    return {
        "control": found.control,
        "treatments": list(found.treatments),
        "unit_profitability": found.q,
        "label_final_after": str(Duration(labels.wait)),
        "id_remembered_for": str(Duration(labels.remembered)),
        "predictions_remembered": remembered,
        "redis_bytes_join_state": pending,
        "redis_bytes_ledgers_90_days": panes * BYTES_PER_LEDGER,
        "guardrails": [guardrail.name for guardrail in found.guardrails],
        "warnings": list(_warnings(found)),
    }


def _warnings(found: ExperimentSettings) -> Iterator[str]:
    if not found.guardrails:
        yield "no guardrails: nothing will ever be rolled back"
    if found.profitability is None:
        yield "no profitability: RAP, ROI and profit stay unknown"
    for guardrail in found.guardrails:
        if guardrail.test == "sequential":
            yield (
                f"{guardrail.name}: sequential tests come with a later version;"
                " until then it stays inconclusive and never rolls back"
            )
    if found.randomised_by == "unit":
        yield (
            "randomised by unit: units are not counted yet, so intervals take predictions as"
            " independent, and a mismatch of the split does not hold"
        )
    if found.predictions_per_second is None:
        yield "no predictions_per_second: the memory for waiting predictions cannot be told"


def hints(found: Replayed, settings: Settings) -> Iterator[str]:
    """What a person should look at, most important first."""
    told = events(found.view)
    if found.first is None:
        yield "no events: the files are empty"
        return
    for reason, examples in sorted(found.examples.items()):
        yield f"rejected, {reason}: {told['rejected_by_reason'].get(reason, 0)}"
        yield from (f"  {example}" for example in examples)
    rate = join_rate(found.view)
    if rate is not None:
        yield f"join rate: {rate:.1%} of the outcomes met their prediction in time"
        if rate < GOOD_JOIN_RATE:
            yield from _join_hints(told, found, settings)
    elif told["predictions"]:
        yield "join rate: there are no outcomes, so no label can become final"
    grace = min(int(experiment.labels.grace) for experiment in settings.experiments)
    if found.disorder > grace:
        yield (
            f"the events are out of order by up to {Duration(found.disorder)}, more than the grace of"
            f" {Duration(grace)}: sort them by time, or pass predictions and outcomes as two files"
        )
    if found.last is not None and found.last < 10**11:
        yield "times lie in 1973 or before: are they seconds? Map them with `unit: s` in `sources`"


def _join_hints(told: dict[str, Any], found: Replayed, settings: Settings) -> Iterator[str]:
    if told["unmatched"]:
        yield (
            f"  {told['unmatched']} outcomes found no prediction: check that both carry the same"
            " prediction_id, that predictions come from the same stretch of time, and"
            f" early_for ({settings.early_for})"
        )
    if told["late"]:
        waits = ", ".join(
            f"{one.name}: {one.labels.horizon} + {one.labels.grace}" for one in settings.experiments
        )
        yield f"  {told['late']} outcomes came too late: check horizon and grace ({waits})"
    if told["ignored"]:
        yield f"  {told['ignored']} events belong to experiments that are not configured"
