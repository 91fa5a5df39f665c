"""A ranking for programs: all models in full precision, null where something cannot be known. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from abmonitor.ranking.lead import notes, sentences
from abmonitor.ranking.ranking import NAMES, Ranking
from metrics.candidates import BASELINES, FloatArray
from metrics.resampling import LEVEL


def document(ranking: Ranking) -> dict[str, Any]:
    """The ranking as plain data: shares as shares of 1, models in their order, then baselines."""
    plan, counts = ranking.plan, ranking.tally.counts
    models = _models(ranking)
    ordered = [models[place] for place in ranking.order]
    return {
        "rows": ranking.rows,
        "positives": round(counts.positives),
        "negatives": round(counts.negatives),
        "basis": "rows" if plan.q is None else "assumed",
        "q": plan.q,
        "q_range": _q_range(ranking),
        "unit_cost": plan.unit_cost,
        "threshold": plan.threshold if ranking.tuning is None else None,
        "replicates": plan.replicates,
        "seed": plan.seed,
        "level": LEVEL,
        "summary": sentences(ranking),
        "notes": notes(ranking),
        "best": [each["model"] for each in ordered if each["rank"] == 1],
        "tied": None if ranking.tied is None else [e["model"] for e in ordered if e["tied"]],
        "models": ordered,
        "baselines": models[-len(BASELINES) :],
        "not_ranked": ranking.faults,
        "left_out_columns": list(ranking.left_out),
        "constant": list(ranking.constant),
        "dropped_rows": ranking.dropped,
    }


def _q_range(ranking: Ranking) -> dict[str, Any] | None:
    if ranking.plan.assumed is None:
        return None
    within = ranking.plan.assumed.range
    return {"low": within.low, "high": within.high, "clipped": within.clipped}


def _models(ranking: Ranking) -> list[dict[str, Any]]:
    """Models and baselines in the order of the file."""
    count = len(ranking.tally.counts.models)
    columns: dict[str, Sequence[object]] = {"model": ranking.tally.counts.models}
    columns["rank"] = _padded(ranking.ranks.tolist(), count)
    columns["tied"] = [None] * count if ranking.tied is None else ranking.tied.tolist()
    columns |= {name: plain(ranking.column(name)) for name in NAMES}
    columns |= _bounds(ranking, count) | _over_range(ranking, count) | _tuning(ranking, count)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _bounds(ranking: Ranking, count: int) -> dict[str, Sequence[object]]:
    """95 % intervals: of RAP for all models together, and of every ratio for each model by itself."""
    if ranking.tied is None:
        return {"rap_joint_interval": [None] * count, "intervals": [None] * count}
    single = {name: _pairs(ranking.interval(name)) for name in NAMES}
    there = {name: pairs for name, pairs in single.items() if pairs is not None}
    rows = zip(*there.values(), strict=True)
    return {
        "rap_joint_interval": _pairs(ranking.joint()) or [None] * count,
        "intervals": [dict(zip(there, row, strict=True)) for row in rows],
    }


def _pairs(bounds: tuple[FloatArray, FloatArray] | None) -> list[list[float | None] | None] | None:
    if bounds is None:
        return None
    ends = zip(*(plain(end) for end in bounds), strict=True)
    return [None if low is None or high is None else [low, high] for low, high in ends]


def _over_range(ranking: Ranking, count: int) -> dict[str, Sequence[object]]:
    within = ranking.within
    if within is None:
        return {}
    low, high = (plain(end) for end in within.rap)
    return {
        "rap_low": low,
        "rap_high": high,
        "rank_best": _padded(within.ranks.best.tolist(), count),
        "rank_worst": _padded(within.ranks.worst.tolist(), count),
        "first": _padded(within.ranks.certainty(1), count),
    }


def _tuning(ranking: Ranking, count: int) -> dict[str, Sequence[object]]:
    tuning = ranking.tuning
    if tuning is None:
        return {}
    return {
        "threshold": _padded(plain(tuning.thresholds), count),
        "threshold_halves": _padded([plain(each) for each in tuning.halves.T], count),
        "rap_in_sample": _padded(plain(tuning.in_sample), count),
        "rap_untuned": _padded(plain(tuning.untuned), count),
    }


def _padded(found: Sequence[object], count: int) -> Sequence[object]:
    """With None for the baselines."""
    return [*found, *[None] * (count - len(found))]


def plain(numbers: FloatArray) -> list[float | None]:
    """Numbers with None where they are not finite."""
    return [each if math.isfinite(each) else None for each in numbers.tolist()]
