from collections.abc import AsyncIterator

import fakeredis
import msgspec
import pytest

from metrics.confusion import Cell, Cells
from metrics.duration import Duration
from metrics.experiment import HOUR, Experiment, Labels
from metrics.layout import (
    COARSE_WIDTH,
    FINE_WIDTH,
    RETENTION,
    Keys,
    Kind,
    Meta,
    PaneName,
    Position,
    index_of,
    shards_key,
)
from metrics.ledger import Ledger, LedgerFormatError
from metrics.reader import Reader
from metrics.snapshot import Fleet, VariantFacts


DEPLOYMENT = "test"
COHORT = 600_000
BASE = 1_699_999_800_000
EXPERIMENT = Experiment(
    name="e",
    control="a",
    variants={"a": 0.5, "b": 0.5},
    labels=Labels(horizon=Duration(60_000), cohort=Duration(COHORT)),
)


class Writer:
    """Writes what a worker would, by hand."""

    def __init__(self, client: fakeredis.FakeAsyncRedis, shard: int = 0) -> None:
        self.client, self.keys = client, Keys(DEPLOYMENT, shard)

    async def write(self, meta: Meta, ledgers: dict[PaneName, Ledger] | None = None) -> None:
        await self.client.sadd(shards_key(DEPLOYMENT), str(self.keys.shard))
        for name, ledger in (ledgers or {}).items():
            await self.client.set(self.keys.ledger(str(name)), ledger.pack())
            index = self.keys.touched(index_of(name.kind))
            await self.client.zadd(index, {str(name): meta.seq})
        await self.client.set(self.keys.meta, msgspec.json.encode(meta))


@pytest.fixture
async def client() -> AsyncIterator[fakeredis.FakeAsyncRedis]:
    client = fakeredis.FakeAsyncRedis(protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
def writer(client: fakeredis.FakeAsyncRedis) -> Writer:
    return Writer(client)


@pytest.fixture
def reader(client: fakeredis.FakeAsyncRedis) -> Reader:
    return Reader(client, DEPLOYMENT)


def meta(seq: int, watermark: int = BASE, *, lineage: str = "one", matured: int = 0) -> Meta:
    return Meta(
        seq=seq,
        commit="w",
        lineage=lineage,
        topics=("t",),
        positions={"t": Position(seq, watermark)},
        matured={"e": matured} if matured else {},
    )


def pane(kind: Kind, start: int = 0, variant: str = "a") -> PaneName:
    return PaneName(kind, "e", variant, start)


def of(predictions: int) -> Ledger:
    return Ledger(predictions, cells=Cells(tp=Cell(predictions, 1_000 * predictions)))


async def facts(reader: Reader, variant: str = "a") -> VariantFacts:
    return (await read(reader)).snapshots["e"].variants[variant]


async def read(reader: Reader) -> Fleet:
    return await reader.read([EXPERIMENT])


async def test_every_kind_of_ledger_is_found_where_it_belongs(
    writer: Writer, reader: Reader
) -> None:
    await writer.write(
        meta(1, BASE + 1),
        {
            pane(Kind.TOTAL): of(1),
            pane(Kind.FINE, BASE): of(2),
            pane(Kind.COARSE, BASE): of(3),
            pane(Kind.MATURE, BASE): of(4),
            pane(Kind.TOTAL, variant="b"): of(5),
        },
    )
    found = await facts(reader)
    assert found.total == of(1)
    assert (found.fine, found.coarse, found.cohorts) == (
        {BASE: of(2)},
        {BASE: of(3)},
        {BASE: of(4)},
    )
    assert found.mature == of(4)
    assert (await facts(reader, "b")).total == of(5)


async def test_variants_and_experiments_that_are_not_configured_are_left_out(
    writer: Writer, reader: Reader
) -> None:
    names = [pane(Kind.TOTAL, variant="c"), PaneName(Kind.TOTAL, "other", "a")]
    await writer.write(meta(1), {name: of(1) for name in names})
    fleet = await read(reader)
    assert list(fleet.snapshots) == ["e"]
    assert list(fleet.snapshots["e"].variants) == ["a", "b"]
    assert (await facts(reader)).total == Ledger()


async def test_only_what_was_touched_is_fetched_again(writer: Writer, reader: Reader) -> None:
    first, second = pane(Kind.MATURE, BASE), pane(Kind.MATURE, BASE + COHORT)
    await writer.write(meta(1), {first: of(1), second: of(2)})
    await read(reader)
    await writer.client.set(writer.keys.ledger(str(first)), of(100).pack())  # not listed as touched
    await writer.write(meta(2), {second: of(3)})
    assert (await facts(reader)).cohorts == {BASE: of(1), BASE + COHORT: of(3)}


async def test_a_ledger_that_was_deleted_meanwhile_is_passed_over(
    writer: Writer, reader: Reader
) -> None:
    await writer.write(meta(1), {pane(Kind.FINE, BASE): of(1), pane(Kind.TOTAL): of(1)})
    await writer.client.delete(writer.keys.ledger(str(pane(Kind.FINE, BASE))))
    found = await facts(reader)
    assert (found.fine, found.total) == ({}, of(1))


@pytest.mark.parametrize("change", [meta(1), meta(2, lineage="two"), meta(9, lineage="two")])
async def test_after_a_loss_everything_is_read_anew(
    writer: Writer, reader: Reader, change: Meta
) -> None:
    await writer.write(meta(2), {pane(Kind.MATURE, BASE): of(7), pane(Kind.TOTAL): of(7)})
    await read(reader)
    await writer.client.flushdb()
    await writer.write(meta(1), {pane(Kind.TOTAL): of(1)})
    await writer.write(change)
    found = await facts(reader)
    assert (found.total, found.mature) == (of(1), Ledger())
    assert not any(ledger.predictions for ledger in found.cohorts.values())


async def test_an_emptied_store_has_nothing(writer: Writer, reader: Reader) -> None:
    await writer.write(meta(2, matured=BASE), {pane(Kind.TOTAL): of(7)})
    await read(reader)
    await writer.client.flushdb()
    fleet = await read(reader)
    assert (fleet.shards, fleet.pending) == (0, 0)
    assert fleet.snapshots["e"].variants["a"].total == Ledger()
    assert (fleet.snapshots["e"].watermark, fleet.snapshots["e"].matured) == (None, None)


async def test_a_ledger_of_another_version_is_refused(writer: Writer, reader: Reader) -> None:
    await writer.write(meta(1), {pane(Kind.TOTAL): of(1)})
    await writer.client.set(writer.keys.ledger(str(pane(Kind.TOTAL))), b"\xff" + of(1).pack()[1:])
    with pytest.raises(LedgerFormatError, match="255"):
        await read(reader)


# --- several shards -------------------------------------------------------------------------------


async def test_shards_are_added_up_ledger_by_ledger(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    for shard in (0, 1, 12):
        ledgers = {pane(Kind.TOTAL): of(shard + 1), pane(Kind.FINE, BASE): of(1)}
        await Writer(client, shard).write(meta(1, BASE + shard), ledgers)
    found = await facts(reader)
    assert (found.total, found.fine) == (of(1 + 2 + 13), {BASE: of(3)})
    await Writer(client, 1).write(meta(2), {pane(Kind.TOTAL): of(20)})
    assert (await facts(reader)).total == of(1 + 20 + 13)


async def test_a_shard_that_was_lost_takes_only_its_own_part_away(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    for shard in (0, 1):
        await Writer(client, shard).write(meta(1), {pane(Kind.MATURE, BASE): of(shard + 1)})
    await read(reader)
    lost = Writer(client, 1)
    await client.delete(lost.keys.meta, lost.keys.ledger(str(pane(Kind.MATURE, BASE))))
    await client.delete(lost.keys.touched(index_of(Kind.MATURE)))
    found = await facts(reader)
    assert (found.cohorts, found.mature) == ({BASE: of(1)}, of(1))
    assert (await read(reader)).shards == 1


async def test_clocks_are_those_of_the_slowest_shard(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    for shard, matured in ((0, BASE - 5), (1, BASE - 9)):
        await Writer(client, shard).write(meta(1, BASE + shard, matured=matured))
    snapshot = (await read(reader)).snapshots["e"]
    assert (snapshot.watermark, snapshot.matured) == (BASE, BASE - 9)
    await Writer(client, 2).write(meta(1, BASE + 2))
    assert (await read(reader)).snapshots["e"].matured is None  # nothing is final on the third


async def test_landmark_panes_are_kept_apart_and_final_as_far_as_on_the_slowest_shard(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    soon, later = Duration(5_000), Duration(20_000)
    labels = msgspec.structs.replace(EXPERIMENT.labels, landmarks=(soon, later))
    experiment = msgspec.structs.replace(EXPERIMENT, labels=labels)
    for shard in (0, 1):
        known = meta(1, matured=BASE - 9)
        known.landmarks = {"e": {5_000: BASE - shard} | ({20_000: BASE} if shard else {})}
        ledgers = {
            pane(Kind.MATURE, BASE): of(1),
            PaneName(Kind.LANDMARK, "e", "a", BASE, 5_000): of(10 + shard),
            PaneName(Kind.LANDMARK, "e", "a", BASE, 20_000): of(100),
            PaneName(Kind.LANDMARK, "e", "a", BASE, 777): of(9),  # was declared once
        }
        await Writer(client, shard).write(known, ledgers)
    snapshot = (await reader.read([experiment])).snapshots["e"]
    found = snapshot.variants["a"]
    assert found.landmarks == {5_000: {BASE: of(21)}, 20_000: {BASE: of(200)}}
    assert (found.cohorts, found.mature) == ({BASE: of(2)}, of(2))
    assert snapshot.landmarks_matured == {5_000: BASE - 1}
    await Writer(client).write(meta(2), {PaneName(Kind.LANDMARK, "e", "a", BASE, 5_000): of(20)})
    again = (await reader.read([experiment])).snapshots["e"].variants["a"]
    assert again.landmarks[5_000] == {BASE: of(31)}
    assert found.landmarks[5_000] == {BASE: of(21)}  # a snapshot stays as it was


async def test_last_seen_and_completeness_are_those_of_any_shard(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    first = meta(1)
    first.last_outcome, first.last_prediction, first.tallies = 5, {"e": 7}, {"late": 1}
    second = meta(1)
    second.last_outcome, second.complete_since, second.tallies = 6, 3, {"late": 2, "ignored": 1}
    for shard, one in enumerate((first, second)):
        await Writer(client, shard).write(one)
    fleet = await read(reader)
    snapshot = fleet.snapshots["e"]
    assert (snapshot.last_outcome, snapshot.last_prediction, snapshot.complete_since) == (6, 7, 3)
    assert fleet.tallies == {"late": 3, "ignored": 1}


async def test_a_version_was_last_seen_when_any_shard_saw_it(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    seen = ({"1": BASE, "2": BASE + 5}, {"1": BASE + 9}, {"3": BASE + 1})
    for shard, versions in enumerate(seen):
        known = meta(1)
        known.versions = {"e": {"a": versions, "gone": {"1": BASE}}, "other": {"a": {"4": BASE}}}
        await Writer(client, shard).write(known)
    found = await facts(reader)
    assert found.versions == {"1": BASE + 9, "2": BASE + 5, "3": BASE + 1}
    assert (await facts(reader, "b")).versions == {}


async def test_of_the_versions_of_all_shards_the_newest_are_kept(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    for shard in range(3):
        known = meta(1)
        known.versions = {"e": {"a": {f"{shard}-{n}": BASE + 10 * n + shard for n in range(8)}}}
        await Writer(client, shard).write(known)
    found = (await facts(reader)).versions
    assert set(found) == {f"{shard}-{n}" for shard in range(3) for n in (6, 7)} | {"2-5", "1-5"}


async def test_a_shard_that_was_lost_takes_what_it_saw_away(writer: Writer, reader: Reader) -> None:
    known = meta(2)
    known.versions = {"e": {"a": {"1": BASE}}}
    await writer.write(known)
    before = await facts(reader)
    await writer.write(meta(1, lineage="two"))
    assert (before.versions, (await facts(reader)).versions) == ({"1": BASE}, {})


async def test_what_waits_is_counted_over_all_shards(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    for shard in (0, 1):
        one = Writer(client, shard)
        await client.hset(one.keys.pending, mapping={str(n): "" for n in range(3 + shard)})
        counted = meta(1)
        counted.waiting = shard + 1
        await one.write(counted)
    fleet = await read(reader)
    assert (fleet.pending, fleet.waiting, fleet.shards) == (7, 3, 2)


# --- panes in time --------------------------------------------------------------------------------


async def test_panes_behind_the_watermark_are_forgotten(writer: Writer, reader: Reader) -> None:
    await writer.write(meta(1), {pane(Kind.FINE, BASE): of(1), pane(Kind.COARSE, BASE): of(1)})
    for kind, kept in ((Kind.FINE, "fine"), (Kind.COARSE, "coarse")):
        await writer.write(meta(2, BASE + RETENTION[kind]))
        assert getattr(await facts(reader), kept)
        await writer.write(meta(3, BASE + RETENTION[kind] + 1))
        assert not getattr(await facts(reader), kept)


async def test_what_expired_is_forgotten_on_every_shard_and_counts_anew_when_it_is_written_again(
    client: fakeredis.FakeAsyncRedis, reader: Reader
) -> None:
    names = [pane(Kind.FINE, BASE), pane(Kind.FINE, BASE + FINE_WIDTH), pane(Kind.TOTAL)]
    for shard in (0, 1):
        await Writer(client, shard).write(meta(1), {name: of(shard + 1) for name in names})
    assert (await facts(reader)).fine == {BASE: of(3), BASE + FINE_WIDTH: of(3)}
    late = BASE + RETENTION[Kind.FINE] + 1
    for shard in (0, 1):
        await Writer(client, shard).write(meta(2, late))
    found = await facts(reader)
    assert (found.fine, found.total) == ({BASE + FINE_WIDTH: of(3)}, of(3))
    for shard in (0, 1):  # rebuilt from the log: the clock is back where it was
        await Writer(client, shard).write(meta(3, BASE, lineage="two"), {names[0]: of(4)})
    assert (await facts(reader)).fine[BASE] == of(8)


async def test_more_ledgers_than_are_fetched_at_once_are_all_found(
    writer: Writer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.reader.FETCHED_AT_ONCE", 3)
    cohorts = {pane(Kind.MATURE, BASE + n * COHORT): of(n + 1) for n in range(10)}
    await writer.write(meta(1), cohorts)
    found = await facts(reader)
    assert found.cohorts == {name.start: ledger for name, ledger in cohorts.items()}
    assert found.mature == of(55)


async def test_cohorts_are_kept_for_ever_and_added_up(writer: Writer, reader: Reader) -> None:
    cohorts = {pane(Kind.MATURE, BASE + n * COHORT): of(n + 1) for n in range(40)}
    for seq, (name, ledger) in enumerate(cohorts.items(), start=1):
        await writer.write(meta(seq, name.start + COHORT, matured=name.start), {name: ledger})
        assert (await facts(reader)).mature == of(sum(range(seq + 1)))
    found = await facts(reader)
    assert len(found.cohorts) == 40
    assert found.cohort_window(BASE + 40 * COHORT, 2 * COHORT, COHORT) == of(39 + 40)


async def test_an_old_cohort_that_is_written_again_counts_once(
    writer: Writer, reader: Reader
) -> None:
    cohorts = {pane(Kind.MATURE, BASE + n * COHORT): of(1) for n in range(5)}
    await writer.write(meta(1, matured=BASE + 5 * COHORT), cohorts)
    assert (await facts(reader)).mature == of(5)
    await writer.write(meta(2, matured=BASE + 6 * COHORT), {pane(Kind.MATURE, BASE): of(3)})
    assert (await facts(reader)).mature == of(7)
    await writer.write(meta(3, matured=BASE + 7 * COHORT))
    assert (await facts(reader)).mature == of(7)


async def test_a_snapshot_stays_as_it_was(writer: Writer, reader: Reader) -> None:
    await writer.write(meta(1), {pane(Kind.FINE, BASE): of(1), pane(Kind.MATURE, BASE): of(1)})
    before = await facts(reader)
    await writer.write(meta(2), {pane(Kind.FINE, BASE): of(2), pane(Kind.MATURE, BASE): of(2)})
    await facts(reader)
    assert (before.fine, before.cohorts, before.mature) == ({BASE: of(1)}, {BASE: of(1)}, of(1))


async def test_cohorts_are_one_mapping_until_one_of_them_changes(
    writer: Writer, reader: Reader
) -> None:
    await writer.write(meta(1), {pane(Kind.MATURE, BASE): of(1), pane(Kind.FINE, BASE): of(1)})
    first = await facts(reader)
    await writer.write(meta(2), {pane(Kind.FINE, BASE): of(2), pane(Kind.TOTAL): of(2)})
    await writer.write(meta(3), {pane(Kind.MATURE, BASE, "b"): of(2)})
    second = await facts(reader)
    assert second.fine != first.fine
    assert second.cohorts is first.cohorts
    await writer.write(meta(4), {pane(Kind.MATURE, BASE): of(5)})
    third = await facts(reader)
    assert third.cohorts is not second.cohorts
    assert (second.cohorts, third.cohorts) == ({BASE: of(1)}, {BASE: of(5)})


def fine_and_coarse() -> VariantFacts:
    fine = {BASE + n * FINE_WIDTH: of(1) for n in range(-400, 10)}
    coarse = {BASE + n * COARSE_WIDTH: of(100) for n in range(-20, 1)}
    return VariantFacts(fine=fine, coarse=coarse)


@pytest.mark.parametrize(
    ("end", "width", "expected"),
    [
        (BASE, FINE_WIDTH, 1),
        (BASE + FINE_WIDTH, FINE_WIDTH, 1),
        (BASE + 1, FINE_WIDTH, 1),
        (BASE, 6 * FINE_WIDTH, 6),
        (BASE, HOUR, 360),
        (BASE, HOUR + 1, 600),
        (BASE, 2 * HOUR, 1200),
        (BASE + 10**9, HOUR, 0),
    ],
)
def test_windows_take_whole_panes_that_start_in_them(end: int, width: int, expected: int) -> None:
    found = fine_and_coarse()
    assert found.window(end, width).predictions == expected
    assert found.predictions(end, width) == expected
    assert found.labelled(end, width) == expected


def test_a_cohort_window_takes_at_least_one_cohort() -> None:
    found = VariantFacts(cohorts={BASE + n * COHORT: of(n + 1) for n in range(3)})
    assert found.cohort_window(BASE + 3 * COHORT, 1, COHORT) == of(3)
    assert found.cohort_window(BASE + 3 * COHORT, COHORT, COHORT) == of(3)
    assert found.cohort_window(BASE + 3 * COHORT, 2 * COHORT, COHORT) == of(5)
    assert found.cohort_window(BASE + 2 * COHORT, 99 * COHORT, COHORT) == of(3)
