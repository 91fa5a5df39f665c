"""The page: it shows what the API says, takes nothing for markup, and needs no exception of the policy."""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from support.api import Shop, shop
from support.eventfiles import traffic
from support.pages import Seen
from support.views import view_of

from abmonitor.api import VERBS, Api
from abmonitor.server import application
from abmonitor.view import View
from abmonitor.web import words
from abmonitor.web.boards import Boards
from abmonitor.web.routes import ASSETS, KEPT, assets_version
from alerts.machine import Command
from alerts.standing import Pause, State
from metrics.experiment import MINUTE


Client = TestClient[Any, Any]
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as opened:
        opened.token("ann")
        opened.token("carl", "read", "offers")
        await opened.pass_time()
        yield opened


@pytest.fixture
async def client(made: Shop) -> AsyncIterator[Client]:
    async with TestClient(TestServer(made.application())) as opened:
        yield opened


@pytest.fixture(scope="module")
def counted() -> View:
    """Predictions with labels, all of them final."""
    return view_of(traffic(2_000), complete=True)


@pytest.fixture
async def counting(counted: View) -> AsyncIterator[Client]:
    """A server that shows them."""
    async with TestClient(TestServer(of_view(counted))) as opened:
        yield opened


async def page(client: Client, path: str, **headers: str) -> Seen:
    answer = await client.get(path, headers=headers)
    assert (answer.status, answer.content_type) == (200, "text/html")
    return Seen(await answer.text())


def of_view(view: View) -> Any:
    """A server that shows `view`."""
    return application(lambda: view, lambda: None, api=Api(clock=lambda: view.as_of or 0))


def renamed(view: View, name: str, treatment: str, **standing: Any) -> View:
    """The view with another name of the experiment and its treatment."""
    one = view.experiments["offers"]
    declared = msgspec.structs.replace(
        one.experiment, name=name, variants={"old": 0.5, treatment: 0.5}
    )
    found = msgspec.structs.replace(one.book.standings["new"], **standing)
    book = msgspec.structs.replace(
        one.book,
        standings={treatment: found},
        judgements={treatment: one.book.judgements.get("new", {})},
    )
    variants = {"old": one.snapshot.variants["old"], treatment: one.snapshot.variants["new"]}
    compared = {treatment: replace(one.comparisons["new"], treatment=treatment)}
    shown = replace(
        one,
        experiment=declared,
        book=book,
        snapshot=replace(one.snapshot, variants=variants),
        comparisons=compared,
    )
    return replace(view, experiments={name: shown}, leads=frozenset())


# --- what is shown --------------------------------------------------------------------------------


async def test_the_list_leads_to_every_experiment(client: Client) -> None:
    seen = await page(client, "/")
    links = [each["href"] for each in seen.having("href")]
    for name in ("offers", "prices"):
        assert f"experiments/{name}" in links
        assert (await client.get(f"/experiments/{name}")).status == 200
    assert "as of" in seen.words
    assert "All times are UTC" in seen.words


async def test_the_list_is_worst_first_and_then_what_loses_most(made: Shop) -> None:
    one = made.monitor.view.experiments["offers"]
    told = {"a": State.HEALTHY, "b": State.ROLLED_BACK, "c": State.HOLD, "d": State.ROLLBACK_FAILED}
    experiments = {}
    for name, state in told.items():
        standing = msgspec.structs.replace(one.book.standings["new"], state=state)
        declared = msgspec.structs.replace(one.experiment, name=name)
        book = msgspec.structs.replace(one.book, standings={"new": standing})
        experiments[name] = replace(one, experiment=declared, book=book)
    view = replace(made.monitor.view, experiments=experiments)
    async with TestClient(TestServer(of_view(view))) as client:
        seen = await page(client, "/")
    assert [each["data-state"] for each in seen.having("data-state")] == [
        "rollback_failed",
        "rolled_back",
        "hold",
        "healthy",
    ]
    assert "2 rolled back or about to be" in seen.words
    assert "1 held or suspect" in seen.words


async def test_the_numbers_are_those_of_the_api(counting: Client) -> None:
    found = await (await counting.get("/api/v1/experiments/offers")).json()
    series = await (await counting.get("/api/v1/experiments/offers/series")).json()
    (told,) = (await (await counting.get("/api/v1/status?experiment=offers")).json())["experiments"]
    seen = await page(counting, "/experiments/offers")
    value = found["comparisons"]["new"]["net_business_value"]
    for number in (
        words.points(value["estimate"]),
        words.points(value["parts"]["accuracy"]),
        words.amount(found["variants"]["new"]["predictions"]),
        words.percent(found["variants"]["old"]["metrics"]["precision"]),
        words.amount(told["treatments"][0]["at_risk"]["predictions_an_hour"]),
        words.moment(told["labels_final_to"]),
        words.percent(series["labelled"]["variants"]["new"]["value"][-1]),
        words.difference_of("rap", series["labelled"]["differences"]["new"]["estimate"][-1]),
    ):
        assert number != words.UNKNOWN
        assert number in seen.text, number
    assert {"name": "offers", **msgspec.json.decode(seen.scripts[-1])} == series


async def test_behind_every_chart_is_a_table_with_all_of_its_points(counting: Client) -> None:
    series = await (await counting.get("/api/v1/experiments/offers/series")).json()
    text = await (await counting.get("/experiments/offers")).text()
    seen = Seen(text)
    charts = {each["data-chart"] for each in seen.having("data-chart")}
    assert charts == {
        "labelled",
        "difference",
        "value",
        "latency",
        "distribution",
        "split",
        "errors",
    }
    assert charts <= set(
        re.findall(r"^    (\w+)\(series", (await asset(counting, "charts.js")), re.MULTILINE)
    )
    points = {
        "rows-labelled": len(series["labelled"]["at"]),
        "rows-difference": len(series["labelled"]["at"]),
        "rows-value0": len(series["labelled"]["at"]),
        "rows-latency": len(series["arrival"]["at"]),
        "rows-split": len(series["arrival"]["at"]),
        "rows-errors": len(series["arrival"]["at"]),
        "rows-distribution": len(series["latency"]["edges_ms"]) - 1,
    }
    for body, rows in points.items():
        table = text.split(f'<tbody id="{body}">')[1].split("</tbody>")[0]
        assert table.count("<tr") == rows > 0, body


async def asset(client: Client, name: str) -> str:
    return await (await client.get(f"/assets/{name}")).text()


async def test_the_three_questions_are_answered_before_all_else(client: Client) -> None:
    text = (await page(client, "/experiments/offers")).words
    places = [
        text.index(question)
        for question in ("Is it hurting us?", "How sure are we?", "Can I trust the data?", "RAP of")
    ]
    assert places == sorted(places)


async def test_only_what_changes_something_can_be_asked_for(client: Client, made: Shop) -> None:
    def verbs(seen: Seen) -> list[str | None]:
        return [each["data-verb"] for each in seen.having("data-verb")]

    (told,) = (await (await client.get("/api/v1/status?experiment=offers")).json())["experiments"]
    wanted = [command.split()[1] for command in told["treatments"][0]["commands"]]
    assert verbs(await page(client, "/experiments/offers")) == wanted
    await made.monitor.command("offers", None, Command(made.now, "pause", "ann", "holidays"))
    await made.pass_time(1)
    seen = await page(client, "/experiments/offers")
    assert "resume" in verbs(seen)
    assert set(verbs(seen)) <= VERBS.keys()
    assert "Paused by ann until resumed: holidays" in seen.words
    assert "paused by ann until resumed: holidays" in (await page(client, "/")).words


async def test_decisions_are_listed_newest_first(client: Client, made: Shop) -> None:
    assert "No decisions yet" in (await page(client, "/experiments/offers")).words
    for verb in ("pause", "resume"):
        made.now += MINUTE
        await made.monitor.command("offers", None, Command(made.now, verb, "ann", f"to {verb}"))
    await made.pass_time(1)
    seen = await page(client, "/experiments/offers")
    assert 0 < seen.text.index("to resume") < seen.text.index("to pause")
    assert "<" not in seen.text, "what is markup is not shown as text"


async def test_why_the_monitor_is_not_ready_is_shown_everywhere(client: Client, made: Shop) -> None:
    await page(client, "/")
    made.problems.append("<b>Redis</b> does not answer")
    for path in ("/", "/experiments/offers"):
        told = (await page(client, path)).words
        assert "The monitor is not ready: <b>Redis</b> does not answer" in told


async def test_an_unknown_experiment_is_answered_with_those_that_there_are(client: Client) -> None:
    answer = await client.get("/experiments/<b>")
    assert answer.status == 404
    seen = Seen(await answer.text())
    assert "There is no experiment “<b>” here" in seen.words
    assert "../experiments/prices" in [each["href"] for each in seen.having("href")]


async def test_before_the_first_look_the_page_says_so() -> None:
    async with TestClient(TestServer(of_view(View()))) as client:
        assert "Nothing was read yet" in (await page(client, "/")).words
        answer = await client.get("/experiments/offers")
        assert (answer.status, "Nothing was read yet" in await answer.text()) == (503, True)


async def test_what_has_no_predictions_and_no_labels_is_shown_as_unknown(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        opened.world.fine.clear()
        await opened.pass_time(1)
        async with TestClient(TestServer(of_view(opened.monitor.view))) as client:
            await page(client, "/")
            seen = await page(client, "/experiments/offers")
    assert words.UNKNOWN in seen.text
    assert "None" not in seen.text
    assert "nan" not in seen.text


# --- nothing from outside is markup ---------------------------------------------------------------


async def test_whatever_people_write_is_text(counted: View) -> None:
    pause = Pause(EVIL, EVIL, None)
    view = renamed(counted, EVIL, EVIL, causes=(EVIL,), latched=(EVIL,), paused=pause)
    async with TestClient(TestServer(of_view(view))) as client:
        listed = await page(client, "/")
        (link,) = [each["href"] for each in listed.having("href") if "%3C" in (each["href"] or "")]
        assert link is not None
        assert listed.text.count(EVIL) >= 4
        assert not any(listed.scripts)
        seen = await page(client, f"/{link}")
    assert seen.text.count(EVIL) > 10
    (series,) = [text for text in seen.scripts if text]
    assert "<" not in series
    assert EVIL in msgspec.json.decode(series)["labelled"]["variants"]
    button = seen.having("data-verb")[0]
    assert (button["data-experiment"], button["data-treatment"]) == (EVIL, EVIL)


@pytest.mark.parametrize("path", ["/", "/experiments/offers", "/experiments/nothing"])
async def test_nothing_in_the_page_needs_an_exception_of_the_policy(
    client: Client, path: str
) -> None:
    answer = await client.get(path)
    seen = Seen(await answer.text())
    for tag, attributes in zip(seen.tags, seen.attributes, strict=True):
        assert tag != "style"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        if tag == "script" and attributes.get("type") != "application/json":
            assert str(attributes["src"]).startswith(("assets/", "../assets/"))
        for name in ("src", "href"):
            assert not re.match(r"[a-z]+:|/", attributes.get(name) or ""), "it is relative"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_every_id_is_there_once(client: Client) -> None:
    for path in ("/", "/experiments/offers"):
        ids = [each["id"] for each in (await page(client, path)).having("id")]
        assert len(ids) == len(set(ids))


# --- what it is drawn with ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASSETS)
async def test_what_the_page_is_drawn_with_comes_from_the_monitor(
    client: Client, name: str
) -> None:
    answer = await client.get(f"/assets/{name}", params={"v": assets_version()})
    assert (answer.status, answer.content_type) == (200, ASSETS[name][1])
    assert answer.headers["Cache-Control"] == KEPT
    assert (await client.get(f"/assets/{name}")).headers["Cache-Control"] == "no-cache"
    text = await answer.text()
    if name != "uplot.js":
        assert not re.search(r"https?://(?!www\.w3\.org/)", text)
        assert not re.search(r"innerHTML|eval\(|document\.write|cookie|insertAdjacent", text)


async def test_the_script_finds_everything_that_it_looks_for(client: Client) -> None:
    scripts = [await asset(client, name) for name in ("page.js", "acting.js")]
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', "".join(scripts)))
    found = {
        each["id"]
        for path in ("/", "/experiments/offers")
        for each in (await page(client, path)).having("id")
    }
    assert len(wanted) > 10
    assert wanted <= found


def test_the_charting_library_is_the_one_that_was_published() -> None:
    folder = files("abmonitor.web").joinpath("assets/vendor/uplot")
    told = folder.joinpath("README.md").read_text("utf-8")
    table = dict(re.findall(r"\| `([\w.]+)` \| `([0-9a-f]{64})` \|", told))
    assert set(table) == {each.name for each in folder.iterdir()} - {"README.md"}
    for name, digest in table.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
    (version,) = re.findall(r"^# uPlot ([\d.]+)$", told, re.MULTILINE)
    assert f"v{version}" in folder.joinpath("uPlot.iife.min.js").read_text("utf-8")[:200]
    assert re.search(r"`sha512-[A-Za-z0-9+/]{86}==`", told)


# --- who may see what -----------------------------------------------------------------------------


async def test_where_reads_are_not_open_the_page_is_empty_without_a_token(made: Shop) -> None:
    async with TestClient(TestServer(made.application(open_reads=False))) as client:
        for path in ("/", "/experiments/offers", "/experiments/nothing"):
            seen = await page(client, path)
            assert "Reading needs a token" in seen.words
            assert "prices" not in seen.text
            assert seen.having("data-bare")
        assert "prices" in (await page(client, "/", **made.bearer("ann"))).text
        carls = await page(client, "/", **made.bearer("carl"))
        assert "offers" in carls.text
        assert "prices" not in carls.text
        refused = await client.get("/experiments/prices", headers=made.bearer("carl"))
        assert refused.status == 404
        assert "experiments/prices" not in await refused.text()
        wrong = await client.get("/", headers={"Authorization": "Bearer abm_wrong"})
        assert wrong.status == 401


# --- the work that it makes -----------------------------------------------------------------------


async def test_a_view_is_rendered_once_however_many_look(made: Shop) -> None:
    view = made.monitor.view
    boards = Boards(lambda: view, lambda: None, lambda: made.now)
    shown = boards.experiment("offers")
    assert boards.experiment("offers").picture is shown.picture
    assert boards.fleet(("offers",)).board is not boards.fleet(("offers", "prices")).board
