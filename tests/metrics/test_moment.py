from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.moment import Moment


TEN_O_CLOCK = Moment(datetime(2026, 1, 1, 10, tzinfo=UTC).timestamp() * 1000)
MOMENTS = st.datetimes(min_value=datetime(1000, 1, 3), max_value=datetime(9998, 12, 29))  # noqa: DTZ001  # the zone is drawn, too
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T10:00:00Z",
        "2026-01-01T10:00:00+00:00",
        "2026-01-01T11:00:00+01:00",
        "2026-01-01T04:30:00-05:30",
        "2026-01-01 10:00:00Z",
        "2026-01-01T10:00Z",
        "2026-01-01T10:00:00.000Z",
    ],
)
def test_one_moment_can_be_written_in_many_zones(text: str) -> None:
    assert Moment.parse(text) == TEN_O_CLOCK


def test_what_yaml_has_made_a_time_already_is_taken_as_it_is() -> None:
    assert Moment.parse(datetime(2026, 1, 1, 10, tzinfo=UTC)) == TEN_O_CLOCK


@pytest.mark.parametrize(
    "given_for",
    [
        "2026-01-01T10:00:00",
        "2026-01-01",
        datetime(2026, 1, 1, 10),  # noqa: DTZ001  # without a zone, that is the point
        date(2026, 1, 1),
        "10 o'clock",
        "",
        int(TEN_O_CLOCK),
        None,
    ],
)
def test_what_is_no_time_with_a_zone_is_refused_with_what_was_expected(given_for: object) -> None:
    with pytest.raises(ValueError, match="expected a time with a zone such as") as refused:
        Moment.parse(given_for)
    assert str(refused.value).endswith(f"got {given_for}")


def test_milliseconds_are_kept_and_shown_only_where_there_are_some() -> None:
    assert Moment.parse("2026-01-01T10:00:00.25Z") - TEN_O_CLOCK == 250
    assert str(Moment(TEN_O_CLOCK + 7)) == "2026-01-01T10:00:00.007Z"
    assert str(TEN_O_CLOCK) == "2026-01-01T10:00:00Z"


def test_a_moment_before_1970_counts_backwards() -> None:
    before = Moment.parse("1969-12-31T23:59:59.999Z")
    assert before == -1
    assert str(before) == "1969-12-31T23:59:59.999Z"


@given(moment=MOMENTS, zone=ZONES)
def test_a_moment_is_the_nearest_millisecond_and_reads_back_as_it_was_written(
    moment: datetime, zone: timezone
) -> None:
    given_for = moment.replace(tzinfo=zone)
    found = Moment.parse(given_for.isoformat())
    exact = (given_for - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    assert abs(found - exact) <= 0.51
    assert Moment.parse(str(found)) == found
    assert repr(found) == f"Moment('{found}')"
