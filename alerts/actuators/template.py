"""Texts with `{placeholders}` for what an order says: pure, and safe wherever a value may stand.

The whole syntax: `{name}` is replaced, `{{name}}` gives `{name}`. JSON needs no other escaping, because
there a brace is never followed by a bare word. Values are escaped for where they stand: in a JSON
string as its characters, elsewhere in JSON as a whole value (text with its quotes), in an address and
in a form percent-encoded, in plain text without control characters. So no name or reason can end a string,
add a field or leave its part of a path.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from urllib.parse import quote

from alerts.actuators.cloudevent import moment
from alerts.order import Order


Value = str | int | float | None
"""None: this order cannot tell."""

TEXTS = (
    "action",
    "control",
    "decided_at",
    "decision",
    "experiment",
    "reason",
    "treatment",
    "version",
)
NUMBERS = ("decided_at_ms", "epoch")
SHARE = "share."

# Braces around a quote, a colon, another brace or nothing are JSON's own.
_WORDS = r"""[^{}":,\[\]\n]+"""
_PLACE = re.compile(
    rf"""\{{\{{(?P<literal>{_WORDS})\}}\}}|\{{(?=\s*[^\s{{}}":,\[\]])(?P<name>{_WORDS})\}}"""
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DOTS = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)


class TemplateError(Exception):
    """An order does not have what a template needs; names the placeholder, never a secret."""


class Kind(StrEnum):
    """What a text is, and so how values have to be escaped in it."""

    JSON = "json"
    FORM = "form"
    TEXT = "text"
    ADDRESS = "address"


def kind_of(content_type: str) -> Kind | None:
    """How to escape values in a body of this media type; None where that is not known."""
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json"):
        return Kind.JSON
    return {"application/x-www-form-urlencoded": Kind.FORM, "text/plain": Kind.TEXT}.get(media)


def has_places(text: str) -> bool:
    """Whether anything in the text is replaced."""
    return _PLACE.search(text) is not None


def values(order: Order) -> dict[str, Value]:
    """What placeholders stand for, but those of shares.

    `version` are the treatment's versions that were seen lately, with commas between, and may be empty.
    `decision` is the order's id; `reason` joins the reasons with `; `.
    """
    try:
        decided: str | None = moment(order.decided_at)
    except OverflowError:
        decided = None
    return {
        "action": order.action,
        "control": order.control,
        "decided_at": decided,
        "decided_at_ms": order.decided_at,
        "decision": order.id,
        "epoch": order.epoch,
        "experiment": order.experiment,
        "reason": "; ".join(order.reasons),
        "treatment": order.treatment,
        "version": ",".join(order.versions),
    }


def render(text: str, kind: Kind, order: Order) -> str:
    """Fill in the text; equal for every attempt of an order.

    Raises TemplateError where the order does not know a value, or where an address would lead to another
    place: because a value is empty, or makes a part of the path `.` or `..`.
    """
    known: Mapping[str, Value] = values(order)
    parts, end, quoted = list[str](), 0, False
    for place in _PLACE.finditer(text):
        before = text[end : place.start()]
        parts.append(before)
        quoted = kind is Kind.JSON and _quoted_after(before, quoted)
        if (name := place["name"]) is None:
            parts.append(f"{{{place['literal']}}}")
        else:
            value = _value(name, known, order)
            if value == "" and kind is Kind.ADDRESS:
                raise TemplateError(
                    f"{{{name}}} is empty, so that the address would be another one"
                )
            parts.append(_escaped(value, kind, quoted=quoted))
        end = place.end()
    rendered = "".join([*parts, text[end:]])
    if kind is Kind.ADDRESS and end and _climbs(rendered):
        raise TemplateError("a part of the path would be . or .., which is another place")
    return rendered


def problems(text: str, kind: Kind, variants: Collection[str] | None = None) -> Iterator[str]:
    """Everything that is wrong with a text, each with line and column.

    `variants` are those of the experiment, for `{share.<variant>}`; None where they are not known.
    JSON is tried out with stand-ins as long as the placeholders, so that positions are right.
    """
    wrong = False
    for place in _PLACE.finditer(text):
        name = place["name"]
        if name is None or _is_known(name, variants):
            continue
        wrong = True
        yield f"{_position(text, place.start())}: unknown placeholder {{{name}}}; {_expected(variants)}"
    if kind is Kind.JSON and not wrong:
        try:
            # As text, what is glued to a value shows (-{epoch}); as numbers, what cannot be a key does.
            for numbers in (False, True):
                json.loads(_tried(text, numbers=numbers), parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            yield f"{_position(text, error.pos)}: not JSON: {error.msg}"
        except (ValueError, RecursionError) as error:
            yield f"not JSON: {error}"


def address_problems(address: str, variants: Collection[str] | None = None) -> Iterator[str]:
    """The same for an address, which may hold secrets: nothing of it is quoted but placeholders."""
    for place in _PLACE.finditer(address):
        name = place["name"]
        where = f"character {place.start() + 1}"
        if name is None:
            yield f"{where}: an address cannot hold braces; write %7B and %7D"
        elif not _is_known(name, variants):
            yield f"{where}: unknown placeholder; {_expected(variants)}"
        elif "/" not in address[: place.start()].partition("//")[2]:
            # Or an experiment's name could send orders to somebody else.
            yield f"{where}: placeholders may stand in the path and behind it, not in the host"
    if has_places(address) and _climbs(address):
        yield "a part of the path is . or .., which is another place"


def _is_known(name: str, variants: Collection[str] | None) -> bool:
    if name.startswith(SHARE):
        return variants is None or name.removeprefix(SHARE) in variants
    return name in TEXTS or name in NUMBERS


def _expected(variants: Collection[str] | None) -> str:
    shares = (
        [f"{SHARE}<variant>"] if variants is None else [SHARE + name for name in sorted(variants)]
    )
    names = ", ".join(f"{{{name}}}" for name in [*sorted((*TEXTS, *NUMBERS)), *shares])
    return f"expected one of {names}; {{{{…}}}} is a word in braces as it stands"


def _value(name: str, known: Mapping[str, Value], order: Order) -> str | int | float:
    if name.startswith(SHARE):
        share = order.split.get(name.removeprefix(SHARE))
        if share is None or not math.isfinite(share):
            raise TemplateError(f"the order does not say {{{name}}}: its split is not known")
        # Shares are sums of floats: 0.30000000000000004 is 0.3, and a whole one needs no point.
        share = round(float(share), 9)
        return int(share) if share.is_integer() else share
    value = known.get(name)
    if value is None:
        raise TemplateError(f"the order does not say {{{name}}}")
    return value


def _escaped(value: str | float, kind: Kind, *, quoted: bool) -> str:
    if isinstance(value, str):
        # Half a pair of UTF-16 has no UTF-8; no part of an order that was read has any.
        value = _SURROGATE.sub("\ufffd", value)
    if kind is Kind.JSON:
        if quoted:
            return json.dumps(str(value), ensure_ascii=False)[1:-1]
        return json.dumps(value, ensure_ascii=False)
    if kind is Kind.TEXT:
        return _CONTROL.sub(" ", str(value))
    return quote(str(value), safe="")


def _quoted_after(text: str, quoted: bool) -> bool:
    """Whether a JSON string is open behind `text`; `quoted`: before it."""
    skip = False
    for character in text:
        if skip:
            skip = False
        elif character == "\\" and quoted:
            skip = True
        elif character == '"':
            quoted = not quoted
    return quoted


def _tried(text: str, *, numbers: bool) -> str:
    """The text with a stand-in of the same length for each placeholder."""
    parts, end, quoted = list[str](), 0, False
    for place in _PLACE.finditer(text):
        before = text[end : place.start()]
        quoted = _quoted_after(before, quoted)
        length, name = len(place.group()), place["name"]
        parts.append(before)
        if quoted or name is None:
            parts.append("x" * length)
        elif numbers and (name in NUMBERS or name.startswith(SHARE)):
            parts.append("1" * length)
        else:
            parts.append(f'"{"x" * (length - 2)}"')
        end = place.end()
    return "".join([*parts, text[end:]])


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _climbs(address: str) -> bool:
    path = re.split(r"[?#]", address.partition("//")[2], maxsplit=1)[0]
    return any(_DOTS.fullmatch(part) for part in path.split("/")[1:])


def _position(text: str, offset: int) -> str:
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - before.rfind(chr(10))}"
