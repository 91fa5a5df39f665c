"""Looks at the stack as a person does: over HTTP, at its monitors, its Prometheus and its Alertmanager. This module does I/O."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from support.stack import Stack


MONITORS = {"monitor-1": 8000, "monitor-2": 8000}
PATIENCE_S = 240.0
PAUSE_S = 1.0

Alert = dict[str, Any]


def asked(url: str) -> Any:
    """A JSON document, None where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None


class Watcher:
    """Looks at a stack as a person does, over HTTP."""

    def __init__(self, stack: Stack, experiment: str) -> None:
        self.stack, self._experiment = stack, experiment
        self.ever: dict[str, Alert] = {}
        """Alerts of either server at any time, by name."""
        self.prometheus = f"http://{stack.address('prometheus', 9090)}"
        self.alertmanager = f"http://{stack.address('alertmanager', 9093)}"
        self.router = f"http://{stack.address('load', 8080)}"

    def monitor(self, name: str) -> str:
        """The address of a monitor."""
        return f"http://{self.stack.address(name, MONITORS[name])}"

    def status(self, name: str) -> dict[str, Any]:
        """How a monitor says that the experiment stands; nothing where it does not answer."""
        told = asked(f"{self.monitor(name)}/api/v1/status?experiment={self._experiment}")
        return dict(told["experiments"][0]) if told and told["experiments"] else {}

    def leader(self) -> str | None:
        """The monitor that leads; None where it is not exactly one."""
        leading = [name for name in MONITORS if self.status(name).get("leads")]
        return leading[0] if len(leading) == 1 else None

    def treatment(self) -> dict[str, Any]:
        """How the treatment stands, by whichever monitor answers."""
        for name in MONITORS:
            for each in self.status(name).get("treatments", ()):
                return dict(each)
        return {}

    def note_alerts(self) -> dict[str, Alert]:
        """What fires now, at either server; it is kept."""
        told = asked(f"{self.prometheus}/api/v1/alerts") or {"data": {"alerts": []}}
        firing = [each for each in told["data"]["alerts"] if each["state"] == "firing"]
        firing += asked(f"{self.alertmanager}/api/v2/alerts") or []
        found = {each["labels"]["alertname"]: each for each in firing}
        self.ever |= found
        return found

    def messages(self) -> list[tuple[str, str]]:
        """What reached the chat and the pager: which of them, and the title."""
        told = asked(f"http://{self.stack.address('inbox', 9094)}/messages") or []
        slack = [each for each in told if each["to"] != "watchdog"]
        return [(each["to"], each["message"]["attachments"][0]["title"]) for each in slack]

    def rollbacks(self) -> list[Alert]:
        """The alert of the rollback, as Alertmanager has it from each source."""
        told = asked(f"{self.alertmanager}/api/v2/alerts?filter=alertname=AbmonitorRollback") or []
        return sorted(told, key=lambda each: str(each["labels"].get("source")))

    def until(self, is_true: Callable[[], object], what: str) -> None:
        """Ask until the answer is yes, noting alerts meanwhile; fails with the ends of all logs."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_true():
            self.note_alerts()
            if time.monotonic() > deadline:
                pytest.fail(f"not within {PATIENCE_S:g} s: {what}\n{self.stack.tails()}")
            time.sleep(PAUSE_S)
