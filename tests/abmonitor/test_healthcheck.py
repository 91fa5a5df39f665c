"""The health check of containers, against a real server."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from abmonitor.http import base_application, serving


NOWHERE = "http://127.0.0.1:1/healthz"


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """The address of one that is alive and not ready."""
    app = base_application(CollectorRegistry(), lambda: "Redis does not answer")
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def checked(*urls: str) -> tuple[int | None, str]:
    """The exit status of the command, and what it says."""
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "abmonitor.healthcheck", *urls, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asked.communicate()
    return asked.returncode, said.decode()


async def test_whoever_answers_200_is_well(server: str) -> None:
    assert await checked(f"{server}/healthz") == (0, "")


async def test_one_of_several_addresses_is_enough(server: str) -> None:
    assert await checked(NOWHERE, f"{server}/healthz") == (0, "")


async def test_another_answer_is_told_with_its_reason(server: str) -> None:
    status, said = await checked(f"{server}/readyz")
    assert status == 1
    assert "answered 503" in said
    assert "Redis does not answer" in said


async def test_nobody_there_is_told(server: str) -> None:
    status, said = await checked(NOWHERE, f"{server}/nothing")
    assert status == 1
    assert NOWHERE in said
    assert "answered 404" in said


async def test_no_address_is_told() -> None:
    status, said = await checked()
    assert status == 1
    assert "expected an address to ask" in said


async def test_what_is_no_address_is_told() -> None:
    status, said = await checked("127.0.0.1:8000")
    assert status == 1
    assert "127.0.0.1:8000" in said


async def test_no_proxy_is_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert await checked(f"{server}/healthz") == (0, "")


async def test_who_does_not_speak_http_is_told_and_the_next_one_is_asked(server: str) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    stranger = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with stranger:
        address = f"http://127.0.0.1:{stranger.sockets[0].getsockname()[1]}/"
        status, said = await checked(address)
        assert status == 1
        assert said.startswith(f"{address}: hello")
        assert await checked(address, f"{server}/healthz") == (0, "")
