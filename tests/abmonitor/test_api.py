"""The API by which people act: over a real server, with a real monitor on an embedded store."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisConnectionError
from support.api import Shop, shop

from abmonitor.api import LARGEST_BODY, SERVED, VERBS, Api
from abmonitor.api_guard import HEADERS, Guard, guard_of
from abmonitor.api_routes import ROUTES
from abmonitor.api_settings import ApiSettings
from abmonitor.auth import Tokens, TokensError
from abmonitor.monitor import Commanded
from abmonitor.server import application
from abmonitor.view import View
from alerts.actions import ACTIONS
from alerts.machine import Command
from alerts.standing import State
from alerts.store import StaleBookError
from metrics.experiment import HOUR, MINUTE


Client = TestClient[Any, Any]
BODY = {"reason": "a test"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as opened:
        opened.token("ann")
        opened.token("bob", "read")
        opened.token("carl", "operate", "off*")
        await opened.pass_time()
        yield opened


@pytest.fixture
async def client(made: Shop) -> AsyncIterator[Client]:
    async with TestClient(TestServer(made.application())) as opened:
        yield opened


async def say(
    client: Client, made: Shop, verb: str, name: str = "offers", who: str = "ann", **body: Any
) -> tuple[int, dict[str, Any]]:
    path = f"/api/v1/experiments/{name}/{verb}"
    answer = await client.post(path, json=BODY | body, headers=made.bearer(who))
    return answer.status, await answer.json()


async def error_of(answer: ClientResponse, status: int) -> str:
    document = await answer.json()
    assert (answer.status, answer.content_type) == (status, "application/json"), document
    told = document["error"]
    assert isinstance(told, str)
    return told


def standing(made: Shop, name: str = "offers") -> Any:
    return made.monitor.view.experiments[name].book.standings["new"]


# --- what commands do -----------------------------------------------------------------------------


async def test_a_rollback_by_a_person_is_decided_in_their_name_and_carried_out(
    client: Client, made: Shop
) -> None:
    status, document = await say(client, made, "rollback", treatment="new", reason=" it  smells\n")
    (decision,) = document["decisions"]
    assert (status, document["refused"]) == (200, {})
    assert (decision["action"], decision["actor"], decision["treatment"]) == (
        "rollback",
        "ann",
        "new",
    )
    assert decision["reasons"] == ["ann: it smells"]
    assert made.received == [decision["id"]]
    await made.pass_time(3)
    assert standing(made).state is State.ROLLED_BACK


async def test_a_pause_ends_when_it_was_said_to_end(client: Client, made: Shop) -> None:
    status, document = await say(client, made, "pause", until="2h")
    assert status == 200
    assert [found["action"] for found in document["decisions"]] == ["pause"]
    await made.pass_time(1)
    paused = standing(made).paused
    assert (paused.actor, paused.until) == ("ann", made.now - MINUTE + 2 * HOUR)
    status, document = await say(client, made, "resume")
    assert (status, document["decisions"][0]["action"]) == (200, "resume")


async def test_a_pause_may_end_at_a_time_of_the_calendar(client: Client, made: Shop) -> None:
    status, _ = await say(client, made, "pause", until="2023-11-15T01:00:00+01:00")
    assert status == 200
    await made.pass_time(1)
    assert standing(made).paused.until == 1_700_006_400_000


async def test_all_experiments_are_paused_and_resumed_with_one_word(
    client: Client, made: Shop
) -> None:
    for verb in ("pause", "resume"):
        answer = await client.post(f"/api/v1/{verb}", json=BODY, headers=made.bearer("ann"))
        document = await answer.json()
        assert (answer.status, document["refused"]) == (200, {})
        assert {found["experiment"] for found in document["decisions"]} == {"offers", "prices"}
        await made.pass_time(1)
        for name in ("offers", "prices"):
            assert (standing(made, name).paused is not None) == (verb == "pause")


async def test_what_is_rolled_back_can_be_rearmed_and_ended(client: Client, made: Shop) -> None:
    await say(client, made, "rollback")
    await made.pass_time(15)
    status, document = await say(client, made, "rearm", force=True)
    assert (status, document["decisions"][0]["state"]) == (200, "collecting")
    status, document = await say(client, made, "end")
    assert (status, document["decisions"][0]["state"]) == (200, "ended")


async def test_a_command_that_changes_nothing_is_a_conflict_that_says_why(
    client: Client, made: Shop
) -> None:
    status, document = await say(client, made, "rearm", treatment="new")
    assert status == 409
    assert document["decisions"] == []
    assert document["refused"].keys() == {"new"}
    assert document["error"] == f"rearm changed nothing: new: {document['refused']['new']}"


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [r.path.format(name="offers") for r in ROUTES if r.acts])
async def test_without_a_token_nobody_acts(client: Client, made: Shop, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic YW5u"}, {"Authorization": "Bearer"}):
        answer = await client.post(path, json=BODY, headers=headers)
        assert "Authorization: Bearer TOKEN" in await error_of(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = await client.post(path, json=BODY, headers={"Authorization": "Bearer wrong"})
    assert "not known here" in await error_of(answer, 401)
    answer = await client.post(path, json=BODY, headers=made.bearer("bob"))
    assert "bob may only read" in await error_of(answer, 403)
    assert await made.kept.decisions("offers") == []


@pytest.mark.parametrize("path", [r.path.format(name="offers") for r in ROUTES if r.acts])
async def test_where_no_tokens_are_configured_the_refusal_says_how_to_get_them(
    tmp_path: Path, path: str
) -> None:
    async with shop(tmp_path) as made, TestClient(TestServer(made.application())) as client:
        await made.pass_time(1)
        answer = await client.post(path, json=BODY, headers={"Authorization": "Bearer any"})
        told = await error_of(answer, 403)
    assert "abmonitor token new" in told
    assert "api: {tokens: FILE}" in told


async def test_a_token_acts_on_its_experiments_only(client: Client, made: Shop) -> None:
    assert (await say(client, made, "pause", "offers", "carl"))[0] == 200
    status, document = await say(client, made, "pause", "prices", "carl")
    assert (status, "does not cover" in document["error"]) == (403, True)
    answer = await client.post("/api/v1/pause", json=BODY, headers=made.bearer("carl"))
    assert "'prices'" in await error_of(answer, 403)
    await made.pass_time(1)
    assert standing(made, "prices").paused is None


async def test_a_token_in_the_url_or_in_a_cookie_is_none(client: Client, made: Shop) -> None:
    path = f"/api/v1/experiments/offers/pause?token={made.tokens['ann']}"
    answer = await client.post(path, json=BODY, cookies={"token": made.tokens["ann"]})
    assert made.tokens["ann"] not in await error_of(answer, 401)


async def test_a_page_of_another_site_cannot_act(client: Client, made: Shop) -> None:
    path = "/api/v1/experiments/offers/pause"
    headers = made.bearer("ann") | {"Sec-Fetch-Site": "cross-site"}
    assert "another site" in await error_of(
        await client.post(path, json=BODY, headers=headers), 403
    )
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options(path, headers=preflight)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_proxy_acts_in_the_name_of_whom_it_let_in(made: Shop) -> None:
    made.token("sso", on_behalf="X-Forwarded-Email")
    async with TestClient(TestServer(made.application())) as fresh:
        path = "/api/v1/experiments/offers/pause"
        headers = made.bearer("sso")
        answer = await fresh.post(path, json=BODY, headers=headers)
        assert "X-Forwarded-Email" in await error_of(answer, 403)
        for bad in ("a b", "<x>", "x" * 200):
            headers["X-Forwarded-Email"] = bad
            assert (await fresh.post(path, json=BODY, headers=headers)).status == 403
        headers["X-Forwarded-Email"] = "ann@example.org"
        answer = await fresh.post(path, json=BODY, headers=headers)
        (decision,) = (await answer.json())["decisions"]
    assert decision["actor"] == "ann@example.org via sso"


@pytest.mark.parametrize(
    "path",
    [
        "/gates/../api/v1/pause",
        "/gates/%2e%2e/api/v1/pause",
        "/gates/..%2fapi/v1/pause",
        "//gates/api/v1/pause",
        "/api/v1/pause/",
        "/api/v1/./pause",
        "/api/v1/%70ause",
        "/flags/;/../../api/v1/pause",
        "http://gates/api/v1/pause",
        "/api/v1/pause#/gates/",
        "/api/v1/pause?/gates/",
    ],
)
async def test_no_way_to_write_a_path_leads_past_the_guard(made: Shop, path: str) -> None:
    async def opened(_: web.Request) -> web.Response:
        return web.Response()

    more = [web.post("/gates/{tail:.*}", opened), web.post("/flags/{tail:.*}", opened)]
    guard = Guard(Tokens(made.file), open_reads=False)
    api = Api(made.monitor, made.kept, guard, lambda: made.now)
    app = application(lambda: made.monitor.view, lambda: None, api=api, more=more)
    body = json.dumps(BODY)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(
            f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        answer = await reader.read()
        writer.close()
    assert answer.split()[1] in {b"200", b"400", b"401", b"404"}
    assert await made.kept.decisions("offers") == []


async def test_one_connection_carries_the_requests_of_several_people(
    client: Client, made: Shop
) -> None:
    path = "/api/v1/experiments/offers/pause"
    for who, status in (("ann", 200), (None, 401), ("bob", 403), ("carl", 200)):
        headers = made.bearer(who) if who else {}
        assert (await client.post(path, json=BODY, headers=headers)).status == status
    actors = [found.actor for found in await made.kept.decisions("offers")]
    assert actors == ["ann", "carl"]


# --- wrong requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b'{"reason": "\xff"}', 400, "no JSON"),
        (b"[" * 10_000, 422, "expected one JSON object; such as {"),
        (b"null", 422, "expected one JSON object; such as {"),
        (b"{}", 422, "reason is missing"),
        (b'{"reason": ""}', 422, "reason: expected 1 to 500 characters"),
        (b'{"reason": "\\u0007"}', 422, "say why"),
        (b'{"reason": 7}', 422, "reason: expected 1 to 500 characters"),
        (json.dumps({"reason": "x" * 501}).encode(), 422, "reason: expected 1 to 500"),
        (b'{"reason": "x", "until": "soon"}', 422, "until: expected a duration"),
        (b'{"reason": "x", "until": "0s"}', 422, "after now"),
        (b'{"reason": "x", "until": "2000-01-01T00:00:00Z"}', 422, "after now"),
        (b'{"reason": "x", "until": "900d"}', 422, "within a year"),
        (b'{"reason": "x", "until": "2026-01-01"}', 422, "with a zone"),
        (b'{"reason": "x", "treatment": "old"}', 422, "no treatment 'old'; there are: new"),
        (b'{"reason": "x", "treatment": "../x"}', 422, "treatment: expected a name: 1 to 64"),
        (b'{"reason": "x", "treatmnt": "new"}', 422, "unknown field 'treatmnt'"),
        (b'{"reason": "x", "force": true}', 422, "unknown field 'force'"),
        (b'{"reason": "' + b"x" * LARGEST_BODY + b'"}', 413, "at most 65536 bytes"),
    ],
)
async def test_a_wrong_body_is_refused_with_what_was_expected(
    client: Client, made: Shop, body: bytes, status: int, told: str
) -> None:
    headers = made.bearer("ann") | {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/experiments/offers/pause", data=body, headers=headers)
    assert told in await error_of(answer, status)
    assert await made.kept.decisions("offers") == []


async def test_a_large_body_in_pieces_is_refused_as_well(client: Client, made: Shop) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (LARGEST_BODY // 10)

    headers = made.bearer("ann") | {"Content-Type": "application/json"}
    answer = await client.post("/api/v1/experiments/offers/pause", data=pieces(), headers=headers)
    assert answer.status == 413


async def test_what_stands_in_the_url_instead_of_the_body_is_refused(
    client: Client, made: Shop
) -> None:
    for path in ("/api/v1/experiments/offers/rollback?treatment=new", "/api/v1/pause?until=2h"):
        answer = await client.post(path, json=BODY, headers=made.bearer("ann"))
        assert "unknown field" in await error_of(answer, 400)
    assert await made.kept.decisions("offers") == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/json"])
async def test_only_json_is_taken_so_that_no_form_of_another_site_is(
    client: Client, made: Shop, kind: str
) -> None:
    headers = made.bearer("ann") | {"Content-Type": kind}
    answer = await client.post(
        "/api/v1/experiments/offers/pause", data=json.dumps(BODY), headers=headers
    )
    assert "application/json" in await error_of(answer, 415)


async def test_an_unknown_experiment_is_answered_with_those_that_there_are(
    client: Client, made: Shop
) -> None:
    status, document = await say(client, made, "pause", "offer")
    assert status == 404
    assert document["error"] == "no experiment 'offer'; there are: offers, prices"
    status, _ = await say(client, made, "promote")
    assert status == 404


async def test_before_the_first_tick_all_experiments_are_not_yet_known(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        made.token("ann")
        async with TestClient(TestServer(made.application())) as client:
            answer = await client.post("/api/v1/pause", json=BODY, headers=made.bearer("ann"))
            assert "nothing yet" in await error_of(answer, 503)
            answer = await client.get("/api/v1/decisions?experiment=offers")
            assert "nothing yet" in await error_of(answer, 503)
            assert (await say(client, made, "pause"))[0] == 200  # by its name it can be


@pytest.mark.parametrize(
    "error", [RedisConnectionError("gone"), StaleBookError("offers"), OSError("gone")]
)
@pytest.mark.parametrize("path", ["/api/v1/experiments/offers/rollback", "/api/v1/pause"])
async def test_a_store_that_is_away_is_told_with_what_to_do(
    client: Client, made: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception, path: str
) -> None:
    async def fail(*_: object) -> Commanded:
        raise error

    monkeypatch.setattr(made.monitor, "command", fail)
    answer = await client.post(path, json=BODY, headers=made.bearer("ann"))
    told = await error_of(answer, 503)
    assert "abmonitor status" in told
    assert "try again" in told


async def test_what_was_done_is_told_where_the_store_failed_halfway(
    client: Client, made: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = made.monitor.command

    async def fail(name: str, treatment: str | None, said: Command) -> Commanded:
        if name == "prices":
            raise RedisConnectionError
        return await command(name, treatment, said)

    monkeypatch.setattr(made.monitor, "command", fail)
    answer = await client.post("/api/v1/pause", json=BODY, headers=made.bearer("ann"))
    assert "prices" in await error_of(answer, 503)
    assert [found["experiment"] for found in (await answer.json())["decisions"]] == ["offers"]


async def test_a_mistake_of_ours_is_an_answer_too(
    client: Client, made: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> Commanded:
        raise ZeroDivisionError

    monkeypatch.setattr(made.monitor, "command", fail)
    answer = await client.post(
        "/api/v1/experiments/offers/end", json=BODY, headers=made.bearer("ann")
    )
    assert "its log says which" in await error_of(answer, 500)
    assert "ZeroDivisionError" in caplog.text
    assert made.tokens["ann"] not in caplog.text


# --- how often ------------------------------------------------------------------------------------


async def test_who_asks_too_often_waits_and_others_do_not(made: Shop) -> None:
    clock = [0.0]
    app = made.application(per_minute=3, clock=lambda: clock[0])
    async with TestClient(TestServer(app)) as client:
        path, ann = "/api/v1/experiments/offers/pause", made.bearer("ann")
        statuses = [(await client.post(path, json=BODY, headers=ann)).status for _ in range(5)]
        assert [status == 429 for status in statuses] == [False, False, False, True, True]
        answer = await client.post(path, json=BODY, headers=ann)
        assert answer.headers["Retry-After"] == "20"
        assert "wait 20 s" in await error_of(answer, 429)
        assert (await client.get("/api/v1/status", headers=ann)).status == 200
        assert (await client.post(path, json=BODY, headers=made.bearer("carl"))).status != 429
        clock[0] += 20
        assert (await client.post(path, json=BODY, headers=ann)).status != 429


async def test_who_guesses_tokens_waits_and_locks_nobody_out(made: Shop) -> None:
    app = made.application(per_minute=2, clock=lambda: 0.0)
    async with TestClient(TestServer(app)) as client:
        path = "/api/v1/experiments/offers/pause"
        guesses = [
            (await client.post(path, json=BODY, headers={"Authorization": f"Bearer x{n}"})).status
            for n in range(4)
        ]
        assert guesses == [401, 401, 429, 429]
        assert (await client.post(path, json=BODY, headers=made.bearer("ann"))).status == 200


async def test_health_and_metrics_may_be_asked_for_as_often_as_one_likes(made: Shop) -> None:
    async with TestClient(TestServer(made.application(per_minute=1))) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert [(await client.get(path)).status for _ in range(3)] == [200] * 3


# --- reading --------------------------------------------------------------------------------------

READS = [r.path.format(name="offers", id="offers:new:1:1") for r in ROUTES if not r.acts]


async def test_where_reads_are_not_open_each_reads_what_is_theirs(made: Shop) -> None:
    await made.monitor.command("prices", None, Command(made.now, "pause", "ann", "why"))
    await made.pass_time(1)
    async with TestClient(TestServer(made.application(open_reads=False))) as client:
        for path in [*READS, "/events", "/metrics"]:
            assert (await client.get(path)).status == 401
        for path in ("/", "/assets/page.js", "/healthz", "/readyz", "/api/v1/openapi.json"):
            answer = await client.get(path)
            assert answer.status == 200
            assert "offers" not in await answer.text()
        carl, bob = made.bearer("carl"), made.bearer("bob")
        for who, names in ((carl, ["offers"]), (bob, ["offers", "prices"])):
            listed = await (await client.get("/api/v1/experiments", headers=who)).json()
            assert [found["name"] for found in listed["experiments"]] == names
            shown = await (await client.get("/api/v1/status", headers=who)).json()
            assert [found["name"] for found in shown["experiments"]] == names
            table = await (await client.get("/", headers=who)).text()
            assert ("prices" in table) == ("prices" in names)
        for path in (
            "experiments/prices",
            "experiments/prices/series",
            "status?experiment=prices",
            "decisions?experiment=prices",
        ):
            told = await error_of(await client.get(f"/api/v1/{path}", headers=carl), 404)
            assert told == "no experiment 'prices'; there are: offers"
        (decision,) = await made.kept.decisions("prices")
        assert (await client.get(f"/api/v1/decisions/{decision.id}", headers=carl)).status == 404
        assert (await client.get(f"/api/v1/decisions/{decision.id}", headers=bob)).status == 200
        assert (await client.get("/metrics", headers=carl)).status == 403
        assert (await client.get("/metrics", headers=bob)).status == 200


async def test_a_wrong_token_is_told_even_where_none_is_needed(client: Client) -> None:
    answer = await client.get("/api/v1/status", headers={"Authorization": "Bearer old"})
    assert "not known here" in await error_of(answer, 401)


async def test_decisions_are_found_by_what_they_are(client: Client, made: Shop) -> None:
    for verb in ("pause", "resume", "pause", "resume"):
        made.now += MINUTE
        for name in ("offers", "prices"):
            await made.monitor.command(name, None, Command(made.now, verb, "ann", "why"))

    async def found(query: str) -> list[tuple[str, str]]:
        answer = await client.get(f"/api/v1/decisions?{query}")
        document = await answer.json()
        assert answer.status == 200, document
        return [(each["experiment"], each["action"]) for each in document["decisions"]]

    everything = await found("")
    assert len(everything) == 8
    assert await found("experiment=offers") == [e for e in everything if e[0] == "offers"]
    assert await found("action=pause&treatment=new") == [e for e in everything if e[1] == "pause"]
    assert await found("treatment=other") == []
    assert await found("limit=3") == everything[-3:]
    assert await found("action=pause&experiment=offers&limit=1") == [("offers", "pause")]
    assert await found("since=90s") == everything[-4:]
    assert await found(f"since={made.now}") == everything[-2:]
    assert await found(f"until={made.now - MINUTE}") == everything[:-2]
    assert await found("since=2000-01-01T00:00:00Z") == everything
    assert await found("until=2000-01-01T00:00:00Z") == []


async def test_filters_look_further_back_than_the_newest(client: Client, made: Shop) -> None:
    await made.monitor.command("offers", None, Command(made.now, "end", "ann", "why"))
    first = await made.kept.decisions("offers")
    for _ in range(20):
        for verb in ("pause", "resume"):
            await made.monitor.command("prices", None, Command(made.now, verb, "ann", "why"))
    answer = await client.get("/api/v1/decisions?action=end&limit=1")
    assert [found["id"] for found in (await answer.json())["decisions"]] == [first[0].id]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=ten",
        "limit=",
        "limit=1&limit=2",
        "since=yesterday",
        "since=",
        "until=2026-01-01",
        "treatmnt=new",
        "action=ROLL",
        "experiment=a/b",
    ],
)
async def test_wrong_parameters_are_refused(client: Client, query: str) -> None:
    told = await error_of(await client.get(f"/api/v1/decisions?{query}"), 400)
    assert query.partition("=")[0] in told


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("action=banana", f"action: expected one of {', '.join(sorted(ACTIONS))};"),
        ("limit=ten", "limit: expected a whole number from 1 to 10,000;"),
        ("experiment=a/b", "experiment: expected a name: 1 to 64"),
        ("exp=a", "unknown field 'exp'; parameters are: experiment, treatment, action"),
    ],
)
async def test_what_a_parameter_may_be_is_told(client: Client, query: str, told: str) -> None:
    assert told in await error_of(await client.get(f"/api/v1/decisions?{query}"), 400)


async def test_every_action_may_be_asked_for(client: Client) -> None:
    for action in ACTIONS:
        assert (await client.get(f"/api/v1/decisions?action={action}")).status == 200


async def test_a_decision_is_shown_with_what_it_rests_on(client: Client, made: Shop) -> None:
    await say(client, made, "pause")
    (decision,) = await made.kept.decisions("offers")
    answer = await client.get(f"/api/v1/decisions/{decision.id}")
    document = await answer.json()
    assert (document["decision"]["id"], document["reasoning"]) == (decision.id, None)
    await made.store.client.hset(made.kept._key("offers", "evidence"), decision.id, b"\x00\xffz")
    document = await (await client.get(f"/api/v1/decisions/{decision.id}")).json()
    assert base64.b64decode(document["reasoning"]) == b"\x00\xffz"


@pytest.mark.parametrize("name", ["offers:new:1:1", "nothing:new:1:1", "x", "%2F", "offers:"])
async def test_an_unknown_decision_is_not_found(client: Client, name: str) -> None:
    told = await error_of(await client.get(f"/api/v1/decisions/{name}"), 404)
    assert "no decision" in told


async def test_without_a_store_decisions_are_those_of_the_view(made: Shop) -> None:
    await made.monitor.command("offers", None, Command(made.now, "pause", "ann", "why"))
    await made.pass_time(1)
    app = application(lambda: made.monitor.view, lambda: None)
    async with TestClient(TestServer(app)) as client:
        (shown,) = (await (await client.get("/api/v1/decisions")).json())["decisions"]
        document = await (await client.get(f"/api/v1/decisions/{shown['id']}")).json()
        assert document == {"decision": shown, "reasoning": None}
        answer = await client.post("/api/v1/experiments/offers/end", json=BODY)
        assert "nobody may act" in await error_of(answer, 403)


async def test_a_guard_with_tokens_but_nothing_to_act_on_says_so(made: Shop) -> None:
    api = Api(guard=made.application()[SERVED].api.guard)
    app = application(lambda: made.monitor.view, lambda: None, api=api)
    async with TestClient(TestServer(app)) as client:
        for path in ("/api/v1/experiments/offers/end", "/api/v1/pause"):
            answer = await client.post(path, json=BODY, headers=made.bearer("ann"))
            assert "takes no commands" in await error_of(answer, 403)


# --- every route ----------------------------------------------------------------------------------


async def test_nothing_but_post_changes_anything(client: Client, made: Shop) -> None:
    await say(client, made, "pause")
    before = await made.kept.decisions("offers"), await made.kept.load("offers")
    acting = {route.path for route in ROUTES if route.acts}
    for resource in client.app.router.resources():
        name = "AbmonitorRollback" if "runbooks" in resource.canonical else "offers"
        path = resource.canonical.format(name=name, id=before[0][0].id)
        for route in resource:
            if route.method == "POST":
                assert resource.canonical in acting
                continue
            assert route.method in {"GET", "HEAD"}
            answer = await client.request(route.method, path, headers=made.bearer("ann"))
            assert answer.status == 200
        if resource.canonical in acting:
            for verb in VERBS:
                answer = await client.get(f"{path}?verb={verb}", headers=made.bearer("ann"))
                assert answer.status == 405
    assert (await made.kept.decisions("offers"), await made.kept.load("offers")) == before


@pytest.mark.parametrize(
    "path", ["/", "/experiments/offers", "/metrics", "/healthz", "/nothing", *READS]
)
async def test_every_answer_says_what_browsers_must_know(client: Client, path: str) -> None:
    answer = await client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


async def test_who_was_refused_and_how_the_tokens_are_is_exposed(
    client: Client, made: Shop
) -> None:
    await client.post("/api/v1/pause", json=BODY)
    text = await (await client.get("/metrics")).text()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["abmonitor_api_refused_total", "401"] == 1
    assert samples["abmonitor_api_tokens",] == len(made.tokens)
    assert samples["abmonitor_api_tokens_file_ok",] == 1


async def test_commands_at_the_same_time_are_all_done(client: Client, made: Shop) -> None:
    answers = await asyncio.gather(*(say(client, made, "pause", reason=str(n)) for n in range(8)))
    assert {status for status, _ in answers} <= {200, 409}
    assert len(await made.kept.decisions("offers")) == sum(a[0] == 200 for a in answers)


async def test_the_settings_say_who_may_ask_and_how_often(made: Shop) -> None:
    given = ApiSettings(tokens=str(made.file), open_reads=False, rate_limit=2)
    app = application(lambda: made.monitor.view, lambda: None, api=Api(guard=guard_of(given)))
    async with TestClient(TestServer(app)) as client:
        asked = [await client.get("/api/v1/status", headers=made.bearer("bob")) for _ in range(3)]
        assert [answer.status for answer in asked] == [200, 200, 429]
        assert (await client.get("/api/v1/status")).status == 401
    assert guard_of(ApiSettings()).tokens is None
    with pytest.raises(TokensError, match="none"):
        guard_of(ApiSettings(tokens=str(made.folder / "none.yaml")))


async def test_where_time_is_the_datas_own_its_age_is_too(made: Shop) -> None:
    app = application(lambda: made.monitor.view, lambda: None)
    async with TestClient(TestServer(app)) as client:
        shown = await (await client.get("/api/v1/status")).json()
    assert [found["data_age_ms"] for found in shown["experiments"]] == [0, 0]


async def test_a_guard_alone_exposes_nothing_that_it_does_not_know() -> None:
    app = application(View, lambda: None, api=Api(guard=Guard()))
    async with TestClient(TestServer(app)) as client:
        text = await (await client.get("/metrics")).text()
    assert "\nabmonitor_api_tokens " not in text
