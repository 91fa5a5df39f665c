import io
import re
from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console, RenderableType
from support.eventfiles import MINUTE, SETTINGS, START, Event, traffic
from support.views import settings_of, view_of

from abmonitor.checks import check
from abmonitor.hinting import Hinted
from abmonitor.summary import MOST_HINTS, UNKNOWN, check_table, moment, number, render
from abmonitor.view import View
from metrics.drift import Drift
from metrics.hints import Hint


LONG = "a-recommender-that-has-a-very-long-name-and-a-version-2024.01.02"


def text_of(shown: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(shown)
    return console.export_text()


@cache
def several(count: int) -> View:
    """A view with `count` variants, one of which has a long name."""
    names = [LONG, *(f"ranker-v{number}" for number in range(2, count + 1))]
    shares = ", ".join(f"{name}: {1 / count}" for name in names)
    text = SETTINGS.replace("control: old", f"control: {LONG}")
    text = text.replace("old: 0.5, new: 0.5", shares)
    events: list[Event] = traffic(1_500)
    for number_, event in enumerate(events):
        if "variant" in event:
            event["variant"] = names[number_ % count]
    return view_of(events, settings_of(text))


@pytest.fixture(scope="module")
def rolled_back() -> View:
    events = traffic(1_500)
    for event in events:
        if event.get("variant") == "new" and event["time"] > START + 15 * MINUTE:
            event["error"] = True
    return view_of(events)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("variants", [2, 3, 4, 7])
def test_a_summary_fits_its_terminal_and_cuts_nothing_off(width: int, variants: int) -> None:
    view = several(variants)
    text = text_of(render(view), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    folded = re.sub(r"\s", "", text)
    for name, facts in view.experiments["offers"].snapshot.variants.items():
        assert name in folded or name == LONG
        assert f" {facts.total.predictions:,}" in text


def test_a_summary_says_what_was_found(rolled_back: View) -> None:
    text = text_of(render(rolled_back))
    assert text.startswith("offers: rolled back\n")
    assert re.search(r"^state +control +rolled back", text, re.MULTILINE)
    assert re.search(r"^RAP +[-0-9.]+ +[-0-9.]+", text, re.MULTILINE)
    assert "new against old (in brackets 95% confidence sequences)" in text
    assert re.search(
        r"^split of the traffic +as intended \(7\d\d : 7\d\d predictions, p = ", text, re.MULTILINE
    )
    assert "because: error_rate" in text
    assert re.search(r"2024-01-01 00:1\d:00  rollback  new: error_rate", text)
    assert "events: 3,000 accepted, 0 duplicate, 0 late, 0 rejected" in text


def test_a_split_that_is_not_the_intended_one_is_told() -> None:
    events = traffic(1_500)
    for number_, event in enumerate(events):
        if "variant" in event:
            event["variant"] = "new" if number_ % 3 else "old"
    text = text_of(render(view_of(events)))
    split = r"NOT as intended \((\d+) : (\d+) predictions, p = \S+, limit\s+0.0005\)"
    told = re.search(split, text)
    assert told
    assert int(told[1]) > 1.5 * int(told[2])


def test_where_units_are_randomised_the_split_is_that_of_units() -> None:
    text = SETTINGS.replace("    labels:", "    randomised_by: unit\n    labels:")
    events = [dict(event) for event in traffic(1_500)]
    assert "(1,500 predictions came without unit_id)" in shown_of(events, text)
    for number_, event in enumerate(each for each in events if "variant" in each):
        event["unit_id"] = f"{event['variant']}{number_ % 400}"
    found = re.search(r"as intended \((\d+) : (\d+) units, p = ", shown_of(events, text))
    assert found
    assert all(300 < int(count) <= 400 for count in found.groups())
    for number_, event in enumerate(each for each in events if "variant" in each):
        event["unit_id"] = f"{number_ % 400}"
    assert re.search(r"traffic +\d+ units were seen in two variants", shown_of(events, text))


def shown_of(events: list[Event], settings: str) -> str:
    return text_of(render(view_of(events, settings_of(settings))))


def test_sequential_guardrails_tell_how_far_they_are() -> None:
    text = SETTINGS.split("    guardrails:")[0] + (
        "    guardrails:\n"
        "      - {metric: rap, test: sequential, margin: 0.5}\n"
        "      - {metric: error_rate, test: sequential, relative_margin: 0.2}\n"
    )
    shown = shown_of(traffic(3_000), text)
    rap = r"^rap +(pass|inconclusive) +[▮▯]{5} pass >?\d+ % +[+-]0\.\d+ \[[+-]0\.\d+, [+-]0\.\d+\]"
    assert re.search(rap, shown, re.MULTILINE)
    assert re.search(
        r"^error_rate +inconclusive +▯▯▯▯▯ rollback 0 % +0 against 0 *$", shown, re.MULTILINE
    )
    nothing = shown_of([], text)
    assert re.search(r"^rap +inconclusive +not looked at yet *$", nothing, re.MULTILINE)


def test_what_is_unknown_is_a_dash() -> None:
    text = text_of(render(view_of([])))
    for row in ("RAP", "ROI", "accuracy", "latency p50, ms", "profit per prediction"):
        assert re.search(rf"^{row} +{UNKNOWN} +{UNKNOWN}$", text, re.MULTILINE)
    assert f"net business value    {UNKNOWN}: continue testing" in text
    assert f"difference of RAP     {UNKNOWN}\n" in re.sub(" +\n", "\n", text)
    assert number(None) == moment(None) == UNKNOWN
    assert (number(0), number(1234.5, ",.0f")) == ("0.000", "1,234")
    assert moment(START) == "2024-01-01 00:00:00"


def hinted(view: View, count: int) -> View:
    """The view with so many hints, each longer than a line."""
    hints = [
        Hint("label_rate", "new", 0.1, 0.02, f"hint: labels {n} {'came late ' * 9}")
        for n in range(count)
    ]
    drift = Drift({}, {}, {}, frozenset(), {}, {})
    one = replace(view.experiments["offers"], hinted=Hinted(drift, tuple(hints)))
    return replace(view, experiments={"offers": one})


@pytest.mark.parametrize("count", [0, 1, MOST_HINTS, MOST_HINTS + 2])
def test_hints_stand_under_their_experiment_dimmed_and_not_too_many(
    rolled_back: View, count: int
) -> None:
    text = text_of(render(hinted(rolled_back, count)))
    told = re.findall(r"^hint: labels (\d)", text, re.MULTILINE)
    assert told == [str(n) for n in range(min(count, MOST_HINTS))]
    assert ("and 2 more hints" in text) == (count > MOST_HINTS)
    assert len(re.findall(r"came\s+late", text)) == 9 * len(told), "none is cut off"
    if count:
        assert text.index("decisions") < text.index("hint:") < text.index("events:")
    coloured = Console(width=80, file=io.StringIO(), force_terminal=True, record=True)
    coloured.print(render(hinted(rolled_back, count)))
    assert coloured.export_text(styles=True).count("\x1b[2mhint: labels") == len(told)


@pytest.mark.parametrize("width", [80, 120])
def test_what_settings_need_fits_a_terminal(width: int) -> None:
    guardrails = "".join(
        f"      - {{metric: {name}, window: 5m, max: 9, consecutive: 2}}\n"
        for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "latency_mean_ms")
    )
    text = text_of(check_table(check(settings_of(SETTINGS + guardrails))), width)
    assert "offers: settings are good" in text
    assert "latency_mean_ms:threshold:5m" in text
    assert "! no predictions_per_second" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
