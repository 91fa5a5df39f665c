"""How the page looks: charts are drawn, nothing sticks out, and everybody can use it."""

from dataclasses import replace
from itertools import pairwise

import aiohttp
import pytest
from playwright.async_api import Page, expect
from support.browser import DESKTOP, LAYOUTS_AND_COLOURS, LOOKS, Look, Visits, ink
from support.stage import EXPERIMENT, Still, fleet, renamed

from abmonitor.view import View


pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = f"/experiments/{EXPERIMENT}"
ACTS = ("healthy", "defect", "rolled-back")
CHARTS = ("labelled", "difference", "value", "latency", "distribution", "split", "errors")
Shown = tuple[Still, str]

looks = pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)


def mixed(acts: dict[str, View]) -> View:
    """A fleet with experiments of all acts, as names that say which."""
    found = [renamed(acts[act], [f"{act}-{n}" for n in range(4)]) for act in ACTS]
    experiments = {name: one for view in found for name, one in view.experiments.items()}
    snapshots = {name: one.snapshot for name, one in experiments.items()}
    newest = acts["rolled-back"]
    return replace(
        newest,
        experiments=experiments,
        fleet=replace(newest.fleet, snapshots=snapshots),
        leads=frozenset(experiments),
    )


async def drawn(page: Page) -> None:
    """Wait until every chart is there, and the page is live."""
    await expect(page.locator("#liveness")).to_have_text("live, as of")
    await expect(page.locator("[data-chart] canvas")).to_have_count(len(CHARTS))


@looks
@pytest.mark.parametrize("act", ACTS)
async def test_an_experiment_can_be_looked_at_anywhere(
    still: Shown, acts: dict[str, View], visits: Visits, look: Look, act: str
) -> None:
    still[0].view = acts[act]
    async with visits(still[1], look) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        await visit.shoot(f"experiment-{act}")
        assert await visit.overflow() == []
        if look in LAYOUTS_AND_COLOURS:
            assert await visit.accessibility() == []


@looks
async def test_the_list_can_be_looked_at_anywhere(
    still: Shown, acts: dict[str, View], visits: Visits, look: Look
) -> None:
    still[0].view = mixed(acts)
    async with visits(still[1], look) as visit:
        page = await visit.open()
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await visit.shoot("fleet")
        assert await visit.overflow() == []
        if look in LAYOUTS_AND_COLOURS:
            assert await visit.accessibility() == []
        states = await page.locator("#rows .pill").all_inner_texts()
        assert all("rolled back" in state for state in states[:4])  # worst first
        assert not any("rolled back" in state for state in states[4:])


@looks
async def test_what_is_not_live_says_so_anywhere(
    acts: dict[str, View], visits: Visits, look: Look
) -> None:
    serving = Still(acts["defect"]).served()
    async with visits(await serving.__aenter__(), look) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        await serving.__aexit__(None, None, None)
        await expect(page.locator("#live")).to_have_attribute("data-state", "away")
        await expect(page.locator("#told")).to_contain_text("The monitor does not answer")
        grey = await page.evaluate("getComputedStyle(document.querySelector('main')).filter")
        assert grey == "grayscale(1)", "nothing old is shown in the colours of now"
        await visit.shoot("not-live", whole=False)
        if look in LAYOUTS_AND_COLOURS:
            assert await visit.accessibility(".top") == []
        await page.goto("about:blank")  # or it would ask again
        assert not [fault for fault in visit.faults if "ERR_" not in fault]
        visit.forgive("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING")


@looks
async def test_dialogs_can_be_looked_at_anywhere(
    still: Shown, acts: dict[str, View], visits: Visits, look: Look
) -> None:
    still[0].view = acts["defect"]
    async with visits(still[1], look) as visit:
        page = await visit.open(PATH)
        await page.locator("#t0 button[data-verb]").first.click()
        await expect(page.locator("#ask")).to_be_visible()
        assert await page.evaluate("document.activeElement.id") == "reason"
        await visit.shoot("dialog-ask", whole=False)
        assert await visit.accessibility("dialog[open]") == []
        await page.keyboard.press("Escape")
        await page.click("#token-open")
        await expect(page.locator("#who")).to_be_visible()
        await visit.shoot("dialog-token", whole=False)
        assert await visit.accessibility("dialog[open]") == []


@looks
async def test_charts_are_drawn_in_the_colours_of_their_variants(
    still: Shown, acts: dict[str, View], visits: Visits, look: Look
) -> None:
    still[0].view = acts["defect"]
    async with visits(still[1], look) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        for chart in CHARTS:
            element = f"[data-chart={chart}]"
            found = await ink(page, element)
            assert found.width >= look.width / 4, chart
            assert found.pale == [], chart


async def test_a_theme_that_is_chosen_is_kept_and_charts_are_drawn_in_it(
    still: Shown, visits: Visits
) -> None:
    async with visits(still[1]) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        chart = "it => it.toDataURL()"
        before = await page.eval_on_selector("[data-chart=labelled] canvas", chart)
        await page.select_option("#theme", "dark")
        dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark != light
        assert await page.eval_on_selector("[data-chart=labelled] canvas", chart) != before
        await page.reload()
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


async def test_charts_fit_when_a_window_is_made_narrow(still: Shown, visits: Visits) -> None:
    async with visits(still[1]) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        await page.set_viewport_size({"width": 400, "height": 800})
        canvas = page.locator("[data-chart=labelled] canvas")
        await expect(canvas).to_have_js_property("clientWidth", await inner_width(page, "labelled"))
        assert await visit.overflow() == []


async def inner_width(page: Page, chart: str) -> int:
    await page.wait_for_timeout(200)
    found: int = await page.eval_on_selector(f"[data-chart={chart}]", "it => it.clientWidth")
    assert found < 400
    return found


# --- everybody can use it -------------------------------------------------------------------------


async def test_everything_can_be_done_by_keyboard_and_the_focus_is_seen(
    still: Shown, acts: dict[str, View], visits: Visits
) -> None:
    still[0].view = acts["defect"]
    async with visits(still[1]) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        seen = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate(FOCUSED))
        names = [name for name, _ in seen]
        wanted = [
            "Skip to the content",
            "abmonitor",
            "Token",
            "Roll back",
            "Pause",
            "The same in numbers",
        ]
        places = [names.index(name) for name in wanted]
        assert all(first < then for first, then in pairwise(places)), names
        unseen = [name for name, is_seen in seen if not is_seen and name != "body"]
        assert not unseen
        await page.focus("#t0 button[data-verb=pause]")
        await page.keyboard.press("Enter")
        await expect(page.locator("#ask")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#ask")).to_be_hidden()
        assert (await page.evaluate(FOCUSED))[0] == "Pause"  # where it was


FOCUSED = """() => {
  const one = document.activeElement;
  if (one === document.body) return ["body", false];
  const style = getComputedStyle(one);
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return [(one.getAttribute("aria-label") || one.innerText || one.id).trim().split("\\n")[0], outlined || style.boxShadow !== "none"];
}"""


async def test_without_scripts_the_numbers_are_there(still: Shown, visits: Visits) -> None:
    async with visits(still[1], java_script_enabled=False) as visit:
        page = await visit.open(PATH)
        await page.locator("details.numbers summary").first.click()
        await expect(page.locator("#rows-labelled tr").first).to_be_visible()
        await expect(page.locator("#t0 .verdict")).to_be_visible()
        await expect(page.locator("#t0 button[data-verb]").first).to_be_hidden()
        await expect(page.locator("noscript p").first).to_be_visible()


async def test_who_wants_no_motion_gets_none(still: Shown, visits: Visits) -> None:
    for wants, look in ((True, replace(DESKTOP, still=False)), (False, DESKTOP)):
        async with visits(still[1], look) as visit:
            page = await visit.open(PATH)
            await drawn(page)
            moving = await page.evaluate(
                "document.getAnimations().some(one => one.effect.getComputedTiming().duration > 10)"
            )
            assert not moving or wants


async def test_on_paper_the_page_is_light_and_charts_are_on_it(
    still: Shown, visits: Visits
) -> None:
    async with visits(still[1], LOOKS[1]) as visit:
        page = await visit.open(PATH)
        await drawn(page)
        printed = await page.pdf(format="A4")
        assert printed.startswith(b"%PDF-")
        assert (
            await page.evaluate("document.documentElement.dataset.theme || ''") == ""
        )  # as before


async def test_two_hundred_experiments_fit_on_a_phone_and_are_found_by_their_names(
    still: Shown, acts: dict[str, View], visits: Visits
) -> None:
    still[0].view = fleet(acts["healthy"], 200)
    async with visits(still[1], LOOKS[2]) as visit:
        page = await visit.open()
        assert await visit.overflow() == []
        rows = page.locator("#rows tr")
        await expect(rows).to_have_count(200)
        await page.fill("#filter", "experiment-17")
        await expect(rows.locator("visible=true")).to_have_count(10)
        await expect(page.locator("#shown")).to_contain_text("10 of 200")
    async with aiohttp.ClientSession() as session, session.get(still[1]) as answer:
        assert len(await answer.read()) < 1_000_000
