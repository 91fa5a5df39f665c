"""Quarantine: versions of a model that were rolled back are not tried again without a person's word. Pure."""

from collections.abc import Mapping

import msgspec

from alerts.book import Book, Decision
from alerts.causes import in_quarantine
from alerts.health import STRAYS
from alerts.standing import Sighting, Standing
from metrics.experiment import MINUTE
from metrics.snapshot import Snapshot


LATELY = 10 * MINUTE
"""What was seen so long before the newest traffic belongs to what is deployed now."""

VERSIONS_KEPT = 32
"""Versions of a treatment that are kept in quarantine."""


def versions_of(snapshot: Snapshot, treatment: str) -> Mapping[str, int]:
    """When each version of `treatment` was last seen (arrival time)."""
    facts = snapshot.variants.get(treatment)
    return facts.versions if facts else {}


def lately(versions: Mapping[str, int], at: int, begun: int = 0) -> tuple[str, ...]:
    """The versions that served when `at`, or when there was traffic last; but not before `begun`.

    What was seen after `at` may have served then, too: only the newest sighting is known.
    """
    seen = {name: min(when, at) for name, when in versions.items() if when >= begun}
    newest = max(seen.values(), default=0)
    return tuple(sorted(name for name, when in seen.items() if when >= newest - LATELY))


def blocking(book: Book, treatment: str, versions: Mapping[str, int]) -> dict[str, int]:
    """The newest versions that were seen, as far as they are in quarantine, and since when."""
    known = book.quarantined.get(treatment, {})
    newest = max(versions.values(), default=0)
    return {
        name: known[name]
        for name, when in sorted(versions.items())
        if when == newest and name in known
    }


def after(
    book: Book,
    decision: Decision,
    before: Standing,
    versions: Mapping[str, int],
    barred: Mapping[str, int],
) -> Book:
    """The book after a decision: a rollback puts what served into quarantine.

    `barred` is what `blocking` found, `before` the standing until then: where a treatment is armed again
    although a version in quarantine serves, that was forced, and what serves is let out.
    """
    treatment, at = decision.treatment, decision.at
    known = book.quarantined.get(treatment, {})
    if decision.action == "rollback":
        served = lately(versions, at, before.begun)
        rest = {name: since for name, since in known.items() if name not in served}
        mine = rest | dict.fromkeys(served, at)
        return _with(book, treatment, dict(list(mine.items())[-VERSIONS_KEPT:]))
    if decision.action == "rearm" and (barred or before.sightings):
        serving = lately(versions, at)
        mine = {name: since for name, since in known.items() if name not in serving}
        return _with(book, treatment, mine)
    return book


def _with(book: Book, treatment: str, mine: dict[str, int]) -> Book:
    others = {name: known for name, known in book.quarantined.items() if name != treatment}
    quarantined = {**others, treatment: mine} if mine else others
    return msgspec.structs.replace(book, quarantined=quarantined)


def sighted(
    standing: Standing, known: Mapping[str, int], versions: Mapping[str, int], at: int
) -> dict[str, Sighting]:
    """Which versions in quarantine are seen in the epoch: by looks at arrivals, up to that at `at`.

    One that was not seen for a while is forgotten.
    """
    found = {}
    for name in known:
        before, seen = standing.sightings.get(name), versions.get(name, 0)
        if seen > (before.seen if before else standing.begun):
            found[name] = Sighting(seen, (before.times if before else 0) + 1)
        elif before and at - before.seen <= LATELY:
            found[name] = before
    return found


def causes(sightings: Mapping[str, Sighting], known: Mapping[str, int]) -> tuple[str, ...]:
    """Why a treatment holds whose traffic, more than strays, comes from versions in quarantine."""
    return tuple(
        in_quarantine(name, known[name])
        for name in sorted(sightings)
        if name in known and sightings[name].times > STRAYS
    )
