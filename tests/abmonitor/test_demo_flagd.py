"""The demo whose customers are dealt by a feature flag, which the rollback changes."""

import asyncio
import io
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from abmonitor.cli.main import app
from abmonitor.demo.dealing import ByHash
from abmonitor.demo.flagging import INSTALL, MissingError
from abmonitor.demo.live import Screen
from abmonitor.demo.scene import DEFECT_AT, Scene, Way, scene
from abmonitor.demo.story import tell
from abmonitor.view import View
from alerts.standing import State


CONTROL, TREATMENT = "rule-v1", "boosted-v2"


@dataclass(slots=True)
class Played:
    """What was seen of one run."""

    scene: Scene
    view: View
    variants: dict[int, str] = field(default_factory=dict)
    """By customer, what they were served with."""
    frames: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    """What libraries warned of."""


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(f"{record.name}: {record.getMessage()}")


def drawn(screen: Screen, playing: Scene, view: View) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(screen.draw(playing, view))
    return console.export_text()


async def _play() -> Played:
    kept = Kept()
    logging.getLogger().addHandler(kept)
    try:
        seen = await _seen()
    finally:
        logging.getLogger().removeHandler(kept)
    seen.warned += kept.told
    return seen


async def _seen() -> Played:
    async with scene(0, Way.FLAGD) as playing:
        seen = Played(playing, await playing.monitor.tick())
        process = playing.pipeline.process

        async def noting(batch: Any) -> Any:
            for event in map(msgspec.json.decode, batch.values):
                if event["type"] == "prediction":
                    seen.variants[int(event["unit_id"])] = event["variant"]
            return await process(batch)

        playing.pipeline.process = noting  # type: ignore[method-assign, assignment]
        screen, after = Screen(), 0
        while after < 20:
            seen.view = await playing.step()
            frame = drawn(screen, playing, seen.view)
            seen.frames += [frame] if after or playing.served % 200 == 0 else []
            standing = seen.view.experiments[playing.experiment].book.standings[TREATMENT]
            after += standing.state is State.ROLLED_BACK
        return seen


@pytest.fixture(scope="module")
def played() -> Played:
    try:
        return asyncio.run(_play())
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_the_flag_ends_the_broken_treatment_and_the_effect_is_seen(played: Played) -> None:
    shown = played.view.experiments[played.scene.experiment]
    standing = shown.book.standings[TREATMENT]
    assert (standing.state, standing.verified) == (State.ROLLED_BACK, True)
    assert [each.action for each in shown.decisions] == ["rollback", "accepted", "rolled_back"]
    story = tell(
        played.scene.offers[: played.scene.served],
        played.scene.router,
        shown,
        played.scene.economics,
    )
    assert story.rolled_back_at is not None
    assert DEFECT_AT < story.rolled_back_at < DEFECT_AT + 1_500
    assert story.would_have_been_lost > story.lost > 0


def test_from_the_rollback_on_everybody_gets_the_control(played: Played) -> None:
    stopped, router = played.scene.router.rolled_back_at, played.scene.router
    assert stopped is not None
    belongs = {n: router.assigned(played.scene.offers[n]) for n in played.variants}
    assert set(belongs.values()) == {CONTROL, TREATMENT}
    for number, variant in played.variants.items():
        assert variant == (belongs[number] if number < stopped else CONTROL)
    share = sum(each == TREATMENT for each in belongs.values()) / len(belongs)
    assert 0.46 < share < 0.54
    assert router.orders == []


def test_the_screen_shows_the_share_move(played: Played) -> None:
    assert "flag: 50% boosted-v2" in played.frames[0]
    assert "flag: 0% boosted-v2" in played.frames[-1]
    assert "all traffic to control since customer" in played.frames[-1]
    for frame in played.frames:
        lines = frame.splitlines()
        assert all(len(line) == 80 for line in lines)
        assert len(lines) <= 24


def test_every_look_at_the_flag_names_a_customer(played: Played) -> None:
    assert [told for told in played.warned if "targetingKey" in told] == []


def test_nothing_is_left_of_the_file(played: Played) -> None:
    assert played.scene.flagging is not None
    assert not played.scene.flagging.path.parent.exists()


def test_without_openfeature_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openfeature", None)
    done = CliRunner().invoke(app, ["demo", "--fast", "--port", "0", "--actuator", "flagd"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"demo: {INSTALL}\n"


def test_a_way_that_there_is_not_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["demo", "--actuator", "carrier-pigeon"])
    assert done.exit_code == 2
    assert "'webhook'" in done.stderr
    assert "'flagd'" in done.stderr


def test_dealing_by_hash_stops_for_good() -> None:
    dealing = ByHash(CONTROL, TREATMENT, 0)
    before = [dealing.deal(number) for number in range(200)]
    assert 70 < before.count(TREATMENT) < 130
    dealing.stop()
    assert {dealing.deal(number) for number in range(200)} == {CONTROL}
    assert [dealing.belongs(number) for number in range(200)] == before
