"""What the tests in a browser share: the demo on its stage, played once a module, and somebody who looks at it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from support.browser import DESKTOP, Look, Visit, Visits, chromium, visiting
from support.servers.base import or_skip


if TYPE_CHECKING:  # at run time not before the tests are configured (see tests/conftest.py)
    from support.stage import Stage, Still

    from abmonitor.view import View


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    with or_skip():
        opening = chromium()
        opened = await opening.__aenter__()
    try:
        yield opened
    finally:
        await opening.__aexit__(None, None, None)


@pytest.fixture(scope="session")
def acts(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, View]":
    """What there was to see in each act of the demo: healthy, defect, rolled-back. It never changes any more."""
    from support.stage import stage

    async def played() -> "dict[str, View]":
        async with stage(tmp_path_factory.mktemp("played")) as made:
            return await made.play_all()

    return asyncio.run(played())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def still(acts: "dict[str, View]") -> "AsyncIterator[tuple[Still, str]]":
    """What tests let be seen, the rolled back demo at first, and where."""
    from support.stage import Still

    shown = Still(acts["rolled-back"])
    async with shown.served() as url:
        yield shown, url


@pytest_asyncio.fixture(loop_scope="module")
async def playing(tmp_path: Path) -> "AsyncIterator[Stage]":
    """A demo of this test alone."""
    from support.stage import stage

    async with stage(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def visits(browser: Browser) -> Visits:
    """Visits in which nothing goes wrong, but for what a test forgives."""

    @asynccontextmanager
    async def opened(origin: str, look: Look = DESKTOP, **more: object) -> AsyncIterator[Visit]:
        async with visiting(browser, origin, look, **more) as visit:
            yield visit
            await visit.page.wait_for_timeout(50)  # what is on its way is told, too
        assert visit.faults == []
        assert visit.asked

    return opened
