"""Prometheus families of guardrails: what each says of a treatment, and how sure it is. Pure, but for the library.

A value that cannot be known has no series.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from alerts.guardrails import Guardrail
from alerts.judge import Effect, Judgement, Phase
from alerts.standing import Standing


_OF = ["experiment", "variant"]
_PER_CENT = {"net_business_value"}
"""Metrics in per cent, which are exposed as ratios."""


class GuardrailFamilies:
    """The families of one scrape."""

    def __init__(self) -> None:
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
        self.value = GaugeMetricFamily(
            "abmonitor_guardrail_value",
            "What a guardrail saw at its latest look (value), the same of the control, and the bound that a"
            " threshold holds it to, in the unit of its metric; per cent as ratios, latencies in seconds.",
            labels=[*_OF, "guardrail", "metric"],
        )
        self.limit = GaugeMetricFamily(
            "abmonitor_guardrail_limit",
            "What a sequential guardrail tolerates: abmonitor_guardrail_difference, or"
            " abmonitor_guardrail_relative_ratio where it has that, is harm beyond this.",
            labels=[*_OF, "guardrail"],
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

    def all(self) -> Iterator[Metric]:
        """Every family."""
        yield from vars(self).values()

    def add(
        self, labels: list[str], judgements: Mapping[str, Judgement], standing: Standing | None
    ) -> None:
        """Add the series of one treatment; `labels` are its experiment's and its own name."""
        for name, judgement in judgements.items():
            for phase in Phase:
                where = [*labels, name, phase.value]
                self.guardrail.add_metric(where, float(judgement.phase is phase))
            streak = standing.streaks.get(name, 0) if standing else 0
            self.streak.add_metric([*labels, name], streak)
            self._seen([*labels, name], judgement)
            self._sequential([*labels, name], judgement)

    def add_limits(
        self,
        labels: list[str],
        guardrails: Iterable[Guardrail],
        judgements: Mapping[str, Judgement],
    ) -> None:
        """Add what the sequential ones of `guardrails` tolerate of one treatment."""
        for each in guardrails:
            if each.test != "sequential":
                continue
            judgement = judgements.get(each.name)
            limit = each.limit(judgement.control if judgement else None)
            if limit is not None:
                self.limit.add_metric([*labels, each.name], _scale(each.metric) * limit)

    def _seen(self, labels: list[str], judgement: Judgement) -> None:
        """What was compared with what."""
        for metric in ("value", "control", "bound"):
            value = getattr(judgement, metric)
            if value is not None:
                self.value.add_metric([*labels, metric], _scale(judgement.metric) * value)

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
        scale = _scale(metric)
        for end in ("estimate", "lower", "upper"):
            value = getattr(effect, end)
            if value is not None:
                family.add_metric([*labels, end], scale * value)


def _scale(metric: str) -> float:
    """What takes a metric to its exposed unit."""
    if metric in _PER_CENT:
        return 0.01
    return 0.001 if metric.endswith("_ms") else 1.0
