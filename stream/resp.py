"""Commands in Redis' protocol: thousands of fields of one size are packed at once. Pure.

Packing field by field costs 0.4 µs each, and twice that for a pair, which was a seventh of a worker's time;
between fields of one size stands always the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hiredis import pack_command


Command = tuple[Any, ...]
"""A command's name and arguments; the last one may be a `Bulk`."""


class Bulk(NamedTuple):
    """Arguments that are packed already."""

    number: int
    packed: bytes


def fields(parts: Sequence[bytes]) -> Bulk:
    """Arguments that all have the size of the first one."""
    if not parts:
        return Bulk(0, b"")
    between = b"\r\n$%d\r\n" % len(parts[0])
    return Bulk(len(parts), b"%b%b\r\n" % (between[2:], between.join(parts)))


def pairs(items: Mapping[bytes, bytes]) -> Bulk:
    """Keys that all have one size, each with its value."""
    packed = b"".join(_pairs(items))
    return Bulk(2 * len(items), packed)


def _pairs(items: Mapping[bytes, bytes]) -> Iterable[bytes]:
    for size in {len(value) for value in items.values()}:
        between = b"\r\n$%d\r\n" % size
        joined = [key + between + value for key, value in items.items() if len(value) == size]
        before = b"$%d\r\n" % (len(joined[0]) - size - len(between))
        yield b"%b%b\r\n" % (before, (b"\r\n" + before).join(joined))


def pack(command: Command) -> bytes:
    """The bytes of one command."""
    last = command[-1]
    if type(last) is not Bulk:
        packed: bytes = pack_command(command)
        return packed
    _, _, named = pack_command(command[:-1]).partition(b"\r\n")
    return b"*%d\r\n%b%b" % (len(command) - 1 + last.number, named, last.packed)
