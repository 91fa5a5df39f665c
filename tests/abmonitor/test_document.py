from typing import Any

import msgspec
import pytest
from support.eventfiles import MINUTE, SECOND, SETTINGS, START, Event, outcome, prediction, traffic
from support.views import settings_of, view_of

from abmonitor.document import document, events, experiment, join_rate
from abmonitor.monitor import View


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


def test_the_document_is_json_with_nothing_in_it_that_is_no_number() -> None:
    view = view_of(traffic(400))
    found = document(view)
    encoded = msgspec.json.encode(found)
    assert msgspec.json.decode(encoded) == found
    assert b"NaN" not in encoded
