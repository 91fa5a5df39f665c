"""Prometheus families of judgement: states, guardrails and decisions. Pure, but for the library.

A value that cannot be known has no series.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from alerts.book import Book
from alerts.judge import Effect, Judgement, Phase
from alerts.phases import mismatch, mismatch_limit
from alerts.standing import State


_OF = ["experiment", "variant"]
_PER_CENT = {"net_business_value"}
"""Metrics in per cent, which are exposed as ratios."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One experiment's judgement as it is exposed."""

    experiment: str
    control: str
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
        self.evidence = GaugeMetricFamily(
            "abmonitor_guardrail_evidence_ratio",
            "Evidence of a sequential guardrail for a rollback (harm: the highest so far) or for a pass"
            " (safe: now), as a part of what that takes, ln(e-value)/ln(needed): 1 decides.",
            labels=[*_OF, "guardrail", "reason"],
        )
        self.difference = GaugeMetricFamily(
            "abmonitor_guardrail_difference",
            "Treatment minus control in the unit of a sequential guardrail's metric (0.01 is 1 %):"
            " estimate, and bounds that are valid at every look.",
            labels=[*_OF, "guardrail", "metric"],
        )
        self.times = GaugeMetricFamily(
            "abmonitor_guardrail_relative_ratio",
            "Treatment over control, where a sequential guardrail compares shares by a relative margin:"
            " estimate, and bounds that are valid at every look.",
            labels=[*_OF, "guardrail", "metric"],
        )
        self.effective = GaugeMetricFamily(
            "abmonitor_guardrail_effective_observations",
            "Positives of the smaller variant, or events, that a sequential guardrail rests on; of"
            " weighted ones as many as of weight 1 would say as much.",
            labels=[*_OF, "guardrail"],
        )
        self.missing = GaugeMetricFamily(
            "abmonitor_guardrail_missing_predictions",
            "About how many more predictions of the treatment a verdict takes, if all goes on as it has.",
            labels=[*_OF, "guardrail"],
        )
        self.wait = GaugeMetricFamily(
            "abmonitor_guardrail_missing_seconds",
            "About how much longer a verdict takes, if all goes on as it has.",
            labels=[*_OF, "guardrail"],
        )
        self.changed = GaugeMetricFamily(
            "abmonitor_guardrail_change_timestamp_seconds",
            "Since when the evidence of harm is strongest, where that is not the whole epoch.",
            labels=[*_OF, "guardrail"],
        )
        self.alpha = GaugeMetricFamily(
            "abmonitor_guardrail_alpha_ratio",
            "The probability that a sequential guardrail ever raises a false alarm in an epoch.",
            labels=[*_OF, "guardrail"],
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

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(self, judged: Judged) -> None:
        """Add the series of one experiment."""
        self._phase(judged)
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
                self._sequential([*labels, name], judgement)
            for action, count in judged.book.actions.get(treatment, {}).items():
                self.decisions.add_metric([*labels, action], count)

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

    def _sequential(self, labels: list[str], judgement: Judgement) -> None:
        """What only sequential guardrails know."""
        evidence, missing = judgement.evidence, judgement.missing
        if evidence is None:
            return
        self.alpha.add_metric(labels, math.exp(-evidence.harm_needed))
        for reason, value, needed in (
            ("harm", evidence.harm, evidence.harm_needed),
            ("safe", evidence.safe, evidence.safe_needed),
        ):
            if value is not None:
                self.evidence.add_metric([*labels, reason], value / needed)
        if judgement.effect is not None:
            self._effect(labels, judgement.metric, judgement.effect)
        if judgement.n_effective is not None:
            self.effective.add_metric(labels, judgement.n_effective)
        if missing is not None:
            self.missing.add_metric(labels, missing.predictions)
            self.wait.add_metric(labels, missing.ms / 1000)
        if judgement.strongest is not None:
            self.changed.add_metric(labels, judgement.strongest.since / 1000)

    def _effect(self, labels: list[str], metric: str, effect: Effect) -> None:
        family = self.times if effect.kind == "ratio" else self.difference
        scale = 0.01 if metric in _PER_CENT else 1.0
        for end in ("estimate", "lower", "upper"):
            value = getattr(effect, end)
            if value is not None:
                family.add_metric([*labels, end], scale * value)
