from collections.abc import Callable
from dataclasses import replace as replaced

import msgspec
import pytest
from support.eventfiles import MINUTE, SETTINGS, START, traffic
from support.views import settings_of, view_of

from abmonitor import viewing
from abmonitor.settings import ExperimentSettings
from abmonitor.view import ExperimentView, View
from abmonitor.viewing import SMALL_FLEET, Comparing, Turns
from alerts.book import Book
from alerts.cohorts import pairs
from metrics.compare import compare
from metrics.snapshot import Snapshot


NAMES = [f"e{number}" for number in range(SMALL_FLEET + 5)]


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by `step` seconds whenever it is asked."""
    now = [0.0]

    def seconds() -> float:
        now[0] += step
        return now[0]

    return seconds


def test_everybody_has_a_turn_before_anybody_has_a_second_one() -> None:
    turns = Turns(ticking(1.0))
    taken = [list(turns.take(NAMES, 3.0)) for _ in range(5)]
    assert taken == [NAMES[at : at + 3] for at in range(0, 15, 3)]
    assert list(turns.take(NAMES, 3.0)) == taken[0]


def test_however_little_time_there_is_one_has_its_turn() -> None:
    turns = Turns(ticking(1.0))
    assert [list(turns.take(NAMES, 0.0)) for _ in range(3)] == [[name] for name in NAMES[:3]]


def test_a_newcomer_is_the_next() -> None:
    turns = Turns(ticking(1.0))
    list(turns.take(NAMES, None))
    assert list(turns.take([*NAMES, "new"], 1.0)) == ["new"]


@pytest.mark.parametrize(("names", "budget"), [(NAMES, None), (NAMES[:SMALL_FLEET], 0.0)])
def test_without_a_budget_and_in_a_small_fleet_all_have_their_turn(
    names: list[str], budget: float | None
) -> None:
    turns = Turns(ticking(1.0))
    for _ in range(2):
        assert sorted(turns.take(names, budget)) == sorted(names)


# --- comparisons ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def view() -> View:
    return view_of(traffic(1_500), settings_of(SETTINGS))


@pytest.fixture
def shown(view: View) -> ExperimentView:
    (found,) = view.experiments.values()
    return found


class Fleet:
    """Experiments that are alike, and who was compared."""

    def __init__(self, shown: ExperimentView, monkeypatch: pytest.MonkeyPatch) -> None:
        self.experiments = [msgspec.structs.replace(shown.experiment, name=name) for name in NAMES]
        self.snapshots = dict.fromkeys(NAMES, shown.snapshot)
        self.books = dict.fromkeys(NAMES, shown.book)
        self.compared: list[str] = []

        def noted(experiment: ExperimentSettings, *rest: object) -> object:
            self.compared.append(experiment.name)
            return compare(experiment, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(viewing, "compare", noted)

    def grown(self) -> None:
        """Cohorts change, as a reader would have it: another mapping."""
        self.snapshots = {name: anew(one) for name, one in self.snapshots.items()}

    def seen(self, comparing: Comparing) -> list[str]:
        """Who is compared now."""
        self.compared.clear()
        comparing.of(self.snapshots, self.books)
        return list(self.compared)


def anew(snapshot: Snapshot) -> Snapshot:
    changed = {
        name: replaced(facts, cohorts=dict(facts.cohorts))
        for name, facts in snapshot.variants.items()
    }
    return replaced(snapshot, variants=changed)


def harmed(book: Book, treatment: str) -> Book:
    standing = msgspec.structs.replace(book.standings[treatment], ordered_at=START + MINUTE)
    return msgspec.structs.replace(book, standings={**book.standings, treatment: standing})


@pytest.fixture
def fleet(shown: ExperimentView, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(shown, monkeypatch)


def test_comparisons_are_what_compare_says(shown: ExperimentView, fleet: Fleet) -> None:
    comparing = Comparing(fleet.experiments, None)
    found = comparing.of(fleet.snapshots, fleet.books)
    paired = {
        name: pairs(shown.book, name, shown.experiment, shown.snapshot)
        for name in shown.experiment.treatments
    }
    planned = shown.experiment.testing.planned
    assert found == dict.fromkeys(NAMES, compare(shown.experiment, paired, frozenset(), planned))
    assert found[NAMES[0]]["new"].differences["rap"] is not None


def test_nobody_is_compared_twice_while_nothing_changes(fleet: Fleet) -> None:
    comparing = Comparing(fleet.experiments, None)
    assert fleet.seen(comparing) == NAMES
    assert fleet.seen(comparing) == []
    fleet.grown()
    assert fleet.seen(comparing) == NAMES


def test_with_a_budget_comparisons_take_turns_but_the_first_never_waits(fleet: Fleet) -> None:
    comparing = Comparing(fleet.experiments, 5.0, ticking(1.0))
    assert fleet.seen(comparing) == NAMES
    fleet.grown()
    assert sorted(name for _ in range(3) for name in fleet.seen(comparing)) == sorted(NAMES)
    assert fleet.seen(comparing) == []


def test_what_changes_about_harm_is_shown_at_once(fleet: Fleet) -> None:
    comparing = Comparing(fleet.experiments, 1.0, ticking(1.0))
    fleet.seen(comparing)
    last = NAMES[-1]
    fleet.books[last] = harmed(fleet.books[last], "new")
    assert fleet.seen(comparing) == [last]
    found = comparing.of(fleet.snapshots, fleet.books)
    assert found[last]["new"].recommendation != found[NAMES[0]]["new"].recommendation
