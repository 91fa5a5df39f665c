"""Trials: sequential guardrails from what arrives and matures to decisions, as an experiment runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, WAIT, World, drawn, matured, pane, steady

from alerts.book import Book, Decision, Kept, Phase
from alerts.deliberate import Deliberation, Outcome
from alerts.edges import Edge
from alerts.examine import MISMATCHED, MIXED, Examiner
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.judge import Judgement
from alerts.judge import Phase as Verdict
from alerts.machine import Command
from alerts.standing import Standing, State
from alerts.testing import Testing, alphas
from alerts.trials import Trials
from metrics.duration import Duration
from metrics.evidence import weigh
from metrics.experiment import DAY, HOUR, MINUTE, Experiment, Step
from metrics.facts import facts_of
from metrics.layout import FINE_WIDTH
from metrics.moment import Moment
from metrics.snapshot import Snapshot


RAP = Guardrail(metric="rap", test="sequential", margin=0.1)
ERRORS = Guardrail(metric="error_rate", test="sequential", relative_margin=0.5)
LATENCY = Guardrail(metric="latency_p99_ms", window=Duration(5 * MINUTE), max=400.0)
RULES = (RAP, ERRORS)
TESTING = Testing(planned=5_000, min_duration=Duration(0))
NOW = START + 3 * HOUR
HALVES = {"old": 0.5, "new": 0.5}
THREE = msgspec.structs.replace(EXPERIMENT, variants={"old": 0.4, "new": 0.3, "newer": 0.3})
BY_UNIT = msgspec.structs.replace(EXPERIMENT, randomised_by="unit")
GOOD, BAD = matured(tp=360, fp=240, tn=960, fn=240), matured(tp=180, fp=240, tn=960, fn=420)


@dataclass(slots=True)
class Run:
    """An experiment that is judged tick by tick; its book is written down and read after every look."""

    world: World
    rules: tuple[Guardrail, ...] = RULES
    experiment: Experiment = EXPERIMENT
    testing: Testing = TESTING
    fingerprint: str = "f1"
    dry_run: bool = False
    book: Book = field(default_factory=Book)
    decisions: list[Decision] = field(default_factory=list)
    looks: list[tuple[Edge, Book]] = field(default_factory=list)

    @property
    def deliberation(self) -> Deliberation:
        """As a monitor makes it that was just started."""
        return Deliberation(
            self.experiment,
            self.rules,
            HoldOptions(),
            self.fingerprint,
            self.dry_run,
            self.testing,
        )

    def tick(self, watermark: int, **known: Any) -> "Run":
        """Make every look that has become possible."""
        snapshot, deliberation = self.snapshot(watermark, **known), self.deliberation
        for edge in deliberation.examiner.edges(self.book, snapshot):
            self.take(deliberation.look(self.book, edge, snapshot))
            self.looks.append((edge, self.book))
        return self

    def ticks(self, start: int, end: int, step: int = MINUTE) -> "Run":
        """Tick at every `step` of [start, end]."""
        for watermark in range(start, end + 1, step):
            self.tick(watermark)
        return self

    def snapshot(self, watermark: int, **known: Any) -> Snapshot:
        return self.world.snapshot(watermark, variants=self.experiment.variants, **known)

    def take(self, outcome: Outcome) -> None:
        """Write down what a step made."""
        assert_finite(msgspec.to_builtins(outcome.book))
        self.book = msgspec.json.decode(msgspec.json.encode(outcome.book), type=Book)
        assert self.book == outcome.book
        self.decisions += outcome.decisions

    def tell(self, verb: str, at: int, treatment: str = "new") -> "Run":
        """A person's word."""
        command = Command(at, verb, "ann", "because")
        made = self.deliberation.apply(Outcome(self.book), treatment, command, self.snapshot(at))
        self.take(made)
        return self

    def judged(self, rule: Guardrail, treatment: str = "new") -> Judgement:
        return self.book.judgements[treatment][rule.name]

    def state(self, treatment: str = "new") -> State:
        return self.book.standings[treatment].state

    def actions(self, treatment: str = "new") -> list[str]:
        return [found.action for found in self.decisions if found.treatment == treatment]


def assert_finite(value: object) -> None:
    """No number in what is written down is infinite or not one."""
    if isinstance(value, float):
        assert math.isfinite(value)
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        for part in parts:  # type: ignore[attr-defined]  # as the line before says
            assert_finite(part)


def well(end: int = NOW, variants: Iterable[str] = EXPERIMENT.variants) -> World:
    """Variants that all do well, with the same number of predictions."""
    world = World()
    for variant in variants:
        world.arrive(variant, START, end, pane(10, latency_ms=20, labelled=5))
        world.mature(variant, START, end, GOOD)
    return world


def worse(end: int = NOW, start: int = START) -> World:
    """A treatment that misses more than half of the positives, from `start` on."""
    return well(end).mature("new", start, end, BAD)


# --- harm -------------------------------------------------------------------------------------------


def test_harm_is_rolled_back_at_the_first_cohort_look_whose_evidence_reaches_one_over_alpha() -> (
    None
):
    rng = np.random.default_rng(5)
    world = well(START + 4 * HOUR)
    for n in range(24):
        for variant, recall in (("new", 0.4), ("old", 0.6)):
            start = START + n * COHORT
            world.mature(variant, start, start + 1, drawn(rng, 600, recall=recall))
    run = Run(world).ticks(START, START + 4 * HOUR, 10 * MINUTE)
    test = Trials.of(EXPERIMENT, RULES, TESTING).weighers[0].test
    assert test.alpha == 0.025
    reached = []
    for n in range(1, 22):
        starts = range(START, START + n * COHORT, COHORT)
        ours, theirs = (
            facts_of((world.cohorts[name][at] for at in starts), EXPERIMENT.labels)
            for name in ("new", "old")
        )
        found = weigh(test, EXPERIMENT, ours, theirs, np.zeros(n, dtype=np.int64))
        reached.append(float(found.log_harm) >= -math.log(test.alpha))
    first = reached.index(True)
    assert 1 <= first < 20
    assert run.actions()[0] == "rollback"
    assert run.decisions[0].at == START + (first + 1) * COHORT + WAIT
    assert run.decisions[0].reasons == (run.decisions[0].judgements[RAP.name].reason,)


def test_a_rollback_carries_the_evidence_and_what_had_arrived() -> None:
    decision = Run(worse()).ticks(START, NOW, 10 * MINUTE).decisions[0]
    found = decision.judgements[RAP.name]
    assert found.phase is Verdict.FAIL
    assert found.evidence is not None
    assert found.evidence.harm is not None
    assert found.evidence.harm >= found.evidence.harm_needed == pytest.approx(-math.log(0.025))
    assert decision.phase is not None
    assert decision.phase.counts["new"] == decision.phase.counts["old"] > 0


def test_harm_takes_no_notice_of_missing_labels_elsewhere_nor_of_a_mismatch() -> None:
    world = worse().arrive("new", START, NOW, pane(5, latency_ms=20, labelled=2))
    run = Run(world).ticks(START, NOW, 10 * MINUTE)
    assert run.book.mismatched == ("new",)
    assert "rollback" in run.actions()


def test_an_alarm_outlasts_a_recovery_until_the_pause_is_over() -> None:
    end = START + 5 * HOUR
    world = worse(end).mature("new", START + 90 * MINUTE, end, matured(tp=200, tn=400))
    run = Run(world).tick(START + 10 * MINUTE).tell("pause", START + 10 * MINUTE)
    run.ticks(START + 10 * MINUTE, end - MINUTE, 10 * MINUTE)
    assert run.actions() == ["pause", "harm_while_paused"]
    judged = run.judged(RAP)
    assert judged.phase is Verdict.FAIL
    assert judged.value is not None
    assert judged.control is not None
    assert judged.value > judged.control
    run.tell("resume", end - MINUTE).tick(end)
    assert run.actions()[2:] == ["resume", "rollback"]


@pytest.mark.parametrize("how", ["other settings", "rearm"])
def test_an_alarm_ends_with_its_epoch(how: str) -> None:
    end = NOW + 90 * MINUTE
    world = worse(end).mature("new", NOW, end, GOOD)
    run = Run(world, dry_run=True).ticks(START, NOW, 10 * MINUTE)
    assert run.state() is State.WOULD_ROLL_BACK
    assert run.book.evidence["new"][RAP.name].alarmed_at is not None
    if how == "rearm":
        run.tell("rearm", NOW)
        assert "new" not in run.book.evidence
    else:
        run.fingerprint = "f2"
    run.ticks(NOW + MINUTE, end, 10 * MINUTE)
    assert run.actions()[-1] != "would_roll_back" or run.actions().count("would_roll_back") == 1
    assert run.book.evidence["new"][RAP.name].alarmed_at is None
    assert run.book.standings["new"].epoch == 2
    assert run.state() in {State.COLLECTING, State.HEALTHY, State.PASSED}


def test_beginning_anew_forgets_the_evidence_about_this_treatment_only() -> None:
    world = well(NOW, THREE.variants)
    for variant in ("new", "newer"):
        world.mature(variant, START, NOW, BAD)
    run = Run(world, experiment=THREE, dry_run=True).ticks(START, NOW, 10 * MINUTE)
    run.tell("rearm", NOW)
    assert set(run.book.evidence) == set(run.book.judgements) == set(run.book.seen) == {"newer"}
    assert run.book.evidence["newer"][RAP.name].alarmed_at is not None


# --- passing ----------------------------------------------------------------------------------------


def random_world(seed: int, end: int) -> World:
    """Two equal variants, at random."""
    rng, world = np.random.default_rng(seed), World()
    for start in range(START, end, FINE_WIDTH):
        ours = int(rng.binomial(40, 0.5))
        for variant, n in (("new", ours), ("old", 40 - ours)):
            failed = int(rng.binomial(n, 0.02))
            ledger = pane(n, errors=failed, latency_ms=20, labelled=n // 2)
            world.arrive(variant, start, start + 1, ledger)
    for start in range(START, end, COHORT):
        for variant in EXPERIMENT.variants:
            world.mature(variant, start, start + 1, drawn(rng, 1200))
    return world


@pytest.mark.parametrize("seed", range(2))
def test_an_equal_treatment_is_never_rolled_back(seed: int) -> None:
    run = Run(random_world(seed, START + 4 * HOUR), dry_run=True)
    run.ticks(START, START + 4 * HOUR, HOUR)
    assert set(run.actions()) <= {"pass"}
    assert run.book.mismatched == ()
    assert all(found.alarmed_at is None for found in run.book.evidence["new"].values())


def passing(end: int, *rules: Guardrail, world: World | None = None, **testing: Any) -> Run:
    made = msgspec.structs.replace(TESTING, **testing)
    return Run(world or well(end), rules, testing=made).ticks(START, end, 10 * MINUTE)


def test_an_equal_treatment_passes_once_every_sequential_guardrail_has_proven_it() -> None:
    end = START + 5 * HOUR
    often = well(end)
    for variant in EXPERIMENT.variants:
        often.arrive(variant, START, end, pane(10, errors=1, latency_ms=20, labelled=5))
    run = passing(end, RAP, ERRORS, LATENCY, world=often)
    assert run.actions() == ["pass"]
    proven = run.decisions[0]
    assert {found.phase for found in proven.judgements.values()} == {Verdict.PASS}
    for rule in (RAP, ERRORS):
        evidence = proven.judgements[rule.name].evidence
        assert evidence is not None
        assert evidence.safe is not None
        assert evidence.safe >= evidence.safe_needed == -math.log(0.05)
    # A look earlier, something was still to be proven.
    before = next(
        book for (_, after), (_, book) in zip(run.looks[1:], run.looks, strict=False)
        if after.decisions == 1
    )  # fmt: skip
    passed = [found.phase is Verdict.PASS for found in before.judgements["new"].values()]
    assert passed.count(True) < 3


def test_the_absence_of_alarms_passes_nothing() -> None:
    end = START + 3 * HOUR
    run = passing(end, LATENCY)
    assert (run.actions(), run.state()) == ([], State.HEALTHY)
    run = passing(end, RAP, ERRORS)  # without any error nothing is proven of errors
    assert (run.actions(), run.state()) == ([], State.COLLECTING)
    assert run.judged(RAP).phase is Verdict.PASS
    assert run.judged(ERRORS).phase is Verdict.INCONCLUSIVE
    strict = msgspec.structs.replace(RAP, margin=None)
    assert passing(end, strict).actions() == []


def test_a_threshold_that_fails_or_cannot_tell_keeps_a_treatment_from_passing() -> None:
    end = START + 3 * HOUR
    assert passing(end, RAP, LATENCY).actions() == ["pass"]
    blind = msgspec.structs.replace(LATENCY, min_count=10_000)
    assert passing(end, RAP, blind).actions() == []
    tight = msgspec.structs.replace(LATENCY, max=1.0, consecutive=10_000)
    run = passing(end, RAP, tight)
    assert (run.actions(), run.state()) == ([], State.SUSPECT)


@pytest.mark.parametrize("hours", [2, 3])
def test_nothing_passes_before_its_time(hours: int) -> None:
    end = START + hours * HOUR + 20 * MINUTE
    run = passing(end, RAP, min_duration=Duration(hours * HOUR))
    assert run.actions() == ["pass"]
    assert START + hours * HOUR <= run.decisions[0].at <= START + hours * HOUR + 10 * MINUTE
    assert passing(end, RAP, min_duration=Duration(DAY)).state() is State.HEALTHY


def test_a_monitor_that_starts_late_does_not_take_its_first_look_for_the_end_of_the_time() -> None:
    end = START + 9 * HOUR
    run = Run(
        well(end), (RAP,), testing=msgspec.structs.replace(TESTING, min_duration=Duration(DAY))
    )
    assert run.tick(end).decisions == []
    assert run.judged(RAP).phase is Verdict.PASS


def test_what_has_passed_is_still_watched() -> None:
    end = START + 4 * HOUR
    world = worse(end, start=START + 2 * HOUR)
    run = Run(world, (RAP,)).ticks(START, end, 10 * MINUTE)
    assert run.actions()[:2] == ["pass", "rollback"]
    assert run.decisions[1].at > START + 2 * HOUR + COHORT
    assert run.decisions[1].before is State.PASSED


# --- it does not matter when somebody looks ---------------------------------------------------------

SPAN = 2 * HOUR - FINE_WIDTH
"""As long as fine panes are kept, so that one tick at the end can still see everything."""
RAMP = msgspec.structs.replace(
    EXPERIMENT,
    variants={"old": 90.0, "new": 10.0},
    ramp=(Step(at=Moment(START + 47 * MINUTE), variants={"old": 50.0, "new": 50.0}),),
)
ALL = (
    RAP,
    msgspec.structs.replace(ERRORS, warm_up=Duration(10 * MINUTE)),
    Guardrail(metric="selection_rate", test="sequential", margin=0.05),
    Guardrail(metric="precision", test="sequential", relative_margin=0.1),
    LATENCY,
)
arrivals = st.lists(
    st.builds(
        lambda n, failed, acted: pane(
            n, errors=min(failed, n), acted=min(acted, n), latency_ms=20, labelled=n // 2
        ),
        st.sampled_from([0, 5, 10, 10, 40]),
        st.sampled_from([0, 0, 1, 5]),
        st.sampled_from([0, 3, 5]),
    ),
    min_size=12,
    max_size=12,
)
cohorts = st.lists(st.sampled_from([GOOD, GOOD, BAD, matured(tn=500)]), min_size=12, max_size=12)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Variants that get better and worse every ten minutes, and fall silent and come back."""
    world = World()
    for variant in EXPERIMENT.variants:
        for n, (ledger, cohort) in enumerate(zip(draw(arrivals), draw(cohorts), strict=True)):
            start = START + n * COHORT
            world.arrive(variant, start, min(start + COHORT, START + SPAN), ledger)
            world.mature(variant, start, start + 1, cohort)
    return world


@settings(max_examples=5, deadline=None)
@given(worlds(), st.lists(st.integers(0, SPAN), max_size=8), st.sampled_from([EXPERIMENT, RAMP]))
def test_judging_look_by_look_or_catching_up_is_the_same(
    world: World, offsets: list[int], experiment: Experiment
) -> None:
    at_once = Run(world, ALL, experiment).tick(START + SPAN)
    bit_by_bit = Run(world, ALL, experiment)
    for offset in sorted((*offsets, HOUR - MINUTE, SPAN)):
        bit_by_bit.tick(START + offset)
    assert bit_by_bit.book == at_once.book
    assert bit_by_bit.decisions == at_once.decisions


def test_a_look_that_has_to_be_taken_twice_finds_the_same() -> None:
    run = Run(worse()).ticks(START, START + 40 * MINUTE)
    snapshot, deliberation = run.snapshot(START + 50 * MINUTE), run.deliberation
    for edge in deliberation.examiner.edges(run.book, snapshot):
        once, twice = (deliberation.look(run.book, edge, snapshot) for _ in range(2))
        assert once == twice


# --- alpha ------------------------------------------------------------------------------------------


def test_each_treatment_has_all_of_alpha_and_splits_it_by_weight() -> None:
    rules = (RAP, msgspec.structs.replace(ERRORS, weight=3.0))
    testing = msgspec.structs.replace(TESTING, alpha=0.04)
    run = Run(well(NOW, THREE.variants), rules, THREE, testing).tick(START + HOUR)
    shares = alphas(testing, rules)
    assert shares == {RAP.name: 0.01, ERRORS.name: 0.03}
    for treatment in THREE.treatments:
        for rule in rules:
            evidence = run.judged(rule, treatment).evidence
            assert evidence is not None
            assert evidence.harm_needed == -math.log(shares[rule.name])


# --- ramps ------------------------------------------------------------------------------------------


def ramp_world(end: int, step: int, lag: int = 50_000) -> World:
    """A canary of 1 % that gets 50 % at `step`, after which routers lag, while everything gets worse.

    Before the step half of the customers are worth an offer and no request fails; after it, a tenth are
    and a tenth of the requests fail. The variants are equal.
    """
    rng, world = np.random.default_rng(8), World()
    for start in range(START, end, FINE_WIDTH):
        late = min(max(start - step, 0) / lag, 1.0)
        ours = int(rng.binomial(400, 0.01 + 0.49 * late))
        for variant, n in (("new", ours), ("old", 400 - ours)):
            failed = int(rng.binomial(n, 0.0 if start < step else 0.1))
            world.arrive(variant, start, start + 1, pane(n, errors=failed, labelled=n // 2))
    for start in range(START, end, COHORT):
        early = start < step
        for variant, share in (("new", 0.01 if early else 0.5), ("old", 0.99 if early else 0.5)):
            n, positive = int(24_000 * share), 0.5 if early else 0.1
            world.mature(variant, start, start + 1, drawn(rng, n, positive=positive))
    return world


PROFIT = Guardrail(metric="profit_per_prediction", test="sequential", margin=0.02)


def canary(step: int) -> Experiment:
    return msgspec.structs.replace(
        EXPERIMENT,
        variants={"old": 99.0, "new": 1.0},
        ramp=(Step(at=Moment(step), variants={"old": 50.0, "new": 50.0}),),
    )


def test_a_ramp_during_a_drift_harms_nobody_though_all_cohorts_together_say_so() -> None:
    step, end = START + 3 * HOUR, START + 6 * HOUR
    world = ramp_world(end, step)
    run = Run(world, (PROFIT, ERRORS), canary(step), dry_run=True).ticks(START, end, 10 * MINUTE)
    assert set(run.actions()) <= {"pass"}
    assert run.book.mismatched == ()
    starts = range(START, end - WAIT, COHORT)
    ours, theirs = (
        facts_of((world.cohorts[name][at] for at in starts), EXPERIMENT.labels)
        for name in ("new", "old")
    )
    test = Trials.of(EXPERIMENT, (PROFIT, ERRORS), TESTING).weighers[0].test
    pooled = weigh(test, EXPERIMENT, ours, theirs, np.zeros(len(starts), dtype=np.int64))
    assert float(pooled.log_harm) > 10 * -math.log(test.alpha)


def test_harm_is_still_found_after_a_ramp() -> None:
    step, end = START + HOUR, START + 4 * HOUR
    world = ramp_world(end, step)
    rng = np.random.default_rng(9)
    for start in range(step, end, COHORT):
        ledger = drawn(rng, 12_000, positive=0.1, recall=0.2)
        world.mature("new", start, start + 1, ledger)
    run = Run(world, (PROFIT,), canary(step), dry_run=True).ticks(START, end, 10 * MINUTE)
    assert run.actions() == ["would_roll_back"]


def test_another_split_begins_another_phase_and_forgets_no_evidence() -> None:
    end = START + 4 * HOUR
    run = Run(well(end)).ticks(START, NOW, 10 * MINUTE)
    before = run.book.evidence["new"]
    world = run.world
    for start in range(NOW, end, FINE_WIDTH):
        world.arrive("old", start, start + 1, pane(18, latency_ms=20, labelled=5))
        world.arrive("new", start, start + 1, pane(2, latency_ms=20, labelled=5))
    run.experiment = msgspec.structs.replace(EXPERIMENT, variants={"old": 0.9, "new": 0.1})
    run.ticks(NOW + MINUTE, end, 10 * MINUTE)
    assert run.book.phase is not None
    assert run.book.phase.split == {"old": 0.9, "new": 0.1}
    assert [each.split for each in run.book.past] == [HALVES]
    assert (run.book.mismatched, run.book.standings["new"].epoch) == ((), 1)
    tallies = run.book.evidence["new"][ERRORS.name].tallies
    assert [tally[0] for tally in tallies] == [0.5, 0.1]
    assert tallies[0] == before[ERRORS.name].tallies[0]


# --- counts at arrival ------------------------------------------------------------------------------


def test_an_error_storm_is_rolled_back_within_minutes_without_any_label() -> None:
    world = well().arrive("new", START + HOUR, NOW, pane(10, errors=5, latency_ms=20))
    run = Run(world).ticks(START, START + HOUR + 5 * MINUTE)
    assert run.actions() == ["rollback"]
    assert run.decisions[0].at <= START + HOUR + 2 * MINUTE
    assert "error_rate" in run.decisions[0].reasons[0]


def test_one_customer_whose_requests_fail_over_and_over_is_no_storm() -> None:
    world, end = well(), START + 2 * HOUR
    world.arrive("new", START + HOUR, end, pane(10, errors=9, failing=0, labelled=1))
    for minute in range(START + HOUR, end, MINUTE):
        world.arrive("new", minute, minute + 1, pane(10, errors=9, failing=1, labelled=1))
        world.arrive("old", minute, minute + 1, pane(10, errors=1, failing=1, labelled=1))
    run = Run(world, (ERRORS,)).ticks(START, end, 10 * MINUTE)
    assert run.decisions == []
    assert run.book.evidence["new"][ERRORS.name].tallies == ((0.5, 60.0, 7200.0, 60.0, 7200.0),)


@pytest.mark.parametrize("warm_up", [0, 10 * MINUTE])
def test_what_arrives_in_the_warm_up_is_left_out(warm_up: int) -> None:
    cold = START + 10 * MINUTE
    world = well().arrive("new", START, cold, pane(10, errors=8, latency_ms=20, labelled=5))
    rule = msgspec.structs.replace(ERRORS, warm_up=Duration(warm_up))
    run = Run(world, (rule,), dry_run=True).ticks(START, START + HOUR)
    assert run.actions() == ([] if warm_up else ["would_roll_back"])
    (tally,) = run.book.evidence["new"][rule.name].tallies
    predictions = 60 * (HOUR - warm_up) // MINUTE
    assert tally == (0.5, 0 if warm_up else 480, predictions, 0, predictions)


def test_a_warm_up_begins_anew_with_an_epoch() -> None:
    rule = msgspec.structs.replace(ERRORS, warm_up=Duration(10 * MINUTE))
    run = Run(well(), (rule,)).ticks(START, START + HOUR)
    run.fingerprint = "f2"
    run.ticks(START + HOUR + MINUTE, START + HOUR + 11 * MINUTE)
    assert not any(sum(each[1:]) for each in run.book.evidence["new"][rule.name].tallies)
    run.tick(START + HOUR + 12 * MINUTE)
    assert run.book.evidence["new"][rule.name].tallies == ((0.5, 0.0, 60.0, 0.0, 60.0),)


def suspended(book: Book, experiment: Experiment, world: World) -> tuple[Book, Judgement]:
    """A look of a book whose counts so far are empty."""
    found = Examiner(experiment, RULES, HoldOptions(), TESTING)
    book = msgspec.structs.replace(book, looked_at=START + HOUR)
    at = START + HOUR + MINUTE
    book = found.advance(book, Edge(at, "arrival", at), world.snapshot(at))
    return book, book.judgements["new"][ERRORS.name]


@pytest.mark.parametrize(
    ("book", "experiment", "unitless", "why"),
    [
        (Book(mismatched=("new",)), EXPERIMENT, 0, "the split of the traffic is not the intended"),
        (
            Book(standings={"new": Standing(state=State.VERIFYING)}),
            EXPERIMENT,
            0,
            "it is rolled back",
        ),
        (Book(), BY_UNIT, 1, "predictions come without unit_id"),
    ],
)
def test_counts_are_suspended_where_they_mean_nothing_and_say_so(
    book: Book, experiment: Experiment, unitless: int, why: str
) -> None:
    world = well().arrive("new", START, NOW, pane(10, errors=9, units=1, unitless=unitless))
    world.arrive("old", START, NOW, pane(10, units=1))
    phase = Phase(since=START, split=HALVES, counts={"old": 9, "new": 9})
    after, found = suspended(msgspec.structs.replace(book, phase=phase), experiment, world)
    assert found.phase is Verdict.INCONCLUSIVE
    assert f"not counted, because {why}" in found.reason
    assert after.evidence["new"][ERRORS.name] == Kept()


def test_counts_go_on_where_none_of_this_is_so() -> None:
    world = well().arrive("new", START, NOW, pane(10, errors=9, units=1))
    world.arrive("old", START, NOW, pane(10, units=1))
    phase = Phase(since=START, split=HALVES, counts={"old": 9, "new": 9})
    for experiment in (EXPERIMENT, BY_UNIT):
        after, _ = suspended(Book(phase=phase), experiment, world)
        assert after.evidence["new"][ERRORS.name].tallies == ((0.5, 54.0, 60.0, 0.0, 60.0),)


def test_after_a_rollback_took_effect_the_other_treatment_is_counted_against_the_new_split() -> (
    None
):
    gone = START + HOUR
    world = well(NOW, THREE.variants)
    for variant, before, after in (("old", 8, 14), ("new", 6, 0), ("newer", 6, 6)):
        world.arrive(variant, START, gone, pane(before, labelled=3))
        world.arrive(variant, gone, NOW, pane(after, labelled=3))
    run = Run(world, (ERRORS,), THREE).ticks(START, gone, 10 * MINUTE)
    rolled_back = Standing(state=State.ROLLED_BACK, acted_at=gone, verified=True)
    run.book = msgspec.structs.replace(
        run.book, standings={**run.book.standings, "new": rolled_back}
    )
    run.ticks(gone + MINUTE, NOW, 10 * MINUTE)
    shares = [tally[0] for tally in run.book.evidence["newer"][ERRORS.name].tallies]
    assert shares == pytest.approx([0.3 / 0.7, 0.3])
    assert run.actions("newer") == []


# --- holding ----------------------------------------------------------------------------------------


def test_units_in_two_variants_hold_both_ways() -> None:
    world = well()
    for variant in ("old", "new"):
        world.arrive(variant, START, NOW, pane(10, labelled=5, units=5, crossed=1))
    run = Run(world, (RAP,), BY_UNIT).ticks(START, START + HOUR)
    assert run.actions() == ["hold"]
    assert run.book.standings["new"].causes == (MIXED,)


def test_a_changed_split_explains_units_in_two_variants() -> None:
    step = START + HOUR
    experiment = msgspec.structs.replace(canary(step), randomised_by="unit")
    world = World()
    for variant, before, after in (("old", 99, 50), ("new", 1, 50)):
        world.arrive(variant, START, step, pane(before, labelled=9, units=before))
        world.arrive(variant, step, NOW, pane(after, labelled=9, crossed=10))
    run = Run(world, (RAP,), experiment).ticks(START, START + 2 * HOUR)
    assert run.book.phase is not None
    assert run.book.phase.crossed > 0
    assert run.decisions == []


def test_without_unit_ids_a_split_of_units_is_not_tested_and_this_is_visible() -> None:
    world = World()
    for variant, n in (("old", 15), ("new", 5)):
        world.arrive(variant, START, NOW, pane(n, labelled=3, units=n))
    assert Run(world, (ERRORS,), BY_UNIT).tick(START + HOUR).book.holds["new"] == (MISMATCHED,)
    for variant, n in (("old", 15), ("new", 5)):
        world.arrive(variant, START, NOW, pane(n, labelled=3, unitless=n))
    run = Run(world, (ERRORS,), BY_UNIT).tick(START + HOUR)
    assert run.book.mismatched == ()
    assert run.book.phase is not None
    assert run.book.phase.unitless == 20 * HOUR // FINE_WIDTH
    assert "without unit_id" in run.judged(ERRORS).reason


@pytest.mark.parametrize("budget", [None, 3_000, 100_000])
def test_more_predictions_than_the_budget_before_any_verdict_on_labels_hold(
    budget: int | None,
) -> None:
    testing = msgspec.structs.replace(TESTING, blind_budget=budget)
    world = well(NOW + HOUR)
    for variant in EXPERIMENT.variants:  # for two hours hardly any label matters
        world.mature(variant, START, START + 2 * HOUR, matured(tn=600))
    run = Run(world, (RAP,), testing=testing).ticks(START, START + 2 * HOUR)
    if budget != 3_000:
        assert run.decisions == []
        return
    (held,) = run.decisions
    assert held.action == "hold"
    assert held.at == START + 51 * MINUTE  # 60 a minute
    assert held.reasons == (
        "blind: 3,000 predictions were made before the first verdict on labels",
    )
    run.ticks(START + 2 * HOUR + MINUTE, NOW + HOUR)
    assert run.actions() == ["hold", "pass"]
    assert run.book.evidence["new"][RAP.name].peak is not None
    assert run.state() is not State.HOLD


# --- what cannot be known ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrived", "cohort"),
    [
        (pane(0), None),
        (pane(10, labelled=5), None),
        (pane(10, labelled=5), matured(tp=600)),
        (pane(10, labelled=5), matured(tn=600)),
        (pane(10, errors=10), matured(errors=600)),
        (pane(1, errors=1), matured(tp=1)),
        (pane(10, acted=10, labelled=5), matured(fp=600)),
    ],
)
def test_of_nothing_of_one_kind_only_and_of_errors_only_nothing_is_decided(
    arrived: Any, cohort: Any
) -> None:
    world = World()
    for variant in EXPERIMENT.variants:
        world.arrive(variant, START, NOW, arrived)
        if cohort is not None:
            world.mature(variant, START, NOW, cohort)
    run = Run(world, ALL).ticks(START, NOW, 10 * MINUTE)
    assert not {"rollback", "pass"} & set(run.actions())
    judged = run.book.judgements.get("new", {})
    assert judged[RAP.name].phase is Verdict.INCONCLUSIVE if RAP.name in judged else not cohort


def test_one_variant_alone_decides_nothing_but_that_it_is_alone() -> None:
    for variant in EXPERIMENT.variants:
        world = World().arrive(variant, START, NOW, pane(10, labelled=5))
        world.mature(variant, START, NOW, BAD)
        run = Run(world, ALL).ticks(START, START + 2 * HOUR, 10 * MINUTE)
        assert not {"rollback", "pass"} & set(run.actions())


def test_a_clock_far_in_the_future_and_gaps_of_years_decide_nothing() -> None:
    run = Run(well(START + 2 * HOUR), ALL).ticks(START, START + HOUR, 10 * MINUTE)
    far = START + 365 * DAY
    for variant in EXPERIMENT.variants:
        run.world.arrive(variant, far, far + HOUR, pane(10, latency_ms=20, labelled=5))
        run.world.mature(variant, far, far + HOUR, GOOD)
    run.ticks(far + MINUTE, far + HOUR, 10 * MINUTE)
    assert not {"rollback", "pass"} & set(run.actions())
    assert run.book.mismatched == ()
    assert all(kept.alarmed_at is None for kept in run.book.evidence["new"].values())


def test_a_book_of_before_there_were_sequential_tests_goes_on() -> None:
    old = b'{"looked_at":%d,"phase":{"since":%d,"split":{"old":0.5,"new":0.5},"counts":{"old":60,"new":60}},"settings":"f1"}'
    book = msgspec.json.decode(old % (START + MINUTE, START), type=Book)
    run = Run(steady(NOW), book=book).ticks(START + 2 * MINUTE, START + HOUR, 10 * MINUTE)
    assert run.decisions == []
    assert run.book.evidence["new"][RAP.name].peak is not None


# --- what must not depend on others -----------------------------------------------------------------


def test_a_bad_treatment_is_found_though_another_one_was_ended_or_never_began() -> None:
    experiment = msgspec.structs.replace(
        EXPERIMENT, variants={"old": 1.0, "new": 1.0, "newer": 1.0}
    )
    world = World().arrive("old", START, NOW, pane(10, labelled=2))
    world.arrive("new", START, NOW, pane(10, labelled=2))
    for start in range(START, NOW, COHORT):
        world.mature("old", start, start + 1, drawn(np.random.default_rng(start), 600))
        bad = drawn(np.random.default_rng(start + 1), 600, recall=0.2)
        world.mature("new", start, start + 1, bad)
    run = Run(world, (RAP,), experiment=experiment).ticks(START, NOW + 30 * MINUTE)
    actions = [decision.action for decision in run.decisions if decision.treatment == "new"]
    assert "rollback" in actions


def test_looks_at_landmarks_are_no_failing_looks_of_thresholds() -> None:
    labels = msgspec.structs.replace(EXPERIMENT.labels, landmarks=(Duration(5 * MINUTE),))
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    rule = Guardrail(metric="precision", window=Duration(10 * MINUTE), min=0.9, consecutive=3)
    early = msgspec.structs.replace(RAP, landmark=Duration(5 * MINUTE))
    snapshot = World().arrive("old", START, NOW, pane(10)).arrive("new", START, NOW, pane(10))
    for start in (START, START + COHORT):
        snapshot.mature("new", start, start + 1, matured(tp=10, fp=590))
        snapshot.mature("old", start, start + 1, matured(tp=300, fp=300))
    found = snapshot.snapshot(NOW, final_to=START + 2 * COHORT)
    facts = {
        name: replace(each, landmarks={5 * MINUTE: each.cohorts})
        for name, each in found.variants.items()
    }
    found = replace(found, variants=facts, landmarks_matured={5 * MINUTE: START + 2 * COHORT})
    made = Deliberation(experiment, (rule, early), HoldOptions(), "f", testing=TESTING)
    book, actions = Book(), list[str]()
    for edge in made.examiner.edges(book, found):
        outcome = made.look(book, edge, found)
        book, actions = outcome.book, [*actions, *(each.action for each in outcome.decisions)]
    assert book.landmarks_at == {5 * MINUTE: START + 2 * COHORT}
    assert "rollback" not in actions
