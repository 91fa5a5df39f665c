"""Decisions, situations and receivers for the tests of notifications. This module does I/O (HTTP)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from alerts.book import Decision
from alerts.notifiers.news import News, Situation
from alerts.order import Receipt
from alerts.standing import Standing, State


NOW = 1_772_366_400_000
"""2026-03-01T12:00:00Z"""


def decision(number: int = 1, action: str = "rollback", **changes: Any) -> Decision:
    """The decision with this number of the experiment `offers`, made shortly before NOW."""
    fields: dict[str, Any] = {
        "action": action,
        "experiment": "offers",
        "treatment": "ranker-v2",
        "at": NOW - 750,
        "reasons": ("rap:sequential fails",),
        "state": State.ROLLING_BACK,
        "before": State.HEALTHY,
        "epoch": 1,
        "actor": "abmonitor",
        "settings": "0123456789abcdef",
        "dry_run": False,
        "watermark": NOW - 2000,
        "judgements": {},
        "counts": {},
    } | changes
    name = f"{fields['experiment']}:{fields['treatment']}:{fields['at']}:{number}"
    return Decision(**{"id": name} | fields)


def situation(
    state: State = State.ROLLING_BACK,
    *,
    experiment: str = "offers",
    treatment: str = "ranker-v2",
    noticed: int = NOW,
    decisions: tuple[Decision, ...] = (),
    **standing: Any,
) -> Situation:
    """How a treatment stands, since a minute before NOW."""
    fields: dict[str, Any] = {"state": state, "since": NOW - 60_000} | standing
    return Situation(experiment, treatment, Standing(**fields), noticed, decisions)


@dataclass
class Notified:
    """A notifier that keeps what it is told, and answers as it is told to."""

    every_s: float | None = None
    answer: Callable[[News], Awaitable[Receipt | None]] | None = None
    news: list[News] = field(default_factory=list)
    closed: bool = False

    async def notify(self, news: News) -> Receipt | None:
        self.news.append(news)
        if self.answer is not None:
            return await self.answer(news)
        return Receipt(accepted=True, detail="told")

    async def close(self) -> None:
        self.closed = True

    @property
    def told(self) -> list[str]:
        """The ids of the decisions that it was told of."""
        return [news.decision.id for news in self.news if news.decision is not None]


@dataclass
class Receiver:
    """A server that answers as told and remembers what it was sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def served(receiver: Receiver) -> AsyncIterator[str]:
    """The address that `receiver` answers at, without a path."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wired(answer: Wire) -> AsyncIterator[str]:
    """A server without manners: `answer` has the socket after the request."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
