"""Screening: decoded events to rows and early entries, before anything is looked up.

What is decided here depends on the event and the settings alone, so a retry need not decide it again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from metrics.confusion import WEIGHT_UNIT
from metrics.experiment import Experiment
from metrics.moments import LATENCY_CAP, LATENCY_UNIT_MS
from stream.events import Event, Outcome, Prediction, Rejected, epoch_ms
from stream.rows import (
    ACTED,
    ERROR,
    FLAG_SHIFT,
    NEVER,
    PREDICTED,
    ROW_STRUCT,
    TAIL_STRUCT,
    TIME_MASK,
    TIMED,
    UNIT_BYTES,
    bucket_of,
    digest,
    slot_of,
    unit_digest,
)


UNITS_PER_MS = 1 / LATENCY_UNIT_MS
LONGEST_MS = LATENCY_CAP * LATENCY_UNIT_MS
MAX_ID_BYTES = 128
_NO_TAIL = b"", b""
MAX_MONEY = 20_000_000.0
"""Larger amounts are taken for this one, which 32 bits hold in cents, and is far above every cap."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What the joiner has to know of one experiment."""

    experiment: Experiment
    slots: dict[str, int]
    horizon: int
    grace: int
    wait: int
    remembered: int
    weight_cap: float
    weighted: bool
    by_unit: bool
    sampled_below: bytes
    """Digests of the units that are looked at one by one are less than this."""
    landmarks: tuple[int, ...]
    long_rows: bool

    @classmethod
    def of(cls, experiment: Experiment) -> "Spec":
        """Flatten the declaration for the path of every event."""
        labels = experiment.labels
        return cls(
            experiment,
            {variant: slot_of(experiment.name, variant) for variant in experiment.variants},
            int(labels.horizon),
            int(labels.grace),
            labels.wait,
            labels.remembered,
            experiment.weight_cap,
            labels.observed == "explored",
            by_unit := experiment.randomised_by == "unit",
            _below(experiment.unit_share),
            landmarks := tuple(map(int, labels.landmarks)),
            by_unit or experiment.money is not None or bool(landmarks),
        )


def _below(share: float) -> bytes:
    """What `share` of all digests of units are less than."""
    bound = int(share * (1 << 8 * UNIT_BYTES))
    return bound.to_bytes(UNIT_BYTES + 1, "big")[1:] if share < 1 else b"\xff" * (UNIT_BYTES + 1)


class SpecTable:
    """The configured experiments by name, and by the slot of each of their variants."""

    def __init__(self, experiments: Iterable[Experiment]) -> None:
        self.by_name = {experiment.name: Spec.of(experiment) for experiment in experiments}
        self.by_slot: dict[int, Spec] = {}
        self.variant_of: dict[int, str] = {}
        for spec in self.by_name.values():
            for variant, slot in spec.slots.items():
                if slot in self.by_slot:
                    raise ValueError(
                        f"variant {variant!r} of experiment {spec.experiment.name!r} and"
                        f" {self.variant_of[slot]!r} of {self.by_slot[slot].experiment.name!r} share"
                        " a checksum; rename one of them"
                    )
                self.by_slot[slot], self.variant_of[slot] = spec, variant
        self.cohorts = {
            slot: int(spec.experiment.labels.cohort) for slot, spec in self.by_slot.items()
        }
        by_unit = frozenset(slot for slot, spec in self.by_slot.items() if spec.by_unit)
        caps = {
            slot: max(cents_of(spec.experiment.money.cap), 1)
            for slot, spec in self.by_slot.items()
            if spec.experiment.money is not None
        }
        self.has_units = bool(by_unit)
        self.finals = self.cohorts, by_unit, caps
        """What final facts are folded by: the width of cohorts and most cents that a prediction may gain
        or lose, by slot, and the slots that are randomised by unit."""


class ScreenedPrediction(msgspec.Struct, frozen=True, gc=False):
    """A usable prediction: its packed row and what only its arrival pane keeps."""

    record: int
    """Its number in the batch."""
    digest: bytes
    arrival: int
    row: bytes
    latency_ms: float
    score: float
    spec: Spec
    unit: bytes = b""
    """Digest of its unit; empty where it has none, or its experiment is not randomised by unit."""


class ScreenedOutcome(msgspec.Struct, frozen=True, gc=False):
    """A usable outcome."""

    record: int
    """Its number in the batch."""
    digest: bytes
    arrival: int
    time: int
    actual: bool
    cents: int = 0
    """Its value."""


Screened = ScreenedPrediction | ScreenedOutcome


@dataclass(slots=True)
class Screening:
    """The usable events of a batch in order, and what became of the others."""

    usable: list[Screened] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    rejected: list[tuple[int, Rejected]] = field(default_factory=list)
    """Index in the batch, and why."""
    versioned: dict[int, Prediction] = field(default_factory=dict)
    """Predictions that say which version of the variant made them, by index in the batch."""


def screen(events: Sequence[Event], arrivals: Sequence[int], specs: SpecTable) -> Screening:
    """Sort the events of one batch into usable, ignored and rejected."""
    screening = Screening()
    usable, ignored, rejected = screening.usable, screening.ignored, screening.rejected
    by_name = specs.by_name
    for index, event in enumerate(events):
        if type(event) is Prediction:
            spec = by_name.get(event.experiment)
            if spec is None:
                ignored.append(index)
                continue
            found: Screened | Rejected = _prediction(index, event, arrivals[index], spec)
            if event.version:
                screening.versioned[index] = event
        elif type(event) is Outcome:
            if event.experiment is not None and event.experiment not in by_name:
                ignored.append(index)
                continue
            found = _outcome(index, event, arrivals[index])
        else:
            found = event  # type: ignore[assignment]  # all that is left is Rejected
        if type(found) is Rejected:
            rejected.append((index, found))
        else:
            usable.append(found)  # type: ignore[arg-type]  # narrowed just above
    return screening


def _prediction(index: int, event: Prediction, arrival: int, spec: Spec) -> Screened | Rejected:
    slot = spec.slots.get(event.variant)
    if slot is None:
        known = ", ".join(spec.slots)
        return Rejected("unknown_variant", f"variant {event.variant!r}; expected one of {known}")
    encoded = event.prediction_id.encode()
    time = event.time
    if type(time) is not int:
        time = arrival if time is None else epoch_ms(time)
    if len(encoded) > MAX_ID_BYTES or time < 0:
        return _out_of_range(encoded, time)
    flags, latency = 0, math.nan
    if event.error:
        flags = ERROR
    elif event.predicted is None:
        return Rejected("missing_field", "`predicted` may be absent only when `error` is true")
    else:
        flags = PREDICTED if event.predicted else 0
        if event.predicted if event.acted is None else event.acted:
            flags |= ACTED
    units = 0
    if event.latency_ms is not None:
        flags, latency = flags | TIMED, event.latency_ms
        units = round(min(latency, LONGEST_MS) * UNITS_PER_MS)
    weight = WEIGHT_UNIT
    if event.weight is not None:
        weight = max(round(min(event.weight, spec.weight_cap) * WEIGHT_UNIT), 1)
    elif spec.weighted:
        return Rejected("missing_field", "`weight` is required where labels are `explored`")
    row = ROW_STRUCT.pack(arrival, time | flags << FLAG_SHIFT, units, weight, slot)
    score = math.nan if event.score is None else event.score
    key = digest(encoded)
    tail, unit = _tail(event, spec, key) if spec.long_rows else _NO_TAIL
    return ScreenedPrediction(index, key, arrival, row + tail, latency, score, spec, unit)


def _tail(event: Prediction, spec: Spec, key: bytes) -> tuple[bytes, bytes]:
    """What a long row has more, and the digest of the prediction's unit."""
    unit = unit_digest(event.unit_id) if spec.by_unit and event.unit_id else b""
    cost = cents_of(event.cost) if event.cost else 0
    return TAIL_STRUCT.pack(
        0, cost, NEVER, bucket_of(unit or key)
    ), unit  # alone it is its own unit


def _outcome(index: int, event: Outcome, arrival: int) -> Screened | Rejected:
    encoded = event.prediction_id.encode()
    time = event.time
    if type(time) is not int:
        time = arrival if time is None else epoch_ms(time)
    if len(encoded) > MAX_ID_BYTES or time < 0:
        return _out_of_range(encoded, time)
    cents = cents_of(event.value) if event.value else 0
    return ScreenedOutcome(index, digest(encoded), arrival, time & TIME_MASK, event.actual, cents)


def cents_of(amount: float) -> int:
    """An amount of money in whole cents."""
    return round(min(max(amount, -MAX_MONEY), MAX_MONEY) * 100)


def _out_of_range(encoded: bytes, time: int) -> Rejected:
    if time < 0:
        return Rejected("out_of_range", "`time` lies before 1970")
    return Rejected(
        "out_of_range",
        f"`prediction_id` has {len(encoded)} bytes, at most {MAX_ID_BYTES} may be used",
    )
