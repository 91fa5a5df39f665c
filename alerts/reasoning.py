"""The reasoning of a decision: everything that it takes to come to the same decision again. Pure.

What a look sees is gone soon after it, so that the numbers it saw are written down with what it decided: the cohorts of
both arms, the last step of tests at arrival, the windows of thresholds, and the counts that silence and holding rest on.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts.book import Decision, Kept
from alerts.cohorts import Arms
from alerts.guardrails import Guardrail
from alerts.health import HoldOptions
from alerts.judge import Judgement, Seen
from alerts.machine import Elapsed, Happening, Look, Policy
from alerts.standing import Standing
from alerts.tables import pack, pack_facts, pack_times, unpack, unpack_facts, unpack_times
from alerts.testing import Testing
from metrics.duration import Duration
from metrics.experiment import Experiment
from metrics.ledger import Ledger
from metrics.moment import Moment
from metrics.snapshot import Snapshot, VariantFacts
from metrics.units import pack_buckets, unpack_buckets


VERSION = 1

RESTING_ON_DATA: Final = frozenset(
    {
        "rollback",
        "would_roll_back",
        "pass",
        "hold",
        "hold_overdue",
        "harm_while_paused",
        "braked",
    }
)
"""What is decided because of data; all the rest is somebody's word, or what the world answered."""


class ReasoningFormatError(ValueError):
    """Bytes that are no reasoning that this version can read."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What people had declared."""

    experiment: Experiment
    guardrails: tuple[Guardrail, ...]
    hold: HoldOptions
    testing: Testing

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        guardrails: Iterable[Guardrail],
        hold: HoldOptions,
        testing: Testing,
    ) -> "Declared":
        """All of it; of the experiment no more than what an experiment is."""
        fields = {name: getattr(experiment, name) for name in Experiment.__struct_fields__}
        plain = Experiment(**fields)
        return cls(experiment=plain, guardrails=tuple(guardrails), hold=hold, testing=testing)

    def guardrail(self, name: str) -> Guardrail | None:
        """The guardrail with that name, None where there is none."""
        return next((each for each in self.guardrails if each.name == name), None)


class Matured(msgspec.Struct, frozen=True, kw_only=True):
    """The cohorts of both arms, packed."""

    landmark: int
    until: int
    starts: bytes
    strata: bytes
    treatment: bytes
    control: bytes
    buckets: tuple[bytes, bytes]

    @classmethod
    def of(cls, arms: Arms, landmark: int, until: int) -> "Matured":
        """Pack `arms`; there has to be at least one cohort."""
        return cls(
            landmark=landmark,
            until=until,
            starts=pack_times(np.asarray(arms.starts, dtype=np.int64)),
            strata=pack(arms.strata[:, None].astype(np.float64)),
            treatment=pack_facts(arms.treatment),
            control=pack_facts(arms.control),
            buckets=(pack_buckets(arms.buckets[0]), pack_buckets(arms.buckets[1])),
        )

    def arms(self) -> Arms:
        """The cohorts as they were seen; raises ValueError where they cannot be read."""
        return Arms(
            unpack_times(self.starts).tolist(),
            unpack_facts(self.treatment),
            unpack_facts(self.control),
            (unpack_buckets(self.buckets[0]), unpack_buckets(self.buckets[1])),
            unpack(self.strata)[:, 0].astype(np.int64),
        )


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The latest step of a sequential test at arrival."""

    before: Kept
    """What it remembered before that step; after it, where the step itself is not known any more."""
    tally: tuple[float, ...] | None = None
    """What came in it (see `alerts.counting.Tally`); None where it is not known any more."""
    known: bytes | None = None
    """What it said before, as JSON: that takes whole numbers of any size."""
    suspended: str | None = None
    """Why nothing was counted."""

    @property
    def said(self) -> Judgement | None:
        """What it said before; raises msgspec.MsgspecError where that cannot be read."""
        return None if self.known is None else msgspec.json.decode(self.known, type=Judgement)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The two packed ledgers that a threshold compared."""

    treatment: bytes
    control: bytes

    @property
    def seen(self) -> Seen:
        """The ledgers; raises LedgerFormatError where they cannot be read."""
        return Seen(Ledger.unpack(self.treatment), Ledger.unpack(self.control))


class Asked(NamedTuple):
    """A count that was asked for: what came of a variant in the `width` ms before `end`."""

    variant: str
    what: str
    """`predictions`, or `labelled`: those that met their outcome."""
    end: int
    width: int


class Count(msgspec.Struct, frozen=True, array_like=True):
    """How many there were of what was asked for."""

    asked: Asked
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noting(VariantFacts):
    """Counts of one variant: read from `source` and noted, or from what was noted."""

    name: str
    counts: dict[Asked, int]
    source: VariantFacts | None = field(default=None)

    def predictions(self, end: int, width: int) -> int:
        """As of any variant; raises KeyError for what was not noted."""
        return self._told("predictions", end, width)

    def labelled(self, end: int, width: int) -> int:
        """As of any variant; raises KeyError for what was not noted."""
        return self._told("labelled", end, width)

    def _told(self, what: str, end: int, width: int) -> int:
        asked = Asked(self.name, what, end, width)
        if self.source is not None:
            self.counts[asked] = getattr(self.source, what)(end, width)
        return self.counts[asked]


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What silence and causes to hold rest on."""

    at: int | None
    """The look that found the causes to hold; None before there was any."""
    known: tuple[str, ...]
    """The causes at the look before."""
    complete_since: int | None
    counts: tuple[Count, ...]

    def snapshot(self, experiment: Experiment) -> Snapshot:
        """A snapshot that can answer just these questions; it raises KeyError for any other."""
        counts = {count.asked: count.n for count in self.counts}
        variants = {name: Noting(name=name, counts=counts) for name in experiment.variants}
        return Snapshot(experiment.name, variants, complete_since=self.complete_since)


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision rests on."""

    v: int = VERSION
    declared: Declared
    standing: Standing
    """Where the treatment stood before."""
    look: Look | None
    """What the look had found; None where time went by, and that was enough."""
    at: int
    """The moment (epoch ms) of the look, or until which time had gone by."""
    policy: Policy
    began: int
    """When judging of the treatment began (epoch ms, arrival time)."""
    windows: dict[str, Window] = {}
    """Of thresholds, by guardrail; those that are gone are left out."""
    remembered: dict[str, Kept] = {}
    """Of sequential tests on labels: what each knew before its latest look."""
    matured: tuple[Matured, ...] = ()
    """By landmark."""
    counted: dict[str, Counted] = {}
    flow: Flow
    mismatched: bool = False
    """Whether a mismatch of the sample had been found before."""
    stretches: int = 0
    """Phases of the split that were over."""
    seen: int = 0
    """Predictions of the treatment since it began."""
    seal: str = ""
    """Hash of all this and of the decision."""

    @property
    def happening(self) -> Happening:
        """What made the treatment move on."""
        return Elapsed(self.at) if self.look is None else self.look


def seal_of(reasoning: Reasoning, decision: Decision) -> str:
    """A hash of both, whether or not the decision has its place in the chain yet."""
    bare = msgspec.structs.replace(decision, evidence="", previous="", hash="")
    plain = msgspec.structs.replace(reasoning, seal="")
    # Written, read and written again, so that 1 and 1.0 are the same.
    once = msgspec.msgpack.decode(_written(plain), type=Reasoning, dec_hook=_read)
    told = msgspec.json.decode(msgspec.json.encode(bare), type=Decision)
    return sha256(_written(once) + msgspec.json.encode(told, order="deterministic")).hexdigest()


def _written(reasoning: Reasoning) -> bytes:
    return msgspec.msgpack.encode(reasoning, enc_hook=str, order="deterministic")


def packed(reasoning: Reasoning) -> bytes:
    """The reasoning in few bytes."""
    return zlib.compress(_written(reasoning), 9)


def unpacked(data: bytes) -> Reasoning:
    """Read what `packed` wrote; raises ReasoningFormatError on anything else."""
    try:
        plain = zlib.decompress(data)
        version = msgspec.msgpack.decode(plain, type=_Versioned).v
        if version != VERSION:
            raise ReasoningFormatError(
                f"evidence has format {version}, expected {VERSION}: another version of abmonitor wrote it"
            )
        return msgspec.msgpack.decode(plain, type=Reasoning, dec_hook=_read)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReasoningFormatError(
            f"evidence of {len(data)} bytes cannot be read: {error}"
        ) from error


class _Versioned(msgspec.Struct):
    v: int


def _read(kind: type, value: Any) -> Any:
    if kind in {Duration, Moment}:
        return kind.parse(value)
    raise NotImplementedError(f"{kind.__name__} cannot be read from evidence")
