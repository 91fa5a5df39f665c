"""Touches HTTP and the clock: one JSON document to one address, and what came of it."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import aiohttp
import msgspec
from msgspec import Meta
from yarl import URL

from alerts.actuators.patience import retry_after
from alerts.notifiers.words import link_problems
from alerts.order import Receipt


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

MAX_TIMEOUT = 30.0
_TRANSIENT = frozenset({408, 425, 429})
_BUFFER = 4096
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def origin(url: str) -> str:
    """Scheme, host and port: what may be shown of an address, whose path may be a secret."""
    try:
        return str(URL(url).origin())
    except (ValueError, TypeError):
        return "(not an address)"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a notifier posts to. `timeout` is in seconds and bounds the whole attempt.

    Representations show neither secrets nor anything of addresses behind the host.
    """

    url: str
    token: str | None = None
    """Sent as `Authorization: Bearer`."""
    proxy: str | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT)] = 5.0
    link: str | None = None
    """Where people find out more: an address with placeholders, see `alerts.notifiers.words`."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"

    # msgspec writes one that shows every field, and rich prefers it to __repr__.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["url"] = origin(self.url)
        shown["token"] = None if self.token is None else "***"
        shown["proxy"] = None if self.proxy is None else origin(self.proxy)
        return list(shown.items())

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options, without quoting what may be secret."""
        yield from _address_problems("url", self.url)
        if self.proxy is not None:
            yield from _address_problems("proxy", self.proxy)
        # To aiohttp a time-out of 0 is none at all.
        if not 0 < self.timeout <= MAX_TIMEOUT:
            yield (
                "timeout",
                f"expected over 0 and at most {MAX_TIMEOUT:g} seconds, got {self.timeout}",
            )
        if self.link is not None:
            yield from (("link", text) for text in link_problems(self.link))
        if self.token is None:
            return
        if not self.token or not self.token.isascii() or _CONTROL.search(self.token):
            yield "token", "expected visible ASCII characters without spaces"
        elif not any(_address_problems("url", self.url)) and URL(self.url).raw_user is not None:
            yield "token", "the url has a user, too; give one of them"


def _address_problems(field: str, address: str) -> Iterator[Problem]:
    expected = "expected an http:// or https:// address with a host"
    try:
        url = URL(address)
    except (ValueError, TypeError):
        yield field, expected
        return
    if url.scheme not in ("http", "https") or not url.host or re.search(r"\s", address):
        yield field, expected


def checked(name: str, target: Target) -> None:
    """Raise ValueError, without secrets, for options that cannot work."""
    if problems := list(target.problems()):
        raise ValueError(f"{name}: " + "; ".join(f"{field}: {text}" for field, text in problems))


def under(url: str, path: str) -> str:
    """The address of `path` below a base address, which may have a path of its own."""
    base = URL(url)
    return str(base.with_path(base.path.rstrip("/") + path).with_query(None).with_fragment(None))


def _session() -> aiohttp.ClientSession:
    # A connection kept for a minute would often be found dead.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
    )


class Poster:
    """Posts to `url`, or to what the target says.

    How answers are read: 2xx accepted; 408, 425, 429, 5xx, time-outs and failed connections may pass
    (`Retry-After` is honoured); other 4xx and 3xx will not (redirects are not followed). The body of
    an answer is not read, so it can neither stall, fill the memory nor put what it echoes into a log.

    `session` makes the client when first needed; `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        target: Target,
        url: str | None = None,
        *,
        session: Callable[[], aiohttp.ClientSession] = _session,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target, self._url = target, url or target.url
        self._origin = origin(target.url)
        self._new_session, self._clock = session, clock
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, document: object) -> Receipt:
        """Post once. Never raises, except that cancelling the task cancels the attempt."""
        if self._closed:
            return Receipt(accepted=False, detail="the notifier is closed", retry=True)
        try:
            body = msgspec.json.encode(document)
        except Exception as error:  # noqa: BLE001 - trying again would not help
            why = f"cannot write JSON: {type(error).__name__}"
            return Receipt(accepted=False, detail=why)
        try:
            return await self._post(body)
        except TimeoutError:
            why = f"no answer within {self._target.timeout:g} s"
        except Exception as error:  # noqa: BLE001 - a notifier never raises, whatever a session does
            # Names of types only: messages of aiohttp quote whole addresses.
            cause = getattr(error, "os_error", None)
            why = type(error).__name__ + (f" ({type(cause).__name__})" if cause else "")
        return Receipt(accepted=False, detail=f"POST {self._origin}: {why}", retry=True)

    async def _post(self, body: bytes) -> Receipt:
        if self._session is None:
            self._session = self._new_session()
        headers = {"user-agent": "abmonitor", "content-type": "application/json"}
        if self._target.token is not None:
            headers["authorization"] = f"Bearer {self._target.token}"
        async with self._session.post(
            self._url,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._target.timeout),
            proxy=self._target.proxy,
            allow_redirects=False,
            # Leaving the block closes the connection: at most a buffer of the body is ever taken in.
            read_bufsize=_BUFFER,
            auto_decompress=False,
        ) as response:
            return self._receipt(response)

    def _receipt(self, response: aiohttp.ClientResponse) -> Receipt:
        status = response.status
        detail = f"POST {self._origin} answered {status}"
        if 200 <= status < 300:
            return Receipt(accepted=True, detail=detail)
        if status in _TRANSIENT or status >= 500:
            wait = retry_after(response.headers.get("retry-after"), self._clock())
            return Receipt(accepted=False, detail=detail, retry=True, retry_after=wait)
        return Receipt(accepted=False, detail=detail)

    async def close(self) -> None:
        """Close the connections; nothing is posted later."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
