"""Guardrails as they are declared: what is refused, and how often they are looked at."""

from typing import Any

import msgspec
import pytest
from support.panes import EXPERIMENT

from alerts.guardrails import Guardrail
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE, Money


ACTED = msgspec.structs.replace(
    EXPERIMENT, labels=msgspec.structs.replace(EXPERIMENT.labels, observed="acted")
)
FREE = msgspec.structs.replace(EXPERIMENT, profitability=None)
FULL = msgspec.structs.replace(EXPERIMENT, money=Money(cap=100.0), slo_ms=200.0)
BY_UNIT = msgspec.structs.replace(FULL, randomised_by="unit")


def guardrail(metric: str = "error_rate", **options: Any) -> Guardrail:
    return Guardrail(metric=metric, **({"window": Duration(5 * MINUTE)} | options))


@pytest.mark.parametrize(
    "good",
    [
        guardrail(max=0.1),
        guardrail(min=0.0, max=0.0),
        guardrail(margin=0.0),
        guardrail(relative_margin=0.2, max=0.5),
        guardrail(max=0.1, window=Duration(8 * DAY)),
        guardrail("net_business_value", min=-1.0),
        Guardrail(metric="rap", test="sequential", margin=0.02),
        Guardrail(metric="rap", test="sequential"),
    ],
)
def test_a_good_guardrail_has_no_problems(good: Guardrail) -> None:
    assert list(good.problems(EXPERIMENT)) == []


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        (guardrail("rapp", max=1), "metric", "did you mean 'rap'?"),
        (guardrail("xyzzy", max=1), "metric", "expected one of error_rate, "),
        (guardrail(), "metric", "one of min, max, margin or relative_margin"),
        (guardrail(margin=0.1, relative_margin=0.1), "relative_margin", "got both"),
        (guardrail(min=0.2, max=0.1), "min", "at most max, 0.1, got 0.2"),
        (guardrail(max=0.1, window=None), "metric", "needs a window"),
        (guardrail(max=0.1, window=Duration(15_500)), "window", "multiple of 10s"),
        (guardrail(max=0.1, window=Duration(0)), "window", "above 0"),
        (guardrail(max=0.1, window=Duration(8 * DAY + 10_000)), "window", "at most 8d"),
        (guardrail(max=0.1, every=Duration(0)), "every", "multiple of 10s"),
        (guardrail(max=0.1, every=Duration(5_000)), "every", "multiple of 10s"),
        (guardrail(max=float("nan")), "max", "finite number, got nan"),
        (guardrail(min=float("-inf")), "min", "finite number, got -inf"),
        (guardrail(margin=float("inf")), "margin", "finite number, got inf"),
        (guardrail("net_business_value", margin=1.0), "margin", "already is a difference"),
        (Guardrail(metric="rap", test="sequential", max=1.0), "test", "not min or max"),
    ],
)
def test_a_bad_guardrail_is_told_at_its_field(bad: Guardrail, field: str, words: str) -> None:
    found = list(bad.problems(EXPERIMENT))
    assert [name for name, _ in found] == [field]
    assert words in found[0][1]


@pytest.mark.parametrize("metric", sorted(CATALOGUE))
def test_a_metric_that_the_experiment_cannot_know_is_refused(metric: str) -> None:
    known, rule = CATALOGUE[metric], guardrail(metric, min=0.0)
    lacking = bool(known.needs)
    assert bool(list(rule.problems(ACTED))) is (known.every_label or lacking)
    assert bool(list(rule.problems(FREE))) is (known.priced or lacking)
    assert bool(list(rule.problems(EXPERIMENT))) is lacking
    assert not list(rule.problems(FULL))
    if lacking:
        assert list(rule.problems(EXPERIMENT)) == [
            ("metric", f"{metric} needs `{known.needs}` of the experiment")
        ]


def sequential(metric: str = "rap", **options: Any) -> Guardrail:
    return Guardrail(metric=metric, test="sequential", **options)


@pytest.mark.parametrize("metric", sorted(CATALOGUE))
def test_a_sequential_test_is_refused_of_what_has_none(metric: str) -> None:
    found = list(sequential(metric, margin=0.1).problems(FULL))
    if metric.startswith("latency"):
        told = f"there is no sequential test of {metric}; use slow_rate with `slo_ms`"
        assert found == [("test", told)]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        (sequential(min=0.1), "test", "margin or relative_margin, not min or max"),
        (sequential(max=0.1), "test", "margin or relative_margin, not min or max"),
        (sequential(window=Duration(HOUR)), "window", "since the epoch began, not a window"),
        (sequential(warm_up=Duration(MINUTE)), "warm_up", "rap is judged by cohorts"),
        (sequential(relative_margin=0.1), "relative_margin", "rap may be 0 or below"),
        (sequential("roi", relative_margin=0.1), "relative_margin", "roi may be 0 or below"),
        (
            sequential("money_per_prediction", relative_margin=0.1),
            "relative_margin",
            "money_per_prediction may be 0 or below",
        ),
        (
            sequential("net_business_value", relative_margin=0.1),
            "relative_margin",
            "net_business_value may be 0 or below",
        ),
        (sequential(margin=float("nan")), "margin", "finite number, got nan"),
        (sequential(margin=0.1, relative_margin=0.0), "relative_margin", "got both"),
    ],
)
def test_a_bad_sequential_guardrail_is_told_at_its_field(
    bad: Guardrail, field: str, words: str
) -> None:
    found = list(bad.problems(FULL))
    assert field in [name for name, _ in found]
    assert any(words in told for _, told in found)


@pytest.mark.parametrize("metric", ["recall", "precision", "error_rate", "false_alarm_rate"])
def test_what_cannot_fall_below_0_may_have_a_relative_margin(metric: str) -> None:
    assert list(sequential(metric, relative_margin=0.1).problems(FULL)) == []


@pytest.mark.parametrize(
    ("metric", "refused"),
    [("selection_rate", True), ("slow_rate", True), ("error_rate", False), ("rap", False)],
)
def test_shares_of_predictions_are_not_tested_where_units_are_randomised(
    metric: str, *, refused: bool
) -> None:
    found = list(sequential(metric, margin=0.1).problems(BY_UNIT))
    assert [field for field, _ in found] == (["test"] if refused else [])
    assert list(guardrail(metric, min=0.0).problems(BY_UNIT)) == []


def test_errors_may_have_a_warm_up() -> None:
    assert list(sequential("error_rate", warm_up=Duration(MINUTE)).problems(FULL)) == []


def test_every_wrong_bound_is_told_at_once() -> None:
    found = guardrail(min=float("nan"), max=float("nan")).problems(EXPERIMENT)
    assert [name for name, _ in found] == ["min", "max"]


@pytest.mark.parametrize(
    ("window", "every", "step"),
    [
        (5 * MINUTE, MINUTE, MINUTE),
        (HOUR, 10_000, 10_000),
        (HOUR + 10_000, MINUTE, 10 * MINUTE),
        (DAY, 10 * MINUTE, 10 * MINUTE),
        (DAY, 15 * MINUTE, 20 * MINUTE),
    ],
)
def test_windows_of_more_than_an_hour_are_looked_at_as_their_panes_complete(
    window: int, every: int, step: int
) -> None:
    assert guardrail(max=1, window=Duration(window), every=Duration(every)).step == step


def test_a_name_tells_metric_test_and_window() -> None:
    assert guardrail("latency_p99_ms", max=250.0).name == "latency_p99_ms:threshold:5m"
    assert Guardrail(metric="rap", test="sequential").name == "rap:sequential"


@pytest.mark.parametrize("metric", ["error_rate", "selection_rate", "slow_rate"])
def test_a_margin_that_no_two_shares_can_have_is_refused(metric: str) -> None:
    experiment = msgspec.structs.replace(EXPERIMENT, slo_ms=100.0)
    rule = Guardrail(metric=metric, test="sequential", margin=1.0)
    assert [field for field, _ in rule.problems(experiment)] == ["margin"]
