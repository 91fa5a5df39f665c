import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmonitor.yaml_source import MAX_BYTES, Document, KeyPath, Position, dotted, parse, read


def data_of(text: str) -> object:
    document, mistakes = parse(textwrap.dedent(text), "f")
    assert not mistakes
    assert document is not None
    return document.data


def told(text: str) -> list[str]:
    return [str(mistake) for mistake in parse(textwrap.dedent(text), "f")[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", 1),
        ("a: 1_000", 1000),
        ("a: -0.5", -0.5),
        ("a: 1e-3", 0.001),
        ("a: .5", 0.5),
        ("a: yes", True),
        ("a: Off", False),
        ("a: ~", None),
        ("a:", None),
        ("a: '1'", "1"),
        ("a: !!str 1", "1"),
        ("a: 010", "010"),
        ("a: 1:30", "1:30"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: 0x1f", "0x1f"),
        ("a: 1h", "1h"),
        ("a: =", "="),
        ("a: <<", "<<"),
        ('{"a": [1, {"b": null}]}', [1, {"b": None}]),
    ],
)
def test_a_scalar_is_read_without_the_surprises_of_yaml(text: str, value: object) -> None:
    data = data_of(text)
    assert data == {"a": value}
    assert isinstance(data, dict)
    assert type(data["a"]) is type(value)


def test_every_value_and_every_key_has_its_position() -> None:
    document, _ = parse("a:\n  - x\n  - {b: 1,  c: 2}\n", "f")
    assert document is not None
    expected: dict[KeyPath, tuple[int, int]] = {
        (): (1, 1),
        ("a",): (2, 3),
        ("a", 0): (2, 5),
        ("a", 1): (3, 5),
        ("a", 1, "b"): (3, 9),
        ("a", 1, "c"): (3, 16),
    }
    assert document.values == {p: Position("f", *where) for p, where in expected.items()}
    assert document.keys["a", 1, "c"] == Position("f", 3, 13)


def test_a_mistake_about_what_was_not_written_stands_where_it_should_have_been() -> None:
    document = Document({}, {(): Position("f"), ("a",): Position("f", 2, 3)})
    assert str(document.mistake(("a", 3, "b"), "is missing")) == "f:2:3: a[3].b: is missing"
    assert str(document.mistake(("x",), "is missing", at_key=True)) == "f:1:1: x: is missing"


def test_paths_are_written_with_dots_and_brackets() -> None:
    assert dotted(("a", 0, 1, "b")) == "a[0][1].b"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["f:1:1: the file is empty"]),
        ("# only a comment\n", ["f:1:1: the file is empty"]),
        ("a: 1\nb: 2\na: 3", ["f:3:1: a: duplicate key 'a', first given in line 1"]),
        ("a:\n\tb: 1", ["f:2:1: no valid YAML: a tab cannot indent YAML; use spaces"]),
        ("a: [1", ["f:1:6: no valid YAML: expected ',' or ']', but got '<stream end>'"]),
        ("a: *b", ["f:1:4: no valid YAML: found undefined alias 'b'"]),
        ("a: 1\n---\nb: 2", ["f:2:1: no valid YAML: but found another document"]),
        ("no: 1", ["f:1:1: no: expected text as a key, got 'no', which YAML reads as bool"]),
        ("a: {1: 2}", ["f:1:5: a.1: expected text as a key, got '1', which YAML reads as int"]),
        ("? [a]\n: 1", ["f:1:3: expected text as a key, got a list or a mapping"]),
        ("a: .nan", ["f:1:4: a: expected a finite number, got '.nan'"]),
        ("a: 1e999", ["f:1:4: a: expected a finite number, got '1e999'"]),
        ("a: " + "9" * 5000, ["f:1:4: a: expected a whole number of at most 64 bits, got '999"]),
        ("a: !!bool maybe", ["f:1:4: a: expected true or false, got 'maybe'"]),
        ("a: !!python/name:os.system x", ["f:1:4: a: the tag 'tag:yaml.org,2002:python/name"]),
        ("a: !x [1]", ["f:1:4: a: the tag '!x' has no meaning here"]),
        ('a: "\\ud800"', ["f:1:4: a: expected text, got '\\ud800'"]),
        ('a: "\\U99999999"', ["f:1:7: no valid YAML"]),
        ('"\\n": 1', ["f:1:1: expected printable text as a key"]),
        ("a: 1\nb: \x00", ["f:2:4: the character U+0000 is not allowed in YAML"]),
        ("<<: 1", ["f:1:5: expected a mapping or a list of mappings to merge (<<)"]),
        ("a: &a [*a]", ["f:1:4: nested more than 64 deep, or an alias to itself"]),
        ("a: &a {<<: *a}", ["f:1:4: nested more than 64 deep, or an alias to itself"]),
        ("[" * 5000, ["f:1:"]),
        ("%YAML " + "9" * 5000 + ".1\n---\na", ["f:1:"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, mistakes: list[str]) -> None:
    found = told(text)
    assert len(found) == len(mistakes)
    for actual, expected in zip(found, mistakes, strict=True):
        assert actual.startswith(expected)


def test_a_bomb_of_aliases_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
    (mistake,) = told("\n".join(rows))
    assert mistake.endswith("aliases expand this to more than 100000 parts")


def test_a_bomb_of_merges_is_refused() -> None:
    rows = ["a0: &a0 {x: 1, y: 2}"]
    rows += [f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}" for i in range(30)]
    (mistake,) = told("\n".join(rows))
    assert mistake.endswith("aliases expand this to more than 100000 parts")


def test_anchors_and_merges_share_what_is_the_same() -> None:
    data = data_of("""\
        one: &one {metric: rap, margin: 0.1}
        two: *one
        three: {<<: *one, margin: 0.2}
        four:
          <<: [{margin: 0.3}, *one]
        """)
    one = {"metric": "rap", "margin": 0.1}
    assert data == {
        "one": one,
        "two": one,
        "three": {"metric": "rap", "margin": 0.2},
        "four": {"metric": "rap", "margin": 0.3},
    }


def test_what_was_merged_stands_where_it_was_written() -> None:
    document, _ = parse("a: &a {x: 1}\nb: {<<: *a}\n", "f")
    assert document is not None
    assert document.values["b", "x"] == Position("f", 1, 11)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: \xff", ":1:4: expected UTF-8, got byte 0xff"),
        (b"a: 1\nb: caf\xe9", ":2:7: expected UTF-8, got byte 0xe9"),
        (b"#" * (MAX_BYTES + 1), f":1:1: expected at most {MAX_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    document, (mistake,) = read(path)
    assert document is None
    assert str(mistake) == f"{path}{expected}"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    document, _ = read(path)
    assert document is not None
    assert document.data == {"a": 1}


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    _, (mistake,) = read(tmp_path / "f.yaml")
    assert mistake.message == "cannot read the file: No such file or directory"
    _, (mistake,) = read(Path("a\0b"))
    assert mistake.message.startswith("cannot read the file")


@given(
    st.text(
        alphabet=st.sampled_from("ab01:-[]{},&*!<?|>'\"\\#%@`~ \n\t.x\u00e9\ud800\x85"), max_size=60
    )
)
def test_any_text_gives_a_document_or_a_mistake(text: str) -> None:
    document, mistakes = parse(text, "f")
    assert document is not None or mistakes
    for mistake in mistakes:
        assert mistake.line >= 1
        assert mistake.column >= 1
