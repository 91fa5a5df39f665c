"""Formulas with the numbers put in: how each guardrail of a decision comes to what it says. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import SupportsFloat

import numpy as np

from alerts.book import Decision
from alerts.cohorts import Arms
from alerts.counting import Counter, Tally
from alerts.guardrails import Guardrail
from alerts.judge import Judgement
from alerts.recheck import CLOSE, Recheck
from alerts.weighing import Weigher
from metrics.confusion import WEIGHT_UNIT
from metrics.evidence import Evidence, bounds
from metrics.experiment import Experiment
from metrics.facts import Facts
from metrics.moment import Moment
from metrics.rates import RateState, log_harm, log_safe
from metrics.ratios import CELLS
from metrics.sequential import critical_z, scale_for, start_weights
from metrics.value import finite


Cells = Mapping[str, float]

_NOTHING = 1e-12
"""What is smaller is rounding."""


def lines_of(check: Recheck, guardrail: Guardrail) -> Iterator[str]:
    """What the guardrail saw, and what follows from it, one formula a line."""
    weigher, counter = check.weigher(guardrail.name), check.counter(guardrail.name)
    landmark = int(guardrail.landmark or 0)
    if weigher is not None and landmark in check.arms:
        yield from _weighed(check, weigher, *check.arms[landmark])
    elif counter is not None and guardrail.name in check.reasoning.counted:
        yield from _counted(check, counter)
    elif weigher is None and counter is None:
        yield from _threshold(check, guardrail)


def _weighed(check: Recheck, weigher: Weigher, arms: Arms, until: int) -> Iterator[str]:
    experiment = check.reasoning.declared.experiment
    first, last = Moment(arms.starts[0]), Moment(until)
    yield f"{len(arms.starts):,} cohorts whose labels are final, {first} to {last}"
    both = {check.decision.treatment: arms.treatment, experiment.control: arms.control}
    for name, facts in both.items():
        yield f"{name}: {_cells_told(cells_of(facts))}"
    if weigher.guardrail.metric == "rap":
        yield from _rap(both, experiment)
    found = weigher.found(arms)
    if not math.isfinite(float(found.whole.harm)):
        yield "too little was seen for a standard error, so that nothing is judged"
        return
    yield from _harm(weigher, found)
    yield from _starts(weigher, found, arms)
    yield from _needed(check.judgements.get(weigher.guardrail.name))


def cells_of(facts: Facts) -> Cells:
    """Sums of weights of all cohorts by confusion cell; where nothing is weighted, predictions."""
    sums = facts.cells("w").sum(axis=0) / WEIGHT_UNIT
    return dict(zip(CELLS, sums.tolist(), strict=True))


def _cells_told(cells: Cells) -> str:
    names = {"tp": "TP", "fp": "FP", "tn": "TN", "fn": "FN"}
    told = [f"{short} {cells[name]:,.6g}" for name, short in names.items()]
    failed = cells["error_positive"] + cells["error_other"]
    told += [f"failed {failed:,.6g}"] if failed else []
    told += [f"unknown {cells['unknown']:,.6g}"] if cells["unknown"] else []
    return ", ".join(told)


def _rap(both: Mapping[str, Facts], experiment: Experiment) -> Iterator[str]:
    q = experiment.q or math.nan
    k = 1 / (q - 1)
    yield f"k = 1/(q - 1) = 1/({q:.8g} - 1) = {k:.6g}"
    for name, facts in both.items():
        cells = cells_of(facts)
        missed = cells["fn"] + cells["error_positive"]
        shown = (
            f"({cells['tp']:.8g} - {k:.6g}*{cells['fp']:.8g})/({cells['tp']:.8g} + {missed:.8g})"
        )
        yield f"RAP of {name} = (TP - k*FP)/(TP + FN) = {shown} = {_number(rap_of(cells, q))}"


def rap_of(cells: Cells, q: float) -> float | None:
    """RAP straight from its definition; None without positives."""
    positives = cells["tp"] + cells["fn"] + cells["error_positive"]
    return (cells["tp"] - cells["fp"] / (q - 1)) / positives if positives else None


def _harm(weigher: Weigher, found: Evidence) -> Iterator[str]:
    whole, test = found.whole, weigher.test
    harm, se = float(whole.harm), float(whole.se)
    margin = f"{test.margin.absolute:g}"
    if test.margin.relative:
        margin = f"{test.margin.relative:g} of the control's"
    yield f"harm beyond the margin ({margin}): {harm:.6g}, standard error {se:.4g}, Z = {harm / se:.4g}"
    if test.detect is None:
        ratio, how = (
            float(test.harm_ratio(whole)),
            f"n = {float(whole.n):,.0f} of {test.planned:,.0f} planned an arm",
        )
    else:
        tau = scale_for(test.detect, test.alpha)
        ratio, how = (tau / se) ** 2, f"tau = {tau:.4g}, to find {test.detect:g}"
    yield f"r = tau^2/se^2 = {ratio:.4g} ({how})"


def _starts(weigher: Weigher, found: Evidence, arms: Arms) -> Iterator[str]:
    """The evidence since the beginning, since the start that says most, and of all starts together."""
    alone = found.by_start - np.log(start_weights(found.starts))
    yield f"ln E since the beginning = {float(alone[0]):.6g}, weight 1/2"
    best = int(found.strongest)
    if best:
        j = int(found.starts[best])
        harm, se = float(found.since.harm[best]), float(found.since.se[best])
        since = Moment(arms.starts[j - 1])
        yield (
            f"the start that counts most is cohort {j:,} ({since}): harm {harm:.6g}, standard error {se:.4g},"
            f" ln E = {float(alone[best]):.6g}, weight 1/({j}*{j + 1})"
        )
    n = found.starts.size
    yield f"ln E of all {n} starts, each with its weight = {float(found.log_harm):.6g}"
    ends = bounds(weigher.test, found)
    when = "since that start about" if best else "over the whole epoch"
    yield f"together they prove that harm beyond the margin is at least {_known(ends.late)} {when}"
    if best:
        yield f"the beginning by itself proves at least {_known(ends.least)} over the whole epoch"
    if math.isfinite(float(found.log_safe)):
        ratio = float(weigher.test.safe_ratio(found.whole))
        reach = float(critical_z(weigher.test.alpha_pass, ratio))
        yield f"ln E of no harm = {float(found.log_safe):.6g} (r = {ratio:.4g}: needs Z below -{reach:.4g})"


def _needed(judgement: Judgement | None) -> Iterator[str]:
    if judgement is None or judgement.evidence is None:
        return
    found = judgement.evidence
    reached = found.harm is not None and found.harm >= found.harm_needed
    alpha = math.exp(-found.harm_needed)
    yield (
        f"the highest at any look {_number(found.harm)} {'reaches' if reached else 'stays below'}"
        f" ln(1/alpha) = ln(1/{alpha:.4g}) = {found.harm_needed:.6g}"
    )
    safe = found.safe is not None and found.safe >= found.safe_needed
    alpha = math.exp(-found.safe_needed)
    yield (
        f"of no harm {_number(found.safe)} {'reaches' if safe else 'stays below'}"
        f" ln(1/alpha_pass) = ln(1/{alpha:.4g}) = {found.safe_needed:.6g}"
    )


def _counted(check: Recheck, counter: Counter) -> Iterator[str]:
    step = check.reasoning.counted[counter.guardrail.name]
    if step.suspended is not None:
        yield f"not counted {step.suspended}"
        return
    ours, theirs = check.decision.treatment, counter.experiment.control
    splits = tallies_after(check, counter)
    for tally in splits:
        yield (
            f"with {tally.rho:.4g} of the traffic of the two for {ours}:"
            f" {tally.x_t:,.0f} of {tally.n_t:,.0f}, {theirs} {tally.x_c:,.0f} of {tally.n_c:,.0f}"
        )
    if step.tally is not None:
        last = Tally(*step.tally)
        yield (
            f"of these in the last look {last.x_t:,.0f} of {last.n_t:,.0f}"
            f" against {last.x_c:,.0f} of {last.n_c:,.0f}"
        )
    if step.before.state:
        state = RateState.unpacked(counter.test, step.before.state)
        when = "after the latest look" if step.tally is None else "before that"
        yield (
            f"ln E {when}: harm {_number(float(log_harm(state)))}"
            f" (at most {_number(float(state.peak))}), no harm {_number(float(log_safe(state)))}, by {float(state.looks):,.0f} looks"
        )
    yield from _needed(check.judgements.get(counter.guardrail.name))


def tallies_after(check: Recheck, counter: Counter) -> list[Tally]:
    """What had been counted by split, the last step included."""
    step = check.reasoning.counted[counter.guardrail.name]
    tallies = [Tally(*each) for each in step.before.tallies]
    if step.tally is None:
        return tallies
    last = Tally(*step.tally)
    if tallies and tallies[-1].rho == last.rho:
        return [*tallies[:-1], tallies[-1].plus(last)]
    return [*tallies, last]


def _threshold(check: Recheck, guardrail: Guardrail) -> Iterator[str]:
    judged = check.decision.judgements[guardrail.name]
    control = check.reasoning.declared.experiment.control
    yield (
        f"over {guardrail.window}: {check.decision.treatment} {_number(judged.value)} by {judged.n:,}"
        f" predictions, {control} {_number(judged.control)} by {judged.n_control:,}"
    )
    if judged.bound is not None:
        yield f"bound {_number(judged.bound)}"
    look, standing = check.reasoning.look, check.reasoning.standing
    before = standing.streaks.get(guardrail.name, 0)
    after = before if look is None else look.streaks.get(guardrail.name, 0)
    yield f"{after} failing looks in a row (before: {before}), {guardrail.consecutive} are needed"


def checked_by_hand(check: Recheck, guardrail: Guardrail) -> Iterator[str]:
    """What a value straight from counts says against the judgement, where that is cheap; differences only."""
    judged: Decision | Judgement = check.decision.judgements[guardrail.name]
    experiment, landmark = check.reasoning.declared.experiment, int(guardrail.landmark or 0)
    if guardrail.test != "sequential":
        return
    if guardrail.metric == "rap" and landmark in check.arms and experiment.q:
        arms = check.arms[landmark][0]
        for name, facts in (("value", arms.treatment), ("control", arms.control)):
            yield from _apart(judged, name, rap_of(cells_of(facts), experiment.q))
    counter = check.counter(guardrail.name)
    step = check.reasoning.counted.get(guardrail.name)
    if counter is None or step is None or step.suspended is not None:
        return
    splits = tallies_after(check, counter)
    if len(splits) == 1 and splits[0].n_t and splits[0].n_c:
        yield from _apart(judged, "value", splits[0].x_t / splits[0].n_t)
        yield from _apart(judged, "control", splits[0].x_c / splits[0].n_c)


def _apart(judged: object, name: str, by_hand: float | None) -> Iterator[str]:
    stored = getattr(judged, name)
    if stored is None and by_hand is None:
        return
    if (
        stored is None
        or by_hand is None
        or not math.isclose(stored, by_hand, rel_tol=CLOSE, abs_tol=1e-12)
    ):
        yield f"{name}: stored {_number(stored)}, {_number(by_hand)} straight from the counts"


def _known(value: SupportsFloat) -> str:
    return _number(finite(float(value)))


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "0" if abs(value) < _NOTHING else f"{value:.6g}"
