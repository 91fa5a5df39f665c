"""One run of one contender over the topics of a rig, as it is measured. This module does I/O."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import BYTEWAX, QUIX, python_with
from rig import ROOT, Rig, free_ports
from working import Deployment, FailedError, counts_of, matured
from workload import Workload


HERE = Path(__file__).resolve().parent
SCRIPT_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Run:
    """What one contender needed, from its first event to its last."""

    events: int
    seconds: float
    cpu_seconds: float
    """Of the contender's processes; not of servers."""
    kafka_cpu_seconds: float
    """From its start to its end."""
    redis_cpu_seconds: float
    others: float
    """Cores that were busy with something else."""
    notes: str = ""

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds."""
        return self.cpu_seconds / self.events * 1e6


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is measured."""

    letter: str
    name: str
    title: str
    script: str = ""
    """In `contenders`; empty for our worker."""
    requirements: Sequence[str] = ()
    """For an environment of its own; empty for ours."""
    share: float = 1.0
    """Of all events; the others are left in the topic."""
    counts: bool = True
    """It tells counts, which must be right."""


WORKER = Contender("b", "worker", "abmonitor worker, everything, exact, in Redis")
CONTENDERS = (
    Contender("a", "limit", "aiokafka and decoding only", "aiokafka_limit.py", counts=False),
    WORKER,
    Contender("c", "faust", "faust agent, decoding only", "faust_agent.py", (), 0.1, counts=False),
    Contender("d", "quix", "Quix Streams, join in memory", "quix_join.py", QUIX),
    Contender("e", "bytewax", "Bytewax, join in memory", "bytewax_join.py", BYTEWAX),
    # No goals: what the others cost when they, too, keep their join over a crash.
    Contender(
        "f", "quix-state", "Quix Streams, join in its state", "quix_state.py", QUIX, 0.25, False
    ),
    Contender(
        "g",
        "bytewax-state",
        "Bytewax, join in its state",
        "bytewax_state.py",
        BYTEWAX,
        counts=False,
    ),
)


def run(contender: Contender, rig: Rig, workload: Workload, number: int) -> Run:
    """Measure one run. Raises FailedError where it fails, or counts wrongly."""
    measure = _run_script if contender.script else _run_worker
    with tempfile.TemporaryDirectory(prefix="abmonitor-bench-") as folder:
        return measure(contender, rig, workload, f"run-{number}", Path(folder))


def _run_script(contender: Contender, rig: Rig, workload: Workload, name: str, folder: Path) -> Run:
    python: str | Path = sys.executable
    if contender.requirements:
        python = python_with(contender.requirements)
    events = int(sum(workload.sent.values()) * contender.share)
    predictions, outcomes = rig.topics
    arguments = ["--kafka", rig.kafka, "--group", f"{rig.prefix}{contender.name}-{name}"]
    arguments += ["--predictions", predictions, "--outcomes", outcomes, "--events", str(events)]
    before = rig.read()
    done = subprocess.run(
        [python, HERE / "contenders" / contender.script, *arguments],
        cwd=folder,  # some leave things where they are
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    told = next((line for line in done.stdout.splitlines() if line.startswith('{"events"')), None)
    if done.returncode or told is None:
        raise FailedError(f"{contender.name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    used, score = rig.read().since(before), json.loads(told)
    if contender.counts:
        _check(contender.name, score["counts"], workload)
    kafka = used.of.get("kafka", 0.0)
    return Run(events, score["seconds"], score["cpu_seconds"], kafka, 0.0, used.others)


def _run_worker(_: Contender, rig: Rig, workload: Workload, name: str, folder: Path) -> Run:
    with rig.store() as client:
        client.flushall()
    until = sum(workload.sent.values())
    with _deployment(rig, name, folder) as deployment:
        (port,) = free_ports(1)
        with deployment.running("worker", port) as process:
            progress = deployment.progress(process, until)
            # What was counted before it was first seen is left out of the events and of the time.
            first = next(progress)
            before = rig.read(worker=process.pid)
            for _counted in progress:
                pass
            now = rig.read(worker=process.pid)
            fleet = asyncio.run(deployment.fleet())
    used = now.since(before)
    found = {"/".join(key): count for key, count in counts_of(fleet).items()}
    _check("worker", found, workload)
    share = matured(fleet) / workload.predictions
    notes = f"{share:.0%} of the labels final at the end, {fleet.pending:,} ids remembered"
    kafka, cpu = used.of.get("kafka", 0.0), used.of["worker"]
    return Run(until - first, used.seconds, cpu, kafka, used.of["redis"], used.others, notes)


@contextmanager
def _deployment(rig: Rig, name: str, folder: Path) -> Iterator[Deployment]:
    made = Deployment(rig, name, folder)
    try:
        yield made
    finally:
        made.close()


def _check(name: str, counts: dict[str, Any], workload: Workload) -> None:
    truth = {"/".join(key): count for key, count in workload.truth.items()}
    if counts != truth:
        wrong = {key: (counts.get(key), count) for key, count in truth.items()}
        told = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
        raise FailedError(f"{name} counts wrongly: (counted, right) by cell {told}")


def quiet(seconds: float = 1.0) -> None:
    """Let what the contender before has left behind come to rest."""
    time.sleep(seconds)
