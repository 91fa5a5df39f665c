"""Each decision once, none lost: which decisions are new after a start, a take-over, a loss."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from support.news import NOW, decision

from alerts.book import Decision
from alerts.notifiers.fresh import KEPT, RECENT_MS, Fresh, Progress


def made(count: int, *, at: int = NOW - 10 * RECENT_MS) -> list[Decision]:
    return [decision(number, at=at) for number in range(count)]


def numbers(found: Sequence[Decision]) -> list[int]:
    return [int(one.id.rpartition(":")[2]) for one in found]


def test_what_was_there_at_the_start_is_not_new() -> None:
    assert Fresh().look(made(5), NOW) == []


def test_what_comes_is_new_once_however_old_the_data_is() -> None:
    fresh, decisions = Fresh(), made(5)
    fresh.look(decisions[:2], NOW)
    assert numbers(fresh.look(decisions, NOW)) == [2, 3, 4]
    assert fresh.look(decisions, NOW) == []


def test_what_was_decided_just_before_the_start_is_told_by_whom_starts() -> None:
    old, recent = decision(1, at=NOW - RECENT_MS - 1), decision(2, at=NOW - RECENT_MS)
    assert numbers(Fresh().look([old, recent], NOW)) == [2]


def test_a_cursor_says_exactly_what_is_left_to_tell() -> None:
    decisions = made(5)
    assert numbers(Fresh().look(decisions, NOW, cursor=decisions[1].id)) == [2, 3, 4]
    assert Fresh().look(decisions, NOW, cursor=decisions[-1].id) == []


def test_a_cursor_that_is_too_old_to_be_shown_is_as_good_as_none() -> None:
    decisions = [*made(3), decision(7, at=NOW)]
    assert numbers(Fresh().look(decisions, NOW, cursor="offers:ranker-v2:1:0")) == [7]


def test_while_another_monitor_leads_nothing_is_told() -> None:
    fresh, decisions = Fresh(), made(4)
    assert fresh.look(decisions[:1], NOW, mine=False) == []
    assert fresh.look(decisions, NOW, mine=False) == []


def test_who_takes_over_tells_the_latest_minute_whatever_the_age_of_its_data() -> None:
    fresh, decisions = Fresh(), made(4)
    fresh.look(decisions[:2], NOW, mine=False)
    fresh.look(decisions[:3], NOW, mine=False)
    fresh.look(decisions, NOW + RECENT_MS, mine=False)
    assert numbers(fresh.look(decisions, NOW + RECENT_MS + 1)) == [3]


def test_who_takes_over_again_does_not_repeat_itself() -> None:
    fresh, decisions = Fresh(), made(3)
    fresh.look(decisions[:1], NOW)
    assert numbers(fresh.look(decisions[:2], NOW)) == [1]
    fresh.look(decisions, NOW, mine=False)
    assert numbers(fresh.look(decisions, NOW)) == [2]


def test_a_state_that_is_lost_and_comes_back_is_not_told_again() -> None:
    fresh, decisions = Fresh(), made(5)
    fresh.look(decisions, NOW)
    assert fresh.look([], NOW) == []
    assert fresh.look(decisions, NOW) == []


def test_what_a_cursor_covers_is_not_told_when_it_comes_back_later() -> None:
    fresh, decisions = Fresh(), made(5)
    assert fresh.look([], NOW, cursor=decisions[2].id) == []
    assert numbers(fresh.look(decisions, NOW)) == [3, 4]


def test_what_is_remembered_is_bounded_and_still_nothing_is_told_twice() -> None:
    fresh, decisions = Fresh(), made(10 * KEPT)
    told: list[int] = []
    for end in range(0, len(decisions) + 1, 50):
        told += numbers(fresh.look(decisions[max(0, end - 100) : end], NOW))
    assert told == list(range(len(decisions)))
    assert len(fresh._noticed) == len(fresh._told) == KEPT


@given(st.permutations(range(6)))
def test_a_cursor_never_passes_what_is_not_settled(order: list[int]) -> None:
    progress = Progress()
    for number in range(6):
        progress.add(str(number), 1)
    settled: set[int] = set()
    for number in order:
        progress.settle(str(number))
        settled.add(number)
        first_open = next((n for n in range(6) if n not in settled), 6)
        assert progress.cursor == (str(first_open - 1) if first_open else None)


def test_a_cursor_waits_for_every_notifier() -> None:
    progress = Progress()
    progress.add("a", 2)
    progress.settle("a")
    assert progress.cursor is None
    progress.settle("a")
    assert progress.cursor == "a"
    progress.settle("a")
    progress.add("b", 0)
    assert progress.cursor == "b"
