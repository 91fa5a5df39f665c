"""What stands in a page, and what a stream of server-sent events says: for the tests of the monitor's page."""

import json
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

from aiohttp import ClientResponse


class Seen(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = list[str]()
        self.attributes = list[dict[str, str | None]]()
        self.text = ""
        self.scripts = list[str]()
        """What stands in the page's own script elements: data, if anything."""
        self._inside = list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag == "script":
            self._inside.append("")

    def handle_endtag(self, tag: str) -> None:
        """Take note of the end of a script."""
        if tag == "script" and self._inside:
            self.scripts.append(self._inside.pop())

    def handle_data(self, data: str) -> None:
        """Take note of text."""
        if self._inside:
            self._inside[-1] += data
        else:
            self.text += data

    def having(self, attribute: str) -> list[dict[str, str | None]]:
        """The attributes of the elements that have this one."""
        return [each for each in self.attributes if attribute in each]

    @property
    def words(self) -> str:
        """The text with its blanks made one."""
        return " ".join(self.text.split())


async def messages(answer: ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream, each with its data."""
    text = ""
    async for chunk in answer.content.iter_any():
        text += chunk.decode()
        *whole, text = text.split("\n\n")
        for one in whole:
            kind, data = one.split("\n")
            yield kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))
