"""What a monitor looks up: everything that is not here is told, once, and no value with it."""

from pathlib import Path
from typing import Any

from support.site import declared, settings

from abmonitor.api_settings import ApiSettings
from abmonitor.breach import OnBreach, VerifySettings
from abmonitor.connections import KafkaSettings
from abmonitor.lookups import missing
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret
from abmonitor.settings import Settings
from alerts.actuators.flagd import FlagdOptions


REDIS = {"ABMONITOR_REDIS": "redis://here"}
NO_LOG = KafkaSettings(control=None)


def with_breach(*names: str, **options: Any) -> Settings:
    breach = OnBreach(**options)
    return settings(*(declared(name, on_breach=breach) for name in names), kafka=NO_LOG)


def test_where_all_is_here_nothing_is_told() -> None:
    assert missing(settings(declared(), kafka=NO_LOG), REDIS) == []


def test_kafka_is_looked_up_for_the_control_log_and_for_orders() -> None:
    told = ["not set here: ABMONITOR_KAFKA (kafka)"]
    assert missing(settings(declared()), REDIS) == told
    assert missing(with_breach("offers", action="kafka"), REDIS) == told


def test_every_variable_is_told_once_with_all_who_want_it() -> None:
    given = with_breach(
        "offers",
        "prices",
        action="webhook",
        url=Secret(env="ROLLBACK_URL"),
        secret=Secret(env="KEY"),
        headers={"X-Plain": "plain", "X-Token": Secret(env="TOKEN")},
        verify=VerifySettings(url=Secret(env="READ_BACK"), expect={"/state": "off"}),
    )
    both = "on_breach of offers, on_breach of prices"
    assert missing(given, REDIS | {"KEY": "whispered"}) == [
        f"not set here: ROLLBACK_URL ({both}), READ_BACK ({both}), TOKEN ({both})"
    ]


def test_notifiers_are_told_by_their_names(tmp_path: Path) -> None:
    url, token = Secret(env="GRAFANA"), Secret(file=str(tmp_path / "token"))
    one = NotifierSettings(kind="grafana", name="charts", url=url, token=token)
    given = settings(declared(), kafka=NO_LOG, notify=NotifySettings(to=(one,)))
    assert missing(given, {}) == [
        "not set here: ABMONITOR_REDIS (redis), GRAFANA (notify: charts)",
        f"cannot read the file {tmp_path / 'token'}: No such file or directory (notify: charts)",
    ]


def test_a_token_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    given = settings(declared(), kafka=NO_LOG, api=ApiSettings(tokens=str(file)))
    for text in (None, "tokens: 7\n"):
        if text is not None:
            file.write_text(text)
        (told,) = missing(given, REDIS)
        assert str(file) in told
        assert told.endswith("(api.tokens)")
    file.write_text("tokens: []\n")
    assert missing(given, REDIS) == []


def test_a_folder_for_flags_that_is_not_there_is_told(tmp_path: Path) -> None:
    def told(path: Path) -> list[str]:
        options = FlagdOptions(path=str(path))
        return missing(with_breach("offers", action="flagd", flagd=options), REDIS)

    folder = tmp_path / "flags"
    assert told(folder / "flags.json") == [
        f"there is no folder {folder} here (on_breach of offers: flagd)"
    ]
    assert told(tmp_path / "flags.json") == []
