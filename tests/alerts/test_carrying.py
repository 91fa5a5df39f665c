"""Carrying out: read-backs, orders without effect, escalation, and traffic that comes back."""

from collections.abc import Iterable

import msgspec
import pytest

from alerts.book import Book
from alerts.bookkeeping import begun_anew
from alerts.carrying import NOT_YET, UNCONFIRMED, UNSEEN
from alerts.health import HoldOptions
from alerts.machine import (
    Accepted,
    Command,
    Elapsed,
    Failed,
    Happening,
    Policy,
    ReadBack,
    Returned,
    Transition,
    Verified,
    Waiting,
    transition,
)
from alerts.order import Verification
from alerts.outbox import is_open
from alerts.standing import Pause, Standing, State, ordered
from metrics.duration import Duration
from metrics.experiment import MINUTE


AT = 1_000_000
HOLD = HoldOptions(
    drain=Duration(MINUTE), verify_for=Duration(10 * MINUTE), escalate_after=Duration(15 * MINUTE)
)
LIVE = Policy(hold=HOLD)
LATE = AT + 11 * MINUTE
"""An order that was accepted at AT has to have taken effect by then."""
ORDERED = Standing(state=State.ROLLING_BACK, since=AT, causes=("bad",), decision="d", ordered_at=AT)
BACK = "new gets 48.0% of its intended traffic again"


def read(state: Verification, at: int = AT) -> ReadBack:
    return ReadBack(at, state)


DONE, PENDING, REFUTED, UNREAD = (
    read(Verification.DONE),
    read(Verification.PENDING),
    read(Verification.FAILED),
    read(Verification.UNSUPPORTED),
)


def run(standing: Standing, *happenings: Happening, policy: Policy = LIVE) -> list[Transition]:
    made = []
    for happening in happenings:
        made.append(transition(standing, happening, policy))
        standing = made[-1].standing
    return made


def actions(made: Iterable[Transition]) -> list[str | None]:
    return [each.action for each in made]


def rolled_back() -> Standing:
    done = run(ORDERED, Accepted(AT), DONE, Verified(AT + MINUTE))[-1].standing
    assert (done.state, done.verified) == (State.ROLLED_BACK, True)
    return done


# --- what it takes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ((DONE,), State.VERIFYING),
        ((Verified(AT),), State.VERIFYING),
        ((PENDING, Verified(AT)), State.VERIFYING),
        ((Verified(AT), DONE), State.VERIFYING),  # the next look sees the traffic gone, too
        ((DONE, Verified(AT)), State.ROLLED_BACK),
        ((PENDING, DONE, Verified(AT)), State.ROLLED_BACK),
        ((UNREAD, Verified(AT)), State.ROLLED_BACK),
        ((UNREAD,), State.VERIFYING),
        ((DONE, PENDING, Verified(AT)), State.VERIFYING),
        ((REFUTED,), State.ROLLBACK_FAILED),
        ((REFUTED, Verified(AT)), State.ROLLBACK_FAILED),
        ((DONE, REFUTED, Verified(AT)), State.ROLLBACK_FAILED),
    ],
)
def test_a_rollback_is_done_when_the_traffic_went_and_the_actuator_confirms_it_if_it_can(
    path: tuple[Happening, ...], state: State
) -> None:
    made = run(ORDERED, Accepted(AT), *path)[-1].standing
    assert made.state is state
    assert made.verified is (True if state is State.ROLLED_BACK else None)


def test_what_a_rollback_waits_for_shows_as_a_cause_until_it_is_done() -> None:
    made = run(
        ORDERED,
        Accepted(AT),
        Waiting(AT, UNSEEN),
        Verified(AT),
        Waiting(AT, "it still gets traffic"),
        DONE,
        Verified(AT),
    )
    notes = [None, UNSEEN, UNCONFIRMED, "it still gets traffic", "it still gets traffic", None]
    for each, note in zip(made, notes, strict=True):
        assert each.standing.causes == ("bad", *([f"{NOT_YET}{note}"] if note else []))


def test_nobody_waits_for_the_effect_of_an_order_that_no_actuator_took() -> None:
    assert run(ORDERED, Waiting(AT, UNSEEN))[-1].standing == ORDERED


@pytest.mark.parametrize("state", [Verification.DONE, Verification.FAILED, Verification.PENDING])
def test_an_answer_about_an_attempt_that_is_over_says_nothing(state: Verification) -> None:
    failed = run(ORDERED, Accepted(AT), REFUTED)[-1].standing
    for standing in (ORDERED, failed, rolled_back(), Standing()):
        assert transition(standing, read(state), LIVE).standing == standing


@pytest.mark.parametrize("answer", [DONE, PENDING, REFUTED, UNREAD])
def test_where_traffic_cannot_be_seen_a_rollback_is_over_as_soon_as_it_was_accepted(
    answer: ReadBack,
) -> None:
    made = run(ORDERED, Accepted(AT, observable=False), answer)
    assert actions(made) == ["rolled_back", None]
    assert made[0].standing.verified is False
    assert made[1].standing == made[0].standing
    # Nobody reads it back: its order has left the outbox.
    assert not is_open(made[0].standing)


# --- without effect ---------------------------------------------------------------------------------


def test_an_order_that_is_read_back_as_failed_is_told_once_and_sent_again() -> None:
    made = run(
        ORDERED, Accepted(AT), REFUTED, Accepted(AT + 1), REFUTED, Accepted(AT + 2), DONE,
        Verified(AT + 3),
    )  # fmt: skip
    told = ["accepted", "rollback_failed", None, None, None, None, "rolled_back"]
    assert actions(made) == told
    assert [each.standing.acted_at for each in made[:5]] == [AT, None, AT + 1, None, AT + 2]


@pytest.mark.parametrize("answers", [(), (PENDING,), (UNREAD,), (DONE,)])
def test_only_an_actuator_that_can_confirm_an_order_and_does_not_is_late(
    answers: tuple[Happening, ...],
) -> None:
    waits = run(ORDERED, Accepted(AT), *answers)[-1].standing
    early, late = (transition(waits, Elapsed(at), LIVE) for at in (LATE - 1, LATE))
    assert early.action is None
    assert early.standing.acted_at == AT
    if answers in {(), (PENDING,)}:
        assert (late.action, late.standing.acted_at) == ("rollback_failed", None)
        assert "not confirmed it within 10m" in late.reasons[0]
    else:
        assert (late.action, late.standing.acted_at) == (None, AT)


@pytest.mark.parametrize("news", [Verified(LATE), read(Verification.PENDING, LATE)])
def test_a_confirmation_that_is_late_is_noticed_whatever_happens_then(news: Happening) -> None:
    made = run(ORDERED, Accepted(AT), PENDING, news)
    assert actions(made) == ["accepted", None, "rollback_failed"]


def test_an_order_that_nobody_answers_fails_by_the_clock() -> None:
    made = run(ORDERED, Elapsed(AT + 10 * MINUTE - 1), Elapsed(AT + 10 * MINUTE))
    assert actions(made) == [None, "rollback_failed"]
    assert "not answered for 10m" in made[-1].reasons[0]


def test_where_no_data_come_the_clock_says_that_nobody_can_see_the_traffic_move() -> None:
    seen = AT + 3 * MINUTE
    made = run(ORDERED, Accepted(AT), UNREAD, Elapsed(seen - 1), Elapsed(seen), Elapsed(seen + 1))
    assert made[-3].standing.causes == ("bad",)
    assert made[-2].standing.causes == ("bad", NOT_YET + UNSEEN)
    assert made[-1].standing == made[-2].standing
    assert actions(made[2:]) == [None] * 3


# --- a failure that lasts ---------------------------------------------------------------------------


def test_a_rollback_that_fails_for_long_is_escalated_once_and_tried_on() -> None:
    first = Failed(AT, "503")
    due = AT + 15 * MINUTE
    made = run(ORDERED, first, Elapsed(due - 1), Elapsed(due), Elapsed(due + 1), Failed(due, "401"))
    assert actions(made) == ["rollback_failed", None, "escalated", None, None]
    assert made[2].reasons == ("the rollback fails for 15m and longer", f"{NOT_YET}503")
    assert made[-1].standing.acted_at is None
    done = run(made[-1].standing, Accepted(due), UNREAD, Verified(due))
    assert actions(done) == ["accepted", None, "rolled_back"]
    assert (done[-1].standing.escalated, done[-1].standing.failed_at) == (False, None)


def test_that_an_order_is_accepted_now_and_then_does_not_put_off_the_escalation() -> None:
    path: list[Happening] = [Failed(AT, "503")]
    for n in range(1, 15):
        path += [Accepted(AT + n * MINUTE), read(Verification.FAILED, AT + n * MINUTE)]
    made = run(ORDERED, *path, Elapsed(AT + 15 * MINUTE))
    assert made[-1].action == "escalated"


def test_a_failure_from_before_it_was_noted_when_it_began_counts_from_its_state() -> None:
    old = Standing(state=State.ROLLBACK_FAILED, since=AT)
    assert transition(old, Elapsed(AT + 15 * MINUTE), LIVE).action == "escalated"


# --- traffic that comes back ------------------------------------------------------------------------


def test_traffic_that_comes_back_is_told_and_ordered_away_again() -> None:
    (made,) = run(rolled_back(), Returned(AT + 9 * MINUTE, BACK))
    assert (made.action, made.reasons, made.orders) == ("traffic_returned", (BACK,), True)
    assert made.standing.state is State.ROLLBACK_FAILED
    assert made.standing.causes == ("bad", NOT_YET + BACK)
    again = ordered(made.standing, "d2", AT + 9 * MINUTE)
    assert (again.acted_at, again.accepted, again.read_back, again.verified) == (
        None,
        0,
        None,
        None,
    )
    done = run(again, Accepted(AT + 10 * MINUTE), DONE, Verified(AT + 12 * MINUTE))
    assert actions(done) == ["accepted", None, "rolled_back"]


def test_traffic_that_stays_back_is_escalated_too() -> None:
    (made,) = run(rolled_back(), Returned(AT, BACK))
    again = ordered(made.standing, "d2", AT)
    assert transition(again, Elapsed(AT + 15 * MINUTE), LIVE).action == "escalated"


def test_traffic_that_comes_back_in_a_pause_is_told_once_and_acted_on_when_it_ends() -> None:
    pause = Command(AT, "pause", "ann", "promoting by hand", AT + 10 * MINUTE)
    back = [Returned(AT + n * MINUTE, BACK) for n in (3, 4, 11)]
    made = run(rolled_back(), pause, *back[:2], Elapsed(AT + 10 * MINUTE), back[2])
    assert actions(made) == ["pause", "traffic_returned", None, "resume", "traffic_returned"]
    assert [each.orders for each in made] == [False] * 4 + [True]


def test_traffic_that_comes_back_in_a_second_pause_is_told_again() -> None:
    first, second = (Command(AT + n, "pause", "ann", "at work") for n in (0, 20))
    back = [Returned(AT + n, BACK) for n in (1, 2, 21, 22)]
    over = Command(AT + 10, "resume", "ann", "done")
    made = run(rolled_back(), first, *back[:2], over, second, *back[2:])
    told = ["pause", "traffic_returned", None, "resume", "pause", "traffic_returned", None]
    assert actions(made) == told
    assert {each.standing.state for each in made} == {State.ROLLED_BACK}


def test_a_pause_that_runs_out_without_traffic_forgets_that_it_came_back_too() -> None:
    pause = Command(AT, "pause", "ann", "at work", AT + 10)
    made = run(rolled_back(), pause, Returned(AT + 5, BACK), Elapsed(AT + 10))
    assert [each.standing.returned for each in made] == [False, True, False]


DRY = Policy(dry_run=True, hold=HOLD)


def test_in_a_dry_run_traffic_that_comes_back_is_told_once_and_it_stays_rolled_back() -> None:
    before = rolled_back()
    made = run(before, *(Returned(AT + n, BACK) for n in range(3)), policy=DRY)
    assert actions(made) == ["traffic_returned", None, None]
    assert made[0].reasons == (BACK, "dry_run: nothing is ordered")
    assert [each.orders for each in made] == [False] * 3
    assert made[-1].standing == msgspec.structs.replace(before, returned=True)


def test_the_end_of_a_dry_run_arms_nothing_and_traffic_that_is_back_is_ordered_away() -> None:
    (dry,) = run(rolled_back(), Returned(AT, BACK), policy=DRY)
    book = begun_anew(Book(standings={"new": dry.standing}, settings="dry"), "live", AT + 5)
    assert book.standings["new"] == dry.standing
    (made,) = run(book.standings["new"], Returned(AT + 6, BACK))
    assert (made.action, made.orders) == ("traffic_returned", True)


@pytest.mark.parametrize("verb", ["rearm", "end"])
def test_a_person_who_disagrees_arms_it_again_or_ends_it(verb: str) -> None:
    (made,) = run(rolled_back(), Returned(AT, BACK))
    said = Command(AT, verb, "ann", "I promoted it", force=True)
    assert transition(made.standing, said, LIVE).action == verb
    refused = transition(made.standing, Command(AT, verb, "ann", "because"), LIVE).refused
    assert refused is not None
    assert "force" in refused


@pytest.mark.parametrize("state", sorted({*State} - {State.ROLLED_BACK}))
def test_traffic_comes_back_only_where_it_was_gone(state: State) -> None:
    standing = Standing(state=state, paused=Pause("ann", "because"))
    assert transition(standing, Returned(AT, BACK), LIVE) == Transition(standing=standing)


def test_a_new_order_knows_of_the_one_before_only_since_when_it_failed() -> None:
    failed = msgspec.structs.replace(
        run(ORDERED, Accepted(AT), REFUTED)[-1].standing, escalated=True, returned=True
    )
    made = transition(failed, Command(AT + 5, "rollback", "ann", "now"), LIVE)
    assert (made.action, made.orders) == ("rollback", True)
    fresh = ordered(made.standing, "d2", AT + 5)
    assert fresh == Standing(
        state=State.ROLLING_BACK,
        since=AT + 5,
        causes=("ann: now",),
        decision="d2",
        ordered_at=AT + 5,
        failed_at=AT,
        escalated=True,
    )


def test_orders_by_hand_do_not_put_off_the_escalation() -> None:
    standing = run(ORDERED, Failed(AT, "401"))[-1].standing
    for n in (5, 10):
        at = AT + n * MINUTE
        made = transition(standing, Command(at, "rollback", "ann", "now"), LIVE)
        standing = run(ordered(made.standing, f"d{n}", at), Failed(at, "401"))[-1].standing
    (made,) = run(standing, Elapsed(AT + 15 * MINUTE))
    assert made.action == "escalated"
