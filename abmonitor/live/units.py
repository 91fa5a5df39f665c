"""Whether recent predictions name the units that their experiment is randomised by. Pure."""

from collections.abc import Iterator, Sequence

from abmonitor.live.events import Read
from abmonitor.live.findings import Finding, share
from abmonitor.settings import ExperimentSettings, Settings
from stream.events import Prediction


def unit_findings(reads: Sequence[Read], settings: Settings) -> Iterator[Finding]:
    """What is to be said of each experiment that is randomised by unit and has recent predictions."""
    for experiment in settings.experiments:
        if experiment.randomised_by == "unit":
            yield from _units(reads, experiment)


def _units(reads: Sequence[Read], experiment: ExperimentSettings) -> Iterator[Finding]:
    seen: dict[str, set[tuple[str, int]]] = {}
    variants: dict[str, set[str]] = {}
    predictions = unitless = 0
    for each in reads:
        for record, event in each.told(Prediction):
            if not isinstance(event, Prediction) or event.experiment != experiment.name:
                continue
            predictions += 1
            if not event.unit_id:
                unitless += 1
                continue
            seen.setdefault(event.unit_id, set()).add((each.sample.topic, record.partition))
            variants.setdefault(event.unit_id, set()).add(event.variant)
    if not predictions:
        return
    if unitless:
        told = f"predictions without unit_id: {share(unitless, predictions)}; units are what is randomised,"
        told += " so that the split and the tests at arrival cannot be judged. Send unit_id"
        yield Finding("error", "unit_id", experiment.name, told)
    spread = sum(len(places) > 1 for places in seen.values())
    if spread:
        told = f"units in several partitions: {share(spread, len(seen))}; each partition counts them for"
        told += " itself, so that they count more than once. Use unit_id as the key of both events"
        yield Finding("warning", "unit_key", experiment.name, told)
    elif seen:
        told = "each unit stays in one partition"
        yield Finding("ok", "unit_key", experiment.name, told)
    crossed = sum(len(names) > 1 for names in variants.values())
    if crossed:
        told = f"units in several variants: {share(crossed, len(seen))}; the experiment is randomised by"
        told += " unit, so that each should stay in one (but for a change of the split)"
        yield Finding("warning", "unit_variant", experiment.name, told)
