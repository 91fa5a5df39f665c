"""Waiting before the next try, and leaving what keeps failing alone."""

from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.actuators.patience import Circuit, CircuitBreaker, backoff, retry_after


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.01, 10))
def test_back_off_stays_between_nothing_and_its_ceiling(
    attempt: int, drawn: float, base: float
) -> None:
    waited = backoff(attempt, lambda: drawn, base=base, cap=60.0)
    assert 0 <= waited <= min(60.0, base * 2 ** min(attempt, 20))


def test_the_ceiling_doubles_until_the_cap() -> None:
    ceilings = [backoff(attempt, lambda: 1.0, base=1.0, cap=10.0) for attempt in range(6)]
    assert ceilings == [1, 2, 4, 8, 10, 10]


def test_jitter_is_full() -> None:
    draws = [backoff(4, Random(7).random)] + [backoff(4, Random(s).random) for s in range(500)]
    assert min(draws) < 0.5
    assert max(draws) > 7.5


def test_an_attempt_below_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="attempt -1"):
        backoff(-1, Random(0).random)


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("86400", 300.0),
        ("9" * 6000, 300.0),
        ("Sun, 01 Mar 2026 12:00:20 GMT", 20.0),
        ("Sunday, 01-Mar-26 12:00:20 GMT", 20.0),
        ("Sun, 01 Mar 2026 12:00:20 -0000", 20.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 08 Mar 2026 12:00:00 GMT", 300.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:00:20 GMT", None),
        ("Sun, 01 Mar 99999 12:00:20 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after(header, NOW, cap=300.0) == seconds


@given(st.text() | st.datetimes().map(format_datetime))
def test_no_retry_after_raises_or_leaves_its_bounds(header: str) -> None:
    wait = retry_after(header, NOW, cap=300.0)
    assert wait is None or 0 <= wait <= 300


def opened(*, failures: int = 3, open_for: float = 30.0) -> CircuitBreaker:
    """A breaker that opened at 0."""
    breaker = CircuitBreaker(failures=failures, open_for=open_for)
    for _ in range(failures):
        breaker.record(False, 0.0)
    return breaker


def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(failures=3, open_for=30.0)
    for ok in (False, False, True, False, False):
        breaker.record(ok, 1.0)
        assert breaker.allows(1.0)
    breaker.record(False, 1.0)
    assert not breaker.allows(1.0)
    assert breaker.state(1.0) is Circuit.OPEN


def test_an_open_breaker_lets_one_probe_pass_when_its_time_is_over() -> None:
    breaker = opened()
    assert not breaker.allows(29.9)
    assert breaker.state(30.0) is Circuit.HALF_OPEN
    assert [breaker.allows(30.0), breaker.allows(30.0), breaker.allows(31.0)] == [
        True,
        False,
        False,
    ]


def test_a_probe_that_succeeds_closes_the_breaker_for_good() -> None:
    breaker = opened()
    assert breaker.allows(30.0)
    breaker.record(True, 31.0)
    assert breaker.state(31.0) is Circuit.CLOSED
    breaker.record(False, 32.0)
    assert breaker.allows(32.0)


def test_a_probe_that_fails_opens_the_breaker_for_the_whole_time_again() -> None:
    breaker = opened()
    assert breaker.allows(30.0)
    breaker.record(False, 31.0)
    assert not breaker.allows(60.9)
    assert breaker.allows(61.0)


def test_a_probe_whose_result_never_comes_does_not_block_for_ever() -> None:
    breaker = opened()
    assert breaker.allows(30.0)
    assert not breaker.allows(59.9)
    assert breaker.allows(60.0)


def test_late_failures_of_earlier_calls_do_not_prolong_the_wait() -> None:
    breaker = opened()
    breaker.record(False, 20.0)
    assert breaker.allows(30.0)


def test_a_late_success_of_an_earlier_call_closes_the_breaker() -> None:
    breaker = opened()
    breaker.record(True, 5.0)
    assert breaker.allows(5.0)


def test_asking_for_the_state_takes_no_probe() -> None:
    breaker = opened()
    assert [breaker.state(30.0), breaker.state(30.0)] == [Circuit.HALF_OPEN] * 2
    assert breaker.allows(30.0)


@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "failed"]), st.floats(0, 20)), max_size=60))
def test_whatever_happens_a_breaker_left_alone_long_enough_allows_a_call(
    story: list[tuple[str, float]],
) -> None:
    breaker, now = CircuitBreaker(failures=2, open_for=10.0), 0.0
    for what, later in story:
        now += later
        if what == "ask":
            breaker.allows(now)
        else:
            breaker.record(what == "ok", now)
    assert breaker.allows(now + 10.001)


@given(st.integers(1, 5), st.integers(2, 50))
def test_while_half_open_one_of_many_simultaneous_askers_passes(failures: int, askers: int) -> None:
    breaker = opened(failures=failures)
    assert sum(breaker.allows(35.0) for _ in range(askers)) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [({"failures": 0}, "failures 0"), ({"open_for": 0.0}, "open_for"), ({"open_for": -1.0}, "-1")],
)
def test_breakers_that_make_no_sense_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CircuitBreaker(**options)
