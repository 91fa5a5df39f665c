"""A shop (see `support.api`) whose server runs in a thread of its own, for clients that block."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from abmonitor.http import serving
from support.api import Shop, shop


PATIENCE_S = 30


class Running:
    """A served shop; `ann` may act on everything, `bob` may read."""

    def __init__(self, folder: Path, **guarded: Any) -> None:
        self._folder, self._guarded = folder, guarded
        self._stop, self._started = asyncio.Event(), threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.shop: Shop
        self.url = ""
        self._thread.start()
        if not self._started.wait(PATIENCE_S):
            raise TimeoutError("the server did not start")

    async def _serve(self) -> None:
        async with shop(self._folder) as self.shop:
            self.shop.token("ann")
            self.shop.token("bob", "read")
            await self.shop.pass_time()
            async with serving(self.shop.application(**self._guarded), "127.0.0.1", 0) as port:
                self.url = f"http://127.0.0.1:{port}"
                self._started.set()
                await self._stop.wait()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` gives when it is done where the server runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def end(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        self._loop.close()
