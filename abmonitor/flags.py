"""The flags that experiments are dealt by: kept up to date in files, and served to flagd. This module does I/O (HTTP).

flagd drops every flag that a source no longer names, so what is served is whole or not at all: while the
state of an experiment is unknown its flag stays as it was served last, and where it was not served yet the
answer is 503, at which flagd keeps what it has.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from abmonitor.http import as_json
from abmonitor.view import ExperimentView, View
from alerts.actuators.flag_definition import Flag, ForeignFlagError, Off, Shown, shared, written
from alerts.actuators.flag_document import EMPTY, FlagFileError
from alerts.actuators.flagd import Flagd
from alerts.order import Actuator
from alerts.standing import ACTING, Standing, State
from metrics.experiment import Experiment


logger = logging.getLogger(__name__)

PATH = "/flags/flagd.json"
RETRY_AFTER_S = 5

PATIENCE_S = 1.0
"""Seconds to wait for a flag file."""


def shown_of(one: ExperimentView, at: int) -> Shown:
    """What the flag of an experiment is to show at `at` (epoch ms): the declared split, less what is off."""
    declared, standings = one.experiment, one.book.standings
    known = {name: standings.get(name, Standing()) for name in declared.treatments}
    return Shown(
        experiment=declared.name,
        control=declared.control,
        split=declared.split_at(at),
        off={name: _why(standing) for name, standing in known.items() if _is_off(standing)},
        epochs={name: standing.epoch for name, standing in known.items()},
        room=_room(declared),
    )


def _is_off(standing: Standing) -> bool:
    """Whether a treatment gets nobody. Ending the judgement of one moves nobody, either way."""
    if standing.state is State.ENDED:
        return standing.verified is not None or standing.acted_at is not None
    return standing.state in ACTING or standing.state is State.ROLLED_BACK


def _why(standing: Standing) -> Off:
    at = standing.since if standing.ordered_at is None else standing.ordered_at
    return Off(standing.decision or "unknown", standing.epoch, at)


def _room(declared: Experiment) -> dict[str, float]:
    """The largest share that is planned for each treatment, so that a ramp moves nobody between two."""
    splits = [declared.split_at(at) for at in (0, *(step.at for step in declared.ramp))]
    shares = [shared(split) for split in splits]
    return {name: float(max(each[name] for each in shares)) for name in declared.treatments}


@dataclass(slots=True)
class Following:
    """Keeps flag files at the splits that are intended, after each tick."""

    actuators: Mapping[str, Actuator]
    """By experiment; those that are no `Flagd` are left alone."""
    patience: float = PATIENCE_S
    problems: dict[str, str] = field(default_factory=dict)
    """By experiment, why its flag is not what it should be."""
    _under_way: dict[str, "asyncio.Task[str | None]"] = field(default_factory=dict)

    async def follow(self, view: View) -> None:
        """Show what has changed. Never raises; what fails shows in `problems`, and is tried again."""
        if view.as_of is None:
            return
        for name, actuator in self.actuators.items():
            one = view.experiments.get(name)
            if not isinstance(actuator, Flagd) or one is None:
                continue
            if name in view.leads and name not in view.unknown:
                await self._show(name, actuator, shown_of(one, view.as_of))
            elif name not in view.leads:
                self._note(name, None)  # whoever leads sees to it

    async def _show(self, name: str, actuator: Flagd, shown: Shown) -> None:
        """Show it, unless the folder hangs: whoever calls has more to do."""
        if name not in self._under_way:
            self._under_way[name] = asyncio.create_task(_shown_in(actuator, shown))
        done, _ = await asyncio.wait([self._under_way[name]], timeout=self.patience)
        if not done:
            self._note(name, f"{actuator!r} does not answer")
            return
        self._note(name, self._under_way.pop(name).result())

    def _note(self, name: str, problem: str | None) -> None:
        if problem is None:
            self.problems.pop(name, None)
        elif self.problems.get(name) != problem:
            if name not in self.problems:
                logger.warning("%s: %s", name, problem)
            self.problems[name] = problem


async def _shown_in(actuator: Flagd, shown: Shown) -> str | None:
    """What is wrong with the flag after it was shown, None where nothing is."""
    try:
        done = await actuator.show(shown)
    except (FlagFileError, ForeignFlagError, ValueError) as error:
        return f"{actuator!r}: {error}"
    except Exception as error:  # noqa: BLE001  # a flag must not stop the monitor
        return f"{actuator!r}: {error!r}"
    if done.kept_off:
        names = ", ".join(done.kept_off)
        return (
            f"{actuator!r} keeps {names} off, of whose rollback the monitor knows nothing: re-arm it, or"
            f" take abmonitor.{done.kept_off[0]}.off out of the flag's metadata"
        )
    return None


class NotKnownError(Exception):
    """What the flags are is not known at the moment."""


class Published:
    """The set of flags that flagd can fetch: one flag an experiment, named after it."""

    def __init__(self, view: Callable[[], View], problem: Callable[[], str | None]) -> None:
        """`problem`: why the view is not to be relied on, None when it is."""
        self._view, self._problem = view, problem
        self._flags: dict[str, Flag] = {}
        self._made_of: View | None = None
        self._bytes = b""

    def document(self) -> bytes:
        """The set, never an empty one. Raises NotKnownError."""
        problem, view = self._problem(), self._view()
        if problem is None and view.as_of is None:
            problem = "nothing was read yet"
        if problem is not None or view.as_of is None:
            raise NotKnownError(problem)
        if view is not self._made_of:
            self._bytes = self._encoded(view, view.as_of)
            self._made_of = view
        return self._bytes

    def _encoded(self, view: View, at: int) -> bytes:
        flags = {}
        for name, one in view.experiments.items():
            before = self._flags.get(name)
            if name not in view.unknown:
                flags[name], _ = written(shown_of(one, at), before)
            elif before is not None:
                flags[name] = before
            else:
                raise NotKnownError(f"{name}: {view.unknown[name]}")
        if not flags:
            raise NotKnownError("there are no experiments")
        self._flags = flags
        return EMPTY.encoded(flags)


def routes(published: Published) -> list[web.RouteDef]:
    """`GET` and `HEAD` of the set of flags, for flagd's HTTP sync."""

    async def serve(request: web.Request) -> web.Response:
        try:
            body = published.document()
        except NotKnownError as error:
            answer = as_json({"error": f"the flags are not known: {error}"}, 503)
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
            return answer
        tag = hashlib.sha256(body).hexdigest()[:32]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        wanted = request.if_none_match or ()
        if any(each.value in {tag, "*"} for each in wanted):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers, content_type="application/json")

    return [web.get(PATH, serve)]
