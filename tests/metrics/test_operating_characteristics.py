import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import rankdata

from benchmarks.characteristics import rivals
from benchmarks.characteristics.draws import draw
from benchmarks.characteristics.looks import (
    Seen,
    arms_of,
    guardrail,
    look_at,
    phase_bounds,
    watch,
)
from benchmarks.characteristics.runs import highest
from benchmarks.characteristics.worlds import (
    EXPERIMENT,
    Model,
    Phase,
    Units,
    World,
    true_harm,
    true_value,
)
from metrics.confusion import WEIGHT_UNIT
from metrics.contrast import value_of
from metrics.evidence import weigh
from metrics.facts import Facts
from metrics.sequential import ages
from metrics.units import COLUMNS as UNIT_COLUMNS


BASE = World("base", treatment=Model(recall=0.78))
RAMP = (Phase(6, 0.1, 4_000, (0.2, 0.15)), Phase(9, 0.5, 1_000, (0.1, 0.08)))
RICH = World(
    "everything",
    Model(errors=0.01),
    Model(recall=0.75, errors=0.02, slowness=1.2),
    RAMP,
    timed=True,
    priced=True,
)
WORLDS = [
    RICH,
    World("explored", explored=0.1, phases=RAMP),
    World("units", units=Units(), phases=RAMP),
    World("spread", units=Units(each=5, spread=True), phases=RAMP),
]


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_estimates_of_what_was_drawn_go_to_the_true_values(world: World) -> None:
    drawn = draw(world, 300, chance())
    for metric in world.metrics:
        for arm, facts in (("treatment", drawn.treatment), ("control", drawn.control)):
            first = Facts(facts.sums[:, 0].sum(axis=0))
            value, variance = value_of(metric, first, EXPERIMENT)
            # Predictions of one unit are alike: the variance over predictions is too small.
            alike = 10 if world.units else 1
            assert value == pytest.approx(
                true_value(world, metric, arm), abs=5 * math.sqrt(alike * variance)
            )


@pytest.mark.parametrize("spread", [False, True])
def test_buckets_of_units_add_up_to_cohorts_and_vary_more_than_predictions_would(
    spread: bool,
) -> None:
    alike = Units(icc=0.3, spread=spread)
    world = World("units", units=alike, phases=(Phase(10, total=400),))
    drawn = draw(world, 100, chance())
    assert drawn.buckets is not None
    buckets = drawn.buckets[1]
    np.testing.assert_array_equal(
        column(buckets.sum(axis=2), "w_tp"), drawn.control.cells("w")[..., 0]
    )
    np.testing.assert_array_equal(column(buckets.sum(axis=2), "n"), drawn.control.predictions)
    whole = buckets.sum(axis=1)
    share = true_value(world, "recall", "control") * 0.1
    excess = column(whole, "w_tp") / WEIGHT_UNIT - share * column(whole, "n")
    expected = share * (1 - share) * column(whole, "n").mean() * (1 + 9 * 0.3)
    assert np.mean(excess**2) == pytest.approx(expected, rel=0.15)


def column(buckets: npt.NDArray[np.int64], name: str) -> npt.NDArray[np.int64]:
    return buckets[..., UNIT_COLUMNS.index(name)]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_fast_looks_are_the_evidence_of_the_product(world: World) -> None:
    drawn = draw(world, 20, chance())
    arms = arms_of(drawn)
    for metric in world.metrics:
        rail = guardrail(metric, true_harm(world, metric), (0.05, 1_000, None), (0.01, 1, 0.1))
        for look in (1, 5, 9, 15):
            bounds = phase_bounds(world.strata)
            fast = look_at(rail, Seen.at(look, arms, bounds, look - ages(look)))
            both = (Facts(arm.sums[:, :look]) for arm in (drawn.treatment, drawn.control))
            treatment, control = both
            units = arms[0].inflation(metric, look), arms[1].inflation(metric, look)
            for number, test in enumerate(rail.tests):
                found = weigh(test, EXPERIMENT, treatment, control, world.strata[:look], units)
                np.testing.assert_allclose(fast.log_harm[number], found.log_harm, 1e-9, 1e-9)
                np.testing.assert_allclose(fast.log_safe[number], found.log_safe, 1e-9, 1e-9)


@pytest.mark.parametrize("metric", ["rap", "precision", "profit_per_prediction"])
def test_treatments_at_the_margin_are_rolled_back_less_often_than_alpha(metric: str) -> None:
    rail = guardrail(metric, true_harm(BASE, metric), (0.05, 10_000, None), (0.05, 10_000, 0.1))
    found = watch(draw(BASE, 400, chance()), [rail], BASE.strata)[0]
    for first in found.alarm:
        assert highest(float(np.isfinite(first).sum()), first.size) < 0.05


def test_units_that_are_known_are_not_taken_for_evidence() -> None:
    rails = [guardrail("rap", 0.0, (0.05, 10_000, 0.1))]
    rates = []
    for known in (True, False):
        world = World("alike", units=Units(known=known), phases=(Phase(40),))
        found = watch(draw(world, 150, chance()), rails, world.strata)[0]
        rates.append(np.isfinite(found.alarm).mean())
    assert rates[0] < 0.1
    assert rates[1] > 0.2


def test_a_drop_is_found_soon_and_a_late_one_sooner_than_without_late_starts() -> None:
    model = Model(recall=0.6)
    rail = guardrail("rap", 0.0, (0.05, 10_000, 0.1))
    early = World("early", treatment=model, phases=(Phase(30),))
    assert np.median(watch(draw(early, 100, chance()), [rail], early.strata)[0].alarm) < 12
    late = World("late", broken=(60, model), phases=(Phase(100),))
    found = watch(draw(late, 100, chance()), [rail], late.strata, range(60, 101))[0]
    assert np.median(found.alarm) < np.median(found.alarm_first)
    assert np.isfinite(found.alarm).mean() > 0.95


def test_an_equal_model_passes_and_one_at_the_margin_seldom_does() -> None:
    rail = guardrail("rap", 0.1, (0.05, 10_000, None))
    for recall, least, most in ((0.8, 0.9, 1.0), (0.7, 0.0, 0.05)):
        world = World("passing", treatment=Model(recall=recall))
        found = watch(draw(world, 200, chance()), [rail], world.strata, late_starts=False)[0]
        assert least <= np.isfinite(found.passed).mean() <= most


def test_a_bound_of_a_probability_is_the_one_of_clopper_and_pearson() -> None:
    # With none of n, (1 - p)^n is 5 %.
    assert highest(0, 100) == pytest.approx(1 - 0.05**0.01)
    assert highest(100, 100) == 1


def test_group_sequential_bounds_are_those_published_for_five_looks() -> None:
    # O'Brien-Fleming-like spending of 0.025, one-sided: Jennison and Turnbull 2000, also of R's gsDesign.
    found = rivals.boundary((0.2, 0.4, 0.6, 0.8, 1.0), 0.025)
    np.testing.assert_allclose(found, [4.877, 3.357, 2.680, 2.290, 2.031], atol=0.001)


def seen(drop: float = 0.0, experiments: int = 300) -> rivals.Seen:
    world = World("rivals", treatment=Model(recall=0.8 - drop), phases=(Phase(40),))
    return rivals.seen(draw(world, experiments, chance(1)), "rap")


def test_growthbook_rolls_back_where_its_own_p_value_says_so() -> None:
    found = seen(0.1)
    rho = math.sqrt((-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / 5_000)
    spread = found.n * rho**2 + 1
    evidence = np.exp(rho**2 * found.n * (found.harm / found.se) ** 2 / (2 * spread))
    worse = (evidence / np.sqrt(spread) > 1 / 0.05) & (found.harm > 0)
    first = np.where(worse.any(axis=1), worse.argmax(axis=1) + 1.0, np.inf)
    np.testing.assert_array_equal(rivals.growthbook(found), first)


def rank_sum(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> float:
    """z of the rank sum of `ours` with continuity correction, as Kayenta computes it."""
    size = len(ours)
    excess = rankdata(np.concatenate([ours, theirs]))[:size].sum() - size * (2 * size + 1) / 2
    sigma = math.sqrt(size * size * (2 * size + 1) / 12)
    return float((excess - 0.5 * np.sign(excess)) / sigma)


def test_kayenta_calls_low_when_its_interval_lies_below_the_tolerance() -> None:
    found, look = seen(0.06, 60), 30
    called = np.isfinite(rivals.kayenta(found, [look]))
    assert 0.1 < called.mean() < 0.9
    for ours, theirs, low in zip(found.ours, found.theirs, called, strict=True):
        shift = np.median(ours[:look, None] - theirs[None, :look])
        # The whole interval lies below a bound if a shift of that size can be ruled out.
        z = rank_sum(ours[:look] + 0.25 * abs(shift), theirs[:look])
        assert low == (z < -2.3263) or abs(z + 2.3263) < 0.1


def test_rivals_that_were_not_made_for_many_looks_alarm_falsely_and_others_seldom_do() -> None:
    found = seen(experiments=600)
    assert np.isfinite(rivals.peeking(found)).mean() > 0.08
    for judge in (
        rivals.growthbook(found),
        rivals.group_sequential(found, np.arange(4, 41, 4)),
    ):
        assert np.isfinite(judge).mean() < 0.07


def test_three_strikes_need_three_failures_in_a_row() -> None:
    world = World("fails", treatment=Model(recall=0.2), phases=(Phase(20, total=4_000),))
    first = rivals.three_strikes(draw(world, 10, chance()), "rap", 0.1, window=4)
    assert (first == 4 + 2).all()
