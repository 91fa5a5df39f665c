"""What a ranking says, in sentences: which model, how sure, and against what. Pure."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from abmonitor.operate.printable import printable
from abmonitor.ranking.columns import share, span
from abmonitor.ranking.ranking import Ranking
from metrics.assumptions import meant
from metrics.candidates import BASELINES


FEW = 100
"""With fewer positives the bootstrap copies the spread of sums less well (`tied_with_best`)."""
FEW_HITS = 20
"""With fewer correct actions of a model its own interval is too short, however many positives there are."""
NAMED = 5
"""As many models are named in a sentence."""
WIDTH = 60
"""Of a name in a sentence."""


def sentences(ranking: Ranking) -> list[str]:
    """Which model to take, how sure that is, and what deciding without a model earns."""
    return [
        each
        for each in (
            _winner(ranking),
            _rivals(ranking),
            _without(ranking),
            _over_range(ranking),
            _by_tuning(ranking),
        )
        if each
    ]


def basis(ranking: Ranking) -> str:
    """What the numbers rest on: rows, assumptions and thresholds."""
    counts, plan = ranking.tally.counts, ranking.plan
    told = (
        f"{ranking.rows:,} row{'s' * (ranking.rows != 1)}, {counts.positives:,.0f} of them positive"
    )
    if ranking.rows:
        told += f" ({share(counts.positives / ranking.rows)} %)"
    return f"{told}. {_economics(ranking)} {_decisions(ranking, plan.threshold)}"


def _economics(ranking: Ranking) -> str:
    plan = ranking.plan
    if plan.assumed is None or plan.q is None:
        return "Profit, RAP and ROI are those of the value and the cost of each row."
    told = (
        f"{_q_range(ranking)}, ordered at q = {plan.q:.6g}" if plan.ranges else f"q = {plan.q:.6g}"
    )
    unit = " (profit in costs of an action)" if plan.unit_cost is None else ""
    return f"{told}{unit}."


def _q_range(ranking: Ranking) -> str:
    if ranking.plan.assumed is None:
        return ""
    within = ranking.plan.assumed.range
    low = "above 1" if within.low is None else f"from {within.low:.6g}"
    high = "without end" if within.high is None else f"to {within.high:.6g}"
    return f"q {low} {high}"


def _decisions(ranking: Ranking, threshold: float) -> str:
    if ranking.tuning is None:
        return f"A score of {threshold:g} or more acts."
    return "Each model acts by a threshold of its own, chosen on other rows than it is judged on."


def _name(ranking: Ranking, place: int) -> str:
    return printable(ranking.tally.counts.models[place], WIDTH)


def _winner(ranking: Ranking) -> str:
    leaders = ranking.leaders
    first, rap = _name(ranking, leaders[0]), float(ranking.column("rap")[leaders[0]])
    others = len(leaders) - 1
    same = f", and {others} other{'s do' if others > 1 else ' does'} the same" if others else ""
    if math.isnan(rap):
        why = (
            "no row is positive" if not ranking.tally.counts.positives else "nothing can be earned"
        )
        return f"RAP cannot be known, as {why}; {first} has the highest profit{same}."
    joint = ranking.joint()
    bounds = ""
    if joint is not None:
        low, high = (float(end[leaders[0]]) for end in joint)
        bounds = "" if math.isnan(low) else f" {span(low, high)}"
    loss = ", which is a loss" if rap < 0 else ""
    return f"{first} earns {share(rap)} % of the achievable profit{bounds}{loss}{same}."


def _rivals(ranking: Ranking) -> str:
    models = len(ranking.models)
    if models == 1:
        return "It is the only model."
    if ranking.tied is None:
        return ""
    if not ranking.tied[ranking.leaders[0]]:
        return ""  # deciding without a model is better, which is said of that
    others = int(ranking.tied[:models].sum()) - len(ranking.leaders)
    if not others:
        return "" if len(ranking.leaders) == models else "All others are shown to earn less."
    return f"{others:,} other{'s' if others > 1 else ''} cannot be told from it."


def _without(ranking: Ranking) -> str:
    """Always and never acting, beside the best model."""
    models, raps, net = len(ranking.models), ranking.column("rap"), ranking.net()
    leader = ranking.leaders[0]
    told = [f"{BASELINES[i]} {share(float(raps[models + i]))} %" for i in (0, 1)]
    known = not math.isnan(float(raps[models]))
    earned = f"Without a model: {' and '.join(told)}." if known else ""
    best = models + int(np.argmax(net[models : models + 2]))
    slack = 1e-12 * float(np.abs(net).max())
    if net[best] > net[leader] + slack:
        verdict = f"No model earns more than {BASELINES[best - models]} acting does"
        shown = ranking.tied is not None and not ranking.tied[leader]
        verdict += ": all are shown to earn less." if shown else "."
    elif ranking.tied is not None and ranking.tied[best]:
        verdict = f"It is not shown to earn more than {BASELINES[best - models]} acting does."
    else:
        verdict = ""
    return f"{earned} {verdict}".strip()


def _over_range(ranking: Ranking) -> str:
    within = ranking.within
    if within is None:
        return ""
    leader = ranking.leaders[0]
    told = within.ranks.certainty(1)
    may = sum(each != "impossible" for each in told)
    where = "throughout" if told[leader] == "certain" else f"for a part only; {may:,} models may be"
    behind = [BASELINES[i] for i in (0, 1) if not _ahead(ranking, leader, len(told) + i)]
    against = "It earns more than always and never acting throughout."
    if behind:
        against = f"In a part of that it does not earn more than {' and '.join(behind)} acting."
    return f"Over {_q_range(ranking)} it is first {where}. {against}"


def _ahead(ranking: Ranking, one: int, other: int) -> bool:
    """Whether one earns more than the other for all assumptions: it does at both ends, as both are lines."""
    if ranking.plan.assumed is None:
        return False
    counts, within = ranking.tally.counts, ranking.plan.assumed.range
    tp, fp = (Fraction(float(each[one] - each[other])) for each in (counts.tp, counts.fp))
    if within.low is None:  # q comes down to 1, where k has no end
        at_low_q = fp < 0 or (fp == 0 and tp > 0)
    else:
        at_low_q = tp - fp / (meant(within.low) - 1) > 0
    at_high_q = tp - (fp / (meant(within.high) - 1) if within.high is not None else 0) > 0
    return at_low_q and at_high_q


def _by_tuning(ranking: Ranking) -> str:
    tuning = ranking.tuning
    if tuning is None or np.isnan(tuning.untuned).all():
        return ""
    best = int(np.nanargmax(tuning.untuned))
    return (
        f"At {ranking.plan.threshold:g} for all, the best would be {_name(ranking, best)} "
        f"with {share(float(tuning.untuned[best]))} %."
    )


def notes(ranking: Ranking) -> list[str]:
    """What somebody who relies on the numbers has to know."""
    return [*_about_the_file(ranking), *_about_certainty(ranking)]


def _about_the_file(ranking: Ranking) -> Iterator[str]:
    if ranking.dropped:
        yield f"{_many(ranking.dropped, 'row')} left out for lack of a label."
    if ranking.left_out:
        names = [repr(printable(name, WIDTH)) for name in ranking.left_out]
        yield f"{_many(len(names), 'column')} not taken for a model: {_listed(names)}."
    if ranking.faults:
        yield f"{_many(len(ranking.faults), 'model')} not ranked: {_faults(ranking)}"
    if ranking.constant:
        names = [printable(name, WIDTH) for name in ranking.constant]
        yield f"{_many(len(names), 'model')} constant (one score for all rows): {_listed(names)}."


def _about_certainty(ranking: Ranking) -> Iterator[str]:
    counts, plan = ranking.tally.counts, ranking.plan
    if plan.assumed is not None and plan.assumed.clipped:
        yield plan.assumed.clipped
    if not counts.positives:
        yield "No row is positive: RAP and recall cannot be known."
    elif not counts.negatives:
        yield "All rows are positive: false alarms cannot be seen, so RAP is the recall."
    elif ranking.tied is not None and counts.positives < FEW:
        yield (
            f"Fewer than {FEW} rows are positive ({counts.positives:,.0f}): intervals and ties are "
            "less sure than 95 %."
        )
    elif ranking.tied is not None and 0 < (hits := counts.tp[ranking.leaders[0]]) < FEW_HITS:
        yield (
            f"{_name(ranking, ranking.leaders[0])} has fewer than {FEW_HITS} correct actions ({hits:,.0f}):"
            " its interval is less sure than 95 %."
        )
    if ranking.tuning is not None and ranking.tied is not None:
        yield "Intervals take thresholds as given: they leave out the chance of choosing them."


def _many(number: int, what: str) -> str:
    return f"{number:,} {what} is" if number == 1 else f"{number:,} {what}s are"


def _faults(ranking: Ranking) -> str:
    return _listed(
        [f"{printable(name, WIDTH)} ({why})" for name, why in ranking.faults.items()], "; "
    )


def _listed(names: list[str], between: str = ", ") -> str:
    more = len(names) - NAMED
    told = between.join(names[:NAMED])
    return f"{told}{between}and {more:,} more" if more > 0 else told
