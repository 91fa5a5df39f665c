"""The page: it shows what there is, takes nothing for markup, and its script needs no exception of the policy."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from support.api import Shop, shop

from abmonitor.api import VERBS
from abmonitor.api_types import PauseShown, Status
from abmonitor.page import table
from abmonitor.status import status
from alerts.machine import Command
from metrics.experiment import MINUTE


Client = TestClient[Any, Any]
EVIL = "<script>alert(1)</script>\"'&"


class Seen(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = list[str]()
        self.attributes = list[dict[str, str | None]]()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as opened:
        opened.token("ann")
        await opened.pass_time()
        yield opened


@pytest.fixture
async def client(made: Shop) -> AsyncIterator[Client]:
    async with TestClient(TestServer(made.application())) as opened:
        yield opened


def shown(made: Shop) -> Status:
    names = tuple(made.monitor.view.experiments)
    return status(made.monitor.view, None, made.now + 7_300, names)


async def test_the_page_shows_every_treatment_with_its_buttons(client: Client, made: Shop) -> None:
    said = Command(made.now, "pause", "ann", "holidays", made.now + 90 * MINUTE)
    await made.monitor.command("offers", None, said)
    await made.pass_time(1)
    answer = await client.get("/")
    assert (answer.status, answer.content_type) == (200, "text/html")
    page = Seen(await answer.text())
    buttons = [each for each in page.attributes if "data-verb" in each]
    assert {(b["data-experiment"], b["data-treatment"], b["data-verb"]) for b in buttons} == {
        (name, "new", verb)
        for name in ("offers", "prices")
        for verb in ("pause", "resume", "rollback", "rearm")
    }
    assert {button["data-verb"] for button in buttons} <= VERBS.keys()
    assert "paused by ann until 2023-11-15 00:35:00: holidays" in page.text
    assert "50.0% (50.0%)" in page.text


async def test_the_table_alone_is_what_the_page_holds(client: Client) -> None:
    text = await (await client.get("/table")).text()
    assert text.startswith("<table>")
    assert text in await (await client.get("/")).text()


async def test_why_the_monitor_is_not_ready_is_shown(client: Client, made: Shop) -> None:
    made.problems.append("<b>Redis</b> does not answer")
    assert "<b>Redis</b> does not answer" in Seen(await (await client.get("/")).text()).text


async def test_nothing_in_the_page_needs_an_exception_of_the_policy(client: Client) -> None:
    answer = await client.get("/")
    page = Seen(await answer.text())
    for tag, attributes in zip(page.tags, page.attributes, strict=True):
        assert tag != "style"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        if tag == "script":
            assert attributes["src"] == "page.js"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy


@pytest.mark.parametrize(
    ("path", "kind"), [("/page.js", "text/javascript"), ("/page.css", "text/css")]
)
async def test_what_the_page_is_drawn_with_comes_from_the_monitor(
    client: Client, path: str, kind: str
) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (200, kind)
    text = await answer.text()
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"innerHTML|eval\(|document\.write|localStorage|cookie", text)


async def test_the_script_finds_everything_that_it_looks_for(client: Client) -> None:
    script = await (await client.get("/page.js")).text()
    page = Seen(await (await client.get("/")).text())
    ids = {each.get("id") for each in page.attributes}
    wanted = set(re.findall(r'byId\("(\w+)"\)', script)) | {"reason", "until"}
    assert wanted
    assert wanted <= ids


async def test_whatever_people_write_is_text(made: Shop) -> None:
    found = shown(made)
    experiment = found.experiments[0]
    treatment = msgspec.structs.replace(
        experiment.treatments[0],
        causes=(EVIL,),
        latched=(EVIL,),
        paused=PauseShown(actor=EVIL, reason=EVIL, until=None),
        treatment=EVIL,
        state=EVIL,
    )
    experiment = msgspec.structs.replace(experiment, name=EVIL, treatments=(treatment,))
    page = Seen(table(msgspec.structs.replace(found, problem=EVIL, experiments=(experiment,))))
    assert "script" not in page.tags
    assert page.text.count(EVIL) == 7
    (pause, *_) = [each for each in page.attributes if "data-verb" in each]
    assert (pause["data-experiment"], pause["data-treatment"]) == (EVIL, EVIL)


async def test_ages_are_in_whole_seconds_and_nothing_is_shown_as_nothing(made: Shop) -> None:
    assert "<td>7s</td>" in table(shown(made))
    assert "Nothing was read yet" in table(status(made.monitor.view, None, 0, ()))
