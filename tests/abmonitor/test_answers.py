"""On-call's questions in words: every state, every doubt, and nothing called good that is only unknown."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from support.eventfiles import SETTINGS, traffic
from support.views import settings_of, view_of

from abmonitor.answers import Answers, answers
from abmonitor.document import experiment
from alerts import causes
from alerts.book import Decision
from alerts.standing import State
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE


SEQUENTIAL = (
    SETTINGS.split("    guardrails:", maxsplit=1)[0]
    + """\
    guardrails:
      - {metric: rap, test: sequential, margin: 0.05, detect: 0.3, weight: 4}
      - {metric: error_rate, test: sequential, relative_margin: 0.5}
      - {metric: latency_p99_ms, window: 5m, max: 400, min_count: 20}
"""
)
LOST = {"estimate": -0.31, "lower": -0.38, "upper": -0.24}
WON = {"estimate": 0.021, "lower": 0.004, "upper": 0.038}
UNSURE = {"estimate": 0.02, "lower": -0.05, "upper": 0.09}
UNKNOWN = dict.fromkeys(LOST)


@cache
def base() -> dict[str, Any]:
    return experiment(view_of(traffic(1_500), settings_of(SEQUENTIAL)).experiments["offers"])


def told(state: str, *, rap: dict[str, Any] = LOST, **changes: Any) -> dict[str, Any]:
    """The document with its treatment in another state."""
    found = copy.deepcopy(base())
    facts = found["comparisons"]["new"]
    facts["differences"]["rap"] = dict(rap)
    facts |= {"state": state, "since": found["as_of"] - 10 * MINUTE, **changes}
    return found


def judged(found: dict[str, Any], guardrail: str, **changes: Any) -> dict[str, Any]:
    """The document with a guardrail that says something else."""
    found["comparisons"]["new"]["guardrails"][guardrail] |= changes
    return found


def evidence(harm: float, safe: float) -> dict[str, float]:
    return {"harm": harm, "harm_needed": 4.0, "safe": safe, "safe_needed": 3.0}


def decided(found: dict[str, Any], action: str, **changes: Any) -> dict[str, Any]:
    """The document with a decision ten minutes before the end."""
    judgements = copy.deepcopy(found["comparisons"]["new"]["guardrails"])
    decision = {
        "id": "offers:new:1",
        "action": action,
        "treatment": "new",
        "at": found["as_of"] - 10 * MINUTE,
        "epoch": 1,
        "actor": "abmonitor",
        "reasons": ["rap -0.2 against 0.1 of the control"],
        "judgements": judgements,
        "phase": found["phase"],
        "counts": {},
    }
    found["decisions"] = [decision | changes]
    return found


def harmed(state: str, *, verified: bool = True, **changes: Any) -> dict[str, Any]:
    """The document of what a sequential test has rolled back, or is about to."""
    found = told(state, verified=verified, **changes)
    judged(found, "rap:sequential", phase="fail", evidence=evidence(8.2, -1.0))
    action = "would_roll_back" if state == "would_roll_back" else "rollback"
    return decided(found, action)


def asked(found: dict[str, Any], **more: Any) -> Answers:
    return answers(found, "new", now=found["as_of"] + MINUTE, **more)


STATES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, str], str]] = {
    "collecting": (
        lambda: told("collecting", rap=UNSURE),
        {"verdict": "unknown", "hurting": "unknown", "sure": "watch"},
        (
            "Too early to tell about new: it earns 2.0 % of the achievable profit more than the control"
            " [5.0 less, 9.0 more], at least"
        ),
    ),
    "hold": (
        lambda: told("hold", causes=[causes.labels_stalled(15 * MINUTE)]),
        {"verdict": "watch", "trust": "bad"},
        "new is held, and nothing concluded: labels stalled: no outcome has met a prediction for 15m.",
    ),
    "healthy": (
        lambda: told("healthy", rap=UNSURE),
        {"verdict": "unknown", "hurting": "unknown"},
        "No verdict on new yet, and no guardrail fails: it earns 2.0 % of",
    ),
    "suspect": (
        lambda: judged(
            told("suspect", rap=UNSURE),
            "latency_p99_ms:threshold:5m",
            phase="fail",
            reason="latency_p99_ms 512 breaches the bound 400",
        ),
        {"verdict": "watch", "hurting": "watch"},
        "new is suspected of harm: latency_p99_ms 512 breaches the bound 400.",
    ),
    "passed": (
        lambda: decided(told("passed", rap=WON), "pass"),
        {"verdict": "good", "hurting": "good", "sure": "good"},
        (
            "harm beyond what is tolerated is ruled out; it earns 2.1 % of the achievable profit more than the"
            " control [0.4, 3.8]."
        ),
    ),
    "rolling_back": (
        lambda: harmed("rolling_back"),
        {"verdict": "bad", "hurting": "bad", "sure": "good"},
        "new is being rolled back, as decided at",
    ),
    "verifying": (
        lambda: harmed("verifying"),
        {"verdict": "bad", "hurting": "bad", "sure": "good"},
        "whether its traffic is gone is being looked at: it earned 31 %",
    ),
    "rolled_back": (
        lambda: harmed("rolled_back"),
        {"verdict": "bad", "hurting": "good", "sure": "good"},
        " UTC: it earned 31 % of the achievable profit less than the control [24, 38].",
    ),
    "rollback_failed": (
        lambda: harmed(
            "rollback_failed", causes=["rap is worse", "not yet: the router answers 500"]
        ),
        {"verdict": "bad", "hurting": "bad"},
        "FAILS and is tried again; move its traffic away by hand: rap is worse; not yet: the router",
    ),
    "would_roll_back": (
        lambda: harmed("would_roll_back"),
        {"verdict": "bad", "hurting": "bad", "sure": "good"},
        "but this is a dry run and it keeps its traffic: it earns 31 %",
    ),
    "ended": (
        lambda: decided(told("ended"), "end", actor="ann", reasons=["we are done"]),
        {"verdict": "unknown", "hurting": "unknown", "sure": "unknown"},
        "by ann (we are done), and is not judged any more",
    ),
}


def test_every_state_is_tried_here() -> None:
    assert set(STATES) == {state.value for state in State}


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_verdict_in_one_sentence(state: str) -> None:
    made, levels, words = STATES[state]
    found = asked(made())
    assert words in found.verdict.text
    assert {name: getattr(found, name).level for name in levels} == levels
    for name in found.__struct_fields__:
        answer = getattr(found, name)
        assert answer.text.endswith(".")
        assert "None" not in answer.text
        assert "nan" not in answer.text


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_good_when_the_monitor_is_not_ready(state: str) -> None:
    found = asked(STATES[state][0](), problem="Redis is away")
    assert "good" not in {getattr(found, name).level for name in found.__struct_fields__}
    assert "Redis is away" in found.verdict.text
    assert found.trust.level == "bad"


@pytest.mark.parametrize("state", sorted(set(STATES) - {"passed", "rolled_back"}))
def test_what_is_not_known_is_never_called_unharmful(state: str) -> None:
    found = told(state, rap=UNKNOWN)
    for name in ("accuracy", "profit_per_prediction", "precision"):
        found["comparisons"]["new"]["differences"][name] = dict(UNKNOWN)
    answer = asked(found)
    assert answer.hurting.level != "good"
    assert answer.verdict.level != "good"


def test_what_was_switched_off_and_is_not_seen_to_be_gone_is_not_good() -> None:
    answer = asked(harmed("rolled_back", verified=False))
    assert answer.hurting.level == "watch"
    assert "(whether its traffic is gone was not seen)" in answer.verdict.text


@pytest.mark.parametrize(("count", "level"), [(0, "watch"), (50, "bad")])
def test_traffic_that_a_rollback_did_not_take_away_is_told_and_bad(count: int, level: str) -> None:
    found = harmed("rolled_back", verified=False)
    assert found["decisions"][0]["at"] < found["as_of"] - 5 * MINUTE
    for name, facts in found["variants"].items():
        facts["windows"] = {"5m": {"predictions": count if name == "new" else 100}}
    answer = asked(found)
    assert answer.hurting.level == level
    told = f"got {count} of the {count + 100} predictions of the latest 5m"
    assert (told in answer.hurting.text) is (told in answer.verdict.text) is bool(count)
    found["comparisons"]["new"]["verified"] = True
    assert asked(found).hurting.level == "good"


def test_a_window_that_reaches_behind_the_rollback_says_nothing_of_it() -> None:
    found = harmed("rolled_back", verified=False)
    for facts in found["variants"].values():
        facts["windows"] = {"1h": {"predictions": 100}}
    assert asked(found).hurting.level == "watch"


def test_what_passed_and_is_behind_within_what_is_tolerated_is_not_good() -> None:
    little = {"estimate": -0.02, "lower": -0.03, "upper": -0.01}
    answer = asked(told("passed", rap=little))
    assert (answer.verdict.level, answer.hurting.level) == ("watch", "watch")
    assert answer.hurting.text.startswith("It is behind, by no more than what is tolerated")
    assert asked(told("passed", rap=WON)).hurting.level == "good"


def test_nothing_is_good_on_data_that_cannot_be_trusted() -> None:
    found = told("passed", rap=WON)
    found["comparisons"]["new"]["sample_ratio"]["mixed"] = True
    answer = asked(found)
    assert [answer.verdict.level, answer.hurting.level, answer.sure.level] == ["watch"] * 3
    assert answer.sure.text.startswith("If the data could be trusted: Sure")


def test_evidence_that_is_not_known_is_never_told_as_none() -> None:
    found = told("collecting", rap=UNSURE)
    judged(found, "rap:sequential", evidence=evidence(0.4, 2.7) | {"harm": None, "safe": None})
    judged(found, "error_rate:sequential", evidence=evidence(0.4, 2.7))
    text = asked(found).sure.text
    assert "error rate has 10 % of the evidence that a rollback takes" in text
    assert "of RAP it is not known how near a pass is" in text
    assert " 0 %" not in text


def test_a_pause_is_told_and_makes_nothing_look_better() -> None:
    found = told("passed", rap=WON)
    until = found["as_of"] + HOUR
    found["comparisons"]["new"]["paused"] = {"actor": "ann", "reason": "a test", "until": until}
    answer = asked(found)
    assert answer.verdict.level == "watch"
    assert "Paused by ann until" in answer.verdict.text
    assert "(a test)" in answer.verdict.text


def test_harm_that_a_pause_holds_back_is_bad() -> None:
    found = told("suspect", causes=["rap is worse"])
    found["comparisons"]["new"]["paused"] = {"actor": "ann", "reason": "a test", "until": None}
    answer = asked(found)
    assert answer.verdict.level == "bad"
    assert answer.verdict.text.startswith("new does harm: rap is worse. Paused by ann (a test)")


def test_harm_behind_the_brake_is_bad() -> None:
    answer = asked(told("hold", causes=[causes.BRAKED, "rap is worse"]))
    assert answer.verdict.level == "bad"
    assert "although it does harm (rap is worse)" in answer.verdict.text


def test_a_dry_run_is_told() -> None:
    found = told("collecting", rap=UNSURE)
    found["declared"]["on_breach"]["dry_run"] = True
    assert asked(found).verdict.text.endswith("Dry run: nothing is rolled back.")


def test_a_persons_rollback_says_who_and_is_not_called_sure() -> None:
    found = decided(
        told("rolled_back", verified=True), "rollback", actor="ann", reasons=["a hunch"]
    )
    answer = asked(found)
    assert "ann did it: a hunch" in answer.verdict.text
    assert answer.sure.level == "watch"
    assert answer.sure.text.startswith("ann decided it, not a test")


def test_a_rollback_by_a_bound_has_no_error_rate() -> None:
    found = told("rolled_back", rap=UNSURE, verified=True)
    judged(found, "latency_p99_ms:threshold:5m", phase="fail")
    answer = asked(
        decided(found, "rollback", reasons=["latency_p99_ms 512 breaches the bound 400"])
    )
    assert "latency_p99_ms 512 breaches the bound 400" in answer.verdict.text
    assert answer.sure.level == "watch"


def test_an_old_rollback_says_its_day_and_a_rollback_of_today_its_hour() -> None:
    found = harmed("rolled_back")
    today, later = asked(found), answers(found, "new", now=found["as_of"] + 48 * HOUR)
    assert " was rolled back at " in today.verdict.text
    assert " was rolled back on 20" in later.verdict.text
    assert " was rolled back on 20" in asked(found, dated=True).verdict.text


def test_a_rollback_whose_decision_is_not_shown_any_more_tells_its_causes() -> None:
    found = harmed("rolled_back", causes=["rap -0.2 against 0.1"])
    found["decisions"] = []
    assert asked(found).verdict.text.endswith("rap -0.2 against 0.1.")


def test_evidence_near_a_rollback_is_to_be_watched() -> None:
    found = judged(told("collecting", rap=UNSURE), "rap:sequential", evidence=evidence(2.5, 0.1))
    answer = asked(found)
    assert answer.hurting.level == "watch"
    assert "RAP has 62 % of the evidence that a rollback takes" in answer.hurting.text


def test_the_test_that_has_least_says_how_far_a_pass_is() -> None:
    found = judged(told("healthy", rap=UNSURE), "rap:sequential", evidence=evidence(0.4, 2.7))
    judged(found, "error_rate:sequential", evidence=evidence(0.0, 0.6))
    assert "error rate 20 % of that which a pass takes" in asked(found).sure.text


def test_what_is_behind_and_tested_by_nothing_is_bad() -> None:
    found = told("collecting")
    del found["comparisons"]["new"]["guardrails"]["rap:sequential"]
    answer = asked(found)
    assert answer.hurting.level == answer.verdict.level == "bad"
    assert "no guardrail tests that" in answer.verdict.text
    assert asked(told("collecting")).verdict.level == "watch"


def test_without_profitability_the_accuracy_is_told() -> None:
    found = told("collecting", rap=UNKNOWN)
    differences = found["comparisons"]["new"]["differences"]
    differences["profit_per_prediction"] = dict(UNKNOWN)
    differences["accuracy"] = {"estimate": -0.044, "lower": -0.07, "upper": 0.01}
    assert "it is 4.4 points less accurate than the control [7.0 less, 1.0 more]" in (
        asked(found).verdict.text
    )


def test_where_only_acted_predictions_have_labels_profit_is_told() -> None:
    found = told("collecting", rap=UNKNOWN)
    profit = {"estimate": 0.25, "lower": 0.11, "upper": 0.39}
    found["comparisons"]["new"]["differences"]["profit_per_prediction"] = profit
    assert "0.25 costs of an action a prediction more than the control [0.11, 0.39]" in (
        asked(found).verdict.text
    )


def test_evidence_of_one_test_names_it_once() -> None:
    found = judged(told("collecting", rap=UNSURE), "rap:sequential", evidence=evidence(2.0, 0.3))
    judged(found, "error_rate:sequential", evidence=evidence(0.4, 2.7))
    assert "RAP has 50 % of the evidence that a rollback takes, and 10 % of that" in (
        asked(found).sure.text
    )


# --- trust ----------------------------------------------------------------------------------------


def test_good_data_are_told_with_their_numbers() -> None:
    found = asked(told("collecting"))
    assert found.trust.level == "good"
    assert "the newest data is 1 minute old, the split is as intended (" in found.trust.text


def test_old_data_are_not_trusted_but_a_replay_has_no_clock() -> None:
    found = told("collecting")
    old = answers(found, "new", now=found["as_of"] + 3 * HOUR)
    assert (old.trust.level, old.trust.text) == ("bad", "No: the newest data is 3 hours old.")
    assert answers(found, "new").trust.level == "good"


DOUBTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "mismatched": (
        {"mismatched": True, "p_value": 1e-9},
        "bad",
        "the split is not the intended one",
    ),
    "below the limit": (
        {"p_value": 1e-9, "limit": 1e-4},
        "bad",
        "the split is not the intended one",
    ),
    "mixed": ({"mixed": True, "crossed": 1_234}, "bad", "1,234 units were seen in two variants"),
    "without units": ({"unitless": 77, "p_value": None}, "unknown", "77 predictions name no unit"),
    "not known": ({"p_value": None}, "unknown", "the split cannot be checked at the moment"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_split_that_is_not_as_intended_or_not_known_is_told(doubt: str) -> None:
    changes, level, words = DOUBTS[doubt]
    found = told("collecting")
    found["comparisons"]["new"]["sample_ratio"] |= changes
    answer = asked(found)
    assert answer.trust.level == level
    assert words in answer.trust.text


@pytest.mark.parametrize(
    "cause",
    [
        causes.no_data(Duration(15 * MINUTE)),
        causes.silent("new", "old"),
        causes.stale(2 * MINUTE),
        causes.labels_stalled(15 * MINUTE),
        causes.STATE_INCOMPLETE,
        causes.UNNAMED,
        causes.LOST + "a test",
        causes.blind(4_000),
    ],
)
def test_what_it_is_held_for_is_not_trusted(cause: str) -> None:
    answer = asked(told("hold", causes=[cause]))
    assert answer.trust.level == "bad"
    assert cause in answer.trust.text


@pytest.mark.parametrize("cause", [causes.too_long(Duration(HOUR)), causes.in_quarantine("v2", 0)])
def test_a_hold_that_is_not_about_data_leaves_them_trusted(cause: str) -> None:
    assert asked(told("hold", causes=[cause])).trust.level == "good"


def test_an_incomplete_state_is_told_whatever_the_state_is() -> None:
    found = harmed("rolled_back")
    found["complete_since"] = found["as_of"] - HOUR
    answer = asked(found)
    assert answer.trust.level == "watch"
    assert "was lost in part" in answer.trust.text


def unlabelled(found: dict[str, Any], part: float, when_missing: str) -> dict[str, Any]:
    """The document in which so many of the treatment's final labels are missing."""
    found["declared"]["labels"]["when_missing"] = when_missing
    facts = found["variants"]["new"]
    counts = facts["mature_counts"]
    facts["mature_counts"] = {cell: round(n * (1 - part)) for cell, n in counts.items()}
    return found


def test_labels_that_are_missing_of_one_variant_are_not_trusted() -> None:
    answer = asked(unlabelled(told("collecting"), 0.4, "exclude")).trust
    assert answer.level == "bad"
    assert "labels are missing unevenly, and left out: 4" in answer.text
    assert asked(unlabelled(told("collecting"), 0.0, "exclude")).trust.level == "good"
    assert asked(unlabelled(told("collecting"), 0.4, "negative")).trust.level == "good"


def test_many_events_that_were_not_used_are_told() -> None:
    found = told("collecting")
    events = {"accepted": 900, "late": 60, "unmatched": 0, "rejected": 40, "duplicate": 500}
    answer = asked(found, events=events).trust
    assert answer.level == "watch"
    assert "of 1,000 events some were not used: 60 late, 40 rejected" in answer.text
    assert asked(found, events=events | {"late": 5, "rejected": 4}).trust.level == "good"


def test_drift_is_to_be_watched() -> None:
    found = told("collecting")
    found["hints"] = [{"sentence": "scores of new moved."}, {"sentence": "another."}]
    answer = asked(found)
    assert (answer.trust.level, answer.trust.text) == (
        "watch",
        "With care: drift: scores of new moved and 1 more.",
    )


def test_data_of_which_no_label_is_final_are_not_known_to_be_good() -> None:
    found = told("collecting")
    found["variants"]["new"] |= {"mature_predictions": 0}
    answer = asked(found)
    assert answer.trust.level == "unknown"
    assert "no label of both variants is final yet" in answer.trust.text


def test_the_worst_doubt_comes_first() -> None:
    found = told("collecting")
    found["hints"] = [{"sentence": "scores of new moved."}]
    found["comparisons"]["new"]["sample_ratio"] |= {"mismatched": True, "p_value": 1e-9}
    assert asked(found).trust.text.startswith("No: the split is not the intended one")


def test_an_experiment_of_which_nothing_has_come_is_not_known() -> None:
    found = experiment(view_of([], settings_of(SEQUENTIAL)).experiments["offers"])
    answer = answers(found, "new", now=1)
    levels = {getattr(answer, name).level for name in answer.__struct_fields__}
    assert levels == {"unknown"}


def test_the_split_that_a_rollback_rested_on_stays_told() -> None:
    found = harmed("rolled_back")
    found["comparisons"]["new"]["sample_ratio"]["p_value"] = None
    counts = found["phase"]["counts"]
    words = f"the split was {counts['new']:,} : {counts['old']:,} for 0.5 : 0.5 intended"
    assert words in asked(found).trust.text


def test_decisions_have_what_answers_read_of_them() -> None:
    read = {"action", "treatment", "epoch", "at", "actor", "reasons", "judgements", "phase"}
    assert read <= set(Decision.__struct_fields__)


def test_another_treatment_is_refused() -> None:
    with pytest.raises(KeyError, match="old"):
        answers(base(), "old")
