"""What every request to the monitor passes: who asks, how often, and what answers carry. This module does I/O (HTTP, clock)."""

import logging
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from abmonitor.api_limits import Limits, network
from abmonitor.api_settings import ApiSettings
from abmonitor.api_types import Problem
from abmonitor.auth import Caller, Tokens
from abmonitor.books import UnknownStateError
from abmonitor.http import as_json
from alerts.store import StaleBookError
from stream.redis_health import in_words


logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who sent the request that is being answered; None without a token. It is set anew for each."""

PER_MINUTE = 120
OPEN = frozenset(
    {
        "/healthz",
        "/readyz",
        "/api/v1/openapi.json",
        "/runbooks/",
        "/runbooks/{name}",
    }
)
"""Paths that hold nothing to be protected."""
ASSETS = "/assets/"
"""What the page is drawn with, which holds nothing to be protected either."""
PAGES = frozenset({"/", "/experiments/{name}"})
"""Pages that are shown without anything in them to whoever may not read: a browser sends no token for them."""
SAFE = frozenset({"GET", "HEAD"})
GATES = ("/gates/", "/flags/")
"""Where controllers ask that have no token of ours; nothing there changes an experiment."""

_BEARER = re.compile(r"(?i:bearer) +([!-~]{1,512}) *")
_PERSON = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

NOBODY = (
    "nobody may act here, because no tokens are configured: make one with"
    " `abmonitor token new --name NAME --role operate`, put the line that it prints into a file, and name"
    " that file in the settings as `api: {tokens: FILE}`"
)
WITHOUT = (
    "expected the header `Authorization: Bearer TOKEN`; make a token with `abmonitor token new`, and set"
    " ABMONITOR_TOKEN for the command line"
)
UNKNOWN = (
    "the token is not known here: it was revoked or mistyped, or the hash in the file is of another one;"
    " make one with `abmonitor token new`"
)


class RefusedError(Exception):
    """A request that is answered with a status above 399."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, dict(headers or {})


@dataclass(slots=True, eq=False)
class Guard(Collector):
    """Who may ask for what, and how often; counts whom it refused."""

    tokens: Tokens | None = None
    open_reads: bool = True
    per_minute: int = PER_MINUTE
    clock: Callable[[], float] = time.monotonic
    refused: Counter[str] = field(default_factory=Counter)
    _reads: Limits = field(init=False)
    _acts: Limits = field(init=False)
    """Of their own, so that whoever looks too often can still act."""

    def __post_init__(self) -> None:
        self._reads, self._acts = Limits(self.per_minute), Limits(self.per_minute)

    def admit(self, request: web.Request) -> Caller | None:
        """Who asks; None without a token, where none is needed. Raises RefusedError."""
        resource = request.match_info.route.resource
        path = (
            resource.canonical if resource else request.path
        )  # what is served, however it was written
        bare = path in PAGES and not self.open_reads and "Authorization" not in request.headers
        if bare or path in OPEN or path.startswith((ASSETS, *GATES)):
            return None
        acts = request.method not in SAFE
        caller = self._caller(request, acts=acts)
        if path == "/metrics":
            if not self.open_reads and not (caller and caller.covers_all):
                raise RefusedError(403, "metrics are of all experiments: the token must cover '*'")
            return caller  # scraped as often as Prometheus likes
        self._limit(request, caller, acts=acts)
        if acts and caller is None:
            raise _needs_token()
        if acts and caller is not None and not caller.operates:
            raise RefusedError(
                403,
                f"the token of {caller.name} may only read; acting needs one with role: operate",
            )
        if acts and request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            raise RefusedError(403, "another site asks for this: act from the monitor's own page")
        return caller

    def _caller(self, request: web.Request, *, acts: bool) -> Caller | None:
        if acts and self.tokens is None:
            self._limit(request, None, acts=acts)
            raise RefusedError(403, NOBODY)
        given = request.headers.getall("Authorization", [])
        if self.tokens is None or not given:
            if acts or not self.open_reads:
                self._limit(request, None, acts=acts)
                raise _needs_token()
            return None
        told = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        caller = self.tokens.caller(told[1]) if told else None
        if caller is None:
            self._limit(request, None, acts=acts)
            raise RefusedError(401, UNKNOWN if told else WITHOUT, {"WWW-Authenticate": "Bearer"})
        return caller

    def _limit(self, request: web.Request, caller: Caller | None, *, acts: bool) -> None:
        who = f"token {caller.name}" if caller else f"address {network(request.remote)}"
        wait = (self._acts if acts else self._reads).wait(who, self.clock())
        if wait is not None:
            seconds = math.ceil(wait)
            raise RefusedError(
                429,
                f"more than {self.per_minute} requests a minute: wait {seconds} s"
                " (api.rate_limit in the settings)",
                {"Retry-After": str(seconds)},
            )

    def describe(self) -> Iterable[Metric]:
        """The families, which need nothing to be known."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """How the tokens' file is, and who was refused."""
        tokens = GaugeMetricFamily("abmonitor_api_tokens", "Tokens that are known.")
        good = GaugeMetricFamily(
            "abmonitor_api_tokens_file_ok", "Whether the file of tokens as it is now can be used."
        )
        if self.tokens is not None:
            tokens.add_metric([], len(self.tokens))
            good.add_metric([], self.tokens.problem is None)
        refused = CounterMetricFamily(
            "abmonitor_api_refused", "Requests that were refused, by status.", labels=["reason"]
        )
        for reason, count in sorted(self.refused.items()):
            refused.add_metric([reason], count)
        return [tokens, good, refused]


def guard_of(settings: ApiSettings) -> Guard:
    """The guard that the settings describe. Raises TokensError where their file cannot be used."""
    tokens = None if settings.tokens is None else Tokens(Path(settings.tokens))
    return Guard(tokens, settings.open_reads, settings.rate_limit)


def _needs_token() -> RefusedError:
    return RefusedError(401, WITHOUT, {"WWW-Authenticate": "Bearer"})


def caller_of() -> Caller | None:
    """Who sent the request that is being answered, as the guard found; None without a token."""
    return _CALLER.get()


def actor_of(request: web.Request) -> str:
    """Who acts, for the audit trail: the token's name, and for whom a proxy asks. Raises RefusedError."""
    caller = caller_of()
    if caller is None:
        raise _needs_token()
    if caller.on_behalf is None:
        return caller.name
    person = request.headers.get(caller.on_behalf, "")
    if not _PERSON.fullmatch(person):
        raise RefusedError(
            403,
            f"the token of {caller.name} acts on behalf of others, and the header {caller.on_behalf}"
            " does not say of whom: see to it that the proxy sends it",
        )
    return f"{person} via {caller.name}"


def may_see(experiment: str, *, open_reads: bool) -> bool:
    """Whether whoever asks may read of an experiment."""
    caller = caller_of()
    return open_reads or (caller is not None and caller.covers(experiment))


def install(app: web.Application, guard: Guard) -> None:
    """Let every request of `app` pass `guard`, and every answer carry what browsers must know."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _CALLER.set(None)  # a connection that is kept has one context for all its requests
            if request.match_info.http_exception is None:  # 404 and 405 tell nothing
                _CALLER.set(guard.admit(request))
            return await handler(request)
        except RefusedError as error:
            refusal = error
        except UnknownStateError as error:
            refusal = RefusedError(503, f"nothing was done: {error}", {"Retry-After": "5"})
        except (RedisError, StaleBookError, OSError) as error:
            logger.warning("%s %s: %s", request.method, request.path, in_words(error))
            refusal = _away()
        except web.HTTPException:
            raise
        except Exception:
            logger.exception("%s %s", request.method, request.path)
            refusal = RefusedError(500, "the monitor made a mistake: its log says which")
        guard.refused[str(refusal.status)] += 1
        answer = as_json(Problem(error=refusal.error), refusal.status)
        answer.headers.update(refusal.headers)
        return answer

    async def sign(_: web.Request, answer: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)

    app.middlewares.append(guarded)
    app.on_response_prepare.append(sign)


def _away() -> RefusedError:
    return RefusedError(
        503,
        "the store does not answer, so it is not known whether anything was done: look at"
        " `abmonitor status`, and try again",
        {"Retry-After": "2"},
    )
