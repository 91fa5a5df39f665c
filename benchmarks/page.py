"""What the page costs: the list of 200 experiments, one experiment, and what is pushed, beside `/metrics` and the API.

Run: `python benchmarks/page.py` (needs redis-server). 200 experiments with two treatments and three guardrails each, on eight
shards of a real Redis, the traffic of benchmarks/monitor.py: minutes of it before, then a tick twice a second with half a
second of arrivals before it, as `abmonitor monitor` does. First the list is opened after each tick while nobody else looks, so
that everything new on it is made by this request. Then a reader of the list and one of an experiment stay connected; what is
pushed to them is timed from the end of the tick (the server looks twice a second), and afterwards `/`, `/experiments/…`, `/metrics`,
`/api/v1/status` and one experiment's series are fetched one after the other. All over HTTP on loopback from a client in the same
process: times are from the request to the last byte of the answer, and contain the client's. Times are of the wall, and of the CPU
of this process: beside other work only the latter can be compared.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import machine
from monitor import STEP, Took, Traffic, declared, shown, timed
from pipeline import redis_server

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.exposition import Exposition
from abmonitor.http import serving
from abmonitor.monitor import Monitor
from abmonitor.server import application
from abmonitor.settings import Settings
from abmonitor.watch import PATIENCE_S, STALE_AFTER
from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher
from alerts.store import AlertStore
from stream.store import Store


HOST = "127.0.0.1"
PAGE_MS, PAGE_BYTES = 200, 1_000_000
"""The goals of the list: on the server, and on the way."""
PUSH_WITHIN_S = 5.0

FIRST = "/ (the list), the first time"
ALONE = "/ (the list), nobody else looks"
OPEN = "/ (the list), open elsewhere too"


class Nobody:
    """Carries out no order: none is expected."""

    async def apply(self, order: Order) -> Receipt:
        return Receipt(accepted=False, detail=f"not expected: {order.id}")

    async def verify(self, order: Order) -> Verification:
        del order
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        pass


class Bench:
    """A monitor that is served, and a client of it."""

    def __init__(self, store: Store, count: int) -> None:
        experiments = [declared(number) for number in range(count)]
        self.names = [each.name for each in experiments]
        self.settings = Settings(experiments=tuple(experiments))
        self.store, self.traffic = store, Traffic(store, experiments)
        self.monitor = Monitor(
            self.settings,
            store.client,
            {name: Dispatcher(Nobody(), time.monotonic) for name in self.names},
            clock=lambda: self.traffic.at,
            stale_after=STALE_AFTER,
            patience=PATIENCE_S,
            hints=True,
        )
        self.exposition = Exposition(lambda: self.monitor.view)
        self.took = defaultdict[str, list[Took]](list)
        self.sizes = defaultdict[str, list[int]](list)
        self.url = ""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[aiohttp.ClientSession]:
        kept = AlertStore(self.store.client, self.settings.deployment)
        api = Api(self.monitor, kept, Guard(per_minute=1_000_000), lambda: self.traffic.at)
        app = application(
            lambda: self.monitor.view, lambda: None, api=api, exposition=self.exposition
        )
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(app, HOST, 0))
            self.url = f"http://{HOST}:{port}"
            unlimited = aiohttp.ClientTimeout(total=None)
            yield await stack.enter_async_context(aiohttp.ClientSession(timeout=unlimited))

    async def fetch(self, session: aiohttp.ClientSession, name: str, path: str) -> None:
        found = b""

        async def get() -> None:
            nonlocal found
            async with session.get(self.url + path) as answer:
                found = await answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{path} answered with {answer.status}: {found[:500]!r}")

        self.took[name].append(await timed(get))
        self.sizes[name].append(len(found))

    def show(self, goals: dict[str, float]) -> None:
        for name, took in self.took.items():
            size = f", {sized(self.sizes[name])}" if self.sizes[name] else ""
            shown(name + size, took, goals.get(name))


def sized(sizes: Sequence[int]) -> str:
    middle = sorted(sizes)[len(sizes) // 2]
    return f"{middle / 1e6:.2f} MB" if middle >= 100_000 else f"{middle / 1e3:.1f} kB"


class Reader:
    """Somebody who has a page open: notes when something was pushed, and how much."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench, self._name = bench, name
        self.got = asyncio.Event()
        self.size = 0

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        """Read events until the connection ends."""
        size = 0
        async for text in answer.content:
            size += len(text)
            if text == b"\n":  # an event ends
                self.size, size = size, 0
                self.got.set()

    async def wait(self, started: float, used: float) -> None:
        """Note how long it took since the tick."""
        async with asyncio.timeout(PUSH_WITHIN_S):
            await self.got.wait()
        took = Took((time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000)
        self._bench.took[self._name].append(took)
        self._bench.sizes[self._name].append(self.size)


async def follow(
    bench: Bench, session: aiohttp.ClientSession, stack: AsyncExitStack
) -> list[Reader]:
    """Readers of the list and of one experiment, who have got everything that there is."""
    readers = []
    for name, path in (
        ("list", "/events"),
        ("experiment", f"/experiments/{bench.names[0]}/events"),
    ):
        answer = await stack.enter_async_context(session.get(bench.url + path))
        reader = Reader(bench, f"  pushed to a reader of the {name}")
        reading = asyncio.create_task(reader.read(answer))
        stack.callback(reading.cancel)
        await reader.got.wait()
        readers.append(reader)
    return readers


async def tick(bench: Bench, rate: int) -> None:
    """A tick with new data before it, and what follows each for `/metrics`."""
    await bench.traffic.step(STEP, predictions=rate * STEP // 1000)
    bench.took["tick"].append(await timed(bench.monitor.tick))
    await bench.exposition.follow(bench.monitor.view)


async def opened(bench: Bench, session: aiohttp.ClientSession, count: int, rate: int) -> None:
    """Somebody opens the list when nobody else looks: all of it that is new has to be made for them."""
    for _ in range(count):
        await tick(bench, rate)
        await bench.fetch(session, ALONE, "/")


async def looked_at(
    bench: Bench,
    session: aiohttp.ClientSession,
    readers: Sequence[Reader],
    count: int,
    rate: int,
) -> None:
    """Ticks while somebody has pages open; then everything is fetched."""
    one = bench.names[0]
    for _ in range(count):
        for reader in readers:
            reader.got.clear()
        await tick(bench, rate)
        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(reader.wait(started, used) for reader in readers))
        for name, path in (
            (OPEN, "/"),
            ("/experiments/NAME", f"/experiments/{one}"),
            ("/metrics", "/metrics"),
            ("/api/v1/status", "/api/v1/status"),
            ("/api/v1/experiments/NAME/series", f"/api/v1/experiments/{one}/series"),
        ):
            await bench.fetch(session, name, path)


async def run(url: str, options: argparse.Namespace) -> None:
    bench = Bench(Store.at(url, "default"), options.experiments)
    for _ in range(options.minutes * 6):
        await bench.traffic.step(10_000)
    shown("first tick", [await timed(bench.monitor.tick)])
    async with bench.served() as session, AsyncExitStack() as stack:
        await bench.fetch(session, FIRST, "/")
        await opened(bench, session, options.ticks, options.rate)
        readers = await follow(bench, session, stack)
        await looked_at(bench, session, readers, options.ticks, options.rate)
        bench.show(dict.fromkeys((FIRST, ALONE, OPEN), PAGE_MS))
        largest = max(size for name in (FIRST, ALONE, OPEN) for size in bench.sizes[name])
        print(f"the list is at most {largest:,} bytes; goal {PAGE_BYTES:,}")
    await bench.monitor.close()
    await bench.store.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--experiments", type=int, default=200)
    arguments.add_argument("--minutes", type=int, default=10, help="of traffic before")
    arguments.add_argument("--ticks", type=int, default=20)
    arguments.add_argument("--rate", type=int, default=1_000, help="predictions a second")
    options = arguments.parse_args()
    print(machine.description())
    with redis_server() as url:
        asyncio.run(run(url, options))


if __name__ == "__main__":
    main()
