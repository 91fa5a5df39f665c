"""The page while the demo streams: it follows within two seconds, says when it cannot, and acts for who may."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from support.browser import Visits
from support.servers.base import free_ports
from support.stage import EXPERIMENT, TREATMENT, Stage

from abmonitor.document import experiment
from alerts.machine import Command
from alerts.standing import State


pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = f"/experiments/{EXPERIMENT}"
LIVE_MS = 2_000
"""So late may be what a page shows."""
OUTAGE_MS = 15_000
REASON = "conversion is down <b>in DE</b>"


@pytest_asyncio.fixture(loop_scope="module")
async def url(playing: Stage) -> AsyncIterator[str]:
    await playing.play_to(900)
    async with playing.served() as found:
        yield found


def clock(at: int | None) -> str:
    assert at is not None
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S")


def predictions(stage: Stage) -> list[str]:
    variants = experiment(stage.view.experiments[EXPERIMENT])["variants"]
    return [f"{found['predictions']:,}" for found in variants.values()]


async def pixels(page: Page, chart: str) -> str:
    found: str = await page.eval_on_selector(f"[data-chart={chart}] canvas", "it => it.toDataURL()")
    return found


async def test_what_happens_is_on_the_page_within_two_seconds(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        before = {name: await pixels(page, name) for name in ("labelled", "difference", "split")}
        rows = await page.locator("#rows-labelled tr").count()
        for _ in range(3):
            for _ in range(10):
                await playing.scene.step()
            as_of = page.locator("#as-of")
            await expect(as_of).to_have_text(clock(playing.view.as_of), timeout=LIVE_MS)
            for told in predictions(playing):
                await expect(page.locator("#counts")).to_contain_text(told, timeout=LIVE_MS)
        cohorts = page.locator("#rows-labelled tr")  # of 10 minutes each
        await expect(cohorts).to_have_count(rows + 3, timeout=LIVE_MS)
        for name, drawn in before.items():
            assert await pixels(page, name) != drawn, name
        assert not [asked for asked in visit.asked if asked.count(url) != 1]


async def test_the_list_follows_too(playing: Stage, url: str, visits: Visits) -> None:
    async with visits(url) as visit:
        page = await visit.open()
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await playing.scene.step()
        await expect(page.locator("#as-of")).to_have_text(
            clock(playing.view.as_of), timeout=LIVE_MS
        )
        said = _pause(playing)
        await playing.scene.monitor.command(EXPERIMENT, TREATMENT, said)
        await playing.scene.step()
        await expect(page.locator("#rows tr")).to_contain_text("paused by eve", timeout=LIVE_MS)


def _pause(playing: Stage) -> Command:
    return Command(playing.scene.now, "pause", "eve", REASON)


async def test_news_leaves_alone_what_a_person_does(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await page.locator("details.numbers summary").first.click()
        await page.locator("#theme").focus()
        await page.evaluate("scrollTo(0, 400)")
        for _ in range(10):
            await playing.scene.step()
        await expect(page.locator("#as-of")).to_have_text(
            clock(playing.view.as_of), timeout=LIVE_MS
        )
        assert await page.locator("details.numbers").first.get_attribute("open") is not None
        assert await page.evaluate("document.activeElement.id") == "theme"
        assert await page.evaluate("scrollY") == 400


async def test_an_outage_is_told_and_its_end_is_found(playing: Stage, visits: Visits) -> None:
    await playing.play_to(600)
    (port,) = free_ports(1)
    serving = playing.served(port)
    async with visits(await serving.__aenter__()) as visit:
        page = await visit.open(PATH)
        live, told = page.locator("#live"), page.locator("#told")
        await expect(live).to_have_attribute("data-state", "live")
        seen = await page.inner_text("#as-of")
        await serving.__aexit__(None, None, None)
        await expect(live).to_have_attribute("data-state", "away", timeout=OUTAGE_MS)
        await expect(page.locator("#liveness")).to_contain_text("does not answer")
        await expect(told).to_contain_text(f"what you see is as of {seen} UTC")
        assert await page.inner_text("#t0 .verdict")  # what was known stays
        await playing.scene.step()
        async with playing.served(port):
            await expect(live).to_have_attribute("data-state", "live", timeout=OUTAGE_MS)
            await expect(page.locator("#as-of")).to_have_text(clock(playing.view.as_of))
            await expect(told).to_have_text("The monitor answers again.")
            await page.goto("about:blank")  # or its stream would go on when the server ends
        assert visit.forgive(
            "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"
        )


async def test_why_the_monitor_is_not_ready_is_shown_and_gone_again(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        playing.problem = "Redis <i>does not</i> answer"
        problem = page.locator("#problem")
        await expect(problem).to_contain_text(playing.problem, timeout=LIVE_MS)
        await expect(page.locator("#t0 .verdict")).to_contain_text("Not known now")
        playing.problem = None
        await expect(problem).to_be_empty(timeout=LIVE_MS)


# --- acting ---------------------------------------------------------------------------------------


async def use_token(page: Page, token: str) -> None:
    await page.click("#token-open")
    await page.fill("#token", token)
    await page.click("#keep")
    await expect(page.locator("#who")).to_be_hidden()


async def say(page: Page, verb: str, reason: str = REASON) -> None:
    """Press a button and say why."""
    await page.click(f"#t0 button[data-verb={verb}]")
    await expect(page.locator("#ask")).to_be_visible()
    await page.fill("#reason", reason)
    await page.click("#do")


def paused(playing: Stage) -> bool:
    standings = playing.view.experiments[EXPERIMENT].book.standings
    return standings[TREATMENT].paused is not None


async def test_nobody_acts_without_a_token_or_with_one_that_may_only_read(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await say(page, "rollback")
        wrong = page.locator("#wrong")
        await expect(wrong).to_contain_text("The page needs your token")
        await page.click("#cancel")
        await use_token(page, "abm_" + "0" * 43)
        await say(page, "rollback")
        await expect(wrong).to_contain_text("the token is not known here")
        await page.click("#cancel")
        await use_token(page, playing.tokens["bob"])
        await say(page, "rollback")
        await expect(wrong).to_contain_text("the token of bob may only read")
        await playing.scene.step()
        assert playing.state in {State.COLLECTING, State.HEALTHY}
        assert not playing.view.experiments[EXPERIMENT].decisions
        assert len(visit.forgive("status of 401", "status of 403")) >= 3


async def test_without_a_reason_nothing_is_asked_and_cancelling_does_nothing(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await use_token(page, playing.tokens["ann"])
        await say(page, "rollback", " ")
        await expect(page.locator("#wrong")).to_contain_text("Say why")
        await page.keyboard.press("Escape")
        await expect(page.locator("#ask")).to_be_hidden()
        assert not [asked for asked in visit.asked if "/api/v1/" in asked]
        await playing.scene.step()
        assert not playing.view.experiments[EXPERIMENT].decisions


async def test_with_a_token_a_treatment_is_paused_resumed_rolled_back_and_rearmed(
    playing: Stage, url: str, visits: Visits
) -> None:
    async with visits(url) as visit:
        page = await visit.open(PATH)
        await use_token(page, playing.tokens["ann"])
        done = page.locator("#told")
        article = page.locator("#t0")
        await say(page, "pause")
        await expect(done).to_contain_text(f"Done: pause {TREATMENT}")
        await playing.scene.step()
        assert paused(playing)
        await expect(article).to_contain_text(
            f"Paused by ann until resumed: {REASON}", timeout=LIVE_MS
        )
        await say(page, "resume")
        await expect(done).to_contain_text("Done: resume")
        await playing.scene.step()
        assert not paused(playing)
        await expect(article).not_to_contain_text("Paused", timeout=LIVE_MS)
        await say(page, "rollback")
        await expect(done).to_contain_text("Done: roll back")
        while playing.state is not State.ROLLED_BACK:
            await playing.scene.step()
        await expect(article.locator(".pill").first).to_contain_text("rolled back", timeout=LIVE_MS)
        trail = page.locator("#rows-decisions tr")
        await expect(trail.filter(has_text="rollback").filter(has_text="ann")).to_contain_text(
            REASON
        )
        await page.click("#t0 button[data-verb=rearm]")
        await page.fill("#reason", "mended")
        await page.check("#force")
        await page.click("#do")
        await expect(done).to_contain_text("Done: re-arm")
        await playing.scene.step()
        assert playing.state not in {State.ROLLED_BACK, State.ROLLING_BACK}
        await expect(trail.filter(has_text="mended")).to_contain_text("rearm", timeout=LIVE_MS)
        stored = await page.evaluate("[document.cookie, JSON.stringify({...localStorage})]")
        assert playing.tokens["ann"] not in "".join(stored)


async def test_a_reader_without_a_token_sees_nothing_where_reading_needs_one(
    playing: Stage, visits: Visits
) -> None:
    await playing.play_to(600)
    async with playing.served(open_reads=False) as url, visits(url) as visit:
        page = await visit.open(PATH)
        await expect(page.locator("h1")).to_have_text("Reading needs a token")
        assert TREATMENT not in await page.content()
        await use_token(page, playing.tokens["bob"])
        await expect(page.locator("#t0")).to_contain_text(TREATMENT)
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await page.wait_for_selector("[data-chart=labelled] canvas")
        await playing.scene.step()
        await expect(page.locator("#as-of")).to_have_text(
            clock(playing.view.as_of), timeout=LIVE_MS
        )
        await page.reload()
        await expect(page.locator("#t0")).to_contain_text(TREATMENT)  # the tab keeps the token
        (playing.file).write_text("tokens: []\n")
        await asyncio.sleep(1.1)  # tokens are looked at once a second
        await page.reload()
        await expect(page.locator("#told")).to_contain_text("the token is not known here")
        assert TREATMENT not in await page.inner_text("#main")
        assert visit.forgive("status of 401")
