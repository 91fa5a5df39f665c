"""`python -m abmonitor worker` over the topics of a rig, watched from outside. This module does I/O."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis.asyncio
from rig import ROOT, Rig
from workload import PARTITIONS, VARIANTS

from abmonitor.settings import Settings, load
from metrics.layout import Keys, decode_meta
from metrics.reader import Reader
from metrics.snapshot import Fleet


POLL_S = 0.02
STOP_S = 30
GIVE_UP_S = 60
"""Without progress for so long the worker has failed."""

EXPERIMENT = """
  - name: {name}
    control: {control}
    variants: {{{control}: 0.5, {treatment}: 0.5}}
    labels: {{observed: all, horizon: {horizon}, grace: 1s, late_for: 1s, cohort: 10s}}
    profitability: {{q: 10}}
"""
SETTINGS = """
deployment: {deployment}
sources:
  {predictions}: {{type: prediction}}
  {outcomes}: {{type: outcome}}
kafka: {{dead_letters: {letters}, group: {group}}}
worker: {{max_skew: 2s, clock_skew: 2s}}
experiments:{experiments}
"""


class FailedError(Exception):
    """A contender did not do its work."""


@dataclass(slots=True)
class Deployment:
    """Settings in a file, and the servers that they are for."""

    rig: Rig
    name: str
    folder: Path
    experiments: tuple[str, ...] = ("offer-recommender",)
    horizon: str = "3s"
    """Labels are final a second later, and ids forgotten another second later, so that both happen in the run."""
    _store: "redis.Redis" = field(init=False)

    def __post_init__(self) -> None:
        control, treatment = VARIANTS
        experiments = "".join(
            EXPERIMENT.format(name=name, control=control, treatment=treatment, horizon=self.horizon)
            for name in self.experiments
        )
        predictions, outcomes = self.rig.topics
        text = SETTINGS.format(
            deployment=self.name,
            predictions=predictions,
            outcomes=outcomes,
            letters=self.rig.letters,
            group=f"{self.rig.prefix}{self.name}",
            experiments=experiments,
        )
        self.path.write_text(text)
        self._store = self.rig.store()

    @property
    def path(self) -> Path:
        """The file with the settings."""
        return self.folder / f"{self.name}.yaml"

    @property
    def settings(self) -> Settings:
        """The settings as the worker reads them."""
        return load(self.path)

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset to count of each topic and partition, as far as stored."""
        keys = [Keys(self.name, shard).meta for shard in range(PARTITIONS)]
        stored: Any = self._store.mget(keys)
        return {
            (topic, shard): position.offset
            for shard, packed in enumerate(stored)
            for topic, position in decode_meta(packed).positions.items()
        }

    def counted(self) -> int:
        """Records that are counted, duplicates too."""
        return sum(self.positions().values())

    def remembered(self) -> int:
        """Ids that are remembered."""
        keys = [Keys(self.name, shard).pending for shard in range(PARTITIONS)]
        return sum(int(self._store.hlen(key)) for key in keys)

    @contextmanager
    def running(self, command: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
        """`abmonitor COMMAND` in a process of its own."""
        environment = {
            **os.environ,
            "ABMONITOR_REDIS": self.rig.redis_url,
            "ABMONITOR_KAFKA": self.rig.kafka,
        }
        arguments = ["-c", str(self.path), "--port", str(port), "--log-level", "warning"]
        log = self.folder / f"{self.name}-{command}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "abmonitor", command, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
            )
            try:
                yield process
            except FailedError as error:
                raise FailedError(f"{error}; its log ends:\n{log.read_text()[-2000:]}") from error
            finally:
                process.terminate()
                process.wait(STOP_S)

    def progress(self, process: "subprocess.Popen[bytes]", until: int) -> Iterator[int]:
        """How many records are counted, each time that it has changed, from the first to `until`."""
        before, changed = 0, time.monotonic()
        while before < until:
            now = self.counted()
            if now > before:
                before, changed = now, time.monotonic()
                yield now
            if process.poll() is not None:
                raise FailedError(f"the process ended with {process.returncode}")
            if time.monotonic() - changed > GIVE_UP_S:
                raise FailedError(f"stuck at {before:,} of {until:,} records")
            time.sleep(POLL_S)

    async def fleet(self) -> Fleet:
        """What is stored."""
        client = redis.asyncio.Redis.from_url(self.rig.redis_url)
        try:
            return await Reader(client, self.name).read(self.settings.experiments)
        finally:
            await client.aclose()

    def close(self) -> None:
        """Let go of Redis."""
        self._store.close()


def counts_of(fleet: Fleet) -> Counter[tuple[str, str, str]]:
    """Predictions and provisional confusion counts by (experiment, variant, cell)."""
    found: Counter[tuple[str, str, str]] = Counter()
    for experiment, snapshot in fleet.snapshots.items():
        for variant, facts in snapshot.variants.items():
            found[experiment, variant, "predictions"] = facts.total.predictions
            for cell in ("tp", "fp", "tn", "fn"):
                found[experiment, variant, cell] = getattr(facts.total.cells, cell).n
    return found


def matured(fleet: Fleet) -> int:
    """Predictions whose label is final."""
    return sum(
        facts.mature.predictions
        for snapshot in fleet.snapshots.values()
        for facts in snapshot.variants.values()
    )
