"""How the page writes and draws: in one place, never a 0 for what is not known, never a sign of nothing."""

import doctest
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmonitor.web import drawing, words
from alerts.judge import Phase
from alerts.standing import State
from metrics.catalogue import CATALOGUE


def test_the_examples_are_true() -> None:
    assert doctest.testmod(words).failed == 0
    assert doctest.testmod(words).attempted > 10


@pytest.mark.parametrize(
    "write",
    [
        words.fixed,
        words.signed,
        words.percent,
        words.milliseconds,
        words.amount,
        words.points,
        words.moment,
        words.clock,
        words.span,
    ],
)
def test_what_is_not_known_is_a_dash(write: object) -> None:
    assert callable(write)
    assert write(None) == words.UNKNOWN


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_what_is_written_is_the_number(value: float, digits: int) -> None:
    for text in (words.fixed(value, digits), words.signed(value, digits)):
        assert math.isclose(float(text.replace(",", "")), value, abs_tol=0.5000001 * 10**-digits)
        if not float(text.replace(",", "")):
            assert text[0] == "0"


def test_every_state_and_phase_has_a_level_with_a_sign() -> None:
    assert {words.level_of(state) for state in State} <= words.SIGNS.keys()
    assert words.PHASES.keys() <= {phase.value for phase in Phase}
    assert {words.severity(state) for state in State} == set(range(len(State)))


@pytest.mark.parametrize("metric", CATALOGUE)
def test_every_metric_can_be_written(metric: str) -> None:
    assert words.of_metric(metric, 0.1234)[0] == "1" if metric in words.SHARES else "0"
    assert words.difference_of(metric, -0.25).startswith("-")
    assert "_" not in words.metric_name(metric)


def numbers(svg: str) -> list[float]:
    return [float(each) for each in re.findall(r'(?<=[" ,])-?\d+\.\d+', svg)]


@given(st.lists(st.none() | st.floats(-1e9, 1e9), max_size=32))
def test_a_spark_line_stays_within_its_picture(values: list[float | None]) -> None:
    found = drawing.spark(values)
    if all(value is None for value in values):
        assert found == ""
        return
    points = re.findall(r"([\d.-]+),([\d.-]+)", found)
    assert len(points) == sum(value is not None for value in values)
    for x, y in points:
        assert 0 <= float(x) <= drawing.WIDTH
        assert 0 <= float(y) <= drawing.HEIGHT
    assert "style" not in found


@given(st.none() | st.floats(-10, 1e9), st.sampled_from((1.0, 1.25)))
def test_a_bar_never_leaves_its_frame(share: float | None, most: float) -> None:
    for width in map(
        float, re.findall(r'width="([\d.]+)" height="6"', drawing.share_bar(share, "good", most))
    ):
        assert 0 <= width <= drawing.BAR


@given(st.none() | st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_part_is_drawn_on_its_side_of_nothing(value: float | None, most: float) -> None:
    ((left, width),) = re.findall(
        r'x="([\d.]+)" width="([\d.]+)"', drawing.diverging_bar(value, most, "bad")
    )
    half = drawing.BAR / 2
    assert 0 <= float(width) <= half
    ends = {round(float(left), 1), round(float(left) + float(width), 1)}
    assert half in ends


@pytest.mark.parametrize(
    ("low", "high", "assumed"),
    [(3.0, None, 2.0), (None, 3.0, 5.0), (3.0, None, 3.0), (3.0, None, None)],
)
def test_the_range_is_where_the_treatment_is_ahead(
    low: float | None, high: float | None, assumed: float | None
) -> None:
    found = drawing.range_line(low, high, 1.0, assumed)
    ((left, width),) = re.findall(r'class="ahead" x="([\d.]+)" width="([\d.]+)"', found)
    if low is None:
        assert float(left) == 0
    else:
        assert float(left) + float(width) == pytest.approx(400)
    marked = re.findall(r'class="assumed" x1="([\d.]+)"', found)
    if assumed is not None and low is not None and assumed != low:
        assert (float(marked[0]) > float(left)) == (assumed > low)
    assert len(marked) == (assumed is not None)
