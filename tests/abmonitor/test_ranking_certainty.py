"""What a ranking says of its own certainty."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.candidates import Sample, sample

from abmonitor.ranking import order as order_module
from abmonitor.ranking.assumed import assumed
from abmonitor.ranking.lead import notes, sentences
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.ranking import Ranking, rank
from abmonitor.ranking.sensitivity import sensitivity
from abmonitor.ranking.sensitivity_table import name_of
from abmonitor.ranking.tuning import rank_tuned
from metrics.candidates import Counts
from metrics.resampling import tied_with_best


def ranked(drawn: Sample, q: str, replicates: int = 400) -> Ranking:
    return rank(drawn.candidates, Plan(assumed=assumed(q=q), replicates=replicates))


def deciding(labels: list[bool], scores: list[list[float]]) -> Sample:
    drawn = sample(rows=len(labels), models=len(scores[0]))
    drawn.labels[:] = labels
    drawn.scores[:] = scores
    return drawn


def test_profit_of_always_acting_varies_as_that_of_as_many_rows_as_there_are() -> None:
    drawn = sample(rows=4_000, models=1)
    found = ranked(drawn, "1.5", replicates=2_000)
    bounds = found.interval("profit")
    assert bounds is not None
    low, high = (float(end[1]) for end in bounds)  # of always acting, the first baseline
    share = float(drawn.labels.mean())
    # 1.5 for a correct action less 1 for each: only how many are correct varies.
    sd = 1.5 * np.sqrt(len(drawn.labels) * share * (1 - share))
    assert (high - low) / (2 * 1.96 * sd) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("how", "worth"),
    [
        ({"assumed": assumed(q="3")}, 1.0),
        ({"assumed": assumed(q="1.25")}, 4.0),  # an alarm costs four times what a hit gains
        ({"assumed": None, "unit_revenue": 9.0, "unit_cost": 2.0}, 7.0),
        ({"assumed": None, "unit_revenue": 3.0, "unit_cost": 2.0}, 2.0),
    ],
)
def test_ties_allow_for_one_row_more_or_less(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], worth: float
) -> None:
    seen: list[float] = []

    def watched(*given: Any, row_worth: float, level: float) -> Any:
        seen.append(row_worth)
        return tied_with_best(*given, row_worth=row_worth, level=level)

    monkeypatch.setattr(order_module, "tied_with_best", watched)
    rank(sample().candidates, Plan(**how, replicates=40))
    assert seen == pytest.approx([worth])


def test_a_model_that_earns_exactly_as_much_at_an_end_is_not_ahead_throughout() -> None:
    # 15 correct actions and 18 alarms: 15 - 18/(2.2 - 1) is 0, which never acting earns, too.
    labels = [True] * 15 + [False] * 18 + [True, False] * 100
    acts = [[float(row < 33)] for row in range(233)]
    told = " ".join(sentences(ranked(deciding(labels, acts), "2.2..3")))
    assert "In a part of that it does not earn more than always and never acting." in told


def test_a_model_with_few_correct_actions_is_told_to_be_less_sure() -> None:
    labels = [True] * 200 + [False] * 200
    acts = [[float(row < 8)] for row in range(400)]
    told = " ".join(notes(ranked(deciding(labels, acts), "3")))
    assert "m0 has fewer than 20 correct actions (8)" in told
    plenty = [[float(row < 30)] for row in range(400)]
    assert "correct actions" not in " ".join(notes(ranked(deciding(labels, plenty), "3")))


def test_with_thresholds_of_their_own_it_is_said_what_intervals_leave_out() -> None:
    drawn = sample()
    plan = Plan(assumed=assumed(q="3"), replicates=40)
    assert "leave out the chance of choosing" in " ".join(notes(rank_tuned(drawn.candidates, plan)))
    unsure = replace(plan, replicates=0)
    assert not any("thresholds" in note for note in notes(rank_tuned(sample().candidates, unsure)))


def test_never_acting_is_named_before_models_that_do_the_same() -> None:
    counts = Counts(
        np.array([0.0, 0.0, 0.0, 30.0]), np.array([0.0, 0.0, 0.0, 10.0]), 100, 900, tuple("abcd")
    )
    found = sensitivity(counts, assumed(q="1.2"))
    names = [name_of(found, each.places) for each in found.best]
    assert "never = a = b and 1 more" in names
