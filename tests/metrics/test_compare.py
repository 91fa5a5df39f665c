from typing import Any

import msgspec
import numpy as np
import pytest

from metrics.advantage import Advantage
from metrics.catalogue import CATALOGUE
from metrics.compare import QUANTILES, Comparison, compare, confusion_of, estimate, metrics_of
from metrics.confusion import Cell, Cells
from metrics.duration import Duration
from metrics.experiment import Experiment
from metrics.latency import Histogram, bucket_of
from metrics.ledger import Ledger, total
from metrics.moments import Moments
from metrics.uncertainty import difference
from metrics.value import Recommendation


EMPTY = Ledger()
PRICED = {"rap", "roi", "profit_per_prediction"}
EVERY_LABEL = {"recall", "specificity", "false_alarm_rate", "accuracy", "f_score", "rap"}


def experiment(**changes: Any) -> Experiment:
    """An experiment in which an action earns five times what it costs; `changes` as in a settings file."""
    declared = {
        "name": "offers",
        "control": "old",
        "variants": {"old": 0.5, "new": 0.5},
        "labels": {"horizon": "1h"},
        "profitability": {"q": 5.0},
        "slo_ms": 30.0,
        "money": {"cap": 100.0},
    }
    return msgspec.convert(
        declared | changes, Experiment, dec_hook=lambda _, text: Duration.parse(text)
    )


def labels(observed: str, when_missing: str = "negative") -> dict[str, str]:
    return {"horizon": "1h", "observed": observed, "when_missing": when_missing}


def ledger(ms: int | None = 20, **counts: int) -> Ledger:
    """So many predictions in each cell, each of which took `ms`."""
    unit = 0 if ms is None else 10 * ms
    made = {
        kind: Cell(n, 1_000 * n, 10**6 * n, *((0, 0) if ms is None else (n, n * unit)))
        for kind, n in counts.items()
    }
    n = sum(counts.values())
    failed = sum(k for kind, k in counts.items() if kind.startswith("error"))
    acted = sum(counts.get(kind, 0) for kind in ("tp", "fp", "missing_acted_yes"))
    timed = 0 if ms is None else n
    moments = Moments(timed, timed * unit, timed * unit**2)
    latencies = Histogram.of(bucket_of(np.full(timed, float(ms or 0))))
    return Ledger(n, failed, acted, Cells(**made), moments, latencies)


def alone(facts: Ledger, declared: Experiment | None = None) -> dict[str, float | None]:
    return metrics_of(facts, facts, declared or experiment())


def undefined(values: dict[str, float | None]) -> set[str]:
    return {name for name, value in values.items() if value is None}


def compared(
    treatment: Ledger,
    control: Ledger,
    declared: Experiment | None = None,
    *,
    harmed: frozenset[str] = frozenset(),
) -> Comparison:
    return compare(declared or experiment(), {"new": [(treatment, control)]}, harmed)["new"]


# The metrics of one variant


def test_a_variant_has_every_metric_that_does_not_compare() -> None:
    expected = set(CATALOGUE) - {"net_business_value"}
    assert set(alone(EMPTY)) == set(alone(ledger(tp=1))) == expected


def test_the_metrics_of_one_variant_are_computed_from_its_cells() -> None:
    facts = ledger(tp=30, fp=20, tn=35, fn=5, error_positive=5, error_other=5)
    assert alone(facts) == pytest.approx(
        {
            "error_rate": 0.1,
            "selection_rate": 0.5,
            "slow_rate": 0,
            "money_per_prediction": 0,
            "latency_mean_ms": 20,
            "latency_p50_ms": pytest.approx(20, rel=0.01),
            "latency_p95_ms": pytest.approx(20, rel=0.01),
            "latency_p99_ms": pytest.approx(20, rel=0.01),
            "precision": 0.6,
            "recall": 30 / 40,
            "specificity": 35 / 60,
            "false_alarm_rate": 20 / 60,
            "accuracy": 0.65,
            "f_score": 60 / (60 + 20 + 10),
            "rap": (30 - 20 / 4) / 40,
            "roi": 5 * 0.6 - 1,
            "profit_per_prediction": (5 * 30 - 50) / 100,
        }
    )


def test_labelled_metrics_come_from_mature_cohorts_and_the_others_from_all_that_arrived() -> None:
    arrived, mature = ledger(50, missing_idle_no=8, error_other=2), ledger(10, tp=3, fp=1)
    values = metrics_of(arrived, mature, experiment())
    assert (values["error_rate"], values["latency_mean_ms"]) == (0.2, 50)
    assert (values["precision"], values["accuracy"]) == (0.75, 0.75)


def test_quantiles_are_those_of_all_that_arrived() -> None:
    arrived = total([ledger(10, tn=90), ledger(200, tn=8), ledger(3_000, tn=2)])
    values = metrics_of(arrived, EMPTY, experiment())
    quantiles = [values[name] for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")]
    assert quantiles == pytest.approx([10, 200, 3_000], rel=0.01)


def test_without_predictions_everything_is_undefined() -> None:
    assert undefined(alone(EMPTY)) == set(alone(EMPTY))


def test_without_positives_what_is_relative_to_them_is_undefined() -> None:
    values = alone(ledger(fp=3, tn=7))
    assert undefined(values) == {"recall", "rap"}
    assert values["f_score"] == 0


def test_without_negatives_what_is_relative_to_them_is_undefined() -> None:
    values = alone(ledger(tp=3, fn=7))
    assert undefined(values) == {"specificity", "false_alarm_rate"}
    assert values["rap"] == values["recall"] == 0.3


def test_where_nothing_was_acted_on_precision_and_roi_are_undefined_and_rap_is_0() -> None:
    values = alone(ledger(tn=7, fn=3))
    assert undefined(values) == {"precision", "roi"}
    assert (values["selection_rate"], values["rap"], values["profit_per_prediction"]) == (0, 0, 0)


def test_without_a_declared_profitability_what_needs_it_is_undefined() -> None:
    facts = ledger(tp=1, fp=1, tn=1, fn=1)
    assert undefined(alone(facts, experiment(profitability=None))) == PRICED


def test_without_latencies_those_of_latency_are_undefined() -> None:
    facts = ledger(None, tp=1, fp=1, tn=1, fn=1)
    assert undefined(alone(facts)) == {"latency_mean_ms", "slow_rate", *QUANTILES}


def test_where_only_acted_predictions_get_labels_nothing_is_told_of_the_others() -> None:
    facts = ledger(tp=20, fp=30, missing_idle_no=50)
    values = alone(facts, experiment(labels=labels("acted")))
    assert undefined(values) == EVERY_LABEL
    assert values["precision"] == 0.4
    assert values["roi"] == pytest.approx(1.0)
    assert values["profit_per_prediction"] == pytest.approx((5 * 20 - 50) / 100)


def test_a_missing_label_means_a_negative_or_nothing_as_declared() -> None:
    facts = ledger(tp=6, fp=2, tn=1, missing_acted_yes=4, missing_idle_no=7)
    negative = alone(facts, experiment(labels=labels("all", "negative")))
    excluded = alone(facts, experiment(labels=labels("all", "exclude")))
    assert (negative["precision"], negative["accuracy"]) == pytest.approx((6 / 12, 14 / 20))
    assert (excluded["precision"], excluded["accuracy"]) == pytest.approx((6 / 8, 7 / 9))


def test_predictions_explored_at_random_stand_for_those_that_were_not() -> None:
    cells = Cells(
        tp=Cell(8, 8_000, 8 * 10**6),
        fp=Cell(12, 12_000, 12 * 10**6),
        tn=Cell(7, 70_000, 7 * 10**8),
        fn=Cell(1, 10_000, 10**8),
        missing_idle_no=Cell(72, 72_000, 72 * 10**6),
    )
    values = alone(Ledger(100, 0, 20, cells), experiment(labels=labels("explored")))
    assert values["accuracy"] == pytest.approx(0.78)
    assert values["rap"] == pytest.approx((8 - 12 / 4) / 18)


@pytest.mark.parametrize("metric", CATALOGUE)
def test_every_metric_of_the_catalogue_can_be_asked_for(metric: str) -> None:
    assert estimate(metric, EMPTY, experiment()) is None
    assert estimate(metric, ledger(tp=5, fp=4, tn=3, fn=2), experiment()) is not None


# Relative achieved profit: the agreed facts


def test_the_reference_model_breaks_even_at_the_profitability_that_its_precision_declares() -> None:
    declared = experiment(profitability={"reference_precision": 4146 / 148837, "assumed_roi": 0.0})
    assert declared.q == pytest.approx(35.89893874, abs=5e-9)
    values = alone(ledger(tp=4146, fp=148837 - 4146, fn=10), declared)
    assert values["roi"] == pytest.approx(0, abs=1e-12)
    assert values["rap"] == pytest.approx(0, abs=1e-12)
    assert values["profit_per_prediction"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("q", [1.001, 2.0, 35.89893874, 1e9])
def test_rap_is_1_without_mistakes_the_recall_without_waste_and_never_above_0_without_a_hit(
    q: float,
) -> None:
    declared = experiment(profitability={"q": q})
    assert alone(ledger(tp=7, tn=93), declared)["rap"] == 1
    assert alone(ledger(tp=6, tn=90, fn=4), declared)["rap"] == 0.6
    in_vain = alone(ledger(fp=5, tn=90, fn=5), declared)["rap"]
    assert in_vain is not None
    assert in_vain < 0


@pytest.mark.parametrize("share", [0, 10, 50, 100])
def test_at_break_even_random_senders_score_0_however_much_they_send(share: int) -> None:
    declared = experiment(profitability={"reference_precision": 0.04, "assumed_roi": 0.0})
    tp, fp = 40 * share // 10, 960 * share // 10
    values = alone(ledger(tp=tp, fp=fp, tn=9_600 - fp, fn=400 - tp), declared)
    assert values["rap"] == pytest.approx(0, abs=1e-12)


def test_at_break_even_rap_is_the_recall_less_the_false_alarm_rate() -> None:
    declared = experiment(profitability={"reference_precision": 0.1, "assumed_roi": 0.0})
    values = alone(ledger(tp=30, fp=90, tn=360, fn=20), declared)
    assert values["rap"] == pytest.approx(30 / 50 - 90 / 450)


def test_sending_always_scores_h_over_1_plus_h_minus_prevalence() -> None:
    declared = experiment(profitability={"reference_precision": 0.04, "assumed_roi": 0.25})
    assert alone(ledger(tp=40, fp=960), declared)["rap"] == pytest.approx(0.25 / (1.25 - 0.04))


# Treatment against control


BETTER = ledger(tp=1_500, fp=1_000, tn=7_400, fn=100)
WORSE = ledger(tp=1_000, fp=1_500, tn=6_900, fn=600)


def test_differences_are_of_every_metric_but_quantiles_and_those_that_only_compare() -> None:
    found = compared(BETTER, WORSE)
    assert set(found.differences) == set(CATALOGUE) - {
        *QUANTILES,
        "slow_rate",
        "net_business_value",
    }
    for name, told in found.differences.items():
        better, worse = (estimate(name, facts, experiment()) for facts in (BETTER, WORSE))
        plain = difference(better, worse)
        assert told is not None
        assert plain is not None
        assert told.estimate == plain.estimate


def test_a_difference_is_treatment_minus_control_with_bounds() -> None:
    rap = compared(BETTER, WORSE).differences["rap"]
    assert rap is not None
    assert rap.estimate == pytest.approx((1_500 - 250) / 1_600 - (1_000 - 375) / 1_600)
    assert rap.lower is not None
    assert rap.upper is not None
    assert rap.lower < rap.estimate < rap.upper


def test_all_differences_are_of_what_matured() -> None:
    found = compared(ledger(30, tp=5, fn=5), ledger(20, tp=5, fn=5)).differences
    assert found["error_rate"] is not None
    assert found["error_rate"].estimate == 0
    assert found["latency_mean_ms"] is not None
    assert found["latency_mean_ms"].estimate == pytest.approx(10)


def test_stretches_with_different_splits_are_compared_within_themselves() -> None:
    """Simpson: the treatment is worse on both days, and had more of the good one."""
    bad_day = ledger(tp=30, fn=70), ledger(tp=360, fn=540)
    good_day = ledger(tp=405, fn=95), ledger(tp=425, fn=75)
    found = compare(experiment(), {"new": [bad_day, good_day]}, frozenset())["new"]
    recall = found.differences["recall"]
    assert recall is not None
    weights = 90.0, 250.0
    assert recall.estimate == pytest.approx((weights[0] * -0.1 + weights[1] * -0.04) / sum(weights))
    pooled = compared(total([bad_day[0], good_day[0]]), total([bad_day[1], good_day[1]]))
    assert pooled.differences["recall"] is not None
    assert pooled.differences["recall"].estimate > 0 > recall.estimate
    assert found.recommendation is Recommendation.CONTINUE


def test_each_treatment_is_compared_with_the_control_in_the_declared_order() -> None:
    declared = experiment(variants={"b": 0.25, "old": 0.5, "a": 0.25})
    pairs = {"a": [(WORSE, WORSE)], "b": [(BETTER, WORSE)]}
    found = compare(declared, pairs, frozenset({"a"}))
    assert [(name, one.treatment, one.standing) for name, one in found.items()] == [
        ("b", "b", "proven"),
        ("a", "a", "undecided"),
    ]
    assert found["b"].recommendation is not Recommendation.REJECT
    assert found["a"].recommendation is Recommendation.REJECT


def test_without_predictions_nothing_is_known_and_testing_continues() -> None:
    found = compared(EMPTY, EMPTY)
    assert set(found.differences.values()) == {None}
    assert (found.net_business_value, found.parts.total, found.advantage) == (None, None, None)
    assert found.standing == "undecided"
    assert found.recommendation is Recommendation.CONTINUE


def test_a_variant_without_predictions_leaves_every_difference_unknown() -> None:
    for pair in ((BETTER, EMPTY), (EMPTY, BETTER)):
        assert set(compared(*pair).differences.values()) == {None}


# Net business value


def test_the_agreed_example_of_net_business_value_is_3_9_per_cent() -> None:
    control = ledger(100, tp=400, tn=400, fp=90, fn=100, error_other=10)
    treatment = ledger(119, tp=436, tn=400, fp=79, fn=79, error_other=6)
    found = compared(treatment, control)
    parts = found.parts
    assert (parts.accuracy, parts.latency, parts.errors) == pytest.approx((1.8, -1.9, 4.0))
    assert parts.total == pytest.approx(3.9)
    assert found.net_business_value is not None
    assert found.net_business_value.estimate == pytest.approx(3.9)


@pytest.mark.parametrize("when_missing", ["negative", "exclude"])
@pytest.mark.parametrize("observed", ["all", "explored"])
def test_the_parts_of_net_business_value_add_up_to_its_estimate(
    observed: str, when_missing: str
) -> None:
    treatment = ledger(31, tp=40, fp=30, tn=90, missing_acted_yes=9, missing_idle_no=80)
    control = ledger(20, tp=30, fn=9, tn=90, missing_acted_no=7, error_positive=3, error_other=4)
    worths = {
        "per_accuracy_point_pct": 0.7,
        "per_latency_ms_pct": -0.3,
        "per_error_point_pct": -4.0,
    }
    declared = experiment(labels=labels(observed, when_missing), business_value=worths)
    found = compared(treatment, control, declared)
    assert found.net_business_value is not None
    assert found.net_business_value.estimate == pytest.approx(found.parts.total)


def test_without_latencies_net_business_value_is_known_only_if_latency_is_worth_nothing() -> None:
    arms = ledger(None, tp=9, tn=1, fp=2), ledger(None, tp=8, tn=2, fp=4)
    unknown = compared(*arms)
    assert (unknown.net_business_value, unknown.parts.total) == (None, None)
    assert unknown.parts.accuracy is not None
    known = compared(*arms, experiment(business_value={"per_latency_ms_pct": 0.0}))
    assert known.net_business_value is not None
    assert known.net_business_value.estimate == pytest.approx(known.parts.total)


def test_where_only_acted_predictions_get_labels_value_and_rap_are_refused_but_not_profit() -> None:
    declared = experiment(labels=labels("acted"))
    arms = ledger(tp=40, fp=30, missing_idle_no=30), ledger(tp=10, fp=30, missing_idle_no=60)
    found = compared(*arms, declared)
    assert {name for name, told in found.differences.items() if told is None} == EVERY_LABEL
    assert (found.net_business_value, found.parts.total, found.advantage) == (None, None, None)
    assert found.standing == "undecided"
    assert found.recommendation is Recommendation.CONTINUE
    profit = found.differences["profit_per_prediction"]
    assert profit is not None
    assert profit.estimate == pytest.approx((5 * 40 - 70) / 100 - (5 * 10 - 40) / 100)


# Verdicts


def with_accuracy(right: int, of: int) -> Ledger:
    """Half of the right ones and of the wrong ones are acted on."""
    tp, wrong = right // 2, of - right
    return ledger(tp=tp, tn=right - tp, fp=wrong // 2, fn=wrong - wrong // 2)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (860_000, Recommendation.STRONGLY_RECOMMEND),
        (820_000, Recommendation.RECOMMEND),
        (800_000, Recommendation.CONTINUE),
        (700_000, Recommendation.CONTINUE),
    ],
)
def test_the_value_of_a_large_sample_recommends_and_harm_overrides_it(
    right: int, expected: Recommendation
) -> None:
    arms = with_accuracy(right, 10**6), with_accuracy(800_000, 10**6)
    assert compared(*arms).recommendation is expected
    harmed = frozenset({"new"})
    assert compared(*arms, harmed=harmed).recommendation is Recommendation.REJECT


def test_harm_to_another_treatment_overrides_nothing() -> None:
    arms = with_accuracy(860_000, 10**6), with_accuracy(800_000, 10**6)
    found = compared(*arms, harmed=frozenset({"other", "old"}))
    assert found.recommendation is Recommendation.STRONGLY_RECOMMEND


def test_harm_overrides_even_where_nothing_is_known() -> None:
    found = compared(EMPTY, EMPTY, harmed=frozenset({"new"}))
    assert found.recommendation is Recommendation.REJECT


def test_a_high_value_that_is_not_sure_recommends_nothing() -> None:
    found = compared(with_accuracy(17, 20), with_accuracy(16, 20))
    assert found.parts.total == pytest.approx(2.5)
    assert found.recommendation is Recommendation.CONTINUE


def test_a_treatment_is_proven_ahead_behind_or_undecided_by_the_bounds_of_rap() -> None:
    assert compared(BETTER, WORSE).standing == "proven"
    assert compared(WORSE, BETTER).standing == "behind"
    assert compared(WORSE, WORSE).standing == "undecided"
    few = ledger(tp=3, fp=2, tn=14, fn=1), ledger(tp=2, fp=3, tn=13, fn=2)
    assert compared(*few).standing == "undecided"


def test_a_treatment_that_stopped_acting_is_behind() -> None:
    assert compared(ledger(tn=8_400, fn=1_600), BETTER).standing == "behind"


def test_without_a_declared_profitability_the_standing_is_undecided_but_the_range_is_told() -> None:
    found = compared(BETTER, WORSE, experiment(profitability=None))
    assert found.standing == "undecided"
    assert found.differences["rap"] is None
    assert found.advantage == Advantage("always", "q", 1.0)


def test_the_range_of_assumptions_is_told_in_roi_where_a_reference_precision_is_declared() -> None:
    bold, shy = ledger(tp=8, fp=6, fn=2), ledger(tp=6, fp=2, fn=4)
    declared = experiment(profitability={"reference_precision": 0.5, "assumed_roi": 0.2})
    assert compared(bold, shy).advantage == Advantage("above", "q", 1.0, low=3.0, k=0.5)
    assert compared(bold, shy, declared).advantage == Advantage(
        "above", "roi", -0.5, low=0.5, k=0.5
    )


def test_the_range_of_assumptions_is_unknown_where_a_variant_had_no_positives() -> None:
    assert compared(ledger(fp=6, tn=2), WORSE).advantage is None


def test_missing_labels_get_their_declared_meaning() -> None:
    facts = ledger(tp=1, missing_acted_yes=2, missing_idle_no=3)
    assert confusion_of(facts, experiment()).fp.n == 2
    excluded = confusion_of(facts, experiment(labels=labels("all", "exclude")))
    assert (excluded.fp.n, excluded.unknown.n) == (0, 5)
