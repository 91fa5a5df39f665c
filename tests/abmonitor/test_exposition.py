from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from support.eventfiles import MINUTE, SETTINGS, START, outcome, traffic
from support.views import settings_of, view_of

from abmonitor.exposition import Exposition
from abmonitor.telemetry import registry
from abmonitor.view import ExperimentView, View
from abmonitor.viewing import SMALL_FLEET


MODERN = "application/openmetrics-text;version=1.0.0;escaping="
ACCEPTED = [
    "",
    "*/*",
    "nonsense",
    "text/plain;version=0.0.4;q=0.3",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=dots",
    "application/openmetrics-text",
    *(f"{MODERN}{way}" for way in ("underscores", "allow-utf-8", "dots", "values")),
]
ODD = 'a "guard"\\rail\nof offers'


@pytest.fixture(scope="module")
def view() -> View:
    """Two experiments, one rolled back; one has a guardrail with a name that must be escaped."""
    events = traffic(1_500)
    for event in events:
        if event.get("variant") == "new" and event["time"] > START + 15 * MINUTE:
            event["error"] = True
    found = view_of([*events, outcome("nobody", events[-1]["time"]), b"{"], settings_of(SETTINGS))
    return fleet_of(found, ["offers", "prices"])


def fleet_of(view: View, names: Iterable[str]) -> View:
    first = next(iter(view.experiments.values()))
    return replace(view, experiments={name: named(first, name) for name in names})


def named(one: ExperimentView, name: str) -> ExperimentView:
    judged = one.book.judgements["new"]
    odd = {**judged, ODD: next(iter(judged.values()))}
    book = msgspec.structs.replace(one.book, judgements={"new": odd})
    return replace(one, experiment=msgspec.structs.replace(one.experiment, name=name), book=book)


class Extra(Collector):
    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("abmonitor_extra", "One more.", value=1)


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_document_is_the_one_that_the_library_writes(view: View, accept: str) -> None:
    exposed, plain = Exposition(lambda: view), registry(lambda: view)
    for each in (exposed, plain):
        each.register(Extra())
    encode, content_type = choose_encoder("" if accept == "nonsense" else accept)
    for _ in range(2):  # anew, and as it was kept
        assert exposed.document(accept) == (encode(plain), content_type)


def test_both_formats_can_be_parsed(view: View) -> None:
    exposed = Exposition(lambda: view)
    plain = exposed.document("")[0].decode()
    modern = exposed.document(MODERN + "underscores")[0].decode()
    families = list(text_string_to_metric_families(plain))
    assert len(families) == len({family.name for family in families}) > 30
    assert sum(len(family.samples) for family in families) > 200
    assert ODD in {s.labels.get("guardrail") for family in families for s in family.samples}
    assert len(list(openmetrics_families(modern))) == len(families)  # type: ignore[no-untyped-call]
    assert (modern.count("# EOF\n"), plain.count("# EOF")) == (1, 0)


def test_before_the_first_tick_there_are_only_families() -> None:
    exposed, plain = Exposition(View), registry(View)
    assert exposed.document("")[0] == choose_encoder("")[0](plain)


def test_series_end_with_their_experiment(view: View) -> None:
    shown = [view]
    exposed = Exposition(lambda: shown[0])
    assert b'experiment="prices"' in exposed.document("")[0]
    shown[0] = fleet_of(view, ["offers"])
    text = exposed.document("")[0]
    assert b'experiment="offers"' in text
    assert b"prices" not in text


# --- a large fleet --------------------------------------------------------------------------------

NAMES = [f"e{number}" for number in range(SMALL_FLEET + 12)]


def counting(step: float) -> Callable[[], float]:
    now = [0.0]

    def seconds() -> float:
        now[0] += step
        return now[0]

    return seconds


class Watched:
    """A view that changes, and how much of it a scrape shows."""

    def __init__(self, view: View, names: list[str]) -> None:
        self.view = fleet_of(view, names)
        self.at = 0

    def tick(self) -> None:
        """Every experiment's watermark moves."""
        self.at += 1_000
        self.view = replace(
            self.view,
            experiments={
                name: replace(one, snapshot=replace(one.snapshot, watermark=self.at))
                for name, one in self.view.experiments.items()
            },
        )

    def fresh(self, exposed: Exposition) -> set[str]:
        """Experiments that are shown as of the latest tick."""
        text = exposed.document("")[0].decode()
        return {
            sample.labels["experiment"]
            for family in text_string_to_metric_families(text)
            if family.name == "abmonitor_watermark_timestamp_seconds"
            for sample in family.samples
            if sample.value == self.at / 1_000
        }


def test_of_a_small_fleet_all_numbers_are_new_at_every_scrape(view: View) -> None:
    watched = Watched(view, NAMES[:SMALL_FLEET])
    exposed = Exposition(lambda: watched.view, counting(9.0))
    for _ in range(3):
        watched.tick()
        assert watched.fresh(exposed) == set(NAMES[:SMALL_FLEET])


async def test_of_a_large_fleet_each_scrape_and_tick_writes_what_waited_longest(view: View) -> None:
    watched = Watched(view, NAMES)
    exposed = Exposition(lambda: watched.view, counting(0.02))  # three are written at a time
    watched.tick()
    assert watched.fresh(exposed) == set(NAMES)  # nothing was written before
    watched.tick()
    assert watched.fresh(exposed) == set(NAMES[:3])
    await exposed.follow(watched.view)
    assert watched.fresh(exposed) == set(NAMES[:9])
    for _ in range(len(NAMES) // 3):
        await exposed.follow(watched.view)
    assert watched.fresh(exposed) == set(NAMES)


async def test_ticks_write_nothing_where_scrapes_have_time_for_all(view: View) -> None:
    watched = Watched(view, NAMES[:SMALL_FLEET])
    exposed = Exposition(lambda: watched.view)
    watched.tick()
    exposed.document("")
    earlier = watched.view
    watched.tick()
    await exposed.follow(watched.view)
    assert all(exposed._pieces[name][0] is one for name, one in earlier.experiments.items())
