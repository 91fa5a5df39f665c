"""Options about profitability as people type them: numbers, shares and ranges, to what is assumed. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from metrics.assumptions import QRange, Range, q_of, q_of_money, q_of_roi


WAYS = (
    "expected exactly one of: --q; --unit-revenue and --unit-cost; "
    "--reference-precision and --assumed-roi"
)

_MAY_BE_SHARES = {"--reference-precision", "--assumed-roi"}
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*")
_SHARES = "a number or a share such as 0.12 or 12%, or a range such as 10%..20%, >=10% or <=20%"
_NUMBERS = "a number such as 12, or a range such as 10..20, >=10 or <=20"


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is assumed about profitability: a range of q, and what it was told by.

    `q` is the one q where a point was told, None for a range. A unit revenue beside another way than unit revenue
    and unit cost says nothing of q; it gives the currency.
    """

    range: QRange
    q: float | None
    reference_precision: Range | None = None
    assumed_roi: Range | None = None
    unit_revenue: Range | None = None
    unit_cost: Range | None = None

    @property
    def central(self) -> float:
        """The q that models are ordered by: the one that was told, or the middle of a range.

        The middle is that of k = 1/(q - 1), in which RAP is linear, where it has two ends. Where q comes down to 1
        k has no end, and the middle of q is taken instead; where q has no end either, q is 2: a false alarm
        costs as much as a correct action gains.

        >>> assumed(q="2..5").central, assumed(q=">=3").central, assumed(q="<=3").central
        (2.6, 5.0, 2.0)
        """
        if self.q is not None:
            return self.q
        low, high = self.range.k
        if math.isfinite(high):
            return 1 + 2 / (low + high)
        return 2.0 if self.range.high is None else (1 + self.range.high) / 2

    @property
    def clipped(self) -> str | None:
        """One sentence where a part of the range was cut off because no action could pay there, or None."""
        return self.range.note

    def settings(self) -> dict[str, float]:
        """What says the same under `profitability:` of an experiment; raises ValueError for ranges."""
        told: dict[str, Range | None] = {
            "reference_precision": self.reference_precision,
            "assumed_roi": self.assumed_roi,
        }
        if self.reference_precision is None:
            told = {"unit_revenue": self.unit_revenue, "unit_cost": self.unit_cost}
            if self.unit_cost is None:
                told = {"q": Range(self.range.low, self.range.high)}
        return {name: _point(name, each) for name, each in told.items()}


def assumed(
    *,
    reference_precision: str | None = None,
    assumed_roi: str | None = None,
    q: str | None = None,
    unit_revenue: str | None = None,
    unit_cost: str | None = None,
) -> Assumed:
    """Read the options, each as it was typed or None; raises ValueError with what was expected.

    Exactly one way to tell q must be given. `unit_revenue` may stand beside the two others, for the currency.

    >>> assumed(reference_precision="10%..20%", assumed_roi="0").range
    QRange(low=5.0, high=10.0, clipped=False)
    """
    typed = {
        "--reference-precision": reference_precision,
        "--assumed-roi": assumed_roi,
        "--q": q,
        "--unit-revenue": unit_revenue,
        "--unit-cost": unit_cost,
    }
    found = {
        name: parse(name, text, percent=name in _MAY_BE_SHARES)
        for name, text in typed.items()
        if text is not None
    }
    if reference_precision is not None and "%" not in reference_precision:
        _check_precision(found["--reference-precision"])
    within = _within(found)
    told = [found.get(name) for name in typed if name != "--q"]
    return Assumed(within, within.low if within.low == within.high else None, *told)


def _within(found: Mapping[str, Range]) -> QRange:
    """The range of q by the one way it was told; raises ValueError where there is none, or several."""
    by_money = {"--unit-revenue", "--unit-cost"}
    if set(found) == by_money:
        return q_of_money(found["--unit-revenue"], found["--unit-cost"])
    if "--unit-revenue" in found:
        _check_revenue(found["--unit-revenue"])
    way = set(found) - {"--unit-revenue"}
    if way == {"--q"}:
        return q_of(found["--q"])
    if way == {"--reference-precision", "--assumed-roi"}:
        return q_of_roi(found["--reference-precision"], found["--assumed-roi"])
    raise ValueError(f"{WAYS}; got {' and '.join(found) or 'none'}")


def parse(name: str, text: str, *, percent: bool) -> Range:
    """Read `12`, `10..20`, `10..`, `>=10` or `<=20`; with `percent` also `12%`, which is 0.12.

    `name` is the option's. Raises ValueError with what was expected.

    >>> parse("--assumed-roi", "-30%..100%", percent=True)
    Range(low=-0.3, high=1.0)
    >>> parse("--q", ">=10", percent=False)
    Range(low=10.0, high=None)
    """
    if text.lstrip().startswith((">=", "≥")):
        ends = [text.lstrip().removeprefix(">=").removeprefix("≥"), None]
    elif text.lstrip().startswith(("<=", "≤")):
        ends = [None, text.lstrip().removeprefix("<=").removeprefix("≤")]
    elif ".." in text:
        low, _, high = text.partition("..")
        ends = [low if low.strip() else None, high if high.strip() else None]
    else:
        ends = [text, text]
    found = Range(*(None if end is None else _number(name, text, end, percent) for end in ends))
    if found.low and found.high and ends[0] and ends[1] and ("%" in ends[0]) != ("%" in ends[1]):
        raise ValueError(f"{name}: expected both ends with % or both without, got {text!r}")
    problem = found.problem(name)
    if problem:
        raise ValueError(problem)
    return found


def _number(name: str, text: str, end: str, percent: bool) -> float:
    match = _NUMBER.fullmatch(end)
    if match is None or (match[2] and not percent):
        raise ValueError(f"{name}: expected {_SHARES if percent else _NUMBERS}; got {text!r}")
    try:
        number = Decimal(match[1])
        return float(number / 100 if match[2] else number)
    except ArithmeticError:  # an exponent that no number has
        raise ValueError(f"{name}: expected a finite number, got {text!r}") from None


def _check_precision(told: Range) -> None:
    """Raise ValueError with a hint where somebody forgot the per cent sign."""
    for end in (told.low, told.high):
        if end is not None and 1 < end <= 100:
            raise ValueError(
                "expected reference precision to be above 0 and at most 1, "
                f"got {end:g}; write {end:g}% if it is per cent"
            )


def _check_revenue(told: Range) -> None:
    for end in (told.low, told.high):
        if end is not None and not end > 0:
            raise ValueError(f"expected unit revenue to be above 0, got {end:g}")


def _point(name: str, told: Range | None) -> float:
    if told is None or told.low is None or told.low != told.high:
        raise ValueError(
            f"{name}: expected one number for an experiment's settings, got a range; "
            "choose the number that the experiment shall be judged by"
        )
    return told.low
