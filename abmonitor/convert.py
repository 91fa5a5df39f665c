"""Plain data to msgspec Structs, collecting every mistake (msgspec.convert stops at the first)."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo, fields

from abmonitor.yaml_source import BROKEN, Document, KeyPath, Mistake


T = TypeVar("T", bound=Struct)
Parser = Callable[[object], object]
"""Makes a value of a type of its own from plain data; raises ValueError with what was expected."""
Problem = tuple[KeyPath, str] | tuple[KeyPath, str, KeyPath]
"""Where in a Struct something is wrong, what, and which other part the message points to."""
Check = Callable[[Any], Iterator[Problem]]
"""What is wrong with a Struct whose fields are right one by one."""

# Types that are put together here are none to a type checker.
_ANNOTATED: Any = Annotated
_UNION: Any = Union
_SEQUENCES = (list, tuple, set, frozenset)
_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


class UnknownFieldError(Exception):
    """A check asked for a field that could not be converted, and so has nothing to say."""


class Partial:
    """Stands in for a Struct some of whose fields are broken, so that it can be checked at all.

    Fields that are right, and properties and methods that need no others, work as on the Struct;
    everything else raises UnknownFieldError. So one mistake neither hides others nor causes any.
    """

    def __init__(self, kind: type[Struct], values: Mapping[str, object]) -> None:
        self._kind, self._values = kind, values

    def __getattr__(self, name: str) -> object:
        if name in self._values:
            return self._values[name]
        attribute = inspect.getattr_static(self._kind, name, None)
        if isinstance(attribute, property) and attribute.fget:
            return attribute.fget(self)
        if inspect.isfunction(attribute):
            return attribute.__get__(self)
        raise UnknownFieldError(name)


def known(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Those problems that can be found without the broken fields."""
    try:
        yield from problems
    except UnknownFieldError:
        return


def convert(
    document: Document,
    kind: type[T],
    parsers: Mapping[type, Parser],
    checks: Mapping[type, tuple[Check, ...]],
) -> tuple[T | None, list[Mistake]]:
    """Make a `kind` of the document's data: it, None if anything is wrong, and what is wrong.

    Strict: nothing is coerced but whole numbers to fractions. Keys that no field has are mistakes.
    `parsers` read types that msgspec does not know; `checks` run on each Struct of their type.
    """
    walk = _Walk(document, parsers, checks)
    value = walk.convert(document.data, kind, ())
    return (value if isinstance(value, kind) and not walk.holes else None), walk.mistakes


def shown(value: object) -> str:
    """Write a value the way a message shows it: as YAML has it, and short."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _close(name: str, names: list[str]) -> str:
    """Suggest which of the names was meant, or all of them."""
    matches = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {matches[0]!r}?" if matches else f"expected one of {', '.join(names)}"


class _Walk:
    """Converts by type, noting mistakes; what could not be converted comes back as BROKEN.

    Data that the source has reported as broken leaves holes without mistakes of this walk.
    """

    def __init__(
        self,
        document: Document,
        parsers: Mapping[type, Parser],
        checks: Mapping[type, tuple[Check, ...]],
    ) -> None:
        self._document, self._parsers, self._checks = document, parsers, checks
        self.mistakes: list[Mistake] = []
        self.holes = 0
        self._by_origin: dict[Any, Callable[[object, Any, KeyPath], object]] = {
            Annotated: self._annotated,
            Union: self._union,
            UnionType: self._union,
            Literal: self._literal,
            dict: self._mapping,
            **dict.fromkeys(_SEQUENCES, self._sequence),
        }

    def convert(self, data: object, kind: Any, path: KeyPath) -> object:
        if data is BROKEN:
            self.holes += 1
            return BROKEN
        if isinstance(kind, type) and kind in self._parsers:
            return self._parsed(data, self._parsers[kind], path)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._struct(data, kind, path)
        return self._by_origin.get(get_origin(kind), self._leaf)(data, kind, path)

    def _annotated(self, data: object, kind: Any, path: KeyPath) -> object:
        """Containers part by part and then as a whole, everything else at once."""
        bare = get_args(kind)[0]
        origin = get_origin(bare)
        if origin is not dict and origin not in _SEQUENCES:
            return self._leaf(data, kind, path)
        value = self.convert(data, bare, path)
        bounded = _ANNOTATED[(origin, *kind.__metadata__)]
        fits = value is not BROKEN and self._leaf(data, bounded, path) is not BROKEN
        return value if fits else BROKEN

    def _wrong(self, path: KeyPath, message: str, *, at_key: bool = False) -> object:
        self.mistakes.append(self._document.mistake(path, message, at_key=at_key))
        self.holes += 1
        return BROKEN

    def _parsed(self, data: object, parser: Parser, path: KeyPath) -> object:
        try:
            return parser(data)
        except ValueError as error:
            return self._wrong(path, str(error))

    def _leaf(self, data: object, kind: Any, path: KeyPath, *, at_key: bool = False) -> object:
        try:
            value: object = msgspec.convert(data, kind, dec_hook=self._hook)
        except msgspec.ValidationError as error:
            expected = re.sub(r"(, got `\w+`)?( - at `.*`)?$", "", str(error))
            expected = re.sub(r"`([\w| ]+)`", _in_words, expected[:1].lower() + expected[1:])
            return self._wrong(
                path, f"{expected}, got {shown(data)}{_hint(data, expected)}", at_key=at_key
            )
        if isinstance(data, str) and data.endswith("\n"):
            # `$` in a pattern lets one line break pass, and block text always ends with one.
            return self._wrong(path, f"expected one line, got {shown(data)}", at_key=at_key)
        return value

    def _hook(self, kind: type, data: object) -> object:
        if kind not in self._parsers:
            raise NotImplementedError(f"no parser for {kind}")
        return self._parsers[kind](data)

    def _literal(self, data: object, kind: Any, path: KeyPath) -> object:
        options = get_args(kind)
        if any(data == option and type(data) is type(option) for option in options):
            return data
        names = ", ".join(str(option) for option in options)
        return self._wrong(path, f"expected one of {names}; got {shown(data)}")

    def _union(self, data: object, kind: Any, path: KeyPath) -> object:
        arms = [arm for arm in get_args(kind) if arm is not NoneType]
        if data is None and len(arms) < len(get_args(kind)):
            return None
        fitting = arms if len(arms) == 1 else [arm for arm in arms if _fits(data, arm)]
        # Among several Structs msgspec chooses by tag, and tells the first mistake only.
        if len(fitting) == 1:
            return self.convert(data, fitting[0], path)
        return self._leaf(data, kind, path)

    def _mapping(self, data: object, kind: Any, path: KeyPath) -> object:
        key_kind, value_kind = get_args(kind)
        if not isinstance(data, dict):
            return self._wrong(path, f"expected a mapping, got {shown(data)}")
        result = {
            self._leaf(key, key_kind, (*path, key), at_key=True): self.convert(
                value, value_kind, (*path, key)
            )
            for key, value in data.items()
        }
        return BROKEN if BROKEN in (*result, *result.values()) else result

    def _sequence(self, data: object, kind: Any, path: KeyPath) -> object:
        origin: Any = get_origin(kind)
        kinds = get_args(kind)
        if not isinstance(data, list):
            return self._wrong(path, f"expected a list, got {shown(data)}")
        if origin is not tuple or kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(data)
        if len(kinds) != len(data):
            return self._wrong(path, f"expected a list of {len(kinds)}, got one of {len(data)}")
        result = [
            self.convert(item, item_kind, (*path, index))
            for index, (item, item_kind) in enumerate(zip(data, kinds, strict=True))
        ]
        return BROKEN if any(item is BROKEN for item in result) else origin(result)

    def _struct(self, data: object, kind: type[Struct], path: KeyPath) -> object:
        infos = fields(kind)
        if not isinstance(data, dict):
            names = ", ".join(info.encode_name for info in infos)
            self._wrong(path, f"expected a mapping with {names}; got {shown(data)}")
            return Partial(kind, {})
        holes = self.holes
        self._unknown_keys(data, kind, path)
        values = {info.name: self._field(data, info, path) for info in infos}
        good = {name: value for name, value in values.items() if value is not BROKEN}
        whole = self.holes == holes
        result = self._made(kind, good, path) if whole else Partial(kind, good)
        for check in self._checks.get(kind, ()):
            for where, message, *others in known(check(result)):
                places = [str(self._document.position((*path, *other))) for other in others]
                self._wrong((*path, *where), " ".join([message, *places]))
        return result

    def _made(self, kind: type[Struct], values: dict[str, object], path: KeyPath) -> object:
        try:
            return kind(**values)
        except ValueError as error:  # of its __post_init__
            self._wrong(path, str(error))
            return Partial(kind, values)

    def _unknown_keys(self, data: dict[str, object], kind: type[Struct], path: KeyPath) -> None:
        names = list(kind.__struct_encode_fields__)
        for key in data:
            if key not in names and key != kind.__struct_config__.tag_field:
                wrong = f"unknown key {key!r}; {_close(key, names)}"
                self._wrong((*path, key), wrong, at_key=True)

    def _field(self, data: dict[str, object], info: FieldInfo, path: KeyPath) -> object:
        name = info.encode_name
        if name in data:
            return self.convert(data[name], info.type, (*path, name))
        if info.default is not NODEFAULT:
            return info.default
        if info.default_factory is not NODEFAULT:
            return info.default_factory()
        return self._wrong(path, f"{name!r} is missing")


def _in_words(kinds: re.Match[str]) -> str:
    """Write a type of msgspec's messages, such as `str | object`, in words."""
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds[1].split(" | "))


def _hint(data: object, expected: str) -> str:
    if not expected.startswith("expected text") or not isinstance(data, int | float):
        return ""
    if isinstance(data, bool):
        return " (yes, no, on and off mean true and false in YAML; quote them where they are text)"
    return " (quote it)"


def _fits(data: object, kind: Any) -> bool:
    """Whether data of this shape can only be meant as `kind`, where a union has several arms."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(data, dict):
        return get_origin(bare) is dict or (isinstance(bare, type) and issubclass(bare, Struct))
    return isinstance(data, list) and get_origin(bare) in _SEQUENCES


def schema(kind: type[Struct], replaced: Mapping[type, Any]) -> dict[str, Any]:
    """Describe as a JSON Schema what `convert` accepts as `kind`.

    `replaced` says for each type of the parsers which plain type describes what they read. The
    schema is made of a mirror of the Structs, because msgspec cannot write down defaults of types
    that it does not know.
    """
    result = msgspec.json.schema(_mirror(kind, replaced, {}))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


def _mirror(kind: Any, replaced: Mapping[type, Any], made: dict[type, Any]) -> Any:
    if isinstance(kind, type) and kind in replaced:
        return replaced[kind]
    if isinstance(kind, type) and issubclass(kind, Struct):
        if kind not in made:
            config = kind.__struct_config__
            made[kind] = msgspec.defstruct(
                kind.__name__,
                [_mirror_field(info, replaced, made) for info in fields(kind)],
                namespace={"__doc__": inspect.getdoc(kind)},
                forbid_unknown_fields=True,
                kw_only=True,
                tag=config.tag,
                tag_field=config.tag_field,
            )
        return made[kind]
    origin = get_origin(kind)
    if origin is None or origin is Literal:
        return kind
    if origin is Annotated:
        bare = _mirror(get_args(kind)[0], replaced, made)
        return _ANNOTATED[(bare, *kind.__metadata__)]
    arguments = tuple(_mirror(argument, replaced, made) for argument in get_args(kind))
    return _UNION[arguments] if origin is UnionType else origin[arguments]


def _mirror_field(info: FieldInfo, replaced: Mapping[type, Any], made: dict[type, Any]) -> Any:
    kind = _mirror(info.type, replaced, made)
    if info.required:
        return info.encode_name, kind
    default = info.default if info.default is not NODEFAULT else info.default_factory()
    plain = {"default": msgspec.json.decode(msgspec.json.encode(default, enc_hook=str))}
    return info.encode_name, Annotated[kind, Meta(extra_json_schema=plain)], msgspec.UNSET
