"""The chain of decisions: what was written down stays as it was, and nothing is missing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import decision

from alerts.book import Decision
from alerts.chain import broken, is_whole, seal
from alerts.judge import Judgement, Phase


def chain(length: int) -> list[Decision]:
    made: list[Decision] = []
    for number in range(1, length + 1):
        made.append(seal(decision(number), made[-1].hash if made else ""))
    return made


def test_a_chain_that_nobody_touched_is_whole() -> None:
    assert broken(chain(5)) is None
    assert broken([]) is None


def test_a_part_of_a_chain_is_whole_too() -> None:
    assert broken(chain(5)[2:]) is None


def test_a_decision_that_was_written_and_read_is_whole() -> None:
    read = msgspec.json.decode(msgspec.json.encode(chain(2)), type=list[Decision])
    assert broken(read) is None


def test_a_whole_number_where_a_fraction_may_stand_reads_as_the_same() -> None:
    judgement = Judgement(
        guardrail="rap", metric="rap", phase=Phase.PASS, at=1, reason="", n_effective=0
    )
    made = seal(msgspec.structs.replace(decision(1), judgements={"rap": judgement}), "")
    read = msgspec.json.decode(msgspec.json.encode(made), type=Decision)
    assert isinstance(read.judgements["rap"].n_effective, float)
    assert is_whole(made)
    assert is_whole(read)


CHANGES = {
    "action": "pass",
    "at": 7,
    "reasons": ("nothing",),
    "actor": "eve",
    "epoch": 9,
    "settings": "f2",
    "dry_run": True,
    "watermark": None,
    "counts": {"new": {"tp": 2}},
    "previous": "0" * 64,
    "hash": "0" * 64,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_decision_that_was_changed_is_found(field: str) -> None:
    made = chain(3)
    made[1] = msgspec.structs.replace(made[1], **{field: CHANGES[field]})
    assert broken(made) == f"{made[1].id} was changed after it was written down"
    assert not is_whole(made[1])


@given(st.integers(1, 8), st.data())
def test_a_decision_that_is_missing_or_stands_elsewhere_is_found(
    length: int, data: st.DataObject
) -> None:
    made = chain(length + 2)
    at = data.draw(st.integers(1, length))
    assert "something is missing" in str(broken(made[:at] + made[at + 1 :]))
    swapped = [*made[: at - 1], made[at], made[at - 1], *made[at + 1 :]]
    assert broken(swapped) is not None


def test_a_forged_successor_does_not_fit_the_one_that_follows() -> None:
    made = chain(3)
    forged = seal(msgspec.structs.replace(made[1], actor="eve"), made[0].hash)
    assert is_whole(forged)
    assert "something is missing" in str(broken([made[0], forged, made[2]]))
