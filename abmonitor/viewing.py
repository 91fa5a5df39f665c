"""What is worth its time only now and then: comparisons for those who look on. Asks a clock how long that takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from abmonitor.books import Books
from abmonitor.hinting import Hinting
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView
from alerts.book import Book
from alerts.cohorts import Pairs
from metrics.compare import Comparison, Pair, compare
from metrics.snapshot import Fleet, Snapshot


SMALL_FLEET = 10
"""So many experiments have their turn whatever time that takes."""


class Turns:
    """Who is next, where there is not time for all."""

    def __init__(self, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._taken: dict[str, int] = {}
        self._turn = 0

    def take(self, names: Iterable[str], budget_s: float | None) -> Iterator[str]:
        """At least one of `names`, those that waited longest first, until `budget_s` is over (None: all)."""
        waiting = sorted(names, key=lambda name: self._taken.get(name, 0))
        until = None
        if budget_s is not None and len(waiting) > SMALL_FLEET:
            until = self._seconds() + budget_s
        for name in waiting:
            self._turn += 1
            self._taken[name] = self._turn
            yield name
            if until is not None and self._seconds() >= until:
                return


class Comparing:
    """Compares each treatment with its control, for display only: decisions rest on nothing that is made here.

    A comparison takes some milliseconds. It is made anew only where cohorts, stretches or harm have changed,
    and with a budget for only as many experiments at a time as that allows: in a fleet of more than
    `SMALL_FLEET` experiments what is shown may be some seconds older than the snapshot beside it. What changes
    about harm, and an experiment's first comparison, never wait.
    """

    def __init__(
        self,
        experiments: Iterable[ExperimentSettings],
        budget_s: float | None,
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._budget_s, self._turns = budget_s, Turns(seconds)
        self._compared = {experiment.name: _Compared(experiment) for experiment in experiments}

    def of(
        self, snapshots: Mapping[str, Snapshot], books: Mapping[str, Book]
    ) -> dict[str, Mapping[str, Comparison]]:
        """By experiment and treatment; `snapshots` and `books` are of all experiments."""
        urgent = [name for name, each in self._compared.items() if each.is_urgent(books[name])]
        for name in urgent:
            self._compared[name].renew(snapshots[name], books[name])
        for name in self._turns.take(self._compared.keys(), self._budget_s):
            self._compared[name].renew(snapshots[name], books[name])
        return {name: each.comparisons for name, each in self._compared.items()}


def views_of(
    experiments: Mapping[str, ExperimentSettings],
    fleet: Fleet,
    books: Books,
    hinting: Hinting,
    comparing: Comparing,
) -> dict[str, ExperimentView]:
    """Every experiment as it is now."""
    shown = {name: books.held(name, each.treatments) for name, each in experiments.items()}
    compared = comparing.of(fleet.snapshots, shown)
    return {
        name: ExperimentView(
            experiment,
            fleet.snapshots[name],
            shown[name],
            compared[name],
            tuple(books.decisions[name]),
            hinting.found(name),
        )
        for name, experiment in experiments.items()
    }


class _Compared:
    """The latest comparisons of one experiment, and what they rest on."""

    def __init__(self, experiment: ExperimentSettings) -> None:
        self._experiment, self._pairs = experiment, Pairs(experiment)
        self._paired: dict[str, Iterable[Pair]] = {}
        self._harmed: frozenset[str] | None = None
        self.comparisons: Mapping[str, Comparison] = {}

    def is_urgent(self, book: Book) -> bool:
        """Whether nothing was compared yet, or harm has changed."""
        return _harmed(book) != self._harmed

    def renew(self, snapshot: Snapshot, book: Book) -> None:
        """Compare again if anything has changed."""
        experiment, harmed = self._experiment, _harmed(book)
        paired = {
            treatment: self._pairs.of(book, treatment, snapshot)
            for treatment in experiment.treatments
        }
        same = all(paired[name] is self._paired.get(name) for name in paired)
        if same and harmed == self._harmed:
            return
        self.comparisons = compare(experiment, paired, harmed, experiment.testing.planned)
        self._paired, self._harmed = {**paired}, harmed


def _harmed(book: Book) -> frozenset[str]:
    """Treatments with a breached guardrail."""
    return frozenset(
        treatment
        for treatment, standing in book.standings.items()
        if standing.ordered_at is not None or standing.latched
    )
