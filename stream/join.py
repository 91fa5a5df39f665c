"""Joining: screened events and what is stored about their ids, to the changes they cause. Pure.

Whether a label counts is a property of the two records alone (their times and arrivals), so that any
replay, any cut into batches and any interleaving of two topics gives the same answer:

- an outcome and a prediction meet when the prediction arrived at most `early_for` after the outcome and
  the outcome arrived while the prediction was remembered;
- the label counts when the outcome's time is within the horizon and its arrival within horizon + grace;
- the first that counts wins, later ones are duplicates.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream.rows import (
    ACTUAL,
    EARLY_STRUCT,
    FLAG_SHIFT,
    LABELLED,
    NEVER,
    ROW_STRUCT,
    TAIL_STRUCT,
    TIME_MASK,
    Early,
    early_in,
    pack_early,
)
from stream.screen import Screened, ScreenedOutcome, ScreenedPrediction, Spec, SpecTable


MAX_WAITING = 16
"""Outcomes of one id that may wait for its prediction; any more are duplicates."""

_LABELLED_BIT = LABELLED << FLAG_SHIFT
_ACTUAL_BIT = ACTUAL << FLAG_SHIFT

Fields = tuple[int, int, int, int, int]
"""What every row has, unpacked."""


@dataclass(slots=True)
class Joined:
    """The changes that a batch causes, not yet written anywhere."""

    pending: dict[bytes, bytes] = field(default_factory=dict)
    """Rows to write, by digest."""
    early: dict[bytes, bytes] = field(default_factory=dict)
    """Outcomes that came first, to write by digest: all that wait for one id, in order."""
    early_gone: list[bytes] = field(default_factory=list)
    """Outcomes that met their prediction; to delete before `early` is written."""
    new: list[ScreenedPrediction] = field(default_factory=list)
    labelled: list[bytes] = field(default_factory=list)
    """Rows that got their label, with it."""
    labelled_at: list[int] = field(default_factory=list)
    """When prediction and outcome were both there."""
    waiting: list[ScreenedOutcome] = field(default_factory=list)
    """Outcomes that found no prediction."""
    met: int = 0
    """Outcomes that had waited and met their prediction."""
    tallies: Counter[str] = field(default_factory=Counter)
    stop: int | None = None
    """Index of the record at which joining stopped, at a reused id (see `Joiner`)."""


class Joiner:
    """Joins the usable events of one batch, in order.

    `stored` and `stored_early` hold what Redis has about the batch's digests. An id that comes again
    after it should have been forgotten stops the joiner (`Joined.stop`): the caller commits what came
    before, sweeps up to that arrival, and goes on. Where the id still cannot be forgotten, because labels
    are silent, the caller sets `reuse_at` to the record's number, and it counts as a duplicate.
    """

    def __init__(
        self,
        specs: SpecTable,
        stored: Mapping[bytes, bytes],
        stored_early: Mapping[bytes, bytes],
        early_for: int,
    ) -> None:
        self._by_slot = specs.by_slot
        self._rows = dict(stored)
        self._early = dict(stored_early)
        self._early_for = early_for
        self.reuse_at: int | None = None
        self._out = Joined()

    def join(self, events: Sequence[Screened]) -> Joined:
        """All changes that `events` cause."""
        for event in events:
            if type(event) is ScreenedOutcome:
                self._outcome(event)
            elif not self._prediction(event):  # type: ignore[arg-type]  # there are only two kinds
                self._out.stop = event.record
                break
        self._out.tallies += Counter(
            predictions=len(self._out.new), outcomes=len(self._out.labelled)
        )
        return self._out

    def _prediction(self, event: ScreenedPrediction) -> bool:
        """Take one prediction; False when its id has to be forgotten first."""
        key, out = event.digest, self._out
        stored = self._rows.get(key)
        if stored is not None:
            arrival, _, _, _, slot = ROW_STRUCT.unpack_from(stored)
            owner = self._by_slot.get(slot, event.spec)
            outlived = event.arrival > arrival + owner.remembered
            if outlived and event.record != self.reuse_at:
                return False
            out.tallies["duplicate"] += 1
            return True
        out.new.append(event)
        self._rows[key] = out.pending[key] = event.row
        early = self._early.get(key)
        if early is not None:
            self._meet(event, early)
        return True

    def _meet(self, event: ScreenedPrediction, early: bytes) -> None:
        """Judge the outcomes that waited for `event`; those that waited too long stay to be counted."""
        stay = []
        for told in early_in(early):
            if self._meets(event.arrival, event.spec, told.arrival):
                self._out.met += 1
                row = self._rows[event.digest]
                self._label(event.digest, row, ROW_STRUCT.unpack_from(row), event.spec, told)
            else:
                stay.append(pack_early(told))
        self._out.early.pop(event.digest, None)
        self._early[event.digest] = b"".join(stay)
        if stay:
            self._out.early[event.digest] = self._early[event.digest]
        else:
            self._out.early_gone.append(event.digest)

    def _outcome(self, event: ScreenedOutcome) -> None:
        key, stored = event.digest, self._rows.get(event.digest)
        if stored is not None:
            known: Fields = ROW_STRUCT.unpack_from(stored)
            spec = self._by_slot.get(known[4])
            if spec is None:  # its experiment is no longer configured
                self._out.tallies["ignored"] += 1
                return
            if self._meets(known[0], spec, event.arrival):
                self._label(key, stored, known, spec, event)
                return
        self._wait(event)

    def _meets(self, predicted_at: int, spec: Spec, outcome_at: int) -> bool:
        """Whether a prediction and an outcome that arrived at these times know of each other."""
        return predicted_at - self._early_for <= outcome_at <= predicted_at + spec.remembered

    def _label(
        self, key: bytes, row: bytes, known: Fields, spec: Spec, told: Early | ScreenedOutcome
    ) -> None:
        """Judge one outcome that met its prediction, whose row says `known`."""
        out = self._out
        predicted_at, time_and_flags, latency, weight, slot = known
        if time_and_flags & _LABELLED_BIT:
            out.tallies["duplicate"] += 1
            return
        took = told.time - (time_and_flags & TIME_MASK)
        if took > spec.horizon or told.arrival > predicted_at + spec.wait:
            out.tallies["late"] += 1
            return
        time_and_flags |= _LABELLED_BIT | (_ACTUAL_BIT if told.actual else 0)
        packed = ROW_STRUCT.pack(predicted_at, time_and_flags, latency, weight, slot)
        if len(row) > ROW_STRUCT.size:
            _, cost, _, bucket = TAIL_STRUCT.unpack_from(row, ROW_STRUCT.size)
            needed = max(took, told.arrival - predicted_at - spec.grace, 0)
            packed += TAIL_STRUCT.pack(told.cents, cost, min(needed, NEVER), bucket)
        self._rows[key] = out.pending[key] = packed
        out.labelled.append(packed)
        out.labelled_at.append(max(predicted_at, told.arrival))

    def _wait(self, event: ScreenedOutcome) -> None:
        """Keep an outcome whose prediction is not known (yet)."""
        out, key = self._out, event.digest
        waiting = self._early.get(key, b"")
        if (
            len(waiting) >= MAX_WAITING * EARLY_STRUCT.size
            and len(early_in(waiting)) >= MAX_WAITING
        ):
            out.tallies["duplicate"] += 1
            return
        packed = pack_early(Early(event.arrival, event.time, event.actual, event.cents))
        self._early[key] = out.early[key] = waiting + packed
        out.waiting.append(event)
