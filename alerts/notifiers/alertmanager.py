"""Alertmanager: says over and over which alerts fire, and for a while which ones do not any more."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from alerts.notifiers.firing import SEVERITY, Alert, firing
from alerts.notifiers.news import News
from alerts.notifiers.post import Poster, Problem, Target, checked, under
from alerts.notifiers.words import (
    filled,
    filled_runbook,
    plain,
    rfc3339,
    runbook_problems,
)
from alerts.order import Receipt


EVERY_S = 60.0
LASTS_MS = 240_000
"""How far ahead an alert that fires is said to end: three messages may be lost until it seems resolved."""

RESOLVED_FOR_MS = 300_000
"""How long it is said that an alert is over, so that messages may be lost here, too."""

ONCE_FOR_MS = 900_000
_PATH = "/api/v2/alerts"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_LABELS = frozenset({"alertname", "experiment", "variant", "severity", "source"})
_SOURCE = "monitor"
"""By which routes tell these alerts from those of the same names that Prometheus makes of our metrics."""
_LABEL_VALUE = 128
_TEXT = 2_000

Key = tuple[str, str, str]


class AlertmanagerOptions(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one Alertmanager is, and what it is told beside the alerts."""

    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Added to every alert, for routes: team, cluster and the like."""
    runbooks: str | None = None
    """Where people find what to do: an address in which `{alert}` is filled in."""
    once_for_ms: int = ONCE_FOR_MS
    """How long an alert fires that tells of a moment, such as a rollback that is done."""

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options, without quoting what may be secret."""
        yield from Target.problems(self)
        yield from (("labels", text) for text in label_problems(self.labels))
        if self.runbooks is not None:
            yield from (("runbooks", text) for text in runbook_problems(self.runbooks))
        if self.once_for_ms <= 0:
            yield "once_for_ms", f"expected a time above 0, got {self.once_for_ms}"


def label_problems(labels: dict[str, str]) -> Iterator[str]:
    """What is wrong with labels that are added to every alert."""
    for name, value in labels.items():
        if not _LABEL.fullmatch(name):
            yield f"{name!r} is not the name of a label: expected letters, digits and _"
        elif name in _OWN_LABELS:
            yield f"{name} is set by abmonitor itself"
        elif not value or value != plain(value, _LABEL_VALUE):
            yield f"{name}: expected 1 to {_LABEL_VALUE} characters on one line"


class Alertmanager:
    """Posts alerts. Raises ValueError, without secrets, for options that cannot work.

    A treatment that it is told of no more, because another monitor has taken over or the experiment is
    gone, is not spoken of any more: its alerts end at the time that was given with them, or when the one
    that has taken over says that they are over.
    """

    every_s = EVERY_S

    def __init__(self, options: AlertmanagerOptions) -> None:
        checked("alertmanager", options)
        self._options = options
        url = options.url
        self._poster = Poster(options, url if url.endswith(_PATH) else under(url, _PATH))
        self._fired: dict[Key, Alert] = {}
        self._over: dict[Key, Alert] = {}
        """Resolved; `until` is since when."""
        self._told: set[tuple[str, str]] | None = None
        """Experiments and treatments that it speaks of; None before it was asked to."""

    def __repr__(self) -> str:
        return f"Alertmanager({self._options!r})"

    async def notify(self, news: News) -> Receipt | None:
        """Post what fires, and what has stopped to lately; None where there is neither."""
        if news.decision is not None:
            return None
        alerts = [*self._look(news)]
        if not alerts:
            return None
        return await self._poster.post([self._document(alert, news.at) for alert in alerts])

    def _look(self, news: News) -> Iterable[Alert]:
        """What is to be posted, and remember what fires."""
        once_for, at = self._options.once_for_ms, news.at
        fires = {
            alert.key: alert
            for situation in news.situations
            for alert in firing(situation, at, once_for)
        }
        told = {(situation.experiment, situation.treatment) for situation in news.situations}
        taken = set() if self._told is None else told - self._told
        self._over |= {alert.key: alert for alert in _left_behind(taken, at)}
        self._told = told
        for key, alert in self._fired.items():
            ended = at if alert.until is None else min(at, alert.until)
            self._over[key] = msgspec.structs.replace(alert, until=ended)
        self._over = {
            key: alert
            for key, alert in self._over.items()
            if key[1:] in told and key not in fires and at - (alert.until or 0) < RESOLVED_FOR_MS
        }
        self._fired = fires
        # What may inhibit others begins before these and ends after them, or people hear of both.
        first = sorted(fires.values(), key=_is_minor)
        return [*first, *sorted(self._over.values(), key=_is_minor, reverse=True)]

    def _document(self, alert: Alert, at: int) -> dict[str, object]:
        lasts = at + LASTS_MS
        ends = lasts if alert.until is None else min(lasts, alert.until)
        labels = {
            "alertname": alert.name,
            "experiment": plain(alert.experiment, _LABEL_VALUE),
            "variant": plain(alert.variant, _LABEL_VALUE),
            "severity": alert.severity,
            "source": _SOURCE,
        }
        made: dict[str, object] = {
            "labels": {**self._options.labels, **labels},
            "annotations": _annotations(alert) | self._runbook(alert),
            # Of the data's clock, which may be ahead of ours; a start behind the end is refused.
            "startsAt": rfc3339(min(alert.since, at, ends)),
            "endsAt": rfc3339(ends),
        }
        if self._options.link is not None:
            where = filled(
                self._options.link, alert.experiment, alert.variant, alert.decision or ""
            )
            made["generatorURL"] = where
        return made

    def _runbook(self, alert: Alert) -> dict[str, str]:
        pattern = self._options.runbooks
        return {} if pattern is None else {"runbook_url": filled_runbook(pattern, alert.name)}

    async def close(self) -> None:
        """Close the connections; what fires ends at the time that was given with it."""
        await self._poster.close()


def _left_behind(taken: set[tuple[str, str]], at: int) -> Iterator[Alert]:
    """As over, every alert that whoever spoke of these treatments before may have left firing.

    Of what was not firing nobody is told that it is over.
    """
    for experiment, treatment in sorted(taken):
        for name, severity in SEVERITY.items():
            yield Alert(
                name=name,
                severity=severity,
                experiment=experiment,
                variant=treatment,
                since=at,
                until=at,
                summary=f"{treatment} of {experiment}: over, says the monitor that has taken over",
            )


def _is_minor(alert: Alert) -> bool:
    return alert.severity != "critical"


def _annotations(alert: Alert) -> dict[str, str]:
    found = {
        "summary": plain(alert.summary, _TEXT),
        "description": plain("; ".join(alert.reasons), _TEXT),
        "since": rfc3339(alert.since),
        "actor": plain(alert.actor or "", _LABEL_VALUE),
        "decision": plain(alert.decision or "", 4 * _LABEL_VALUE),
    }
    return {name: text for name, text in found.items() if text}
