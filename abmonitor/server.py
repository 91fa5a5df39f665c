"""The monitor's HTTP server: metrics, health and the read-only API. This module does I/O (HTTP)."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from abmonitor.document import experiment
from abmonitor.http import Ready, as_json, base_application
from abmonitor.telemetry import registry
from abmonitor.view import View


@dataclass(frozen=True, slots=True)
class Served:
    """What the routes look at."""

    view: Callable[[], View]


SERVED = web.AppKey("served", Served)


def application(view: Callable[[], View], ready: Ready) -> web.Application:
    """The application; `ready` says why the monitor is not ready, None when it is."""
    app = base_application(registry(view), ready)
    app[SERVED] = Served(view)
    app.router.add_get("/api/v1/experiments", _experiments)
    app.router.add_get("/api/v1/experiments/{name}", _experiment)
    return app


async def _experiments(request: web.Request) -> web.Response:
    view = request.app[SERVED].view()
    return as_json(
        {"as_of": view.as_of, "experiments": [_short(view, n) for n in view.experiments]}
    )


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
        return as_json({"error": f"no experiment {name!r}; there are: {known}"}, 404)
    return as_json({"name": name, **experiment(found)})
