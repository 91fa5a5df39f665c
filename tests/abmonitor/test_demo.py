import asyncio
import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from importlib.resources import files
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, RenderableType
from rich.panel import Panel

from abmonitor.cli import run
from abmonitor.demo.live import TREND, Screen, ending, spark
from abmonitor.demo.offers import Decision, Offer, load_offers
from abmonitor.demo.router import Router
from abmonitor.demo.scene import (
    CUSTOMERS,
    DEFAULT_PORT,
    DEFECT_AT,
    HOST,
    PortError,
    Scene,
    demo_settings,
    scene,
)
from abmonitor.demo.story import Story, tell
from abmonitor.document import experiment
from abmonitor.http import serving
from abmonitor.server import application
from abmonitor.view import View
from alerts.actuators import signing
from alerts.standing import State
from metrics.experiment import Profitability


REVENUE, COST = 60, 20
WIDTHS = (80, 120, 160)
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
NOW = 1_700_000_000.0


def text_of(shown: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(shown)
    return console.export_text()


# --- the whole scene, until some time after the rollback ------------------------------------------


@dataclass(slots=True)
class Played:
    """What was seen of one run."""

    scene: Scene
    view: View
    events: list[dict[str, Any]] = field(default_factory=list)
    """Everything that the router sent."""
    frames: list[dict[int, str]] = field(default_factory=list)
    """What the screen showed, by its width."""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    """What the server answered while the scene went on: status and text."""


async def _play() -> Played:
    async with scene(0) as playing:
        seen = Played(playing, await playing.monitor.tick())
        process = playing.pipeline.process

        async def noting(batch: Any) -> Any:
            seen.events += map(msgspec.json.decode, batch.values)
            return await process(batch)

        playing.pipeline.process = noting  # type: ignore[method-assign, assignment]
        screen, decided, after = Screen(), 0, 0
        while after < 40:
            seen.view = await playing.step()
            drawn = screen.draw(playing, seen.view)
            shown = seen.view.experiments[playing.experiment]
            if len(shown.decisions) > decided or playing.served % 400 in {0, 10}:
                decided = len(shown.decisions)
                seen.frames.append({width: text_of(drawn, width) for width in WIDTHS})
            if playing.served == 2_000:
                await _look_around(playing, seen)
            after += shown.book.standings["boosted-v2"].state is State.ROLLED_BACK
        return seen


async def _look_around(playing: Scene, seen: Played) -> None:
    home = f"http://{HOST}:{playing.port}"
    async with aiohttp.ClientSession() as session:
        for path in ("/metrics", "/healthz", "/readyz", "/api/v1/experiments"):
            async with session.get(home + path) as answer:
                seen.answers[path] = answer.status, await answer.text()
        path = f"/api/v1/experiments/{playing.experiment}"
        async with session.get(home + path) as answer:
            seen.answers[path] = answer.status, await answer.text()


@pytest.fixture(scope="module")
def played() -> Played:
    return asyncio.run(_play())


def test_the_broken_treatment_is_rolled_back_and_the_effect_is_seen(played: Played) -> None:
    shown = played.view.experiments[played.scene.experiment]
    standing = shown.book.standings["boosted-v2"]
    assert (standing.state, standing.verified) == (State.ROLLED_BACK, True)
    assert [each.action for each in shown.decisions] == ["rollback", "accepted", "rolled_back"]
    (reason,) = shown.decisions[0].reasons
    assert reason.startswith("rap -")
    weighed = shown.decisions[0].judgements["rap:sequential"].evidence
    assert weighed is not None
    assert weighed.harm is not None
    assert weighed.harm >= weighed.harm_needed


def test_the_defect_begins_at_its_customer_and_not_before(played: Played) -> None:
    offers = load_offers()
    for event in played.events:
        if event["type"] == "prediction":
            number = int(event["unit_id"])
            broken = number >= DEFECT_AT
            treated = offers[number].defect if broken else offers[number].good
            decision = treated if event["variant"] == "boosted-v2" else offers[number].control
            assert event["predicted"] == decision.call
            assert event["score"] == decision.score


def test_the_router_obeyed_at_once_and_for_good(played: Played) -> None:
    stopped = played.scene.router.rolled_back_at
    assert stopped is not None
    assert DEFECT_AT < stopped < played.scene.served - 300
    variants = {
        int(event["unit_id"]): event["variant"]
        for event in played.events
        if event["type"] == "prediction"
    }
    assert sorted(variants) == list(range(played.scene.served))
    assert {variants[n] for n in range(stopped, played.scene.served)} == {"rule-v1"}
    before = [variants[n] for n in range(stopped)]
    assert 0.45 < before.count("boosted-v2") / stopped < 0.55
    assert len(played.scene.router.orders) == 1


def test_what_was_counted_is_what_was_sent(played: Played) -> None:
    found = experiment(played.view.experiments[played.scene.experiment])
    truths = {e["prediction_id"]: e["actual"] for e in played.events if e["type"] == "outcome"}
    for variant, facts in found["variants"].items():
        sent = [e for e in played.events if e.get("variant") == variant]
        assert facts["predictions"] == len(sent)
        told = [e for e in sent if e["prediction_id"] in truths]
        assert facts["unlabelled"] == len(sent) - len(told)
        right = sum(e["predicted"] and truths[e["prediction_id"]] for e in told)
        wrong = sum(e["predicted"] and not truths[e["prediction_id"]] for e in told)
        assert (facts["counts"]["tp"], facts["counts"]["fp"]) == (right, wrong)


def test_the_story_tells_what_the_events_say(played: Played) -> None:
    playing, offers = played.scene, load_offers()
    shown = played.view.experiments[playing.experiment]
    story = tell(playing.offers[: playing.served], playing.router, shown, playing.economics)
    lost = bad = 0.0
    for event in played.events:
        if event.get("variant") == "boosted-v2" and int(event["unit_id"]) >= DEFECT_AT:
            offer = offers[int(event["unit_id"])]
            value = REVENUE * offer.accepted - COST
            lost += value * offer.control.call - value * event["predicted"]
            bad += 1
    assert (story.bad_predictions, story.lost) == (bad, lost)
    assert story.would_have_been_lost > story.lost > 0
    assert story.verified is True
    assert story.defect_at == DEFECT_AT
    assert story.rolled_back_at == playing.router.rolled_back_at


def test_everything_can_be_asked_while_the_scene_goes_on(played: Played) -> None:
    answered = played.answers
    assert {status for status, _ in answered.values()} == {200}
    families = text_string_to_metric_families(answered["/metrics"][1])
    samples = [sample for family in families for sample in family.samples]
    predictions = sum(s.value for s in samples if s.name == "abmonitor_predictions_total")
    assert predictions == 2_000
    assert json.loads(answered["/readyz"][1]) == {"status": "ready"}
    (short,) = json.loads(answered["/api/v1/experiments"][1])["experiments"]
    assert short["predictions"] == 2_000
    full = json.loads(answered[short["url"]][1])
    assert full["variants"].keys() == {"rule-v1", "boosted-v2"}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_screen_is_readable_whatever_its_width(played: Played, width: int) -> None:
    assert len(played.frames) > 20
    for frame in played.frames:
        lines = frame[width].splitlines()
        assert "…" not in frame[width]
        assert all(len(line) == width for line in lines)
        assert len(lines) <= 24
        for title in ("RAP over time", "latency p50/p95/p99, ms", "state", "100 % decides"):
            assert sum(title in line for line in lines) == 1
        assert any("rule-v1" in line and "boosted-v2" in line for line in lines)


def test_the_screen_tells_the_story(played: Played) -> None:
    first, last = played.frames[0][80], played.frames[-1][80]
    assert "both models work as they should" in first
    assert "no decisions yet" in first
    assert re.search(r"│ rap +inconclusive +not looked at yet +│", first)
    few = "positives (effective) in the smaller variant"
    assert any(few in frame[80] for frame in played.frames)
    assert any("the treatment reads stale features" in frame[80] for frame in played.frames)
    assert "all traffic to control since customer" in last
    assert "rollback: rap -" in last
    assert "rolled back: the treatment's traffic is gone" in last


def test_the_evidence_against_the_broken_treatment_grows_until_it_decides(played: Played) -> None:
    told = [re.search(r"rap +(\w+) +[▮▯]{5} (\w+) (\d+) %", frame[80]) for frame in played.frames]
    seen = [(found[1], found[2], int(found[3])) for found in told if found]
    assert ("inconclusive", "rollback", 0) in seen
    assert any(phase == "inconclusive" and 0 < share < 100 for phase, _, share in seen)
    phase, verdict, share = seen[-1]
    assert (phase, verdict) == ("fail", "rollback")
    assert share >= 100
    assert all(
        (share >= 100) == (phase == "fail") for phase, way, share in seen if way == "rollback"
    )


def test_the_ending_is_told_in_plain_words(played: Played) -> None:
    playing = played.scene
    shown = played.view.experiments[playing.experiment]
    story = tell(playing.offers[: playing.served], playing.router, shown, playing.economics)
    text = " ".join(text_of(ending(story)).replace("│", " ").split())
    assert "broke at customer 3,000." in text
    assert f"at {story.rolled_back_at:,}, and the monitor saw the traffic go:" in text
    assert f"decided {story.bad_predictions:,} times, which cost {story.lost:,.0f} €" in text
    assert all(reason in text for reason in story.reasons)
    assert story.false_alarms == shown.experiment.testing.alpha == 0.05
    assert "no worse than tolerated, at most 5% are ever rolled back" in text
    assert "UCI Bank Marketing" in text


# --- the story ------------------------------------------------------------------------------------


def offer(number: int, *, accepted: bool, control: bool, defect: bool) -> Offer:
    decisions = (Decision(0.5, call) for call in (control, True, defect))
    return Offer(number, "2009-01-01", "admin.", accepted, *decisions)


def router(**changes: Any) -> Router:
    options: dict[str, Any] = {
        "experiment": "offers",
        "control": "old",
        "treatment": "new",
        "defect_at": 0,
        "secret": SECRET,
        "clock": lambda: NOW,
    }
    return Router(**options | changes)


def test_a_story_without_a_rollback_saves_nothing(played: Played) -> None:
    told = router(treatment="boosted-v2")
    offers = [offer(n, accepted=False, control=False, defect=True) for n in range(100)]
    treated = sum(told.assigned(each) == "boosted-v2" for each in offers)
    shown = played.view.experiments[played.scene.experiment]
    economics = Profitability(unit_revenue=REVENUE, unit_cost=COST)
    story = tell(offers, told, shown, economics)
    assert story.lost == story.would_have_been_lost == treated * COST
    assert story.document()["saved"] == 0
    assert "It was NOT rolled back." in text_of(ending(story))


def test_a_story_needs_money(played: Played) -> None:
    shown = played.view.experiments[played.scene.experiment]
    with pytest.raises(ValueError, match="unit_revenue and unit_cost"):
        tell([], router(), shown, Profitability(q=3))


def test_of_a_rollback_for_something_else_than_evidence_no_rate_of_false_alarms_is_told(
    played: Played,
) -> None:
    playing = played.scene
    shown = played.view.experiments[playing.experiment]
    silent = ("boosted-v2 had no predictions for 15m while control flowed",)
    rollback, *others = shown.decisions
    for reasons in (silent, rollback.reasons + silent):
        changed = (msgspec.structs.replace(rollback, reasons=reasons), *others)
        view = replace(shown, decisions=changed)
        story = tell(playing.offers, playing.router, view, playing.economics)
        assert story.reasons == reasons
        assert story.false_alarms is story.document()["false_alarms"] is None
        assert "ever rolled back" not in text_of(ending(story))


def test_an_ending_takes_reasons_as_they_are() -> None:
    story = Story(3, 5, 9, 2, 10.0, 30.0, False, ("rap [/red] fell",))
    assert "rap [/red] fell" in text_of(ending(story))
    assert "unverified" in text_of(ending(story))


# --- the router -----------------------------------------------------------------------------------


def order(**changes: Any) -> bytes:
    """An order as the webhook writes it."""
    document = {
        "specversion": "1.0",
        "id": "offers:new:1:1",
        "type": "dev.abmonitor.rollback.v1",
        "dryrun": False,
        "data": {"experiment": "offers", "treatment": "new", "control": "old"},
    }
    return json.dumps(document | changes).encode()


def signed(body: bytes, *, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    message = "offers:new:1:1"
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": signing.sign(secret, message, int(at), body),
    }


async def answers(told: Router, *requests: tuple[bytes, dict[str, str]]) -> list[int]:
    found = []
    async with TestClient(TestServer(told.application())) as client:
        for body, headers in requests:
            found.append((await client.post("/rollback", data=body, headers=headers)).status)
    return found


async def test_a_genuine_order_is_obeyed_once_however_often_it_comes() -> None:
    told, body = router(), order()
    told.serve(offer(7, accepted=True, control=False, defect=False), 1_000)
    assert await answers(told, (body, signed(body)), (body, signed(body))) == [204, 204]
    assert told.rolled_back_at == 8
    told.serve(offer(8, accepted=True, control=False, defect=False), 2_000)
    assert await answers(told, (body, signed(body, at=NOW + 100))) == [204]
    assert told.rolled_back_at == 8
    assert told.orders == ["offers:new:1:1"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(order(), secret="guessed"),
        signed(order(id="another")),
        signed(order(), at=NOW - 301),
        signed(order(), at=NOW + 301),
        signed(order()) | {"webhook-id": "offers:new:1:2"},
        signed(order()) | {"webhook-timestamp": "soon"},
        signed(order()) | {"webhook-signature": "v1,"},
    ],
)
async def test_an_order_that_is_forged_or_old_is_refused(headers: dict[str, str]) -> None:
    told = router()
    assert await answers(told, (order(), headers)) == [401]
    assert told.rolled_back_at is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"id": "offers:new:1:1"}', 400),
        (order(data={"experiment": "others", "treatment": "new"}), 404),
        (order(data={"experiment": "offers", "treatment": "old"}), 404),
        (order(dryrun=True), 204),
        (order(type="dev.abmonitor.dryrun.v1", dryrun=True), 204),
        (order(type="dev.abmonitor.promotion.v1"), 204),
    ],
)
async def test_a_genuine_order_that_is_not_a_rollback_of_this_treatment_moves_nothing(
    body: bytes, status: int
) -> None:
    told = router()
    assert await answers(told, (body, signed(body))) == [status]
    assert told.rolled_back_at is None


async def test_only_posting_is_an_order() -> None:
    told, body = router(), order()
    async with TestClient(TestServer(told.application())) as client:
        for method, path in (("GET", "/rollback"), ("PUT", "/rollback"), ("POST", "/")):
            answer = await client.request(method, path, data=body, headers=signed(body))
            assert answer.status in {404, 405}
    assert told.rolled_back_at is None


def test_customers_are_assigned_by_hash_and_served_the_same_again() -> None:
    offers = [offer(n, accepted=n % 3 == 0, control=False, defect=True) for n in range(400)]
    one, two = router(), router()
    assert [one.assigned(each) for each in offers] == [two.assigned(each) for each in offers]
    for at, each in enumerate(offers):
        assert one.serve(each, at * 6_000) == two.serve(each, at * 6_000)
    assert one.due(10**9) == two.due(10**9)
    other = router(seed=8)
    assert [one.assigned(each) for each in offers] != [other.assigned(each) for each in offers]


def test_every_outcome_comes_once_when_it_is_due() -> None:
    told = router()
    offers = [offer(n, accepted=n % 3 == 0, control=False, defect=True) for n in range(300)]
    sent = [event for n, each in enumerate(offers) for event in told.serve(each, n * 6_000)]
    sent += told.due(10**9)
    assert not told.due(10**9)
    arrivals = [event.arrival for event in sent]
    assert arrivals == sorted(arrivals)
    outcomes = [json.loads(event.value) for event in sent if b'"outcome"' in event.value]
    assert {each["prediction_id"]: each["actual"] for each in outcomes} == {
        f"call-{each.number:06d}": each.accepted for each in offers
    }
    assert len(outcomes) == 300


# --- offers, settings, screen, ports --------------------------------------------------------------


def rows() -> Iterator[dict[str, str]]:
    packed = (files("abmonitor.demo") / "data" / "offers.csv.gz").read_bytes()
    yield from csv.DictReader(io.StringIO(gzip.decompress(packed).decode()))


def test_offers_are_what_the_file_says() -> None:
    offers = load_offers()
    assert len(offers) > CUSTOMERS > DEFECT_AT
    for number, (row, found) in enumerate(zip(rows(), offers, strict=True)):
        assert found.number == number
        assert found.accepted == bool(int(row["accepted"]))
        assert found.defect == Decision(float(row["defect_score"]), row["defect"] == "1")


def test_the_assignment_is_a_plain_hash_of_seed_and_customer() -> None:
    told = router()
    for each in (offer(n, accepted=True, control=True, defect=True) for n in range(50)):
        bit = blake2b(f"{told.seed}:{each.number}".encode(), digest_size=8).digest()[0] & 1
        assert told.assigned(each) == ("new" if bit else "old")


def test_the_demo_is_declared_as_any_experiment_is() -> None:
    (declared,) = demo_settings().experiments
    assert declared.treatments == ("boosted-v2",)
    assert declared.profitability is not None
    assert (declared.profitability.unit_revenue, declared.profitability.unit_cost) == (60, 20)
    assert declared.on_breach.action == "webhook"


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], "\N{EN DASH}"),
        ([None, None], "\N{EN DASH}"),
        ([1.0], "▁"),
        ([1.0, 1.0], "▁▁"),
        ([0.0, 7.0], "▁█"),
        ([None, -1.0, None, 1.0], " ▁ █"),
        (list(range(8)), "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_trend_is_drawn_between_its_extremes(values: Sequence[float | None], bars: str) -> None:
    assert spark(values).plain == bars
    assert len(bars) <= TREND


async def test_what_follows_a_screen_in_a_file_begins_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Played:
        finished = True

        def __init__(self) -> None:
            self.monitor = self

        async def tick(self) -> View:
            return View()

        async def end(self) -> View:
            return View()

    monkeypatch.setattr(Screen, "draw", lambda *_: Panel("the last screen"))
    console = Console(file=io.StringIO(), width=40)
    await run._play(cast("Scene", Played()), console, 0.0)
    console.print(Panel("the end"))
    text = cast("io.StringIO", console.file).getvalue()
    assert text.count("╯") == text.count("╯\n") == 2


async def test_a_wanted_port_that_is_taken_is_an_error() -> None:
    app = application(View, lambda: None)
    async with serving(app, HOST, 0) as taken:
        with pytest.raises(PortError, match=f"port {taken} on 127.0.0.1 cannot be used: Address"):
            await scene(taken).__aenter__()


async def test_without_a_wish_a_free_port_is_found_when_the_usual_one_is_taken() -> None:
    app = application(View, lambda: None)
    try:
        async with serving(app, HOST, DEFAULT_PORT), scene(None) as playing:
            assert playing.port not in {0, DEFAULT_PORT}
    except OSError:  # taken by somebody else: so much the better
        async with scene(None) as playing:
            assert playing.port not in {0, DEFAULT_PORT}


async def test_the_scene_is_not_ready_before_the_first_tick() -> None:
    async with scene(0) as playing, aiohttp.ClientSession() as session:
        url = f"http://{HOST}:{playing.port}/readyz"
        async with session.get(url) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (503, "nothing was read yet")
        await playing.monitor.tick()
        async with session.get(url) as answer:
            assert answer.status == 200


async def test_everything_is_closed_with_the_scene() -> None:
    async with scene(0) as playing:
        port = playing.port
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://{HOST}:{port}/healthz")
