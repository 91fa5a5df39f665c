"""Phases: stretches with one intended split, what is assigned in them, and whether it fits. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from alerts.book import Book, Phase, Stretch
from alerts.health import STRAYS, HoldOptions, flows, leftover_share
from alerts.standing import ACTING, Standing, State
from metrics.experiment import MINUTE, Experiment
from metrics.layout import RETENTION, Kind
from metrics.ledger import Ledger, total
from metrics.snapshot import LONGEST_FINE_WINDOW, Snapshot
from metrics.srm import sample_ratio


MISMATCH = 0.001
"""How often a sample ratio mismatch is found that is none, in all phases of an epoch together."""

SETTLING = MINUTE
"""After a change of the split, how long routers may take to follow; it is not counted."""

PHASES_KEPT = 100

_LEAVING = {State.ROLLING_BACK, State.VERIFYING, State.ROLLED_BACK, State.ENDED}
"""States in which nobody can tell what a treatment gets; after a failed rollback it gets what it did."""

CROSSING = 0.001
"""The part of all units that may be seen in two variants: ids are shared, caches are stale."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Follows the split of one experiment; holds what was declared, no state."""

    experiment: Experiment
    options: HoldOptions

    def advance(self, book: Book, snapshot: Snapshot, since: int, at: int) -> Book:
        """The book with what arrived in [since, at), and with the split that is intended at `at`."""
        book = self._phased(book, snapshot, since, at)
        if book.phase is None:
            return book
        names, first = self.experiment.variants, max(since, book.phase.since)
        came = {name: between(snapshot, name, first, at) for name in names}
        seen = {
            name: book.seen.get(name, 0) + self._new(book, snapshot, name, since, at)
            for name in self.experiment.treatments
        }
        phase = counted(self.experiment, book.phase, came)
        book = msgspec.structs.replace(book, looked_at=at, phase=phase, seen=seen)
        return msgspec.structs.replace(book, mismatched=tuple(self._mismatched(book)))

    def _new(self, book: Book, snapshot: Snapshot, treatment: str, since: int, at: int) -> int:
        """Predictions of `treatment` in [since, at) that belong to its epoch."""
        begun = book.standings.get(treatment, Standing()).begun
        return between(snapshot, treatment, max(since, begun), at).predictions

    def _phased(self, book: Book, snapshot: Snapshot, since: int, at: int) -> Book:
        split, phase = self._split(book, snapshot, at), book.phase
        if phase is None:
            return msgspec.structs.replace(book, phase=Phase(since=since, split=split))
        if phase.split == split:
            return book
        return msgspec.structs.replace(
            book,
            phase=phase.after(split, max(at, phase.since) + SETTLING),
            past=ended(book, since),
        )

    def _split(self, book: Book, snapshot: Snapshot, at: int) -> dict[str, float]:
        """The split that is intended now.

        The traffic of a treatment that was rolled back goes to the control. While that of another one
        is on its way, has yet to begin or was given up, nobody can tell the control's share.
        """
        split, control = self.experiment.split_at(at), self.experiment.control
        known = book.phase.split if book.phase else {}
        moving = False
        for treatment in self.experiment.treatments:
            standing = book.standings.get(treatment, Standing())
            began = known.get(treatment, 0) > 0 or flows(
                self.experiment, treatment, snapshot, at, self.options, standing.begun
            )
            left = self._left(standing, treatment, snapshot, at)
            if left is not None and left <= self.options.leftover:
                split[control] += split[treatment]
                split[treatment] = 0.0
            elif (left is None and standing.state in _LEAVING) or not began:
                moving = moving or split[treatment] > 0
                split[treatment] = 0.0
        return split | {control: 0.0} if moving else split

    def _left(
        self, standing: Standing, treatment: str, snapshot: Snapshot, at: int
    ) -> float | None:
        """What is left of its traffic once a treatment was rolled back, as a part of what was intended.

        Where nobody has verified that (a replay) the traffic itself tells. None for any other treatment.
        """
        if standing.state is not State.ROLLED_BACK:
            return None
        if standing.verified:
            return 0.0
        return leftover_share(self.experiment, treatment, snapshot, standing.ordered_at or 0, at)

    def _mismatched(self, book: Book) -> Iterator[str]:
        """Treatments whose share is not the intended one; a person has to clear it."""
        for treatment in self.experiment.treatments:
            p_value = None
            if book.phase is not None:
                p_value = mismatch(treatment, self.experiment.control, book.phase)
            limit = mismatch_limit(book, len(self.experiment.treatments))
            wrong = p_value is not None and p_value < limit
            if treatment in book.mismatched or wrong:
                yield treatment


def ended(book: Book, at: int) -> tuple[Stretch, ...]:
    """The phases that are over once the current one ends at `at` (epoch ms)."""
    phase = book.phase
    if phase is None:
        return book.past
    over = Stretch(since=phase.since, until=max(at, phase.since), split=phase.split)
    return (*book.past, over)[-PHASES_KEPT:]


def split_without(book: Book, treatment: str, control: str) -> dict[str, float]:
    """The shares of the traffic that are intended once `treatment` is rolled back; they add up to 1.

    What it got goes to the control, as does that of others on their way out. Empty where the control's
    share cannot be told.
    """
    split = dict(book.phase.split) if book.phase else {}
    if not split.get(control, 0) > 0:
        return {}
    leaving = ACTING | {State.ROLLED_BACK}
    for name in split:
        out = book.standings.get(name, Standing()).state in leaving or name == treatment
        if out and name != control:
            split[control] += split[name]
            split[name] = 0.0
    whole = sum(split.values())
    return {name: weight / whole for name, weight in split.items()}


def mismatch_limit(book: Book, treatments: int) -> float:
    """The p-value below which the current phase has a mismatch with one of the treatments.

    Its part of `MISMATCH`, which all phases and treatments share.
    """
    phases = len(book.past) + 1
    return MISMATCH / (phases * (phases + 1)) / treatments


def between(snapshot: Snapshot, variant: str, since: int, until: int) -> Ledger:
    """What arrived of `variant` in [since, until), as far as fine panes are kept."""
    facts, since = snapshot.variants[variant], max(since, until - RETENTION[Kind.FINE])
    starts = range(since, until, LONGEST_FINE_WINDOW)
    parts = [(start, min(start + LONGEST_FINE_WINDOW, until)) for start in starts]
    return total(facts.window(end, end - start) for start, end in parts)


def counted(experiment: Experiment, phase: Phase, arrived_since: Mapping[str, Ledger]) -> Phase:
    """The phase with what arrived since the look before: predictions, or units of the sample."""
    by_unit = experiment.randomised_by == "unit"
    counts = {
        variant: phase.counts.get(variant, 0) + (found.units if by_unit else found.predictions)
        for variant, found in arrived_since.items()
    }
    return msgspec.structs.replace(
        phase,
        counts=counts,
        crossed=phase.crossed + sum(found.crossed for found in arrived_since.values()),
        unitless=phase.unitless + sum(found.unitless for found in arrived_since.values()),
    )


def mismatch(treatment: str, control: str, phase: Phase) -> float | None:
    """The p-value of the split between `treatment` and `control`, good at every look.

    None where one of them has no share, or where units are randomised and predictions name none.
    """
    if unnamed(phase):
        return None
    both = (treatment, control)
    found = sample_ratio(
        {variant: phase.counts.get(variant, 0) for variant in both},
        {variant: phase.split.get(variant, 0.0) for variant in both},
    )
    return None if found is None else found.p_value


def unnamed(phase: Phase) -> bool:
    """Whether more than strays of the predictions lack the unit that is randomised by."""
    return phase.unitless > STRAYS + CROSSING * (phase.known + sum(phase.counts.values()))


def mixed(phase: Phase) -> bool:
    """Whether more units were seen in two variants than a change of the split can explain."""
    known = phase.known + sum(phase.counts.values())
    return phase.crossed > STRAYS + (CROSSING + phase.moved) * known
