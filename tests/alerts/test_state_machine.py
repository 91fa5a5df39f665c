"""The state machine among data, actuators, clocks and people: what holds on every path, and that it goes on.

A treatment is judged minute by minute while traffic comes and goes, an actuator answers or does not, and
people say what they like. At the end everything becomes well, and then bad: wherever the path led, the
treatment must be watched again, and rolled back.
"""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from support.panes import EXPERIMENT, START, World, pane

from alerts.book import Book, Decision
from alerts.chain import broken
from alerts.deliberate import Deliberation, Outcome
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions, arrived
from alerts.judge import Phase as Verdict
from alerts.machine import (
    Accepted,
    Alarm,
    Command,
    Elapsed,
    Failed,
    Happening,
    ReadBack,
    needs_clock,
)
from alerts.order import Order, Verification
from alerts.standing import ACTING, WATCHED, Standing, State
from alerts.testing import Testing
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE


RULES = (
    Guardrail(
        metric="error_rate", window=Duration(3 * MINUTE), max=0.3, consecutive=2, min_count=50
    ),
    Guardrail(metric="error_rate", test="sequential", margin=0.3),
)
TESTING = Testing(min_duration=Duration(5 * MINUTE), planned=1_000)
WELL, BAD, NONE = (
    pane(20, latency_ms=20, labelled=10),
    pane(20, errors=16, latency_ms=20, labelled=2),
    pane(0),
)
TRAFFIC = {
    "well": (WELL, WELL),
    "bad": (WELL, BAD),
    "silent": (WELL, NONE),
    "promoted": (NONE, WELL),
    "nothing": (NONE, NONE),
}
"""What control and treatment get."""

WANTED = {State.COLLECTING, State.HEALTHY, State.SUSPECT, State.PASSED}
"""States of a treatment that is watched and not held."""

options = st.builds(
    HoldOptions,
    silence=st.just(Duration(6 * MINUTE)),
    deadline=st.sampled_from([None, Duration(5 * MINUTE)]),
    on_deadline=st.sampled_from(["alert", "rollback"]),
    verify_for=st.just(Duration(4 * MINUTE)),
    escalate_after=st.just(Duration(6 * MINUTE)),
)


class Treated(RuleBasedStateMachine):
    """One treatment, its traffic, its actuator, and the people around it."""

    def __init__(self) -> None:
        super().__init__()
        self.world, self.now, self.book = World(), START, Book()
        self.decisions: list[Decision] = []
        self.orders: dict[str, Order] = {}
        self.off = self.braked = False
        """Whether the treatment's traffic was taken away; whether the brake is on."""

    @initialize(hold=options, dry=st.booleans())
    def declare(self, hold: HoldOptions, *, dry: bool) -> None:
        self.deliberation = Deliberation(EXPERIMENT, RULES, hold, "f", dry, TESTING)
        self.flow("well", 1)

    @property
    def standing(self) -> Standing:
        """Where the treatment stands."""
        return self.book.standings.get("new", Standing())

    # --- what happens -------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(sorted(TRAFFIC)), minutes=st.sampled_from([1, 2, 4, 8]))
    def flow(self, kind: str, minutes: int) -> None:
        """Let time pass with some traffic, and look at it each minute."""
        control, treatment = TRAFFIC[kind]
        if self.off:
            control, treatment = (control if kind == "nothing" else WELL), NONE
        for _ in range(minutes):
            later = self.now + MINUTE
            self.world.arrive("old", self.now, later, control)
            self.world.arrive("new", self.now, later, treatment)
            self.now = later
            self.look()

    def look(self) -> None:
        """Make every look that has become possible."""
        snapshot, allowed = self.world.snapshot(self.now), 0 if self.braked else None
        for edge in self.deliberation.examiner.edges(self.book, snapshot):
            before = self.standing
            made = self.deliberation.look(self.book, edge, snapshot, allowed=allowed)
            self.take(made, before, None)

    def tell(self, happening: Happening) -> Outcome:
        """Let something happen."""
        before, snapshot = self.standing, self.world.snapshot(self.now)
        made = self.deliberation.apply(
            Outcome(self.book), "new", happening, snapshot, braked=self.braked
        )
        self.take(made, before, happening)
        return made

    @precondition(lambda self: self.standing.state in ACTING and self.standing.acted_at is None)
    @rule(accepts=st.booleans(), works=st.booleans())
    def carry_out(self, *, accepts: bool, works: bool) -> None:
        """Let the actuator answer; an order that it takes may have no effect."""
        self.off = self.off or (accepts and works)
        self.tell(Accepted(self.now) if accepts else Failed(self.now, "503"))

    @precondition(lambda self: self.standing.state in ACTING and self.standing.acted_at is not None)
    @rule(state=st.sampled_from(Verification))
    def read_back(self, state: Verification) -> None:
        self.tell(ReadBack(self.now, state))

    @precondition(lambda self: self.off)
    @rule()
    def promote_behind_its_back(self) -> None:
        self.off = False

    @rule(ahead=st.sampled_from([0, MINUTE, HOUR]))
    def pass_time(self, ahead: int) -> None:
        """Let the clock, which may be ahead of the data, tell the time."""
        if needs_clock(self.standing):
            self.tell(Elapsed(self.now + ahead))

    @rule(
        verb=st.sampled_from(["rollback", "pause", "resume", "rearm", "end"]),
        lasts=st.sampled_from([None, 0, 5 * MINUTE]),
        force=st.booleans(),
    )
    def say(self, verb: str, lasts: int | None, *, force: bool) -> None:
        """Let a person say something; only seldom that it is all over."""
        if verb == "end" and len(self.decisions) % 4:
            return
        until = None if lasts is None else self.now + lasts
        before, count = self.book, len(self.decisions)
        made = self.tell(Command(self.now, verb, "ann", "because", until, force))
        changed = len(self.decisions) > count
        assert changed is not bool(made.refused)
        assert changed or self.book == before
        if verb in {"rearm", "end"} and changed:
            self.off = False

    @rule(ago=st.sampled_from([0, MINUTE, HOUR]))
    def raise_an_alarm(self, ago: int) -> None:
        """Let somebody else's monitoring raise an alarm, and say it again."""
        began, before, count = self.now - ago, self.book, len(self.decisions)
        said = Alarm(self.now, began, "alertmanager: Slow", ("alertmanager: Slow: it is slow",))
        was = self.standing
        made = self.tell(said)
        assert (len(self.decisions) > count) is not bool(made.refused)
        assert made.decisions or self.book == before
        acts = was.state in WATCHED and began >= was.begun and not was.latched
        assert bool(made.decisions) or not acts
        after = self.book
        self.tell(Alarm(self.now, began, said.actor, ("it reads a little differently",)))
        assert self.book == after

    @rule(on=st.booleans())
    def brake(self, *, on: bool) -> None:
        self.braked = on

    # --- what holds at every step -------------------------------------------------------------------

    def take(self, made: Outcome, before: Standing, happening: Happening | None) -> None:
        """Write down what a step made, and check it."""
        self.book = made.book
        self.decisions += made.decisions
        self.orders |= {order.id: order for order in made.orders}
        after = self.standing
        if after.state is State.PASSED is not before.state:
            self.check_passed(made.decisions)
        if before.state is State.ROLLED_BACK is not after.state:
            person = isinstance(happening, Command)
            assert person or made.decisions[-1].action == "traffic_returned"
        if self.deliberation.dry_run:
            assert not self.orders
            assert after.state not in ACTING
        if self.braked and not isinstance(happening, Command):
            assert all(decision.action != "rollback" for decision in made.decisions)

    def check_passed(self, decisions: tuple[Decision, ...]) -> None:
        """What passes has been seen, by all its guardrails, and for long enough."""
        (decision,) = decisions
        assert decision.action == "pass"
        assert {each.phase for each in decision.judgements.values()} == {Verdict.PASS}
        assert len(decision.judgements) == len(RULES)
        begun, snapshot = max(START, self.standing.begun), self.world.snapshot(decision.at)
        assert decision.at - begun >= TESTING.min_duration
        for variant in EXPERIMENT.variants:
            assert arrived(snapshot, variant, begun, decision.at) > 0
        assert arrived(snapshot, "new", decision.at - 3 * MINUTE, decision.at) > 0
        assert self.standing.paused is None

    @invariant()
    def what_is_being_rolled_back_has_its_order(self) -> None:
        if self.standing.state in ACTING:
            assert self.standing.decision in self.orders

    @invariant()
    def a_hold_has_a_cause(self) -> None:
        assert bool(self.standing.causes) or self.standing.state is not State.HOLD

    # --- and that it goes on ------------------------------------------------------------------------

    def teardown(self) -> None:
        """Whatever happened: what becomes well is watched again, and harm that follows is acted on."""
        if self.now == START or self.standing.state is State.ENDED:
            return
        for _ in range(3):
            self.recover()
            if self.standing.state in WANTED:
                break
        assert self.standing.state in WANTED, self.standing
        self.flow("bad", 8)
        harmed = {State.WOULD_ROLL_BACK} if self.deliberation.dry_run else ACTING
        assert self.standing.state in harmed, self.standing
        self.finish_rollback()
        assert broken(self.decisions) is None
        assert self.book.head == self.decisions[-1].hash
        assert self.book.decisions == len(self.decisions)
        assert msgspec.json.decode(msgspec.json.encode(self.book), type=Book) == self.book

    def recover(self) -> None:
        """Let everything be well, and a person clear what only a person can."""
        self.braked = False
        if self.standing.paused:
            self.tell(Command(self.now, "resume", "ann", "over"))
        self.finish_rollback()
        if self.standing.state in {State.ROLLED_BACK, State.WOULD_ROLL_BACK}:
            self.off = False
            self.tell(Command(self.now, "rearm", "ann", "mended", force=True))
        if self.standing.state is State.HOLD:  # such as a mismatch
            self.tell(Command(self.now, "resume", "ann", "seen"))
        self.flow("well", 8)

    def finish_rollback(self) -> None:
        """Let the actuator do what it is asked, and confirm it: a rollback under way comes to its end."""
        if self.standing.state in WATCHED:
            self.tell(Elapsed(self.now))  # harm in mind after a pause
        for _ in range(3):
            if self.standing.state not in ACTING:
                return
            if self.standing.acted_at is None:
                self.tell(Accepted(self.now))
            self.off = True
            self.tell(ReadBack(self.now, Verification.DONE))
            self.flow("well", 4)
        assert self.standing.state not in ACTING, self.standing


TestTreated = Treated.TestCase
TestTreated.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
