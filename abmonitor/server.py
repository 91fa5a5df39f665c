"""The monitor's HTTP server: metrics, health, the API and the page. This module does I/O (HTTP)."""

from collections.abc import Callable, Iterable

from aiohttp import web

from abmonitor.api import SERVED, Api, Served
from abmonitor.api_guard import install
from abmonitor.api_openapi import openapi
from abmonitor.api_routes import ROUTES
from abmonitor.exposition import Exposition
from abmonitor.http import Ready, as_json, base_application
from abmonitor.runbooks import runbook_routes
from abmonitor.view import View
from abmonitor.web.routes import install_pages


def application(
    view: Callable[[], View],
    ready: Ready,
    *,
    api: Api | None = None,
    more: Iterable[web.AbstractRouteDef] = (),
    exposition: Exposition | None = None,
) -> web.Application:
    """The application; `ready` says why the monitor is not ready, None when it is.

    `api`: what people may act on, and who; without it everybody may read, and nobody act. `more`:
    further routes, such as the gates of canary controllers; below `/gates/` and `/flags/` nobody needs a
    token. `exposition`: of `/metrics`, where somebody keeps it.
    """
    api = api or Api(
        clock=lambda: view().as_of or 0
    )  # where nobody acts, time may be the data's own
    exposed = exposition or Exposition(view)
    exposed.register(api.guard)
    app = base_application(exposed, ready)
    app[SERVED] = Served(view, ready, api)
    install(app, api.guard)
    described = openapi(ROUTES, open_reads=api.guard.open_reads)

    async def description(_: web.Request) -> web.Response:
        return as_json(described)

    app.router.add_get("/api/v1/openapi.json", description)
    for route in ROUTES:
        add = app.router.add_post if route.acts else app.router.add_get
        add(route.path, route.handler)
    install_pages(app)
    app.router.add_routes([*runbook_routes(), *more])
    return app
