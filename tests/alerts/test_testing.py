"""What sequential guardrails share: alpha by weight, and what may be declared."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.guardrails import Guardrail
from alerts.testing import DEFAULTS, Testing, alphas
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration
from metrics.experiment import DAY, MINUTE


SEQUENTIAL = [name for name, metric in CATALOGUE.items() if metric.sequential]


def sequential(metric: str, weight: float = 1.0) -> Guardrail:
    return Guardrail(metric=metric, test="sequential", weight=weight)


def test_alpha_is_shared_by_weight_between_sequential_guardrails_only() -> None:
    threshold = Guardrail(metric="latency_p99_ms", window=Duration(MINUTE), max=9.0, weight=50.0)
    found = alphas(Testing(alpha=0.08), [sequential("rap", 3.0), threshold, sequential("recall")])
    assert found == pytest.approx({"rap:sequential": 0.06, "recall:sequential": 0.02})


def test_without_sequential_guardrails_there_is_nothing_to_share() -> None:
    threshold = Guardrail(metric="error_rate", window=Duration(MINUTE), max=0.1)
    assert alphas(DEFAULTS, []) == alphas(DEFAULTS, [threshold]) == {}


@given(
    st.dictionaries(st.sampled_from(SEQUENTIAL), st.floats(1e-6, 1e6), min_size=1),
    st.floats(1e-6, 1, exclude_max=True),
)
def test_all_parts_together_are_alpha(weights: dict[str, float], alpha: float) -> None:
    rules = [sequential(metric, weight) for metric, weight in weights.items()]
    found = alphas(Testing(alpha=alpha), rules)
    assert list(found) == [rule.name for rule in rules]
    assert math.fsum(found.values()) == pytest.approx(alpha)
    assert all(part > 0 for part in found.values())


def test_what_is_not_said_is_one_in_twenty_and_a_day() -> None:
    assert (DEFAULTS.alpha, DEFAULTS.alpha_pass) == (0.05, 0.05)
    assert DEFAULTS.min_duration == DAY
    assert (DEFAULTS.max_duration, DEFAULTS.blind_budget) == (None, None)


@pytest.mark.parametrize(
    "declared",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": -0.05},
        {"alpha_pass": 0.0},
        {"alpha_pass": 1.5},
        {"planned": 0},
        {"blind_budget": 0},
        {"blind_budget": 2.5},
        {"sigma": 1},
    ],
)
def test_what_is_no_probability_or_no_number_of_predictions_is_refused(
    declared: dict[str, Any],
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(declared, Testing)
