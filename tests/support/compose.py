"""What deploy/compose.yaml says of each service, and how to say the same without containers. This module does I/O (files).

Only what decides how a process behaves is taken over: MIRRORED. NOT_MIRRORED says why the rest is not.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.servers.base import HOST


DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

MIRRORED = frozenset(
    {
        "command",
        "depends_on",
        "entrypoint",
        "environment",
        "expose",
        "healthcheck",
        "ports",
        "secrets",
        "tmpfs",
        "volumes",
    }
)
"""Keys of a service that its process follows."""

NOT_MIRRORED = {
    "build": "the package runs from the working tree; an image needs a container engine",
    "cap_drop": "needs a container",
    "deploy": "limits of memory, processors and processes need a container",
    "image": "the programs of this machine run instead: Debian's, and Kafka's jars",
    "logging": "each process has a log file of its own",
    "networks": "all is on the loopback of this machine",
    "platform": "the programs of this machine run",
    "pull_policy": "no images are used",
    "read_only": "needs a container; support/onlooker tells what processes of ours write",
    "restart": "a test that kills a process starts it again",
    "security_opt": "needs a container",
    "user": "the user of the tests runs everything",
}
"""Keys of a service that its process does not follow, and why."""

LEFT_OUT = {"grafana": "neither Debian nor a registry of packages has it"}
"""Services that are not run, and why."""

OURS = "abmonitor:local"
"""The image of deploy/Dockerfile."""

IMAGES = {
    "apache/kafka": (),
    "prom/alertmanager": ("alertmanager",),
    "prom/prometheus": ("prometheus",),
    "redis": (),
}
"""What images begin with where a service does not say."""

BROUGHT_ALONG = ("/opt/kafka",)
"""Folders of images that commands name."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the host that a container sees; without a source it is empty at first."""

    target: str
    source: Path | None = None
    secret: bool = False
    """It is one of those that deploy/secrets.sh makes."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be run."""

    name: str
    command: tuple[str, ...]
    """With the image's entry point."""
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    """Where it listens."""
    mounts: tuple[Mount, ...]
    health: tuple[str, ...] | None
    """What ends with 0 while it is well."""
    needs: Mapping[str, str]
    """Services that come before it, and their condition."""

    @property
    def ends(self) -> bool:
        """Whether it does something once, and ends."""
        return self.health is None


def read(path: Path = DEPLOY / "compose.yaml") -> dict[str, Service]:
    """The services that can be run without containers, by name."""
    document = yaml.safe_load(path.read_text())
    return {
        name: _service(name, said, document, path.parent)
        for name, said in document["services"].items()
        if name not in LEFT_OUT
    }


def layers(services: Mapping[str, Service]) -> Iterator[list[Service]]:
    """Services that may start together, after all that those before them need."""
    left = dict(services)
    while left:
        free = [each for each in left.values() if not set(each.needs) & set(left)]
        assert free, f"depends_on goes in a circle: {', '.join(left)}"
        yield free
        for each in free:
            del left[each.name]


def translated(
    text: str, service: Service, ports: Mapping[tuple[str, int], int], root: Path
) -> str:
    """A text of a container in the words of this machine: its paths below `root`, and its addresses.

    `ports`: service and its port → the port on the loopback.
    """
    words: dict[str, str] = {r"(?<![\d.])0\.0\.0\.0(?![\d.])": HOST}
    for (name, port), here in ports.items():
        words[rf"(?<![\w.-]){re.escape(name)}:{port}(?!\d)"] = f"{HOST}:{here}"
        if name == service.name:
            words[rf"(?<![\w.]){port}(?![\w.])"] = str(here)
    targets = [mount.target for mount in service.mounts]
    for path in sorted([*targets, *BROUGHT_ALONG], key=len, reverse=True):
        words[rf"(?<![\w./-]){re.escape(path)}(?![\w-])"] = f"{root}{path}"
    return _replaced(text, words)


def _replaced(text: str, words: Mapping[str, str]) -> str:
    """All replacements in one go, so that none is made in what another one wrote."""
    found = list(words.values())
    pattern = "|".join(f"({each})" for each in words)
    return re.sub(pattern, lambda match: found[(match.lastindex or 1) - 1], text)


def _service(name: str, said: dict[str, Any], document: dict[str, Any], folder: Path) -> Service:
    strange = set(said) - MIRRORED - set(NOT_MIRRORED)
    assert not strange, (
        f"{name}: neither MIRRORED nor NOT_MIRRORED has {', '.join(sorted(strange))}"
    )
    begins = said.get("entrypoint") or _begins(said, folder)
    return Service(
        name,
        (*map(str, begins), *map(str, said.get("command", ()))),
        {key: str(value) for key, value in said.get("environment", {}).items()},
        tuple(_ports(said)),
        (*_mounts(said, folder), *_secrets(said, document["secrets"], folder)),
        _health(said),
        {other: each["condition"] for other, each in said.get("depends_on", {}).items()},
    )


def _begins(said: dict[str, Any], folder: Path) -> tuple[str, ...]:
    if said["image"] == OURS:
        text = (folder / "Dockerfile").read_text()
        (found,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
        return tuple(json.loads(found))
    return IMAGES[said["image"].partition(":")[0]]


def _ports(said: dict[str, Any]) -> Iterator[int]:
    yield from (int(port) for port in said.get("expose", ()))
    yield from (int(port.rpartition(":")[2]) for port in said.get("ports", ()))


def _mounts(said: dict[str, Any], folder: Path) -> Iterator[Mount]:
    for text in said.get("volumes", ()):
        source, target = text.split(":")[:2]
        yield Mount(target, folder / source if source.startswith(".") else None)
    yield from (Mount(text.partition(":")[0]) for text in said.get("tmpfs", ()))


def _secrets(
    said: dict[str, Any], declared: Mapping[str, dict[str, str]], folder: Path
) -> Iterator[Mount]:
    for each in said.get("secrets", ()):
        name = each if isinstance(each, str) else each["source"]
        target = f"/run/secrets/{name}" if isinstance(each, str) else each["target"]
        yield Mount(target, folder / declared[name]["file"], secret=True)


def _health(said: dict[str, Any]) -> tuple[str, ...] | None:
    check = said["healthcheck"]
    if check.get("disable"):
        return None
    kind, *command = check["test"]
    assert kind == "CMD", f"expected a health check without a shell, got {check['test']}"
    return tuple(command)
