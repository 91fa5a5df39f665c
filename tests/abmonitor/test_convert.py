from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, field

from abmonitor.convert import Partial, Problem, UnknownFieldError, convert, schema
from abmonitor.yaml_source import parse


class Hex:
    """A type that only its parser knows."""

    def __init__(self, value: int) -> None:
        self.value = value

    @classmethod
    def read(cls, data: object) -> "Hex":
        if not isinstance(data, str):
            raise ValueError(f"expected hex, got {data!r}")  # noqa: TRY004 - what parsers raise
        return cls(int(data, 16))

    def __str__(self) -> str:
        return f"{self.value:x}"


class Leaf(Struct, kw_only=True):
    low: int = 0
    high: int

    @property
    def width(self) -> int:
        return self.high - self.low

    def wider_than(self, width: int) -> bool:
        return self.width > width


class Refusing(Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a == 13:
            raise ValueError("13 is unlucky")


class Tree(Struct, kw_only=True):
    leaf: Leaf | None = None
    leaves: Annotated[tuple[Leaf, ...], Meta(max_length=3)] = ()
    named: dict[Annotated[str, Meta(pattern="^[a-z]+$")], Leaf] = field(default_factory=dict)
    pair: tuple[int, str] | None = None
    kinds: frozenset[Literal["x", "y"]] = frozenset()
    either: str | Leaf | list[int] = ""
    code: Hex | None = None
    renamed: int = field(default=0, name="as")
    refusing: Refusing | None = None
    anything: Any = None


def inverted(leaf: Leaf) -> Iterator[Problem]:
    if leaf.width < 0:
        yield ("high",), f"high must not be below low, got {leaf.high}"


def run(text: str) -> tuple[Tree | None, list[str]]:
    document, _ = parse(text, "f")
    assert document is not None
    tree, mistakes = convert(document, Tree, {Hex: Hex.read}, {Leaf: (inverted,)})
    return tree, [str(mistake) for mistake in mistakes]


def test_data_becomes_structs_all_the_way_down() -> None:
    tree, mistakes = run(
        "{leaf: {high: 1}, leaves: [{high: 2}], named: {a: {high: 3}}, pair: [1, b], kinds: [x, x],"
        " either: {high: 4}, code: ff, as: 7, anything: [1, {a: b}], refusing: {a: 1}}"
    )
    assert not mistakes
    assert tree is not None
    assert tree.leaf == Leaf(high=1)
    assert tree.leaves == (Leaf(high=2),)
    assert tree.named == {"a": Leaf(high=3)}
    assert tree.pair == (1, "b")
    assert tree.kinds == {"x"}
    assert tree.either == Leaf(high=4)
    assert tree.code is not None
    assert tree.code.value == 255
    assert tree.renamed == 7
    assert tree.anything == [1, {"a": "b"}]


def test_what_is_left_out_takes_its_default() -> None:
    tree, mistakes = run("{}")
    assert not mistakes
    assert tree == Tree()


@pytest.mark.parametrize("text", ["either: [1, 2]", "either: text", "either: {high: 1}"])
def test_a_union_is_chosen_by_shape(text: str) -> None:
    tree, mistakes = run(text)
    assert tree is not None
    assert not mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "f:1:1: expected a mapping with leaf, leaves,"),
        ("leaf: {}", "f:1:7: leaf: 'high' is missing"),
        ("leaf: 3", "f:1:7: leaf: expected a mapping with low, high; got 3"),
        ("leaf: {high: '1'}", "f:1:14: leaf.high: expected a whole number, got '1'"),
        ("leaf: {high: 1.5}", "f:1:14: leaf.high: expected a whole number, got 1.5"),
        ("leaf: {high: yes}", "f:1:14: leaf.high: expected a whole number, got true"),
        ("leaf: {high: 1, lo: 2}", "f:1:17: leaf.lo: unknown key 'lo'; did you mean 'low'?"),
        ("leaf: {high: 1, zzz: 2}", "f:1:17: leaf.zzz: unknown key 'zzz'; expected one of low,"),
        ("leaf: {high: 1, low: 2}", "f:1:14: leaf.high: high must not be below low, got 1"),
        ("leaf: {high: -1}", "f:1:14: leaf.high: high must not be below low, got -1"),
        ("leaves: 1", "f:1:9: leaves: expected a list, got 1"),
        (
            "leaves: [{high: 1}, {high: 1}, {high: 1}, {high: 1}]",
            "f:1:9: leaves: expected a list of length",
        ),
        ("leaves: [{high: 1}, {high: x}]", "f:1:28: leaves[1].high: expected a whole number, got"),
        ("named: []", "f:1:8: named: expected a mapping, got a list"),
        ("named: {A: {high: 1}}", "f:1:9: named.A: expected text matching regex '^[a-z]+$', got"),
        ("named: {a: {high: x}}", "f:1:19: named.a.high: expected a whole number, got 'x'"),
        ("pair: [1]", "f:1:7: pair: expected a list of 2, got one of 1"),
        ("pair: [1, 2]", "f:1:11: pair[1]: expected text, got 2 (quote it)"),
        ("pair: [1, no]", "f:1:11: pair[1]: expected text, got false (yes, no, on and off mean"),
        ('pair: [1, "a\\n"]', "f:1:11: pair[1]: expected one line, got 'a\\n'"),
        ("kinds: [z]", "f:1:9: kinds[0]: expected one of x, y; got 'z'"),
        ("either: 1", "f:1:9: either: expected text or a mapping or a list, got 1"),
        ("either: {high: x}", "f:1:16: either.high: expected a whole number, got 'x'"),
        ("code: 1", "f:1:7: code: expected hex, got 1"),
        ("code: [1]", "f:1:7: code: expected hex, got [1]"),
        ("refusing: {a: 13}", "f:1:11: refusing: 13 is unlucky"),
    ],
)
def test_a_mistake_names_the_thing_its_value_and_what_was_expected(
    text: str, expected: str
) -> None:
    tree, mistakes = run(text)
    assert tree is None
    assert len(mistakes) == 1
    assert mistakes[0].startswith(expected)


def test_all_mistakes_are_told_at_once_and_none_follows_from_another() -> None:
    tree, mistakes = run(
        "leaves: [{high: x}, {low: 5, high: 9, wide: 1}, 3]\npair: [a, 1]\nkinds: [q, x, r]\n"
    )
    assert tree is None
    assert sorted(mistake.split(": ")[0] for mistake in mistakes) == [
        "f:1:17",
        "f:1:39",
        "f:1:49",
        "f:2:11",
        "f:2:8",
        "f:3:15",
        "f:3:9",
    ]


def test_what_the_source_reported_is_not_reported_again() -> None:
    document, found = parse("leaf: {low: 1, high: .inf}", "f")
    assert document is not None
    assert len(found) == 1
    tree, mistakes = convert(document, Tree, {}, {Leaf: (inverted,)})
    assert tree is None
    assert not mistakes


def test_a_struct_with_broken_fields_knows_the_others() -> None:
    leaf: Any = Partial(Leaf, {"high": 3})
    assert leaf.high == 3
    for broken in ("low", "width", "nothing"):
        with pytest.raises(UnknownFieldError, match=r"low|nothing"):
            getattr(leaf, broken)
    with pytest.raises(UnknownFieldError):
        leaf.wider_than(1)
    assert Partial(Leaf, {"low": 1, "high": 3}).wider_than(1) is True  # type: ignore[operator] # it delegates


def test_the_schema_tells_what_is_accepted() -> None:
    described = schema(Tree, {Hex: Annotated[str, Meta(pattern="^[0-9a-f]+$")]})
    tree = described["$defs"]["Tree"]
    assert tree["additionalProperties"] is False
    assert tree["required"] == []
    assert tree["properties"]["as"] == {"type": "integer", "default": 0}
    assert tree["properties"]["code"]["anyOf"][0]["pattern"] == "^[0-9a-f]+$"
    assert described["$defs"]["Leaf"]["required"] == ["high"]
