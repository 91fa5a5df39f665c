"""YAML text (file system) to plain data that remembers where each part of it was written."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError


KeyPath = tuple[str | int, ...]
"""Keys and indices that lead from the top of the data to a part of it."""

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
"""Parts after aliases are expanded: a bomb of aliases to aliases stops here."""
MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"
_BOOLS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class _Broken:
    """The type of `BROKEN`."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Final = _Broken()
"""Stands in the data for a part that has been reported as a mistake already."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def mistake(self, message: str, path: KeyPath = ()) -> "Mistake":
        """Say that something is wrong here."""
        return Mistake(self.file, self.line, self.column, path, message)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in a file that a person has to mend; prints as `file:line:column: message`."""

    file: str
    line: int
    column: int
    path: KeyPath
    message: str

    def __str__(self) -> str:
        where = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.message}"


def dotted(path: KeyPath) -> str:
    """Write a path as people do.

    >>> dotted(("experiments", 0, "labels", "horizon"))
    'experiments[0].labels.horizon'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data, with the position of every value and of every key of a mapping."""

    data: object
    values: Mapping[KeyPath, Position]
    keys: Mapping[KeyPath, Position] = field(default_factory=dict)

    def mistake(self, path: KeyPath, message: str, *, at_key: bool = False) -> Mistake:
        """Say what is wrong with the value, or with the key, at `path`."""
        at = self.keys[path] if at_key and path in self.keys else self.position(path)
        return at.mistake(message, path)

    def position(self, path: KeyPath) -> Position:
        """Find where `path` was written, or else the innermost part around it that was."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values[path]


def read(path: Path) -> tuple[Document | None, list[Mistake]]:
    """Read the document in a file, None where there is none; what is wrong is no exception."""
    file = str(path)
    try:
        with path.open("rb") as source:
            content = source.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return None, [Position(file).mistake(f"cannot read the file: {why}")]
    if len(content) > MAX_BYTES:
        return None, [Position(file).mistake(f"expected at most {MAX_BYTES} bytes")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        wrong = f"expected UTF-8, got byte 0x{content[error.start]:02x}"
        return None, [_after(before, file).mistake(wrong)]
    return parse(text, file)


def parse(text: str, file: str) -> tuple[Document | None, list[Mistake]]:
    """Read the document in `text`, None when it is empty or no YAML; `file` is its name."""
    builder = _Builder(file)
    try:
        data = builder.build(_compose(text, file), ())
    except _Unusable as error:
        return None, [error.mistake]
    return Document(data, builder.values, builder.keys), builder.mistakes


def _after(text: str, file: str) -> Position:
    """Find the position of what follows `text`."""
    return Position(file, text.count("\n") + 1, len(text) - text.rfind("\n"))


class _Unusable(Exception):  # noqa: N818 - it carries a mistake, and never leaves this module
    """Nothing can be made of the text."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its surprises.

    Dates stay text (a variant may be called 2024-01-01), as do 010 and 1:30 (octal and sixty-based
    numbers there), while 1e-3 is a number, as in YAML 1.2. The booleans stay those of YAML 1.1, so
    that editors and other readers of the file agree about `no`; unquoted where text is expected it
    is a mistake, and not a surprise.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, object]] = {}  # type: ignore[misc] # as PyYAML does


_FRACTION = r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?"
for _name, _pattern, _first in (
    ("bool", "(?i:yes|no|true|false|on|off)", "yYnNtTfFoO"),
    ("int", "[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", _FRACTION + r"|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("float", r"[-+]?\.(?i:inf|nan)", "-+."),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def _compose(text: str, file: str) -> Node:
    """Return the node at the top; raises _Unusable with the place where the syntax broke."""
    loader = None
    try:
        loader = _Loader(text)
        node: Node | None = loader.get_single_node()
    except ReaderError as error:
        wrong = f"the character U+{error.character:04X} is not allowed in YAML"
        raise _Unusable(_after(text[: error.position], file).mistake(wrong)) from error
    except yaml.MarkedYAMLError as error:
        raise _Unusable(_syntax_mistake(error, file)) from error
    except (RecursionError, ValueError, OverflowError, yaml.YAMLError) as error:
        # PyYAML leaks what chr() and int() think of absurd escapes and version numbers.
        at = Position(file)
        if loader is not None:
            at = Position(file, loader.line + 1, loader.column + 1)
        deep = isinstance(error, RecursionError)
        wrong = "nested too deeply" if deep else f"no valid YAML: {error}"
        raise _Unusable(at.mistake(wrong)) from error
    if node is None:
        raise _Unusable(Position(file).mistake("the file is empty"))
    return node


def _syntax_mistake(error: yaml.MarkedYAMLError, file: str) -> Mistake:
    problem = error.problem or "no valid YAML"
    if "'\\t'" in problem:
        problem = "a tab cannot indent YAML; use spaces"
    mark = error.problem_mark or error.context_mark
    at = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file)
    context = f" ({error.context})" if error.context else ""
    return at.mistake(f"no valid YAML: {problem}{context}")


class _Builder:
    """Turns nodes into data, noting where everything stood and what was wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.values: dict[KeyPath, Position] = {}
        self.keys: dict[KeyPath, Position] = {}
        self.mistakes: list[Mistake] = []
        self._built = 0

    def build(self, node: Node, path: KeyPath) -> object:
        self._bound(node, len(path))
        self.values[path] = self._at(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        return self._wrong(node, path, f"the tag {node.tag!r} has no meaning here")

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, key_node, value_node in self._pairs(node, path, len(path)):
            self.keys[*path, key] = self._at(key_node)
            data[key] = self.build(value_node, (*path, key))
        return data

    def _pairs(
        self, node: MappingNode, path: KeyPath, depth: int
    ) -> Iterator[tuple[str, Node, Node]]:
        """Yield keys and values, merged ones (`<<`) first and overridden by the mapping's own."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for key, *pair in self._merged(value_node, path, depth + 1):
                    merged.setdefault(key, (pair[0], pair[1]))
                continue
            name = self._key(key_node, path)
            if name in own:
                first = self._at(own[name][0])
                wrong = f"duplicate key {name!r}, first given in line {first.line}"
                self._wrong(key_node, (*path, name), wrong)
            elif name is not None:
                own[name] = key_node, value_node
        for key, (key_node, value_node) in (merged | own).items():
            yield key, key_node, value_node

    def _merged(self, node: Node, path: KeyPath, depth: int) -> Iterator[tuple[str, Node, Node]]:
        self._bound(node, depth, parts=1 + len(node.value))
        if isinstance(node, MappingNode):
            yield from self._pairs(node, path, depth)
        elif isinstance(node, SequenceNode):
            for item in node.value:
                yield from self._merged(item, path, depth + 1)
        else:
            self._wrong(node, path, "expected a mapping or a list of mappings to merge (<<)")

    def _key(self, node: Node, path: KeyPath) -> str | None:
        """Return a key's text; what is not text is reported, and goes on as it was written."""
        if not isinstance(node, ScalarNode):
            self._wrong(node, path, "expected text as a key, got a list or a mapping")
            return None
        text: str = node.value
        if not text.isprintable():
            self._wrong(node, path, f"expected printable text as a key, got {text!r}")
            return None
        if node.tag != _TAG + "str":
            kind = node.tag.removeprefix(_TAG)
            wrong = f"expected text as a key, got {text!r}, which YAML reads as {kind}; quote it"
            self._wrong(node, (*path, text), wrong)
        return text

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        if kind not in _SCALARS:
            return self._wrong(node, path, f"the tag {node.tag!r} has no meaning here")
        try:
            text.encode()  # escapes can smuggle in half a surrogate pair, which is not text
            return _SCALARS[kind](text)
        except (KeyError, ValueError):
            return self._wrong(node, path, f"expected {_EXPECTED[kind]}, got {text[:40]!r}")

    def _wrong(self, node: Node, path: KeyPath, message: str) -> _Broken:
        self.mistakes.append(self._at(node).mistake(message, path))
        return BROKEN

    def _at(self, node: Node) -> Position:
        return Position(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _bound(self, node: Node, depth: int, parts: int = 1) -> None:
        self._built += parts
        wrong = None
        if depth > MAX_DEPTH:
            wrong = f"nested more than {MAX_DEPTH} deep, or an alias to itself"
        elif self._built > MAX_NODES:
            wrong = f"aliases expand this to more than {MAX_NODES} parts"
        if wrong:
            raise _Unusable(self._at(node).mistake(wrong))


def _whole(text: str) -> int:
    number = int(text.replace("_", ""))
    if abs(number) >= 1 << 63:
        raise ValueError(text)
    return number


def _finite(text: str) -> float:
    number = float(text)  # .inf, .nan and their like are no numbers to Python either
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_EXPECTED = {
    "str": "text",
    "merge": "text",
    "null": "nothing",
    "bool": "true or false",
    "int": "a whole number of at most 64 bits",
    "float": "a finite number",
}
_SCALARS: dict[str, Callable[[str], object]] = {
    "str": str,
    "merge": str,
    "null": lambda _: None,
    "bool": lambda text: _BOOLS[text.lower()],
    "int": _whole,
    "float": _finite,
}
