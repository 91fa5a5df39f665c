import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from metrics.candidates import (
    BLOCK_ROWS,
    BoolArray,
    Counts,
    Room,
    RowMoney,
    baselines,
    blocks,
    count,
    decide,
    earn,
)
from metrics.confusion import Cell, Confusion
from metrics.value import profit, rap, roi


def drawn(seed: int, rows: int, models: int) -> tuple[BoolArray, BoolArray]:
    rng = np.random.default_rng(seed)
    return rng.random(rows) < 0.3, rng.random((rows, models)) < rng.random(models)


def names(models: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(models))


def counted(tp: float, fp: float, positives: float, negatives: float) -> Counts:
    return Counts(np.array([tp]), np.array([fp]), positives, negatives, ("one",))


@given(seed=st.integers(0, 999), rows=st.integers(0, 60), models=st.integers(0, 5))
@settings(deadline=None)
def test_every_column_equals_what_single_confusions_give(seed: int, rows: int, models: int) -> None:
    labels, decisions = drawn(seed, rows, models)
    counts = count(names(models), labels, decisions)
    q = 3.5
    for place in range(models):
        truth = list(zip(labels.tolist(), decisions[:, place].tolist(), strict=True))
        tp, fp, fn, tn = (
            truth.count(pair)
            for pair in ((True, True), (False, True), (True, False), (False, False))
        )
        one = Confusion(*(Cell(n, 1_000 * n) for n in (tp, fp, tn, fn)))
        expected = {
            "precision": one.precision,
            "recall": one.recall,
            "false_alarm_rate": one.false_alarm_rate,
            "specificity": one.specificity,
            "accuracy": one.accuracy,
            "f_score": one.f_score,
        }
        found = {name: getattr(counts, name)[place] for name in expected}
        expected |= {"rap": rap(one, q), "roi": roi(one, q), "profit": profit(one, q, 2.0)}
        found |= {"rap": counts.rap(q)[place], "roi": counts.roi(q)[place]}
        found["profit"] = counts.profit(q, 2.0)[place]
        wanted = {name: math.nan if value is None else value for name, value in expected.items()}
        assert found == pytest.approx(wanted, nan_ok=True)


def test_columns_equal_those_of_scikit_learn() -> None:
    labels, decisions = drawn(3, 400, 4)
    counts = count(names(4), labels, decisions)
    for place in range(4):
        chosen = decisions[:, place]
        assert counts.precision[place] == pytest.approx(precision_score(labels, chosen))
        assert counts.recall[place] == pytest.approx(recall_score(labels, chosen))
        assert counts.specificity[place] == pytest.approx(recall_score(~labels, ~chosen))
        assert counts.accuracy[place] == pytest.approx(accuracy_score(labels, chosen))
        assert counts.f_score[place] == pytest.approx(f1_score(labels, chosen))


@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 50), max_size=4))
@settings(deadline=None)
def test_how_rows_are_cut_into_chunks_does_not_matter(seed: int, cuts: list[int]) -> None:
    labels, decisions = drawn(seed, 50, 3)
    ends = [0, *sorted(cuts), 50]
    total = count(names(3), labels[:0], decisions[:0])
    for start, stop in pairwise(ends):
        total += count(names(3), labels[start:stop], decisions[start:stop])
    whole = count(names(3), labels, decisions)
    assert np.array_equal(total.tp, whole.tp)
    assert np.array_equal(total.fp, whole.fp)
    assert (total.positives, total.negatives) == (whole.positives, whole.negatives)


def test_float32_products_are_exact_to_the_last_unit_at_their_bound() -> None:
    rows = 3 * BLOCK_ROWS + 17
    weights = np.full((rows, 2), 4_095, np.float32)
    weights[::3, 1] = 4_094
    found, room = np.zeros((2, 1)), Room(rows, 2, 1)
    for block in blocks(rows):
        room.add_sums(found, weights[block], np.ones((len(weights[block]), 1), bool))
    assert found[:, 0].tolist() == weights.sum(axis=0, dtype=np.float64).tolist()
    assert (
        4_095 * BLOCK_ROWS < 2**24
    )  # and every sum of a block is a whole number that float32 holds
    assert found[0, 0] > 2**24  # the whole would not be: the sum of blocks has to be wider


def test_a_million_rows_in_one_chunk_are_counted_exactly() -> None:
    rows = 1_000_003
    labels = np.arange(rows) % 7 == 0
    decisions = np.stack([np.arange(rows) % 3 != 0, np.ones(rows, bool)], axis=1)
    counts = count(("some", "all"), labels, decisions)
    for place, chosen in enumerate(decisions.T):
        assert counts.tp[place] == np.count_nonzero(labels & chosen)
        assert counts.fp[place] == np.count_nonzero(~labels & chosen)


def test_known_values_of_rap_hold() -> None:
    assert counted(4, 0, 10, 90).rap(35.9)[0] == pytest.approx(0.4)
    for q in (1.5, 36.0):
        assert counted(10, 0, 10, 90).rap(q)[0] == 1
    h, prevalence = 0.25, 0.1
    always = counted(10, 90, 10, 90)
    assert always.rap((1 + h) / prevalence)[0] == pytest.approx(h / (1 + h - prevalence))
    assert counted(6, 18, 10, 90).rap(10.0)[0] == pytest.approx(0.6 - 0.2)  # break-even: TPR - FPR


def test_undefined_columns_are_nan_and_not_zero() -> None:
    idle, no_positives = counted(0, 0, 10, 90), counted(0, 5, 0, 90)
    assert np.isnan([idle.precision[0], idle.roi(5.0)[0]]).all()
    assert idle.rap(5.0)[0] == idle.profit(5.0)[0] == 0
    assert np.isnan([no_positives.recall[0], no_positives.rap(5.0)[0]]).all()
    assert no_positives.profit(5.0)[0] == -5
    assert np.isnan(counted(3, 0, 3, 0).specificity[0])
    assert np.isnan(counted(0, 0, 0, 0).accuracy[0])
    assert np.isnan(counted(0, 0, 0, 9).f_score[0])
    assert np.isnan(counted(9e307, 0, 9e307, 0).profit(1e6)[0])


def test_random_senders_are_the_mean_of_all_draws() -> None:
    labels = np.array([True, True, False, False, False])
    every = np.array([[bool(bits >> row & 1) for bits in range(32)] for row in range(5)])
    drawn_counts = count(names(32), labels, every)  # each set of rows is as likely at 50 %
    dummy = baselines(drawn_counts)
    place = dummy.models.index("random at 50 %")
    for mine, theirs in (
        (dummy.rap(3.0), drawn_counts.rap(3.0)),
        (dummy.profit(3.0), drawn_counts.profit(3.0)),
        (dummy.accuracy, drawn_counts.accuracy),
        (dummy.specificity, drawn_counts.specificity),
        (dummy.recall, drawn_counts.recall),
    ):
        assert mine[place] == pytest.approx(theirs.mean())
    acted = every.any(axis=0)
    assert dummy.precision[place] == pytest.approx(drawn_counts.precision[acted].mean())


def test_at_break_even_all_senders_without_a_model_score_zero() -> None:
    dummy = baselines(counted(5, 5, 20, 60))
    assert dummy.models == ("always", "never", "random at 50 %", "random at the base rate")
    assert dummy.rap(4.0) == pytest.approx(0, abs=1e-12)
    assert dummy.tp.tolist() == [20, 0, 10, 5]
    assert dummy.fp.tolist() == [60, 0, 30, 15]
    assert np.isnan(baselines(counted(0, 0, 0, 0)).tp[3])


def test_models_stand_beside_one_another_only_on_the_same_rows() -> None:
    one = counted(5, 5, 20, 60)
    both = one.beside(baselines(one))
    assert both.models == ("one", *baselines(one).models)
    assert both.of(np.array([1, 0])).models == ("always", "one")
    assert both.of(np.array([1, 0])).tp.tolist() == [20, 5]
    with pytest.raises(ValueError, match="same rows, got 20 positives"):
        one.beside(counted(5, 5, 21, 60))
    with pytest.raises(ValueError, match="same models"):
        _ = one + baselines(one)


def test_scores_reach_a_threshold_as_they_were_written() -> None:
    scores = np.array([[0.7, 0.1], [0.6999, 0.0]], np.float32)
    assert decide(scores, np.float64(0.7)).tolist() == [[True, False], [False, False]]
    assert decide(scores, np.array([np.nan, 0.1])).tolist() == [[False, True], [False, False]]
    with pytest.raises(ValueError, match="row 1 of model 0"):
        decide(np.array([[0.1], [np.nan]], np.float32))


def test_instance_dependent_rap_is_gain_over_what_was_achievable() -> None:
    rng = np.random.default_rng(1)
    labels, decisions = drawn(1, 200, 3)
    values, costs = rng.random(200) * 9, rng.random(200)
    money = RowMoney.of(labels, values, costs)
    half = (
        RowMoney(money.margins[:90], money.achievable[:90]),
        RowMoney(money.margins[90:], money.achievable[90:]),
    )
    earned = earn(names(3), half[0], decisions[:90]) + earn(names(3), half[1], decisions[90:])
    rows = list(zip(labels, values, costs, strict=True))
    for place in range(3):
        gain = sum(y * v - c for (y, v, c), d in zip(rows, decisions[:, place], strict=True) if d)
        best = sum(max(v - c, 0) for y, v, c in rows if y)
        assert earned.gain[place] == pytest.approx(gain)
        assert earned.rap[place] == pytest.approx(gain / best)
    assert np.isnan(
        earn(names(3), RowMoney.of(~labels & labels, values, costs), decisions).rap
    ).all()


def test_equal_values_and_costs_give_the_ordinary_rap() -> None:
    labels, decisions = drawn(2, 300, 3)
    money = RowMoney.of(labels, np.full(300, 8.0), np.full(300, 2.0))
    assert earn(names(3), money, decisions).rap == pytest.approx(
        count(names(3), labels, decisions).rap(4.0)
    )


def test_bad_input_is_named() -> None:
    labels, decisions = drawn(1, 5, 2)
    with pytest.raises(ValueError, match="expected labels and decisions to be bool, got int64"):
        count(names(2), labels.astype(int), decisions)
    with pytest.raises(ValueError, match=r"got \(5,\) and \(5, 2\)"):
        count(names(3), labels, decisions)
    with pytest.raises(ValueError, match=r"expected tp of shape \(2,\), got \(3,\)"):
        Counts(np.zeros(3), np.zeros(3), 1, 1, names(2))
    with pytest.raises(
        ValueError, match="costs to be finite numbers of at least 0, got -1 in row 2"
    ):
        RowMoney.of(labels, np.ones(5), np.array([1.0, 1, -1, 1, 1]))
    with pytest.raises(ValueError, match="values to be finite numbers, got nan in row 0"):
        RowMoney.of(labels, np.full(5, np.nan), np.ones(5))
    with pytest.raises(ValueError, match="values of shape"):
        RowMoney.of(labels, np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match="above 1, got 1"):
        counted(1, 1, 1, 1).rap(1.0)
