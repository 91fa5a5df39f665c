"""The API by which people act: pause, resume, rollback, rearm and end. This module does I/O (HTTP, clock)."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from abmonitor.api_guard import Guard, RefusedError, actor_of, caller_of
from abmonitor.api_types import (
    Done,
    NothingWanted,
    PauseWord,
    PauseWordForAll,
    RearmWord,
    Undone,
    Word,
    WordForAll,
)
from abmonitor.api_words import wrong_field
from abmonitor.http import as_json
from abmonitor.monitor import Commanded
from abmonitor.view import View
from alerts.book import Decision
from alerts.machine import Command
from metrics.duration import Duration
from metrics.experiment import DAY
from metrics.moment import Moment


LARGEST_BODY = 64 * 1024
BODY_WITHIN_S = 10.0
LONGEST_PAUSE = 366 * DAY

VERBS: Mapping[str, type[Word]] = {
    "pause": PauseWord,
    "resume": Word,
    "rollback": Word,
    "rearm": RearmWord,
    "end": Word,
}
"""What can be said of one experiment, and what has to be said with it."""

VERBS_FOR_ALL: Mapping[str, type[WordForAll]] = {"pause": PauseWordForAll, "resume": WordForAll}

_T = TypeVar("_T", bound=Struct)
AnyWord = Word | WordForAll


class Control(Protocol):
    """What takes a person's word; see `abmonitor.monitor.Monitor`."""

    async def command(self, name: str, treatment: str | None, command: Command) -> Commanded:
        """Take it; raises KeyError where there is no such experiment or treatment."""
        ...


class Audit(Protocol):
    """What was decided; see `alerts.store.AlertStore`."""

    async def decisions(self, experiment: str, newest: int = ...) -> list[Decision]:
        """The newest decisions, oldest first."""
        ...

    async def decision(self, experiment: str, name: str) -> Decision | None:
        """One decision by its id."""
        ...

    async def evidence(self, experiment: str, decision: str) -> bytes | None:
        """What it rests on."""
        ...


@dataclass(frozen=True, slots=True)
class Api:
    """What the API acts on, and who may."""

    control: Control | None = None
    """None where nobody can act, as in the demo."""
    audit: Audit | None = None
    """None: what the view shows."""
    guard: Guard = field(default_factory=Guard)
    clock: Callable[[], int] = lambda: int(time.time() * 1000)
    """Epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the routes look at."""

    view: Callable[[], View]
    problem: Callable[[], str | None]
    api: Api


SERVED = web.AppKey("served", Served)


async def command(request: web.Request) -> web.Response:
    """A person's word about one experiment."""
    served, name = request.app[SERVED], request.match_info["name"]
    verb = request.path.rpartition("/")[2]
    covers(name)
    query(request, NothingWanted)  # what stands in the wrong place must not be ignored
    word = await _body(request, VERBS[verb])
    given = _command(request, verb, word)
    if served.api.control is None:
        raise RefusedError(403, "this monitor takes no commands")
    try:
        made = await served.api.control.command(name, word.treatment, given)
    except KeyError:
        raise _unknown(served.view(), name, word.treatment) from None
    return _answer(made.decisions, made.refused, verb)


async def command_all(request: web.Request) -> web.Response:
    """A person's word about all experiments."""
    served, verb = request.app[SERVED], request.path.rpartition("/")[2]
    names = tuple(served.view().experiments)
    for name in names:
        covers(name)
    query(request, NothingWanted)
    given = _command(request, verb, await _body(request, VERBS_FOR_ALL[verb]))
    control = served.api.control
    if control is None:
        raise RefusedError(403, "this monitor takes no commands")
    if not names:
        raise RefusedError(
            503,
            "the monitor has read nothing yet; try again in a few seconds",
            {"Retry-After": "2"},
        )
    asked = (control.command(name, None, given) for name in names)
    made = await asyncio.gather(*asked, return_exceptions=True)
    decisions: list[Decision] = []
    refused: dict[str, str] = {}
    failed: list[str] = []
    for name, one in zip(names, made, strict=True):
        if isinstance(one, BaseException):
            failed.append(name)
        else:
            decisions += one.decisions
            refused |= {f"{name}/{treatment}": why for treatment, why in one.refused.items()}
    if failed:
        error = (
            f"the store did not answer about {', '.join(failed)}: look at `abmonitor status`,"
            " and try again"
        )
        undone = Undone(error=error, decisions=tuple(decisions), refused=refused)
        return as_json(undone, 503)
    return _answer(decisions, refused, verb)


def covers(experiment: str) -> None:
    """Raise RefusedError where the experiment is not one of the caller's."""
    caller = caller_of()
    if caller is None or not caller.covers(experiment):
        whose = "the request" if caller is None else f"the token of {caller.name}"
        raise RefusedError(
            403,
            f"{whose} does not cover the experiment {experiment!r};"
            " see `experiments:` of the token in the file of tokens",
        )


def _answer(decisions: Sequence[Decision], refused: Mapping[str, str], verb: str) -> web.Response:
    if decisions:
        return as_json(Done(decisions=tuple(decisions), refused=dict(refused)))
    why = "; ".join(f"{treatment}: {reason}" for treatment, reason in refused.items())
    error = f"{verb} changed nothing" + (f": {why}" if why else "")
    return as_json(Undone(error=error, refused=dict(refused)), 409)


def query(request: web.Request, kind: type[_T]) -> _T:
    """What the query of a URL says. Raises RefusedError."""
    given = request.query
    twice = [name for name in set(given) if len(given.getall(name)) > 1]
    if twice:
        raise RefusedError(400, f"{min(twice)} is given more than once")
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(each.name for each in msgspec.structs.fields(kind))
        raise RefusedError(400, f"{wrong_field(error, kind)}; parameters are: {known}") from None


async def _body(request: web.Request, kind: type[_T]) -> _T:
    """What the body says. Raises RefusedError."""
    if request.content_type != "application/json":
        raise RefusedError(415, "expected the header `Content-Type: application/json`")
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            content = await request.clone(client_max_size=LARGEST_BODY).read()
    except web.HTTPRequestEntityTooLarge:
        raise RefusedError(413, f"expected a body of at most {LARGEST_BODY} bytes") from None
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {BODY_WITHIN_S:g} s") from None
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise RefusedError(422, f"{wrong_field(error, kind)}; such as {_example(kind)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}; such as {_example(kind)}") from None


def _example(kind: type) -> str:
    given = {"treatment": "ranker-v2", "reason": "why", "until": "2h", "force": True}
    fields = msgspec.structs.fields(kind)
    shown = {each.name: given[each.name] for each in fields if each.name in given}
    return msgspec.json.encode(dict(sorted(shown.items()))).decode()


def _command(request: web.Request, verb: str, word: AnyWord) -> Command:
    at = request.app[SERVED].api.clock()
    until = word.until if isinstance(word, PauseWord | PauseWordForAll) else None
    return Command(
        at,
        verb,
        actor_of(request),
        _reason(word.reason),
        None if until is None else _until(until, at),
        isinstance(word, RearmWord) and word.force,
    )


def _reason(text: str) -> str:
    """One line that a terminal can show. Raises RefusedError where nothing is left of it."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not shown:
        raise RefusedError(422, "reason: expected a few words that say why")
    return shown


def _until(text: str, now: int) -> int:
    """The end of a pause in epoch ms. Raises RefusedError."""
    try:
        lasts = text[-1] in "smhdw"
        until = now + Duration.parse(text) if lasts else int(Moment.parse(text))
    except (ValueError, OverflowError):
        raise RefusedError(
            422,
            f"until: expected a duration such as 2h, or a time with a zone such as"
            f" 2026-01-31T10:00:00Z, got {text!r}",
        ) from None
    if not now < until <= now + LONGEST_PAUSE:
        raise RefusedError(
            422,
            f"until: expected a time after now ({Moment(now)}) and within a year, got {text!r}",
        )
    return until


def _unknown(view: View, name: str, treatment: str | None) -> RefusedError:
    found = view.experiments.get(name)
    if found is None or treatment is None:
        return RefusedError(404, unknown_experiment(view.experiments, name))
    known = ", ".join(found.experiment.treatments)
    return RefusedError(422, f"{name} has no treatment {treatment!r}; there are: {known}")


def unknown_experiment(known: Mapping[str, object] | Sequence[str], name: str) -> str:
    """Say that there is no such experiment."""
    return f"no experiment {name!r}; there are: {', '.join(known)}"
