"""What matured, by stretch with one split, is added up again just when it may have changed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.panes import COHORT, EXPERIMENT, START, matured

from alerts.book import Book, Phase, Stretch
from alerts.cohorts import Pairs, pairs
from alerts.standing import Standing
from metrics.ledger import Ledger, total
from metrics.snapshot import Snapshot, VariantFacts


HALVES, ONE_IN_TEN = {"old": 0.5, "new": 0.5}, {"old": 0.9, "new": 0.1}


def with_cohort(facts: VariantFacts, number: int, ledger: Ledger) -> VariantFacts:
    """As a reader has it: a snapshot stays as it was."""
    cohorts = {**facts.cohorts, START + number * COHORT: ledger}
    return replace(facts, cohorts=cohorts, mature=total(cohorts.values()))


def both(cohorts: int = 4) -> Snapshot:
    facts = VariantFacts()
    for number in range(cohorts):
        facts = with_cohort(facts, number, matured(tp=1))
    return Snapshot(EXPERIMENT.name, {"old": facts, "new": replace(facts, cohorts=facts.cohorts)})


def read_again(snapshot: Snapshot) -> Snapshot:
    """The next snapshot, with more arrivals, and the same cohorts added up once more."""
    variants = {
        name: replace(facts, fine={START: matured(tp=1)}, mature=total(facts.cohorts.values()))
        for name, facts in snapshot.variants.items()
    }
    return replace(snapshot, variants=variants)


def changed(snapshot: Snapshot, variant: str, number: int, tp: int) -> Snapshot:
    facts = with_cohort(snapshot.variants[variant], number, matured(tp=tp))
    return replace(snapshot, variants={**snapshot.variants, variant: facts})


def book(since: int = START, split: dict[str, float] = HALVES, begun: int = 0) -> Book:
    return Book(
        standings={"new": Standing(begun=begun)},
        phase=Phase(since=since, split=split),
        past=(Stretch(since=START, until=since, split=HALVES),) if since > START else (),
    )


def test_nothing_is_added_up_again_while_cohorts_and_stretches_stay() -> None:
    memo, snapshot = Pairs(EXPERIMENT), both()
    first = memo.of(book(), "new", snapshot)
    counted = Phase(since=START, split=HALVES, counts={"new": 7})
    again = memo.of(Book(version=9, phase=counted, seen={"new": 7}), "new", read_again(snapshot))
    assert again is first
    assert first == [(matured(tp=4), matured(tp=4))]


@pytest.mark.parametrize("variant", ["old", "new"])
@pytest.mark.parametrize("number", [0, 4], ids=["rewritten", "another"])
def test_a_cohort_of_either_variant_is_seen_at_once(variant: str, number: int) -> None:
    memo, before = Pairs(EXPERIMENT), both()
    memo.of(book(), "new", before)
    ((ours, theirs),) = memo.of(book(), "new", changed(before, variant, number, tp=100))
    told = {"new": ours, "old": theirs}
    assert told[variant].cells.tp.n == 100 + (4 if number else 3)
    assert told["old" if variant == "new" else "new"] == matured(tp=4)


def test_another_split_is_seen_at_once() -> None:
    memo, snapshot = Pairs(EXPERIMENT), both()
    memo.of(book(), "new", snapshot)
    later = book(START + COHORT, ONE_IN_TEN)
    assert memo.of(later, "new", snapshot) == [
        (matured(tp=1), matured(tp=1)),
        (matured(tp=3), matured(tp=3)),
    ]


def test_a_new_epoch_is_seen_at_once() -> None:
    memo, snapshot = Pairs(EXPERIMENT), both()
    memo.of(book(), "new", snapshot)
    rearmed = book(begun=START + 3 * COHORT)
    assert memo.of(rearmed, "new", snapshot) == [(matured(tp=1), matured(tp=1))]


def test_treatments_are_kept_apart() -> None:
    snapshot = both()
    third = with_cohort(VariantFacts(), 0, matured(tp=50))
    snapshot = replace(snapshot, variants={**snapshot.variants, "third": third})
    memo = Pairs(EXPERIMENT)
    first = memo.of(Book(), "new", snapshot)
    assert memo.of(Book(), "third", snapshot) == [(matured(tp=50), matured(tp=4))]
    assert memo.of(Book(), "new", snapshot) is first


steps = st.one_of(
    st.tuples(st.just("cohort"), st.sampled_from(["old", "new"]), st.integers(0, 3)),
    st.tuples(st.just("phase"), st.sampled_from([HALVES, ONE_IN_TEN]), st.integers(0, 4)),
    st.tuples(st.just("begun"), st.none(), st.integers(0, 4)),
    st.tuples(st.just("empty"), st.none(), st.just(0)),
    st.tuples(st.just("read"), st.none(), st.just(0)),
)


@given(st.lists(steps, max_size=12))
def test_it_is_what_adding_up_gives_whatever_happens(
    happenings: list[tuple[str, str | dict[str, float] | None, int]],
) -> None:
    memo, snapshot, found = Pairs(EXPERIMENT), both(2), book()
    for tp, (what, which, number) in enumerate(happenings, start=2):
        if isinstance(which, str):
            snapshot = changed(snapshot, which, number, tp)
        elif isinstance(which, dict):
            found = book(START + number * COHORT, which, found.standings["new"].begun)
        elif what == "begun":
            standings = {"new": Standing(begun=START + number * COHORT)}
            found = Book(standings=standings, phase=found.phase, past=found.past)
        elif what == "empty":  # the store was flushed
            snapshot = both(0)
        else:
            snapshot = read_again(snapshot)
        assert memo.of(found, "new", snapshot) == pairs(found, "new", EXPERIMENT, snapshot)
