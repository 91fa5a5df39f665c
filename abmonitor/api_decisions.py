"""The API that shows decisions and the status. This module does I/O (HTTP)."""

import base64

from aiohttp import web

from abmonitor.api import SERVED, Served, query, unknown_experiment
from abmonitor.api_guard import RefusedError, may_see
from abmonitor.api_types import DecisionFound, Decisions, DecisionsWanted, StatusWanted
from abmonitor.http import as_json
from abmonitor.status import status
from abmonitor.view import View
from alerts.book import Decision
from metrics.duration import Duration
from metrics.moment import Moment


class Shown:
    """The decisions that the view shows, where there is no store to ask."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def decisions(self, experiment: str, newest: int = 100) -> list[Decision]:
        """The newest decisions, oldest first."""
        found = self._view.experiments.get(experiment)
        return list(found.decisions[-newest:]) if found else []

    async def decision(self, experiment: str, name: str) -> Decision | None:
        """One decision by its id."""
        every = await self.decisions(experiment, 1 << 30)
        return next((decision for decision in every if decision.id == name), None)

    async def evidence(self, experiment: str, decision: str) -> bytes | None:
        """Nothing: a view has none."""
        del experiment, decision
        return None


def visible(request: web.Request) -> tuple[str, ...]:
    """The experiments that whoever asks may see."""
    served = request.app[SERVED]
    reads = served.api.guard.open_reads
    return tuple(n for n in served.view().experiments if may_see(n, open_reads=reads))


async def show_status(request: web.Request) -> web.Response:
    """What the person on call has to know."""
    served, wanted = request.app[SERVED], query(request, StatusWanted)
    names = _chosen(request, wanted.experiment)
    now = served.api.clock()
    return as_json(status(served.view(), served.problem(), now, names))


async def show_decisions(request: web.Request) -> web.Response:
    """The newest decisions that fit, oldest first."""
    served, wanted = request.app[SERVED], query(request, DecisionsWanted)
    now = served.api.clock()
    since, until = _moment("since", wanted.since, now), _moment("until", wanted.until, now)
    found: list[Decision] = []
    for name in _chosen(request, wanted.experiment):
        found += await _newest(served, name, wanted, since, until)
    found.sort(key=lambda decision: decision.at)
    return as_json(Decisions(decisions=tuple(found[-wanted.limit :])))


async def show_decision(request: web.Request) -> web.Response:
    """One decision, and what it rests on."""
    served, name = request.app[SERVED], request.match_info["id"]
    experiment = name.partition(":")[0]
    audit = served.api.audit or Shown(served.view())
    seen = experiment in visible(request)
    decision = await audit.decision(experiment, name) if seen else None
    if decision is None:
        read_something(request)
        raise RefusedError(404, f"no decision {name!r}; `abmonitor decisions` lists them")
    packed = await audit.evidence(experiment, name)
    reasoning = None if packed is None else base64.b64encode(packed).decode()
    return as_json(DecisionFound(decision=decision, reasoning=reasoning))


async def _newest(
    served: Served, name: str, wanted: DecisionsWanted, since: int | None, until: int | None
) -> list[Decision]:
    """Reads further back until there are enough."""
    audit, step = served.api.audit or Shown(served.view()), wanted.limit
    while True:
        read = await audit.decisions(name, step)
        found = [one for one in read if _fits(one, wanted, since, until)]
        older = since is not None and bool(read) and read[0].at < since
        if len(found) >= wanted.limit or len(read) < step or older:
            return found[-wanted.limit :]
        step *= 4


def _fits(
    decision: Decision, wanted: DecisionsWanted, since: int | None, until: int | None
) -> bool:
    return (
        wanted.treatment in {None, decision.treatment}
        and wanted.action in {None, decision.action}
        and (since is None or decision.at >= since)
        and (until is None or decision.at <= until)
    )


def _chosen(request: web.Request, experiment: str | None) -> tuple[str, ...]:
    names = visible(request)
    if experiment is None:
        return names
    if experiment not in names:
        read_something(request)
        raise RefusedError(404, unknown_experiment(names, experiment))
    return (experiment,)


def read_something(request: web.Request) -> None:
    """Raise RefusedError before the first tick, when nobody knows yet what there is."""
    if request.app[SERVED].view().as_of is None:
        raise RefusedError(
            503,
            "the monitor has read nothing yet; try again in a few seconds",
            {"Retry-After": "2"},
        )


def _moment(field: str, text: str | None, now: int) -> int | None:
    """Epoch ms. Raises RefusedError."""
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            return int(text[:16])
        if text[-1:] in "smhdw":
            return now - Duration.parse(text)
        return Moment.parse(text)
    except (ValueError, OverflowError):
        raise RefusedError(
            400,
            f"{field}: expected a time with a zone such as 2026-01-31T10:00:00Z, epoch milliseconds,"
            f" or a duration before now such as 24h; got {text!r}",
        ) from None
