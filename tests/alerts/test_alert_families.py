"""What Prometheus is told of judgement."""

import math
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from alerts.actions import ACTIONS
from alerts.book import Book, Stretch
from alerts.book import Phase as Split
from alerts.causes import BRAKED, MISMATCHED, no_data
from alerts.families import Judged, describe, families
from alerts.guardrails import Guardrail
from alerts.judge import Effect, Evidence, Judgement, Missing, Phase, Strongest
from alerts.phases import mismatch, mismatch_limit
from alerts.standing import Pause, Standing, State
from metrics.duration import Duration


BOOK = Book(
    standings={
        "new": Standing(state=State.SUSPECT, streaks={"error_rate:threshold:5m": 2}),
        "gone": Standing(state=State.ROLLED_BACK),
    },
    judgements={
        "new": {
            "error_rate:threshold:5m": Judgement(
                guardrail="error_rate:threshold:5m",
                metric="error_rate",
                phase=Phase.FAIL,
                at=1,
                reason="",
            )
        }
    },
    actions={"new": {"hold": 3, "release": 3, "rollback": 1}, "gone": {"rollback": 1}},
)


def told(*judged: Judged) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(judged)
        for sample in family.samples
    }


def test_a_treatment_is_in_exactly_one_state() -> None:
    found = told(Judged("offers", "old", ["new", "newer"], BOOK))
    for treatment, expected in (("new", State.SUSPECT), ("newer", State.COLLECTING)):
        states = {
            state: found["abmonitor_treatment_state", "offers", treatment, state.value]
            for state in State
        }
        assert states == {state: float(state is expected) for state in State}


def test_a_guardrail_is_in_exactly_one_phase_with_its_failing_looks() -> None:
    found = told(Judged("offers", "old", ["new"], BOOK))
    name = "error_rate:threshold:5m"
    phases = {p: found["abmonitor_guardrail_phase", "offers", "new", name, p.value] for p in Phase}
    assert phases == {phase: float(phase is Phase.FAIL) for phase in Phase}
    assert found["abmonitor_guardrail_failing_looks", "offers", "new", name] == 2


def decided(*treatments: str) -> dict[tuple[str, str], float]:
    """How many decisions are told, by treatment and action."""
    found = told(Judged("offers", "old", treatments, BOOK))
    return {
        (key[2], key[3]): n for key, n in found.items() if key[0] == "abmonitor_decisions_total"
    }


def test_decisions_are_counted_as_the_book_counts_them_and_all_others_are_0() -> None:
    found = decided("new", "never-judged")
    counted = {("new", "hold"): 3, ("new", "release"): 3, ("new", "rollback"): 1}
    every = {(name, action) for name in ("new", "never-judged") for action in ACTIONS}
    assert found == dict.fromkeys(every, 0) | counted


# --- how a treatment stands -----------------------------------------------------------------------


def stands(standing: Standing | None) -> dict[tuple[str, ...], float]:
    """What is told of a treatment beside its state and its decisions; names without what all begin with."""
    book = Book(standings={} if standing is None else {"new": standing})
    return {
        (key[0].removeprefix("abmonitor_treatment_"), *key[3:]): value
        for key, value in told(Judged("offers", "old", ["new"], book)).items()
        if key[0] not in {"abmonitor_treatment_state", "abmonitor_decisions_total"}
    }


def test_before_the_first_look_nobody_knows_since_when() -> None:
    assert stands(None) == {("paused",): 0, ("harm_latched",): 0}


def test_since_when_is_told_in_seconds() -> None:
    found = stands(Standing(state=State.HEALTHY, since=90_500))
    assert found["state_since_timestamp_seconds",] == 90.5


def test_a_pause_and_the_harm_that_waits_for_its_end_are_told() -> None:
    paused = Standing(state=State.SUSPECT, paused=Pause("ann", "prices"), latched=("errors",))
    assert stands(paused) == {("paused",): 1, ("harm_latched",): 1}
    ended = msgspec.structs.replace(paused, state=State.ENDED)
    assert stands(ended) == {("paused",): 0, ("harm_latched",): 0}  # nobody is to end that pause
    behind_the_brake = Standing(state=State.HOLD, causes=(BRAKED,), latched=("errors",))
    assert stands(behind_the_brake) == {
        ("paused",): 0,
        ("harm_latched",): 0,
        ("hold_cause", "braked"): 1,
    }


def test_each_cause_of_a_hold_is_told_once_as_a_word() -> None:
    causes = (no_data(Duration(900_000)), MISMATCHED, "what nobody has heard of", "nor of this")
    found = stands(Standing(state=State.HOLD, causes=causes))
    told_ = {key[1]: value for key, value in found.items() if key[0] == "hold_cause"}
    assert told_ == {"no_data": 1, "sample_ratio": 1, "other": 1}


@pytest.mark.parametrize("state", [state for state in State if state is not State.HOLD])
def test_causes_of_anything_but_a_hold_are_none(state: State) -> None:
    found = stands(Standing(state=state, causes=(MISMATCHED,)))
    assert "hold_cause" not in {key[0] for key in found}


# --- what guardrails saw, and what they tolerate --------------------------------------------------


def seen(metric: str, **values: Any) -> dict[tuple[str, ...], float]:
    name = f"{metric}:threshold:5m"
    judged = Judgement(guardrail=name, metric=metric, phase=Phase.PASS, at=1, reason="", **values)
    return {key[2:]: n for key, n in sequential(judged).items() if key[0] == "value"}


def test_what_a_guardrail_saw_is_in_base_units_and_what_it_did_not_see_has_no_series() -> None:
    assert seen("error_rate", value=0.2, control=0.1, bound=0.15) == {
        ("value",): 0.2,
        ("control",): 0.1,
        ("bound",): 0.15,
    }
    assert seen("latency_p99_ms", value=250.0, bound=2_000.0) == {("value",): 0.25, ("bound",): 2.0}
    assert seen("net_business_value", value=-3.0) == {("value",): pytest.approx(-0.03)}
    assert seen("money_per_prediction", value=3.0) == {("value",): 3.0}
    assert seen("recall") == {}


def limits(*guardrails: Guardrail, control: float | None = None) -> dict[str, float]:
    """What is tolerated, by guardrail; each has seen that value of the control."""
    judgements = {
        each.name: Judgement(
            guardrail=each.name,
            metric=each.metric,
            phase=Phase.PASS,
            at=1,
            reason="",
            control=control,
        )
        for each in guardrails
    }
    book = Book(judgements={"new": judgements})
    found = told(Judged("offers", "old", ["new"], book, guardrails))
    return {key[3]: n for key, n in found.items() if key[0] == "abmonitor_guardrail_limit"}


def rule(metric: str, **options: Any) -> Guardrail:
    return Guardrail(metric=metric, test="sequential", **options)


@pytest.mark.parametrize(
    ("guardrail", "control", "expected"),
    [
        (rule("rap", margin=0.05), None, -0.05),  # falling is harm
        (rule("rap"), None, 0.0),
        (rule("false_alarm_rate", margin=0.05), None, 0.05),  # rising is
        (rule("recall", relative_margin=0.1), 0.6, -0.06),
        (rule("false_alarm_rate", relative_margin=0.1), 0.2, 0.02),
        (rule("recall", relative_margin=0.1), None, None),  # of nobody knows what
        (rule("net_business_value", margin=2.0), None, -0.02),  # in per cent
        (rule("error_rate", margin=0.01), 0.5, 0.01),
        (rule("error_rate", relative_margin=0.2), 0.5, 1.2),  # times the control's
        (rule("error_rate"), 0.5, 1.0),
        (rule("selection_rate", margin=0.05), None, 0.05),  # the upper one of two
        (rule("selection_rate", relative_margin=0.25), None, 1.25),
        (Guardrail(metric="error_rate", window=Duration(300_000), max=0.1), 0.5, None),
    ],
)
def test_the_limit_is_where_harm_begins(
    guardrail: Guardrail, control: float | None, expected: float | None
) -> None:
    found = limits(guardrail, control=control)
    assert found == ({} if expected is None else {guardrail.name: pytest.approx(expected)})
    assert all(math.copysign(1, limit) == 1 for limit in found.values() if limit == 0)


def test_a_limit_is_known_before_anything_was_seen_where_it_rests_on_nothing() -> None:
    rules = (rule("rap", margin=0.05), rule("recall", relative_margin=0.1))
    found = told(Judged("offers", "old", ["new"], Book(), rules))
    named = {key[3]: n for key, n in found.items() if key[0] == "abmonitor_guardrail_limit"}
    assert named == {"rap:sequential": -0.05}


def test_series_end_with_their_experiment_and_their_treatment() -> None:
    assert told() == {}
    assert not [key for key in told(Judged("offers", "old", ["new"], BOOK)) if "gone" in key]


def test_all_families_are_described_and_can_be_exposed() -> None:
    class Everything(Collector):
        def collect(self) -> list[Metric]:
            return families([Judged("offers", "old", ["new"], BOOK)])

    described = {family.name for family in describe()}
    assert described == {family.name for family in families([])}
    registry = CollectorRegistry()
    registry.register(Everything())
    text = generate_latest(registry).decode()
    assert all(f"# HELP {name}" in text for name in described)
    assert 'abmonitor_decisions_total{experiment="offers",reason="hold",variant="new"} 3.0' in text


RAP = Judgement(
    guardrail="rap:sequential",
    metric="rap",
    phase=Phase.INCONCLUSIVE,
    at=1,
    reason="",
    effect=Effect(kind="difference", estimate=-0.1, upper=0.2),
    evidence=Evidence(harm=-math.log(0.2), harm_needed=-math.log(0.04), safe=-1.0, safe_needed=4.0),
    n_effective=120.5,
    missing=Missing(predictions=900, ms=90_000),
    strongest=Strongest(since=5_000, difference=-0.3),
)
ERRORS = Judgement(
    guardrail="error_rate:sequential",
    metric="error_rate",
    phase=Phase.PASS,
    at=1,
    reason="",
    effect=Effect(kind="ratio", estimate=1.1, lower=0.9, upper=1.3),
    evidence=Evidence(harm=None, harm_needed=-math.log(0.01), safe=6.0, safe_needed=3.0),
)


def sequential(*judgements: Judgement) -> dict[tuple[str, ...], float]:
    """Values by name (without what all begin with) and the labels behind the treatment."""
    book = Book(judgements={"new": {each.guardrail: each for each in judgements}})
    found = told(Judged("offers", "old", ["new"], book))
    return {
        (key[0].removeprefix("abmonitor_guardrail_"), *key[3:]): value
        for key, value in found.items()
    }


def test_evidence_is_a_part_of_what_decides() -> None:
    found = sequential(RAP, ERRORS)
    assert found["evidence_ratio", "rap:sequential", "harm"] == pytest.approx(0.5)
    assert found["evidence_ratio", "rap:sequential", "safe"] == -0.25
    assert found["evidence_ratio", "error_rate:sequential", "safe"] == 2
    assert ("evidence_ratio", "error_rate:sequential", "harm") not in found
    assert found["alpha_ratio", "rap:sequential"] == pytest.approx(0.04)
    assert found["alpha_ratio", "error_rate:sequential"] == pytest.approx(0.01)


def test_differences_and_ratios_have_families_of_their_own_and_unknown_bounds_no_series() -> None:
    found = sequential(RAP, ERRORS)
    by_end = {
        key: value for key, value in found.items() if key[0] in {"difference", "relative_ratio"}
    }
    assert by_end == {
        ("difference", "rap:sequential", "estimate"): -0.1,
        ("difference", "rap:sequential", "upper"): 0.2,
        ("relative_ratio", "error_rate:sequential", "estimate"): 1.1,
        ("relative_ratio", "error_rate:sequential", "lower"): 0.9,
        ("relative_ratio", "error_rate:sequential", "upper"): 1.3,
    }


def test_a_difference_in_per_cent_is_exposed_as_a_ratio() -> None:
    effect = Effect(kind="difference", estimate=-3.9, lower=-5.0, upper=-2.0)
    name = "net_business_value:sequential"
    value = Judgement(
        guardrail=name,
        metric="net_business_value",
        phase=Phase.FAIL,
        at=1,
        reason="",
        effect=effect,
        evidence=RAP.evidence,
    )
    assert sequential(value)["difference", name, "estimate"] == pytest.approx(-0.039)


def test_what_a_verdict_takes_and_rests_on_is_told_while_it_is_known() -> None:
    found = sequential(RAP, ERRORS)
    assert found["missing_predictions", "rap:sequential"] == 900
    assert found["missing_seconds", "rap:sequential"] == 90
    assert found["effective_observations", "rap:sequential"] == 120.5
    assert found["change_timestamp_seconds", "rap:sequential"] == 5
    for name in ("missing_predictions", "missing_seconds", "effective_observations"):
        assert (name, "error_rate:sequential") not in found


def test_a_threshold_has_no_evidence() -> None:
    assert {key[0] for key in told(Judged("offers", "old", ["new"], BOOK))} == {
        "abmonitor_treatment_state",
        "abmonitor_guardrail_phase",
        "abmonitor_guardrail_failing_looks",
        "abmonitor_treatment_paused",
        "abmonitor_treatment_harm_latched",
        "abmonitor_decisions_total",
    }


def test_the_split_of_the_current_phase_is_exposed_with_its_p_value_and_its_limit() -> None:
    phase = Split(
        since=60_000, split={"old": 3.0, "new": 1.0, "off": 0.0}, counts={"old": 700, "new": 300}
    )
    book = Book(phase=phase, past=(Stretch(since=0, until=60_000, split={"old": 1.0}),))
    found = told(Judged("offers", "old", ["new", "off"], book))
    p_value = mismatch("new", "old", phase)
    assert p_value is not None
    assert 0 < p_value < 1
    of_treatments = ("abmonitor_treatment_", "abmonitor_decisions_")
    assert {key: value for key, value in found.items() if not key[0].startswith(of_treatments)} == {
        ("abmonitor_phase_share_ratio", "offers", "old"): 0.75,
        ("abmonitor_phase_share_ratio", "offers", "new"): 0.25,
        ("abmonitor_phase_share_ratio", "offers", "off"): 0,
        ("abmonitor_phase_assigned", "offers", "old"): 700,
        ("abmonitor_phase_assigned", "offers", "new"): 300,
        ("abmonitor_phase_assigned", "offers", "off"): 0,
        ("abmonitor_phase_start_timestamp_seconds", "offers"): 60,
        ("abmonitor_sample_ratio_p_value", "offers", "new"): p_value,
        ("abmonitor_sample_ratio_p_value_limit", "offers"): mismatch_limit(book, 2),
    }


def test_a_split_that_does_not_name_the_control_compares_nothing() -> None:
    """As long as the book is one of settings that named others."""
    phase = Split(since=0, split={"older": 1.0, "new": 1.0}, counts={"older": 3, "new": 3})
    found = told(Judged("offers", "old", ["new"], Book(phase=phase)))
    assert not [key for key in found if key[0] == "abmonitor_sample_ratio_p_value"]
