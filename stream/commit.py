"""One commit: what a batch and the store say together becomes the writes of one transaction. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.layout import Keys, Meta, Position
from stream.batch import Batch
from stream.census import Census
from stream.fold import fold_arrivals, fold_labels, fold_mature
from stream.join import Joined
from stream.ledgers import Deltas, Final, spread
from stream.maturity import Harvest, pack_chunks
from stream.queues import EXPIRE, Queue, due_queue
from stream.resp import Command, fields, pairs
from stream.rows import accepted_within, early_in, pack_early, unpack_rows
from stream.screen import Screened, ScreenedOutcome, ScreenedPrediction, Screening, SpecTable
from stream.versions import note_versions


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
    census: Census | None = None
    """Of the new predictions; None where no experiment is or was randomised by unit."""
    expired: int = 0
    """How many outcomes waited in vain."""
    grown: dict[str, tuple[list[int], list[bytes]]] = field(default_factory=dict)
    """Arrivals and digests to append, by queue."""
    backlog: bool = False
    """More is due than this commit takes."""

    @property
    def usable(self) -> Sequence[Screened]:
        """The usable events from `start` on."""
        events = self.screening.usable
        return events if not self.start else [e for e in events if e.record >= self.start]

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
        told = [
            min(event.time, event.arrival)
            for event in self.usable
            if type(event) is ScreenedOutcome and event.record < self.stop
        ]
        if told:
            meta.last_outcome = max(meta.last_outcome or 0, *told)
        meta.waiting += len(self.joined.waiting) - self.joined.met
        for event in self.joined.new:
            meta.last_prediction[event.spec.experiment.name] = event.arrival
        if self.screening.versioned:
            note_versions(meta.versions, self.joined.new, self.screening.versioned)

    def _counted(self, index: int) -> bool:
        return self.start <= index < self.stop

    def tally(self) -> Counter[str]:
        """Events of this commit by result."""
        tallies = Counter(self.joined.tallies)
        tallies["ignored"] += sum(map(self._counted, self.screening.ignored))
        for index, rejected in self.screening.rejected:
            if self._counted(index):
                tallies[f"rejected:{rejected.reason}"] += 1
        tallies["unmatched"] += self.expired
        return +tallies

    def take_expired(self, delay: int) -> None:
        """Of the harvested early outcomes take those that waited in vain: others met their prediction."""
        harvest, watermark = self.harvests.get(EXPIRE), self.meta.watermark
        if harvest is None or watermark is None:
            return
        joined, gone = self.joined, set(self.joined.early_gone)
        stored = dict(zip(harvest.digests, self.rows.get(EXPIRE, ()), strict=True))
        for digest, packed in stored.items():
            known = joined.early.get(digest) or (b"" if digest in gone else packed) or b""
            outcomes = early_in(known)
            stay = [pack_early(one) for one in outcomes if one.arrival + delay >= watermark]
            self.expired += len(outcomes) - len(stay)
            if outcomes and not stay:
                joined.early.pop(digest, None)
                joined.early_gone.append(digest)
            elif len(stay) < len(outcomes):
                joined.early[digest] = b"".join(stay)
        self.meta.waiting -= self.expired

    def deltas(self, specs: SpecTable, queues: Sequence[Queue]) -> Deltas:
        """What this commit adds to each ledger."""
        new, joined = self.joined.new, self.joined
        arrived = fold_arrivals(
            unpack_rows([event.row for event in new]),
            np.array([event.latency_ms for event in new], dtype=np.float64),
            np.array([event.score for event in new], dtype=np.float64),
            self.census.sightings if self.census else None,
        )
        seen_at = np.array(joined.labelled_at, dtype=np.int64)
        labelled = fold_labels(unpack_rows(joined.labelled), seen_at)
        final = [
            final_of([row for row in self.rows[queue.name] if row], queue.landmark, specs)
            for queue in queues
            if queue.awaits_labels and queue.name in self.rows
        ]
        return spread(specs, (arrived, labelled), final)

    def append(self, queues: Sequence[Queue]) -> None:
        """Put new ids at the end of their queues, and swept ones at the end of the next."""
        by_queue: dict[str, list[ScreenedPrediction | ScreenedOutcome]] = {}
        for event in self.joined.new:
            by_queue.setdefault(due_queue(event.spec.experiment.name), []).append(event)
        for queue in queues:
            if queue.landmark and queue.spec:
                due = due_queue(queue.spec.experiment.name)
                if due in by_queue:
                    by_queue[queue.name] = by_queue[due]
        if self.joined.waiting:
            by_queue[EXPIRE] = list(self.joined.waiting)
        for name, events in by_queue.items():
            self.grown[name] = [e.arrival for e in events], [e.digest for e in events]
        for queue in queues:
            harvest = self.harvests.get(queue.name)
            if queue.moves_to and harvest is not None and harvest.digests:
                self.grown[queue.moves_to] = harvest.arrivals, harvest.digests

    def note_progress(self, queues: Sequence[Queue], told: int | None) -> None:
        """Record how far queues are done, and up to which arrival each experiment's labels are final.

        `told`: so far labels are known (see `Queue.limit`).
        """
        meta = self.meta
        for queue in queues:
            harvest = self.harvests.get(queue.name)
            limit = queue.limit(meta.watermark, told)
            if harvest is None or limit is None:
                continue
            meta.cursors[queue.name] = harvest.cursor
            through = harvest.through
            if queue.name in self.grown:  # what this very commit appends may be due, too
                through = min(through, self.grown[queue.name][0][0])
            self.backlog = self.backlog or through < limit
            if queue.awaits_labels and queue.spec:
                name = queue.spec.experiment.name
                if queue.landmark:
                    known = meta.landmarks.setdefault(name, {})
                    known[queue.landmark] = max(known.get(queue.landmark, 0), through)
                else:
                    meta.matured[name] = max(meta.matured.get(name, 0), through)

    def writes(self, keys: Keys, queues: Sequence[Queue]) -> list[Command]:
        """The commands for join state and queues."""
        joined = self.joined
        commands = self._taken(keys, queues)
        if joined.pending:
            commands.append(("HSET", keys.pending, pairs(joined.pending)))
        if joined.early_gone:
            commands.append(("HDEL", keys.early, fields(joined.early_gone)))
        if joined.early:
            commands.append(("HSET", keys.early, pairs(joined.early)))
        for name, (arrivals, digests) in self.grown.items():
            commands.append(("RPUSH", keys.key(name), *pack_chunks(arrivals, digests)))
        if self.census:
            commands += self.census.writes(self.meta)
        return commands

    def _taken(self, keys: Keys, queues: Sequence[Queue]) -> list[Command]:
        """The commands that take swept ids out of their queues."""
        commands: list[Command] = []
        for queue in queues:
            harvest = self.harvests.get(queue.name)
            if harvest is None:
                continue
            if queue.is_last and harvest.digests:
                commands.append(("HDEL", keys.pending, fields(harvest.digests)))
            if harvest.finished:
                commands.append(("LPOP", keys.key(queue.name), harvest.finished))
        return commands


def final_of(rows: list[bytes], landmark: int | None, specs: SpecTable) -> Final:
    """Predictions whose label is final, or is at a landmark, by cohort."""
    found = unpack_rows(rows)
    if landmark:
        found = accepted_within(found, landmark)
    return landmark or 0, fold_mature(found, *specs.finals)
