"""Examining: when looks happen, and what each finds."""

from typing import Any

import msgspec
import pytest
from support.panes import COHORT, EXPERIMENT, START, WAIT, World, matured, pane, steady

from alerts.aftermath import NOT_GONE
from alerts.book import Book, Phase
from alerts.carrying import UNSEEN
from alerts.edges import LOOKS_BACK, Edge, edges
from alerts.examine import MISMATCHED, Examiner
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.judge import Judgement
from alerts.judge import Phase as Verdict
from alerts.machine import Failed, Look, Verified, Waiting
from alerts.standing import Standing, State
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE
from metrics.snapshot import Snapshot


ERRORS = Guardrail(metric="error_rate", window=Duration(5 * MINUTE), max=0.1, consecutive=2)
PRECISION = Guardrail(metric="precision", window=Duration(COHORT), min=0.5, consecutive=2)
RULES = (ERRORS, PRECISION)
NOW = START + 90 * MINUTE


def examiner(*guardrails: Guardrail, **options: Any) -> Examiner:
    return Examiner(EXPERIMENT, guardrails or RULES, HoldOptions(**options))


def arrival(at: int) -> Edge:
    return Edge(at, "arrival", at)


def looked(
    book: Book, edge: Edge, snapshot: Snapshot, *guardrails: Guardrail, stale: tuple[str, ...] = ()
) -> tuple[Book, Look]:
    found = examiner(*guardrails)
    book = found.advance(book, edge, snapshot)
    look = found.happening(book, edge, "new", snapshot, stale)
    assert isinstance(look, Look)
    return book, look


# --- edges ------------------------------------------------------------------------------------------


def at_edges(book: Book, snapshot: Snapshot, *guardrails: Guardrail) -> list[Edge]:
    return edges(EXPERIMENT, guardrails or RULES, book, snapshot)


def test_looks_happen_each_minute_and_when_a_cohort_matured_in_order_of_time() -> None:
    found = at_edges(Book(), steady(NOW).snapshot(START + 31 * MINUTE))
    arrivals = [arrival(START + n * MINUTE) for n in range(1, 32)]
    cohorts = [Edge(START + COHORT + WAIT, "cohort", START + COHORT)]
    assert found == sorted(arrivals + cohorts)
    assert found[-3:] == [arrivals[-2], cohorts[0], arrivals[-1]]


@pytest.mark.parametrize(
    ("watermark", "looks"),
    [(START + MINUTE - 1, 0), (START + MINUTE, 1), (START + 2 * MINUTE - 1, 1)],
)
def test_a_look_waits_until_everything_before_it_has_arrived(watermark: int, looks: int) -> None:
    assert len(at_edges(Book(), steady(NOW).snapshot(watermark), ERRORS)) == looks


def test_looks_happen_at_whole_minutes_whenever_the_data_begins() -> None:
    world = World().arrive("new", START + 30_000, NOW, pane(1))
    found = at_edges(Book(), world.snapshot(START + 2 * MINUTE))
    assert [edge.at for edge in found] == [START + MINUTE, START + 2 * MINUTE]


def test_looks_are_as_frequent_as_the_most_frequent_guardrail_without_labels() -> None:
    often = Guardrail(metric="error_rate", window=Duration(30_000), every=Duration(10_000), max=1)
    odd = Guardrail(metric="error_rate", window=Duration(30_000), every=Duration(90_000), max=1)
    labelled = Guardrail(metric="rap", window=Duration(HOUR), every=Duration(10_000), min=0)
    snapshot = steady(NOW).snapshot(START + 10 * MINUTE)
    for rules, count in (((often,), 60), ((odd,), 20), ((labelled,), 10), ((often, odd), 60)):
        assert len(at_edges(Book(), snapshot, *rules)) == count


def test_a_look_is_made_once() -> None:
    book = Book(looked_at=START + 5 * MINUTE, cohort_at=START + COHORT)
    snapshot = steady(NOW).snapshot(START + 41 * MINUTE)
    found = at_edges(book, snapshot)
    assert found[0] == arrival(START + 6 * MINUTE)
    assert [edge.judged_at for edge in found if edge.kind == "cohort"] == [START + 2 * COHORT]


def test_where_nothing_is_known_nobody_looks() -> None:
    empty = World().snapshot(NOW)
    assert at_edges(Book(), empty) == []
    assert at_edges(Book(), Snapshot("offers", empty.variants)) == []


def test_looks_go_on_when_all_panes_have_expired() -> None:
    last = NOW + 3 * HOUR
    book = Book(looked_at=last - 2 * MINUTE, cohort_at=NOW)
    found = at_edges(book, World().snapshot(last, final_to=NOW))
    assert found == [arrival(last - MINUTE), arrival(last)]


def test_looks_that_nobody_made_while_their_panes_were_kept_are_left_out() -> None:
    world = steady(NOW + 10 * HOUR)
    late = NOW + 9 * HOUR
    found = at_edges(Book(looked_at=NOW, cohort_at=NOW), world.snapshot(late))
    assert next(e.at for e in found if e.kind == "arrival") == late - LOOKS_BACK + MINUTE
    ends = [e.judged_at for e in found if e.kind == "cohort"]
    assert ends == list(range(NOW + COHORT, late - WAIT + 1, COHORT))


def test_where_a_log_has_a_gap_of_years_cohorts_are_looked_at_until_none_is_seen_any_more() -> None:
    years, cohort = START + 1_000_000 * COHORT, matured(tp=100)
    world = World().mature("new", START, START + 1, cohort).mature("old", years, years + 1, cohort)
    found = at_edges(Book(), world.snapshot(years + HOUR, final_to=years + 5 * COHORT))
    seen = [edge.judged_at for edge in found if edge.kind == "cohort"]
    # PRECISION looks back over one cohort: from an end one later it sees nothing.
    assert seen == [start + n * COHORT for start in (START, years) for n in (1, 2, 3)]
    after = Book(cohort_at=START + 2 * COHORT)
    assert [e.judged_at for e in at_edges(after, world.snapshot(years)) if e.kind == "cohort"] == [
        START + 3 * COHORT
    ]


def test_a_cohort_that_matured_late_is_looked_at_now_and_not_in_the_past() -> None:
    book = Book(looked_at=NOW, cohort_at=START)
    found = at_edges(book, steady(NOW + HOUR).snapshot(NOW + MINUTE, final_to=START + 2 * COHORT))
    assert found == [
        Edge(NOW, "cohort", START + COHORT),
        Edge(NOW, "cohort", START + 2 * COHORT),
        arrival(NOW + MINUTE),
    ]


def test_another_width_of_cohorts_is_taken_up_at_its_next_edge() -> None:
    book = Book(looked_at=NOW, cohort_at=START + COHORT)
    labels = msgspec.structs.replace(EXPERIMENT.labels, cohort=Duration(HOUR))
    wider = msgspec.structs.replace(EXPERIMENT, labels=labels)
    found = edges(wider, RULES, book, steady(NOW + HOUR).snapshot(NOW + HOUR))
    assert [e.judged_at for e in found if e.kind == "cohort"] == [START + HOUR, START + 2 * HOUR]


# --- judgements and streaks -------------------------------------------------------------------------


def test_each_kind_of_look_judges_its_own_guardrails() -> None:
    snapshot = steady(NOW).snapshot(NOW)
    book, _ = looked(Book(), arrival(NOW), snapshot)
    assert set(book.judgements["new"]) == {ERRORS.name}
    book, look = looked(book, Edge(NOW, "cohort", NOW - WAIT), snapshot)
    assert set(book.judgements["new"]) == {ERRORS.name, PRECISION.name}
    assert book.judgements["new"][PRECISION.name].at == NOW - WAIT
    assert look.healthy


def test_a_guardrail_is_judged_at_its_own_pace() -> None:
    slow = msgspec.structs.replace(ERRORS, every=Duration(7 * MINUTE))
    wide = msgspec.structs.replace(ERRORS, window=Duration(2 * HOUR))
    snapshot = steady(NOW).snapshot(NOW)
    judged: dict[str, list[int]] = {slow.name: [], wide.name: []}
    book = Book()
    for at in range(START + MINUTE, NOW + 1, MINUTE):
        book, _ = looked(book, arrival(at), snapshot, slow, wide)
        for name, found in book.judgements["new"].items():
            judged[name].append(found.at)
    assert set(judged[slow.name]) == {at for at in judged[slow.name] if at % (7 * MINUTE) == 0}
    assert set(judged[wide.name]) == set(range(START + COHORT, NOW + 1, COHORT))


def test_healthy_means_that_every_guardrail_was_judged_and_passes() -> None:
    snapshot = steady(NOW).snapshot(NOW)
    _, before_labels = looked(Book(), arrival(NOW), snapshot)
    _, alone = looked(Book(), arrival(NOW), snapshot, ERRORS)
    seat = Guardrail(metric="rap", test="sequential")
    _, with_seat = looked(Book(), arrival(NOW), snapshot, ERRORS, seat)
    assert (before_labels.healthy, alone.healthy, with_seat.healthy) == (False, True, False)


def test_without_guardrails_nothing_is_healthy() -> None:
    found = Examiner(EXPERIMENT, (), HoldOptions())
    snapshot = steady(NOW).snapshot(NOW)
    book = found.advance(Book(), arrival(NOW), snapshot)
    look = found.happening(book, arrival(NOW), "new", snapshot, ())
    assert look == Look(NOW, sightings={})


def verdict(phase: Verdict, name: str = ERRORS.name) -> Judgement:
    return Judgement(guardrail=name, metric="error_rate", phase=phase, at=0, reason=f"{phase}!")


@pytest.mark.parametrize(
    ("errors", "before", "after", "harmed"),
    [(9, 0, 1, False), (9, 1, 2, True), (9, 7, 8, True), (0, 1, None, False)],
)
def test_harm_takes_as_many_failing_looks_in_a_row_as_declared(
    errors: int, before: int, after: int | None, *, harmed: bool
) -> None:
    world = steady(NOW).arrive("new", START, NOW, pane(10, errors=errors, labelled=5))
    book = Book(standings={"new": Standing(streaks={ERRORS.name: before} if before else {})})
    _, look = looked(book, arrival(NOW), world.snapshot(NOW))
    assert look.streaks.get(ERRORS.name) == after
    assert look.failing == ((ERRORS.name,) if after else ())
    assert bool(look.harm) is harmed


def test_a_look_that_cannot_tell_ends_a_row() -> None:
    few = World().arrive("new", START, NOW, pane(1, errors=1))
    book = Book(standings={"new": Standing(streaks={ERRORS.name: 1})})
    book, look = looked(book, arrival(NOW), few.snapshot(NOW))
    assert book.judgements["new"][ERRORS.name].phase is Verdict.INCONCLUSIVE
    assert look.streaks == {}


def test_a_row_outlasts_looks_at_other_guardrails() -> None:
    book = Book(
        standings={"new": Standing(streaks={ERRORS.name: 1})},
        judgements={"new": {ERRORS.name: verdict(Verdict.FAIL)}},
    )
    edge = Edge(NOW, "cohort", NOW - WAIT)
    _, look = looked(book, edge, steady(NOW).snapshot(NOW))
    assert look.streaks == {ERRORS.name: 1}
    assert look.harm == ()


@pytest.mark.parametrize("state", [State.ROLLED_BACK, State.WOULD_ROLL_BACK, State.COLLECTING])
def test_guardrails_that_are_no_longer_declared_are_forgotten(state: State) -> None:
    book = Book(
        standings={"new": Standing(state=state, streaks={"gone": 9})},
        judgements={"new": {"gone": verdict(Verdict.FAIL, "gone")}},
    )
    book, look = looked(book, arrival(NOW), steady(NOW).snapshot(NOW))
    assert set(book.judgements["new"]) == {ERRORS.name}
    assert look.harm == ()


def test_only_data_of_the_epoch_is_judged() -> None:
    world = steady(NOW).arrive("new", START, NOW - 2 * MINUTE, pane(10, errors=9, labelled=5))
    for begun, phase in ((0, Verdict.FAIL), (NOW - 2 * MINUTE, Verdict.PASS)):
        book = Book(standings={"new": Standing(begun=begun)})
        book, _ = looked(book, arrival(NOW), world.snapshot(NOW))
        assert book.judgements["new"][ERRORS.name].phase is phase


# --- holding ----------------------------------------------------------------------------------------


def test_what_holds_at_arrivals_holds_at_cohorts_too_until_the_next_look_at_arrivals() -> None:
    snapshot = steady(NOW).snapshot(NOW)
    book = Book(looked_at=NOW - MINUTE, holds={"new": ("labels stalled",)})
    book, look = looked(book, Edge(NOW, "cohort", NOW - WAIT), snapshot, stale=("stale",))
    assert look.hold == ("stale", "labels stalled")
    book, look = looked(book, arrival(NOW), snapshot)
    assert look.hold == ()


def test_harm_is_found_whatever_holds() -> None:
    world = steady(NOW).arrive("new", START, NOW, pane(10, errors=9))
    book = Book(standings={"new": Standing(streaks={ERRORS.name: 1})}, mismatched=("new",))
    _, look = looked(book, arrival(NOW), world.snapshot(NOW, complete_since=NOW), stale=("stale",))
    assert len(look.hold) == 3
    assert look.hold[-1] == MISMATCHED
    assert look.harm != ()


def test_silence_is_harm_for_a_treatment_that_had_traffic_in_its_epoch() -> None:
    end = NOW + 20 * MINUTE
    world = steady(NOW).arrive("old", NOW, end, pane(10, labelled=5))
    for begun, flowed, harmed in ((0, 0.0, True), (NOW, 0.0, False), (NOW, 0.5, True)):
        phase = Phase(since=START, split={"old": 0.5, "new": flowed})
        standings = {"new": Standing(begun=begun)}
        book = Book(looked_at=end - MINUTE, phase=phase, standings=standings)
        _, look = looked(book, arrival(end), world.snapshot(end))
        assert bool(look.harm) is harmed
        assert look.hold[0] == "new is silent while old flows"


# --- the split --------------------------------------------------------------------------------------


def split_after(book: Book, world: World, at: int = NOW) -> dict[str, float]:
    book = examiner().advance(book, arrival(at), world.snapshot(at))
    assert book.phase is not None
    return book.phase.split


def test_the_first_phase_counts_from_the_first_pane() -> None:
    book = examiner().advance(Book(), arrival(START + MINUTE), steady(NOW).snapshot(NOW))
    assert book.phase == Phase(
        since=START, split={"old": 0.5, "new": 0.5}, counts={"old": 60, "new": 60}
    )


def test_nothing_is_said_of_the_split_before_the_treatment_has_traffic() -> None:
    world = steady(NOW)
    world.fine["new"] = {at: found for at, found in world.fine["new"].items() if at >= NOW - MINUTE}
    book, found = Book(), examiner()
    for at in range(START + MINUTE, NOW + 1, MINUTE):
        book = found.advance(book, arrival(at), world.snapshot(at))
        assert book.phase is not None
        assert book.phase.split == ({"old": 0.5, "new": 0.5} if at == NOW else {"old": 0, "new": 0})
    assert book.mismatched == ()


@pytest.mark.parametrize(("predictions", "back"), [(5, False), (6, True)])
def test_a_few_requests_after_arming_again_are_not_yet_the_traffic_coming_back(
    predictions: int, *, back: bool
) -> None:
    book = Book(
        looked_at=NOW - MINUTE,
        phase=Phase(since=START, split={"old": 1.0, "new": 0.0}),
        standings={"new": Standing(begun=NOW - 10 * MINUTE)},
    )
    world = steady(NOW).arrive("new", START, NOW, pane(0))
    world.arrive("new", NOW - MINUTE, NOW - MINUTE + 1, pane(predictions))
    expected = {"old": 0.5, "new": 0.5} if back else {"old": 0.0, "new": 0.0}
    assert split_after(book, world) == expected


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.VERIFYING, State.ENDED])
def test_while_traffic_is_on_its_way_no_split_is_intended(state: State) -> None:
    book = Book(
        looked_at=NOW - MINUTE,
        phase=Phase(since=START, split={"old": 0.5, "new": 0.5}),
        standings={"new": Standing(state=state)},
    )
    assert split_after(book, steady(NOW)) == {"old": 0.0, "new": 0.0}


@pytest.mark.parametrize(("verified", "split"), [(True, (1.0, 0.0)), (False, (0.5, 0.5))])
def test_traffic_that_was_seen_to_go_has_gone_to_the_control(
    split: tuple[float, float], *, verified: bool
) -> None:
    book = Book(
        looked_at=NOW - MINUTE,
        phase=Phase(since=START, split={"old": 0.5, "new": 0.5}),
        standings={"new": Standing(state=State.ROLLED_BACK, acted_at=START, verified=verified)},
    )
    assert split_after(book, steady(NOW)) == dict(zip(("old", "new"), split, strict=True))


def test_a_mismatch_is_remembered_until_a_person_clears_it() -> None:
    world = steady(NOW).arrive("new", START, START + HOUR, pane(1, labelled=1))
    book, found = Book(), examiner()
    for at in range(START + MINUTE, NOW + 1, MINUTE):
        book = found.advance(book, arrival(at), world.snapshot(at))
    assert book.mismatched == ("new",)
    assert book.holds["new"] == (MISMATCHED,)


# --- effects ----------------------------------------------------------------------------------------


def effect(standing: Standing, world: World, at: int) -> object:
    book = Book(standings={"new": standing}, looked_at=at - MINUTE)
    return examiner().happening(book, arrival(at), "new", world.snapshot(at), ())


GONE = steady(NOW).arrive("old", NOW, NOW + 3 * HOUR, pane(20))
STAYS = steady(NOW + 3 * HOUR)


def verifying(acted_at: int | None, state: State = State.VERIFYING) -> Standing:
    return Standing(state=state, decision="d", ordered_at=NOW - MINUTE, acted_at=acted_at)


@pytest.mark.parametrize("minutes", [1, 2, 30, 150])
def test_traffic_that_is_gone_after_the_drain_verifies_a_rollback(minutes: int) -> None:
    at = NOW + minutes * MINUTE
    expected = Verified(at) if minutes > 1 else None  # the first minute is the drain
    assert effect(verifying(NOW), GONE, at) == expected


def test_traffic_that_stays_fails_the_rollback_after_its_time() -> None:
    assert effect(verifying(NOW), STAYS, NOW + MINUTE) is None
    for minutes in range(2, 11):
        at = NOW + minutes * MINUTE
        assert effect(verifying(NOW), STAYS, at) == Waiting(at, NOT_GONE)
    at = NOW + 11 * MINUTE
    failed = Failed(at, "new still gets 100.0% of its intended traffic")
    for state in (State.VERIFYING, State.ROLLBACK_FAILED):
        assert effect(verifying(NOW, state), STAYS, at) == failed
    # Nobody has taken the order (again) yet.
    assert effect(verifying(None, State.ROLLBACK_FAILED), STAYS, at) is None


def test_traffic_that_goes_late_verifies_even_a_failed_rollback() -> None:
    world = steady(NOW + HOUR).arrive("old", NOW + HOUR, NOW + 2 * HOUR, pane(20))
    at = NOW + HOUR + MINUTE
    for state in (State.VERIFYING, State.ROLLBACK_FAILED):
        assert effect(verifying(NOW, state), world, at) == Verified(at)


def test_a_trickle_that_is_left_counts_as_none() -> None:
    world = steady(NOW).arrive("old", NOW, NOW + HOUR, pane(100))
    at = NOW + 5 * MINUTE
    gone, stays = Verified(at), Waiting(at, NOT_GONE)
    for stray, found in ((3, gone), (4, stays)):  # 1 % of the 300 it was meant to get
        world.arrive("new", at - MINUTE, at - MINUTE + 1, pane(stray))
        assert effect(verifying(NOW), world, at) == found


def test_where_nothing_flows_nothing_is_verified_and_nothing_failed() -> None:
    at = NOW + HOUR
    assert effect(verifying(NOW), steady(NOW), at) == Waiting(at, UNSEEN)


def test_traffic_that_somebody_moved_by_hand_verifies_an_order_that_no_actuator_took() -> None:
    for state in (State.ROLLING_BACK, State.ROLLBACK_FAILED):
        assert effect(verifying(None, state), GONE, NOW + 3 * MINUTE) == Verified(NOW + 3 * MINUTE)


def test_a_crashed_treatment_does_not_verify_an_order_that_no_actuator_took() -> None:
    silent = World().arrive("old", START, NOW + HOUR, pane(20))
    for state in (State.ROLLING_BACK, State.ROLLBACK_FAILED):
        assert effect(verifying(None, state), silent, NOW + 30 * MINUTE) is None
    assert effect(verifying(NOW), silent, NOW + 30 * MINUTE) == Verified(NOW + 30 * MINUTE)


def test_effects_are_looked_at_with_arrivals_only() -> None:
    book = Book(standings={"new": verifying(NOW)})
    edge = Edge(NOW + HOUR, "cohort", NOW)
    snapshot = GONE.snapshot(NOW + HOUR)
    assert examiner().happening(book, edge, "new", snapshot, ()) is None


def test_a_cohort_look_sees_labels_and_leaves_arrivals_alone() -> None:
    world = World().mature("new", START, NOW, matured(fp=200))
    snapshot = world.snapshot(NOW, final_to=NOW)
    book = Book(looked_at=NOW - MINUTE, standings={"new": Standing(streaks={PRECISION.name: 1})})
    book, look = looked(book, Edge(NOW, "cohort", NOW - COHORT), snapshot)
    assert (book.looked_at, book.cohort_at) == (NOW - MINUTE, NOW - COHORT)
    assert look.harm == ("precision 0 breaches the bound 0.5",)
