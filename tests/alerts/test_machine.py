"""The state machine: every pair of state and happening, and what holds on every path."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.carrying import NOT_YET
from alerts.health import HoldOptions
from alerts.machine import (
    BRAKED,
    LOOKS_LATE,
    Accepted,
    Alarm,
    Command,
    Elapsed,
    Failed,
    Happening,
    Look,
    Policy,
    ReadBack,
    Returned,
    Transition,
    Verified,
    Waiting,
    needs_clock,
    transition,
)
from alerts.order import Verification
from alerts.standing import ACTING, SEVERITY, WATCHED, Pause, Standing, State
from metrics.duration import Duration
from metrics.experiment import HOUR


AT = 1_000_000
LIVE, DRY, BRAKE = Policy(), Policy(dry_run=True), Policy(braked=True)
HARM, HOLD = ("latency breaches the bound",), ("labels stalled",)
SLOW = ("alertmanager: Slow: checkouts take long",)


def alarm(at: int = AT, began: int | None = None) -> Alarm:
    return Alarm(at, at if began is None else began, "alertmanager: Slow", SLOW)


def command(verb: str, at: int = AT, until: int | None = None, *, force: bool = False) -> Command:
    return Command(at, verb, "ann", "because", until, force)


HAPPENINGS: dict[str, Happening] = {
    "harm": Look(AT, harm=HARM, failing=("latency",), hold=HOLD, healthy=True, promotable=True),
    "hold": Look(AT, failing=("latency",), hold=HOLD, healthy=True, promotable=True),
    "failing": Look(AT, failing=("latency",), promotable=True, streaks={"latency": 1}),
    "unsure": Look(AT, promotable=True),
    "passing": Look(AT, healthy=True),
    "best": Look(AT, healthy=True, promotable=True),
    "accepted": Accepted(AT),
    "unseen": Accepted(AT, observable=False),
    "failed": Failed(AT, "503"),
    "verified": Verified(AT),
    "waiting": Waiting(AT, "it still gets traffic"),
    "returned": Returned(AT, "it gets traffic again"),
    "done": ReadBack(AT, Verification.DONE),
    "pending": ReadBack(AT, Verification.PENDING),
    "refuted": ReadBack(AT, Verification.FAILED),
    "unread": ReadBack(AT, Verification.UNSUPPORTED),
    "elapsed": Elapsed(AT),
    "rollback": command("rollback"),
    "pause": command("pause"),
    "resume": command("resume"),
    "rearm": command("rearm"),
    "end": command("end"),
    "dance": command("dance"),
    "alarm": alarm(),
}

# One row a happening, one column a state; `.` where nothing changes but what belongs to the overlay.
NEXT = """
          collecting   hold         healthy      suspect      passed       would_roll_back
harm      rolling_back rolling_back rolling_back rolling_back rolling_back .
hold      hold         .            hold         hold         hold         .
failing   suspect      suspect      suspect      .            suspect      .
unsure    .            collecting   collecting   collecting   .            .
passing   healthy      healthy      .            healthy      .            .
best      passed       passed       passed       passed       .            .
accepted  .            .            .            .            .            .
unseen    .            .            .            .            .            .
failed    .            .            .            .            .            .
verified  .            .            .            .            .            .
waiting   .            .            .            .            .            .
returned  .            .            .            .            .            .
done      .            .            .            .            .            .
pending   .            .            .            .            .            .
refuted   .            .            .            .            .            .
unread    .            .            .            .            .            .
elapsed   .            .            .            .            .            .
rollback  rolling_back rolling_back rolling_back rolling_back rolling_back rolling_back
pause     .            .            .            .            .            .
resume    .            collecting   .            .            .            .
rearm     .            .            .            .            .            collecting
end       ended        ended        ended        ended        ended        ended
dance     .            .            .            .            .            .
alarm     rolling_back rolling_back rolling_back rolling_back rolling_back .

          rolling_back    verifying       rollback_failed rolled_back ended
harm      .               .               .               .           .
hold      .               .               .               .           .
failing   .               .               .               .           .
unsure    .               .               .               .           .
passing   .               .               .               .           .
best      .               .               .               .           .
accepted  verifying       .               verifying       .           .
unseen    rolled_back     .               rolled_back     .           .
failed    rollback_failed rollback_failed .               .           .
verified  rolled_back     rolled_back     rolled_back     .           .
waiting   .               .               .               .           .
returned  .               .               .               rollback_failed .
done      .               .               .               .           .
pending   .               rollback_failed .               .           .
refuted   .               rollback_failed .               .           .
unread    .               .               .               .           .
elapsed   rollback_failed .               .               .           .
rollback  .               .               rolling_back    .           .
pause     .               .               .               .           .
resume    .               .               .               .           .
rearm     .               .               .               collecting  .
end       .               .               .               ended       .
dance     .               .               .               .           .
alarm     .               .               .               .           .
"""


def table() -> Iterable[tuple[State, str, State]]:
    for block in NEXT.strip("\n").split("\n\n"):
        head, *rows = block.splitlines()
        for row in rows:
            name, *cells = row.split()
            for state, cell in zip(map(State, head.split()), cells, strict=True):
                yield state, name, state if cell == "." else State(cell)


ACTIONS = {
    "rolling_back": "rollback",
    "hold": "hold",
    "passed": "pass",
    "verifying": "accepted",
    "rolled_back": "rolled_back",
    "rollback_failed": "rollback_failed",
    "ended": "end",
}
"""What entering a state means to people."""


def test_the_table_has_every_pair_of_state_and_happening() -> None:
    pairs = [(state, name) for state, name, _ in table()]
    assert sorted(pairs) == sorted((state, name) for state in State for name in HAPPENINGS)


TAKEN: dict[str, Any] = {"acted_at": 7, "accepted": 1, "read_back": Verification.UNSUPPORTED}


def standing_at(state: State) -> Standing:
    """A standing as the machine would have made it, long ago."""
    known: dict[State, dict[str, Any]] = {
        State.VERIFYING: TAKEN,
        State.ROLLED_BACK: TAKEN | {"verified": True},
        State.ROLLBACK_FAILED: {"failed_at": 7},
    }
    return Standing(state=state, since=7, **known.get(state, {}))


def expected_action(before: State, name: str, after: State) -> str | None:
    """What a cell of the table means to people."""
    if name == "pause":
        return None if before is State.ENDED else "pause"
    if name == "elapsed" and before is State.ROLLBACK_FAILED:
        return "escalated"
    if name == "returned" and after is not before:
        return "traffic_returned"
    if after is not before and after.value in ACTIONS:
        return ACTIONS[after.value]
    if name in {"resume", "rearm"} and after is not before:
        return name
    return "release" if before is State.HOLD is not after else None


@pytest.mark.parametrize(("before", "name", "after"), list(table()))
def test_every_happening_in_every_state_has_its_answer(
    before: State, name: str, after: State
) -> None:
    made = transition(standing_at(before), HAPPENINGS[name], LIVE)
    assert made.standing.state is after
    assert made.standing.since == (7 if after is before else AT)
    assert made.action == expected_action(before, name, after)


@pytest.mark.parametrize(("before", "name", "after"), list(table()))
def test_a_command_changes_something_or_says_why_not(
    before: State, name: str, after: State
) -> None:
    made = transition(standing_at(before), HAPPENINGS[name], LIVE)
    changes = after is not before or (name == "pause" and before is not State.ENDED)
    if not isinstance(HAPPENINGS[name], Command | Alarm) or changes:
        assert made.refused is None
    else:
        assert made.refused
        assert made.standing == standing_at(before)
        assert made.action is None


@pytest.mark.parametrize(("before", "name", "after"), list(table()))
def test_a_dry_run_goes_the_same_way_to_would_roll_back(
    before: State, name: str, after: State
) -> None:
    made = transition(standing_at(before), HAPPENINGS[name], DRY)
    assert not made.orders
    if before is State.ROLLBACK_FAILED and name == "rollback":
        # That order is older than the dry run.
        assert made.standing.state is before
        assert made.refused is not None
        assert made.refused.startswith("dry_run")
    elif after is State.ROLLING_BACK is not before:
        assert made.standing.state is State.WOULD_ROLL_BACK
        assert made.action == "would_roll_back"
    elif name == "returned" and before is not after:
        # Only a person leads out of it, and no end of a dry run.
        assert made.standing.state is before is State.ROLLED_BACK
        assert made.reasons[-1].startswith("dry_run")
    else:
        assert made.standing.state is after


def test_severity_ranks_every_state_once() -> None:
    assert sorted(SEVERITY) == sorted(State)
    assert not WATCHED & ACTING


# --- overlays ---------------------------------------------------------------------------------------


def run(standing: Standing, *happenings: Happening, policy: Policy = LIVE) -> list[Transition]:
    made = []
    for happening in happenings:
        made.append(transition(standing, happening, policy))
        standing = made[-1].standing
    return made


def actions(made: Iterable[Transition]) -> list[str | None]:
    return [each.action for each in made]


UNREAD, DONE, PENDING, REFUTED = (
    ReadBack(AT, state)
    for state in (
        Verification.UNSUPPORTED,
        Verification.DONE,
        Verification.PENDING,
        Verification.FAILED,
    )
)


def harm(at: int, *reasons: str) -> Look:
    return Look(at, harm=reasons or HARM)


PASSING = Look(AT, healthy=True)


@pytest.mark.parametrize("state", sorted(WATCHED))
def test_harm_while_paused_is_told_once_and_acted_on_when_a_person_resumes(state: State) -> None:
    made = run(
        Standing(state=state),
        command("pause"),
        harm(AT + 1, "p99 is 251"),
        harm(AT + 2, "p99 is 252"),
        Look(AT + 3, healthy=True),
        command("resume", AT + 4),
        Look(AT + 5, healthy=True),
    )
    assert actions(made) == ["pause", "harm_while_paused", None, None, "resume", "rollback"]
    paused = made[3].standing
    assert (paused.state, paused.latched) == (State.SUSPECT, ("p99 is 251",))
    assert made[-1].reasons == ("p99 is 251",)
    assert made[-1].standing.latched == ()


def test_harm_while_paused_is_acted_on_when_the_pause_runs_out() -> None:
    made = run(
        Standing(),
        command("pause", until=AT + 10),
        harm(AT + 5),
        Look(AT + 9, hold=HOLD),
        Look(AT + 10, hold=HOLD),
    )
    assert actions(made) == ["pause", "harm_while_paused", None, "rollback"]
    assert made[-1].standing.paused is None


def test_a_pause_that_runs_out_without_harm_is_told() -> None:
    made = run(Standing(), command("pause", until=AT + 10), Look(AT + 9), Look(AT + 10))
    assert actions(made) == ["pause", None, "resume"]
    assert made[-1].standing.paused is None


def test_a_pause_that_runs_out_as_the_treatment_is_held_ends_all_the_same() -> None:
    made = run(Standing(), command("pause", until=AT + 1), Look(AT + 1, hold=HOLD))
    assert actions(made) == ["pause", "hold"]
    assert made[-1].standing.paused is None


def test_a_longer_pause_replaces_a_shorter_one_and_keeps_the_harm_in_mind() -> None:
    made = run(
        Standing(),
        command("pause", until=AT + 10),
        harm(AT + 5),
        command("pause", AT + 6, until=AT + 100),
        Look(AT + 50),
        Look(AT + 100),
    )
    assert actions(made) == ["pause", "harm_while_paused", "pause", None, "rollback"]


def test_nothing_is_promoted_while_paused() -> None:
    best = Look(AT + 1, healthy=True, promotable=True)
    made = run(Standing(), command("pause"), best, command("resume", AT + 2), best)
    assert [each.standing.state for each in made[1:]] == ["healthy", "healthy", "passed"]


@pytest.mark.parametrize("policy", [LIVE, BRAKE])
@pytest.mark.parametrize("state", sorted(WATCHED))
def test_a_person_rolls_back_at_any_time_even_paused_and_braked(
    state: State, policy: Policy
) -> None:
    made = run(
        Standing(state=state), command("pause"), harm(AT), command("rollback"), policy=policy
    )
    assert made[-1].action == "rollback"
    assert made[-1].actor == "ann"
    assert made[-1].reasons == ("ann: because",)
    assert made[-1].standing.state is State.ROLLING_BACK
    assert made[-1].standing.latched == ()


def test_a_pause_does_not_stop_a_rollback_that_is_under_way() -> None:
    made = run(Standing(), harm(AT), command("pause"), Accepted(AT), UNREAD, Verified(AT))
    assert made[-1].standing.state is State.ROLLED_BACK


@pytest.mark.parametrize("state", sorted(WATCHED))
def test_the_brake_holds_and_pages_once_instead_of_acting(state: State) -> None:
    made = run(Standing(state=state), harm(AT, "251"), harm(AT + 1, "252"), policy=BRAKE)
    assert actions(made) == ["braked", None]
    assert made[-1].standing.state is State.HOLD
    assert made[-1].standing.causes == (BRAKED, "252")


@pytest.mark.parametrize("between", ["hold", "passing", "failing"])
def test_looks_that_do_not_see_the_harm_neither_end_nor_repeat_what_the_brake_says(
    between: str,
) -> None:
    path = [harm(AT), HAPPENINGS[between], harm(AT + 1), HAPPENINGS[between]]
    made = run(Standing(), *path, policy=BRAKE)
    assert actions(made) == ["braked", None, None, None]
    assert {each.standing.state for each in made} == {State.HOLD}
    assert BRAKED in made[-1].standing.causes


def test_harm_that_is_still_there_when_the_brake_is_off_is_acted_on() -> None:
    (braked,) = run(Standing(), harm(AT), policy=BRAKE)
    (acted,) = run(braked.standing, harm(AT + 1))
    assert acted.action == "rollback"


def test_harm_that_is_gone_when_the_brake_is_off_is_not_acted_on() -> None:
    (braked,) = run(Standing(), harm(AT), policy=BRAKE)
    (released,) = run(braked.standing, PASSING)
    assert (released.action, released.standing.state) == ("release", State.HEALTHY)


def test_harm_in_mind_from_a_pause_outlasts_the_brake() -> None:
    held = run(Standing(), command("pause"), harm(AT), command("resume"), PASSING, policy=BRAKE)
    assert actions(held) == ["pause", "harm_while_paused", "resume", "braked"]
    (acted,) = run(held[-1].standing, PASSING)
    assert acted.action == "rollback"


# --- holding ----------------------------------------------------------------------------------------


def test_a_hold_ends_by_itself_when_its_causes_are_gone() -> None:
    made = run(Standing(), Look(AT, hold=HOLD), Look(AT + 1, hold=("no data",)), PASSING)
    assert actions(made) == ["hold", None, "release"]
    assert made[1].standing.causes == ("no data",)
    assert made[2].reasons == ("no data",)
    assert made[2].standing.causes == ()


DEADLINE = Policy(hold=HoldOptions(deadline=Duration(100)))


def test_holding_for_too_long_is_harm() -> None:
    made = run(
        Standing(), Look(AT, hold=HOLD), Look(AT + 99, hold=HOLD), Look(AT + 100, hold=HOLD),
        policy=DEADLINE,
    )  # fmt: skip
    assert actions(made) == ["hold", None, "rollback"]
    assert made[-1].reasons == ("held too long: labels stalled",)


def test_the_causes_of_an_overdue_hold_do_not_pile_up_while_braked() -> None:
    policy = Policy(braked=True, hold=HoldOptions(deadline=Duration(100)))
    looks = [Look(AT + 100 * n, hold=HOLD) for n in range(5)]
    made = run(Standing(), *looks, policy=policy)
    assert made[-1].standing.causes == (BRAKED, "held too long: labels stalled")


def test_a_hold_that_ended_in_time_starts_from_nothing_next_time() -> None:
    made = run(
        Standing(), Look(AT, hold=HOLD), Look(AT + 90), Look(AT + 95, hold=HOLD),
        Look(AT + 150, hold=HOLD), policy=DEADLINE,
    )  # fmt: skip
    assert actions(made) == ["hold", "release", "hold", None]


def test_a_hold_that_is_over_does_not_count_as_overdue() -> None:
    made = run(Standing(), Look(AT, hold=HOLD), Look(AT + 500), policy=DEADLINE)
    assert actions(made) == ["hold", "release"]


def test_the_deadline_of_a_hold_counts_from_the_end_of_a_pause_that_a_person_ends() -> None:
    held = [Look(AT + n, hold=HOLD) for n in (0, 200, 349, 350)]
    made = run(
        Standing(), command("pause"), *held[:2], command("resume", AT + 250), *held[2:],
        policy=DEADLINE,
    )  # fmt: skip
    assert actions(made) == ["pause", "hold", None, "resume", None, "rollback"]


@pytest.mark.parametrize("happening", [Elapsed, lambda at: Look(at, hold=HOLD)])
def test_the_deadline_of_a_hold_goes_on_where_a_pause_stopped_it_however_late_that_is_noticed(
    happening: Callable[[int], Happening],
) -> None:
    over, late = AT + 300, LOOKS_LATE if happening is Elapsed else 0
    held = run(Standing(), Look(AT, hold=HOLD), command("pause", AT + 10, until=over))
    times = [over, over + 50, over + 89 + late, over + 90 + late]  # 10 were used up before
    made = run(held[-1].standing, *map(happening, times), policy=DEADLINE)
    assert actions(made) == ["resume", None, None, "rollback"]
    noticed_late = transition(held[-1].standing, happening(times[-1]), DEADLINE)
    assert noticed_late.action == "rollback"


def test_a_pause_in_place_of_another_one_stops_the_deadline_since_the_first() -> None:
    pauses = [command("pause", AT + 10, until=AT + 50), command("pause", AT + 40, until=AT + 300)]
    held = run(Standing(), Look(AT, hold=HOLD), *pauses)[-1].standing
    assert transition(held, Elapsed(AT + 300), LIVE).standing.since == AT + 290


@pytest.mark.parametrize("state", sorted(State))
def test_a_pause_that_ends_moves_no_clock_but_that_of_a_hold(state: State) -> None:
    paused = replace_pause(standing_at(state), until=AT)
    after = transition(paused, command("resume", AT - 5), LIVE)
    moves = state is State.HOLD
    assert after.standing.since == (AT - 5 if moves else 7)


def test_without_a_deadline_it_holds_for_ever() -> None:
    made = run(Standing(), Look(AT, hold=HOLD), Look(AT + 10**12, hold=HOLD))
    assert actions(made) == ["hold", None]


def test_a_person_who_acknowledges_a_hold_starts_judging_anew() -> None:
    held = Standing(state=State.HOLD, causes=HOLD, streaks={"latency": 2}, epoch=3)
    (made,) = run(held, command("resume"))
    fresh = made.standing
    assert (fresh.state, fresh.begun, fresh.epoch) == (State.COLLECTING, AT, 4)
    assert (fresh.causes, fresh.streaks) == ((), {})


# --- acting -----------------------------------------------------------------------------------------


def test_a_failed_rollback_is_told_once_and_can_still_succeed() -> None:
    made = run(
        Standing(), harm(AT), Failed(AT, "503"), Failed(AT + 1, "503"), Accepted(AT + 2), UNREAD,
        Verified(AT + 3),
    )  # fmt: skip
    assert actions(made) == ["rollback", "rollback_failed", None, "accepted", None, "rolled_back"]
    assert made[-1].standing.verified is True
    assert made[-1].standing.acted_at == AT + 2
    assert made[-1].standing.failed_at is None


def test_a_world_that_does_not_follow_stays_a_failure_however_often_the_order_is_accepted() -> None:
    made = run(
        Standing(), harm(AT), Accepted(AT), Failed(AT + 1, "still 50 %"), Accepted(AT + 2),
        Failed(AT + 3, "503"), Accepted(AT + 4), UNREAD, Verified(AT + 5),
    )  # fmt: skip
    assert actions(made) == ["rollback", "accepted", "rollback_failed", *[None] * 4, "rolled_back"]
    # None each time that it failed, so that the order is sent again.
    assert [each.standing.acted_at for each in made[1:6]] == [AT, None, AT + 2, None, AT + 4]
    assert made[-1].standing.accepted == 3


def test_an_order_that_is_accepted_after_the_traffic_had_gone_is_remembered() -> None:
    made = run(Standing(), harm(AT), Failed(AT, "503"), Verified(AT + 1), Accepted(AT + 2))
    assert actions(made) == ["rollback", "rollback_failed", "rolled_back", None]
    assert made[-2].standing.acted_at is None
    assert made[-1].standing.acted_at == AT + 2
    assert made[-1].standing.verified is True


def test_where_nothing_can_be_seen_a_rollback_is_done_but_not_verified() -> None:
    made = run(Standing(), harm(AT), Accepted(AT, observable=False))
    assert made[-1].standing.state is State.ROLLED_BACK
    assert made[-1].standing.verified is False


def test_arming_again_starts_a_new_epoch_that_knows_nothing_of_the_old_one() -> None:
    made = run(
        Standing(epoch=4, streaks={"latency": 3}),
        harm(AT),
        Accepted(AT),
        command("pause"),
        UNREAD,
        Verified(AT),
        command("rearm", AT + 50, force=True),
    )
    paused = Pause("ann", "because", since=AT)
    assert made[-1].standing == Standing(since=AT + 50, begun=AT + 50, epoch=5, paused=paused)


# --- the clock --------------------------------------------------------------------------------------


def test_a_pause_ends_by_the_clock_where_no_data_come() -> None:
    made = run(Standing(), command("pause", until=AT + 10), Elapsed(AT + 9), Elapsed(AT + 10))
    assert actions(made) == ["pause", None, "resume"]
    assert made[-1].reasons == ("the pause is over",)
    assert made[-1].standing.paused is None


@pytest.mark.parametrize("state", sorted({*State} - {State.ENDED}))
def test_a_pause_ends_by_the_clock_in_every_state(state: State) -> None:
    paused = replace_pause(standing_at(state), until=AT)
    assert transition(paused, Elapsed(AT - 1), LIVE).standing.paused is not None
    assert transition(paused, Elapsed(AT), LIVE).standing.paused is None


def replace_pause(standing: Standing, until: int) -> Standing:
    return msgspec.structs.replace(standing, paused=Pause("ann", "because", until))


@pytest.mark.parametrize(
    ("policy", "action"), [(LIVE, "rollback"), (DRY, "would_roll_back"), (BRAKE, "braked")]
)
def test_harm_in_mind_is_acted_on_by_the_clock_as_soon_as_the_pause_is_over(
    policy: Policy, action: str
) -> None:
    made = run(
        Standing(), command("pause", until=AT + 10), harm(AT + 1), Elapsed(AT + 9),
        Elapsed(AT + 10), policy=policy,
    )  # fmt: skip
    assert actions(made) == ["pause", "harm_while_paused", None, action]
    assert made[-1].reasons == HARM


def test_harm_in_mind_is_acted_on_by_the_clock_after_a_person_ended_the_pause() -> None:
    made = run(Standing(), command("pause"), harm(AT), command("resume"), Elapsed(AT + 1))
    assert actions(made) == ["pause", "harm_while_paused", "resume", "rollback"]


def test_the_clock_finds_a_hold_overdue_once_looks_should_have_come() -> None:
    late = AT + 100 + LOOKS_LATE
    made = run(Standing(), Look(AT, hold=HOLD), Elapsed(late - 1), Elapsed(late), policy=DEADLINE)
    assert actions(made) == ["hold", None, "rollback"]
    assert made[-1].reasons == ("held too long: labels stalled",)


@pytest.mark.parametrize("state", sorted(State))
def test_the_clock_is_asked_for_wherever_it_may_change_something(state: State) -> None:
    late = AT + 10**9
    for policy in (LIVE, DRY, BRAKE, DEADLINE, ALERT):
        for latched in ((), HARM):
            for pause in (None, Pause("ann", "because"), Pause("ann", "because", AT)):
                standing = msgspec.structs.replace(
                    standing_at(state), latched=latched, paused=pause
                )
                made = transition(standing, Elapsed(late), policy)
                assert made.standing == standing or needs_clock(standing)
    ended = state is State.ENDED
    assert not (ended and needs_clock(replace_pause(standing_at(state), until=AT)))


# --- deadlines that alert ----------------------------------------------------------------------------

ALERT = Policy(hold=HoldOptions(deadline=Duration(100), on_deadline="alert"))


def test_an_overdue_hold_may_only_alert_once_a_stretch() -> None:
    looks = [Look(AT + n, hold=HOLD) for n in (0, 99, 100, 200)]
    again = [Look(AT + n, hold=HOLD) for n in (302, 402)]
    made = run(Standing(), *looks, PASSING, Look(AT + 301), *again, policy=ALERT)
    told = ["hold", None, "hold_overdue", None, "release", None, "hold", "hold_overdue"]
    assert actions(made) == told
    assert made[2].reasons == HOLD
    assert {each.standing.state for each in made[:4]} == {State.HOLD}
    assert made[3].standing.since == AT


def test_harm_during_an_overdue_hold_that_only_alerts_is_acted_on() -> None:
    made = run(
        Standing(), Look(AT, hold=HOLD), Look(AT + 100, hold=HOLD), harm(AT + 101), policy=ALERT
    )
    assert actions(made) == ["hold", "hold_overdue", "rollback"]


# --- after a promotion -------------------------------------------------------------------------------


def test_what_has_passed_is_held_visibly_and_never_rolled_back_for_want_of_data() -> None:
    best = Look(AT, healthy=True, promotable=True)
    held = [Look(AT + n, hold=HOLD) for n in (1, 101, 10**9)]
    made = run(Standing(), best, *held, policy=DEADLINE)
    assert actions(made) == ["pass", "hold", "hold_overdue", None]
    assert made[-1].standing.causes == HOLD
    assert transition(made[-1].standing, Elapsed(10**12), DEADLINE).action is None


def test_harm_rolls_back_what_has_passed_also_while_it_is_held() -> None:
    best = Look(AT, healthy=True, promotable=True)
    made = run(Standing(), best, Look(AT + 1, hold=HOLD), harm(AT + 2))
    assert actions(made) == ["pass", "hold", "rollback"]


def test_an_epoch_that_follows_has_to_pass_anew() -> None:
    best = Look(AT, healthy=True, promotable=True)
    held = Look(AT + 1, hold=HOLD)
    made = run(Standing(), best, held, command("resume", AT + 2), Look(AT + 3, hold=HOLD),
               Look(AT + 103, hold=HOLD), policy=DEADLINE)  # fmt: skip
    assert actions(made) == ["pass", "hold", "resume", "hold", "rollback"]


# --- somebody else's alarms -------------------------------------------------------------------------


def test_an_alarm_rolls_back_in_the_name_of_whoever_raised_it() -> None:
    made = transition(Standing(state=State.HEALTHY), alarm(), LIVE)
    assert (made.action, made.orders, made.actor) == ("rollback", True, "alertmanager: Slow")
    assert made.reasons == made.standing.causes == SLOW


@pytest.mark.parametrize("state", sorted(State))
def test_an_alarm_that_is_repeated_changes_nothing_and_says_why(state: State) -> None:
    first, again = run(standing_at(state), alarm(), alarm(AT + HOUR, AT))
    assert again.standing == first.standing
    assert again.refused
    assert again.action is None


@pytest.mark.parametrize(("began", "acts"), [(AT - 1, False), (AT, True), (AT + 1, True)])
def test_an_alarm_of_an_earlier_life_never_rolls_the_new_one_back(
    began: int, *, acts: bool
) -> None:
    rearmed = transition(standing_at(State.ROLLED_BACK), command("rearm", force=True), LIVE)
    made = transition(rearmed.standing, alarm(AT + HOUR, began), LIVE)
    assert made.orders is acts
    assert acts or "epoch 2 of the treatment began only at" in (made.refused or "")


@pytest.mark.parametrize("state", sorted(WATCHED))
def test_an_alarm_in_a_pause_is_kept_in_mind_once_and_acted_on_when_it_ends(state: State) -> None:
    paused = Standing(state=state, paused=Pause("ann", "because"))
    made = run(paused, alarm(), alarm(AT + 1), command("resume", AT + 2), Elapsed(AT + 3))
    assert actions(made) == ["harm_while_paused", None, "resume", "rollback"]
    assert made[0].actor == "alertmanager: Slow"
    assert made[1].refused == f"harm is kept in mind already: {SLOW[0]}"
    assert made[-1].reasons == SLOW


def test_an_alarm_after_a_pause_has_run_out_acts_at_once() -> None:
    paused = Standing(state=State.HEALTHY, paused=Pause("ann", "because", until=AT), latched=HARM)
    made = transition(paused, alarm(), LIVE)
    assert (made.action, made.reasons) == ("rollback", HARM + SLOW)


def test_an_alarm_behind_the_brake_is_kept_until_the_brake_is_off() -> None:
    first, again = run(standing_at(State.HEALTHY), alarm(), alarm(AT + 1), policy=BRAKE)
    assert (first.action, first.actor, first.orders) == ("braked", "alertmanager: Slow", False)
    assert first.standing.causes == (BRAKED, *SLOW)
    assert again.refused
    well = run(first.standing, Look(AT + 2, healthy=True), policy=BRAKE)[-1]
    assert (well.standing.state, well.action) == (State.HOLD, None)
    assert run(well.standing, Elapsed(AT + 3))[-1].reasons == SLOW


def test_an_alarm_behind_the_brake_is_forgotten_when_a_person_has_acknowledged_it() -> None:
    made = run(standing_at(State.HEALTHY), alarm(), command("resume", AT + 1), policy=BRAKE)
    assert actions(made) == ["braked", "resume"]
    later = run(made[-1].standing, Look(AT + 2, healthy=True), Elapsed(AT + 3), alarm(AT + 4, AT))
    assert actions(later) == [None, None, None]
    assert "epoch 2 of the treatment began only at" in (later[-1].refused or "")


def test_an_alarm_is_kept_though_other_harm_waits_behind_the_brake_already() -> None:
    made = run(standing_at(State.HEALTHY), harm(AT), alarm(AT + 1), policy=BRAKE)
    assert actions(made) == ["braked", "braked"]
    assert made[-1].standing.latched == SLOW


def test_an_alarm_that_ends_a_pause_behind_the_brake_does_not_speak_for_the_pause() -> None:
    held = Standing(
        state=State.HOLD,
        causes=(BRAKED, *HARM),
        latched=HARM,
        paused=Pause("ann", "because", until=AT),
    )
    made = transition(held, alarm(), BRAKE)
    assert (made.action, made.actor) == ("resume", "abmonitor")


def test_an_alarm_does_not_take_away_that_a_treatment_has_passed() -> None:
    paused = Standing(state=State.PASSED, paused=Pause("ann", "because"))
    assert transition(paused, alarm(), LIVE).standing.passed


# --- every path -------------------------------------------------------------------------------------

ids = st.sampled_from(["latency", "profit"])
texts = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2).map(tuple)
times = st.integers(0, 500)
looks = st.builds(
    Look,
    times,
    harm=st.one_of(st.just(()), texts),
    failing=texts,
    hold=st.one_of(st.just(()), texts),
    healthy=st.booleans(),
    promotable=st.booleans(),
    streaks=st.dictionaries(ids, st.integers(1, 5), max_size=2),
)
commands = st.builds(
    Command,
    times,
    st.sampled_from(["rollback", "pause", "resume", "rearm", "end", "resume", "pause"]),
    st.just("ann"),
    st.just("because"),
    st.one_of(st.none(), times),
    st.booleans(),
)
happenings = st.one_of(
    looks,
    looks,
    commands,
    st.builds(Accepted, times, st.booleans()),
    st.builds(Failed, times, st.just("503")),
    st.builds(Verified, times),
    st.builds(Waiting, times, st.just("it still gets traffic")),
    st.builds(Returned, times, st.just("it gets traffic again")),
    st.builds(ReadBack, times, st.sampled_from(Verification)),
    st.builds(Elapsed, times),
    st.builds(Alarm, times, times, st.just("alertmanager: Slow"), st.just(SLOW)),
)
spans = st.integers(1, 200).map(Duration)
options = st.builds(
    HoldOptions,
    deadline=st.one_of(st.none(), spans),
    on_deadline=st.sampled_from(["alert", "rollback"]),
    drain=spans,
    verify_for=spans,
    escalate_after=spans,
    cool_down=spans,
)
policies = st.builds(
    Policy,
    st.booleans(),
    st.booleans(),
    options,
    st.dictionaries(st.sampled_from(["1.0", "1.1"]), times, max_size=1),
)
paths = st.lists(st.tuples(happenings, policies), max_size=30)

Step = tuple[Standing, Happening, Policy, Transition]


def steps(path: list[tuple[Happening, Policy]], *, dry: bool | None = None) -> list[Step]:
    standing, made = Standing(), list[Step]()
    for happening, given_policy in path:
        policy = given_policy
        if dry is not None:
            policy = replace(policy, dry_run=dry)
        step = transition(standing, happening, policy)
        made.append((standing, happening, policy, step))
        standing = step.standing
    return made


@given(paths)
def test_nothing_passes_on_missing_data_on_holds_on_failures_or_on_pauses(
    path: list[tuple[Happening, Policy]],
) -> None:
    for before, happening, _, made in steps(path):
        if made.standing.state is State.PASSED is not before.state:
            assert isinstance(happening, Look)
            assert happening.healthy
            assert happening.promotable
            assert (happening.harm, happening.hold, happening.failing) == ((), (), ())
            assert made.standing.paused is None
            assert not made.standing.latched


@given(paths)
def test_only_a_person_leads_out_of_rolled_back_or_traffic_that_came_back(
    path: list[tuple[Happening, Policy]],
) -> None:
    for before, happening, policy, made in steps(path):
        if before.state is State.ROLLED_BACK is not made.standing.state:
            if isinstance(happening, Returned):
                assert made.standing.state is State.ROLLBACK_FAILED
                assert not policy.dry_run
                assert made.action == "traffic_returned"
            else:
                assert isinstance(happening, Command)
                assert happening.verb in {"rearm", "end"}
                assert made.actor == "ann"


@given(paths)
def test_harm_is_acted_on_from_every_watched_state_and_before_any_hold(
    path: list[tuple[Happening, Policy]],
) -> None:
    for before, happening, policy, made in steps(path):
        found = happening.harm if isinstance(happening, Look) else ()
        if isinstance(happening, Alarm) and happening.began >= before.begun:
            found = happening.reasons
        if before.state in WATCHED and found:
            state = made.standing.state
            if made.standing.paused:
                assert made.standing.latched
                assert state is State.SUSPECT
            elif policy.braked:
                assert state is State.HOLD
                assert made.standing.causes[0] == BRAKED
            else:
                assert state in {State.ROLLING_BACK, State.WOULD_ROLL_BACK}
                assert set(found) <= set(made.reasons)


@given(paths)
def test_an_order_is_asked_for_exactly_when_a_rollback_begins(
    path: list[tuple[Happening, Policy]],
) -> None:
    for before, _, _, made in steps(path):
        begins = made.standing.state is State.ROLLING_BACK is not before.state
        assert (made.action == "rollback") is begins
        again = before.state is State.ROLLED_BACK and made.standing.state is State.ROLLBACK_FAILED
        assert made.orders is (begins or again)


@given(paths)
def test_a_dry_run_never_acts(path: list[tuple[Happening, Policy]]) -> None:
    for *_, made in steps(path, dry=True):
        assert not made.orders
        assert made.standing.state not in ACTING | {State.ROLLED_BACK}


@given(st.sampled_from(sorted(WATCHED)), looks)
def test_harm_found_in_a_pause_is_acted_on_at_the_first_look_after_it(
    state: State, look: Look
) -> None:
    latched = Standing(state=state, latched=HARM, paused=Pause("ann", "because"))
    made = run(latched, command("resume", look.at), look)
    assert made[-1].action == "rollback"
    assert set(HARM) <= set(made[-1].reasons)


@given(paths)
def test_what_has_ended_stays_as_it_is(path: list[tuple[Happening, Policy]]) -> None:
    for before, _, _, made in steps(path):
        if before.state is State.ENDED:
            assert made.standing == before
            assert made.action is None


@given(paths)
def test_people_are_told_of_every_change_of_state_but_of_those_between_healthy_states(
    path: list[tuple[Happening, Policy]],
) -> None:
    quiet = {State.COLLECTING, State.HEALTHY, State.SUSPECT, State.PASSED}
    for before, _, _, made in steps(path):
        if made.action is None and made.standing.state is not before.state:
            assert {before.state, made.standing.state} <= quiet
        if made.standing.state is before.state:
            unpaused = before.paused and not made.standing.paused
            moves = made.action == "rearm" or (unpaused and before.state is State.HOLD)
            assert made.standing.since == before.since or moves
        if made.refused is not None:
            assert (made.standing, made.action) == (before, None)


@given(paths)
def test_a_standing_does_not_grow_without_end(path: list[tuple[Happening, Policy]]) -> None:
    for *_, made in steps(path):
        assert len(made.standing.latched) <= 2
        assert len(made.standing.causes) <= 6
        assert sum(cause.startswith(NOT_YET) for cause in made.standing.causes) <= 1


@given(paths)
def test_a_standing_survives_being_written_down(path: list[tuple[Happening, Policy]]) -> None:
    for *_, made in steps(path):
        packed = msgspec.json.encode(made.standing)
        assert msgspec.json.decode(packed, type=Standing) == made.standing


@given(paths)
def test_epochs_only_rise_and_judging_never_reaches_back_into_an_earlier_one(
    path: list[tuple[Happening, Policy]],
) -> None:
    for before, happening, _, made in steps(path):
        renewed = made.standing.epoch != before.epoch
        assert made.standing.epoch == before.epoch + renewed
        assert made.standing.begun == (happening.at if renewed else before.begun) or (
            made.action == "resume"
        )
