"""Runbooks: what to do about each alert, served where the alerts link to. This module does I/O (HTTP, its own files)."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from aiohttp import web


PAGES = "abmonitor.runbook_pages"
"""The package that `deploy/runbooks` is installed as."""
INDEX = "README"
_SUFFIX = ".md"


def runbook_routes() -> list[web.AbstractRouteDef]:
    """The list of all pages, and each page by the name of its alert."""
    return [web.get("/runbooks/", _index), web.get("/runbooks/{name}", _page)]


@cache
def pages() -> Mapping[str, str]:
    """All pages (Markdown) by their names; read once, so that what is asked for never becomes a path."""
    found = {
        each.name.removesuffix(_SUFFIX): each.read_text("utf-8")
        for each in _folder().iterdir()
        if each.name.endswith(_SUFFIX)
    }
    return MappingProxyType(found)


def _folder() -> Traversable:
    try:
        return files(PAGES)
    except ModuleNotFoundError:  # run from a checkout that was not installed
        return Path(__file__).parents[1] / "deploy" / "runbooks"


async def _index(_: web.Request) -> web.Response:
    return _text(pages()[INDEX])


async def _page(request: web.Request) -> web.Response:
    page = pages().get(request.match_info["name"])
    if page is None:
        return _text("There is no such page: /runbooks/ lists all that there are.\n", 404)
    return _text(page)


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/plain", charset="utf-8")
