"""The reader: ledgers in Redis to snapshots. This module does I/O.

Each read fetches only what was touched since the one before: the indexes list every ledger by the number
of the commit that last wrote it. Ledgers of the shards are added up here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis.asyncio

from metrics.experiment import Experiment
from metrics.layout import (
    INDEXES,
    RETENTION,
    Keys,
    Kind,
    Meta,
    PaneName,
    decode_meta,
    newest_versions,
    shards_key,
)
from metrics.ledger import Deferred, Ledger, total, unpacked_total, version_of
from metrics.snapshot import Fleet, Snapshot, VariantFacts


FETCHED_AT_ONCE = 4_096
"""Ledgers of one MGET: the first read of a shard may find hundreds of thousands."""


@dataclass(slots=True)
class _Shard:
    """What was read of one shard."""

    meta: Meta = field(default_factory=Meta)
    ledgers: dict[bytes, bytes] = field(default_factory=dict)
    """Packed, by name as the indexes have it: most are never looked at."""
    pending: int = 0


class _Variant:
    """The ledgers of one variant, added up over shards, kept up to date name by name."""

    def __init__(self) -> None:
        self._panes: dict[tuple[Kind, int], dict[int, Ledger]] = {}
        """By kind and landmark."""
        self._shared: set[tuple[Kind, int]] = set()
        self._settled, self._settled_to = Ledger(), 0
        self._open: dict[int, Ledger] = {}
        """Cohorts that are not settled, by start."""
        self._mature: Ledger | None = None

    def put(self, name: PaneName, ledger: Ledger | None) -> None:
        """Replace one ledger, or drop it."""
        panes = self._own(name.kind, name.landmark)
        if ledger is None:
            panes.pop(name.start, None)
        else:
            panes[name.start] = ledger
        if name.kind is Kind.MATURE:
            self._put_cohort(name.start, ledger)

    def _put_cohort(self, start: int, ledger: Ledger | None) -> None:
        self._mature = None
        if start < self._settled_to:  # rebuilt from the log: add up again
            self._settled, self._settled_to = Ledger(), 0
            self._open = dict(self._of(Kind.MATURE))
        elif ledger is None:
            self._open.pop(start, None)
        else:
            self._open[start] = ledger

    def _of(self, kind: Kind, landmark: int = 0) -> dict[int, Ledger]:
        return self._panes.setdefault((kind, landmark), {})

    def _own(self, kind: Kind, landmark: int = 0) -> dict[int, Ledger]:
        """The panes of a kind, copied first if a snapshot holds them: a snapshot never changes."""
        if (kind, landmark) in self._shared:
            self._panes[kind, landmark] = dict(self._panes[kind, landmark])
            self._shared.discard((kind, landmark))
        return self._of(kind, landmark)

    def facts(
        self, matured: int, cohort: int, landmarks: Iterable[int], versions: Mapping[str, int]
    ) -> VariantFacts:
        """An immutable view."""
        facts = VariantFacts(
            self._of(Kind.TOTAL).get(0, Ledger()),
            self._of(Kind.FINE),
            self._of(Kind.COARSE),
            self._of(Kind.MATURE),
            self._matured(matured - cohort),
            {landmark: self._of(Kind.LANDMARK, landmark) for landmark in landmarks},
            versions,
        )
        self._shared = set(self._panes)
        return facts

    def _matured(self, settled_to: int) -> Ledger:
        """All cohorts together; those that are complete are added up only once."""
        if settled_to > self._settled_to:
            complete = [start for start in self._open if start < settled_to]
            if complete:
                self._settled = total([self._settled, *map(self._open.pop, complete)])
                self._mature = None
            self._settled_to = settled_to
        if self._mature is None:
            self._mature = Deferred(partial(total, [self._settled, *self._open.values()]))
        return self._mature


class Reader:
    """Reads the configured experiments of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self._client, self._deployment = client, deployment
        self._shards: dict[int, _Shard] = {}
        self._variants: defaultdict[tuple[str, str], _Variant] = defaultdict(_Variant)
        self._changed: set[bytes] = set()
        """Ledgers that were read and are not added up yet."""
        self._names: dict[bytes, PaneName] = {}
        self._starts: defaultdict[tuple[Kind, int], set[bytes]] = defaultdict(set)
        """Ledgers that will expire, by kind and start."""

    async def read(self, experiments: Iterable[Experiment]) -> Fleet:
        """The state of the store now. Raises redis.exceptions.RedisError when it cannot be read."""
        members = await self._client.smembers(shards_key(self._deployment))
        # A shard that was once seen is looked for even where the list of shards got lost.
        for number in sorted({int(member) for member in members} | self._shards.keys()):
            await self._read_shard(number)
        self._add_up()
        shards = [shard for shard in self._shards.values() if shard.meta.seq]
        metas = [shard.meta for shard in shards]
        watermark = _least(meta.watermark for meta in metas)
        if watermark is not None:
            self._drop_before(watermark)
        tallies: Counter[str] = Counter()
        for meta in metas:
            tallies.update(meta.tallies)
        return Fleet(
            {each.name: self._snapshot(each, metas, watermark) for each in experiments},
            tallies,
            sum(meta.waiting for meta in metas),
            sum(shard.pending for shard in shards),
            len(shards),
        )

    async def _read_shard(self, number: int) -> None:
        """Fetch what was touched since the last read that succeeded."""
        keys = Keys(self._deployment, number)
        shard = self._shards.setdefault(number, _Shard())
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.get(keys.meta)
            pipe.hlen(keys.pending)
            for index in INDEXES:
                pipe.zrangebyscore(keys.touched(index), f"({shard.meta.seq}", "+inf")
            meta, pending, *touched = await pipe.execute()
        fresh, known = decode_meta(meta), shard.meta
        if known.seq and (fresh.seq < known.seq or fresh.lineage != known.lineage):
            # The store lost commits or was flushed: nothing that was read before is certain.
            self._changed |= shard.ledgers.keys()
            self._shards[number] = _Shard()
            if fresh.seq:
                await self._read_shard(number)
            return
        names: list[bytes] = [name for group in touched for name in group]
        for first in range(0, len(names), FETCHED_AT_ONCE):
            await self._fetch(keys, shard, names[first : first + FETCHED_AT_ONCE])
        self._changed.update(names)
        shard.meta, shard.pending = fresh, pending  # last: what failed before is read again

    async def _fetch(self, keys: Keys, shard: _Shard, names: Sequence[bytes]) -> None:
        prefix = keys.ledger("").encode()
        values: list[Any] = await self._client.mget([prefix + name for name in names])
        for name, packed in zip(names, values, strict=True):
            if packed is not None:
                version_of(packed)  # what nobody can read must not wait until it is looked at
                shard.ledgers[name] = packed

    def _add_up(self) -> None:
        held = [shard.ledgers for shard in self._shards.values()]
        for written in self._changed:
            name = self._named(written)
            parts = [ledgers[written] for ledgers in held if written in ledgers]
            summed = Deferred(partial(unpacked_total, parts)) if parts else None
            self._variants[name.experiment, name.variant].put(name, summed)
        self._changed.clear()

    def _named(self, written: bytes) -> PaneName:
        """The name, remembered as long as the ledger is kept."""
        name = self._names.get(written)
        if name is None:
            name = self._names[written] = PaneName.parse(written.decode())
            if name.kind in RETENTION:
                self._starts[name.kind, name.start].add(written)
        return name

    def _drop_before(self, watermark: int) -> None:
        """Forget the panes that the workers have deleted."""
        old = [each for each in self._starts if each[1] < watermark - RETENTION[each[0]]]
        for written in (name for each in old for name in self._starts.pop(each)):
            name = self._names.pop(written)
            self._variants[name.experiment, name.variant].put(name, None)
            for shard in self._shards.values():
                shard.ledgers.pop(written, None)

    def _snapshot(
        self, experiment: Experiment, metas: Sequence[Meta], watermark: int | None
    ) -> Snapshot:
        matured = _least(meta.matured.get(experiment.name) for meta in metas)
        cohort = int(experiment.labels.cohort)
        landmarks = [int(landmark) for landmark in experiment.labels.landmarks]
        facts = {}
        for name in experiment.variants:
            versions = _versions(metas, experiment.name, name)
            variant = self._variants[experiment.name, name]
            facts[name] = variant.facts(matured or 0, cohort, landmarks, versions)
        known = {at: _least(_marked(meta, experiment, at) for meta in metas) for at in landmarks}
        return Snapshot(
            experiment.name,
            facts,
            watermark,
            matured,
            _greatest(meta.last_prediction.get(experiment.name) for meta in metas),
            _greatest(meta.last_outcome for meta in metas),
            _greatest(meta.complete_since for meta in metas),
            {landmark: at for landmark, at in known.items() if at is not None},
        )


def _marked(meta: Meta, experiment: Experiment, landmark: int) -> int | None:
    """So far the labels of one shard that come within a landmark are final."""
    return meta.landmarks.get(experiment.name, {}).get(landmark)


def _versions(metas: Iterable[Meta], experiment: str, variant: str) -> dict[str, int]:
    """When any shard last saw each version of a variant."""
    return newest_versions(*(meta.versions.get(experiment, {}).get(variant, {}) for meta in metas))


def _least(values: Iterable[int | None]) -> int | None:
    """The smallest, None if any is unknown or there is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return min(known) if known and len(known) == len(found) else None


def _greatest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
