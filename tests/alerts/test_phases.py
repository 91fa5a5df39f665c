"""Phases: what is assigned under each split, whether it fits, and planned changes of the split."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.panes import EXPERIMENT, START, World, pane, steady

from alerts.book import Book, Phase, Stretch
from alerts.health import STRAYS, HoldOptions
from alerts.phases import (
    CROSSING,
    MISMATCH,
    PHASES_KEPT,
    SETTLING,
    Phases,
    between,
    counted,
    ended,
    mismatch,
    mismatch_limit,
    mixed,
)
from alerts.standing import Standing, State
from metrics.experiment import DAY, HOUR, MINUTE, Experiment, Step
from metrics.layout import FINE_WIDTH
from metrics.ledger import Ledger
from metrics.moment import Moment


NOW = START + 90 * MINUTE
BY_UNIT = msgspec.structs.replace(EXPERIMENT, randomised_by="unit")
THREE = msgspec.structs.replace(EXPERIMENT, variants={"old": 0.4, "new": 0.3, "newer": 0.3})


def phase(old: int, new: int, split: tuple[float, float] = (0.5, 0.5), **known: Any) -> Phase:
    weights = dict(zip(("old", "new"), split, strict=True))
    return Phase(since=START, split=weights, counts={"old": old, "new": new}, **known)


def ramped(experiment: Experiment, *steps: tuple[int, dict[str, float]]) -> Experiment:
    """The experiment with the first of these splits from the beginning, and the others later."""
    later = tuple(Step(at=Moment(at), variants=variants) for at, variants in steps[1:])
    return msgspec.structs.replace(experiment, variants=steps[0][1], ramp=later)


def advanced(experiment: Experiment, world: World, start: int, end: int, book: Book) -> Book:
    """The book after a look at the end of each minute of [start, end)."""
    phases = Phases(experiment, HoldOptions())
    for since in range(start, end, MINUTE):
        at = since + MINUTE
        snapshot = world.snapshot(at, variants=experiment.variants)
        book = phases.advance(book, snapshot, since, at)
    return book


# --- one phase --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "split", "mismatched"),
    [
        (1000, 1000, (0.5, 0.5), False),
        (1000, 1300, (0.5, 0.5), True),
        (1000, 1050, (0.5, 0.5), False),
        (9000, 1000, (0.9, 0.1), False),
        (9000, 1000, (0.5, 0.5), True),
        (9000, 1000, (90, 10), False),
    ],
)
def test_the_split_is_tested_against_the_intended_one(
    old: int, new: int, split: tuple[float, float], *, mismatched: bool
) -> None:
    p_value = mismatch("new", "old", phase(old, new, split))
    assert p_value is not None
    assert (p_value < MISMATCH) is mismatched


@pytest.mark.parametrize("split", [(0.0, 0.5), (0.5, 0.0), (0.0, 0.0)])
def test_a_variant_without_a_share_has_no_mismatch(split: tuple[float, float]) -> None:
    assert mismatch("new", "old", phase(1000, 10, split)) is None


def test_an_empty_phase_has_no_mismatch() -> None:
    assert mismatch("new", "old", phase(0, 0)) is None
    assert mismatch("new", "old", Phase(since=START, split={})) is None


def test_each_treatment_is_tested_against_the_control_alone() -> None:
    counts = {"old": 1000, "new": 1000, "newer": 10}
    found = Phase(since=START, split=dict.fromkeys(counts, 1 / 3), counts=counts)
    for treatment, mismatched in (("new", False), ("newer", True)):
        p_value = mismatch(treatment, "old", found)
        assert p_value is not None
        assert (p_value < MISMATCH) is mismatched


def test_more_than_strays_without_a_unit_end_the_test_of_a_split_of_units() -> None:
    assert mismatch("new", "old", phase(1000, 10)) is not None
    assert mismatch("new", "old", phase(1000, 10, unitless=6)) is not None
    assert mismatch("new", "old", phase(1000, 10, unitless=7)) is None


def arrived(since: int, until: int, world: World) -> dict[str, Ledger]:
    snapshot = world.snapshot(NOW)
    return {name: between(snapshot, name, since, until) for name in ("old", "new")}


def test_counting_a_phase_up_in_steps_or_at_once_gives_the_same() -> None:
    world = steady(NOW)
    at_once = counted(EXPERIMENT, phase(1, 2), arrived(START, NOW, world))
    steps = phase(1, 2)
    for start in range(START, NOW, 5 * MINUTE):
        steps = counted(EXPERIMENT, steps, arrived(start, start + 5 * MINUTE, world))
    assert at_once == steps
    assert at_once.counts == {"old": 1 + 5400, "new": 2 + 5400}


@pytest.mark.parametrize(("experiment", "each"), [(EXPERIMENT, 10), (BY_UNIT, 3)])
def test_predictions_are_counted_or_units_whichever_is_randomised(
    experiment: Experiment, each: int
) -> None:
    world = World().arrive("new", START, START + MINUTE, pane(10, units=3, crossed=2, unitless=1))
    found = counted(experiment, phase(0, 0), arrived(START, START + MINUTE, world))
    assert found.counts == {"old": 0, "new": 6 * each}
    assert (found.crossed, found.unitless) == (12, 6)


@given(st.integers(-HOUR // 2, HOUR), st.integers(-HOUR // 2, HOUR), st.integers(0, HOUR))
def test_no_prediction_is_counted_twice_between_any_two_moments(
    first: int, second: int, gap: int
) -> None:
    since, until = sorted((START + first, START + second))
    middle = max(since, until - gap)
    snapshot = World().arrive("new", START, NOW, pane(1)).snapshot(NOW)
    parts = [between(snapshot, "new", *ends) for ends in ((since, middle), (middle, until))]
    assert sum(part.predictions for part in parts) == (
        between(snapshot, "new", since, until).predictions
    )


@pytest.mark.parametrize(("since", "until"), [(NOW, NOW), (NOW, NOW - MINUTE)])
def test_nothing_arrives_in_no_time(since: int, until: int) -> None:
    assert between(steady(NOW).snapshot(NOW), "new", since, until).predictions == 0


# --- units in two variants --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crossed", "known", "moved", "found"),
    [
        (STRAYS, 0, 0.0, False),
        (STRAYS + 1, 0, 0.0, True),
        (STRAYS + 10, 8_000, 0.0, False),  # 10 of 10,000 are one in a thousand
        (STRAYS + 11, 8_000, 0.0, True),
        (STRAYS + 4_000, 8_000, 0.4, False),
        (STRAYS + 4_011, 8_000, 0.4, True),
        (10_000, 8_000, 1.0, False),
    ],
)
def test_more_units_in_two_variants_than_strays_and_the_change_of_the_split_explain_are_mixed(
    crossed: int, known: int, moved: float, *, found: bool
) -> None:
    counts = (1_000, 1_000) if known else (0, 0)
    assert mixed(phase(*counts, crossed=crossed, known=known, moved=moved)) is found


def test_a_tenth_of_a_per_cent_of_units_may_be_shared() -> None:
    assert CROSSING == 0.001
    assert not mixed(phase(50_000, 50_000, crossed=100))


def test_a_phase_that_follows_knows_the_units_before_it_and_what_moved() -> None:
    first = phase(900, 100, (9, 1), known=50, crossed=7, unitless=3)
    after = first.after({"old": 0.5, "new": 0.5}, NOW)
    assert after == Phase(since=NOW, split={"old": 0.5, "new": 0.5}, known=1050, moved=after.moved)
    assert after.moved == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ({"old": 1, "new": 1}, {"old": 50, "new": 50}, 0.0),
        ({"old": 99, "new": 1}, {"old": 90, "new": 10}, 0.09),
        ({"old": 1, "new": 0}, {"old": 0.5, "new": 0.5}, 0.5),
        ({"old": 0.4, "new": 0.3, "newer": 0.3}, {"old": 0.7, "new": 0.0, "newer": 0.3}, 0.3),
        ({"old": 0.0, "new": 0.0}, {"old": 0.5, "new": 0.5}, 1.0),
        ({"old": 0.5, "new": 0.5}, {"old": 0.0, "new": 0.0}, 1.0),
    ],
)
def test_what_moves_is_the_share_that_goes_elsewhere_and_all_of_it_where_nobody_knows(
    before: dict[str, float], after: dict[str, float], moved: float
) -> None:
    found = Phase(since=START, split=before).after(after, NOW).moved
    assert found == pytest.approx(moved)


# --- several phases ---------------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [0, 1, 7, PHASES_KEPT])
def test_in_all_phases_together_a_mismatch_is_found_falsely_once_in_a_thousand(phases: int) -> None:
    over = Stretch(since=START, until=NOW, split={})
    limits = [mismatch_limit(Book(past=(over,) * n), 1) for n in range(phases + 1)]
    assert limits[0] == MISMATCH / 2
    assert math.fsum(limits) == pytest.approx(MISMATCH * (1 - 1 / (phases + 2)))
    assert limits == sorted(limits, reverse=True)


def test_a_phase_ends_when_the_next_begins_and_never_before_itself() -> None:
    book = Book(phase=phase(1, 1))
    split = phase(0, 0).split
    assert ended(book, NOW) == (Stretch(since=START, until=NOW, split=split),)
    assert ended(book, START - MINUTE) == (Stretch(since=START, until=START, split=split),)
    assert ended(Book(), NOW) == ()


def test_old_phases_are_forgotten_but_the_newest_are_kept() -> None:
    over = tuple(Stretch(since=n, until=n + 1, split={}) for n in range(PHASES_KEPT))
    found = ended(Book(phase=phase(1, 1), past=over), NOW)
    assert len(found) == PHASES_KEPT
    assert (found[0].since, found[-1].until) == (1, NOW)


# --- planned changes --------------------------------------------------------------------------------

STEP = START + 30 * MINUTE
RAMP = ramped(
    EXPERIMENT,
    (START, {"old": 99.0, "new": 1.0}),
    (STEP, {"old": 90.0, "new": 10.0}),
    (STEP + HOUR, {"old": 50.0, "new": 50.0}),
)


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (0, 1.0),
        (STEP - 1, 1.0),
        (STEP, 10.0),
        (STEP + HOUR - 1, 10.0),
        (STEP + HOUR, 50.0),
        (STEP + 99 * DAY, 50.0),
    ],
)
def test_each_split_of_a_ramp_holds_until_the_next(at: int, new: float) -> None:
    assert RAMP.split_at(at) == {"old": 100.0 - new, "new": new}


def test_a_variant_that_a_step_does_not_name_gets_nothing() -> None:
    experiment = ramped(THREE, (START, THREE.variants), (STEP, {"old": 1.0, "newer": 1.0}))
    assert experiment.split_at(STEP) == {"old": 1.0, "new": 0.0, "newer": 1.0}


def split_worlds(
    shares: Callable[[int], float], end: int, per_pane: int, seed: int = 1, **known: Any
) -> World:
    """Predictions that are assigned at random: the treatment with probability `shares(start of pane)`."""
    rng, world = np.random.default_rng(seed), World()
    for start in range(START, end, FINE_WIDTH):
        ours = int(rng.binomial(per_pane, shares(start)))
        for variant, n in (("old", per_pane - ours), ("new", ours)):
            world.arrive(variant, start, start + 1, pane(n, labelled=n // 2, units=n, **known))
    return world


def lagging(experiment: Experiment, lag: int) -> Callable[[int], float]:
    """The treatment's share where routers follow a step one after the other, the last after `lag`."""

    def share(at: int) -> float:
        both = [experiment.split_at(at - late) for late in range(0, lag + 1, FINE_WIDTH)]
        return float(np.mean([each["new"] / (each["old"] + each["new"]) for each in both]))

    return share


@pytest.mark.parametrize("offset", [0, FINE_WIDTH, 50_000])
@pytest.mark.parametrize("experiment", [RAMP, msgspec.structs.replace(RAMP, randomised_by="unit")])
def test_a_ramp_is_no_mismatch_though_routers_lag_by_up_to_a_minute(
    experiment: Experiment, offset: int
) -> None:
    steps = [(step.at + offset, step.variants) for step in experiment.ramp]
    experiment = ramped(experiment, (START, experiment.variants), *steps)
    end = STEP + 2 * HOUR
    share = lagging(experiment, MINUTE - FINE_WIDTH)
    world = split_worlds(share, end, 2_000)
    book = advanced(experiment, world, START, end, Book())
    assert book.mismatched == ()
    assert [stretch.split for stretch in book.past] == [
        {"old": 99.0, "new": 1.0},
        {"old": 90.0, "new": 10.0},
    ]
    assert book.phase is not None
    assert book.phase.split == {"old": 50.0, "new": 50.0}


def test_a_split_that_does_not_follow_its_ramp_is_a_mismatch() -> None:
    world = split_worlds(lambda _: 0.01, STEP + 20 * MINUTE, 200)
    assert advanced(RAMP, world, START, STEP, Book()).mismatched == ()
    book = advanced(RAMP, world, START, STEP + 20 * MINUTE, Book())
    assert book.mismatched == ("new",)


def test_the_minute_of_a_step_and_the_one_after_belong_to_no_phase() -> None:
    world = World().arrive("old", START, NOW, pane(99)).arrive("new", START, NOW, pane(1))
    book = advanced(RAMP, world, START, STEP + SETTLING, Book())
    assert [(stretch.since, stretch.until) for stretch in book.past] == [(START, STEP - MINUTE)]
    assert book.phase is not None
    assert (book.phase.since, sum(book.phase.counts.values())) == (STEP + SETTLING, 0)
    book = advanced(RAMP, world, STEP + SETTLING, STEP + SETTLING + MINUTE, book)
    assert book.phase is not None
    assert book.phase.counts == {"old": 6 * 99, "new": 6}


def test_a_mismatch_stays_through_later_phases() -> None:
    book = Book(phase=phase(99, 1, (99, 1)), mismatched=("new",))
    world = World().arrive("old", START, NOW, pane(90)).arrive("new", START, NOW, pane(10))
    assert advanced(RAMP, world, START, STEP + 10 * MINUTE, book).mismatched == ("new",)


def test_a_phase_begins_once_routers_have_followed_a_rollback() -> None:
    rolled_back = Standing(state=State.ROLLED_BACK, acted_at=START, verified=True)
    book = Book(phase=phase(9, 9), standings={"new": rolled_back})
    world = World().arrive("old", START, NOW, pane(20))
    book = advanced(EXPERIMENT, world, START, START + MINUTE, book)
    assert book.phase is not None
    assert (book.phase.since, book.phase.split) == (
        START + MINUTE + SETTLING,
        {"old": 1.0, "new": 0.0},
    )


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.VERIFYING, State.ENDED])
def test_while_the_traffic_of_one_treatment_is_on_its_way_nobody_knows_the_control_s_share(
    state: State,
) -> None:
    world = World()
    for variant, n in (("old", 8), ("new", 6), ("newer", 6)):
        world.arrive(variant, START, NOW, pane(n))
    book = Book(standings={"new": Standing(state=state)})
    book = advanced(THREE, world, START, START + 10 * MINUTE, book)
    assert book.phase is not None
    assert book.phase.split == {"old": 0.0, "new": 0.0, "newer": 0.3}
    assert book.mismatched == ()


def test_predictions_of_treatments_are_counted_since_they_began() -> None:
    book = advanced(EXPERIMENT, steady(NOW), START, START + HOUR, Book())
    assert book.seen == {"new": 3600}
    assert book.looked_at == START + HOUR


# --- how often a split that is right is taken for a wrong one -----------------------------------------


@pytest.mark.parametrize(("share", "seed"), [(0.5, 1), (0.1, 2), (0.01, 3)])
def test_a_split_that_is_right_is_hardly_ever_a_mismatch_however_often_somebody_looks(
    share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    runs, looks, limit = 500, 100, mismatch_limit(Book(), 1)
    arrivals = np.cumsum(rng.binomial(100, share, size=(runs, looks)), axis=1)
    found = 0
    for run in range(runs):
        for look in range(0, looks, 5):
            ours, n = int(arrivals[run, look]), 100 * (look + 1)
            p_value = mismatch("new", "old", phase(n - ours, ours, (1 - share, share)))
            found += p_value is not None and p_value < limit
    assert found == 0
