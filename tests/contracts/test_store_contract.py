"""One suite for the store over all of its clients: Redis, Redis Cluster, and the embedded one."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from support.failing import HookedStore

from metrics.layout import Keys, Meta, shards_key
from stream.redis_clients import ClusterClient
from stream.store import ConflictError, Store, StoreUnavailableError


KEYS = Keys("default", 0)
LOST = 3
"""More losses of a connection than would go unnoticed in a pool."""


async def commit(store: Store, meta: Meta, *writes: tuple[Any, ...], shard: int = 0) -> None:
    async with store.session(shard) as session:
        await session.begin()
        await session.commit(meta, writes)


async def meta_of(store: Store, shard: int = 0) -> Meta:
    async with store.session(shard) as session:
        meta, _ = await session.begin()
    return meta


async def answers(store: Store) -> bool:
    """Whether the store works, and gives every question its own answer."""
    async with store.session(0) as session:
        _, replies = await session.begin(("ECHO", "1"), ("ECHO", "2"))
        more = await session.read(("ECHO", "3"))
    return [*replies, *more] == [b"1", b"2", b"3"]


# --- sessions -------------------------------------------------------------------------------------


async def test_a_shard_that_was_never_written_has_an_empty_meta(store: HookedStore) -> None:
    assert await meta_of(store) == Meta()


async def test_a_commit_writes_everything_and_the_meta(store: HookedStore) -> None:
    meta = Meta(seq=7, commit="w", tallies={"late": 3})
    await commit(store, meta, ("SET", KEYS.key("a"), b"1"), ("HSET", KEYS.pending, b"f", b"2"))
    async with store.session(0) as session:
        found, replies = await session.begin(("GET", KEYS.key("a")), ("HGET", KEYS.pending, b"f"))
    assert (found, replies) == (meta, [b"1", b"2"])


async def test_reads_are_answered_in_their_order(store: HookedStore) -> None:
    await commit(store, Meta(seq=1), ("RPUSH", KEYS.key("list"), b"x", b"y"))
    async with store.session(0) as session:
        _, replies = await session.begin(
            ("LRANGE", KEYS.key("list"), 0, -1),
            ("GET", KEYS.key("nothing")),
            ("HMGET", KEYS.pending, b"a", b"b"),
        )
        assert replies == [[b"x", b"y"], None, [None, None]]
        assert await session.read() == []
        assert await session.read(("LLEN", KEYS.key("list"))) == [2]


async def test_any_bytes_are_kept(store: HookedStore) -> None:
    everything = bytes(range(256)) * 50
    await commit(store, Meta(), ("HSET", KEYS.pending, everything, b"", b"\r\n", everything))
    async with store.session(0) as session:
        _, (found,) = await session.begin(("HMGET", KEYS.pending, everything, b"\r\n"))
    assert found == [b"", everything]


async def test_thousands_of_fields_go_in_one_command(store: HookedStore) -> None:
    fields = [str(n).encode() for n in range(20_000)]
    pairs = [part for field in fields for part in (field, b"value-" + field)]
    await commit(store, Meta(), ("HSET", KEYS.pending, *pairs))
    async with store.session(0) as session:
        _, (found,) = await session.begin(("HMGET", KEYS.pending, *fields))
    assert found == [b"value-" + field for field in fields]


async def test_a_session_without_a_commit_writes_nothing(store: HookedStore) -> None:
    async with store.session(0) as session:
        await session.begin()
    assert [key async for key in store.client.scan_iter()] == []


async def test_sessions_on_many_shards_do_not_disturb_each_other(store: HookedStore) -> None:
    async def one(shard: int) -> None:
        for seq in range(1, 6):
            await commit(store, Meta(seq=seq, commit=str(shard)), shard=shard)

    await asyncio.gather(*(one(shard) for shard in range(12)))
    metas = [await meta_of(store, shard) for shard in range(12)]
    assert metas == [Meta(seq=5, commit=str(shard)) for shard in range(12)]


async def test_shards_are_registered_once(store: HookedStore) -> None:
    for shard in (3, 1, 3):
        await store.register(shard)
    assert await store.client.smembers(shards_key(store.deployment)) == {b"1", b"3"}


async def test_deployments_do_not_share_keys(store: HookedStore) -> None:
    await commit(store, Meta(seq=1))
    assert await meta_of(Store(store.client, "other")) == Meta()


async def test_embedded_stores_do_not_share_anything() -> None:
    first, second = Store.embedded(), Store.embedded()
    await commit(first, Meta(seq=1))
    assert await meta_of(second) == Meta()
    await first.close()
    await second.close()


# --- the guard ------------------------------------------------------------------------------------


async def test_a_commit_after_another_worker_s_is_refused_and_writes_nothing(
    store: HookedStore,
) -> None:
    await commit(store, Meta(seq=1))
    async with store.session(0) as session:
        await session.begin()
        await commit(store, Meta(seq=2, commit="other"))
        with pytest.raises(ConflictError, match="shard 0"):
            await session.commit(Meta(seq=2, commit="me"), [("SET", KEYS.key("a"), b"1")])
    assert await meta_of(store) == Meta(seq=2, commit="other")
    assert await store.client.get(KEYS.key("a")) is None


async def test_of_two_first_commits_only_one_is_made(store: HookedStore) -> None:
    async with store.session(0) as first, store.session(0) as second:
        await first.begin()
        await second.begin()
        await second.commit(Meta(seq=1, commit="second"), [])
        with pytest.raises(ConflictError):
            await first.commit(Meta(seq=1, commit="first"), [])
    assert (await meta_of(store)).commit == "second"


async def test_the_same_meta_written_again_is_a_conflict_too(store: HookedStore) -> None:
    await commit(store, Meta(seq=1))
    async with store.session(0) as session:
        await session.begin()
        await commit(store, Meta(seq=1))
        with pytest.raises(ConflictError):
            await session.commit(Meta(seq=2), [])


async def test_a_flush_in_the_middle_is_a_conflict(store: HookedStore) -> None:
    await commit(store, Meta(seq=1))
    async with store.session(0) as session:
        await session.begin()
        await store.client.flushdb()
        with pytest.raises(ConflictError):
            await session.commit(Meta(seq=2), [])
    assert await meta_of(store) == Meta()


async def test_other_shards_and_other_keys_are_not_guarded(store: HookedStore) -> None:
    async with store.session(0) as session:
        await session.begin()
        await commit(store, Meta(seq=9), shard=1)
        await store.client.hset(KEYS.pending, "f", "v")
        await session.commit(Meta(seq=1), [])
    assert (await meta_of(store)).seq == 1


@pytest.mark.parametrize("error", [None, KeyError("mine")])
@pytest.mark.parametrize("commits", [True, False])
async def test_the_watch_ends_with_the_session(
    store: HookedStore, error: Exception | None, commits: bool
) -> None:
    async def disturbed() -> None:
        async with store.session(0) as session:
            await session.begin()
            await store.client.set(KEYS.meta, b'{"seq":2}')
            if commits:
                await session.commit(Meta(seq=2), [])
            if error is not None:
                raise error

    await commit(store, Meta(seq=1))
    with suppress(ConflictError, KeyError):
        await disturbed()
    # Transactions without a watch, on what must be the same connections.
    for _ in range(2):
        async with store.client.pipeline(transaction=True) as pipe:
            pipe.set(KEYS.key("a"), "1")
            assert await pipe.execute() == [True]


async def test_an_error_of_the_caller_passes_as_it_is(store: HookedStore) -> None:
    async def failing() -> None:
        async with store.session(0) as session:
            await session.begin()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await failing()
    assert await answers(store)


# --- error replies --------------------------------------------------------------------------------


async def refused_read(store: Store) -> None:
    async with store.session(0) as session:
        await session.begin(("HGETALL", KEYS.pending), ("ECHO", "more"), ("ECHO", "more"))


async def test_a_read_that_is_refused_does_not_spoil_the_next_session(store: HookedStore) -> None:
    await store.client.set(KEYS.pending, "not a hash")
    with pytest.raises(StoreUnavailableError, match="refused"):
        await refused_read(store)
    assert await answers(store)


async def test_a_transaction_that_cannot_be_queued_writes_nothing(store: HookedStore) -> None:
    with pytest.raises(StoreUnavailableError, match="refused"):
        await commit(store, Meta(seq=1), ("SET", KEYS.key("a"), "1"), ("NOSUCHCOMMAND", "x"))
    assert await meta_of(store) == Meta()
    assert await store.client.get(KEYS.key("a")) is None
    assert await answers(store)


async def test_an_error_inside_a_transaction_is_raised(store: HookedStore) -> None:
    await store.client.set(KEYS.pending, "not a hash")
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        await commit(store, Meta(seq=1), ("HSET", KEYS.pending, "f", "v"))
    assert await answers(store)


# --- lost connections -----------------------------------------------------------------------------


async def lose(store: Store) -> None:
    """Cut all connections of the store but the one that does so."""
    options: dict[str, Any] = {}
    if isinstance(store.client, ClusterClient):
        options["target_nodes"] = ClusterClient.PRIMARIES
    await store.client.client_kill_filter(_type="normal", skipme=True, **options)


async def begin_on_a_lost_connection(store: Store) -> None:
    async with store.session(0) as session:
        await lose(store)
        await session.begin()


async def commit_on_a_lost_connection(store: Store) -> None:
    async with store.session(0) as session:
        await session.begin()
        await lose(store)
        await session.commit(Meta(seq=1), [("SET", KEYS.key("a"), "1")])


async def test_a_connection_lost_before_the_first_exchange_is_told(store: HookedStore) -> None:
    for _ in range(LOST):
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await begin_on_a_lost_connection(store)
    assert await answers(store)


async def test_a_connection_lost_before_the_commit_is_told_and_nothing_is_written(
    store: HookedStore,
) -> None:
    for _ in range(LOST):
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await commit_on_a_lost_connection(store)
    assert await meta_of(store) == Meta()
    assert await answers(store)


async def test_a_connection_lost_before_the_session_ends_is_no_trouble(store: HookedStore) -> None:
    for seq in range(1, LOST + 1):
        async with store.session(0) as session:
            await session.begin()
            await session.commit(Meta(seq=seq), [])
            await lose(store)
    assert (await meta_of(store)).seq == LOST
    assert await answers(store)


async def test_failures_do_not_use_up_connections(store: HookedStore) -> None:
    for _ in range(20):
        with pytest.raises(StoreUnavailableError):
            await begin_on_a_lost_connection(store)
    assert not (await store._pool(KEYS.meta))._in_use_connections


async def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = Store.at(f"redis://127.0.0.1:{free.getsockname()[1]}/0")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        await meta_of(store)
    await store.close()


# --- cancellation ---------------------------------------------------------------------------------


async def test_a_task_cancelled_while_it_waits_for_an_answer_leaves_no_answer_behind(
    store: HookedStore,
) -> None:
    asked = asyncio.Event()

    async def wait_for_ever() -> None:
        async with store.session(0) as session:
            await session.begin()
            asked.set()
            await session.read(("BLPOP", KEYS.key("never"), 30), ("ECHO", "left over"))

    for _ in range(LOST):
        asked.clear()
        task = asyncio.create_task(wait_for_ever())
        await asked.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await answers(store)


async def test_a_cancellation_at_the_end_of_a_session_is_not_swallowed(
    store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on = False

    async def work() -> None:
        nonlocal went_on
        async with store.session(0) as session:
            await session.begin()
            task = asyncio.current_task()

            async def read(*_: Any, **__: Any) -> None:
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

            monkeypatch.setattr(session._connection, "read_response", read)
        went_on = True

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(work())
    assert not went_on
    monkeypatch.undo()
    assert await answers(store)
