"""Touches HTTP and the clock: asks whoever moves the traffic to act, by one signed POST per order.

The body is a CloudEvents 1.0 document in structured mode with the order as its data, signed as
Standard Webhooks 1.0 describes (`alerts.actuators.signing`). What receivers can rely on:

- Every attempt of an order has the same `webhook-id`, `Idempotency-Key` and body; only
  `webhook-timestamp` and the signature change. A receiver that has the order already answers 2xx.
- Dry runs have the type `dev.abmonitor.dryrun.v1` instead of `dev.abmonitor.rollback.v1`, the
  attribute `dryrun`, the header `abmonitor-dry-run` and `dry_run` in the data.
- The status alone is the answer. The body is not read, so it can neither stall, fill the memory nor
  put what it echoes into a log.
"""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Meta
from yarl import URL

from alerts.actuators import signing
from alerts.actuators.log import order_json
from alerts.actuators.patience import retry_after
from alerts.order import Order, Receipt, Verification


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

DRY_RUN_TYPE = "dev.abmonitor.dryrun.v1"
MAX_TIMEOUT = 60.0
_TRANSIENT = frozenset({408, 425, 429})
_CONFLICT = 409
_BUFFER = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset(
    {
        "abmonitor-dry-run",
        "content-length",
        "content-type",
        "idempotency-key",
        "transfer-encoding",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where orders go, and how they prove where they come from.

    `secret` is `whsec_` and base64 as Standard Webhooks writes it, or any text; without one, orders
    are not signed. `timeout` is in seconds and bounds the whole attempt. `headers` are sent along.
    Representations show neither secrets nor anything of `url` behind the host: paths hold tokens too.
    """

    url: str
    secret: str | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT)] = 5.0
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"WebhookOptions({fields})"

    # msgspec writes one that shows every field, and rich prefers it to __repr__.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [
            ("url", self.origin),
            ("secret", None if self.secret is None else "***"),
            ("timeout", self.timeout),
            ("headers", dict.fromkeys(self.headers, "***")),
        ]

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown of the address."""
        try:
            return str(URL(self.url).origin())
        except (ValueError, TypeError):
            return "(not an address)"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options, without quoting what may be secret."""
        yield from self._url_problems()
        # To aiohttp a time-out of 0 is none at all.
        if not 0 < self.timeout <= MAX_TIMEOUT:
            yield (
                "timeout",
                f"expected over 0 and at most {MAX_TIMEOUT:g} seconds, got {self.timeout}",
            )
        if self.secret is not None:
            try:
                signing.key(self.secret)
            except ValueError as error:
                yield "secret", str(error)
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name):
                yield "headers", f"{name!r} is not the name of a header"
            elif name.lower() in _OWN_HEADERS:
                yield "headers", f"{name} is set by the webhook itself"
            elif _CONTROL.search(value):
                yield (
                    "headers",
                    f"the value of {name} holds a control character, such as a line end",
                )

    def _url_problems(self) -> Iterator[Problem]:
        expected = "expected an http:// or https:// address with a host"
        try:
            url = URL(self.url)
        except (ValueError, TypeError):
            yield "url", expected
            return
        if url.scheme not in ("http", "https") or not url.host or re.search(r"\s", self.url):
            yield "url", expected
        elif url.raw_user is not None and "authorization" in map(str.lower, self.headers):
            yield "url", "has a user while headers have Authorization; give one of them"


def document(order: Order) -> bytes:
    """Write the order as a CloudEvents 1.0 document (JSON format); equal for every attempt.

    `dryrun` is an extension attribute. `time` is when the order was decided.
    """
    kind = DRY_RUN_TYPE if order.dry_run else f"dev.abmonitor.{order.action}.v1"
    decided = _EPOCH + timedelta(milliseconds=order.decided_at)
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": order.id,
            "source": f"/abmonitor/{quote(order.experiment, safe='')}",
            "type": kind,
            "time": decided.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "subject": order.treatment,
            "datacontenttype": "application/json",
            "dryrun": order.dry_run,
            "data": msgspec.Raw(order_json(order)),
        }
    )


def _session() -> aiohttp.ClientSession:
    # Orders are rare: a connection kept since the last one would mostly be found dead.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
    )


class Webhook:
    """Posts orders to one address.

    How answers are read: 2xx accepted; 408, 425, 429, 5xx, time-outs and failed connections may pass
    (`Retry-After` is honoured); other 4xx and 3xx will not (redirects are not followed: a signed
    order goes where the settings say). A 409 is accepted only if its `webhook-id` or
    `Idempotency-Key` names this order; else it may speak of another deployment that is under way, or
    of this order's first attempt still being worked on, and is tried again.

    `session` makes the client when first needed and may add proxies or certificates; `clock` gives
    seconds since 1970. Raises ValueError, without secrets, for options that cannot work.
    """

    def __init__(
        self,
        options: WebhookOptions,
        *,
        session: Callable[[], aiohttp.ClientSession] = _session,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if problems := list(options.problems()):
            raise ValueError("webhook: " + "; ".join(f"{name}: {text}" for name, text in problems))
        self._options = options
        self._new_session = session
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Webhook({self._options.origin})"

    async def apply(self, order: Order) -> Receipt:
        """Post the order once. Never raises, except that cancelling the task cancels the attempt."""
        if self._closed:
            return Receipt(accepted=False, detail="the webhook is closed", retry=True)
        try:
            return await self._post(order)
        except TimeoutError:
            why = f"no answer within {self._options.timeout:g} s"
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever a session does
            # Names of types only: messages of aiohttp quote whole addresses.
            cause = getattr(error, "os_error", None)
            why = type(error).__name__ + (f" ({type(cause).__name__})" if cause else "")
        # Unknown errors too: giving up on a rollback is worse than trying once too often.
        return Receipt(accepted=False, detail=f"POST {self._options.origin}: {why}", retry=True)

    async def _post(self, order: Order) -> Receipt:
        body = document(order)
        if self._session is None:
            self._session = self._new_session()
        async with self._session.post(
            self._options.url,
            data=body,
            headers=self._headers(order, body),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            allow_redirects=False,
            # Leaving the block closes the connection: at most a buffer of the body is ever taken in.
            read_bufsize=_BUFFER,
            auto_decompress=False,
        ) as response:
            return self._receipt(order, response)

    def _headers(self, order: Order, body: bytes) -> dict[str, str]:
        message, timestamp = signing.message_id(order.id), int(self._clock())
        # Lower case throughout, so that a name given in the settings replaces and never doubles.
        headers = {"user-agent": "abmonitor"}
        headers |= {name.lower(): value for name, value in self._options.headers.items()}
        headers |= {
            "content-type": "application/cloudevents+json",
            "idempotency-key": message,
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
        }
        if order.dry_run:
            headers["abmonitor-dry-run"] = "true"
        if self._options.secret is not None:
            signature = signing.sign(self._options.secret, message, timestamp, body)
            headers["webhook-signature"] = signature
        return headers

    def _receipt(self, order: Order, response: aiohttp.ClientResponse) -> Receipt:
        status, headers = response.status, response.headers
        detail = f"POST {self._options.origin} answered {status}"
        if 200 <= status < 300:
            return Receipt(accepted=True, detail=detail)
        if status == _CONFLICT:
            named = {headers.get("webhook-id"), headers.get("idempotency-key", "").strip('"')}
            if signing.message_id(order.id) in named:
                return Receipt(accepted=True, detail=f"{detail}: has the order already")
        if status in _TRANSIENT or status == _CONFLICT or status >= 500:
            wait = retry_after(headers.get("retry-after"), self._clock())
            return Receipt(accepted=False, detail=detail, retry=True, retry_after=wait)
        return Receipt(accepted=False, detail=detail)

    async def verify(self, order: Order) -> Verification:  # noqa: ARG002 - the protocol's argument
        """Answer that this is unsupported: a webhook has nothing to read back."""
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        """Close the connections; later orders are not accepted."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
