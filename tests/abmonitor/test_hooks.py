"""Alerts of other people's Prometheus that roll a treatment back: what each does, and a real Alertmanager."""

import asyncio
import io
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.exceptions import ConnectionError as RedisConnectionError
from support.panes import START, steady
from support.servers.alertmanager import AlertmanagerServer
from support.servers.base import or_skip
from support.site import END, Site, actions, declared, kept, monitor, settings, standing

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.api_settings import ApiSettings
from abmonitor.auth import Role, Tokens, line, new_token
from abmonitor.books import UnknownStateError
from abmonitor.breach import OnBreach
from abmonitor.connections import KafkaSettings
from abmonitor.explain import Found
from abmonitor.hook_settings import AlertmanagerHook, HookSettings
from abmonitor.hooks import MAX_BODY, PATH, Hooks, Result, routes
from abmonitor.monitor import Commanded, Monitor
from abmonitor.server import application
from abmonitor.service import Service, outside
from abmonitor.settings import Brake, Settings, SettingsError, load
from alerts.machine import Alarm, Command
from alerts.standing import State
from alerts.store import StaleBookError
from metrics.experiment import MINUTE
from metrics.moment import Moment
from stream.store import Store


NAMES = AlertmanagerHook(alerts=("Checkout*", "Slow"))


def alert(name: str = "CheckoutSlow", began: int = START, **changed: Any) -> dict[str, Any]:
    """An alert as Alertmanager 0.25 posts it; `labels` are added to it."""
    labels = {"experiment": "offers", "variant": "new", "severity": "page"}
    made = {
        "status": "firing",
        "labels": {"alertname": name} | labels | changed.pop("labels", {}),
        "annotations": {"summary": "checkouts take 9 s", "description": "p99 of the new model"},
        "startsAt": str(Moment(began)),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=secret",
        "fingerprint": "5a1f00c0ffee5a1f",
    }
    return made | changed


def without(label: str, **changed: Any) -> dict[str, Any]:
    made = alert(**changed)
    del made["labels"][label]
    return made


def message(*alerts: Any, **changed: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": '{}:{alertname="CheckoutSlow"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "automation",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": list(alerts),
    } | changed


@dataclass
class Bench:
    """A monitor whose hook is served."""

    monitor: Monitor
    site: Site
    client: TestClient[Any, Any]
    tokens: dict[str, str] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    """Statuses of everything that was answered."""

    async def post(self, *alerts: Any, who: str = "robot") -> tuple[int, list[tuple[str, str]]]:
        """The status, and what became of each alert, and why."""
        status, told = await self.send(message(*alerts), who)
        return status, [(one["result"], one["why"]) for one in told["alerts"]]

    async def send(self, document: object, who: str | None = "robot") -> tuple[int, dict[str, Any]]:
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens.get(who, who)}"}
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = await self.client.post(PATH, data=io.BytesIO(body), headers=headers)
        return answer.status, await answer.json()

    async def pass_time(self, minutes: int = 1) -> None:
        for _ in range(minutes):
            self.site.now += MINUTE
            await self.monitor.tick()

    async def say(self, verb: str, *, force: bool = False) -> None:
        said = Command(self.site.now, verb, "ann", "because", force=force)
        made = await self.monitor.command("offers", "new", said)
        assert made.decisions, made.refused


def hooks_of(made: Any, given: Settings, site: Site, hook: AlertmanagerHook = NAMES) -> Hooks:
    experiments = {each.name: each for each in given.experiments}
    return Hooks(made, experiments, hook, lambda: site.now)


@asynccontextmanager
async def bench(
    store: Store,
    folder: Path,
    *,
    site: Site | None = None,
    given: Settings | None = None,
    control: Any = None,
    hooked: Settings | None = None,
    hook: AlertmanagerHook = NAMES,
) -> AsyncIterator[Bench]:
    """Two experiments, after five minutes. `control` takes alarms in the monitor's place; `hooked`: what hooks know."""
    chosen = given or settings(declared(), declared("prices"))
    site = site or Site(steady(END))
    made = monitor(store, site, chosen)
    tokens, file = dict[str, str](), folder / "tokens.yaml"
    lines = ["tokens:"]
    wanted: tuple[tuple[str, Role, str], ...] = (
        ("robot", "operate", "*"),
        ("reader", "read", "*"),
        ("pricer", "operate", "prices"),
    )
    for name, role, glob in wanted:
        tokens[name], entry = new_token(name, role, (glob,))
        lines.append(line(entry))
    file.write_text("\n".join(lines) + "\n")
    app = application(
        lambda: made.view,
        lambda: None,
        api=Api(made, kept(store), Guard(Tokens(file)), lambda: site.now),
        more=routes(hooks_of(control or made, hooked or chosen, site, hook)),
    )
    seen: list[int] = []

    async def note(_: web.Request, answer: web.StreamResponse) -> None:
        seen.append(answer.status)

    app.on_response_prepare.append(note)
    async with TestClient(TestServer(app)) as client:
        opened = Bench(made, site, client, tokens, seen)
        await opened.pass_time(5)
        yield opened


# --- what an alert does ---------------------------------------------------------------------------


async def test_an_alert_rolls_back_its_treatment_and_the_trail_says_why(
    store: Store, tmp_path: Path
) -> None:
    async with bench(store, tmp_path) as made:
        status, told = await made.post(alert())
        assert (status, told) == (200, [("rolled_back", "it is being rolled back")])
        first = (await kept(store).decisions("offers"))[0]
        assert made.site.received == [first.id]
        assert (first.action, first.treatment) == ("rollback", "new")
        assert first.actor == "alertmanager: CheckoutSlow"
        assert first.reasons == (
            "alertmanager: CheckoutSlow: checkouts take 9 s; p99 of the new model",
            f"it fires since {Moment(START)}, fingerprint 5a1f00c0ffee5a1f, sent with the token of robot",
        )
        assert "prometheus.example" not in msgspec.json.encode(first).decode()
        assert await actions(store, "prices") == []
        explained = Found.of(first, None).explained()
        assert explained.same is True
        assert "by alertmanager: CheckoutSlow" in explained.steps[0].lines[0]
        await made.pass_time(6)
        assert await actions(store) == ["rollback", "accepted", "rolled_back"]


async def test_without_a_variant_it_is_about_the_only_treatment(
    store: Store, tmp_path: Path
) -> None:
    async with bench(store, tmp_path) as made:
        status, told = await made.post(without("variant"))
        assert (status, told[0][0]) == (200, "rolled_back")


TABLE: dict[str, tuple[Any, int, str, str]] = {
    "resolved": (alert(status="resolved"), 200, "ignored", "until a person re-arms it"),
    "ours": (alert("AbmonitorRollback"), 200, "ignored", "never acted on"),
    "not declared": (alert("Other"), 403, "refused", 'hooks: {alertmanager: {alerts: ["Other"]}}'),
    "no name": (without("alertname"), 403, "refused", "may not act here"),
    "the control": (
        alert(labels={"variant": "old"}),
        200,
        "ignored",
        "it is about the control old",
    ),
    "another variant": (
        alert(labels={"variant": "older"}),
        422,
        "refused",
        "label variant: expected one of new, got 'older'",
    ),
    "another experiment": (
        alert(labels={"experiment": "ads"}),
        422,
        "refused",
        "no experiment 'ads'; there are: offers, prices",
    ),
    "no experiment": (without("experiment"), 422, "refused", "a label `experiment`"),
    "a number": (7, 400, "refused", "Expected `object`, got `int`"),
    "no start": (alert(startsAt="yesterday"), 400, "refused", "startsAt"),
    "no zone": (alert(startsAt="2026-01-01T00:00:00"), 400, "refused", "startsAt"),
    "the year 1": (alert(startsAt="0001-01-01T00:00:00Z"), 400, "refused", "expected a time"),
    "another status": (alert(status="odd"), 400, "refused", "status"),
    "labels that are none": (alert() | {"labels": {"a": 1}}, 400, "refused", "labels"),
}


@pytest.mark.parametrize("kind", TABLE)
async def test_an_alert_that_may_not_act_says_why_and_stops_no_other(
    store: Store, tmp_path: Path, kind: str
) -> None:
    given, expected, result, why = TABLE[kind]
    other = alert(labels={"experiment": "prices"})
    async with bench(store, tmp_path) as made:
        status, told = await made.post(given, other, given)
        assert status == expected
        assert [each for each, _ in told] == [result, "rolled_back", result]
        assert why in told[0][1]
        assert await actions(store) == []
        assert (await actions(store, "prices"))[0] == "rollback"


async def test_by_default_no_alert_may_act(store: Store, tmp_path: Path) -> None:
    async with bench(store, tmp_path, hook=AlertmanagerHook()) as made:
        status, [(result, why)] = await made.post(alert())
        assert (status, result) == (403, "refused")
        assert "into the settings" in why
        assert await actions(store) == []


async def test_fields_that_are_not_known_are_not_looked_at(store: Store, tmp_path: Path) -> None:
    async with bench(store, tmp_path) as made:
        status, told = await made.send(message(alert(more={"a": [1]}), later="0.99"))
        assert (status, told["alerts"][0]["result"]) == (200, "rolled_back")
        assert told["alerts"][0]["fingerprint"] == "5a1f00c0ffee5a1f"


@pytest.mark.parametrize("name", ["newer", None])
async def test_of_several_treatments_it_has_to_name_one(
    store: Store, tmp_path: Path, name: str | None
) -> None:
    asked: list[tuple[str, str | None]] = []

    class Asked:
        async def command(self, name: str, treatment: str | None, command: Alarm) -> Commanded:
            asked.append((name, treatment))
            return Commanded((), {str(treatment): command.actor})

    three = settings(declared(variants={"old": 1.0, "new": 1.0, "newer": 1.0}))
    given = without("variant") if name is None else alert(labels={"variant": name})
    async with bench(store, tmp_path, control=Asked(), hooked=three) as made:
        status, [(result, why)] = await made.post(given)
    if name is None:
        assert (status, result, asked) == (422, "refused", [])
        assert why == "label variant: expected one of new, newer, got ''"
    else:
        assert (status, result, asked) == (200, "ignored", [("offers", "newer")])
        assert why == "alertmanager: CheckoutSlow"


# --- once -----------------------------------------------------------------------------------------


async def test_an_alert_that_is_repeated_for_hours_acts_once_whichever_monitor_gets_it(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    site = Site(steady(END))
    async with (
        bench(store, tmp_path, site=site) as made,
        bench(store, tmp_path / "other", site=site) as other,
    ):
        assert (await made.post(alert()))[1][0][0] == "rolled_back"
        for again in (made, other, made):
            status, [(result, why)] = await again.post(alert())
            assert (status, result) == (200, "ignored")
            assert "rolled back already" in why
            await made.pass_time(6)
        assert await actions(store) == ["rollback", "accepted", "rolled_back"]
        assert [each for each in site.received if each.startswith("offers")] == site.received[:1]


async def test_what_a_person_armed_again_is_not_taken_away_by_the_alert_of_before(
    store: Store, tmp_path: Path
) -> None:
    async with bench(store, tmp_path) as made:
        await made.post(alert())
        await made.pass_time(6)
        await made.say("rearm", force=True)
        status, [(result, why)] = await made.post(alert())
        assert (status, result) == (200, "ignored")
        assert "epoch 2 of the treatment began only at" in why
        made.site.now += MINUTE
        assert (await made.post(alert(began=made.site.now)))[1][0][0] == "rolled_back"


# --- pauses, dry runs, the brake --------------------------------------------------------------------


async def test_in_a_pause_it_is_kept_in_mind_and_acted_on_when_that_ends(
    store: Store, tmp_path: Path
) -> None:
    async with bench(store, tmp_path) as made:
        await made.say("pause")
        assert (await made.post(alert()))[1][0][0] == "latched"
        status, [(result, why)] = await made.post(alert())
        assert (status, result) == (200, "ignored")
        assert why.startswith("harm is kept in mind already: alertmanager: CheckoutSlow")
        await made.pass_time(3)
        assert await actions(store) == ["pause", "harm_while_paused"]
        assert made.site.received == []
        await made.say("resume")
        await made.pass_time()
        assert (await actions(store))[2:4] == ["resume", "rollback"]
        rollback = (await kept(store).decisions("offers"))[3]
        evidence = await kept(store).evidence("offers", rollback.id)
        assert Found.of(rollback, evidence).explained().same is True
        assert rollback.reasons[0].startswith("alertmanager: CheckoutSlow: checkouts take")


async def test_a_dry_run_only_says_what_it_would_do(store: Store, tmp_path: Path) -> None:
    given = settings(declared(on_breach=OnBreach(dry_run=True)))
    async with bench(store, tmp_path, given=given) as made:
        assert (await made.post(alert()))[1][0][0] == "would_roll_back"
        assert (await made.post(alert()))[1][0][0] == "ignored"
        assert (await standing(store)).state is State.WOULD_ROLL_BACK
        assert made.site.received == []


async def test_the_brake_holds_alerts_too_and_they_act_when_it_is_off(
    store: Store, tmp_path: Path
) -> None:
    given = settings(declared(), declared("prices"), brake=Brake(rollbacks=1))
    async with bench(store, tmp_path, given=given) as made:
        prices = alert(labels={"experiment": "prices"})
        assert [each for each, _ in (await made.post(alert(), prices))[1]] == [
            "rolled_back",
            "latched",
        ]
        assert await actions(store, "prices") == ["braked"]
        await made.pass_time(5)
        assert (await standing(store, "prices")).state is State.HOLD
        await made.pass_time(60)
        assert (await actions(store, "prices"))[:2] == ["braked", "rollback"]


async def test_the_brake_holds_alerts_that_come_at_the_same_moment_to_two_monitors(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    names = [f"offers-{number}" for number in range(6)]
    given = settings(*map(declared, names), brake=Brake(rollbacks=2))
    site = Site(steady(END))
    async with (
        bench(store, tmp_path, site=site, given=given) as made,
        bench(store, tmp_path / "other", site=site, given=given) as other,
    ):

        async def post(to: Bench, names: list[str]) -> list[str]:
            posted = (to.post(alert(labels={"experiment": name})) for name in names)
            return [results[0][0] for _, results in await asyncio.gather(*posted)]

        assert sorted(await post(made, names[:4])) == ["latched"] * 2 + ["rolled_back"] * 2
        assert await post(other, names[4:]) == ["latched"] * 2
        decided = [await actions(store, name) for name in names]
        assert sum("rollback" in each for each in decided) == 2


async def test_the_brake_holds_alerts_before_the_first_tick_too(
    store: Store, tmp_path: Path
) -> None:
    given = settings(declared(), declared("prices"), brake=Brake(rollbacks=1))
    async with bench(store, tmp_path, given=given) as made:
        await made.post(alert())
        restarted = monitor(store, made.site, given)
        alarm = Alarm(made.site.now, made.site.now, "alertmanager: CheckoutSlow", ("slow",))
        found = await restarted.command("prices", "new", alarm)
        assert [each.action for each in found.decisions] == ["braked"]


# --- who may, and what cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "expected"), [(None, 401), ("abm_of_nobody", 401), ("reader", 403)]
)
async def test_only_a_token_that_operates_may_post(
    store: Store, tmp_path: Path, who: str | None, expected: int
) -> None:
    async with bench(store, tmp_path) as made:
        status, told = await made.send(message(alert()), who)
        assert status == expected
        assert told["error"]
        assert await actions(store) == []


async def test_a_token_acts_on_its_own_experiments_only(store: Store, tmp_path: Path) -> None:
    async with bench(store, tmp_path) as made:
        prices = alert(labels={"experiment": "prices"})
        status, told = await made.post(alert(), prices, who="pricer")
        assert status == 403
        assert told[0] == (
            "refused",
            "the token of pricer does not cover the experiment 'offers'",
        )
        assert told[1][0] == "rolled_back"
        assert await actions(store) == []


@pytest.mark.parametrize(
    ("document", "expected", "why"),
    [
        (b"{", 400, "what Alertmanager posts to a webhook"),
        (b"[]", 400, "Expected `object`, got `array`"),
        (b"[" * 100_000, 400, "what Alertmanager posts"),
        (b"\xff", 400, "what Alertmanager posts"),
        ({"version": "4"}, 400, "alerts"),
        (message(alert(), version="1"), 400, "version '4', got version '1'"),
        (b" " * (MAX_BODY + 1), 413, "max_alerts"),
    ],
    ids=["cut", "a list", "deep", "no UTF-8", "no alerts", "another version", "huge"],
)
async def test_what_is_no_message_is_refused_and_says_what_was_expected(
    store: Store, tmp_path: Path, document: object, expected: int, why: str
) -> None:
    async with bench(store, tmp_path) as made:
        status, told = await made.send(document)
        assert status == expected
        assert why in told["error"]
        assert await actions(store) == []


async def test_what_alertmanager_left_out_is_in_the_log(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(store, tmp_path) as made:
        await made.send(message(truncatedAlerts=3))
    assert "3 alerts were left out by max_alerts" in caplog.text


# --- what cannot be known -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        UnknownStateError("offers: its book got lost"),
        RedisConnectionError("refused"),
        StaleBookError("offers"),
        OSError("no route"),
        ZeroDivisionError("a mistake"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_not_known_is_to_be_sent_again_and_the_rest_is_done(
    store: Store, tmp_path: Path, error: Exception
) -> None:
    class Failing:
        inner: Monitor

        async def command(self, name: str, treatment: str | None, command: Alarm) -> Commanded:
            if name == "offers":
                raise error
            return await self.inner.command(name, treatment, command)

    control = Failing()
    async with bench(store, tmp_path, control=control) as made:
        control.inner = made.monitor
        prices = alert(labels={"experiment": "prices"})
        status, told = await made.post(alert(), alert("Other"), prices)
        assert status == 503
        assert [each for each, _ in told] == ["unknown", "refused", "rolled_back"]
        assert "secret" not in told[0][1]


# --- the settings ---------------------------------------------------------------------------------


SETTINGS = """\
experiments:
  - {name: offers, control: old, variants: {old: 1, new: 1}, labels: {horizon: 1h}}
hooks: {alertmanager: {alerts: %s}}
"""


def test_the_settings_name_the_alerts_that_may_act(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SETTINGS % '["Checkout*", "Payments slow"]')
    hook = load(file).hooks.alertmanager
    for name, may in (
        ("CheckoutSlow", True),
        ("checkoutSlow", False),
        ("Payments slow", True),
        ("Payments", False),
    ):
        assert hook.may_act(name) is may


def test_our_own_alerts_never_act_whatever_the_settings_say() -> None:
    hook = AlertmanagerHook(alerts=("*",))
    assert hook.may_act("CheckoutSlow")
    assert not hook.may_act("AbmonitorRollback")


@pytest.mark.parametrize("names", ['["AbmonitorRollback"]', '[""]', '["a\\nb"]', "Checkout"])
def test_names_that_cannot_be_are_told_with_their_place(tmp_path: Path, names: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SETTINGS % names)
    with pytest.raises(SettingsError) as told:
        load(file)
    [mistake] = told.value.mistakes
    assert (mistake.line, mistake.file) == (3, str(file))
    assert "hooks.alertmanager.alerts" in str(mistake)


# --- a real Alertmanager ----------------------------------------------------------------------------

WAIT_S = 30.0
ROUTED = """\
route:
  receiver: automation
  group_by: [alertname, experiment]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 1s
receivers:
  - name: automation
    webhook_configs:
      - url: "%s"
        http_config: {authorization: {credentials_file: "%s"}}
"""


@asynccontextmanager
async def alerting(made: Bench, folder: Path) -> AsyncIterator[str]:
    """A real Alertmanager that passes on to the hook whatever it is told, with the robot's token."""
    secret = folder / "token"
    secret.write_text(made.tokens["robot"] + "\n")
    with or_skip():
        server = AlertmanagerServer(ROUTED % (made.client.make_url(PATH), secret))
        await asyncio.to_thread(server.__enter__)
    try:
        yield server.url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def fire(url: str, *names: str) -> None:
    """Tell an Alertmanager, as Prometheus does."""
    alerts = [
        {
            "labels": {"alertname": name, "experiment": "offers", "variant": "new"},
            "annotations": {"summary": "checkouts take 9 s"},
            "startsAt": str(Moment(START + 5 * MINUTE)),
            "endsAt": "2999-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example/graph",
        }
        for name in names
    ]
    asked = urllib.request.Request(
        f"{url}/api/v2/alerts",
        json.dumps(alerts).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 # another process makes it true
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited for {what}")


async def test_a_real_alertmanager_has_the_router_move_the_traffic_once(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "abmonitor.hooks")
    async with bench(store, tmp_path) as made, alerting(made, tmp_path) as url:
        await asyncio.to_thread(fire, url, "CheckoutSlow")
        await until(lambda: made.site.received, "the order at the router")
        posts = len(made.seen)
        await until(lambda: len(made.seen) > posts + 1, "the alert to be repeated")
        await made.pass_time(6)
        assert await actions(store) == ["rollback", "accepted", "rolled_back"]
        assert len(made.site.received) == 1
        assert made.seen[0] == 200


async def test_a_real_alertmanager_says_again_what_was_answered_with_503(
    store: Store, tmp_path: Path
) -> None:
    class Away:
        inner: Monitor
        failures = 2

        async def command(self, name: str, treatment: str | None, command: Alarm) -> Commanded:
            if self.failures:
                self.failures -= 1
                raise RedisConnectionError("refused")
            return await self.inner.command(name, treatment, command)

    control = Away()
    async with bench(store, tmp_path, control=control) as made:
        control.inner = made.monitor
        async with alerting(made, tmp_path) as url:
            await asyncio.to_thread(fire, url, "CheckoutSlow")
            await until(lambda: made.site.received, "the order at the router")
        assert made.seen[:3] == [503, 503, 200]


async def test_a_real_alertmanager_hears_that_an_alert_may_not_act(
    store: Store, tmp_path: Path
) -> None:
    async with bench(store, tmp_path) as made, alerting(made, tmp_path) as url:
        await asyncio.to_thread(fire, url, "AbmonitorRollback", "Undeclared")
        await until(lambda: {200, 403} <= set(made.seen), "both answers")
        assert made.site.received == []
        assert await actions(store) == []


# --- the guide ------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text("utf-8")


def blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


def test_the_settings_of_the_guide_are_right(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SETTINGS.partition("hooks:")[0] + blocks()[0])
    assert load(file).hooks.alertmanager.may_act("CheckoutSlow")


def test_the_routes_of_the_guide_are_right_and_take_its_rule_to_the_monitors() -> None:
    [rule] = yaml.safe_load(blocks()[1])
    config = yaml.safe_load(blocks()[2])
    [route] = config["route"]["routes"]
    name, _, value = route["matchers"][0].partition("=")
    assert rule["labels"][name] == value.strip('"')
    hooks = next(each for each in config["receivers"] if each["name"] == route["receiver"])
    assert all(hook["url"].endswith(PATH) for hook in hooks["webhook_configs"])
    config["route"]["receiver"] = "automation"
    with or_skip(), AlertmanagerServer(yaml.safe_dump(config)) as server:
        assert server.is_running


def test_the_guide_has_every_result() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE))
    assert told == set(get_args(Result))


async def test_the_monitor_as_a_service_has_the_hook(store: Store, tmp_path: Path) -> None:
    token, entry = new_token("robot", "operate")
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens:\n" + line(entry) + "\n")
    given = settings(
        declared(),
        kafka=KafkaSettings(control=None),
        api=ApiSettings(tokens=str(file)),
        hooks=HookSettings(alertmanager=NAMES),
    )
    out = outside(given, {})
    app = Service(given, store, out).application()
    headers = {"Authorization": f"Bearer {token}"}
    async with TestClient(TestServer(app)) as client:
        refused = await client.post(PATH, json=message(alert()))
        assert refused.status == 401
        answer = await client.post(PATH, json=message(alert(), alert("Other")), headers=headers)
        told = await answer.json()
        assert answer.status == 403
        assert [each["result"] for each in told["alerts"]] == ["rolled_back", "refused"]
        assert (await client.get(PATH)).status == 405
    assert (await actions(store))[0] == "rollback"
    await out.close()
