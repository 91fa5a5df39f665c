"""Commands: what each refuses, and what it says then."""

import pytest

from alerts.health import HoldOptions
from alerts.machine import Command, Look, Policy, Transition, transition
from alerts.standing import ACTING, WATCHED, Pause, Sighting, Standing, State
from metrics.duration import Duration
from metrics.experiment import MINUTE


AT = 1_700_000_000_000
COOL = Policy(hold=HoldOptions(cool_down=Duration(10 * MINUTE)))
QUARANTINED = Policy(
    hold=HoldOptions(cool_down=Duration(0)), quarantined={"2.3.1": AT - 60 * MINUTE}
)


def told(
    standing: Standing,
    verb: str,
    policy: Policy = COOL,
    *,
    at: int = AT,
    until: int | None = None,
    force: bool = False,
) -> Transition:
    return transition(standing, Command(at, verb, "ann", "because", until, force), policy)


def refusal(made: Transition) -> str:
    assert made.refused is not None
    assert made.action is None
    return made.refused


def test_an_unknown_command_names_those_that_there_are() -> None:
    why = refusal(told(Standing(), "dance"))
    assert why == "unknown command 'dance': expected one of rollback, pause, resume, rearm, end"


@pytest.mark.parametrize("verb", ["rollback", "pause", "resume", "rearm", "end"])
def test_what_has_ended_takes_no_command_and_says_what_to_do(verb: str) -> None:
    ended = Standing(state=State.ENDED)
    made = told(ended, verb, force=True)
    assert made.standing == ended
    assert "another name" in refusal(made)


# --- pausing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [0, AT - 1, AT])
def test_a_pause_until_a_time_that_is_over_is_refused(until: int) -> None:
    assert "expected a time after 2023-11-14T22:13:20Z" in refusal(
        told(Standing(), "pause", until=until)
    )


def test_the_same_pause_again_changes_nothing_and_another_one_replaces_it() -> None:
    paused = told(Standing(), "pause", until=AT + 10).standing
    assert refusal(told(paused, "pause", until=AT + 10)) == "it is paused already, by ann: because"
    longer = told(paused, "pause", until=AT + 20)
    assert (longer.action, longer.standing.paused) == (
        "pause",
        Pause("ann", "because", AT + 20, AT),
    )


def test_a_pause_says_until_when() -> None:
    assert told(Standing(), "pause").reasons == ("ann: because",)
    until = told(Standing(), "pause", until=AT + MINUTE).reasons
    assert until == ("ann: because, until 2023-11-14T22:14:20Z",)


@pytest.mark.parametrize("state", sorted({*State} - {State.HOLD, State.ENDED}))
def test_without_a_pause_or_a_hold_there_is_nothing_to_resume(state: State) -> None:
    why = refusal(told(Standing(state=state), "resume"))
    assert why == f"there is nothing to resume: it is {state.replace('_', ' ')}, and not paused"


# --- rolling back -----------------------------------------------------------------------------------


def test_rolling_back_by_hand_in_a_dry_run_says_that_nothing_is_ordered() -> None:
    made = told(Standing(paused=Pause("bob", "demo")), "rollback", Policy(dry_run=True))
    assert (made.action, made.orders) == ("would_roll_back", False)
    assert made.reasons == ("ann: because", "dry_run: nothing is ordered")


@pytest.mark.parametrize("verified", [True, False])
def test_what_is_rolled_back_is_not_rolled_back_again(*, verified: bool) -> None:
    done = Standing(state=State.ROLLED_BACK, since=AT, verified=verified)
    assert "is rolled back already, since 2023-11-14T22:13:20Z" in refusal(told(done, "rollback"))


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.VERIFYING])
def test_what_is_being_rolled_back_is_not_ordered_twice(state: State) -> None:
    assert "is being rolled back" in refusal(told(Standing(state=state), "rollback"))


def test_a_failed_rollback_is_ordered_anew_at_once_also_in_a_pause() -> None:
    failed = Standing(state=State.ROLLBACK_FAILED, paused=Pause("bob", "demo"), accepted=2)
    made = told(failed, "rollback")
    assert (made.standing.state, made.orders) == (State.ROLLING_BACK, True)


# --- arming again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "force", "armed"), [(3, False, False), (3, True, True), (10, False, True)]
)
def test_arming_again_has_to_wait_for_the_cool_down_or_takes_force(
    minutes: int, *, force: bool, armed: bool
) -> None:
    done = Standing(state=State.ROLLED_BACK, since=AT, verified=True)
    made = told(done, "rearm", at=AT + minutes * MINUTE, force=force)
    assert (made.action == "rearm") is armed
    if not armed:
        why = refusal(made)
        assert "rolled back only 3m ago, and hold.cool_down is 10m" in why
        assert "wait until 2023-11-14T22:23:20Z, or use force" in why


def test_a_clock_that_runs_behind_does_not_make_the_cool_down_any_shorter() -> None:
    done = Standing(state=State.ROLLED_BACK, since=AT, verified=True)
    assert "only 0s ago" in refusal(told(done, "rearm", at=AT - 5 * MINUTE))


def test_after_a_dry_run_nothing_has_to_cool_down() -> None:
    would = Standing(state=State.WOULD_ROLL_BACK, since=AT)
    assert told(would, "rearm").action == "rearm"


@pytest.mark.parametrize("state", [State.ROLLED_BACK, State.WOULD_ROLL_BACK])
def test_a_version_in_quarantine_takes_force(state: State) -> None:
    done = Standing(state=state, since=AT)
    why = refusal(told(done, "rearm", QUARANTINED))
    assert "in quarantine: 2.3.1 (rolled back 2023-11-14T21:13:20Z)" in why
    assert told(done, "rearm", QUARANTINED, force=True).action == "rearm"


def test_a_hold_for_a_version_in_quarantine_ends_by_arming_again_with_force() -> None:
    seen = {"2.3.1": Sighting(AT, 6)}
    for policy, sightings in ((COOL, seen), (QUARANTINED, {})):
        held = Standing(state=State.HOLD, epoch=2, sightings=sightings)
        assert "resume acknowledges" in refusal(told(held, "rearm", policy))
        made = told(held, "rearm", policy, force=True)
        assert made.standing == Standing(since=AT, begun=AT, epoch=3)
    assert "resume acknowledges" in refusal(told(Standing(state=State.HOLD), "rearm", force=True))


@pytest.mark.parametrize("state", sorted(WATCHED - {State.HOLD}))
def test_what_is_watched_is_not_armed_again(state: State) -> None:
    assert "nothing to arm again" in refusal(told(Standing(state=state), "rearm", force=True))


# --- ending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["end", "rearm"])
@pytest.mark.parametrize("state", sorted(ACTING))
def test_an_order_under_way_is_not_lost_unless_a_person_gives_up_one_that_fails(
    state: State, verb: str
) -> None:
    acting = Standing(state=state, since=AT, decision="d")
    assert verb in refusal(told(acting, verb))
    made = told(acting, verb, force=True)
    if state is State.ROLLBACK_FAILED:
        assert made.action == verb
    else:
        assert refusal(made) == f"it is being rolled back: {verb} it when that took effect"


@pytest.mark.parametrize("state", sorted({*State} - ACTING - {State.ENDED}))
def test_everything_else_ends_when_a_person_says_so(state: State) -> None:
    made = told(Standing(state=state), "end")
    assert (made.standing.state, made.action) == (State.ENDED, "end")
    assert told(made.standing, "resume").standing == made.standing
    assert transition(made.standing, Look(AT, harm=("bad",)), COOL).standing == made.standing
