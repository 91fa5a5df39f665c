"""Sources: how the fields of an existing topic map onto predictions and outcomes.

Flat records decode straight into an event. A mapped record decodes into a struct made to measure, which
has just the paths that the mapping names, so that nothing else of the record is looked at.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Literal, get_type_hints

import msgspec

from stream.batch import Headers
from stream.events import Event, Outcome, Prediction, Rejected, rejection


Scalar = str | int | float | bool
Kind = Literal["prediction", "outcome"]

_KINDS: dict[Kind, type[Prediction | Outcome]] = {"prediction": Prediction, "outcome": Outcome}
_UNITS = {
    "latency_ms": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "time": {"us": 1e-3, "ms": 1.0, "s": 1e3},
}
_NUMBERS = {"latency_ms", "time", "score", "weight", "cost", "value"}
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

    def mapped(self) -> "Callable[[bytes, Headers], Event] | None":
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
            if header in headers:
                found[name] = headers[header].decode()
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


class Decoder:
    """Decodes the records of all topics; what cannot be decoded becomes `Rejected`."""

    def __init__(self, sources: Mapping[str, SourceOptions] | None = None) -> None:
        options = sources or {}
        self._default = SourceOptions().flat()
        self._flat = {topic: source.flat() for topic, source in options.items()}
        self._mapped = {topic: source.mapped() for topic, source in options.items()}

    def decode(
        self, topic: str, values: Sequence[bytes], headers: Sequence[Headers] | None = None
    ) -> list[Event]:
        """One event a value."""
        flat, mapped = self._flat.get(topic, self._default), self._mapped.get(topic)
        events: list[Event] = []
        append = events.append
        if flat is not None:
            for value in values:
                try:
                    append(flat(value))
                except (ValueError, RecursionError) as error:
                    append(rejection(error))
            return events
        if mapped is None:
            raise ValueError(f"source {topic!r} maps fields without a type")
        for value, header in zip(values, headers or [{}] * len(values), strict=True):
            try:
                append(mapped(value, header))
            except (ValueError, OverflowError, RecursionError) as error:
                append(rejection(error))
        return events
