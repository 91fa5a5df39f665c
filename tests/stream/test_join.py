from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.events import BASE, EARLY_FOR, FAST, SLOW

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels, Money
from stream.events import Outcome, Prediction
from stream.join import MAX_WAITING, Joined, Joiner
from stream.rows import (
    ACTED,
    ACTUAL,
    EARLY_STRUCT,
    LABELLED,
    NEVER,
    PREDICTED,
    Early,
    cents_in,
    digest,
    early_in,
    flags_of,
    pack_early,
    unpack_rows,
)
from stream.screen import Screened, ScreenedOutcome, SpecTable, screen


PRICED = replace(FAST, name="priced", money=Money(cap=100))
SPECS = SpecTable([FAST, SLOW, PRICED])
KEY = digest(b"p")

HORIZON, GRACE, WAIT, REMEMBERED = 60_000, 10_000, 70_000, 100_000
"""Of `FAST`."""

Timed = tuple[int, Prediction | Outcome]


def p(after: int = 0, name: str = "p", **fields: Any) -> Timed:
    """A prediction that arrived `after` ms."""
    named: dict[str, Any] = {"experiment": "fast", "variant": "a", "predicted": True}
    return BASE + after, Prediction(name, time=BASE, **named | fields)


def o(
    after: int, *, time: int = 0, actual: bool = True, name: str = "p", value: float | None = None
) -> Timed:
    """An outcome that arrived `after` ms and happened at `time`."""
    return BASE + after, Outcome(name, actual=actual, time=BASE + time, value=value)


def screened(*events: Timed) -> list[Screened]:
    return screen([event for _, event in events], [arrival for arrival, _ in events], SPECS).usable


def join(*events: Timed, after: Joined | None = None) -> Joined:
    """Join `events` as one batch, `after` another whose changes are stored."""
    stored = {} if after is None else after.pending
    early = {} if after is None else after.early
    return Joiner(SPECS, stored, early, EARLY_FOR).join(screened(*events))


def label(*joined: Joined) -> bool | None:
    """The label that the prediction `p` ended up with."""
    row = next((j.pending[KEY] for j in reversed(joined) if KEY in j.pending), None)
    assert row is not None
    flags = int(flags_of(unpack_rows([row]))[0])
    return bool(flags & ACTUAL) if flags & LABELLED else None


def tallies(*joined: Joined) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in joined:
        for result, count in one.tallies.items():
            found[result] = found.get(result, 0) + count
    return {result: count for result, count in found.items() if count}


ORDERS: dict[str, Sequence[Sequence[int]]] = {
    "prediction first, in one batch": [[0, 1]],
    "outcome first, in one batch": [[1, 0]],
    "prediction first, stored": [[0], [1]],
    "outcome first, stored": [[1], [0]],
}


def in_order(order: str, *events: Timed) -> list[Joined]:
    batches: list[Joined] = []
    for numbers in ORDERS[order]:
        before = batches[-1] if batches else None
        batches.append(join(*(events[n] for n in numbers), after=before))
    return batches


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("after", "time", "result"),
    [
        (-EARLY_FOR - 1, 0, None),
        (-EARLY_FOR, 0, "outcomes"),
        (-EARLY_FOR, HORIZON + 1, "late"),
        (0, 0, "outcomes"),
        (10, -1_000_000, "outcomes"),
        (10, HORIZON, "outcomes"),
        (10, HORIZON + 1, "late"),
        (WAIT, HORIZON, "outcomes"),
        (WAIT, HORIZON + 1, "late"),
        (WAIT + 1, HORIZON, "late"),
        (REMEMBERED, 0, "late"),
        (REMEMBERED + 1, 0, None),
    ],
)
def test_what_an_outcome_does_depends_on_the_two_records_alone(
    order: str, after: int, time: int, result: str | None
) -> None:
    joined = in_order(order, p(), o(after, time=time))
    expected = {"predictions": 1} | ({result: 1} if result else {})
    assert tallies(*joined) == expected
    assert label(*joined) is (True if result == "outcomes" else None)
    waiting = [digest for one in joined for digest in one.early]
    if result is None:  # it waits, and goes on waiting
        assert waiting
        assert KEY not in joined[-1].early_gone


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("actual", [True, False])
def test_a_label_is_told_with_the_row_and_the_moment_at_which_both_were_there(
    order: str, actual: bool
) -> None:
    joined = in_order(order, p(500), o(200, actual=actual))
    rows = [row for one in joined for row in one.labelled]
    assert [at for one in joined for at in one.labelled_at] == [BASE + 500]
    assert rows == [joined[-1].pending[KEY]]
    expected = PREDICTED | ACTED | LABELLED | (ACTUAL if actual else 0)
    assert int(flags_of(unpack_rows(rows))[0]) == expected


def test_an_outcome_that_met_its_prediction_waits_no_longer() -> None:
    first = join(o(0))
    assert set(first.early) == {KEY}
    second = join(p(5), after=first)
    assert (second.early_gone, second.early) == ([KEY], {})
    assert [event.digest for event in second.new] == [KEY]


def test_only_outcomes_that_wait_are_queued() -> None:
    joined = join(o(0, name="q"), p(1), o(2), o(3))
    assert [event.digest for event in joined.waiting] == [digest(b"q")]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("actual", [True, False])
def test_a_prediction_earns_the_value_of_its_outcome_less_its_cost(
    order: str, actual: bool
) -> None:
    priced = p(experiment="priced", cost=2.5)
    joined = in_order(order, priced, o(-20, actual=actual, value=12.34))
    assert earned(*joined) == 984
    assert earned(*in_order(order, priced, o(-20))) == -250
    assert earned(join(priced)) == -250


def earned(*joined: Joined) -> int:
    row = next(j.pending[KEY] for j in reversed(joined) if KEY in j.pending)
    return int(cents_in(unpack_rows([row]))[0])


@pytest.mark.parametrize("together", [True, False])
def test_only_the_value_of_the_outcome_that_counts_is_earned(together: bool) -> None:
    outcomes = [o(1, time=HORIZON + 1, value=1), o(2, value=2), o(3, value=4)]
    first = join(p(experiment="priced"))
    joined = join(p(experiment="priced"), *outcomes) if together else join(*outcomes, after=first)
    assert earned(joined) == 200
    early = join(*outcomes)
    assert earned(join(p(5, experiment="priced"), after=early)) == 200


def test_a_value_of_an_experiment_without_money_changes_nothing() -> None:
    assert join(p(), o(1, value=7)).pending == join(p(), o(1)).pending


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("after", "time", "needed"),
    [
        (5, 0, 0),
        (-20, -1_000, 0),
        (5, 700, 700),
        (GRACE, 0, 0),
        (GRACE + 1, 0, 1),
        (GRACE + 800, 700, 800),
        (GRACE + 700, 800, 800),
        (WAIT, HORIZON, HORIZON),
        (WAIT + 1, HORIZON, NEVER),
    ],
)
def test_how_long_a_label_took_is_kept_by_both_clocks(
    order: str, after: int, time: int, needed: int
) -> None:
    """By its time, and by its arrival less the grace: the later of the two."""
    joined = in_order(order, p(experiment="priced"), o(after, time=time))
    row = next(j.pending[KEY] for j in reversed(joined) if KEY in j.pending)
    assert unpack_rows([row])["needed"].tolist() == [needed]


@given(
    st.lists(
        st.builds(
            Early,
            st.integers(0, 2**62),
            st.integers(0, 2**53),
            st.integers(0, 1),
            st.just(0) | st.integers(-(2 * 10**9), 2 * 10**9),
        )
    )
)
def test_outcomes_that_wait_read_back_with_and_without_a_value(waiting: list[Early]) -> None:
    packed = b"".join(map(pack_early, waiting))
    assert early_in(packed) == waiting
    valued = sum(1 for early in waiting if early.cents)
    assert len(packed) == len(waiting) * EARLY_STRUCT.size + 4 * valued


# --- several of one id ----------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_the_first_outcome_that_counts_wins(together: bool) -> None:
    first = join(p(), o(1, time=HORIZON + 1), o(2, actual=False), o(3, actual=True))
    if not together:
        head = join(p(), o(1, time=HORIZON + 1))
        first = join(o(2, actual=False), o(3, actual=True), after=head)
        assert tallies(head) == {"predictions": 1, "late": 1}
    assert tallies(first)["outcomes"] == 1
    assert tallies(first)["duplicate"] == 1
    assert label(first) is False


@pytest.mark.parametrize("stored", [True, False])
def test_of_outcomes_that_came_first_the_first_that_counts_wins(stored: bool) -> None:
    outcomes = [
        o(-EARLY_FOR - 1, actual=True),  # waited too long
        o(-20, time=HORIZON + 1, actual=True),  # late by its time
        o(-10, actual=False),
        o(-5, actual=True),
    ]
    joined = [join(*outcomes, p())]
    if stored:
        joined = [join(*outcomes[:2]), join(*outcomes[2:]), join(p())]
        joined[1] = join(*outcomes[2:], after=joined[0])
        joined[2] = join(p(), after=joined[1])
    assert label(*joined) is False
    assert tallies(*joined) == {"predictions": 1, "late": 1, "outcomes": 1, "duplicate": 1}
    left = joined[-1].early[KEY]
    assert [arrival for arrival, _, _ in EARLY_STRUCT.iter_unpack(left)] == [BASE - EARLY_FOR - 1]


def test_a_prediction_that_comes_again_is_a_duplicate_and_changes_nothing() -> None:
    again = p(5, predicted=False)
    joined = join(p(), again)
    assert tallies(joined) == {"predictions": 1, "duplicate": 1}
    assert len(joined.new) == 1
    stored = join(again, after=join(p()))
    assert (tallies(stored), stored.pending, stored.new) == ({"duplicate": 1}, {}, [])
    assert stored.stop is None


def test_a_duplicate_after_the_label_does_not_take_it_away() -> None:
    joined = join(p(), o(1), p(2))
    assert tallies(joined) == {"predictions": 1, "outcomes": 1, "duplicate": 1}
    assert label(joined) is True


@pytest.mark.parametrize("value", [None, 5.0])
def test_the_number_of_outcomes_that_wait_for_one_id_is_bounded(value: float | None) -> None:
    joined = join(*(o(n, value=value) for n in range(MAX_WAITING + 3)))
    assert tallies(joined) == {"duplicate": 3}
    assert len(early_in(joined.early[KEY])) == MAX_WAITING


# --- ids that are used again ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "stops"), [(REMEMBERED, False), (REMEMBERED + 1, True)], ids=["too soon", "later"]
)
@pytest.mark.parametrize("together", [True, False])
def test_an_id_that_should_have_been_forgotten_stops_the_batch(
    after: int, stops: bool, together: bool
) -> None:
    joined = join(p(), p(after)) if together else join(p(after), after=join(p()))
    assert joined.stop == ((1 if together else 0) if stops else None)
    assert tallies(joined).get("duplicate", 0) == (0 if stops else 1)


def test_how_long_an_id_is_remembered_is_up_to_the_experiment_that_used_it() -> None:
    def slow(after: int = 0) -> Timed:
        return p(after, experiment="slow", variant="new", weight=1.0)

    assert join(slow(REMEMBERED + 1), after=join(p())).stop == 0
    assert tallies(join(p(REMEMBERED + 1), after=join(slow()))) == {"duplicate": 1}
    assert join(p(280_001), after=join(slow())).stop == 0


def test_outcomes_of_an_experiment_that_is_no_longer_configured_are_ignored() -> None:
    other = Experiment(
        name="gone", control="a", variants={"a": 1}, labels=Labels(horizon=Duration(1_000))
    )
    specs = SpecTable([other])
    gone = screen([Prediction("p", "gone", "a", predicted=True)], [BASE], specs).usable
    row = Joiner(specs, {}, {}, EARLY_FOR).join(gone).pending
    outcome = ScreenedOutcome(0, KEY, BASE, BASE, actual=True)
    joined = Joiner(SPECS, row, {}, EARLY_FOR).join([outcome])
    assert (tallies(joined), joined.early, joined.pending) == ({"ignored": 1}, {}, {})


def test_what_is_stored_is_not_touched() -> None:
    stored = join(p())
    before = dict(stored.pending)
    join(o(1), after=stored)
    assert stored.pending == before
