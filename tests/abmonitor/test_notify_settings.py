"""What the settings may say about notifications."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from abmonitor.channels import channels_of
from abmonitor.convert import convert, schema
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret, SecretError
from abmonitor.settings import PARSERS
from abmonitor.yaml_source import parse
from alerts.actions import ACTIONS
from alerts.notifiers.alertmanager import Alertmanager
from alerts.notifiers.grafana import Grafana
from alerts.notifiers.slack import Slack
from alerts.notifiers.words import HEADLINES
from metrics.duration import Duration
from metrics.moment import Moment


GUIDE = Path(__file__).parents[2] / "docs" / "notifications.md"
HOOK = "https://hooks.slack.example/services/T0/B0/T0P5ECRET"
ENVIRON = {
    "SLACK_WEBHOOK": HOOK,
    "ALERTMANAGER_URL": "http://am-0:9093, http://am-1:9093,",
    "GRAFANA_URL": "https://grafana.example",
    "GRAFANA_TOKEN": "glsa_T0P5ECRET",
}


def read(text: str) -> tuple[NotifySettings | None, list[str]]:
    document, mistakes = parse(textwrap.dedent(text), "f")
    assert document is not None
    assert not mistakes
    settings, found = convert(document, NotifySettings, PARSERS, {})
    return settings, [str(one) for one in found]


def notifier(**given: Any) -> NotifierSettings:
    fields: dict[str, Any] = {"kind": "slack", "url": Secret(env="SLACK_WEBHOOK")} | given
    return NotifierSettings(**fields)


def fields_with_problems(**given: Any) -> list[str]:
    return [field for field, _ in notifier(**given).problems()]


def test_everything_can_be_said_in_yaml() -> None:
    settings, mistakes = read("""
        link: https://grafana.example/d/ab?var-experiment={experiment}
        runbooks: https://runbooks.example/{alert}
        to:
          - kind: alertmanager
            url: {env: ALERTMANAGER_URL}
            labels: {team: growth}
            once_for: 5m
          - kind: slack
            url: {env: SLACK_WEBHOOK}
            name: growth-chat
            experiments: ["offers*"]
            actions: [rollback, rollback_failed]
          - {kind: grafana, url: {env: GRAFANA_URL}, token: {env: GRAFANA_TOKEN}, dashboard: ab}
    """)
    assert mistakes == []
    assert settings is not None
    assert list(settings.problems()) == []
    channels = channels_of(settings, ENVIRON)
    assert [(one.name, type(one.notifier)) for one in channels] == [
        ("alertmanager-1", Alertmanager),
        ("alertmanager-2", Alertmanager),
        ("growth-chat", Slack),
        ("grafana", Grafana),
    ]
    told = channels[0].notifier
    assert isinstance(told, Alertmanager)
    assert "runbooks='https://runbooks.example/{alert}'" in repr(told)
    chat = channels[2]
    assert (chat.experiments, chat.actions) == (("offers*",), {"rollback", "rollback_failed"})
    assert "http://am-1:9093" in repr(channels[1].notifier)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("to: [{kind: pager, url: {env: A}}]", "pager"),
        ("to: [{kind: slack, url: https://hooks.slack.example/x}]", "never from settings"),
        ("to: [{kind: slack, url: {env: A}, actions: [rolback]}]", "rolback"),
        ("to: [{kind: slack, url: {env: A}, actions: []}]", "actions"),
        ("to: [{kind: slack, url: {env: A}, experiments: [a b]}]", "experiments"),
        ("to: [{kind: slack, url: {env: A}, colour: red}]", "colour"),
        ("to: [{kind: slack}]", "'url' is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, told: str) -> None:
    settings, mistakes = read(text)
    assert settings is None
    assert told in "\n".join(mistakes)


def test_every_action_that_has_words_can_be_asked_for() -> None:
    assert set(ACTIONS) == set(HEADLINES)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, []),
        ({"timeout": Duration(0)}, ["timeout"]),
        ({"timeout": Duration(30_000)}, []),
        ({"timeout": Duration(30_001)}, ["timeout"]),
        ({"once_for": Duration(0)}, ["once_for"]),
        ({"labels": {"team": "growth"}}, ["labels"]),
        ({"kind": "alertmanager", "labels": {"team": "growth"}}, []),
        ({"kind": "alertmanager", "labels": {"alertname": "x"}}, ["labels"]),
        ({"kind": "alertmanager", "actions": ("hold",)}, ["actions"]),
        ({"dashboard": "ab"}, ["dashboard"]),
        ({"kind": "grafana"}, ["kind"]),
        ({"kind": "grafana", "token": Secret(env="T"), "dashboard": "ab"}, []),
    ],
)
def test_what_does_not_go_together_is_told(given: dict[str, Any], fields: list[str]) -> None:
    assert fields_with_problems(**given) == fields


def test_two_of_a_kind_need_names() -> None:
    twice = NotifySettings(to=(notifier(), notifier()))
    assert [field for field, _ in twice.problems()] == ["to"]
    named = NotifySettings(to=(notifier(), notifier(name="other")))
    assert list(named.problems()) == []


def test_runbooks_that_lead_nowhere_are_told() -> None:
    for pattern in ("https://a.example/{experiment}", "runbooks/{alert}"):
        assert [f for f, _ in NotifySettings(runbooks=pattern).problems()] == ["runbooks"]


def test_a_link_that_leads_nowhere_is_told() -> None:
    assert [f for f, _ in NotifySettings(link="https://a.example/{variant}").problems()] == ["link"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"SLACK_WEBHOOK": "T0P5ECRET"}, {"SLACK_WEBHOOK": "ftp://a.example/T0P5ECRET"}],
)
def test_an_address_that_is_missing_or_cannot_be_is_told_without_it(
    environ: dict[str, str],
) -> None:
    with pytest.raises(SecretError, match="notify: slack: ") as raised:
        channels_of(NotifySettings(to=(notifier(),)), environ)
    assert "T0P5ECRET" not in str(raised.value)


def test_an_alertmanager_without_any_address_is_told() -> None:
    none = NotifySettings(to=(notifier(kind="alertmanager"),))
    with pytest.raises(SecretError, match="no address"):
        channels_of(none, {"SLACK_WEBHOOK": " , "})


def test_editors_get_a_schema() -> None:
    made = schema(NotifySettings, {Duration: str, Moment: str, Secret: dict[str, str]})
    assert "alertmanager" in str(made["$defs"]["NotifierSettings"]["properties"]["kind"])


def test_the_examples_of_the_guide_are_right() -> None:
    blocks = re.findall(r"```yaml\nnotify:\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        settings, mistakes = read(block)
        assert mistakes == [], block
        assert settings is not None
        assert list(settings.problems()) == []
        for one in settings.to:
            assert list(one.problems()) == []
