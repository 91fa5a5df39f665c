import io
from collections.abc import Iterable

import pytest
from rich.console import Console
from support.eventfiles import (
    DAY,
    GRACE,
    HORIZON,
    HOUR,
    MINUTE,
    SECOND,
    SETTINGS,
    START,
    Event,
    by_time,
    outcome,
    prediction,
    shuffled,
    traffic,
)
from support.views import replayed, settings_of

from abmonitor.checks import check, hints
from abmonitor.summary import check_table


def told(events: Iterable[Event | bytes], *, complete: bool = False) -> str:
    """All hints about a replay of `events`."""
    settings = settings_of()
    return "\n".join(hints(replayed(events, settings, complete=complete), settings))


def test_good_events_need_no_hint_but_the_join_rate() -> None:
    assert told(traffic(1_000)) == "join rate: 100.0% of the outcomes met their prediction in time"


@pytest.mark.parametrize("events", [[], [b"", b" \r"]])
def test_empty_files_are_said_to_be_empty(events: list[bytes]) -> None:
    assert told(events) == "no events: the files are empty"


def test_records_that_cannot_be_used_are_told_by_reason_with_examples() -> None:
    text = told([*traffic(10), *[b"{"] * 1_500, prediction("x", START, "newer")])
    assert "rejected, malformed_json: 1,500\n" in text
    assert text.count("Input data was truncated") == 3
    assert "  and 1,497 more" in text
    assert "rejected, unknown_variant: 1\n" in text
    assert "variant 'newer'; expected one of old, new" in text


def test_an_experiment_that_is_not_configured_is_named() -> None:
    text = told([prediction(f"p{n}", START + n, experiment="offer") for n in range(7)])
    assert (
        "ignored, because their experiment (offer) is not configured: 7; configured: offers" in text
    )


def test_outcomes_that_are_missing_altogether_are_told() -> None:
    text = told([event for event in traffic(50) if event["type"] == "prediction"])
    assert "there are no outcomes, so no label can become final" in text


def test_a_low_join_rate_leads_to_its_causes() -> None:
    strange = [outcome(f"strange-{n}", START) for n in range(40)]
    text = told([*strange, *traffic(50)])
    assert "join rate: 55.6%" in text
    assert "outcomes that found no prediction: 40; check that both carry the same" in text
    assert "early_for (10m: how long" in text
    assert "too late" not in text


def test_late_outcomes_lead_to_horizon_and_grace() -> None:
    late = [prediction(f"late-{n}", START) for n in range(40)]
    late += [outcome(f"late-{n}", START + HORIZON + SECOND) for n in range(40)]
    text = told(by_time([*traffic(50), *late]))
    assert "outcomes that came too late: 40; check horizon and grace (offers: 10m + 5m)" in text
    assert "found no prediction" not in text


def test_disorder_beyond_grace_is_told_and_within_it_is_not() -> None:
    events = traffic(800, gap=5 * SECOND)
    assert "stand behind" not in told(shuffled(events, GRACE, 1))
    grouped = sorted(events, key=lambda event: str(event["type"]), reverse=True)
    assert "pass them as two files" in told(grouped)


def test_events_sorted_newest_first_are_told_to_be_turned_round() -> None:
    events = traffic(400, gap=10 * MINUTE)
    assert "sort the events by time, oldest first" in told(reversed(events))


def test_times_in_seconds_are_recognised() -> None:
    events = traffic(50)
    for event in events:
        event["time"] //= 1000
    assert "are they seconds? Map them with `unit: s`" in told(events)


def test_events_without_a_time_are_told() -> None:
    events = traffic(50)
    for event in events:
        del event["time"]
    text = told(events)
    assert "events without `time`: 100; they are taken to be as old as the event before" in text
    assert "seconds" not in text


def test_labels_that_stop_are_told_with_when() -> None:
    cut = START + 20 * MINUTE
    events = [e for e in traffic(4_000) if e["type"] == "prediction" or e["time"] < cut]
    text = told(events)
    assert "offers: no outcomes in the last 46m39s of the events" in text
    assert "not taken for negative" in text


def test_labels_that_are_not_final_yet_are_explained() -> None:
    events = traffic(100)
    assert "offers: no label is final yet: that takes 15m" in told(events)
    assert "no label is final yet" not in told(events, complete=True)


def test_a_variant_without_predictions_is_told() -> None:
    events = [event | {"variant": "old"} if "variant" in event else event for event in traffic(100)]
    assert "offers: no predictions of new" in told(events)


# --- settings -------------------------------------------------------------------------------------


def test_needs_follow_from_rate_horizon_and_cohort() -> None:
    text = SETTINGS.replace("    labels", "    predictions_per_second: 50\n    labels")
    report = check(settings_of(text))["experiments"]["offers"]
    assert report["label_final_after"] == "15m"
    assert report["id_remembered_for"] == "1h15m"
    assert report["predictions_remembered"] == 50 * 75 * 60
    assert report["redis_bytes_join_state"] == 120 * 50 * 75 * 60
    fine, coarse, mature = 2 * HOUR // 10_000, 8 * DAY // (10 * MINUTE), 90 * DAY // MINUTE
    ledgers = 2 * ((fine + coarse) * 2_500 + mature * 1_100)
    assert report["redis_bytes_ledgers_90_days"] == ledgers
    assert report["unit_profitability"] == 3
    assert report["warnings"] == []


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("offers", "offers", "no predictions_per_second"),
        ("    profitability: {unit_revenue: 60, unit_cost: 20}\n", "", "no profitability"),
        (
            "    control",
            "    randomised_by: unit\n    control",
            "variances of metrics on labels are those between units",
        ),
        (
            "{metric: error_rate, window: 5m, max: 0.2, min_count: 20, consecutive: 2}",
            "{metric: rap, test: sequential, margin: 0.02}",
            "how long sequential guardrails take cannot be told; declare expected: {positive_rate",
        ),
    ],
)
def test_what_is_worth_knowing_is_warned_of(old: str, new: str, warning: str) -> None:
    text = SETTINGS.replace(old, new)
    if warning == "no profitability":
        text = text[: text.index("      - {metric: profit")]
    warnings = check(settings_of(text))["experiments"]["offers"]["warnings"]
    assert any(warning in each for each in warnings)


def test_advice_is_given_once_and_not_for_each_guardrail() -> None:
    text = SETTINGS.replace(
        "guardrails:",
        "guardrails:\n"
        "      - {metric: rap, test: sequential, margin: 0.05, detect: 0.2}\n"
        "      - {metric: error_rate, test: sequential, relative_margin: 0.2}",
    )
    report = check(settings_of(text))
    assert len(report["experiments"]["offers"]["plans"]) > 1
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(check_table(report))
    assert console.export_text().count("declare expected") == 1


def test_an_experiment_without_guardrails_is_warned_of() -> None:
    text = SETTINGS[: SETTINGS.index("    guardrails")]
    warnings = check(settings_of(text))["experiments"]["offers"]["warnings"]
    assert any(each.startswith("no guardrails") for each in warnings)
