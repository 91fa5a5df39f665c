"""On-call's questions in words: is the treatment hurting us, how sure are we, can I trust the data. Pure.

The page and the report answer them from the JSON document of an experiment, so that both say the same.
What is not known is said to be not known; it is never called good.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from abmonitor.report.case import OFF, Answer, Case, Level, Tested
from abmonitor.report.trust import trusted
from abmonitor.report.verdicts import verdict_of
from abmonitor.report.words import evidence_told, number
from abmonitor.web.words import metric_name


__all__ = ["Answer", "Answers", "Level", "answers"]

NEAR = 0.5
"""The part of a rollback's evidence from which on it is told to watch."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the person on call asks, in the order in which it is asked."""

    verdict: Answer
    hurting: Answer
    sure: Answer
    trust: Answer


def answers(
    found: dict[str, Any],
    treatment: str,
    *,
    now: int | None = None,
    problem: str | None = None,
    dated: bool = False,
    events: dict[str, Any] | None = None,
) -> Answers:
    """The answers for one treatment, from the document of its experiment (see `document.experiment`).

    `now`: epoch ms, None where there is no clock, as in a replay; then nothing is told to be stale.
    `problem`: why the monitor cannot be relied on, None when it can. `dated`: whether moments of today are told
    with their date, too. `events`: what became of all events, where the source says so. Raises KeyError where the experiment has no such treatment.
    """
    case = Case(found, treatment, now, dated)
    told = _as_far_as_trusted(
        Answers(
            verdict=verdict_of(case),
            hurting=_hurting(case),
            sure=_sure(case),
            trust=trusted(case, events),
        )
    )
    return told if problem is None else _doubted(told, problem)


def _as_far_as_trusted(told: Answers) -> Answers:
    """The same; nothing is good that rests on data that cannot be trusted."""
    if told.trust.level != "bad":
        return told

    def doubted(answer: Answer) -> Answer:
        if answer.level != "good":
            return answer
        return Answer(level="watch", text=f"If the data could be trusted: {answer.text}")

    verdict, hurting, sure = map(doubted, (told.verdict, told.hurting, told.sure))
    return Answers(verdict=verdict, hurting=hurting, sure=sure, trust=told.trust)


def _doubted(told: Answers, problem: str) -> Answers:
    """The same as the last that was known, none of it good any more."""
    why = f"The monitor is not ready: {problem}."

    def last(answer: Answer) -> Answer:
        level: Level = "unknown" if answer.level == "good" else answer.level
        return Answer(level=level, text=f"When it was last known: {answer.text}")

    return Answers(
        verdict=Answer(level="unknown", text=f"Not known now. {why} {last(told.verdict).text}"),
        hurting=last(told.hurting),
        sure=last(told.sure),
        trust=Answer(level="bad", text=f"No. {why}"),
    )


def _hurting(case: Case) -> Answer:
    """Whether the treatment does harm now."""
    gap = "by how much is not known" if case.gap is None else f"it {case.gap}"
    if case.state in {"ended", "rolled_back"}:
        return _over(case, gap)
    if case.state in OFF:
        dry = case.state == "would_roll_back"
        until = "and in a dry run it keeps its traffic" if dry else "until its traffic is gone"
        return Answer(level="bad", text=f"Yes, {until}: {gap}.")
    if case.failing:
        return _failing(case, gap)
    if case.state == "passed" or _all_passed(case):
        return _tolerated(case, gap)
    return _undecided(case, gap)


def _tolerated(case: Case, gap: str) -> Answer:
    """Of what has passed its tests, which bear with some harm."""
    if case.behind:
        text = f"It is behind, by no more than what is tolerated as far as that is tested: {gap}."
        return Answer(level="watch", text=text)
    more = "" if case.gap is None else f" (it {case.gap})"
    text = f"No: the tests have shown that no harm is beyond what is tolerated{more}."
    return Answer(level="good", text=text)


def _over(case: Case, gap: str) -> Answer:
    """Of what is rolled back, or is no longer judged."""
    if case.state == "ended":
        return Answer(level="unknown", text=f"Nobody judges it any more; at the end {gap}.")
    if case.facts["verified"]:
        return Answer(level="good", text=f"Not any more: its traffic is gone; before that {gap}.")
    if case.still is not None:
        text = f"Yes: it was ordered to be switched off, but got {case.still}; {gap}."
        return Answer(level="bad", text=text)
    return Answer(
        level="watch",
        text=f"It is switched off, but whether its traffic is gone was not seen; before that {gap}.",
    )


def _failing(case: Case, gap: str) -> Answer:
    """Proven harm is bad; a bound that is crossed now is to be watched."""
    proven = [found for found in case.failing if found["test"] == "sequential"]
    if proven:
        return Answer(level="bad", text=f"Yes, proven: {proven[0]['reason']}.")
    return Answer(level="watch", text=f"It may: {case.failing[0]['reason']}; {gap}.")


def _all_passed(case: Case) -> bool:
    """Whether every guardrail passes, among them a sequential test."""
    phases = {found["phase"] for found in case.guardrails}
    return phases == {"pass"} and bool(case.tested)


def _undecided(case: Case, gap: str) -> Answer:
    near = _most_harmful(case.tested)
    if case.behind:
        level: Level = "watch" if case.watched else "bad"
        why = "no guardrail has failed yet" if case.watched else "no guardrail tests that"
        return Answer(level=level, text=f"Yes, as far as its bounds go: {gap}; {why}.")
    if near is not None and near.harm is not None and near.harm >= NEAR:
        text = f"It may: {_evidence_of_harm(near)}; {gap}."
        return Answer(level="watch", text=text)
    if case.gap is None:
        why = "no final labels of both variants can be compared yet"
        return Answer(level="unknown", text=f"Not known yet: {why}.")
    return Answer(
        level="unknown", text=f"Not known yet: {gap}, and harm is neither shown nor ruled out."
    )


def _most_harmful(tested: Iterable[Tested]) -> Tested | None:
    """The test that has most evidence of harm; None where none has any that is known."""
    known = [(each.harm, each) for each in tested if each.harm is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _evidence_of_harm(found: Tested) -> str:
    return f"{metric_name(found.metric)} has {evidence_told(found.harm)} % of the evidence that a rollback takes"


def _sure(case: Case) -> Answer:
    """How much the evidence says, against what it takes."""
    if case.state == "ended":
        return Answer(level="unknown", text="A person ended it; nothing is tested any more.")
    if case.state in OFF:
        return _sure_of_harm(case)
    if case.failing and any(each.phase == "fail" for each in case.tested):
        return _proven(case, [each.name for each in case.tested if each.phase == "fail"])
    if case.state == "passed":
        chance = _chance(case.found["testing"]["alpha_pass"])
        text = f"Sure: every test passed, as {chance} that are harmful beyond what is tolerated ever do."
        return Answer(level="good", text=text)
    return _not_yet(case)


def _sure_of_harm(case: Case) -> Answer:
    decision = case.decision
    if decision is None:
        return _proven(case, [each.name for each in case.tested if each.phase == "fail"])
    if decision["actor"] != "abmonitor":
        who = decision["actor"]
        return Answer(level="watch", text=f"{who} decided it, not a test: {_evidence(case)}.")
    judged = decision["judgements"].values()
    failed = [found["guardrail"] for found in judged if found["phase"] == "fail"]
    return _proven(case, [each.name for each in case.tested if each.name in failed])


def _proven(case: Case, names: list[str]) -> Answer:
    """Sure of harm by the sequential tests `names`; where there are none by a bound, which proves less."""
    near = _most_harmful(each for each in case.tested if each.name in names)
    if near is None:
        why = "what was crossed is a bound or a rule, which has no error rate of its own"
        return Answer(level="watch", text=f"No test decided it: {why}.")
    chance = _chance(case.facts["guardrails"][near.name]["alpha"])
    text = f"Sure: {_evidence_of_harm(near)}; {chance} that do no such harm ever get there."
    return Answer(level="good", text=text)


def _chance(alpha: float | None) -> str:
    if alpha is None:
        return "few treatments"
    return f"at most {number(100 * alpha, '.2g')} of 100 treatments"


def _not_yet(case: Case) -> Answer:
    if not case.tested:
        return Answer(level="unknown", text="Not at all: no sequential test has any evidence yet.")
    level: Level = "watch" if any(each.share > 0 for each in case.tested) else "unknown"
    more = "" if case.more is None else f"; {case.more}"
    return Answer(level=level, text=f"Not yet: {_evidence(case)}{more}.")


def _evidence(case: Case) -> str:
    """The most that speaks of harm, and the least that speaks of none: all tests have to pass."""
    harm = _most_harmful(case.tested)
    told = "no sequential test has any evidence" if harm is None else _evidence_of_harm(harm)
    unknown = case.untold
    if unknown:
        return (
            f"{told}; of {', '.join(map(metric_name, unknown))} it is not known how near a pass is"
        )
    least = min(
        ((each.safe, each.metric) for each in case.tested if each.safe is not None), default=None
    )
    if least is None:
        return told
    whose = "" if harm is not None and harm.metric == least[1] else f"{metric_name(least[1])} "
    return f"{told}, and {whose}{evidence_told(least[0])} % of that which a pass takes"
