"""The JSON documents: what replay prints and the API serves. Pure."""

from typing import Any

import msgspec

from abmonitor.declared import declared as declared_of
from abmonitor.series import INTERVAL as CONFIDENCE
from abmonitor.series import series
from abmonitor.view import ExperimentView, View
from alerts.book import Phase
from alerts.guardrails import Guardrail
from alerts.judge import Judgement
from alerts.judge import Phase as Verdict
from alerts.phases import counted, mismatch, mismatch_limit, mixed
from alerts.standing import Standing
from alerts.testing import Testing, alphas
from alerts.trials import began
from metrics.compare import Comparison, confusion_of, metrics_of
from metrics.confusion import Confusion
from metrics.ledger import Ledger
from metrics.snapshot import VariantFacts
from metrics.uncertainty import Difference


CELLS = ("tp", "fp", "tn", "fn")
INTERVAL = CONFIDENCE
"""What the bounds of differences are: right at all looks together, however often one looks."""


def document(view: View) -> dict[str, Any]:
    """The whole state (DESIGN: the replay document)."""
    return {
        "experiments": {
            name: experiment(found) | {"series": series(found)}
            for name, found in view.experiments.items()
        },
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
    snapshot, declared, phase = view.snapshot, view.experiment, _phase(view)
    return {
        "state": view.book.worst(declared.treatments).value,
        "control": declared.control,
        "as_of": snapshot.watermark,
        "labels_final_to": snapshot.matured,
        "complete_since": snapshot.complete_since,
        "decisions": [msgspec.to_builtins(decision) for decision in view.decisions],
        "variants": {name: _variant(facts, view) for name, facts in snapshot.variants.items()},
        "comparisons": {
            name: _comparison(comparison, view, phase)
            for name, comparison in view.comparisons.items()
        },
        "interval": INTERVAL,
        "testing": _testing(declared.testing),
        "phase": msgspec.to_builtins(phase) | {"counted": _counted_in(view)},
        "past_phases": [msgspec.to_builtins(stretch) for stretch in view.book.past],
        "hints": _hints(view),
        "declared": declared_of(declared),
    }


def _hints(view: ExperimentView) -> list[dict[str, Any]] | None:
    """What a person should look at, without an error guarantee; None where it was not looked for."""
    return None if view.hints is None else [msgspec.to_builtins(hint) for hint in view.hints]


def _testing(found: Testing) -> dict[str, Any]:
    """What sequential guardrails share; times in milliseconds."""
    return {
        "alpha": found.alpha,
        "alpha_pass": found.alpha_pass,
        "planned": found.planned,
        "min_duration_ms": int(found.min_duration),
        "max_duration_ms": None if found.max_duration is None else int(found.max_duration),
        "blind_budget": found.blind_budget,
    }


def _phase(view: ExperimentView) -> Phase:
    """The current phase; before the first look, everything that has come, under the split of its time."""
    if view.book.phase is not None:
        return view.book.phase
    declared, snapshot = view.experiment, view.snapshot
    since = snapshot.first_pane or 0
    came = {name: facts.total for name, facts in snapshot.variants.items()}
    return counted(declared, Phase(since=since, split=declared.split_at(since)), came)


def _counted_in(view: ExperimentView) -> str:
    """What the counts of a phase are counts of."""
    return "units" if view.experiment.randomised_by == "unit" else "predictions"


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


def _comparison(comparison: Comparison, view: ExperimentView, phase: Phase) -> dict[str, Any]:
    treatment = comparison.treatment
    standing = view.book.standings.get(treatment, Standing())
    value = _difference(comparison.net_business_value)
    parts = {name: getattr(comparison.parts, name) for name in ("accuracy", "latency", "errors")}
    ratio = _sample_ratio(treatment, view, phase)
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
        "srm_p_value": ratio["p_value"],
        "sample_ratio": ratio,
        "guardrails": _guardrails(view, treatment),
        "may_pass_from": _may_pass_from(view, treatment),
    }


def _may_pass_from(view: ExperimentView, treatment: str) -> int | None:
    """From when on (epoch ms) the treatment may pass; None where it never may, or nothing was seen."""
    declared = view.experiment
    if view.book.phase is None or not alphas(declared.testing, declared.guardrails):
        return None
    return began(view.book, treatment) + int(declared.testing.min_duration)


def _guardrails(view: ExperimentView, treatment: str) -> dict[str, Any]:
    """Every guardrail by name, in one shape whether or not it was looked at."""
    declared, judged = view.experiment, view.book.judgements.get(treatment, {})
    shares = alphas(declared.testing, declared.guardrails)
    found = {}
    for guardrail in declared.guardrails:
        name = guardrail.name
        told = msgspec.to_builtins(judged[name]) if name in judged else _not_looked_at(guardrail)
        found[name] = {"test": guardrail.test, "alpha": shares.get(name), **told}
    return found


def _not_looked_at(guardrail: Guardrail) -> dict[str, Any]:
    """What is known of a guardrail before its first look: nothing, at no time."""
    judgement = Judgement(
        guardrail=guardrail.name,
        metric=guardrail.metric,
        phase=Verdict.INCONCLUSIVE,
        at=0,
        reason="not looked at yet",
    )
    return {**msgspec.to_builtins(judgement), "at": None}


def _sample_ratio(treatment: str, view: ExperimentView, phase: Phase) -> dict[str, Any]:
    """The split between a treatment and control against the intended one of the current phase.

    The p-value is None where one of them is to get no traffic, or none that can be told at the moment,
    and where units are randomised and predictions name none.
    """
    control, book = view.experiment.control, view.book
    both = (treatment, control)
    return {
        "p_value": mismatch(treatment, control, phase),
        "limit": mismatch_limit(book, len(view.experiment.treatments)),
        "mismatched": treatment in book.mismatched,
        "counted": _counted_in(view),
        "counts": {name: phase.counts.get(name, 0) for name in both},
        "split": {name: phase.split.get(name, 0.0) for name in both},
        "crossed": phase.crossed,
        "unitless": phase.unitless,
        "mixed": mixed(phase),
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
