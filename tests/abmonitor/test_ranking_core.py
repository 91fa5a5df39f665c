import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from support.candidates import Sample, sample

from abmonitor.ranking import tuning as tuning_module
from abmonitor.ranking.assumed import assumed
from abmonitor.ranking.checks import Scores
from abmonitor.ranking.lead import basis, notes, sentences
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.ranking import NAMES, Ranking, rank
from abmonitor.ranking.tuning import rank_tuned
from metrics.candidates import BASELINES, BoolArray, FloatArray
from metrics.resampling import tied_with_best, weights
from metrics.thresholds import halves


def plan(q: str = "3", **others: float) -> Plan:
    return replace(Plan(assumed=assumed(q=q), replicates=40), **others)  # type: ignore[arg-type]


def ranked(given_sample: Sample, given_plan: Plan | None = None) -> Ranking:
    return rank(given_sample.candidates, given_plan or plan())


def acted(given_sample: Sample, place: int, threshold: float = 0.5) -> list[bool]:
    return [score >= np.float32(threshold) for score in given_sample.scores[:, place]]


def test_every_column_is_what_scikit_learn_gives() -> None:
    drawn = sample()
    found = ranked(drawn)
    for place in range(4):
        truth, decisions = drawn.labels, np.array(acted(drawn, place))
        tn, fp, fn, tp = confusion_matrix(truth, decisions).ravel().tolist()
        expected = {
            "precision": precision_score(truth, decisions),
            "recall": recall_score(truth, decisions),
            "accuracy": accuracy_score(truth, decisions),
            "f_score": f1_score(truth, decisions),
            "specificity": recall_score(~truth, ~decisions),
            "false_alarm_rate": 1 - recall_score(~truth, ~decisions),
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": tn,
            "rap": (tp - fp / 2) / (tp + fn),
            "profit": 3 * tp - (tp + fp),
            "roi": 3 * tp / (tp + fp) - 1,
        }
        assert {name: found.column(name)[place] for name in NAMES} == pytest.approx(expected)


def test_models_come_in_the_order_of_profit_and_equal_ones_share_their_rank() -> None:
    drawn = sample(models=5)
    drawn.scores[:, 0] = drawn.scores[:, 3]
    found = ranked(drawn)
    profits = [
        sum(
            2 if label else -1
            for label, acts in zip(drawn.labels, acted(drawn, place), strict=True)
            if acts
        )
        for place in range(5)
    ]
    assert profits[0] == profits[3]
    assert found.ranks.tolist() == [1 + sum(other > mine for other in profits) for mine in profits]
    assert found.order.tolist() == sorted(range(5), key=lambda place: (-profits[place], place))
    assert found.tied is not None
    assert found.tied[0] == found.tied[3]


def test_equal_models_share_their_rank_with_values_and_costs_too() -> None:
    drawn = sample(rows=301, models=9)
    rng = np.random.default_rng(2)
    drawn.values, drawn.costs = rng.random(301) * 9, rng.random(301)
    drawn.scores[:, 8] = drawn.scores[:, 0]
    found = ranked(drawn, replace(plan(), assumed=None))
    assert found.ranks[0] == found.ranks[8]


def test_baselines_earn_what_deciding_without_a_model_does() -> None:
    drawn = sample()
    found = ranked(drawn)
    positives = int(drawn.labels.sum())
    negatives = len(drawn.labels) - positives
    shares = [1.0, 0.0, 0.5, positives / len(drawn.labels)]
    assert found.tally.counts.models[4:] == BASELINES
    assert found.column("profit")[4:] == pytest.approx(
        [share * (2 * positives - negatives) for share in shares]
    )
    assert found.column("rap")[4:] == pytest.approx(
        [share * (positives - negatives / 2) / positives for share in shares]
    )


@given(step=st.integers(1, 200), seed=st.integers(0, 5))
def test_how_the_file_is_cut_changes_nothing(step: int, seed: int) -> None:
    whole, cut = (ranked(sample(seed=seed, step=n)) for n in (200, step))
    for name in NAMES:
        assert np.array_equal(whole.column(name), cut.column(name), equal_nan=True)
        assert whole.interval(name) is None or np.array_equal(
            np.array(whole.interval(name)), np.array(cut.interval(name)), equal_nan=True
        )
    assert np.array_equal(np.array(whole.tied), np.array(cut.tied))


def test_models_that_are_read_in_groups_are_ranked_as_all_at_once() -> None:
    drawn = sample(models=5)
    drawn.values, drawn.costs = money(drawn)
    drawn.faults = {"m2": "text"}
    seen: list[float] = []
    for how in (plan(), replace(plan(), assumed=None)):
        drawn.at_once = 5
        whole = ranked(drawn, how)
        drawn.at_once, drawn.reads = 2, 0
        apart = rank(drawn.candidates, how, progress=seen.append)
        assert drawn.reads == 3
        assert apart.models == whole.models == ("m0", "m1", "m3", "m4")
        for name in NAMES:
            assert apart.column(name) == pytest.approx(whole.column(name), nan_ok=True)
        assert np.array(apart.joint()) == pytest.approx(np.array(whole.joint()), nan_ok=True)
        assert apart.order.tolist() == whole.order.tolist()
        tuned = rank_tuned(drawn.candidates, how)
        drawn.at_once = 5
        expected = rank_tuned(drawn.candidates, how).column("rap")
        assert tuned.column("rap") == pytest.approx(expected)
    assert seen[: len(seen) // 2] == sorted(seen[: len(seen) // 2])
    assert seen[-1] == 1


def test_intervals_are_quantiles_over_rows_that_were_weighted_anew() -> None:
    drawn = sample(rows=90, models=2)
    found = ranked(drawn, plan(seed=5))
    weight = weights(0, 90, 40, 5)
    for place in range(2):
        replicated: dict[str, list[float]] = {"rap": [], "precision": [], "profit": []}
        for mine in weight.T.tolist():
            rows = list(zip(mine, drawn.labels.tolist(), acted(drawn, place), strict=True))
            tp = sum(w for w, label, acts in rows if label and acts)
            fp = sum(w for w, label, acts in rows if acts and not label)
            replicated["rap"].append((tp - fp / 2) / sum(w for w, label, _ in rows if label))
            replicated["precision"].append(tp / (tp + fp))
            replicated["profit"].append((2 * tp - fp) * 90 / sum(mine))  # of 90 rows
        for name, numbers in replicated.items():
            bounds = found.interval(name)  # type: ignore[arg-type]
            assert bounds is not None
            low, high = np.quantile(numbers, [0.025, 0.975]).tolist()
            assert (bounds[0][place], bounds[1][place]) == pytest.approx((low, high))


def test_baselines_may_be_tied_with_the_best_as_models_may() -> None:
    drawn = sample(rows=500)
    found = ranked(drawn)
    drawn_net = found.tally.replicates
    assert drawn_net is not None
    assert found.tied is not None
    expected = tied_with_best(found.net(), drawn_net.net(3.0))
    assert found.tied.tolist() == expected.tolist()
    assert found.tied[3]
    assert not found.tied[4:].any()


def test_without_replicates_there_are_no_intervals_and_no_ties() -> None:
    found = ranked(sample(), plan(replicates=0))
    assert found.tied is None
    assert found.joint() is None
    assert found.interval("rap") is None


def money(drawn: Sample) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(3)
    return np.round(rng.random(drawn.rows) * 8, 2), np.round(rng.random(drawn.rows) * 2, 2)


def test_values_and_costs_of_rows_give_profit_rap_and_roi_by_hand() -> None:
    drawn = sample()
    drawn.values, drawn.costs = money(drawn)
    found = ranked(drawn, replace(plan(), assumed=None))
    rows = list(zip(drawn.labels, drawn.values, drawn.costs, strict=True))
    achievable = sum(max(value - cost, 0) for label, value, cost in rows if label)
    decided = [acted(drawn, place) for place in range(4)] + [[True] * 200, [False] * 200]
    for place, decisions in enumerate(decided):
        acts = [row for row, act in zip(rows, decisions, strict=True) if act]
        gain = sum((value if label else 0) - cost for label, value, cost in acts)
        spent = sum(cost for _, _, cost in acts)
        assert found.column("profit")[place] == pytest.approx(gain)
        assert found.column("rap")[place] == pytest.approx(gain / achievable)
        expected = gain / spent if spent else math.nan
        assert found.column("roi")[place] == pytest.approx(expected, nan_ok=True)
    assert found.column("profit")[6] == pytest.approx(found.column("profit")[4] / 2)
    assert "value and the cost of each row" in basis(found)
    assert found.interval("roi") is None
    rap, joint = found.interval("rap"), found.joint()
    assert rap is not None
    assert joint is not None
    assert (joint[1] - joint[0] > 0)[:5].all()
    assert (rap[0] < found.column("rap"))[:4].all()


@pytest.mark.parametrize("given_one", ["values", "costs"])
def test_one_column_of_money_is_completed_by_a_constant(given_one: str) -> None:
    drawn = sample()
    values, costs = money(drawn)
    both = sample()
    if given_one == "values":
        drawn.values, constant = values, {"unit_cost": 0.5}
        both.values, both.costs = values, np.full(200, 0.5)
    else:
        drawn.costs, constant = costs, {"unit_revenue": 4.0}
        both.values, both.costs = np.full(200, 4.0), costs
    no_q = replace(plan(), assumed=None)
    found, expected = ranked(drawn, replace(no_q, **constant)), ranked(both, no_q)  # type: ignore[arg-type]
    assert found.column("profit").tolist() == expected.column("profit").tolist()


def test_impossible_money_is_an_error() -> None:
    drawn = sample()
    drawn.values, drawn.costs = np.ones(200), np.full(200, -1.0)
    with pytest.raises(
        ValueError, match="expected costs to be finite numbers of at least 0, got -1"
    ):
        ranked(drawn, replace(plan(), assumed=None))


def test_a_range_says_which_ranks_are_possible() -> None:
    drawn = sample(models=5)
    found = ranked(drawn, plan("1.5..9"))
    assert found.within is not None
    tp, fp = found.column("tp")[:5], found.column("fp")[:5]
    seen = set()
    for q in np.linspace(1.5, 9, 4_001).tolist():
        net = tp - fp / (q - 1)
        at = [1 + int((net > each).sum()) for each in net]
        seen.add(tuple(at))
        best, worst = found.within.ranks.best, found.within.ranks.worst
        assert (best <= at).all()
        assert (worst >= at).all()
    assert found.within.ranks.best.tolist() == [min(column) for column in zip(*seen, strict=True)]
    low, high = found.within.rap
    assert low == pytest.approx(found.tally.counts.rap(1.5))
    assert high == pytest.approx(found.tally.counts.rap(9.0))
    assert found.plan.q == pytest.approx(1 + 2 / (1 / 0.5 + 1 / 8))


def test_thresholds_are_chosen_on_one_half_and_judged_on_the_other() -> None:
    drawn = sample(rows=160, models=3)
    found = rank_tuned(drawn.candidates, plan(seed=4))
    assert found.tuning is not None
    for place in range(3):
        scores = drawn.scores[:, place]
        half = halves(drawn.labels, 4)

        def best(rows: BoolArray, scores: Scores = scores) -> float:
            def earned(cut: float) -> tuple[float, int]:
                acts = rows & (scores >= cut)
                tp, fp = (acts & drawn.labels).sum(), (acts & ~drawn.labels).sum()
                return (2 * float(tp) - float(fp), -int(acts.sum()))

            cuts = sorted(set(scores[rows].tolist()))
            chosen = max(cuts, key=earned)
            return chosen if earned(chosen)[0] > 0 else math.nan

        first, second = best(half), best(~half)
        expected = [float(str(np.float32(each))) for each in (first, second)]
        np.testing.assert_array_equal(found.tuning.halves[:, place], expected)
        acts = np.where(half, scores >= second, scores >= first)
        tp, fp = (acts & drawn.labels).sum(), (acts & ~drawn.labels).sum()
        assert (found.column("tp")[place], found.column("fp")[place]) == (tp, fp)
        assert found.tuning.in_sample[place] >= found.column("rap")[place]
    untuned = ranked(drawn).column("rap")[:3]
    assert found.tuning.untuned.tolist() == untuned.tolist()


@pytest.mark.parametrize("by_rows", [False, True])
def test_groups_of_models_are_tuned_as_all_at_once(
    by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = sample(models=5)
    drawn.faults = {"m1": "a score is missing"}
    drawn.values, drawn.costs = money(drawn)
    how = replace(plan(), assumed=None) if by_rows else plan()
    seen: list[float] = []
    whole = rank_tuned(drawn.candidates, how)
    assert drawn.reads == 2
    monkeypatch.setattr(tuning_module, "GROUP_BYTES", 4 * 200)
    apart = rank_tuned(drawn.candidates, how, progress=seen.append)
    assert drawn.reads == 2 + 1 + 4
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert apart.models == ("m0", "m2", "m3", "m4")
    for name in NAMES:
        assert apart.column(name) == pytest.approx(whole.column(name), nan_ok=True)
    assert np.array(apart.joint()) == pytest.approx(np.array(whole.joint()), nan_ok=True)
    assert apart.tuning is not None
    assert whole.tuning is not None
    for field in ("thresholds", "halves", "in_sample", "untuned"):
        expected = getattr(whole.tuning, field)
        assert getattr(apart.tuning, field) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_models_with_faults_are_left_out_and_told() -> None:
    drawn = sample()
    alone = ranked(sample())
    drawn.scores[:, 1] = 0
    drawn.faults = {"m1": "row 3: a score of 7 is not in [0, 1]"}
    found = ranked(drawn)
    assert found.models == ("m0", "m2", "m3")
    keep = [0, 2, 3, *range(4, 8)]
    assert found.column("rap").tolist() == alone.column("rap")[keep].tolist()
    told = notes(found)
    assert told[0] == "1 model is not ranked: m1 (row 3: a score of 7 is not in [0, 1])"
    assert told[1].startswith(f"Fewer than 100 rows are positive ({drawn.labels.sum()}): ")


def test_a_model_that_never_acts_earns_0_and_has_no_precision() -> None:
    drawn = sample()
    drawn.scores[:, 2] = 0
    found = ranked(drawn)
    assert found.column("rap")[2] == found.column("recall")[2] == found.column("profit")[2] == 0
    assert math.isnan(found.column("precision")[2])
    assert math.isnan(found.column("roi")[2])


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("how", [rank, rank_tuned])
def test_one_class_only_is_told_and_never_made_up(
    positive: bool, how: Callable[..., Ranking]
) -> None:
    drawn = sample()
    drawn.labels[:] = positive
    found = how(drawn.candidates, plan())
    told = " ".join(notes(found) + sentences(found))
    if positive:
        assert found.column("rap")[:4].tolist() == found.column("recall")[:4].tolist()
        assert np.isnan(found.column("false_alarm_rate")).all()
        assert "RAP is the recall" in told
    else:
        assert np.isnan(found.column("rap")).all()
        assert found.ranks[int(np.argmin(found.column("fp")[:4]))] == 1
        assert "RAP cannot be known, as no row is positive" in told


def counted(tp_fp: list[tuple[int, int]], positives: int, negatives: int) -> Sample:
    """Rows of which each model acts on so many positives and negatives, the first ones."""
    labels = np.arange(positives + negatives) < positives
    scores = np.zeros((positives + negatives, len(tp_fp)), np.float32)
    for place, (tp, fp) in enumerate(tp_fp):
        scores[:tp, place] = scores[positives : positives + fp, place] = 1
    return Sample(labels, scores, tuple("abcdefgh"[: len(tp_fp)]), step=1_000)


def test_the_first_sentence_says_which_model_and_how_sure() -> None:
    found = ranked(counted([(300, 100), (299, 100), (10, 200)], 400, 2_000), plan(replicates=400))
    told = sentences(found)
    joint = found.joint()
    assert joint is not None
    low, high = (100 * end[0] for end in joint)
    assert told == [
        f"a earns 62.5 % of the achievable profit [{low:.1f}, {high:.1f}].",
        "1 other cannot be told from it.",
        "Without a model: always -150.0 % and never 0.0 %.",
    ]


def test_two_models_that_do_the_same_are_both_first() -> None:
    told = sentences(ranked(counted([(90, 9), (90, 9)], 100, 100), plan(replicates=0)))
    assert told[0] == "a earns 85.5 % of the achievable profit, and 1 other does the same."


def test_it_is_said_where_no_model_is_worth_it() -> None:
    told = sentences(ranked(counted([(10, 900), (1, 990)], 100, 1_000), plan(replicates=400)))
    assert told[0].endswith(", which is a loss.")
    assert told[1].endswith(
        "No model earns more than never acting does: all are shown to earn less."
    )
    told = sentences(ranked(counted([(60, 30), (1, 99)], 100, 100), plan("9")))
    assert told[-1].endswith(
        "No model earns more than always acting does: all are shown to earn less."
    )
    told = sentences(ranked(counted([(99, 100), (1, 99)], 100, 100), plan("9")))
    assert told[-1].endswith("No model earns more than always acting does.")
    unsure = ranked(counted([(12, 20)], 20, 100), plan())
    told = sentences(unsure)
    assert told[1] == "It is the only model."
    assert told[2].startswith("Without a model: always -150.0 % and never 0.0 %. ")
    assert told[2].endswith("It is not shown to earn more than never acting does.")


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("2..4", "Over q from 2 to 4 it is first throughout. It earns more than always and never"),
        ("2..99", "it is first for a part only; 2 models may be."),
        (">=2", "Over q from 2 without end it is first"),
        ("<=4", "Over q above 1 to 4 it is first"),
        ("1.1..4", "In a part of that it does not earn more than never acting."),
        ("2..999", "In a part of that it does not earn more than always acting."),
    ],
)
def test_a_range_is_told_in_a_sentence(q: str, expected: str) -> None:
    told = sentences(ranked(counted([(300, 50), (330, 200)], 400, 2_000), plan(q)))
    assert expected in told[-1]


def test_notes_tell_what_was_left_out_and_what_is_doubtful() -> None:
    drawn = sample(rows=600)
    drawn.left_out = ("", "Unnamed: 0")
    drawn.dropped, drawn.constant = 12, ("m0", "m1", "m2", "m3", "\x1b[2J", "x", "y")
    assert notes(ranked(drawn, plan("0.5..3"))) == [
        "12 rows are left out for lack of a label.",
        "2 columns are not taken for a model: '', 'Unnamed: 0'.",
        "7 models are constant (one score for all rows): m0, m1, m2, m3, \\x1b[2J, and 2 more.",
        "Assumptions for which q is at most 1, where no action can pay, were left out.",
    ]
