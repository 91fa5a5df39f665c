"""The rig itself: what it says about a page can also be that the page is wrong."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser
from support.browser import DESKTOP, LOOKS, Visit, ink, visiting

from abmonitor.http import serving


pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG = """<!doctype html><html><head><title>wrong</title>
<script src="https://example.org/elsewhere.js"></script>
<script src="/wrong.js"></script></head>
<body style="color: red"><img src="/gone.png"><table width="5000"><tr><td>wide</td></tr></table><input type="text">
<div id="drawn"><canvas width="24" height="20"></canvas>
<ul class="legend"><li><i class="swatch ours"></i><b class="name">ours</b><b class="value">1</b></li>
<li><i class="swatch"></i><b class="name">black</b><b class="value">2</b></li>
<li><i class="swatch"></i><b class="name">zero</b><b class="value">0.00 %</b></li><li class="when"></li></ul></div>
<div id="none"></div></body></html>"""
SCRIPT = """
console.error("said so");
addEventListener("DOMContentLoaded", () => {
  const context = document.querySelector("#drawn canvas").getContext("2d");
  context.fillStyle = "rgb(10, 200, 30)";
  context.fillRect(0, 0, 7, 3);
  document.querySelector(".ours").style.borderTopColor = "rgb(10, 200, 30)";
  undefined.missing;
});
"""
POLICY = "default-src 'self' https://example.org; style-src 'self'"


@pytest_asyncio.fixture(loop_scope="module")
async def wrong() -> AsyncIterator[str]:
    """A server of a page with all that can be wrong."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(
            text=WRONG, content_type="text/html", headers={"Content-Security-Policy": POLICY}
        )

    async def script(_: web.Request) -> web.Response:
        return web.Response(text=SCRIPT, content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/wrong.js", script)
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, wrong: str) -> AsyncIterator[Visit]:
    async with visiting(browser, wrong) as opened:
        await opened.open()
        yield opened


@pytest.mark.parametrize(
    "fault",
    [
        "asked elsewhere: https://example.org/elsewhere.js",
        "error: said so",
        "uncaught: Cannot read properties of undefined",
        "error: policy: style-src-attr forbids inline",
        "status of 404",
    ],
)
async def test_everything_that_goes_wrong_in_a_page_is_noted(visit: Visit, fault: str) -> None:
    assert any(fault in found for found in visit.faults), visit.faults
    assert visit.forgive(fault)
    assert not any(fault in found for found in visit.faults)


async def test_no_name_of_another_machine_is_known(browser: Browser, wrong: str) -> None:
    async with visiting(browser, wrong) as visit:
        await visit.context.unroute_all()
        await visit.open()
        told = await visit.page.evaluate(
            "fetch('https://example.org/', {mode: 'no-cors'}).then(() => 'reached', String)"
        )
        assert "Failed to fetch" in told
        assert any("ERR_NAME_NOT_RESOLVED" in fault for fault in visit.faults)


async def test_axe_finds_faults(visit: Visit) -> None:
    found = await visit.accessibility()
    assert any(fault.startswith("html-has-lang (serious)") for fault in found)
    assert any(fault.startswith("label (critical)") for fault in found)


async def test_what_sticks_out_is_found(visit: Visit) -> None:
    (found,) = [one for one in await visit.overflow() if one.startswith("table#")]
    assert found.endswith(f"> {DESKTOP.width}")


async def test_lines_of_a_legend_that_are_not_on_the_canvas_are_found(visit: Visit) -> None:
    drawn = await ink(visit.page, "#drawn")
    assert [(line.name, line.pixels) for line in drawn.lines] == [
        ("ours", 21),
        ("black", 0),
        ("zero", 0),
    ]
    (told,) = drawn.pale
    assert told.startswith("0 pixels of black (rgb(")
    assert told.endswith("the chart is 24 wide")
    assert (await ink(visit.page, "#none")).pale == ["nothing is drawn"]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
async def test_a_look_is_what_the_page_gets(browser: Browser, wrong: str, look: object) -> None:
    assert isinstance(look, type(DESKTOP))
    async with visiting(browser, wrong, look) as visit:
        await visit.open()
        told = await visit.page.evaluate(
            "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches,"
            " matchMedia('(prefers-reduced-motion: reduce)').matches]"
        )
        assert told[1:] == [look.theme == "dark", look.still]
        if not look.phone:
            assert told[0] == look.width
