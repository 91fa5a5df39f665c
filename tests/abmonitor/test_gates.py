"""Gates: nothing but a verdict promotes or takes back, whatever is asked, and whatever breaks."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from support.eventfiles import SETTINGS, traffic
from support.failing import HookedStore
from support.views import settings_of, view_of

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.canaries import KEPT, Canaries, Canary, Event
from abmonitor.gates import MAX_BODY, MAX_MESSAGE, Gates, routes, verdict
from abmonitor.server import application
from abmonitor.verdict import FRESH_MS, JUDGED_MS, is_undecided
from abmonitor.view import View
from abmonitor.watch import Watch
from alerts.actuators.log import Log
from alerts.book import Decision
from alerts.machine import Command
from alerts.standing import ACTING, Pause, Standing, State


Client = TestClient[Any, Any]
NAME, TREATMENT = "offers", "new"
NOW = 1_772_366_400_000
LATCHED = ACTING | {State.ROLLED_BACK}
WORDS = {
    state: "rollback" if state in LATCHED else "pass" if state is State.PASSED else "hold"
    for state in State
}
PAUSED = Pause("ann", "price change")


@pytest.fixture(scope="module")
def looked() -> View:
    return replace(view_of(traffic(200)), as_of=NOW)


@pytest.fixture(scope="module")
def three() -> View:
    """With two treatments."""
    settings = SETTINGS.replace("{old: 0.5, new: 0.5}", "{old: 0.5, new: 0.3, newer: 0.2}")
    return replace(view_of(traffic(200), settings_of(settings)), as_of=NOW)


def at(view: View, **standings: Standing) -> View:
    """The view with its treatments there, decided by nobody."""
    one = view.experiments[NAME]
    book = msgspec.structs.replace(one.book, standings=standings, looked_at=view.as_of)
    return replace(view, experiments={NAME: replace(one, book=book, decisions=())})


def standing(state: State, **fields: Any) -> Standing:
    return Standing(state=state, epoch=2, **fields)


def dry(view: View) -> View:
    one = view.experiments[NAME]
    breach = msgspec.structs.replace(one.experiment.on_breach, dry_run=True)
    declared = msgspec.structs.replace(one.experiment, on_breach=breach)
    return replace(view, experiments={NAME: replace(one, experiment=declared)})


def decided(name: str, state: State, **fields: Any) -> Decision:
    told: dict[str, Any] = {
        "action": "pass",
        "experiment": NAME,
        "treatment": TREATMENT,
        "at": NOW,
        "reasons": ("every test has passed",),
        "before": State.HEALTHY,
        "epoch": 2,
        "actor": "abmonitor",
        "settings": "",
        "dry_run": False,
        "watermark": None,
        "judgements": {},
        "counts": {},
    }
    return Decision(id=name, state=state, **told | fields)


# --- the verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_only_what_passed_passes_and_only_an_ordered_rollback_is_one(
    looked: View, state: State
) -> None:
    gate = verdict(at(looked, new=standing(state)), None, NAME, NOW)
    assert (gate.verdict, gate.treatment, gate.state) == (WORDS[state], TREATMENT, state)
    assert (gate.epoch, gate.as_of) == (2, NOW)
    assert gate.reasons[0] == f"new is {state.value}"


def test_a_treatment_that_nobody_looked_at_holds(looked: View) -> None:
    assert verdict(at(looked), None, NAME, NOW).verdict == "hold"


@pytest.mark.parametrize("state", State)
def test_a_dry_run_always_holds_and_says_what_it_would_answer(looked: View, state: State) -> None:
    gate = verdict(dry(at(looked, new=standing(state))), None, NAME, NOW)
    assert gate.verdict == "hold"
    told = gate.reasons[0] == f"dry run: would answer {WORDS[state]}"
    assert told == (WORDS[state] != "hold")


@pytest.mark.parametrize("state", State)
def test_in_a_pause_only_a_rollback_that_is_under_way_goes_on(looked: View, state: State) -> None:
    gate = verdict(at(looked, new=standing(state, paused=PAUSED)), None, NAME, NOW)
    assert gate.verdict == ("rollback" if state in ACTING else "hold")
    assert "it is paused" in gate.reasons
    assert PAUSED.actor not in str(gate)


def test_harm_that_waits_for_the_end_of_a_pause_does_not_pass(looked: View) -> None:
    seen = at(looked, new=standing(State.PASSED, latched=("errors",)))
    assert verdict(seen, None, NAME, NOW).verdict == "hold"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("age", [FRESH_MS + 1, -FRESH_MS - 1])
def test_a_view_of_another_time_holds_whatever_it_shows(
    looked: View, state: State, age: int
) -> None:
    gate = verdict(at(looked, new=standing(state)), None, NAME, NOW + age)
    assert gate.verdict == "hold"
    assert "s old" in gate.reasons[0]


@pytest.mark.parametrize("age", [FRESH_MS, -FRESH_MS])
def test_a_view_is_fresh_for_fifteen_seconds(looked: View, age: int) -> None:
    assert verdict(at(looked, new=standing(State.PASSED)), None, NAME, NOW + age).verdict == "pass"


@pytest.mark.parametrize("looked_at", [None, NOW - JUDGED_MS - 1])
def test_what_has_passed_holds_where_nobody_judges_it_any_more(
    looked: View, looked_at: int | None
) -> None:
    seen = at(looked, new=standing(State.PASSED))
    book = msgspec.structs.replace(seen.experiments[NAME].book, looked_at=looked_at)
    seen = replace(seen, experiments={NAME: replace(seen.experiments[NAME], book=book)})
    gate = verdict(seen, None, NAME, NOW)
    assert gate.verdict == "hold"
    assert "nobody has judged it lately" in gate.reasons[0]


@pytest.mark.parametrize("state", [State.PASSED, State.ROLLED_BACK])
def test_what_is_not_known_holds(looked: View, state: State) -> None:
    seen = at(looked, new=standing(state))
    gates = {
        "not ready: Redis": verdict(seen, "Redis", NAME, NOW),
        "nothing was read": verdict(replace(seen, as_of=None), None, NAME, NOW),
        "lost": verdict(replace(seen, unknown={NAME: "lost"}), None, NAME, NOW),
        "no experiment 'loans'": verdict(seen, None, "loans", NOW),
        "no treatment 'old'": verdict(seen, None, NAME, NOW, "old"),
    }
    for why, gate in gates.items():
        assert (gate.verdict, gate.treatment, gate.epoch) == ("hold", None, None)
        assert why in gate.reasons[0]


@pytest.mark.parametrize(
    ("new", "newer", "said", "by"),
    [
        (State.PASSED, State.PASSED, "pass", "new"),
        (State.PASSED, State.HEALTHY, "hold", "newer"),
        (State.ENDED, State.PASSED, "hold", "new"),
        (State.HEALTHY, State.HOLD, "hold", "newer"),
        (State.PASSED, State.VERIFYING, "rollback", "newer"),
        (State.ROLLED_BACK, State.ROLLBACK_FAILED, "rollback", "newer"),
    ],
)
def test_the_worst_of_several_treatments_decides(
    three: View, new: State, newer: State, said: str, by: str
) -> None:
    seen = at(three, new=standing(new), newer=standing(newer))
    gate = verdict(seen, None, NAME, NOW)
    assert (gate.verdict, gate.treatment) == (said, by)
    assert verdict(seen, None, NAME, NOW, "new").verdict == WORDS[new]
    assert verdict(seen, None, NAME, NOW, "newer").verdict == WORDS[newer]


def test_the_decision_is_the_one_that_led_there(looked: View) -> None:
    seen = at(looked, new=standing(State.PASSED))
    decisions = (
        decided("this", State.PASSED),
        decided("another life", State.PASSED, epoch=1),
        decided("other", State.PASSED, treatment="newer"),
        decided("since", State.SUSPECT),
    )
    one = replace(seen.experiments[NAME], decisions=decisions)
    gate = verdict(replace(seen, experiments={NAME: one}), None, NAME, NOW)
    assert gate.decision_id == "this"
    assert gate.reasons == ("new is passed", "every test has passed")


def test_the_decision_of_a_rollback_is_known_after_it_left_the_trail(looked: View) -> None:
    seen = at(looked, new=standing(State.ROLLED_BACK, decision="long ago", causes=("errors",)))
    gate = verdict(seen, None, NAME, NOW)
    assert (gate.decision_id, gate.reasons) == ("long ago", ("new is rolled_back", "errors"))


# --- over HTTP -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Site:
    """A monitor's server, and what its monitor knows."""

    view: View
    canaries: Canaries
    problem: str | None = None
    now: int = NOW
    broken: str | None = None
    client: Client | None = None

    def seen(self) -> View:
        if self.broken == "view":
            raise RuntimeError("a mistake")
        return self.view

    def ready(self) -> str | None:
        if self.broken == "problem":
            raise RuntimeError("a mistake")
        return self.problem

    async def argo(self, query: str = NAME, method: str = "GET") -> tuple[int, dict[str, Any]]:
        assert self.client is not None
        answer = await self.client.request(method, f"/gates/argo/{query}")
        return answer.status, json.loads(await answer.read() or b"{}")

    async def flagger(
        self, path: str, body: object = None, method: str = "POST", **fields: Any
    ) -> int:
        assert self.client is not None
        data = body if isinstance(body, bytes) else json.dumps(HOOK | fields).encode()
        answer = await self.client.request(method, f"/gates/flagger/{path}", data=data)
        told = await answer.read()
        assert answer.status in {200, 403}, told
        if answer.status == 403 and method != "HEAD":
            assert json.loads(told)["error"]
        return answer.status

    async def why(self, path: str, **fields: Any) -> str:
        assert self.client is not None
        answer = await self.client.post(f"/gates/flagger/{path}", json=HOOK | fields)
        assert answer.status == 403
        error: str = (await answer.json())["error"]
        return error

    def put(self, state: State, **fields: Any) -> None:
        self.view = at(self.view, new=standing(state, **fields))


HOOK: dict[str, Any] = {
    "name": "offers-model",
    "namespace": "shop",
    "phase": "Progressing",
    "checksum": "85d557f47b",
    "metadata": {"experiment": NAME},
}
OURS = Canary("offers-model", "shop", "85d557f47b")


@pytest.fixture
async def site(looked: View, store: HookedStore) -> AsyncIterator[Site]:
    """As it is served: nobody may read without a token, but at gates."""
    made = Site(looked, Canaries(store.client, "shop"))
    gates = Gates(made.seen, made.ready, made.canaries, lambda: made.now, patience=0.3)
    api = Api(guard=Guard(open_reads=False), clock=lambda: NOW)
    app = application(lambda: looked, lambda: None, api=api, more=routes(gates))
    async with TestClient(TestServer(app)) as made.client:
        yield made


async def test_argo_reads_a_verdict_without_a_token(site: Site) -> None:
    for state in State:
        site.put(state, decision="d")
        status, told = await site.argo()
        assert (status, told["verdict"]) == (200, WORDS[state])
        assert (told["treatment"], told["as_of"], told["epoch"]) == (TREATMENT, NOW, 2)
        assert (told["decision_id"] == "d") == (
            state in LATCHED | {State.WOULD_ROLL_BACK, State.ENDED}
        )


async def test_a_metric_for_harm_alone_knows_rollback_and_ok(site: Site) -> None:
    for state in State:
        site.put(state)
        status, told = await site.argo(f"{NAME}?harm_only=true")
        assert (status, told["verdict"]) == (200, "rollback" if state in LATCHED else "ok")
    site.put(State.ROLLED_BACK)
    site.problem = "Redis does not answer"
    assert (await site.argo(f"{NAME}?harm_only=true"))[1]["verdict"] == "ok"


@pytest.mark.parametrize("state", [State.PASSED, State.ROLLED_BACK])
@pytest.mark.parametrize(
    "query",
    [
        "",
        "loans",
        f"{NAME}/new",
        f"{NAME}/",
        "x%2f..%2fmetrics",
        "%00%ff",
        f"{NAME}?treatment=",
        f"{NAME}?treatment=old",
        f"{NAME}?harm_only=yes",
        "x" * 4000,
    ],
)
async def test_argo_is_told_to_hold_whatever_it_asks_that_is_not_known(
    site: Site, state: State, query: str
) -> None:
    site.put(state)
    status, told = await site.argo(query)
    assert (status, told["verdict"]) == (200, "hold")
    assert told["reasons"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_argo_is_told_to_hold_by_any_other_method(site: Site, method: str) -> None:
    site.put(State.ROLLED_BACK)
    status, told = await site.argo(method=method)
    assert (status, told["verdict"]) == (200, "hold")


@pytest.mark.parametrize("broken", ["view", "problem"])
@pytest.mark.parametrize("state", [State.PASSED, State.ROLLED_BACK])
async def test_a_mistake_of_ours_neither_promotes_nor_takes_back(
    site: Site, state: State, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(state)
    site.broken = broken
    with caplog.at_level(logging.CRITICAL):
        status, told = await site.argo()
        assert (status, told["verdict"]) == (200, "hold")
        assert "a mistake" not in told["reasons"]
        assert await site.flagger("gate") == await site.flagger("rollback") == 403


@pytest.mark.parametrize("state", [State.PASSED, State.ROLLED_BACK])
async def test_what_is_not_known_neither_promotes_nor_takes_back(site: Site, state: State) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(state)
    known = site.view
    for change in ("old", "problem", "lost", "unread"):
        site.now = NOW + (FRESH_MS + 1 if change == "old" else 0)
        site.problem = "Redis" if change == "problem" else None
        site.view = replace(
            known,
            unknown={NAME: "lost"} if change == "lost" else {},
            as_of=None if change == "unread" else NOW,
        )
        status, told = await site.argo()
        assert (status, told["verdict"]) == (200, "hold"), change
        assert await site.flagger("gate") == await site.flagger("rollback") == 403, change


async def test_flagger_is_answered_about_the_revision_that_was_judged(site: Site) -> None:
    site.put(State.COLLECTING)
    assert await site.flagger("rollback") == 403  # it asks from the first interval on
    for state in State:
        site.put(state)
        promoted, taken_back = await site.flagger("gate"), await site.flagger("rollback")
        assert promoted == (200 if WORDS[state] == "pass" else 403), state
        assert taken_back == (200 if WORDS[state] == "rollback" else 403), state


@pytest.mark.parametrize("path", ["gate", "rollback"])
@pytest.mark.parametrize("field", ["name", "namespace", "checksum"])
async def test_another_canary_than_the_one_that_was_judged_is_refused(
    site: Site, path: str, field: str
) -> None:
    site.put(State.HEALTHY)
    assert await site.flagger("gate") == 403
    site.put(State.PASSED if path == "gate" else State.ROLLED_BACK)
    assert "judges shop/offers-model" in await site.why(path, **{field: "another"})
    assert await site.flagger(path, **{field: "another"}) == 403
    assert await site.flagger(path) == 200


@pytest.mark.parametrize("path", ["gate", "rollback"])
@pytest.mark.parametrize("state", [State.PASSED, State.ROLLED_BACK, State.VERIFYING])
async def test_a_canary_that_is_first_seen_after_the_verdict_was_not_judged(
    site: Site, path: str, state: State
) -> None:
    site.put(state)
    assert "not known what was judged" in await site.why(path)
    assert await site.canaries.bound(NAME, TREATMENT, 2) is None


async def test_a_new_epoch_belongs_to_the_revision_that_is_seen_then(site: Site) -> None:
    site.put(State.HEALTHY)
    await site.flagger("rollback")
    site.view = at(site.view, new=Standing(state=State.COLLECTING, epoch=3))
    await site.flagger("rollback", checksum="next")
    site.view = at(site.view, new=Standing(state=State.PASSED, epoch=3))
    assert await site.flagger("gate") == 403
    assert await site.flagger("gate", checksum="next") == 200


async def test_a_view_that_is_not_known_binds_nobody(site: Site) -> None:
    site.put(State.HEALTHY)
    site.now += FRESH_MS + 1
    await site.flagger("gate")
    assert await site.canaries.bound(NAME, TREATMENT, 2) is None


def test_the_next_revision_may_be_seen_once_there_is_a_verdict() -> None:
    found = {state: is_undecided(standing(state)) for state in State}
    watched = {State.COLLECTING, State.HOLD, State.HEALTHY, State.SUSPECT}
    assert {state for state, is_it in found.items() if is_it} == watched
    assert not is_undecided(standing(State.HOLD, passed=True))


@pytest.mark.parametrize(
    ("path", "state", "kind", "status"),
    [
        ("gate", State.PASSED, "confirm-promotion", 200),
        ("gate", State.PASSED, "rollback", 403),
        ("rollback", State.ROLLED_BACK, "rollback", 200),
        ("rollback", State.ROLLED_BACK, "confirm-promotion", 403),
    ],
)
async def test_a_yes_is_not_given_to_a_hook_to_which_it_means_the_opposite(
    site: Site, path: str, state: State, kind: str, status: int
) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(state)
    assert await site.flagger(path, type=kind) == status


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "no name": json.dumps({**HOOK, "name": None}).encode(),
    "an empty name": json.dumps({**HOOK, "name": ""}).encode(),
    "no checksum": json.dumps({n: v for n, v in HOOK.items() if n != "checksum"}).encode(),
    "an empty checksum": json.dumps({**HOOK, "checksum": ""}).encode(),
    "no metadata": json.dumps({**HOOK, "metadata": None}).encode(),
    "no experiment": json.dumps({**HOOK, "metadata": {}}).encode(),
    "another experiment": json.dumps({**HOOK, "metadata": {"experiment": "loans"}}).encode(),
    "another treatment": json.dumps(
        {**HOOK, "metadata": {"experiment": NAME, "treatment": "old"}}
    ).encode(),
    "metadata of numbers": json.dumps({**HOOK, "metadata": {"experiment": 1}}).encode(),
    "depth": b'{"deep":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "just too much": json.dumps({**HOOK, "more": "x" * MAX_BODY}).encode(),
    "far too much": json.dumps({**HOOK, "more": "x" * (MAX_BODY * 12)}).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize(
    ("path", "state"),
    [("gate", State.PASSED), ("rollback", State.ROLLED_BACK), ("event", State.PASSED)],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_flagger_gets_no_yes_for_what_it_never_posts(
    site: Site, path: str, state: State, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(state)
    with caplog.at_level(logging.CRITICAL):
        assert await site.flagger(path, body) == 403
    assert await site.canaries.events(NAME) == []


async def test_a_body_may_have_exactly_as_much_as_is_allowed(site: Site) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(State.PASSED)
    body = json.dumps(HOOK).encode()
    assert await site.flagger("gate", body + b" " * (MAX_BODY - len(body))) == 200
    assert await site.flagger("gate", body + b" " * (MAX_BODY - len(body) + 1)) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("path", "state"),
    [("gate", State.PASSED), ("rollback", State.ROLLED_BACK), ("event", State.PASSED)],
)
async def test_flagger_gets_no_yes_by_any_other_method(
    site: Site, path: str, state: State, method: str
) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(state)
    assert await site.flagger(path, method=method) == 403


async def test_a_treatment_of_several_has_to_be_named(site: Site, three: View) -> None:
    healthy = Standing(state=State.HEALTHY)
    site.view = at(three, new=healthy, newer=healthy)
    named: dict[str, Any] = {"metadata": {"experiment": NAME, "treatment": "newer"}}
    await site.flagger("rollback", **named)
    site.view = at(three, new=healthy, newer=Standing(state=State.PASSED))
    assert "metadata.treatment" in await site.why("gate")
    assert await site.flagger("gate", **named) == 200


class Away:
    """A Redis that fails, or never answers."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def hget(self, *_: object) -> NoReturn:
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error or AssertionError

    def pipeline(self, **_: object) -> NoReturn:
        raise self.error or TimeoutError


@pytest.mark.parametrize(
    "error", [RedisConnectionError("gone"), OSError("gone"), RuntimeError("odd"), None]
)
async def test_without_redis_flagger_gets_no_yes(
    site: Site, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = Away(error)
    site.canaries._client = client  # the connection breaks while it is served
    with caplog.at_level(logging.CRITICAL):
        for state in (State.PASSED, State.ROLLED_BACK, State.COLLECTING):
            site.put(state)
            for path in ("gate", "rollback", "event"):
                assert await site.flagger(path) == 403
        site.put(State.ROLLED_BACK)
        assert (await site.argo())[1]["verdict"] == "rollback"  # it needs no Redis


async def test_a_body_that_never_ends_gets_no_yes(site: Site) -> None:
    await site.canaries.bind(NAME, TREATMENT, 2, OURS)
    site.put(State.ROLLED_BACK)
    assert site.client is not None
    server = site.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = "POST /gates/flagger/rollback HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
    writer.write(head.encode())
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"it took more than 0.3 s")
    writer.close()
    assert answer.split()[1] == b"403"


async def test_a_standby_answers_as_the_leader_does(store: HookedStore) -> None:
    watches = [Watch(settings_of(), store, {NAME: Log()}, every_s=0.02) for _ in range(2)]
    canaries = Canaries(store.client, "default")
    stop = asyncio.Event()
    running = [asyncio.create_task(watch.run(stop)) for watch in watches]
    gates = [
        Gates(lambda watch=watch: watch.monitor.view, watch.problem, canaries)  # type: ignore[misc]
        for watch in watches
    ]

    async def all_say(status: int, word: str, clients: list[Client]) -> None:
        async with asyncio.timeout(20):
            for client in clients:
                while True:
                    told = await (await client.get(f"/gates/argo/{NAME}")).json()
                    answer = await client.post("/gates/flagger/rollback", json=HOOK)
                    if (answer.status, told["verdict"], told["treatment"]) == (
                        status,
                        word,
                        TREATMENT,
                    ):
                        break
                    await asyncio.sleep(0.02)

    try:
        async with AsyncExitStack() as stack:
            clients: list[Client] = []
            for one in gates:
                app = web.Application()
                app.add_routes(routes(one))
                clients.append(await stack.enter_async_context(TestClient(TestServer(app))))
            await all_say(403, "hold", clients)
            assert len([watch for watch in watches if NAME in watch.monitor.view.leads]) == 1
            word = Command(int(time.time() * 1000), "rollback", "ann", "a test")
            await watches[0].monitor.command(NAME, TREATMENT, word)
            await all_say(200, "rollback", clients)
    finally:
        stop.set()
        await asyncio.gather(*running)


# --- what is kept ----------------------------------------------------------------------------------


async def test_events_are_kept_with_what_they_say(site: Site) -> None:
    told = {"eventMessage": "m" * 5_000, "eventType": "Warning", "timestamp": "1772366399000"}
    metadata = HOOK["metadata"] | told
    assert await site.flagger("event", phase="Failed", metadata=metadata) == 200
    (event,) = await site.canaries.events(NAME)
    assert event == Event(
        at=NOW,
        name="offers-model",
        namespace="shop",
        phase="Failed",
        checksum="85d557f47b",
        message="m" * MAX_MESSAGE,
        kind="Warning",
        sent="1772366399000",
    )


async def test_only_the_newest_events_are_kept(store: HookedStore) -> None:
    canaries = Canaries(store.client, "shop")
    for number in range(KEPT + 3):
        event = Event(
            at=number, name="", namespace="", phase="", checksum="", message="", kind="", sent=""
        )
        await canaries.note(NAME, event)
    assert [event.at for event in await canaries.events(NAME)] == list(range(3, KEPT + 3))
    assert [event.at for event in await canaries.events(NAME, 2)] == [KEPT + 1, KEPT + 2]


async def test_of_many_that_ask_at_once_one_is_bound(store: HookedStore) -> None:
    canaries = Canaries(store.client, "shop")
    asked = [Canary("c", "n", str(number)) for number in range(20)]
    won = await asyncio.gather(*(canaries.bind(NAME, TREATMENT, 1, each) for each in asked))
    assert len(set(won)) == 1
    assert await canaries.bound(NAME, TREATMENT, 1) == won[0]
    assert await canaries.bound(NAME, TREATMENT, 2) is None
    assert await canaries.bound("loans", TREATMENT, 1) is None


@given(
    state=st.sampled_from(State),
    passed=st.booleans(),
    paused=st.sampled_from([None, PAUSED]),
    latched=st.sampled_from([(), ("errors",)]),
    age=st.integers(-40_000, 40_000),
    problem=st.sampled_from([None, "Redis"]),
    lost=st.booleans(),
)
def test_a_word_that_moves_traffic_always_rests_on_a_fresh_verdict(
    looked: View,
    state: State,
    passed: bool,
    paused: Pause | None,
    latched: tuple[str, ...],
    age: int,
    problem: str | None,
    lost: bool,
) -> None:
    one = standing(state, passed=passed, paused=paused, latched=latched)
    seen = replace(at(looked, new=one), unknown={NAME: "lost"} if lost else {})
    gate = verdict(seen, problem, NAME, NOW + age)
    assert gate.reasons
    if gate.verdict == "hold":
        return
    assert (problem, lost, abs(age) <= FRESH_MS) == (None, False, True)
    allowed = {State.PASSED} if gate.verdict == "pass" else LATCHED
    assert state in allowed
