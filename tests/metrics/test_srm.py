import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.srm import CONCENTRATION, SampleRatio, sample_ratio


ALPHA = 0.05
EVEN = {"control": 0.5, "treatment": 0.5}


def even(control: int, treatment: int) -> SampleRatio:
    result = sample_ratio({"control": control, "treatment": treatment}, EVEN)
    assert result is not None
    return result


def exact_bayes_factor(counts: list[int], shares: list[Fraction]) -> Fraction:
    """The product of predictive probabilities, one unit after the other, over those of the split."""
    factor, seen = Fraction(1), [0] * len(counts)
    for variant, count in enumerate(counts):
        for _ in range(count):
            weight = Fraction(int(CONCENTRATION)) * shares[variant] + seen[variant]
            factor *= weight / (Fraction(int(CONCENTRATION)) + sum(seen)) / shares[variant]
            seen[variant] += 1
    return factor


def walks(
    share: float, paths: int, steps: int, every: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    rng = np.random.default_rng(20110)
    return np.cumsum(rng.binomial(every, share, size=(paths, steps // every)), axis=1)


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ([3, 0], [Fraction(1, 2), Fraction(1, 2)]),
        ([40, 90], [Fraction(1, 2), Fraction(1, 2)]),
        ([200, 11], [Fraction(9, 10), Fraction(1, 10)]),
        ([30, 50, 90], [Fraction(1, 5), Fraction(3, 10), Fraction(1, 2)]),
    ],
)
def test_the_bayes_factor_is_that_of_predicting_unit_by_unit(
    counts: list[int], shares: list[Fraction]
) -> None:
    names = [f"v{i}" for i in range(len(counts))]
    split = {name: float(share) for name, share in zip(names, shares, strict=True)}
    result = sample_ratio(dict(zip(names, counts, strict=True)), split)
    assert result is not None
    expected = exact_bayes_factor(counts, shares)
    assert result.log_bayes_factor == pytest.approx(math.log(expected), abs=1e-9)
    assert result.p_value == pytest.approx(min(1.0, float(1 / expected)), rel=1e-9)


def test_under_the_split_the_bayes_factor_is_1_on_average() -> None:
    n = 30
    average = sum(
        math.comb(n, k) / 2**n * math.exp(even(k, n - k).log_bayes_factor) for k in range(n + 1)
    )
    assert average == pytest.approx(1, abs=1e-9)


def test_looking_after_every_unit_raises_no_more_false_alarms_than_declared() -> None:
    """Exact, not sampled: the probability of every path of up to 300 units that never alarmed."""
    quiet, alarmed = {0: 1.0}, 0.0
    for n in range(1, 301):
        after: dict[int, float] = {}
        for k, probability in quiet.items():
            after[k] = after.get(k, 0.0) + probability / 2
            after[k + 1] = after.get(k + 1, 0.0) + probability / 2
        alarms = {k for k in after if even(k, n - k).p_value <= ALPHA}
        alarmed += sum(after.pop(k) for k in alarms)
        quiet = after
    assert 0 < alarmed <= ALPHA


def test_a_long_run_of_looks_raises_no_more_false_alarms_than_declared() -> None:
    looks = walks(0.5, paths=200, steps=20_000, every=20)
    alarms = sum(
        any(even(int(k), 20 * (i + 1) - int(k)).p_value <= ALPHA for i, k in enumerate(path))
        for path in looks
    )
    assert alarms <= ALPHA * len(looks)


def test_a_share_that_is_off_by_two_points_is_noticed() -> None:
    last = walks(0.52, paths=200, steps=40_000, every=40_000)[:, -1]
    noticed = sum(even(int(k), 40_000 - int(k)).p_value <= 0.001 for k in last)
    assert noticed >= 0.99 * len(last)


def test_the_order_and_scale_of_the_split_do_not_matter() -> None:
    counts = {"a": 700, "b": 250}
    one = sample_ratio(counts, {"a": 3, "b": 1})
    other = sample_ratio(counts, {"b": 0.25, "a": 0.75})
    assert one is not None
    assert other is not None
    assert one.log_bayes_factor == pytest.approx(other.log_bayes_factor, abs=1e-9)


def test_a_variant_that_should_have_traffic_and_gets_none_is_a_mismatch() -> None:
    result = sample_ratio({"control": 500}, EVEN)
    assert result is not None
    assert result.p_value < 1e-6


def test_variants_without_an_intended_share_are_left_out() -> None:
    split = EVEN | {"retired": 0.0}
    counts = {"control": 510, "treatment": 490, "retired": 10_000, "unheard-of": 7}
    assert sample_ratio(counts, split) == even(510, 490)


@pytest.mark.parametrize(
    ("counts", "split"),
    [
        ({}, EVEN),
        ({"control": 0, "treatment": 0}, EVEN),
        ({"retired": 5}, EVEN | {"retired": 0.0}),
        ({"control": 5}, {"control": 1.0}),
        ({"control": 5, "treatment": 5}, {"control": 1.0, "treatment": 0.0}),
        ({"control": 5}, {}),
    ],
)
def test_without_two_shares_or_any_unit_there_is_nothing_to_test(
    counts: dict[str, int], split: dict[str, float]
) -> None:
    assert sample_ratio(counts, split) is None


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_a_weight_that_is_no_weight_is_refused_by_name(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of treatment"):
        sample_ratio({"control": 1}, {"control": 0.5, "treatment": weight})


def test_a_trillion_units_in_balance_are_no_mismatch() -> None:
    result = even(10**12, 10**12)
    assert result.p_value == 1
    # Laplace: the alternative pays half the logarithm of how much more was seen than it had bet on.
    expected = -math.log(1 + 2e12 / CONCENTRATION) / 2
    assert result.log_bayes_factor == pytest.approx(expected, abs=0.05)


def test_a_trillion_units_a_thousandth_off_are_a_mismatch_beyond_any_float() -> None:
    n, share = 10**12, 0.501
    divergence = share * math.log(share / 0.5) + (1 - share) * math.log((1 - share) / 0.5)
    result = even(501 * 10**9, 499 * 10**9)
    assert result.p_value == 0
    assert result.log_bayes_factor == pytest.approx(n * divergence, rel=1e-4)


@given(
    counts=st.lists(
        st.integers(0, 10**12) | st.sampled_from([0, 1, 10**12]), min_size=2, max_size=5
    ),
    weights=st.lists(st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 1e6]), min_size=5, max_size=5),
)
@settings(deadline=None)
def test_no_count_makes_the_evidence_infinite_or_not_a_number(
    counts: list[int], weights: list[float]
) -> None:
    names = [f"v{i}" for i in range(len(counts))]
    split = dict(zip(names, weights, strict=False))
    result = sample_ratio(dict(zip(names, counts, strict=True)), split)
    if result is not None:
        assert 0 <= result.p_value <= 1
        assert math.isfinite(result.log_bayes_factor)
