"""Server-sent events: news within two seconds, bounded, over when the server stops, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from support.api import Shop, shop
from support.pages import Seen, messages

from abmonitor.web import live
from abmonitor.web.board import Board, Picture
from abmonitor.web.live import Streams
from abmonitor.web.routes import PAGES
from alerts.machine import Command


Client = TestClient[Any, Any]


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


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.02)


async def first(answer: ClientResponse, kind: str = "news") -> dict[str, Any]:
    async with asyncio.timeout(10):
        async for found, data in messages(answer):
            if found == kind:
                told: dict[str, Any] = data
                return told
    raise AssertionError(f"the stream ended without {kind}")


async def mark_of(client: Client, path: str) -> str:
    (body,) = Seen(await (await client.get(path)).text()).having("data-mark")
    return str(body["data-mark"])


def streams(client: Client) -> Streams:
    found: Streams = client.app[PAGES].streams
    return found


async def test_a_stream_goes_on_where_the_page_was_rendered(client: Client, made: Shop) -> None:
    for page, events in (("/", "/events"), ("/experiments/offers", "/experiments/offers/events")):
        async with client.get(events, params={"since": await mark_of(client, page)}) as answer:
            assert answer.content_type == "text/event-stream"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Accel-Buffering"] == "no"
            assert await first(answer, "beat") == {}
            said = Command(made.now, "pause", "ann", f"seen on {page}")
            await made.monitor.command("offers", None, said)
            await made.pass_time(1)
            news = await first(answer)
            assert f"seen on {page}" in str(news)
            assert (
                news["parts"]["as-of"]
                == Seen(await (await client.get(page)).text())
                .words.split(" UTC")[0]
                .rpartition(" ")[2]
            )
            await made.monitor.command("offers", None, Command(made.now, "resume", "ann", "on"))
            await made.pass_time(1)


async def test_who_comes_without_a_mark_gets_everything(client: Client) -> None:
    async with client.get("/events") as answer:
        news = await first(answer)
    assert len(news["lists"]["rows"]["new"]) == 2
    async with client.get("/experiments/offers/events") as answer:
        news = await first(answer)
    assert {"as-of", "problem", "facts", "t0", "counts"} <= news["parts"].keys()
    assert news["series"]["labelled"]["metric"] == "rap"


async def test_a_problem_is_news_though_nothing_else_is(client: Client, made: Shop) -> None:
    async with client.get("/events", params={"since": await mark_of(client, "/")}) as answer:
        await first(answer, "beat")
        made.problems.append("the store does not answer")
        news = await first(answer)
    assert "the store does not answer" in news["parts"]["problem"]


async def test_streams_end_when_the_server_stops(made: Shop) -> None:
    client = TestClient[Any, Any](TestServer(made.application()))
    await client.start_server()
    answer = await client.get("/events")
    await first(answer)
    stopping = asyncio.create_task(client.server.close())
    async with asyncio.timeout(10):
        kinds = [kind async for kind, _ in messages(answer)]
        await stopping
    assert kinds[-1] == "bye"
    await client.close()


async def test_a_stream_ends_after_a_while_so_that_its_token_is_looked_at_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LIFE_S", 0.2)
    async with asyncio.timeout(10), client.get("/events") as answer:
        kinds = [kind async for kind, _ in messages(answer)]
    assert (kinds[0], kinds[-1]) == ("news", "bye")


async def test_the_number_of_streams_is_bounded(client: Client, made: Shop) -> None:
    found = streams(client)
    found.most_each, found.most = 2, 3
    opened = [await client.get("/events") for _ in range(2)]
    refused = await client.get("/events")
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "2 pages of this address are open already" in (await refused.json())["error"]
    opened.append(await client.get("/events", headers=made.bearer("ann")))
    refused = await client.get("/events", headers=made.bearer("carl"))
    assert (refused.status, "3 pages" in (await refused.json())["error"]) == (503, True)
    for answer in opened:
        answer.close()
    async with asyncio.timeout(10):
        while found.open:  # noqa: ASYNC110 # the server notices by itself
            await asyncio.sleep(0.02)
    async with client.get("/events") as answer:
        assert answer.status == 200


async def test_where_reads_need_a_token_so_do_streams(made: Shop) -> None:
    async with TestClient(TestServer(made.application(open_reads=False))) as client:
        for path in ("/events", "/experiments/offers/events"):
            assert (await client.get(path)).status == 401
        async with client.get("/events", headers=made.bearer("carl")) as answer:
            told = str(await first(answer))
        assert "offers" in told
        assert "prices" not in told
        refused = await client.get("/experiments/prices/events", headers=made.bearer("carl"))
        assert refused.status == 404


async def test_streams_take_no_other_parameters_and_no_other_methods(client: Client) -> None:
    assert (await client.get("/events", params={"from": "1"})).status == 400
    assert (await client.post("/events")).status == 405
    assert (await client.head("/events")).status == 405


async def test_nothing_queues_for_a_reader_that_is_slow() -> None:
    board, found = Board(), Streams()
    news = found._news(lambda: board, "", lambda: False)
    board.show(Picture({"a": "1"}))
    assert b'"a":"1"' in await anext(news)
    for text in ("2", "3", "4"):
        board.show(Picture({"a": text}))
    told = await anext(news)
    assert b'"a":"4"' in told
    found.closing.set()
    assert await anext(news) == live._BYE


async def test_a_page_that_cannot_be_rendered_ends_its_stream(
    client: Client, made: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.get("/experiments/offers/events") as answer:
        await first(answer)
        made.monitor.view = made.monitor.view.__class__(as_of=made.now)
        async with asyncio.timeout(10):
            with pytest.raises(ClientError):
                await answer.read()
    assert "ended" in caplog.text
