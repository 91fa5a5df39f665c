"""What the pipeline costs: `process(batch)` on a real Redis beside the bare decode loop, in one run.

Run: `make bench` (needs redis-server). Batches of 5,000 events, half predictions, half outcomes, one
experiment with two variants; labels mature and ids are forgotten during the run, so everything that a
worker does for an event is in the figure. Memory is measured on predictions that wait. With `--units` the
experiment is randomised by unit (as many as 20,000), has money and two landmarks.
"""

import argparse
import asyncio
import gc
import platform
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from metrics.duration import Duration
from metrics.experiment import Experiment, Labels, Money
from stream.batch import Batch, DeadLetter
from stream.pipeline import ShardPipeline
from stream.sources import Decoder
from stream.store import Store


BATCH = 5_000
START = 1_767_225_600_000
RATE = 5_000  # predictions a second of event time
EXPERIMENT = Experiment(
    name="offer-recommender",
    control="rules-v1",
    variants={"rules-v1": 0.5, "ranker-v2": 0.5},
    labels=Labels(horizon=Duration(60_000), grace=Duration(10_000), late_for=Duration(30_000)),
)
UNITS = 20_000
BY_UNIT = msgspec.structs.replace(
    EXPERIMENT,
    randomised_by="unit",
    money=Money(cap=100),
    labels=msgspec.structs.replace(
        EXPERIMENT.labels, landmarks=(Duration(5_000), Duration(20_000))
    ),
)


class NoDeadLetters:
    async def send(self, letters: Sequence[DeadLetter]) -> None:
        raise RuntimeError(f"unusable event: {letters[0]}")


def prediction(number: int, chance: random.Random, experiment: Experiment) -> tuple[int, bytes]:
    at = START + number * 1000 // RATE
    event = {
        "type": "prediction",
        "prediction_id": f"req-{number:012d}",
        "experiment": EXPERIMENT.name,
        "variant": ("rules-v1", "ranker-v2")[chance.random() < 0.5],
        "predicted": chance.random() < 0.3,
        "time": at,
        "latency_ms": round(chance.lognormvariate(3, 0.5), 2),
        "score": round(chance.random(), 3),
    }
    if experiment is BY_UNIT:
        event |= {"unit_id": f"customer-{chance.randrange(UNITS)}", "cost": 0.25}
    return at, msgspec.json.encode(event)


def outcome(number: int, chance: random.Random, experiment: Experiment) -> tuple[int, bytes]:
    at = START + number * 1000 // RATE + chance.randrange(1_000, 20_000)
    event = {
        "type": "outcome",
        "prediction_id": f"req-{number:012d}",
        "actual": chance.random() < 0.2,
        "time": at,
    }
    if experiment is BY_UNIT:
        event["value"] = 12.5
    return at, msgspec.json.encode(event)


def batches(events: int, experiment: Experiment) -> list[Batch]:
    chance = random.Random(7)
    numbers, makers = range(events // 2), (prediction, outcome)
    records = [make(n, chance, experiment) for n in numbers for make in makers]
    records.sort()
    made = []
    for start in range(0, len(records), BATCH):
        part = records[start : start + BATCH]
        offsets = range(start, start + len(part))
        arrivals, values = [at for at, _ in part], [value for _, value in part]
        made.append(Batch("events", 0, start, offsets.stop, offsets, arrivals, values))
    return made


@contextmanager
def redis_server() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("benchmarks need redis-server on the path")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                with socket.socket() as trial:
                    if trial.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def pipeline(store: Store, experiment: Experiment, shard: int = 0) -> ShardPipeline:
    return ShardPipeline(store, shard, [experiment], Decoder(), NoDeadLetters(), topics=("events",))


async def measured(
    url: str, made: list[Batch], experiment: Experiment, shards: int
) -> tuple[float, float, Counter[str]]:
    """Wall and CPU seconds of counting `made` on each of `shards` shards at once, and the tallies."""
    store = Store.at(url)
    await store.client.flushall()
    tallies: Counter[str] = Counter()

    async def count(shard: int) -> None:
        counting = pipeline(store, experiment, shard)
        for batch in made:
            tallies.update((await counting.process(replace(batch, shard=shard))).tallies)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(count(shard) for shard in range(shards)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await store.close()
    return wall, cpu, tallies


async def bytes_per_pending(url: str, experiment: Experiment, predictions: int) -> float:
    store = Store.at(url)
    await store.client.flushall()
    before = (await store.client.info("memory"))["used_memory"]
    counting = pipeline(store, experiment)
    chance = random.Random(7)
    for start in range(0, predictions, BATCH):
        part = [prediction(n, chance, experiment) for n in range(start, start + BATCH)]
        offsets = range(start, start + BATCH)
        values = [value for _, value in part]
        # All in one second: nothing matures, and panes weigh nothing beside a million ids.
        await counting.process(
            Batch("events", 0, start, offsets.stop, offsets, [START] * BATCH, values)
        )
    after = (await store.client.info("memory"))["used_memory"]
    await store.close()
    return (after - before) / predictions


def decode_only(made: list[Batch]) -> float:
    decoder = Decoder()
    started = time.perf_counter()
    for batch in made:
        decoder.decode(batch.topic, batch.values)
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--pending", type=int, default=1_000_000)
    arguments.add_argument("--units", action="store_true")
    events, pending, units = vars(arguments.parse_args()).values()
    experiment = BY_UNIT if units else EXPERIMENT
    made = batches(events, experiment)
    gc.freeze()  # the input is not the pipeline's garbage
    decoding = decode_only(made)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    print(f"bare decode loop        {events / decoding:>10,.0f} events/s")
    with redis_server() as url:
        for shards in (1, 2):
            wall, cpu, tallies = asyncio.run(measured(url, made, experiment, shards))
            done = sum(tallies.values())
            if done != shards * events:
                raise SystemExit(
                    f"{shards * events} events went in, {done} were counted: {tallies}"
                )
            print(
                f"process(batch), {shards} shard{'s'[: shards - 1]:1} {done / wall:>10,.0f} events/s,"
                f" {done / cpu:,.0f} per CPU second, {decoding * shards / wall:.3f} of the bare loop"
            )
        each = asyncio.run(bytes_per_pending(url, experiment, pending))
    print(f"Redis per pending    {each:>12.1f} bytes ({pending:,} predictions)")
    print(
        f"peak memory          {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>12,.0f} MiB"
    )


if __name__ == "__main__":
    main()
