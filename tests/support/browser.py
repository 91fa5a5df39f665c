"""A real Chromium that reaches this machine only, and what went wrong in the pages that it showed. This module does I/O.

It is Debian's (package `chromium`): no browser is ever downloaded.
"""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Route,
    async_playwright,
)

from support.servers.base import need


PROGRAM = "chromium"
PATIENCE_MS = 10_000
FLAGS = (
    "--no-sandbox",  # which root cannot have
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
"""Where pictures are kept for people to look at."""

SERIOUS = frozenset({"serious", "critical"})
"""What axe-core calls faults that keep somebody from using a page."""

_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI} (${event.sourceFile}:${event.lineNumber})`));
"""


@cache
def _axe() -> str:
    """axe-core, as Deque publishes it."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Look:
    """A screen, and the theme that its owner likes."""

    name: str
    width: int
    height: int
    theme: Literal["light", "dark"]
    phone: bool = False
    still: bool = True
    """Its owner wants no motion."""


DESKTOP = Look("desktop-light", 1280, 900, "light")
LOOKS = (
    DESKTOP,
    Look("desktop-dark", 1280, 900, "dark"),
    Look("phone-light", 390, 844, "light", phone=True),
    Look("phone-dark", 390, 844, "dark", phone=True),
)
LAYOUTS_AND_COLOURS = LOOKS[:3]
"""Phones in the dark have the layout of phones and the colours of the dark, each of which is among these."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A Chromium of these tests alone; raises NoServerError where there is none."""
    need(PROGRAM, purpose="browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=list(FLAGS)
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """A page that somebody looks at, with everything that it asked for and that went wrong."""

    page: Page
    context: BrowserContext
    origin: str
    """All that the page may ask: an address such as http://127.0.0.1:8000, or `file://`."""
    look: Look
    asked: list[str] = field(default_factory=list)
    """The URLs of all requests."""
    faults: list[str] = field(default_factory=list)
    """Errors on the console, breaches of the policy, uncaught exceptions, requests to elsewhere or without an answer."""

    def follow(self, page: Page) -> None:
        """Note what goes wrong in a page."""
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("crash", lambda _: self.faults.append("the page crashed"))
        page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))

    def _heard(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            where = said.location
            self.faults.append(f"{said.type}: {said.text} ({where['url']}:{where['lineNumber']})")

    async def meet(self, route: Route, request: Request) -> None:
        """Let a request pass, if it is to the page's own server."""
        self.asked.append(request.url)
        if request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            await route.continue_()
        else:
            self.faults.append(f"asked elsewhere: {request.url}")
            await route.abort()

    def forgive(self, *parts: str) -> list[str]:
        """Take out and give the faults that hold one of `parts`: a test that provokes them says so."""
        meant = [fault for fault in self.faults if any(part in fault for part in parts)]
        self.faults = [fault for fault in self.faults if fault not in meant]
        return meant

    async def open(self, path: str = "/") -> Page:
        """Go to a path of the server, which must have it."""
        answer = await self.page.goto(self.origin + path)
        assert answer is not None
        assert answer.ok, f"{path} answered with {answer.status}: {await answer.text()}"
        return self.page

    async def text(self, selector: str = "body") -> str:
        """What a person can read there."""
        return await self.page.inner_text(selector)

    async def accessibility(self, selector: str = "html") -> list[str]:
        """The serious faults that axe-core finds there, with where and why."""
        await self.page.evaluate(_axe())
        found = await self.page.evaluate(
            "selector => axe.run(selector, {resultTypes: ['violations']})", selector
        )
        return [
            f"{rule['id']} ({rule['impact']}) at {' '.join(map(str, node['target']))}:"
            f" {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in SERIOUS
            for node in rule["nodes"]
        ]

    async def overflow(self) -> list[str]:
        """What sticks out of the screen to the right, so that the whole page has to be moved sideways."""
        found: list[str] = await self.page.evaluate(_OVERFLOW)
        return found

    async def shoot(self, name: str, *, whole: bool = True) -> Path:
        """Keep a picture of the page for people to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}-{self.look.name}.png"
        await self.page.screenshot(path=path, full_page=whole, animations="disabled", scale="css")
        return path


_OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > wide + 1)
    .map((one) => `${one.tagName.toLowerCase()}#${one.id}.${one.className}: ${Math.round(one.getBoundingClientRect().right)} > ${wide}`)
    .slice(0, 10);
}"""


@asynccontextmanager
async def visiting(
    browser: Browser, origin: str, look: Look = DESKTOP, **more: Any
) -> AsyncIterator[Visit]:
    """Somebody who looks at pages of `origin` with a fresh browser; `more`: of Playwright's context."""
    context = await browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme=look.theme,
        reduced_motion="reduce" if look.still else "no-preference",
        is_mobile=look.phone,
        has_touch=look.phone,
        device_scale_factor=2 if look.phone else 1,
        **more,
    )
    try:
        await context.add_init_script(_VIOLATIONS)
        visit = Visit(await context.new_page(), context, origin, look)
        visit.follow(visit.page)
        await context.route("**/*", visit.meet)
        yield visit
    finally:
        await context.close()


# --- pictures -------------------------------------------------------------------------------------

_INK = """element => {
  const canvas = element.querySelector("canvas");
  if (!canvas || !canvas.width || !canvas.height) return {width: 0, height: 0, lines: []};
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const lines = [...element.querySelectorAll(".legend li")].filter((one) => one.querySelector(".swatch")).map((one) => {
    const colour = getComputedStyle(one.querySelector(".swatch")).borderTopColor;
    return {name: one.querySelector(".name").textContent, value: one.querySelector(".value").textContent, colour};
  });
  for (const line of lines) {
    const [r, g, b] = line.colour.match(/[\\d.]+/g).map(Number);
    line.pixels = 0;
    for (let at = 0; at < data.length; at += 4) {
      const far = Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b);
      if (data[at + 3] > 200 && far < 24) line.pixels += 1;
    }
  }
  return {width: canvas.width, height: canvas.height, lines};
}"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a chart's legend says of a line, and how many pixels of the chart have its colour."""

    name: str
    value: str
    colour: str
    """As the style sheet gives it."""
    pixels: int


@dataclass(frozen=True, slots=True)
class Ink:
    """What is really drawn on a chart's canvas; without a canvas nothing."""

    width: int
    height: int
    lines: tuple[Line, ...]

    @property
    def pale(self) -> list[str]:
        """Why it is not drawn as its legend says: a line goes over a good part of its chart.

        One that is nothing all the time may lie below the line of nothing, and equal ones below each other.
        """
        if not self.lines:
            return ["nothing is drawn"]
        drawn = {line.value for line in self.lines if line.pixels >= self.width / 8} | {"0.00 %"}
        return [
            f"{line.pixels} pixels of {line.name} ({line.colour}), the chart is {self.width} wide"
            for line in self.lines
            if line.pixels < self.width / 8 and line.value not in drawn
        ]


async def ink(page: Page, chart: str) -> Ink:
    """What is drawn on the canvas in the element `chart`."""
    found = await page.eval_on_selector(chart, _INK)
    return Ink(found["width"], found["height"], tuple(Line(**line) for line in found["lines"]))


Visits = Callable[..., AbstractAsyncContextManager[Visit]]
"""Opens a fresh browser on a server; in the end nothing must have gone wrong."""
