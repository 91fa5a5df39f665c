"""The HTTP server: metrics, health and the read-only API. This module does I/O (HTTP)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from abmonitor.document import experiment
from abmonitor.monitor import View
from abmonitor.telemetry import registry


@dataclass(frozen=True, slots=True)
class Served:
    """What the routes look at."""

    view: Callable[[], View]
    ready: Callable[[], str | None]


SERVED = web.AppKey("served", Served)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(view: Callable[[], View], ready: Callable[[], str | None]) -> web.Application:
    """The application; `ready` says why the monitor is not ready, None when it is."""
    app = web.Application(middlewares=[_errors_as_json])
    app[SERVED] = Served(view, ready)
    exposed = registry(view)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = _encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(exposed), headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/api/v1/experiments", _experiments)
    app.router.add_get("/api/v1/experiments/{name}", _experiment)
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


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """How to write metrics for a client, and the content type of that."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        return choose_encoder("")


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json"
    )


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is a JSON document that says what was expected."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        answer = _json({"error": f"{request.method} {request.path}: {error.reason}"}, error.status)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


async def _healthz(_: web.Request) -> web.Response:
    """The event loop turns."""
    return _json({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    """The store is read and judged."""
    problem = request.app[SERVED].ready()
    if problem is None:
        return _json({"status": "ready"})
    return _json({"status": "not ready", "reason": problem}, 503)


async def _experiments(request: web.Request) -> web.Response:
    view = request.app[SERVED].view()
    return _json({"as_of": view.as_of, "experiments": [_short(view, n) for n in view.experiments]})


def _short(view: View, name: str) -> dict[str, object]:
    found = view.experiments[name]
    return {
        "name": name,
        "state": found.book.worst(found.experiment.treatments).value,
        "control": found.experiment.control,
        "treatments": {
            treatment: standing.state.value for treatment, standing in found.book.standings.items()
        },
        "predictions": sum(f.total.predictions for f in found.snapshot.variants.values()),
        "as_of": found.snapshot.watermark,
        "url": f"/api/v1/experiments/{name}",
    }


async def _experiment(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    view = request.app[SERVED].view()
    found = view.experiments.get(name)
    if found is None:
        known = ", ".join(view.experiments)
        return _json({"error": f"no experiment {name!r}; there are: {known}"}, 404)
    return _json({"name": name, **experiment(found)})
