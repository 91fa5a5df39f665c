"""`status --watch`: asks a monitor again and again, and shows what it says. This module does I/O (HTTP, clock, terminal)."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from abmonitor.api_client import ApiClient, ApiError
from abmonitor.api_types import Status
from abmonitor.cli.common import say
from abmonitor.status_screen import Picture, Seen
from abmonitor.status_text import show
from abmonitor.summary import moment
from metrics.duration import Duration


EVERY = Duration(2_000)
LEAST = Duration(1_000)
"""A monitor admits two requests a second."""

DRAW_S = 1.0
"""How often the screen is drawn at least, so that times on it go on."""
PATIENCE_S = 5.0
"""After so long without an answer people are told, although there may still be one."""


class _Answer(NamedTuple):
    """What a monitor said: a document and what it means, or only why there is none."""

    document: dict[str, Any] | None
    found: Status | str


Take = Callable[[_Answer | None], None]
"""Gets every answer, and None where none has come for a second."""


def watch(
    client: ApiClient, url: str, experiment: str | None, *, every: Duration, as_json: bool
) -> None:
    """Show the status until Ctrl-C; raises ApiError where the first call was wrong.

    On a terminal it is one screen. Elsewhere it is a picture whenever something changed, and
    with `as_json` a document a line, one an answer.
    """

    def ask() -> dict[str, Any]:
        return client.get("/api/v1/status", experiment=experiment)

    with suppress(KeyboardInterrupt):
        first = _asked(ask, url, wrong_calls=True)
        if as_json:
            _follow(_Lines(), first, ask, url, every)
        elif sys.stdout.isatty() and not (console := Console(highlight=False)).is_dumb_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                title = f"{url} every {every}; Ctrl-C ends"
                _follow(_Screen(live, title, every), first, ask, url, every)
        else:
            _follow(_Pictures(), first, ask, url, every)


def _follow(
    take: Take, first: _Answer, ask: Callable[[], dict[str, Any]], url: str, every: Duration
) -> None:
    """Pass answers on for ever. They are asked for in a thread that nobody has to wait for."""
    answers: SimpleQueue[_Answer] = SimpleQueue()

    def asking() -> None:
        while True:
            time.sleep(every / 1000)
            answers.put(_asked(ask, url))

    take(first)
    Thread(target=asking, daemon=True).start()
    while True:
        try:
            take(answers.get(timeout=DRAW_S))
        except Empty:
            take(None)


def _asked(ask: Callable[[], dict[str, Any]], url: str, *, wrong_calls: bool = False) -> _Answer:
    try:
        document = ask()
        return _Answer(document, msgspec.convert(document, Status))
    except ApiError as error:
        if wrong_calls and error.wrong_call:
            raise
        return _Answer(None, str(error))
    except msgspec.ValidationError:
        return _Answer(None, f"{url} did not answer as a monitor of this version does")


class _Screen:
    """Draws on the whole terminal."""

    def __init__(self, live: Live, title: str, every: Duration) -> None:
        self._live, self._title, self._seen = live, title, Seen()
        self._patience = every + int(PATIENCE_S * 1000)

    def __call__(self, answer: _Answer | None) -> None:
        now = _now()
        if answer is not None:
            self._seen = self._seen.after(answer.found, now)
        elif self._seen.failure is None and now - (self._seen.at or 0) > self._patience:
            self._seen = self._seen.after("it is silent", now)
        self._live.update(Picture(self._seen, now, self._title), refresh=True)


class _Told:
    """Says once when nobody answers any more, and once when somebody does again."""

    def __init__(self) -> None:
        self._failure: str | None = None

    def __call__(self, answer: _Answer) -> None:
        failure = answer.found if isinstance(answer.found, str) else None
        if failure is not None and failure != self._failure:
            say(f"status: {moment(_now())} UTC: no answer: {failure}")
        elif failure is None and self._failure is not None:
            say(f"status: {moment(_now())} UTC: the monitor answers again")
        self._failure = failure


class _Lines:
    """Prints a JSON document a line."""

    def __init__(self) -> None:
        self._told = _Told()

    def __call__(self, answer: _Answer | None) -> None:
        if answer is None:
            return
        self._told(answer)
        if answer.document is not None:
            typer.echo(msgspec.json.encode(answer.document))


class _Pictures:
    """Prints the status where it is another one than before, its age aside."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._told = _Told()
        self._last: Status | None = None

    def __call__(self, answer: _Answer | None) -> None:
        if answer is None:
            return
        self._told(answer)
        if isinstance(answer.found, str) or _ageless(answer.found) == self._last:
            return
        self._last = _ageless(answer.found)
        self._console.print(f"{moment(_now())} UTC")
        show(self._console, answer.found)


def _ageless(found: Status) -> Status:
    """The status without what changes by itself."""
    experiments = (msgspec.structs.replace(one, data_age_ms=None) for one in found.experiments)
    return msgspec.structs.replace(found, as_of=None, experiments=tuple(experiments))


def _now() -> int:
    return int(time.time() * 1000)
