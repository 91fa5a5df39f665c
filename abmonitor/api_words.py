"""What was wrong with a request, in the words of its fields and not of the library that read it. Pure."""

import re
from typing import Any

import msgspec
from msgspec import inspect


_AT = re.compile(r" - at `\$\.(\w+)`$")
_FIELD = re.compile(r"field `(.*)`$", re.DOTALL)
_LONGEST = 80
"""Characters of what was sent that are repeated."""


def wrong_field(error: msgspec.ValidationError, kind: type) -> str:
    """What `error` says of a request of type `kind`, naming the field and what is expected."""
    told, fields = str(error), {each.name: each.type for each in _fields(kind)}
    if found := _AT.search(told):
        return f"{found[1]}: expected {expected(fields[found[1]])}"
    if found := _FIELD.search(told):
        name = found[1][:_LONGEST]
        return f"{name} is missing" if name in fields else f"unknown field {name!r}"
    return "expected one JSON object"


def expected(kind: inspect.Type) -> str:
    """What a value of `kind` is, in words."""
    told = "another value"
    match kind:
        case inspect.Metadata():
            told = expected(kind.type)
        case inspect.UnionType():
            some = (each for each in kind.types if not isinstance(each, inspect.NoneType))
            told = " or ".join(map(expected, some))
        case inspect.StrType():
            told = _text(kind)
        case inspect.IntType() if kind.ge is not None and kind.le is not None:
            told = f"a whole number from {kind.ge:,} to {kind.le:,}"
        case inspect.BoolType():
            told = "true or false"
        case inspect.LiteralType():
            told = f"one of {', '.join(map(str, kind.values))}"
    return told


def _text(kind: inspect.StrType) -> str:
    if kind.max_length is not None:
        seen = ", not only blanks" if kind.pattern == r"\S" else ""
        return f"{kind.min_length or 0} to {kind.max_length} characters{seen}"
    return (
        "text"
        if kind.pattern is None
        else "a name: 1 to 64 letters, digits, dots, dashes or underscores"
    )


def _fields(kind: type) -> tuple[Any, ...]:
    found = inspect.type_info(kind)
    return found.fields if isinstance(found, inspect.StructType) else ()
