"""What the settings say about hooks: whose alarms may roll back."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated

from msgspec import Meta, Struct


OURS = "Abmonitor"
"""How our own alerts' names begin."""

AlertName = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
"""The name of an alert, with `*` and `?` for anything."""


class AlertmanagerHook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alerts of your Prometheus may roll a treatment back."""

    alerts: tuple[AlertName, ...] = ()
    """By alertname; none: every alert is refused."""

    def may_act(self, alert: str) -> bool:
        """Whether an alert of that name may act; our own never do: a rollback would cause itself."""
        if alert.startswith(OURS):
            return False
        return any(fnmatchcase(alert, glob) for glob in self.alerts)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and what is wrong with them."""
        for glob in self.alerts:
            if glob.startswith(OURS):
                yield (
                    "alerts",
                    (
                        f"{glob!r}: alerts of abmonitor never act, or a rollback would cause itself; expected names"
                        " of your own alerts"
                    ),
                )


class HookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who else may make the monitor act."""

    alertmanager: AlertmanagerHook = AlertmanagerHook()
