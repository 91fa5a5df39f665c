import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import money


AMOUNTS = st.integers(min_value=1, max_value=10**9)


def test_payback_is_the_investment_over_a_days_net() -> None:
    assert money.payback_days(36_500, investment=1_000) == 10
    assert money.payback_days(605_825, 78_000) == pytest.approx(365 * 78_000 / 605_825)


@pytest.mark.parametrize("net", [0.0, -1.0, None])
def test_what_never_pays_back_or_is_unknown_has_no_payback(net: float | None) -> None:
    assert money.payback_days(net, investment=1_000) is None


def test_nothing_invested_is_paid_back_at_once() -> None:
    assert money.payback_days(1.0, investment=0.0) == 0


def test_draws_that_never_pay_back_take_infinitely_long_and_unknown_ones_stay_unknown() -> None:
    nets = np.array([36_500.0, 0.0, -5.0, math.nan])
    found = money.payback_days(nets, np.full(4, 1_000.0))
    np.testing.assert_array_equal(found, [10.0, np.inf, np.inf, np.nan])


def test_starting_earlier_brings_the_net_of_those_days() -> None:
    assert money.time_to_market_value(36_500, days_earlier=7) == pytest.approx(700)
    assert money.time_to_market_value(-36_500, days_earlier=7) == pytest.approx(-700)
    assert money.time_to_market_value(None, days_earlier=7) is None


def test_an_expected_loss_is_probability_times_loss() -> None:
    assert money.expected_loss(0.02, loss=500_000) == pytest.approx(10_000)
    assert money.expected_loss(0.0, loss=500_000) == 0


@pytest.mark.parametrize("probability", [-0.01, 1.01, 5.0, math.nan])
def test_a_probability_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probabilities from 0 to 1"):
        money.expected_loss(probability, loss=1.0)
    with pytest.raises(ValueError, match="probabilities from 0 to 1"):
        money.expected_loss(np.array([0.5, probability]), np.ones(2))


def test_the_net_a_day_is_unknown_when_a_part_is() -> None:
    assert money.net_a_day(1_800, 95, 100) == 1_805
    assert money.net_a_day(1_800, None, 100) is None


def test_sums_too_large_for_a_float_are_unknown() -> None:
    assert money.net_a_day(1e308, -1e308, 0) is None
    assert money.time_to_market_value(1e308, 1e10) is None


def test_draws_without_anything_spent_have_an_unknown_return() -> None:
    found = money.first_year_roi(np.array([10.0, 10.0]), np.zeros(2), np.array([0.0, 5.0]))
    np.testing.assert_array_equal(found, [np.nan, 1.0])
    np.testing.assert_array_equal(money.ongoing_roi(np.ones(1), np.zeros(1)), [np.nan])


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_arrays_and_numbers_follow_the_same_formulas(
    benefit: int, running: int, investment: int
) -> None:
    arrays = [np.array([float(each)]) for each in (benefit, running, investment)]
    roi = Fraction(benefit - running - investment, investment)
    assert money.first_year_roi(benefit, running, investment) == pytest.approx(float(roi))
    assert money.first_year_roi(*arrays)[0] == pytest.approx(float(roi))
    later = Fraction(benefit - running, running)
    assert money.ongoing_roi(benefit, running) == pytest.approx(float(later))
    assert money.ongoing_roi(*arrays[:2])[0] == pytest.approx(float(later))
    days = Fraction(365 * investment, benefit)
    assert money.payback_days(benefit, investment) == pytest.approx(float(days))
    assert money.payback_days(arrays[0], arrays[2])[0] == pytest.approx(float(days))


@given(AMOUNTS, AMOUNTS)
def test_what_is_paid_back_within_a_year_has_a_first_year_return_above_0(
    net: int, investment: int
) -> None:
    days = money.payback_days(net, investment)
    roi = money.first_year_roi(net, 0, investment)
    assert days is not None
    assert roi is not None
    assert (net > investment) == (days < 365)
    assert (net > investment) == (roi > 0)
