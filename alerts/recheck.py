"""Rechecking: from the reasoning of a decision the same judgements, causes and transition again. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from alerts.book import Decision, Phase
from alerts.causes import MISMATCHED, MIXED, UNNAMED, blind
from alerts.cohorts import Arms
from alerts.counting import Counter, Tally
from alerts.guardrails import Guardrail
from alerts.health import hold_causes, silence
from alerts.judge import Judgement, measured
from alerts.judge import Phase as Verdict
from alerts.machine import Transition, transition
from alerts.phases import MISMATCH, mismatch, mixed, unnamed
from alerts.reasoning import Reasoning
from alerts.trials import Trials
from alerts.weighing import Weigher
from metrics.facts import Facts
from metrics.ratios import CELLS


CLOSE = 1e-9
"""How far apart, as a share of them, two numbers may be that are the same."""


@dataclass(frozen=True)
class Recheck:
    """Comes to the same conclusions again, or to others."""

    decision: Decision
    reasoning: Reasoning

    @cached_property
    def trials(self) -> Trials:
        """The sequential tests as they were declared."""
        declared = self.reasoning.declared
        return Trials.of(declared.experiment, declared.guardrails, declared.testing)

    @cached_property
    def arms(self) -> Mapping[int, tuple[Arms, int]]:
        """By landmark the cohorts of both arms, and the end of the last of them."""
        return {each.landmark: (each.arms(), each.until) for each in self.reasoning.matured}

    def weigher(self, name: str) -> Weigher | None:
        """The test on labels with that name."""
        return next((each for each in self.trials.weighers if each.guardrail.name == name), None)

    def counter(self, name: str) -> Counter | None:
        """The test at arrival with that name."""
        return next((each for each in self.trials.counters if each.guardrail.name == name), None)

    @cached_property
    def judgements(self) -> dict[str, Judgement | None]:
        """What each guardrail says again, None for what it saw is not known any more."""
        declared = self.reasoning.declared
        return {
            found.name: self._judgement(found)
            for found in declared.guardrails
            if found.name in self.decision.judgements
        }

    def _judgement(self, guardrail: Guardrail) -> Judgement | None:
        name, at = guardrail.name, self.decision.judgements[guardrail.name].at
        weigher, counter = self.weigher(name), self.counter(name)
        if weigher is not None:
            kept = self.reasoning.remembered.get(name)
            known = self.arms.get(int(guardrail.landmark or 0))
            return None if kept is None or known is None else weigher.judge(*known, kept)[0]
        if counter is not None:
            return self._counted(counter, at)
        window = self.reasoning.windows.get(name)
        experiment = self.reasoning.declared.experiment
        return None if window is None else measured(guardrail, experiment, window.seen, at)

    def _counted(self, counter: Counter, at: int) -> Judgement | None:
        step = self.reasoning.counted.get(counter.guardrail.name)
        if step is None:
            return None
        if step.suspended is not None:
            return counter.suspended(step.suspended, at, step.before)
        began = self.reasoning.began
        if step.tally is not None:
            return counter.judge(Tally(*step.tally), at, began, step.before, step.said)[0]
        return counter.again(at, began, step.before, step.said) if step.before.state else None

    @cached_property
    def harm(self) -> tuple[str, ...]:
        """Why the treatment is harmful, as far as guardrails and its silence say so."""
        return (*self._breached(), *self._silence())

    def _breached(self) -> Iterator[str]:
        look = self.reasoning.look
        streaks = {} if look is None else look.streaks
        for name, judgement in self.judgements.items():
            guardrail = self.reasoning.declared.guardrail(name)
            told = judgement or self.decision.judgements[name]
            if guardrail is None or told.phase is not Verdict.FAIL:
                continue
            if guardrail.test == "sequential" or streaks.get(name, 0) >= guardrail.consecutive:
                yield told.reason

    def _silence(self) -> tuple[str, ...]:
        declared, treatment = self.reasoning.declared, self.decision.treatment
        snapshot = self.reasoning.flow.snapshot(declared.experiment)
        at = self.reasoning.at
        return silence(declared.experiment, treatment, snapshot, at, declared.hold)

    @cached_property
    def holds(self) -> tuple[str, ...]:
        """Causes to hold, as far as they follow from the data."""
        flow, declared = self.reasoning.flow, self.reasoning.declared
        if flow.at is None:
            return ()
        causes = hold_causes(
            declared.experiment,
            self.decision.treatment,
            flow.snapshot(declared.experiment),
            flow.at,
            declared.hold,
            begun=self.reasoning.standing.begun,
            known=flow.known,
        )
        phase, budget = self.decision.phase, declared.testing.blind_budget
        causes += (MISMATCHED,) if self.mismatched else ()
        causes += (MIXED,) if phase and mixed(phase) else ()
        causes += (UNNAMED,) if phase and unnamed(phase) else ()
        if budget is not None and self.reasoning.seen > budget and not self._proven():
            causes += (blind(budget),)
        return causes

    def _proven(self) -> bool:
        """Whether there is a verdict on labels."""
        judged = [self.decision.judgements.get(w.guardrail.name) for w in self.trials.weighers]
        return any(each and each.evidence and each.evidence.harm is not None for each in judged)

    @property
    def mismatched(self) -> bool:
        """Whether the split is not the intended one, now or at a look before."""
        p_value = self.p_value
        return self.reasoning.mismatched or (p_value is not None and p_value < self.limit)

    @property
    def p_value(self) -> float | None:
        """Of the split between treatment and control in the current phase."""
        phase: Phase | None = self.decision.phase
        control = self.reasoning.declared.experiment.control
        return None if phase is None else mismatch(self.decision.treatment, control, phase)

    @property
    def limit(self) -> float:
        """What the p-value must stay above: see `alerts.phases.mismatch_limit`."""
        phases = self.reasoning.stretches + 1
        treatments = len(self.reasoning.declared.experiment.treatments)
        return MISMATCH / (phases * (phases + 1)) / treatments

    @cached_property
    def transition(self) -> Transition:
        """What the look makes of the standing."""
        reasoning = self.reasoning
        return transition(reasoning.standing, reasoning.happening, reasoning.policy)

    @property
    def may_pass(self) -> bool:
        """Whether every guardrail passes, and nothing is proven too early."""
        declared, judged = self.reasoning.declared, self.judgements
        phases = [each.phase if each else None for each in judged.values()]
        whole = len(phases) == len(declared.guardrails) and bool(self.trials.names)
        early = self.reasoning.at - self.reasoning.began < declared.testing.min_duration
        return whole and all(phase is Verdict.PASS for phase in phases) and not early

    def counts(self) -> dict[str, dict[str, int]] | None:
        """Treatment's and control's mature counts (see `Decision.counts`); None where no cohort is known."""
        if 0 not in self.arms:
            return None
        arms, control = self.arms[0][0], self.reasoning.declared.experiment.control
        both = {self.decision.treatment: arms.treatment, control: arms.control}
        return {name: _counts(facts) for name, facts in both.items()}


def _counts(facts: Facts) -> dict[str, int]:
    n = dict(zip(CELLS, facts.cells("n").sum(axis=0).tolist(), strict=True))
    cells = {name: round(n[name]) for name in ("tp", "fp", "tn", "fn")}
    failed = round(n["error_positive"] + n["error_other"])
    return cells | {"predictions": round(float(facts.predictions.sum())), "errors": failed}


def differing(where: str, told: object, found: object) -> Iterator[str]:
    """How two values differ, number by number; nothing where they are the same."""
    yield from _differing(where, msgspec.to_builtins(told), msgspec.to_builtins(found))


def _differing(where: str, told: Any, found: Any) -> Iterator[str]:
    if isinstance(told, dict) and isinstance(found, dict):
        for name in sorted({*told, *found}):
            yield from _differing(f"{where}.{name}", told.get(name), found.get(name))
    elif isinstance(told, list | tuple) and isinstance(found, list | tuple):
        if len(told) != len(found):
            yield f"{where}: stored {_shown(told)}, recomputed {_shown(found)}"
        for at, (one, other) in enumerate(zip(told, found, strict=False)):
            yield from _differing(f"{where}[{at}]", one, other)
    elif not _same(told, found):
        yield f"{where}: stored {_shown(told)}, recomputed {_shown(found)}"


def _same(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if numbers and not isinstance(one, bool) and not isinstance(other, bool):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(one == other)


def _shown(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else repr(value)
