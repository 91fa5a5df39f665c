"""Guardrails as they are declared: what is refused, and how often they are looked at."""

from typing import Any

import msgspec
import pytest
from support.panes import EXPERIMENT

from alerts.guardrails import Guardrail
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE


ACTED = msgspec.structs.replace(
    EXPERIMENT, labels=msgspec.structs.replace(EXPERIMENT.labels, observed="acted")
)
FREE = msgspec.structs.replace(EXPERIMENT, profitability=None)


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
    assert bool(list(rule.problems(ACTED))) is known.every_label
    assert bool(list(rule.problems(FREE))) is known.priced
    assert not list(rule.problems(EXPERIMENT))


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
