"""The stack of deploy/compose.yaml as processes of this machine, without containers. This module does I/O.

The same commands, environment, configuration files and secrets, with other addresses and folders: `support.compose`
says what is taken over and what is not.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from support.compose import DEPLOY, Mount, Service, layers, read, translated
from support.servers import alertmanager
from support.servers.base import HOST, LocalServer, NoServerError, free_ports, need
from support.servers.kafka import JAVA
from support.servers.kafka_jars import kafka_jars


ROOT = DEPLOY.parent
ONLOOKER = Path(__file__).with_name("onlooker")
"""Says what a Python process writes to the file system: containers cannot."""

WRITES = "writes to the file system: "
"""What the onlooker's lines begin with."""

PYTHON = {"PYTHONPATH": f"{ONLOOKER}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
"""The second as in the image."""

ASK_EVERY_S = 0.3
"""How often a service is asked whether it is well, while it starts."""

ONCE_S = 120
"""How long something that is done once may take."""

OURS = {
    "abmonitor": ("-m", "abmonitor"),
    "python": (),
    "wget": ("-m", "abmonitor.healthcheck"),  # there may be none here; options are no addresses
}
"""Programs of images that this Python runs."""

Edit = Callable[[str], str]

_REACHED = "import sys, kafka; kafka.KafkaAdminClient(bootstrap_servers=sys.argv[2]).close()"
"""What Kafka's own tool says is not among the jars: whether the broker at `--bootstrap-server` answers."""


class Stack(AbstractContextManager["Stack"]):
    """All services, which run inside its context; raises NoServerError where a program is missing.

    `edits` change files before anybody reads them: path in the container → what to do with the text.
    `only`: the names of some services, whose needs are taken for met; None for all.
    """

    def __init__(
        self,
        compose: Path = DEPLOY / "compose.yaml",
        edits: Mapping[str, Edit] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        found = read(compose)
        self.services = {name: each for name, each in found.items() if only is None or name in only}
        for each in self.services.values():
            _program(each.command[0])
        if "kafka" in self.services:
            kafka_jars()
        owned = [(name, port) for name, each in self.services.items() for port in each.ports]
        self._ports = dict(zip(owned, free_ports(len(owned)), strict=True))
        self._edits = dict(edits or {})
        self._stack = ExitStack()
        self.secrets = Path()
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.secrets = Path(stack.enter_context(TemporaryDirectory(prefix="abmonitor-stack-")))
            make_secrets(self.secrets)
            for layer in layers(self.services):
                self._start(layer, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, service: str, port: int) -> str:
        """Where a service's port is on this machine: host:port."""
        return f"{HOST}:{self._ports[service, port]}"

    def secret(self, name: str) -> str:
        """What a file of secrets holds."""
        return (self.secrets / name).read_text()

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {name}:\n{each.tail()}" for name, each in self.processes.items())

    def _start(self, layer: Sequence[Service], stack: ExitStack) -> None:
        made = [self._process(each) for each in layer]
        with ThreadPoolExecutor(len(made)) as pool:
            started = list(pool.map(lambda each: _entered(each, stack), made))
        problem = next((each for each in started if each is not None), None)
        if problem is not None:
            # Everything that it needs is here: this is no reason to leave a test out.
            raise AssertionError(f"{problem}\n{self.tails()}") from problem

    def _process(self, service: Service) -> "Process":
        process = Process(service, self._ports, self.secrets, self._edits)
        self.processes[service.name] = process
        return process


class Process(LocalServer):
    """One service."""

    def __init__(
        self,
        service: Service,
        ports: Mapping[tuple[str, int], int],
        secrets: Path,
        edits: Mapping[str, Edit],
    ) -> None:
        super().__init__()
        self.name = service.name
        self._service, self._ports, self._secrets, self._edits = service, ports, secrets, edits

    def start(self) -> None:
        """Run it, and wait until it is well; where it does something once, until that is done."""
        if not self._service.ends:
            super().start()
            return
        with self.log.open("ab") as log:
            done = subprocess.run(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                timeout=ONCE_S,
                check=False,
            )
        if done.returncode:
            raise NoServerError(f"{self.name} ended with {done.returncode}:\n{self.tail()}")

    def _prepare(self) -> None:
        for mount in sorted(self._service.mounts, key=lambda each: len(each.target)):
            self._mount(mount)
        if self.name == "kafka":
            _kafka_scripts(self.folder / "opt/kafka/bin")

    def _mount(self, mount: Mount) -> None:
        here, source = Path(f"{self.folder}{mount.target}"), mount.source
        if source is None:
            here.mkdir(parents=True, exist_ok=True)
            return
        if mount.secret:
            source = self._secrets / source.name
        assert source.exists(), f"{self.name}: there is no {source} to mount at {mount.target}"
        for file in _files(source):
            target = here / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            edit = self._edits.get(str(target).removeprefix(str(self.folder)), str)
            target.write_text(self._translated(edit(file.read_text())))
            target.chmod(file.stat().st_mode)

    def _translated(self, text: str) -> str:
        return translated(text, self._service, self._ports, self.folder)

    def _command(self) -> Sequence[str]:
        given = {name: self._translated(text) for name, text in self._service.environment.items()}
        around = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **PYTHON}
        variables = [f"{name}={value}" for name, value in {**around, **given}.items()]
        return ["env", "-i", *variables, *self._here(self._service.command)]

    def _here(self, command: Sequence[str]) -> Iterator[str]:
        """A command of a container as one of this machine."""
        program, *arguments = (self._translated(each) for each in command)
        yield from _program(program)
        yield from arguments

    def _is_ready(self) -> bool:
        time.sleep(ASK_EVERY_S)  # each question is a process of its own
        health = list(self._here(self._service.health or ("true",)))
        environment = {**os.environ, **PYTHON}
        asked = subprocess.run(health, capture_output=True, check=False, env=environment)
        return asked.returncode == 0


def make_secrets(folder: Path) -> None:
    """Make secrets as an operator does."""
    subprocess.run([DEPLOY / "secrets.sh", folder], check=True)


def _entered(process: Process, stack: ExitStack) -> NoServerError | None:
    try:
        stack.enter_context(process)
    except NoServerError as error:
        return error
    return None


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    else:
        yield from (path for path in sorted(source.rglob("*")) if path.is_file())


def _program(name: str) -> tuple[str, ...]:
    """What runs a program of an image here; raises NoServerError."""
    if name in OURS:
        return (sys.executable, *OURS[name])
    names = alertmanager.COMMANDS if name == "alertmanager" else (name,)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoServerError(f"no stack: {' or '.join(names)} not found; install it")
    return (found,)


def _kafka_scripts(folder: Path) -> None:
    """What Kafka's image has in its folder `bin`, as far as it is used, over the jars of Maven."""
    need("java", purpose="Kafka")
    java = f'exec {" ".join(JAVA)} -cp "{kafka_jars()}/*"'
    folder.mkdir(parents=True)
    for name, line in (
        ("kafka-storage.sh", f'{java} kafka.tools.StorageTool "$@"'),
        ("kafka-server-start.sh", f'{java} kafka.Kafka "$@"'),
        ("kafka-broker-api-versions.sh", f"exec {sys.executable} -c '{_REACHED}' \"$@\""),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
