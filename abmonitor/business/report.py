"""Business cases for people (tables, no more digits than are known) and for programs. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abmonitor.business.calculate import Calculated, Estimate, Swing
from abmonitor.business.case import Case, doubts
from abmonitor.business.check import Finding
from abmonitor.summary import ABREAST, UNKNOWN


TITLES = {
    "revenue_gain_per_day": "revenue gained a day",
    "latency_cost_per_day": "cost of latency a day",
    "risk_reduction_per_day": "errors saved a day",
    "net_per_day": "net a day",
    "benefit_per_year": "benefit a year",
    "expected_loss_per_year": "expected loss a year",
    "net_per_year": "net of a later year",
    "first_year_net": "net of the first year",
    "first_year_roi": "ROI, first year",
    "ongoing_roi": "ROI, later years",
    "payback_days": "payback, days",
    "time_to_market_value": "value of starting earlier",
}
_SHARES = {"first_year_roi", "ongoing_roi"}
_COSTS = {"investment": "investment", "running_cost_per_year": "running cost a year"}
DIGITS = 2
"""Of a result that is known only as a range."""


def document(
    cases: Mapping[str, Case],
    found: Mapping[str, Calculated],
    *,
    draws: int,
    seed: int,
    currency: str,
) -> dict[str, Any]:
    """The results as plain data, in full precision; shares and returns as shares of 1."""
    return {
        "currency": currency,
        "draws": draws,
        "seed": seed,
        "correlation": "none",
        "discount_rate": None,
        "cases": {name: _case(cases[name], each) for name, each in found.items()},
    }


def check_document(found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """What was checked as plain data."""
    return {
        "contradictions": contradictions(found),
        "cases": {name: [each.document() for each in all_] for name, all_ in found.items()},
    }


def contradictions(found: Mapping[str, Sequence[Finding]]) -> int:
    """How many printed results contradict their formulas."""
    return sum(each.contradicts for findings in found.values() for each in findings)


def render(
    cases: Mapping[str, Case],
    found: Mapping[str, Calculated],
    *,
    draws: int,
    seed: int,
    currency: str,
) -> RenderableType:
    """The results for people: exact cases side by side, others with what is known of them."""
    exact = [name for name, each in found.items() if each.exact]
    parts: list[RenderableType] = [Text(f"money in {currency}", style="dim")]
    for start in range(0, len(exact), ABREAST):
        parts += [Text(), _abreast(exact[start : start + ABREAST], cases, found)]
    for name, each in found.items():
        if not each.exact:
            parts += [Text(), _ranges(name, cases[name], each), Text(), _tornado(each.swings)]
    parts += [Text(), *_notes(cases, found, draws, seed)]
    return Group(*parts)


def render_check(found: Mapping[str, Sequence[Finding]]) -> RenderableType:
    """Each printed number beside the computed ones."""
    parts: list[RenderableType] = []
    for name, findings in found.items():
        table = _table(name, "printed", "its formula", "from inputs", "")
        for each in findings:
            mark = Text("contradicts", style="red") if each.contradicts else Text("agrees")
            table.add_row(
                TITLES[each.result],
                _printed(each.result, each.printed),
                _span(each.result, each.by_formula),
                _span(each.result, each.from_inputs),
                mark,
            )
        parts += [table, Text()]
    told = "its formula: from the inputs and the printed results before it"
    count = contradictions(found)
    what = "contradiction" if count == 1 else "contradictions"
    return Group(*parts, Text(told, style="dim"), Text(f"{count} {what}"))


def _case(case: Case, found: Calculated) -> dict[str, Any]:
    return {
        "exact": found.exact,
        "results": {name: _estimate(each) for name, each in found.results.items()},
        "expected_losses": {name: _estimate(each) for name, each in found.losses.items()},
        "chances": {
            "net_positive": found.chance_net_positive,
            "payback_within_year": found.chance_payback_within_year,
        },
        "tornado": [_swing(each) for each in found.swings],
        "doubts": list(doubts(case)),
    }


def _estimate(found: Estimate) -> dict[str, float | None]:
    return {"likely": found.likely, "p5": found.p5, "p50": found.p50, "p95": found.p95}


def _swing(found: Swing) -> dict[str, Any]:
    return {
        "input": found.name,
        "low": found.low,
        "high": found.high,
        "first_year_net_at_low": found.net_at_low,
        "first_year_net_at_high": found.net_at_high,
    }


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column(Text(columns[0]), overflow="fold")
    for column in columns[1:]:
        # Names may go on in the next line, but numbers stay whole.
        table.add_column(Text(column), justify="right", overflow="fold", no_wrap=bool(columns[0]))
    return table


def _abreast(
    names: Sequence[str], cases: Mapping[str, Case], found: Mapping[str, Calculated]
) -> Table:
    """Exact cases, a column each."""
    table = _table("", *names)
    for title, costs in _costs([cases[name] for name in names]):
        table.add_row(title, *(_number("", each, exact=True) for each in costs))
    for result, title in TITLES.items():
        estimates = [found[name].results[result] for name in names]
        if result != "time_to_market_value" or any(each.likely is not None for each in estimates):
            table.add_row(title, *(_number(result, each.likely, exact=True) for each in estimates))
    within = (found[name].chance_payback_within_year for name in names)
    table.add_row("back within a year", *("yes" if share else "no" for share in within))
    return table


def _costs(cases: Sequence[Case]) -> Iterator[tuple[str, list[float]]]:
    for name, title in _COSTS.items():
        yield title, [getattr(case, name).shape.likely for case in cases]


def _ranges(name: str, case: Case, found: Calculated) -> Table:
    """A case with ranges: what is likely, and between what it may lie."""
    table = _table(name, "likely", "p5", "p50", "p95")
    for result, title in TITLES.items():
        each = found.results[result]
        if result == "time_to_market_value" and case.days_earlier is None:
            continue
        table.add_row(title, *_cells(result, each))
        if result == "expected_loss_per_year":
            for risk, loss in found.losses.items():
                table.add_row(Text(f"  {risk}"), *_cells("", loss))
    table.add_row()
    table.add_row("chance: net above 0", chance(found.chance_net_positive))
    table.add_row("chance: back in a year", chance(found.chance_payback_within_year))
    return table


def _cells(result: str, found: Estimate) -> Iterator[str]:
    for value in (found.likely, found.p5, found.p50, found.p95):
        yield _number(result, value, exact=found.exact)


def _tornado(swings: Sequence[Swing]) -> Table:
    """Which input moves the net of the first year most."""
    table = _table("what moves the first year most", "from", "to", "net from", "net to")
    for each in (swing for swing in swings if swing.width):
        ends = [_input(each.name, end) for end in (each.low, each.high)]
        nets = [_plain(_rounded(net, DIGITS + 1)) for net in (each.net_at_low, each.net_at_high)]
        table.add_row(Text(each.name), *ends, *nets)
    return table


def _input(name: str, value: float) -> str:
    share = "_share_" in name or name.endswith(": probability")
    return f"{value * 100:.4g} %" if share else _plain(_rounded(value, 4))


def _notes(
    cases: Mapping[str, Case], found: Mapping[str, Calculated], draws: int, seed: int
) -> Iterator[Text]:
    lines = ["Not discounted. A dash: never, or cannot be known."]
    if any(case.risks for case in cases.values()):
        lines.append(
            "Risks count with their expected loss, as a running cost; they are not drawn as events."
        )
    if not all(each.exact for each in found.values()):
        lines.append(
            f"{draws:,} draws, seed {seed}. 90 % of them lie between p5 and p95. Inputs are drawn"
            " independently of each other (no correlation); each of the last table is moved alone,"
            " the others at their likely value."
        )
    yield from (Text(line, style="dim") for line in lines)
    for name, case in cases.items():
        yield from (Text(f"! {name}: {doubt}", style="yellow") for doubt in doubts(case))


def chance(share: float) -> str:
    """A chance in whole per cent: draws say neither never nor always.

    >>> chance(0.123), chance(1.0), chance(0.001)
    ('12 %', '> 99 %', '< 1 %')
    """
    if share < 0.01:
        return "< 1 %"
    return "> 99 %" if share > 0.99 else f"{share * 100:.0f} %"


def _span(result: str, found: Estimate) -> str:
    if found.exact:
        return _number(result, found.likely, exact=True)
    low, high = (_number(result, each, exact=False) for each in (found.p5, found.p95))
    return f"{low} to {high}"


def _printed(result: str, value: float) -> str:
    """A number with the digits that it was printed with."""
    share = result in _SHARES
    return f"{_plain(round(value * 100, 9))} %" if share else _plain(value)


def _number(result: str, value: float | None, *, exact: bool) -> str:
    """A result with its unit; of what is a range only two digits."""
    if value is None:
        return UNKNOWN
    shown = value * 100 if result in _SHARES else value
    if not exact:
        text = _plain(_rounded(shown, DIGITS))
    elif result in _SHARES or (result == "payback_days" and shown):
        text = f"{shown:,.1f}"
    else:
        text = _plain(round(shown, 2))
    return f"{text} %" if result in _SHARES else text


def _rounded(value: float, digits: int) -> float:
    return round(value, digits - 1 - floor(log10(abs(value)))) if value else 0.0


def _plain(value: float) -> str:
    """A number without zeros behind the point."""
    if value and abs(value) < 0.01:
        return f"{value:g}"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"
