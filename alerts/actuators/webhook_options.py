"""What a webhook is told: where orders go, in which form, and how to see that they took effect. Pure."""

import re
from collections.abc import Collection, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from yarl import URL

from alerts.actuators import readback, signing, template
from alerts.actuators.readback import Scalar
from alerts.actuators.template import Kind


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

MAX_TIMEOUT = 60.0
MAX_BODY = 64 << 10
"""Characters of a template."""

JSON_TYPE = "application/json"
Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Status = Annotated[int, Meta(ge=200, le=499)]
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset(
    {
        "abmonitor-dry-run",
        "content-length",
        "idempotency-key",
        "transfer-encoding",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)


class ReadBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the receiver tells how things are, and what it says once an order took effect.

    `url` may have placeholders and is asked with GET and the webhook's own headers. `expect` maps JSON
    Pointers (RFC 6901) to plain values, of which text may have placeholders too.
    """

    url: str
    expect: Annotated[dict[str, Scalar], Meta(min_length=1)]

    def __repr__(self) -> str:
        return f"ReadBack(url={origin(self.url)!r}, expect={self.expect!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("url", origin(self.url)), ("expect", self.expect)]

    def problems(self, variants: Collection[str] | None = None) -> Iterator[str]:
        """Everything that is wrong with it, without quoting the address."""
        for text in _address_problems(self.url, variants):
            yield f"url: {text}"
        if not self.expect:
            yield "expect: expected at least one place, such as {/enabled: false}"
        for pointer, value in self.expect.items():
            if not readback.is_pointer(pointer):
                yield (
                    f"expect: {pointer!r} is no JSON Pointer; expected one such as"
                    " /environments/production/on"
                )
            if isinstance(value, str):
                for text in template.problems(value, Kind.TEXT, variants):
                    yield f"expect: {pointer}: {text}"


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where orders go, in which form, and how they prove where they come from.

    Without `body` the order is posted as a CloudEvents document, which also tells dry runs. With one,
    its placeholders (`alerts.actuators.template`) are filled in, for receivers that have an interface of
    their own; `""` sends none. `headers` are sent along; `content-type` among them, default JSON, says how
    values are escaped in the body. `success` are the statuses that mean done, default every 2xx.

    `secret` is `whsec_` and base64 as Standard Webhooks writes it, or any text; without one, orders
    are not signed. `timeout` is in seconds and bounds the whole attempt. Representations show neither
    secrets nor anything of an address behind the host: paths hold tokens too.
    """

    url: str
    method: Method = "POST"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Annotated[str, Meta(max_length=MAX_BODY)] | None = None
    success: tuple[Status, ...] = ()
    verify: ReadBack | None = None
    secret: str | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT)] = 5.0

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"WebhookOptions({fields})"

    # msgspec writes one that shows every field, and rich prefers it to __repr__.
    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [
            ("url", self.origin),
            ("method", self.method),
            ("headers", dict.fromkeys(self.headers, "***")),
            ("body", self.body),
            ("success", self.success),
            ("verify", self.verify),
            ("secret", None if self.secret is None else "***"),
            ("timeout", self.timeout),
        ]

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown of the address."""
        return origin(self.url)

    @property
    def content_type(self) -> str | None:
        """Of the body; None where nothing is said because there is none."""
        given = {name.lower(): value for name, value in self.headers.items()}
        return given.get("content-type", JSON_TYPE if self.body else None)

    @property
    def kind(self) -> Kind:
        """How values are escaped in the body. `problems` tells where that cannot be known."""
        return template.kind_of(self.content_type or JSON_TYPE) or Kind.TEXT

    def problems(self, variants: Collection[str] | None = None) -> Iterator[Problem]:
        """Everything that is wrong with these options, without quoting what may be secret.

        `variants` are those of the experiment, where they are known: for `{share.<variant>}`.
        """
        for text in _address_problems(self.url, variants):
            yield "url", text
        if _has_user(self.url) and "authorization" in map(str.lower, self.headers):
            yield "url", "has a user while headers have Authorization; give one of them"
        # To aiohttp a time-out of 0 is none at all.
        if not 0 < self.timeout <= MAX_TIMEOUT:
            text = f"expected over 0 and at most {MAX_TIMEOUT:g} seconds, got {self.timeout}"
            yield "timeout", text
        if self.secret is not None:
            try:
                signing.key(self.secret)
            except ValueError as error:
                yield "secret", str(error)
        yield from self._header_problems()
        yield from self._body_problems(variants)
        if self.verify is not None:
            for text in self.verify.problems(variants):
                yield "verify", text

    def _header_problems(self) -> Iterator[Problem]:
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name):
                yield "headers", f"{name!r} is not the name of a header"
            elif name.lower() in _OWN_HEADERS:
                yield "headers", f"{name} is set by the webhook itself"
            elif name.lower() == "content-type" and self.body is None:
                text = f"{name} is set by the webhook itself, unless there is a body"
                yield "headers", text
            elif _CONTROL.search(value):
                text = f"the value of {name} holds a control character, such as a line end"
                yield "headers", text

    def _body_problems(self, variants: Collection[str] | None) -> Iterator[Problem]:
        if self.body is None:
            if self.method != "POST":
                text = (
                    f"{self.method} needs a body, or body: '' for none; only POST sends CloudEvents"
                )
                yield "method", text
        elif self.body:
            kind = template.kind_of(self.content_type or JSON_TYPE)
            if kind is not None:
                for text in template.problems(self.body, kind, variants):
                    yield "body", text
            elif template.has_places(self.body):
                text = (
                    "content-type: expected application/json, one that ends with +json,"
                    " application/x-www-form-urlencoded or text/plain, where the body has placeholders:"
                    " for others it is not known how to escape values"
                )
                yield "headers", text


def origin(url: str) -> str:
    """Scheme, host and port: what may be shown of an address."""
    try:
        return str(URL(url).origin())
    except (ValueError, TypeError):
        return "(not an address)"


def _address_problems(address: str, variants: Collection[str] | None) -> Iterator[str]:
    expected = "expected an http:// or https:// address with a host"
    # First, because braces in a host are no address either.
    if found := list(template.address_problems(address, variants)):
        yield from found
        return
    try:
        url = URL(address)
    except (ValueError, TypeError):
        yield expected
        return
    if url.scheme not in ("http", "https") or not url.host or re.search(r"\s", address):
        yield expected


def _has_user(address: str) -> bool:
    try:
        return URL(address).raw_user is not None
    except (ValueError, TypeError):
        return False
