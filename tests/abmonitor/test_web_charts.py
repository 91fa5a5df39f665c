"""Charts as a browser draws them of a series: the words on them, their scales, colours and marks; and a page that nobody looks at."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from support.browser import chromium
from support.servers.base import or_skip

from abmonitor.api import Api
from abmonitor.demo.scene import HOST
from abmonitor.http import serving
from abmonitor.server import application
from abmonitor.view import View
from abmonitor.web import words
from abmonitor.web.routes import asset
from metrics.experiment import HOUR, MINUTE


pytestmark = pytest.mark.asyncio(loop_scope="module")

START = 1_767_261_600_000
AT = [START + n * 10 * MINUTE for n in range(13)]
TREATMENTS = ("a", "b", "c", "d", "e")

_WRITES = """() => {
  window.written = [];
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...where) {
    written.push([`${text}`, this.fillStyle, ...where]);
    return write.call(this, text, ...where);
  };
}"""
_DRAW = """([chart, treatment, series]) => {
  window.chart?.destroy();
  document.body.replaceChildren();
  const element = document.createElement("div");
  if (treatment) element.dataset.treatment = treatment;
  document.body.append(element);
  written.length = 0;
  window.chart = abmonitorCharts.draw(element, chart, series);
}"""
_LEGEND = """() => Object.fromEntries([...document.querySelectorAll(".legend li")].filter((one) => one.querySelector(".name")).map(
  (one) => [one.querySelector(".name").textContent, [one.querySelector(".value").textContent, one.querySelector(".swatch").classList[1]]]))"""


@dataclass
class Drawn:
    """What stands on a chart."""

    texts: list[str]
    """In the picture: ticks and marks."""
    legend: dict[str, tuple[str, str]]
    """By the name of the line: its value, and the class of its colour."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    with or_skip():
        opening = chromium()
        opened = await opening.__aenter__()
    try:
        yield opened
    finally:
        await opening.__aexit__(None, None, None)


@pytest_asyncio.fixture(loop_scope="module")
async def draw(browser: Browser) -> AsyncIterator[Any]:
    """Draws one chart of a series."""
    page = await browser.new_page()
    await page.evaluate(_WRITES)
    for name in ("uplot.js", "charts.js"):
        await page.add_script_tag(content=asset(name).decode())
    for name in ("uplot.css", "charts.css"):
        await page.add_style_tag(content=asset(name).decode())

    async def drawn(chart: str, series: dict[str, Any], treatment: str = "") -> Drawn:
        await page.evaluate(_DRAW, [chart, treatment, series])
        await page.wait_for_function("written.length > 0")
        found = await page.evaluate("written")
        legend = await page.evaluate(_LEGEND)
        return Drawn([text for text, *_ in found], {name: tuple(of) for name, of in legend.items()})

    yield drawn
    await page.close()


def series_of(
    value: float = 0.0, treatments: Iterable[str] = TREATMENTS[:1], **more: Any
) -> dict[str, Any]:
    """A series in which every line is `value` all the time."""
    flat = [value] * len(AT)
    names = ["old", *treatments]
    bounded = {"lower": flat, "upper": flat}
    columns = ("predictions", "share", "intended", "error_rate", "p50", "p95", "p99")
    parts = {"estimate": flat, **bounded, **dict.fromkeys(("accuracy", "latency", "errors"), flat)}
    return {
        "as_of": AT[-1],
        "labelled": {
            "metric": "profit_per_prediction",
            "at": AT,
            "variants": {name: {"value": flat, **bounded} for name in names},
            "differences": {
                name: {"estimate": flat, **bounded, "margin": None} for name in treatments
            },
            "net_business_value": dict.fromkeys(treatments, parts),
        },
        "arrival": {"at": AT, "variants": {name: dict.fromkeys(columns, flat) for name in names}},
        "decisions": [],
        **more,
    }


def decided(action: str, at: int, treatment: str = "a") -> dict[str, Any]:
    return {"id": f"{action}{at}", "at": at, "action": action, "treatment": treatment}


@pytest.mark.parametrize(
    "value", [-0.0004, 0.0004, 0.0, 0.0625, -0.0625, 1.0625, 0.12345, 1234567.8915, -4321.5]
)
async def test_charts_write_numbers_as_tables_do(draw: Any, value: float) -> None:
    found = await draw("difference", series_of(value))
    number = words.difference_of("profit_per_prediction", value)
    assert found.legend["a"][0] == f"{number} [{number}, {number}]"
    found = await draw("value", series_of(value), "a")
    assert found.legend["accuracy"][0] == words.points(value)
    found = await draw("errors", series_of(value))
    assert found.legend["a"][0] == words.percent(value)


async def test_where_nothing_failed_the_scale_does_not_suggest_that_much_may(draw: Any) -> None:
    ticks = [text for text in (await draw("errors", series_of())).texts if text.endswith("%")]
    assert ticks
    assert max(float(text.removesuffix("%")) for text in ticks) <= 1


async def test_a_decision_after_the_newest_final_label_is_marked(draw: Any) -> None:
    for chart in ("labelled", "difference", "value", "errors"):
        rollback = decided("rollback", AT[-1] + 15 * MINUTE)
        found = await draw(chart, series_of(0.1, decisions=[rollback]), "a")
        assert "rollback" in found.texts, chart


async def test_a_decision_long_after_the_labels_does_not_press_them_together(draw: Any) -> None:
    late = decided("rollback", AT[-1] + 40 * 24 * HOUR)
    with_it = await draw("labelled", series_of(0.1, decisions=[late]))
    assert set(with_it.texts) == set((await draw("labelled", series_of(0.1))).texts)


async def test_of_several_treatments_a_mark_says_which(draw: Any) -> None:
    marks = [decided("rollback", AT[3], "a"), decided("pass", AT[9], "b")]
    found = await draw("labelled", series_of(0.1, TREATMENTS[:2], decisions=marks))
    assert {"rollback a", "pass b"} <= set(found.texts)
    found = await draw("value", series_of(0.1, TREATMENTS[:2], decisions=marks), "b")
    assert "pass" in found.texts
    assert not [text for text in found.texts if "rollback" in text]


@pytest.mark.parametrize("treatment", TREATMENTS)
async def test_no_part_of_the_value_has_the_colour_of_the_sum(draw: Any, treatment: str) -> None:
    found = await draw("value", series_of(0.1, TREATMENTS), treatment)
    assert len(found.legend) == 4
    assert len({colour for _, colour in found.legend.values()}) == 4


async def test_what_nobody_looked_at_is_not_called_live(browser: Browser) -> None:
    view = View()
    app = application(lambda: view, lambda: None, api=Api(clock=lambda: 0))
    hide = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with serving(app, HOST, 0) as port:
        page = await browser.new_page()
        await page.goto(f"http://{HOST}:{port}/")
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await page.evaluate(hide, arg=True)
        assert "live" not in await page.inner_text("#liveness")
        assert await page.get_attribute("#live", "data-state") == ""
        await page.evaluate(hide, arg=False)
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        await page.close()
