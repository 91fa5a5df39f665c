"""Explaining: the whole way to a decision, step by step, and whether it leads there again. Pure."""

from collections.abc import Iterator

import msgspec
import numpy as np

from alerts.book import Decision
from alerts.chain import is_whole
from alerts.formulas import checked_by_hand, lines_of
from alerts.reasoning import RESTING_ON_DATA, Reasoning, seal_of
from alerts.recheck import Recheck, differing
from metrics.duration import Duration
from metrics.moment import Moment


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step on the way to a decision."""

    title: str
    lines: tuple[str, ...] = ()
    same: bool | None = None
    """Whether it comes out again; None where there is nothing to recompute, or no way to."""
    differences: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and how it came about."""

    decision: Decision
    same: bool | None
    """Whether the same comes out again; None where that cannot be told, see `missing`."""
    steps: tuple[Step, ...]
    missing: str | None = None
    """Why it cannot be recomputed."""

    @property
    def differences(self) -> tuple[str, ...]:
        """Everything that did not come out again."""
        return tuple(f"{step.title}: {each}" for step in self.steps for each in step.differences)


def explain(
    decision: Decision, reasoning: Reasoning | None, missing: str | None = None
) -> Explanation:
    """How `decision` came about, from what was stored with it.

    `missing` says why there is no reasoning, where the caller knows.
    """
    steps = [_decided(decision), _chained(decision)]
    by_data = decision.action in RESTING_ON_DATA and decision.actor == "abmonitor"
    if reasoning is None and not by_data:
        whole = not any(step.differences for step in steps)
        return Explanation(decision=decision, same=whole, steps=tuple(steps))
    if reasoning is None:
        why = missing or "no evidence was stored with it"
        changed = any(step.differences for step in steps)
        same = False if changed else None
        return Explanation(decision=decision, same=same, steps=tuple(steps), missing=why)
    try:
        with np.errstate(all="ignore"):
            steps += _recomputed(decision, reasoning)
    except (ArithmeticError, IndexError, LookupError, TypeError, ValueError) as error:
        # Numbers that were tampered with need not make sense.
        steps.append(_step("evidence", (), [f"it makes no sense: {type(error).__name__}: {error}"]))
    if any(step.differences for step in steps):
        return Explanation(decision=decision, same=False, steps=tuple(steps))
    if gone := _gone(decision, steps):
        lost = f"what {', '.join(gone)} saw is not kept any more"
        return Explanation(decision=decision, same=None, steps=tuple(steps), missing=lost)
    return Explanation(decision=decision, same=True, steps=tuple(steps))


def _gone(decision: Decision, steps: list[Step]) -> list[str]:
    """Guardrails that the decision rests on, and that cannot be recomputed."""
    prefix = "guardrail "
    names = [
        s.title.removeprefix(prefix) for s in steps if s.title.startswith(prefix) and s.same is None
    ]
    return [
        name
        for name in names
        if decision.action == "pass" or decision.judgements[name].reason in decision.reasons
    ]


def _step(title: str, lines: tuple[str, ...], differences: list[str]) -> Step:
    found = tuple(differences)
    return Step(title=title, lines=lines, same=not found, differences=found)


def _decided(decision: Decision) -> Step:
    lines = [
        f"{decision.action} of {decision.treatment} in {decision.experiment}, by {decision.actor},"
        f" at {Moment(decision.at)}" + (" (dry run)" if decision.dry_run else ""),
        f"state {decision.before} -> {decision.state}, epoch {decision.epoch}",
        *(f"because: {reason}" for reason in decision.reasons),
    ]
    if decision.watermark is not None:
        age = Duration(max(0, decision.at - decision.watermark))
        lines.append(f"data counted to {Moment(decision.watermark)}: {age} old when it was decided")
    lines.append(f"settings {decision.settings}")
    return Step(title="decision", lines=tuple(lines))


def _chained(decision: Decision) -> Step:
    if not decision.hash:
        return Step(title="chain", lines=("it was stored without a hash",))
    if is_whole(decision):
        return _step(
            "chain", (f"hash {decision.hash[:16]}...: unchanged since it was written down",), []
        )
    return _step("chain", (), ["its hash is not that of its content: it was changed afterwards"])


def _recomputed(decision: Decision, reasoning: Reasoning) -> Iterator[Step]:
    check = Recheck(decision, reasoning)
    changed = not reasoning.seal == decision.evidence == seal_of(reasoning, decision)
    told = ["it was changed, or belongs to another decision"] if changed else []
    yield _step(
        "evidence", ("the evidence is the one that was stored with it",) if not told else (), told
    )
    yield from _guardrails(check)
    yield _split(check)
    yield _counts(check)
    yield _found(check)
    yield _transition(check)


def _guardrails(check: Recheck) -> Iterator[Step]:
    declared = {found.name: found for found in check.reasoning.declared.guardrails}
    for name in check.decision.judgements.keys() - declared.keys():
        yield _step(f"guardrail {name}", (), ["it is not among those that were declared"])
    for name, guardrail in declared.items():
        stored = check.decision.judgements.get(name)
        title = f"guardrail {name}"
        if stored is None:
            yield Step(title=title, lines=("not looked at yet",), same=True)
            continue
        again = check.judgements[name]
        lines = (f"{stored.phase}: {stored.reason}", *lines_of(check, guardrail))
        if again is None:
            yield Step(
                title=title,
                lines=(*lines, f"what was seen at {Moment(stored.at)} is not kept any more"),
            )
            continue
        told = [*differing("judgement", stored, again), *checked_by_hand(check, guardrail)]
        yield _step(title, lines, told)


def _split(check: Recheck) -> Step:
    phase, treatment = check.decision.phase, check.decision.treatment
    experiment = check.reasoning.declared.experiment
    if phase is None:
        return Step(title="split", lines=("nothing had arrived yet",))
    control, both = experiment.control, (treatment, experiment.control)
    what = "units" if experiment.randomised_by == "unit" else "predictions"
    seen = " : ".join(f"{phase.counts.get(name, 0):,}" for name in both)
    meant = " : ".join(f"{phase.split.get(name, 0):g}" for name in both)
    lines = [f"{treatment} : {control} = {seen} {what} since {Moment(phase.since)}, meant {meant}"]
    if check.p_value is not None:
        side = "below" if check.p_value < check.limit else "not below"
        lines.append(f"p-value, good at every look: {check.p_value:.4g}, {side} {check.limit:.4g}")
    if check.reasoning.mismatched:
        lines.append("a mismatch had been found at a look before")
    return Step(title="split", lines=tuple(lines), same=True)


def _counts(check: Recheck) -> Step:
    again, stored = check.counts(), check.decision.counts
    if again is None:
        none = [
            f"counts of {n}: stored {c}, no cohort is known"
            for n, c in stored.items()
            if any(c.values())
        ]
        return _step("counts", ("no label was final yet",) if not none else (), none)
    told = {name: stored.get(name) for name in again}
    lines = tuple(
        f"{name}: {', '.join(f'{what} {n:,}' for what, n in found.items())}"
        for name, found in again.items()
    )
    return _step("counts", lines, list(differing("counts", told, again)))


def _found(check: Recheck) -> Step:
    """What the look made of guardrails, silence, and causes to hold."""
    look, reasoning = check.reasoning.look, check.reasoning
    if look is None:
        return Step(title="look", lines=("no look: time had gone by",), same=True)
    lines, told = list(_flow(check)), []
    told += [f"harm that does not follow: {each}" for each in look.harm if each not in check.harm]
    told += [
        f"harm that was left out: {each}" for each in _breaches(check) if each not in look.harm
    ]
    for cause in look.hold:
        if cause in check.holds:
            continue
        if _by_data(cause, check.decision.treatment):
            told.append(f"a cause to hold that does not follow: {cause}")
        else:
            lines.append(f"the monitor says so, by its clock or what it was told: {cause}")
    if reasoning.flow.at == reasoning.at:
        told += [
            f"a cause to hold that was left out: {c}" for c in check.holds if c not in look.hold
        ]
    told += list(_streaks(check))
    if look.promotable and not check.may_pass:
        told.append("it was taken as proven to be good, and that does not follow")
    return _step("look", tuple(lines), told)


def _breaches(check: Recheck) -> tuple[str, ...]:
    """Harm by guardrails; silence is only looked at where something arrives, and was to."""
    return tuple(
        each for each in check.harm if each in {j.reason for j in check.judgements.values() if j}
    )


def _flow(check: Recheck) -> Iterator[str]:
    for count in check.reasoning.flow.counts:
        asked = count.asked
        what = "met their outcome" if asked.what == "labelled" else "predictions"
        yield (
            f"{asked.variant}: {count.n:,} {what} in the {Duration(asked.width)} before {Moment(asked.end)}"
        )


_DATA_SAYS = (
    "no data:",
    "labels stalled:",
    "state incomplete:",
    "sample ratio",
    "units ",
    "blind:",
)


def _by_data(cause: str, treatment: str) -> bool:
    """Whether a cause to hold has to follow from what arrived."""
    return cause.startswith((*_DATA_SAYS, f"{treatment} is silent"))


def _streaks(check: Recheck) -> Iterator[str]:
    """Rows of failing looks that did not come about as rows do."""
    look, standing = check.reasoning.look, check.reasoning.standing
    if look is None:
        return
    if look.failing != tuple(sorted(look.streaks)):
        yield f"failing: stored {look.failing}, recomputed {tuple(sorted(look.streaks))}"
    for name, streak in look.streaks.items():
        before = standing.streaks.get(name, 0)
        judged = check.judgements.get(name) or check.decision.judgements.get(name)
        if judged is None or judged.phase != "fail" or streak not in {before, before + 1}:
            yield f"{name}: {streak} failing looks in a row do not follow {before}"


def _transition(check: Recheck) -> Step:
    decision, made = check.decision, check.transition
    told = [
        *differing("action", decision.action, made.action),
        *differing("reasons", decision.reasons, made.reasons),
        *differing("state", decision.state, made.standing.state),
        *differing("before", decision.before, check.reasoning.standing.state),
        *differing("epoch", decision.epoch, made.standing.epoch),
        *differing("dry_run", decision.dry_run, check.reasoning.policy.dry_run),
        *differing("at", decision.at, check.reasoning.at),
    ]
    line = f"{decision.before} -> {made.standing.state}: {made.action or 'nothing'}"
    return _step("transition", (line,), told)


def to_text(explanation: Explanation) -> str:
    """The explanation in plain words."""
    parts = []
    for step in explanation.steps:
        mark = {True: "same", False: "DIFFERS", None: ""}[step.same]
        parts.append(f"{step.title}" + (f"  [{mark}]" if mark else ""))
        parts += [f"  {line}" for line in step.lines]
        parts += [f"  ! {each}" for each in step.differences]
    return "\n".join([*parts, "", verdict(explanation)])


def verdict(explanation: Explanation) -> str:
    """The last line: whether the same comes out again."""
    if explanation.same is False:
        return f"DIFFERS: {len(explanation.differences)} things do not come out again"
    if explanation.same is None:
        return f"cannot be recomputed: {explanation.missing}"
    if explanation.decision.actor != "abmonitor" or len(explanation.steps) == 2:
        return "nothing to recompute: it does not rest on data"
    return "recomputed from the stored evidence: the same verdict"
