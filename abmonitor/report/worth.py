"""What differences are worth in money: per cent of what the control takes in, and profit a prediction. Pure."""

from typing import Any

import msgspec

from abmonitor.report.case import Case
from abmonitor.report.saved import CURRENCY, Range, as_range, price


A_THOUSAND = 1000
"""Predictions for which money is told."""


class Revenue(msgspec.Struct, frozen=True, kw_only=True):
    """What a prediction of the control takes in, before its cost: what a per cent is a per cent of."""

    each: float | None
    unit: str
    how: str
    """How it is computed, with its numbers; why it is not known where it is not."""


def revenue(case: Case) -> Revenue:
    """Revenue a prediction of the control: q x its share of true positives x the cost of an action."""
    cost, unit = price(case)
    q = case.declared.get("q")
    control = case.found["variants"][case.found["control"]]
    n, tp = _judged(case, control), control["mature_counts"]["tp"]
    if q is None:
        why = "no profitability is declared" if case.declared else "the source has no settings"
        return Revenue(each=None, unit=unit, how=why)
    if not n or not tp:
        why = "no final label of the control says that an action was right"
        return Revenue(each=None, unit=unit, how=why)
    priced = f" x {cost:,.4g} (cost of an action)" if unit == CURRENCY else ""
    how = f"q {q:.4g} x {tp:,} right actions of {n:,} predictions of the control{priced}"
    return Revenue(each=q * tp / n * cost, unit=unit, how=how)


def _judged(case: Case, facts: dict[str, Any]) -> int:
    """Predictions that profit is a mean over: those of a final label, where missing ones are left out.

    Failed ones are among them; their part of what is final is taken to be that of everything.
    """
    final = int(facts["mature_predictions"])
    labels = case.declared.get("labels") or {}
    if labels.get("when_missing") != "exclude" or labels.get("observed") != "all" or not final:
        return final
    failed: int = round(facts["errors"] * final / facts["predictions"])
    judged: int = sum(facts["mature_counts"].values())
    return min(final, judged + failed)


def in_money(percent: Range | None, taken: Revenue) -> Range | None:
    """What so many per cent of the revenue are, for a thousand predictions."""
    if percent is None or taken.each is None:
        return None
    return percent.times(taken.each * A_THOUSAND / 100)


def part_range(found: tuple[float | None, float | None, float | None]) -> Range | None:
    """A range of (estimate, one end, other end), the ends in order; None where it is not known."""
    estimate, one, other = found
    if estimate is None:
        return None
    if one is None or other is None:
        return Range(estimate, None, None)
    return Range(estimate, min(one, other), max(one, other))


def profit_a_thousand(case: Case) -> Range | None:
    """Profit of a thousand predictions, treatment minus control, in the unit of `saved.price`."""
    found = as_range(case.facts["differences"].get("profit_per_prediction"))
    return None if found is None else found.times(price(case)[0] * A_THOUSAND)
