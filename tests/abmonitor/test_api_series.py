"""What is drawn over time, over a real server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from support.api import Shop, shop

from abmonitor.declared import declared
from abmonitor.series import series


Client = TestClient[Any, Any]
URL = "/api/v1/experiments/offers"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as opened:
        await opened.pass_time(90)
        yield opened


@pytest.fixture
async def client(made: Shop) -> AsyncIterator[Client]:
    async with TestClient(TestServer(made.application())) as opened:
        yield opened


async def test_the_lines_of_an_experiment_are_served(client: Client, made: Shop) -> None:
    answer = await client.get(f"{URL}/series")
    assert answer.status == 200
    found = await answer.json()
    assert found.pop("name") == "offers"
    assert found == series(made.monitor.view.experiments["offers"])
    assert len(found["labelled"]["at"]) > 5
    assert len(found["arrival"]["at"]) > 60


async def test_what_was_declared_is_served_with_the_experiment(client: Client, made: Shop) -> None:
    found = await (await client.get(URL)).json()
    assert found["declared"] == declared(made.monitor.view.experiments["offers"].experiment)
    assert "series" not in found  # it is asked for by itself


async def test_lines_of_an_unknown_experiment_are_refused(client: Client) -> None:
    answer = await client.get("/api/v1/experiments/offer/series")
    assert answer.status == 404
    assert (await answer.json())["error"] == "no experiment 'offer'; there are: offers, prices"


async def test_lines_take_no_parameters(client: Client) -> None:
    answer = await client.get(f"{URL}/series", params={"points": "9"})
    assert answer.status == 400
