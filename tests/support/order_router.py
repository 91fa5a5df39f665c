"""A router that takes orders by HTTP, or misbehaves, and counts what they do. This module does I/O."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from aiohttp import web


class Router:
    """Takes orders by HTTP, and counts what they do: one whose id it knows does nothing more."""

    def __init__(self) -> None:
        self.attempts: defaultdict[str, list[str]] = defaultdict(list)
        """By experiment, the ids of all that came."""
        self.effects: defaultdict[str, list[str]] = defaultdict(list)
        """By experiment, the ids of orders that moved the traffic."""
        self.manner: defaultdict[str, str] = defaultdict(lambda: "takes")
        """By experiment what it does with an order: takes it; ignores it (202, and nothing happens);
        fails (500); hangs until `release`, and takes it then; drops the connection once it has it."""
        self.on_order: Callable[[], None] = lambda: None
        """Called when an order was read, before anything is answered."""
        self.url = ""
        self._released = asyncio.Event()

    def application(self) -> web.Application:
        """What serves it."""
        app = web.Application()
        app.router.add_post("/", self._order)
        return app

    def release(self) -> None:
        """Let go of what hangs."""
        self._released.set()

    async def _order(self, request: web.Request) -> web.Response:
        event = await request.json()
        order, told = event["data"], request.headers["webhook-id"]
        name = order["experiment"]
        assert request.headers["idempotency-key"] == told
        self.attempts[name].append(order["id"])
        self.on_order()
        manner = self.manner[name]
        if manner == "hangs":
            await self._released.wait()
        if manner == "fails":
            return web.Response(status=500)
        if manner != "ignores" and order["id"] not in self.effects[name]:
            self.effects[name].append(order["id"])
        if manner == "drops" and request.transport is not None:
            request.transport.close()
        return web.Response(status=202)
