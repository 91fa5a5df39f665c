"""What a monitor costs: ticks over many experiments, `/metrics`, and from a breach to the order.

Run: `python benchmarks/monitor.py` (needs redis-server). 200 experiments with three variants, three windows and
three guardrails each, on eight shards of a real Redis: ten minutes of traffic, then one commit a shard
before each tick, half a second of arrivals: first of `--rate` predictions a second over all experiments,
then such that every variant of every experiment changes on every shard. Beside it the same without
anything new (an idle tick), and the least that reading it all takes: fetching and unpacking the ledgers that a tick
touched. The monitor is set up as `abmonitor monitor` does it. Times are of the wall, and of the CPU of
this process: beside other work only the latter can be compared.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import machine
import msgspec
from aiohttp import web
from pipeline import NoDeadLetters, redis_server

from abmonitor.exposition import Exposition
from abmonitor.http import serving
from abmonitor.monitor import Monitor
from abmonitor.settings import ExperimentSettings, Settings
from abmonitor.watch import PATIENCE_S, STALE_AFTER
from alerts.actuators.webhook import Webhook, WebhookOptions
from alerts.guardrails import Guardrail
from alerts.outbox import Dispatcher
from metrics.duration import Duration
from metrics.experiment import Labels, Profitability
from metrics.layout import Keys
from metrics.ledger import Ledger
from stream.batch import Batch
from stream.pipeline import ShardPipeline
from stream.sources import Decoder
from stream.store import Store


START = 1_767_225_600_000
STEP = 500
"""Milliseconds of arrivals between two ticks."""
SHARDS = 8
VARIANTS = ("control", "first", "second")


def declared(number: int) -> ExperimentSettings:
    return ExperimentSettings(
        name=f"experiment-{number}",
        control="control",
        variants={"control": 0.4, "first": 0.3, "second": 0.3},
        labels=Labels(horizon=Duration(60_000), grace=Duration(10_000), cohort=Duration(60_000)),
        profitability=Profitability(q=3.0),
        guardrails=(
            Guardrail(metric="rap", test="sequential", margin=0.05, detect=0.2),
            Guardrail(metric="error_rate", test="sequential", relative_margin=0.5),
            Guardrail(metric="latency_p99_ms", window=Duration(300_000), max=2_000),
        ),
    )


class Traffic:
    """Events of all experiments, cut into one batch a shard and step."""

    def __init__(self, store: Store, experiments: Sequence[ExperimentSettings]) -> None:
        self._chance = random.Random(7)
        self._names = [each.name for each in experiments]
        self._pipelines = [
            ShardPipeline(store, n, experiments, Decoder(), NoDeadLetters(), topics=("events",))
            for n in range(SHARDS)
        ]
        self._offsets, self._number = [0] * SHARDS, 0
        self.at = START

    async def step(self, width: int, failing: str = "", predictions: int | None = None) -> None:
        """`width` ms of arrivals: so many predictions anywhere, or of every variant on every shard one."""
        places = [(name, variant) for name in self._names for variant in VARIANTS]
        for shard, pipeline in enumerate(self._pipelines):
            if predictions is not None:
                chosen = self._chance.choices(places, k=predictions // SHARDS)
            else:
                chosen = places
            values = [
                event
                for name, variant in chosen
                for event in self._events(name, variant, failing == name and variant == "first")
            ]
            offset = self._offsets[shard]
            offsets = range(offset, offset + len(values))
            self._offsets[shard] = offsets.stop
            arrivals = [self.at + width * i // len(values) for i in range(len(values))]
            await pipeline.process(
                Batch("events", shard, offset, offsets.stop, offsets, arrivals, values)
            )
        self.at += width

    def _events(self, experiment: str, variant: str, fails: bool) -> list[bytes]:
        self._number += 1
        name, chance = f"r{self._number}", self._chance
        prediction = {
            "type": "prediction",
            "prediction_id": name,
            "experiment": experiment,
            "variant": variant,
            "predicted": chance.random() < 0.4,
            "latency_ms": round(chance.lognormvariate(3, 0.5), 2),
            "time": self.at,
        }
        if fails:
            prediction["error"] = True
        outcome = {
            "type": "outcome",
            "prediction_id": name,
            "actual": chance.random() < 0.4,
            "time": self.at,
        }
        return [msgspec.json.encode(prediction), msgspec.json.encode(outcome)]


class Took(NamedTuple):
    """Milliseconds."""

    wall: float
    cpu: float


async def timed(work: Callable[[], Awaitable[object]]) -> Took:
    """What `work` takes."""
    started, used = time.perf_counter(), time.process_time()
    await work()
    return Took((time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000)


async def fetched(store: Store, experiments: int) -> None:
    """The least that a tick takes: the ledgers touched by the newest commits, unpacked."""
    found = 0
    for shard in range(SHARDS):
        keys = Keys(store.deployment, shard)
        names = await store.client.zrevrange(keys.touched("fine"), 0, experiments * 3 - 1)
        names += await store.client.zrevrange(keys.touched("coarse"), 0, experiments * 3 - 1)
        names += await store.client.zrevrange(keys.touched("kept"), 0, experiments * 3 - 1)
        values = await store.client.mget([keys.ledger(name.decode()) for name in names])
        found += len([Ledger.unpack(value) for value in values if value])
    print(f"  ({found:,} ledgers a tick)")


class Receiver:
    """A local actuator's other side: notes when orders come."""

    def __init__(self) -> None:
        self.got = asyncio.Event()

    async def take(self, _: web.Request) -> web.Response:
        self.got.set()
        return web.Response(status=202)


def shown(name: str, took: Sequence[Took], goal: float | None = None) -> None:
    wall, cpu = [each.wall for each in took], [each.cpu for each in took]
    aim = "" if goal is None else f"   goal {goal:,.0f}"
    print(
        f"{name:<46} {statistics.median(wall):>7,.0f} ms median {max(wall):>7,.0f} ms most,"
        f" CPU {statistics.median(cpu):>6,.0f} and {max(cpu):>6,.0f}, of {len(took)}{aim}",
        flush=True,
    )


async def ticks_of(
    traffic: Traffic, monitor: Monitor, exposed: Exposition, ticks: int, predictions: int | None
) -> None:
    """Ticks, each with new data before it and a scrape after it."""
    quiet, looking, scrapes, following = [], [], [], []
    for _ in range(ticks):
        await traffic.step(STEP, predictions=predictions)
        before = looked_at(monitor)
        took = await timed(monitor.tick)
        (quiet if looked_at(monitor) == before else looking).append(took)
        following.append(await timed(lambda: exposed.follow(monitor.view)))
        scrapes.append(await timed(lambda: scraped(exposed)))
    what = "in every variant" if predictions is None else f"of {predictions} predictions"
    shown(f"ticks with new data {what}", quiet, 250)
    if looking:
        shown("  those with looks at all experiments", looking)
    shown("  after each, for /metrics", following)
    shown(f"  /metrics ({len(await scraped(exposed)) / 1e6:.1f} MB)", scrapes, 100)


def looked_at(monitor: Monitor) -> list[object]:
    books = [each.book for each in monitor.view.experiments.values()]
    return [(book.looked_at, book.cohort_at) for book in books]


async def scraped(exposed: Exposition) -> bytes:
    return exposed.document("")[0]


async def run(url: str, options: argparse.Namespace) -> None:
    declared_all = [declared(number) for number in range(options.experiments)]
    settings = Settings(experiments=tuple(declared_all))
    store, receiver = Store.at(url, settings.deployment), Receiver()
    traffic = Traffic(store, declared_all)
    for _ in range(options.minutes * 6):
        await traffic.step(10_000)
    app = web.Application()
    app.router.add_post("/", receiver.take)
    async with serving(app, "127.0.0.1", 0) as port:
        webhook = Webhook(WebhookOptions(url=f"http://127.0.0.1:{port}/"))
        dispatchers = {each.name: Dispatcher(webhook, time.monotonic) for each in declared_all}
        monitor = Monitor(
            settings,
            store.client,
            dispatchers,
            clock=lambda: traffic.at,
            stale_after=STALE_AFTER,
            patience=PATIENCE_S,
            hints=True,
        )
        shown("first tick", [await timed(monitor.tick)], 5_000)
        shown("idle ticks", [await timed(monitor.tick) for _ in range(options.ticks)], 250)
        exposed = Exposition(lambda: monitor.view)
        shown("first scrape", [await timed(lambda: scraped(exposed))])
        rated = options.rate * STEP // 1000
        await ticks_of(traffic, monitor, exposed, options.ticks, rated)
        await ticks_of(traffic, monitor, exposed, options.ticks, None)
        least = [await timed(lambda: fetched(store, options.experiments))]
        shown("the least that reading takes", least)
        for which, one in (("judged first", declared_all[0]), ("judged last", declared_all[-1])):
            await breach(traffic, monitor, receiver, one.name, which)
        await monitor.close()
        await webhook.close()
    await store.close()


async def breach(
    traffic: Traffic, monitor: Monitor, receiver: Receiver, name: str, which: str
) -> None:
    """From the beginning of the tick that sees a breach to the order at the receiver."""
    receiver.got.clear()
    for _ in range(200):
        await traffic.step(10_000, failing=name)
        started, used = time.perf_counter(), time.process_time()
        ticking = asyncio.ensure_future(monitor.tick())
        arriving = asyncio.ensure_future(receiver.got.wait())
        await asyncio.wait({ticking, arriving}, return_when=asyncio.FIRST_COMPLETED)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
        await ticking
        if arriving.done():
            took = Took(wall * 1000, cpu * 1000)
            shown(f"from a breach's tick to the order, {which}", [took], 1_000)
            return
        arriving.cancel()
    raise SystemExit("no rollback came")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--experiments", type=int, default=200)
    arguments.add_argument("--minutes", type=int, default=10, help="of traffic before")
    arguments.add_argument("--ticks", type=int, default=60)
    arguments.add_argument("--rate", type=int, default=1_000, help="predictions a second")
    options = arguments.parse_args()
    print(machine.description())
    with redis_server() as url:
        asyncio.run(run(url, options))


if __name__ == "__main__":
    main()
