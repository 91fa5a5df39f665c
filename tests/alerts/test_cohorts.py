"""Cohorts: which belong to an epoch and had matured, what they sum to, and in which split each lies."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, World, matured

from alerts.book import Book, Phase, Stretch
from alerts.cohorts import Arms, CohortView
from metrics.evidence import LEFT_OUT
from metrics.experiment import HOUR, MINUTE
from metrics.ledger import Ledger
from metrics.units import COLUMNS, UNIT_BUCKETS


END = START + 2 * HOUR
HALVES = {"old": 0.5, "new": 0.5}
ONE_IN_TEN = {"old": 90.0, "new": 10.0}


def both(start: int = START, end: int = END) -> World:
    world = World()
    for variant in EXPERIMENT.variants:
        world.mature(variant, start, end, matured(tp=1))
    return world


def arms(
    book: Book, world: World, *, begun: int = 0, until: int = END, view: CohortView | None = None
) -> Arms:
    view = CohortView(EXPERIMENT) if view is None else view
    return view.arms(book, "new", world.snapshot(END, final_to=END), begun, until, 0)


def book(*phases: tuple[int, dict[str, float]], gap: int = 0) -> Book:
    """Phases that follow each other; each of the past ends `gap` before the next begins."""
    past = tuple(
        Stretch(since=since, until=max(since, following - gap), split=split)
        for (since, split), (following, _) in pairwise(phases)
    )
    since, split = phases[-1]
    return Book(phase=Phase(since=since, split=split), past=past)


ONE = book((START, HALVES))


# --- which cohorts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "until", "first", "count"),
    [
        (0, END, 0, 12),
        (START, END, 0, 12),
        (START + 1, END, 1, 11),
        (START + COHORT, END, 1, 11),
        (START, START + 3 * COHORT, 0, 3),
        (START, START + 3 * COHORT - 1, 0, 2),
        (START + HOUR, START + HOUR + COHORT, 6, 1),
    ],
)
def test_whole_cohorts_of_the_epoch_are_taken_up_to_the_look(
    begun: int, until: int, first: int, count: int
) -> None:
    found = arms(ONE, both(), begun=begun, until=until)
    assert list(found.starts) == [START + (first + n) * COHORT for n in range(count)]
    assert found.treatment.predictions.tolist() == [1.0] * count


def test_where_nothing_matured_there_are_no_cohorts() -> None:
    for found in (
        arms(ONE, World()),
        arms(ONE, both(), begun=END),
        arms(ONE, both(), until=START),
    ):
        assert list(found.starts) == []
        assert found.strata.tolist() == []
        assert found.treatment.predictions.tolist() == found.control.predictions.tolist() == []


def test_a_cohort_that_one_variant_lacks_counts_as_nothing_of_it() -> None:
    world = World().mature("new", START, START + 1, matured(tp=3))
    world.mature("old", START + COHORT, START + COHORT + 1, matured(tn=4))
    found = arms(ONE, world)
    assert found.treatment.predictions.tolist() == [3.0, 0.0]
    assert found.control.predictions.tolist() == [0.0, 4.0]


def test_cohorts_are_in_order_of_time_whatever_order_they_came_in() -> None:
    world = World()
    for n in (3, 1, 2):
        world.mature("new", START + n * COHORT, START + n * COHORT + 1, matured(tp=n))
    assert arms(ONE, world).treatment.predictions.tolist() == [1.0, 2.0, 3.0]


def test_a_log_may_have_gaps_of_years() -> None:
    years = START + 50 * 365 * 24 * HOUR
    world = both(START, START + 1)
    for variant in EXPERIMENT.variants:
        world.mature(variant, years, years + 1, matured(tp=2))
    view = CohortView(EXPERIMENT)
    snapshot = world.snapshot(years + HOUR, final_to=years + HOUR)
    found = view.arms(ONE, "new", snapshot, 0, years + HOUR, 0)
    assert list(found.starts) == [START, years]


def test_a_view_that_has_seen_a_cohort_sees_it_again_and_sees_what_became_of_it() -> None:
    world, view = both(), CohortView(EXPERIMENT)
    first = arms(ONE, world, view=view)
    again = arms(ONE, world, view=view)
    assert np.array_equal(first.treatment.sums, again.treatment.sums)
    world.mature("new", START, START + 1, matured(tp=7))  # as after a store that was rebuilt
    assert arms(ONE, world, view=view).treatment.predictions.tolist()[:2] == [7.0, 1.0]


def test_buckets_of_units_are_summed_over_all_cohorts() -> None:
    buckets = np.arange(UNIT_BUCKETS * len(COLUMNS)).reshape(UNIT_BUCKETS, len(COLUMNS))
    world = World()
    for n in range(3):
        world.mature("new", START + n * COHORT, START + n * COHORT + 1, Ledger(buckets=buckets))
    world.mature("old", START, END, matured(tp=1))
    ours, theirs = arms(ONE, world).buckets
    assert np.array_equal(ours, 3 * buckets)
    assert theirs.size == 0


# --- in which split ---------------------------------------------------------------------------------


def strata(found: Book, **options: Any) -> list[int]:
    """The strata, numbered from 0 in order of their first cohort."""
    numbers = arms(found, both(), **options).strata.tolist()
    first = [number for number in dict.fromkeys(numbers) if number != LEFT_OUT]
    return [first.index(n) if n != LEFT_OUT else LEFT_OUT for n in numbers]


def test_under_one_split_all_cohorts_are_one_stratum() -> None:
    assert strata(ONE) == [0] * 12


def test_what_is_older_than_the_first_phase_lies_in_it() -> None:
    assert strata(book((START + HOUR, HALVES))) == [0] * 12


def test_each_split_is_a_stratum_of_its_own() -> None:
    found = book((START, ONE_IN_TEN), (START + HOUR, HALVES))
    assert strata(found) == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("since", "gap", "left_out"),
    [
        (START + HOUR, 0, []),
        (START + HOUR + 1, 0, [6]),
        (START + HOUR - 1, 0, [5]),
        (START + HOUR + MINUTE, 2 * MINUTE, [5, 6]),
        (START + HOUR + MINUTE, MINUTE, [6]),
        (START + HOUR, MINUTE, [5]),
        (START + HOUR + 25 * MINUTE, 25 * MINUTE, [6, 7, 8]),
    ],
)
def test_a_cohort_that_lies_in_two_phases_or_between_them_is_left_out(
    since: int, gap: int, left_out: list[int]
) -> None:
    found = strata(book((START, ONE_IN_TEN), (since, HALVES), gap=gap))
    assert [at for at, number in enumerate(found) if number == LEFT_OUT] == left_out
    assert {number for at, number in enumerate(found) if at < min(left_out, default=6)} == {0}
    assert {number for at, number in enumerate(found) if at > max(left_out, default=5)} == {1}


def test_a_change_that_leaves_the_proportion_of_the_two_alone_divides_nothing() -> None:
    before, after = {"old": 0.4, "new": 0.4, "newer": 0.2}, {"old": 50.0, "new": 50.0}
    found = book((START, before), (START + HOUR + MINUTE, after), gap=MINUTE)
    assert strata(found) == [0] * 12


def test_a_split_that_comes_back_is_another_stratum() -> None:
    found = book((START, HALVES), (START + 40 * MINUTE, ONE_IN_TEN), (START + 80 * MINUTE, HALVES))
    assert strata(found) == [0] * 4 + [1] * 4 + [2] * 4


def test_a_short_change_within_a_cohort_leaves_it_out_though_the_split_comes_back() -> None:
    found = book((START, HALVES), (START + MINUTE, ONE_IN_TEN), (START + 3 * MINUTE, HALVES))
    assert strata(found) == [LEFT_OUT] + [0] * 11


def test_where_no_phase_is_known_the_planned_split_is_taken_for_the_one_there_was() -> None:
    assert strata(Book()) == [0] * 12


def spans(found: Book) -> list[tuple[float, float, dict[str, float]]]:
    """Since when and until when each split was intended; the first one since ever."""
    assert found.phase is not None
    known: list[tuple[float, float, dict[str, float]]] = [
        (each.since, each.until, each.split) for each in found.past
    ]
    known.append((found.phase.since, math.inf, found.phase.split))
    return [(-math.inf, *known[0][1:]), *known[1:]]


@given(
    st.lists(st.integers(1, 120), max_size=6, unique=True),
    st.lists(st.sampled_from([HALVES, ONE_IN_TEN, {"old": 2.0, "new": 2.0}]), min_size=7),
    st.integers(0, 5),
)
def test_no_stratum_ever_holds_predictions_of_two_proportions(
    minutes: list[int], splits: list[dict[str, float]], gap: int
) -> None:
    edges = [START, *(START + minute * MINUTE for minute in sorted(minutes))]
    found = book(*zip(edges, splits, strict=False), gap=gap * MINUTE)
    made = arms(found, both())
    seen: dict[int, set[float]] = {}
    for start, stratum in zip(made.starts, made.strata.tolist(), strict=True):
        proportions = {
            split["new"] / (split["old"] + split["new"])
            for since, until, split in spans(found)
            if since < start + COHORT and start < until
        }
        whole = any(since <= start and start + COHORT <= until for since, until, _ in spans(found))
        assert stratum != LEFT_OUT or not whole
        if stratum != LEFT_OUT:
            seen.setdefault(stratum, set()).update(proportions)
    assert all(len(proportions) == 1 for proportions in seen.values())
