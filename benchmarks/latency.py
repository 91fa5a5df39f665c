"""From a record's append to its effect on the monitor's /metrics, at a steady rate. This module does I/O."""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from rig import Rig, free_ports
from working import Deployment, FailedError, counts_of
from workload import PARTITIONS, Workload


EXPERIMENTS = tuple(f"experiment-{partition}" for partition in range(PARTITIONS))
"""One a partition: within it records are counted in the order of the log, so that the n-th is known."""
TICKS_A_SECOND = 20
"""How often events are sent."""
IN_FLIGHT = 4
"""Chunks that are sent at a time."""
POLL_S = 0.1
STORE_POLL_S = 0.02
WARM_UP_S = 5
"""Events of the first seconds are left out: the consumer group gathers then."""
SETTLE_S = 15
GOAL_S = 1.5
KEPT = 0.97
"""Share of the rate that has to be sent."""
FAMILIES = {
    "predictions": "abmonitor_predictions_total",
    "outcomes": "abmonitor_labelled_predictions_total",
}

Times = npt.NDArray[np.float64]
Told = list[tuple[float, int]]
"""When something was read, and how many events it told."""
Polls = dict[tuple[str, str], Told]
"""Of /metrics, by (kind, experiment)."""
Positions = dict[tuple[str, int], Told]
"""Of what is stored, by (topic, partition)."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds until an event shows, at most: it did at this poll, and not at the one before."""

    kind: str
    events: int
    p50: float
    p99: float
    most: float
    p99_stored: float
    """Until the worker had committed its record; the rest is the monitor's."""
    p50_from_sender: float
    """The same from the time at which the event was made."""
    p99_from_sender: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """One measurement."""

    found: Sequence[Latency]
    wanted: float
    """Events a second that were asked for."""
    rate: float
    """Events a second, as sent."""
    polls_per_second: float
    worker_cores: float
    monitor_cores: float
    others: float
    right: bool


def measure(rig: Rig, rate: int, seconds: int) -> Latencies:
    """Send `rate` events a second, half predictions, half outcomes, and look at /metrics meanwhile."""
    with rig.fresh_topics(), tempfile.TemporaryDirectory(prefix="abmonitor-bench-") as folder:
        deployment = Deployment(rig, "latency", Path(folder), EXPERIMENTS, "10s")
        try:
            return asyncio.run(_measured(rig, deployment, rate, seconds))
        finally:
            deployment.close()


async def _measured(rig: Rig, deployment: Deployment, rate: int, seconds: int) -> Latencies:
    with rig.store() as client:
        client.flushall()
    workload = Workload(rate // 2 * seconds, EXPERIMENTS)
    worker_port, monitor_port = free_ports(2)
    with (
        deployment.running("worker", worker_port) as worker,
        deployment.running("monitor", monitor_port) as monitor,
    ):
        await _ready(f"http://127.0.0.1:{worker_port}/readyz")
        await _ready(f"http://127.0.0.1:{monitor_port}/readyz")
        pids = {"worker": worker.pid, "monitor": monitor.pid}
        polls: Polls = defaultdict(list)
        stored: Positions = defaultdict(list)
        before = rig.read(**pids)
        polling = asyncio.create_task(_poll(f"http://127.0.0.1:{monitor_port}/metrics", polls))
        watching = asyncio.create_task(_watch(deployment, stored))
        took = await _send(rig, workload, rate)
        used = rig.read(**pids).since(before)
        await _settle(deployment, sum(workload.sent.values()), worker)
        polling.cancel()
        watching.cancel()
        right = counts_of(await deployment.fleet()) == workload.truth
    times = [at for at, _ in next(iter(polls.values()))]
    return Latencies(
        [await _latency(rig, kind, polls, stored) for kind in FAMILIES],
        rate,
        2 * workload.sent["prediction"] / took,
        (len(times) - 1) / (times[-1] - times[0]),
        used.of["worker"] / used.seconds,
        used.of["monitor"] / used.seconds,
        used.others,
        right,
    )


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise FailedError(f"{url} does not answer with 200")


async def _send(rig: Rig, workload: Workload, rate: int) -> float:
    """Send at a steady rate; gives the seconds until the last prediction: outcomes go on for a while."""
    size, took = rate // 2 // TICKS_A_SECOND, 0.0
    async with rig.sending() as send:
        begun = time.monotonic()
        flying: set[asyncio.Task[None]] = set()
        for number, chunk in enumerate(workload.chunks(size)):
            await asyncio.sleep(begun + number / TICKS_A_SECOND - time.monotonic())
            if (
                len(flying) >= IN_FLIGHT
            ):  # the machine does not manage the rate; the report tells it
                await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(send(*chunk))
            took = time.monotonic() - begun if chunk[0] else took
            flying.add(task)
            task.add_done_callback(flying.discard)
        await asyncio.gather(*flying)
    return took


async def _settle(deployment: Deployment, sent: int, worker: Any) -> None:
    """Wait until everything is counted, and shown."""
    await asyncio.to_thread(lambda: [*deployment.progress(worker, sent)])
    await asyncio.sleep(SETTLE_S)


async def _watch(deployment: Deployment, stored: Positions) -> None:
    while True:
        found = await asyncio.to_thread(deployment.positions)
        now = time.time()
        for where, offset in found.items():
            stored[where].append((now, offset))
        await asyncio.sleep(STORE_POLL_S)


async def _poll(url: str, polls: Polls) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            started = time.monotonic()
            async with session.get(url) as answer:
                text = await answer.text()
            now = time.time()
            for key, count in _counts(text).items():
                polls[key].append((now, count))
            await asyncio.sleep(started + POLL_S - time.monotonic())


def _counts(text: str) -> Mapping[tuple[str, str], int]:
    """What /metrics tells, by kind and experiment."""
    wanted = {f"{name}{{": kind for kind, name in FAMILIES.items()}
    found: dict[tuple[str, str], int] = defaultdict(int)
    lines = (line for line in text.splitlines() if line.startswith(tuple(wanted)))
    for line in lines:  # parsing all families would cost as much as serving them
        (family,) = text_string_to_metric_families(line + "\n")
        (sample,) = family.samples
        kind = wanted[line.partition("{")[0] + "{"]
        found[kind, sample.labels["experiment"]] += int(sample.value)
    return found


async def _latency(rig: Rig, kind: str, polls: Polls, stored: Positions) -> Latency:
    topic = dict(zip(FAMILIES, rig.topics, strict=True))[kind]
    waits, waits_from_sender, waits_stored = [], [], []
    for partition, experiment in enumerate(EXPERIMENTS):
        appended, made, offsets = await _times(rig, topic, partition)
        seen = _seen(polls[kind, experiment], len(appended))
        late = appended > appended[0] + WARM_UP_S
        waits.append((seen - appended)[late])
        waits_from_sender.append((seen - made)[late])
        committed = _seen(stored[topic, partition], int(offsets[-1]) + 1)[offsets]
        waits_stored.append((committed - appended)[late])
    found, from_sender = np.concatenate(waits), np.concatenate(waits_from_sender)
    if np.isnan(found).any():
        raise FailedError(f"{np.isnan(found).sum():,} {kind} never showed in /metrics")
    p50, p99 = np.quantile(found, [0.5, 0.99]).tolist()
    sender50, sender99 = np.quantile(from_sender, [0.5, 0.99]).tolist()
    stored99 = float(np.quantile(np.concatenate(waits_stored), 0.99))
    return Latency(kind, len(found), p50, p99, float(found.max()), stored99, sender50, sender99)


def _seen(polls: Sequence[tuple[float, int]], events: int) -> Times:
    """When each of the events was first seen, by its number; NaN where it never was."""
    seen, done = np.full(events, np.nan), 0
    for at, count in polls:
        seen[done:count] = at
        done = max(done, count)
    return seen


async def _times(
    rig: Rig, topic: str, partition: int
) -> tuple[Times, Times, npt.NDArray[np.int64]]:
    """When each event that counts was appended and made (epoch s), and its offset; none twice."""
    consumer = AIOKafkaConsumer(bootstrap_servers=rig.kafka, enable_auto_commit=False)
    await consumer.start()
    where = TopicPartition(topic, partition)
    consumer.assign([where])
    await consumer.seek_to_beginning(where)
    end = (await consumer.end_offsets([where]))[where]
    known: dict[str, tuple[float, float, int]] = {}
    while await consumer.position(where) < end:
        for record in (await consumer.getmany(timeout_ms=1000)).get(where, ()):
            event = msgspec.json.decode(record.value)
            facts = record.timestamp / 1000, event["time"] / 1000, record.offset
            known.setdefault(event["prediction_id"], facts)
    await consumer.stop()
    appended, made, offsets = zip(*known.values(), strict=True)
    return np.array(appended), np.array(made), np.array(offsets)


def report(told: Latencies) -> tuple[str, dict[str, Any]]:
    """A table and what was reached, and the same for machines."""
    lines = [
        "| seconds until shown | events | p50 | p99 | most | p99 until stored | p50 from sender | p99 from sender |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.kind} | {each.events:,} | {each.p50:.2f} | {each.p99:.2f} | {each.most:.2f} | {each.p99_stored:.2f}"
        f" | {each.p50_from_sender:.2f} | {each.p99_from_sender:.2f} |"
        for each in told.found
    ]
    kept = told.rate >= KEPT * told.wanted
    passed = told.right and kept and all(each.p99 <= GOAL_S for each in told.found)
    lines.append(
        f"\n{told.rate:,.0f} events/s of {told.wanted:,.0f}; /metrics read {told.polls_per_second:.1f} times a second; cores:"
        f" worker {told.worker_cores:.2f}, monitor {told.monitor_cores:.2f}, others {told.others:.2f};"
        f" counts {'right' if told.right else 'WRONG'}; p99 ≤ {GOAL_S} s: {'pass' if passed else 'MISS'}"
    )
    return "\n".join(lines), {**asdict(told), "passed": passed}
