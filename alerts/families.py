"""Prometheus families of judgement: states, guardrails and decisions. Pure, but for the library."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from alerts.book import Book
from alerts.judge import Phase
from alerts.standing import State


_OF = ["experiment", "variant"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One experiment's judgement as it is exposed."""

    experiment: str
    treatments: Sequence[str]
    book: Book


def describe() -> list[Metric]:
    """All families, empty."""
    return list(_Families().all())


def families(experiments: Iterable[Judged]) -> list[Metric]:
    """All families with the series of `experiments`, and of no others."""
    made = _Families()
    for judged in experiments:
        made.add(judged)
    return list(made.all())


class _Families:
    """The families of one scrape."""

    def __init__(self) -> None:
        self.state = GaugeMetricFamily(
            "abmonitor_treatment_state",
            "1 for the state that a treatment is in, 0 for all others.",
            labels=[*_OF, "state"],
        )
        self.guardrail = GaugeMetricFamily(
            "abmonitor_guardrail_phase",
            "1 for the phase that a guardrail is in, 0 for all others.",
            labels=[*_OF, "guardrail", "state"],
        )
        self.streak = GaugeMetricFamily(
            "abmonitor_guardrail_failing_looks",
            "Looks in a row at which a guardrail failed.",
            labels=[*_OF, "guardrail"],
        )
        self.decisions = CounterMetricFamily(
            "abmonitor_decisions", "Decisions by what they did.", labels=[*_OF, "reason"]
        )

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(self, judged: Judged) -> None:
        """Add the series of one experiment."""
        for treatment in judged.treatments:
            labels = [judged.experiment, treatment]
            standing = judged.book.standings.get(treatment)
            current = standing.state if standing else State.COLLECTING
            for state in State:
                self.state.add_metric([*labels, state.value], float(state is current))
            for name, judgement in judged.book.judgements.get(treatment, {}).items():
                for phase in Phase:
                    where = [*labels, name, phase.value]
                    self.guardrail.add_metric(where, float(judgement.phase is phase))
                streak = standing.streaks.get(name, 0) if standing else 0
                self.streak.add_metric([*labels, name], streak)
            for action, count in judged.book.actions.get(treatment, {}).items():
                self.decisions.add_metric([*labels, action], count)
