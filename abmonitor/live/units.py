"""Whether recent predictions come from the units that their experiment says it is randomised by. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from abmonitor.live.events import Read
from abmonitor.live.findings import Finding, share
from abmonitor.settings import Settings
from stream.events import Prediction


RECURRING = 20
"""Units that must have come again before it can be told whether they stay in one variant."""


@dataclass(slots=True)
class _Units:
    """What is seen of one experiment's units."""

    predictions: int = 0
    unitless: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    variants: dict[str, set[str]] = field(default_factory=dict)


def unit_findings(reads: Sequence[Read], settings: Settings) -> Iterator[Finding]:
    """What is to be said of the units of each experiment that has recent predictions."""
    for experiment in settings.experiments:
        seen = _seen(reads, experiment.name)
        if experiment.randomised_by == "unit" and seen.predictions:
            yield from _by_unit(seen, experiment.name)
        elif seen.counts:
            yield from _by_request(seen, experiment.name)


def _seen(reads: Sequence[Read], experiment: str) -> _Units:
    seen = _Units()
    for each in reads:
        for record, event in each.told(Prediction):
            if not isinstance(event, Prediction) or event.experiment != experiment:
                continue
            seen.predictions += 1
            if not event.unit_id:
                seen.unitless += 1
                continue
            seen.counts[event.unit_id] += 1
            place = each.sample.topic, record.partition
            seen.places.setdefault(event.unit_id, set()).add(place)
            seen.variants.setdefault(event.unit_id, set()).add(event.variant)
    return seen


def _by_unit(seen: _Units, name: str) -> Iterator[Finding]:
    if seen.unitless:
        told = f"predictions without unit_id: {share(seen.unitless, seen.predictions)}; units are what is"
        told += (
            " randomised, so that the split and the tests at arrival cannot be judged. Send unit_id"
        )
        yield Finding("error", "unit_id", name, told)
    spread = sum(len(places) > 1 for places in seen.places.values())
    if spread:
        told = f"units in several partitions: {share(spread, len(seen.places))}; each partition counts them"
        told += (
            " for itself, so that they count more than once. Use unit_id as the key of both events"
        )
        yield Finding("warning", "unit_key", name, told)
    elif seen.places:
        yield Finding("ok", "unit_key", name, "each unit stays in one partition")
    crossed = sum(len(variants) > 1 for variants in seen.variants.values())
    if crossed:
        told = f"units in several variants: {share(crossed, len(seen.variants))}; the experiment is randomised"
        told += " by unit, so that each should stay in one (but for a change of the split)"
        yield Finding("warning", "unit_variant", name, told)


def _by_request(seen: _Units, name: str) -> Iterator[Finding]:
    """Units that come again and never change the variant are what is randomised, whatever is declared."""
    again = [unit for unit, count in seen.counts.items() if count > 1]
    if len(again) < RECURRING or any(len(seen.variants[unit]) > 1 for unit in again):
        return
    told = f"{len(again):,} units came again, each always in one variant: it looks as if units are randomised,"
    told += " but randomised_by says request. Then predictions are not independent, and good models may be"
    told += " rolled back. Declare randomised_by: unit"
    yield Finding("warning", "randomised_by", name, told)
