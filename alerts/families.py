"""Prometheus families of judgement: states, holds, decisions and phases. Pure, but for the library.

A value that cannot be known has no series.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from alerts.actions import ACTIONS
from alerts.book import Book
from alerts.causes import words_of
from alerts.guardrail_families import GuardrailFamilies
from alerts.guardrails import Guardrail
from alerts.phases import mismatch, mismatch_limit
from alerts.standing import Standing, State


_OF = ["experiment", "variant"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One experiment's judgement as it is exposed."""

    experiment: str
    control: str
    treatments: Sequence[str]
    book: Book
    guardrails: Sequence[Guardrail] = ()


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
        self.since = GaugeMetricFamily(
            "abmonitor_treatment_state_since_timestamp_seconds",
            "Since when a treatment is in its state.",
            labels=_OF,
        )
        self.paused = GaugeMetricFamily(
            "abmonitor_treatment_paused",
            "1 while a person has paused a treatment: nothing is done about it.",
            labels=_OF,
        )
        self.causes = GaugeMetricFamily(
            "abmonitor_treatment_hold_cause",
            "1 for each cause of a hold while it lasts; no series for all others.",
            labels=[*_OF, "reason"],
        )
        self.latched = GaugeMetricFamily(
            "abmonitor_treatment_harm_latched",
            "1 while harm was found in a pause, and is acted on when that ends.",
            labels=_OF,
        )
        self.decisions = CounterMetricFamily(
            "abmonitor_decisions", "Decisions by what they did, from 0 on.", labels=[*_OF, "reason"]
        )
        self.split = GaugeMetricFamily(
            "abmonitor_phase_share_ratio",
            "A variant's intended share of the traffic in the current phase.",
            labels=_OF,
        )
        self.assigned = GaugeMetricFamily(
            "abmonitor_phase_assigned",
            "Predictions, or units of the sample where units are randomised, in the current phase.",
            labels=_OF,
        )
        self.began = GaugeMetricFamily(
            "abmonitor_phase_start_timestamp_seconds",
            "When the current phase began: a stretch with one intended split.",
            labels=["experiment"],
        )
        self.mismatch = GaugeMetricFamily(
            "abmonitor_sample_ratio_p_value",
            "How well the split of treatment and control in the current phase fits the intended one;"
            " valid at every look.",
            labels=_OF,
        )
        self.limit = GaugeMetricFamily(
            "abmonitor_sample_ratio_p_value_limit",
            "A sample ratio mismatch is found where the p-value is below this.",
            labels=["experiment"],
        )
        self.guardrails = GuardrailFamilies()

    def all(self) -> Iterator[Metric]:
        """Every family."""
        for found in vars(self).values():
            yield from found.all() if isinstance(found, GuardrailFamilies) else (found,)

    def add(self, judged: Judged) -> None:
        """Add the series of one experiment."""
        self._phase(judged)
        for treatment in judged.treatments:
            labels = [judged.experiment, treatment]
            standing = judged.book.standings.get(treatment)
            self._standing(labels, standing or Standing())
            judgements = judged.book.judgements.get(treatment, {})
            self.guardrails.add(labels, judgements, standing)
            self.guardrails.add_limits(labels, judged.guardrails, judgements)
            made = judged.book.actions.get(treatment, {})
            for action in ACTIONS:
                self.decisions.add_metric([*labels, action], made.get(action, 0))

    def _standing(self, labels: list[str], standing: Standing) -> None:
        """Where a treatment stands."""
        for state in State:
            self.state.add_metric([*labels, state.value], float(standing.state is state))
        if standing.since:
            self.since.add_metric(labels, standing.since / 1000)
        paused = standing.paused is not None and standing.state is not State.ENDED
        self.paused.add_metric(labels, float(paused))
        # Harm is kept in mind behind the brake, too; that shows as a hold.
        self.latched.add_metric(labels, float(paused and bool(standing.latched)))
        if standing.state is State.HOLD:
            for word in words_of(standing.causes):
                self.causes.add_metric([*labels, word], 1.0)

    def _phase(self, judged: Judged) -> None:
        """The split that is intended, and what came."""
        name, phase = judged.experiment, judged.book.phase
        if phase is None:
            return
        whole = sum(phase.split.values())
        for variant, weight in phase.split.items():
            if whole:
                self.split.add_metric([name, variant], weight / whole)
            self.assigned.add_metric([name, variant], phase.counts.get(variant, 0))
        self.began.add_metric([name], phase.since / 1000)
        self.limit.add_metric([name], mismatch_limit(judged.book, len(judged.treatments)))
        for treatment in judged.treatments:
            p_value = mismatch(treatment, judged.control, phase)
            if p_value is not None:
                self.mismatch.add_metric([name, treatment], p_value)
