"""The ledgers a shard writes: deltas spread over panes, added to what is stored, cached between commits.

There is one writer a shard, so a ledger is one absolute packed value: what was written last is still
true as long as nobody else has committed.
"""

from collections.abc import Iterable, Sequence

from metrics.experiment import DAY
from metrics.layout import (
    COARSE_WIDTH,
    FINE_WIDTH,
    INDEXES,
    RETENTION,
    Keys,
    Kind,
    PaneName,
    index_of,
)
from metrics.ledger import Ledger, total
from stream.fold import Ledgers
from stream.resp import Command
from stream.screen import SpecTable


MAX_CACHED = 4_096
PRUNE_AT_ONCE = 64

_WIDTH = {Kind.FINE: FINE_WIDTH, Kind.COARSE: COARSE_WIDTH}
_SAFETY_NET_S = {Kind.FINE: 8 * DAY // 1000, Kind.COARSE: 60 * DAY // 1000}
"""Panes are deleted by the watermark; should a shard never come back, Redis drops them itself."""

Deltas = dict[PaneName, Ledger]


Final = tuple[int, Ledgers]
"""Cohorts at a landmark (ms), 0 for those whose labels are final."""


def spread(specs: SpecTable, by_arrival: Iterable[Ledgers], final: Iterable[Final]) -> Deltas:
    """What a batch adds to each ledger: fine panes, coarse panes and totals, mature and landmark panes."""
    parts: dict[PaneName, list[Ledger]] = {}

    def add(kind: Kind, slot: int, start: int, ledger: Ledger, landmark: int = 0) -> None:
        experiment = specs.by_slot[slot].experiment.name
        name = PaneName(kind, experiment, specs.variant_of[slot], start, landmark)
        parts.setdefault(name, []).append(ledger)

    for ledgers in by_arrival:
        for (slot, start), ledger in ledgers.items():
            add(Kind.FINE, slot, start, ledger)
            add(Kind.COARSE, slot, start - start % COARSE_WIDTH, ledger)
            add(Kind.TOTAL, slot, 0, ledger)
    for landmark, ledgers in final:
        kind = Kind.LANDMARK if landmark else Kind.MATURE
        for (slot, start), ledger in ledgers.items():
            add(kind, slot, start, ledger, landmark)
    return {name: total(found) for name, found in parts.items()}


class LedgerCache:
    """What is stored under each ledger's name, as far as this process knows."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: dict[PaneName, Ledger] = {}

    def forget_all(self) -> None:
        """Drop what is known, after somebody else has committed."""
        self._known.clear()

    def missing(self, deltas: Deltas) -> list[PaneName]:
        """The ledgers that have to be read before `deltas` can be added."""
        return [name for name in deltas if name not in self._known]

    def reads(self, missing: Sequence[PaneName]) -> list[Command]:
        """The command that reads them."""
        return [("MGET", *(self._keys.ledger(str(name)) for name in missing))] if missing else []

    def learn(self, missing: Sequence[PaneName], replies: Sequence[Sequence[bytes | None]]) -> None:
        """Take in the answer to `reads`."""
        for values in replies:
            for name, packed in zip(missing, values, strict=True):
                self._known[name] = Ledger.unpack(packed) if packed else Ledger()

    def updated(self, deltas: Deltas) -> Deltas:
        """The new absolute values."""
        return {name: self._known[name].plus(delta) for name, delta in deltas.items()}

    def committed(self, values: Deltas) -> None:
        """Remember what was written; the ledgers written longest ago are forgotten first."""
        for name, ledger in values.items():
            self._known.pop(name, None)
            self._known[name] = ledger
        for name in list(self._known)[: max(0, len(self._known) - MAX_CACHED)]:
            del self._known[name]

    def writes(self, values: Deltas, seq: int) -> list[Command]:
        """The commands that write `values` and list them as touched by commit `seq`."""
        commands: list[Command] = []
        touched: dict[str, list[str | int]] = {index: [] for index in INDEXES}
        for name, ledger in values.items():
            net = _SAFETY_NET_S.get(name.kind)
            expiry = ("EX", net) if net else ()
            commands.append(("SET", self._keys.ledger(str(name)), ledger.pack(), *expiry))
            touched[index_of(name.kind)] += [seq, str(name)]
        for index, members in touched.items():
            if members:
                commands.append(("ZADD", self._keys.touched(index), *members))
        return commands

    def prune_reads(self) -> list[Command]:
        """The commands that read the panes touched longest ago, fine ones first."""
        return [("ZRANGE", self._keys.touched(kind), 0, PRUNE_AT_ONCE - 1) for kind in RETENTION]

    def prune(self, replies: Sequence[Sequence[bytes]], watermark: int | None) -> list[Command]:
        """The commands that delete the panes among `replies` that nobody needs any more."""
        commands: list[Command] = []
        if watermark is None:
            return commands
        for (kind, retention), members in zip(RETENTION.items(), replies, strict=True):
            names = [PaneName.parse(member.decode()) for member in members]
            old = [n for n in names if n.start + _WIDTH[kind] + retention <= watermark]
            if old:
                commands.append(("DEL", *(self._keys.ledger(str(name)) for name in old)))
                commands.append(("ZREM", self._keys.touched(kind), *(str(name) for name in old)))
                for name in old:
                    self._known.pop(name, None)
        return commands
