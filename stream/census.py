"""The census: what new predictions say of units, beside what is stored of the units already. Pure.

Who was first, who crossed over and whose failure counts is decided in order of arrival, from what was read
under the watch, and written with the counts: so it is as exact as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np

from metrics.experiment import MINUTE
from metrics.layout import Keys, Meta
from stream.fold import Sightings
from stream.resp import Command, fields, pairs
from stream.rows import ERROR, FLAG_SHIFT, ROW_STRUCT
from stream.screen import ScreenedPrediction


MAX_UNITS = 50_000
"""Units that the sample of one experiment holds in one shard; then no more are admitted."""

_SLOT = Struct("<I")
_CROSSED = b"\x01"
"""Behind the slot of a unit that was seen in another variant, too."""


@dataclass(slots=True)
class _Sample:
    """What is stored of the units of one experiment that a batch names."""

    units: dict[bytes, bytes | None] = field(default_factory=dict)
    """Slot first seen and mark, by digest; None for those that are not in it."""
    size: int = 0
    changed: dict[bytes, bytes] = field(default_factory=dict)


class Census:
    """Judges the new predictions of one commit: after `reads`, `learn` tells `sightings` and `writes`."""

    def __init__(self, new: Sequence[ScreenedPrediction], keys: Keys) -> None:
        self._new, self._keys = new, keys
        self._samples: dict[str, _Sample] = {}
        self._failed: dict[int, dict[bytes, bool]] = {}
        """By minute: whether a failure of this slot and unit has been counted."""
        self.sightings: Sightings | None = None
        """What each prediction adds; None where none is of an experiment randomised by unit."""
        for event in new:
            if event.unit:
                self._note(event)

    def _note(self, event: ScreenedPrediction) -> None:
        """Remember to ask for the unit of a prediction."""
        if event.unit < event.spec.sampled_below:
            sample = self._samples.setdefault(event.spec.experiment.name, _Sample())
            sample.units[event.unit] = None
        slot, failed = _slot_and_failed(event)
        if failed:
            members = self._failed.setdefault(event.arrival // MINUTE, {})
            members[slot + event.unit] = False

    def reads(self) -> list[Command]:
        """The commands that read what is stored; none where no prediction needs any."""
        commands: list[Command] = []
        for experiment, sample in self._samples.items():
            key = self._keys.units(experiment)
            commands += [("HLEN", key), ("HMGET", key, fields(list(sample.units)))]
        for minute, members in self._failed.items():
            commands.append(("SMISMEMBER", self._keys.failing(minute), fields(list(members))))
        return commands

    def learn(self, replies: Sequence[Any]) -> None:
        """Take in the answers to `reads`, and judge."""
        answers: Iterator[Any] = iter(replies)
        for sample in self._samples.values():
            sample.size = next(answers)
            sample.units = dict(zip(sample.units, next(answers), strict=True))
        for minute, members in self._failed.items():
            known = zip(members, next(answers), strict=True)
            self._failed[minute] = {member: bool(counted) for member, counted in known}
        if any(event.spec.by_unit for event in self._new):
            self.sightings = self._judged()

    def _judged(self) -> Sightings:
        table = np.zeros((len(Sightings._fields), len(self._new)), dtype=np.int64)
        for index, event in enumerate(self._new):
            slot, failed = _slot_and_failed(event)
            table[0, index] = failed and self._counts(event, slot)
            if event.spec.by_unit and not event.unit:
                table[3, index] = 1
            elif event.unit and event.unit < event.spec.sampled_below:
                sample = self._samples[event.spec.experiment.name]
                table[1:3, index] = _seen(sample, event.unit, slot)
        return Sightings(*table)

    def _counts(self, event: ScreenedPrediction, slot: bytes) -> bool:
        """Whether a failed request is the first of its unit and variant in its minute."""
        if not event.unit:
            return True
        members, member = self._failed[event.arrival // MINUTE], slot + event.unit
        counted, members[member] = members[member], True
        return not counted

    def writes(self, meta: Meta) -> list[Command]:
        """The commands that keep what was found, and delete what no record can ask for any more.

        Adjusts the minutes that `meta` lists; its watermark is the one after the commit.
        """
        commands: list[Command] = [
            ("HSET", self._keys.units(experiment), pairs(sample.changed))
            for experiment, sample in self._samples.items()
            if sample.changed
        ]
        now = (meta.watermark or 0) // MINUTE  # no record with an earlier arrival will come
        for minute, members in self._failed.items():
            if minute >= now:
                commands.append(("SADD", self._keys.failing(minute), fields(list(members))))
        old = [minute for minute in meta.failing if minute < now]
        if old:
            commands.append(("DEL", *map(self._keys.failing, old)))
        kept = {*meta.failing, *self._failed}
        meta.failing = sorted(minute for minute in kept if minute >= now)
        return commands


def _slot_and_failed(event: ScreenedPrediction) -> tuple[bytes, bool]:
    _, time_and_flags, _, _, slot = ROW_STRUCT.unpack_from(event.row)
    return _SLOT.pack(slot), bool(time_and_flags >> FLAG_SHIFT & ERROR)


def _seen(sample: _Sample, unit: bytes, slot: bytes) -> tuple[bool, bool]:
    """Whether a unit of the sample is new, and whether it is found to have crossed over."""
    known = sample.units[unit]
    if known is None:
        if sample.size >= MAX_UNITS:
            return False, False
        sample.size += 1
        sample.units[unit] = sample.changed[unit] = slot
        return True, False
    if known[: len(slot)] == slot or len(known) > len(slot):
        return False, False
    sample.units[unit] = sample.changed[unit] = known + _CROSSED
    return False, True
