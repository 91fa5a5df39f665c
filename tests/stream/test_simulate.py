import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE
from stream.arms import Run
from stream.events import Rejected
from stream.simulate import Simulator
from stream.simulation import (
    Change,
    LabelDelay,
    Latency,
    Moment,
    Score,
    SimulatedExperiment,
    Simulation,
    Truth,
)
from stream.sources import Decoder
from stream.split import Split


Event = dict[str, Any]

HALF = Moment(fraction=0.5)
PLAIN = Truth(tpr=0.7, fpr=0.2)
HORIZON = Duration(5 * MINUTE)


def one(**said: Any) -> Simulation:
    """A simulation of one experiment, of which `said` says how it differs from a plain one."""
    usual: dict[str, Any] = {
        "name": "offers",
        "variants": {"old": PLAIN, "new": PLAIN},
        "prevalence": 0.3,
        "horizon": HORIZON,
    }
    return Simulation(experiments=(SimulatedExperiment(**(usual | said)),))


def made(simulation: Simulation, run: Run, **options: Any) -> tuple[list[Event], dict[str, Any]]:
    """All events, and the truth."""
    simulator = Simulator(simulation, run, **options)
    lines = b"".join(simulator.blocks()).splitlines()
    return [json.loads(line) for line in lines], simulator.truth()


def predictions(events: list[Event], variant: str | None = None) -> list[Event]:
    return [
        event
        for event in events
        if event["type"] == "prediction" and variant in (None, event["variant"])
    ]


def outcomes(events: list[Event]) -> dict[str, Event]:
    return {event["prediction_id"]: event for event in events if event["type"] == "outcome"}


def share(events: list[Event], of: Callable[[Event], object]) -> float:
    return sum(bool(of(event)) for event in events) / len(events)


def near(value: float, n: int) -> Any:
    """`value`, a share, as far as chance lets `n` draws say."""
    return pytest.approx(value, abs=5 * math.sqrt(value * (1 - value) / n) + 1e-9)


# --- rates --------------------------------------------------------------------------------------


def test_rates_converge_to_the_truth() -> None:
    truth = Truth(tpr=0.7, fpr=0.2, error_rate=0.03)
    events, _ = made(one(variants={"old": truth, "new": PLAIN}, prevalence=0.3), Run(60_000))
    actual = {name: event["actual"] for name, event in outcomes(events).items()}
    assert share(list(outcomes(events).values()), lambda e: e["actual"]) == near(0.3, 60_000)

    old = [event for event in predictions(events, "old") if event["prediction_id"] in actual]
    assert share(old, lambda event: event.get("error")) == near(0.03, 30_000)
    answered = [event for event in old if not event.get("error")]
    yes = [event for event in answered if actual[event["prediction_id"]]]
    no = [event for event in answered if not actual[event["prediction_id"]]]
    assert share(yes, lambda event: event["predicted"]) == near(0.7, len(yes))
    assert share(no, lambda event: event["predicted"]) == near(0.2, len(no))


def test_weights_are_the_shares_of_the_variants() -> None:
    weights = {"old": 5.0, "new": 3.0, "none": 0.0, "newer": 2.0}
    variants = {name: Truth(tpr=1, fpr=0, weight=weight) for name, weight in weights.items()}
    _, truth = made(one(variants=variants), Run(40_000))
    found = truth["experiments"]["offers"]["variants"]
    assert {name: found[name]["predictions"] / 40_000 for name in weights} == {
        name: near(weight / 10, 40_000) for name, weight in weights.items()
    }
    assert found["none"]["predictions"] == 0


def test_latencies_are_lognormal() -> None:
    truth = Truth(tpr=1, fpr=0, latency=Latency(median_ms=80, sigma=0.5))
    events, found = made(one(variants={"old": truth, "new": PLAIN}), Run(40_000))
    latencies = [event["latency_ms"] for event in predictions(events, "old")]
    assert statistics.median(latencies) == pytest.approx(80, rel=0.03)
    assert statistics.stdev(map(math.log, latencies)) == pytest.approx(0.5, rel=0.03)
    variants = found["experiments"]["offers"]["variants"]
    assert variants["old"]["latency_ms"]["mean"] == pytest.approx(80 * math.exp(0.125), rel=0.03)
    assert variants["new"]["latency_ms"]["mean"] is None
    assert not any("latency_ms" in event for event in predictions(events, "new"))


def test_labels_take_as_long_as_their_variant_says() -> None:
    slow = Truth(tpr=1, fpr=0, label_delay=LabelDelay(median=Duration(MINUTE), sigma=0.3))
    fast = Truth(tpr=1, fpr=0, label_delay=LabelDelay(median=Duration(0)))
    variants = {"old": PLAIN, "slow": slow, "fast": fast}
    events, _ = made(one(variants=variants), Run(30_000))
    told = outcomes(events)
    delays = {
        name: [told[e["prediction_id"]]["time"] - e["time"] for e in predictions(events, name)]
        for name in variants
    }
    assert statistics.median(delays["slow"]) == pytest.approx(MINUTE, rel=0.03)
    assert statistics.median(delays["old"]) == pytest.approx(HORIZON / 10, rel=0.1)
    assert set(delays["fast"]) == {0}


def test_outcomes_go_missing_come_late_and_events_come_twice_as_often_as_declared() -> None:
    delay = LabelDelay(median=Duration(1000), sigma=0)
    truth = Truth(tpr=1, fpr=0, missing=0.2, late=0.1, duplicates=0.05, label_delay=delay)
    events, found = made(one(variants={"old": truth, "new": truth}), Run(30_000))
    told = outcomes(events)
    times = {event["prediction_id"]: event["time"] for event in predictions(events)}
    waits = [event["time"] - times[name] for name, event in told.items()]
    late = [wait for wait in waits if wait > HORIZON]
    assert 1 - len(told) / 30_000 == near(0.2, 30_000)
    assert len(late) / len(told) == near(0.1, len(told))
    assert max(late) <= 2 * HORIZON
    twice = Counter(json.dumps(event) for event in events)
    assert set(twice.values()) == {1, 2}
    assert len(events) / len(twice) - 1 == near(0.05, len(twice))
    assert found["events"]["written"] == len(events)


def test_outcomes_whose_delay_exceeds_the_horizon_are_late_by_a_bounded_time() -> None:
    delay = LabelDelay(median=Duration(20 * HOUR), sigma=3)
    variants = {name: Truth(tpr=1, fpr=0, label_delay=delay) for name in ("old", "new")}
    events, truth = made(one(variants=variants, horizon=Duration(10 * HOUR)), Run(2_000))
    times = {event["prediction_id"]: event["time"] for event in predictions(events)}
    waits = [event["time"] - times[name] for name, event in outcomes(events).items()]
    assert max(waits) <= 11 * HOUR
    assert sum(wait > 10 * HOUR for wait in waits) == truth["events"]["late"] > 500


def test_predictions_come_at_the_rate() -> None:
    run = Run(10_000, rate=200.0, start=1_000_000)
    events, _ = made(one(), run)
    times = [event["time"] - 1_000_000 for event in predictions(events)]
    assert run.span == 50_000
    assert Counter(time // 1000 for time in times) == dict.fromkeys(range(50), 200)


# --- truth --------------------------------------------------------------------------------------


def counted(events: list[Event], horizons: dict[str, int]) -> dict[str, Any]:
    """The truth document, from nothing but the events."""
    variants: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    told: Counter[str] = Counter()
    seen: dict[str, Event] = {}
    labelled: set[str] = set()
    for event in events:
        name = event["prediction_id"]
        if event["type"] == "prediction":
            if name in seen:
                told["duplicate"] += 1
                continue
            seen[name] = event
            told["predictions"] += 1
            found = variants[event["experiment"], event["variant"]]
            found["predictions"] += 1
            found["errors"] += event.get("error", False)
            found["timed"] += "latency_ms" in event
            found["tenths"] += round(event.get("latency_ms", 0) * 10)
            continue
        first = seen[name]
        if event["time"] > first["time"] + horizons[first["experiment"]]:
            told["late"] += 1
        elif name in labelled:
            told["duplicate"] += 1
        else:
            labelled.add(name)
            told["outcomes"] += 1
            found = variants[first["experiment"], first["variant"]]
            found["labelled"] += 1
            if not first.get("error"):
                right = first["predicted"] == event["actual"]
                found[("t" if right else "f") + ("p" if first["predicted"] else "n")] += 1
    return {"variants": dict(variants), "events": dict(told)}


def flattened(truth: dict[str, Any]) -> dict[str, Any]:
    """The truth document as `counted` has it."""
    variants = {}
    for name, experiment in truth["experiments"].items():
        for variant, found in experiment["variants"].items():
            if not found["predictions"]:
                continue
            facts = Counter(found["counts"])
            facts["predictions"], facts["errors"] = found["predictions"], found["errors"]
            facts["labelled"] = found["predictions"] - found["unlabelled"]
            variants[name, variant] = facts, found["latency_ms"]["mean"]
    told = {name: n for name, n in truth["events"].items() if n}
    written, accepted = told.pop("written", 0), told.pop("accepted", 0)
    assert written == sum(told.values())
    assert accepted == told.get("predictions", 0) + told.get("outcomes", 0)
    return {"variants": variants, "events": told}


shares = st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0])
moments = st.one_of(
    st.builds(Moment, fraction=st.floats(0, 1)),
    st.integers(0, 100_000).map(lambda ms: Moment(time=Duration(ms))),
)
latencies = st.builds(Latency, median_ms=st.sampled_from([0.01, 30, 1e6]))
delays = st.builds(
    LabelDelay, median=st.integers(0, 200_000).map(Duration), sigma=st.sampled_from([0.0, 1.0, 5.0])
)
truths = st.builds(
    Truth,
    tpr=shares,
    fpr=shares,
    weight=st.sampled_from([0.0, 0.5, 7.0]),
    error_rate=shares,
    latency=st.none() | latencies,
    label_delay=st.none() | delays,
    missing=shares,
    late=shares,
    duplicates=shares,
    score=st.none() | st.builds(Score, threshold=st.floats(0.001, 0.999)),
    silent_from=st.none() | moments,
)
changes = st.builds(
    Change,
    at=moments,
    variant=st.sampled_from([None, "a", "b"]),
    tpr=st.none() | shares,
    error_rate=st.none() | shares,
    latency=st.none() | latencies,
)


def experiments(name: str) -> st.SearchStrategy[SimulatedExperiment]:
    return st.builds(
        SimulatedExperiment,
        name=st.just(name),
        variants=st.fixed_dictionaries({"a": truths.filter(lambda t: t.weight > 0), "b": truths}),
        prevalence=shares,
        horizon=st.sampled_from([1, 1_000, 60_000]).map(Duration),
        observed=st.sampled_from(["all", "acted"]),
        predictions_per_unit=st.none() | st.floats(1, 50),
        change=st.lists(changes, max_size=3).map(tuple),
        labels_stop=st.none() | moments,
        traffic=st.sampled_from([1.0, 0.2]),
    )


simulations = st.tuples(experiments("e"), experiments("f")).map(
    lambda both: Simulation(experiments=both)
)
runs = st.builds(
    Run,
    predictions=st.integers(1, 300),
    seed=st.integers(0, 2**63),
    rate=st.sampled_from([3.0, 50.0, 1e5]),
)


@given(simulations, runs)
def test_the_truth_is_what_a_simple_loop_counts_in_the_events(
    simulation: Simulation, run: Run
) -> None:
    events, truth = made(simulation, run)
    horizons = {each.name: int(each.horizon) for each in simulation.experiments}
    found, told = counted(events, horizons), flattened(truth)
    assert {name: n for name, n in found["events"].items() if n} == told["events"]
    assert found["variants"].keys() == told["variants"].keys()
    for where, facts in found["variants"].items():
        timed, tenths = facts.pop("timed"), facts.pop("tenths")
        counts, mean = told["variants"][where]
        assert +facts == +counts
        assert mean == (pytest.approx(tenths / timed / 10) if timed else None)


@given(simulations, runs)
def test_every_event_keeps_the_contract(simulation: Simulation, run: Run) -> None:
    lines = b"".join(Simulator(simulation, run).blocks()).splitlines()
    assert not [e for e in Decoder().decode("events", lines) if isinstance(e, Rejected)]


# --- order, seeds and chunks --------------------------------------------------------------------


@given(simulations, runs)
def test_events_are_in_order_of_time_and_outcomes_after_their_predictions(
    simulation: Simulation, run: Run
) -> None:
    events, _ = made(simulation, run, chunk=7)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    seen = set()
    for event in events:
        if event["type"] == "prediction":
            seen.add(event["prediction_id"])
        else:
            assert event["prediction_id"] in seen


@given(simulations, runs, st.integers(1, 200))
def test_the_size_of_the_chunks_changes_nothing(
    simulation: Simulation, run: Run, chunk: int
) -> None:
    assert made(simulation, run) == made(simulation, run, chunk=chunk)


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    first, again, other = (
        b"".join(Simulator(one(), Run(500, seed=seed)).blocks()) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_ids_of_different_seeds_differ() -> None:
    both = [made(one(), Run(100, seed=seed))[0] for seed in (1, 2)]
    names = [{event["prediction_id"] for event in events} for events in both]
    assert not names[0] & names[1]


def test_a_truth_that_differs_changes_nothing_else() -> None:
    better = Truth(tpr=0.9, fpr=0.2, missing=0.1, latency=Latency(median_ms=9))
    before, _ = made(one(), Run(2_000))
    after, _ = made(one(variants={"old": PLAIN, "new": better}), Run(2_000))
    assert predictions(before, "old") == predictions(after, "old")
    assert outcomes(before) | outcomes(after) == outcomes(before)


# --- what happens at a moment -------------------------------------------------------------------


def split(events: list[Event], run: Run) -> tuple[list[Event], list[Event]]:
    """Events of the first and of the second half."""
    middle = run.start + run.span / 2
    early = [event for event in events if event["time"] < middle]
    return early, [event for event in events if event["time"] >= middle]


def test_a_change_comes_at_its_moment_and_for_its_variant_only() -> None:
    run = Run(4_000)
    perfect = Truth(tpr=1, fpr=0, latency=Latency(median_ms=10, sigma=0))
    change = Change(
        at=HALF, variant="new", tpr=0.0, fpr=1.0, latency=Latency(median_ms=99, sigma=0)
    )
    simulation = one(variants={"old": perfect, "new": perfect}, change=change)
    events, _ = made(simulation, run)
    actual = {name: event["actual"] for name, event in outcomes(events).items()}

    def right(found: list[Event], variant: str) -> set[tuple[bool, float]]:
        return {
            (event["predicted"] == actual[event["prediction_id"]], event["latency_ms"])
            for event in predictions(found, variant)
            if event["prediction_id"] in actual
        }

    before, after = split(events, run)
    assert right(before, "new") == {(True, 10)}
    assert right(after, "new") == {(False, 99)}
    assert right(events, "old") == {(True, 10)}


def test_a_moment_may_be_a_time_after_the_start() -> None:
    run = Run(1_000, rate=10.0)
    change = Change(at=Moment(time=Duration(30_000)), error_rate=1.0)
    events, _ = made(one(change=change), run)
    failed = {
        event["time"] - run.start >= 30_000: event.get("error") for event in predictions(events)
    }
    assert failed == {False: None, True: True}


def test_changes_add_up_in_order_of_time() -> None:
    run = Run(3_000)
    change = (
        Change(at=Moment(fraction=0.8), variant="new", tpr=1.0),
        Change(at=HALF, error_rate=0.0, tpr=0.0, fpr=0.0),
    )
    events, _ = made(
        one(variants={"old": PLAIN, "new": Truth(tpr=1, fpr=1, error_rate=1)}, change=change), run
    )
    before, after = split(predictions(events, "new"), run)
    assert all(event.get("error") for event in before)
    assert not any(event.get("error") for event in after)
    last = run.start + 0.8 * run.span
    acted = [event["time"] >= last for event in after if event["predicted"]]
    assert acted
    assert all(acted)


def test_labels_stop_at_their_moment_and_predictions_go_on() -> None:
    run = Run(4_000)
    events, truth = made(one(labels_stop=HALF), run)
    _, after = split(events, run)
    assert {event["type"] for event in after} == {"prediction"}
    assert len(after) == 2_000
    assert truth["events"]["outcomes"] == len(outcomes(events)) > 400


def test_a_silent_variant_leaves_no_trace_and_its_outcomes_still_come() -> None:
    run = Run(4_000)
    crashing = Truth(tpr=0.7, fpr=0.2, silent_from=HALF)
    events, truth = made(one(variants={"old": PLAIN, "new": crashing}), run)
    before, after = split(predictions(events), run)
    assert {event["variant"] for event in before} == {"old", "new"}
    assert {event["variant"] for event in after} == {"old"}
    assert len(after) == pytest.approx(1_000, abs=120)
    silent = {event["prediction_id"] for event in predictions(events, "new")}
    told = outcomes(split(events, run)[1])
    assert silent & told.keys()
    assert truth["events"]["predictions"] == len(predictions(events))


# --- fields -------------------------------------------------------------------------------------


def test_a_unit_always_sees_the_same_variant() -> None:
    simulation = one(predictions_per_unit=4.0)
    seen: dict[str, list[str]] = defaultdict(list)
    for event in predictions(made(simulation, Run(8_000))[0]):
        seen[event["unit_id"]].append(event["variant"])
    assert all(len(set(variants)) == 1 for variants in seen.values())
    assert statistics.mean(map(len, seen.values())) == pytest.approx(4, rel=0.05)
    assert share([{"v": v[0]} for v in seen.values()], lambda e: e["v"] == "old") == near(
        0.5, len(seen)
    )


def test_experiments_assign_the_same_unit_independently() -> None:
    (first,) = one(predictions_per_unit=2.0).experiments
    (second,) = one(predictions_per_unit=2.0, name="ads").experiments
    events, _ = made(Simulation(experiments=(first, second)), Run(20_000))
    variants: dict[str, dict[str, str]] = defaultdict(dict)
    for event in predictions(events):
        variants[event["unit_id"]][event["experiment"]] = event["variant"]
    both = [tuple(seen.values()) for seen in variants.values() if len(seen) == 2]
    assert share([{"same": a == b} for a, b in both], lambda e: e["same"]) == near(0.5, len(both))


@pytest.mark.parametrize("threshold", [0.00001, 0.07, 0.123456, 0.5, 0.99999])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 20.0])
def test_scores_reach_the_threshold_exactly_where_the_decision_is_yes(
    threshold: float, sharpness: float
) -> None:
    score = Score(threshold=threshold, sharpness=sharpness)
    truth = Truth(tpr=0.7, fpr=0.2, error_rate=0.1, score=score)
    events, _ = made(one(variants={"old": truth, "new": PLAIN}), Run(3_000))
    old = predictions(events, "old")
    answered = [event for event in old if not event.get("error")]
    assert all((event["score"] >= threshold) == event["predicted"] for event in answered)
    assert all(0 <= event["score"] <= 1 for event in answered)
    assert not any("score" in event for event in predictions(events, "new"))


def test_sharper_scores_are_further_from_the_threshold() -> None:
    def distance(sharpness: float) -> float:
        truth = Truth(tpr=0.7, fpr=0.2, score=Score(sharpness=sharpness))
        events, _ = made(one(variants={"old": truth, "new": truth}), Run(2_000))
        return statistics.fmean(abs(event["score"] - 0.5) for event in predictions(events))

    assert distance(0.5) < distance(1) < distance(5)


def test_a_failed_request_has_neither_decision_nor_score() -> None:
    truth = Truth(tpr=1, fpr=1, error_rate=0.5, score=Score(), latency=Latency(median_ms=5))
    events, _ = made(one(variants={"old": truth, "new": truth}), Run(200))
    failed = [event for event in predictions(events) if event.get("error")]
    fields = {"type", "prediction_id", "experiment", "variant", "time", "latency_ms", "error"}
    assert failed
    assert all(event.keys() == fields for event in failed)


def test_where_only_acted_predictions_are_observed_no_others_have_outcomes() -> None:
    truth = Truth(tpr=0.7, fpr=0.2, error_rate=0.2)
    simulation = one(variants={"old": truth, "new": truth}, observed="acted")
    events, found = made(simulation, Run(2_000))
    acted = {event["prediction_id"] for event in predictions(events) if event.get("predicted")}
    assert acted == outcomes(events).keys()
    counts = found["experiments"]["offers"]["variants"]["old"]["counts"]
    assert counts["tn"] == counts["fn"] == 0


# --- the split ------------------------------------------------------------------------------------


THREE = {"old": PLAIN, "new": PLAIN, "newer": Truth(tpr=0.7, fpr=0.2, weight=2)}


def arms_of(events: list[Event]) -> dict[str, str]:
    """By prediction, its variant."""
    return {event["prediction_id"]: event["variant"] for event in predictions(events)}


def test_what_a_stopped_treatment_got_goes_to_the_control_and_nobody_else_moves() -> None:
    simulation, run = one(variants=THREE, predictions_per_unit=3), Run(4_000)
    split = Split(simulation)
    assert split.shares() == {"offers": {"old": 0.25, "new": 0.25, "newer": 0.5}}
    assert split.stop("offers", "new")
    assert split.shares() == {"offers": {"old": 0.5, "new": 0.0, "newer": 0.5}}
    declared = arms_of(made(simulation, run)[0])
    stopped = arms_of(made(simulation, run, split=split)[0])
    assert stopped == {
        name: "old" if variant == "new" else variant for name, variant in declared.items()
    }


def test_a_split_may_change_while_events_are_made() -> None:
    simulation = one(variants=THREE)
    split = Split(simulation)
    seen: list[set[str]] = []
    for number, block in enumerate(
        Simulator(simulation, Run(900), chunk=300, split=split).blocks()
    ):
        seen.append(set(arms_of([json.loads(line) for line in block.splitlines()]).values()))
        assert split.stop("offers", "newer", stopped=number == 0)
    assert seen[:3] == [{"old", "new", "newer"}, {"old", "new"}, {"old", "new", "newer"}]


@pytest.mark.parametrize(
    ("experiment", "treatment"), [("offers", "old"), ("offers", "newest"), ("others", "new")]
)
def test_only_treatments_that_are_there_are_stopped(experiment: str, treatment: str) -> None:
    split = Split(one(variants=THREE))
    assert not split.stop(experiment, treatment)
    assert split.shares() == Split(one(variants=THREE)).shares()


def test_experiments_are_split_each_for_itself() -> None:
    first = SimulatedExperiment(name="a", prevalence=0.1, horizon=HORIZON, variants=THREE)
    second = SimulatedExperiment(
        name="b", prevalence=0.1, horizon=HORIZON, control="newer", variants=THREE
    )
    simulation = Simulation(experiments=(first, second))
    split = Split(simulation)
    assert split.stop("b", "old")
    events, _ = made(simulation, Run(4_000), split=split)
    found = {
        name: {event["variant"] for event in predictions(events) if event["experiment"] == name}
        for name in ("a", "b")
    }
    assert found == {"a": {"old", "new", "newer"}, "b": {"new", "newer"}}
    assert split.shares()["b"] == {"old": 0.0, "new": 0.25, "newer": 0.75}


def test_the_units_of_a_cycle_come_back_in_the_next_one() -> None:
    simulation = one(predictions_per_unit=4)
    events, _ = made(simulation, Run(8_000, cycle=1_000))
    units = Counter(event["unit_id"] for event in predictions(events))
    assert len(units) == 250
    assert units.total() == 8_000
