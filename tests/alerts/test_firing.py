"""Which alerts fire for a treatment, whatever brought it there."""

from typing import Any

import pytest
from support.news import NOW, decision, situation
from support.panes import EXPERIMENT, START, World, pane

from alerts.health import HoldOptions, hold_causes
from alerts.machine import BRAKED
from alerts.notifiers.firing import SILENT, Alert, firing
from alerts.notifiers.news import Situation
from alerts.standing import Pause, State
from metrics.experiment import MINUTE


ONCE = 15 * MINUTE
PAUSED = Pause("ann", "a holiday")


def fires(made: Situation, at: int = NOW) -> dict[str, Alert]:
    found = list(firing(made, at, ONCE))
    assert len({alert.key for alert in found}) == len(found)
    return {alert.name: alert for alert in found}


@pytest.mark.parametrize(
    ("state", "standing", "names"),
    [
        (State.COLLECTING, {}, set()),
        (State.HEALTHY, {}, set()),
        (State.SUSPECT, {}, set()),
        (State.PASSED, {}, set()),
        (State.ENDED, {"paused": PAUSED, "latched": ("rap",)}, set()),
        (State.ROLLING_BACK, {}, {"AbmonitorRollback"}),
        (State.VERIFYING, {}, {"AbmonitorRollback"}),
        (State.ROLLED_BACK, {"verified": True}, {"AbmonitorRollback"}),
        (State.ROLLBACK_FAILED, {}, {"AbmonitorRollback", "AbmonitorRollbackFailed"}),
        (State.WOULD_ROLL_BACK, {}, {"AbmonitorWouldRollBack"}),
        (State.HOLD, {"causes": ("no data",)}, {"AbmonitorHold"}),
        (State.HOLD, {"causes": (BRAKED, "rap")}, {"AbmonitorBraked"}),
        (State.SUSPECT, {"paused": PAUSED}, set()),
        (State.SUSPECT, {"latched": ("rap",)}, set()),
        (State.SUSPECT, {"paused": PAUSED, "latched": ("rap",)}, {"AbmonitorPausedHarm"}),
        (
            State.HOLD,
            {"paused": PAUSED, "latched": ("rap",), "causes": ("no data",)},
            {"AbmonitorHold", "AbmonitorPausedHarm"},
        ),
    ],
)
def test_each_state_has_its_alerts(state: State, standing: dict[str, Any], names: set[str]) -> None:
    assert fires(situation(state, **standing)).keys() == names


def test_what_needs_somebody_now_is_critical() -> None:
    paused = situation(State.SUSPECT, paused=PAUSED, latched=("rap",))
    failed = situation(State.ROLLBACK_FAILED)
    braked = situation(State.HOLD, causes=(BRAKED,))
    found = {**fires(paused), **fires(failed), **fires(braked)}
    found |= fires(situation(State.WOULD_ROLL_BACK)) | fires(situation(State.HOLD))
    assert {name: alert.severity for name, alert in found.items()} == {
        "AbmonitorPausedHarm": "critical",
        "AbmonitorRollback": "warning",
        "AbmonitorRollbackFailed": "critical",
        "AbmonitorBraked": "critical",
        "AbmonitorWouldRollBack": "warning",
        "AbmonitorHold": "warning",
    }


def test_a_rollback_says_why_by_whom_and_since_when() -> None:
    made = decision(actor="ann", reasons=("ann: too many complaints",))
    other = decision(2, "pause", actor="bob")
    told = situation(decisions=(made, other), decision=made.id, ordered_at=NOW - 90_000)
    alert = fires(told)["AbmonitorRollback"]
    assert (alert.reasons, alert.actor, alert.decision) == (made.reasons, "ann", made.id)
    assert alert.since == NOW - 90_000
    assert alert.summary == "ranker-v2 of offers is being rolled back"


def test_a_rollback_whose_decision_is_not_known_any_more_says_the_causes() -> None:
    alert = fires(situation(causes=("rap fails",), decision="gone"))["AbmonitorRollback"]
    assert (alert.reasons, alert.actor) == (("rap fails",), None)


@pytest.mark.parametrize("state", [State.ROLLED_BACK, State.WOULD_ROLL_BACK])
def test_what_happens_at_one_moment_fires_for_a_while(state: State) -> None:
    made = situation(state, noticed=NOW, verified=True)
    assert fires(made, NOW + ONCE - 1)
    assert not fires(made, NOW + ONCE)


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.VERIFYING, State.ROLLBACK_FAILED])
def test_a_rollback_under_way_fires_until_it_is_done(state: State) -> None:
    assert fires(situation(state), NOW + 100 * ONCE)["AbmonitorRollback"].until is None


@pytest.mark.parametrize("verified", [None, False])
def test_a_rollback_that_nobody_saw_says_so(verified: bool | None) -> None:
    found = fires(situation(State.ROLLED_BACK, verified=verified))
    assert found["AbmonitorRollback"].summary.endswith("cannot be seen")


def test_silence_is_told_by_the_words_that_it_is_held_for() -> None:
    world = World().arrive("old", START, START + 30 * MINUTE, pane(10))
    world.arrive("new", START, START + 15 * MINUTE, pane(10))
    at = START + 25 * MINUTE
    causes = hold_causes(EXPERIMENT, "new", world.snapshot(at), at, HoldOptions())
    found = fires(situation(State.HOLD, causes=causes))
    assert found.keys() == {"AbmonitorHold", "AbmonitorSilent"}
    assert [SILENT in cause for cause in found["AbmonitorSilent"].reasons] == [True]
    assert found["AbmonitorSilent"].severity == "critical"


def test_a_hold_that_takes_too_long_pages_as_long_as_it_holds() -> None:
    alert = fires(situation(State.HOLD, overdue=True, causes=("no data",)))["AbmonitorHoldOverdue"]
    assert (alert.severity, alert.reasons) == ("critical", ("no data",))
    assert "AbmonitorHoldOverdue" not in fires(situation(State.HOLD))
    assert not fires(situation(State.HEALTHY, overdue=True))


def test_a_failed_rollback_says_what_failed_and_what_it_waits_for_and_is_escalated() -> None:
    failed = decision(2, "rollback_failed", at=NOW - 60_000, reasons=("POST answered 503",))
    waits: dict[str, Any] = {"causes": ("rap", "POST answered 503"), "decisions": (failed,)}
    found = fires(situation(State.ROLLBACK_FAILED, **waits))
    assert found["AbmonitorRollbackFailed"].reasons == ("POST answered 503", "rap")
    assert "AbmonitorRollbackEscalated" not in found
    escalated = fires(situation(State.ROLLBACK_FAILED, escalated=True, **waits))
    assert escalated["AbmonitorRollbackEscalated"].severity == "critical"
    assert escalated["AbmonitorRollbackEscalated"].reasons[0] == "POST answered 503"


def test_traffic_that_comes_back_in_a_pause_pages() -> None:
    back = decision(5, "traffic_returned", at=NOW - 30_000, reasons=("12 % again",))
    made = situation(
        State.ROLLED_BACK, returned=True, paused=PAUSED, verified=True, decisions=(back,)
    )
    alert = fires(made, NOW + 2 * ONCE)["AbmonitorTrafficReturned"]
    assert (alert.severity, alert.reasons) == ("critical", ("12 % again",))


def test_traffic_that_came_back_is_a_failed_rollback() -> None:
    back = decision(5, "traffic_returned", at=NOW - 60_000, reasons=("12 % again",))
    alert = fires(situation(State.ROLLBACK_FAILED, decisions=(back,)))["AbmonitorRollbackFailed"]
    assert alert.reasons == ("12 % again",)
    assert alert.summary.endswith("gets traffic although it was rolled back")
