"""One commit: what a batch and the store say together becomes the writes of one transaction. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.layout import Keys, Meta, Position
from stream.batch import Batch
from stream.fold import fold_arrivals, fold_labels, fold_mature
from stream.join import Joined
from stream.ledgers import Deltas, spread
from stream.maturity import Harvest, pack_chunks
from stream.queues import EXPIRE, Queue, due_queue
from stream.rows import EARLY_STRUCT, unpack_rows
from stream.screen import ScreenedOutcome, ScreenedPrediction, Screening, SpecTable
from stream.store import Command


@dataclass(slots=True)
class Work:
    """One attempt: the records `start` to `stop` of a batch, and the ids that they made due."""

    batch: Batch
    arrivals: Sequence[int]
    screening: Screening
    start: int
    stop: int
    meta: Meta
    joined: Joined = field(default_factory=Joined)
    harvests: dict[str, Harvest] = field(default_factory=dict)
    rows: dict[str, list[bytes | None]] = field(default_factory=dict)
    """What is stored for the harvested ids, by queue; None for ids that are not stored any more."""
    expired: list[bytes] = field(default_factory=list)
    """Digests of outcomes that waited in vain."""
    grown: list[str] = field(default_factory=list)
    """Queues that got new chunks."""
    backlog: bool = False
    """More is due than this commit takes."""

    @property
    def swept(self) -> int:
        """How many ids this commit takes from queues."""
        return sum(len(harvest.digests) for harvest in self.harvests.values())

    def advance(self) -> None:
        """Move the position of the batch's topic behind its records, and the clocks with it."""
        batch, meta = self.batch, self.meta
        known = meta.positions.get(batch.topic)
        clock = known.arrival if known else 0
        offset = known.offset if known else batch.position
        if self.stop < len(batch):
            offset, clock = (
                max(offset, batch.offsets[self.stop]),
                max(clock, self.arrivals[self.stop]),
            )
        else:
            offset = max(offset, batch.next_position)
            last = self.arrivals[-1] if len(batch) else 0
            clock = max(clock, last, batch.complete_to or 0)
        meta.positions = {**meta.positions, batch.topic: Position(offset, clock)}
        events = self.screening.usable
        outcomes = [
            e.arrival for e in events if type(e) is ScreenedOutcome and self._counted(e.record)
        ]
        if outcomes:
            meta.last_outcome = max(meta.last_outcome or 0, outcomes[-1])
        for event in self.joined.new:
            meta.last_prediction[event.spec.experiment.name] = event.arrival

    def _counted(self, index: int) -> bool:
        return self.start <= index < self.stop

    def tally(self) -> Counter[str]:
        """Events of this commit by result."""
        tallies = Counter(self.joined.tallies)
        tallies["ignored"] += sum(map(self._counted, self.screening.ignored))
        for index, rejected in self.screening.rejected:
            if self._counted(index):
                tallies[f"rejected:{rejected.reason}"] += 1
        tallies["unmatched"] += len(self.expired)
        return +tallies

    def take_expired(self, delay: int) -> None:
        """Of the harvested early outcomes keep those that still wait: others met their prediction."""
        harvest, watermark = self.harvests.get(EXPIRE), self.meta.watermark
        if harvest is None or watermark is None:
            return
        gone = set(self.joined.early_gone)
        for digest, packed in zip(harvest.digests, self.rows.get(EXPIRE, ()), strict=True):
            known = self.joined.early.get(digest, packed)
            if known and digest not in gone and EARLY_STRUCT.unpack(known)[0] + delay < watermark:
                self.expired.append(digest)
                self.joined.early.pop(digest, None)

    def deltas(self, specs: SpecTable) -> Deltas:
        """What this commit adds to each ledger."""
        new, joined = self.joined.new, self.joined
        arrived = fold_arrivals(
            unpack_rows([event.row for event in new]),
            np.array([event.latency_ms for event in new], dtype=np.float64),
            np.array([event.score for event in new], dtype=np.float64),
        )
        seen_at = np.array(joined.labelled_at, dtype=np.int64)
        labelled = fold_labels(unpack_rows(joined.labelled), seen_at)
        mature = [
            fold_mature(unpack_rows([row for row in rows if row]), specs.cohorts)
            for name, rows in self.rows.items()
            if name != EXPIRE
        ]
        return spread(specs, (arrived, labelled), mature)

    def note_matured(self, queues: Sequence[Queue]) -> None:
        """Record up to which arrival each experiment's labels are final, and how far queues are done."""
        first_new: dict[str, int] = {}
        for event in self.joined.new:
            first_new.setdefault(event.spec.experiment.name, event.arrival)
        for queue in queues:
            harvest = self.harvests.get(queue.name)
            if harvest is None:
                continue
            self.meta.cursors[queue.name] = harvest.cursor
            self.backlog = self.backlog or not harvest.complete
            if queue.awaits_labels and queue.spec:
                name = queue.spec.experiment.name
                through = min(harvest.through, first_new.get(name, harvest.through))
                if through < harvest.through:  # some of this very batch is due: sweep once more
                    self.backlog = True
                self.meta.matured[name] = max(self.meta.matured.get(name, 0), through)

    def writes(self, keys: Keys, queues: Sequence[Queue]) -> list[Command]:
        """The commands for join state and queues."""
        joined, commands = self.joined, list[Command]()
        for queue in queues:
            harvest = self.harvests.get(queue.name)
            if harvest is None:
                continue
            if queue.moves_to is None and queue.name != EXPIRE and harvest.digests:
                commands.append(("HDEL", keys.pending, *harvest.digests))
            for _ in range(harvest.finished):
                if queue.moves_to:
                    source, target = keys.key(queue.name), keys.key(queue.moves_to)
                    commands.append(("LMOVE", source, target, "LEFT", "RIGHT"))
                else:
                    commands.append(("LPOP", keys.key(queue.name)))
        if joined.pending:
            fields = [part for item in joined.pending.items() for part in item]
            commands.append(("HSET", keys.pending, *fields))
        gone = joined.early_gone + self.expired
        if gone:
            commands.append(("HDEL", keys.early, *gone))
        if joined.early:
            fields = [part for item in joined.early.items() for part in item]
            commands.append(("HSET", keys.early, *fields))
        for name, chunks in self._appended().items():
            commands.append(("RPUSH", keys.key(name), *chunks))
            self.grown.append(name)
        return commands

    def _appended(self) -> dict[str, list[bytes]]:
        by_queue: dict[str, list[ScreenedPrediction | ScreenedOutcome]] = {}
        for event in self.joined.new:
            by_queue.setdefault(due_queue(event.spec.experiment.name), []).append(event)
        if self.joined.waiting:
            by_queue[EXPIRE] = list(self.joined.waiting)
        return {
            name: pack_chunks([e.arrival for e in events], [e.digest for e in events])
            for name, events in by_queue.items()
        }
