from typing import Any

import pytest
from support.eventfiles import SETTINGS
from support.views import settings_of

from abmonitor.checks import check
from abmonitor.plans import line


RAP = "{metric: rap, test: sequential, margin: 0.1, detect: 0.1}"
EXPECTED = "expected: {positive_rate: 0.05, recall: 0.6, false_alarm_rate: 0.1}"
RATE = "predictions_per_second: 10"


def told(*guardrails: str, declared: tuple[str, ...] = (EXPECTED, RATE)) -> dict[str, Any]:
    """The report on experiment `offers` with sequential `guardrails`."""
    head = SETTINGS[: SETTINGS.index("    guardrails")]
    lines = [*declared, "guardrails:", *(f"  - {each}" for each in guardrails)]
    text = head + "".join(f"    {each}\n" for each in lines)
    report: dict[str, Any] = check(settings_of(text))["experiments"]["offers"]
    return report


def the_plan(report: dict[str, Any]) -> dict[str, Any]:
    plan: dict[str, Any]
    (plan,) = report["plans"]
    return plan


def about(count: int) -> str:
    return f"{float(f'{count:.3g}'):,.0f}"


def test_each_sequential_guardrail_is_planned_for_each_treatment() -> None:
    threshold = "{metric: error_rate, window: 5m, max: 0.2}"
    errors = "{metric: error_rate, test: sequential, relative_margin: 0.2, weight: 3}"
    plans = told(RAP, threshold, errors)["plans"]
    found = [(plan["guardrail"], plan["treatment"], plan["alpha"]) for plan in plans]
    assert found == [
        ("rap:sequential", "new", pytest.approx(0.0125)),
        ("error_rate:sequential", "new", pytest.approx(0.0375)),
    ]


def test_days_follow_from_the_rate_and_the_wait_for_labels() -> None:
    plan = the_plan(told(RAP))
    wait = 15 / (24 * 60)
    for what in ("detect", "pass"):
        for case in ("p50", "p80"):
            both = plan[f"predictions_to_{what}"][case]
            assert plan[f"treatment_predictions_to_{what}"][case] == pytest.approx(both / 2, abs=1)
            lasting = both / (10 * 86_400) + wait
            least = 1.0 if what == "pass" else 0.0  # testing.min_duration
            assert plan[f"days_to_{what}"][case] == pytest.approx(max(lasting, least))
    assert plan["effect"] == 0.1
    assert plan["effect_from"] == "detect"
    assert plan["note"] is None


def test_only_the_traffic_of_the_two_counts_and_only_after_the_ramp() -> None:
    ramp = "ramp: [{at: '2030-01-01T00:00:00Z', variants: {old: 0.1, new: 0.1, other: 0.8}}]"
    head = SETTINGS[: SETTINGS.index("    guardrails")]
    head = head.replace("{old: 0.5, new: 0.5}", "{old: 0.9, new: 0.05, other: 0.05}")
    text = head + f"    {ramp}\n    {EXPECTED}\n    {RATE}\n    guardrails:\n      - {RAP}\n"
    plans = check(settings_of(text))["experiments"]["offers"]["plans"]
    new, other = plans
    alone = the_plan(told(RAP))
    assert new["predictions_to_detect"] == alone["predictions_to_detect"]
    both = new["predictions_to_detect"]["p80"]
    assert new["days_to_detect"]["p80"] == pytest.approx(both / (0.2 * 10 * 86_400) + 15 / 1440)
    ours, all_ = (other[f"{whose}predictions_to_detect"]["p80"] for whose in ("treatment_", ""))
    assert ours == pytest.approx(all_ * 8 / 9, abs=1)


def test_a_warm_up_comes_before_what_is_counted_at_arrival() -> None:
    errors = "{metric: error_rate, test: sequential, margin: 0.01, detect: 0.01}"
    cold, warm = (
        the_plan(told(text))["days_to_detect"]["p80"]
        for text in (errors, errors.replace("}", ", warm_up: 12h}"))
    )
    assert warm == pytest.approx(cold + 0.5)


def test_without_what_is_expected_nothing_is_told_but_what_to_declare() -> None:
    report = told(RAP, RAP.replace("rap", "recall"), declared=())
    for plan in report["plans"]:
        assert plan["effect"] is None
        for what in ("predictions_to_detect", "days_to_detect", "predictions_to_pass"):
            assert plan[what] == {"p50": None, "p80": None}
    asked = [each for each in report["warnings"] if "how long sequential" in each]
    assert len(asked) == 1
    assert "declare expected: {positive_rate: ...}" in asked[0]
    assert "predictions_per_second" in asked[0]


def test_without_a_rate_there_are_predictions_and_no_days() -> None:
    report = told(RAP, declared=(EXPECTED,))
    plan = the_plan(report)
    assert plan["predictions_to_detect"]["p80"] > 0
    assert plan["days_to_detect"] == plan["days_to_pass"] == {"p50": None, "p80": None}
    assert any("how many days tests take" in each for each in report["warnings"])
    assert " days" not in line(plan)
    assert " hours" not in line(plan)


def test_no_margin_is_said_never_to_pass() -> None:
    plan = the_plan(told("{metric: rap, test: sequential, detect: 0.1}"))
    assert plan["predictions_to_pass"] == {"p50": None, "p80": None}
    assert "never: an equal treatment cannot be proven to be better; give a margin" in line(plan)


def test_without_detect_the_harm_that_is_planned_for_is_told_as_such() -> None:
    plan = the_plan(told("{metric: rap, test: sequential, margin: 0.1}"))
    assert plan["effect_from"] == "planned"
    assert plan["predictions_to_detect"]["p80"] == pytest.approx(20_000, rel=1e-3)
    assert "no detect is declared: this is the harm that 10,000 predictions an arm find" in line(
        plan
    )


def test_harm_that_is_too_large_to_happen_is_told() -> None:
    plan = the_plan(told("{metric: recall, test: sequential, margin: 0.1, detect: 0.9}"))
    assert "never found: the control is not expected to have that much to lose" in line(plan)


@pytest.mark.parametrize(
    ("guardrail", "testing", "warning"),
    [
        (
            RAP,
            "{min_duration: 1h, max_duration: 1h}",
            "rap:sequential, new: finding that harm takes",
        ),
        (
            RAP,
            "{min_duration: 1h, max_duration: 1h}",
            "rap:sequential, new: passing an equal treatment takes",
        ),
        (RAP.replace("detect: 0.1", "detect: 0.02"), "{}", "passes after"),
        (RAP.replace(", detect: 0.1", ""), "{planned: 100}", "planned is 100 predictions an arm"),
        (RAP.replace(", detect: 0.1", ""), "{planned: 1e6}", "planned is 1,000,000 predictions"),
    ],
)
def test_plans_that_are_not_as_meant_are_warned_of(
    guardrail: str, testing: str, warning: str
) -> None:
    report = told(guardrail, declared=(EXPECTED, RATE, f"testing: {testing}"))
    assert any(warning in each for each in report["warnings"])


def test_a_plan_that_fits_is_not_warned_of() -> None:
    declared = (EXPECTED, RATE, "testing: {max_duration: 14d}")
    fitting = "{metric: rap, test: sequential, margin: 0.05, detect: 0.15}"
    assert told(fitting, declared=declared)["warnings"] == []


def test_the_line_of_a_plan_has_predictions_days_and_cases() -> None:
    plan = the_plan(told(RAP))
    text = line(plan)
    assert text.startswith("rap:sequential, new: harm of 0.1 beyond the margin is found after ")
    for what in ("predictions_to_detect", "treatment_predictions_to_detect", "predictions_to_pass"):
        assert about(plan[what]["p80"]) in text
    assert f"{plan['days_to_detect']['p80'] * 24:.1f} hours) in 80 % of the cases" in text
    assert "an equal treatment passes after" in text


def test_explored_labels_cannot_be_planned_and_say_so() -> None:
    text = SETTINGS[: SETTINGS.index("    guardrails")].replace(
        "observed: all", "observed: explored"
    )
    text += f"    {EXPECTED}\n    {RATE}\n    guardrails:\n      - {RAP}\n"
    (plan,) = check(settings_of(text))["experiments"]["offers"]["plans"]
    assert plan["note"] == "no plan: the weights of explored predictions are not declared"


def test_a_treatment_without_traffic_at_the_end_cannot_be_planned() -> None:
    ramp = "ramp: [{at: '2030-01-01T00:00:00Z', variants: {old: 1, new: 0}}]"
    plan = the_plan(told(RAP, declared=(EXPECTED, RATE, ramp)))
    assert plan["predictions_to_detect"] == {"p50": None, "p80": None}
    assert "one of the two gets no traffic" in plan["note"]
