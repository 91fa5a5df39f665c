"""Looks for hints: seldom, the same ones whenever ticks are, and never in the way."""

import asyncio
import logging
import threading

import msgspec
import numpy as np
import pytest
from support.panes import EXPERIMENT, START

import abmonitor.hinting
from abmonitor.hinting import EVERY, GONE, Hinting, Subject
from alerts.book import Book
from alerts.standing import Standing, State
from metrics.drift import Drift, drift
from metrics.experiment import HOUR, MINUTE, Experiment
from metrics.hints import hints_of
from metrics.layout import COARSE_WIDTH, FINE_WIDTH
from metrics.ledger import SCORE_BINS, Ledger
from metrics.snapshot import Snapshot, VariantFacts


NOW = START + 3 * HOUR


def scored(place: int) -> VariantFacts:
    """The facts of a variant whose scores are all in one bin."""
    scores = np.zeros(SCORE_BINS, dtype=np.int64)
    scores[place] = 100
    pane = Ledger(100, scores=scores)
    fine = dict.fromkeys(range(NOW - 2 * HOUR, NOW + HOUR, FINE_WIDTH), pane)
    return VariantFacts(fine=fine, coarse=dict.fromkeys(range(START, NOW, COARSE_WIDTH), pane))


FACTS = {"old": scored(3), "new": scored(15)}


def subject(
    watermark: int | None = NOW, *, name: str = "offers", state: State | None = None, begun: int = 0
) -> Subject:
    standings = {} if state is None else {"new": Standing(state=state, begun=begun)}
    return Subject(
        msgspec.structs.replace(EXPERIMENT, name=name),
        Snapshot(name, FACTS, watermark=watermark),
        Book(standings=standings),
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The experiment, time and epoch of every look that is taken."""
    taken: list[tuple[str, int, int]] = []

    def noted(
        experiment: Experiment, snapshot: Snapshot, at: int, begun: int, left_out: frozenset[str]
    ) -> Drift:
        taken.append((experiment.name, at, begun))
        return drift(experiment, snapshot, at, begun, left_out)

    monkeypatch.setattr(abmonitor.hinting, "drift", noted)
    return taken


async def test_what_is_found_is_what_the_numbers_give() -> None:
    hinting = Hinting()
    assert hinting.found("offers") is None
    await hinting.look_at_one([subject()])
    found = hinting.found("offers")
    assert found is not None
    assert found.drift == drift(EXPERIMENT, Snapshot("offers", FACTS), NOW, 0)
    assert found.hints == hints_of(EXPERIMENT, found.drift)
    assert [(hint.kind, hint.variant) for hint in found.hints] == [("score_control", "new")]


async def test_a_look_is_taken_once_in_ten_minutes_of_the_watermark_at_the_same_moments(
    looks: list[tuple[str, int, int]],
) -> None:
    hinting = Hinting()
    for watermark in range(NOW + 3 * MINUTE, NOW + 25 * MINUTE, MINUTE // 2):
        await hinting.look_at_one([subject(watermark)])
    assert looks == [("offers", NOW + slot * EVERY, 0) for slot in range(3)]


async def test_a_new_epoch_is_looked_at_at_once(looks: list[tuple[str, int, int]]) -> None:
    hinting = Hinting()
    await hinting.look_at_one([subject(state=State.HEALTHY)])
    await hinting.look_at_one([subject(state=State.HEALTHY, begun=NOW - HOUR)])
    await hinting.look_at_one([subject(state=State.SUSPECT, begun=NOW - HOUR)])
    assert looks == [("offers", NOW, 0), ("offers", NOW, NOW - HOUR)]


async def test_the_latest_epoch_of_all_treatments_counts(looks: list[tuple[str, int, int]]) -> None:
    standings = {"new": Standing(begun=START + HOUR), "newer": Standing(begun=START)}
    await Hinting().look_at_one([subject()._replace(book=Book(standings=standings))])
    assert looks == [("offers", NOW, START + HOUR)]


async def test_before_anything_came_nobody_looks(looks: list[tuple[str, int, int]]) -> None:
    hinting = Hinting()
    await hinting.look_at_all([subject(None)])
    assert looks == []
    assert hinting.found("offers") is None


@pytest.mark.parametrize("state", list(State))
async def test_treatments_that_are_rolled_back_are_left_out(state: State) -> None:
    hinting = Hinting()
    await hinting.look_at_one([subject()])
    await hinting.look_at_one([subject(state=state)])
    found = hinting.found("offers")
    assert found is not None
    left_out = state in {"rolling_back", "verifying", "rolled_back", "rollback_failed"}
    assert left_out == (state in GONE)
    assert found.drift.against_control.keys() == (set() if left_out else {"new"})
    assert found.drift.label_rate.keys() == ({"old"} if left_out else {"old", "new"})
    assert [hint.variant for hint in found.hints] == ([] if left_out else ["new"])


async def test_one_experiment_is_looked_at_at_a_time_and_none_starves(
    looks: list[tuple[str, int, int]],
) -> None:
    hinting = Hinting()
    for tick in range(6):  # more than ten minutes a tick, as after an outage
        both = [subject(NOW + tick * HOUR, name=name) for name in ("offers", "prices")]
        await hinting.look_at_one(both)
        assert len(looks) == tick + 1
    assert [name for name, *_ in looks] == ["offers", "prices"] * 3


async def test_all_are_looked_at_where_all_are_wanted(looks: list[tuple[str, int, int]]) -> None:
    hinting = Hinting()
    both = [subject(name=name) for name in ("offers", "prices")]
    await hinting.look_at_all(both)
    await hinting.look_at_all(both)
    assert [name for name, *_ in looks] == ["offers", "prices"]


async def test_the_loop_goes_on_while_a_look_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    went_on = threading.Event()

    def slow(*given: object) -> Drift:
        del given
        assert went_on.wait(30), "the loop stood still"
        return drift(EXPERIMENT, Snapshot("offers", FACTS), NOW, 0)

    monkeypatch.setattr(abmonitor.hinting, "drift", slow)
    hinting = Hinting()
    asyncio.get_running_loop().call_later(0.01, went_on.set)
    await hinting.look_at_one([subject()])
    assert hinting.found("offers") is not None


async def test_a_look_that_fails_is_logged_once_and_nothing_is_known_until_one_goes_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "abmonitor.hinting")
    hinting, answers = Hinting(), iter("gffgf")
    tried = []

    def moody(*given: object) -> Drift:
        tried.append(given)
        if next(answers) == "f":
            raise ZeroDivisionError("no way")
        return drift(EXPERIMENT, Snapshot("offers", FACTS), NOW, 0)

    monkeypatch.setattr(abmonitor.hinting, "drift", moody)
    known, logged = [], []
    for slot in range(5):
        for _ in range(2):  # a failure is not tried again at every tick
            await hinting.look_at_one([subject(NOW + slot * EVERY)])
        known.append(hinting.found("offers") is not None)
        logged.append(len(caplog.records))
    assert len(tried) == 5
    assert known == [True, False, False, True, False]
    assert logged == [0, 1, 1, 1, 2]
    assert "offers: cannot look for hints" in caplog.text
    assert "no way" in caplog.text
