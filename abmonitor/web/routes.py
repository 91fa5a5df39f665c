"""The page's addresses: the list, each experiment, their streams, and what they are drawn with. This module does I/O (HTTP)."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web
from markupsafe import Markup
from msgspec import Struct

from abmonitor.api import SERVED, Served, query, unknown_experiment
from abmonitor.api_decisions import read_something, visible
from abmonitor.api_guard import RefusedError, caller_of
from abmonitor.api_types import NothingWanted
from abmonitor.series import headline
from abmonitor.web.boards import Boards, Shown
from abmonitor.web.experiment import worst_first
from abmonitor.web.live import Streams
from abmonitor.web.rendering import compile_all, rendered
from abmonitor.web.words import UNKNOWN, percent
from alerts.standing import SEVERITY


ASSETS = {
    "page.css": ("page.css", "text/css"),
    "charts.css": ("charts.css", "text/css"),
    "uplot.css": ("vendor/uplot/uPlot.min.css", "text/css"),
    "theme.js": ("theme.js", "text/javascript"),
    "changes.js": ("changes.js", "text/javascript"),
    "acting.js": ("acting.js", "text/javascript"),
    "page.js": ("page.js", "text/javascript"),
    "charts.js": ("charts.js", "text/javascript"),
    "uplot.js": ("vendor/uplot/uPlot.iife.min.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""By the name in the address: the file, and its type."""
KEPT = "private, max-age=31536000, immutable"
"""Of what is asked for by its version."""

MEANINGS = {
    "rap": "RAP: what share of the achievable profit is earned.",
    "profit_per_prediction": "Profit per prediction, in costs of one action.",
    "accuracy": "No profitability is declared, so this is the share of right decisions.",
    "precision": "Only labels of what was acted on are known, so this is the share of right actions.",
}


class StreamWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on a stream goes on."""

    since: str = ""


@dataclass(frozen=True, slots=True)
class _Pages:
    boards: Boards
    streams: Streams


PAGES = web.AppKey("pages", _Pages)


def install_pages(app: web.Application) -> None:
    """Add the page to an application that has `SERVED`."""
    served = app[SERVED]
    app[PAGES] = _Pages(Boards(served.view, served.problem, served.api.clock), Streams())
    app.on_startup.append(_prepare)
    app.on_shutdown.append(app[PAGES].streams.stop)
    app.router.add_get("/", _fleet)
    app.router.add_get("/experiments/{name}", _experiment)
    app.router.add_get("/events", _fleet_news, allow_head=False)
    app.router.add_get("/experiments/{name}/events", _news, allow_head=False)
    for name in ASSETS:
        app.router.add_get(f"/assets/{name}", _asset)


async def _prepare(_: web.Application) -> None:
    compile_all()
    assets_version()


async def _fleet(request: web.Request) -> web.Response:
    query(request, NothingWanted)
    if _is_bare(request):
        return _html("fleet.html", _around(None, root="", bare=True))
    shown = request.app[PAGES].boards.fleet(visible(request))
    return _html("fleet.html", _around(shown, root=""), states=[each.value for each in SEVERITY])


async def _experiment(request: web.Request) -> web.Response:
    query(request, NothingWanted)
    name = request.match_info["name"]
    if _is_bare(request):
        return _html("experiment.html", _around(None, root="../", bare=True), name=name)
    names = visible(request)
    served = request.app[SERVED]
    if name not in names:
        unread = served.view().as_of is None
        given = _around(None, root="../")
        status = 503 if unread else 404
        return _html("unknown.html", given, status=status, name=name, names=names, unread=unread)
    return _html("experiment.html", _told_of(request, served, name))


def _told_of(request: web.Request, served: Served, name: str) -> dict[str, Any]:
    """What the page of an experiment is made of."""
    shown = request.app[PAGES].boards.experiment(name)
    one = served.view().experiments[name]
    declared, metric = one.experiment, headline(one.experiment)
    drawn = shown.picture.series or b"null"
    found = msgspec.json.decode(drawn)
    columns = list(found["arrival"]["variants"])
    return {
        **_around(shown, root="../", events=f"{quote(name, safe='')}/events"),
        "name": name,
        "order": worst_first(one),
        "metric": metric,
        "meaning": MEANINGS[metric],
        "margin": any(
            one["margin"] is not None for one in found["labelled"]["differences"].values()
        ),
        "level": percent(found["interval"]["level"]).replace(".0", ""),
        "variants": list(found["labelled"]["variants"]),
        "columns": columns,
        "bins": list(found["latency"]["variants"]),
        "differences": [
            head for each in declared.treatments for head in (each, f"{each}: tolerated")
        ],
        "percentiles": [f"{each} {kind}" for each in columns for kind in ("p50", "p95", "p99")],
        "shares": [f"{each}{kind}" for each in columns for kind in ("", " intended")],
        "series": _in_script(drawn),
    }


async def _fleet_news(request: web.Request) -> web.StreamResponse:
    wanted, pages = query(request, StreamWanted), request.app[PAGES]
    return await pages.streams.send(
        request, lambda: pages.boards.fleet(visible(request)).board, wanted.since
    )


async def _news(request: web.Request) -> web.StreamResponse:
    wanted, pages = query(request, StreamWanted), request.app[PAGES]
    name, names = request.match_info["name"], visible(request)
    if name not in names:
        read_something(request)
        raise RefusedError(404, unknown_experiment(names, name))
    return await pages.streams.send(
        request, lambda: pages.boards.experiment(name).board, wanted.since
    )


async def _asset(request: web.Request) -> web.Response:
    name = request.path.rpartition("/")[2]
    kept = {"Cache-Control": KEPT if request.query.get("v") == assets_version() else "no-cache"}
    return web.Response(
        body=asset(name), content_type=ASSETS[name][1], charset="utf-8", headers=kept
    )


@cache
def asset(name: str) -> bytes:
    """What the page is drawn with, by its name in the address."""
    return files("abmonitor.web").joinpath("assets", ASSETS[name][0]).read_bytes()


@cache
def assets_version() -> str:
    """Another one whenever any of the assets is: browsers may keep them for good."""
    whole = sha256()
    for name in ASSETS:
        whole.update(asset(name))
    return whole.hexdigest()[:12]


def _is_bare(request: web.Request) -> bool:
    """Whether the page is to be shown without anything that has to be protected."""
    return not request.app[SERVED].api.guard.open_reads and caller_of() is None


def _around(
    shown: Shown | None, *, root: str, events: str = "events", bare: bool = False
) -> dict[str, Any]:
    """What every page is given."""
    return {
        "root": root,
        "events": "" if shown is None else events,
        "version": assets_version(),
        "bare": bare,
        "mark": shown.board.mark if shown else "",
        "parts": shown.picture.parts
        if shown
        else {"as-of-day": "", "as-of": UNKNOWN, "problem": ""},
        "lists": shown.picture.lists if shown else {},
    }


def _html(template: str, given: dict[str, Any], status: int = 200, **more: Any) -> web.Response:
    text = rendered(template, **given, **more)
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _in_script(document: bytes) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    return Markup(document.decode().replace("<", "\\u003c"))  # noqa: S704  # nothing of markup is left
