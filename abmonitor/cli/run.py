"""Commands that run: the demo."""

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from abmonitor.cli.common import Json, failed, print_json
from abmonitor.demo.flagging import MissingError
from abmonitor.demo.live import Screen, ending
from abmonitor.demo.scene import PortError, Scene, Way, scene
from abmonitor.demo.story import Story, tell
from abmonitor.document import document
from abmonitor.view import View


PACE_S = 0.08
"""Seconds that a simulated minute takes on the screen."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("demo")(demo_command)


def demo_command(
    fast: Annotated[bool, typer.Option("--fast", help="Run without waiting.")] = False,
    as_json: Json = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /metrics and the API; 0 picks a free one."),
    ] = None,
    actuator: Annotated[
        Way,
        typer.Option(help="What moves the traffic: an order to the router, or a feature flag."),
    ] = Way.WEBHOOK,
) -> None:
    """Watch two model versions compared on real offers, and the broken one rolled back."""
    try:
        asyncio.run(_demo(fast=fast, as_json=as_json, port=port, way=actuator))
    except (PortError, MissingError) as error:
        failed(f"demo: {error}")


async def _demo(*, fast: bool, as_json: bool, port: int | None, way: Way) -> None:
    console = Console(stderr=as_json)
    async with scene(port, way) as playing:
        view = await _play(playing, console, pace=0.0 if fast else PACE_S)
        story = _story(playing, view)
    if as_json:
        print_json({**document(view), "demo": story.document()})
    else:
        console.print(ending(story))
    if not story.verified:
        failed("demo: the broken treatment was not rolled back and verified")


async def _play(playing: Scene, console: Console, pace: float) -> View:
    """Run the scene to its end, drawing it on the way."""
    screen = Screen()
    view = await playing.monitor.tick()
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while not playing.finished:
            started = time.monotonic()
            view = await playing.step()
            live.update(screen.draw(playing, view))
            await asyncio.sleep(max(0.0, pace - (time.monotonic() - started)))
        view = await playing.end()
        live.update(screen.draw(playing, view))
    if not console.is_terminal:
        console.line()  # a screen that is no terminal's does not end its last line
    return view


def _story(playing: Scene, view: View) -> Story:
    shown = view.experiments[playing.experiment]
    return tell(playing.offers[: playing.served], playing.router, shown, playing.economics)
