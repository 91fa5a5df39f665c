"""The JSON documents: what replay prints and the API serves. Pure."""

from typing import Any

import msgspec

from abmonitor.monitor import ExperimentView, View
from alerts.book import Phase
from alerts.standing import Standing
from metrics.compare import Comparison, confusion_of, metrics_of
from metrics.confusion import Confusion
from metrics.ledger import Ledger
from metrics.snapshot import VariantFacts
from metrics.srm import sample_ratio
from metrics.uncertainty import Difference


CELLS = ("tp", "fp", "tn", "fn")
INTERVAL = {"kind": "fixed-horizon normal", "level": 0.95}
"""What the bounds are: right for one planned look, not for looking all the time."""


def document(view: View) -> dict[str, Any]:
    """The whole state (DESIGN: the replay document)."""
    return {
        "experiments": {name: experiment(found) for name, found in view.experiments.items()},
        "events": events(view),
    }


def events(view: View) -> dict[str, Any]:
    """How many events had which result; each event is in exactly one of them."""
    tallies = view.fleet.tallies
    reasons = {
        name.removeprefix("rejected:"): count
        for name, count in sorted(tallies.items())
        if name.startswith("rejected:")
    }
    return {
        "accepted": tallies.get("predictions", 0) + tallies.get("outcomes", 0),
        "duplicate": tallies.get("duplicate", 0),
        "late": tallies.get("late", 0),
        "rejected": sum(reasons.values()),
        "ignored": tallies.get("ignored", 0),
        "unmatched": tallies.get("unmatched", 0) + view.fleet.waiting,
        "rejected_by_reason": reasons,
        "predictions": tallies.get("predictions", 0),
        "outcomes": tallies.get("outcomes", 0),
    }


def join_rate(view: View) -> float | None:
    """Share of the outcomes that met a prediction in time; None without outcomes."""
    told = events(view)
    seen = told["outcomes"] + told["late"] + told["unmatched"]
    return told["outcomes"] / seen if seen else None


def experiment(view: ExperimentView) -> dict[str, Any]:
    """One experiment."""
    snapshot, declared = view.snapshot, view.experiment
    return {
        "state": view.book.worst(declared.treatments).value,
        "control": declared.control,
        "as_of": snapshot.watermark,
        "labels_final_to": snapshot.matured,
        "complete_since": snapshot.complete_since,
        "decisions": [msgspec.to_builtins(decision) for decision in view.decisions],
        "variants": {name: _variant(facts, view) for name, facts in snapshot.variants.items()},
        "comparisons": {
            name: _comparison(comparison, view) for name, comparison in view.comparisons.items()
        },
        "interval": INTERVAL,
    }


def _variant(facts: VariantFacts, view: ExperimentView) -> dict[str, Any]:
    declared, total = view.experiment, facts.total
    p50, p95, p99 = total.latency.quantiles(0.5, 0.95, 0.99)
    provisional = {name: getattr(total.cells, name).n for name in CELLS}
    return {
        "counts": provisional,
        "mature_counts": _cells(confusion_of(facts.mature, declared)),
        "predictions": total.predictions,
        "mature_predictions": facts.mature.predictions,
        "acted": total.acted,
        "errors": total.errors,
        "unlabelled": total.predictions - total.labelled,
        "metrics": metrics_of(total, facts.mature, declared),
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "mean": total.moments.mean_ms},
        "windows": {str(width): _window(facts, view, int(width)) for width in declared.windows},
    }


def _window(facts: VariantFacts, view: ExperimentView, width: int) -> dict[str, Any]:
    end = view.snapshot.watermark
    ledger = Ledger() if end is None else facts.window(end, width)
    p50, p95, p99 = ledger.latency.quantiles(0.5, 0.95, 0.99)
    return {
        "predictions": ledger.predictions,
        "error_rate": ledger.error_rate,
        "selection_rate": ledger.selection_rate,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "mean": ledger.moments.mean_ms},
    }


def _cells(confusion: Confusion) -> dict[str, int]:
    return {name: getattr(confusion, name).n for name in CELLS}


def _comparison(comparison: Comparison, view: ExperimentView) -> dict[str, Any]:
    standing = view.book.standings.get(comparison.treatment, Standing())
    value = _difference(comparison.net_business_value)
    parts = {name: getattr(comparison.parts, name) for name in ("accuracy", "latency", "errors")}
    judgements = view.book.judgements.get(comparison.treatment, {})
    return {
        "state": standing.state.value,
        "since": standing.since,
        "epoch": standing.epoch,
        "causes": list(standing.causes),
        "verified": standing.verified,
        "paused": msgspec.to_builtins(standing.paused),
        "rap_difference": _difference(comparison.differences.get("rap")),
        "differences": {name: _difference(found) for name, found in comparison.differences.items()},
        "net_business_value": value | {"parts": parts},
        "recommendation": comparison.recommendation.value,
        "roi_range": _advantage(comparison),
        "srm_p_value": _srm(view, comparison.treatment),
        "guardrails": {name: msgspec.to_builtins(found) for name, found in judgements.items()},
    }


def _advantage(comparison: Comparison) -> dict[str, Any] | None:
    found = comparison.advantage
    if found is None:
        return None
    return {
        "ahead": found.ahead,
        "scale": found.scale,
        "low": found.low,
        "high": found.high,
        "standing": comparison.standing,
        "sentence": found.describe(),
    }


def _difference(found: Difference | None) -> dict[str, float | None]:
    if found is None:
        return {"estimate": None, "lower": None, "upper": None}
    return {"estimate": found.estimate, "lower": found.lower, "upper": found.upper}


def _srm(view: ExperimentView, treatment: str) -> float | None:
    """The p-value of the split between a treatment and control, as intended in this phase.

    None where one of them is to get no traffic, or none that can be told at the moment.
    """
    declared, phase = view.experiment, view.book.phase
    if phase is None:
        counts = {name: facts.total.predictions for name, facts in view.snapshot.variants.items()}
        phase = Phase(since=0, split=dict(declared.variants), counts=counts)
    both = (treatment, declared.control)
    found = sample_ratio(
        {variant: phase.counts.get(variant, 0) for variant in both},
        {variant: phase.split.get(variant, 0.0) for variant in both},
    )
    return None if found is None else found.p_value
