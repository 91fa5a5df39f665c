"""Cohorts: the mature cohorts of an epoch as sequential tests take them, and the phase of each. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alerts.book import Book, Stretch
from alerts.standing import Standing
from metrics.compare import Pair
from metrics.evidence import LEFT_OUT
from metrics.experiment import Experiment
from metrics.facts import Facts, Rows
from metrics.ledger import Ledger, total
from metrics.snapshot import Panes, Snapshot


Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Arms:
    """What matured of a treatment and of its control, cohort by cohort."""

    starts: Sequence[int]
    """When each cohort began (epoch ms, arrival time); cohorts in which nothing arrived are left out."""
    treatment: Facts
    control: Facts
    buckets: tuple[Ints, Ints]
    """Sums by unit of treatment and control, over all these cohorts; empty without units."""
    strata: Ints
    """The stretch with one split that each cohort lies in, shape (cohorts,)."""


@dataclass(frozen=True, slots=True)
class CohortView:
    """Sees one experiment's cohorts; remembers only what ledgers were turned into."""

    experiment: Experiment
    _rows: dict[int, Rows] = field(default_factory=dict)

    def arms(
        self,
        book: Book,
        treatment: str,
        snapshot: Snapshot,
        begun: int,
        until: int,
        landmark: int,
    ) -> Arms:
        """The cohorts of [begun, until) with the labels of `landmark`, the final ones where that is 0."""
        both = [
            snapshot.variants[variant].matured(landmark)
            for variant in (treatment, self.experiment.control)
        ]
        width = int(self.experiment.labels.cohort)
        starts = sorted(
            start for start in {*both[0], *both[1]} if begun <= start and start + width <= until
        )
        rows = self._rows.setdefault(landmark, Rows(self.experiment.labels))
        names = (treatment, self.experiment.control)
        facts = [rows.of(name, panes, starts) for name, panes in zip(names, both, strict=True)]
        buckets = [_buckets(panes, starts) for panes in both]
        strata = strata_of(book, treatment, self.experiment, starts, width)
        return Arms(starts, facts[0], facts[1], (buckets[0], buckets[1]), strata)


def pairs(book: Book, treatment: str, experiment: Experiment, snapshot: Snapshot) -> list[Pair]:
    """What matured of treatment and control in the treatment's epoch, by stretch with one split.

    One empty pair where nothing did.
    """
    both = [snapshot.variants[name] for name in (treatment, experiment.control)]
    width = int(experiment.labels.cohort)
    begun = book.standings.get(treatment, Standing()).begun
    starts = sorted({*both[0].cohorts, *both[1].cohorts})
    strata = strata_of(book, treatment, experiment, starts, width)
    known = [(at, n) for at, n in zip(starts, strata.tolist(), strict=True) if n != LEFT_OUT]
    wanted = [(at, n) for at, n in known if at >= begun]
    if len(wanted) == len(starts) and len({n for _, n in wanted}) < 2:
        return [(both[0].mature, both[1].mature)]
    found = [
        tuple(
            total(facts.cohorts[at] for at, n in wanted if n == stratum and at in facts.cohorts)
            for facts in both
        )
        for stratum in sorted({n for _, n in wanted})
    ]
    return [(ours, theirs) for ours, theirs in found] or [(Ledger(), Ledger())]


@dataclass(frozen=True, slots=True)
class _Basis:
    """What `pairs` rests on; what all cohorts add up to follows from them."""

    cohorts: tuple[Panes, Panes]
    begun: int
    stretches: list[Stretch]

    def is_as(self, other: "_Basis") -> bool:
        """Whether `other` gives the same pairs. A snapshot never changes: other cohorts, other mappings."""
        same = all(ours is theirs for ours, theirs in zip(self.cohorts, other.cohorts, strict=True))
        return same and (self.begun, self.stretches) == (other.begun, other.stretches)


@dataclass(frozen=True, slots=True)
class Pairs:
    """The `pairs` of one experiment, added up anew only when cohorts or stretches have changed."""

    experiment: Experiment
    _known: dict[str, tuple[_Basis, Sequence[Pair]]] = field(default_factory=dict)

    def of(self, book: Book, treatment: str, snapshot: Snapshot) -> Sequence[Pair]:
        """What `pairs` gives, for any book and snapshot of a `Reader`; not to be changed."""
        ours, theirs = (snapshot.variants[name] for name in (treatment, self.experiment.control))
        begun = book.standings.get(treatment, Standing()).begun
        basis = _Basis((ours.cohorts, theirs.cohorts), begun, stretches_of(book, self.experiment))
        known = self._known.get(treatment)
        if known is None or not basis.is_as(known[0]):
            known = basis, pairs(book, treatment, self.experiment, snapshot)
            self._known[treatment] = known
        return known[1]


def _buckets(panes: Mapping[int, Ledger], starts: Sequence[int]) -> Ints:
    found = [panes[start].buckets for start in starts if start in panes]
    sized = [each for each in found if each.size]
    return np.sum(sized, axis=0) if sized else np.zeros((0, 0), dtype=np.int64)


def strata_of(
    book: Book, treatment: str, experiment: Experiment, starts: Sequence[int], width: int
) -> Ints:
    """Number the stretches in which treatment and control had one proportion.

    One whose proportion is not known is a stretch of its own: it was one and the same all the time, which
    is all that a comparison within it needs. A cohort that lies in two is left out.
    """
    stretches = stretches_of(book, experiment)
    shares = [_share(each.split, treatment, experiment.control) for each in stretches]
    numbers: list[int] = []
    for at, share in enumerate(shares):
        same = at > 0 and share is not None and share == shares[at - 1]
        numbers.append(numbers[-1] if same else at)
    firsts = np.array([each.since for each in stretches], dtype=np.int64)
    overs = np.array([each.until for each in stretches], dtype=np.int64)
    stretch, begins = np.array(numbers, dtype=np.int64), np.asarray(starts, dtype=np.int64)
    first = np.searchsorted(firsts, begins, side="right") - 1
    last = np.searchsorted(firsts, begins + width - 1, side="right") - 1
    # Between two stretches with one proportion nothing is left out, whatever lies between them.
    whole = (stretch[first] == stretch[last]) & (begins + width <= overs[last])
    return np.where(whole, stretch[first], LEFT_OUT)


def stretches_of(book: Book, experiment: Experiment) -> list[Stretch]:
    """All stretches with one split, without end to both sides; what came before any look is as planned."""
    known = list(book.past)
    if book.phase is not None:
        known.append(Stretch(since=book.phase.since, until=_EVER, split=book.phase.split))
    begins = known[0].since if known else _EVER
    steps = [int(step.at) for step in experiment.ramp if step.at < begins]
    times = [-_EVER, *steps]
    ends = [*steps, begins]
    planned = [
        Stretch(since=since, until=until, split=experiment.split_at(since))
        for since, until in zip(times, ends, strict=True)
    ]
    return planned + known


_EVER = int(np.iinfo(np.int64).max)


def _share(split: Mapping[str, float], treatment: str, control: str) -> float | None:
    ours, theirs = split.get(treatment, 0.0), split.get(control, 0.0)
    return ours / (ours + theirs) if ours > 0 and theirs > 0 else None
