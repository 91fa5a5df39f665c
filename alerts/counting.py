"""Counting: a sequential guardrail on what is known at arrival, to a judgement. Pure.

Between two looks only what arrived between them is taken in, under the split that was intended then, so
that a ramp is no surprise to the test.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from alerts.book import Kept
from alerts.guardrails import Guardrail
from alerts.judge import Effect, Evidence, Judgement, Missing, Phase
from alerts.testing import Testing
from metrics.catalogue import CATALOGUE
from metrics.experiment import Experiment
from metrics.layout import COARSE_WIDTH
from metrics.ledger import Ledger
from metrics.rate_bounds import difference_interval, ratio_interval
from metrics.rates import RateState, RateTest, log_safe


SPLITS_KEPT = 100
"""Older ones no longer count for the estimate that is shown; the evidence keeps all."""


class Tally(NamedTuple):
    """Events of predictions of treatment and control under one split."""

    rho: float
    """The treatment's intended share of the traffic of the two."""
    x_t: float = 0
    n_t: float = 0
    x_c: float = 0
    n_c: float = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both, of one split."""
        return Tally(self.rho, *(a + b for a, b in zip(self[1:], other[1:], strict=True)))


class _Sums(NamedTuple):
    """What all splits together show."""

    ours: float | None
    theirs: float | None
    n_t: int
    n_c: int
    events: float


_EVENTS: Mapping[str, Callable[[Ledger, Experiment], tuple[int, int]]] = {
    # Errors of one unit within a minute count once: they are one fault.
    "error_rate": lambda ledger, _: (ledger.failing, ledger.predictions),
    "selection_rate": lambda ledger, _: (ledger.acted, ledger.predictions),
    "slow_rate": lambda ledger, experiment: (
        ledger.latency.above(experiment.slo_ms or 0.0),
        ledger.latency.total,
    ),
}


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts for one guardrail; holds what was declared, no state."""

    guardrail: Guardrail
    experiment: Experiment
    test: RateTest
    alpha: float
    alpha_pass: float

    @classmethod
    def of(
        cls, guardrail: Guardrail, experiment: Experiment, testing: Testing, alpha: float
    ) -> "Counter":
        """The test that was declared, with its part of alpha."""
        margin, relative = guardrail.margin, guardrail.relative_margin
        if margin is None and relative is None:
            relative = 0.0
        test = RateTest(CATALOGUE[guardrail.metric].harm, relative_margin=relative, margin=margin)
        return cls(guardrail, experiment, test, alpha, testing.alpha_pass)

    def tally(self, rho: float, treatment: Ledger, control: Ledger) -> Tally:
        """What two ledgers of one stretch count for this guardrail."""
        events = _EVENTS[self.guardrail.metric]
        return Tally(rho, *events(treatment, self.experiment), *events(control, self.experiment))

    def _taken(self, tally: Tally) -> Tally:
        """The tally under the share that the test takes for true.

        Whether a latency is reported is nobody's to randomise: of slow requests the share is that of the
        timed ones, whatever it is. Given how many of each variant there are, the test is exact with it
        (a product of binomials is at most the Poisson one that the bet is fair for).
        """
        if self.guardrail.metric != "slow_rate":
            return tally
        timed = tally.n_t + tally.n_c
        if not tally.n_t or not tally.n_c:
            return Tally(tally.rho)
        return tally._replace(rho=tally.n_t / timed)

    def judge(
        self,
        tally: Tally,
        at: int,
        begun: int,
        kept: Kept,
        known: Judgement | None = None,
    ) -> tuple[Judgement, Kept]:
        """Take in what arrived since the look before, and say where that leads.

        `begun` is when judging began (epoch ms); `known` is the judgement of the look before.
        """
        state = RateState.unpacked(self.test, kept.state) if kept.state else self.test.start()
        tallies = [Tally(*each) for each in kept.tallies]
        taken = self._taken(tally)
        state = self.test.look(state, *taken[1:], taken.rho)
        joined = tallies and tallies[-1].rho == tally.rho
        tallies[-1 if joined else len(tallies) :] = [tallies[-1].plus(tally) if joined else tally]
        peak = float(state.peak)
        alarmed = peak >= -math.log(self.alpha)
        kept = Kept(
            peak=peak,
            alarmed_at=at if alarmed and kept.alarmed_at is None else kept.alarmed_at,
            alarm=tuple(map(float, tally)) if alarmed and not kept.alarm else kept.alarm,
            state=state.packed(),
            tallies=tuple(tuple(map(float, each)) for each in tallies[-SPLITS_KEPT:]),
        )
        return self._told(tallies, state, kept, at, begun, known), kept

    def again(self, at: int, begun: int, kept: Kept, known: Judgement | None) -> Judgement:
        """What was said at the look `at`, from what is remembered after it; arguments as for `judge`."""
        state = RateState.unpacked(self.test, kept.state)
        tallies = [Tally(*each) for each in kept.tallies]
        return self._told(tallies, state, kept, at, begun, known)

    def suspended(self, why: str, at: int, kept: Kept) -> Judgement:
        """That nothing is counted at the moment."""
        failed, metric = kept.alarmed_at is not None, self.guardrail.metric
        reason = f"{metric}: not counted, {why}"
        if failed:
            reason = f"{metric} was proven to be beyond what is tolerated; now {reason}"
        return Judgement(
            guardrail=self.guardrail.name,
            metric=self.guardrail.metric,
            phase=Phase.FAIL if failed else Phase.INCONCLUSIVE,
            at=at,
            reason=reason,
            evidence=self._evidence(kept.peak, None),
        )

    def _told(
        self,
        tallies: list[Tally],
        state: RateState,
        kept: Kept,
        at: int,
        begun: int,
        known: Judgement | None,
    ) -> Judgement:
        safe = float(log_safe(state))
        phase = Phase.PASS if safe >= -math.log(self.alpha_pass) else Phase.INCONCLUSIVE
        if kept.alarmed_at is not None:
            phase = Phase.FAIL
        sums = _sums(tallies)
        # The interval costs far more than all the rest, and decides nothing.
        fresh = known is None or known.phase is not phase or at % COARSE_WIDTH == 0
        effect = self._effect(tallies, sums) if fresh or known is None else known.effect
        harm = kept.peak or 0.0
        waiting = phase is Phase.INCONCLUSIVE
        wait = self._missing(harm, safe, sums.n_t, at - begun) if waiting else None
        return Judgement(
            guardrail=self.guardrail.name,
            metric=self.guardrail.metric,
            phase=phase,
            at=at,
            reason=self._sentence(phase, sums, effect, wait) + _latest(kept),
            value=sums.ours,
            control=sums.theirs,
            n=sums.n_t,
            n_control=sums.n_c,
            effect=effect,
            evidence=self._evidence(harm, safe),
            n_effective=sums.events,
            missing=wait,
        )

    def _evidence(self, harm: float | None, safe: float | None) -> Evidence:
        return Evidence(
            harm=harm,
            harm_needed=-math.log(self.alpha),
            safe=safe,
            safe_needed=-math.log(self.alpha_pass),
        )

    def _effect(self, tallies: list[Tally], sums: _Sums) -> Effect | None:
        """The ratio or the difference since counting began, with its confidence sequence."""
        if sums.ours is None or sums.theirs is None:
            return None
        tallies = [self._taken(each) for each in tallies]
        if self.test.relative_margin is None:
            found = difference_interval(
                [(each.x_t, each.n_t, each.x_c, each.n_c, each.rho) for each in tallies], self.alpha
            )
            lower, upper = found or (None, None)
            estimate = sums.ours - sums.theirs
            return Effect(kind="difference", estimate=estimate, lower=lower, upper=upper)
        if not sums.theirs:
            return None
        ends = ratio_interval([(each.x_t, each.x_c, each.rho) for each in tallies], self.alpha)
        low, high = ends or (None, None)
        return Effect(kind="ratio", estimate=sums.ours / sums.theirs, lower=low, upper=high)

    def _missing(self, harm: float, safe: float, n: int, elapsed: int) -> Missing | None:
        """Evidence grows about in proportion to what was counted."""
        shares = (harm / -math.log(self.alpha), safe / -math.log(self.alpha_pass))
        best = max(shares)
        if best <= 0 or not n:
            return None
        times = 1 / best - 1
        return Missing(predictions=math.ceil(n * times), ms=round(elapsed * times))

    def _sentence(
        self, phase: Phase, sums: _Sums, effect: Effect | None, wait: Missing | None
    ) -> str:
        metric = self.guardrail.metric
        if sums.ours is None or sums.theirs is None:
            return f"{metric}: nothing has arrived of one of the two variants"
        seen = f"{metric} {sums.ours:.3%} against {sums.theirs:.3%} of the control"
        if effect is not None and effect.lower is not None and effect.upper is not None:
            unit = "times as many" if effect.kind == "ratio" else "more"
            seen += f", {effect.lower:.3g} to {effect.upper:.3g} {unit}"
        tolerated = f"{self._margin()} is tolerated"
        if phase is Phase.FAIL:
            return f"{seen}: proven to be beyond what is tolerated ({self._margin()})"
        if phase is Phase.PASS:
            return f"{seen}: {tolerated}, and proven to be kept"
        more = f"; about {wait.predictions:,} more predictions decide" if wait else ""
        return f"{seen}: {tolerated}{more}"

    def _margin(self) -> str:
        relative = self.test.relative_margin
        if relative is None:
            return f"a difference of {self.test.margin or 0.0:.3g}"
        return (
            f"{1 + relative:.3g} times the control's" if relative else "no more than the control's"
        )


def _latest(kept: Kept) -> str:
    """What came just before the alarm: after a late change all that came before hides it."""
    if not kept.alarm:
        return ""
    last = Tally(*kept.alarm)
    ours, theirs = f"{last.x_t:,.0f} of {last.n_t:,.0f}", f"{last.x_c:,.0f} of {last.n_c:,.0f}"
    return f"; in the last look before the alarm {ours} against {theirs}"


def _sums(tallies: list[Tally]) -> _Sums:
    """Shares of events, each split counting for what both variants have in it."""
    n_t, n_c = (int(sum(each[at] for each in tallies)) for at in (2, 4))
    events = sum(each.x_t + each.x_c for each in tallies)
    weights = [
        (each, each.n_t * each.n_c / (each.n_t + each.n_c))
        for each in tallies
        if each.n_t and each.n_c
    ]
    whole = sum(weight for _, weight in weights)
    if not whole:
        return _Sums(None, None, n_t, n_c, events)
    ours = sum(weight * each.x_t / each.n_t for each, weight in weights) / whole
    theirs = sum(weight * each.x_c / each.n_c for each, weight in weights) / whole
    return _Sums(ours, theirs, n_t, n_c, events)
