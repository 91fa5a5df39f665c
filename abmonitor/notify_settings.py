"""What the settings say about notifications: who is told of what, and where they are (file system)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from abmonitor.notify import Channel
from abmonitor.secret import Secret, SecretError
from alerts.notifiers.alertmanager import (
    ONCE_FOR_MS,
    Alertmanager,
    AlertmanagerOptions,
    label_problems,
)
from alerts.notifiers.grafana import Grafana, GrafanaOptions
from alerts.notifiers.news import Notifier
from alerts.notifiers.post import MAX_TIMEOUT
from alerts.notifiers.slack import Slack, SlackOptions
from alerts.notifiers.words import link_problems
from metrics.duration import Duration
from metrics.experiment import Name


Kind = Literal["alertmanager", "slack", "grafana"]
Action = Literal[
    "rollback",
    "would_roll_back",
    "rolled_back",
    "rollback_failed",
    "escalated",
    "traffic_returned",
    "accepted",
    "hold",
    "hold_overdue",
    "release",
    "pass",
    "pause",
    "resume",
    "harm_while_paused",
    "braked",
    "rearm",
    "end",
    "restored",
]
Glob = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,64}$")]
"""Names of experiments, with `*` and `?` for anything."""


class NotifierSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place where people are told."""

    kind: Kind
    url: Secret
    """Alertmanager: its address, several with commas between. Slack: the webhook. Grafana: its address."""
    token: Secret | None = None
    """Sent as `Authorization: Bearer`; Grafana needs one."""
    proxy: Secret | None = None
    """The address of an HTTP proxy."""
    name: Name | None = None
    """What it is called in metrics and logs; None: its kind."""
    experiments: Annotated[tuple[Glob, ...], Meta(min_length=1)] = ("*",)
    """Which experiments it is told of."""
    actions: Annotated[tuple[Action, ...], Meta(min_length=1)] | None = None
    """Which decisions it is told of; None: all but `accepted` and `release`. Not for Alertmanager."""
    labels: dict[str, str] = {}
    """Added to every alert; only for Alertmanager."""
    once_for: Duration = Duration(ONCE_FOR_MS)
    """How long an alert fires that tells of a moment, such as a rollback; only for Alertmanager."""
    dashboard: str | None = None
    """UID of the only dashboard that shows the annotations; only for Grafana."""
    timeout: Duration = Duration(5_000)

    @property
    def called(self) -> str:
        """What it is called."""
        return self.name or self.kind

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and what is wrong with them."""
        if not 0 < self.timeout <= MAX_TIMEOUT * 1000:
            yield (
                "timeout",
                f"expected a time above 0 and at most {MAX_TIMEOUT:g}s, got {self.timeout}",
            )
        if not self.once_for > 0:
            yield "once_for", f"expected a time above 0, got {self.once_for}"
        yield from (("labels", text) for text in label_problems(self.labels))
        if self.kind == "grafana" and self.token is None:
            yield "kind", "kind: grafana needs a token, such as {env: GRAFANA_TOKEN}"
        if self.kind == "alertmanager" and self.actions is not None:
            yield (
                "actions",
                (
                    "an Alertmanager is told how everything stands, not what was decided:"
                    " sort alerts by their alertname in its routes"
                ),
            )
        for field, kind, given in (
            ("labels", "alertmanager", bool(self.labels)),
            ("dashboard", "grafana", self.dashboard is not None),
        ):
            if given and self.kind != kind:
                yield field, f"kind: {self.kind} has no use for {field}; {kind} has"


class NotifySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of what happens."""

    to: tuple[NotifierSettings, ...] = ()
    link: str | None = None
    """Where people find out more; `{experiment}`, `{treatment}` and `{decision}` are filled in."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and what is wrong with them."""
        if self.link is not None:
            yield from (("link", text) for text in link_problems(self.link))
        names = [one.called for one in self.to]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield (
                "to",
                f"{names.count(name)} notifiers are called {name!r}; give each a name: of its own",
            )


def channels_of(settings: NotifySettings, environ: Mapping[str, str]) -> tuple[Channel, ...]:
    """The notifiers that the settings ask for.

    Raises SecretError, which never contains an address or a secret, where one is missing or cannot be.
    """
    channels: list[Channel] = []
    for one in settings.to:
        try:
            found = list(_notifiers(one, settings.link, environ))
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
    one: NotifierSettings, link: str | None, environ: Mapping[str, str]
) -> Iterator[Notifier]:
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
                        once_for_ms=int(one.once_for),
                    )
                )


def _optional(secret: Secret | None, environ: Mapping[str, str]) -> str | None:
    return None if secret is None else secret.resolve(environ)
