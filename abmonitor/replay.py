"""Replay: event files through the whole path, in one process, over an embedded store."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abmonitor.monitor import Monitor
from abmonitor.settings import Settings
from abmonitor.view import View
from alerts.order import Order, Receipt, Verification
from alerts.outbox import Dispatcher
from stream.batch import Batch, BatchReport, DeadLetter
from stream.events import Rejected
from stream.files import TOPIC, FileSource, Input
from stream.pipeline import ShardPipeline
from stream.sources import Decoder
from stream.store import Store


EXAMPLES = 3
"""Rejected records of each reason, and unknown experiments, that are shown."""


class Recorder:
    """An actuator that only takes note: what is replayed has happened already."""

    async def apply(self, order: Order) -> Receipt:
        """Accept the order."""
        return Receipt(accepted=True, detail=f"recorded {order.id}")

    async def verify(self, order: Order) -> Verification:
        """Say that nothing can be read back."""
        del order
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        """Nothing to release."""


@dataclass(slots=True)
class Rejections:
    """Dead letters of a replay: written to a file if there is one, and some kept as examples."""

    source: FileSource
    path: Path | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters`."""
        lines = []
        for letter in letters:
            place = self.source.places.get(letter.offset, "")
            shown = self.examples.setdefault(letter.reason, [])
            if len(shown) < EXAMPLES:
                shown.append(f"{place}: {letter.detail}")
            lines.append(letter.value or b"")
        if self.path is not None:
            with self.path.open("ab") as stream:
                stream.writelines(line + b"\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found."""

    view: View
    source: FileSource
    """How the events lay in time."""
    examples: dict[str, list[str]]
    """Some rejected records of each reason: `file:line: what is wrong`."""
    strangers: tuple[str, ...]
    """Some of the experiments that events belong to and that are not configured."""


def _nothing(_: int) -> None:
    pass


async def replay(
    settings: Settings,
    inputs: Sequence[Input],
    *,
    store: Store | None = None,
    complete: bool = False,
    dead_letters: Path | None = None,
    progress: Callable[[int], None] = _nothing,
) -> Replayed:
    """Run event files through pipeline and monitor.

    `complete` says that no further label exists, so that every label is final at the end. Raises
    EventFileError where a file cannot be read, OSError where `dead_letters` cannot be written;
    `progress` is told the number of records so far.
    """
    own = store is None
    store = store or Store.embedded(settings.deployment)
    decoder = Decoder(settings.sources)
    source = _source(settings, inputs, decoder)
    rejections, strangers = Rejections(source, dead_letters), _Strangers(settings)
    try:
        pipeline = _pipeline(settings, store, decoder, rejections)
        monitor = _monitor(settings, store)
        view = await monitor.tick()
        for batch in source.batches():
            report = await pipeline.process(batch)
            strangers.note(batch, report)
            view = await monitor.tick()
            progress(batch.next_position)
            _heed_cancellation()
        if source.last is not None:
            await pipeline.finish(source.last, complete=complete)
            await monitor.tick()
            view = await monitor.add_hints()
    finally:
        if own:
            await store.close()
    return Replayed(view, source, rejections.examples, tuple(strangers.names))


def _heed_cancellation() -> None:
    """Stop where the task was cancelled and nobody noticed.

    The embedded store never waits, and under Python 3.11 the time-outs of redis-py (`asyncio.wait_for`)
    swallow a cancellation: without this, Ctrl-C would do nothing.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Strangers:
    """Experiments that events belong to and that are not configured, a few of them."""

    def __init__(self, settings: Settings) -> None:
        self._known = {None, *(experiment.name for experiment in settings.experiments)}
        self.names: dict[str, None] = {}

    def note(self, batch: Batch, report: BatchReport) -> None:
        """Look for them in a batch, if it had any."""
        events = batch.events if report.tallies.get("ignored") else None
        for event in events or ():
            if len(self.names) == EXAMPLES:
                return
            if not isinstance(event, Rejected) and event.experiment not in self._known:
                self.names.setdefault(str(event.experiment))


def _source(settings: Settings, inputs: Sequence[Input], decoder: Decoder) -> FileSource:
    labels = [experiment.labels for experiment in settings.experiments]
    return FileSource(
        inputs,
        decoder,
        now=int(time.time() * 1000),
        grace=max(int(each.grace) for each in labels),
        wait=max(each.wait for each in labels),
    )


def _pipeline(
    settings: Settings, store: Store, decoder: Decoder, rejections: Rejections
) -> ShardPipeline:
    # A file's disorder becomes delay of arrival: an outcome may stand ahead of its prediction by grace.
    grace = max(int(experiment.labels.grace) for experiment in settings.experiments)
    return ShardPipeline(
        store,
        0,
        settings.experiments,
        decoder,
        rejections,
        topics=(TOPIC,),
        early_for=max(int(settings.early_for), grace),
    )


def _monitor(settings: Settings, store: Store) -> Monitor:
    """A monitor whose clock is the data's own, and whose orders change nothing."""
    dispatchers = {
        experiment.name: Dispatcher(Recorder(), time.monotonic)
        for experiment in settings.experiments
    }
    return Monitor(settings, store.client, dispatchers, clock=lambda: 0, observes_traffic=False)
