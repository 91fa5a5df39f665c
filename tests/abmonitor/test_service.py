"""What a monitor consists of: looked up before it starts, with everything that is missing told at once."""

from pathlib import Path
from typing import Any

import pytest
from support.site import declared, settings

from abmonitor.breach import OnBreach
from abmonitor.connections import KafkaSettings
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret, SecretError
from abmonitor.service import outside
from abmonitor.settings import Settings
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.actuators.log import Log
from alerts.actuators.webhook import Webhook


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
