"""The store of judgement, over both clients: all or nothing, and never over somebody else's word."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.decisions import decision

from alerts.book import Book
from alerts.order import Order
from alerts.standing import Standing, State
from alerts.store import AlertStore, StaleBookError
from stream.store import Store


def kept(store: Store, deployment: str = "shop") -> AlertStore:
    return AlertStore(store.client, deployment)


def order(name: str, decided_at: int = 1) -> Order:
    return Order(
        id=name, experiment="offers", treatment="new", control="old", decided_at=decided_at
    )


HELD = Book(standings={"new": Standing(state=State.HOLD, causes=("labels stalled",))}, decisions=1)


async def test_where_nothing_is_kept_the_book_is_empty(store: Store) -> None:
    assert await kept(store).load("offers") == Book()
    assert await kept(store).decisions("offers") == []
    assert await kept(store).outbox("offers") == []


async def test_a_book_comes_back_as_it_was_written_with_the_next_version(store: Store) -> None:
    written = await kept(store).save("offers", HELD)
    assert written.version == 1
    assert await kept(store).load("offers") == written
    assert written.standings == HELD.standings


async def test_book_decision_and_order_are_written_together(store: Store) -> None:
    alerts = kept(store)
    await alerts.save("offers", HELD, decisions=[decision(1)], orders=[order("a")])
    assert await alerts.decisions("offers") == [decision(1)]
    assert await alerts.outbox("offers") == [order("a")]


async def test_decisions_stay_in_the_order_in_which_they_were_made(store: Store) -> None:
    alerts, book = kept(store), Book()
    for first in range(0, 10, 2):
        made = [decision(first), decision(first + 1)]
        book = await alerts.save("offers", book, decisions=made)
    assert [found.at for found in await alerts.decisions("offers")] == list(range(10))
    assert [found.at for found in await alerts.decisions("offers", newest=3)] == [7, 8, 9]


async def test_orders_come_oldest_first_until_they_are_settled(store: Store) -> None:
    alerts = kept(store)
    orders = [order("b", 2), order("c", 1), order("a", 2)]
    book = await alerts.save("offers", Book(), orders=orders)
    assert [found.id for found in await alerts.outbox("offers")] == ["c", "a", "b"]
    book = await alerts.save("offers", book, settled=["c", "b"], orders=[order("d", 3)])
    assert [found.id for found in await alerts.outbox("offers")] == ["a", "d"]
    await alerts.save("offers", book, settled=["a", "never seen"])
    assert [found.id for found in await alerts.outbox("offers")] == ["d"]


async def test_an_order_that_is_written_again_is_still_one_order(store: Store) -> None:
    alerts = kept(store)
    book = await alerts.save("offers", Book(), orders=[order("a")])
    await alerts.save("offers", book, orders=[order("a")])
    assert await alerts.outbox("offers") == [order("a")]


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_book_made_from_another_version_changes_nothing(store: Store, version: int) -> None:
    alerts = kept(store)
    written = await alerts.save("offers", await alerts.save("offers", Book()))
    stale = Book(version=version, decisions=99)
    with pytest.raises(StaleBookError, match=f"offers: expected version {version}, found 2"):
        await alerts.save(
            "offers", stale, decisions=[decision(1)], orders=[order("a")], settled=["b"]
        )
    assert await alerts.load("offers") == written
    assert await alerts.decisions("offers") == []
    assert await alerts.outbox("offers") == []


async def test_of_two_who_change_the_same_book_one_is_refused(store: Store) -> None:
    first, second = kept(store), kept(store)
    await first.save("offers", Book(), decisions=[decision(1)])
    with pytest.raises(StaleBookError):
        await second.save("offers", Book(), decisions=[decision(2)])
    assert await first.decisions("offers") == [decision(1)]


async def test_of_many_who_write_at_once_exactly_one_wins(store: Store) -> None:
    alerts = kept(store)
    made = await asyncio.gather(
        *(
            alerts.save("offers", Book(), decisions=[decision(n)], orders=[order(str(n))])
            for n in range(8)
        ),
        return_exceptions=True,
    )
    losers = [found for found in made if isinstance(found, StaleBookError)]
    assert len(losers) == 7
    (winner,) = await alerts.decisions("offers")
    assert await alerts.outbox("offers") == [order(str(winner.at))]
    assert (await alerts.load("offers")).version == 1


class Meddler:
    """A client whose transactions are overtaken between the look at the version and the writing."""

    def __init__(self, client: Any, meddle: Any) -> None:
        self._client, self._meddle = client, meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        execute = pipe.execute

        async def overtaken(*args: Any) -> Any:
            await self._meddle()
            return await execute(*args)

        pipe.execute = overtaken
        return pipe


async def test_a_change_in_the_last_moment_is_noticed(store: Store) -> None:
    alerts = kept(store)

    async def meddle() -> None:
        await alerts.save("offers", Book(), decisions=[decision(1)])

    slow = AlertStore(Meddler(store.client, meddle), "shop")  # type: ignore[arg-type]
    with pytest.raises(StaleBookError, match="changed while it was written"):
        await slow.save("offers", Book(), decisions=[decision(2)], orders=[order("b")])
    assert await alerts.decisions("offers") == [decision(1)]
    assert await alerts.outbox("offers") == []


async def test_a_connection_that_breaks_before_the_writing_leaves_nothing_behind(
    store: Store,
) -> None:
    async def meddle() -> None:
        raise RedisConnectionError

    broken = AlertStore(Meddler(store.client, meddle), "shop")  # type: ignore[arg-type]
    with pytest.raises(RedisConnectionError):
        await broken.save("offers", HELD, decisions=[decision(1)], orders=[order("a")])
    alerts = kept(store)
    assert await alerts.load("offers") == Book()
    assert await alerts.outbox("offers") == []
    await alerts.save("offers", HELD)


async def test_a_refused_writer_leaves_its_connection_usable(store: Store) -> None:
    alerts = kept(store)
    book = await alerts.save("offers", Book())
    for _ in range(20):
        with pytest.raises(StaleBookError):
            await alerts.save("offers", Book())
    assert (await alerts.save("offers", book)).version == 2


async def test_experiments_and_deployments_are_kept_apart(store: Store) -> None:
    await kept(store).save("offers", HELD, decisions=[decision(1)], orders=[order("a")])
    for other, name in ((kept(store), "offers2"), (kept(store, "shop2"), "offers")):
        assert await other.load(name) == Book()
        assert await other.decisions(name) == []
        assert await other.outbox(name) == []


async def test_everything_of_an_experiment_lies_in_one_slot(store: Store) -> None:
    await kept(store).save("offers", HELD, decisions=[decision(1)], orders=[order("a")])
    keys = [key.decode() async for key in store.client.scan_iter()]
    assert sorted(keys) == [
        "{shop:experiment:offers}:audit",
        "{shop:experiment:offers}:book",
        "{shop:experiment:offers}:outbox",
        "{shop:experiment:offers}:version",
    ]


async def test_a_book_of_a_later_version_of_the_program_can_be_read(store: Store) -> None:
    key = "{shop:experiment:offers}:book"
    await store.client.set(key, b'{"version": 7, "decisions": 3, "of_tomorrow": [1]}')
    assert await kept(store).load("offers") == Book(version=7, decisions=3)


async def test_what_did_not_change_is_not_fetched_again(store: Store) -> None:
    mine = kept(store)
    first = await mine.save("offers", HELD)
    known = {"offers": first, "loans": Book()}
    same = await mine.refresh(known)
    assert same["offers"] is first
    assert same["loans"] is known["loans"]
    second = await mine.save("offers", first)
    assert (await mine.refresh(known))["offers"] == second


async def test_a_book_that_got_lost_is_an_empty_one(store: Store) -> None:
    first = await kept(store).save("offers", HELD)
    await store.client.flushdb()
    assert await kept(store).refresh({"offers": first}) == {"offers": Book()}


async def test_what_got_lost_can_be_put_back_once(store: Store) -> None:
    mine = kept(store)
    book = await mine.save("offers", HELD, decisions=[decision(1)])
    await store.client.flushdb()
    back = await mine.put_back(
        "offers", book, 0, decisions=[decision(1)], evidence={"offers:new:1:1": b"why"}
    )
    assert back.standings == book.standings
    assert await mine.load("offers") == back
    assert await mine.decisions("offers") == [decision(1)]
    assert await mine.evidence("offers", "offers:new:1:1") == b"why"
    with pytest.raises(StaleBookError):
        await mine.put_back("offers", book, 0)
    assert await mine.decisions("offers") == [decision(1)]


async def test_a_decision_is_found_by_its_id_with_what_it_rests_on(store: Store) -> None:
    mine, name = kept(store), "offers:new:2:2"
    await mine.save(
        "offers", HELD, decisions=[decision(1), decision(2)], evidence={name: b"\x00\xff"}
    )
    assert await mine.decision("offers", name) == decision(2)
    assert await mine.evidence("offers", name) == b"\x00\xff"
    assert await mine.decision("offers", "offers:new:3:3") is None
    assert await mine.evidence("offers", "offers:new:1:1") is None


async def test_how_far_the_control_log_is_is_remembered(store: Store) -> None:
    assert await kept(store).logged("offers") == 0
    await kept(store).note_logged("offers", 7)
    assert await kept(store).logged("offers") == 7
