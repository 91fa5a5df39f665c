"""Server-sent events: what changed on a board, to everybody who looks at it. This module does I/O (HTTP, clock)."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from abmonitor.api_guard import RefusedError, caller_of
from abmonitor.api_limits import network
from abmonitor.web.board import Board


logger = logging.getLogger(__name__)

EVERY_S = 0.5
"""Between two looks at a board: as often as the monitor looks."""
EACH_S = 0.03
"""As long as this for everybody who looks: many of them never keep the monitor from its work."""
BEAT_S = 5.0
"""Without news for so long, one is sent all the same: the page takes longer silence for an outage."""
LIFE_S = 900.0
"""Then the page asks again, and its token is looked at again."""
STUCK_S = 20.0
"""Who does not take a message for so long is gone."""
MOST = 100
"""Streams at the same time; each costs about as much memory as one message."""
MOST_EACH = 20
"""Of one token, or of one address where there is none; a proxy is one address for many people."""
RETRY_S = 15

_BEAT = b"event: beat\ndata: {}\n\n"
_BYE = b"event: bye\ndata: {}\n\n"


def _is_gone(request: web.Request) -> bool:
    """Whether nobody listens any more; told at once, so that who comes again finds a place."""
    return request.transport is None or request.transport.is_closing()


def _cut(request: web.Request) -> None:
    """The browser sees that it ended, and asks again."""
    if request.transport is not None:
        request.transport.abort()


@dataclass(slots=True)
class Streams:
    """Who looks now; bounded, and over when the server stops."""

    most: int = MOST
    most_each: int = MOST_EACH
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    open: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def place(self, request: web.Request) -> Iterator[None]:
        """One of the places. Raises RefusedError where none is left."""
        caller = caller_of()
        who = f"token {caller.name}" if caller else f"address {network(request.remote)}"
        again = {"Retry-After": str(RETRY_S)}
        if self.closing.is_set():
            raise RefusedError(503, "the monitor is being stopped", again)
        if self.open.total() >= self.most:
            told = f"{self.most} pages are open already, which is the most: close one"
            raise RefusedError(503, told, again)
        if self.open[who] >= self.most_each:
            told = f"{self.most_each} pages of this {who.partition(' ')[0]} are open already: close one"
            raise RefusedError(429, told, again)
        self.open[who] += 1
        try:
            yield
        finally:
            self.open[who] -= 1
            if not self.open[who]:
                del self.open[who]

    async def stop(self, _: web.Application) -> None:
        """End all streams; the server waits for them."""
        self.closing.set()

    async def send(
        self, request: web.Request, board: Callable[[], Board], mark: str
    ) -> web.StreamResponse:
        """Send what is newer than `mark` until either side goes."""
        with self.place(request):
            answer = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream; charset=utf-8",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",  # nginx would keep messages until they are many
                }
            )
            await answer.prepare(request)
            try:
                async for message in self._news(board, mark, lambda: _is_gone(request)):
                    async with asyncio.timeout(STUCK_S):
                        await answer.write(message)
            except (TimeoutError, ConnectionError):
                _cut(request)
            except Exception:  # its head is sent: no other answer can be given any more
                logger.exception("%s ended", request.path)
                _cut(request)
            return answer

    async def _news(
        self, board: Callable[[], Board], mark: str, gone: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Messages, each made when the one before was taken: nothing queues for a slow reader."""
        now = asyncio.get_running_loop().time
        ends, beat = now() + LIFE_S, now()
        while not (self.closing.is_set() or gone()) and now() < ends:
            shown = board()
            news = shown.since(mark)
            if news is not None:
                mark = shown.mark
                yield b"event: news\ndata: " + news + b"\n\n"
            elif now() >= beat:
                yield _BEAT
            else:
                await self._pause()
                continue
            beat = now() + BEAT_S
            await self._pause()
        yield _BYE

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(max(EVERY_S, EACH_S * self.open.total())):
                await self.closing.wait()
        except TimeoutError:
            pass
