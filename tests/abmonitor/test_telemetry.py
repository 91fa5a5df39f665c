import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from support.eventfiles import MINUTE, SETTINGS, START, lines, outcome, traffic
from support.views import settings_of, view_of

from abmonitor.document import document
from abmonitor.telemetry import ViewCollector, registry
from abmonitor.view import View


ALLOWED = {
    "experiment",
    "variant",
    "window",
    "metric",
    "quantile",
    "guardrail",
    "state",
    "reason",
    "predicted",
    "actual",
    "result",
    "le",
}


@pytest.fixture(scope="module")
def view() -> View:
    events = traffic(1_500)
    for event in events:
        if event.get("variant") == "new" and event["time"] > START + 15 * MINUTE:
            event["error"] = True
    return view_of([*events, outcome("nobody", events[-1]["time"]), b"{"])


def never() -> View:
    raise AssertionError("registering must not look at anything")


def test_registering_looks_at_nothing() -> None:
    assert isinstance(registry(never), CollectorRegistry)
    assert len(list(ViewCollector(never).describe())) > 15


def test_what_is_described_is_what_is_collected(view: View) -> None:
    collector = ViewCollector(lambda: view)
    described = {(family.name, family.type) for family in collector.describe()}
    assert {(family.name, family.type) for family in collector.collect()} == described
    assert len(described) == len(list(collector.describe()))


def test_names_and_labels_follow_the_conventions(view: View) -> None:
    for family in ViewCollector(lambda: view).collect():
        assert re.fullmatch("abmonitor_[a-z_]+", family.name)
        assert family.documentation
        for sample in family.samples:
            assert sample.labels.keys() <= ALLOWED
            assert (family.type == "counter") == sample.name.endswith("_total")
            ending = sample.name.removeprefix(family.name)
            assert (ending in {"_bucket", "_sum", "_count"}) == (family.type == "histogram")
            if family.type != "gauge":
                assert sample.value >= 0


def test_both_formats_can_be_parsed_and_say_the_same(view: View) -> None:
    exposed = registry(lambda: view)
    plain = list(text_string_to_metric_families(generate_latest(exposed).decode()))
    modern = list(openmetrics_families(generate_openmetrics(exposed).decode()))  # type: ignore[no-untyped-call]
    said = [
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
        for families in (plain, modern)
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 100


def test_no_series_is_given_twice(view: View) -> None:
    for family in ViewCollector(lambda: view).collect():
        places = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(places) == len(set(places))


def test_events_are_counted_by_result_and_reason(view: View) -> None:
    value = registry(lambda: view).get_sample_value
    events = document(view)["events"]

    def counted(result: str, reason: str = "") -> float | None:
        return value("abmonitor_events_total", {"result": result, "reason": reason})

    assert counted("predictions") == events["predictions"] == 1_500
    assert counted("outcomes") == events["outcomes"] == 1_500
    assert counted("rejected", "malformed_json") == 1
    assert counted("duplicate") is None
    assert value("abmonitor_waiting_outcomes") == 1
    assert value("abmonitor_pending_predictions") == 1_500


def test_the_state_of_a_treatment_and_its_decisions_are_exposed(view: View) -> None:
    value = registry(lambda: view).get_sample_value
    where = {"experiment": "offers", "variant": "new"}
    assert value("abmonitor_treatment_state", where | {"state": "rolled_back"}) == 1
    assert value("abmonitor_treatment_state", where | {"state": "healthy"}) == 0
    assert value("abmonitor_decisions_total", where | {"reason": "rollback"}) == 1


def test_before_the_first_tick_nothing_is_claimed() -> None:
    samples = [s for family in ViewCollector(View).collect() for s in family.samples]
    assert samples == []


def test_series_end_with_their_experiment_and_begin_with_a_new_one(view: View) -> None:
    shown = [view]
    exposed = registry(lambda: shown[0])
    assert b'experiment="offers"' in generate_latest(exposed)
    renamed = settings_of(SETTINGS.replace("offers", "prices"))
    shown[0] = view_of([lines([event], b"") for event in traffic(20)], renamed)
    text = generate_latest(exposed)
    assert b'experiment="prices"' in text
    assert b"offers" not in text
