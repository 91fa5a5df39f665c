"""Names and retention of what `stream` writes to Redis and `metrics` reads; no input or output here.

Every key of a shard carries the hash tag `{deployment:shard}`, so that one batch touches one slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from metrics.experiment import DAY, HOUR, MINUTE


class Kind(StrEnum):
    """The kinds of ledger: fine and coarse panes by arrival, mature panes, totals, and landmark panes.

    Landmark panes are mature panes with the labels that a shorter horizon would have accepted.
    """

    FINE = "fine"
    COARSE = "coarse"
    MATURE = "mature"
    TOTAL = "total"
    LANDMARK = "landmark"


FINE_WIDTH = 10_000
COARSE_WIDTH = 10 * MINUTE

RETENTION = {Kind.FINE: 2 * HOUR, Kind.COARSE: 8 * DAY}
"""How far behind the watermark a pane is kept, in ms; other kinds live as long as the experiment."""


@dataclass(frozen=True, slots=True)
class PaneName:
    """Which ledger: kind, experiment, variant and the start of its slice (0 for totals).

    Landmark panes have a landmark, too (ms after the prediction; 0 for other kinds).
    """

    kind: Kind
    experiment: str
    variant: str
    start: int = 0
    landmark: int = 0

    def __str__(self) -> str:
        name = f"{self.kind}:{self.experiment}:{self.variant}:{self.start}"
        return f"{name}:{self.landmark}" if self.landmark else name

    @classmethod
    def parse(cls, text: str) -> "PaneName":
        """The inverse of str()."""
        kind, experiment, variant, *numbers = text.split(":")
        return cls(Kind(kind), experiment, variant, *map(int, numbers))


KEPT_VERSIONS = 8
"""Versions that are remembered of a variant: how they are called, and how many there are, is up to events."""

Versions = dict[str, dict[str, dict[str, int]]]
"""By experiment and variant, when each version was last seen (arrival time, epoch ms)."""


class Position(msgspec.Struct, frozen=True):
    """How far one topic of a shard has been counted."""

    offset: int
    """The next offset to count."""
    arrival: int
    """No record of this topic with an earlier arrival (epoch ms) will come."""


class Meta(msgspec.Struct, omit_defaults=True):
    """What a shard has counted: the guard of every commit, written together with what it guards."""

    seq: int = 0
    commit: str = ""
    """A name of this commit alone: after a failover the same number may be given twice."""
    lineage: str = ""
    """Changes when the state is rebuilt or set back: what was read before is then void."""
    topics: tuple[str, ...] = ()
    positions: dict[str, Position] = {}
    last_outcome: int | None = None
    """Latest time (at most its arrival) of an outcome of any experiment: so far labels are known."""
    last_prediction: dict[str, int] = {}
    """Arrival of the latest prediction of each experiment."""
    versions: Versions = {}
    """The arrival of the latest prediction of each version, of the newest ones a variant."""
    complete_since: int | None = None
    """Set where the log no longer reached back to the start: earlier events are not in the state."""
    matured: dict[str, int] = {}
    """By experiment: every prediction that arrived before this has its final label in its cohort."""
    landmarks: dict[str, dict[int, int]] = {}
    """By experiment and landmark, the same for the labels that come within that landmark."""
    cursors: dict[str, int] = {}
    """By queue: how many ids of its first chunk are done."""
    failing: list[int] = []
    """The minutes of arrival (epoch) for which the units that had a failed request are kept."""
    waiting: int = 0
    """Outcomes that wait for their prediction."""
    tallies: dict[str, int] = {}
    """Events by result since the beginning."""

    @property
    def watermark(self) -> int | None:
        """No record with an earlier arrival will come; None before every topic has spoken."""
        if not self.topics or any(topic not in self.positions for topic in self.topics):
            return None
        return min(self.positions[topic].arrival for topic in self.topics)


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys of one shard of one deployment."""

    deployment: str
    shard: int

    def key(self, name: str) -> str:
        """The full key of `name`."""
        return f"{{{self.deployment}:{self.shard}}}:{name}"

    @property
    def meta(self) -> str:
        """String: the packed `Meta`, watched by every commit."""
        return self.key("meta")

    @property
    def pending(self) -> str:
        """Hash: predictions that are remembered, by digest of their id."""
        return self.key("pending")

    @property
    def early(self) -> str:
        """Hash: outcomes that came before their prediction, by digest."""
        return self.key("early")

    def units(self, experiment: str) -> str:
        """Hash: the sample of units by digest, each with the slot of the variant it was first seen in."""
        return self.key(f"units:{experiment}")

    def failing(self, minute: int) -> str:
        """Set: slot and digest of each unit that had a failed request in a minute of arrival (epoch)."""
        return self.key(f"failing:{minute}")

    def touched(self, index: str) -> str:
        """Sorted set: ledger names of an index (see `index_of`) by the commit that last wrote them."""
        return self.key(f"touched:{index}")

    def ledger(self, name: str) -> str:
        """String: one packed ledger."""
        return self.key(f"ledger:{name}")


KEPT = "kept"
INDEXES = (Kind.FINE.value, Kind.COARSE.value, KEPT)


def index_of(kind: Kind) -> str:
    """Ledgers that expire at different ages are indexed apart, so that the oldest come first."""
    return kind.value if kind in RETENTION else KEPT


def newest_versions(*seen: Mapping[str, int]) -> dict[str, int]:
    """The versions that were seen last in any of `seen`, at most `KEPT_VERSIONS`, and when that was.

    Of those seen at the same time the last ones by name. So it does not matter in which order, in what parts
    or how often versions are added: one that was left out once had as many newer ones, and they stay.
    """
    latest: dict[str, int] = {}
    for each in seen:
        for version, at in each.items():
            latest[version] = max(at, latest.get(version, at))
    ranked = sorted((at, version) for version, at in latest.items())
    return {version: at for at, version in ranked[-KEPT_VERSIONS:]}


def shards_key(deployment: str) -> str:
    """Set: the numbers of all shards that ever committed."""
    return f"{{{deployment}}}:shards"


def partitions_key(deployment: str) -> str:
    """String: how many partitions the topics have."""
    return f"{{{deployment}}}:partitions"


def decode_meta(packed: bytes | None) -> Meta:
    """The stored `Meta`; an empty one where nothing is stored."""
    return msgspec.json.decode(packed, type=Meta) if packed else Meta()
