"""What a rollback saved, and what was lost before it: harm a prediction times predictions. Pure.

saved = (profit per prediction of the control - of the treatment) x predictions still planned. It is an
estimate: the exposure is what the plan says, as if nothing else had stopped the treatment.
"""

from itertools import pairwise
from typing import Any

import msgspec

from abmonitor.report.case import OFF, Case
from metrics.experiment import HOUR
from metrics.sequential import PLANNED


CURRENCY = "currency units"
"""Of what `unit_cost` is declared in."""


OF_A_LATER_LIFE = "predictions since it was re-armed whose label was final at its rollback"
"""What the decision tells of a life that is not the first; what came later is not told apart."""


class Range(msgspec.Struct, frozen=True):
    """A number and between what it lies; bounds are None where they cannot be known."""

    estimate: float
    lower: float | None
    upper: float | None

    def times(self, factor: float) -> "Range":
        """Everything times `factor`, which must not be negative."""
        lower, upper = (None if end is None else end * factor for end in (self.lower, self.upper))
        return Range(self.estimate * factor, lower, upper)

    def negated(self) -> "Range":
        """The same seen from the other side."""
        lower, upper = (None if end is None else -end for end in (self.upper, self.lower))
        return Range(-self.estimate, lower, upper)


class Exposure(msgspec.Struct, frozen=True):
    """Predictions that were still planned for a treatment when it was rolled back."""

    predictions: float
    how: str
    """How that is computed, with its numbers."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback saved; `why_not` says why that is not known, where it is not."""

    unit: str
    rate: Range | None = None
    """Lost a prediction: control minus treatment."""
    made: int | None = None
    """Predictions that the treatment made, those of `made_what`."""
    made_what: str = "predictions that it made"
    lost: Range | None = None
    """Lost by them."""
    exposure: Exposure | None = None
    saved: Range | None = None
    unseen: bool = False
    """Whether nobody saw that its traffic went, as all of `saved` takes it to have."""
    why_not: str | None = None


def as_range(found: dict[str, Any] | None) -> Range | None:
    """A difference of the document; None where it is not known."""
    if found is None or found["estimate"] is None:
        return None
    return Range(found["estimate"], found["lower"], found["upper"])


def price(case: Case) -> tuple[float, str]:
    """What one cost of an action is worth, and the unit that comes of it."""
    cost = (case.declared.get("profitability") or {}).get("unit_cost")
    return (1.0, "costs of an action") if cost is None else (cost, CURRENCY)


def saved(case: Case, series: dict[str, Any] | None) -> Saved:
    """What rolling the treatment back saved, with what was lost before; see the module."""
    cost, unit = price(case)
    difference = as_range(case.facts["differences"].get("profit_per_prediction"))
    if difference is None:
        why = "what a prediction earns is not known: no profitability is declared, or no label is final"
        return Saved(unit=unit, why_not=why)
    rate = difference.negated().times(cost)
    made = _made(case)
    lost = None if made is None else rate.times(made)
    known = Saved(unit=unit, rate=rate, made=made, lost=lost)
    if case.facts["epoch"] > 1:
        known = msgspec.structs.replace(known, made_what=OF_A_LATER_LIFE)
    left, why_not = None, _nothing_saved(case)
    if why_not is None:
        left, why_not = _exposure(case, series)
    if left is None:
        return msgspec.structs.replace(known, why_not=why_not)
    unseen = not case.facts["verified"]
    return msgspec.structs.replace(
        known, exposure=left, saved=rate.times(left.predictions), unseen=unseen
    )


def _nothing_saved(case: Case) -> str | None:
    """Why no traffic was taken away, as far as that is known; None where it was."""
    if case.decision is None:
        return "it was not rolled back in its present life"
    if case.state == "would_roll_back":
        return "this was a dry run: the treatment kept its traffic"
    if case.state in OFF - {"rolled_back"}:
        return f"the rollback is not done yet ({case.state.replace('_', ' ')})"
    if case.still is not None:
        return f"the rollback did not take its traffic away: it got {case.still}"
    return None


def _made(case: Case) -> int | None:
    """Predictions of the treatment in its present life; None where they are not told apart."""
    if case.facts["epoch"] == 1:
        return int(case.found["variants"][case.treatment]["predictions"])
    decision = case.decision
    if decision is None or case.treatment not in decision["counts"]:
        return None
    return int(decision["counts"][case.treatment]["predictions"])


def _exposure(case: Case, series: dict[str, Any] | None) -> tuple[Exposure | None, str | None]:
    """What was still planned, or why that is not known: by time where that is declared, else by number."""
    testing, start = case.found["testing"], began(case)
    longest = testing["max_duration_ms"]
    if longest is not None and start is not None:
        return _by_time(case, series, start + longest)
    planned, made = testing["planned"], _made(case)
    if planned == PLANNED or made is None:
        why = "the plan is not declared (testing.max_duration, or testing.planned)"
        return None, why
    left = max(0.0, planned - made)
    what = "made" if case.facts["epoch"] == 1 else OF_A_LATER_LIFE
    return Exposure(left, f"{planned:,.0f} planned (testing.planned) - {made:,} {what}"), None


def began(case: Case) -> int | None:
    """When the present life of the treatment began (epoch ms); None where that is not known."""
    if case.facts["epoch"] == 1:
        phases = [*case.found["past_phases"], case.found["phase"]]
        return int(min(each["since"] for each in phases)) or None
    for found in reversed(case.found["decisions"]):
        if found["treatment"] == case.treatment and found["action"] == "rearm":
            return int(found["at"])
    return None


def _by_time(
    case: Case, series: dict[str, Any] | None, end: int
) -> tuple[Exposure | None, str | None]:
    """Traffic a millisecond before the rollback, times the share that was planned, until `end`."""
    decision = case.decision or {}
    at, pace = int(decision["at"]), _pace(case, series)
    if pace is None:
        return None, "how much traffic there was before the rollback is not known"
    shared = sum(
        (until - since) * _share(split, case.treatment)
        for since, until, split in _plan(case, at, max(at, end))
    )
    if not shared and end > at:
        return None, "the plan gave it no traffic after the rollback"
    hours = max(0, end - at) / HOUR
    how = (
        f"{pace * HOUR:,.6g} predictions an hour of all variants before the rollback x a planned share of"
        f" {shared / max(1, end - at):.4g} x {hours:,.4g} hours until testing.max_duration"
    )
    return Exposure(pace * shared, how), None


def _pace(case: Case, series: dict[str, Any] | None) -> float | None:
    """Predictions of all variants a millisecond, in the phase in which it was rolled back."""
    decision = case.decision or {}
    phase = decision.get("phase")
    if phase is not None and case.found["phase"].get("counted") == "predictions":
        width, came = decision["at"] - phase["since"], sum(phase["counts"].values())
        if width > 0 and came:
            return float(came / width)
    return None if series is None else _pace_of(series["arrival"], decision["at"])


def _pace_of(arrival: dict[str, Any], at: int) -> float | None:
    width = arrival["width_ms"]
    before = [n for n, start in enumerate(arrival["at"]) if start + width <= at]
    came = sum(each["predictions"][n] for each in arrival["variants"].values() for n in before)
    return came / (width * len(before)) if came else None


def _plan(case: Case, at: int, end: int) -> list[tuple[int, int, dict[str, float]]]:
    """Stretches of the plan in [at, end), with their splits; without a ramp the split as it was."""
    phase = (case.decision or {}).get("phase") or case.found["phase"]
    steps = [(each["at"], each["variants"]) for each in case.declared.get("ramp") or ()]
    later = [(when, split) for when, split in steps if at < when < end]
    edges = [(at, phase["split"]), *later, (end, {})]
    return [(since, until, split) for (since, split), (until, _) in pairwise(edges)]


def _share(split: dict[str, float], treatment: str) -> float:
    whole = sum(split.values())
    return split.get(treatment, 0.0) / whole if whole else 0.0
