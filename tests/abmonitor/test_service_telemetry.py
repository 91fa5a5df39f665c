"""What a monitor tells of itself, beside what it knows of experiments."""

from collections.abc import Callable
from importlib.metadata import version

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError

from abmonitor.flags import Following
from abmonitor.notify import Notifications
from abmonitor.service_telemetry import ServiceTelemetry
from abmonitor.ticks import Ticks
from abmonitor.view import View


def value_of(
    ticks: Ticks | None = None, ready: Callable[[], str | None] | None = None
) -> Callable[..., float | None]:
    registry = CollectorRegistry()
    telemetry = ServiceTelemetry(View, Notifications(()), Following({}), ticks, ready)
    registry.register(telemetry)
    return registry.get_sample_value


def test_the_version_that_runs_is_told_before_anything_else_is_known() -> None:
    value = value_of()
    assert value("abmonitor_build_info", {"version": version("abmonitor")}) == 1
    for name in ("ready", "redis_up", "tick_failures_total", "tick_seconds_count"):
        assert value(f"abmonitor_{name}") is None


@pytest.mark.parametrize(("problem", "expected"), [(None, 1), ("nothing was read yet", 0)])
def test_it_says_whether_it_is_ready(problem: str | None, expected: float) -> None:
    assert value_of(ready=lambda: problem)("abmonitor_ready") == expected


def test_ticks_are_told_as_of_the_scrape() -> None:
    ticks = Ticks()
    value = value_of(ticks)
    ticks.note(0.3)
    ticks.note(0.7, RedisConnectionError("away"))
    assert value("abmonitor_tick_seconds_sum") == 1.0
    assert value("abmonitor_tick_seconds_bucket", {"le": "0.5"}) == 1
    assert value("abmonitor_tick_failures_total") == 1
    assert value("abmonitor_redis_up") == 0
