"""Draw docs/demo.svg, the README's picture: the demo's screen just after the rollback. Run from the root."""

import asyncio
import re
from io import StringIO
from pathlib import Path

from rich.console import Console

from abmonitor.demo.live import Screen, ending
from abmonitor.demo.scene import scene
from abmonitor.demo.story import tell


AFTER = 400
"""Customers after the rollback at which the picture is taken."""


async def draw() -> str:
    """Play the demo without a screen; the SVG of the screen that tells most, and of the ending."""
    console = Console(width=100, record=True, file=StringIO())
    drawn = False
    async with scene(0) as playing:
        screen = Screen()
        view = await playing.monitor.tick()
        while not playing.finished:
            view = await playing.step()
            screenshot = screen.draw(playing, view)
            stopped = playing.router.rolled_back_at
            if not drawn and stopped is not None and playing.served >= stopped + AFTER:
                console.print(screenshot)
                drawn = True
        view = await playing.end()
        shown = view.experiments[playing.experiment]
        console.print(ending(tell(playing.offers, playing.router, shown, playing.economics)))
    picture = console.export_svg(title="make demo")
    # A picture that fetches fonts is no picture: the reader's own monospace serves.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    (Path(__file__).parent / "demo.svg").write_text(asyncio.run(draw()))
