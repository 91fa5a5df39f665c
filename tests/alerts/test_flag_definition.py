"""Flag definitions: shares become weights, and nobody moves who need not."""

import json
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.actuators.flag_definition import (
    FINEST,
    Flag,
    ForeignFlagError,
    Off,
    Shown,
    dealing,
    forgotten,
    keeps_off,
    remembered,
    shared,
    switched_off,
    whole_numbers,
    written,
)


OFF = Off("offers:a:7:1", 1, 7_000)
HASHES = 2**32


def shown(split: dict[str, float], **changes: Any) -> Shown:
    return Shown(experiment="offers", control="c", split=split, **changes)


def dealt(flag: Flag, point: int) -> str:
    """Whom flagd's `fractional` gives the customer whose hash (32 bits) is `point`."""
    rule = flag.get("targeting", {"fractional": [[flag["defaultVariant"], 1]]})
    weights = [weight for _, weight in rule["fractional"]]
    bucket, end = (point * sum(weights)) >> 32, 0
    for name, weight in rule["fractional"]:
        end += weight
        if bucket < end:
            return str(flag["variants"][name])
    raise AssertionError(bucket)


def points(*flags: Flag) -> list[int]:
    """Hashes on both sides of every edge of the flags, and some between."""
    found = set(range(0, HASHES, HASHES // 97))
    for flag in flags:
        rule = flag.get("targeting", {"fractional": []})["fractional"]
        whole, end = sum(weight for _, weight in rule), 0
        for _, weight in rule:
            end += weight
            edge = end * HASHES // whole
            found |= {each for each in (edge - 1, edge, edge + 1) if 0 <= each < HASHES}
    return sorted(found)


def moves(before: Flag, after: Flag) -> set[tuple[str, str]]:
    """From which variant to which anybody moves."""
    pairs = {(dealt(before, each), dealt(after, each)) for each in points(before, after)}
    return {(one, other) for one, other in pairs if one != other}


SHARES = st.one_of(
    st.integers(0, 1000).map(lambda n: n / 1000),
    st.floats(0, 1, allow_subnormal=False),
    st.sampled_from([0.005, 1 / 3, 1e-9, 0.0, 1.0]),
)
SPLITS = st.fixed_dictionaries({"c": SHARES, "a": SHARES, "b": SHARES, "d": SHARES}).filter(
    lambda split: sum(split.values()) > 0
)


@pytest.mark.parametrize(
    ("split", "weights"),
    [
        ({"c": 0.5, "a": 0.5}, [["a", 1], ["c", 1]]),
        ({"c": 0.995, "a": 0.005}, [["a", 1], ["c", 199]]),
        ({"c": 99, "a": 1}, [["a", 1], ["c", 99]]),
        ({"c": 0.7, "a": 0.1, "b": 0.2}, [["a", 1], ["b", 2], ["c", 7]]),
        ({"c": 0.99999, "a": 0.00001}, [["a", 1], ["c", 99_999]]),
        ({"c": 1.0, "a": 1e-12}, [["a", 1], ["c", FINEST - 1]]),
        ({"c": 0.0, "a": 1.0}, [["a", 1]]),
    ],
)
def test_shares_become_whole_weights(split: dict[str, float], weights: list[list[object]]) -> None:
    flag, _ = written(shown(split))
    assert flag["targeting"] == {"fractional": weights}
    assert flag["variants"] == {name: name for name in split}
    assert (flag["state"], flag["defaultVariant"]) == ("ENABLED", "c")


def test_where_everybody_gets_the_control_the_flag_has_no_rule() -> None:
    for split in ({"c": 1.0, "a": 0.0}, {"c": 0.0, "a": 0.0}):
        assert "targeting" not in written(shown(split))[0]
    flag, _ = written(shown({"c": 0.0, "a": 1.0}, off={"a": OFF}))
    assert "targeting" not in flag


@given(SPLITS)
def test_no_positive_share_becomes_nothing_and_sums_are_right(split: dict[str, float]) -> None:
    shares = list(shared(split).values())
    assert sum(shares) == 1
    numbers = whole_numbers(shares)
    whole = sum(numbers)
    assert 0 < whole <= FINEST
    for share, number in zip(shares, numbers, strict=True):
        assert (number > 0) == (share > 0)
        assert abs(Fraction(number, whole) - share) <= Fraction(len(shares), FINEST)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused_by_name(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of a: expected a number of 0 or more"):
        written(shown({"c": 0.5, "a": weight}))


def test_a_control_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="control 'c' is not in the split"):
        written(shown({"a": 1.0}))


@given(SPLITS, st.sets(st.sampled_from("abd")), st.sampled_from("abd"))
def test_a_rollback_moves_only_the_customers_of_its_treatment(
    split: dict[str, float], already: set[str], treatment: str
) -> None:
    off = dict.fromkeys(already, OFF)
    before, _ = written(shown(split, off=off))
    after, _ = written(shown(split, off={**off, treatment: OFF}))
    assert moves(before, after) <= {(treatment, "c")}
    assert treatment not in {dealt(after, point) for point in points(after)}


@given(SPLITS, st.permutations("abd"))
def test_an_order_does_to_a_flag_what_showing_it_would(
    split: dict[str, float], order: list[str]
) -> None:
    flag, _ = written(shown(split))
    for count, treatment in enumerate(order, 1):
        flag = switched_off(flag, shown({}), treatment, OFF)
        off = dict.fromkeys(order[:count], OFF)
        wanted, _ = written(shown(split, off=off))
        assert not moves(flag, wanted)
        assert written(shown(split, off=off), flag) == (wanted, ())
        assert keeps_off(flag, "offers", treatment)


@given(SPLITS, st.permutations("cabd"))
def test_listing_variants_in_another_order_moves_nobody(
    split: dict[str, float], order: list[str]
) -> None:
    one, _ = written(shown(split))
    other, _ = written(shown({name: split[name] for name in order}))
    assert one == other


@given(st.lists(st.fixed_dictionaries({name: st.integers(0, 30) for name in "abd"}), min_size=2))
def test_a_ramp_that_is_known_moves_nobody_between_treatments(
    steps: list[dict[str, int]],
) -> None:
    splits = [{**step, "c": 100 - sum(step.values())} for step in steps]
    room = {name: max(step[name] for step in steps) / 100 for name in "abd"}
    flags = [written(shown(dict(split), room=room))[0] for split in splits]
    for before, after in pairwise(flags):
        assert all("c" in move for move in moves(before, after))


def test_places_that_do_not_fit_beside_each_other_are_given_up() -> None:
    flag, _ = written(shown({"c": 0.2, "a": 0.4, "b": 0.4}, room={"a": 0.9, "b": 0.4}))
    assert flag["targeting"] == {"fractional": [["a", 2], ["b", 2], ["c", 1]]}


# --- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "epoch", "stays_off"),
    [
        (None, 0, True),  # a store that lost everything
        (None, 3, True),  # the same life: somebody else rolled it back
        (None, 4, False),  # re-armed
        (Off("later", 4, 9), 4, True),
    ],
)
def test_what_is_off_stays_off_until_a_later_epoch_says_otherwise(
    known: Off | None, epoch: int, stays_off: bool
) -> None:
    split = {"c": 0.5, "a": 0.5}
    before, _ = written(shown(split, off={"a": Off("first", 3, 5)}))
    off = {} if known is None else {"a": known}
    after, kept = written(shown(split, off=off, epochs={"a": epoch} if epoch else {}), before)
    assert keeps_off(after, "offers", "a") is stays_off
    assert kept == (("a",) if stays_off and known is None else ())
    if known is not None:
        assert remembered(after) == {"a": known}


def test_an_older_reason_does_not_replace_a_newer_one() -> None:
    before, _ = written(shown({"c": 1, "a": 1}, off={"a": Off("newer", 5, 5)}))
    after, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}, epochs={"a": 1}), before)
    assert remembered(after) == {"a": Off("newer", 5, 5)}
    again = switched_off(before, shown({}), "a", OFF)
    assert again == before


def test_treatments_that_left_the_settings_are_remembered_as_well() -> None:
    before, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}))
    after, _ = written(shown({"c": 1, "b": 1}), before)
    assert remembered(after) == {"a": OFF}
    back, kept = written(shown({"c": 1, "a": 1, "b": 1}), after)
    assert kept == ("a",)
    assert "a" not in {dealt(back, point) for point in points(back)}


def test_a_person_can_make_the_flag_forget() -> None:
    before, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}))
    after, kept = written(shown({"c": 1, "a": 1}), forgotten(before, "a"))
    assert (remembered(after), kept) == ({}, ())
    assert after == written(shown({"c": 1, "a": 1}))[0]


@pytest.mark.parametrize("spoilt", [{"abmonitor.a.epoch": "x"}, {"abmonitor.a.at": None}])
def test_a_spoilt_memory_still_says_that_it_is_off(spoilt: dict[str, object]) -> None:
    flag, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}))
    flag["metadata"] |= spoilt
    _, kept = written(shown({"c": 1, "a": 1}), flag)
    assert kept == ("a",)


def test_names_with_dots_are_remembered_as_they_are() -> None:
    off = {"a.off": OFF, "a": Off("other", 2, 2)}
    flag, _ = written(shown({"c": 1, "a": 1, "a.off": 1}, off=off))
    assert remembered(flag) == off


def test_metadata_holds_plain_values_only_and_keeps_those_of_people() -> None:
    flag, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}))
    assert all(isinstance(value, str | int) for value in flag["metadata"].values())
    flag["metadata"]["team"] = "ranking"
    again, _ = written(shown({"c": 1, "a": 1}, off={"a": OFF}), flag)
    assert again["metadata"] == flag["metadata"]


# --- flags of others, and orders without a flag of ours --------------------------------------------


@pytest.mark.parametrize("metadata", [{}, {"abmonitor": "others"}, {"team": "x"}, None, 3])
def test_a_flag_of_somebody_else_is_left_alone(metadata: object) -> None:
    flag = {"state": "ENABLED", "variants": {"on": True}, "metadata": metadata}
    for change in (
        lambda: written(shown({"c": 1, "a": 1}), flag),
        lambda: switched_off(flag, shown({}), "a", OFF),
    ):
        with pytest.raises(ForeignFlagError, match=r"flag 'offers' is .+ another key"):
            change()
    assert not keeps_off(flag, "offers", "a")


def test_an_order_without_a_flag_makes_one_of_the_intended_split() -> None:
    flag = switched_off(None, shown({"c": 0.8, "a": 0.0, "b": 0.2}), "a", OFF)
    assert flag["targeting"] == {"fractional": [["b", 1], ["c", 4]]}
    assert keeps_off(flag, "offers", "a")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "DISABLED"},
        {"targeting": {"if": [True, "a", "c"]}},
        {"targeting": {"fractional": [["a", 0.5], ["c", 1]]}},
        {"targeting": {"fractional": [["a", 1], ["gone", 1]]}},
        {"targeting": {"fractional": [["a", 0], ["c", 0]]}},
        {"targeting": {"fractional": "a"}},
        {"defaultVariant": "a", "targeting": {}},
        {"defaultVariant": 3},
        {"variants": []},
    ],
)
def test_an_order_wins_over_whatever_somebody_made_of_our_flag(changes: dict[str, object]) -> None:
    flag: Flag = written(shown({"c": 1, "a": 1}))[0] | changes
    assert not keeps_off(flag, "offers", "a")
    after = switched_off(flag, shown({}), "a", OFF)
    assert keeps_off(after, "offers", "a")
    assert {dealt(after, point) for point in points(after)} == {"c"}


def test_a_rehearsal_moves_nobody_and_leaves_a_note() -> None:
    flag, _ = written(shown({"c": 1, "a": 1}))
    after = switched_off(flag, shown({}), "a", OFF, rehearsal=True)
    assert dealing(after) == dealing(flag)
    assert after["metadata"] == {"abmonitor": "offers", "abmonitor.a.would_roll_back": OFF.decision}
    assert written(shown({"c": 1, "a": 1}), after)[0] == after
    done = switched_off(after, shown({}), "a", OFF)
    assert "abmonitor.a.would_roll_back" not in done["metadata"]
    with pytest.raises(ValueError, match="no flag 'offers' yet"):
        switched_off(None, shown({}), "a", OFF, rehearsal=True)


@given(SPLITS, st.sets(st.sampled_from("abd")))
def test_what_is_written_is_json_and_writing_it_again_changes_nothing(
    split: dict[str, float], off: set[str]
) -> None:
    want = shown(split, off=dict.fromkeys(off, OFF))
    flag, _ = written(want)
    assert json.loads(msgspec.json.encode(flag)) == flag
    assert written(want, flag) == (flag, ())
