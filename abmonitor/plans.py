"""Plans: how long the sequential guardrails of an experiment will take, as far as it declares enough. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from abmonitor.settings import ExperimentSettings
from alerts.counting import Counter
from alerts.guardrails import Guardrail
from alerts.testing import alphas
from alerts.weighing import Weigher
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR
from metrics.planning import Need, Plan, plan, undeclared
from metrics.rate_planning import plan_rate, share_of


FAR = 5
"""Times more or fewer predictions than planned, from where on a plan is worth another thought."""
_UNKNOWN = Plan(None, Need(), Need())


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one sequential guardrail will take for one treatment."""

    guardrail: Guardrail
    treatment: str
    alpha: float
    share: float
    """The treatment's part of its own and the control's traffic, at the last split of the ramp."""
    a_day: float | None
    """Predictions of both a day."""
    wait: int
    """Milliseconds that an answer comes later than the predictions it needs."""
    not_before: int
    """Milliseconds before which nothing passes."""
    plan: Plan
    problem: str | None
    """Why there is no plan."""

    def days(self, predictions: int | None) -> float | None:
        """How long `predictions` of both take, and what comes after."""
        if predictions is None or not self.a_day:
            return None
        return predictions / self.a_day + self.wait / DAY

    def days_to_pass(self, predictions: int | None) -> float | None:
        """How long an equal treatment takes to pass."""
        found = self.days(predictions)
        return None if found is None else max(found, self.not_before / DAY)

    @property
    def name(self) -> str:
        """How warnings call it."""
        return f"{self.guardrail.name}, {self.treatment}"

    def document(self, planned: float) -> dict[str, Any]:
        """For people and programs; what cannot be known is None."""
        to_detect, to_pass = self.plan.detect, self.plan.passing
        days = self.days(to_detect.p50), self.days(to_detect.p80)
        days_to_pass = self.days_to_pass(to_pass.p50), self.days_to_pass(to_pass.p80)
        return {
            "guardrail": self.guardrail.name,
            "treatment": self.treatment,
            "alpha": self.alpha,
            "effect": self.plan.effect,
            "effect_from": "planned" if self.guardrail.detect is None else "detect",
            "predictions_to_detect": _pair(to_detect.p50, to_detect.p80),
            "treatment_predictions_to_detect": _pair(*self._ours(to_detect)),
            "days_to_detect": _pair(*days),
            "predictions_to_pass": _pair(to_pass.p50, to_pass.p80),
            "treatment_predictions_to_pass": _pair(*self._ours(to_pass)),
            "days_to_pass": _pair(*days_to_pass),
            "note": "; ".join(self._notes(planned)) or None,
        }

    def _ours(self, need: Need) -> tuple[int | None, int | None]:
        half, most = (None if n is None else round(n * self.share) for n in (need.p50, need.p80))
        return half, most

    def _notes(self, planned: float) -> Iterator[str]:
        if self.problem is not None:
            yield self.problem
            return
        if self.guardrail.detect is not None and self.plan.detect.p80 is None:
            yield "never found: the control is not expected to have that much to lose"
        elif self.plan.effect is None:
            yield f"{planned:,.0f} predictions an arm find no harm, however large"
        elif self.guardrail.detect is None:
            yield f"no detect is declared: this is the harm that {planned:,.0f} predictions an arm find"
        if not (self.guardrail.margin or self.guardrail.relative_margin):
            yield "never: an equal treatment cannot be proven to be better; give a margin"
        elif self.plan.passing.p80 is None:
            yield "never passes: what is expected of the control gives nothing to judge on"
        if self.guardrail.landmark is not None:
            yield "as if all labels had come by the landmark; with fewer it takes longer"


def outlooks(found: ExperimentSettings) -> list[Outlook]:
    """Plan each sequential guardrail of each treatment."""
    shares = alphas(found.testing, found.guardrails)
    tested = [each for each in found.guardrails if each.test == "sequential"]
    return [
        _outlook(found, guardrail, treatment, shares[guardrail.name])
        for treatment in found.treatments
        for guardrail in tested
    ]


def warnings(found: ExperimentSettings, planned: list[Outlook]) -> Iterator[str]:
    """What to declare, and which plans are not as they were meant."""
    tested = [each for each in found.guardrails if each.test == "sequential"]
    for missing in dict.fromkeys(undeclared(each.metric, found) for each in tested):
        if missing is not None:
            yield (
                f"how long sequential guardrails take cannot be told; declare {missing}"
                + (" and predictions_per_second" if found.predictions_per_second is None else "")
            )
    for each in planned:
        yield from _too_long(each, found.testing.max_duration)
        yield from _passes_first(each)
        yield from _far_from_plan(each, found.testing.planned)


def line(document: dict[str, Any]) -> str:
    """One plan (see `Outlook.document`) in words."""
    told = f"{document['guardrail']}, {document['treatment']}: "
    parts = []
    if document["predictions_to_detect"]["p80"] is not None:
        parts.append(
            f"harm of {document['effect']:.3g} beyond the margin is found after "
            + _spans(document, "detect")
        )
    if document["predictions_to_pass"]["p80"] is not None:
        parts.append(f"an equal treatment passes after {_spans(document, 'pass')}")
    if document["note"] is not None:
        parts.append(document["note"])
    return told + "; ".join(parts)


def _spans(document: dict[str, Any], what: str) -> str:
    """About how many predictions and how long, in half of the cases and in 80 %."""
    both, ours = (document[f"{whose}predictions_to_{what}"] for whose in ("", "treatment_"))
    days = document[f"days_to_{what}"]
    told = []
    for case, shown in (("p50", "50 %"), ("p80", "80 %")):
        lasting = "" if days[case] is None else f", {_lasting(days[case])}"
        told.append(
            f"{_about(both[case])} predictions ({_about(ours[case])} its own{lasting}) in {shown}"
        )
    return " or ".join(told) + " of the cases"


def _about(count: int) -> str:
    """Three digits: a plan is no better than what is expected."""
    return f"{round(count, 3 - len(str(count))):,}"


def _lasting(days: float) -> str:
    return f"{days:,.1f} days" if days >= 2 else f"{days * DAY / HOUR:.1f} hours"


def _pair(half: float | None, most: float | None) -> dict[str, float | None]:
    return {"p50": half, "p80": most}


def _outlook(
    found: ExperimentSettings, guardrail: Guardrail, treatment: str, alpha: float
) -> Outlook:
    split = found.split_at(found.ramp[-1].at) if found.ramp else found.variants
    ours, theirs, rate = split[treatment], split[found.control], found.predictions_per_second
    labelled = CATALOGUE[guardrail.metric].labelled
    wait = guardrail.warm_up
    if labelled:
        wait = Duration(found.labels.wait) if guardrail.landmark is None else guardrail.landmark
    problem = undeclared(guardrail.metric, found)
    if labelled and found.labels.observed == "explored":
        problem = "no plan: the weights of explored predictions are not declared"
    if not (ours > 0 and theirs > 0):
        problem = "no plan: at the last split one of the two gets no traffic"
    share = ours / (ours + theirs) if ours + theirs else 0.0
    return Outlook(
        guardrail,
        treatment,
        alpha,
        share,
        None if rate is None else rate * DAY / 1000 * (ours + theirs) / sum(split.values()),
        wait,
        found.testing.min_duration,
        _UNKNOWN if problem else _plan(found, guardrail, alpha, share),
        problem and problem.replace("expected:", "declare expected:", 1),
    )


def _plan(found: ExperimentSettings, guardrail: Guardrail, alpha: float, share: float) -> Plan:
    """Plan the very test that will decide."""
    testing, expected = found.testing, found.expected
    if expected is None:
        return _UNKNOWN
    if CATALOGUE[guardrail.metric].labelled:
        weigher = Weigher.of(guardrail, found, testing, alpha)
        return plan(weigher.test, found, expected, share)
    return plan_rate(
        Counter.of(guardrail, found, testing, alpha).test,
        share_of(guardrail.metric, expected),
        share,
        alpha=alpha,
        alpha_pass=testing.alpha_pass,
        detect=guardrail.detect,
        planned=testing.planned,
    )


def _too_long(each: Outlook, longest: Duration | None) -> Iterator[str]:
    if longest is None:
        return
    spans = (
        ("finding that harm", each.days(each.plan.detect.p80)),
        ("passing an equal treatment", each.days_to_pass(each.plan.passing.p80)),
    )
    for what, days in spans:
        if days is not None and days * DAY > longest:
            yield (
                f"{each.name}: {what} takes {_lasting(days)} in 80 % of the cases,"
                f" but max_duration is {longest}"
            )


def _passes_first(each: Outlook) -> Iterator[str]:
    found, passed = each.plan.detect.p80, each.plan.passing.p80
    if each.guardrail.detect is None or found is None or passed is None or found <= passed:
        return
    yield (
        f"{each.name}: an equal treatment passes after {passed:,} predictions, sooner than harm of"
        f" {each.guardrail.detect:g} beyond the margin is found ({found:,});"
        " a smaller margin or a larger detect brings them together"
    )


def _far_from_plan(each: Outlook, planned: float) -> Iterator[str]:
    """Only tests of labels without `detect` are shaped by the number that is planned."""
    need = each.plan.passing.p80
    shaped = CATALOGUE[each.guardrail.metric].labelled and each.guardrail.detect is None
    if not shaped or need is None:
        return
    an_arm = need * 2 * each.share * (1 - each.share)
    if not planned / FAR <= an_arm <= planned * FAR:
        yield (
            f"{each.name}: planned is {planned:,.0f} predictions an arm, but an equal treatment needs"
            f" {an_arm:,.0f} to pass; tests are sharpest near planned: change it, the margin, or"
            " declare detect"
        )
