import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmonitor.ranking.assumed import Assumed, assumed, parse
from metrics.assumptions import QRange, Range
from metrics.experiment import Profitability


NOTHING: dict[str, Any] = {
    "reference_precision": None,
    "assumed_roi": None,
    "q": None,
    "unit_revenue": None,
    "unit_cost": None,
}


def told(**options: str) -> Assumed:
    return assumed(**(NOTHING | options))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12%", Range(0.12, 0.12)),
        (" 12 % ", Range(0.12, 0.12)),
        ("0", Range(0.0, 0.0)),
        ("-0.3", Range(-0.3, -0.3)),
        ("+5%", Range(0.05, 0.05)),
        ("10%..20%", Range(0.1, 0.2)),
        ("10 % .. 20 %", Range(0.1, 0.2)),
        ("0.1..0.2", Range(0.1, 0.2)),
        (".1...2", Range(0.1, 0.2)),
        ("-30%..100%", Range(-0.3, 1.0)),
        ("0..10%", Range(0.0, 0.1)),
        ("-10%..0", Range(-0.1, 0.0)),
        (">=10", Range(10.0, None)),
        (">= 10%", Range(0.1, None)),
        ("≥10", Range(10.0, None)),
        ("<=0.2", Range(None, 0.2)),
        ("10..", Range(10.0, None)),
        ("..10%", Range(None, 0.1)),
        ("1e-3", Range(0.001, 0.001)),
    ],
)
def test_numbers_shares_and_ranges_are_read_as_people_write_them(
    text: str, expected: Range
) -> None:
    assert parse("--assumed-roi", text, percent=True) == expected


@given(st.decimals(-999, 999, places=4))
def test_a_per_cent_sign_is_exactly_a_hundredth(number: Any) -> None:
    found = parse("--assumed-roi", f"{number}%", percent=True)
    assert found == Range.point(float(number / 100))


@pytest.mark.parametrize(
    ("text", "percent", "message"),
    [
        ("", True, "--x: expected a number or a share such as 0.12 or 12%.*; got ''"),
        ("ten", True, "; got 'ten'"),
        ("nan", True, "; got 'nan'"),
        ("inf", True, "; got 'inf'"),
        ("10%%", True, "; got '10%%'"),
        ("1_0", True, "; got '1_0'"),
        ("1..2..3", True, r"; got '1\.\.2\.\.3'"),
        (">10", True, "; got '>10'"),
        (">=10..20", True, r"; got '>=10\.\.20'"),
        ("10..20%", True, "both ends with % or both without, got '10..20%'"),
        ("20..10", True, r"expected --x to rise from low to high, got 20\.\.10"),
        ("..", True, "expected --x to have at least one end"),
        ("1e99999999999999999999%", True, "--x: expected a finite number"),
        ("1e999", True, "ends of --x to be finite"),
        ("10%", False, "expected a number such as 12.*; got '10%'"),
    ],
)
def test_what_is_no_number_is_repeated_with_what_was_expected(
    text: str, percent: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse("--x", text, percent=percent)


@pytest.mark.parametrize(
    ("options", "expected", "q"),
    [
        ({"q": "12"}, QRange(12, 12), 12),
        ({"q": ">=10"}, QRange(10, None), None),
        ({"q": "<=3"}, QRange(None, 3, clipped=True), None),
        ({"unit_revenue": "100", "unit_cost": "20"}, QRange(5, 5), 5),
        ({"unit_revenue": "90..110", "unit_cost": "10"}, QRange(9, 11), None),
        ({"reference_precision": "10%", "assumed_roi": "0"}, QRange(10, 10), 10),
        ({"reference_precision": "10%..20%", "assumed_roi": "0%..50%"}, QRange(5, 15), None),
        ({"reference_precision": "50%", "assumed_roi": "0", "unit_revenue": "9"}, QRange(2, 2), 2),
        ({"q": "4", "unit_revenue": "9..10"}, QRange(4, 4), 4),
    ],
)
def test_each_of_the_three_ways_gives_q(
    options: dict[str, str], expected: QRange, q: float | None
) -> None:
    found = told(**options)
    assert found.range == expected
    assert found.q == q
    assert (found.clipped is not None) == expected.clipped


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({}, "none"),
        ({"reference_precision": "10%"}, "--reference-precision"),
        ({"assumed_roi": "0"}, "--assumed-roi"),
        ({"unit_revenue": "1"}, "--unit-revenue"),
        ({"unit_cost": "1"}, "--unit-cost"),
        ({"q": "2", "unit_cost": "1"}, "--q and --unit-cost"),
        ({"q": "2", "assumed_roi": "0"}, "--assumed-roi and --q"),
        (
            {"q": "2", "unit_revenue": "3", "unit_cost": "1"},
            "--q and --unit-revenue and --unit-cost",
        ),
    ],
)
def test_none_or_several_ways_are_refused(options: dict[str, str], got: str) -> None:
    with pytest.raises(ValueError, match=f"expected exactly one of: .*; got {got}$"):
        told(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference_precision": "12", "assumed_roi": "0"}, "got 12; write 12% if it is per cent"),
        ({"reference_precision": "120%", "assumed_roi": "0"}, r"in \(0, 1\], got 1.2$"),
        ({"reference_precision": "0", "assumed_roi": "0"}, "reference precision .* got 0"),
        ({"reference_precision": "0.5", "assumed_roi": "-100%"}, "above -1, got -1"),
        ({"q": "1"}, "q must be above 1"),
        ({"q": "5", "unit_revenue": "0"}, "unit revenue to be above 0, got 0"),
        ({"unit_revenue": "5", "unit_cost": "10"}, "q must be above 1 .* got at most 0.5"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        told(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"q": "7"},
        {"unit_revenue": "100", "unit_cost": "12.5"},
        {"reference_precision": "2.78565%", "assumed_roi": "-10%"},
        {"reference_precision": "12%", "assumed_roi": "30%", "unit_revenue": "9"},
    ],
)
def test_settings_say_the_same_as_the_options(options: dict[str, str]) -> None:
    found = told(**options)
    written = msgspec.convert(found.settings(), Profitability)
    assert written.unit_profitability == found.q


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"q": ">=7"}, "q"),
        ({"unit_revenue": "90..110", "unit_cost": "10"}, "unit_revenue"),
        ({"reference_precision": "10%", "assumed_roi": "0..10%"}, "assumed_roi"),
    ],
)
def test_a_range_is_nothing_for_settings(options: dict[str, str], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected one number"):
        told(**options).settings()


@given(st.floats(1.01, 1e6), st.floats(1, 100))
def test_the_central_q_is_in_the_middle_of_k(low: float, factor: float) -> None:
    found = told(q=f"{low!r}..{low * factor!r}")
    k_low, k_high = found.range.k
    assert 1 / (found.central - 1) == pytest.approx((k_low + k_high) / 2, rel=1e-6)
    assert low * (1 - 1e-9) <= found.central <= low * factor * (1 + 1e-9)


@pytest.mark.parametrize("text", ["2", ">=3", "<=3", "0.5..3", ">=0.5"])
def test_the_central_q_lies_within_the_range(text: str) -> None:
    found = told(q=text)
    assert math.isfinite(found.central)
    assert (found.range.low or 1) <= found.central <= (found.range.high or math.inf)
    assert found.central > 1
