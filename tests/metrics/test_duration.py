import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.duration import Duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0s", 0),
        ("1ms", 1),
        ("30s", 30_000),
        ("1.5s", 1_500),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1w2d3h4m5s6ms", 788_645_006),
        ("90m", 5_400_000),
        ("1s1s", 2_000),
        ("0.5d", 43_200_000),
        ("0.1s", 100),
        ("001s", 1_000),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, milliseconds: int) -> None:
    assert Duration.parse(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "s",
        "5 s",
        " 5s",
        "5s ",
        "5s\n",
        "-5s",
        "+5s",
        "5S",
        "5sec",
        "5y",
        "1e3s",
        ".5s",
        "5.s",
        "1,5s",
        "1h 30m",
        "٣s",
        "9" * 400 + "d",
        "1.2.3s",
        5,
        5.0,
        None,
        True,
        b"5s",
        ["5s"],
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as '30s'"):
        Duration.parse(text)


@given(st.integers(0, 10**14))
def test_a_duration_reads_back_as_it_is_printed(milliseconds: int) -> None:
    duration = Duration(milliseconds)
    assert Duration.parse(str(duration)) == milliseconds
    assert repr(duration) == f"Duration('{duration}')"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (1_000, "1s"),
        (5_400_000, "1h30m"),
        (604_800_000, "7d"),
        (86_400_000, "1d"),
        (788_645_006, "9d3h4m5s6ms"),
    ],
)
def test_a_duration_prints_in_units_up_to_days(milliseconds: int, text: str) -> None:
    assert str(Duration(milliseconds)) == text


def test_a_duration_counts_like_the_number_of_its_milliseconds() -> None:
    assert Duration.parse("1s") + Duration.parse("1ms") == 1_001
    assert Duration(5) < Duration(6)
    assert {Duration(5): "x"}[Duration(5)] == "x"
