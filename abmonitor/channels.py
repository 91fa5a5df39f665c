"""The notifiers that the settings ask for, with their addresses and secrets looked up (file system)."""

from collections.abc import Iterator, Mapping

from abmonitor.notify import Channel
from abmonitor.notify_settings import NotifierSettings, NotifySettings
from abmonitor.secret import Secret, SecretError
from alerts.notifiers.alertmanager import Alertmanager, AlertmanagerOptions
from alerts.notifiers.grafana import Grafana, GrafanaOptions
from alerts.notifiers.news import Notifier
from alerts.notifiers.slack import Slack, SlackOptions


def channels_of(settings: NotifySettings, environ: Mapping[str, str]) -> tuple[Channel, ...]:
    """The notifiers that the settings ask for.

    Raises SecretError, which never contains an address or a secret, where one is missing or cannot be.
    """
    channels: list[Channel] = []
    for one in settings.to:
        try:
            found = list(_notifiers(one, settings, environ))
        except (SecretError, ValueError) as error:
            raise SecretError(f"notify: {one.called}: {error}") from None
        if not found:
            raise SecretError(f"notify: {one.called}: {one.url.source} holds no address")
        for number, notifier in enumerate(found, start=1):
            name = one.called if len(found) == 1 else f"{one.called}-{number}"
            actions = None if one.actions is None else frozenset(one.actions)
            channels.append(Channel(name, notifier, one.experiments, actions))
    return tuple(channels)


def _notifiers(
    one: NotifierSettings, settings: NotifySettings, environ: Mapping[str, str]
) -> Iterator[Notifier]:
    link = settings.link
    url, token = one.url.resolve(environ), _optional(one.token, environ)
    proxy, seconds = _optional(one.proxy, environ), one.timeout / 1000
    match one.kind:
        case "slack":
            yield Slack(SlackOptions(url=url, token=token, proxy=proxy, timeout=seconds, link=link))
        case "grafana":
            yield Grafana(
                GrafanaOptions(
                    url=url,
                    token=token,
                    proxy=proxy,
                    timeout=seconds,
                    link=link,
                    dashboard=one.dashboard,
                )
            )
        case "alertmanager":
            for address in filter(None, (part.strip() for part in url.split(","))):
                yield Alertmanager(
                    AlertmanagerOptions(
                        url=address,
                        token=token,
                        proxy=proxy,
                        timeout=seconds,
                        link=link,
                        labels=one.labels,
                        runbooks=settings.runbooks,
                        once_for_ms=int(one.once_for),
                    )
                )


def _optional(secret: Secret | None, environ: Mapping[str, str]) -> str | None:
    return None if secret is None else secret.resolve(environ)
