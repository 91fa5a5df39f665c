import itertools
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betaln

from metrics.rate_bounds import (
    CENTRES,
    DISPLAY_FRACTIONS,
    PRIOR_SCALE,
    difference_interval,
    predictions_needed,
    predictions_to_pass,
    ratio_interval,
)
from metrics.rates import (
    FRACTIONS,
    Floats,
    Harm,
    RateState,
    RateTest,
    Tally,
    difference_growth,
    log_harm,
    log_safe,
    ratio_growth,
)


HARMS: tuple[Harm, ...] = ("rising", "falling", "either")
RATIO, POINTS = 1.5, 0.1
RAMP = (0.1, 0.5, 0.8)
ALPHA = 0.05
CERTAIN = 1e-12

Shares = tuple[float, float]
Look = tuple[int, int, int, int, float]


def ratio_test(harm: Harm) -> RateTest:
    return RateTest(harm, relative_margin=RATIO - 1)


def difference_test(harm: Harm) -> RateTest:
    return RateTest(harm, margin=POINTS)


def every_test() -> list[RateTest]:
    return [make(harm) for make in (ratio_test, difference_test) for harm in HARMS]


def every_outcome(test: RateTest, shares: Sequence[Shares]) -> tuple[RateState, Floats]:
    """All ways in which looks at two predictions each can go, under a ramp, with their probabilities.

    A prediction is one of four: treatment or control, event or none. `shares` (s_T, s_C) are per look.
    """
    size = 2
    paths = np.array(list(itertools.product(range(4), repeat=size * len(shares))))
    state, chance = test.start((len(paths),)), np.ones(len(paths))
    for i, ((ours, theirs), rho) in enumerate(zip(shares, RAMP, strict=True)):
        cells = paths[:, size * i : size * (i + 1)]
        odds = np.array(
            [rho * ours, rho * (1 - ours), (1 - rho) * theirs, (1 - rho) * (1 - theirs)]
        )
        chance = chance * odds[cells].prod(axis=1)
        x_t, y_t, x_c, y_c = ((cells == cell).sum(axis=1) for cell in range(4))
        state = test.look(state, x_t, x_t + y_t, x_c, x_c + y_c, rho)
    assert chance.sum() == pytest.approx(1)
    return state, chance


def mean(logs: Floats, chance: Floats) -> float:
    return float(np.exp(logs) @ chance)


def null_shares(test: RateTest, effects: Sequence[float]) -> list[Shares]:
    """Shares that move from look to look while their ratio or difference is the given one."""
    controls = (0.2, 0.35, 0.3)
    if test.relative_margin is None:
        return [(c + effect, c) for c, effect in zip(controls, effects, strict=True)]
    return [(c * effect, c) for c, effect in zip(controls, effects, strict=True)]


def harmless(test: RateTest) -> Sequence[tuple[float, ...]]:
    """Effects on both edges of the null of no harm and inside it, still and moving."""
    low, middle, high = (1 / RATIO, 1, RATIO) if test.margin is None else (-POINTS, 0, POINTS)
    still = [(edge,) * 3 for edge in (low, middle, high)]
    moving = [(low, high, middle), (high, low, high)]
    nulls: dict[Harm, Sequence[tuple[float, ...]]] = {
        "rising": [*still, *moving, (high, middle - 0.2, high)],
        "falling": [*still, *moving, (low, middle + 0.3, low)],
        "either": [*still, *moving],
    }
    return nulls[test.harm]


def harmful(test: RateTest) -> Sequence[tuple[float, ...]]:
    """Effects on the edge of the null of harm and beyond it."""
    low, high = (1 / RATIO, RATIO) if test.margin is None else (-POINTS, POINTS)
    up = [(high,) * 3, (high, high + 0.2, high + 0.5)]
    down = [(low,) * 3, (low, low - 0.1, low - 0.05)]
    nulls: dict[Harm, Sequence[tuple[float, ...]]] = {
        "rising": up,
        "falling": down,
        "either": up + down,
    }
    return nulls[test.harm]


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_without_harm_the_evidence_of_harm_is_at_most_1_on_average(test: RateTest) -> None:
    for effects in harmless(test):
        state, chance = every_outcome(test, null_shares(test, effects))
        assert mean(log_harm(state), chance) <= 1 + CERTAIN
        for alpha in (0.1, 0.3, 0.6):
            assert chance[state.peak >= -math.log(alpha)].sum() <= alpha


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_with_harm_the_evidence_of_no_harm_is_at_most_1_on_average(test: RateTest) -> None:
    for effects in harmful(test):
        state, chance = every_outcome(test, null_shares(test, effects))
        assert mean(log_safe(state), chance) <= 1 + CERTAIN


@pytest.mark.parametrize("make", [ratio_test, difference_test])
def test_on_the_edge_the_evidence_is_exactly_1_on_average(make: Callable[[Harm], RateTest]) -> None:
    test = make("rising")
    edge = RATIO if test.margin is None else POINTS
    state, chance = every_outcome(test, null_shares(test, (edge,) * 3))
    assert mean(log_harm(state), chance) == pytest.approx(1, abs=CERTAIN)
    assert mean(log_safe(state), chance) == pytest.approx(1, abs=CERTAIN)


@pytest.mark.parametrize("make", [ratio_test, difference_test])
@pytest.mark.parametrize("harm", ["rising", "falling"])
def test_already_six_predictions_speak_for_what_is_true_on_average(
    make: Callable[[Harm], RateTest], harm: Harm
) -> None:
    test, sign = make(harm), 1 if harm == "rising" else -1
    bad, calm = (RATIO ** (2 * sign), 1.0) if test.margin is None else (0.2 * sign, 0.0)
    state, chance = every_outcome(test, null_shares(test, (bad,) * 3))
    assert mean(log_harm(state), chance) > 1
    assert mean(log_safe(state), chance) < 1
    state, chance = every_outcome(test, null_shares(test, (calm,) * 3))
    assert mean(log_harm(state), chance) < 1
    assert mean(log_safe(state), chance) > 1


def test_a_ratio_factor_is_the_product_of_the_probabilities_of_whose_each_event_is() -> None:
    rho, null, bet = 0.3, 1.2, 2.5
    owns = [rho * theta / (rho * theta + 1 - rho) for theta in (null, bet)]
    expected = (owns[1] / owns[0]) ** 3 * ((1 - owns[1]) / (1 - owns[0])) ** 5
    tally = Tally.checked(3, 40, 5, 70, rho)
    (found,) = ratio_growth(tally, math.log(null), np.array([math.log(bet)]))
    assert found == pytest.approx(math.log(expected))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_difference_factor_is_the_product_of_one_bet_a_prediction(side: float) -> None:
    rho, c, bound = 0.2, 0.4, 0.05
    counts = {(1, 1): 3, (1, 0): 4, (0, 1): 2, (0, 0): 6}
    pays = {
        (ours, event): (event - c) * (ours / rho - (1 - ours) / (1 - rho)) for ours, event in counts
    }
    highest = 1 / max(side * (bound - g) for g in pays.values())
    found = difference_growth(Tally.checked(3, 7, 2, 8, rho), c, side, bound, FRACTIONS)
    for fraction, log in zip(FRACTIONS, found, strict=True):
        factors = [
            (1 + fraction * highest * side * (g - bound)) ** counts[cell]
            for cell, g in pays.items()
        ]
        assert log == pytest.approx(math.log(math.prod(factors)))


@pytest.mark.parametrize("shares", [(0.1, 0.3), (0.3, 0.1), (0.0, 0.01), (0.9, 1.0)])
@pytest.mark.parametrize("rho", RAMP)
def test_at_the_true_difference_every_bet_is_fair(shares: Shares, rho: float) -> None:
    ours, theirs = shares
    outcomes = {
        (1, 1, 0, 0): rho * ours,
        (0, 1, 0, 0): rho * (1 - ours),
        (0, 0, 1, 1): (1 - rho) * theirs,
        (0, 0, 0, 1): (1 - rho) * (1 - theirs),
    }
    for side in (1.0, -1.0):
        average = sum(
            chance
            * np.exp(
                difference_growth(
                    Tally.checked(*counts, rho), CENTRES, side, ours - theirs, DISPLAY_FRACTIONS
                )
            )
            for counts, chance in outcomes.items()
        )
        assert average == pytest.approx(np.ones((CENTRES.size, DISPLAY_FRACTIONS.size)))


def test_the_bet_on_equal_arms_is_nearly_the_one_that_grows_fastest() -> None:
    share, rho, margin = 0.1, 0.3, 0.02
    expected = Tally.checked(rho * share, rho, (1 - rho) * share, 1 - rho, rho)
    (chosen,) = difference_growth(expected, share, -1.0, margin)
    fine = np.geomspace(1e-4, 0.95, 5_000)
    best = difference_growth(expected, share, -1.0, margin, fine).max()
    assert 0.97 * best <= chosen <= best * (1 + 1e-6)


def random_looks(seed: int, shape: tuple[int, ...] = (), looks: int = 25) -> list[Tally]:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.05, 0.6, looks)
    tallies = []
    for rho in ramp:
        n = rng.poisson(6, shape)
        n_t = rng.binomial(n, rho)
        x_t, x_c = rng.binomial(n_t, 0.3), rng.binomial(n - n_t, 0.2)
        tallies.append(Tally.checked(x_t, n_t, x_c, n - n_t, rho))
    return tallies


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_the_recursion_is_the_weighted_sum_over_all_starts(test: RateTest) -> None:
    state, growths, highest = test.start(), [], 0.0
    for tally in random_looks(seed=7):
        count = tally.x_t + tally.x_c if test.margin is None else tally.n_t + tally.n_c
        if count:
            growths.append(test.harm_growth(tally, state.centre))
        state = test.look(state, *tally)
        t = len(growths)
        assert state.looks == t
        total = 1 / (t + 1)
        for j in range(1, t + 1):
            since = np.sum(growths[j - 1 :], axis=0)
            total += float(np.exp(since).mean()) / (j * (j + 1))
        assert log_harm(state) == pytest.approx(math.log(total), abs=1e-9)
        highest = max(highest, math.log(total))
        assert state.peak == pytest.approx(highest, abs=1e-9)


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_merging_looks_with_one_split_merges_their_evidence(test: RateTest) -> None:
    one, other = Tally.checked(3, 20, 2, 30, 0.4), Tally.checked(1, 9, 4, 12, 0.4)
    both = Tally.checked(4, 29, 6, 42, 0.4)
    for growth in (test.harm_growth, test.safe_growth):
        parts = growth(one, 0.1) + growth(other, 0.1)
        assert growth(both, 0.1) == pytest.approx(parts, abs=1e-12)


@pytest.mark.parametrize("harm", HARMS)
def test_when_looks_happen_does_not_matter_without_late_starts(harm: Harm) -> None:
    test = ratio_test(harm)
    often = test.look(test.look(test.start(), 3, 20, 2, 30, 0.4), 1, 9, 4, 12, 0.4)
    once = test.look(test.start(), 4, 29, 6, 42, 0.4)
    assert log_safe(often) == pytest.approx(float(log_safe(once)), abs=1e-12)


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_looks_without_predictions_leave_everything_as_it_was(test: RateTest) -> None:
    state = test.look(test.start(), 3, 20, 2, 30, 0.4)
    assert test.look(state, 0, 0, 0, 0, 0.9).packed() == state.packed()


def test_looks_without_events_cost_a_ratio_no_weight() -> None:
    test = ratio_test("rising")
    state = test.look(test.start(), 3, 20, 2, 30, 0.4)
    after = test.look(state, 0, 500, 0, 500, 0.5)
    assert after.looks == state.looks
    assert after.stakes == pytest.approx(state.stakes)
    assert after.predictions == state.predictions + 1_000


@pytest.mark.parametrize("make", [ratio_test, difference_test])
def test_falling_harm_is_rising_harm_with_the_arms_exchanged(
    make: Callable[[Harm], RateTest],
) -> None:
    rising, falling = make("rising"), make("falling")
    one, mirrored = rising.start((40,)), falling.start((40,))
    for x_t, n_t, x_c, n_c, rho in random_looks(seed=3, shape=(40,)):
        one = rising.look(one, x_t, n_t, x_c, n_c, rho)
        mirrored = falling.look(mirrored, x_c, n_c, x_t, n_t, 1 - rho)
    assert log_harm(one) == pytest.approx(log_harm(mirrored), abs=1e-9)
    assert log_safe(one) == pytest.approx(log_safe(mirrored), abs=1e-9)


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_many_experiments_at_once_are_each_of_them_alone(test: RateTest) -> None:
    looks = random_looks(seed=11, shape=(2, 3))
    together = test.start((2, 3))
    for tally in looks:
        together = test.look(together, *tally)
    for index in np.ndindex(2, 3):
        alone = test.start()
        for tally in looks:
            alone = test.look(alone, *(counts[index] for counts in tally))
        assert log_harm(together)[index] == pytest.approx(float(log_harm(alone)))
        assert log_safe(together)[index] == pytest.approx(float(log_safe(alone)))
        assert together.peak[index] == pytest.approx(float(alone.peak))


def alarmed_at(
    test: RateTest,
    shares: Sequence[Shares],
    rhos: Sequence[float],
    n: int = 60,
    paths: int = 2_500,
) -> Floats:
    """The look at which each of many experiments alarms at ALPHA, infinity where none does."""
    rng = np.random.default_rng(20_110)
    state, found = test.start((paths,)), np.full(paths, np.inf)
    for i, ((ours, theirs), rho) in enumerate(zip(shares, rhos, strict=True), start=1):
        n_t = rng.binomial(n, rho, paths)
        x_t, x_c = rng.binomial(n_t, ours), rng.binomial(n - n_t, theirs)
        state = test.look(state, x_t, n_t, x_c, n - n_t, rho)
        found = np.where(np.isinf(found) & (state.peak >= -math.log(ALPHA)), i, found)
    return found


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_looking_all_the_time_at_the_edge_raises_no_more_alarms_than_declared(
    test: RateTest,
) -> None:
    looks = 150
    sign = -1 if test.harm == "falling" else 1
    controls = 0.2 + 0.1 * np.sin(np.arange(looks) / 20)
    edge = (
        controls * RATIO**sign if test.margin is None else np.maximum(controls + sign * POINTS, 0)
    )
    shares = list(zip(edge.tolist(), controls.tolist(), strict=True))
    rhos = np.repeat(RAMP, looks // len(RAMP)).tolist()
    alarms = np.isfinite(alarmed_at(test, shares, rhos))
    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / alarms.size)
    assert 0 < alarms.mean() <= ALPHA + error


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_a_late_change_is_found_much_sooner_than_without_late_starts(test: RateTest) -> None:
    calm, looks, n, paths = 200, 500, 60, 200
    sign = -1 if test.harm == "falling" else 1
    changed = 0.2 * 2.0**sign if test.margin is None else 0.2 + sign * 0.17
    rng = np.random.default_rng(4)
    state, since_first = test.start((paths,)), np.zeros(())
    found, slow = np.full(paths, np.inf), np.full(paths, np.inf)
    for i in range(looks):
        n_t = rng.binomial(n, 0.5, paths)
        x_t = rng.binomial(n_t, 0.2 if i < calm else changed)
        tally = Tally.checked(x_t, n_t, rng.binomial(n - n_t, 0.2), n - n_t, 0.5)
        since_first = since_first + test.harm_growth(tally, state.centre)
        state = test.look(state, *tally)
        flat = np.reshape(since_first, (paths, -1))
        first = np.logaddexp.reduce(flat, axis=-1) - math.log(flat.shape[-1])
        found = np.where(np.isinf(found) & (state.peak >= -math.log(0.01)), i, found)
        slow = np.where(np.isinf(slow) & (first >= -math.log(0.01)), i, slow)
    delay, without = np.median(found) - calm, np.median(slow) - calm
    assert 0 < delay < without / 2


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_the_highest_evidence_stays_when_the_harm_ends(test: RateTest) -> None:
    bad = (5, 100, 60, 100, 0.5) if test.harm == "falling" else (60, 100, 5, 100, 0.5)
    state = test.look(test.start(), *bad)
    highest = float(state.peak)
    assert highest > math.log(1 / 0.001)
    for _ in range(50):
        state = test.look(state, 20, 100, 20, 100, 0.5)
    assert state.peak == highest
    assert log_harm(state) < highest / 2


def test_a_treatment_of_which_every_request_fails_is_noticed_within_fifteen_predictions() -> None:
    for test in (RateTest("rising", relative_margin=0.2), RateTest("rising", margin=0.01)):
        state = test.start()
        for _ in range(15):
            state = test.look(state, 1, 1, 0, 1, 0.5)
        assert state.peak >= -math.log(0.01)


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_equal_arms_pass_and_arms_beyond_the_margin_do_not(test: RateTest) -> None:
    level = -math.log(0.01)
    equal = test.start()
    worse = test.start()
    for _ in range(20):
        equal = test.look(equal, 100, 500, 100, 500, 0.5)
        bad = (50, 500, 100, 500, 0.5) if test.harm == "falling" else (200, 500, 100, 500, 0.5)
        worse = test.look(worse, *bad)
    assert log_safe(equal) >= level
    assert log_safe(worse) < 0


def test_evidence_that_nothing_is_wrong_can_be_lost_again() -> None:
    test = ratio_test("rising")
    state = test.look(test.start(), 1_000, 10_000, 1_000, 10_000, 0.5)
    assert log_safe(state) > math.log(100)
    state = test.look(state, 9_000, 10_000, 1_000, 10_000, 0.5)
    assert log_safe(state) < 0


extreme = st.sampled_from([0, 1, 2, 10**6, 10**12 - 1, 10**12]) | st.integers(0, 10**12)
splits = st.sampled_from([5e-324, 1e-12, 0.01, 0.5, 0.99, math.nextafter(1, 0)])
margins = st.sampled_from([0.0, 1e-9, 0.02, 0.5, math.nextafter(1, 0)])
relative_margins = st.sampled_from([0.0, 1e-9, 0.2, 100.0, 1e308])
tests = st.builds(lambda harm, m: RateTest(harm, margin=m), st.sampled_from(HARMS), margins)
tests |= st.builds(
    lambda harm, m: RateTest(harm, relative_margin=m), st.sampled_from(HARMS), relative_margins
)


@st.composite
def extreme_looks(draw: st.DrawFn) -> Look:
    n_t, n_c = draw(extreme), draw(extreme)
    x_t = draw(st.sampled_from([0, n_t, n_t // 2, min(n_t, 1)]))
    x_c = draw(st.sampled_from([0, n_c, n_c // 2, min(n_c, 1)]))
    return x_t, n_t, x_c, n_c, draw(splits)


@given(test=tests, looks=st.lists(extreme_looks(), min_size=1, max_size=4))
@settings(deadline=None)
def test_no_counts_split_or_margin_make_the_evidence_infinite_or_not_a_number(
    test: RateTest, looks: list[Look]
) -> None:
    state = test.start()
    for look in looks:
        state = test.look(state, *look)
    assert all(map(math.isfinite, state.packed()))
    assert math.isfinite(log_harm(state))
    assert math.isfinite(log_safe(state))


@given(looks=st.lists(extreme_looks(), max_size=3), alpha=st.sampled_from([1e-9, 0.05, 0.5]))
@settings(deadline=None, max_examples=40)
def test_no_counts_or_split_make_an_interval_anything_but_ordered(
    looks: list[Look], alpha: float
) -> None:
    ratio = ratio_interval([(x_t, x_c, rho) for x_t, _, x_c, _, rho in looks], alpha)
    events = sum(x_t + x_c for x_t, _, x_c, _, _ in looks)
    assert (ratio is None) == (not events)
    if ratio is not None and ratio[0] is not None and ratio[1] is not None:
        assert 0 < ratio[0] <= ratio[1] < math.inf
    difference = difference_interval(looks, alpha)
    if difference is not None:
        assert -1 <= difference[0] <= difference[1] <= 1


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_a_state_comes_back_from_json_as_it_was(test: RateTest) -> None:
    state = test.start()
    assert RateState.unpacked(test, state.packed()).packed() == state.packed()
    for tally in random_looks(seed=5):
        state = test.look(state, *tally)
        read = RateState.unpacked(test, tuple(json.loads(json.dumps(state.packed()))))
        assert read.packed() == state.packed()
        assert test.look(read, *tally).packed() == test.look(state, *tally).packed()


def test_states_that_are_not_of_one_experiment_or_not_of_the_test_are_refused() -> None:
    one_sided, two_sided = ratio_test("rising"), ratio_test("either")
    with pytest.raises(ValueError, match="one experiment"):
        one_sided.start((3,)).packed()
    packed = two_sided.start().packed()
    with pytest.raises(ValueError, match=f"got {len(packed)}"):
        RateState.unpacked(one_sided, packed)
    with pytest.raises(ValueError, match="finite"):
        RateState.unpacked(two_sided, (*packed[:-1], math.inf))


@pytest.mark.parametrize(
    ("relative_margin", "margin", "problem"),
    [
        (None, None, "exactly one"),
        (0.1, 0.1, "exactly one"),
        (-0.1, None, "relative_margin .* got -0.1"),
        (math.inf, None, "relative_margin"),
        (None, -0.1, "margin .* got -0.1"),
        (None, 5.0, "difference of two shares"),
        (None, math.nan, "margin"),
    ],
)
def test_margins_that_are_none_are_refused(
    relative_margin: float | None, margin: float | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        RateTest("rising", relative_margin, margin)


def test_an_unknown_direction_of_harm_is_refused() -> None:
    with pytest.raises(ValueError, match="rising, falling, either"):
        RateTest("up", margin=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("look", "problem"),
    [
        ((3, 2, 0, 5, 0.5), "treatment .* got 3 of 2"),
        ((0, 2, -1, 5, 0.5), "control .* got -1 of 5"),
        ((0, math.inf, 1, 5, 0.5), "treatment"),
        ((math.nan, 2, 1, 5, 0.5), "treatment"),
        ((0, 2, 1, 5, 0.0), "traffic .* got 0"),
        ((0, 2, 1, 5, 1.0), "traffic .* got 1"),
        ((0, 2, 1, 5, math.nan), "traffic"),
    ],
)
def test_counts_that_cannot_be_are_refused(look: tuple[float, ...], problem: str) -> None:
    test = ratio_test("rising")
    with pytest.raises(ValueError, match=problem):
        test.look(test.start(), *look)


@pytest.mark.parametrize(("x_t", "x_c"), [(5, 5), (30, 12), (400, 500), (52_000, 50_000)])
def test_with_a_uniform_prior_a_ratio_interval_is_that_of_the_beta_mixture(
    x_t: int, x_c: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an even split, log theta is the logit of p: logistic of scale 1 is uniform over p."""
    monkeypatch.setattr("metrics.rate_bounds.PRIOR_SCALE", 1.0)
    found = ratio_interval([(x_t, x_c, 0.5)], ALPHA)
    assert found is not None
    level = betaln(x_t + 1, x_c + 1) + math.log(ALPHA)
    for end in found:
        assert end is not None
        p = end / (1 + end)
        assert x_t * math.log(p) + x_c * math.log1p(-p) == pytest.approx(level, abs=1e-6)


def test_a_ratio_interval_over_phases_is_that_of_the_integral() -> None:
    phases = [(9, 60, 0.1), (14, 11, 0.5), (2, 0, 0.9)]

    def log_likelihood(at: float) -> float:
        total = 0.0
        for x_t, x_c, rho in phases:
            p = rho * math.exp(at) / (rho * math.exp(at) + 1 - rho)
            # Against theta = 1, where p is rho: the arms' constant factor is left out.
            total += x_t * math.log(p / rho) + x_c * math.log((1 - p) / (1 - rho))
        return total

    def integrand(at: float) -> float:
        prior = 1 / (4 * PRIOR_SCALE * math.cosh(at / 2 / PRIOR_SCALE) ** 2)
        return math.exp(log_likelihood(at)) * prior

    level = math.log(quad(integrand, -12, 12, epsabs=0, limit=200)[0]) + math.log(ALPHA)
    found = ratio_interval(phases, ALPHA)
    assert found is not None
    for end in found:
        assert end is not None
        assert log_likelihood(math.log(end)) == pytest.approx(level, abs=1e-6)


def test_a_ratio_is_open_where_an_arm_had_no_event() -> None:
    assert ratio_interval([], ALPHA) is None
    assert ratio_interval([(0, 0, 0.5)], ALPHA) is None
    lower, upper = ratio_interval([(4, 0, 0.5)], ALPHA) or (0.0, 0.0)
    assert lower is not None
    assert 0 < lower < 1
    assert upper is None
    lower, upper = ratio_interval([(0, 4, 0.5), (0, 3, 0.1)], ALPHA) or (0.0, 0.0)
    assert lower is None
    assert upper is not None


def test_intervals_hold_the_truth_at_all_looks_as_often_as_declared() -> None:
    alpha, paths = 0.2, 80
    ours, theirs = 0.24, 0.16
    rng = np.random.default_rng(9)
    missed_ratio = missed_difference = 0
    for _ in range(paths):
        phases = [[0, 0, 0, 0, rho] for rho in RAMP]
        ratio_ok = difference_ok = True
        for look in range(6):
            n_t = rng.binomial(80, RAMP[look // 2])
            new = (rng.binomial(n_t, ours), n_t, rng.binomial(80 - n_t, theirs), 80 - n_t)
            phase = phases[look // 2]
            phase[:4] = [old + count for old, count in zip(phase, new, strict=False)]
            totals = [(p[0], p[1], p[2], p[3], p[4]) for p in phases]
            ratio = ratio_interval([(p[0], p[2], p[4]) for p in phases], alpha)
            low, high = ratio or (None, None)
            ratio_ok &= (low or 0) <= ours / theirs <= (high or math.inf)
            lower, upper = difference_interval(totals, alpha) or (1.0, -1.0)
            difference_ok &= lower <= ours - theirs <= upper
        missed_ratio += not ratio_ok
        missed_difference += not difference_ok
    error = 3 * math.sqrt(alpha * (1 - alpha) / paths)
    assert missed_ratio / paths <= alpha + error
    assert missed_difference / paths <= alpha + error


@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.5, 0.93])
def test_a_difference_interval_shrinks_nearly_as_fast_as_a_planned_one(share: float) -> None:
    for n in (10**5, 10**7, 10**9):
        found = difference_interval([(share * n, n, share * n, n, 0.5)], ALPHA)
        assert found is not None
        planned = 2 * 1.96 * math.sqrt(2 * share * (1 - share) / n)
        assert -found[0] == pytest.approx(found[1], rel=0.35)
        assert planned < found[1] - found[0] < 3 * planned


def test_a_difference_interval_knows_nothing_without_predictions_or_with_a_broken_split() -> None:
    assert difference_interval([], ALPHA) is None
    assert difference_interval([(0, 0, 0, 0, 0.3)], ALPHA) is None
    assert difference_interval([(5e5, 1e6, 0, 0, 0.5)], ALPHA) is None
    few = difference_interval([(0, 1, 1, 1, 0.5)], ALPHA)
    assert few is not None
    assert few[0] < -0.9
    assert few[1] > 0.9


def test_every_error_probability_must_be_one() -> None:
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            ratio_interval([(1, 1, 0.5)], alpha)
        with pytest.raises(ValueError, match="alpha"):
            difference_interval([(1, 1, 1, 1, 0.5)], alpha)
        with pytest.raises(ValueError, match="alpha"):
            predictions_needed(ratio_test("rising"), 0.1, 2, 0.5, alpha)
        with pytest.raises(ValueError, match="alpha"):
            predictions_to_pass(ratio_test("rising"), 0.1, 0.5, alpha)


@pytest.mark.parametrize("rho", [0.1, 0.5])
@pytest.mark.parametrize("test", every_test(), ids=str)
def test_half_of_the_alarms_come_within_the_predictions_that_were_planned(
    test: RateTest, rho: float
) -> None:
    share, sign = 0.15, -1 if test.harm == "falling" else 1
    effect = (RATIO * 1.5) ** sign if test.margin is None else sign * (POINTS + 0.045)
    ours = share * effect if test.margin is None else share + effect
    planned = predictions_needed(test, share, effect, rho, ALPHA)
    assert planned is not None
    n = max(1, planned // 25)
    found = n * alarmed_at(test, [(ours, share)] * 40, [rho] * 40, n, paths=600)
    assert 0.55 * planned <= np.median(found) <= 1.1 * planned


@pytest.mark.parametrize("test", every_test(), ids=str)
def test_half_of_equal_arms_pass_within_the_predictions_that_were_planned(test: RateTest) -> None:
    share, paths = 0.15, 600
    planned = predictions_to_pass(test, share, 0.3, ALPHA)
    assert planned is not None
    n = max(1, planned // 25)
    rng = np.random.default_rng(8)
    state, found = test.start((paths,)), np.full(paths, np.inf)
    for i in range(1, 41):
        n_t = rng.binomial(n, 0.3, paths)
        x_t, x_c = rng.binomial(n_t, share), rng.binomial(n - n_t, share)
        state = test.look(state, x_t, n_t, x_c, n - n_t, 0.3)
        found = np.where(np.isinf(found) & (log_safe(state) >= -math.log(ALPHA)), i * n, found)
    assert 0.6 * planned <= np.median(found) <= 1.2 * planned


def test_what_can_never_be_shown_is_planned_as_none() -> None:
    for test in every_test():
        calm = 1.0 if test.margin is None else 0.0
        assert predictions_needed(test, 0.2, calm, 0.5, ALPHA) is None
    assert predictions_needed(ratio_test("rising"), 0.0, 3.0, 0.5, ALPHA) is None
    for harm in HARMS:
        assert predictions_to_pass(RateTest(harm, margin=0.0), 0.2, 0.5, ALPHA) is None
        assert predictions_to_pass(RateTest(harm, relative_margin=0.0), 0.2, 0.5, ALPHA) is None


def test_shares_that_no_arm_can_have_are_not_planned_with() -> None:
    with pytest.raises(ValueError, match=r"treatment's share .* got 1\.2"):
        predictions_needed(ratio_test("rising"), 0.4, 3, 0.5, ALPHA)
    with pytest.raises(ValueError, match=r"control's share .* got -0\.1"):
        predictions_to_pass(ratio_test("rising"), -0.1, 0.5, ALPHA)
