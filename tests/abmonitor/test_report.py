"""The report as people get it: what it says of replays, in HTML and in Markdown, and what it refuses."""

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.eventfiles import SETTINGS, Event, outcome, prediction, traffic
from support.running import Running
from support.views import settings_of, view_of
from typer.testing import CliRunner, Result

from abmonitor import __version__
from abmonitor.cli.main import app
from abmonitor.document import document
from abmonitor.report.build import as_document, build
from abmonitor.report.content import Chart, Report, Table
from abmonitor.report.gather import Gathered, GatherError, from_file
from abmonitor.report.write import escaped, html, markdown, script_json
from metrics.experiment import HOUR


SEQUENTIAL = (
    SETTINGS.split("    guardrails:", maxsplit=1)[0]
    + """\
    testing: {min_duration: 5m, max_duration: 2d}
    guardrails:
      - {metric: rap, test: sequential, margin: 0.05, detect: 0.3, weight: 4}
      - {metric: error_rate, test: sequential, relative_margin: 0.5}
      - {metric: latency_p99_ms, window: 5m, max: 400, min_count: 20}
"""
)
UNPRICED = SEQUENTIAL.replace("    profitability: {unit_revenue: 60, unit_cost: 20}\n", "").replace(
    "metric: rap", "metric: accuracy"
)
ACTED = SEQUENTIAL.replace("observed: all", "observed: acted").replace(
    "metric: rap", "metric: profit_per_prediction"
)
THREE = SEQUENTIAL.replace("old: 0.5, new: 0.5", "old: 0.4, new: 0.3, newer: 0.3")

Run = Callable[..., Result]


def harmful(count: int = 3_000) -> list[Event]:
    """Traffic in which what the treatment acts on is wrong, and what it leaves alone is right."""
    events = traffic(count)
    made = {each["prediction_id"]: each for each in events if each["type"] == "prediction"}
    for event in events:
        mine = made[event["prediction_id"]]
        if event["type"] == "outcome" and mine["variant"] == "new":
            event["actual"] = not mine["predicted"]
    return events


@cache
def replay(text: str = SEQUENTIAL, *, harm: bool = True, count: int = 3_000) -> bytes:
    """What a replay prints."""
    events = harmful(count) if harm else traffic(count)
    if text is THREE:
        for number, event in enumerate(events):
            if event.get("variant") == "new" and number % 2:
                event["variant"] = "newer"
    return msgspec.json.encode(document(view_of(events, settings_of(text))))


@pytest.fixture
def gathered(tmp_path: Path) -> Callable[..., Gathered]:
    def made(*arguments: Any, **options: Any) -> Gathered:
        path = tmp_path / "replay.json"
        path.write_bytes(replay(*arguments, **options))
        return from_file(path, "offers")

    return made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("ABMONITOR_URL", "ABMONITOR_TOKEN", "ABMONITOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def given(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return given


def tables(report: Report) -> Iterator[Table]:
    for section in report.summary + report.appendix:
        for block in section.blocks:
            if isinstance(block, Table):
                yield block
            elif isinstance(block, Chart):
                yield block.table


def cell(report: Report, caption: str, row: str, column: int = 1) -> str:
    """A cell of the table whose caption begins so."""
    table = next(each for each in tables(report) if each.caption.startswith(caption))
    return next(each for each in table.rows if each[0] == row)[column]


# --- what it says ---------------------------------------------------------------------------------


def test_the_first_page_says_what_to_do_and_what_it_rests_on(
    gathered: Callable[..., Gathered],
) -> None:
    given = gathered()
    text = markdown(build(given))
    assert text.index("## Recommendation") < text.index("## What it is worth")
    assert text.index("## How it went") < text.index("## What the rollback saved")
    assert "**Keep old. new was rolled back on 2024-01-01 " in text
    mature = given.found["variants"]["new"]["mature_predictions"]
    assert f"Predictions: {mature:,} of new" in text
    assert "What the rollback saved, an estimate" in text


def test_the_sections_come_in_the_order_in_which_people_read_them(
    gathered: Callable[..., Gathered],
) -> None:
    found = build(gathered())
    assert [each.title for each in found.summary + found.appendix] == [
        "Recommendation",
        "What it is worth",
        "How it went",
        "What the rollback saved",
        "What alone would flip the verdict",
        "For which assumptions it holds",
        "The statistics in plain words",
        "The health of the data",
        "Over time",
        "Variants",
        "Decisions",
        "Settings",
        "Software",
    ]


def test_numbers_are_those_of_the_document(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    report = build(given)
    found = given.found["comparisons"]["new"]
    value = found["net_business_value"]
    told = cell(report, "Net business value", "net business value: the sum", 2)
    numbers = [
        float(each) for each in re.findall(r"[-+]?\d+\.?\d*", told.replace("\N{MINUS SIGN}", "-"))
    ]
    expected = [value["estimate"], value["lower"], value["upper"]]
    assert numbers == pytest.approx(expected, abs=0.06 * (value["upper"] - value["lower"]))
    last = next(
        each for each in tables(report) if each.caption.startswith("new minus control")
    ).rows[-1]
    rap = found["rap_difference"]
    assert last[1].startswith(f"\N{MINUS SIGN}{abs(100 * rap['estimate']):.0f} points")
    assert (
        cell(report, "Counts", "predictions", 2)
        == f"{given.found['variants']['new']['predictions']:,}"
    )


def test_what_a_report_computes_is_one_document(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    found = as_document(given)["treatments"]["new"]
    saved, difference = found["saved"], given.found["comparisons"]["new"]["differences"]
    loss = -difference["profit_per_prediction"]["estimate"] * 20
    assert saved["rate"]["estimate"] == pytest.approx(loss)
    assert saved["saved"]["estimate"] == pytest.approx(loss * saved["exposure"]["predictions"])
    assert [each["part"] for each in found["flip"]] == ["accuracy", "latency", "errors"]
    assert found["answers"]["verdict"]["level"] == "bad"


def test_what_cannot_be_known_is_a_dash_and_never_nothing(
    gathered: Callable[..., Gathered],
) -> None:
    report = build(gathered(UNPRICED))
    text = markdown(report)
    assert cell(report, "What it earns", "RAP: share of the achievable profit", 3) == "\N{EN DASH}"
    assert "in money n/a: no profitability is declared" in text
    assert "What the rollback saved: n/a, what a prediction earns is not known" in text
    assert "points less accurate than the control" in text


def test_where_only_acted_predictions_have_labels_the_value_is_not_known(
    gathered: Callable[..., Gathered],
) -> None:
    report = build(gathered(ACTED))
    assert cell(report, "Net business value", "accuracy") == "\N{EN DASH}"
    assert cell(report, "Net business value", "net business value: the sum", 2) == "\N{EN DASH}"
    text = markdown(report)
    assert "n/a: net business value is not known" in text
    assert "costs of an action a prediction less than the control" in text
    assert "only predictions that were acted on get one" in text


def test_each_of_several_treatments_has_its_own_pages(gathered: Callable[..., Gathered]) -> None:
    report = build(gathered(THREE))
    titles = [each.title for each in report.summary]
    assert titles[0] == "All treatments"
    assert titles[1:] == [
        f"{title}: {name}"
        for name in ("new", "newer")
        for title in ("Recommendation", "What it is worth", "How it went")
    ]


def test_of_what_is_undecided_nothing_is_recommended_and_nothing_saved(
    gathered: Callable[..., Gathered],
) -> None:
    text = markdown(build(gathered(harm=False, count=1_500)))
    assert "**Go on testing. Too early to tell about new: it earns" in text
    assert "new was never rolled back." in text
    assert "n/a: it was not rolled back in its present life" in text


def test_an_experiment_of_which_nothing_has_come_has_a_report(tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    path.write_bytes(msgspec.json.encode(document(view_of([], settings_of(SEQUENTIAL)))))
    given = from_file(path, "offers")
    assert "no data has arrived yet" in markdown(build(given))
    assert "nothing is known yet" in html(build(given), given.series)


def test_a_report_of_a_monitor_that_is_not_ready_recommends_nothing(
    gathered: Callable[..., Gathered],
) -> None:
    given = msgspec.structs.replace(gathered(), problem="Redis is away")
    text = markdown(build(given))
    assert "**Decide nothing now. Not known now. The monitor is not ready: Redis is away." in text


def test_data_that_cannot_be_trusted_decide_nothing(gathered: Callable[..., Gathered]) -> None:
    given = gathered(harm=False, count=1_500)
    ratio = given.found["comparisons"]["new"]["sample_ratio"]
    ratio |= {"mismatched": True, "p_value": 1e-12}
    text = markdown(build(given))
    assert "**Decide nothing on these data." in text
    assert "NOT as intended (sample ratio mismatch)" in text


PROMOTIONS = [
    (
        "passed",
        "strongly recommend",
        2.5,
        "Strongly recommended: switch to new (net business value of at",
    ),
    ("passed", "recommend", 0.9, "Recommended: switch to new"),
    ("passed", "continue testing", -0.2, "Whether to switch to new is your choice"),
    (
        "healthy",
        "recommend",
        0.9,
        "Go on testing: new has a net business value of at least +0.9 %, but has",
    ),
    ("healthy", "continue testing", -0.2, "Go on testing."),
    ("hold", "recommend", 0.9, "Decide nothing until the hold is over."),
    ("suspect", "reject", 0.9, "Take new back and keep old."),
    ("ended", "recommend", 0.9, "Nothing is to be decided here any more."),
    ("ended", "reject", -0.2, "Nothing is to be decided here any more."),
]


@pytest.mark.parametrize(("state", "word", "lower", "words"), PROMOTIONS)
def test_what_is_recommended_follows_from_the_state_and_the_lower_bound(
    state: str, word: str, lower: float, words: str, gathered: Callable[..., Gathered]
) -> None:
    given = gathered(harm=False, count=1_500)
    facts = given.found["comparisons"]["new"]
    facts |= {"state": state, "recommendation": word}
    facts["net_business_value"]["lower"] = lower
    assert as_document(given)["treatments"]["new"]["recommendation"].startswith(words)


def test_what_is_behind_is_not_recommended_though_its_net_business_value_is_above_0(
    gathered: Callable[..., Gathered],
) -> None:
    given = gathered(harm=False, count=1_500)
    facts = given.found["comparisons"]["new"]
    facts |= {"state": "passed", "recommendation": "strongly recommend"}
    facts["net_business_value"]["lower"] = 2.5
    facts["differences"]["rap"] = {"estimate": -0.02, "lower": -0.03, "upper": -0.01}
    text = as_document(given)["treatments"]["new"]["recommendation"]
    assert text.startswith(
        "Whether to switch to new is your choice: it has a net business value of"
    )
    assert "but is behind" in text


def test_a_rollback_that_moved_no_traffic_asks_for_that(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    at = next(each["at"] for each in given.found["decisions"] if each["action"] == "rollback")
    given.found["as_of"] = at + 3 * HOUR
    for facts in given.found["variants"].values():
        facts["windows"] = {"1h": {"predictions": 700}}
    found = as_document(given)["treatments"]["new"]
    assert found["recommendation"].startswith("Keep old and take the traffic of new away. new was")
    assert "did not take its traffic away" in found["saved"]["why_not"]


def test_without_a_rollback_nothing_is_told_of_how_a_saving_is_estimated(
    gathered: Callable[..., Gathered],
) -> None:
    text = markdown(build(gathered(harm=False)))
    assert "n/a: it was not rolled back" in text
    assert "An estimate, not a measurement" not in text
    assert "An estimate, not a measurement" in markdown(build(gathered()))


def test_a_sum_of_which_one_part_has_no_bounds_is_told_to_be_too_sure(
    gathered: Callable[..., Gathered],
) -> None:
    given = gathered()
    differences = given.found["comparisons"]["new"]["differences"]
    differences["error_rate"] = {"estimate": 0.0, "lower": None, "upper": None}
    assert "how far off its error rate may be is not known" in markdown(build(given))
    differences["error_rate"] = {"estimate": 0.0, "lower": -0.01, "upper": 0.01}
    assert "Mind the sum" not in markdown(build(given))


def test_a_value_whose_sign_is_not_known_is_told_so(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    value = given.found["comparisons"]["new"]["net_business_value"]
    value |= {"estimate": -0.7, "lower": -5.1, "upper": 3.7}
    assert "on which side of 0 it lies is not decided" in markdown(build(given))
    value |= {"upper": -0.1}
    assert "on which side of 0" not in markdown(build(given))


def test_a_hundred_looks_alarm_falsely_as_often_as_the_report_says(
    gathered: Callable[..., Gathered],
) -> None:
    looks, normal = 100, np.random.default_rng(7).standard_normal((4_000, 100))
    scores = np.cumsum(normal, axis=1) / np.sqrt(np.arange(1, looks + 1))
    assert (np.abs(scores) > 1.96).any(axis=1).mean() > 1 / 3
    text = markdown(build(gathered()))
    assert "hundred times as data come in it alarms falsely more than one time in three" in text


def test_without_profitability_nothing_is_said_of_the_declared_one(
    gathered: Callable[..., Gathered],
) -> None:
    report = build(gathered(UNPRICED))
    where = "The range in which the treatment is ahead"
    assert cell(report, where, "unit profitability q", 4) == "\N{EN DASH}"


def test_missing_late_and_rejected_events_are_told(tmp_path: Path) -> None:
    events = [*traffic(400), {"type": "prediction", "experiment": "offers"}]
    events += [prediction(f"silent-{n}", events[-2]["time"], "new") for n in range(3)]
    events.append(outcome("nobody", events[0]["time"] + 1))
    path = tmp_path / "replay.json"
    path.write_bytes(msgspec.json.encode(document(view_of(events, settings_of(SEQUENTIAL)))))
    report = build(from_file(path, "offers"))
    found = json.loads(path.read_bytes())
    assert found["events"]["rejected"] >= 1
    assert cell(report, "What was looked at", "rejected events").startswith(
        f"{found['events']['rejected']:,} beside"
    )
    assert cell(report, "What was looked at", "unmatched events").startswith("1 beside")
    came = found["experiments"]["offers"]["variants"]["new"]
    known = came["predictions"] - came["unlabelled"]
    told = cell(report, "What was looked at", "labels of new")
    assert told.startswith(f"{known:,} of {came['predictions']:,} predictions have an outcome")


def test_an_incomplete_state_and_drift_are_told(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    given.found["complete_since"] = given.found["as_of"]
    given.found["hints"] = [{"sentence": "scores of new moved."}]
    text = markdown(build(given))
    assert "was no longer in the log" in text
    assert "scores of new moved." in text


# --- how it is written ----------------------------------------------------------------------------

MARKUP = '<script>alert("x")</script> | *b* _i_ [l](javascript:1) & \u2028 </style>'


class Read(HTMLParser):
    """What an HTML file consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data


def test_the_html_asks_the_network_for_nothing_and_runs_only_what_its_policy_names(
    gathered: Callable[..., Gathered],
) -> None:
    given = gathered()
    text = html(build(given), given.series)
    found = Read(text)
    policy = next(
        attributes["content"]
        for tag, attributes in found.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    data, script = found.inside["script"]
    for each in (script, *found.inside["style"]):
        digest = base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert json.loads(data) == given.series
    for tag, attributes in found.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "style", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in text
    assert "url(" not in found.inside["style"][0]


def test_every_chart_has_its_table_and_can_be_drawn(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    found = Read(html(build(given), given.series))
    charts = {attributes.get("data-chart") for _, attributes in found.tags} - {None}
    assert charts == {
        "difference",
        "labelled",
        "value",
        "split",
        "errors",
        "latency",
        "distribution",
    }
    assert all(re.search(rf"\b{name}\(series", found.inside["script"][1]) for name in charts)
    figures = [
        block
        for section in (*build(given).summary, *build(given).appendix)
        for block in section.blocks
        if isinstance(block, Chart)
    ]
    assert all(figure.table.rows for figure in figures)


def test_markup_in_what_people_wrote_is_shown_and_not_run(
    gathered: Callable[..., Gathered],
) -> None:
    given = gathered()
    series = given.series
    assert series is not None
    given.found["decisions"][0]["reasons"] = [MARKUP]
    given.found["decisions"][0]["actor"] = MARKUP
    series["decisions"][0]["reasons"] = [MARKUP]
    text = html(build(given), series)
    found = Read(text)
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert len(found.inside["style"]) == 1
    assert json.loads(found.inside["script"][0])["decisions"][0]["reasons"] == [MARKUP]
    assert "<script>alert" not in text
    told = markdown(build(given))
    assert "<script>" not in told
    rows = [line for line in told.splitlines() if "alert" in line and line.startswith("| 20")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in rows)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a | b", r"a \| b"),
        ("profit_per_prediction", "profit_per_prediction"),
        ("_so_ *so* `so` ~so~", r"\_so\_ \*so\* \`so\` \~so\~"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("[a](b) [c]: d [8, 53]", r"[a\](b) [c\]: d [8, 53]"),
        ("# head", r"\# head"),
        ("1. one", r"1\. one"),
        ("- one\n- two", r"\- one - two"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_markdown_shows_what_stands_there(text: str, told: str) -> None:
    assert escaped(text) == told


def test_json_in_html_cannot_end_its_element() -> None:
    found = {"x": "</script><!-- \u2028 &"}
    told = script_json(found)
    assert not set("<>&\u2028") & set(told)
    assert json.loads(told) == found


def test_html_and_markdown_say_the_same_words(gathered: Callable[..., Gathered]) -> None:
    given = gathered()
    report = build(given)
    page, text = html(report, given.series), markdown(report)
    for section in report.summary + report.appendix:
        assert f"## {section.title}" in text
        assert f"<h2>{section.title}</h2>" in page
    for table in tables(report):
        assert f"**{escaped(table.caption)}**" in text


def test_templates_are_packaged() -> None:
    root = Path(__file__).parents[2]
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "abmonitor.report" in tool["packages"]
    assert tool["package-data"]["abmonitor.report"] == ["templates/*"]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def replayed(tmp_path: Path) -> Path:
    path = tmp_path / "replay.json"
    path.write_bytes(replay())
    return path


def test_a_report_is_one_file(run: Run, replayed: Path, tmp_path: Path) -> None:
    for name in ("report.html", "report.md"):
        result = run("offers", "--from", replayed, "-o", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "report.md").read_text() == run("offers", "--from", replayed).stdout


def test_a_file_that_is_there_is_overwritten_only_by_force(
    run: Run, replayed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    result = run("offers", "--from", replayed, "-o", path)
    assert result.exit_code == 2
    assert "--force overwrites it" in result.stderr
    assert path.read_text() == "mine"
    assert run("offers", "--from", replayed, "-o", path, "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_json_is_one_document_and_nothing_else(run: Run, replayed: Path, tmp_path: Path) -> None:
    result = run("offers", "--from", replayed, "--json", "-o", tmp_path / "report.md")
    found = json.loads(result.stdout)
    assert (found["experiment"], found["version"]) == ("offers", __version__)
    assert (tmp_path / "report.md").exists()


def test_an_older_replay_has_a_report_without_lines_over_time(
    run: Run, replayed: Path, tmp_path: Path
) -> None:
    found = json.loads(replayed.read_bytes())
    for name in ("series", "declared"):
        del found["experiments"]["offers"][name]
    replayed.write_text(json.dumps(found))
    path = tmp_path / "report.html"
    result = run("offers", "--from", replayed, "-o", path)
    assert result.exit_code == 0, result.stderr
    assert "no lines over time" in result.stderr
    text = path.read_text()
    assert "no lines over time: it was written by an older version" in text
    assert "does not hold the settings" in text
    assert "<script" not in text


WRONG = {
    "another experiment": (
        '{"experiments": {"a": {}, "b": {}}}',
        "no experiment 'offers'; it has a, b",
    ),
    "no replay": ('{"deployment": "x"}', "it has no `experiments`"),
    "a list": ("[]", "it has no `experiments`"),
    "no JSON": ("offers", "not JSON"),
    "another comparison": ("", "has no since, epoch,"),
    "another document": (
        '{"experiments": {"offers": {"state": "x"}}}',
        "has no control, as_of,",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_replay_is_refused(wrong: str, run: Run, tmp_path: Path) -> None:
    content, words = WRONG[wrong]
    if not content:
        found = json.loads(replay())
        found["experiments"]["offers"]["comparisons"]["new"] = {"state": "x"}
        content = json.dumps(found)
    path = tmp_path / "replay.json"
    path.write_text(content)
    result = run("offers", "--from", path, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"experiments": {"\xff": 1}}'])
def test_what_cannot_be_read_as_json_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    path.write_bytes(content)
    with pytest.raises(GatherError, match="not JSON"):
        from_file(path, "offers")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("comparisons", "new", "state"), "exploded"),
        (("comparisons", "new", "differences", "rap", "upper"), "much"),
        (("comparisons", "new", "sample_ratio", "limit"), None),
        (("variants", "new", "mature_counts"), {}),
        (("variants", "old", "errors"), []),
        (("series", "labelled"), None),
        (("comparisons",), None),
        (("decisions", 0, "actor"), 5),
    ],
)
def test_a_document_that_was_edited_is_refused_and_nothing_is_written(
    place: tuple[str | int, ...], value: Any, run: Run, tmp_path: Path
) -> None:
    document_ = json.loads(replay())
    found = document_["experiments"]["offers"]
    for name in place[:-1]:
        found = found[name]
    found[place[-1]] = value
    path = tmp_path / "replay.json"
    path.write_text(json.dumps(document_))
    result = run("offers", "--from", path, "-o", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "is not as this version of abmonitor writes it" in result.stderr
    assert "replay the events again" in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(GatherError, match=r"nothing\.json: No such file"):
        from_file(tmp_path / "nothing.json", "offers")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "report.pdf"], "expected a name that ends in .html or .md, got report.pdf"),
        (["-o", "{folder}.md"], "is a folder"),
        (["--url", "http://127.0.0.1:1"], "expected either --from or --url, got both"),
    ],
)
def test_wrong_usage_is_told(
    options: list[str], words: str, run: Run, replayed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.with_suffix(".md").mkdir()
    given = [each.format(folder=folder) for each in options]
    result = run("offers", "--from", replayed, *given)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_folder_that_is_not_there_fails(run: Run, replayed: Path, tmp_path: Path) -> None:
    result = run("offers", "--from", replayed, "-o", tmp_path / "no" / "report.md")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_a_monitor_that_does_not_answer_is_told(run: Run) -> None:
    result = run("offers", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "nothing listens at http://127.0.0.1:1" in result.stderr


def test_a_running_monitor_is_asked(run: Run, tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        path = tmp_path / "report.html"
        result = run("offers", "--url", running.url, "-o", path, "--json")
        unknown = run("nobody", "--url", running.url)
    finally:
        running.end()
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["source"] == f"the monitor at {running.url}"
    text = path.read_text()
    assert 'data-chart="labelled"' in text
    assert "/metrics (abmonitor_events_total)" in text
    assert unknown.exit_code == 2
    assert "offers" in unknown.stderr
