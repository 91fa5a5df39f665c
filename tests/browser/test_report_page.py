"""A report in a browser: opened from the disk it asks nobody for anything, draws its charts, and prints."""

import json
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import typer
from playwright.async_api import Page, expect
from support.browser import DESKTOP, LAYOUTS_AND_COLOURS, LOOKS, SHOTS, Look, Visits, ink
from support.stage import EXPERIMENT, TREATMENT
from typer.testing import CliRunner

from abmonitor.cli import report
from abmonitor.document import document
from abmonitor.view import View


pytestmark = pytest.mark.asyncio(loop_scope="module")

CHARTS = {"labelled", "difference", "value", "latency", "distribution", "split", "errors"}
MOST_PAGES = 12
"""Of A4: who decides reads the first, and few read the rest."""
ORIGIN = "file://"


@pytest.fixture(scope="module")
def written(acts: dict[str, View], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report on each act of the demo."""
    folder, made = tmp_path_factory.mktemp("reports"), {}
    for act, view in acts.items():
        found, path = folder / f"{act}.json", folder / f"{act}.html"
        found.write_text(json.dumps(document(view)))
        done = CliRunner().invoke(
            _app(), ["report", EXPERIMENT, "--from", str(found), "-o", str(path)]
        )
        assert done.exit_code == 0, done.output
        made[act] = path
    return made


def _app() -> typer.Typer:
    app = typer.Typer()
    report.register(app)
    app.callback()(lambda: None)
    return app


@pytest.mark.parametrize(
    ("act", "look"),
    [("healthy", DESKTOP), ("defect", DESKTOP), *(("rolled-back", look) for look in LOOKS)],
    ids=lambda each: getattr(each, "name", each),
)
async def test_it_can_be_read_anywhere_and_asks_nobody(
    written: dict[str, Path], visits: Visits, look: Look, act: str
) -> None:
    async with visits(ORIGIN, look) as visit:
        page = await visit.open(str(written[act]))
        await expect(page.locator("h1")).to_contain_text(TREATMENT)
        await visit.shoot(f"report-{act}")
        assert await visit.overflow() == []
        if act == "rolled-back" and look in LAYOUTS_AND_COLOURS:  # which has everything
            assert await visit.accessibility() == []
        assert visit.asked == [written[act].as_uri()]


async def test_its_charts_are_drawn(written: dict[str, Path], visits: Visits) -> None:
    async with visits(ORIGIN) as visit:
        page = await visit.open(str(written["defect"]))
        names = await page.eval_on_selector_all(
            "[data-chart]", "all => all.map(one => one.dataset.chart)"
        )
        assert set(names) == CHARTS
        for name in names:
            assert (await ink(page, f"[data-chart={name}]")).pale == [], name


@pytest.mark.parametrize("look", [DESKTOP, LOOKS[1]], ids=lambda look: look.name)
async def test_it_is_printed_on_few_pages_light_whatever_the_screen_is(
    written: dict[str, Path], visits: Visits, look: Look
) -> None:
    async with visits(ORIGIN, look) as visit:
        page = await visit.open(str(written["rolled-back"]))
        printed = await page.pdf(prefer_css_page_size=True, print_background=True)
        SHOTS.mkdir(parents=True, exist_ok=True)
        (SHOTS / f"report-rolled-back-{look.name}.pdf").write_bytes(printed)
        assert printed.startswith(b"%PDF-")
        assert 2 <= pages(printed) <= MOST_PAGES
        assert await light_colours(page) <= strokes(printed)
        assert await page.evaluate("document.documentElement.dataset.theme") is None  # as before


async def test_markup_in_its_words_is_shown_and_not_run(
    acts: dict[str, View], visits: Visits, tmp_path: Path
) -> None:
    evil = "</script><img src=x onerror=\"window.ran='img'\"><script>window.ran='script'</script>"
    found: dict[str, Any] = document(acts["rolled-back"])
    text = json.dumps(found).replace(TREATMENT, json.dumps(evil)[1:-1])
    source, path = tmp_path / "found.json", tmp_path / "report.html"
    source.write_text(text)
    done = CliRunner().invoke(
        _app(), ["report", EXPERIMENT, "--from", str(source), "-o", str(path)]
    )
    assert done.exit_code == 0, done.output
    async with visits(ORIGIN) as visit:
        page = await visit.open(str(path))
        await expect(page.locator("h1")).to_contain_text(evil)
        await expect(page.locator("[data-chart=labelled] .legend")).to_contain_text(evil)
        assert await page.evaluate("window.ran") is None


def pages(printed: bytes) -> int:
    """How many pages a PDF has, as its tree of pages says."""
    counts = re.findall(
        rb"/Type /Pages\b[^>]*?/Count (\d+)|/Count (\d+)[^>]*?/Type /Pages", printed
    )
    return max(int(one or other) for one, other in counts)


_PAINT = re.compile(rb"(?<![\d.])([\d.]+) ([\d.]+) ([\d.]+) RG\b")


def strokes(printed: bytes) -> set[tuple[int, ...]]:
    """The colours of the lines in a PDF, from 0 to 255: charts are printed as lines."""
    found = set()
    for packed in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", printed, re.DOTALL):
        with suppress(zlib.error):
            for shade in _PAINT.findall(zlib.decompress(packed)):
                found.add(tuple(round(255 * float(part)) for part in shade))
    return found


async def light_colours(page: Page) -> set[tuple[int, ...]]:
    """The colours of all lines on light ground, as the style sheet has them; a line of nothing lies below another one."""
    await page.emulate_media(color_scheme="light")
    colours = await page.eval_on_selector_all(
        "[data-chart] .legend li:not(.when)",
        """all => all.filter(one => one.querySelector(".value").textContent !== "0.00 %")
          .map(one => getComputedStyle(one.querySelector(".swatch")).borderTopColor)""",
    )
    assert colours
    return {tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours}


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _readable(written: dict[str, Path]) -> AsyncIterator[None]:
    """Reports are small enough to be sent to somebody."""
    yield
    assert max(path.stat().st_size for path in written.values()) < 2_000_000
