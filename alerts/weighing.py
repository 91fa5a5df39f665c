"""Weighing: a sequential guardrail on labels and the mature cohorts of an epoch, to a judgement. Pure."""

import math
from dataclasses import dataclass
from typing import SupportsFloat

import msgspec
import numpy as np

from alerts.book import Kept
from alerts.cohorts import Arms
from alerts.guardrails import Guardrail
from alerts.judge import Effect, Evidence, Judgement, Missing, Phase, Strongest
from alerts.testing import Testing
from metrics.catalogue import CATALOGUE
from metrics.clusters import inflation
from metrics.contrast import MIN_POSITIVES, Margin, value_of
from metrics.evidence import Bounds, Test, bounds, missing, weigh
from metrics.evidence import Evidence as Found
from metrics.experiment import Experiment
from metrics.facts import Facts
from metrics.moment import Moment
from metrics.sequential import start_weights
from metrics.value import finite


@dataclass(frozen=True, slots=True)
class Weigher:
    """Weighs one guardrail; holds what was declared, no state."""

    guardrail: Guardrail
    experiment: Experiment
    test: Test

    @classmethod
    def of(
        cls, guardrail: Guardrail, experiment: Experiment, testing: Testing, alpha: float
    ) -> "Weigher":
        """The test that was declared, with its part of alpha."""
        margin = Margin(guardrail.margin or 0.0, guardrail.relative_margin or 0.0)
        test = Test(
            guardrail.metric, margin, alpha, testing.alpha_pass, testing.planned, guardrail.detect
        )
        return cls(guardrail, experiment, test)

    def judge(self, arms: Arms, at: int, kept: Kept) -> tuple[Judgement, Kept]:
        """What the cohorts say at the look `at`, and what to remember of it."""
        if not arms.starts:
            return self._judgement(at, "no label is final yet", kept), kept
        found = self.found(arms)
        kept = self._remembered(kept, float(found.log_harm), at)
        return self._told(found, _sums(arms), arms, at, kept), kept

    def found(self, arms: Arms) -> Found:
        """The evidence in the cohorts, of which there has to be at least one."""
        ours, theirs = (
            inflation(self.guardrail.metric, buckets, facts, self.experiment)
            for buckets, facts in zip(arms.buckets, _sums(arms), strict=True)
        )
        both = arms.treatment, arms.control
        return weigh(self.test, self.experiment, *both, arms.strata, (ours, theirs))

    def _remembered(self, kept: Kept, log_harm: float, at: int) -> Kept:
        peak = max(kept.peak if kept.peak is not None else -math.inf, log_harm)
        alarmed = peak >= -math.log(self.test.alpha)
        alarmed_at = at if alarmed and kept.alarmed_at is None else kept.alarmed_at
        return Kept(peak=peak if math.isfinite(peak) else None, alarmed_at=alarmed_at)

    def _told(
        self, found: Found, whole: tuple[Facts, Facts], arms: Arms, at: int, kept: Kept
    ) -> Judgement:
        metric = self.guardrail.metric
        values = [float(value_of(metric, facts, self.experiment)[0]) for facts in whole]
        ours, theirs = (value if math.isfinite(value) else None for value in values)
        told = msgspec.structs.replace(
            self._judgement(at, self._too_few(float(found.positives)), kept),
            value=ours,
            control=None if CATALOGUE[metric].relative_only else theirs,
            n=int(whole[0].predictions),
            n_control=int(whole[1].predictions),
            n_effective=float(found.positives),
        )
        if ours is None or theirs is None or not math.isfinite(float(found.whole.harm)):
            return told
        safe = float(found.log_safe)
        passed = safe >= -math.log(self.test.alpha_pass) and self._calm(found)
        phase = Phase.PASS if passed else Phase.INCONCLUSIVE
        phase = told.phase if told.phase is Phase.FAIL else phase
        ends = bounds(self.test, found)
        effect = self._effect(found, ends, theirs)
        strongest = self._strongest(found, ends, arms, theirs)
        wait = self._missing(found, told.n, arms, at) if phase is Phase.INCONCLUSIVE else None
        return msgspec.structs.replace(
            told,
            phase=phase,
            reason=self._seen((ours, theirs), effect)
            + (
                self._harm(effect, strongest, theirs, kept.alarmed_at)
                if phase is Phase.FAIL
                else self._room(effect, theirs, wait, passed=phase is Phase.PASS)
            ),
            effect=effect,
            missing=wait,
            strongest=strongest,
            evidence=self._evidence(kept.peak, safe),
        )

    def _calm(self, found: Found) -> bool:
        """Whether nothing since any start speaks of harm, so that all that was good need not hide it."""
        alone = found.by_start - np.log(start_weights(found.starts))
        return bool(alone.max() < -math.log(self.test.alpha_pass))

    def _judgement(self, at: int, unknown: str, kept: Kept) -> Judgement:
        """That nothing is known (and why), but for an alarm that was raised before."""
        failed, metric = kept.alarmed_at is not None, self.guardrail.metric
        return Judgement(
            guardrail=self.guardrail.name,
            metric=metric,
            phase=Phase.FAIL if failed else Phase.INCONCLUSIVE,
            at=at,
            reason=f"{metric} was proven to be worse than tolerated" if failed else unknown,
            evidence=self._evidence(kept.peak, None),
        )

    def _evidence(self, harm: float | None, safe: float | None) -> Evidence:
        return Evidence(
            harm=harm,
            harm_needed=-math.log(self.test.alpha),
            safe=finite(safe),
            safe_needed=-math.log(self.test.alpha_pass),
        )

    def _effect(self, found: Found, ends: Bounds, control: float) -> Effect:
        """The difference over the whole epoch, each end from the test that decides on its side."""
        least, estimate, most = (
            self._difference(harm, control) for harm in (ends.least, found.whole.harm, ends.most)
        )
        # Not sorted: an end that is not known is NaN, which has no order.
        lower, upper = (least, most) if self._sign > 0 else (most, least)
        return Effect(
            kind="difference", estimate=estimate, lower=finite(lower), upper=finite(upper)
        )

    def _strongest(
        self, found: Found, ends: Bounds, arms: Arms, control: float
    ) -> Strongest | None:
        """What is found since the start that counts most, if that is not the beginning."""
        best = int(found.strongest)
        if best == 0:
            return None
        return Strongest(
            since=arms.starts[int(found.starts[best]) - 1],
            difference=self._difference(found.since.harm[best], control),
            bound=finite(self._difference(ends.late, control)),
        )

    @property
    def _sign(self) -> float:
        """Of a difference that is harm."""
        return 1.0 if CATALOGUE[self.guardrail.metric].harm == "rising" else -1.0

    def _difference(self, harm: SupportsFloat, control: float) -> float:
        """Treatment minus control, of what is harm beyond the margin; NaN and infinity stay."""
        return self._sign * (float(harm) + self._tolerated(control))

    def _tolerated(self, control: float) -> float:
        return self.test.margin.absolute + self.test.margin.relative * abs(control)

    def _missing(self, found: Found, n: int, arms: Arms, at: int) -> Missing | None:
        times = missing(self.test, found)
        if times is None:
            return None
        elapsed = at - arms.starts[0]
        return Missing(predictions=math.ceil(n * (times - 1)), ms=round(elapsed * (times - 1)))

    def _too_few(self, positives: float) -> str:
        if positives < MIN_POSITIVES:
            return (
                f"{positives:.0f} positives (effective) in the smaller variant,"
                f" {MIN_POSITIVES} are needed before anything is judged"
            )
        return f"{self.guardrail.metric} cannot be known yet"

    def _seen(self, values: tuple[float, float], effect: Effect) -> str:
        """What the two variants do over the whole epoch, for people."""
        metric, (ours, theirs) = self.guardrail.metric, values
        if CATALOGUE[metric].relative_only:
            return f"{metric} {effect.estimate:+.4g} against the control: "
        early = self.guardrail.landmark
        named = f"{metric} by labels of the first {early}" if early else metric
        return f"{named} {ours:.4g} against {theirs:.4g} of the control: "

    def _harm(
        self, effect: Effect, strongest: Strongest | None, control: float, alarmed_at: int | None
    ) -> str:
        """How much worse it is proven to be, and since when; all numbers are in the judgement."""
        tolerated = self._tolerated(control)
        near = effect.upper if self._sign < 0 else effect.lower
        least = strongest.bound if strongest else near
        if least is None or self._sign * least < tolerated:
            # An alarm stays when what raised it can no longer be seen for all that came later.
            when = f" at {Moment(alarmed_at)}" if alarmed_at is not None else ""
            return f"proven{when} to be worse than the {tolerated:.3g} that is tolerated"
        told = f"worse by {self._sign * least:.3g} or more"
        if strongest:
            estimate = self._sign * effect.estimate
            side = "worse" if estimate > 0 else "better"
            told = (
                f"since about {Moment(strongest.since)} {told};"
                f" over the whole epoch {side} by about {abs(estimate):.3g}"
            )
        return f"{told}, {tolerated:.3g} is tolerated"

    def _room(self, effect: Effect, control: float, wait: Missing | None, *, passed: bool) -> str:
        """Between what it lies where it is not harmful; all numbers are in the judgement."""
        told = f"{self._tolerated(control):.3g} is tolerated"
        far = effect.lower if self._sign < 0 else effect.upper
        if passed and far is not None:
            most = self._sign * far
            side = f"better by {-most:.3g} or more" if most <= 0 else f"worse by {most:.3g} at most"
            return f"{side}, {told}"
        more = f"; about {wait.predictions:,} more predictions decide" if wait else ""
        return f"a difference {_range(effect)}, {told}{more}"


def _sums(arms: Arms) -> tuple[Facts, Facts]:
    """All cohorts of treatment and of control."""
    return Facts(arms.treatment.sums.sum(axis=0)), Facts(arms.control.sums.sum(axis=0))


def _range(effect: Effect) -> str:
    """Between what the difference lies, in words."""
    if effect.lower is None or effect.upper is None:
        end = effect.lower if effect.upper is None else effect.upper
        side = "above" if effect.upper is None else "below"
        return "that is not known yet" if end is None else f"{side} {end:+.3g}"
    return f"of {effect.lower:+.3g} to {effect.upper:+.3g}"
