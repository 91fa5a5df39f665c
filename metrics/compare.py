"""Comparing: a snapshot to each variant's metrics, and to each treatment's standing against the control.

A variant's own label-free metrics are of everything that arrived; what needs labels, and every comparison,
is of mature cohorts, so that both sides are seen through the same window. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from metrics import uncertainty
from metrics.advantage import Advantage, Standing, advantage, standing
from metrics.catalogue import CATALOGUE
from metrics.confusion import Confusion
from metrics.experiment import Experiment
from metrics.ledger import Ledger
from metrics.snapshot import Snapshot
from metrics.uncertainty import Difference, Estimate
from metrics.value import (
    NetBusinessValue,
    Recommendation,
    net_business_value,
    recommendation,
)


QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One treatment against the control, over all mature cohorts; None for what cannot be known."""

    treatment: str
    differences: Mapping[str, Difference | None]
    """Treatment minus control, by metric."""
    net_business_value: Difference | None
    parts: NetBusinessValue
    advantage: Advantage | None
    standing: Standing
    recommendation: Recommendation


def _quantile(share: float, ledger: Ledger) -> Estimate | None:
    (value,) = ledger.latency.quantiles(share)
    return None if value is None else Estimate(value, None)


def confusion_of(ledger: Ledger, experiment: Experiment) -> Confusion:
    """The confusion counts of a mature ledger under the experiment's label policy."""
    return Confusion.of(ledger.cells, experiment.labels)


_LABEL_FREE: Mapping[str, Callable[[Ledger], Estimate | None]] = {
    "error_rate": lambda ledger: uncertainty.share(ledger.errors, ledger.predictions),
    "selection_rate": lambda ledger: uncertainty.share(ledger.acted, ledger.predictions),
    "latency_mean_ms": lambda ledger: uncertainty.mean_latency_ms(ledger.moments),
    **{name: partial(_quantile, share) for name, share in QUANTILES.items()},
}

_PRICED: Mapping[str, Callable[[Confusion, float], Estimate | None]] = {
    "rap": uncertainty.rap,
    "roi": uncertainty.roi,
    "profit_per_prediction": uncertainty.profit_per_prediction,
}

_PLAIN: Mapping[str, Callable[[Confusion], Estimate | None]] = {
    "precision": uncertainty.precision,
    "recall": uncertainty.recall,
    "specificity": uncertainty.specificity,
    "false_alarm_rate": uncertainty.false_alarm_rate,
    "accuracy": uncertainty.accuracy,
    "f_score": uncertainty.f_score,
}


def estimate(metric: str, ledger: Ledger, experiment: Experiment) -> Estimate | None:
    """A metric of one variant (see `metrics.catalogue`); None when undefined or not knowable.

    Quantiles come without a variance. Labelled metrics expect a mature ledger.
    """
    if metric in _LABEL_FREE:
        return _LABEL_FREE[metric](ledger)
    if CATALOGUE[metric].every_label and experiment.labels.observed == "acted":
        return None
    if metric == "net_business_value":
        return _business_value(ledger, experiment)
    confusion = confusion_of(ledger, experiment)
    if metric in _PRICED:
        return None if experiment.q is None else _PRICED[metric](confusion, experiment.q)
    return _PLAIN[metric](confusion)


def _business_value(ledger: Ledger, experiment: Experiment) -> Estimate | None:
    confusion = confusion_of(ledger, experiment)
    return uncertainty.business_value(confusion, ledger.moments, experiment.business_value)


def metrics_of(
    label_free: Ledger, mature: Ledger, experiment: Experiment
) -> dict[str, float | None]:
    """Every metric that one variant has by itself."""
    values: dict[str, float | None] = {}
    for name, metric in CATALOGUE.items():
        if not metric.relative_only:
            found = estimate(name, mature if metric.labelled else label_free, experiment)
            values[name] = None if found is None else found.value
    return values


def compare(
    experiment: Experiment, snapshot: Snapshot, harmed: frozenset[str]
) -> dict[str, Comparison]:
    """Each treatment against the control; `harmed` are the treatments with a breached guardrail."""
    control = snapshot.variants[experiment.control].mature
    return {
        treatment: _compare(
            treatment, snapshot.variants[treatment].mature, control, experiment, harmed
        )
        for treatment in experiment.treatments
    }


def _compare(
    treatment: str,
    ours: Ledger,
    theirs: Ledger,
    experiment: Experiment,
    harmed: frozenset[str],
) -> Comparison:
    differences = {
        name: uncertainty.difference(
            estimate(name, ours, experiment), estimate(name, theirs, experiment)
        )
        for name, metric in CATALOGUE.items()
        if name not in QUANTILES and not metric.relative_only
    }
    value = uncertainty.difference(
        estimate("net_business_value", ours, experiment),
        estimate("net_business_value", theirs, experiment),
    )
    rap = differences["rap"]
    return Comparison(
        treatment,
        differences,
        value,
        _parts(differences, experiment),
        _advantage(ours, theirs, experiment),
        standing(rap.lower if rap else None, rap.upper if rap else None),
        recommendation(value.lower if value else None, harm=treatment in harmed),
    )


def _advantage(ours: Ledger, theirs: Ledger, experiment: Experiment) -> Advantage | None:
    if experiment.labels.observed == "acted":
        return None
    mine, control = confusion_of(ours, experiment), confusion_of(theirs, experiment)
    return advantage(mine, control, experiment.reference_precision)


def _parts(
    differences: Mapping[str, Difference | None], experiment: Experiment
) -> NetBusinessValue:
    def change(metric: str, scale: float) -> float | None:
        found = differences[metric]
        return None if found is None else scale * found.estimate

    return net_business_value(
        change("accuracy", 100),
        change("latency_mean_ms", 1),
        change("error_rate", 100),
        experiment.business_value,
    )
