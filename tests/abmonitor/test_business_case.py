import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from abmonitor.business.calculate import RESULTS, Calculated, calculate, drawn
from abmonitor.business.case import Case, PrintedResults, example, loads
from abmonitor.business.check import check
from abmonitor.business.report import TITLES, chance
from abmonitor.cli import business_case, main


RANGES = """\
cases:
  wide:
    revenue_gain_per_day: {low: 800, likely: 1000, high: 1500}
    latency_cost_per_day: 40..60
    risk_reduction_per_day: {mean: 100, sd: 200}
    investment: 200_000..400_000
    running_cost_per_year: {p5: 20_000, p95: 90_000}
    days_earlier: 20..40
    risks:
      - {name: "leak [bold]", probability_share_per_year: 1%..3%, loss: 200_000..900_000}
"""


def case(**different: str) -> Case:
    inputs = {
        "revenue_gain_per_day": "1000",
        "latency_cost_per_day": "50",
        "risk_reduction_per_day": "100",
        "investment": "300_000",
        "running_cost_per_year": "50_000",
    } | different
    text = "".join(f"    {name}: {value}\n" for name, value in inputs.items())
    return loads(f"cases:\n  a:\n{text}", "case.yaml").cases["a"]


def worked_out(given_case: Case, draws: int = 20_000, seed: int = 1) -> Calculated:
    return calculate(given_case, draws, seed)


def abmonitor(*arguments: object) -> Any:
    app = typer.Typer()
    business_case.register(app)
    app.command("other")(lambda: None)  # so that there are several commands, as in the real one
    return CliRunner().invoke(
        app, ["business-case", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"}
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "case.yaml"
    path.write_text(example())
    return path


@pytest.fixture
def ranges(tmp_path: Path) -> Path:
    path = tmp_path / "ranges.yaml"
    path.write_text(RANGES)
    return path


def test_the_example_is_worked_out_as_by_hand() -> None:
    cases = loads(example(), "example.yaml").cases
    expected: dict[str, dict[str, float]] = {
        "as-printed": {
            "revenue_gain_per_day": 1_800,
            "latency_cost_per_day": 95,
            "risk_reduction_per_day": 100,
            "net_per_day": 1_805,
            "benefit_per_year": 658_825,
            "net_per_year": 605_825,
            "first_year_net": 527_825,
            "first_year_roi": 527_825 / 78_000,
            "ongoing_roi": 605_825 / 53_000,
            "payback_days": 78_000 / (605_825 / 365),
        },
        "consistent-units": {
            "revenue_gain_per_day": 180_000,
            "latency_cost_per_day": 95,
            "risk_reduction_per_day": 100_000,
            "net_per_day": 279_905,
            "benefit_per_year": 102_165_325,
            "first_year_roi": (102_165_325 - 53_000 - 78_000) / 78_000,
        },
    }
    for name, results in expected.items():
        found = worked_out(cases[name])
        assert found.exact
        for result, value in results.items():
            each = found.results[result]
            assert each.likely == pytest.approx(value, rel=1e-12), result
            assert each.p5 == each.p50 == each.p95 == each.likely
    assert round(expected["as-printed"]["first_year_roi"] * 100, 1) == 676.7


def test_the_example_contradicts_its_formulas_where_each_number_arose() -> None:
    cases = loads(example(), "example.yaml").cases
    wrong = {
        name: [each.result for each in check(declared, 1_000, 1) if each.contradicts]
        for name, declared in cases.items()
    }
    assert wrong == {
        "as-printed": ["first_year_roi"],
        "consistent-units": ["revenue_gain_per_day", "risk_reduction_per_day", "first_year_roi"],
    }
    by_name = {each.result: each for each in check(cases["consistent-units"], 1_000, 1)}
    assert by_name["benefit_per_year"].by_formula.likely == 658_825
    assert by_name["benefit_per_year"].from_inputs.likely == pytest.approx(102_165_325)


def test_risks_and_an_earlier_start_count_as_the_formulas_say() -> None:
    found = worked_out(
        case(
            days_earlier="30",
            risks="[{name: a, probability_share_per_year: 2%, loss: 500_000},"
            " {name: b, probability_share_per_year: 10%, loss: 20_000}]",
        )
    )
    later = 365 * 1_050 - 10_000 - 2_000 - 50_000
    assert found.losses["a"].likely == pytest.approx(10_000)
    assert found.results["expected_loss_per_year"].likely == pytest.approx(12_000)
    assert found.results["net_per_year"].likely == pytest.approx(later)
    assert found.results["first_year_net"].likely == pytest.approx(later - 300_000)
    assert found.results["ongoing_roi"].likely == pytest.approx(later / 50_000)
    assert found.results["first_year_roi"].likely == pytest.approx((later - 300_000) / 300_000)
    assert found.results["time_to_market_value"].likely == pytest.approx(later / 365 * 30)


def test_what_is_not_known_is_none_and_never_0() -> None:
    found = worked_out(case(investment="0", running_cost_per_year="0", revenue_gain_per_day="-500"))
    for result in ("first_year_roi", "ongoing_roi", "payback_days", "time_to_market_value"):
        assert found.results[result].likely is None
        assert found.results[result].p50 is None
    assert found.chance_net_positive == 0
    assert found.chance_payback_within_year == 0


def test_a_sum_of_normal_inputs_has_the_spread_that_statistics_gives_it() -> None:
    declared = case(
        revenue_gain_per_day="{mean: 1000, sd: 300}",
        latency_cost_per_day="{mean: 50, sd: 20}",
        risk_reduction_per_day="{mean: 100, sd: 150}",
    )
    found = worked_out(declared, draws=200_000)
    sd = 365 * math.sqrt(300**2 + 20**2 + 150**2)
    net = NormalDist(365 * 1_050 - 50_000, sd)
    for share, value in zip((0.05, 0.5, 0.95), _ends(found, "net_per_year"), strict=True):
        assert value == pytest.approx(net.inv_cdf(share), abs=0.01 * sd)
    assert found.chance_net_positive == pytest.approx(1 - net.cdf(0), abs=0.003)
    assert found.chance_payback_within_year == pytest.approx(1 - net.cdf(300_000), abs=0.005)


def _ends(found: Calculated, name: str) -> list[float]:
    each = found.results[name]
    assert each.p5 is not None
    assert each.p50 is not None
    assert each.p95 is not None
    return [each.p5, each.p50, each.p95]


def test_one_uniform_input_gives_the_quantiles_of_a_line() -> None:
    found = worked_out(case(investment="200_000..400_000"))
    net = 365 * 1_050 - 50_000
    expected = [net - (400_000 - share * 200_000) for share in (0.05, 0.5, 0.95)]
    assert _ends(found, "first_year_net") == pytest.approx(expected, abs=30)
    assert found.chance_payback_within_year == pytest.approx((net - 200_000) / 200_000, abs=1e-4)


def test_a_payback_that_may_never_come_has_no_p95() -> None:
    found = worked_out(case(revenue_gain_per_day="{mean: 300, sd: 300}"))
    payback = found.results["payback_days"]
    assert payback.p5 is not None
    assert payback.p95 is None
    assert 0.1 < found.chance_net_positive < 0.9


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    declared = loads(RANGES, "case.yaml").cases["wide"]
    assert worked_out(declared, seed=3) == worked_out(declared, seed=3)
    assert worked_out(declared, seed=3).results != worked_out(declared, seed=4).results


def test_an_input_that_changes_nothing_else_does_not_change_the_draws() -> None:
    one = worked_out(case(investment="200_000..400_000"))
    other = worked_out(case(investment="200_000..400_000", days_earlier="20..40"))
    assert one.results["first_year_net"] == other.results["first_year_net"]


def test_the_input_that_moves_the_net_most_comes_first() -> None:
    found = worked_out(
        case(
            revenue_gain_per_day="900..1_100",
            investment="200_000..400_000",
            latency_cost_per_day="{mean: 50, sd: 10}",
        )
    )
    net = 365 * 1_050 - 350_000
    assert [swing.name for swing in found.swings] == [
        "investment",
        "revenue_gain_per_day",
        "latency_cost_per_day",
    ]
    assert found.swings[0].net_at_low == pytest.approx(net + 100_000)
    assert found.swings[0].net_at_high == pytest.approx(net - 100_000)
    assert found.swings[1].net_at_high == pytest.approx(net + 36_500)
    assert found.swings[2].high == pytest.approx(NormalDist(50, 10).inv_cdf(0.95))
    assert found.swings[2].net_at_high == pytest.approx(net - 365 * (found.swings[2].high - 50))


@settings(max_examples=40)
@given(
    st.integers(-2_000, 2_000),
    st.integers(1, 3_000),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 1_000),
)
def test_quantiles_are_in_order_and_money_may_be_counted_in_cents(
    low: int, width: int, investment: int, running: int, seed: int
) -> None:
    def scaled(factor: int) -> Calculated:
        return calculate(
            case(
                revenue_gain_per_day=f"{low * factor}..{(low + width) * factor}",
                latency_cost_per_day="0",
                risk_reduction_per_day="0",
                investment=str(investment * factor),
                running_cost_per_year=f"{running * factor}..{(running + 1) * factor}",
            ),
            1_000,
            seed,
        )

    one, hundred = scaled(1), scaled(100)
    for name in RESULTS:
        ends = [e for e in (getattr(one.results[name], p) for p in ("p5", "p50", "p95")) if e]
        assert ends == sorted(ends)
    assert one.chance_net_positive == pytest.approx(hundred.chance_net_positive, abs=0.002)
    for name, factor in (("net_per_year", 100), ("first_year_roi", 1), ("payback_days", 1)):
        mine, other = one.results[name].p5, hundred.results[name].p5
        if mine is None or other is None:
            assert mine == other
        else:
            assert other == pytest.approx(mine * factor, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(
    ("printed", "agrees"),
    [("383250", True), ("383251", False), ("383250.0", True), ("383249.94", False)],
)
def test_a_printed_number_agrees_if_the_computed_one_rounds_to_it(
    printed: str, agrees: bool
) -> None:
    (found,) = check(case(printed=f"{{benefit_per_year: {printed}}}"), 1_000, 1)
    assert found.contradicts is not agrees


def test_a_printed_number_agrees_with_a_range_that_it_lies_in() -> None:
    for printed, agrees in (("80_000", True), ("-70_000", False), ("140_000", False)):
        declared = case(investment="200_000..400_000", printed=f"{{first_year_net: {printed}}}")
        (found,) = check(declared, 10_000, 1)
        assert found.contradicts is not agrees


def test_what_cannot_be_known_agrees_with_no_printed_number() -> None:
    (found,) = check(case(investment="0", printed="{first_year_roi: 100%}"), 1_000, 1)
    assert found.contradicts


def test_every_result_can_be_printed_and_has_a_title() -> None:
    assert tuple(TITLES) == RESULTS == PrintedResults.__struct_fields__


def test_chances_are_neither_never_nor_always() -> None:
    assert [chance(each) for each in (0.0, 0.5, 1.0)] == ["< 1 %", "50 %", "> 99 %"]


def test_the_command_prints_an_example_that_it_can_work_out(written: Path) -> None:
    assert abmonitor("--example").stdout == example()
    found = abmonitor(written)
    assert found.exit_code == 0
    for told in ("as-printed", "658,825", "676.7 %", "1,143.1 %", "102,165,325", "Not discounted"):
        assert told in found.stdout


def test_a_case_without_ranges_says_whether_the_first_year_pays(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    for investment, told in (
        (78_000, ["yes", "yes"]),
        (605_800, ["yes", "yes"]),
        (605_900, ["no", "yes"]),
    ):
        path.write_text(example().replace("investment: 78_000", f"investment: {investment}"))
        (line,) = [
            line for line in abmonitor(path).stdout.splitlines() if line.startswith("back within")
        ]
        assert line.split()[4:] == told


def test_the_tables_fit_80_columns_and_have_no_digits_that_are_not_known(ranges: Path) -> None:
    found = abmonitor(ranges)
    assert found.exit_code == 0
    assert all(len(line) <= 80 for line in found.stdout.splitlines())
    assert "leak [bold]: loss" in found.stdout
    assert "no correlation" in found.stdout
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("net of a later year")]
    digits = [cell.strip("-0").replace(",", "").rstrip("0") for cell in line.split()[-4:]]
    assert all(1 <= len(each) <= 2 for each in digits)


def test_json_is_one_document_in_full_precision(ranges: Path) -> None:
    found = json.loads(abmonitor(ranges, "--json", "--draws", 5_000, "--seed", 7).stdout)
    assert (found["draws"], found["seed"], found["correlation"]) == (5_000, 7, "none")
    wide = found["cases"]["wide"]
    assert set(wide["results"]) == set(RESULTS)
    expected = worked_out(loads(RANGES, "x").cases["wide"], 5_000, 7)
    assert wide["results"]["net_per_year"]["p50"] == expected.results["net_per_year"].p50
    assert wide["chances"]["net_positive"] == expected.chance_net_positive
    assert len(wide["tornado"]) == 8


def test_checking_ends_with_status_1_where_anything_contradicts(
    written: Path, tmp_path: Path
) -> None:
    found = abmonitor(written, "--check")
    assert found.exit_code == 1
    assert "4 contradictions" in found.stdout
    as_json = abmonitor(written, "--check", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["contradictions"] == 4
    mended = tmp_path / "mended.yaml"
    text = example().replace("575%", "676.7%").replace("printed: *printed", "")
    mended.write_text(text)
    found = abmonitor(mended, "--check")
    assert (found.exit_code, "0 contradictions" in found.stdout) == (0, True)


def test_wrong_usage_ends_with_status_2_and_says_what_to_do(ranges: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("cases: {a: {investment: -3}}")
    for arguments, told in (
        ((), "--example > case.yaml"),
        ((ranges, "--check"), "no case declares `printed`"),
        ((ranges, "--example"), "expected no CASE.yaml"),
        ((bad,), f"{bad}:1:25: cases.a.investment: expected at least 0, got -3"),
        ((tmp_path / "none.yaml",), "cannot read the file"),
    ):
        found = abmonitor(*arguments)
        assert found.exit_code == 2
        assert told in found.stderr
        assert found.stdout == ""


def test_the_command_is_one_of_the_program() -> None:
    assert "business-case" in CliRunner().invoke(main.app, ["--help"], env={"COLUMNS": "80"}).stdout


def test_draws_stay_what_is_possible() -> None:
    inputs = drawn(loads(RANGES, "x").cases["wide"], 10_000, 1)
    assert all(np.isfinite(values).all() for values in inputs.values())
    assert inputs["investment"].min() >= 200_000
    assert inputs["leak [bold]: probability"].max() <= 0.03
