"""Whether a worker stays as quick and as small as it began, over millions of events. This module does I/O."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import resident_mib
from rig import Rig, free_ports
from working import Deployment, counts_of, matured
from workload import Workload


MILLION = 1_000_000
BYTES_PER_EVENT = 400
"""Of disk, more than enough."""
SLOWER = 0.05
"""How much slower the last million may be than the first."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One million of events."""

    events: int
    seconds: float
    worker_cpu_seconds: float
    redis_cpu_seconds: float
    worker_mib: float
    """At its end."""
    redis_mib: float
    pending: int
    """Ids that are remembered at its end."""
    others: float
    """Cores that were busy with something else."""


@dataclass(frozen=True, slots=True)
class Endurance:
    """All stretches."""

    stretches: Sequence[Stretch]
    right: bool
    matured: int


def measure(rig: Rig, events: int) -> Endurance:
    """Count `events` with one worker that is never restarted. All are in the log before it begins."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 2 * events * BYTES_PER_EVENT:
        raise SystemExit(f"{events:,} events may need {events * BYTES_PER_EVENT:,} bytes of disk")
    workload = Workload(events // 2)
    with rig.fresh_topics(), tempfile.TemporaryDirectory(prefix="abmonitor-bench-") as folder:
        print(f"producing {events:,} events", file=sys.stderr)
        asyncio.run(rig.fill(workload))
        deployment = Deployment(rig, "endurance", Path(folder))
        try:
            stretches = list(_stretches(rig, deployment, sum(workload.sent.values())))
            fleet = asyncio.run(deployment.fleet())
        finally:
            deployment.close()
    return Endurance(stretches, counts_of(fleet) == workload.truth, matured(fleet))


def _stretches(rig: Rig, deployment: Deployment, until: int) -> Iterator[Stretch]:
    with rig.store() as client:
        client.flushall()
    (port,) = free_ports(1)
    with deployment.running("worker", port) as process:
        progress = deployment.progress(process, until)
        begun, before = next(progress), rig.read(worker=process.pid)
        for counted in progress:
            if counted < min(until, begun + MILLION):
                continue
            used = rig.read(worker=process.pid).since(before)
            yield Stretch(
                counted - begun,
                used.seconds,
                used.of["worker"],
                used.of["redis"],
                resident_mib(process.pid),
                resident_mib(rig.pids["redis"]),
                deployment.remembered(),
                used.others,
            )
            begun, before = deployment.counted(), rig.read(worker=process.pid)


def report(told: Endurance) -> tuple[str, dict[str, Any]]:
    """A table and what was reached, and the same for machines."""
    whole = [
        each for each in told.stretches if each.events > 0.9 * MILLION
    ]  # the last lacks a little
    lines = [
        "| million | events/s | CPU s, worker | CPU s, Redis | MiB, worker | MiB, Redis | ids | others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {number} | {each.events / each.seconds:,.0f}"
        f" | {each.worker_cpu_seconds / each.events * MILLION:.2f}"
        f" | {each.redis_cpu_seconds / each.events * MILLION:.2f}"
        f" | {each.worker_mib:.1f} | {each.redis_mib:.1f} | {each.pending:,} | {each.others:.2f} |"
        for number, each in enumerate(whole, 1)
    ]
    first, last = whole[0], whole[-1]
    rate = last.events / last.seconds / (first.events / first.seconds)
    cpu = first.worker_cpu_seconds / first.events / (last.worker_cpu_seconds / last.events)
    passed = told.right and rate >= 1 - SLOWER
    lines.append(
        f"\nlast million beside the first: {rate:.3f} by events/s, {cpu:.3f} by CPU seconds; worker"
        f" {first.worker_mib:.1f} → {last.worker_mib:.1f} MiB; counts {'right' if told.right else 'WRONG'};"
        f" {told.matured:,} labels final: {'pass' if passed else 'MISS'}"
    )
    return "\n".join(lines), {**asdict(told), "rate": rate, "by_cpu": cpu, "passed": passed}
