"""Trials: the sequential guardrails of an experiment, looked at as data comes in. Pure.

What each remembers stands in the book, so that a look depends on nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from alerts import causes
from alerts.book import Book, Kept
from alerts.cohorts import Arms, CohortView
from alerts.counting import Counter
from alerts.guardrails import Guardrail
from alerts.judge import Judgement
from alerts.phases import between, unnamed
from alerts.standing import ACTING, Standing, State
from alerts.testing import Testing, alphas
from alerts.weighing import Weigher
from metrics.catalogue import CATALOGUE
from metrics.experiment import Experiment
from metrics.ledger import Ledger
from metrics.snapshot import Snapshot


_Judge = Callable[[Kept, Judgement | None], tuple[Judgement, Kept]]
"""From what a guardrail remembers, and the judgement before."""


@dataclass(frozen=True, slots=True)
class Trials:
    """All sequential guardrails of one experiment; holds what was declared, no state."""

    experiment: Experiment
    weighers: Sequence[Weigher]
    counters: Sequence[Counter]
    view: CohortView = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "view", CohortView(self.experiment)
        )  # a frozen class has no other way

    @classmethod
    def of(
        cls, experiment: Experiment, guardrails: Sequence[Guardrail], testing: Testing
    ) -> "Trials":
        """The trials that were declared; alpha is shared between all of them."""
        shares = alphas(testing, guardrails)
        tested = [found for found in guardrails if found.test == "sequential"]
        labelled = [found for found in tested if CATALOGUE[found.metric].labelled]
        counted = [found for found in tested if not CATALOGUE[found.metric].labelled]
        return cls(
            experiment,
            [Weigher.of(each, experiment, testing, shares[each.name]) for each in labelled],
            [Counter.of(each, experiment, testing, shares[each.name]) for each in counted],
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The guardrails that are judged here."""
        tested = [each.guardrail for each in self.weighers]
        return tuple(each.name for each in tested + [each.guardrail for each in self.counters])

    def at_cohort(self, book: Book, until: int, snapshot: Snapshot, landmark: int) -> Book:
        """The book after a look at all cohorts that ended by `until` (epoch ms).

        Their labels are those of `landmark` (ms after the prediction), the final ones where that is 0.
        """
        for treatment in self.experiment.treatments:
            begun = book.standings.get(treatment, Standing()).begun
            due = [each for each in self.weighers if int(each.guardrail.landmark or 0) == landmark]
            if not due:
                continue
            arms = self.view.arms(book, treatment, snapshot, begun, until, landmark)
            judges = {each.guardrail.name: _weighing(each, arms, until) for each in due}
            book = _noted(book, treatment, judges)
        return book

    def at_arrival(self, book: Book, since: int, at: int, snapshot: Snapshot) -> Book:
        """The book after a look at what arrived in [since, at) under the split of its phase."""
        phase, control = book.phase, self.experiment.control
        if phase is None or not self.counters:
            return book
        for treatment in self.experiment.treatments:
            begun = book.standings.get(treatment, Standing()).begun
            first = max(since, begun, phase.since)
            came: dict[int, list[Ledger]] = {}
            judges = {}
            for each in self.counters:
                warm = max(first, began(book, treatment) + each.guardrail.warm_up)
                if warm not in came:
                    came[warm] = [
                        between(snapshot, name, warm, at) for name in (treatment, control)
                    ]
                judges[each.guardrail.name] = self._counting(each, book, treatment, at, came[warm])
            book = _noted(book, treatment, judges)
        return book

    def _counting(
        self, counter: Counter, book: Book, treatment: str, at: int, both: Sequence[Ledger]
    ) -> _Judge:
        why, split = self.suspended(book, treatment), book.phase.split if book.phase else {}
        if why is not None:
            return lambda kept, _: (counter.suspended(why, at, kept), kept)
        ours, theirs = split[treatment], split[self.experiment.control]
        begun = began(book, treatment)
        tally = counter.tally(ours / (ours + theirs), *both)
        return lambda kept, known: counter.judge(tally, at, begun, kept, known)

    def suspended(self, book: Book, treatment: str) -> str | None:
        """Why counts say nothing at the moment: they mean something against a known split only."""
        split = book.phase.split if book.phase else {}
        if treatment in book.mismatched:
            return "because the split of the traffic is not the intended one"
        if book.standings.get(treatment, Standing()).state in ACTING | {State.ROLLED_BACK}:
            return "because it is rolled back"
        if not (split.get(treatment, 0) > 0 and split.get(self.experiment.control, 0) > 0):
            return (
                "because the split of the traffic cannot be told: a treatment has yet to begin, is on its"
                " way out or has ended (then give it 0 in `variants` or `ramp`)"
            )
        if book.phase and unnamed(book.phase):
            return "because predictions come without unit_id, and units are what is randomised"
        return None

    def blind(self, book: Book, treatment: str, budget: int | None) -> Iterator[str]:
        """A cause to hold, where too much was predicted without any verdict on labels."""
        seen, kept = book.seen.get(treatment, 0), book.evidence.get(treatment, {})
        if budget is None or seen <= budget:
            return
        if not any(
            kept.get(each.guardrail.name, Kept()).peak is not None for each in self.weighers
        ):
            yield causes.blind(budget)

    def alarms(self, book: Book, treatment: str) -> tuple[str, ...]:
        """Why the treatment is harmful, by the guardrails that have raised an alarm."""
        kept, judged = book.evidence.get(treatment, {}), book.judgements.get(treatment, {})
        return tuple(
            judged[name].reason
            for name in sorted(self.names)
            if name in judged and name in kept and kept[name].alarmed_at is not None
        )


def _weighing(weigher: Weigher, arms: Arms, at: int) -> _Judge:
    return lambda kept, _: weigher.judge(arms, at, kept)


def began(book: Book, treatment: str) -> int:
    """When judging of `treatment` began (epoch ms, arrival time)."""
    first = book.past[0].since if book.past else (book.phase.since if book.phase else 0)
    return max(first, book.standings.get(treatment, Standing()).begun)


def _noted(book: Book, treatment: str, judges: Mapping[str, _Judge]) -> Book:
    """The book with what the judges say, and with what they want to remember."""
    known = dict(book.evidence.get(treatment, {}))
    judged = dict(book.judgements.get(treatment, {}))
    for name, judge in judges.items():
        judged[name], known[name] = judge(known.get(name, Kept()), judged.get(name))
    return msgspec.structs.replace(
        book,
        evidence={**book.evidence, treatment: known},
        judgements={**book.judgements, treatment: judged},
    )
