"""Views for the tests of what faces show: made by replaying events, as the monitor makes them."""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

from abmonitor.replay import Replayed, replay
from abmonitor.settings import Settings, load
from abmonitor.view import View
from stream.files import Input
from support.eventfiles import SETTINGS, Event, written


def settings_of(text: str = SETTINGS) -> Settings:
    """The settings in a YAML text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(text)
        return load(path)


def replayed(
    events: Iterable[Event | bytes], settings: Settings | None = None, *, complete: bool = False
) -> Replayed:
    """What a replay of `events` finds."""
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "events", events)
        found = replay(settings or settings_of(), [Input(path)], complete=complete)
        return asyncio.run(found)


def view_of(
    events: Iterable[Event | bytes], settings: Settings | None = None, *, complete: bool = False
) -> View:
    """The view at the end of a replay of `events`."""
    return replayed(events, settings, complete=complete).view
