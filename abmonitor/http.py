"""What every HTTP server of ours has: metrics, health, and errors as JSON. This module does I/O (HTTP)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


Ready = Callable[[], str | None]
"""Says why a process is not ready, None when it is."""


@dataclass(frozen=True, slots=True)
class _Health:
    ready: Ready


@runtime_checkable
class Exposed(Protocol):
    """Writes its own metrics document."""

    def document(self, accept: str) -> tuple[bytes, str]:
        """What a client with this `Accept` header gets, and its content type."""


HEALTH = web.AppKey("health", _Health)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def base_application(exposed: Collector | Exposed, ready: Ready) -> web.Application:
    """An application with `/metrics`, `/healthz` and `/readyz`."""
    document = exposed.document if isinstance(exposed, Exposed) else partial(_document, exposed)
    app = web.Application(middlewares=[_errors_as_json])
    app[HEALTH] = _Health(ready)

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = document(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    return app


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` while the context lasts; gives the port, which is a free one for 0.

    Raises OSError when the port is taken.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _document(exposed: Collector, accept: str) -> tuple[bytes, str]:
    encode, content_type = encoder(accept)
    return encode(exposed), content_type


def encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """How to write metrics for a client, and the content type of that."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        return choose_encoder("")


def as_json(document: object, status: int = 200) -> web.Response:
    """An answer that is one JSON document."""
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json"
    )


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is a JSON document that says what was expected."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        answer = as_json(
            {"error": f"{request.method} {request.path}: {error.reason}"}, error.status
        )
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


async def _healthz(_: web.Request) -> web.Response:
    """The event loop turns."""
    return as_json({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    """The work goes on."""
    problem = request.app[HEALTH].ready()
    if problem is None:
        return as_json({"status": "ready"})
    return as_json({"status": "not ready", "reason": problem}, 503)
