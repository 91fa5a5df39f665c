"""Hooks: alerts of other people's Prometheus that roll a treatment back. This module does I/O (HTTP, clock).

Alertmanager tries again after 5xx, and drops what is answered with 4xx until the group is due again; it repeats what
fires for hours, to every monitor that it knows. So what cannot be known is 503, and repeating an alert changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta, Struct
from redis.exceptions import RedisError

from abmonitor.api_guard import RefusedError, caller_of
from abmonitor.books import UnknownStateError
from abmonitor.hook_settings import OURS, AlertmanagerHook
from abmonitor.http import as_json
from abmonitor.monitor import Commanded
from alerts.machine import Alarm
from alerts.notifiers.words import plain
from alerts.store import StaleBookError
from metrics.experiment import Experiment
from metrics.moment import Moment
from stream.redis_health import in_words


logger = logging.getLogger(__name__)

PATH = "/hooks/alertmanager"
VERSION = "4"
MAX_BODY = 1 << 20
BODY_WITHIN_S = 10.0
_NAME, _TEXT = 128, 400
"""Characters of an alert's name, and of one of its annotations, that are kept."""

Result = Literal["rolled_back", "would_roll_back", "latched", "ignored", "refused", "unknown"]

_RESULTS: Mapping[str, tuple[Result, str]] = {
    "rollback": ("rolled_back", "it is being rolled back"),
    "would_roll_back": ("would_roll_back", "dry_run: nothing is ordered"),
    "harm_while_paused": ("latched", "it is paused: the harm is acted on when the pause ends"),
    "braked": ("latched", "too many rollbacks lately: acted on by hand, or when the brake is off"),
    "resume": (
        "latched",
        "its pause is over; too many rollbacks lately: acted on by hand, or later",
    ),
}
"""By what was decided, what becomes of the alert, and why."""

UNDECLARED = (
    "alerts of this name may not act here; where they shall, write `hooks: {{alertmanager: {{alerts: [{}]}}}}`"
    " into the settings"
)


class Alert(Struct, frozen=True):
    """One alert as Alertmanager tells it; fields that are not needed are not looked at."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[datetime, Meta(tz=True)] = msgspec.field(name="startsAt")
    fingerprint: str
    annotations: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Its alertname, on one line."""
        return plain(self.labels.get("alertname", ""), _NAME)


class Message(Struct, frozen=True):
    """What Alertmanager posts to a webhook; alerts are read one by one."""

    version: str
    alerts: list[msgspec.Raw]
    truncated: int = msgspec.field(name="truncatedAlerts", default=0)


class Answer(Struct, frozen=True, kw_only=True):
    """What became of one alert."""

    fingerprint: str | None
    result: Result
    why: str


class Answers(Struct, frozen=True, kw_only=True):
    """What became of all alerts of a message, in their order."""

    alerts: tuple[Answer, ...]


class NotDoneError(Exception):
    """Nothing is done about an alert: what is answered, and whether that is a mistake of the sender."""

    def __init__(self, why: str, result: Result = "refused", status: int = 422) -> None:
        super().__init__(why)
        self.result, self.status = result, status


class Control(Protocol):
    """What takes an alarm; see `abmonitor.monitor.Monitor`."""

    async def command(self, name: str, treatment: str | None, command: Alarm) -> Commanded:
        """Take it; any monitor may, whoever leads carries it out."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """Takes alerts, of which the settings say that they may roll back."""

    control: Control
    experiments: Mapping[str, Experiment]
    declared: AlertmanagerHook
    clock: Callable[[], int] = lambda: int(time.time() * 1000)
    """Epoch milliseconds."""

    async def alertmanager(self, request: web.Request) -> web.Response:
        """What Alertmanager posts: 200 where all alerts were understood, else the worst status of any.

        One alert that is refused, or about which nothing is known, stops no other.
        """
        message = await _message(request)
        if message.truncated:
            logger.warning(
                "%s: %d alerts were left out by max_alerts of the receiver, and cannot act",
                PATH,
                message.truncated,
            )
        found, status = [], 200
        for raw in message.alerts:
            answer, said = await self._answer(raw)
            found.append(answer)
            status = max(status, said)
        headers = {"Retry-After": "5"} if status == 503 else {}
        response = as_json(Answers(alerts=tuple(found)), status)
        response.headers.update(headers)
        return response

    async def _answer(self, raw: msgspec.Raw) -> tuple[Answer, int]:
        """What became of one alert, and the status that goes with it."""
        fingerprint = None
        try:
            alert = _alert(raw)
            fingerprint = plain(alert.fingerprint, _NAME)
            made = await self._act(alert)
        except NotDoneError as error:
            return self._told(fingerprint, error.result, str(error)), error.status
        except UnknownStateError as error:
            return self._told(fingerprint, "unknown", f"nothing was done: {error}"), 503
        except (RedisError, StaleBookError, OSError) as error:
            why = f"it is not known whether anything was done: {in_words(error)}"
            return self._told(fingerprint, "unknown", why), 503
        except Exception:  # the others are still to be read
            logger.exception("%s", PATH)
            why = "the monitor made a mistake: its log says which"
            return self._told(fingerprint, "unknown", why), 503
        return self._told(fingerprint, *made), 200

    def _told(self, fingerprint: str | None, result: Result, why: str) -> Answer:
        if result != "ignored":
            logger.info("%s: %s: %s: %s", PATH, fingerprint, result, why)
        return Answer(fingerprint=fingerprint, result=result, why=why)

    async def _act(self, alert: Alert) -> tuple[Result, str]:
        """What became of it, and why. Raises NotDoneError, and what the monitor raises."""
        if alert.status == "resolved":
            return (
                "ignored",
                "it is resolved: what was rolled back stays so until a person re-arms it",
            )
        if alert.name.startswith(OURS):
            return "ignored", "it is an alert of abmonitor itself: noted, and never acted on"
        if not self.declared.may_act(alert.name):
            shown = msgspec.json.encode(alert.name).decode()
            raise NotDoneError(UNDECLARED.format(shown), status=403)
        name, treatment = self._target(alert)
        made = await self.control.command(name, treatment, self._alarm(alert))
        for decision in made.decisions:
            return _RESULTS[decision.action]
        return "ignored", made.refused[treatment]

    def _target(self, alert: Alert) -> tuple[str, str]:
        """The experiment and the treatment that an alert is about. Raises NotDoneError."""
        name, variant = alert.labels.get("experiment", ""), alert.labels.get("variant", "")
        if not name:
            raise NotDoneError(
                "expected a label `experiment`; add it to the rule, or aggregate by it"
            )
        caller = caller_of()
        if caller is None or not caller.covers(name):
            whose = "the request" if caller is None else f"the token of {caller.name}"
            raise NotDoneError(f"{whose} does not cover the experiment {name!r}", status=403)
        if name not in self.experiments:
            known = ", ".join(self.experiments)
            raise NotDoneError(f"label experiment: no experiment {name!r}; there are: {known}")
        experiment = self.experiments[name]
        treatments = tuple(experiment.treatments)
        if not variant and len(treatments) == 1:
            return name, treatments[0]
        if variant == experiment.control:
            why = f"it is about the control {variant}, to which everything is rolled back"
            raise NotDoneError(why, "ignored", 200)
        if variant not in treatments:
            expected = f"label variant: expected one of {', '.join(treatments)}, got {variant!r}"
            raise NotDoneError(expected)
        return name, variant

    def _alarm(self, alert: Alert) -> Alarm:
        caller, actor = caller_of(), f"alertmanager: {alert.name}"
        at = self.clock()
        began = int(Moment.parse(alert.starts_at))
        said = (alert.annotations.get(each, "") for each in ("summary", "description"))
        told = "; ".join(filter(None, (plain(text, _TEXT) for text in said)))
        by = "" if caller is None else f", sent with the token of {caller.name}"
        facts = f"it fires since {Moment(began)}, fingerprint {plain(alert.fingerprint, 64)}{by}"
        return Alarm(at, began, actor, (f"{actor}: {told or 'it says no more'}", facts))


async def _message(request: web.Request) -> Message:
    """What was posted. Raises RefusedError."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            content = await request.clone(client_max_size=MAX_BODY).read()
    except web.HTTPRequestEntityTooLarge:
        why = f"expected at most {MAX_BODY:,} bytes; set max_alerts of the receiver, or group by experiment"
        raise RefusedError(413, why) from None
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {BODY_WITHIN_S:g} s") from None
    expected = f"expected what Alertmanager posts to a webhook, version {VERSION!r}"
    try:
        message = msgspec.json.decode(content, type=Message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, f"{expected}: {error}") from None
    if message.version != VERSION:
        raise RefusedError(400, f"{expected}, got version {plain(message.version, 64)!r}")
    return message


def _alert(raw: msgspec.Raw) -> Alert:
    """One alert of a message. Raises NotDoneError."""
    try:
        alert = msgspec.json.decode(raw, type=Alert)
        Moment.parse(alert.starts_at)
    except (ValueError, RecursionError) as error:
        raise NotDoneError(f"expected an alert of Alertmanager: {error}", status=400) from None
    return alert


def routes(hooks: Hooks) -> list[web.RouteDef]:
    """Where alerts are posted."""
    return [web.post(PATH, hooks.alertmanager)]
