"""Deliberating: decisions, orders and epochs, and that they do not depend on who looks when."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, WAIT, World, matured, pane, steady

from alerts.actuators.log import order_json
from alerts.book import Book, Decision, Phase
from alerts.bookkeeping import ROLLBACKS_KEPT
from alerts.chain import broken
from alerts.deliberate import Deliberation, Outcome
from alerts.examine import MISMATCHED
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.machine import (
    BRAKED,
    Accepted,
    Command,
    Elapsed,
    Failed,
    Happening,
    Look,
    ReadBack,
)
from alerts.order import Order, Verification
from alerts.standing import Pause, Standing, State
from alerts.testing import Testing
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE, Experiment
from metrics.layout import FINE_WIDTH
from metrics.snapshot import Snapshot


NOW = START + 90 * MINUTE
ERRORS = Guardrail(
    metric="error_rate", window=Duration(5 * MINUTE), max=0.1, consecutive=2, min_count=20
)
RULES = (
    ERRORS,
    Guardrail(metric="latency_p99_ms", window=Duration(2 * HOUR), max=400.0, consecutive=1),
    Guardrail(metric="selection_rate", window=Duration(10 * MINUTE), margin=0.3),
    Guardrail(metric="precision", window=Duration(2 * COHORT), margin=0.1, consecutive=2),
)
THREE = msgspec.structs.replace(EXPERIMENT, variants={"old": 0.4, "new": 0.3, "newer": 0.3})


def deliberation(
    rules: Sequence[Guardrail] = RULES,
    *,
    experiment: Experiment = EXPERIMENT,
    fingerprint: str = "f1",
    dry_run: bool = False,
    **options: Any,
) -> Deliberation:
    return Deliberation(experiment, rules, HoldOptions(**options), fingerprint, dry_run)


@dataclass(slots=True)
class Case:
    """An experiment that is judged tick by tick, with an actuator that accepts at once."""

    world: World
    deliberation: Deliberation = field(default_factory=deliberation)
    book: Book = field(default_factory=Book)
    decisions: list[Decision] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    allowed: int | None = None
    accepts: bool = True

    def snapshot(self, watermark: int, **known: Any) -> Snapshot:
        variants = self.deliberation.experiment.variants
        return self.world.snapshot(watermark, variants=variants, **known)

    def tick(self, watermark: int, **known: Any) -> "Case":
        """Make every look that has become possible."""
        snapshot = self.snapshot(watermark, **known)
        for edge in self.deliberation.examiner.edges(self.book, snapshot):
            self.take(self.deliberation.look(self.book, edge, snapshot, allowed=self.allowed))
        return self

    def ticks(self, start: int, end: int, step: int = MINUTE) -> "Case":
        """Tick at every `step` of [start, end]."""
        for watermark in range(start, end + 1, step):
            self.tick(watermark)
        return self

    def take(self, outcome: Outcome) -> None:
        """Write down what a step made, and carry its orders out."""
        self.book = outcome.book
        self.decisions += outcome.decisions
        self.orders += outcome.orders
        for order in outcome.orders if self.accepts else ():
            self.tell(order.treatment, Accepted(order.decided_at))
            unread = ReadBack(order.decided_at, Verification.UNSUPPORTED)
            self.tell(order.treatment, unread)

    def tell(self, treatment: str, happening: Happening, watermark: int | None = None) -> None:
        """Let something happen to one treatment."""
        snapshot = self.snapshot(watermark or happening.at)
        self.take(self.deliberation.apply(Outcome(self.book), treatment, happening, snapshot))

    def state(self, treatment: str = "new") -> State:
        """Where a treatment stands."""
        return self.book.standings[treatment].state

    def actions(self, treatment: str = "new") -> list[str]:
        """What was decided about a treatment."""
        return [found.action for found in self.decisions if found.treatment == treatment]


def command(at: int, verb: str, reason: str = "because", *, force: bool = False) -> Command:
    return Command(at, verb, "ann", reason, force=force)


def failing(world: World, start: int, end: int, variant: str = "new") -> World:
    """Let half of the requests fail."""
    return world.arrive(variant, start, end, pane(10, errors=5, latency_ms=20, labelled=5))


def rolled_back(end: int = NOW + 4 * HOUR) -> Case:
    """A treatment that began to fail an hour in, was rolled back, and whose traffic went."""
    world = failing(steady(end), START + HOUR, START + HOUR + 5 * MINUTE)
    world.arrive("new", START + HOUR + 5 * MINUTE, end, pane(0))
    case = Case(world).ticks(START, NOW)
    assert case.actions() == ["rollback", "accepted", "rolled_back"]
    return case


# --- decisions --------------------------------------------------------------------------------------


def test_a_treatment_that_is_well_becomes_healthy_without_any_decision() -> None:
    case = Case(steady(NOW)).ticks(START, NOW)
    assert case.state() is State.HEALTHY
    assert case.decisions == []


def test_a_treatment_that_fails_is_rolled_back_and_verified() -> None:
    case = rolled_back()
    rollback = case.decisions[0]
    assert rollback.at == START + HOUR + 3 * MINUTE  # 1/10 of five minutes, two looks in a row
    assert rollback.reasons == (case.decisions[0].judgements[ERRORS.name].reason,)
    assert (rollback.before, rollback.state) == (State.SUSPECT, State.ROLLING_BACK)
    assert case.book.standings["new"].verified is True


def test_late_labels_roll_back_a_treatment_that_loses_money() -> None:
    world = steady(NOW).mature("new", START + 20 * MINUTE, NOW, matured(tp=20, fp=280, tn=300))
    case = Case(world).ticks(START, NOW)
    assert case.actions()[0] == "rollback"
    assert case.decisions[0].at == START + 40 * MINUTE + WAIT
    assert "precision" in case.decisions[0].reasons[0]


def test_an_order_carries_the_decision_and_its_evidence() -> None:
    case = rolled_back()
    (order,), decision = case.orders, case.decisions[0]
    assert order.id == decision.id
    assert (order.experiment, order.treatment, order.control) == ("offers", "new", "old")
    assert (order.decided_at, order.reasons) == (decision.at, decision.reasons)
    assert json.loads(order_json(order))["evidence"] == {
        "judgements": msgspec.to_builtins(decision.judgements),
        "counts": decision.counts,
        "phase": msgspec.to_builtins(decision.phase),
        "settings": "f1",
        "watermark": decision.watermark,
    }


def test_every_decision_has_complete_evidence_that_survives_being_written_down() -> None:
    for decision in rolled_back().decisions:
        assert decision.experiment == "offers"
        assert decision.settings == "f1"
        assert decision.actor == "abmonitor"
        assert decision.epoch == 1
        assert decision.watermark == decision.at
        assert set(decision.counts) == {"old", "new"}
        assert set(decision.judgements) == {rule.name for rule in RULES}
        assert decision.phase is not None
        packed = msgspec.json.encode(decision)
        assert msgspec.json.decode(packed, type=Decision) == decision


def test_counts_are_those_of_mature_cohorts_of_the_epoch_that_were_looked_at() -> None:
    decision = rolled_back().decisions[0]  # an hour in, four cohorts had matured
    assert decision.counts["new"] == {
        "tp": 800, "fp": 400, "tn": 1000, "fn": 200, "predictions": 2400, "errors": 0,
    }  # fmt: skip
    case = rolled_back()
    case.tell("new", command(NOW, "rearm"))
    case.tell("new", command(NOW + 35 * MINUTE, "rollback"), NOW + 35 * MINUTE)
    assert case.decisions[-1].counts["new"]["tp"] == 0


def test_a_person_is_named_in_what_he_or_she_decides() -> None:
    case = Case(steady(NOW)).tick(NOW)
    case.tell("new", command(NOW, "rollback"))
    decision = case.decisions[0]
    assert (decision.actor, decision.reasons) == ("ann", ("ann: because",))
    assert len(case.orders) == 1


def test_a_dry_run_decides_the_same_but_orders_nothing() -> None:
    live, dry = rolled_back(), Case(rolled_back().world, deliberation(dry_run=True))
    dry.ticks(START, NOW)
    assert dry.actions() == ["would_roll_back"]
    (decision,) = dry.decisions
    assert decision.dry_run
    assert (decision.at, decision.reasons) == (live.decisions[0].at, live.decisions[0].reasons)
    assert dry.orders == []
    assert dry.book.rollbacks == ()


def test_ids_tell_experiment_treatment_time_and_number_and_never_repeat() -> None:
    case = rolled_back()
    case.tell("new", command(NOW, "rearm"))
    case.tell("new", command(NOW, "pause"))
    case.tell("new", command(NOW, "pause", "and again"))
    ids = [decision.id for decision in case.decisions]
    assert ids[0] == f"offers:new:{START + HOUR + 3 * MINUTE}:1"
    assert len(set(ids)) == len(ids) == case.book.decisions == 6
    assert [int(name.rsplit(":", 1)[1]) for name in ids] == list(range(1, 7))


def test_actions_are_counted_by_treatment_for_ever() -> None:
    case = rolled_back()
    for n in range(150):
        case.tell("new", command(NOW, "pause", f"{n}"))
    assert case.book.actions == {
        "new": {"rollback": 1, "accepted": 1, "rolled_back": 1, "pause": 150}
    }


# --- two treatments ---------------------------------------------------------------------------------


def three_variants(end: int) -> World:
    world = World()
    for variant, per_pane in (("old", 8), ("new", 6), ("newer", 6)):
        world.arrive(variant, START, end, pane(per_pane, latency_ms=20, labelled=3))
        world.mature(variant, START, end, matured(tp=200, fp=100, tn=250, fn=50))
    return world


def test_each_treatment_is_judged_for_itself() -> None:
    world = three_variants(NOW)
    gone = START + 35 * MINUTE
    world.arrive("new", START + 30 * MINUTE, gone, pane(6, errors=5, latency_ms=20, labelled=3))
    world.arrive("new", gone, NOW, pane(0))
    world.arrive("old", gone, NOW, pane(14, latency_ms=20, labelled=3))  # the control takes it over
    case = Case(world, deliberation(experiment=THREE)).ticks(START, NOW)
    assert case.actions("new") == ["rollback", "accepted", "rolled_back"]
    assert case.actions("newer") == []
    assert (case.state("new"), case.state("newer")) == (State.ROLLED_BACK, State.HEALTHY)
    assert case.book.phase is not None
    assert case.book.phase.split == pytest.approx({"old": 0.7, "new": 0.0, "newer": 0.3})
    assert case.book.worst(THREE.treatments) is State.ROLLED_BACK


def test_both_treatments_can_be_rolled_back_at_one_look() -> None:
    world = three_variants(NOW)
    for variant in THREE.treatments:
        failing(world, START + HOUR, NOW, variant)
    case = Case(world, deliberation(experiment=THREE)).tick(START + HOUR + 5 * MINUTE)
    assert [order.treatment for order in case.orders] == ["new", "newer"]
    assert len({order.id for order in case.orders}) == 2


def test_the_brake_counts_the_rollbacks_of_the_very_same_look() -> None:
    world = three_variants(NOW)
    for variant in THREE.treatments:
        failing(world, START + HOUR, NOW, variant)
    case = Case(world, deliberation(experiment=THREE), allowed=1)
    case.tick(START + HOUR + 2 * MINUTE)
    assert case.actions("new") == ["rollback", "accepted"]
    assert case.actions("newer") == ["braked"]
    assert case.book.standings["newer"].causes[0] == BRAKED


def test_the_worst_state_is_that_of_the_treatments_that_are_asked_for() -> None:
    book = Book(
        standings={"gone": Standing(state=State.ROLLED_BACK), "new": Standing(state=State.HOLD)}
    )
    assert book.worst(["new", "newer"]) is State.HOLD
    assert book.worst(["newer"]) is State.COLLECTING
    assert book.worst(["gone", "new"]) is State.ROLLED_BACK


# --- phases and epochs ------------------------------------------------------------------------------


def test_the_change_of_the_split_by_a_rollback_is_no_mismatch() -> None:
    case = rolled_back().ticks(NOW, NOW + 2 * HOUR)
    assert case.book.mismatched == ()
    assert case.book.phase is not None
    assert case.book.phase.split == {"old": 1.0, "new": 0.0}


def test_a_treatment_that_is_armed_again_begins_anew_and_waits_for_its_traffic() -> None:
    end = NOW + 4 * HOUR
    case = rolled_back(end)
    back = NOW + HOUR
    case.world.arrive("new", back, end, pane(10, latency_ms=20, labelled=5))
    case.ticks(NOW, NOW + 10 * MINUTE)
    case.tell("new", command(NOW + 10 * MINUTE, "rearm"))
    assert "new" not in case.book.judgements
    case.ticks(NOW + 10 * MINUTE, back)
    assert case.actions()[3:] == ["rearm", "hold"]  # silent, but that is no harm yet
    case.ticks(back, end)
    assert case.actions()[3:] == ["rearm", "hold", "release"]
    assert case.state() is State.HEALTHY
    assert case.book.standings["new"].epoch == 2
    assert case.book.mismatched == ()


def test_the_old_epoch_is_not_held_against_the_new_one() -> None:
    end = NOW + 2 * HOUR
    world = failing(steady(end), START, NOW - 2 * MINUTE)
    world.mature("new", START, NOW, matured(fp=600))
    case = Case(world).tick(NOW - 2 * MINUTE)
    case.tell("new", Accepted(NOW - 2 * MINUTE, observable=False))
    world.arrive("new", NOW - 2 * MINUTE, end, pane(10, latency_ms=20, labelled=5))
    case.book = msgspec.structs.replace(
        case.book, standings={"new": Standing(state=State.ROLLED_BACK)}
    )
    case.tell("new", command(NOW - 2 * MINUTE, "rearm"))
    before = len(case.decisions)
    case.ticks(NOW - 2 * MINUTE, end)
    assert case.decisions[before:] == []
    assert case.state() is State.HEALTHY


@pytest.mark.parametrize("state", sorted(State))
def test_other_settings_start_a_new_epoch_but_what_was_rolled_back_stays_so(state: State) -> None:
    over = state in {"collecting", "hold", "healthy", "suspect", "passed", "would_roll_back"}
    pause = Pause("ann", "because")
    before = Standing(state=state, streaks={ERRORS.name: 1}, epoch=3, paused=pause)
    snapshot = steady(NOW).snapshot(NOW)
    book = Book(
        standings={"new": before},
        settings="f1",
        looked_at=NOW - MINUTE,
        mismatched=("new",),
        phase=Phase(since=START, split={"old": 0.5, "new": 0.5}, counts={"old": 9, "new": 9}),
    )
    changed = deliberation(fingerprint="f2")
    edge = changed.examiner.edges(book, snapshot)[-1]
    after = changed.look(book, edge, snapshot).book
    standing = after.standings["new"]
    assert after.settings == "f2"
    assert after.mismatched == ()
    assert standing.epoch == (4 if over else 3)
    assert standing.begun == (NOW if over else 0)
    assert standing.paused == pause
    assert over or standing.state is state


def test_settings_that_stay_start_nothing() -> None:
    case = Case(steady(NOW)).tick(NOW - MINUTE).tick(NOW)
    assert case.book.standings["new"].epoch == 1
    assert case.book.standings["new"].begun == 0


def test_settings_may_change_while_a_treatment_is_silent_without_hiding_that() -> None:
    world = steady(NOW).arrive("old", NOW, NOW + HOUR, pane(10, labelled=5))
    case = Case(world).ticks(START, NOW + 5 * MINUTE)
    case.deliberation = deliberation(fingerprint="f2")
    case.ticks(NOW + 5 * MINUTE, NOW + 30 * MINUTE)
    assert case.actions() == ["hold", "hold", "rollback", "accepted", "rolled_back"]
    assert "no predictions for 15m" in case.decisions[2].reasons[0]


def test_guardrails_may_be_renamed_while_a_treatment_is_rolled_back() -> None:
    case = rolled_back()
    case.deliberation = deliberation((RULES[1],), fingerprint="f2")
    case.ticks(NOW, NOW + 5 * MINUTE)
    assert case.state() is State.ROLLED_BACK


def test_a_treatment_that_is_added_later_collects() -> None:
    case = Case(three_variants(NOW)).ticks(START, START + HOUR)
    case.deliberation = deliberation(experiment=THREE, fingerprint="f2")
    case.tick(START + HOUR + MINUTE)
    assert case.state("newer") is State.COLLECTING
    assert case.book.standings["newer"].epoch == 1


# --- holding ----------------------------------------------------------------------------------------


def test_a_mismatch_holds_until_a_person_acknowledges_it_and_judging_begins_anew() -> None:
    world = steady(NOW + 3 * HOUR)
    world.arrive("new", START, START + 30 * MINUTE, pane(5, latency_ms=20, labelled=3))
    case = Case(world).ticks(START, NOW)
    assert case.actions() == ["hold"]
    assert case.book.standings["new"].causes == (MISMATCHED,)
    case.tell("new", command(NOW, "resume"))
    assert case.book.mismatched == ()
    assert case.book.phase is not None
    assert case.book.phase.counts == {}
    case.ticks(NOW, NOW + 3 * HOUR)
    assert case.actions() == ["hold", "resume"]
    assert case.state() is State.HEALTHY
    assert case.book.standings["new"].begun == NOW


@pytest.mark.parametrize(("state", "verb"), [(State.HOLD, "resume"), (State.ROLLED_BACK, "rearm")])
def test_beginning_anew_forgets_what_was_found_about_this_treatment_only(
    state: State, verb: str
) -> None:
    both = ("new", "newer")
    judgement = rolled_back().decisions[0].judgements
    book = Book(
        standings={name: Standing(state=state) for name in both},
        judgements=dict.fromkeys(both, judgement),
        holds=dict.fromkeys(both, (MISMATCHED,)),
        mismatched=both,
    )
    case = Case(three_variants(NOW), deliberation(experiment=THREE), book)
    case.tell("new", command(NOW, verb))
    assert (case.book.judgements, case.book.holds, case.book.mismatched) == (
        {"newer": judgement},
        {"newer": (MISMATCHED,)},
        ("newer",),
    )


def test_a_mismatch_does_not_mask_harm() -> None:
    world = steady(NOW)
    world.arrive("new", START, NOW, pane(5, errors=3, latency_ms=20, labelled=3))
    case = Case(world).ticks(START, START + 10 * MINUTE)
    assert case.actions()[0] == "rollback"


def test_a_silent_treatment_is_held_then_rolled_back() -> None:
    world = steady(NOW).arrive("old", NOW, NOW + HOUR, pane(10, labelled=5))
    case = Case(world).ticks(START, NOW + 17 * MINUTE)
    held, ordered = case.decisions[:2]
    assert (held.action, ordered.action) == ("hold", "rollback")
    assert NOW < held.at <= NOW + 5 * MINUTE
    assert ordered.at == NOW + 15 * MINUTE


def test_an_outage_of_labels_holds_and_is_not_read_as_everybody_declining() -> None:
    world = steady(NOW)
    stop = NOW + 2 * HOUR
    for variant in EXPERIMENT.variants:
        world.arrive(variant, NOW, stop, pane(10, latency_ms=20))
        world.arrive(variant, stop, stop + HOUR, pane(10, latency_ms=20, labelled=5))
        world.mature(variant, NOW, stop + HOUR, matured(tp=200, fp=100, tn=250, fn=50))
    case = Case(world).ticks(START, NOW)
    for watermark in range(NOW, stop, MINUTE):  # labels are final up to the last outcome only
        case.tick(watermark, final_to=min(watermark - WAIT, NOW))
    assert case.actions() == ["hold"]
    assert case.state() is State.HOLD
    case.ticks(stop, stop + HOUR)
    assert case.actions() == ["hold", "release"]
    assert case.state() is State.HEALTHY


def test_a_deadline_ends_a_hold_in_a_rollback() -> None:
    world = World()
    for variant in EXPERIMENT.variants:
        world.arrive(variant, START, NOW, pane(10))  # no label ever comes
    case = Case(world, deliberation(deadline=Duration(30 * MINUTE))).ticks(START, NOW)
    held, ordered = case.decisions[:2]
    assert (held.action, ordered.action) == ("hold", "rollback")
    assert ordered.at - held.at == 30 * MINUTE
    assert ordered.reasons[0].startswith("held too long: labels stalled")


# --- acting -----------------------------------------------------------------------------------------


def test_traffic_that_does_not_move_fails_the_rollback() -> None:
    case = Case(failing(steady(NOW), START, NOW)).ticks(START, START + 30 * MINUTE)
    assert case.actions() == ["rollback", "accepted", "rollback_failed"]
    accepted, failed = case.decisions[1:]
    assert failed.at - accepted.at == 11 * MINUTE


def test_a_new_rollback_forgets_how_the_one_before_went() -> None:
    case = rolled_back()
    case.accepts = False
    case.tell("new", command(NOW, "rearm"))
    case.tell("new", command(NOW + MINUTE, "rollback"))
    standing = case.book.standings["new"]
    assert (standing.acted_at, standing.verified) == (None, None)
    assert standing.ordered_at == NOW + MINUTE
    assert standing.decision == case.orders[-1].id != case.orders[0].id


def test_rollbacks_are_remembered_through_epochs_but_not_for_ever() -> None:
    case = Case(steady(NOW)).tick(NOW)
    for n in range(ROLLBACKS_KEPT + 5):
        case.tell("new", command(NOW + n, "rollback"), NOW)
        case.tell("new", Accepted(NOW + n, observable=False), NOW)
        case.tell("new", Failed(NOW + n, "too late"), NOW)
        case.book = msgspec.structs.replace(
            case.book, standings={"new": Standing(state=State.ROLLED_BACK)}
        )
        case.tell("new", command(NOW + n, "rearm", force=True), NOW)
    assert case.book.rollbacks == tuple(range(NOW + 5, NOW + ROLLBACKS_KEPT + 5))


def test_a_look_at_stale_data_with_nothing_known_yet_is_taken_as_any_other() -> None:
    case = Case(World())
    case.tell("new", Look(NOW, hold=("stale",)))
    assert (case.state(), case.book.standings["new"].since) == (State.HOLD, NOW)


# --- orders -----------------------------------------------------------------------------------------


def test_an_order_tells_the_split_that_is_intended_once_it_is_carried_out() -> None:
    (order,) = rolled_back().orders
    assert order.split == {"old": 1.0, "new": 0.0}
    assert order.epoch == 1


def test_the_order_for_a_second_treatment_does_not_bring_the_first_one_back() -> None:
    world = three_variants(NOW)
    for variant in THREE.treatments:
        failing(world, START + HOUR, NOW, variant)
    case = Case(world, deliberation(experiment=THREE)).ticks(START, START + HOUR + 5 * MINUTE)
    first, second = case.orders
    assert first.split == pytest.approx({"old": 0.7, "new": 0.0, "newer": 0.3})
    assert second.split == {"old": 1.0, "new": 0.0, "newer": 0.0}


def test_where_nobody_knows_the_split_an_order_tells_none() -> None:
    case = Case(steady(NOW))
    case.tell("new", command(NOW, "rollback"))
    assert case.orders[0].split == {}
    unknown = Phase(since=START, split={"old": 0.0, "new": 0.0})
    case = Case(steady(NOW), book=Book(phase=unknown))
    case.tell("new", command(NOW, "rollback"))
    assert case.orders[0].split == {}


@pytest.mark.parametrize("state", sorted({*State} - {State.ROLLED_BACK}))
def test_only_rollbacks_are_ordered(state: State) -> None:
    book = Book(standings={"new": Standing(state=state)})
    for verb in ("pause", "resume", "rearm", "end"):
        case = Case(steady(NOW), book=book, accepts=False)
        case.tell("new", command(NOW, verb, force=True))
        assert case.orders == []


# --- traffic that comes back --------------------------------------------------------------------------


def test_traffic_that_comes_back_is_ordered_away_again_by_a_new_order() -> None:
    case = rolled_back(NOW + HOUR)
    case.world.arrive("new", NOW, NOW + 4 * MINUTE, pane(10, latency_ms=20, labelled=5))
    case.ticks(NOW, NOW + 20 * MINUTE)
    assert case.actions()[3:] == ["traffic_returned", "accepted", "rolled_back"]
    first, second = case.orders
    back = case.decisions[3]
    assert back.at == NOW + 3 * MINUTE
    assert second.id == back.id != first.id
    assert (second.action, second.reasons) == ("rollback", back.reasons)
    assert second.split == {"old": 1.0, "new": 0.0}
    assert case.book.rollbacks == (case.decisions[0].at,)  # the brake counts what was found anew


def test_traffic_that_comes_back_is_not_braked_and_brakes_nobody() -> None:
    case = rolled_back(NOW + HOUR)
    case.world.arrive("new", NOW, NOW + 30 * MINUTE, pane(10, latency_ms=20, labelled=5))
    case.allowed = 0
    case.ticks(NOW, NOW + 5 * MINUTE)
    assert case.actions()[3:] == ["traffic_returned", "accepted"]


# --- how long it may take -----------------------------------------------------------------------------

LONG = Testing(min_duration=Duration(MINUTE), max_duration=Duration(30 * MINUTE))
OVER = "testing.max_duration, 30m, is over: end it, or extend max_duration"


def timed(testing: Testing = LONG, rules: Sequence[Guardrail] = RULES) -> Deliberation:
    return Deliberation(EXPERIMENT, rules, HoldOptions(), "f1", testing=testing)


def test_an_experiment_that_takes_too_long_is_held_with_one_decision() -> None:
    case = Case(steady(NOW), timed()).ticks(START, NOW)
    (decision,) = case.decisions
    assert (decision.action, decision.at) == ("hold", START + 30 * MINUTE)
    assert decision.reasons == (OVER,)
    longer = msgspec.structs.replace(LONG, max_duration=Duration(3 * HOUR))
    case.deliberation = timed(longer)
    case.tick(NOW + MINUTE)
    assert case.actions() == ["hold", "release"]


def test_harm_is_acted_on_after_the_time_is_over() -> None:
    case = Case(failing(steady(NOW), START + HOUR, NOW), timed()).ticks(START, NOW)
    assert case.actions()[:2] == ["hold", "rollback"]


def test_a_person_ends_an_experiment_whose_time_is_over() -> None:
    case = Case(steady(NOW), timed()).ticks(START, NOW)
    case.tell("new", command(NOW, "end"))
    assert case.state() is State.ENDED
    assert case.tick(NOW + 5 * MINUTE).actions() == ["hold", "end"]


@pytest.mark.parametrize("state", [State.PASSED, State.SUSPECT, State.HOLD])
def test_what_has_passed_stays_so_when_the_time_is_over(state: State) -> None:
    case = Case(steady(NOW), timed()).ticks(START, START + 20 * MINUTE)
    passed = Standing(state=state, since=START, passed=state is not State.PASSED)
    case.book = msgspec.structs.replace(case.book, standings={"new": passed})
    case.ticks(START + 20 * MINUTE, NOW)
    assert OVER not in case.book.holds["new"]
    assert "hold" not in case.actions()


# --- after a promotion --------------------------------------------------------------------------------

ERRORS_PROVEN = Guardrail(metric="error_rate", test="sequential", margin=0.2, warm_up=Duration(0))


def promoted(end: int) -> Case:
    """A treatment that passed, and got all the traffic from NOW on."""
    world = steady(end)
    world.arrive("old", NOW, end, pane(0))
    world.arrive("new", NOW, end, pane(20, latency_ms=20, labelled=10))
    rules = (ERRORS, ERRORS_PROVEN)
    short = Testing(min_duration=Duration(10 * MINUTE))
    case = Case(world, timed(short, rules)).ticks(START, NOW)
    assert (case.actions(), case.state()) == (["pass"], State.PASSED)
    return case


def test_what_was_promoted_is_held_visibly_when_the_control_gets_nothing_any_more() -> None:
    case = promoted(NOW + 6 * HOUR)
    case.deliberation = replace(
        case.deliberation, hold=HoldOptions(deadline=Duration(HOUR), on_deadline="rollback")
    )
    case.ticks(NOW, NOW + 6 * HOUR, 5 * MINUTE)
    assert case.actions() == ["pass", "hold", "hold_overdue"]
    assert case.book.standings["new"].causes == (MISMATCHED,)
    assert case.orders == []


def test_a_threshold_with_an_absolute_bound_still_guards_what_was_promoted() -> None:
    case = promoted(NOW + 2 * HOUR)
    bad = NOW + HOUR
    case.world.arrive("new", bad, NOW + 2 * HOUR, pane(20, errors=10, latency_ms=20, labelled=10))
    case.ticks(NOW, NOW + 2 * HOUR)
    assert case.actions()[:3] == ["pass", "hold", "rollback"]
    assert bad < case.decisions[2].at <= bad + 5 * MINUTE


def test_where_nothing_flows_what_was_promoted_is_held_and_goes_on_as_data_come() -> None:
    case = promoted(NOW + 3 * HOUR)
    for variant in EXPERIMENT.variants:
        case.world.arrive(variant, NOW, NOW + HOUR, pane(0))
        flow = pane(10, latency_ms=20, labelled=5)
        case.world.arrive(variant, NOW + HOUR, NOW + 3 * HOUR, flow)
    case.ticks(NOW, NOW + 3 * HOUR)
    assert case.actions() == ["pass", "hold", "pass"]
    assert case.decisions[1].reasons[0].startswith("no data")


# --- the chain ------------------------------------------------------------------------------------------


def test_every_decision_names_the_one_before_it() -> None:
    case = rolled_back()
    case.tell("new", command(NOW, "pause"))
    assert broken(case.decisions) is None
    assert case.decisions[0].previous == ""
    assert case.book.head == case.decisions[-1].hash
    assert broken(case.decisions[1:]) is None
    assert broken([*case.decisions[:1], *case.decisions[2:]]) is not None


# --- commands that change nothing -------------------------------------------------------------------


def test_a_command_that_changes_nothing_leaves_the_book_and_says_why_by_treatment() -> None:
    case = Case(three_variants(NOW), deliberation(experiment=THREE)).tick(NOW)
    outcome = Outcome(case.book)
    for treatment in THREE.treatments:
        said = command(NOW, "rearm")
        outcome = case.deliberation.apply(outcome, treatment, said, case.snapshot(NOW))
    assert outcome.book == case.book
    assert (outcome.decisions, outcome.orders) == ((), ())
    assert set(outcome.refused) == {"new", "newer"}


def test_what_an_outcome_held_before_is_kept() -> None:
    case = Case(steady(NOW)).tick(NOW)
    before = Outcome(case.book, evidence={"d": b"e"}, refused={"newer": "because"})
    made = case.deliberation.apply(before, "new", command(NOW, "pause"), case.snapshot(NOW))
    assert (made.evidence, made.refused) == (before.evidence, before.refused)


# --- a book that came back from the control log -------------------------------------------------------


def brought_back(book: Book) -> Book:
    """The book without what is made from the data again."""
    kept = ("standings", "past", "mismatched", "decisions", "actions", "rollbacks", "quarantined",
            "head", "settings")  # fmt: skip
    phase = book.phase and Phase(since=book.phase.since, split=book.phase.split)
    return Book(phase=phase, **{name: getattr(book, name) for name in kept})


@pytest.mark.parametrize("state", sorted(State))
def test_a_book_that_came_back_is_judged_on_whatever_the_state(state: State) -> None:
    known = Case(steady(NOW + HOUR)).ticks(START, NOW, 10 * MINUTE).book
    standing = Standing(
        state=state, since=NOW, decision="d", ordered_at=NOW - MINUTE, acted_at=NOW, accepted=1,
        failed_at=NOW, verified=True, latched=("bad",), paused=Pause("ann", "because"),
    )  # fmt: skip
    book = msgspec.structs.replace(known, standings={"new": standing})
    case = Case(steady(NOW + HOUR), book=brought_back(book), accepts=False)
    case.ticks(NOW, NOW + 30 * MINUTE)
    assert case.book.standings["new"].epoch == 1
    assert case.book.looked_at == NOW + 30 * MINUTE
    case.tell("new", Elapsed(NOW + DAY))
    assert broken(case.decisions) is None


def test_a_book_that_came_back_promotes_nothing_earlier_than_it_would_have() -> None:
    rules = (ERRORS, ERRORS_PROVEN)
    short = Testing(min_duration=Duration(80 * MINUTE))
    end = START + 2 * HOUR
    whole = Case(steady(end), timed(short, rules)).ticks(START, end)
    assert whole.actions() == ["pass"]
    lost = START + HOUR
    case = Case(steady(end), timed(short, rules)).ticks(START, lost)
    case.book = brought_back(case.book)
    case.ticks(lost, end)
    assert case.actions() == ["pass"]
    assert case.decisions[0].at >= whole.decisions[0].at >= START + 80 * MINUTE
    assert case.book.standings["new"].begun == whole.book.standings["new"].begun


# --- it does not matter how often somebody looks ----------------------------------------------------

SPAN = 2 * HOUR - FINE_WIDTH
"""As long as fine panes are kept, so that one tick at the end can still see everything."""

segments = st.lists(
    st.tuples(
        st.sampled_from([MINUTE, 3 * MINUTE, 10 * MINUTE, 25 * MINUTE, 47 * MINUTE]),
        st.builds(
            lambda n, share, latency, labelled: pane(
                n, errors=n * share // 10, acted=n // 2, latency_ms=latency, labelled=labelled
            ),
            st.sampled_from([0, 1, 9, 10, 10, 10]),
            st.sampled_from([0, 0, 0, 3, 10]),
            st.sampled_from([None, 20.0, 20.0, 900.0]),
            st.sampled_from([0, 5, 5]),
        ),
    ),
    min_size=1,
    max_size=6,
)
cohorts = st.lists(
    st.sampled_from([matured(tp=200, fp=100, tn=300), matured(tp=20, fp=280), matured(tn=600)]),
    min_size=1,
    max_size=12,
)


@st.composite
def worlds(draw: st.DrawFn, span: int = SPAN) -> World:
    """Variants that get better and worse, fall silent and come back."""
    world = World()
    for variant in THREE.variants:
        start = START
        for width, ledger in draw(segments):
            world.arrive(variant, start, min(start + width, START + span), ledger)
            start = min(start + width, START + span)
        for n, ledger in enumerate(draw(cohorts)):
            world.mature(variant, START + n * COHORT, START + n * COHORT + 1, ledger)
    return world


def judged(world: World, watermarks: Iterable[int]) -> Case:
    case = Case(world, deliberation(experiment=THREE, deadline=Duration(HOUR)), allowed=None)
    for watermark in watermarks:
        case.tick(watermark)
    return case


@settings(max_examples=15)
@given(worlds(), st.lists(st.integers(0, SPAN), max_size=12))
def test_decisions_do_not_depend_on_how_often_somebody_looks(
    world: World, offsets: list[int]
) -> None:
    at_once = judged(world, [START + SPAN])
    watermarks = sorted(START + offset for offset in (*offsets, HOUR - MINUTE, SPAN))
    bit_by_bit = judged(world, watermarks)
    assert bit_by_bit.decisions == at_once.decisions
    assert bit_by_bit.orders == at_once.orders
    assert bit_by_bit.book == at_once.book


@settings(max_examples=8)
@given(worlds(span=5 * HOUR), st.lists(st.integers(0, HOUR), min_size=5, max_size=15))
def test_nor_do_they_in_a_long_run_as_long_as_somebody_looks_every_hour(
    world: World, steps: list[int]
) -> None:
    watermarks = [START + offset for offset in accumulate(steps)]
    now_and_then = judged(world, watermarks)
    often = judged(world, [*range(START, watermarks[-1], 7 * MINUTE), watermarks[-1]])
    assert now_and_then.decisions == often.decisions
    assert now_and_then.book == often.book


@settings(max_examples=15)
@given(worlds())
def test_decisions_are_in_order_of_time_and_numbered(world: World) -> None:
    case = judged(world, range(START, START + SPAN, 25 * MINUTE))
    moments = [decision.at for decision in case.decisions]
    assert moments == sorted(moments)
    numbers = [int(decision.id.rsplit(":", 1)[1]) for decision in case.decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    counted = sum(sum(mine.values()) for mine in case.book.actions.values())
    assert counted == len(numbers)
    assert msgspec.json.decode(msgspec.json.encode(case.book), type=Book) == case.book


def test_a_monitor_that_was_away_for_hours_judges_what_can_still_be_judged() -> None:
    away = NOW + 6 * HOUR
    case = Case(steady(away + HOUR)).ticks(START, NOW)
    case.ticks(away, away + 5 * MINUTE)
    assert case.decisions == []
    assert case.state() is State.HEALTHY
    assert case.book.looked_at == away + 5 * MINUTE
    assert case.book.cohort_at == away + 5 * MINUTE - WAIT - (away + 5 * MINUTE - WAIT) % COHORT


def test_a_cohort_that_matured_late_is_decided_about_when_it_matured() -> None:
    world = steady(NOW + HOUR).mature("new", NOW - HOUR, NOW, matured(fp=600))
    case = Case(world)
    for watermark in range(START, NOW + 1, MINUTE):  # the sweep lags behind
        case.tick(watermark, final_to=min(watermark - WAIT, NOW - HOUR))
    assert case.decisions == []
    case.tick(NOW, final_to=NOW - 2 * COHORT)
    assert case.actions() == ["rollback", "accepted"]
    assert {decision.at for decision in case.decisions} == {NOW}
