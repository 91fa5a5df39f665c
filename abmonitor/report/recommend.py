"""The recommendation in one sentence: what to do, and what for. Pure."""

from abmonitor.report.case import OFF, Answer, Case
from abmonitor.report.verdicts import verdict_of
from abmonitor.report.words import number


def recommend(case: Case, trust: Answer) -> Answer:
    """What to do about a treatment, before the verdict that it follows from.

    Nothing is recommended on data that cannot be trusted, but for taking harm away.
    """
    verdict = verdict_of(case)
    what = _what(case, trust)
    return Answer(level=verdict.level, text=f"{what} {verdict.text}")


def _what(case: Case, trust: Answer) -> str:
    control, treatment, facts = case.found["control"], case.treatment, case.facts
    if case.state == "ended":
        return "Nothing is to be decided here any more."
    if case.state in OFF - {"would_roll_back"}:
        away = "" if case.still is None else f" and take the traffic of {treatment} away"
        return f"Keep {control}{away}."
    if facts["recommendation"] == "reject" or case.state == "would_roll_back":
        return f"Take {treatment} back and keep {control}."
    if trust.level == "bad" or case.state == "hold":
        until = "on these data" if trust.level == "bad" else "until the hold is over"
        return f"Decide nothing {until}."
    if case.behind and not case.watched:
        return f"Think of taking {treatment} back by hand."
    return _worth(case)


def _worth(case: Case) -> str:
    """Of a treatment without known harm: what its net business value says, and what is still to be shown."""
    treatment, facts = case.treatment, case.facts
    lower = facts["net_business_value"]["lower"]
    word = facts["recommendation"]
    least = f"net business value of at least {number(lower, '+.2g')} %"
    if word == "continue testing":
        if case.state == "passed":
            why = "that it is worth more than the control is not shown"
            return f"Whether to switch to {treatment} is your choice: {why}."
        return "Go on testing."
    if case.state == "passed" and case.behind:
        return f"Whether to switch to {treatment} is your choice: it has a {least}, but is behind."
    strongly = "Strongly recommended" if word == "strongly recommend" else "Recommended"
    if case.state == "passed":
        return f"{strongly}: switch to {treatment} ({least})."
    return f"Go on testing: {treatment} has a {least}, but has not passed its tests."
