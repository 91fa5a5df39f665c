"""Versions: when each version of a variant was last seen, of those that events name. Pure.

They stand in the shard's meta, which every commit writes anyway: so they are as exact as the counts, and cost
nothing where events have no version.
"""

from collections.abc import Iterable, Mapping

from metrics.layout import Versions, newest_versions
from stream.events import Prediction
from stream.screen import ScreenedPrediction


LONGEST = 64
"""Bytes. Longer versions are not remembered: where they were cut, two could be taken for one."""


def note_versions(
    known: Versions, new: Iterable[ScreenedPrediction], named: Mapping[int, Prediction]
) -> None:
    """Add to `known` what the new predictions say; `named` has those with a version, by record."""
    latest: dict[tuple[str, str, str], int] = {}
    for event in new:
        said = named.get(event.record)
        if said is not None and said.version:
            # Within a batch arrivals never step back.
            latest[said.experiment, said.variant, said.version] = event.arrival
    seen: dict[tuple[str, str], dict[str, int]] = {}
    for (experiment, variant, version), arrival in latest.items():
        if len(version.encode()) <= LONGEST:
            seen.setdefault((experiment, variant), {})[version] = arrival
    for (experiment, variant), versions in seen.items():
        variants = known.setdefault(experiment, {})
        variants[variant] = newest_versions(variants.get(variant, {}), versions)
