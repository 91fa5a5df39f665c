"""Sources: how the fields of an existing topic map onto predictions and outcomes.

Flat records decode straight into an event. A mapped record decodes into a struct made to measure, which
has just the paths that the mapping names, so that nothing else of the record is looked at. What is wrapped
in a CloudEvent is taken out first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Literal, get_type_hints

import msgspec

from stream.batch import Headers
from stream.cloudevents import Content, may_be_declared, opened
from stream.events import Event, Outcome, Prediction, Rejected, rejection


Scalar = str | int | float | bool
Kind = Literal["prediction", "outcome"]

_KINDS: dict[Kind, type[Prediction | Outcome]] = {"prediction": Prediction, "outcome": Outcome}
_UNITS = {
    "latency_ms": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "time": {"us": 1e-3, "ms": 1.0, "s": 1e3},
}
_NUMBERS = {"latency_ms", "time", "score", "weight", "cost", "value"}
_UNNAMEABLE = {'"', "\\", *map(chr, range(32))}
"""What msgspec takes in no name."""
_TRUTHS = ("predicted", "actual", "error", "acted")


class FieldOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one field comes from: a dotted path, a header or a constant."""

    path: str | None = None
    header: str | None = None
    constant: Scalar | None = None
    unit: Literal["us", "ms", "s"] | None = None
    true_when: tuple[Scalar, ...] | None = None
    """The values that mean true; all others mean false."""


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic: what it holds, and where the fields are that do not stand under their own name."""

    type: Kind | None = None
    """Absent: the record's own `type` tells predictions from outcomes, and no field is mapped."""
    fields: dict[str, str | FieldOptions] = {}

    def problems(self) -> list[tuple[str, str]]:
        """Everything that is wrong with this mapping: (field, message)."""
        if self.type is None:
            return [("fields", "a mapping needs `type: prediction` or `type: outcome`")] * bool(
                self.fields
            )
        known = _KINDS[self.type].__struct_fields__
        found = []
        for name, options in self._options().items():
            places = (options.path, options.header, options.constant)
            if name not in known:
                found.append(
                    (
                        name,
                        f"unknown field; the fields of {self.type} events are {', '.join(known)}",
                    )
                )
            elif sum(place is not None for place in places) != 1:
                found.append((name, "expected exactly one of path, header or constant"))
            elif options.path is not None and _UNNAMEABLE & set(options.path):
                found.append((name, "a path cannot have quotes, backslashes or control characters"))
            elif options.unit and name not in _UNITS:
                found.append((name, f"a unit is only for {' and '.join(_UNITS)}"))
            elif options.true_when is not None and name not in _TRUTHS:
                found.append((name, f"true_when is only for {', '.join(_TRUTHS)}"))
        return found

    def _options(self) -> dict[str, FieldOptions]:
        return {
            name: FieldOptions(path=given) if isinstance(given, str) else given
            for name, given in self.fields.items()
        }

    def flat(self) -> "Callable[[bytes], Event] | None":
        """A function from a value to an event, None where fields are mapped.

        It raises what msgspec raises.
        """
        if self.fields:
            return None
        kind = Prediction | Outcome if self.type is None else _KINDS[self.type]
        return msgspec.json.Decoder(kind).decode

    def mapped(self) -> "_Mapped | None":
        """A function from a record's value and headers to an event, None where nothing is mapped."""
        if not self.fields or self.type is None:
            return None
        return _Mapped(_KINDS[self.type], self._options())


class _Mapped:
    """Decodes one kind of event from records of another shape."""

    def __init__(
        self, kind: type[Prediction | Outcome], options: Mapping[str, FieldOptions]
    ) -> None:
        self._kind = kind
        hints = get_type_hints(kind, include_extras=True)
        own = {name: FieldOptions(path=name) for name in kind.__struct_fields__}
        fields = {**own, **options}
        paths = {name: given.path for name, given in fields.items() if given.path is not None}
        self.whole = any(path.partition(".")[0] == "data" for path in paths.values())
        """It names `data`, so of a CloudEvent it means the envelope."""
        self._decode = msgspec.json.Decoder(_struct_of(list(paths.values()))).decode
        self._paths = [(name, attrgetter(_attribute(path))) for name, path in paths.items()]
        self._headers = [
            (n, given.header) for n, given in fields.items() if given.header is not None
        ]
        self._constants = {
            name: given.constant for name, given in fields.items() if given.constant is not None
        }
        self._scale = {
            name: _UNITS[name][given.unit] for name, given in fields.items() if given.unit
        }
        self._truths = {
            name: frozenset(map(_comparable, given.true_when))
            for name, given in fields.items()
            if given.true_when is not None
        }
        self._texts = {name for name, hint in hints.items() if str in _leaves(hint)}

    def __call__(self, value: bytes, headers: Headers) -> Event:
        """The event that the record stands for."""
        found = self._placed(value, headers)
        for name in found:
            found[name] = self._meant(name, found[name])
        event = msgspec.convert(found | {"type": self._tag}, self._kind, strict=not self._headers)
        for name in _NUMBERS & found.keys():  # JSON has no infinity, but the text of a header may
            number = getattr(event, name)
            if isinstance(number, float) and not math.isfinite(number):
                return Rejected("out_of_range", f"`{name}` is {number}, expected a finite number")
        return event

    def _placed(self, value: bytes, headers: Headers) -> dict[str, Any]:
        """The fields that the record and its headers have, as they stand there."""
        record = self._decode(value)
        found: dict[str, Any] = dict(self._constants)
        for name, get in self._paths:
            try:
                item = get(record)
            except AttributeError:  # a parent on the way is null
                continue
            if item is not None and item is not msgspec.UNSET:
                found[name] = item
        for name, header in self._headers:
            if (text := headers.get(header)) is not None:
                found[name] = text.decode()
        return found

    def _meant(self, name: str, item: Any) -> Any:
        """A field in our units and our notion of truth."""
        if name in self._scale:
            return _scaled(name, item, self._scale[name])
        if name in self._truths:
            return _comparable(item) in self._truths[name]
        if (
            name in self._texts and type(item) is int
        ):  # numeric ids are common, and lose nothing as text
            return str(item)
        return item

    @property
    def _tag(self) -> str:
        return str(self._kind.__struct_config__.tag)


def _comparable(item: object) -> tuple[type, object]:
    """`item` so that 1 and 1.0 are the same, and 1 and true are not."""
    if isinstance(item, bool) or not isinstance(item, int | float):
        return type(item), item if isinstance(item, str | bool) else None
    return float, item


def _scaled(name: str, number: object, factor: float) -> float:
    if isinstance(number, str):
        with suppress(ValueError):  # refused below, with what was expected
            number = float(number)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise msgspec.ValidationError(f"Expected a number, got {number!r} - at `$.{name}`")
    return number * factor


def _leaves(hint: Any) -> set[Any]:
    parts = getattr(hint, "__args__", None)
    return {hint} if parts is None else set().union(*(_leaves(part) for part in parts))


def _attribute(path: str) -> str:
    """The attribute path of a dotted path: names in records need not be identifiers."""
    return ".".join("f_" + part.encode().hex() for part in path.split("."))


def _struct_of(paths: Sequence[str]) -> type[msgspec.Struct]:
    """A struct type that has the given dotted paths, every level of them optional."""
    children: dict[str, list[str]] = {}
    for path in paths:
        head, _, rest = path.partition(".")
        children.setdefault(head, []).extend([rest] if rest else [])
    fields: list[tuple[str, Any, Any]] = []
    for name, below in children.items():
        kind: Any = (_struct_of(below) | None) if below else Any
        fields.append((_attribute(name), kind, msgspec.field(default=msgspec.UNSET, name=name)))
    return msgspec.defstruct("Record", fields)


class _Reader:
    """Decodes the records of one topic, whatever they are wrapped in."""

    def __init__(self, options: SourceOptions) -> None:
        self.flat: Callable[[Any], Event] | None = options.flat()
        """The quick way, for values that are an event as they are; raises what msgspec raises."""
        self._mapped = options.mapped()
        self._any = options.type is None

    @property
    def vague(self) -> bool:
        """Nobody said which kind of event the mapped fields are of."""
        return self.flat is None and self._mapped is None

    def read(self, value: bytes | None, headers: Headers) -> Event:
        """The event that a record stands for."""
        if value is None:
            return Rejected("empty", "the record has no value; a deletion (tombstone) is no event")
        try:
            if self.flat is not None and not may_be_declared(headers):
                with suppress(ValueError):  # perhaps it is wrapped after all
                    return self.flat(value)
            content = opened(value, headers)
            if content is None:
                return self._plain(value, headers)
            return content if isinstance(content, Rejected) else self._inside(value, content)
        except (ValueError, OverflowError, RecursionError) as error:
            return rejection(error)

    def _plain(self, value: bytes, headers: Headers) -> Event:
        decode = self._mapped or self._flat
        return decode(value, headers)

    def _flat(self, value: bytes, _: Headers) -> Event:
        if self.flat is None:
            raise ValueError("a source maps fields without a type")
        return self.flat(value)

    def _inside(self, record: bytes, content: Content) -> Event:
        """The event of a CloudEvent; its envelope gives what the data lacks."""
        whole = self._mapped is not None and self._mapped.whole
        value = record if whole else content.data
        try:
            event = self._plain(value, content.headers)
        except msgspec.ValidationError as error:
            decode = _BY_NAME.get(content.kind)
            if not self._any or decode is None or "required field `type`" not in str(error):
                raise
            event = decode(value)
        if not isinstance(event, Rejected) and event.time is None:
            event.time = content.time()
        return event


_BY_NAME: dict[str, Callable[[bytes], Event]] = {
    name: msgspec.json.Decoder(kind).decode for name, kind in _KINDS.items()
}


class Decoder:
    """Decodes the records of all topics; what cannot be decoded becomes `Rejected`."""

    def __init__(self, sources: Mapping[str, SourceOptions] | None = None) -> None:
        self._default = _Reader(SourceOptions())
        self._readers = {topic: _Reader(source) for topic, source in (sources or {}).items()}

    def decode(
        self,
        topic: str,
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> list[Event]:
        """One event a value; None is the value of a record that has none."""
        reader = self._readers.get(topic, self._default)
        if reader.vague:  # refused where settings are read
            raise ValueError(f"source {topic!r} maps fields without a type")
        flat, read = reader.flat, reader.read
        events: list[Event] = []
        append = events.append
        if flat is None or (headers is not None and any(headers)):
            for value, header in zip(values, headers or [{}] * len(values), strict=True):
                append(read(value, header))
            return events
        for value in values:
            try:
                append(flat(value))
            except (ValueError, TypeError, RecursionError):
                append(read(value, {}))
        return events
