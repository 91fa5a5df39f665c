import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import money, value
from metrics.confusion import Cell, Confusion
from metrics.experiment import BusinessValue
from metrics.value import Recommendation


EXTREME = st.sampled_from([0, 1, 2, 1_000, 10**12]) | st.integers(0, 10**12)
Q = st.sampled_from([math.nextafter(1, 2), 1.001, 2.0, 35.9, 1e12, 1e308])
PRICED: list[Callable[[Confusion, float], float | None]] = [
    value.profit,
    value.achievable_profit,
    value.rap,
    value.roi,
    value.profit_per_prediction,
]


def cell(n: int, weight: int = 1_000) -> Cell:
    return Cell(n, n * weight, n * weight**2)


CELL = st.builds(cell, EXTREME, weight=st.sampled_from([1, 1_000, 10**6]))


def counts(tp: int = 0, fp: int = 0, tn: int = 0, fn: int = 0, **others: int) -> Confusion:
    more = {name: cell(n) for name, n in others.items()}
    return Confusion(cell(tp), cell(fp), cell(tn), cell(fn), **more)


def sender(rate: Fraction, positives: int, negatives: int) -> Confusion:
    tp, fp = int(rate * positives), int(rate * negatives)
    return counts(tp, fp, negatives - fp, positives - tp)


# Relative achieved profit


@pytest.mark.parametrize("q", [1.0001, 2.0, 35.9, 1e9])
def test_rap_is_1_for_any_q_when_nothing_is_missed_and_nothing_is_wasted(q: float) -> None:
    assert value.rap(counts(tp=7, tn=93), q) == 1


@given(tp=EXTREME, fn=EXTREME, q=Q)
@settings(deadline=None)
def test_rap_is_the_recall_when_there_is_no_false_alarm(tp: int, fn: int, q: float) -> None:
    confusion = counts(tp=tp, fn=fn)
    assert value.rap(confusion, q) == confusion.recall


@given(fp=EXTREME, tn=EXTREME, fn=st.integers(1, 10**12), q=Q)
@settings(deadline=None)
def test_rap_is_at_most_0_when_every_action_was_in_vain(
    fp: int, tn: int, fn: int, q: float
) -> None:
    rap = value.rap(counts(fp=fp, tn=tn, fn=fn), q)
    assert rap is not None
    assert rap <= 0


def test_rap_is_tpr_minus_fpr_at_break_even_when_prevalence_is_the_reference_precision() -> None:
    confusion = counts(tp=30, fp=90, tn=360, fn=20)
    q = money.unit_profitability(reference_precision=50 / 500)
    assert confusion.recall is not None
    assert confusion.false_alarm_rate is not None
    expected = confusion.recall - confusion.false_alarm_rate
    assert value.rap(confusion, q) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(1)])
def test_always_never_and_random_senders_score_0_at_break_even(rate: Fraction) -> None:
    q = money.unit_profitability(reference_precision=40 / 1_000)
    assert value.rap(sender(rate, 40, 960), q) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("roi", [-0.5, 0.0, 0.25, 1.0, 9.0])
def test_sending_always_scores_h_over_1_plus_h_minus_prevalence(roi: float) -> None:
    prevalence = 0.04
    q = money.unit_profitability(prevalence, assumed_roi=roi)
    expected = roi / (1 + roi - prevalence)
    assert value.rap(sender(Fraction(1), 40, 960), q) == pytest.approx(expected, abs=1e-12)


def test_a_positive_lost_to_a_failed_request_lowers_rap_like_any_other() -> None:
    assert value.rap(counts(tp=3, error_positive=1), 2.0) == 0.75


@given(tp=EXTREME, fp=EXTREME, fn=st.integers(1, 10**12))
@settings(deadline=None)
def test_rap_is_profit_over_achievable_profit(tp: int, fp: int, fn: int) -> None:
    confusion = counts(tp=tp, fp=fp, fn=fn)
    profit = value.profit(confusion, 3.0, unit_cost=0.7)
    achievable = value.achievable_profit(confusion, 3.0, unit_cost=0.7)
    assert profit is not None
    assert achievable is not None
    assert value.rap(confusion, 3.0) == pytest.approx(profit / achievable, rel=1e-9, abs=1e-9)


# Profit, return on investment, profit per prediction


def test_profit_is_revenue_of_hits_less_cost_of_all_actions() -> None:
    confusion = counts(tp=10, fp=30, tn=50, fn=10)
    assert value.profit(confusion, q=5.0, unit_cost=2.0) == 10 * 10 - 40 * 2
    assert value.achievable_profit(confusion, q=5.0, unit_cost=2.0) == 20 * (10 - 2)


def test_weights_scale_profit_but_no_ratio() -> None:
    once = counts(tp=10, fp=30, tn=50, fn=10)
    thrice = Confusion(*(cell(part.n, 3_000) for part in (once.tp, once.fp, once.tn, once.fn)))
    assert value.profit(thrice, 5.0) == 3 * (value.profit(once, 5.0) or 0)
    for metric in (value.rap, value.roi, value.profit_per_prediction):
        assert metric(thrice, 5.0) == pytest.approx(metric(once, 5.0))


def test_roi_of_the_reference_model_is_what_was_assumed_of_it() -> None:
    reference = counts(tp=4146, fp=148837 - 4146)
    q = money.unit_profitability(4146 / 148837, assumed_roi=0.25)
    assert value.roi(reference, q) == pytest.approx(0.25)


def test_failed_requests_lower_profit_per_prediction() -> None:
    assert value.profit_per_prediction(counts(tp=2, fp=1, tn=7), 4.0) == pytest.approx(0.5)
    assert value.profit_per_prediction(
        counts(tp=2, fp=1, tn=7, error_other=10), 4.0
    ) == pytest.approx(0.25)


def test_predictions_not_acted_on_count_into_profit_per_prediction_though_their_truth_is_unknown() -> (
    None
):
    with_all_labels = counts(tp=2, fp=3, tn=94, fn=1)
    only_acted = counts(tp=2, fp=3, unknown_idle=95)
    expected = value.profit_per_prediction(with_all_labels, 6.0)
    assert value.profit_per_prediction(only_acted, 6.0) == expected


def test_predictions_whose_truth_is_unknown_count_for_nothing() -> None:
    known = counts(tp=2, fp=3, tn=4, fn=1)
    with_unknown = counts(tp=2, fp=3, tn=4, fn=1, unknown=90)
    for metric in PRICED:
        assert metric(with_unknown, 6.0) == metric(known, 6.0)


def test_what_cannot_be_known_is_none_and_never_0() -> None:
    assert value.rap(counts(fp=5, tn=5), 2.0) is None
    assert value.roi(counts(tn=5, fn=5), 2.0) is None
    assert value.profit_per_prediction(counts(unknown=5), 2.0) is None


def test_never_acting_earns_exactly_nothing() -> None:
    assert value.profit(counts(tn=90, fn=10), 2.0) == 0
    assert value.rap(counts(tn=90, fn=10), 2.0) == 0


@pytest.mark.parametrize("q", [1.0, 0.0, -3.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", PRICED)
@pytest.mark.parametrize("confusion", [counts(), counts(1, 1, 1, 1)])
def test_a_profitability_at_which_acting_cannot_pay_is_refused(
    metric: Callable[[Confusion, float], float | None], confusion: Confusion, q: float
) -> None:
    with pytest.raises(ValueError, match="unit profitability q"):
        metric(confusion, q)


@given(cells=st.tuples(*[CELL] * 8), q=Q, metric=st.sampled_from(PRICED))
@settings(deadline=None)
def test_no_count_makes_a_value_infinite_or_not_a_number(
    cells: tuple[Cell, ...], q: float, metric: Callable[[Confusion, float], float | None]
) -> None:
    result = metric(Confusion(*cells), q)
    assert result is None or math.isfinite(result)


def test_a_profit_too_large_for_a_float_is_unknown() -> None:
    assert value.profit(counts(tp=10**12), 1e308) is None
    assert value.achievable_profit(counts(tp=10**12), 1e308) is None


# Net business value


def test_the_agreed_example_of_net_business_value_is_3_9_per_cent() -> None:
    example = value.net_business_value(accuracy_points=3.6, latency_ms=19, error_points=-0.4)
    assert example.accuracy == pytest.approx(1.8)
    assert example.latency == pytest.approx(-1.9)
    assert example.errors == pytest.approx(4.0)
    assert example.total == pytest.approx(3.9)


@pytest.mark.parametrize("terms", [(None, 1.0, 1.0), (1.0, None, 1.0), (1.0, 1.0, None)])
def test_net_business_value_is_unknown_when_one_term_has_no_data(
    terms: tuple[float | None, float | None, float | None],
) -> None:
    parts = value.net_business_value(*terms)
    assert parts.total is None
    assert [parts.accuracy, parts.latency, parts.errors].count(None) == 1


def test_a_term_that_is_worth_nothing_needs_no_data() -> None:
    weights = BusinessValue(per_latency_ms_pct=0.0)
    assert value.net_business_value(3.6, None, -0.4, weights).total == pytest.approx(5.8)


def test_the_weights_of_net_business_value_are_settings() -> None:
    weights = BusinessValue(
        per_accuracy_point_pct=1.0, per_latency_ms_pct=-1.0, per_error_point_pct=-2.0
    )
    assert value.net_business_value(1, 2, 3, weights).total == 1 - 2 - 6


@given(*[st.none() | st.floats(allow_nan=False, allow_infinity=False)] * 3)
@settings(deadline=None)
def test_net_business_value_is_finite_or_unknown(
    accuracy: float | None, latency: float | None, errors: float | None
) -> None:
    parts = value.net_business_value(accuracy, latency, errors)
    for part in (parts.accuracy, parts.latency, parts.errors, parts.total):
        assert part is None or math.isfinite(part)


@pytest.mark.parametrize(
    ("lower", "expected"),
    [
        (2.01, Recommendation.STRONGLY_RECOMMEND),
        (2.0, Recommendation.RECOMMEND),
        (0.51, Recommendation.RECOMMEND),
        (0.5, Recommendation.CONTINUE),
        (0.0, Recommendation.CONTINUE),
        (-5.0, Recommendation.CONTINUE),
        (None, Recommendation.CONTINUE),
    ],
)
def test_the_lower_bound_decides_the_recommendation_and_harm_overrides_it(
    lower: float | None, expected: Recommendation
) -> None:
    assert value.recommendation(lower, harm=False) is expected
    assert value.recommendation(lower, harm=True) is Recommendation.REJECT


# Money


def test_unit_profitability_follows_from_the_reference_precision() -> None:
    assert money.unit_profitability(4146 / 148837) == pytest.approx(35.89893874, abs=5e-9)
    assert money.unit_profitability(0.5, assumed_roi=1.0) == 4


@pytest.mark.parametrize(
    ("precision", "roi"), [(0.0, 0.0), (-0.1, 0.0), (1.1, 0.5), (1.0, 0.0), (0.5, -0.5)]
)
def test_a_reference_that_makes_acting_unable_to_pay_is_refused(
    precision: float, roi: float
) -> None:
    with pytest.raises(ValueError, match=r"reference precision|unit profitability"):
        money.unit_profitability(precision, roi)


def test_money_a_day_is_as_in_the_agreed_example() -> None:
    assert money.revenue_a_day(10_000_000, 0.036, 0.005) == pytest.approx(1_800)
    assert money.latency_cost_a_day(50_000, 19, 0.0001) == pytest.approx(95)


def test_revenue_per_point_of_accuracy_is_a_hundred_times_what_the_source_printed() -> None:
    assert money.revenue_a_day(10_000_000, 3.6, 0.005) == pytest.approx(180_000)


def test_risk_reduction_is_a_thousand_times_what_the_source_printed() -> None:
    assert money.risk_reduction_a_day(50_000, 0.004, 500) == pytest.approx(100_000)


def test_the_printed_inputs_return_676_7_per_cent_in_the_first_year_and_not_575() -> None:
    benefit = money.benefit_a_year(revenue=1_800, latency_cost=95, risk_reduction=100)
    assert benefit == 658_825
    first_year = money.first_year_roi(benefit, running_cost=53_000, investment=78_000)
    assert first_year == pytest.approx(6.767, abs=5e-4)
    assert money.ongoing_roi(benefit, running_cost=53_000) == pytest.approx(11.43, abs=5e-3)


def test_money_without_data_or_without_anything_spent_is_unknown() -> None:
    assert money.benefit_a_year(None, 1.0, 1.0) is None
    assert money.first_year_roi(None, 1.0, 1.0) is None
    assert money.first_year_roi(1.0, 1.0, investment=0.0) is None
    assert money.ongoing_roi(None, 1.0) is None
    assert money.ongoing_roi(1.0, running_cost=0.0) is None


@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)
@settings(deadline=None)
def test_money_is_finite_or_unknown(a: float, b: float, c: float) -> None:
    results = [
        money.revenue_a_day(a, b, c),
        money.latency_cost_a_day(a, b, c),
        money.risk_reduction_a_day(a, b, c),
        money.benefit_a_year(a, b, c),
        money.first_year_roi(a, b, c),
        money.ongoing_roi(a, b),
    ]
    assert all(result is None or math.isfinite(result) for result in results)
