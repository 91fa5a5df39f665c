"""Asks a monitor over HTTP, for the command line. This module does I/O (HTTP)."""

import http.client
import ipaddress
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec


DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_S = 30.0
"""Acting waits for what moves the traffic."""
LARGEST_ANSWER = 256 * 1024 * 1024

_WRONG_CALL = frozenset({400, 401, 403, 404, 413, 415, 422})
"""Statuses that say that the call was wrong, and not that the work failed."""


class ApiError(Exception):
    """The monitor did not do what was asked; says why and what to do, and never holds the token."""

    def __init__(
        self, message: str, status: int | None = None, document: dict[str, Any] | None = None
    ) -> None:
        """`status`: of the answer, None without one; `document`: what it said."""
        super().__init__(message)
        self.status, self.document = status, document or {}

    @property
    def wrong_call(self) -> bool:
        """Whether the caller has to change something, and not the world."""
        return self.status in _WRONG_CALL


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for one address only, and a monitor never redirects."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Take the redirection for the answer."""


class ApiClient:
    """One monitor's API."""

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None) -> None:
        """Raises ValueError where the address or the token cannot be one."""
        self._url, self._token = url.rstrip("/"), token
        try:
            host = urlsplit(url).hostname if url.startswith(("http://", "https://")) else None
        except ValueError:
            host = None
        if not host or "@" in urlsplit(url).netloc or not url.isprintable() or " " in url:
            raise ValueError(f"expected an address such as {DEFAULT_URL}, without a user in it")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ValueError("the token holds characters that no token has")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if _is_here(host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """The JSON document at `path`; parameters that are None are left out. Raises ApiError."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", path + (f"?{urlencode(given)}" if given else ""), None)

    def post(self, path: str, body: object) -> dict[str, Any]:
        """The answer to the JSON document `body`. Raises ApiError."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, data=body, method=method)  # noqa: S310  # http or https, see above
        request.add_header("Accept", "application/json")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self._token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=PATIENCE_S) as answer:
                return self._document(answer.read(LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(LARGEST_ANSWER)) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error, acts=body is not None) from None

    def _document(self, content: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError:
            raise ApiError(f"{self._url} did not answer as a monitor does: is it one?") from None

    def _refused(self, status: int, content: bytes) -> ApiError:
        if 300 <= status < 400:
            return ApiError(
                f"{self._url} redirects: it may be a login page; give the monitor's own address"
                " (ABMONITOR_URL)",
                status,
            )
        try:
            document = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError:
            document = {}
        told = document.get("error")
        return ApiError(
            told if isinstance(told, str) else f"{self._url} answered with status {status}",
            status,
            document,
        )

    def _unreachable(self, error: Exception, *, acts: bool) -> ApiError:
        why = getattr(error, "reason", error)
        if isinstance(why, TimeoutError):
            unsure = (
                "; it may have been done all the same: look at `abmonitor status`" if acts else ""
            )
            return ApiError(f"{self._url} did not answer within {PATIENCE_S:g} s{unsure}")
        if isinstance(why, ConnectionRefusedError):
            return ApiError(
                f"nothing listens at {self._url}: is the monitor running (`abmonitor monitor`)?"
                " Another address goes into --url or ABMONITOR_URL"
            )
        told = getattr(why, "strerror", None) or str(why) or type(why).__name__
        return ApiError(f"cannot reach {self._url}: {told}")


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _is_here(host: str) -> bool:
    """Whether an address is this machine's own, to which no proxy leads."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
