import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from metrics.sequential import (
    added,
    ages,
    best_ratio,
    checked_alpha,
    critical_z,
    half_width,
    least_harm,
    log_evidence,
    mixture,
    scale_for,
    start_weights,
)


Floats = npt.NDArray[np.float64]

RATIOS = [0.01, 0.5, 6.7, 80.0]
ALPHAS = [0.2, 0.05, 0.05 / 6, 1e-4]
LOOKS = 300


def log_one_sided(estimate: float, se: float, tau: float) -> float:
    """ln of the likelihood ratio averaged over half-normal effects, by numerical integration.

    Scaled by the highest point of what is integrated, so that nothing overflows.
    """

    def log_weighted(effect: float) -> float:
        likelihood = estimate * effect / se**2 - effect**2 / (2 * se**2)
        density = math.log(2 / (tau * math.sqrt(2 * math.pi))) - effect**2 / (2 * tau**2)
        return likelihood + density

    width = 1 / math.sqrt(1 / se**2 + 1 / tau**2)
    peak = max(0.0, estimate * width**2 / se**2)
    top = log_weighted(peak)
    ends = [max(0.0, peak + steps * width) for steps in (-12, -3, 0, 3, 12)]
    area = sum(
        integrate.quad(lambda effect: math.exp(log_weighted(effect) - top), *piece)[0]
        for piece in pairwise(ends)
    )
    return top + math.log(area)


def log_two_sided(z: float, r: float) -> float:
    """The same over normal effects of both signs, of scale tau = sqrt(r), with se = 1."""
    above, below = (log_one_sided(side, 1.0, math.sqrt(r)) for side in (z, -z))
    return float(np.logaddexp(above, below)) - math.log(2)


def numeric_critical_z(alpha: float, r: float) -> float:
    def missing(z: float) -> float:
        return log_one_sided(z, 1.0, math.sqrt(r)) + math.log(alpha)

    return float(optimize.brentq(missing, 0.0, 50.0))


# The evidence


@pytest.mark.parametrize("r", RATIOS)
@pytest.mark.parametrize("z", [-8.0, -1.5, 0.0, 0.3, 2.0, 5.0, 9.0])
@pytest.mark.parametrize("se", [1.0, 0.004])
def test_evidence_is_the_likelihood_ratio_averaged_over_half_normal_effects(
    z: float, r: float, se: float
) -> None:
    expected = log_one_sided(z * se, se, math.sqrt(r) * se)
    assert float(log_evidence(z * se, se, r)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("r", RATIOS)
def test_evidence_expects_1_without_harm_and_less_where_the_margin_is_kept_clearly(
    r: float,
) -> None:
    def expected(harm: float) -> float:
        def integrand(z: float) -> float:
            return math.exp(float(log_evidence(z, 1.0, r)) + float(stats.norm.logpdf(z, harm)))

        reach = 14 * math.sqrt(1 + r)
        return integrate.quad(integrand, -reach, 0)[0] + integrate.quad(integrand, 0, reach)[0]

    assert expected(0.0) == pytest.approx(1.0, abs=1e-6)
    assert expected(-0.5) < expected(-0.1) < 1
    assert expected(0.5) > 1


@pytest.mark.parametrize("harm", [0.0, -0.02])
@pytest.mark.parametrize("r", [0.1, 0.4])
def test_evidence_of_random_estimates_without_harm_is_1_on_average_at_most(
    harm: float, r: float
) -> None:
    """Small r only: with w = r/(1+r) of 1/2 or more its variance is infinite, so that no mean settles."""
    se, n = 0.05, 200_000
    estimates = np.random.default_rng(11).normal(harm, se, size=n)
    evidence = np.exp(log_evidence(estimates, se, r))
    error = float(evidence.std()) / math.sqrt(n)
    assert float(evidence.mean()) <= 1 + 4 * error


def walks(count: int, drift: float = 0.0) -> tuple[Floats, Floats]:
    """Running means of normal numbers and their standard errors, shapes (count, LOOKS), (LOOKS,)."""
    steps = np.random.default_rng(12).normal(drift, 1.0, size=(count, LOOKS))
    n = np.arange(1, LOOKS + 1)
    return steps.cumsum(axis=1) / n, 1 / np.sqrt(n)


def allowed(alpha: float, count: int) -> float:
    """How often of `count` what has a probability of `alpha` may happen, with 3 standard errors."""
    return count * alpha + 3 * math.sqrt(count * alpha * (1 - alpha))


@pytest.mark.parametrize("planned", [5.0, 100.0, 10_000.0])
@pytest.mark.parametrize("alpha", [0.2, 0.05])
def test_somebody_who_looks_after_every_step_is_hardly_ever_told_of_harm_that_is_not_there(
    alpha: float, planned: float
) -> None:
    means, se = walks(2_000)
    r = best_ratio(alpha) / (se**2 * planned)
    ever = (log_evidence(means, se, r) >= -math.log(alpha)).any(axis=1)
    assert ever.sum() <= allowed(alpha, 2_000)


def test_a_fixed_test_that_is_looked_at_after_every_step_would_cry_wolf() -> None:
    """What the sequential one is for: the same walks, the usual threshold."""
    means, se = walks(2_000)
    ever = (means / se > stats.norm.ppf(0.95)).any(axis=1)
    assert ever.mean() > 5 * 0.05


def test_harm_of_the_planned_size_is_found_about_when_planned() -> None:
    alpha, planned = 0.05, 100
    effect = float(critical_z(alpha, best_ratio(alpha))) / math.sqrt(planned)
    means, se = walks(2_000, drift=effect)
    found = log_evidence(means, se, best_ratio(alpha) / (se**2 * planned)) >= -math.log(alpha)
    first = np.where(found.any(axis=1), found.argmax(axis=1) + 1, LOOKS + 1)
    assert planned / 2 < np.median(first) <= planned


@pytest.mark.parametrize(
    ("harm", "se"),
    [
        (0.1, 0.0),
        (0.1, -1.0),
        (math.nan, 0.1),
        (0.1, math.nan),
        (0.1, math.inf),
        (math.nan, math.nan),
    ],
)
def test_what_is_unknown_or_has_no_spread_is_no_evidence(harm: float, se: float) -> None:
    assert float(log_evidence(harm, se, 6.7)) == -math.inf
    assert float(log_evidence(harm, 0.1, math.nan)) == -math.inf


@given(
    harm=st.floats(-1e300, 1e300),
    se=st.floats(1e-300, 1e300),
    r=st.floats(0, 1e300),
)
def test_no_estimate_however_extreme_makes_evidence_infinite_or_not_a_number(
    harm: float, se: float, r: float
) -> None:
    assert math.isfinite(float(log_evidence(harm, se, r)))


@given(low=st.floats(-50, 50), more=st.floats(0.001, 10), r=st.floats(1e-3, 1e3))
def test_more_harm_is_more_evidence(low: float, more: float, r: float) -> None:
    assert log_evidence(low + more, 1.0, r) > log_evidence(low, 1.0, r)


def test_evidence_broadcasts_like_arithmetic() -> None:
    harm, se, r = np.array([[0.1], [0.2]]), np.array([0.1, 0.0, 0.3]), np.full((4, 1, 1), 6.7)
    together = log_evidence(harm, se, r)
    assert together.shape == (4, 2, 3)
    assert together[3, 1, 2] == log_evidence(0.2, 0.3, 6.7)
    assert np.isneginf(together[..., 1]).all()


# What it takes to decide


@pytest.mark.parametrize("r", RATIOS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_critical_z_is_where_the_evidence_reaches_1_over_alpha(alpha: float, r: float) -> None:
    z = float(critical_z(alpha, r))
    assert float(log_evidence(z, 1.0, r)) == pytest.approx(-math.log(alpha), abs=1e-9)
    assert z == pytest.approx(numeric_critical_z(alpha, r), abs=1e-5)


def test_the_critical_z_of_many_tests_is_that_of_each() -> None:
    together = critical_z(np.array(ALPHAS)[:, None], RATIOS)
    assert together.tolist() == [[float(critical_z(a, r)) for r in RATIOS] for a in ALPHAS]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_best_ratio_needs_the_least_z(alpha: float) -> None:
    found = optimize.minimize_scalar(
        lambda log_r: numeric_critical_z(alpha, math.exp(log_r)), bracket=(0.5, 2.0)
    )
    assert best_ratio(alpha) == pytest.approx(math.exp(found.x), rel=2e-3)
    least = float(critical_z(alpha, best_ratio(alpha)))
    assert least == pytest.approx(found.fun, abs=1e-6)
    assert (critical_z(alpha, best_ratio(alpha) * np.array([0.5, 0.9, 1.1, 2.0])) > least).all()


@pytest.mark.parametrize(("alpha", "known"), [(0.05, 6.7), (0.05 / 6, 10.65)])
def test_the_best_ratio_has_its_known_values(alpha: float, known: float) -> None:
    assert best_ratio(alpha) == pytest.approx(known, abs=0.01)


@given(effect=st.floats(1e-6, 1e6), alpha=st.sampled_from(ALPHAS))
def test_the_scale_for_an_effect_makes_r_the_best_where_that_effect_is_decided_on(
    effect: float, alpha: float
) -> None:
    se = effect / float(critical_z(alpha, best_ratio(alpha)))
    exact, tau = math.sqrt(best_ratio(alpha)) * se, scale_for(effect, alpha)
    assert exact * (1 - 1e-6) <= tau <= 1.1 * exact
    assert float(f"{tau:.1e}") == pytest.approx(tau, rel=1e-12)


@pytest.mark.parametrize("effect", [0.0, -0.1, math.nan, math.inf])
def test_an_effect_that_is_none_has_no_scale(effect: float) -> None:
    with pytest.raises(ValueError, match=f"expected an effect above 0, got {effect:g}"):
        scale_for(effect, alpha=0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_an_alpha_that_is_no_probability_is_refused(alpha: float) -> None:
    message = f"expected alpha to be above 0 and below 1, got {alpha:g}"
    with pytest.raises(ValueError, match=message):
        checked_alpha(alpha)
    with pytest.raises(ValueError, match=message):
        best_ratio(alpha)
    with pytest.raises(ValueError, match=message):
        half_width(1.0, 6.7, alpha)
    with pytest.raises(ValueError, match=message):
        least_harm([0.1], [0.1], [6.7], [1], alpha)


# The two-sided confidence sequence


@pytest.mark.parametrize("r", RATIOS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_confidence_sequence_ends_where_the_two_sided_mixture_reaches_1_over_alpha(
    alpha: float, r: float
) -> None:
    reach = float(half_width(1.0, r, alpha))
    assert log_two_sided(reach, r) == pytest.approx(-math.log(alpha), abs=1e-6)
    assert float(half_width(0.02, r, alpha)) == pytest.approx(0.02 * reach)


@pytest.mark.parametrize("planned", [5.0, 100.0])
def test_the_confidence_sequence_holds_the_truth_at_all_looks_together(planned: float) -> None:
    drift, alpha = 0.3, 0.1
    means, se = walks(2_000, drift)
    reach = half_width(se, best_ratio(alpha) / (se**2 * planned), alpha)
    ever_outside = (np.abs(means - drift) > reach).any(axis=1)
    assert 0 < ever_outside.sum() <= allowed(alpha, 2_000)


@pytest.mark.parametrize(
    ("se", "r"), [(0.0, 6.7), (math.nan, 6.7), (math.inf, 6.7), (0.1, 0.0), (0.1, math.nan)]
)
def test_a_half_width_that_cannot_be_known_is_not_a_number(se: float, r: float) -> None:
    assert np.isnan(half_width(se, r, alpha=0.05))


# Starts


def test_the_weights_of_all_starts_add_up_to_1() -> None:
    weights = start_weights(np.arange(1, 1_000_001))
    assert weights[:3].tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 12])
    assert float(weights.sum()) == pytest.approx(1 - 1 / 1_000_001)


@given(count=st.integers(1, 20_000))
def test_starts_hold_the_first_and_the_newest_and_grow_ever_further_apart(count: int) -> None:
    found = ages(count)
    rows = count - found
    assert rows[0] == 0
    assert (np.diff(rows) > 0).all()
    assert rows[-1] == count - 1
    assert set(range(1, min(count, 6))) <= set(found.tolist())
    gaps = -np.diff(found)[1:]
    assert (np.diff(gaps) <= 0).all()


def test_few_starts_are_looked_at_however_many_cohorts_there_are() -> None:
    assert ages(0).size == 0
    assert ages(1).tolist() == [1]
    assert ages(52_560).size < 80


@given(count=st.integers(1, 5_000), age=st.integers(1, 5_000))
def test_a_change_is_never_far_from_a_start(count: int, age: int) -> None:
    found = ages(count)
    older = found[found >= min(age, count)]
    assert older.min() <= math.ceil(min(age, count) * 1.2)


def test_the_mixture_is_the_weighted_sum_of_the_evidence_since_each_start() -> None:
    rng = np.random.default_rng(13)
    harm, se, r = rng.normal(0.05, 0.05, (3, 5)), rng.uniform(0.01, 0.1, (3, 5)), rng.gamma(2, 2, 5)
    starts = [1, 2, 4, 7, 8]
    each = [
        sum(
            math.exp(float(log_evidence(harm[row, at], se[row, at], r[at]))) / (j * (j + 1))
            for at, j in enumerate(starts)
        )
        for row in range(3)
    ]
    assert np.exp(mixture(harm, se, r, starts)) == pytest.approx(np.array(each))


@given(
    parts=st.lists(st.floats(-1e5, 1e5) | st.just(-math.inf), min_size=1, max_size=8),
)
def test_adding_logarithms_loses_nothing_to_overflow(parts: list[float]) -> None:
    expected = float(np.logaddexp.reduce(parts))
    assert float(added(np.array(parts))) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_start_since_which_nothing_is_known_adds_nothing_to_the_mixture() -> None:
    with_it = mixture([0.1, math.nan], [0.05, math.nan], [6.7, 6.7], [1, 9])
    assert with_it == pytest.approx(float(mixture([0.1], [0.05], [6.7], [1])))
    assert mixture([math.nan, 0.1], [math.nan, 0.0], 6.7, [1, 2]) == -math.inf


# The lower bound


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, list[int], float]:
    """Harm, se, r, starts, alpha; some of it unknown."""
    starts = sorted(draw(st.sets(st.integers(1, 500), min_size=1, max_size=6)))

    def some(numbers: st.SearchStrategy[float]) -> Floats:
        return np.array([draw(numbers) for _ in starts])

    harm, se = some(st.floats(-2, 2)), some(st.floats(0.01, 1))
    unknown = np.array([draw(st.booleans()) and draw(st.booleans()) for _ in starts])
    harm, se = np.where(unknown, math.nan, harm), np.where(unknown, math.nan, se)
    return harm, se, some(st.floats(0.1, 100)), starts, draw(st.sampled_from(ALPHAS))


@given(given_for=mixtures(), shift=st.floats(-1, 1))
@settings(max_examples=50)
def test_harm_is_ruled_out_below_the_bound_and_not_above_it(
    given_for: tuple[Floats, Floats, Floats, list[int], float], shift: float
) -> None:
    harm, se, r, starts, alpha = given_for
    bound = float(least_harm(harm, se, r, starts, alpha))
    if np.isnan(harm).all():
        assert math.isnan(bound)
        return
    assert float(mixture(harm - bound, se, r, starts)) == pytest.approx(-math.log(alpha), abs=1e-6)
    assert float(mixture(harm - bound + 1e-6, se, r, starts)) > -math.log(alpha)
    assert float(mixture(harm - bound - 1e-6, se, r, starts)) < -math.log(alpha)
    moved = float(least_harm(harm + shift, se, r, starts, alpha))
    assert moved == pytest.approx(bound + shift, abs=1e-9)


def test_the_bound_of_one_start_is_the_critical_z_at_the_price_of_its_weight() -> None:
    bound = float(least_harm([0.3], [0.05], [6.7], [3], alpha=0.05))
    assert bound == pytest.approx(0.3 - 0.05 * float(critical_z(0.05 / 12, 6.7)))


def test_bounds_of_many_mixtures_are_those_of_each() -> None:
    rng = np.random.default_rng(14)
    harm, se, r = rng.normal(0, 1, (4, 3)), rng.uniform(0.1, 1, (4, 3)), rng.gamma(2, 2, (4, 3))
    harm[2] = math.nan
    together = least_harm(harm, se, r, [1, 5, 6], alpha=0.05)
    each = [least_harm(harm[i], se[i], r[i], [1, 5, 6], alpha=0.05) for i in range(4)]
    assert np.isnan(together[2])
    assert together == pytest.approx(np.array(each), nan_ok=True)
