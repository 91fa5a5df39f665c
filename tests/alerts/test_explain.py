"""Explaining: every decision that rests on data comes out again, and nothing that was tampered with does."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, World, drawn, matured, pane, steady
from support.reasons import Reasons, gathered

from alerts import gathering
from alerts.book import Book, Decision, Phase
from alerts.chain import seal
from alerts.deliberate import Deliberation, Outcome
from alerts.explain import Explanation, explain, to_text
from alerts.gathering import evidence_of
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.judge import Missing
from alerts.machine import Accepted, Command, Look
from alerts.reasoning import (
    RESTING_ON_DATA,
    Declared,
    Reasoning,
    ReasoningFormatError,
    packed,
    seal_of,
    unpacked,
)
from alerts.standing import Standing, State
from alerts.tables import pack_facts, unpack_facts
from alerts.testing import Testing
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE, Experiment, Step
from metrics.facts import COLUMNS as FACTS
from metrics.moment import Moment
from metrics.units import COLUMNS, UNIT_BUCKETS


RAP = Guardrail(metric="rap", test="sequential", margin=0.1)
ERRORS = Guardrail(metric="error_rate", test="sequential", relative_margin=0.5)
SELECTION = Guardrail(metric="selection_rate", test="sequential", margin=0.2)
LATENCY = Guardrail(metric="latency_p99_ms", window=Duration(5 * MINUTE), max=400.0)
PRECISION = Guardrail(metric="precision", window=Duration(2 * COHORT), margin=0.1, consecutive=2)
SLOW = Guardrail(metric="latency_p99_ms", window=Duration(2 * HOUR), max=400.0, consecutive=1)
RULES = (RAP, ERRORS, SELECTION, LATENCY, PRECISION)
TESTING = Testing(planned=5_000, min_duration=Duration(0))
THREE = msgspec.structs.replace(EXPERIMENT, variants={"old": 0.4, "new": 0.3, "newer": 0.3})
NOW = START + 3 * HOUR
GOOD, BAD = matured(tp=360, fp=240, tn=960, fn=240), matured(tp=180, fp=240, tn=960, fn=420)


def judged(
    world: World,
    rules: tuple[Guardrail, ...] = RULES,
    *,
    end: int = NOW,
    experiment: Experiment = EXPERIMENT,
    testing: Testing = TESTING,
    book: Book | None = None,
    allowed: int | None = None,
    dry_run: bool = False,
    step: int = COHORT,
    **options: Any,
) -> Reasons:
    """Everything that is decided about a world, and why."""
    declared = HoldOptions(**options)
    deliberation = Deliberation(experiment, rules, declared, "f1", dry_run, testing)
    book = book or Book()
    with gathered() as reasons:
        for watermark in range(START, end + 1, step):
            snapshot = world.snapshot(watermark, variants=experiment.variants)
            for edge in deliberation.examiner.edges(book, snapshot):
                outcome = deliberation.look(book, edge, snapshot, allowed=allowed)
                for order in outcome.orders:
                    taken = Accepted(order.decided_at)
                    outcome = deliberation.apply(outcome, order.treatment, taken, snapshot)
                # Written down and read again, as a monitor that was started anew would find it.
                book = msgspec.json.decode(msgspec.json.encode(outcome.book), type=Book)
    return reasons


def equal() -> World:
    """Both variants alike, with labels that say something."""
    world = steady(NOW)
    for variant in EXPERIMENT.variants:
        world.mature(variant, START, NOW, GOOD)
    return world


def losing() -> World:
    return equal().mature("new", START + HOUR, NOW, BAD)


def failing() -> World:
    return equal().arrive("new", START + HOUR, NOW, pane(10, errors=2, latency_ms=20, labelled=5))


def slow() -> World:
    return equal().arrive("new", START + HOUR, NOW, pane(10, latency_ms=900, labelled=5))


def silent() -> World:
    return equal().arrive("new", START + HOUR, NOW, pane(0))


def lopsided() -> World:
    return equal().arrive("new", START, NOW, pane(4, latency_ms=20, labelled=3))


def unlabelled() -> World:
    world = equal()
    for variant in EXPERIMENT.variants:
        world.arrive(variant, START + HOUR, NOW, pane(10, latency_ms=20))
    return world


CASES: dict[str, tuple[str, str, Callable[[], Reasons]]] = {
    "rap": ("rollback", "rap ", lambda: judged(losing())),
    "errors": ("rollback", "error_rate ", lambda: judged(failing())),
    "latency": ("rollback", "latency_p99_ms ", lambda: judged(slow())),
    "latency of hours": ("rollback", "latency_p99_ms ", lambda: judged(slow(), (SLOW,))),
    "precision": ("rollback", "precision ", lambda: judged(losing(), (PRECISION,))),
    "silence": ("rollback", "new had no predictions", lambda: judged(silent())),
    "overdue": (
        "rollback",
        "held too long",
        lambda: judged(unlabelled(), (LATENCY,), deadline=Duration(30 * MINUTE)),
    ),
    "overdue, told": (
        "hold_overdue",
        "labels stalled",
        lambda: judged(
            unlabelled(), (LATENCY,), deadline=Duration(30 * MINUTE), on_deadline="alert"
        ),
    ),
    "too long": (
        "hold",
        "testing.max_duration",
        lambda: judged(equal(), (RAP,), testing=Testing(max_duration=Duration(HOUR))),
    ),
    "dry run": ("would_roll_back", "rap ", lambda: judged(losing(), dry_run=True)),
    "brake": ("braked", "rap ", lambda: judged(losing(), allowed=0)),
    "pass": ("pass", "every test has passed", lambda: judged(equal(), (RAP, SELECTION))),
    "mismatch": ("hold", "sample ratio mismatch", lambda: judged(lopsided())),
    "silent": ("hold", "new is silent", lambda: judged(silent())),
    "stalled": ("hold", "labels stalled", lambda: judged(unlabelled())),
    "blind": (
        "hold",
        "blind: ",
        lambda: judged(equal(), (RAP,), testing=Testing(blind_budget=100)),
    ),
}


@cache
def case(name: str) -> tuple[Decision, Reasoning]:
    """The first decision of a case that does what the case is about, as it comes out of the store."""
    action, why, made = CASES[name]
    for number, (decision, reasoning) in enumerate(made().pairs()):
        if decision.action == action and decision.reasons[0].startswith(why):
            return seal(decision, "before" * number), unpacked(packed(reasoning))
    raise AssertionError(name)


# --- the same comes out again -----------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_decision_comes_out_again(name: str) -> None:
    decision, reasoning = case(name)
    found = explain(decision, reasoning)
    assert found.differences == ()
    assert (found.same, found.missing) == (True, None)


@pytest.mark.parametrize("name", CASES)
def test_the_reasoning_survives_being_packed(name: str) -> None:
    decision, reasoning = case(name)
    assert unpacked(packed(reasoning)) == reasoning
    assert seal_of(reasoning, decision) == reasoning.seal


def test_harm_while_paused_and_what_is_done_about_it_afterwards_come_out_again() -> None:
    deliberation = Deliberation(EXPERIMENT, RULES, HoldOptions(), "f1", testing=TESTING)
    world, book = losing(), Book()
    with gathered() as reasons:
        for watermark in range(START, NOW + 1, COHORT):
            snapshot = world.snapshot(watermark)
            for edge in deliberation.examiner.edges(book, snapshot):
                book = deliberation.look(book, edge, snapshot).book
            if watermark == START + COHORT:
                until = START + 2 * HOUR
                word = Command(watermark, "pause", "ann", "because", until)
                book = deliberation.apply(Outcome(book), "new", word, snapshot).book
    actions = [decision.action for decision, _ in reasons.pairs()]
    assert actions[:2] == ["harm_while_paused", "rollback"]
    assert all(explain(*pair).same for pair in reasons.pairs())


def test_decisions_after_a_change_of_the_split_come_out_again() -> None:
    step = Step(at=Moment(START + 40 * MINUTE), variants={"old": 0.8, "new": 0.2})
    ramp = msgspec.structs.replace(EXPERIMENT, ramp=(step,))
    world = losing()
    world.arrive("old", int(step.at), NOW, pane(16, latency_ms=20, labelled=8))
    world.arrive("new", int(step.at), NOW, pane(4, errors=2, latency_ms=20, labelled=2))
    reasons = judged(world, experiment=ramp)
    decision, reasoning = reasons.of("rollback")
    assert decision.phase is not None
    assert decision.phase.split == {"old": 0.8, "new": 0.2}
    assert reasoning.stretches == 1
    assert explain(decision, reasoning).same is True


def test_units_are_kept_with_the_cohorts() -> None:
    by_unit = msgspec.structs.replace(EXPERIMENT, randomised_by="unit")
    rng, world = np.random.default_rng(3), slow()
    for variant in EXPERIMENT.variants:
        for at in range(START, NOW, COHORT):
            cohort = matured(tp=360, fp=240, tn=960, fn=240)
            cohort.buckets = rng.integers(1, 40, (UNIT_BUCKETS, len(COLUMNS))).astype(np.int64)
            world.mature(variant, at, at + 1, cohort)
    world.arrive("old", START, NOW, pane(10, latency_ms=20, labelled=5, units=3))
    world.arrive("new", START, START + HOUR, pane(10, latency_ms=20, labelled=5, units=3))
    decision, reasoning = judged(world, (RAP, LATENCY), experiment=by_unit).of("rollback")
    arms = reasoning.matured[0].arms()
    assert [each.shape for each in arms.buckets] == [(UNIT_BUCKETS, len(COLUMNS))] * 2
    assert decision.judgements[RAP.name].effect is not None
    found = explain(decision, unpacked(packed(reasoning)))
    assert (found.same, found.differences) == (True, ())


segments = st.lists(
    st.tuples(
        st.sampled_from([MINUTE, 10 * MINUTE, 25 * MINUTE, 47 * MINUTE]),
        st.sampled_from([0, 1, 9, 10, 10]),
        st.sampled_from([0, 0, 3]),
        st.sampled_from([None, 20.0, 900.0]),
        st.sampled_from([0, 5, 5]),
    ),
    min_size=1,
    max_size=5,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Variants that get better and worse, fall silent and come back."""
    world, end = World(), START + 2 * HOUR
    for variant in THREE.variants:
        start = START
        for width, n, errors, latency, labelled in draw(segments):
            ledger = pane(
                n,
                errors=min(n, errors),
                acted=n // 2,
                latency_ms=latency,
                labelled=min(n, labelled),
            )
            world.arrive(variant, start, min(start + width, end), ledger)
            start = min(start + width, end)
        for number, bad in enumerate(draw(st.lists(st.booleans(), min_size=1, max_size=9))):
            at = START + number * COHORT
            world.mature(variant, at, at + 1, BAD if bad else GOOD)
    return world


@settings(max_examples=8, deadline=None)
@given(worlds(), st.sampled_from([MINUTE, 7 * MINUTE, 30 * MINUTE]))
def test_whatever_happens_every_decision_comes_out_again(world: World, step: int) -> None:
    reasons = judged(
        world,
        experiment=THREE,
        end=START + 2 * HOUR,
        step=step,
        deadline=Duration(HOUR),
    )
    for decision in reasons.decisions:
        assert (decision.id in reasons.found) == (decision.action in RESTING_ON_DATA)
    for decision, reasoning in reasons.pairs():
        found = explain(decision, unpacked(packed(reasoning)))
        assert (found.same, found.differences) == (True, ())


# --- what was tampered with does not ----------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers are in plain values."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from leaves(each, (*path, at))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def changed(value: Any, path: tuple[Any, ...], more: float) -> Any:
    """`value` with another number at `path`; whole numbers stay whole."""
    if not path:
        return value + (math.ceil(more) if isinstance(value, int) else more)
    head, *rest = path
    if isinstance(value, dict):
        return {**value, head: changed(value[head], tuple(rest), more)}
    return [
        changed(each, tuple(rest), more) if at == head else each for at, each in enumerate(value)
    ]


def tampered(plain: Any, data: st.DataObject, kind: Any) -> Any:
    """The value with another number somewhere; None where that cannot be read at all."""
    path = data.draw(st.sampled_from(sorted(leaves(plain), key=str)))
    more = data.draw(st.sampled_from([1.0, 0.01, 7.0]))
    try:
        return msgspec.convert(changed(plain, path, more), kind, dec_hook=_parsed)
    except msgspec.ValidationError:
        return None


def _parsed(kind: type, value: Any) -> Any:
    return kind.parse(value)  # type: ignore[attr-defined]  # a Duration or a Moment


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=str)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_any_other_number_in_a_decision_shows(name: str, data: st.DataObject) -> None:
    decision, reasoning = case(name)
    other = tampered(plain(decision), data, Decision)
    found = explain(other, reasoning)
    assert found.same is False
    assert any(each.startswith("chain: ") for each in found.differences)
    assert any(each.startswith("evidence: ") for each in found.differences)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_any_other_number_in_the_evidence_shows(name: str, data: st.DataObject) -> None:
    decision, reasoning = case(name)
    other = tampered(plain(reasoning), data, Reasoning)
    assert other is None or explain(decision, other).same is False


JUDGED = ("value", "control", "bound", "n", "n_control", "n_effective", "effect", "evidence")


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_another_number_in_a_judgement_shows_even_where_every_hash_was_made_anew(
    name: str, data: st.DataObject
) -> None:
    decision, reasoning = case(name)
    judgements = plain(decision.judgements)
    paths = [path for path in leaves(judgements) if path[1] in JUDGED]
    if not paths:  # nothing was judged yet
        return
    path = data.draw(st.sampled_from(sorted(paths, key=str)))
    other = msgspec.convert(
        changed(plain(decision), ("judgements", *path), data.draw(st.sampled_from([1.0, 1e-4]))),
        Decision,
    )
    assert path[0] in " ".join(explain(*resealed(other, reasoning)).differences)


def resealed(decision: Decision, reasoning: Reasoning) -> tuple[Decision, Reasoning]:
    """As somebody would leave them who can compute hashes."""
    sealed = msgspec.structs.replace(reasoning, seal=seal_of(reasoning, decision))
    proven = msgspec.structs.replace(decision, evidence=sealed.seal)
    return seal(proven, decision.previous), sealed


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["treatment", "control"]),
    st.sampled_from(["tp.w", "fp.w", "fn.w", "tp.w2", "tp.n", "predictions"]),
    st.integers(0, 5),
)
def test_other_facts_show_even_where_every_hash_was_made_anew(
    arm: str, column: str, row: int
) -> None:
    decision, reasoning = case("rap")
    found = reasoning.matured[0]
    facts = unpack_facts(getattr(found, arm))
    one = {"w": 1_000, "w2": 1_000_000}.get(column.partition(".")[2], 1)
    facts.sums[row, FACTS.index(column)] += one  # prediction more
    other = msgspec.structs.replace(
        reasoning, matured=(msgspec.structs.replace(found, **{arm: pack_facts(facts)}),)
    )
    assert explain(*resealed(decision, other)).same is False


@pytest.mark.parametrize("at", range(1, 5))
def test_another_tally_shows_even_where_every_hash_was_made_anew(at: int) -> None:
    decision, reasoning = case("errors")
    step = reasoning.counted[ERRORS.name]
    assert step.tally is not None
    tally = tuple(each + 1 if number == at else each for number, each in enumerate(step.tally))
    counted = {**reasoning.counted, ERRORS.name: msgspec.structs.replace(step, tally=tally)}
    other = msgspec.structs.replace(reasoning, counted=counted)
    assert explain(*resealed(decision, other)).same is False


@pytest.mark.parametrize(
    "change",
    [
        {"action": "pass"},
        {"reasons": ("because I say so",)},
        {"state": State.PASSED},
        {"before": State.PASSED},
        {"epoch": 2},
        {"at": 17},
        {"dry_run": True},
        {"judgements": {}},
    ],
)
def test_another_verdict_shows_even_where_every_hash_was_made_anew(change: dict[str, Any]) -> None:
    decision, reasoning = case("rap")
    other = msgspec.structs.replace(decision, **change)
    assert explain(*resealed(other, reasoning)).same is False


def test_another_count_of_the_split_shows_where_it_was_the_cause() -> None:
    decision, reasoning = case("mismatch")
    assert decision.phase is not None
    phase = msgspec.structs.replace(decision.phase, counts={"old": 100, "new": 100})
    other = msgspec.structs.replace(decision, phase=phase)
    (wrong,) = explain(*resealed(other, reasoning)).differences
    assert wrong.startswith("look: a cause to hold that does not follow: sample ratio mismatch")


def test_a_silence_that_was_none_shows() -> None:
    decision, reasoning = case("silence")
    flow = reasoning.flow
    counts = tuple(
        msgspec.structs.replace(count, n=1) if count.asked.variant == "new" else count
        for count in flow.counts
    )
    other = msgspec.structs.replace(reasoning, flow=msgspec.structs.replace(flow, counts=counts))
    wrong = explain(*resealed(decision, other)).differences
    assert any("harm that does not follow: new had no predictions" in each for each in wrong)


def test_the_evidence_of_another_decision_shows() -> None:
    assert explain(case("rap")[0], case("errors")[1]).same is False


# --- what is missing, and what needs none -----------------------------------------------------------


def test_without_its_evidence_a_decision_cannot_be_recomputed_and_that_is_said() -> None:
    found = explain(case("rap")[0], None)
    assert found.same is None
    assert to_text(found).endswith("cannot be recomputed: no evidence was stored with it")


def test_a_changed_decision_without_evidence_is_still_told() -> None:
    other = msgspec.structs.replace(case("rap")[0], at=17)
    assert explain(other, None).same is False


def test_a_persons_word_and_what_actuators_say_need_no_evidence() -> None:
    reasons = judged(failing())
    accepted = next(each for each in reasons.decisions if each.action == "accepted")
    assert accepted.id not in reasons.found
    found = explain(accepted, None)
    assert found.same is True
    assert to_text(found).endswith("nothing to recompute: it does not rest on data")
    snapshot = equal().snapshot(NOW)
    deliberation = Deliberation(EXPERIMENT, RULES, HoldOptions(), "f1", testing=TESTING)
    with gathered() as reasons:
        word = Command(NOW, "rollback", "ann", "because")
        deliberation.apply(Outcome(Book()), "new", word, snapshot)
    (decision,) = reasons.decisions
    assert reasons.found == {}
    assert explain(decision, None).same is True
    assert "by ann" in to_text(explain(decision, None))


def test_a_hold_that_the_clock_found_says_so() -> None:
    snapshot = equal().snapshot(NOW)
    deliberation = Deliberation(EXPERIMENT, RULES, HoldOptions(), "f1", testing=TESTING)
    with gathered() as reasons:
        look = Look(NOW + DAY, hold=("stale: no data is newer than 5m",))
        deliberation.apply(Outcome(Book()), "new", look, snapshot)
    decision, reasoning = reasons.of("hold")
    found = explain(decision, reasoning)
    assert found.same is True
    assert "by its clock or what it was told: stale: no data" in to_text(found)


def test_a_guardrail_whose_window_is_gone_cannot_be_recomputed_and_that_is_said() -> None:
    decision, reasoning = case("latency")
    gone = msgspec.structs.replace(reasoning, windows={})
    found = explain(*resealed(decision, gone))
    assert (found.same, found.missing) == (None, f"what {LATENCY.name} saw is not kept any more")
    decision, reasoning = case("rap")
    assert explain(*resealed(decision, msgspec.structs.replace(reasoning, windows={}))).same is True


@pytest.mark.parametrize("data", [b"", b"nonsense", packed(case("mismatch")[1])[:-20]])
def test_bytes_that_are_no_evidence_are_refused(data: bytes) -> None:
    with pytest.raises(ReasoningFormatError, match="cannot be read"):
        unpacked(data)


def test_evidence_of_another_format_is_refused_with_its_number() -> None:
    newer = packed(msgspec.structs.replace(case("mismatch")[1], v=9))
    with pytest.raises(ReasoningFormatError, match="format 9, expected 1"):
        unpacked(newer)


# --- what people read -------------------------------------------------------------------------------


def test_the_text_has_the_formula_with_the_numbers_put_in() -> None:
    decision, reasoning = case("rap")
    text = to_text(explain(decision, reasoning))
    judgement = decision.judgements[RAP.name]
    cells = decision.counts["new"]
    formula = f"({cells['tp']} - 0.5*{cells['fp']})/({cells['tp']} + {cells['fn']})"
    assert f"RAP of new = (TP - k*FP)/(TP + FN) = {formula} = {judgement.value:.6g}" in text
    assert judgement.evidence is not None
    assert f"= {judgement.evidence.harm_needed:.6g}" in text
    assert "the start that counts most is cohort" in text
    assert text.endswith("recomputed from the stored evidence: the same verdict")


def test_what_differs_stands_beside_what_is_stored() -> None:
    decision, reasoning = case("rap")
    judgement = msgspec.structs.replace(decision.judgements[RAP.name], value=0.5)
    judgements = {**decision.judgements, RAP.name: judgement}
    other = msgspec.structs.replace(decision, judgements=judgements)
    found = explain(*resealed(other, reasoning))
    value = case("rap")[0].judgements[RAP.name].value
    assert f"judgement.value: stored 0.5, recomputed {value:.12g}" in to_text(found)
    assert f"value: stored 0.5, {value:.6g} straight from the counts" in to_text(found)
    assert to_text(found).endswith("DIFFERS: 2 things do not come out again")


def test_an_explanation_is_plain_data() -> None:
    found = explain(*case("rap"))
    again = msgspec.json.decode(msgspec.json.encode(found), type=Explanation)
    assert to_text(again) == to_text(found)


# --- it never stands in the way ---------------------------------------------------------------------


def test_evidence_is_packed_and_has_the_seal_that_its_decision_is_given() -> None:
    decision, reasoning, at_hand = look_at_hand()
    proof = evidence_of(*at_hand)
    assert proof is not None
    assert (proof[0], unpacked(proof[1])) == (decision.evidence, reasoning)


def test_what_cannot_be_written_down_keeps_nobody_from_deciding(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decision, _, at_hand = look_at_hand()
    monkeypatch.setattr(gathering, "gather", lambda *_: 1 / 0)
    assert evidence_of(*at_hand) is None
    assert f"{decision.id}: what it rests on could not be written down" in caplog.text


def test_numbers_of_any_size_in_a_judgement_can_be_written_down() -> None:
    decision, reasoning = case("errors")
    step = reasoning.counted[ERRORS.name]
    known = msgspec.structs.replace(
        decision.judgements[ERRORS.name], missing=Missing(predictions=10**30, ms=10**40)
    )
    counted = msgspec.structs.replace(step, known=msgspec.json.encode(known))
    other = msgspec.structs.replace(reasoning, counted={ERRORS.name: counted})
    judgements = {**decision.judgements, ERRORS.name: known}
    told = msgspec.structs.replace(decision, judgements=judgements)
    assert len(seal_of(unpacked(packed(other)), told)) == 64
    assert unpacked(packed(other)).counted[ERRORS.name].said == known


def look_at_hand() -> tuple[Decision, Reasoning, tuple[Any, ...]]:
    """A decision, what it rests on, and what was at hand when it was made."""
    deliberation = Deliberation(EXPERIMENT, RULES, HoldOptions(), "f1", testing=TESTING)
    snapshot, book = lopsided().snapshot(NOW), Book(settings="f1")
    look = Look(NOW, hold=("stale: no data is newer than 5m",))
    with gathered() as reasons:
        deliberation.apply(Outcome(book), "new", look, snapshot)
    decision, reasoning = reasons.of("hold")
    declared = Declared.of(EXPERIMENT, RULES, HoldOptions(), TESTING)
    policy = deliberation.policy(braked=False)
    return decision, reasoning, (declared, decision, look, policy, snapshot, book, book)


# --- how much room it takes -------------------------------------------------------------------------


def test_two_thousand_cohorts_of_both_arms_take_less_than_900_kb() -> None:
    rng, world, count = np.random.default_rng(1), steady(START + HOUR), 2_000
    begun, end = START - count * COHORT, START
    for variant in EXPERIMENT.variants:
        for at in range(begun, end, COHORT):
            recall = 0.3 if variant == "new" and at > end - 100 * COHORT else 0.6
            world.mature(variant, at, at + 1, drawn(rng, 3_000, recall=recall))
    book = Book(
        settings="f1",
        looked_at=START + HOUR - MINUTE,
        cohort_at=end - 50 * COHORT,
        phase=Phase(since=begun, split={"old": 0.5, "new": 0.5}),
        standings={"new": Standing(state=State.HEALTHY, since=begun, begun=begun)},
    )
    snapshot = world.snapshot(START + HOUR, final_to=end)
    deliberation = Deliberation(EXPERIMENT, (RAP,), HoldOptions(), "f1", testing=TESTING)
    edges = deliberation.examiner.edges(book, snapshot)
    edge = next(each for each in edges if each.judged_at == end)
    with gathered() as reasons:
        deliberation.look(book, edge, snapshot)
    decision, reasoning = reasons.of("rollback")
    assert len(reasoning.matured[0].arms().starts) == count
    assert explain(decision, unpacked(packed(reasoning))).same is True
    assert len(packed(reasoning)) < 900_000
