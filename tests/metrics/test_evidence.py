import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metrics import evidence
from metrics.contrast import MIN_POSITIVES, Margin, contrast
from metrics.duration import Duration
from metrics.evidence import LEFT_OUT, Evidence, Stacked, bounds, missing, weigh
from metrics.experiment import BusinessValue, Experiment, Labels, Profitability
from metrics.facts import COLUMNS, Facts
from metrics.ratios import CELLS
from metrics.sequential import best_ratio, critical_z, least_harm, log_evidence, scale_for


Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]

KINDS = ("tp", "fp", "tn", "fn")
OFFERS = Experiment(
    name="offers",
    control="old",
    variants={"old": 0.5, "new": 0.5},
    labels=Labels(horizon=Duration(60_000)),
    profitability=Profitability(q=5.0),
    business_value=BusinessValue(per_latency_ms_pct=0.0),
)
NO_MARGIN = Margin()
METRICS = ["rap", "recall", "precision", "false_alarm_rate", "profit_per_prediction"]
HARMLESS = [0.12, 0.2, 0.6, 0.08]
"""Shares of TP, FP, TN, FN: recall 0.6, precision 0.375, RAP 0.35."""


def facts(counts: npt.ArrayLike, weight: float = 1_000.0) -> Facts:
    """Facts of TP, FP, TN, FN counts, shape (..., 4), all of one weight in thousandths."""
    n = np.asarray(counts, dtype=np.float64)
    sums = np.zeros((*n.shape[:-1], len(COLUMNS)))
    for fact, each in (("n", 1.0), ("w", weight), ("w2", weight**2)):
        sums[..., [COLUMNS.index(f"{kind}.{fact}") for kind in KINDS]] = n * each
    sums[..., COLUMNS.index("predictions")] = n.sum(axis=-1)
    return Facts(sums)


def plan(
    metric: str = "rap",
    margin: Margin = NO_MARGIN,
    alpha: float = 0.05,
    alpha_pass: float = 0.05,
    planned: float = 5_000.0,
    detect: float | None = None,
) -> evidence.Test:
    return evidence.Test(metric, margin, alpha, alpha_pass, planned, detect)


def weighed(
    test: evidence.Test, ours: Facts, theirs: Facts, strata: Sequence[int] | None = None
) -> Evidence:
    count = ours.sums.shape[-2]
    return weigh(test, OFFERS, ours, theirs, np.array([0] * count if strata is None else strata))


def drawn(
    rng: np.random.Generator, shares: Sequence[float], n: int, shape: tuple[int, ...]
) -> Facts:
    """Cohorts of `n` random predictions each."""
    return facts(rng.multinomial(n, shares, size=shape))


def steady(shares: Sequence[float], n: int, cohorts: int) -> Floats:
    """Counts just as expected, shape (cohorts, 4)."""
    return np.tile(np.array(shares) * n, (cohorts, 1))


def worse(shares: Sequence[float], share: float) -> list[float]:
    """The same, with that share of the hits missed."""
    tp, fp, tn, fn = shares
    return [tp * (1 - share), fp, tn, fn + tp * share]


def first_cohorts(of: Facts, count: int) -> Facts:
    return Facts(of.sums[..., :count, :])


# Looking all the time


def ever(
    test: evidence.Test, ours: Facts, theirs: Facts, strata: Sequence[int]
) -> tuple[Numbers, Numbers]:
    """Which runs were told of harm, and of safety, at any of the looks: one after every cohort."""
    harmed = safe = np.zeros(ours.sums.shape[0], dtype=bool)
    for count in range(1, len(strata) + 1):
        found = weighed(
            test, first_cohorts(ours, count), first_cohorts(theirs, count), strata[:count]
        )
        harmed = harmed | (found.log_harm >= -math.log(test.alpha))
        safe = safe | (found.log_safe >= -math.log(test.alpha_pass))
    return harmed, safe


def allowed(alpha: float, count: int) -> float:
    """How often of `count` what has a probability of `alpha` may happen, with 3 standard errors."""
    return count * alpha + 3 * math.sqrt(count * alpha * (1 - alpha))


RUNS, COHORTS = 400, 30
AT_MARGIN = [
    ("recall", HARMLESS, NO_MARGIN),
    ("rap", HARMLESS, NO_MARGIN),
    ("precision", HARMLESS, NO_MARGIN),
    ("recall", worse(HARMLESS, 0.1), Margin(0.06)),
    ("recall", worse(HARMLESS, 0.1), Margin(relative=0.1)),
    ("rap", worse(HARMLESS, 0.1), Margin(0.06)),
    ("false_alarm_rate", [0.12, 0.22, 0.58, 0.08], Margin(relative=0.1)),
]
"""A metric, a treatment exactly as bad as is tolerated, and the margin that tolerates it."""


@pytest.mark.parametrize(("metric", "shares", "margin"), AT_MARGIN)
def test_a_treatment_at_the_margin_is_hardly_ever_called_harmful_or_safe_however_often_one_looks(
    metric: str, shares: list[float], margin: Margin
) -> None:
    rng = np.random.default_rng(41)
    ours = drawn(rng, shares, 150, (RUNS, COHORTS))
    theirs = drawn(rng, HARMLESS, 250, (RUNS, COHORTS))
    test = plan(metric, margin, alpha=0.1, alpha_pass=0.2, planned=1_000)
    harmed, safe = ever(test, ours, theirs, [0] * COHORTS)
    assert harmed.sum() <= allowed(test.alpha, RUNS)
    assert safe.sum() <= allowed(test.alpha_pass, RUNS)


def test_splits_that_change_while_quality_drifts_raise_no_false_alarm() -> None:
    """All arms see the same days; the treatment gets more of the bad ones, in three stretches."""
    rng = np.random.default_rng(42)
    days = [HARMLESS, worse(HARMLESS, 0.3), worse(HARMLESS, 0.6)]
    parts = [
        (drawn(rng, shares, n, (RUNS, 10)), drawn(rng, shares, 400 - n, (RUNS, 10)))
        for shares, n in zip(days, (60, 200, 340), strict=True)
    ]
    ours, theirs = (
        Facts(np.concatenate([part[arm].sums for part in parts], axis=1)) for arm in (0, 1)
    )
    test = plan("recall", alpha=0.1, planned=1_000)
    harmed, _ = ever(test, ours, theirs, [0] * 10 + [1] * 10 + [2] * 10)
    assert harmed.sum() <= allowed(test.alpha, RUNS)
    mixed, _ = ever(test, ours, theirs, [0] * 30)
    assert mixed.mean() > 0.9, "without strata the drift would pass for harm"


def test_harm_and_safety_of_the_planned_size_are_found_about_when_planned() -> None:
    rng = np.random.default_rng(43)
    size, cohorts = 100, 60
    theirs = drawn(rng, HARMLESS, size, (100, cohorts))
    planned = 4_000
    expected = facts(steady(HARMLESS, planned, 1))
    once = contrast("recall", expected, expected, OFFERS, NO_MARGIN)
    effect = float(once.se[0]) * float(critical_z(0.05, best_ratio(0.05)))
    assert 0.02 < effect < 0.2
    bad = drawn(rng, worse(HARMLESS, effect / 0.6), size, (100, cohorts))
    harmed, _ = ever(plan("recall", planned=planned), bad, theirs, [0] * cohorts)
    good = drawn(rng, HARMLESS, size, (100, cohorts))
    _, safe = ever(plan("recall", Margin(effect), planned=planned), good, theirs, [0] * cohorts)
    assert harmed.mean() > 0.6
    assert safe.mean() > 0.6


def test_harm_that_comes_late_is_found_though_much_good_data_came_before() -> None:
    good, bad = steady(HARMLESS, 1_000, 500), steady(worse(HARMLESS, 0.5), 1_000, 4)
    ours, theirs = facts(np.concatenate([good, bad])), facts(steady(HARMLESS, 1_000, 504))
    test = plan("recall")
    before = weighed(test, first_cohorts(ours, 500), first_cohorts(theirs, 500))
    assert float(before.log_harm) < 0
    found = weighed(test, ours, theirs)
    alone = log_evidence(found.whole.harm, found.whole.se, test.harm_ratio(found.whole))
    assert float(alone) < -math.log(test.alpha) < float(found.log_harm)


# What is weighed


def test_the_whole_is_the_contrast_of_all_cohorts_however_they_were_cut() -> None:
    rng = np.random.default_rng(44)
    ours, theirs = (drawn(rng, HARMLESS, 500, (12,)) for _ in range(2))
    whole = weighed(plan(), ours, theirs).whole
    expected = contrast(
        "rap", Facts(ours.sums.sum(axis=0)), Facts(theirs.sums.sum(axis=0)), OFFERS, NO_MARGIN
    )
    mine, other = (Facts(f.sums.reshape(4, 3, -1).sum(axis=1)) for f in (ours, theirs))
    for found in (whole, weighed(plan(), mine, other).whole):
        assert float(found.harm) == pytest.approx(float(expected.harm))
        assert float(found.se) == pytest.approx(float(expected.se))
        assert float(found.n) == pytest.approx(float(expected.n)) == pytest.approx(6_000)


def test_each_start_sees_the_cohorts_from_it_on_and_the_first_sees_all() -> None:
    rng = np.random.default_rng(45)
    ours, theirs = (drawn(rng, HARMLESS, 500, (30,)) for _ in range(2))
    found = weighed(plan(), ours, theirs)
    assert found.starts[0] == 1
    assert found.starts[-1] == 30
    for at, start in enumerate(found.starts.tolist()):
        mine, other = (Facts(f.sums[start - 1 :].sum(axis=0)) for f in (ours, theirs))
        expected = contrast("rap", mine, other, OFFERS, NO_MARGIN)
        assert found.since.harm[at] == pytest.approx(float(expected.harm))
        assert found.since.se[at] == pytest.approx(float(expected.se))
        assert found.since.n[at] == pytest.approx(float(expected.n))


def test_the_evidence_of_harm_is_the_sum_of_what_each_start_says() -> None:
    rng = np.random.default_rng(48)
    found = weighed(plan(), drawn(rng, HARMLESS, 500, (30,)), drawn(rng, HARMLESS, 500, (30,)))
    assert found.by_start.shape == found.starts.shape
    assert float(np.exp(found.by_start).sum()) == pytest.approx(math.exp(float(found.log_harm)))


PHASES = np.array([[40, 20, 330, 10], [0, 500, 0, 500], [300, 200, 1_300, 200], [90, 30, 480, 50]])
CONTROL = np.array(
    [[450, 200, 3_250, 100], [0, 0, 9, 0], [350, 150, 1_400, 100], [99, 40, 400, 20]]
)
STRATA = [3, LEFT_OUT, 7, 7]


def test_stretches_are_weighted_by_what_they_know_and_cohorts_between_them_are_left_out() -> None:
    ours, theirs = facts(PHASES), facts(CONTROL)
    found = weighed(plan("recall"), ours, theirs, STRATA)
    first, last = (
        contrast(
            "recall", facts(PHASES[rows].sum(0)), facts(CONTROL[rows].sum(0)), OFFERS, NO_MARGIN
        )
        for rows in ([0], [2, 3])
    )
    # Recalls by hand: 40/50 against 450/550, and 390/640 against 449/569.
    assert float(first.harm) == pytest.approx(450 / 550 - 40 / 50)
    assert float(last.harm) == pytest.approx(449 / 569 - 390 / 640)
    knows_first, knows_last = float(first.se) ** -2, float(last.se) ** -2
    both = knows_first + knows_last
    harm = (knows_first * float(first.harm) + knows_last * float(last.harm)) / both
    assert float(found.whole.harm) == pytest.approx(harm)
    assert float(found.whole.se) == pytest.approx(both**-0.5)
    assert float(found.whole.n) == pytest.approx(float(first.n) + float(last.n))
    assert float(found.positives) == pytest.approx(float(first.positives) + float(last.positives))


def test_what_was_left_out_moves_nothing() -> None:
    other = PHASES.copy()
    other[1] = [9_000, 0, 0, 1]
    found = weighed(plan("recall"), facts(PHASES), facts(CONTROL), STRATA)
    moved = weighed(plan("recall"), facts(other), facts(CONTROL), STRATA)
    assert float(moved.log_harm) == float(found.log_harm)
    assert float(moved.log_safe) == float(found.log_safe)


def test_a_stretch_that_is_too_small_to_judge_neither_helps_nor_hides_the_others() -> None:
    tiny = np.array([[1, 5, 20, MIN_POSITIVES // 10]])
    ours, theirs = np.concatenate([PHASES[2:], tiny]), np.concatenate([CONTROL[2:], tiny])
    found = weighed(plan("recall"), facts(ours), facts(theirs), [0, 0, 1])
    without = weighed(plan("recall"), facts(PHASES[2:]), facts(CONTROL[2:]))
    assert float(found.whole.harm) == pytest.approx(float(without.whole.harm))
    assert float(found.whole.se) == pytest.approx(float(without.whole.se))


def test_many_experiments_at_once_give_what_each_gives_by_itself() -> None:
    rng = np.random.default_rng(46)
    ours, theirs = (drawn(rng, HARMLESS, 300, (5, 9)) for _ in range(2))
    ours.sums[3] = 0.0
    test, strata = plan("rap", Margin(0.02)), [0, 0, 0, LEFT_OUT, 1, 1, 1, 1, 2]
    together = weighed(test, ours, theirs, strata)
    limits = bounds(test, together)
    for row in range(5):
        alone = weighed(test, Facts(ours.sums[row]), Facts(theirs.sums[row]), strata)
        for name in ("log_harm", "log_safe"):
            assert getattr(together, name)[row] == pytest.approx(float(getattr(alone, name)))
        for name, one in asdict(bounds(test, alone)).items():
            assert getattr(limits, name)[row] == pytest.approx(float(one), nan_ok=True)


RARE = [
    ("recall", Margin(0.02), [0.0995, 0.2, 0.7, 0.0005], [0.0975, 0.2, 0.7, 0.0025]),
    ("false_alarm_rate", Margin(0.01), [0.4, 0.0005, 0.4995, 0.1], [0.4, 0.0055, 0.4945, 0.1]),
]
"""Metric, margin, control and a treatment that is just as bad as tolerated: what hurts is rare."""


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize(("metric", "margin", "control", "treatment"), RARE)
def test_a_lucky_treatment_that_harms_by_the_margin_is_not_passed_before_what_hurts_was_met(
    metric: str, margin: Margin, control: list[float], treatment: list[float], share: float
) -> None:
    rng, size = np.random.default_rng(47), 40
    ours = drawn(rng, treatment, size, (200, 50))
    theirs = drawn(rng, control, round(size * (1 - share) / share), (200, 50))
    test = plan(metric, margin, alpha_pass=0.05, planned=1_000.0)
    _, safe = ever(test, ours, theirs, [0] * 50)
    assert safe.sum() <= allowed(test.alpha_pass, 200)


# What a test takes for worth finding


def stacked(n: float, se: float) -> Stacked:
    return Stacked(np.array(0.0), np.array(se), np.array(n))


def test_by_plan_r_is_best_when_the_planned_number_was_seen_and_grows_with_it() -> None:
    test = plan(planned=8_000, alpha=0.01, alpha_pass=0.2)
    for times in (0.01, 1.0, 3.0):
        seen = stacked(8_000 * times, 0.1)
        assert float(test.harm_ratio(seen)) == pytest.approx(times * best_ratio(0.01))
        assert float(test.safe_ratio(seen)) == pytest.approx(times * best_ratio(0.2))


def test_with_an_effect_worth_finding_r_is_best_where_that_effect_is_decided_on() -> None:
    test = plan(detect=0.04)
    decided = 0.04 / float(critical_z(0.05, best_ratio(0.05)))
    for times in (0.1, 1.0, 5.0):
        seen = stacked(1.0, decided / times)
        found = float(test.harm_ratio(seen))
        assert found == float(test.safe_ratio(seen))
        assert found == pytest.approx((scale_for(0.04, 0.05) / decided * times) ** 2)
        assert times**2 <= found / best_ratio(0.05) <= 1.21 * times**2


def test_an_equal_treatment_is_as_far_from_harm_as_the_margin_is_wide() -> None:
    """So it is that distance which the test for safety looks for, whatever harm is worth finding."""
    seen = stacked(500.0, 0.013)
    by_margin = plan(margin=Margin(0.07), detect=0.02).safe_ratio(seen)
    assert float(by_margin) == float(plan(detect=0.07).safe_ratio(seen))
    assert float(by_margin) == float(plan(margin=Margin(0.07)).safe_ratio(seen))
    assert plan(margin=Margin(relative=0.1)).room is None


@pytest.mark.parametrize("detect", [None, 0.1])
def test_before_anything_is_known_nothing_is_worth_anything(detect: float | None) -> None:
    test, nothing = plan(detect=detect), stacked(0.0, math.inf)
    assert float(test.harm_ratio(nothing)) == float(test.safe_ratio(nothing)) == 0


def test_an_effect_worth_finding_overrides_the_plan() -> None:
    ours, theirs = facts(PHASES[2:]), facts(CONTROL[2:])
    planless = [
        weighed(plan("recall", planned=n, detect=0.1), ours, theirs) for n in (10.0, 10_000.0)
    ]
    assert float(planless[0].log_harm) == float(planless[1].log_harm)
    with_plan = weighed(plan("recall", planned=10.0), ours, theirs)
    assert float(with_plan.log_harm) != float(planless[0].log_harm)


# Bounds


@st.composite
def plans(draw: st.DrawFn) -> evidence.Test:
    alphas = st.sampled_from([0.3, 0.05, 0.05 / 6, 1e-4])
    return plan(
        draw(st.sampled_from(METRICS)),
        Margin(draw(st.sampled_from([0.0, 0.02, 0.2])), draw(st.sampled_from([0.0, 0.1, 0.5]))),
        draw(alphas),
        draw(alphas),
        draw(st.sampled_from([100.0, 5_000.0, 1e6])),
        draw(st.none() | st.sampled_from([0.01, 0.3])),
    )


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Facts, Facts, list[int]]:
    """Cohorts of treatment and control, and their strata; the treatment may change once."""
    strata = draw(st.lists(st.sampled_from([0, 0, 1, LEFT_OUT]), min_size=1, max_size=12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ours, theirs = (
        rng.multinomial(draw(st.integers(1, 3_000)), rng.dirichlet(np.ones(4)), size=len(strata))
        for _ in range(2)
    )
    late = draw(st.integers(0, len(strata)))
    changed = rng.multinomial(ours[0].sum(), rng.dirichlet(np.ones(4)), size=late)
    ours[len(strata) - late :] = changed
    return facts(ours), facts(theirs), strata


@given(test=plans(), given_for=cohorts())
@settings(max_examples=100)
def test_each_bound_leaves_0_behind_exactly_when_the_test_on_its_side_decides(
    test: evidence.Test, given_for: tuple[Facts, Facts, list[int]]
) -> None:
    found = weighed(test, *given_for)
    ends = bounds(test, found)
    late, most = float(ends.late), float(ends.most)
    harm, safe = float(found.log_harm), float(found.log_safe)
    for_harm, for_safe = -math.log(test.alpha), -math.log(test.alpha_pass)
    assume(min(abs(harm - for_harm), abs(safe - for_safe)) > 1e-9)
    together = float(inverted(test, found))
    assert (together > 0) == (harm >= for_harm)
    if not math.isnan(together):
        assert late == together or late < float(found.since.harm[found.strongest]) < together
    assert (late > 0) <= (harm >= for_harm)
    assert (most < 0) == (safe >= for_safe)
    if int(found.strongest) == 0:
        assert float(ends.least) == pytest.approx(late, nan_ok=True)


def inverted(test: evidence.Test, found: Evidence) -> Floats:
    """The largest harm that all starts together rule out."""
    since = found.since
    ratio = test.harm_ratio(since)
    return least_harm(since.harm, since.se, ratio, found.starts, test.alpha)


@given(test=plans(), given_for=cohorts())
@settings(max_examples=200)
def test_the_bounds_of_a_stretch_never_leave_its_estimate_outside(
    test: evidence.Test, given_for: tuple[Facts, Facts, list[int]]
) -> None:
    found = weighed(test, *given_for)
    ends, whole = bounds(test, found), float(found.whole.harm)
    for end, low, high in (
        ("least", float(ends.least), whole),
        ("most", whole, float(ends.most)),
        ("late", float(ends.late), float(found.since.harm[found.strongest])),
    ):
        assert low <= high or math.isnan(low) or math.isnan(high), end


@given(test=plans(), given_for=cohorts())
@settings(max_examples=100)
def test_all_that_is_told_as_least_lies_within_what_all_starts_together_prove(
    test: evidence.Test, given_for: tuple[Facts, Facts, list[int]]
) -> None:
    """So that it is wrong with a probability of at most alpha, whichever start counts most."""
    found = weighed(test, *given_for)
    ends, together = bounds(test, found), float(inverted(test, found))
    for end in (float(ends.least), float(ends.late)):
        assert end <= together + 1e-9 or math.isnan(end)


def test_after_a_late_change_the_least_of_the_whole_is_its_own_and_that_of_the_change_decides() -> (
    None
):
    good, bad = steady(HARMLESS, 1_000, 200), steady(worse(HARMLESS, 0.9), 1_000, 4)
    ours, theirs = facts(np.concatenate([good, bad])), facts(steady(HARMLESS, 1_000, 204))
    test = plan("recall")
    found = weighed(test, ours, theirs)
    assert int(found.starts[found.strongest]) > 190
    ends, whole = bounds(test, found), found.whole
    assert float(ends.late) == float(inverted(test, found)) > float(whole.harm)
    reach = critical_z(test.alpha / 2, test.harm_ratio(whole))
    assert float(ends.least) == pytest.approx(float(whole.harm - whole.se * reach), abs=1e-9)


@given(test=plans(), given_for=cohorts(), tolerated=st.floats(0.001, 0.5))
def test_what_a_wider_margin_tolerates_moves_the_least_harm_down_by_as_much(
    test: evidence.Test, given_for: tuple[Facts, Facts, list[int]], tolerated: float
) -> None:
    wider = replace(test, margin=replace(test.margin, absolute=test.margin.absolute + tolerated))
    before, after = (inverted(each, weighed(each, *given_for)) for each in (test, wider))
    assert float(after) == pytest.approx(float(before) - tolerated, abs=1e-9, nan_ok=True)


# What cannot be decided


@pytest.mark.parametrize("strata", [[LEFT_OUT] * 4, [0, 1, 2, 3]])
@pytest.mark.parametrize("detect", [None, 0.1])
def test_nothing_is_decided_while_nothing_can_be_known(
    strata: list[int], detect: float | None
) -> None:
    few = facts(np.full((4, 4), 2 if LEFT_OUT not in strata else 10_000))
    test = plan("recall", Margin(0.3), detect=detect)
    found = weighed(test, few, facts(CONTROL), strata)
    assert float(found.log_harm) == float(found.log_safe) == -math.inf
    assert all(np.isnan(end) for end in asdict(bounds(test, found)).values())
    assert missing(test, found) is None


def test_a_variant_without_a_single_prediction_decides_nothing() -> None:
    for ours, theirs in ((facts(PHASES * 0), facts(CONTROL)), (facts(PHASES), facts(CONTROL * 0))):
        found = weighed(plan("recall", Margin(0.3)), ours, theirs)
        assert float(found.log_harm) == float(found.log_safe) == -math.inf


@pytest.mark.parametrize("metric", ["recall", "accuracy", "rap", "net_business_value"])
@pytest.mark.parametrize("margin", [NO_MARGIN, Margin(0.5), Margin(relative=0.5)])
def test_two_variants_without_any_spread_decide_nothing(metric: str, margin: Margin) -> None:
    perfect = facts(np.tile([10_000, 0, 0, 0], (5, 1)))
    found = weighed(plan(metric, margin), perfect, perfect)
    assert float(found.log_harm) == float(found.log_safe) == -math.inf


def test_a_small_canary_that_has_not_missed_yet_is_not_called_safe_for_having_no_spread() -> None:
    """That 50 of 50 are found has a probability of 13 % even where the margin is passed."""
    lucky, rest = np.array([[50, 20, 930, 0]]), np.array([[4_900, 2_000, 88_000, 100]])
    found = weighed(plan("recall", Margin(0.02), planned=1_000), facts(lucky), facts(rest))
    assert float(found.whole.harm) < 0
    assert float(found.log_safe) < -math.log(0.13)


COUNT = st.sampled_from([0, 1, 2, 31, 10**6, 10**12])


@given(
    counts=st.lists(st.tuples(*[COUNT] * 8), min_size=1, max_size=5),
    weights=st.tuples(*[st.sampled_from([1.0, 1_000.0, 1e6])] * 2),
    test=plans(),
)
@settings(max_examples=100)
def test_no_counts_make_evidence_not_a_number_or_surely_infinite(
    counts: list[tuple[int, ...]], weights: tuple[float, float], test: evidence.Test
) -> None:
    both = np.array(counts)
    ours, theirs = facts(both[:, :4], weights[0]), facts(both[:, 4:], weights[1])
    found = weighed(test, ours, theirs)
    for log in (found.log_harm, found.log_safe):
        assert not math.isnan(float(log))
        assert float(log) < math.inf
    ends = bounds(test, found)
    least, most, late = float(ends.least), float(ends.most), float(ends.late)
    assert not math.isinf(least)
    assert not math.isinf(late)
    assert most != -math.inf
    unknown = math.isnan(float(found.whole.harm))
    assert unknown == math.isnan(most)
    # Later starts may know what is hidden by an uneven split before them.
    if float(found.log_harm) == -math.inf:
        assert math.isnan(least)
        assert math.isnan(late)
    assert (most == math.inf) == (not unknown and float(found.log_safe) == -math.inf)


# How long it takes still


@pytest.mark.parametrize("detect", [None, 0.02])
@pytest.mark.parametrize("margin", [NO_MARGIN, Margin(0.05)])
@pytest.mark.parametrize("share", [0.0, 0.04, 0.06, 0.2])
def test_about_as_many_times_the_predictions_as_are_missing_decide(
    share: float, margin: Margin, detect: float | None
) -> None:
    test = plan("recall", margin, planned=20_000.0, detect=detect)
    ours, theirs = steady(worse(HARMLESS, share), 800, 1), steady(HARMLESS, 800, 1)

    def decides(factor: float) -> bool:
        found = weighed(test, facts(ours * factor), facts(theirs * factor))
        harm, safe = float(found.log_harm), float(found.log_safe)
        return harm >= -math.log(test.alpha) or safe >= -math.log(test.alpha_pass)

    times = missing(test, weighed(test, facts(ours), facts(theirs)))
    if times is None:
        assert not decides(90)
    else:
        assert decides(times * 1.125)
        assert times == 1 or not decides(times / 1.125)


def test_what_has_been_decided_misses_nothing_and_equal_arms_without_a_margin_miss_everything() -> (
    None
):
    theirs = facts(steady(HARMLESS, 50_000, 1))
    lost = weighed(plan("recall"), facts(steady(worse(HARMLESS, 0.5), 50_000, 1)), theirs)
    assert missing(plan("recall"), lost) == 1
    assert missing(plan("recall"), weighed(plan("recall"), theirs, theirs)) is None


def test_the_order_of_the_cells_here_is_that_of_the_facts() -> None:
    assert set(KINDS) < set(CELLS)
    assert facts([1, 2, 3, 4]).cells("n").tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
