"""Drift: raw numbers of how scores, labels and the control changed while an experiment runs. Pure, but for a library.

What of them is worth a person's look: `metrics/hints.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metrics.changes import Change, Series, changes
from metrics.experiment import DAY, HOUR, Experiment
from metrics.layout import COARSE_WIDTH, RETENTION, Kind
from metrics.ledger import Ledger, total
from metrics.snapshot import Panes, Snapshot, VariantFacts
from metrics.stability import Ints, Psi, psi


_KEPT = RETENTION[Kind.COARSE]


class Share(NamedTuple):
    """Some of a number of predictions."""

    some: int
    of: int

    @property
    def value(self) -> float:
        """As a fraction."""
        return self.some / self.of


@dataclass(frozen=True, slots=True)
class Drift:
    """The raw numbers of one experiment; None for what cannot be known."""

    against_control: Mapping[str, Psi | None]
    """Scores of each treatment that is looked at and of the control: the last hour, else the last day."""
    against_reference: Mapping[str, Psi | None]
    """Scores of each variant in its latest and its first window: days if two are kept, else hours."""
    label_rate: Mapping[str, Share | None]
    """Labels that came in the last hour, per prediction that arrived in it and that gets one."""
    steady: frozenset[str]
    """Treatments whose label rate can be compared: the split is as old as labels take."""
    missing_labels: Mapping[str, Share | None]
    """Without a label when it was final, of predictions that get one: the last day of cohorts."""
    changes: Mapping[Series, Change | None]
    """Of the control."""
    unwatched: str | None = None
    """Why changes were not looked for, though there was enough to look at."""


def drift(
    experiment: Experiment,
    snapshot: Snapshot,
    at: int,
    begun: int,
    left_out: Collection[str] = (),
) -> Drift:
    """The raw numbers at `at`, of the epoch that began at `begun` (both epoch ms, arrival time).

    Nothing that arrived before `begun`, or more than eight days ago, is looked at; nor are the
    treatments in `left_out`. Raises KeyError where the snapshot knows nothing of a variant.
    """
    treatments = [name for name in experiment.treatments if name not in left_out]
    variants = {name: snapshot.variants[name] for name in (experiment.control, *treatments)}
    control = variants[experiment.control]
    cohorts = {
        name: _cohorts(experiment, snapshot, facts, at, begun) for name, facts in variants.items()
    }
    arrived = _within(control.coarse, max(begun, at - _KEPT), at - COARSE_WIDTH + 1)
    found, unwatched = changes(experiment.labels, cohorts[experiment.control], arrived)
    final = at - experiment.labels.wait
    return Drift(
        {name: _against_control(variants[name], control, at, begun) for name in treatments},
        {name: _against_reference(facts, at, begun) for name, facts in variants.items()},
        {name: _label_rate(facts, experiment, at, begun) for name, facts in variants.items()},
        frozenset(
            name for name in treatments if _steady(experiment, (variants[name], control), at, begun)
        ),
        {
            name: _missing([panes[start] for start in panes if start >= final - DAY], experiment)
            for name, panes in cohorts.items()
        },
        found,
        unwatched,
    )


def _against_control(ours: VariantFacts, theirs: VariantFacts, at: int, begun: int) -> Psi | None:
    for width in (HOUR, DAY):
        mine, others = (_arrived(facts, at, begun, width).scores for facts in (ours, theirs))
        found = psi(mine, others, width)
        if found is not None:
            return found
    return None


def _arrived(facts: VariantFacts, at: int, begun: int, width: int) -> Ledger:
    """What arrived in the `width` ms before `at`, but not before the epoch."""
    since = max(at - width, begun)
    return facts.window(at, at - since) if since < at else Ledger()


def _first(facts: VariantFacts, begun: int) -> int | None:
    """The start of the first coarse pane of the epoch that is still kept."""
    return min((start for start in facts.coarse if start >= begun), default=None)


def _against_reference(facts: VariantFacts, at: int, begun: int) -> Psi | None:
    """Days hold every time of day alike; hours are all that a young epoch has."""
    first, end = _first(facts, begun), at - at % COARSE_WIDTH
    for width in (DAY, HOUR):
        if first is not None and first + 2 * width <= end:
            early = _within(facts.coarse, first, first + width)
            return psi(_scores(_within(facts.coarse, end - width, end)), _scores(early), width)
    return None


def _within(panes: Panes, since: int, end: int) -> dict[int, Ledger]:
    """Panes that start in [since, end), in order of time."""
    return {start: panes[start] for start in sorted(panes) if since <= start < end}


def _scores(panes: Panes) -> Ints:
    return total(panes.values()).scores


def _label_rate(facts: VariantFacts, experiment: Experiment, at: int, begun: int) -> Share | None:
    window = _arrived(facts, at, begun, HOUR)
    every = experiment.labels.observed == "all"
    return _share(window.labelled, window.predictions if every else window.acted)


def _share(count: int, of: int) -> Share | None:
    """None where it is no share: labels of one hour may be of predictions of the hour before."""
    return Share(count, of) if of and count <= of else None


def _steady(
    experiment: Experiment, both: tuple[VariantFacts, VariantFacts], at: int, begun: int
) -> bool:
    """Whether predictions came with today's split since before the labels of the last hour began."""
    since = at - HOUR - experiment.labels.wait
    firsts = [_first(facts, begun) for facts in both]
    old = all(first is not None and first <= since for first in firsts)
    return old and experiment.split_at(since) == experiment.split_at(at)


def _cohorts(
    experiment: Experiment, snapshot: Snapshot, facts: VariantFacts, at: int, begun: int
) -> dict[int, Ledger]:
    """Whole cohorts of the epoch and of the last eight days whose labels were final at `at`."""
    end = min(at - experiment.labels.wait, snapshot.matured or 0)
    since, cohort = max(begun, end - _KEPT), int(experiment.labels.cohort)
    return _within(facts.cohorts, since, end - cohort + 1)


def _missing(cohorts: Sequence[Ledger], experiment: Experiment) -> Share | None:
    """Failed requests are left out: their cells do not say whether they had a label."""
    whole = total(cohorts)
    missing, cells = unlabelled(whole, experiment), whole.cells
    known = cells.tp.n + cells.fp.n + cells.tn.n + cells.fn.n
    return _share(missing, missing + known)


def unlabelled(ledger: Ledger, experiment: Experiment) -> int:
    """Mature predictions that had to get a label and never did, without failed requests."""
    cells = ledger.cells
    missing = cells.missing_acted_yes.n + cells.missing_acted_no.n
    if experiment.labels.observed == "all":
        missing += cells.missing_idle_yes.n + cells.missing_idle_no.n
    return missing
