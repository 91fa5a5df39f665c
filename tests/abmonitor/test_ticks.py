"""What is told of ticks: how long they took, which failed, and whether that was Redis."""

import math

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from abmonitor.ticks import Ticks


def told(ticks: Ticks) -> dict[tuple[str, ...], float]:
    """Values by the name without its prefix, and by the label."""
    return {
        (sample.name.removeprefix("abmonitor_"), *sample.labels.values()): sample.value
        for family in ticks.families()
        for sample in family.samples
    }


def test_before_the_first_tick_nothing_is_known_of_redis() -> None:
    found = told(Ticks())
    assert ("redis_up",) not in found
    assert found["tick_failures_total",] == found["tick_seconds_count",] == 0


def test_the_families_are_described_without_series() -> None:
    described = Ticks.describe()
    assert [each.name for each in described] == [each.name for each in Ticks().families()]
    assert not any(each.samples for each in described)


def test_durations_are_counted_up_to_and_with_each_edge() -> None:
    ticks = Ticks(edges=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.100001, 1.0, 7.0):
        ticks.note(seconds)
    found = told(ticks)
    assert [found["tick_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [2, 4, 5]
    assert found["tick_seconds_count",] == 5
    assert found["tick_seconds_sum",] == pytest.approx(math.fsum((0.05, 0.1, 0.100001, 1, 7)))


@pytest.mark.parametrize(
    "failure",
    [
        RedisConnectionError("away"),
        ResponseError("OOM command not allowed"),
        TimeoutError(),
        ExceptionGroup("tick", [ValueError("a bug"), RedisConnectionError("away")]),
    ],
)
def test_a_failure_of_redis_shows_until_a_tick_goes_well(failure: Exception) -> None:
    ticks = Ticks()
    ticks.note(0.1, failure)
    assert told(ticks)["redis_up",] == 0
    assert told(ticks)["tick_failures_total",] == 1
    ticks.note(0.1)
    assert told(ticks)["redis_up",] == 1
    assert told(ticks)["tick_failures_total",] == 1


@pytest.mark.parametrize(
    "failure", [ValueError("a bug"), ExceptionGroup("tick", [ValueError(), KeyError()])]
)
def test_what_else_fails_says_nothing_of_redis(failure: Exception) -> None:
    ticks = Ticks()
    ticks.note(0.1, failure)
    assert ("redis_up",) not in told(ticks)
    ticks.note(0.1)
    ticks.note(0.1, failure)
    assert told(ticks)["redis_up",] == 1
    assert told(ticks)["tick_failures_total",] == 2
