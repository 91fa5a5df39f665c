"""CloudEvents 1.0 as the Kafka binding has them: what stands around an event's data. Pure.

In binary mode the record's value is the data and its headers are the attributes (`ce_id`, `ce_type`, ...).
In structured mode the value is a JSON envelope; its attributes are given here as binary mode has them, so
that nothing else needs to know of the modes. https://github.com/cloudevents/spec (kafka-protocol-binding.md)
"""

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from stream.batch import Headers
from stream.events import Rejected


_FAMILY = "application/cloudevents"
_STRUCTURED = "application/cloudevents+json"
_MARK = b'"specversion"'

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_base64 = msgspec.json.Decoder(bytes).decode
_Zoned = Annotated[datetime, Meta(tz=True)]


class Content(NamedTuple):
    """What a CloudEvent says."""

    data: bytes
    headers: Headers
    """The record's headers, and the attributes of the envelope as `ce_` headers."""

    @property
    def kind(self) -> str:
        """The last dotted segment of the event's type, empty where it has none."""
        return self._text("ce_type").rpartition(".")[2]

    def time(self) -> datetime | None:
        """When the envelope says that it happened; raises msgspec.ValidationError where that is no time."""
        text = self._text("ce_time")
        if not text:
            return None
        try:
            return msgspec.convert(text, _Zoned)
        except msgspec.ValidationError:
            raise msgspec.ValidationError(
                f"`ce_time` is {text!r}, out of range: expected RFC3339 with a zone"
            ) from None

    def _text(self, name: str) -> str:
        return (self.headers.get(name) or b"").decode("utf-8", "replace")


def may_be_declared(headers: Headers) -> bool:
    """Whether headers can say that a record is a CloudEvent; quick, and right where it says no."""
    return "ce_specversion" in headers or "content-type" in headers or "Content-Type" in headers


def opened(value: bytes, headers: Headers) -> Content | Rejected | None:
    """The content of a record that is a CloudEvent, why it cannot be used, or None where it is none.

    Raises what msgspec raises where an envelope is no JSON.
    """
    if may_be_declared(headers):
        kind = _media_type(headers)
        if kind.startswith(_FAMILY):
            return _declared(kind, value, headers)
        if headers.get("ce_specversion"):
            return Content(value, headers)
    return _structured(value, headers, declared=False) if _MARK in value else None


def _declared(kind: str, value: bytes, headers: Headers) -> Content | Rejected:
    """The content of a record that is said to be an envelope."""
    if kind != _STRUCTURED:
        return Rejected("unsupported_content", _unsupported(kind))
    missing = Rejected("missing_field", "the CloudEvent has neither `data` nor `data_base64`")
    return _structured(value, headers) or missing


def _media_type(headers: Headers) -> str:
    """What the record is said to be, without parameters."""
    given = headers.get("content-type") or headers.get("Content-Type") or b""
    return given.decode("utf-8", "replace").partition(";")[0].strip().lower()


def _unsupported(kind: str) -> str:
    if kind.startswith(f"{_FAMILY}-batch"):
        return (
            f"the content-type is {kind}, and Kafka has no binding for batches of CloudEvents;"
            " send each of them as a record of its own"
        )
    return f"the content-type is {kind}; of CloudEvents only the JSON format is understood"


def _structured(value: bytes, headers: Headers, *, declared: bool = True) -> Content | None:
    """The content of a JSON envelope, None where there is no envelope with data."""
    try:
        members = _members(value)
    except msgspec.ValidationError:  # not an object
        if declared:
            raise
        return None
    if not declared and not _is_text(members.get("specversion")):
        return None
    data = members.pop("data", None)
    encoded = members.pop("data_base64", None)
    if data is None and encoded is None:
        return None
    attributes = {
        "content-type" if name == "datacontenttype" else f"ce_{name}": text
        for name, member in members.items()
        if (text := _attribute(member)) is not None
    }
    kept = {name: text for name, text in headers.items() if name.lower() != "content-type"}
    content = _base64(encoded) if data is None and encoded is not None else bytes(data or b"")
    return Content(content, kept | attributes)


def _is_text(member: msgspec.Raw | None) -> bool:
    return member is not None and bytes(member).startswith(b'"')


def _attribute(member: msgspec.Raw) -> bytes | None:
    """The text of an attribute, None for what cannot be one."""
    found = msgspec.json.decode(member)
    if isinstance(found, str):
        return found.encode()
    return bytes(member) if isinstance(found, bool | int | float) else None
