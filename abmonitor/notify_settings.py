"""What the settings say about notifications: who is told of what."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from abmonitor.secret import Secret
from alerts.actions import Action
from alerts.notifiers.alertmanager import (
    ONCE_FOR_MS,
    label_problems,
)
from alerts.notifiers.post import MAX_TIMEOUT
from alerts.notifiers.words import link_problems, runbook_problems
from metrics.duration import Duration
from metrics.experiment import Name


Kind = Literal["alertmanager", "slack", "grafana"]
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
    runbooks: str | None = None
    """Where people find what to do about an alert; `{alert}` is filled in. Only for Alertmanager."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and what is wrong with them."""
        if self.link is not None:
            yield from (("link", text) for text in link_problems(self.link))
        if self.runbooks is not None:
            yield from (("runbooks", text) for text in runbook_problems(self.runbooks))
        names = [one.called for one in self.to]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield (
                "to",
                f"{names.count(name)} notifiers are called {name!r}; give each a name: of its own",
            )
