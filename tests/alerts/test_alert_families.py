"""What Prometheus is told of judgement."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from alerts.book import Book
from alerts.families import Judged, describe, families
from alerts.judge import Judgement, Phase
from alerts.standing import Standing, State


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
    found = told(Judged("offers", ["new", "newer"], BOOK))
    for treatment, expected in (("new", State.SUSPECT), ("newer", State.COLLECTING)):
        states = {
            state: found["abmonitor_treatment_state", "offers", treatment, state.value]
            for state in State
        }
        assert states == {state: float(state is expected) for state in State}


def test_a_guardrail_is_in_exactly_one_phase_with_its_failing_looks() -> None:
    found = told(Judged("offers", ["new"], BOOK))
    name = "error_rate:threshold:5m"
    phases = {p: found["abmonitor_guardrail_phase", "offers", "new", name, p.value] for p in Phase}
    assert phases == {phase: float(phase is Phase.FAIL) for phase in Phase}
    assert found["abmonitor_guardrail_failing_looks", "offers", "new", name] == 2


def test_decisions_are_counted_as_the_book_counts_them() -> None:
    found = told(Judged("offers", ["new"], BOOK))
    counts = {
        key[3]: value for key, value in found.items() if key[0] == "abmonitor_decisions_total"
    }
    assert counts == {"hold": 3, "release": 3, "rollback": 1}


def test_series_end_with_their_experiment_and_their_treatment() -> None:
    assert told() == {}
    assert not [key for key in told(Judged("offers", ["new"], BOOK)) if "gone" in key]


def test_all_families_are_described_and_can_be_exposed() -> None:
    class Everything(Collector):
        def collect(self) -> list[Metric]:
            return families([Judged("offers", ["new"], BOOK)])

    described = {family.name for family in describe()}
    assert described == {family.name for family in families([])}
    registry = CollectorRegistry()
    registry.register(Everything())
    text = generate_latest(registry).decode()
    assert all(f"# HELP {name}" in text for name in described)
    assert 'abmonitor_decisions_total{experiment="offers",reason="hold",variant="new"} 3.0' in text
