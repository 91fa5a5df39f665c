"""One mapping of YAML text replaced or inserted, all other text left alone. Pure.

The parser tells where each part stands; only text between such places is changed, so that comments, quotes, order,
line ends and indentation stay what they were.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode


Pair: TypeAlias = tuple[Node, Node]
_ALIAS = "alias"


class UnsafeError(ValueError):
    """The text cannot be edited without changing something else, too; says in which line."""


class _Loader(yaml.SafeLoader):
    """Composes nodes that say where they stand; an alias is a node of its own, not the one it stands for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.anchored: dict[int, str] = {}
        """Names of anchors by the place where what they name begins."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call] # PyYAML's stubs leave it out
            return ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:
            self.anchored[event.start_mark.index] = event.anchor
        return super().compose_node(parent, index)


def set_mapping(text: str, path: Sequence[str | int], key: str, values: Mapping[str, float]) -> str:
    r"""Put `values` as a mapping under `key` of the mapping at `path`; `text` must be valid YAML.

    Where `key` is there, its value is replaced in its own style, block or flow; otherwise it comes behind the
    other keys. Raises UnsafeError where anchors, aliases or merges are in the way.

    >>> set_mapping("a:\n- name: x # best\n", ("a", 0), "p", {"q": 12.0})
    'a:\n- name: x # best\n  p: {q: 12}\n'
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    owner = _found(loader, node, path)
    pairs: list[Pair] = owner.value
    own = [value for name, value in pairs if name.value == key]
    if own:
        return _replaced(loader, text, own[-1], key, values)
    for name, _ in pairs:
        if name.value == "<<":
            raise _unsafe(
                name, f"an experiment that merges others (<<) may have its {key} from there"
            )
    return _inserted(text, owner, key, values)


def _found(loader: _Loader, node: Node | None, path: Sequence[str | int]) -> MappingNode:
    """The mapping at `path`, when nothing on the way is shared with other parts of the text."""
    for step in (None, *path):
        if isinstance(node, MappingNode) and isinstance(step, str):
            node = {name.value: value for name, value in node.value}.get(step)
        elif isinstance(node, SequenceNode) and isinstance(step, int):
            node = node.value[step]
        if node is None:
            raise UnsafeError(
                f"expected {step!r} to be written out in the file, not merged into it (<<)"
            )
        if node.tag == _ALIAS:
            raise _unsafe(node, f"what *{node.value} stands for is written elsewhere")
        if (name := loader.anchored.get(node.start_mark.index)) is not None:
            raise _unsafe(node, f"&{name} gives this a name, and it may be used elsewhere, too")
    if not isinstance(node, MappingNode) or not node.value:
        raise UnsafeError("expected a mapping that is written out in the file")
    return node


def _unsafe(node: Node, why: str) -> UnsafeError:
    mark = node.start_mark
    return UnsafeError(f"line {mark.line + 1}: {why}; please edit it by hand")


def _replaced(loader: _Loader, text: str, old: Node, key: str, values: Mapping[str, float]) -> str:
    """`text` with another value in place of `old`, key by key where the keys stay the same."""
    start, end = old.start_mark.index, _end(old)
    for node in _all(old):
        if node.tag == _ALIAS:
            raise _unsafe(node, f"{key} is written elsewhere, as what *{node.value} stands for")
    for place, name in loader.anchored.items():
        if start <= place <= end and (place < end or start == end):
            raise _unsafe(old, f"{key} has an anchor, &{name}, that may be used elsewhere, too")
    if not isinstance(old, MappingNode):
        space = "" if start and text[start - 1].isspace() else " "
        return text[:start] + space + _flow(values) + text[end:]
    if {name.value for name, _ in old.value} == set(values) and len(old.value) == len(values):
        for name, value in reversed(old.value):
            before, after = text[: value.start_mark.index], text[_end(value) :]
            text = (
                f"{before}{'' if before[-1].isspace() else ' '}{number(values[name.value])}{after}"
            )
        return text
    if old.flow_style:
        return text[:start] + _flow(values, quoted=_quoted(old)) + text[end:]
    line_end = "\r\n" if "\r\n" in text else "\n"
    apart = line_end + " " * old.start_mark.column
    return (
        text[:start]
        + apart.join(f"{name}: {number(each)}" for name, each in values.items())
        + text[end:]
    )


def _inserted(text: str, owner: MappingNode, key: str, values: Mapping[str, float]) -> str:
    """`text` with `key` behind the last key of `owner`, before comments that follow."""
    end = _end(owner.value[-1][1])
    if owner.flow_style:
        quoted = _quoted(owner)
        name = json.dumps(key) if quoted else key
        return f"{text[:end]}, {name}: {_flow(values, quoted=quoted)}{text[end:]}"
    column = owner.start_mark.column
    entry = f"{' ' * column}{key}: {_flow(values)}"
    line_end = "\r\n" if "\r\n" in text else "\n"
    place = _after_line(text, end, column)
    if place and text[place - 1] != "\n":  # the file ends without a line end, and shall go on so
        return f"{text[:place]}{line_end}{entry}{text[place:]}"
    return f"{text[:place]}{entry}{line_end}{text[place:]}"


def _after_line(text: str, end: int, column: int) -> int:
    """Where the line after `end` begins; comments that are indented deeper than the keys belong before."""
    if not (end and text[end - 1] == "\n"):
        found = text.find("\n", end)
        end = len(text) if found < 0 else found + 1
    comment = re.compile(rf"[ ]{{{column + 1},}}#[^\n]*\n")
    while match := comment.match(text, end):
        end = match.end()
    return end


def _end(node: Node) -> int:
    """Where the text of a value ends; a block ends where its last value does, without what follows it."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, MappingNode) else last)
    return int(node.end_mark.index)


def _all(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, MappingNode):
        for pair in node.value:
            for each in pair:
                yield from _all(each)
    elif isinstance(node, SequenceNode):
        for each in node.value:
            yield from _all(each)


def _quoted(node: MappingNode) -> bool:
    """Whether keys are written as JSON has them."""
    return all(isinstance(name, ScalarNode) and name.style == '"' for name, _ in node.value)


def _flow(values: Mapping[str, float], *, quoted: bool = False) -> str:
    names = (json.dumps(name) if quoted else name for name in values)
    pairs = zip(names, values.values(), strict=True)
    return "{" + ", ".join(f"{name}: {number(each)}" for name, each in pairs) + "}"


def number(value: float) -> str:
    """A number that every reader of YAML and JSON takes for the same number.

    >>> number(0.0278565), number(12.0), number(1e-05), number(1e22)
    ('0.0278565', '12', '1.0e-05', '1.0e+22')
    """
    text = repr(float(value)).removesuffix(".0")
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else text
