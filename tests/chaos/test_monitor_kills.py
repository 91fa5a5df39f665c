"""Monitors that die or freeze at any step, a Redis that forgets or is away, routers that misbehave: one rollback."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.deployment import Deployment
from support.monitors import MonitorProcess, Nursery
from support.servers import KafkaServer, RedisServer
from support.servers.base import or_skip
from support.topics import Topics

from alerts.standing import ACTING, State


AT_ONCE = 14
"""Deployments that live side by side."""

BAD = 0.5
"""The share of a bad minute's predictions that fail."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """For deployments that do it no harm."""
    with or_skip(), RedisServer() as server:
        yield server


Make = Callable[..., Deployment]


@pytest.fixture
def deployment(nursery: Nursery, redis: RedisServer, tmp_path: Path) -> Make:
    """Makes deployments in the Redis that is shared, or in another one."""

    def make(given: RedisServer = redis, **options: Any) -> Deployment:
        folder = tmp_path / f"test-{secrets.token_hex(5)}"
        folder.mkdir()
        return Deployment(nursery, given.url, folder, **options)

    return make


# --- dying ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What arrives, minute by minute, until a treatment is rolled back; and what is written on the way."""

    minutes: tuple[float | None, ...]
    """Shares of failing predictions; None: nothing arrives."""
    saved: tuple[str, ...]
    """Where a monitor dies before and after it writes this."""
    options: str = ""
    guardrails: tuple[str, ...] = ()
    fails: bool = False
    """The router answers 500 until somebody says that the rollback fails."""

    async def happen(self, at: Deployment) -> None:
        """Let it arrive, and wait until all is done."""
        at.router.manner["offers"] = "fails" if self.fails else "takes"
        for errors in self.minutes:
            await at.arrive(errors)
            if self.fails:
                await self._mend(at)
            await at.until(at.looked, "everything was looked at")
        await finish(at)

    async def _mend(self, at: Deployment) -> None:
        """Let the router take orders again once it is told that one has failed."""
        await at.until(at.looked_at, "it was looked at")
        if (await at.standing()).state in ACTING:
            await at.until_state(State.ROLLBACK_FAILED)
            at.router.manner["offers"] = "takes"

    @property
    def points(self) -> tuple[str, ...]:
        """Where a monitor dies."""
        return tuple(f"{when} save {what}" for what in self.saved for when in ("before", "after"))


async def finish(at: Deployment, name: str = "offers") -> None:
    """Let minutes go by until the treatment is rolled back, and nothing is left to be done."""
    for _ in range(6):
        if (await at.standing(name)).state is State.ROLLED_BACK:
            break
        await at.arrive(BAD)
        await at.until(at.looked, "everything was looked at")

    async def settled() -> bool:
        done = (await at.standing(name)).state is State.ROLLED_BACK
        return done and not await at.kept.outbox(name)

    await at.until(settled, "it is rolled back, and no order is left")


HARM = Story(
    (0, 0, BAD, BAD), ("healthy", "suspect", "rolling_back", "verifying", "rolled_back", "settled")
)
REFUSED = Story((0, BAD, BAD), ("rollback_failed",), fails=True)
BLACKOUT = Story((0, None, 0, BAD, BAD), ("hold", "release"), "hold: {silence: 1m}")
PASSING = "{metric: error_rate, test: sequential, margin: 0.3}"
PROMOTED = Story(
    (0, 0, 0, BAD, BAD), ("pass",), "testing: {min_duration: 1m, planned: 60}", (PASSING,)
)
STORIES = {"harm": HARM, "refused": REFUSED, "blackout": BLACKOUT, "promoted": PROMOTED}

POSTED = ("before post", "amid post", "after post")
DEATHS = [(name, point) for name, story in STORIES.items() for point in story.points]
DEATHS += [("harm", point) for point in POSTED] + [("refused", "after post")]


async def undisturbed(at: Deployment, story: Story) -> tuple[Any, ...]:
    """What comes of a story when nobody dies."""
    async with at:
        await at.lead()
        await story.happen(at)
        await at.check()
        return await outcome(at)


async def outcome(at: Deployment) -> tuple[Any, ...]:
    """Everything that was decided, and the state in the end."""
    standing = await at.standing()
    return await at.trail(), standing.state, standing.verified, standing.epoch, standing.causes


async def with_a_death(at: Deployment, story: Story, point: str) -> tuple[Any, ...]:
    """What comes of a story when the active monitor dies at a point, and a standby takes over."""
    async with at:
        doomed = await at.lead("" if point.startswith("amid") else point)
        at.start()
        if point.startswith("amid"):
            at.router.on_order = once(doomed.kill)
        await story.happen(at)
        await at.until_dead(doomed)
        assert point.startswith("amid") or doomed.reached_its_point, at.tails()
        await at.check()
        return await outcome(at)


def once(act: Callable[[], None]) -> Callable[[], None]:
    """`act`, the first time only."""
    left = [act]

    def acted() -> None:
        if left:
            left.pop()()

    return acted


async def side_by_side(lives: Mapping[Any, Awaitable[Any]]) -> dict[Any, Any]:
    """What comes of each, some at a time; all failures are told."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(life: Awaitable[Any]) -> Any:
        async with turns:
            return await life

    results = await asyncio.gather(*map(one, lives.values()), return_exceptions=True)
    failed = [each for each in results if isinstance(each, BaseException)]
    if failed:
        raise BaseExceptionGroup("lives", failed)
    return dict(zip(lives, results, strict=True))


def same(came: dict[Any, Any]) -> None:
    """The same came of all lives as of the undisturbed one, which is called ""."""
    different = {name: each for name, each in came.items() if each != came[""]}
    assert not different, "\n".join(map(str, [came[""], *different.items()]))


async def test_wherever_a_monitor_dies_another_goes_on_and_there_is_one_rollback(
    deployment: Make,
) -> None:
    def made(story: Story) -> Deployment:
        return deployment(options=story.options, guardrails=story.guardrails)

    lives = {name: undisturbed(made(story), story) for name, story in STORIES.items()} | {
        (name, point): with_a_death(made(STORIES[name]), STORIES[name], point)
        for name, point in DEATHS
    }
    came = await side_by_side(lives)
    assert {name: came[name][1:3] for name in STORIES} == dict.fromkeys(
        STORIES, (State.ROLLED_BACK, True)
    )
    different = {each: came[each] for each in DEATHS if came[each] != came[each[0]]}
    assert not different, f"expected {came}"


# --- freezing ---------------------------------------------------------------------------------------

FROZEN_AT = (
    "before save suspect",
    "before save rolling_back",
    "after save rolling_back",
    "before post",
    "after post",
    "before save verifying",
    "before save rolled_back",
    "before save settled",
)


async def with_a_freeze(at: Deployment, point: str) -> tuple[Any, ...]:
    """What comes of it when the active monitor freezes at a point, and wakes up when all is over."""
    async with at:
        frozen = await at.lead(point, freezes=True)
        standby = at.start()
        await HARM.happen(at)
        assert frozen.reached_its_point, at.tails()
        assert frozen.is_frozen
        written = await at.written()
        frozen.thaw()
        await at.until_ticks(frozen)
        await at.until_ticks(standby)
        assert await at.written() == written, "the one that was frozen has written"
        assert await at.leads(standby)
        await at.check()
        return await outcome(at)


async def test_a_monitor_that_was_frozen_for_longer_than_its_lease_writes_nothing_and_stands_by(
    deployment: Make,
) -> None:
    lives = {"": undisturbed(deployment(), HARM)} | {
        point: with_a_freeze(deployment(), point) for point in FROZEN_AT
    }
    same(await side_by_side(lives))


async def test_a_standby_that_took_over_leaves_again_when_it_is_frozen_itself(
    deployment: Make,
) -> None:
    async with deployment() as at:
        first = await at.lead()
        second = at.start()
        await at.arrive()
        await at.until(at.looked, "everything was looked at")
        for active, other in ((first, second), (second, first)):
            active.freeze()
            await at.until_leads(other)
            await at.arrive()
            await at.until(at.looked, "everything was looked at")
            active.thaw()
            await at.until_ticks(active)
        assert await at.leads(first)
        await Story((BAD, BAD), ()).happen(at)
        await at.check()


# --- taking over ------------------------------------------------------------------------------------


async def test_a_standby_has_the_lease_and_sends_the_order_soon_after_the_active_one_was_killed(
    deployment: Make,
) -> None:
    """How soon is measured by `benchmarks/takeover.py`."""
    async with deployment() as at:
        active = await at.lead()
        standby = at.start()
        await at.until_ticks(standby)
        for errors in (0, 0, BAD):
            await at.arrive(errors)
            await at.until(at.looked, "everything was looked at")
        active.kill()
        await at.arrive(BAD)
        await at.until_leads(standby)

        async def ordered() -> bool:
            return bool(at.router.effects["offers"])

        await at.until(ordered, "the order comes")
        await finish(at)
        await at.check()


# --- a Redis that forgets ---------------------------------------------------------------------------

MANNERS = {State.ROLLING_BACK: "hangs", State.ROLLBACK_FAILED: "fails"}
"""How the router must be for a treatment to be caught in a state."""


async def go_to(at: Deployment, state: State) -> None:
    """Let minutes go by until the treatment is in `state`."""
    at.router.manner["offers"] = MANNERS.get(state, "takes")
    for errors in (0, 0, BAD, BAD, BAD, BAD):
        await at.arrive(errors)
        await at.until(at.looked_at, "it was looked at")
        if state not in MANNERS:
            await at.until(at.looked, "everything was looked at")
        elif (await at.standing()).state in ACTING:
            await at.until_state(state)
        if (await at.standing()).state is state:
            return
    raise AssertionError(f"it never was {state}: {await at.trail()}\n{at.tails()}")


async def go_on(at: Deployment, state: State) -> None:
    """Let the same minutes go by as in `HARM`, from `state` on."""
    at.router.manner["offers"] = "takes"
    at.router.release()
    # A new monitor may first have to look again at what its predecessor did not come to log.
    await at.until(at.looked, "everything was looked at")
    rest = {State.HEALTHY: (0, BAD, BAD), State.SUSPECT: (BAD,)}
    await Story(rest.get(state, ()), ()).happen(at)


async def with_a_flush(make: Make, state: State) -> tuple[Any, ...]:
    """What comes of it when Redis loses everything while a treatment is in `state`."""
    with RedisServer() as server:
        async with make(server) as at:
            await at.lead()
            await go_to(at, state)
            await at.lose_everything()
            await at.until_remembered()
            await go_on(at, state)
            await at.check()
            return await outcome(at)


FLUSHED_IN = (
    State.HEALTHY,
    State.SUSPECT,
    State.ROLLING_BACK,
    State.ROLLBACK_FAILED,
    State.VERIFYING,
    State.ROLLED_BACK,
)


async def test_a_redis_that_forgets_everything_beside_a_running_monitor_changes_nothing(
    deployment: Make,
) -> None:
    lives = {"": undisturbed(deployment(), HARM)} | {
        state: with_a_flush(deployment, state) for state in FLUSHED_IN
    }
    came = await side_by_side(lives)
    failed = came.pop(State.ROLLBACK_FAILED)
    assert [action for _, action, *_ in failed[0]] == [
        "rollback",
        "rollback_failed",
        "accepted",
        "rolled_back",
    ]
    same(came)


async def with_a_flush_amid(make: Make, point: str) -> tuple[Any, ...]:
    """What comes of it when Redis loses everything between what a tick reads and what it writes."""
    with RedisServer() as server:
        async with make(server) as at:
            frozen = await at.lead(point, freezes=True)
            happening = asyncio.create_task(HARM.happen(at))

            async def reached() -> bool:
                return frozen.reached_its_point and frozen.is_frozen

            await at.until(reached, f"it comes to {point}")
            await at.lose_everything()
            frozen.thaw()
            await at.until_remembered()
            await happening
            await at.check()
            return await outcome(at)


async def test_a_redis_that_forgets_everything_in_the_middle_of_a_tick_changes_nothing(
    deployment: Make,
) -> None:
    points = [point for point in FROZEN_AT if point.startswith("before save")]
    lives = {"": undisturbed(deployment(), HARM)} | {
        point: with_a_flush_amid(deployment, point) for point in points
    }
    same(await side_by_side(lives))


async def restarted(at: Deployment, active: MonitorProcess) -> MonitorProcess:
    """A new monitor, in the place of one that is killed while Redis loses everything."""
    active.kill()
    await at.until_dead(active)
    await at.lose_everything()
    fresh = await at.lead()
    await at.until_back()
    return fresh


async def test_without_memory_and_control_log_it_is_judged_anew_from_the_same_events(
    deployment: Make,
) -> None:
    with RedisServer() as server:
        async with deployment(server) as at:
            active = await at.lead()
            await go_to(at, State.ROLLED_BACK)
            await restarted(at, active)
            await finish(at)
            assert len(at.router.attempts["offers"]) == 2, "nothing was remembered"
            await at.check()


async def test_when_redis_has_forgotten_the_leases_one_monitor_leads_and_the_other_can_take_over(
    deployment: Make,
) -> None:
    with RedisServer() as server:
        async with deployment(server) as at:
            first = await at.lead()
            second = at.start()
            await at.until_ticks(second)
            await at.arrive()
            await at.until(at.looked, "everything was looked at")
            first.freeze()
            await at.lose_everything()
            await at.until_leads(second)
            first.thaw()
            await at.until_ticks(first)
            second.kill()
            await at.until_leads(first)
            await Story((BAD, BAD), ()).happen(at)
            await at.check()


async def test_without_memory_and_control_log_a_flag_file_keeps_off_what_was_rolled_back(
    deployment: Make, tmp_path: Path
) -> None:
    flags = tmp_path / "flags.json"
    with RedisServer() as server:
        action = f"action: flagd, flagd: {{path: {flags}}}"
        async with deployment(server, action=action) as at:
            active = await at.lead()
            for errors in (0, 0, BAD, BAD):
                await at.arrive(errors)
                await at.until(at.looked, "everything was looked at")
            at.router.effects["offers"] = ["by the file"]  # the flag's readers follow it
            await finish(at)
            before = await at.standing()
            written = flags.read_text()
            await restarted(at, active)
            await at.until(at.looked, "everything was looked at")
            after = await at.standing()
            assert after.state is State.ROLLED_BACK
            assert (after.decision, after.epoch) == (before.decision, before.epoch)
            await at.arrive()
            await at.until(at.looked, "everything was looked at")
            assert (await at.standing()).state is State.ROLLED_BACK
            assert flags.read_text() == written


# --- the control log --------------------------------------------------------------------------------


@pytest.fixture
def kafka(broker: KafkaServer) -> Iterator[dict[str, str]]:
    """A Kafka with an empty control log."""
    topics = Topics(broker.servers)
    compacted = {"cleanup.policy": "compact", "max.message.bytes": "2097152"}
    yield {"servers": broker.servers, "control": topics.create("control", configs=compacted)}
    topics.delete()


async def with_a_restart(make: Make, state: State, kafka: dict[str, str]) -> tuple[Any, ...]:
    """What comes of it when a monitor is killed in `state`, Redis loses everything, and another one starts."""
    with RedisServer() as server:
        async with make(server, kafka=kafka) as at:
            active = await at.lead()
            await go_to(at, state)
            await restarted(at, active)
            await go_on(at, state)
            await at.check()
            return await outcome(at)


LOGGED = ("before log rollback", "after log rollback", "before log rolled_back")


async def test_what_was_decided_comes_back_from_the_control_log(
    deployment: Make, kafka: dict[str, str]
) -> None:
    lives: dict[Any, Awaitable[Any]] = {"": undisturbed(deployment(kafka=kafka), HARM)}
    lives |= {
        state: with_a_restart(deployment, state, kafka)
        for state in (State.ROLLING_BACK, State.VERIFYING, State.ROLLED_BACK)
    }
    lives |= {point: with_a_death(deployment(kafka=kafka), HARM, point) for point in LOGGED}
    same(await side_by_side(lives))


# --- a Redis that is away ---------------------------------------------------------------------------

AWAY_S = 5.0
"""Longer than a lease."""


async def with_an_outage(make: Make, state: State, *, killed: bool) -> tuple[Any, ...]:
    """What comes of it when Redis is away in `state`, with two monitors."""
    with RedisServer(append_only=True, fsync="always") as server:
        async with make(server) as at:
            await at.lead()
            at.start()
            await go_to(at, state)
            if killed:
                server.kill()
            else:
                server.suspend()
            at.router.manner["offers"] = "takes"
            at.router.release()
            await asyncio.sleep(AWAY_S)
            server.start()
            server.resume()
            await at.reconnect()
            await go_on(at, state)
            await at.check()
            return await outcome(at)


async def test_a_redis_that_is_away_in_the_middle_of_a_rollback_changes_nothing(
    deployment: Make,
) -> None:
    lives: dict[Any, Awaitable[Any]] = {"": undisturbed(deployment(), HARM)}
    lives |= {
        (state, killed): with_an_outage(deployment, state, killed=killed)
        for state in (State.ROLLING_BACK, State.VERIFYING)
        for killed in (True, False)
    }
    same(await side_by_side(lives))


# --- routers that misbehave -------------------------------------------------------------------------


async def test_each_experiment_goes_its_way_whatever_the_routers_of_others_do(
    deployment: Make,
) -> None:
    manners = ("takes", "hangs", "fails", "drops", "ignores")
    options = "hold: {verify_for: 1m}"
    action = "action: webhook, url: {env: ROLLBACK_URL}, timeout: 60s"
    async with deployment(names=manners, options=options, action=action) as at:
        at.router.manner.update({name: name for name in manners})
        await at.lead()
        for errors in (0, 0, BAD, BAD):
            await at.arrive(errors)
            await at.until(at.looked_at, "it was looked at")
        await at.until_state(State.VERIFYING, name="takes")
        await at.until_state(State.VERIFYING, name="ignores")
        await at.until_state(State.ROLLBACK_FAILED, name="fails")
        await at.until_state(State.ROLLBACK_FAILED, name="drops")
        for _ in range(4):
            await at.arrive(BAD)
            await at.until(at.looked_at, "it was looked at")
        assert await states(at) == {
            "takes": State.ROLLED_BACK,
            "hangs": State.ROLLING_BACK,
            "fails": State.ROLLBACK_FAILED,
            "drops": State.ROLLBACK_FAILED,
            "ignores": State.ROLLBACK_FAILED,
        }
        assert len(at.router.attempts["hangs"]) == 1
        at.router.manner.clear()
        at.router.release()

        async def obeyed() -> bool:
            return all(at.router.effects[name] for name in manners)

        await at.until(obeyed, "all orders have their effect")
        for name in manners:
            await finish(at, name)
            await at.check(name)
        tried = {name: len(at.router.attempts[name]) for name in manners}
        assert min(tried[name] for name in ("fails", "drops", "ignores")) > 1, tried


async def states(at: Deployment) -> dict[str, State]:
    return {name: (await at.standing(name)).state for name in at.names}
