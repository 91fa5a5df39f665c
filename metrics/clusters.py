"""Clusters: how much less sure a metric is when predictions come from units that make many. Pure.

Units fall into buckets by a hash, so that buckets are independent of each other whatever units are like; the
spread of their residuals is the variance of the metric, by the linearisation of a ratio over clusters
(Deng, Knoblich, Lu 2018, KDD: "Applying the delta method in metric analytics").
"""

import numpy as np
import numpy.typing as npt

from metrics.confusion import Cells
from metrics.contrast import KNOWN, RIGHT, value_of
from metrics.experiment import Experiment
from metrics.facts import Facts, routing
from metrics.moments import LATENCY_UNIT_MS
from metrics.ratios import ratio_of
from metrics.uncertainty import CENT
from metrics.units import COLUMNS, UNIT_BUCKETS


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_BUCKETS = 16
"""Buckets that must hold units before their spread says anything."""

_AT = {name: at for at, name in enumerate(COLUMNS)}


def inflation(metric: str, buckets: Ints, facts: Facts, experiment: Experiment) -> Floats:
    """By what the variance over single predictions has to be multiplied, at least 1; shape (...).

    `buckets` are sums of mature predictions by unit bucket, shape (..., UNIT_BUCKETS, columns of
    `metrics.units`), or empty; `facts` the same predictions, shape (..., columns). 1 where nothing is
    known, infinite where units are too few to tell.
    """
    if not buckets.size:
        return np.ones(facts.predictions.shape)
    _, naive = value_of(metric, facts, experiment)
    with np.errstate(divide="ignore", invalid="ignore"):
        influence = _influence(metric, buckets.astype(np.float64), experiment)
        spread = np.square(influence).sum(axis=-1) * (UNIT_BUCKETS / (UNIT_BUCKETS - 1))
        found = spread / naive
    few = (buckets[..., _AT["n"]] > 0).sum(axis=-1) < MIN_BUCKETS
    return np.where(few, np.inf, np.where(np.isfinite(found), np.maximum(found, 1.0), 1.0))


def _influence(metric: str, buckets: Floats, experiment: Experiment) -> Floats:
    """What each bucket moves the metric by, shape (..., UNIT_BUCKETS)."""
    w = buckets[..., : len(Cells._fields)] @ routing(experiment.labels)
    n = buckets[..., _AT["n"]]
    if metric == "money_per_prediction":
        return _residual(buckets[..., _AT["money"]] * CENT, n)
    if metric == "net_business_value":
        worth = experiment.business_value
        latency = buckets[..., _AT["latency"]] * LATENCY_UNIT_MS
        terms = (
            (100 * worth.per_accuracy_point_pct, w @ RIGHT, w @ KNOWN),
            (worth.per_latency_ms_pct, latency, buckets[..., _AT["timed"]]),
            (100 * worth.per_error_point_pct, buckets[..., _AT["failed"]], n),
        )
        parts = [each * _residual(above, below) for each, above, below in terms if each]
        return np.sum(parts, axis=0) if parts else np.zeros_like(n)
    above, below = (np.array(part) for part in ratio_of(metric, experiment.q))
    return _residual(w @ above, w @ below)


def _residual(above: Floats, below: Floats) -> Floats:
    whole = below.sum(axis=-1, keepdims=True)
    residual: Floats = (above - above.sum(axis=-1, keepdims=True) / whole * below) / whole
    return residual
