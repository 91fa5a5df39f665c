"""What an answer in JSON says at a place, and whether that is what was expected: pure."""

import math
import re
from collections.abc import Mapping

import msgspec


Scalar = str | bool | int | float | None
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class MissingPlaceError(LookupError):
    """The answer has nothing at that place."""


class NotJsonError(ValueError):
    """The answer is no JSON."""


def is_pointer(text: str) -> bool:
    """Whether this is a JSON Pointer (RFC 6901), such as `/environments/production/on`.

    >>> is_pointer("/a~1b/0"), is_pointer("a/b"), is_pointer("/a~2")
    (True, False, False)
    """
    return _POINTER.fullmatch(text) is not None


def at(document: object, pointer: str) -> object:
    """What stands at a place. Raises MissingPlaceError.

    >>> at({"environments": [{"on": False}]}, "/environments/0/on")
    False
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and _INDEX.fullmatch(key) and int(key) < len(document):
            document = document[int(key)]
        else:
            raise MissingPlaceError(pointer)
    return document


def equal(found: object, expected: Scalar) -> bool:
    """Whether both are the same, or text that spells the same: many interfaces write `"3"` for 3.

    >>> equal("3", 3), equal(False, "false"), equal(0, False), equal(None, "null"), equal(1, 1.0)
    (True, True, False, False, True)
    """
    if isinstance(found, bool) or isinstance(expected, bool):
        return _spelled(found) == _spelled(expected) and found is not None
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return found == expected
    if found is None or expected is None:
        return found is expected
    return isinstance(found, str | int | float) and _spelled(found) == _spelled(expected)


def differences(body: bytes, expect: Mapping[str, Scalar]) -> list[str]:
    """The places of `expect`, keyed by pointer, that are missing or say something else.

    Raises NotJsonError. Nothing that the body says is repeated.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotJsonError("the answer is no JSON") from error
    return [pointer for pointer, wanted in expect.items() if not _is(document, pointer, wanted)]


def _is(document: object, pointer: str, wanted: Scalar) -> bool:
    try:
        return equal(at(document, pointer), wanted)
    except MissingPlaceError:
        return False


def _spelled(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None
