"""Touches HTTP and the clock: asks whoever moves the traffic to act, by one signed request per order.

Without a template the request is a POST of a CloudEvents 1.0 document in structured mode with the order as
its data (`alerts.actuators.cloudevent`); with one, it is whatever the receiver's own interface takes. It is
signed as Standard Webhooks 1.0 describes (`alerts.actuators.signing`). What receivers can rely on:

- Every attempt of an order has the same `webhook-id`, `Idempotency-Key` and body; only
  `webhook-timestamp` and the signature change. A receiver that has the order already answers 2xx.
- Dry runs have the type `dev.abmonitor.dryrun.v1` instead of `dev.abmonitor.rollback.v1`, the
  attribute `dryrun`, the header `abmonitor-dry-run` and `dry_run` in the data. Those of a template, which
  a receiver would take for orders, are not sent.
- The status alone is the answer. The body is not read, so it can neither stall, fill the memory nor
  put what it echoes into a log.
"""

import logging
import time
from collections.abc import Callable

import aiohttp

from alerts.actuators import signing, template
from alerts.actuators.cloudevent import CONTENT_TYPE, document
from alerts.actuators.patience import retry_after
from alerts.actuators.readback import NotJsonError, differences
from alerts.actuators.template import Kind, TemplateError
from alerts.actuators.webhook_options import ReadBack, WebhookOptions, origin
from alerts.order import Order, Receipt, Verification


__all__ = ["Webhook", "WebhookOptions", "document"]

MAX_ANSWER = 1 << 20
"""Bytes of an answer that are read back at most."""

_TRANSIENT = frozenset({408, 409, 425, 429})
_CONFLICT = 409
_BUFFER = 4096

_log = logging.getLogger(__name__)


def _session() -> aiohttp.ClientSession:
    # Orders are rare: a connection kept since the last one would mostly be found dead.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
    )


class Webhook:
    """Sends orders to one address, and reads back whether they took effect where that can be read.

    How answers are read: 2xx accepted, or where the options list what success is, that alone; 408, 425,
    429, 5xx, time-outs and failed connections may pass (`Retry-After` is honoured); everything else will
    not (redirects are not followed: a signed order goes where the settings say). A 409 is accepted
    only if its `webhook-id` or `Idempotency-Key` names this order; else it may speak of another deployment
    that is under way, or of this order's first attempt still being worked on, and is tried again.

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
        self._said = ""

    def __repr__(self) -> str:
        return f"Webhook({self._options.origin})"

    async def apply(self, order: Order) -> Receipt:
        """Send the order once. Never raises, except that cancelling the task cancels the attempt."""
        if self._closed:
            return Receipt(accepted=False, detail="the webhook is closed", retry=True)
        told = f"{self._options.method} {self._options.origin}"
        try:
            return await self._send(order, told)
        except TemplateError as error:
            return Receipt(accepted=False, detail=f"{told}: {error}")
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever a session does
            # Unknown errors too: giving up on a rollback is worse than trying once too often.
            return Receipt(accepted=False, detail=f"{told}: {self._why(error)}", retry=True)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._options.timeout:g} s"
        # Names of types only: messages of aiohttp quote whole addresses.
        cause = getattr(error, "os_error", None)
        return type(error).__name__ + (f" ({type(cause).__name__})" if cause else "")

    async def _send(self, order: Order, told: str) -> Receipt:
        options = self._options
        url = template.render(options.url, Kind.ADDRESS, order)
        if options.body is None:
            body = document(order)
        else:
            body = template.render(options.body, options.kind, order).encode()
            if order.dry_run:
                return Receipt(accepted=True, detail=f"dry run: {told} is ready and was not sent")
        async with self._client().request(
            options.method,
            url,
            data=body or None,
            headers=self._headers(order, body),
            skip_auto_headers=("content-type",),
            timeout=aiohttp.ClientTimeout(total=options.timeout),
            allow_redirects=False,
            # Leaving the block closes the connection: at most a buffer of the body is ever taken in.
            read_bufsize=_BUFFER,
            auto_decompress=False,
        ) as response:
            return self._receipt(order, response, told)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def _given(self) -> dict[str, str]:
        # Lower case throughout, so that a name given in the settings replaces and never doubles.
        given = {name.lower(): value for name, value in self._options.headers.items()}
        return {"user-agent": "abmonitor"} | given

    def _headers(self, order: Order, body: bytes) -> dict[str, str]:
        message, timestamp = signing.message_id(order.id), int(self._clock())
        headers = self._given() | {
            "idempotency-key": message,
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
        }
        kind = CONTENT_TYPE if self._options.body is None else self._options.content_type
        if kind is not None:
            headers["content-type"] = kind
        if order.dry_run:
            headers["abmonitor-dry-run"] = "true"
        if self._options.secret is not None:
            signature = signing.sign(self._options.secret, message, timestamp, body)
            headers["webhook-signature"] = signature
        return headers

    def _receipt(self, order: Order, response: aiohttp.ClientResponse, told: str) -> Receipt:
        status, headers, success = response.status, response.headers, self._options.success
        detail = f"{told} answered {status}"
        if status in success or (not success and 200 <= status < 300):
            return Receipt(accepted=True, detail=detail)
        if status == _CONFLICT:
            named = {headers.get("webhook-id"), headers.get("idempotency-key", "").strip('"')}
            if signing.message_id(order.id) in named:
                return Receipt(accepted=True, detail=f"{detail}: has the order already")
        if _may_pass(status):
            wait = retry_after(headers.get("retry-after"), self._clock())
            return Receipt(accepted=False, detail=detail, retry=True, retry_after=wait)
        if 200 <= status < 300:
            detail += f"; success is {', '.join(map(str, success))}"
        return Receipt(accepted=False, detail=detail)

    async def verify(self, order: Order) -> Verification:
        """Read back whether the receiver is as it should be after the order. Never raises.

        Done: everything is as expected. Pending: something is not, or nobody answers. Failed: the receiver
        refuses to say, or its answer cannot be read. Unsupported: there is no read-back, or it was a
        dry run. Why it is not done goes to the log, once.
        """
        back = self._options.verify
        if back is None or order.dry_run:
            return Verification.UNSUPPORTED
        if self._closed:
            return Verification.PENDING
        try:
            found, why = await self._read_back(back, order)
        except TemplateError as error:
            found, why = Verification.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever a session does
            found, why = Verification.PENDING, self._why(error)
        if why and why != self._said:
            _log.warning(
                "order %s is not verified: GET %s: %s",
                signing.message_id(order.id),
                origin(back.url),
                why,
            )
        self._said = why
        return found

    async def _read_back(self, back: ReadBack, order: Order) -> tuple[Verification, str]:
        expect = {
            pointer: template.render(value, Kind.TEXT, order) if isinstance(value, str) else value
            for pointer, value in back.expect.items()
        }
        headers = {name: value for name, value in self._given().items() if name != "content-type"}
        # Unpacking could make a few bytes fill the memory.
        headers |= {"accept-encoding": "identity"} | (
            {} if "accept" in headers else {"accept": "application/json"}
        )
        async with self._client().get(
            template.render(back.url, Kind.ADDRESS, order),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            allow_redirects=False,
            auto_decompress=False,
        ) as response:
            if not 200 <= response.status < 300:
                passing = _may_pass(response.status)
                outcome = Verification.PENDING if passing else Verification.FAILED
                return outcome, f"answered {response.status}"
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    return Verification.FAILED, f"the answer has over {MAX_ANSWER:,} bytes"
        try:
            differing = differences(bytes(answer), expect)
        except NotJsonError as error:
            return Verification.FAILED, str(error)
        if differing:
            return Verification.PENDING, f"not yet as expected: {', '.join(differing)}"
        return Verification.DONE, ""

    async def close(self) -> None:
        """Close the connections; later orders are not accepted."""
        self._closed = True
        if self._session is not None:
            await self._session.close()


def _may_pass(status: int) -> bool:
    return status in _TRANSIENT or status >= 500
