"""Comparing: a snapshot to each variant's metrics, and to each treatment's standing against the control.

A variant's own label-free metrics are of everything that arrived; what needs labels, and every comparison,
is of mature cohorts, so that both sides are seen through the same window. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from metrics import uncertainty
from metrics.advantage import Advantage, Standing, advantage, standing
from metrics.catalogue import CATALOGUE
from metrics.clusters import inflation
from metrics.confusion import Confusion, ratio
from metrics.experiment import Experiment
from metrics.facts import Facts, facts_of
from metrics.ledger import Ledger
from metrics.sequential import PLANNED, best_ratio
from metrics.uncertainty import Difference, Estimate
from metrics.value import (
    NetBusinessValue,
    Recommendation,
    net_business_value,
    recommendation,
)


QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}


_ARRIVAL_ONLY = {*QUANTILES, "slow_rate"}
"""Metrics that need the distribution of latency, which is not kept for cohorts."""


Pair = tuple[Ledger, Ledger]
"""What matured of a treatment and of the control in one stretch with one split."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One treatment against the control, over the mature cohorts of its epoch; None for what is unknown."""

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


def estimate(metric: str, ledger: Ledger, experiment: Experiment) -> Estimate | None:
    """A metric of one variant (see `metrics.catalogue`); None when undefined or not knowable.

    Quantiles come without a variance. Labelled metrics expect a mature ledger.
    """
    if metric in _LABEL_FREE:
        return _LABEL_FREE[metric](ledger)
    needs = CATALOGUE[metric].needs
    if needs:
        return _declared(metric, ledger, experiment) if getattr(experiment, needs) else None
    if CATALOGUE[metric].every_label and experiment.labels.observed == "acted":
        return None
    if metric == "net_business_value":
        return _business_value(ledger, experiment)
    confusion = confusion_of(ledger, experiment)
    if CATALOGUE[metric].priced and experiment.q is None:
        return None
    return uncertainty.ratio_estimate(metric, confusion, experiment.q)


def _declared(metric: str, ledger: Ledger, experiment: Experiment) -> Estimate | None:
    """A metric for which the experiment has declared something, as it has here."""
    if metric == "money_per_prediction":
        return uncertainty.mean_money(ledger)
    return uncertainty.share(ledger.latency.above(experiment.slo_ms or 0), ledger.latency.total)


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
    experiment: Experiment,
    pairs: Mapping[str, Sequence[Pair]],
    harmed: frozenset[str],
    planned: float = PLANNED,
) -> dict[str, Comparison]:
    """Each treatment against the control; `harmed` are the treatments with a breached guardrail.

    `pairs` are what matured in each stretch with one split, by treatment; at least one each. Stretches
    count for what both variants have in them, and are compared within themselves: days of different quality
    do not pass for a difference. The intervals are narrowest when `planned` predictions an arm were seen.
    """
    return {
        treatment: _compare(treatment, pairs[treatment], experiment, harmed, planned)
        for treatment in experiment.treatments
    }


def _compare(
    treatment: str,
    pairs: Sequence[Pair],
    experiment: Experiment,
    harmed: frozenset[str],
    planned: float,
) -> Comparison:
    grown = best_ratio(uncertainty.ALPHA) * 2 * sum(map(_weight, pairs)) / planned

    def difference(name: str) -> Difference | None:
        return _difference(name, pairs, experiment, grown)

    differences = {
        name: difference(name)
        for name, metric in CATALOGUE.items()
        if name not in _ARRIVAL_ONLY and not metric.relative_only
    }
    value = difference("net_business_value")
    rap = differences["rap"]
    return Comparison(
        treatment,
        differences,
        value,
        _parts(differences, experiment),
        _advantage(*max(pairs, key=_weight), experiment),
        standing(rap.lower if rap else None, rap.upper if rap else None),
        recommendation(value.lower if value else None, harm=treatment in harmed),
    )


def _weight(pair: Pair) -> float:
    """What a stretch counts for: half the harmonic mean of the predictions of both variants."""
    ours, theirs = (ledger.predictions for ledger in pair)
    return ratio(ours * theirs, ours + theirs) or 0.0


def _difference(
    metric: str, pairs: Sequence[Pair], experiment: Experiment, grown: float
) -> Difference | None:
    """The difference over all stretches in which the metric is known of both variants."""
    weights: list[float] = []
    arms: list[tuple[Estimate, Estimate]] = []
    for pair in pairs:
        ours, theirs = (_by_unit(metric, ledger, experiment) for ledger in pair)
        if ours is not None and theirs is not None:
            weights.append(_weight(pair))
            arms.append((ours, theirs))
    whole = sum(weights)
    if not whole:
        return None
    shares = [weight / whole for weight in weights]
    treatment, control = (
        uncertainty.combined(list(zip(shares, side, strict=True)))
        for side in zip(*arms, strict=True)
    )
    return uncertainty.difference(treatment, control, grown)


def _by_unit(metric: str, ledger: Ledger, experiment: Experiment) -> Estimate | None:
    """The estimate, no surer than the units that its predictions come from allow."""
    found = estimate(metric, ledger, experiment)
    by_unit = ledger.buckets.size and CATALOGUE[metric].labelled
    if found is None or found.variance is None or not by_unit:
        return found
    (row,) = facts_of([ledger], experiment.labels).sums
    more = float(inflation(metric, ledger.buckets, Facts(row), experiment))
    return Estimate(found.value, found.variance * more)


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
