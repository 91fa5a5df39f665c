"""The dashboards' questions, put to a real Prometheus that scrapes a real monitor while the demo goes on."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.dashboards import DASHBOARDS, Question, asked, read, unanswered
from support.servers.base import or_skip
from support.servers.prometheus import PrometheusServer, query, scraping

from abmonitor.demo.scene import DEFECT_AT, PACE, STEP, Scene, scene


pytestmark = pytest.mark.serial

EXPERIMENT, FLEET, _ = DASHBOARDS
RULES = sorted((Path(__file__).parents[2] / "deploy" / "prometheus" / "rules").glob("*.yml"))
BEFORE_DEFECT = 10
"""Steps before the defect at which Prometheus begins."""
SETTLE_S = 7.0
"""Prometheus begins to scrape five seconds after it is ready."""
PACE_S = 0.15
AFTER_ROLLBACK = 30
SPAN_S = 240.0


@dataclass(frozen=True, slots=True)
class Watched:
    """Two Prometheus that have seen the demo, with one monitor and with two that say the same."""

    alone: str
    doubled: str
    at: float
    """When all was still and both had seen it, epoch seconds."""


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        stack.enter_context(or_skip())
        yield asyncio.run(_play(stack))


async def _play(stack: ExitStack) -> Watched:
    async with scene(0) as playing:
        for _ in range(DEFECT_AT * PACE // STEP - BEFORE_DEFECT):
            await playing.step()
        alone = _prometheus(stack, f"127.0.0.1:{playing.port}")
        doubled = _prometheus(stack, f"127.0.0.1:{playing.port}", f"localhost:{playing.port}")
        await asyncio.sleep(SETTLE_S)
        while not _is_over(playing):
            await playing.step()
            await asyncio.sleep(PACE_S)
        await asyncio.sleep(2)  # the last word of the monitor is scraped twice
        return Watched(alone.url, doubled.url, time.time())


def _prometheus(stack: ExitStack, *monitors: str) -> PrometheusServer:
    files = {f"rules/{path.name}": path.read_text() for path in RULES}
    config = scraping({"abmonitor-monitor": monitors}, rules=sorted(files))
    server = PrometheusServer(config, files=files)
    stack.enter_context(server)
    return server


def _is_over(playing: Scene) -> bool:
    stopped = playing.router.rolled_back_at
    return stopped is not None and playing.served >= stopped + AFTER_ROLLBACK * STEP // PACE


def test_every_question_of_the_experiments_dashboards_is_answered(watched: Watched) -> None:
    assert unanswered(watched.doubled, [EXPERIMENT, FLEET], {}, span_s=SPAN_S) == []


def test_a_question_without_an_answer_is_found(watched: Watched) -> None:
    chosen = {"treatment": "nobody"}
    found = unanswered(watched.doubled, [EXPERIMENT], chosen, span_s=SPAN_S)
    assert any("RAP: treatment minus control/A: no data" in each for each in found)


def test_a_monitor_that_stands_by_changes_no_number(watched: Watched) -> None:
    for path in (EXPERIMENT, FLEET):
        once = _answers(watched.alone, path, watched.at)
        twice = _answers(watched.doubled, path, watched.at)
        assert once == twice


def _answers(url: str, path: Path, at: float) -> dict[str, dict[str, str]]:
    """By question, the values of its series; what counts scraped targets is left out."""
    found = {}
    for each in _still(asked(url, read(path), {}, span_s=SPAN_S)):
        series = query(url, each.expr, at)
        found[each.where] = {
            str(sorted(one["metric"].items())): f"{float(one['value'][1]):.9g}" for one in series
        }
    return found


def _still(questions: list[Question]) -> list[Question]:
    """Questions whose answer does not depend on the moments at which each Prometheus scraped."""
    return [
        each
        for each in questions
        if not any(word in each.expr for word in ("ALERTS", "rate(", "increase("))
    ]
