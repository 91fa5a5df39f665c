"""Health: causes to hold, silence, stalled labels, and what is left of the traffic."""

from typing import Any

import msgspec
import pytest
from support.panes import EXPERIMENT, START, WAIT, World, pane, steady

from alerts.health import (
    ENOUGH,
    HoldOptions,
    arrived,
    flows,
    hold_causes,
    labels_stalled,
    leftover_share,
    silence,
)
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE, Experiment
from metrics.layout import FINE_WIDTH


OPTIONS = HoldOptions()
NOW = START + 90 * MINUTE
QUIET = "new is silent while old flows"


def causes(
    world: World, at: int = NOW, *, begun: int = 0, before: tuple[str, ...] = (), **known: Any
) -> tuple[str, ...]:
    snapshot = world.snapshot(at, **known)
    return hold_causes(EXPERIMENT, "new", snapshot, at, OPTIONS, begun=begun, known=before)


def with_weights(old: float, new: float) -> Experiment:
    return msgspec.structs.replace(EXPERIMENT, variants={"old": old, "new": new})


# --- causes to hold ---------------------------------------------------------------------------------


def test_a_treatment_that_is_well_has_no_cause_to_hold() -> None:
    assert causes(steady(NOW)) == ()


def test_no_data_at_all_holds_once_the_time_of_silence_is_over() -> None:
    world = steady(NOW)
    assert causes(world, NOW + 15 * MINUTE - FINE_WIDTH) == ()
    assert causes(world, NOW + 15 * MINUTE) == ("no data: no predictions for 15m",)


def test_a_treatment_that_falls_silent_holds_after_a_third_of_the_time_of_silence() -> None:
    world = steady(NOW).arrive("old", NOW, NOW + HOUR, pane(10, labelled=5))
    assert causes(world, NOW + 5 * MINUTE - FINE_WIDTH) == ()
    assert causes(world, NOW + 5 * MINUTE) == (QUIET,)


def test_a_silence_ends_with_traffic_of_the_treatment_and_not_with_the_end_of_the_control() -> None:
    world = World().arrive("old", START, NOW, pane(10, labelled=5))
    later = NOW + 5 * MINUTE
    assert causes(world, later) == ()
    assert causes(world, later, before=(QUIET,)) == (QUIET,)
    world.arrive("new", later - FINE_WIDTH, later, pane(1))
    assert causes(world, later, before=(QUIET,)) == ()
    assert len(causes(world, NOW + HOUR, before=(QUIET,))) == 2


def test_a_control_that_falls_silent_is_no_fault_of_the_treatment() -> None:
    world = steady(NOW).arrive("new", NOW, NOW + HOUR, pane(10, labelled=5))
    assert causes(world, NOW + 10 * MINUTE) == ()


def test_a_treatment_that_never_had_traffic_is_held() -> None:
    world = World().arrive("old", START, NOW, pane(10, labelled=5))
    assert causes(world) == (QUIET,)


def test_a_treatment_that_is_meant_to_get_nothing_is_not_missed() -> None:
    world = World().arrive("old", START, NOW, pane(10, labelled=5))
    snapshot = world.snapshot(NOW)
    none = with_weights(1.0, 0.0)
    assert hold_causes(none, "new", snapshot, NOW, OPTIONS) == ()
    assert silence(none, "new", snapshot, NOW, OPTIONS) == ()


def test_a_state_that_is_incomplete_holds_until_judging_begins_behind_the_gap() -> None:
    gap = START + MINUTE
    words = "state incomplete: the log no longer reached back to the start"
    assert causes(steady(NOW), complete_since=gap) == (words,)
    assert causes(steady(NOW), complete_since=gap, begun=gap - 1) == (words,)
    assert causes(steady(NOW), complete_since=gap, begun=gap) == ()


def test_several_causes_are_told_together() -> None:
    world = World().arrive("old", START, NOW, pane(10))
    assert len(causes(world, complete_since=START)) == 3


# --- options ----------------------------------------------------------------------------------------


def wrong(**declared: Any) -> dict[str, str]:
    return dict(HoldOptions(**declared).problems())


def test_what_is_not_said_has_no_problems() -> None:
    assert wrong() == {}
    assert wrong(deadline=Duration(HOUR), on_deadline="alert", cool_down=Duration(0)) == {}


@pytest.mark.parametrize("field", ["silence", "deadline", "drain", "verify_for", "escalate_after"])
def test_no_time_at_all_is_refused_with_what_to_write(field: str) -> None:
    found = wrong(**{field: Duration(0)})
    assert set(found) == {field}
    assert "expected a time above 0" in found[field]
    assert "got 0s" in found[field]
    assert "such as " in found[field]


def test_silence_of_no_time_says_how_to_give_a_treatment_no_traffic() -> None:
    assert "is given 0 in `variants`" in wrong(silence=Duration(0))["silence"]


@pytest.mark.parametrize(("days", "known"), [(8, True), (9, False)])
def test_silence_may_last_as_long_as_panes_are_kept(days: int, *, known: bool) -> None:
    assert (wrong(silence=Duration(days * DAY)) == {}) is known


def test_an_alert_at_a_deadline_that_there_is_not_is_refused() -> None:
    assert "there is no `deadline`" in wrong(on_deadline="alert")["on_deadline"]


# --- silence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "per_minute", "harmed"),
    [
        ((0.5, 0.5), 2, True),  # 30 of the treatment were to be expected in 15 minutes
        ((0.5, 0.5), 1, False),  # 15 were
        ((0.95, 0.05), 20, False),  # 15.8 were
        ((0.95, 0.05), 26, True),  # 20.5 were
    ],
)
def test_silence_means_something_only_where_enough_was_to_be_expected(
    weights: tuple[float, float], per_minute: int, *, harmed: bool
) -> None:
    world = World()
    for start in range(START, NOW, MINUTE):
        world.arrive("old", start, start + 1, pane(per_minute))
    found = silence(with_weights(*weights), "new", world.snapshot(NOW), NOW, OPTIONS)
    assert bool(found) is harmed


def test_a_single_prediction_breaks_the_silence() -> None:
    world = World().arrive("old", START, NOW, pane(10))
    world.arrive("new", NOW - 15 * MINUTE, NOW - 15 * MINUTE + 1, pane(1))
    assert silence(EXPERIMENT, "new", world.snapshot(NOW), NOW, OPTIONS) == ()
    later = NOW + FINE_WIDTH
    world.arrive("old", NOW, later, pane(10))
    assert silence(EXPERIMENT, "new", world.snapshot(later), later, OPTIONS) == (
        "new had no predictions for 15m while control flowed",
    )


def test_silence_of_hours_is_seen_in_coarse_panes() -> None:
    options = HoldOptions(silence=Duration(3 * HOUR))
    end = START + 10 * HOUR
    world = World().arrive("new", START, START + 2 * HOUR, pane(1))
    world.arrive("old", START, end, pane(1))
    for at, found in ((START + 5 * HOUR - MINUTE, False), (START + 5 * HOUR, True)):
        snapshot = world.snapshot(at)
        assert bool(silence(EXPERIMENT, "new", snapshot, at, options)) is found


# --- labels -----------------------------------------------------------------------------------------


def test_labels_stall_when_nothing_was_labelled_for_as_long_as_a_label_may_take() -> None:
    world = steady(NOW)
    for variant in EXPERIMENT.variants:
        world.arrive(variant, NOW, NOW + 3 * HOUR, pane(10))
    assert causes(world, NOW + WAIT - MINUTE) == ()
    stalled = ("labels stalled: no outcome has met a prediction for 20m",)
    for at in (NOW + WAIT, NOW + 2 * WAIT, NOW + 2 * HOUR):
        assert causes(world, at) == stalled
    world.arrive("old", NOW + HOUR, NOW + HOUR + 1, pane(10, labelled=1))
    assert causes(world, NOW + HOUR + MINUTE) == ()


def test_labels_that_never_came_stall_once_the_first_should_have_come() -> None:
    world = World()
    for variant in EXPERIMENT.variants:
        world.arrive(variant, START, NOW, pane(10))
    assert causes(world, START + WAIT) == ()
    assert causes(world, START + WAIT + FINE_WIDTH) != ()


def test_few_predictions_say_nothing_of_labels() -> None:
    world = World()
    for start in range(START, NOW, MINUTE):
        world.arrive("old", start, start + 1, pane(4))
    assert not labels_stalled(EXPERIMENT, world.snapshot(NOW), NOW)


def test_rare_outcomes_are_missed_only_when_enough_of_them_were_to_be_expected() -> None:
    # 240 predictions in each stretch of 20 minutes; before, 19 or 20 of them got a label
    for labelled, stalled in ((ENOUGH - 1, False), (ENOUGH, True)):
        world = World().arrive("old", START, START + 2 * WAIT, pane(2))
        world.arrive("old", START, START + 1, pane(2, labelled=labelled))
        snapshot = world.snapshot(START + 2 * WAIT)
        assert labels_stalled(EXPERIMENT, snapshot, START + 2 * WAIT) is stalled


@pytest.mark.parametrize("wait", [MINUTE, 20 * MINUTE, 45 * MINUTE, HOUR, 65 * MINUTE, DAY])
def test_a_stall_is_seen_whatever_the_horizon_and_however_late_somebody_looks(wait: int) -> None:
    labels = msgspec.structs.replace(
        EXPERIMENT.labels, horizon=Duration(wait - MINUTE), grace=Duration(MINUTE)
    )
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    stop = START + 2 * wait + HOUR
    end = stop + wait + 2 * HOUR
    world = World().arrive("old", START, stop, pane(20, labelled=20))
    world.arrive("old", stop, end + HOUR, pane(20))
    for at, stalled in ((stop, False), (end, True)):
        for late in (0, 59 * MINUTE):
            snapshot = world.snapshot(at + late)
            assert labels_stalled(experiment, snapshot, at) is stalled


# --- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("since", "until"), [(NOW, NOW), (NOW, NOW - MINUTE)])
def test_nothing_arrives_in_no_time(since: int, until: int) -> None:
    assert arrived(steady(NOW).snapshot(NOW), "new", since, until) == 0


# --- what is left of the traffic --------------------------------------------------------------------


def test_the_share_that_is_left_is_that_of_what_the_treatment_was_meant_to_get() -> None:
    world = World().arrive("old", START, NOW, pane(95)).arrive("new", START, NOW, pane(5))
    snapshot = world.snapshot(NOW)
    for weights, share in (((0.5, 0.5), 0.1), ((0.95, 0.05), 1.0), ((1.0, 0.0), 0.05)):
        found = leftover_share(with_weights(*weights), "new", snapshot, START, NOW)
        assert found == pytest.approx(share)


@pytest.mark.parametrize(
    ("weights", "per_pane", "known"),
    [((0.5, 0.5), 7, True), ((0.5, 0.5), 6, False), ((0.99, 0.01), 300, False)],
)
def test_nothing_is_known_before_enough_was_to_be_expected(
    weights: tuple[float, float], per_pane: int, *, known: bool
) -> None:
    world = World().arrive("old", START, NOW, pane(per_pane))
    snapshot = world.snapshot(START + MINUTE)
    share = leftover_share(with_weights(*weights), "new", snapshot, START, START + MINUTE)
    assert share == (0.0 if known else None)


def test_a_small_canary_needs_a_longer_stretch() -> None:
    world = World().arrive("old", START, NOW, pane(50))
    small = with_weights(0.99, 0.01)
    shares = [
        leftover_share(small, "new", world.snapshot(at), START, at)
        for at in (START + 6 * MINUTE, START + 7 * MINUTE)
    ]
    assert shares == [None, 0.0]


def test_of_nothing_there_is_no_share() -> None:
    snapshot = steady(START + MINUTE).snapshot(NOW)
    assert leftover_share(EXPERIMENT, "new", snapshot, NOW - HOUR, NOW) is None


def test_a_treatment_that_gets_everything_has_not_been_rolled_back() -> None:
    world = World().arrive("new", START, NOW, pane(10))
    assert leftover_share(EXPERIMENT, "new", world.snapshot(NOW), START, NOW) == 2.0


def test_only_the_newest_stretch_counts_and_never_what_came_before_its_start() -> None:
    world = World().arrive("old", START, NOW, pane(50))
    world.arrive("new", START, NOW - 2 * MINUTE, pane(50))
    snapshot = world.snapshot(NOW)
    assert leftover_share(EXPERIMENT, "new", snapshot, START, NOW) == 0.0
    assert leftover_share(EXPERIMENT, "new", snapshot, NOW - 30_000, NOW) is None


@pytest.mark.parametrize(
    ("stray", "begun", "flowing"),
    [
        (0, 0, False),
        (3, 0, False),  # 1 % of the 301 that it was meant to get
        (4, 0, True),
        (5, START, False),
        (6, START, True),
        (6, START + 1, False),
    ],
)
def test_a_trickle_is_no_traffic_and_less_so_after_a_rollback(
    stray: int, begun: int, *, flowing: bool
) -> None:
    world = World().arrive("old", START, START + MINUTE, pane(100))
    world.arrive("new", START, START + 1, pane(stray))
    at = START + MINUTE
    found = flows(EXPERIMENT, "new", world.snapshot(at), at, OPTIONS, begun)
    assert found is flowing


def test_traffic_that_comes_back_is_seen_within_minutes_after_a_long_time_without() -> None:
    world = World().arrive("old", START, NOW + HOUR, pane(10))
    world.arrive("new", NOW, NOW + HOUR, pane(10))
    found = [
        flows(EXPERIMENT, "new", world.snapshot(at), at, OPTIONS, START)
        for at in (NOW, NOW + MINUTE)
    ]
    assert found == [False, True]
