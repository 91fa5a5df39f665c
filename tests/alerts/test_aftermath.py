"""The aftermath of a rollback: traffic that comes back, and strays that are none."""

import msgspec
import pytest
from support.panes import EXPERIMENT, START, World, pane

from alerts.aftermath import STRETCHES, returned
from alerts.health import HoldOptions
from alerts.machine import Returned
from alerts.standing import Standing, State
from metrics.experiment import DAY, HOUR, MINUTE, Experiment
from metrics.layout import FINE_WIDTH, RETENTION, Kind
from metrics.snapshot import LONGEST_FINE_WINDOW


GONE = START + HOUR
"""When the treatment's traffic was gone."""
DONE = Standing(state=State.ROLLED_BACK, since=GONE, acted_at=GONE, verified=True)


def with_weights(old: float, new: float) -> Experiment:
    return msgspec.structs.replace(EXPERIMENT, variants={"old": old, "new": new})


def back(
    world: World, at: int, standing: Standing = DONE, experiment: Experiment = EXPERIMENT
) -> Returned | None:
    return returned(experiment, "new", standing, world.snapshot(at), at, HoldOptions())


def world_without(end: int, per_pane: int = 20) -> World:
    """The control has it all."""
    return World().arrive("old", START, end, pane(per_pane))


def test_traffic_that_is_back_for_three_minutes_has_returned() -> None:
    since = GONE + HOUR
    world = world_without(since + HOUR, 10).arrive("new", since, since + HOUR, pane(10))
    for minutes in (0, 1, 2):
        assert back(world, since + minutes * MINUTE) is None
    at = since + 3 * MINUTE
    told = "new gets 100.0% of its intended traffic again, although it was rolled back"
    assert back(world, at) == Returned(at, told)


@pytest.mark.parametrize("burst", [6, 100, 10_000])
def test_one_burst_however_large_is_no_traffic_that_returned(burst: int) -> None:
    world = world_without(GONE + DAY)
    since = GONE + 2 * HOUR
    world.arrive("new", since, since + FINE_WIDTH, pane(burst))
    for at in range(since, since + 3 * HOUR, MINUTE):
        assert back(world, at) is None


@pytest.mark.parametrize(("every", "found"), [(20 * MINUTE, False), (10 * MINUTE, True)])
def test_a_trickle_below_what_counts_as_none_stays_unnoticed(every: int, *, found: bool) -> None:
    end = GONE + 12 * HOUR
    world = world_without(end, 2)
    for start in range(GONE, end, every):
        world.arrive("new", start, start + 1, pane(1))
    # The control gets 12 a minute, and half of that was intended: 120 in 20 minutes.
    looks = range(GONE, end, 10 * MINUTE)
    assert any(back(world, at) is not None for at in looks) is found


def test_a_small_canary_that_is_back_is_noticed_within_hours() -> None:
    since, small = GONE + HOUR, with_weights(99.0, 1.0)
    end = since + DAY
    world = world_without(end, 10)
    for start in range(since, end, 100 * FINE_WIDTH):
        world.arrive("new", start, start + 1, pane(10))
    first = next(at for at in range(since, end, MINUTE) if back(world, at, experiment=small))
    assert first - since <= 7 * HOUR


@pytest.mark.parametrize(
    "standing",
    [
        Standing(state=State.ROLLED_BACK, since=GONE, verified=False),
        Standing(state=State.ROLLED_BACK, since=GONE),
        Standing(state=State.VERIFYING, since=GONE, verified=True),
        Standing(state=State.WOULD_ROLL_BACK, since=GONE, verified=True),
        Standing(since=GONE, verified=True),
    ],
)
def test_only_what_was_seen_to_go_can_come_back(standing: Standing) -> None:
    world = world_without(GONE + HOUR).arrive("new", GONE, GONE + HOUR, pane(20))
    assert back(world, GONE + HOUR, standing) is None
    assert back(world, GONE + HOUR) is not None


def test_what_came_before_it_was_gone_or_was_ordered_away_has_not_come_back() -> None:
    world = world_without(GONE + HOUR).arrive("new", START, GONE, pane(20))
    for at in range(GONE, GONE + HOUR, MINUTE):
        assert back(world, at) is None
    late = msgspec.structs.replace(DONE, since=START)
    assert back(world, GONE, late) is None  # the actuator took the order at GONE
    assert back(world, GONE, msgspec.structs.replace(late, acted_at=None)) is not None


def test_where_the_control_is_silent_its_traffic_is_compared_all_the_same() -> None:
    world = world_without(GONE).arrive("new", GONE, GONE + HOUR, pane(20))
    assert back(world, GONE + HOUR) is not None


def test_a_treatment_that_is_meant_to_get_nothing_may_not_get_more_than_strays() -> None:
    world = world_without(GONE + HOUR).arrive("new", GONE, GONE + HOUR, pane(5))
    assert back(world, GONE + HOUR, experiment=with_weights(1.0, 0.0)) is not None


def test_every_stretch_is_kept_as_long_as_looks_need_it() -> None:
    looks_late = RETENTION[Kind.FINE] - LONGEST_FINE_WINDOW
    fine = [width for width in STRETCHES if width <= LONGEST_FINE_WINDOW]
    assert 3 * max(fine) + looks_late <= RETENTION[Kind.FINE]
    assert 3 * max(STRETCHES) + looks_late <= RETENTION[Kind.COARSE]
    assert list(STRETCHES) == sorted(STRETCHES)
