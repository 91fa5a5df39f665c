"""A server that is a process of ours, which can be stopped, killed, frozen and started again. This module does I/O."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import pytest


HOST = "127.0.0.1"
START_S = 60
STOP_S = 30
PAUSE_S = 0.02
TAIL = 2_000
"""Characters of a log that an error shows."""

# Below the ports that systems take for outgoing connections: a client that tries again and again to reach a
# stopped server there could otherwise be connected with itself, and keep the port from the server.
PORTS = range(20_000, 32_000)
_given: set[int] = set()


class NoServerError(Exception):
    """There is nothing to test against."""


@contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test where there is no server; in continuous integration nothing may be skipped."""
    try:
        yield
    except NoServerError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


class LocalServer(AbstractContextManager["LocalServer"], ABC):
    """A server in a process of its own, with a folder that lives as long as this object's context.

    It runs inside its context. Whatever is done to it, `start` brings it up again on the same ports with
    the data that it has kept. It does not outlive the process of the tests, even where that is killed.
    """

    name = "server"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self.folder = Path()

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What to run."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it serves; is asked again and again."""

    def _prepare(self) -> None:
        """Make what it needs in `folder`, once."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            kept = tempfile.TemporaryDirectory(
                prefix=f"abmonitor-{self.name}-",
                ignore_cleanup_errors=True,  # what a killed server had started may still be writing
            )
            self.folder = Path(stack.enter_context(kept))
            self._prepare()
            stack.callback(self.stop)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def log(self) -> Path:
        """The file with everything that it has said."""
        return self.folder / "log"

    @property
    def is_running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it, and wait until it serves; raises NoServerError. Nothing happens where it runs already."""
        if self.is_running:
            return
        self._end()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )
        self._watch = _watched(self._process.pid)
        deadline = time.monotonic() + START_S
        while not self._is_ready() or not self.is_running:  # another may answer on its port
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise NoServerError(f"{self.name} did not come up; its log ends:\n{self.tail()}")
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and wait until it has."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        self.resume()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None and self.is_running:
            self._process.kill()
        self._end()

    def suspend(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, and nothing answers, as when the network is cut."""
        assert self._process is not None, f"{self.name} was never started"
        assert self.is_running, f"{self.name} does not run"
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # from here on it is still

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-TAIL:] if self.log.exists() else "(no log)"

    def _end(self) -> None:
        if self._process is not None:
            self._process.wait()
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None


def _watched(pid: int) -> subprocess.Popen[bytes]:
    """A process that kills `pid` when ours is gone: the pipe to it closes then."""
    script = 'read -r _; kill -9 "$0"'
    return subprocess.Popen(
        ["sh", "-c", script, str(pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; none is given twice."""
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(ports) == count:
            return ports
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    raise NoServerError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    """Ask until the answer is yes; raises NoServerError after START_S seconds."""
    deadline = time.monotonic() + START_S
    while not is_true():
        if time.monotonic() > deadline:
            raise NoServerError(f"{what}: not within {START_S} s")
        time.sleep(PAUSE_S)


def need(*commands: str, purpose: str) -> None:
    """Raise NoServerError where one of the commands is not installed."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise NoServerError(
            f"no {purpose}: {' and '.join(missing)} not found; install it "
            "(tests/support/servers/__init__.py tells what else there is)"
        )


def run(command: Sequence[str], *, purpose: str, folder: Path | None = None) -> str:
    """What a command prints; raises NoServerError with the end of that where it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-TAIL:]
        raise NoServerError(f"no {purpose}: {command[0]} ended with {done.returncode}:\n{said}")
    return done.stdout


def docker_answers() -> bool:
    """Whether there are a Docker engine and testcontainers."""
    docker = shutil.which("docker")
    if docker is None or find_spec("testcontainers") is None:
        return False
    asked = subprocess.run([docker, "version"], capture_output=True, timeout=10, check=False)
    return asked.returncode == 0  # the client alone answers 1


@contextmanager
def all_running(servers: Sequence[LocalServer]) -> Iterator[None]:
    """Run several; the last is stopped first."""
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield
