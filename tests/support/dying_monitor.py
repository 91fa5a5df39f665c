"""Monitors in processes of their own that die, or freeze, at a point of their work. This module does I/O.

Run as a script it loads the command line once, and then forks a process of `abmonitor` for each line of its
input: a `Birth` in JSON. It answers with the pid. When its input ends, it kills all of them.

Points are named as in "before save rolled_back": `before` or `after`, and what is done. `save` names the
state that the treatment has then, or an action that was decided, or `settled`; `log` the action that is
written into the control log; `post` is a request to a webhook, with its answer.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from abmonitor.cli.main import app
from abmonitor.control_log import ControlLog
from alerts.actuators.webhook import Webhook
from alerts.book import Book
from alerts.store import AlertStore


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is wanted."""

    arguments: list[str]
    environ: dict[str, str]
    log: str
    """The file that gets what it says."""
    point: str = ""
    """Where it ends; empty: nowhere."""
    freezes: bool = False
    """There it stands still (SIGSTOP) instead, the first time that it comes there."""


REACHED = "reached: "
"""How the line in its log begins that says that it came to its point."""


class Trap:
    """Ends this process at a point."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self._number = point, number

    def at(self, when: str, names: Iterable[str]) -> None:
        """The process has come to points with these names."""
        if self.point in {f"{when} {name}" for name in names}:
            os.write(2, f"{REACHED}{self.point}\n".encode())
            self.point = ""
            os.kill(os.getpid(), self._number)

    def around(
        self, work: Callable[..., Awaitable[Any]], names: Callable[..., set[str]]
    ) -> Callable[..., Awaitable[Any]]:
        """`work` with a point before and after it."""

        async def watched(*arguments: Any, **options: Any) -> Any:
            found = names(*arguments, **options)
            self.at("before", found)
            result = await work(*arguments, **options)
            self.at("after", found)
            return result

        return watched


def _saved(_: AlertStore, experiment: str, book: Book, **options: Any) -> set[str]:
    del experiment
    if options["settled"]:
        return {"save settled"}
    states = {standing.state.value for standing in book.standings.values()}
    return {f"save {name}" for name in states | {each.action for each in options["decisions"]}}


def _logged(_: ControlLog, entries: list[tuple[str, bytes]]) -> set[str]:
    decisions = (msgspec.json.decode(value) for key, value in entries if "/decision/" in key)
    return {f"log {each['action']}" for each in decisions}


def _set(trap: Trap) -> None:
    # Classes are changed, because the command makes the objects.
    AlertStore.save = trap.around(AlertStore.save, _saved)  # type: ignore[method-assign, assignment]
    ControlLog.publish = trap.around(ControlLog.publish, _logged)  # type: ignore[method-assign, assignment]
    Webhook.apply = trap.around(Webhook.apply, lambda *_: {"post"})  # type: ignore[method-assign, assignment]


def _live(birth: Birth) -> None:
    """Be the process that is wanted; does not return."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(birth.environ)
        if birth.point:
            _set(Trap(birth.point, signal.SIGSTOP if birth.freezes else signal.SIGKILL))
        app(birth.arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        os._exit(status)


def main() -> None:
    """Fork what is asked for until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries them
    pids = []
    for line in sys.stdin:
        birth = msgspec.json.decode(line, type=Birth)
        pid = os.fork()
        if not pid:
            _live(birth)
        pids.append(pid)
        print(pid, flush=True)  # noqa: T201  # it is the answer
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
