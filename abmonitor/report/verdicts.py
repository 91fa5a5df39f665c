"""The verdict on a treatment in one sentence, for every state that it can be in. Pure."""

from collections.abc import Callable

from abmonitor.report.case import Answer, Case, Level
from alerts.causes import BRAKED


def verdict_of(case: Case) -> Answer:
    """The verdict; a pause and a dry run are told with it, and never make it look better."""
    told = _BY_STATE[case.state](case)
    paused = case.facts["paused"]
    if paused is not None:
        until = "" if paused["until"] is None else f" until {case.at(paused['until'])[3:]}"
        level: Level = "bad" if told.level == "bad" else "watch"
        why = f"Paused by {paused['actor']}{until} ({paused['reason']}): nothing is done meanwhile."
        told = Answer(level=level, text=f"{told.text} {why}")
    if case.dry_run and case.state != "would_roll_back":
        told = Answer(level=told.level, text=f"{told.text} Dry run: nothing is rolled back.")
    return told


def _because(case: Case) -> str:
    """Why it was rolled back: what it lost where that is what failed, else the reasons as they stand."""
    decision, metric = case.decision, case.metric
    if decision is None:
        return "; ".join(case.facts["causes"]) or "why is not among the decisions shown"
    failed = {each["metric"] for each in decision["judgements"].values() if each["phase"] == "fail"}
    lost = metric is not None and (case.facts["differences"][metric]["estimate"] or 0.0) < 0
    by_test = decision["actor"] == "abmonitor"
    if by_test and lost and metric in failed and case.gap is not None:
        return f"it {case.gap}"
    who = "" if by_test else f"{decision['actor']} did it: "
    return who + ("; ".join(decision["reasons"]) or "no reason was given")


def _when(case: Case) -> str:
    """When the rollback was decided, or since when it is in its state."""
    decision = case.decision
    return case.at(case.facts["since"] if decision is None else decision["at"])


def _early(case: Case) -> Answer:
    if case.behind:
        return _behind(case)
    known = "no final labels can be compared yet" if case.gap is None else f"it {case.gap}"
    text = f"Too early to tell about {case.treatment}: {known}{_more(case)}."
    return Answer(level="unknown", text=text)


def _behind(case: Case) -> Answer:
    """Worse than the control beyond doubt, although no guardrail fails: it may be tolerated, or not tested."""
    level: Level = "watch" if case.watched else "bad"
    why = "no guardrail has failed yet" if case.watched else "no guardrail tests that"
    return Answer(
        level=level, text=f"{case.treatment} is behind: it {case.gap}; {why}{_more(case)}."
    )


def _healthy(case: Case) -> Answer:
    if case.behind:
        return _behind(case)
    known = "what it earns is not known yet" if case.gap is None else f"it {case.gap}"
    text = f"No verdict on {case.treatment} yet, and no guardrail fails: {known}{_more(case)}."
    return Answer(level="unknown", text=text)


def _more(case: Case) -> str:
    """What a verdict takes."""
    return "" if case.more is None else f", {case.more}"


def _suspect(case: Case) -> Answer:
    reasons = case.facts["causes"] or [found["reason"] for found in case.failing]
    why = "; ".join(reasons) or "a guardrail fails"
    if case.facts["paused"] is not None and case.facts["causes"]:
        return Answer(level="bad", text=f"{case.treatment} does harm: {why}.")
    return Answer(level="watch", text=f"{case.treatment} is suspected of harm: {why}.")


def _held(case: Case) -> Answer:
    causes = list(case.facts["causes"])
    if BRAKED in causes:
        harm = "; ".join(cause for cause in causes if cause != BRAKED)
        text = f"{case.treatment} is held although it does harm ({harm}): {BRAKED}."
        return Answer(level="bad", text=text)
    why = "; ".join(causes) or "why is not known"
    return Answer(level="watch", text=f"{case.treatment} is held, and nothing concluded: {why}.")


def _passed(case: Case) -> Answer:
    decision = case.last("pass")
    when = case.at(case.facts["since"] if decision is None else decision["at"])
    known = "what it earns is not known" if case.gap is None else f"it {case.gap}"
    text = f"{case.treatment} passed {when}: harm beyond what is tolerated is ruled out; {known}."
    return Answer(level="watch" if case.behind else "good", text=text)


def _rolling_back(case: Case) -> Answer:
    text = f"{case.treatment} is being rolled back, as decided {_when(case)}: {_because(case)}."
    return Answer(level="bad", text=text)


def _verifying(case: Case) -> Answer:
    text = (
        f"{case.treatment} was ordered to be rolled back {_when(case)}, and whether its traffic is gone is"
        f" being looked at: {_because(case)}."
    )
    return Answer(level="bad", text=text)


def _rolled_back(case: Case) -> Answer:
    seen = "" if case.facts["verified"] else " (whether its traffic is gone was not seen)"
    if case.still is not None:
        seen = f" and got {case.still} all the same"
    text = f"{case.treatment} was rolled back {_when(case)}{seen}: {_because(case)}."
    return Answer(level="bad", text=text)


def _failed(case: Case) -> Answer:
    causes = "; ".join(case.facts["causes"]) or _because(case)
    text = (
        f"The rollback of {case.treatment}, decided {_when(case)}, FAILS and is tried again; move its"
        f" traffic away by hand: {causes}."
    )
    return Answer(level="bad", text=text)


def _would(case: Case) -> Answer:
    text = (
        f"{case.treatment} would have been rolled back {_when(case)}, but this is a dry run and it keeps"
        f" its traffic: {_because(case)}."
    )
    return Answer(level="bad", text=text)


def _ended(case: Case) -> Answer:
    decision = case.last("end")
    when = case.at(case.facts["since"] if decision is None else decision["at"])
    who = "" if decision is None else f" by {decision['actor']}"
    why = "; ".join(decision["reasons"]) if decision else ""
    known = "" if case.gap is None else f"; it {case.gap}"
    text = f"{case.treatment} was ended {when}{who}{f' ({why})' * bool(why)}, and is not judged any more{known}."
    return Answer(level="unknown", text=text)


_BY_STATE: dict[str, Callable[[Case], Answer]] = {
    "collecting": _early,
    "hold": _held,
    "healthy": _healthy,
    "suspect": _suspect,
    "passed": _passed,
    "rolling_back": _rolling_back,
    "verifying": _verifying,
    "rolled_back": _rolled_back,
    "rollback_failed": _failed,
    "would_roll_back": _would,
    "ended": _ended,
}
