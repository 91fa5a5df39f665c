"""Gates: what canary controllers ask before they promote or take back. This module does I/O (HTTP, clock).

Argo Rollouts reads a verdict; Flagger reads a status. What is not known is `hold`, so that neither an unknown
experiment, nor old data, nor a mistake of ours promotes anything or takes anything back. Argo aborts when a
request fails too often, so its gate always answers 200; to Flagger's rollback hook 200 means "roll back", so
everything but a rollback is 403 there.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from aiohttp import web
from redis.exceptions import RedisError

from abmonitor.canaries import Canaries, Canary, Event
from abmonitor.http import as_json
from abmonitor.verdict import Gate, Word, is_undecided, verdict
from abmonitor.view import View
from alerts.standing import Standing
from stream.redis_health import in_words


__all__ = ["Gate", "Gates", "routes", "verdict"]

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
PATIENCE_S = 3.0
"""For the body of a request and for Redis together; Flagger waits ten seconds unless told otherwise."""

MAX_MESSAGE = 1_000
"""Characters of an event that are kept."""

MISTAKE = "the monitor made a mistake: its log says which"

ARGO = "/gates/argo/{experiment:.*}"
"""Of any depth: a path that is not ours would be a 404, of which a few in a row make Argo abort."""
FLAGGER = "/gates/flagger/"


class RefusedError(Exception):
    """A question of Flagger's that is answered with 403, and why."""


Short = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class Hook(msgspec.Struct, frozen=True):
    """What Flagger posts; fields that are not needed are not looked at."""

    name: Short
    namespace: Short
    checksum: Short
    phase: str = ""
    type: str = ""
    """Of the hook, where Flagger says it."""
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Gates:
    """Answers canary controllers. A standby knows as much as whoever leads."""

    view: Callable[[], View]
    problem: Callable[[], str | None]
    canaries: Canaries
    clock: Callable[[], int] = lambda: int(time.time() * 1000)
    """Epoch ms."""
    patience: float = PATIENCE_S

    async def argo(self, request: web.Request) -> web.Response:
        """The verdict, always with 200."""
        try:
            gate, harm_only = self._asked(request)
        except Exception:  # whatever it is, it must not count as harm
            logger.exception("%s %s", request.method, request.path)
            gate, harm_only = Gate(reasons=(MISTAKE,)), False
        told = msgspec.to_builtins(gate)
        if harm_only and gate.verdict != "rollback":
            told["verdict"] = "ok"
        return as_json(told)

    def _asked(self, request: web.Request) -> tuple[Gate, bool]:
        """The verdict on what is asked for, and whether only harm is."""
        harm_only = request.query.get("harm_only", "false")
        if request.method not in {"GET", "HEAD"}:
            return Gate(reasons=(f"expected GET, found {request.method}",)), False
        if harm_only not in {"true", "false"}:
            return Gate(reasons=(f"harm_only: expected true or false, found {harm_only!r}",)), False
        gate = verdict(
            self.view(),
            self.problem(),
            request.match_info["experiment"],
            self.clock(),
            request.query.get("treatment"),
        )
        return gate, harm_only == "true"

    async def promote(self, request: web.Request) -> web.Response:
        """200 where the canary may go on: its treatment has passed. Everything else is 403."""
        return await self._answered(request, lambda hook: self._agreed(hook, "pass"))

    async def roll_back(self, request: web.Request) -> web.Response:
        """200 where the canary has to be taken back. Everything else is 403."""
        return await self._answered(request, lambda hook: self._agreed(hook, "rollback"))

    async def event(self, request: web.Request) -> web.Response:
        """200 where an event was written down, else 403; nothing depends on it."""
        return await self._answered(request, self._noted)

    async def _answered(
        self, request: web.Request, answer: Callable[[Hook], Awaitable[dict[str, object]]]
    ) -> web.Response:
        try:
            async with asyncio.timeout(self.patience):
                return as_json(await answer(await _hook(request)))
        except RefusedError as error:
            why = str(error)
        except TimeoutError:
            why = f"it took more than {self.patience:g} s"
        except (RedisError, OSError) as error:
            why = in_words(error)
        except Exception:  # to Flagger a mistake of ours is neither a yes nor worth a retry
            logger.exception("%s %s", request.method, request.path)
            why = MISTAKE
        return as_json({"error": why}, 403)

    async def _agreed(self, hook: Hook, wanted: Word) -> dict[str, object]:
        """What the gate says, where that is `wanted` and about this very revision. Raises RefusedError."""
        _check_type(hook, wanted)
        view = self.view()
        name, treatment = _subject(hook, view)
        gate = verdict(view, self.problem(), name, self.clock(), treatment)
        if gate.treatment is None or gate.epoch is None:
            raise RefusedError("; ".join(gate.reasons))
        canary = Canary(hook.name, hook.namespace, hook.checksum)
        standing = view.experiments[name].book.standings.get(gate.treatment, Standing())
        subject = (name, gate.treatment, gate.epoch)
        if is_undecided(standing):
            judged: Canary | None = await self.canaries.bind(*subject, canary)
        else:
            judged = await self.canaries.bound(*subject)
        if judged != canary:
            raise RefusedError(_other(gate, canary, judged))
        if gate.verdict != wanted:
            raise RefusedError("; ".join(gate.reasons))
        told: dict[str, object] = msgspec.to_builtins(gate)
        return told

    async def _noted(self, hook: Hook) -> dict[str, object]:
        name, _ = _subject(hook, self.view())
        told = hook.metadata or {}
        event = Event(
            at=self.clock(),
            name=hook.name,
            namespace=hook.namespace,
            phase=hook.phase[:MAX_MESSAGE],
            checksum=hook.checksum,
            message=told.get("eventMessage", "")[:MAX_MESSAGE],
            kind=told.get("eventType", "")[:MAX_MESSAGE],
            sent=told.get("timestamp", "")[:MAX_MESSAGE],
        )
        await self.canaries.note(name, event)
        return {"noted": True}


def _other(gate: Gate, canary: Canary, judged: Canary | None) -> str:
    ways = (
        "another revision is judged once the settings name it as a treatment of its own, or after"
        " `abmonitor rollback` and `abmonitor rearm`"
    )
    whose = f"epoch {gate.epoch} of {gate.treatment}"
    if judged is None:
        return f"no canary asked in {whose} before its verdict, so it is not known what was judged: {ways}"
    return (
        f"{whose} judges {judged.namespace}/{judged.name} with the checksum {judged.checksum}, not"
        f" {canary.namespace}/{canary.name} with {canary.checksum}: {ways}"
    )


def _check_type(hook: Hook, wanted: Word) -> None:
    """A yes means the opposite at the other kind of hook. Raises RefusedError."""
    rolls_back = hook.type == "rollback"
    if hook.type and rolls_back != (wanted == "rollback"):
        path = "rollback" if rolls_back else "gate"
        raise RefusedError(f"a hook of type {hook.type} must ask {FLAGGER}{path}")


def _subject(hook: Hook, view: View) -> tuple[str, str]:
    """The experiment and the treatment that a hook is about. Raises RefusedError."""
    told = hook.metadata or {}
    name = told.get("experiment")
    if name is None:
        raise RefusedError("the hook does not say which experiment: add metadata.experiment to it")
    if name not in view.experiments:
        raise RefusedError(f"there is no experiment {name!r} here")
    every = tuple(view.experiments[name].experiment.treatments)
    treatment = told.get("treatment", every[0] if len(every) == 1 else None)
    if treatment not in every:
        raise RefusedError(f"metadata.treatment: expected one of {every}, found {treatment!r}")
    return name, treatment


async def _hook(request: web.Request) -> Hook:
    """What was posted. Raises RefusedError."""
    if request.method != "POST":
        raise RefusedError(f"expected POST, found {request.method}")
    body = bytearray()
    async for chunk in request.content.iter_chunked(MAX_BODY):
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusedError(f"expected at most {MAX_BODY:,} bytes")
    try:
        return msgspec.json.decode(body, type=Hook)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"expected what Flagger posts to a hook: {error}") from error


def routes(gates: Gates) -> list[web.RouteDef]:
    """The gates of Argo Rollouts and Flagger; for every method, so that a wrong one gets the safe answer."""
    return [
        web.route("*", ARGO, gates.argo),
        web.route("*", f"{FLAGGER}gate", gates.promote),
        web.route("*", f"{FLAGGER}rollback", gates.roll_back),
        web.route("*", f"{FLAGGER}event", gates.event),
    ]
