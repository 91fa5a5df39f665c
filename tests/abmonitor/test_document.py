import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from support.eventfiles import (
    HOUR,
    MINUTE,
    SECOND,
    SETTINGS,
    START,
    Event,
    outcome,
    prediction,
    traffic,
)
from support.views import settings_of, view_of

from abmonitor.document import document, events, experiment, join_rate
from abmonitor.hinting import Hinted
from abmonitor.view import View
from alerts.phases import MISMATCH, mismatch, mismatch_limit
from metrics.drift import Drift
from metrics.hints import Hint


def offers(view: View) -> dict[str, Any]:
    return experiment(view.experiments["offers"])


def few(*cells: str, variant: str = "old", start: int = 0) -> list[Event]:
    """A prediction and its outcome for each of tp, fp, tn, fn."""
    made = []
    for number, cell in enumerate(cells, start):
        at = START + number * SECOND
        predicted = cell.endswith("p")
        actual = predicted == (cell[0] == "t")
        made.append(prediction(f"p{number}", at, variant, predicted=predicted, latency_ms=20.0))
        made.append(outcome(f"p{number}", at, actual=actual))
    return made


def test_a_few_events_by_hand() -> None:
    mine, theirs = few("tp", "tp", "fp", "tn", "fn"), few("tp", "fn", variant="new", start=5)
    failed = prediction("failed", START + 8 * SECOND, error=True, predicted=None)
    view = view_of([*mine, *theirs, failed], complete=True)
    old, new = offers(view)["variants"]["old"], offers(view)["variants"]["new"]
    assert old["counts"] == old["mature_counts"] == {"tp": 2, "fp": 1, "tn": 1, "fn": 1}
    assert (old["predictions"], old["errors"], old["unlabelled"], old["acted"]) == (6, 1, 1, 3)
    # q = 60 / 20 = 3; six predictions, of which the failed one is neither right nor acted on.
    assert old["metrics"]["roi"] == pytest.approx(3 * 2 / 3 - 1)
    assert old["metrics"]["rap"] == pytest.approx((2 - 1 / (3 - 1)) / 3)
    assert old["metrics"]["profit_per_prediction"] == pytest.approx((3 * 2 - 2 - 1) / 6)
    assert old["metrics"]["accuracy"] == pytest.approx(3 / 6)
    assert old["metrics"]["error_rate"] == pytest.approx(1 / 6)
    assert old["latency_ms"]["mean"] == 20
    assert old["latency_ms"]["p99"] == pytest.approx(20, rel=0.01)
    assert new["counts"] == {"tp": 1, "fp": 0, "tn": 0, "fn": 1}
    comparison = offers(view)["comparisons"]["new"]
    assert comparison["rap_difference"]["estimate"] == pytest.approx(1 / 2 - 1.5 / 3)
    parts = comparison["net_business_value"]["parts"]
    assert parts["accuracy"] == pytest.approx(0.5 * 100 * (1 / 2 - 3 / 6))
    assert parts["errors"] == pytest.approx(-10 * 100 * (0 - 1 / 6))
    assert parts["latency"] == 0
    assert comparison["net_business_value"]["estimate"] == pytest.approx(sum(parts.values()))


def test_missing_labels_count_only_once_they_are_final() -> None:
    view = view_of([prediction("p", START), prediction("q", START + SECOND, predicted=False)])
    facts = offers(view)["variants"]["old"]
    assert facts["counts"] == facts["mature_counts"] == {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
    view = view_of(
        [prediction("p", START), prediction("q", START + SECOND, predicted=False)], complete=True
    )
    facts = offers(view)["variants"]["old"]
    assert facts["counts"] == {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
    assert facts["mature_counts"] == {"tp": 0, "fp": 1, "tn": 1, "fn": 0}


def test_results_of_events_are_told_apart() -> None:
    made: list[Event | bytes] = [
        *few("tp", "fp"),
        *few("tp"),
        prediction("x", START + MINUTE, "newest"),
        prediction("x", START + MINUTE, experiment="other"),
        outcome("nobody", START + MINUTE),
        b"{",
        b"[]",
    ]
    assert events(view_of(made)) == {
        "accepted": 4,
        "predictions": 2,
        "outcomes": 2,
        "duplicate": 2,
        "late": 0,
        "rejected": 3,
        "rejected_by_reason": {"malformed_json": 1, "unknown_variant": 1, "wrong_type": 1},
        "ignored": 1,
        "unmatched": 1,
    }


def test_the_join_rate_is_unknown_without_outcomes() -> None:
    assert join_rate(view_of([])) is None
    assert join_rate(view_of([prediction("p", START)])) is None
    assert join_rate(view_of([outcome("p", START)])) == 0
    strange = [outcome(f"s{n}", START) for n in range(3)]
    assert join_rate(view_of([*few("tp", "fn", "tn"), *strange])) == 0.5


def test_before_the_first_tick_there_is_nothing() -> None:
    empty = document(View())
    assert empty["experiments"] == {}
    assert empty["events"]["accepted"] == 0


def test_windows_have_one_shape_whether_or_not_there_are_data() -> None:
    empty, full = offers(view_of([])), offers(view_of(traffic(300)))
    for variant in ("old", "new"):
        windows = full["variants"][variant]["windows"]
        assert windows.keys() == empty["variants"][variant]["windows"].keys() == {"5m", "1h", "1d"}
        for width, window in windows.items():
            nothing = empty["variants"][variant]["windows"][width]
            assert window.keys() == nothing.keys()
            assert window["latency_ms"].keys() == nothing["latency_ms"].keys()
            assert nothing["predictions"] == 0
            assert nothing["error_rate"] is None
        assert windows["1h"]["predictions"] == full["variants"][variant]["predictions"]


def test_the_worst_treatment_gives_its_state_to_the_experiment() -> None:
    text = SETTINGS.replace("new: 0.5", "new: 0.25, newer: 0.25")
    made = traffic(1_500)
    for number, event in enumerate(made):
        if event.get("variant") == "new" and number % 2:
            event["variant"] = "newer"
            event["error"] = event["time"] > START + 15 * MINUTE
    found = offers(view_of(made, settings_of(text)))
    states = {name: each["state"] for name, each in found["comparisons"].items()}
    assert states["newer"] == found["state"] == "rolled_back"
    assert states["new"] in {"collecting", "healthy"}
    assert found["comparisons"]["newer"]["recommendation"] != "recommend"


SEQUENTIAL = (
    SETTINGS.split("    guardrails:")[0]
    + """\
    testing: {alpha: 0.1, min_duration: 2h, blind_budget: 100000}
    guardrails:
      - {metric: rap, test: sequential, margin: 0.3, weight: 4}
      - {metric: error_rate, test: sequential, relative_margin: 0.2}
      - {metric: latency_p99_ms, window: 5m, max: 400}
"""
)
NAMES = ["rap:sequential", "error_rate:sequential", "latency_p99_ms:threshold:5m"]


def test_sequential_guardrails_come_with_their_evidence_and_what_it_takes() -> None:
    view = view_of(traffic(2_400), settings_of(SEQUENTIAL))
    found, book = offers(view), view.experiments["offers"].book
    guardrails = found["comparisons"]["new"]["guardrails"]
    assert list(guardrails) == NAMES
    for name, told in guardrails.items():
        judged = msgspec.to_builtins(book.judgements["new"][name])
        assert {key: told[key] for key in judged} == judged
        assert told["reason"]
    rap, errors, latency = guardrails.values()
    assert [each["test"] for each in guardrails.values()] == ["sequential"] * 2 + ["threshold"]
    assert (rap["alpha"], errors["alpha"], latency["alpha"]) == (pytest.approx(0.08), 0.02, None)
    assert rap["evidence"]["harm_needed"] == pytest.approx(-math.log(0.08))
    assert rap["effect"]["lower"] < rap["effect"]["estimate"] < rap["effect"]["upper"]
    assert rap["missing"] is None  # it has passed
    assert rap["phase"] == "pass"
    assert latency["evidence"] is None
    assert found["testing"] == {
        "alpha": 0.1,
        "alpha_pass": 0.05,
        "planned": 10_000,
        "min_duration_ms": 2 * HOUR,
        "max_duration_ms": None,
        "blind_budget": 100_000,
    }


def test_guardrails_have_one_shape_whether_or_not_they_were_looked_at() -> None:
    settings = settings_of(SEQUENTIAL)
    empty, full = (
        offers(view)["comparisons"]["new"]["guardrails"]
        for view in (view_of([], settings), view_of(traffic(2_400), settings))
    )
    for name in NAMES:
        assert empty[name].keys() == full[name].keys()
        assert (empty[name]["phase"], empty[name]["at"]) == ("inconclusive", None)
        assert empty[name]["reason"] == "not looked at yet"
        assert empty[name]["alpha"] == full[name]["alpha"]
        assert isinstance(full[name]["at"], int)


def test_bounds_are_those_of_a_confidence_sequence() -> None:
    assert offers(view_of([]))["interval"] == {"kind": "confidence sequence", "level": 0.95}


def test_the_split_is_judged_in_the_current_phase_only() -> None:
    ramp = "    ramp: [{at: 2024-01-01T00:20:00Z, variants: {old: 3, new: 1}}]\n    labels:"
    events = traffic(2_400)
    for number, event in enumerate(events):
        if "variant" in event and event["time"] >= START + 20 * MINUTE:
            event["variant"] = "new" if number % 4 == 0 else "old"
    view = view_of(events, settings_of(SETTINGS.replace("    labels:", ramp)))
    found, book = offers(view), view.experiments["offers"].book
    ratio, phase = found["comparisons"]["new"]["sample_ratio"], found["phase"]
    assert [stretch["split"] for stretch in found["past_phases"]] == [{"old": 0.5, "new": 0.5}]
    (past,) = found["past_phases"]
    assert START <= past["since"] < past["until"] <= phase["since"]
    assert phase["split"] == ratio["split"] == {"old": 3, "new": 1}
    assert phase["counted"] == ratio["counted"] == "predictions"
    assert ratio["counts"] == phase["counts"]
    assert 600 < sum(ratio["counts"].values()) < 1_260
    assert book.phase is not None
    assert ratio["p_value"] == mismatch("new", "old", book.phase)
    assert ratio["p_value"] == found["comparisons"]["new"]["srm_p_value"] > 0.1
    assert ratio["limit"] == mismatch_limit(book, 1) < MISMATCH
    assert (ratio["mismatched"], ratio["mixed"]) == (False, False)


def test_before_the_first_look_the_split_is_that_of_everything() -> None:
    view = view_of(few("tp", "tp", "fp"))
    found = offers(view)
    assert view.experiments["offers"].book.phase is None
    assert found["phase"]["counts"] == {"old": 3, "new": 0}
    assert found["past_phases"] == []
    ratio = found["comparisons"]["new"]["sample_ratio"]
    assert ratio["counts"] == {"new": 0, "old": 3}
    assert 0 < ratio["p_value"] <= 1


def test_where_units_are_randomised_units_are_counted() -> None:
    settings = settings_of(SETTINGS.replace("    labels:", "    randomised_by: unit\n    labels:"))
    events = traffic(1_200)
    view = view_of(events, settings)
    ratio = offers(view)["comparisons"]["new"]["sample_ratio"]
    assert ratio["counted"] == offers(view)["phase"]["counted"] == "units"
    assert ratio["p_value"] is None
    assert ratio["unitless"] > 1_000
    for number, event in enumerate(each for each in events if "variant" in each):
        event["unit_id"] = str(number % 300)
    ratio = offers(view_of(events, settings))["comparisons"]["new"]["sample_ratio"]
    assert sum(ratio["counts"].values()) == 300
    assert ratio["crossed"] > 200
    assert (ratio["mixed"], ratio["unitless"]) == (True, 0)


def test_the_document_is_json_with_nothing_in_it_that_is_no_number() -> None:
    view = view_of(traffic(400))
    found = document(view)
    encoded = msgspec.json.encode(found)
    assert msgspec.json.decode(encoded) == found
    assert b"NaN" not in encoded


def test_hints_are_told_in_full_and_are_unknown_where_nobody_looked() -> None:
    shown = view_of([]).experiments["offers"]
    nothing = Drift({}, {}, {}, frozenset(), {}, {})
    unwatched = Hint("unwatched", "old", None, None, "hint: not watched")
    shifted = Hint("score_control", "new", 0.31, 0.1, "hint: scores of new differ")
    assert experiment(replace(shown, hinted=None))["hints"] is None
    assert experiment(replace(shown, hinted=Hinted(nothing, ())))["hints"] == []
    found = experiment(replace(shown, hinted=Hinted(nothing, (shifted, unwatched))))["hints"]
    assert msgspec.json.decode(msgspec.json.encode(found)) == [
        {
            "kind": "score_control",
            "variant": "new",
            "value": 0.31,
            "limit": 0.1,
            "sentence": "hint: scores of new differ",
        },
        {
            "kind": "unwatched",
            "variant": "old",
            "value": None,
            "limit": None,
            "sentence": "hint: not watched",
        },
    ]
