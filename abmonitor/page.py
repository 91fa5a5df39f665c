"""The page: a table of treatments, and buttons to act on them. This module does I/O (HTTP, its own files)."""

from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files

from aiohttp import web

from abmonitor.api import SERVED, query
from abmonitor.api_decisions import visible
from abmonitor.api_types import ExperimentStatus, NothingWanted, Status, TreatmentStatus
from abmonitor.status import status
from metrics.duration import Duration


_UNKNOWN = "–"  # noqa: RUF001  # a dash, as in all tables
_BUTTONS = ("pause", "resume", "rollback", "rearm")
_HEADS = (
    "experiment",
    "treatment",
    "state",
    "since (UTC)",
    "share (intended)",
    "why",
    "data age",
    "",
)

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>abmonitor</title>
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
</head>
<body>
<header>
<h1>abmonitor</h1>
<label>token <input id="token" type="password" autocomplete="off" spellcheck="false"></label>
<button id="keep" type="button">use</button>
<button id="forget" type="button">forget</button>
</header>
<p id="told" role="status"></p>
<main id="table">{table}</main>
<dialog id="ask">
<h2 id="what"></h2>
<p id="meaning"></p>
<p><label>reason <input id="reason" type="text" maxlength="500" size="50"></label></p>
<p id="lasting"><label>until <input id="until" type="text" maxlength="64" placeholder="2h; empty: until resumed"></label></p>
<p id="forcing"><label><input id="force" type="checkbox"> although it is too soon, or its version was rolled back</label></p>
<p id="wrong" role="alert"></p>
<button id="do" type="button"></button>
<button id="cancel" type="button">cancel</button>
</dialog>
<noscript><p>Acting needs JavaScript here; <code>abmonitor status</code> and its commands do not.</p></noscript>
</body>
</html>
"""


def page_routes() -> list[web.AbstractRouteDef]:
    """The page, what it is drawn with, and its table."""
    return [
        web.get("/", _page),
        web.get("/table", _table),
        web.get("/page.js", _script),
        web.get("/page.css", _style),
    ]


async def _page(request: web.Request) -> web.Response:
    opened = request.app[SERVED].api.guard.open_reads
    table = _rendered(request) if opened else "<p>Reading needs a token.</p>"
    return _html(_SHELL.replace("{table}", table))


async def _table(request: web.Request) -> web.Response:
    query(request, NothingWanted)
    return _html(_rendered(request))


async def _script(_: web.Request) -> web.Response:
    return web.Response(text=_file("page.js"), content_type="text/javascript", charset="utf-8")


async def _style(_: web.Request) -> web.Response:
    return web.Response(text=_file("page.css"), content_type="text/css", charset="utf-8")


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", charset="utf-8")


@cache
def _file(name: str) -> str:
    return files("abmonitor").joinpath(name).read_text("utf-8")


def _rendered(request: web.Request) -> str:
    served = request.app[SERVED]
    now = served.api.clock()
    return table(status(served.view(), served.problem(), now, visible(request)))


def table(found: Status) -> str:
    """The table as HTML; everything that comes from outside is escaped."""
    problem = f'<p class="problem">{escape(found.problem)}</p>' if found.problem else ""
    if not found.experiments:
        return f"{problem}<p>Nothing was read yet.</p>"
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    rows = "".join(
        _row(one, treatment) for one in found.experiments for treatment in one.treatments
    )
    return f"{problem}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _row(experiment: ExperimentStatus, found: TreatmentStatus) -> str:
    name = escape(experiment.name)
    state = escape(found.state)
    dry = " (dry run)" if experiment.dry_run else ""
    cells = (
        f'<a href="api/v1/experiments/{name}">{name}</a>{dry}',
        escape(found.treatment),
        f'<span class="state {state}">{state.replace("_", " ")}</span>{_paused(found)}',
        _time(found.since),
        f"{_percent(found.share)} ({_percent(found.intended_share)})",
        "<br>".join(escape(cause) for cause in dict.fromkeys((*found.causes, *found.latched)))
        or _UNKNOWN,
        _UNKNOWN if experiment.data_age_ms is None else _age(experiment.data_age_ms),
        "".join(_button(verb, experiment.name, found.treatment) for verb in _BUTTONS),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _button(verb: str, experiment: str, treatment: str) -> str:
    return (
        f'<button type="button" data-verb="{verb}" data-experiment="{escape(experiment)}"'
        f' data-treatment="{escape(treatment)}">{verb}</button>'
    )


def _paused(found: TreatmentStatus) -> str:
    if found.paused is None:
        return ""
    until = "until resumed" if found.paused.until is None else f"until {_time(found.paused.until)}"
    told = f"paused by {found.paused.actor} {until}: {found.paused.reason}"
    return f'<br><span class="paused">{escape(told)}</span>'


def _time(at: int | None) -> str:
    if at is None:
        return _UNKNOWN
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _age(ms: int) -> str:
    return str(Duration(ms - ms % 1000))


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{share:.1%}"
