import pytest

from alerts.actuators.readback import (
    MissingPlaceError,
    NotJsonError,
    Scalar,
    at,
    differences,
    equal,
)


DOCUMENT = {"a": {"b/c": {"~": [10, {"on": False}]}}, "": 1, "n": None}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", DOCUMENT),
        ("/", 1),
        ("/a/b~1c/~0/0", 10),
        ("/a/b~1c/~0/1/on", False),
        ("/n", None),
    ],
)
def test_a_pointer_names_a_place(pointer: str, found: object) -> None:
    assert at(DOCUMENT, pointer) == found


@pytest.mark.parametrize(
    "pointer", ["/x", "/a/b/c", "/a/b~1c/~0/2", "/a/b~1c/~0/-1", "/a/b~1c/~0/01", "/n/x", "//"]
)
def test_a_place_that_is_not_there_is_missing(pointer: str) -> None:
    with pytest.raises(MissingPlaceError):
        at(DOCUMENT, pointer)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (False, False, True),
        (False, 0, False),
        (0, False, False),
        (True, 1, False),
        (None, False, False),
        (None, None, True),
        (None, "", False),
        ("false", False, True),
        ("3", 3, True),
        (3, "3", True),
        (3.0, 3, True),
        ("3", "3", True),
        ("03", 3, False),
        ("", 0, False),
        ([], "[]", False),
        ({}, None, False),
        ([False], False, False),
    ],
)
def test_values_are_the_same_or_spell_the_same(
    found: object, expected: str | float | bool | None, same: bool
) -> None:
    assert equal(found, expected) is same


def test_all_places_that_differ_are_named() -> None:
    expect: dict[str, Scalar] = {"/a": 1, "/b": False, "/c": "x"}
    assert differences(b'{"a": 1, "b": true}', expect) == ["/b", "/c"]
    assert differences(b'{"a": 1, "b": false, "c": "x", "d": 0}', expect) == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff", b"[" * 100_000, b"{} {}"])
def test_what_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(NotJsonError):
        differences(body, {"/a": 1})
