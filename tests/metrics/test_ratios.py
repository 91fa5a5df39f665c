import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import value
from metrics.catalogue import CATALOGUE
from metrics.confusion import Cell, Confusion
from metrics.ratios import CELLS, RATIOS, Coefficients, ratio_of


Q = 5.0

SCALAR: Mapping[str, Callable[[Confusion], float | None]] = {
    **{
        name: attrgetter(name)
        for name in (
            "precision",
            "recall",
            "specificity",
            "false_alarm_rate",
            "accuracy",
            "f_score",
        )
    },
    "rap": lambda confusion: value.rap(confusion, Q),
    "roi": lambda confusion: value.roi(confusion, Q),
    "profit_per_prediction": lambda confusion: value.profit_per_prediction(confusion, Q),
}
"""The same metrics, each by a formula of its own."""

CONFUSIONS = st.tuples(*[st.integers(0, 10**6)] * len(CELLS)).map(
    lambda weights: Confusion(*(Cell(w > 0, w, w * w) for w in weights))
)


def weighed(coefficients: Coefficients, weights: Iterable[float]) -> float:
    return sum(c * w for c, w in zip(coefficients, weights, strict=True))


def by_coefficients(metric: str, confusion: Confusion, q: float | None = Q) -> float | None:
    above, below = ratio_of(metric, q)
    weights = [getattr(confusion, cell).w for cell in CELLS]
    whole = weighed(below, weights)
    return weighed(above, weights) / whole if whole else None


def test_the_coefficients_have_the_order_of_the_confusion_cells() -> None:
    assert tuple(field.name for field in fields(Confusion)) == CELLS


def test_every_ratio_is_a_labelled_metric_of_the_catalogue() -> None:
    assert {name for name in RATIOS if CATALOGUE[name].labelled} == set(SCALAR) == RATIOS


@pytest.mark.parametrize("metric", sorted(RATIOS))
@given(confusion=CONFUSIONS)
def test_weighing_cells_by_the_coefficients_gives_the_metric(
    metric: str, confusion: Confusion
) -> None:
    expected = SCALAR[metric](confusion)
    found = by_coefficients(metric, confusion)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("metric", sorted(RATIOS))
def test_predictions_of_unknown_truth_move_no_metric_but_idle_ones_dilute_profit(
    metric: str,
) -> None:
    ratio = ratio_of(metric, Q)
    counts = {cell: ratio.above[at] or ratio.below[at] for at, cell in enumerate(CELLS)}
    assert not counts["unknown"]
    assert bool(counts["unknown_idle"]) == (metric == "profit_per_prediction")


@pytest.mark.parametrize("metric", sorted(RATIOS))
def test_a_failed_request_earns_nothing_and_a_positive_that_it_missed_counts_as_missed(
    metric: str,
) -> None:
    at = dict(zip(CELLS, zip(*ratio_of(metric, Q), strict=True), strict=True))
    assert at["error_positive"] == at["fn"]
    assert at["error_other"][0] == 0


@pytest.mark.parametrize("metric", [name for name in sorted(RATIOS) if CATALOGUE[name].priced])
def test_what_is_priced_needs_a_profitability_at_which_acting_can_pay(metric: str) -> None:
    with pytest.raises(ValueError, match=f"{metric} needs unit profitability q"):
        ratio_of(metric)
    for q in (1.0, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="q to be a finite number above 1"):
            ratio_of(metric, q)


@pytest.mark.parametrize("metric", [name for name in sorted(RATIOS) if not CATALOGUE[name].priced])
def test_what_is_not_priced_needs_none_and_is_not_moved_by_it(metric: str) -> None:
    assert ratio_of(metric) == ratio_of(metric, Q)


@pytest.mark.parametrize("metric", ["error_rate", "net_business_value", "latency_p99_ms", "rapp"])
def test_a_metric_that_is_no_ratio_has_no_coefficients(metric: str) -> None:
    with pytest.raises(KeyError, match=metric):
        ratio_of(metric, Q)
