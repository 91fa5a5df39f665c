"""What a rollback saved, what alone would flip the verdict, and for which assumptions it holds. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.report.case import Case
from abmonitor.report.content import Block, Formula, Section, Table, Text
from abmonitor.report.figures import bounded
from abmonitor.report.flip import Term, terms
from abmonitor.report.gather import Gathered
from abmonitor.report.opening import EACH, NAMES, UNITS
from abmonitor.report.saved import Range, Saved, as_range, saved
from abmonitor.report.words import HEADLINES, PERCENT, UNKNOWN, number
from abmonitor.report.worth import revenue


def details(given: Gathered) -> Iterator[Section]:
    """The reasoning behind the first page, treatment by treatment."""
    several = len(given.found["comparisons"]) > 1
    for case in given.cases():
        more = f": {case.treatment}" * several
        blocks = tuple(_saved(saved(case, given.series)))
        yield Section(title=f"What the rollback saved{more}", blocks=blocks, begins_page=True)
        yield Section(title=f"What alone would flip the verdict{more}", blocks=tuple(_flip(case)))
        yield Section(title=f"For which assumptions it holds{more}", blocks=tuple(_assumed(case)))


def _saved(found: Saved) -> Iterator[Block]:
    if found.saved is None:
        yield Text(f"n/a: {found.why_not}.")
    if found.rate is None:
        return
    if found.saved is not None:
        yield Text(_ESTIMATE + _UNSEEN * found.unseen)
    yield Formula(tuple(_reckoned(found, found.rate)))
    if found.rate.estimate < 0:
        yield Text("A loss below 0 is a gain.")
    if found.saved is not None:
        yield Text(
            "The bounds are those of the loss of a prediction; how many predictions were still planned is taken"
            " as given."
        )


_UNSEEN = " That its traffic went was not seen; if it did not, nothing was saved."
_ESTIMATE = (
    "An estimate, not a measurement: nobody saw what would have happened. It takes the loss of a prediction"
    " to stay as it was, and the plan to be kept. A test that stops on harm stops when harm looks large, so"
    " the estimate leans to too much; the bounds hold at whatever moment it stopped."
)


def _reckoned(found: Saved, loss: Range) -> Iterator[str]:
    """The formulas with their numbers, as far as these are known."""
    rate = bounded(loss, signed=False)
    yield "loss of a prediction = profit per prediction of the control - of the treatment"
    yield f"                     = {rate} {found.unit}"
    if found.lost is not None:
        lost = f"{bounded(found.lost, signed=False)} {found.unit}"
        yield f"lost until now       = loss of a prediction x {found.made_what}"
        yield f"                     = {rate} x {found.made:,} = {lost}"
    if found.exposure is not None:
        left, worth = found.exposure, f"{bounded(found.saved, signed=False)} {found.unit}"
        yield "saved                = loss of a prediction x predictions still planned"
        yield f"                     = {rate} x {left.predictions:,.0f} = {worth}"
        yield f"still planned        = {left.how}"


def _flip(case: Case) -> Iterator[Block]:
    total = case.facts["net_business_value"]["estimate"]
    if total is None:
        yield Text("n/a: net business value is not known, because one of its parts has no data.")
    else:
        way = "above" if total < 0 else "below"
        whole = as_range(case.facts["net_business_value"])
        yield Text(
            f"Net business value is {bounded(whole, PERCENT)}{_side(whole)}. Each line says what of one term alone"
            f" would take the estimate {way} 0, the others as they are. A change that is out of reach speaks for"
            " the verdict, one that is within reach against it."
        )
        yield Table(
            "One term at a time",
            ("", "now", "would have to be", "a change of", "or its weight", "instead of"),
            tuple(_flipped(each) for each in terms(case)),
            words=True,
        )
    yield from _tests(case)


def _side(found: Range | None) -> str:
    """What is to be said of a value whose sign is not known."""
    if found is None or found.lower is None or found.upper is None:
        return ""
    return (
        ", and on which side of 0 it lies is not decided" if found.lower < 0 < found.upper else ""
    )


def _flipped(term: Term) -> tuple[str, ...]:
    unit, name = UNITS[term.part], NAMES[term.part]
    now = UNKNOWN if term.difference is None else f"{number(term.difference, '+,.3g')}{unit}"
    if term.needed is None or term.difference is None:
        needed = "nothing: its weight is 0" if term.weight == 0 else UNKNOWN
        change = UNKNOWN
    else:
        needed = f"{number(term.needed, '+,.3g')}{unit}"
        needed += " (no treatment can have that)" * (term.possible is False)
        change = f"{number(term.needed - term.difference, '+,.3g')}{unit}"
    weight = UNKNOWN if term.weight is None else f"{number(term.weight, '+.3g')} %"
    if term.weight_needed is None:
        other = "no weight of its sign" if term.weight else UNKNOWN
    else:
        other = f"{number(term.weight_needed, '+.3g')} % per{EACH[term.part]}"
    return name, now, needed, change, other, weight


def _tests(case: Case) -> Iterator[Block]:
    """How far proven harm is beyond what is tolerated: a guardrail overrides whatever value there is."""
    failed = [found for found in case.failing if found["test"] == "sequential"]
    if not failed:
        return
    yield Text(
        "A guardrail that has failed rejects the treatment whatever its net business value is. So the rollback"
        " would have to be flipped here: the bound that is nearest to no harm would have to lie within what is"
        " tolerated."
    )
    yield Table(
        "Failed tests",
        ("test", "what it says"),
        tuple((found["guardrail"], found["reason"]) for found in failed),
        words=True,
    )


def _assumed(case: Case) -> Iterator[Block]:
    found = case.facts["roi_range"]
    if found is None:
        yield Text(
            "n/a: for which profitability the treatment is ahead cannot be known, because not every prediction"
            " gets its label or one of the variants has no positives."
        )
    else:
        yield Text(f"By the estimates alone: {found['sentence']} {_at_declared(case)}")
        yield Table("The range in which the treatment is ahead", _RANGE, (_range(case, found),))
        yield from _border(case, found)
    yield from _weights(case)
    taken = revenue(case)
    if taken.each is not None:
        yield Text(
            "Money of net business value takes its per cents to be per cents of what the control takes in:"
            f" {taken.each:,.4g} {taken.unit} a prediction = {taken.how}."
        )


_RANGE = ("assumption", "ahead from", "ahead to", "declared", "at the declared one")
_STANDINGS = {
    "proven": "the treatment is ahead, proven",
    "behind": "the control is ahead, proven",
    "undecided": "undecided: the bounds hold both",
}


def _range(case: Case, found: dict[str, Any]) -> tuple[str, ...]:
    roi = found["scale"] == "roi"
    name = "assumed ROI of the reference model" if roi else "unit profitability q"
    given = (case.declared.get("profitability") or {}).get("assumed_roi") if roi else None
    declared = given if roi else case.declared.get("q")
    if found["ahead"] in {"never", "level"}:
        ends = ["nowhere", "nowhere"]
    else:
        ends = [
            _end(found["low"], "the least that is possible", roi=roi),
            _end(found["high"], "no end", roi=roi),
        ]
    told = _end(declared, UNKNOWN, roi=roi)
    standing = UNKNOWN if case.declared.get("q") is None else _STANDINGS[str(found["standing"])]
    return name, *ends, told, standing


def _border(case: Case, found: dict[str, Any]) -> Iterator[Text]:
    """The same end as k*, for who knows the formula."""
    end = found["low"] if found["low"] is not None else found["high"]
    if end is None:
        return
    precision = (case.declared.get("profitability") or {}).get("reference_precision")
    if found["scale"] == "roi" and precision is None:
        return
    border = (1 + end) / precision if found["scale"] == "roi" else end
    declared = case.declared.get("q")
    given = f", and declared is k = {1 / (declared - 1):.4g}" if declared else ""
    yield Text(
        f"At the end of that range k* = 1/(q - 1) = {1 / (border - 1):.4g}, where RAP = recall - k x FP/(TP + FN) of"
        f" both variants is equal{given}."
    )


def _end(value: float | str | None, otherwise: str, *, roi: bool) -> str:
    if not isinstance(value, float | int):
        return otherwise
    return f"{number(100 * value, '.4g')}{PERCENT}" if roi else number(value, ".4g")


def _at_declared(case: Case) -> str:
    found = case.facts["roi_range"]
    q = case.declared.get("q")
    declared = "At the declared profitability" + ("" if q is None else f" (q = {q:.4g})")
    if case.facts["differences"].get("rap", {}).get("estimate") is None:
        return "No profitability is declared, so that this is all that can be said."
    ends = {
        "proven": "it is proven to be ahead",
        "behind": "it is proven to be behind",
        "undecided": "which of them is ahead is not decided",
    }
    return f"{declared} {ends[found['standing']]}."


def _weights(case: Case) -> Iterator[Block]:
    """What net business value is made of, and whether it goes another way than profit."""
    weights = case.declared.get("business_value")
    if weights:
        yield Text(
            "Net business value assumes that a point of accuracy is worth"
            f" {number(weights['per_accuracy_point_pct'], '+g')} %, a millisecond"
            f" {number(weights['per_latency_ms_pct'], '+g')} % and a point of errors"
            f" {number(weights['per_error_point_pct'], '+g')} %. It is another measure than profit, which counts what"
            " each action earned and cost, and the two need not agree."
        )
    total = case.facts["net_business_value"]["estimate"]
    metric = case.metric
    if total is None or metric not in HEADLINES or metric == "accuracy":
        return
    earned = case.facts["differences"][metric]["estimate"]
    if earned * total < 0:
        yield Text(
            f"Mind that {metric} and net business value point different ways here: they weigh mistakes"
            " differently. The rollback goes by the guardrails."
        )
