"""Which term alone would flip the verdict: by how much each would have to change, the others as they are. Pure.

Net business value is a sum of three terms, weight x difference. One term alone takes the sum to the border where
its difference changes by -(sum - border)/weight. A change that no treatment can make (fewer errors than none) is
told to be impossible.
"""

from typing import Any, Literal

import msgspec

from abmonitor.report.case import Case
from abmonitor.report.saved import as_range


Part = Literal["accuracy", "latency", "errors"]
METRICS: dict[Part, tuple[str, float]] = {
    "accuracy": ("accuracy", 100.0),
    "latency": ("latency_mean_ms", 1.0),
    "errors": ("error_rate", 100.0),
}
"""Of each part the metric that it is the difference of, and what turns it into points or ms."""

WEIGHTS: dict[Part, str] = {
    "accuracy": "per_accuracy_point_pct",
    "latency": "per_latency_ms_pct",
    "errors": "per_error_point_pct",
}


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One part of net business value, and what of it alone would flip the sign of the sum.

    Differences are treatment minus control, in points or ms; `worth` and the sum are per cent.
    """

    part: Part
    difference: float | None
    lower: float | None
    upper: float | None
    worth: float | None
    weight: float | None
    needed: float | None = None
    """The difference at which the sum is 0; None where there is none."""
    possible: bool | None = None
    """Whether a treatment can have it; None where that is not known."""
    weight_needed: float | None = None
    """The weight at which the sum is 0; None where there is none, or none of its sign."""


def terms(case: Case) -> tuple[Term, ...]:
    """The three terms of net business value."""
    value = case.facts["net_business_value"]
    return tuple(_term(case, part, value) for part in METRICS)


def _term(case: Case, part: Part, value: dict[str, Any]) -> Term:
    metric, scale = METRICS[part]
    found = as_range(case.facts["differences"].get(metric))
    ends = (None, None, None) if found is None else msgspec.structs.astuple(found)
    difference, lower, upper = (None if end is None else scale * end for end in ends)
    worth, total = value["parts"][part], value["estimate"]
    weight = _weight(case, part, worth, difference)
    told = Term(
        part=part, difference=difference, lower=lower, upper=upper, worth=worth, weight=weight
    )
    if total is None or difference is None or worth is None or not weight:
        return told
    needed = difference - total / weight
    other = total - worth
    flipped = -other / difference if difference else None
    return msgspec.structs.replace(
        told,
        needed=needed,
        possible=_possible(case, part, needed),
        weight_needed=flipped if flipped is not None and flipped * weight > 0 else None,
    )


def _weight(case: Case, part: Part, worth: float | None, difference: float | None) -> float | None:
    """As declared; where that is not told, what the numbers themselves say."""
    given = (case.declared.get("business_value") or {}).get(WEIGHTS[part])
    if given is not None:
        return float(given)
    return worth / difference if worth and difference else None


def _possible(case: Case, part: Part, needed: float) -> bool | None:
    """Whether the treatment could be that much better or worse than this control."""
    metric, scale = METRICS[part]
    control = case.found["variants"][case.found["control"]]["metrics"].get(metric)
    if control is None:
        return None
    level = scale * control + needed
    return level >= 0 and (part == "latency" or level <= 100)
