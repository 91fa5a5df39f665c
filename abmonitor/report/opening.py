"""The first page of a report: what to do, how sure that is, what it is worth, and what was rolled back. Pure."""

from collections.abc import Iterator
from typing import Any

from abmonitor.report.case import ROLLBACKS, Answer, Case
from abmonitor.report.content import Block, Cards, Section, Table, Text
from abmonitor.report.figures import bounded, percent, ratio
from abmonitor.report.flip import Term, terms
from abmonitor.report.gather import Gathered
from abmonitor.report.lines import over_time
from abmonitor.report.recommend import recommend
from abmonitor.report.saved import Range, Saved, as_range, price, saved
from abmonitor.report.words import PERCENT, UNKNOWN, moment
from abmonitor.report.worth import in_money, part_range, profit_a_thousand, revenue


UNITS = {"accuracy": " points", "latency": " ms", "errors": " points"}
EACH = {"accuracy": " point", "latency": " ms", "errors": " point"}
NAMES = {"accuracy": "accuracy", "latency": "mean latency", "errors": "error rate"}
QUESTIONS = {
    "hurting": "Is it hurting us?",
    "sure": "How sure are we?",
    "trust": "Can the data be trusted?",
}


def opening(given: Gathered) -> Iterator[Section]:
    """The first page, treatment by treatment."""
    several = len(given.found["comparisons"]) > 1
    if several:
        yield Section(title="All treatments", blocks=(_overview(given),))
    for case in given.cases():
        more = f": {case.treatment}" * several
        told = given.answers(case)
        cards = Cards(tuple((asked, getattr(told, name)) for name, asked in QUESTIONS.items()))
        lead = Text(recommended(given, case).text, strong=True)
        title = f"Recommendation{more}"
        yield Section(title=title, blocks=(lead, cards), begins_page=several)
        yield Section(title=f"What it is worth{more}", blocks=tuple(_worth(case)))
        yield Section(title=f"How it went{more}", blocks=tuple(_course(given, case)))


def _overview(given: Gathered) -> Table:
    """One line a treatment."""
    rows = [
        (
            case.treatment,
            bounded(as_range(case.facts["net_business_value"]), PERCENT),
            given.answers(case).trust.level.replace("unknown", "not known"),
            recommended(given, case).text,
        )
        for case in given.cases()
    ]
    columns = ("", "net business value", "data", "recommendation")
    return Table("One line a treatment", columns, tuple(rows), words=True)


def recommended(given: Gathered, case: Case) -> Answer:
    """The recommendation in one sentence; none where the monitor cannot be relied on."""
    told = given.answers(case)
    if given.problem is not None:
        return Answer(level="unknown", text=f"Decide nothing now. {told.verdict.text}")
    return recommend(case, told.trust)


def counted(case: Case) -> str:
    """How many predictions comparisons rest on."""
    names = (case.treatment, case.found["control"])
    facts = [case.found["variants"][name] for name in names]
    told = [
        f"{each['mature_predictions']:,} of {name}" for each, name in zip(facts, names, strict=True)
    ]
    judged = [f"{sum(each['mature_counts'].values()):,}" for each in facts]
    more = (
        "" if case.facts["epoch"] == 1 else "; only those of its present life count in differences"
    )
    return (
        f"{told[0]} and {told[1]} whose time for a label is over; {judged[0]} and {judged[1]} of them are known to"
        f" be right or wrong{more}"
    )


def _worth(case: Case) -> Iterator[Block]:
    """Net business value with its parts, and what was earned."""
    yield value_table(case)
    yield from _unbounded(case)
    yield earned_table(case)
    level = case.found["interval"]["level"]
    yield Text(
        f"In brackets: between what it lies ({100 * level:.0f} % confidence sequences, right at all looks"
        f" together). Predictions: {counted(case)}. Differences compare the stretches in which both had"
        f" traffic, columns of one variant hold everything. {UNKNOWN} is what cannot be known, never 0."
    )


def _unbounded(case: Case) -> Iterator[Text]:
    """Parts that count in the sum without bounds of their own, as where no prediction has failed."""
    if case.facts["net_business_value"]["lower"] is None:
        return
    names = [NAMES[term.part] for term in terms(case) if term.weight and term.lower is None]
    if names:
        yield Text(
            f"Mind the sum: how far off its {' and '.join(names)} may be is not known, so that its bounds take"
            " that to be exact. They are too narrow by that."
        )


def value_table(case: Case) -> Table:
    """Net business value and its three parts, in per cent and in money."""
    taken, rows = revenue(case), []
    for term in terms(case):
        worth = _worth_of(term)
        rows.append(
            (
                NAMES[term.part],
                bounded(_difference(term), UNITS[term.part]),
                bounded(worth, PERCENT),
                bounded(in_money(worth, taken)),
            )
        )
    whole = as_range(case.facts["net_business_value"])
    sum_of = (bounded(whole, PERCENT), bounded(in_money(whole, taken)))
    rows.append(("net business value: the sum", "", *sum_of))
    if taken.each is None:
        unit, caption = "money", f"Net business value; in money n/a: {taken.how}"
    else:
        unit = f"{taken.unit} per 1,000 predictions"
        caption = "Net business value, per cent of what the control takes in, and that in money"
    columns = ("", f"{case.treatment} minus {case.found['control']}", "worth", unit)
    return Table(caption, columns, tuple(rows))


def _difference(term: Term) -> Range | None:
    return part_range((term.difference, term.lower, term.upper))


def _worth_of(term: Term) -> Range | None:
    """What a part is worth, with the bounds of its difference."""
    if term.worth is None or term.weight is None:
        return part_range((term.worth, None, None))
    lower, upper = (None if end is None else term.weight * end for end in (term.lower, term.upper))
    return part_range((term.worth, lower, upper))


def earned_table(case: Case) -> Table:
    """What both variants earn, and the difference."""
    found, unit = case.found, price(case)[1]
    names = (case.treatment, found["control"])
    rows = [
        (_title(metric), *(_own(found, name, metric) for name in names), _compared(case, metric))
        for metric in ("rap", "roi", "profit_per_prediction", "money_per_prediction")
        if metric != "money_per_prediction" or case.declared.get("money")
    ]
    rows.append((f"profit per 1,000 predictions, {unit}", "", "", bounded(profit_a_thousand(case))))
    columns = ("", *names, "difference")
    return Table("What it earns", columns, tuple(rows))


_PERCENTS = frozenset({"rap", "roi"})


def _title(metric: str) -> str:
    names = {
        "rap": "RAP: share of the achievable profit",
        "profit_per_prediction": "profit per prediction, costs of an action",
        "roi": "return on what was spent on acting (ROI)",
        "money_per_prediction": "money per prediction, as events tell it",
    }
    return names.get(metric, metric)


def _own(found: dict[str, Any], name: str, metric: str) -> str:
    value = found["variants"][name]["metrics"].get(metric)
    return percent(value) if metric in _PERCENTS else ratio(value)


def _compared(case: Case, metric: str) -> str:
    found = as_range(case.facts["differences"].get(metric))
    scale, unit = (100.0, " points") if metric in _PERCENTS else (1.0, "")
    return bounded(found, unit, scale=scale)


def _course(given: Gathered, case: Case) -> Iterator[Block]:
    """The course of the headline, and what was rolled back when and what that saved."""
    yield from _rolled_back(given, case)
    if given.series is None:
        yield Text(
            "The source has no lines over time: it was written by an older version. Replay the events"
            " again to see them."
        )
        return
    chart = over_time(given.series, case.treatment)
    if chart is not None:
        yield chart


def _rolled_back(given: Gathered, case: Case) -> Iterator[Block]:
    decisions = [
        each
        for each in given.found["decisions"]
        if each["treatment"] == case.treatment and each["action"] in ROLLBACKS
    ]
    if not decisions:
        yield Text(f"{case.treatment} was never rolled back.")
        return
    for each in decisions:
        would = "would have been" if each["action"] == "would_roll_back" else "was"
        why = "; ".join(each["reasons"]) or "no reason was given"
        yield Text(
            f"{case.treatment} {would} rolled back on {moment(each['at'])} by {each['actor']}, by what was known"
            f" then: {why}."
        )
    yield Text(saved_sentence(saved(case, given.series)))


def saved_sentence(found: Saved) -> str:
    """What was lost, and what the rollback saved, in two sentences."""
    lost = ""
    if found.lost is not None and found.made is not None:
        verb, size = "lost", found.lost
        if size.estimate <= 0:
            verb, size = "gained", size.negated()
        told = f"{bounded(size, signed=False)} {found.unit} against the control"
        lost = f"It has {verb} {told}, by the {found.made:,} {found.made_what}. "
    if found.saved is None or found.exposure is None:
        return f"{lost}What the rollback saved: n/a, {found.why_not}."
    unless = ", if its traffic went, which was not seen" * found.unseen
    return (
        f"{lost}What the rollback saved, an estimate{unless}: {bounded(found.saved, signed=False)} {found.unit} = the loss"
        f" of a prediction x the {found.exposure.predictions:,.0f} predictions that were still planned."
    )
