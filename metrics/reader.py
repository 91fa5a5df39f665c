"""The reader: ledgers in Redis to snapshots. This module does I/O.

Each read fetches only what was touched since the one before: the indexes list every ledger by the number
of the commit that last wrote it. Ledgers of the shards are added up here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from metrics.ledger import Ledger, total
from metrics.snapshot import Fleet, Snapshot, VariantFacts


@dataclass(slots=True)
class _Shard:
    """What was read of one shard."""

    meta: Meta = field(default_factory=Meta)
    ledgers: dict[PaneName, Ledger] = field(default_factory=dict)
    pending: int = 0


class _Variant:
    """The ledgers of one variant, added up over shards, kept up to date name by name."""

    def __init__(self) -> None:
        self._panes: dict[tuple[Kind, int], dict[int, Ledger]] = {}
        """By kind and landmark."""
        self._shared: set[tuple[Kind, int]] = set()
        self._settled, self._settled_to = Ledger(), 0

    def put(self, name: PaneName, ledger: Ledger | None) -> None:
        """Replace one ledger, or drop it."""
        panes = self._own(name.kind, name.landmark)
        if ledger is None:
            panes.pop(name.start, None)
        else:
            panes[name.start] = ledger
        if name.kind is Kind.MATURE and name.start < self._settled_to:
            self._settled, self._settled_to = Ledger(), 0  # rebuilt from the log: add up again

    def drop_before(self, watermark: int) -> None:
        """Forget the panes that the workers have deleted."""
        for kind, retention in RETENTION.items():
            old = [start for start in self._of(kind) if start < watermark - retention]
            for start in old:
                del self._own(kind)[start]

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
        """An immutable view; cohorts that are complete are added up only once."""
        cohorts = self._of(Kind.MATURE)
        settled_to = matured - cohort
        fresh = [start for start in cohorts if self._settled_to <= start < settled_to]
        if settled_to > self._settled_to:
            self._settled = total([self._settled, *(cohorts[start] for start in fresh)])
            self._settled_to = settled_to
        rest = (ledger for start, ledger in cohorts.items() if start >= self._settled_to)
        facts = VariantFacts(
            self._of(Kind.TOTAL).get(0, Ledger()),
            self._of(Kind.FINE),
            self._of(Kind.COARSE),
            cohorts,
            total([self._settled, *rest]),
            {landmark: self._of(Kind.LANDMARK, landmark) for landmark in landmarks},
            versions,
        )
        self._shared = set(self._panes)
        return facts


class Reader:
    """Reads the configured experiments of one deployment."""

    def __init__(self, client: "redis.asyncio.Redis", deployment: str) -> None:
        self._client, self._deployment = client, deployment
        self._shards: dict[int, _Shard] = {}
        self._variants: dict[tuple[str, str], _Variant] = {}
        self._changed: set[PaneName] = set()
        """Ledgers that were read and are not added up yet."""

    async def read(self, experiments: Iterable[Experiment]) -> Fleet:
        """The state of the store now. Raises redis.exceptions.RedisError when it cannot be read."""
        members = await self._client.smembers(shards_key(self._deployment))
        # A shard that was once seen is looked for even where the list of shards got lost.
        for number in sorted({int(member) for member in members} | self._shards.keys()):
            await self._read_shard(number)
        self._add_up()
        shards = [shard for shard in self._shards.values() if shard.meta.seq]
        tallies: Counter[str] = Counter()
        for shard in shards:
            tallies.update(shard.meta.tallies)
        return Fleet(
            {experiment.name: self._snapshot(experiment, shards) for experiment in experiments},
            tallies,
            sum(shard.meta.waiting for shard in shards),
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
        names = [PaneName.parse(name.decode()) for group in touched for name in group]
        if names:
            values: list[Any] = await self._client.mget([keys.ledger(str(name)) for name in names])
            for name, packed in zip(names, values, strict=True):
                if packed is not None:
                    shard.ledgers[name] = Ledger.unpack(packed)
        self._changed |= set(names)
        shard.meta, shard.pending = fresh, pending  # last: what failed before is read again

    def _add_up(self) -> None:
        for name in self._changed:
            variant = self._variants.setdefault((name.experiment, name.variant), _Variant())
            parts = [s.ledgers[name] for s in self._shards.values() if name in s.ledgers]
            variant.put(name, total(parts) if parts else None)
        self._changed.clear()

    def _snapshot(self, experiment: Experiment, shards: list[_Shard]) -> Snapshot:
        metas = [shard.meta for shard in shards]
        watermark = _least(meta.watermark for meta in metas)
        matured = _least(meta.matured.get(experiment.name) for meta in metas)
        cohort = int(experiment.labels.cohort)
        landmarks = [int(landmark) for landmark in experiment.labels.landmarks]
        if watermark is not None:
            for shard in shards:
                _drop_expired(shard, watermark)
        facts = {}
        for name in experiment.variants:
            variant = self._variants.setdefault((experiment.name, name), _Variant())
            if watermark is not None:
                variant.drop_before(watermark)
            versions = _versions(metas, experiment.name, name)
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


def _drop_expired(shard: _Shard, watermark: int) -> None:
    old = [
        name
        for name in shard.ledgers
        if name.kind in RETENTION and name.start < watermark - RETENTION[name.kind]
    ]
    for name in old:
        del shard.ledgers[name]


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
