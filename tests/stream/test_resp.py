"""Commands packed at once are the same bytes as those packed field by field."""

from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from hypothesis import given
from hypothesis import strategies as st

from stream.resp import fields, pack, pairs


def one_by_one(*command: Any) -> bytes:
    packed: bytes = pack_command(command)
    return packed


SIZES = st.integers(0, 40)


@given(SIZES.flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)))
def test_fields_of_one_size_are_packed_as_they_would_be_one_by_one(parts: Sequence[bytes]) -> None:
    assert pack(("HMGET", "a key", fields(parts))) == one_by_one("HMGET", "a key", *parts)


@given(
    SIZES.flatmap(
        lambda size: st.dictionaries(
            st.binary(min_size=size, max_size=size), st.binary(max_size=6), min_size=1
        )
    )
)
def test_pairs_are_packed_by_the_size_of_their_values(items: dict[bytes, bytes]) -> None:
    by_size: list[bytes] = []
    for size in {len(value) for value in items.values()}:
        for key, value in items.items():
            by_size += [key, value] if len(value) == size else []
    assert pack(("HSET", b"k", pairs(items))) == one_by_one("HSET", b"k", *by_size)


def test_other_commands_are_packed_as_ever() -> None:
    assert pack(("SET", "k", b"v", "EX", 3)) == one_by_one("SET", "k", b"v", "EX", 3)
    assert pack(("EXEC",)) == b"*1\r\n$4\r\nEXEC\r\n"
