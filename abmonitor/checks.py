"""Checks: what settings will need, and what a replay's counts say is wrong with the events. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor import plans
from abmonitor.document import events, join_rate
from abmonitor.replay import Replayed
from abmonitor.settings import ExperimentSettings, Settings
from abmonitor.view import ExperimentView
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR


BYTES_PER_PENDING = 120
"""Redis memory of one remembered prediction, at most (benchmarks/README.md has the measurement)."""
BYTES_PER_LONG_PENDING = 190
"""The same where units, money or landmarks are remembered with it."""

BYTES_PER_PANE = 2_500
"""With a latency histogram; without one, as in cohorts, it is less."""
BYTES_PER_COHORT = 1_100
BYTES_PER_UNIT_BUCKETS = 1_100
"""What sums by unit add to a cohort."""
PANES_KEPT = 2 * 360 + 8 * 144
"""Two hours of ten seconds each, and eight days of ten minutes each."""

GOOD_JOIN_RATE = 0.95
MANY_LEAPS = 20
"""Wrong clocks are few; more records ahead of those that follow mean that the order is wrong."""

SECONDS_BEFORE = 10**11
"""Epoch milliseconds (in 1973) that only epoch seconds lie before."""


def check(settings: Settings) -> dict[str, Any]:
    """What each experiment will need, and what is worth knowing before it starts."""
    return {
        "deployment": settings.deployment,
        "experiments": {found.name: _experiment(found) for found in settings.experiments},
    }


def _experiment(found: ExperimentSettings) -> dict[str, Any]:
    labels, rate = found.labels, found.predictions_per_second
    remembered = None if rate is None else round(rate * labels.remembered / 1000)
    by_unit = found.randomised_by == "unit"
    cohort = BYTES_PER_COHORT + (BYTES_PER_UNIT_BUCKETS if by_unit else 0)
    cohorts = -(-90 * DAY // labels.cohort) * (1 + len(labels.landmarks))
    ledgers = PANES_KEPT * BYTES_PER_PANE + cohorts * cohort
    long = by_unit or found.money is not None or bool(labels.landmarks)
    outlooks = plans.outlooks(found)
    pending = (
        None
        if remembered is None
        else remembered * (BYTES_PER_LONG_PENDING if long else BYTES_PER_PENDING)
    )
    return {
        "control": found.control,
        "treatments": list(found.treatments),
        "unit_profitability": found.q,
        "label_final_after": str(Duration(labels.wait)),
        "id_remembered_for": str(Duration(labels.remembered)),
        "predictions_remembered": remembered,
        "redis_bytes_join_state": pending,
        "redis_bytes_ledgers_90_days": len(found.variants) * ledgers,
        "guardrails": [guardrail.name for guardrail in found.guardrails],
        "plans": [each.document(found.testing.planned) for each in outlooks],
        "warnings": list(_warnings(found, outlooks)),
    }


def _warnings(found: ExperimentSettings, outlooks: list[plans.Outlook]) -> Iterator[str]:
    if not found.guardrails:
        yield "no guardrails: nothing but silence will ever be rolled back"
    if found.profitability is None:
        yield "no profitability: RAP, ROI and profit stay unknown"
    yield from plans.warnings(found, outlooks)
    if found.randomised_by == "unit":
        yield (
            "randomised by unit: units, not predictions, are what the split is checked on, and variances"
            " of metrics on labels are those between units; plans take predictions as independent,"
            " so that units with many predictions need more than they say"
        )
        if any(each.name == "error_rate:sequential" for each in found.guardrails):
            yield (
                "error_rate:sequential: failures of one unit count once a minute; where some units fail"
                " again and again it may alarm falsely: give it a wide margin, or a threshold"
            )
    if found.predictions_per_second is None:
        yield (
            "no predictions_per_second: how much memory predictions need that wait for their label,"
            " and how many days tests take, cannot be told"
        )


def hints(found: Replayed, settings: Settings) -> Iterator[str]:
    """What a person should look at, what went wrong first."""
    if found.source.last is None:
        yield "no events: the files are empty"
        return
    told = events(found.view)
    yield from _rejected(told, found)
    yield from _ignored(told, found, settings)
    yield from _joined(told, found, settings)
    yield from _times(told, found, settings)
    for view in found.view.experiments.values():
        yield from _labels(view)


def _rejected(told: dict[str, Any], found: Replayed) -> Iterator[str]:
    for reason, count in told["rejected_by_reason"].items():
        yield f"rejected, {reason}: {count:,}"
        examples = found.examples.get(reason, [])
        yield from (f"  {example}" for example in examples)
        if count > len(examples):
            yield f"  and {count - len(examples):,} more"


def _ignored(told: dict[str, Any], found: Replayed, settings: Settings) -> Iterator[str]:
    if told["ignored"]:
        known = ", ".join(experiment.name for experiment in settings.experiments)
        yield (
            f"ignored, because their experiment ({', '.join(found.strangers)}) is not configured:"
            f" {told['ignored']:,}; configured: {known}"
        )


def _joined(told: dict[str, Any], found: Replayed, settings: Settings) -> Iterator[str]:
    rate = join_rate(found.view)
    if rate is None:
        if told["predictions"]:
            yield "join rate: there are no outcomes, so no label can become final"
        return
    yield f"join rate: {rate:.1%} of the outcomes met their prediction in time"
    if rate >= GOOD_JOIN_RATE:
        return
    if told["unmatched"]:
        yield (
            f"  outcomes that found no prediction: {told['unmatched']:,}; check that both carry the"
            " same prediction_id, that predictions come from the same stretch of time, and"
            f" early_for ({settings.early_for}: how long an outcome waits for its prediction)"
        )
    if told["late"]:
        waits = ", ".join(
            f"{one.name}: {one.labels.horizon} + {one.labels.grace}" for one in settings.experiments
        )
        yield f"  outcomes that came too late: {told['late']:,}; check horizon and grace ({waits})"


def _times(told: dict[str, Any], found: Replayed, settings: Settings) -> Iterator[str]:
    source = found.source
    if told["rejected_by_reason"].get("clock_leap", 0) > MANY_LEAPS:
        yield "many times are ahead of the records that follow: sort the events by time, oldest first"
    if source.disordered:
        grace = Duration(max(int(one.labels.grace) for one in settings.experiments))
        yield (
            f"events that stand behind later ones by more than the grace of {grace}:"
            f" {source.disordered:,} (by up to {_span(source.disorder)}); sort the events by time, or,"
            " where one file has all predictions and then all outcomes, pass them as two files"
        )
    if source.untimed:
        yield (
            f"events without `time`: {source.untimed:,}; they are taken to be as old as the event"
            " before them: add `time`, or map it in `sources`"
        )
    elif source.last is not None and source.last < SECONDS_BEFORE:
        yield "times lie in 1973 or before: are they seconds? Map them with `unit: s` in `sources`"


def _labels(view: ExperimentView) -> Iterator[str]:
    """Why there are fewer final labels than a person may expect."""
    name, snapshot, labels = view.experiment.name, view.snapshot, view.experiment.labels
    counts = {variant: facts.total.predictions for variant, facts in snapshot.variants.items()}
    for variant, count in counts.items():
        if not count:
            yield f"{name}: no predictions of {variant}"
    wait, last, end = Duration(labels.wait), snapshot.last_outcome, snapshot.watermark
    if last is None or end is None or not any(counts.values()):
        return
    if end - last > labels.wait:
        yield (
            f"{name}: no outcomes in the last {_span(end - last)} of the events; predictions made"
            " since then wait for their labels and are not taken for negative"
        )
    if not any(facts.mature.predictions for facts in snapshot.variants.values()):
        yield (
            f"{name}: no label is final yet: that takes {wait} (horizon + grace) of further events;"
            " if these files have all outcomes that there will be, pass --complete"
        )


def _span(milliseconds: int) -> str:
    """A span of time, without the part that does not matter."""
    unit = 1_000 if milliseconds < HOUR else 60_000
    return str(Duration(milliseconds // unit * unit or milliseconds))
