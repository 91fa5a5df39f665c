"""A set of flag definitions as bytes, of which only ours are looked into. Pure."""

from collections.abc import Mapping

import msgspec

from alerts.actuators.flag_definition import Flag, ForeignFlagError


SCHEMA = "https://flagd.dev/schema/v0/flags.json"


class FlagFileError(Exception):
    """The file cannot be read or written now; trying again may help."""


class UnreadableError(FlagFileError):
    """What is in the file is no set of flags."""


class Document(msgspec.Struct, frozen=True):
    """A set of flags, of which only those that are asked for are looked into."""

    head: dict[str, msgspec.Raw]
    """Everything but the flags."""
    flags: dict[str, msgspec.Raw]

    def flag(self, key: str) -> Flag | None:
        """One flag, None where there is none. Raises ForeignFlagError where it is no object."""
        if key not in self.flags:
            return None
        try:
            return msgspec.json.decode(self.flags[key], type=Flag)
        except msgspec.MsgspecError as error:
            raise ForeignFlagError(f"flag {key!r} is no flag: {error}") from error

    def encoded(self, changes: Mapping[str, Flag]) -> bytes:
        """The bytes of the set with some flags changed or added, and all others as they are."""
        fresh = {key: msgspec.Raw(msgspec.json.encode(flag)) for key, flag in changes.items()}
        head = self.head or {"$schema": msgspec.Raw(msgspec.json.encode(SCHEMA))}
        whole: dict[str, object] = {**head, "flags": {**self.flags, **fresh}}
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


EMPTY = Document({}, {})


def parsed(data: bytes) -> Document:
    """Read a set of flags. Raises UnreadableError, which says what is wrong."""
    try:
        head = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        msgspec.json.decode(data)  # Raw values are not looked into: a number may be none
        flags = head.pop("flags", None)
        if flags is None:
            return Document(_copied(head), {})
        return Document(
            _copied(head), _copied(msgspec.json.decode(flags, type=dict[str, msgspec.Raw]))
        )
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        expected = 'expected a JSON object with "flags", an object of flags by key'
        raise UnreadableError(f"{expected}: {error}") from error


def _copied(values: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    return {key: raw.copy() for key, raw in values.items()}
