import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abmonitor.business import distributions as shapes
from abmonitor.business.case import CaseFile, doubts, load, loads
from abmonitor.business.quantities import Amount, Change, Points, Printed, PrintedShare, Share
from abmonitor.settings import SettingsError


class Write(Protocol):
    def __call__(self, text: str | bytes, name: str = ...) -> Path: ...


GOOD = {
    "revenue_per_day": "1000",
    "accuracy_gain_points": "2",
    "revenue_share_per_accuracy_point": "0.5%",
    "predictions_per_day": "100",
    "latency_increase_ms": "10",
    "cost_per_prediction_and_ms": "0.001",
    "error_rate_decrease_points": "0.4",
    "cost_per_error": "50",
    "investment": "100",
    "running_cost_per_year": "10",
}
SHARES = np.linspace(0.001, 0.999, 57)


def text(*left_out: str, **different: str) -> str:
    inputs = {name: value for name, value in (GOOD | different).items() if name not in left_out}
    return "cases:\n  a:\n" + "".join(f"    {name}: {value}\n" for name, value in inputs.items())


def mistakes(content: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loads(content, "case.yaml")
    return str(caught.value).splitlines()


def test_each_distribution_has_the_quantiles_that_scipy_gives_it() -> None:
    sigma = (math.log(110) - math.log(90)) / (2 * stats.norm.ppf(0.95))
    cases: list[tuple[shapes.Distribution, Any]] = [
        (shapes.Uniform(90, 110), stats.uniform(90, 20)),
        (shapes.Triangular(90, 95, 110), stats.triang(0.25, 90, 20)),
        (shapes.Triangular(90, 90, 110), stats.triang(0, 90, 20)),
        (shapes.Triangular(90, 110, 110), stats.triang(1, 90, 20)),
        (shapes.Pert(90, 95, 110), stats.beta(2, 4, 90, 20)),
        (shapes.Normal(100, 5), stats.norm(100, 5)),
        (shapes.Lognormal(90, 110), stats.lognorm(sigma, scale=math.sqrt(90 * 110))),
    ]
    for shape, expected in cases:
        np.testing.assert_allclose(shape.quantiles(SHARES), expected.ppf(SHARES), rtol=1e-9)
    np.testing.assert_array_equal(shapes.Point(3.0).quantiles(SHARES), np.full(57, 3.0))


def test_p5_and_p95_are_where_a_normal_and_a_lognormal_distribution_have_them() -> None:
    for shape in (shapes.Normal.between(-3, 11), shapes.Lognormal(3, 11)):
        assert shape.quantiles(np.array([0.05, 0.95])) == pytest.approx(shape.ends)
        assert [shape.below(end) for end in shape.ends] == pytest.approx([0.05, 0.95])


def test_a_pert_estimate_has_the_mean_that_gives_it_its_name() -> None:
    draws = shapes.Pert(1, 2, 9).quantiles((np.arange(200_000) + 0.5) / 200_000)
    assert draws.mean() == pytest.approx((1 + 4 * 2 + 9) / 6, rel=1e-5)


@given(st.integers(1, 5_000), st.integers(0, 2**32))
def test_strata_have_one_share_in_each_equal_part(draws: int, seed: int) -> None:
    found = shapes.strata(draws, np.random.default_rng(seed))
    assert sorted(np.floor(found * draws).astype(int)) == list(range(draws))


@given(
    st.lists(st.floats(0.01, 1e6), min_size=3, max_size=3, unique=True).map(sorted),
    st.floats(0.0001, 0.9999),
    st.floats(0.0001, 0.9999),
)
def test_quantiles_rise_with_the_share_and_stay_between_the_ends(
    ends: list[float], one: float, other: float
) -> None:
    low, likely, high = ends
    for shape in (
        shapes.Uniform(low, high),
        shapes.Triangular(low, likely, high),
        shapes.Pert(low, likely, high),
    ):
        lower, upper = shape.quantiles(np.array(sorted([one, other])))
        assert low * (1 - 1e-9) <= lower <= upper * (1 + 1e-9)
        assert upper <= high * (1 + 1e-9)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (90, shapes.Point(90)),
        ("90..110", shapes.Uniform(90, 110)),
        ("1_000 .. 2e3", shapes.Uniform(1000, 2000)),
        ({"low": 90, "high": 110}, shapes.Uniform(90, 110)),
        ({"low": 90, "likely": 95, "high": 110}, shapes.Triangular(90, 95, 110)),
        (
            {"low": 90, "likely": 95, "high": 110, "distribution": "pert"},
            shapes.Pert(90, 95, 110),
        ),
        ({"mean": 100, "sd": 5}, shapes.Normal(100, 5)),
        ({"p5": 90, "p95": 110}, shapes.Lognormal(90, 110)),
        ({"p5": 90, "p95": 110, "distribution": "normal"}, shapes.Normal.between(90, 110)),
    ],
)
def test_a_number_is_a_point_or_a_range_of_a_known_distribution(
    written: object, expected: shapes.Distribution
) -> None:
    assert Amount.parse(written).shape == expected


def test_shares_are_written_with_a_per_cent_sign_and_points_never() -> None:
    assert Share.parse("0.5%").shape == shapes.Point(0.005)
    assert Share.parse("10%..20%").shape == shapes.Uniform(0.1, 0.2)
    assert Share.parse({"low": "10%", "high": "20%"}).shape == shapes.Uniform(0.1, 0.2)
    assert Points.parse(3.6).shape == shapes.Point(3.6)
    for wrong in (0.005, 5, "0.1..0.2", {"low": "10%", "high": 20}, True):
        with pytest.raises(ValueError, match="a share written with %"):
            Share.parse(wrong)
    for wrong in ("3.6%", "3%..4%", {"low": "3%", "high": 4}):
        with pytest.raises(ValueError, match="without %"):
            Points.parse(wrong)


def test_a_share_without_a_sign_is_told_both_ways_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"write 0\.4%, or 40% if it is a share of 1"):
        Share.parse(0.4)


def test_draws_of_a_bell_curve_never_leave_what_is_possible() -> None:
    amount = Amount.parse({"mean": 3, "sd": 1})
    assert amount.values(np.array([1e-12, 0.5])) == pytest.approx([0, 3])
    with pytest.raises(ValueError, match=r"of which 2\.3% is outside"):
        Amount.parse({"mean": 2, "sd": 1})
    with pytest.raises(ValueError, match="is outside"):
        Share.parse({"p5": "20%", "p95": "90%"})
    assert Change.parse({"mean": 2, "sd": 1}).shape == shapes.Normal(2, 1)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("110..90", "expected low below high, got 110..90"),
        ({"low": 5, "high": 5}, "expected low below high"),
        ({"low": 1, "likely": 9, "high": 5}, "low, likely, high in rising order"),
        ({"mean": 5, "sd": 0}, "expected sd above 0"),
        ({"p5": 0, "p95": 5}, "expected p5 above 0 and below p95"),
        ({"p5": 1, "p95": 1e7}, "less than a million times apart"),
        ({"low": 1, "sd": 5}, "expected {low, high}"),
        ({"low": 1, "hihg": 5}, "unknown key 'hihg'"),
        ({"low": "x", "high": "y"}, "low: expected a number.*high: expected a number"),
        ({"low": 1, "high": 2, "distribution": "cauchy"}, "expected one of lognormal"),
        ({"low": 1, "high": 2, "distribution": "normal"}, "expected uniform with low, high"),
        (-1, "expected at least 0, got -1"),
        (1e16, "at most 1e[+]15"),
        ("-5..5", "expected at least 0, got -5..5"),
        (None, "got nothing"),
        ([1], "got a list"),
    ],
)
def test_what_is_no_number_is_told_with_what_was_expected(written: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Amount.parse(written)


def test_printed_numbers_keep_how_far_rounding_may_have_moved_them() -> None:
    assert Printed.parse(1800) == Printed(1800, 0.5)
    assert Printed.parse(95.25) == Printed(95.25, 0.005)
    assert PrintedShare.parse("575%") == PrintedShare(5.75, 0.005)
    for wrong in ("575%", "1..2", True, 1e16):
        with pytest.raises(ValueError, match="expected a number"):
            Printed.parse(wrong)
    with pytest.raises(ValueError, match="per cent as they were printed"):
        PrintedShare.parse(5.75)


def test_a_good_case_loads_from_a_file(write: Write) -> None:
    found = load(write(text()))
    assert isinstance(found, CaseFile)
    assert found.currency == "EUR"
    assert found.cases["a"].revenue_share_per_accuracy_point == Share(shapes.Point(0.005))


def test_all_mistakes_are_told_at_once_with_line_and_column() -> None:
    content = text(
        "running_cost_per_year",
        revenue_per_day="{low: 12, high: 11}",
        accuracy_gain_points="3.6%",
        revenue_share_per_accuracy_point="0.005",
        predictions_per_day="-5",
        investment="abc",
    )
    places = [line.split(": ")[0] for line in mistakes(content)]
    assert places == [
        "case.yaml:3:5",  # running_cost_per_year is missing
        "case.yaml:3:22",
        "case.yaml:4:27",
        "case.yaml:5:39",
        "case.yaml:6:26",
        "case.yaml:11:17",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("cases: [", "case.yaml:1:9: no valid YAML"),
        ("", "the file is empty"),
        ("just words", "case.yaml:1:1: expected a mapping with cases, currency"),
        ("cases: {}", "case.yaml:1:8: cases: "),
        (text(invesment="3"), "case.yaml:13:5: cases.a.invesment: unknown key 'invesment'"),
        (text("investment"), "'investment' is missing"),
        (text("latency_increase_ms"), "'latency_increase_ms' is missing: latency_cost_per_day is"),
        (
            text("latency_increase_ms", "cost_per_prediction_and_ms"),
            "'latency_cost_per_day' is missing: give it (0 if there is none), or its factors",
        ),
        (text(latency_cost_per_day="1"), "expected either latency_cost_per_day or its factors"),
        (text("predictions_per_day"), "'predictions_per_day' is missing"),
        (text(investment=".inf"), "case.yaml:11:17: cases.a.investment: expected a finite number"),
        (text(investment="{low: .nan, high: 3}"), "case.yaml:11:23"),
        (text(risks="[{name: x, probability_share_per_year: 0.1, loss: 3}]"), "written with %"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content: str, told: str) -> None:
    found = mistakes(content)
    assert any(told in line for line in found), found


def test_a_missing_file_and_one_that_is_no_text_are_told(tmp_path: Path, write: Write) -> None:
    with pytest.raises(SettingsError, match="cannot read the file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="expected UTF-8"):
        load(write(b"cases: \xff"))


def test_predictions_that_nothing_uses_and_risks_of_one_name_are_mistakes() -> None:
    unused = text(
        "latency_increase_ms",
        "cost_per_prediction_and_ms",
        "error_rate_decrease_points",
        "cost_per_error",
        latency_cost_per_day="0",
        risk_reduction_per_day="0",
        risks="[{name: x, probability_share_per_year: 1%, loss: 3},"
        " {name: x, probability_share_per_year: 1%, loss: 3}]",
    )
    found = "\n".join(mistakes(unused))
    assert "predictions_per_day: nothing uses it" in found
    assert "expected another name for each risk, got 'x'" in found


def test_points_that_look_like_a_share_are_doubted() -> None:
    case = loads(text(accuracy_gain_points="0.036"), "case.yaml").cases["a"]
    (doubt,) = doubts(case)
    assert doubt.startswith("accuracy_gain_points is only 0.036 of a percentage point")
    assert doubt.endswith("a share of 0.036 would be 3.6 points")
    assert list(doubts(loads(text(), "case.yaml").cases["a"])) == []
