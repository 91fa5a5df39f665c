import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.candidates import FloatArray, RowMoney, count, decide
from metrics.thresholds import COLUMNS, best_cut, halves, margins, tune


ROWS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=0, max_size=25)


def brute(scores: FloatArray, row_margins: FloatArray) -> tuple[float, int]:
    """Highest gain of all cuts, and the fewest actions that reach it."""
    cuts = [float("inf"), *scores.tolist()]
    outcomes = [
        (float(row_margins[scores >= cut].sum()), int((scores >= cut).sum())) for cut in cuts
    ]
    best = max(gain for gain, _ in outcomes)
    return best, min(actions for gain, actions in outcomes if gain >= best - 1e-9)


@given(rows=ROWS, q=st.sampled_from([1.1, 2.0, 3.3, 4.0, 36.0]))
@settings(deadline=None, max_examples=300)
def test_the_cut_is_the_best_of_all_with_the_fewest_actions(
    rows: list[tuple[int, bool]], q: float
) -> None:
    scores = np.array([score / 6 for score, _ in rows], np.float64)
    labels = np.array([label for _, label in rows], bool)
    earned = margins(labels, q)
    cut = best_cut(scores, earned)
    gain, actions = brute(scores, earned)
    assert cut.gain == pytest.approx(gain, abs=1e-9)
    assert cut.actions == actions
    assert (cut.threshold is None) == (actions == 0)
    if cut.threshold is not None:
        assert cut.actions == int((scores >= cut.threshold).sum())  # equal scores stay together
        counts = count(("one",), labels, decide(scores[:, None], cut.threshold))
        assert counts.profit(q)[0] == pytest.approx(gain, abs=1e-9)


def test_rows_with_values_and_costs_have_their_own_best_cut() -> None:
    rng = np.random.default_rng(4)
    labels, scores = rng.random(60) < 0.3, rng.integers(0, 9, 60) / 8
    money = RowMoney.of(labels, rng.random(60) * 10, rng.random(60))
    cut = best_cut(scores, money.margins)
    assert (cut.gain, cut.actions) == pytest.approx(brute(scores, money.margins))


def test_never_acting_is_best_where_nothing_pays_even_by_a_tie() -> None:
    labels, scores = np.array([True, False, False]), np.array([0.5, 0.5, 0.5])
    assert best_cut(scores, margins(labels, 2.5)).threshold is None
    assert best_cut(scores, margins(labels, 3.0)).threshold is None  # earns 2 - 2 = 0
    assert best_cut(scores, margins(labels, 3.5)).threshold == 0.5
    # 3*0.1 + 0.7 - 1.0 is 1e-16 in floats and nothing in truth.
    assert best_cut(np.ones(5), np.array([0.1, 0.1, 0.1, 0.7, -1.0])).threshold is None


def test_tuning_chooses_on_one_half_and_counts_on_the_other() -> None:
    rng = np.random.default_rng(5)
    labels = rng.random(300) < 0.3
    scores = np.round(rng.random((300, 3)) * 0.5 + 0.4 * labels[:, None], 2).astype(np.float32)
    names, earned, first = ("a", "b", "c"), margins(labels, 3.0), halves(labels, seed=2)
    tuned = tune(scores, earned, first)
    held_out = count(names, labels, tuned.crosswise(scores, first))
    in_sample = count(names, labels, decide(scores, tuned.thresholds))
    for place in range(3):
        column = scores[:, place]
        sides = [best_cut(column[side], earned[side]).threshold for side in (first, ~first)]
        assert tuned.halves[:, place].tolist() == sides
        assert tuned.thresholds[place] == best_cut(column, earned).threshold
        judged = (first & (column >= np.float32(sides[1]))) | (
            ~first & (column >= np.float32(sides[0]))
        )
        assert held_out.tp[place] == np.count_nonzero(judged & labels)
        assert held_out.fp[place] == np.count_nonzero(judged & ~labels)
        assert in_sample.profit(3.0)[place] == pytest.approx(best_cut(column, earned).gain)
        assert in_sample.profit(3.0)[place] >= held_out.profit(3.0)[place]
    apart = [tune(scores[:, [i]], earned, first) for i in range(3)]
    joined = apart[0].beside(apart[1]).beside(apart[2])
    assert joined.thresholds.tolist() == tuned.thresholds.tolist()
    assert joined.halves.tolist() == tuned.halves.tolist()


def test_many_models_are_tuned_as_one_by_one() -> None:
    rng = np.random.default_rng(7)
    labels, scores = rng.random(80) < 0.3, rng.random((80, COLUMNS + 3), np.float32)
    earned, first = margins(labels, 4.0), halves(labels)
    expected = [best_cut(column, earned).threshold for column in scores.T]
    found = tune(scores, earned, first).thresholds
    assert found.tolist() == pytest.approx(
        [np.nan if each is None else each for each in expected], nan_ok=True
    )


def test_scores_without_information_look_good_only_where_they_were_tuned() -> None:
    rng = np.random.default_rng(6)
    labels, scores = rng.random(400) < 0.2, rng.random((400, 50))
    names, first = tuple(map(str, range(50))), halves(labels)
    tuned = tune(scores, margins(labels, 5.0), first)
    in_sample = count(names, labels, decide(scores, tuned.thresholds))
    held_out = count(names, labels, tuned.crosswise(scores, first))
    assert in_sample.rap(5.0).mean() > 0.02
    assert held_out.rap(5.0).mean() < 0.01


def test_a_model_that_should_never_act_has_no_threshold_and_never_acts() -> None:
    labels = np.array([True, False, False, False] * 5)
    scores, first = np.ones((20, 1)), halves(labels)
    tuned = tune(scores, margins(labels, 3.0), first)
    assert np.isnan(tuned.thresholds[0])
    assert np.isnan(tuned.halves).all()
    assert not tuned.crosswise(scores, first).any()


@given(positives=st.integers(0, 9), negatives=st.integers(0, 9), seed=st.integers(0, 99))
def test_halves_share_positives_and_negatives_evenly(
    positives: int, negatives: int, seed: int
) -> None:
    labels = np.arange(positives + negatives) < positives
    first = halves(labels, seed)
    for side in (labels, ~labels):
        assert np.count_nonzero(first & side) - np.count_nonzero(~first & side) in (0, 1)
    assert np.array_equal(first, halves(labels, seed))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="scores to be finite, got nan in row 1"):
        best_cut(np.array([0.1, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="margins to be finite, got inf in row 0"):
        best_cut(np.array([0.1]), np.array([np.inf]))
    with pytest.raises(ValueError, match=r"of the same rows, got \(2,\) and \(3,\)"):
        best_cut(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="above 1, got 1"):
        margins(np.ones(1, bool), 1.0)
