from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.advantage import advantage
from metrics.assumptions import QRange
from metrics.candidates import Counts, baselines
from metrics.confusion import Cell, Confusion
from metrics.envelope import Stretch, break_even_unit_cost, envelope, rap_over


LINES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9)


def counted(lines: list[tuple[int, int]], positives: float = 10) -> Counts:
    tp, fp = np.array(lines, np.float64).reshape(-1, 2).T
    return Counts(tp, fp, positives, 100, tuple(map(str, range(len(lines)))))


def best_at(lines: list[tuple[int, int]], k: Fraction) -> tuple[str, ...]:
    worth = [tp - k * fp for tp, fp in lines]
    return tuple(str(place) for place, each in enumerate(worth) if each == max(worth))


@given(lines=LINES)
@settings(deadline=None, max_examples=400)
def test_between_any_two_crossings_the_best_are_those_named(lines: list[tuple[int, int]]) -> None:
    found = envelope(counted(lines))
    crossings = sorted(
        {k for a, b in lines for c, d in lines if b != d and (k := Fraction(a - c, b - d)) > 0}
    )
    ends = [Fraction(0), *crossings, (crossings or [Fraction(1)])[-1] + 1]
    for low, high in pairwise(ends):
        middle = (low + high) / 2
        here = [s for s in found if s.k_low < middle and (s.k_high is None or middle < s.k_high)]
        assert [s.models for s in here] == [best_at(lines, middle)]
    assert found[0].k_low == 0
    assert found[-1].k_high is None
    assert [s.k_high for s in found[:-1]] == [s.k_low for s in found[1:]]
    assert {s.k_low for s in found[1:]} <= {float(k) for k in crossings}
    assert all(one.models != two.models for one, two in pairwise(found))


@given(
    lines=LINES, ends=st.tuples(st.sampled_from([1.25, 2, 3, 4]), st.sampled_from([4, 5, 9, None]))
)
@settings(deadline=None)
def test_a_range_of_assumptions_cuts_the_envelope(
    lines: list[tuple[int, int]], ends: tuple[float, float | None]
) -> None:
    assumed = QRange(*ends)
    low, high = assumed.k
    found = envelope(counted(lines), assumed)
    if low == high:
        assert [s.models for s in found] == [best_at(lines, Fraction(1, 3))]
        return
    whole = envelope(counted(lines))
    kept = [s for s in whole if s.k_low < high and (s.k_high is None or s.k_high > low)]
    assert [s.models for s in found] == [s.models for s in kept]
    assert (found[0].k_low, found[-1].k_high) == (low, high)
    assert [s.k_low for s in found[1:]] == [s.k_low for s in kept[1:]]


def test_one_assumption_names_all_that_meet_there() -> None:
    # All are worth 4 at q = 4, that is k = 1/3.
    lines = [(5, 3), (6, 6), (7, 9), (0, 3)]
    assert [s.models for s in envelope(counted(lines), QRange(4.0, 4.0))] == [("0", "1", "2")]
    assert [s.models for s in envelope(counted(lines))] == [("2",), ("0",)]


@pytest.mark.parametrize("q", [2.2, 1.2, 1.6, 90 / 70])
def test_nobody_is_best_over_the_rounding_of_an_end(q: float) -> None:
    k = 1 / (Fraction(q).limit_denominator(100) - 1)
    lines = [(0, 0), (k.numerator, k.denominator)]  # both earn nothing at q
    assert [s.models for s in envelope(counted(lines), QRange(None, q))] == [("0",)]
    assert [s.models for s in envelope(counted(lines), QRange(q, None))] == [("1",)]
    assert [s.models for s in envelope(counted(lines), QRange(q, q))] == [("0", "1")]


def test_two_models_cross_where_the_advantage_of_one_ends() -> None:
    lines = [(8, 6), (6, 2)]
    bold, shy = (Confusion(tp=Cell(t, t), fp=Cell(f, f), fn=Cell(10 - t, 10 - t)) for t, f in lines)
    ahead = advantage(bold, shy, reference_precision=0.5)
    assert ahead is not None
    first, second = envelope(counted(lines))
    assert first.models == ("0",)
    assert first.roi(0.5) == (ahead.low, None)
    assert second.roi(0.5) == (ahead.floor, ahead.low)
    assert (second.q_low, second.q_high, first.q_high) == (1.0, first.q_low, None)
    assert first.k_high == ahead.k


def test_always_sending_wins_when_cost_is_negligible_and_never_sending_when_nothing_pays() -> None:
    model = counted([(6, 4)])
    found = envelope(model.beside(baselines(model)))
    assert [s.models for s in found] == [("always",), ("0",), ("never",)]
    assert [s.k_low for s in found] == [0, 4 / 96, 6 / 4]


def test_nothing_is_best_without_models_or_positives() -> None:
    assert envelope(counted([])) == []
    assert envelope(counted([(0, 3)], positives=0)) == []


def test_thousands_of_models_leave_only_lines_that_are_best_somewhere() -> None:
    rng = np.random.default_rng(1)
    fp = rng.integers(0, 20_000, 3_000).astype(np.float64)
    tp = np.floor(700 * np.sqrt(fp / 20_000) * rng.random(3_000))
    counts = Counts(tp, fp, 700, 20_000, tuple(map(str, range(3_000))))
    for stretch in envelope(counts):
        end = stretch.k_low + 1 if stretch.k_high is None else stretch.k_high
        middle = (stretch.k_low + end) / 2
        assert str(int(np.argmax(tp - middle * fp))) in stretch.models


def test_rap_over_assumptions_has_no_value_where_no_action_can_pay() -> None:
    counts = counted([(5, 3), (2, 0)])
    found = rap_over(counts, np.array([0.5, 1.0, 2.0, np.inf, np.nan]))
    assert found[2] == pytest.approx(counts.rap(2.0))
    assert np.isnan(found[[0, 1, 3, 4]]).all()
    assert rap_over(counts, np.zeros(0)).shape == (0, 2)


def test_at_the_break_even_cost_nothing_is_earned() -> None:
    counts = counted([(5, 3), (0, 0), (0, 4)])
    cost = break_even_unit_cost(counts, 16.0)
    assert cost[0] == 10
    assert counts.profit(16 / cost[0], cost[0])[0] == pytest.approx(0)
    assert np.isnan(cost[1])
    assert cost[2] == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="unit revenue to be a finite number above 0, got 0"):
        break_even_unit_cost(counted([(1, 1)]), 0)
    with pytest.raises(ValueError, match=r"above 0 and at most 1, got 1\.5"):
        Stretch(("a",), 0, None).roi(1.5)
