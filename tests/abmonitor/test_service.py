"""What a monitor consists of: looked up before it starts, with everything that is missing told at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from support.site import declared, settings

from abmonitor.api_settings import ApiSettings
from abmonitor.breach import OnBreach
from abmonitor.connections import KafkaSettings
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret, SecretError
from abmonitor.service import Service, outside
from abmonitor.settings import Settings
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.actuators.log import Log
from alerts.actuators.webhook import Webhook
from stream.store import Store


# --- actuators ------------------------------------------------------------------------------------


def breached(**options: Any) -> Settings:
    kafka = KafkaSettings(control=None)
    return settings(declared(on_breach=OnBreach(**options)), declared("others"), kafka=kafka)


async def test_each_experiment_has_an_actuator_of_its_own() -> None:
    url, key = Secret(env="ROLLBACK_URL"), Secret(env="KEY")
    given = breached(action="webhook", url=url, secret=key)
    environ = {"ROLLBACK_URL": "https://router.example/abc", "KEY": "whispered"}
    found = outside(given, environ).actuators
    assert found.keys() == {"offers", "others"}
    assert isinstance(found["offers"], Webhook)
    assert isinstance(found["others"], Log)
    assert repr(found["offers"]) == "Webhook(https://router.example)"
    for actuator in found.values():
        await actuator.close()


@pytest.mark.parametrize("missing", ["ROLLBACK_URL", "KEY"])
def test_a_missing_address_or_secret_is_named(missing: str) -> None:
    given = breached(action="webhook", url=Secret(env="ROLLBACK_URL"), secret=Secret(env="KEY"))
    environ = {"ROLLBACK_URL": "https://router.example/abc", "KEY": "whispered"}
    del environ[missing]
    with pytest.raises(SecretError, match=f"environment variable {missing} is not set"):
        outside(given, environ)


def test_a_secret_in_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    given = breached(action="webhook", url=Secret(file=str(tmp_path / "url")))
    with pytest.raises(SecretError, match="cannot read the file"):
        outside(given, {})


def test_an_address_that_is_none_is_refused_without_being_repeated() -> None:
    given = breached(action="webhook", url=Secret(env="ROLLBACK_URL"))
    with pytest.raises(SecretError, match="webhook: url: expected an http") as told:
        outside(given, {"ROLLBACK_URL": "hunter2"})
    assert "hunter2" not in str(told.value)


def test_everything_that_is_missing_is_told_at_once() -> None:
    to = NotifierSettings(kind="slack", url=Secret(env="CHAT"))
    given = settings(
        declared(on_breach=OnBreach(action="webhook", url=Secret(env="ROLLBACK_URL"))),
        notify=NotifySettings(to=(to,)),
    )
    with pytest.raises(SecretError) as told:
        outside(given, {})
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    for name, line in zip(("ABMONITOR_KAFKA", "ROLLBACK_URL", "CHAT"), lines, strict=True):
        assert f"environment variable {name} is not set" in line
    assert "control: null" in lines[0]


async def test_without_a_control_log_no_kafka_is_needed_but_for_orders() -> None:
    kafka = KafkaSettings(control=None)
    assert outside(settings(declared(), kafka=kafka), {}).log is None
    ordering = declared(on_breach=OnBreach(action="kafka"))
    with pytest.raises(SecretError, match="ABMONITOR_KAFKA"):
        outside(settings(ordering, kafka=kafka), {})
    found = outside(settings(declared()), {"ABMONITOR_KAFKA": "localhost:9092"})
    assert repr(found.log) == "ControlLog(abmonitor.control, shop/)"
    await found.close()


async def test_a_flag_file_says_what_it_keeps_off(tmp_path: Path) -> None:
    options = FlagdOptions(path=str(tmp_path / "flags.json"))
    given = breached(action="flagd", flagd=options)
    found = outside(given, {})
    assert isinstance(found.actuators["offers"], Flagd)
    assert await found.switched_off("offers") == {}
    assert await found.switched_off("others") == {}
    await found.close()


async def until(client: TestClient[web.Request, web.Application], path: str, what: str) -> None:
    while what not in await (await client.get(path)).text():  # noqa: ASYNC110 # it is another's loop
        await asyncio.sleep(0.02)


async def test_a_service_judges_and_serves_and_tells_of_itself(store: Store) -> None:
    kafka = KafkaSettings(control=None)
    given = settings(declared(), kafka=kafka)
    service, stop = Service(given, store, outside(given, {})), asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    async with TestClient(TestServer(service.application())) as client:
        async with asyncio.timeout(30):
            await until(client, "/readyz", '"ready"')
            await until(client, "/metrics", 'leader{experiment="offers"} 1.0')
        text = await (await client.get("/metrics")).text()
        assert 'abmonitor_state_unknown{experiment="offers"} 0.0' in text
        assert "abmonitor_control_log_behind 0.0" in text
        page = await client.get("/")
        assert (page.status, page.content_type) == (200, "text/html")
        assert "experiments/offers" in await page.text()
        for path in ("/experiments/offers", "/assets/page.js", "/assets/page.css"):
            assert (await client.get(path)).status == 200
        flags = await (await client.get("/flags/flagd.json")).json()
        assert flags["flags"]["offers"]["defaultVariant"] == "old"
        refused = await client.post("/api/v1/experiments/offers/pause", json={"reason": "x"})
        assert refused.status == 403
    lease = "{shop:experiment:offers}:lease:*"
    assert len([key async for key in store.client.scan_iter(lease)]) == 1
    stop.set()
    await running
    assert [key async for key in store.client.scan_iter(lease)] == [], "it was given up"


def test_a_file_of_tokens_that_is_not_there_is_told_with_the_rest(tmp_path: Path) -> None:
    given = settings(
        declared(),
        kafka=KafkaSettings(control=None),
        api=ApiSettings(tokens=str(tmp_path / "none.yaml")),
    )
    with pytest.raises(SecretError, match=r"api\.tokens: .*none\.yaml"):
        outside(given, {})
