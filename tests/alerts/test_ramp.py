"""Ramps, warm-ups and late starts: what a change of the split, or of the time of looking, must not do."""

from typing import Any

import msgspec
import numpy as np
from support.panes import COHORT, EXPERIMENT, START, World, drawn, pane, steady

from alerts.book import Book, Phase
from alerts.cohorts import CohortView
from alerts.deliberate import Deliberation
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.phases import mixed
from alerts.testing import Testing
from metrics.duration import Duration
from metrics.evidence import LEFT_OUT
from metrics.experiment import HOUR, MINUTE, Experiment, Step
from metrics.layout import FINE_WIDTH
from metrics.moment import Moment


RAP = Guardrail(metric="rap", test="sequential", margin=0.05)
PROFIT = Guardrail(metric="profit_per_prediction", test="sequential", margin=0.05)
ERRORS = Guardrail(metric="error_rate", test="sequential", relative_margin=0.5)
QUICK = Testing(min_duration=Duration(0), planned=5000)


def ramped(
    first: dict[str, float], *steps: tuple[int, dict[str, float]], **more: Any
) -> Experiment:
    ramp = tuple(Step(at=Moment(at), variants=split) for at, split in steps)
    return msgspec.structs.replace(EXPERIMENT, variants=first, ramp=ramp, **more)


def run(
    world: World,
    experiment: Experiment,
    rules: tuple[Guardrail, ...],
    start: int,
    end: int,
    step: int = MINUTE,
) -> tuple[Book, list[Any]]:
    made = Deliberation(experiment, rules, HoldOptions(), "f", testing=QUICK)
    book, decisions = Book(), list[Any]()
    for watermark in range(start, end + 1, step):
        snapshot = world.snapshot(watermark)
        for edge in made.examiner.edges(book, snapshot):
            outcome = made.look(book, edge, snapshot)
            book, decisions = outcome.book, [*decisions, *outcome.decisions]
    return book, decisions


def test_a_small_canary_that_ramps_up_is_not_rolled_back_for_silence_before_the_step() -> None:
    at = START + HOUR
    world = World().arrive("old", START, at + HOUR, pane(4, labelled=2))
    for start in (START + 10 * MINUTE, START + 40 * MINUTE):
        world.arrive("new", start, start + 1, pane(3))
    world.arrive("new", at, at + HOUR, pane(4, labelled=2))
    experiment = ramped({"old": 99.0, "new": 1.0}, (at, {"old": 50.0, "new": 50.0}))
    _, decisions = run(world, experiment, (RAP, ERRORS), START, at + 10 * MINUTE)
    assert decisions == []


def test_a_treatment_whose_traffic_begins_with_a_step_is_not_held_for_silence() -> None:
    at = START + HOUR
    world = World().arrive("old", START, at + HOUR, pane(20, labelled=2))
    world.arrive("new", at, at + HOUR, pane(20, labelled=2))
    experiment = ramped({"old": 1.0, "new": 0.0}, (at, {"old": 50.0, "new": 50.0}))
    _, decisions = run(world, experiment, (RAP,), START, at + 10 * MINUTE)
    assert decisions == []


def test_a_monitor_that_starts_after_a_step_of_the_ramp_still_keeps_the_splits_apart() -> None:
    at, end = START + 3 * HOUR, START + 8 * HOUR
    rng, world = np.random.default_rng(1), World()
    world.arrive("old", START, at, pane(99, labelled=30)).arrive(
        "new", START, at, pane(1, labelled=1)
    )
    for variant in ("old", "new"):
        world.arrive(variant, at, end, pane(50, labelled=20))
    for start in range(START, end, COHORT):
        early = start < at
        for variant, n in (("old", 5940 if early else 3000), ("new", 60 if early else 3000)):
            world.mature(variant, start, start + 1, drawn(rng, n, positive=0.5 if early else 0.1))
    experiment = ramped({"old": 99.0, "new": 1.0}, (at, {"old": 50.0, "new": 50.0}))
    _, decisions = run(world, experiment, (PROFIT,), end - HOUR, end, 10 * MINUTE)
    assert "rollback" not in [decision.action for decision in decisions]


def test_units_that_return_after_two_steps_of_a_ramp_are_explained_by_both() -> None:
    first = Phase(since=START, split={"old": 99.0, "new": 1.0}, counts={"old": 9900, "new": 100})
    second = first.after({"old": 90.0, "new": 10.0}, START + HOUR)
    third = second.after({"old": 50.0, "new": 50.0}, START + 2 * HOUR)
    # Of the 9,900 of the first day, all of whom return in the last phase, 49/99 are moved.
    assert not mixed(msgspec.structs.replace(third, crossed=4_850))


def test_only_what_comes_after_the_warm_up_counts_though_it_ends_between_two_looks() -> None:
    rule = msgspec.structs.replace(ERRORS, warm_up=Duration(90_000))
    book, _ = run(steady(START + HOUR), EXPERIMENT, (rule,), START, START + 2 * MINUTE)
    (tally,) = book.evidence["new"][rule.name].tallies
    assert tally == (0.5, 0.0, 30.0, 0.0, 30.0)


def test_cohorts_under_a_split_that_nobody_knows_are_a_stretch_of_their_own() -> None:
    book = Book(phase=Phase(since=START, split={"old": 0.0, "new": 0.0}))
    snapshot = steady(START + HOUR).snapshot(START + 2 * HOUR)
    arms = CohortView(EXPERIMENT).arms(book, "new", snapshot, 0, START + HOUR, 0)
    assert LEFT_OUT not in arms.strata
    assert len(set(arms.strata.tolist())) == 1


def test_what_arrived_before_the_epoch_takes_nothing_from_the_blind_budget() -> None:
    book, _ = run(steady(START + HOUR), EXPERIMENT, (RAP,), START, START + 30 * MINUTE)
    made = Deliberation(EXPERIMENT, (RAP,), HoldOptions(), "f2", testing=QUICK)
    snapshot = steady(START + HOUR).snapshot(START + 31 * MINUTE)
    edge = next(e for e in made.examiner.edges(book, snapshot) if e.kind == "arrival")
    assert made.look(book, edge, snapshot).book.seen["new"] == 0


def test_routers_that_lag_after_a_first_step_are_no_mismatch_with_looks_every_ten_seconds() -> None:
    at, end = START + 10 * MINUTE, START + 20 * MINUTE
    rng, world = np.random.default_rng(1), World()
    for start in range(START, end, FINE_WIDTH):
        late = min(max(start - at, 0) / MINUTE, 1)
        ours = int(rng.binomial(5000, 0.5 * late))
        for variant, n in (("new", ours), ("old", 5000 - ours)):
            world.arrive(variant, start, start + 1, pane(n, labelled=n // 2))
    often = Guardrail(metric="error_rate", window=Duration(MINUTE), every=Duration(10_000), max=0.9)
    experiment = ramped({"old": 1.0, "new": 0.0}, (at, {"old": 50.0, "new": 50.0}))
    book, _ = run(world, experiment, (often,), START, end, 10_000)
    assert book.mismatched == ()
