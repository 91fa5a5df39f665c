import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from support.eventfiles import traffic
from support.views import view_of

from abmonitor.document import experiment
from abmonitor.http import serving
from abmonitor.server import application
from abmonitor.view import View


Client = TestClient[Any, Any]
OPENMETRICS = "application/openmetrics-text"


@pytest.fixture(scope="module")
def view() -> View:
    return view_of(traffic(600))


@pytest.fixture
def problems() -> list[str]:
    """Why the monitor is not ready: the last one."""
    return []


@pytest.fixture
async def client(view: View, problems: list[str]) -> AsyncIterator[Client]:
    app = application(lambda: view, lambda: problems[-1] if problems else None)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_healthz_answers_as_long_as_the_loop_turns(
    client: Client, problems: list[str]
) -> None:
    problems.append("the store does not answer")
    answer = await client.get("/healthz")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_readyz_says_why_the_monitor_is_not_ready(
    client: Client, problems: list[str]
) -> None:
    answer = await client.get("/readyz")
    assert (answer.status, await answer.json()) == (200, {"status": "ready"})
    problems.append("the store does not answer")
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert await answer.json() == {"status": "not ready", "reason": "the store does not answer"}


async def test_the_list_of_experiments_leads_to_each_of_them(client: Client, view: View) -> None:
    listed = await (await client.get("/api/v1/experiments")).json()
    (short,) = listed["experiments"]
    assert short["name"] == "offers"
    assert short["state"] == "collecting"
    assert short["predictions"] == 600
    answer = await client.get(short["url"])
    assert answer.content_type == "application/json"
    assert await answer.json() == {"name": "offers"} | experiment(view.experiments["offers"])


async def test_an_unknown_experiment_is_answered_with_those_that_there_are(client: Client) -> None:
    answer = await client.get("/api/v1/experiments/offer")
    assert answer.status == 404
    assert await answer.json() == {"error": "no experiment 'offer'; there are: offers"}


@pytest.mark.parametrize(
    "path",
    ["/page", "/metric", "/metrics/", "/api", "/api/v1/experiments/a/b", "/%2e%2e/etc/passwd"],
)
async def test_an_unknown_path_is_not_found_in_json(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (404, "application/json")
    assert (await answer.json())["error"].endswith("Not Found")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/api/v1/experiments"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(client: Client, path: str, method: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status, answer.content_type) == (405, "application/json")
    assert answer.headers["Allow"] == "GET,HEAD"
    assert (await answer.json())["error"] == f"{method} {path}: Method Not Allowed"


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/api/v1/experiments/offers"])
async def test_head_answers_as_get_without_a_body(client: Client, path: str) -> None:
    full, head = await client.get(path), await client.head(path)
    assert (head.status, head.content_type) == (full.status, full.content_type)
    assert head.headers["Content-Length"] == str(len(await full.read()))
    assert await head.read() == b""


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/plain;version=0.0.4;q=0.5,*/*"])
async def test_metrics_are_plain_text_unless_asked_otherwise(client: Client, accept: str) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.content_type == "text/plain"
    assert "version=0.0.4" in answer.headers["Content-Type"]
    families = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert "abmonitor_predictions" in families


@pytest.mark.parametrize(
    "accept",
    [
        OPENMETRICS,
        f"{OPENMETRICS}; version=1.0.0; charset=utf-8",
        f"{OPENMETRICS};version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ],
)
async def test_metrics_are_openmetrics_when_asked_for(client: Client, accept: str) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.content_type == OPENMETRICS
    text = await answer.text()
    assert text.endswith("# EOF\n")
    assert "abmonitor_predictions" in {family.name for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("accept", [f"{OPENMETRICS};version=new", "text/plain;version=1.x", ";,;="])
async def test_no_wish_makes_a_scrape_fail(client: Client, accept: str) -> None:
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert b"abmonitor_predictions" in await answer.read()


async def test_the_latest_view_is_shown(view: View) -> None:
    shown = [View()]
    app = application(lambda: shown[0], lambda: None)
    async with TestClient(TestServer(app)) as client:
        assert (await (await client.get("/api/v1/experiments")).json())["experiments"] == []
        shown[0] = view
        assert (await client.get("/api/v1/experiments/offers")).status == 200


async def test_a_server_ends_with_its_context_and_a_taken_port_is_an_error(view: View) -> None:
    app = application(lambda: view, lambda: None)
    async with aiohttp.ClientSession() as session:
        async with serving(app, "127.0.0.1", 0) as port:
            async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                assert json.loads(await answer.read()) == {"status": "ok"}
            other = application(lambda: view, lambda: None)
            with pytest.raises(OSError, match="in use"):
                await serving(other, "127.0.0.1", port).__aenter__()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{port}/healthz")
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))
