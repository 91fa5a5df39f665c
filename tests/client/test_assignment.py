import math
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abmonitor_client import assign


GUIDE = Path(__file__).parents[2] / "docs" / "client.md"
VECTOR = re.compile(
    r"^\| `(.+?)` \| `(.+?)` \| (?:`(.+?)`)? ?\| `(.+?)` \| `(.+?)` \|$", re.MULTILINE
)
VECTORS = VECTOR.findall(GUIDE.read_text(encoding="utf-8"))
UNITS = [f"unit-{number}" for number in range(20_000)]
HALVES = {"control": 0.5, "treatment": 0.5}


def test_the_guide_publishes_enough_vectors() -> None:
    assert len(VECTORS) >= 10
    assert {variant for *_, variant in VECTORS} == {"rules-v1", "ranker-v2", "a", "b", "c"}


@pytest.mark.parametrize(("unit", "experiment", "salt", "shares", "variant"), VECTORS)
def test_the_published_vectors_hold(
    unit: str, experiment: str, salt: str, shares: str, variant: str
) -> None:
    split = {name: float(share) for name, share in (part.split("=") for part in shares.split(", "))}
    assert assign(unit, experiment, split, salt=salt) == variant


@pytest.mark.parametrize(
    "split",
    [
        HALVES,
        {"control": 0.9, "treatment": 0.1},
        {"a": 0.2, "b": 0.3, "c": 0.5},
        {"a": 1, "b": 1, "c": 1, "d": 5},
    ],
)
def test_each_variant_gets_its_share(split: dict[str, float]) -> None:
    found = Counter(assign(unit, "shares", split) for unit in UNITS)
    total = sum(split.values())
    expected = [len(UNITS) * share / total for share in split.values()]
    assert stats.chisquare([found[variant] for variant in split], expected).pvalue > 0.001


def test_a_larger_share_moves_a_tenth_of_the_units_in_one_direction() -> None:
    before = [assign(unit, "move", HALVES) for unit in UNITS]
    after = [assign(unit, "move", {"control": 0.4, "treatment": 0.6}) for unit in UNITS]
    moved = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert set(moved) == {("control", "treatment")}
    deviation = math.sqrt(len(UNITS) * 0.1 * 0.9)
    assert abs(moved.total() - 0.1 * len(UNITS)) < 4 * deviation


def test_a_further_variant_only_takes_units_and_leaving_only_gives_them_back() -> None:
    two, three = {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}
    pairs = [(assign(unit, "third", two), assign(unit, "third", three)) for unit in UNITS]
    assert {after for before, after in pairs if before != after} == {"c"}
    assert all(
        assign(unit, "third", {**two, "c": 0}) == pair[0]
        for unit, pair in zip(UNITS, pairs, strict=True)
    )


@given(
    st.text(min_size=1, max_size=30),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 10), min_size=1),
)
def test_neither_the_order_nor_the_scale_of_the_shares_matters(
    unit: str, split: dict[str, float]
) -> None:
    chosen = assign(unit, "order", split)
    assert chosen == assign(unit, "order", dict(reversed(split.items())))
    assert chosen == assign(unit, "order", {name: 4 * share for name, share in split.items()})


@pytest.mark.parametrize("other", [{"experiment": "another"}, {"experiment": "one", "salt": "2"}])
def test_experiments_and_salts_deal_independently(other: dict[str, str]) -> None:
    table = [[0, 0], [0, 0]]
    for unit in UNITS:
        here = assign(unit, "one", HALVES) == "control"
        there = assign(unit, split=HALVES, **other) == "control"
        table[here][there] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_numbers_and_their_text_are_the_same_unit() -> None:
    assert {assign(unit, "numbers", HALVES) for unit in (17, "17")} == {
        assign(17, "numbers", HALVES)
    }


@pytest.mark.parametrize("split", [{}, {"a": 0}, {"a": 0, "b": 0.0}])
def test_a_split_without_a_share_is_refused(split: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one variant with a share > 0"):
        assign("unit", "experiment", split)


@pytest.mark.parametrize("share", [-0.1, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share of variant 'a' is .*, expected a number >= 0"):
        assign("unit", "experiment", {"a": share})


@pytest.mark.parametrize(
    ("unit", "experiment", "split", "salt"),
    [
        ("", "experiment", HALVES, ""),
        ("x" * 129, "experiment", HALVES, ""),
        ("unit", "not a name", HALVES, ""),
        ("unit", "experiment", {"a:b": 1}, ""),
        ("unit", "experiment", HALVES, "a:b"),
    ],
)
def test_names_that_could_be_mixed_up_are_refused(
    unit: str, experiment: str, split: dict[str, float], salt: str
) -> None:
    with pytest.raises(ValueError, match="expected"):
        assign(unit, experiment, split, salt=salt)
