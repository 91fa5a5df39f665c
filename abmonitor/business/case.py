"""Case files (file system): the inputs of business cases, read and checked."""

from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from abmonitor.business.quantities import (
    PARSERS,
    Amount,
    Change,
    Points,
    Printed,
    PrintedShare,
    Quantity,
    Share,
)
from abmonitor.convert import Check, Problem, convert
from abmonitor.settings import SettingsError
from abmonitor.yaml_source import Document, Mistake, parse, read
from metrics.experiment import Name


class Risk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that may go wrong."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    probability_share_per_year: Share
    """How likely it is to happen within a year."""
    loss: Amount
    """What it costs if it happens."""


class PrintedResults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Results that somebody printed, to be compared with the computed ones."""

    revenue_gain_per_day: Printed | None = None
    latency_cost_per_day: Printed | None = None
    risk_reduction_per_day: Printed | None = None
    net_per_day: Printed | None = None
    benefit_per_year: Printed | None = None
    expected_loss_per_year: Printed | None = None
    net_per_year: Printed | None = None
    first_year_net: Printed | None = None
    first_year_roi: PrintedShare | None = None
    ongoing_roi: PrintedShare | None = None
    payback_days: Printed | None = None
    time_to_market_value: Printed | None = None

    def given(self) -> dict[str, Printed]:
        """The printed results by name."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if value is not None}


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model is expected to bring and to cost, in one currency.

    Each of the three amounts a day is either given, or the product of its factors (`FACTORS`).
    """

    revenue_gain_per_day: Change | None = None
    revenue_per_day: Amount | None = None
    accuracy_gain_points: Points | None = None
    revenue_share_per_accuracy_point: Share | None = None
    """Share of the revenue that one point of accuracy brings."""

    latency_cost_per_day: Change | None = None
    predictions_per_day: Amount | None = None
    latency_increase_ms: Change | None = None
    cost_per_prediction_and_ms: Amount | None = None
    """What one ms of one prediction costs."""

    risk_reduction_per_day: Change | None = None
    error_rate_decrease_points: Points | None = None
    cost_per_error: Amount | None = None

    investment: Amount
    """Spent once, before the first day."""
    running_cost_per_year: Amount
    days_earlier: Amount | None = None
    """How much earlier one can start, if there is something that makes it earlier."""
    risks: tuple[Risk, ...] = ()
    printed: PrintedResults | None = None

    def quantities(self) -> dict[str, Quantity]:
        """All inputs that were given, by name; those of risks as `NAME: loss`."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        given = {name: each for name, each in found.items() if isinstance(each, Quantity)}
        for risk in self.risks:
            given[f"{risk.name}: probability"] = risk.probability_share_per_year
            given[f"{risk.name}: loss"] = risk.loss
        return given


class CaseFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cases to be compared with each other."""

    cases: Annotated[dict[Name, Case], Meta(min_length=1)]
    currency: Annotated[str, Meta(pattern=r"^\S{1,8}$")] = "EUR"


FACTORS = {
    "revenue_gain_per_day": (
        "revenue_per_day",
        "accuracy_gain_points",
        "revenue_share_per_accuracy_point",
    ),
    "latency_cost_per_day": (
        "predictions_per_day",
        "latency_increase_ms",
        "cost_per_prediction_and_ms",
    ),
    "risk_reduction_per_day": (
        "predictions_per_day",
        "error_rate_decrease_points",
        "cost_per_error",
    ),
}
"""Of what each amount a day is the product (points count as hundredths of the error rate)."""

_SHARED = "predictions_per_day"
FAINT_POINTS = 0.05
"""Changes of accuracy below that are real, but more often shares that were meant to be points."""


def load(path: Path) -> CaseFile:
    """Read the cases in a YAML file. Raises SettingsError with all mistakes at once."""
    return _converted(*read(path))


def example() -> str:
    """The bundled case file, as text."""
    return (files("abmonitor.business") / "example.yaml").read_text("utf-8")


def loads(text: str, name: str) -> CaseFile:
    """Read the cases in a text, `name` of which stands in messages. Raises SettingsError."""
    return _converted(*parse(text, name))


def _converted(document: Document | None, mistakes: list[Mistake]) -> CaseFile:
    if document is None:
        raise SettingsError(mistakes)
    found, more = convert(document, CaseFile, PARSERS, _CHECKS)
    if found is None or more or mistakes:
        raise SettingsError([*mistakes, *more])
    return found


def doubts(case: Case) -> Iterator[str]:
    """What is allowed, but more often a slip."""
    for name, quantity in case.quantities().items():
        likely = quantity.shape.likely
        if isinstance(quantity, Points) and 0 < abs(likely) < FAINT_POINTS:
            yield (
                f"{name} is only {likely:g} of a percentage point;"
                f" a share of {likely:g} would be {likely * 100:g} points"
            )


def _amount(name: str, case: Case) -> Iterator[Problem]:
    """Whether an amount a day is given once: itself, or by all its factors."""
    factors = FACTORS[name]
    own = [factor for factor in factors if factor != _SHARED]
    given = [factor for factor in own if getattr(case, factor) is not None]
    if getattr(case, name) is not None:
        if given:
            yield (name,), f"expected either {name} or its factors, got {', '.join(given)}, too"
        return
    if not given:
        wanted = ", ".join(factors)
        yield (), f"{name!r} is missing: give it (0 if there is none), or its factors {wanted}"
        return
    for factor in factors:
        if getattr(case, factor) is None:
            yield (), f"{factor!r} is missing: {name} is {' * '.join(factors)}"


def _unused(case: Case) -> Iterator[Problem]:
    """Whether the one factor that two amounts share is needed by any of them."""
    needing = [name for name, factors in FACTORS.items() if _SHARED in factors]
    given = [name for name in needing if getattr(case, name) is not None]
    if case.predictions_per_day is not None and given == needing:
        yield (_SHARED,), f"nothing uses it: {' and '.join(needing)} are given"


def _names(case: Case) -> Iterator[Problem]:
    """Whether each risk has a name of its own."""
    seen: set[str] = set()
    for index, risk in enumerate(case.risks):
        if risk.name in seen:
            yield (
                ("risks", index, "name"),
                f"expected another name for each risk, got {risk.name!r}",
            )
        seen.add(risk.name)


_CHECKS: dict[type, tuple[Check, ...]] = {
    Case: (*(partial(_amount, name) for name in FACTORS), _unused, _names),
}
