"""Leases: one monitor an experiment, and one that lost its lease writes nothing."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import RedisError

from alerts.book import Book
from alerts.lease import MARGIN_S, Leases
from alerts.store import AlertStore, StaleBookError
from stream.store import Store


NAMES = ("offers", "loans")


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def leases(store: Store, holder: str, clock: Time, ttl_ms: int = 60_000) -> Leases:
    return Leases(store.client, "shop", holder, clock, ttl_ms, first=lambda: 1)


def tokens(made: Leases, names: Sequence[str] = NAMES) -> list[int | None]:
    return [made.token(name) for name in names]


async def test_the_first_who_asks_gets_all_leases_and_the_second_none(store: Store) -> None:
    ann, bob = leases(store, "ann", Time()), leases(store, "bob", Time())
    await ann.renew(NAMES)
    await bob.renew(NAMES)
    assert tokens(ann) == [1, 1]
    assert tokens(bob) == [None, None]
    assert await bob.holders(NAMES) == {"offers": "ann", "loans": "ann"}


async def test_whoever_takes_over_has_a_higher_token(store: Store) -> None:
    ann, bob = leases(store, "ann", Time()), leases(store, "bob", Time())
    await ann.renew(NAMES)
    await ann.release()
    assert tokens(ann) == [None, None]
    await bob.renew(NAMES)
    assert tokens(bob) == [2, 2]
    await ann.renew(NAMES)
    assert tokens(ann) == [None, None]


async def test_renewing_keeps_the_token(store: Store) -> None:
    ann = leases(store, "ann", Time())
    for _ in range(3):
        await ann.renew(NAMES)
    assert tokens(ann) == [1, 1]


async def test_a_lease_that_ran_out_is_taken_by_a_standby(store: Store) -> None:
    ann, bob = leases(store, "ann", Time(), ttl_ms=40), leases(store, "bob", Time())
    await ann.renew(NAMES)
    async with asyncio.timeout(10):
        while tokens(bob) != [2, 2]:
            await asyncio.sleep(0.01)
            await bob.renew(NAMES)
    await ann.renew(NAMES)
    assert tokens(ann) == [None, None]


async def test_a_monitor_that_could_not_renew_no_longer_takes_the_lease_for_its_own(
    store: Store,
) -> None:
    clock = Time()
    ann = leases(store, "ann", clock)
    await ann.renew(NAMES)
    clock.now += 60 - MARGIN_S - 0.01
    assert tokens(ann) == [1, 1]
    clock.now += 0.02
    assert tokens(ann) == [None, None]


async def test_the_time_that_asking_takes_counts(store: Store) -> None:
    clock = Time()
    ann = leases(store, "ann", clock)
    await ann.renew(NAMES)
    begun = clock.now
    await ann.renew(NAMES)
    clock.now = begun + 60
    assert tokens(ann) == [None, None]


async def test_of_many_who_ask_at_once_one_gets_the_lease(store: Store) -> None:
    asking = [leases(store, str(number), Time()) for number in range(8)]
    await asyncio.gather(*(each.renew(NAMES) for each in asking))
    for name in NAMES:
        held = [each.token(name) for each in asking if each.token(name) is not None]
        assert held == [1]


async def test_a_flushed_store_gives_leases_anew(store: Store) -> None:
    ann = leases(store, "ann", Time())
    await ann.renew(NAMES)
    await store.client.flushdb()
    await ann.renew(NAMES)
    assert tokens(ann) == [1, 1]


async def test_a_flushed_store_leaves_nobody_with_the_lease_of_another(store: Store) -> None:
    ann, bob = (Leases(store.client, "shop", name, Time(), 60_000) for name in ("ann", "bob"))
    await ann.renew(NAMES)
    await store.client.flushdb()
    await bob.renew(NAMES)
    await ann.renew(NAMES)
    assert tokens(ann) == [None, None]
    assert await ann.holders(NAMES) == dict.fromkeys(NAMES, "bob")


async def test_who_has_lost_the_lease_writes_nothing(store: Store) -> None:
    ann, bob = leases(store, "ann", Time()), leases(store, "bob", Time())
    kept = AlertStore(store.client, "shop")
    await ann.renew(NAMES)
    old = ann.token("offers")
    book = await kept.save("offers", Book(), fence=old)
    await ann.release()
    await bob.renew(NAMES)
    with pytest.raises(StaleBookError, match="another monitor has taken over"):
        await kept.save("offers", book, fence=old)
    assert await kept.load("offers") == book
    assert (await kept.save("offers", book, fence=bob.token("offers"))).version == 2


async def test_a_takeover_while_something_is_written_wins(store: Store) -> None:
    ann, bob = leases(store, "ann", Time()), leases(store, "bob", Time())
    await ann.renew(["offers"])
    token = ann.token("offers")
    kept = AlertStore(store.client, "shop")
    guard = kept._guard

    async def slow(*given: object) -> None:
        await guard(*given)  # type: ignore[arg-type]
        await ann.release()
        await bob.renew(["offers"])

    kept._guard = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(StaleBookError, match="changed while it was written"):
        await kept.save("offers", Book(), fence=token)


async def test_a_store_that_is_away_is_told() -> None:
    away = Store.at("redis://127.0.0.1:1/0", "shop")
    ann = leases(away, "ann", Time())
    with pytest.raises((RedisError, OSError)):
        await ann.renew(NAMES)
    assert tokens(ann) == [None, None]
    await away.close()


async def test_a_lease_that_is_dropped_while_it_is_renewed_is_taken_anew(store: Store) -> None:
    ann = leases(store, "ann", Time())
    await ann.renew(NAMES)
    renewing = asyncio.create_task(ann.renew(NAMES))
    await asyncio.sleep(0)  # it has asked, and waits
    ann.drop("offers")
    await renewing
    await store.client.delete(*[key async for key in store.client.scan_iter("*:lease:*")])
    await ann.renew(NAMES)
    assert None not in tokens(ann)
