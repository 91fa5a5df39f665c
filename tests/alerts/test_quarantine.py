"""Quarantine: versions that were rolled back, and what it takes to try them again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from support.panes import EXPERIMENT, START, steady

from alerts.book import Book
from alerts.deliberate import Deliberation, Outcome
from alerts.health import STRAYS, HoldOptions
from alerts.machine import Accepted, Command, Happening, ReadBack
from alerts.order import Verification
from alerts.quarantine import LATELY, VERSIONS_KEPT, blocking, causes, lately, sighted
from alerts.standing import Sighting, Standing, State
from metrics.duration import Duration
from metrics.experiment import HOUR, MINUTE
from metrics.moment import Moment
from metrics.snapshot import Snapshot


NOW = START + HOUR
HOLD = HoldOptions(cool_down=Duration(0))


def deliberation(fingerprint: str = "f1", *, dry_run: bool = False) -> Deliberation:
    return Deliberation(EXPERIMENT, (), HOLD, fingerprint, dry_run)


@dataclass(slots=True)
class Case:
    """An experiment whose treatment serves `versions` (when each was last seen)."""

    versions: Mapping[str, int]
    deliberation: Deliberation = field(default_factory=deliberation)
    book: Book = field(default_factory=Book)

    def snapshot(self, at: int) -> Snapshot:
        made = steady(NOW + 2 * HOUR).snapshot(at)
        new = replace(made.variants["new"], versions=self.versions)
        return replace(made, variants={**made.variants, "new": new})

    def tell(self, happening: Happening) -> Outcome:
        made = self.deliberation.apply(
            Outcome(self.book), "new", happening, self.snapshot(happening.at)
        )
        self.book = made.book
        return made

    def say(self, verb: str, at: int, *, force: bool = False) -> Outcome:
        return self.tell(Command(at, verb, "ann", "because", force=force))

    def looks(self, start: int, minutes: int, *serving: str) -> tuple[str, ...]:
        """Look every minute while `serving` are seen; why the treatment is on hold after that."""
        for at in range(start, start + minutes * MINUTE, MINUTE):
            self.versions = {**self.versions, **dict.fromkeys(serving, at - 1)}
            for edge in self.deliberation.examiner.edges(self.book, self.snapshot(at)):
                self.book = self.deliberation.look(self.book, edge, self.snapshot(at)).book
        standing = self.book.standings["new"]
        return standing.causes if standing.state is State.HOLD else ()


def rolled_back(versions: Mapping[str, int]) -> Case:
    case = Case(versions)
    assert case.say("rollback", NOW).orders
    case.tell(Accepted(NOW, observable=False))
    case.tell(ReadBack(NOW, Verification.DONE))
    assert case.book.standings["new"].state is State.ROLLED_BACK
    return case


# --- which versions serve ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({}, ()),
        ({"2.3.1": NOW - 1}, ("2.3.1",)),
        ({"2.3.0": NOW - LATELY - 2, "2.3.1": NOW - 1}, ("2.3.1",)),
        ({"2.3.0": NOW - LATELY - 1, "2.3.1": NOW - 1}, ("2.3.0", "2.3.1")),
        ({"2.3.0": NOW - LATELY, "2.3.1": NOW + HOUR}, ("2.3.0", "2.3.1")),  # as seen from NOW
        ({"2.3.0": NOW - HOUR, "2.3.1": NOW - 20 * MINUTE}, ("2.3.1",)),  # it fell silent
        ({"2.3.1": START - 1}, ()),  # before the epoch
    ],
)
def test_the_versions_that_served_are_those_seen_shortly_before_the_newest_traffic(
    versions: dict[str, int], found: tuple[str, ...]
) -> None:
    assert lately(versions, NOW, START) == found


def test_only_the_newest_version_stands_in_the_way() -> None:
    book = Book(quarantined={"new": {"2.3.1": 5}, "newer": {"2.3.2": 5}})
    assert blocking(book, "new", {"2.3.1": 9}) == {"2.3.1": 5}
    assert blocking(book, "new", {"2.3.1": 9, "2.3.2": 10}) == {}
    assert blocking(book, "new", {"2.3.1": 9, "2.3.0": 9}) == {"2.3.1": 5}
    assert blocking(book, "new", {}) == {}
    assert blocking(Book(), "new", {"2.3.1": 9}) == {}


# --- in and out -------------------------------------------------------------------------------------


def test_a_rollback_puts_what_served_into_quarantine_and_names_it_in_the_order() -> None:
    case = Case({"2.3.0": NOW - HOUR, "2.3.1": NOW - 1, "2.3.1b": NOW - MINUTE})
    (order,) = case.say("rollback", NOW).orders
    assert order.versions == ("2.3.1", "2.3.1b")
    assert case.book.quarantined == {"new": {"2.3.1": NOW, "2.3.1b": NOW}}
    assert msgspec.json.decode(msgspec.json.encode(case.book), type=Book) == case.book


def test_without_versions_nothing_is_in_quarantine_and_nothing_refused() -> None:
    case = rolled_back({})
    assert case.book.quarantined == {}
    made = case.say("rearm", NOW + HOUR)
    assert (made.refused, case.book.standings["new"].epoch) == ({}, 2)


def test_a_dry_run_puts_nothing_into_quarantine() -> None:
    case = Case({"2.3.1": NOW}, deliberation(dry_run=True))
    assert case.say("rollback", NOW).decisions[0].action == "would_roll_back"
    assert case.book.quarantined == {}


def test_a_version_in_quarantine_is_armed_again_only_with_force_which_lets_it_out() -> None:
    case = rolled_back({"2.3.1": NOW - 1})
    before = case.book
    refused = case.say("rearm", NOW + HOUR)
    assert "2.3.1" in refused.refused["new"]
    assert (refused.decisions, case.book) == ((), before)
    assert case.say("rearm", NOW + HOUR, force=True).decisions[0].action == "rearm"
    assert case.book.quarantined == {}


def test_another_version_is_armed_again_at_once_and_the_old_one_stays_in_quarantine() -> None:
    case = rolled_back({"2.3.1": NOW - 1})
    case.versions = {"2.3.1": NOW - 1, "2.3.2": NOW + MINUTE}
    assert case.say("rearm", NOW + HOUR).refused == {}
    assert case.book.quarantined == {"new": {"2.3.1": NOW}}


def test_force_that_was_needed_for_something_else_lets_nothing_out() -> None:
    case = rolled_back({"2.3.1": NOW - 1})
    case.versions = {"2.3.1": NOW - 1, "2.3.2": NOW + MINUTE}
    case.deliberation = replace(deliberation(), hold=HoldOptions(cool_down=Duration(HOUR)))
    assert "cool_down" in case.say("rearm", NOW + 2 * MINUTE).refused["new"]
    assert case.say("rearm", NOW + 2 * MINUTE, force=True).refused == {}
    assert case.book.quarantined == {"new": {"2.3.1": NOW}}


def test_quarantine_outlasts_other_settings() -> None:
    case = rolled_back({"2.3.1": NOW - 1})
    case.deliberation = deliberation("f2")
    case.looks(NOW + MINUTE, 2)
    assert case.book.settings == "f2"
    assert case.book.quarantined == {"new": {"2.3.1": NOW}}


def test_the_newest_versions_stay_in_quarantine_and_the_oldest_are_forgotten() -> None:
    case = Case({})
    for n in range(VERSIONS_KEPT + 3):
        case.versions = {f"1.{n}": NOW + n * HOUR}
        case.book = msgspec.structs.replace(case.book, standings={})
        case.say("rollback", NOW + n * HOUR)
    kept = list(case.book.quarantined["new"])
    assert kept == [f"1.{n}" for n in range(3, VERSIONS_KEPT + 3)]


# --- seen again -------------------------------------------------------------------------------------


def armed_with_another() -> Case:
    case = rolled_back({"2.3.1": NOW - 1})
    case.versions = {"2.3.1": NOW - 1, "2.3.2": NOW + MINUTE}
    case.say("rearm", NOW + 2 * MINUTE)
    return case


def test_a_version_in_quarantine_that_gets_more_than_strays_is_held_until_it_is_gone() -> None:
    case = armed_with_another()
    start = NOW + 3 * MINUTE
    assert case.looks(start, STRAYS, "2.3.1", "2.3.2") == ()
    seen = case.looks(start + STRAYS * MINUTE, 1, "2.3.1", "2.3.2")
    told = f"version 2.3.1 was rolled back on {Moment(NOW)}; re-arm with force to try it again"
    assert seen == (told,)
    gone = start + (STRAYS + 1) * MINUTE
    assert case.looks(gone, 9, "2.3.2") != ()
    assert case.looks(gone + 9 * MINUTE, 3, "2.3.2") == ()


def test_a_stray_request_to_a_version_in_quarantine_holds_nothing() -> None:
    case = armed_with_another()
    start = NOW + 3 * MINUTE
    assert case.looks(start, 1, "2.3.1", "2.3.2") == ()
    assert case.looks(start + MINUTE, 30, "2.3.2") == ()
    assert case.book.standings["new"].sightings == {}


def test_a_hold_for_a_version_in_quarantine_ends_with_force() -> None:
    case = armed_with_another()
    assert case.looks(NOW + 3 * MINUTE, 10, "2.3.1") != ()
    at = NOW + 13 * MINUTE
    assert case.say("rearm", at).refused["new"].startswith("it is on hold")
    assert case.say("rearm", at, force=True).decisions[0].action == "rearm"
    assert case.book.quarantined == {}
    assert case.looks(at + MINUTE, 10, "2.3.1") == ()


def test_what_was_seen_before_the_epoch_is_no_sighting() -> None:
    standing = Standing(begun=NOW)
    known = {"a": 1, "b": 1}
    assert sighted(standing, known, {"a": NOW, "b": NOW + 1, "c": NOW + 1}, NOW + 2) == {
        "b": Sighting(NOW + 1, 1)
    }


@pytest.mark.parametrize(("later", "kept"), [(LATELY, True), (LATELY + 1, False)])
def test_a_sighting_is_forgotten_after_a_while(later: int, *, kept: bool) -> None:
    seen = {"a": Sighting(NOW, 3)}
    standing = Standing(sightings=seen)
    assert sighted(standing, {"a": 1}, {"a": NOW}, NOW + later) == (seen if kept else {})


def test_a_version_that_was_let_out_is_no_cause() -> None:
    seen = {"a": Sighting(NOW, 99), "b": Sighting(NOW, 99)}
    assert causes(seen, {}) == ()
    assert len(causes(seen, {"a": NOW})) == 1


def test_versions_of_snapshots_that_tell_of_nobody_are_none() -> None:
    made = Deliberation(EXPERIMENT, (), HOLD, "f")
    command = Command(NOW, "rollback", "ann", "because")
    outcome = made.apply(Outcome(Book()), "new", command, Snapshot("offers", {}))
    assert [order.versions for order in outcome.orders] == [()]
