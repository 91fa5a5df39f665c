"""Workers in processes of their own, which can be killed, frozen and started again. This module does I/O."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from support.servers.base import HOST, _watched, free_ports


TAIL = 3_000
"""Characters of each worker's log that an error shows."""
PAUSE_S = 0.05
HTTP_S = 2.0


def wait_until(
    is_true: Callable[[], bool], what: str, seconds: float, tails: Callable[[], str] = str
) -> None:
    """Ask until the answer is yes; fails with `what` and with what `tails` gives."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}\n{tails()}")
        time.sleep(PAUSE_S)


class WorkerProcess:
    """One `abmonitor worker`; `start` after `kill` or `stop` begins a new life on the same port."""

    def __init__(self, name: str, settings: Path, environ: Mapping[str, str]) -> None:
        self.name, self._settings = name, settings
        self._environ = {**os.environ, **environ}
        (self.port,) = free_ports(1)
        self.log = settings.parent / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it; does not wait for anything."""
        command = [sys.executable, "-m", "abmonitor", "worker"]
        options = ["-c", str(self._settings), "--host", HOST, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ,
                start_new_session=True,
            )
        self._guard = _watched(self._process.pid)

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """What it ended with, None while it runs (frozen or not)."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.poll()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        assert self._process is not None, f"{self.name} was never started"
        self._process.terminate()

    def stop(self, seconds: float = 30) -> int:
        """Ask it to end, wait until it has, and give its exit status."""
        self.terminate()
        return self.ended(seconds)

    def ended(self, seconds: float) -> int:
        """Wait until it has ended by itself, and give its exit status."""
        what = f"{self.name} ends"
        wait_until(lambda: self.exit_status is not None, what, seconds, self.tail)
        status = self.exit_status
        self.kill()
        assert status is not None
        return status

    def freeze(self) -> None:
        """Let nothing of it run (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def problem(self) -> str | None:
        """What /readyz says is wrong; None where it is ready."""
        try:
            self._get("/readyz")
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error)["reason"])
        except OSError as error:
            return f"no answer: {error}"
        return None

    def metric(self, name: str) -> float:
        """A metric of its own, added up over its labels; 0 where it is not told."""
        lines = self._get("/metrics").splitlines()
        found = [
            line.rpartition(" ")[2] for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        ]
        return sum(map(float, found))

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=HTTP_S) as answer:
            body: bytes = answer.read()
            return body.decode()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used, in the system and outside."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Memory that it occupies."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def said(self) -> str:
        """Its whole log, over all of its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """The end of its log."""
        return f"--- {self.name}, exit status {self.exit_status}, ends:\n{self.said()[-TAIL:]}"


class Crew(AbstractContextManager["Crew"]):
    """The workers of one deployment; none outlives the context."""

    def __init__(self, settings: Path, *, kafka: str, redis: str) -> None:
        self._settings = settings
        self._environ = {"ABMONITOR_KAFKA": kafka, "ABMONITOR_REDIS": redis}
        self.workers: list[WorkerProcess] = []

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()

    def hire(self, count: int = 1) -> list[WorkerProcess]:
        """Start `count` more."""
        first = len(self.workers)
        new = [
            WorkerProcess(f"worker-{number}", self._settings, self._environ)
            for number in range(first, first + count)
        ]
        for worker in new:
            self.workers.append(worker)
            worker.start()
        return new

    @property
    def running(self) -> list[WorkerProcess]:
        """Those that have not ended."""
        return [worker for worker in self.workers if worker.exit_status is None]

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until every one that runs says that it is ready."""

        def ready() -> bool:
            self.assert_none_failed()
            return all(worker.problem() is None for worker in self.running)

        wait_until(ready, "all workers are ready", seconds, self.tails)

    def total(self, metric: str) -> float:
        """A metric over all that run, in their present lives."""
        return sum(worker.metric(metric) for worker in self.running)

    def assert_none_failed(self) -> None:
        """None has ended by itself; one that was killed or asked to end is no failure."""
        fine = (None, 0, -signal.SIGKILL)
        failed = [worker.name for worker in self.workers if worker.exit_status not in fine]
        assert not failed, f"failed: {', '.join(failed)}\n{self.tails()}"

    def assert_alive(self) -> None:
        """None has ended."""
        ended = [worker.name for worker in self.workers if worker.exit_status is not None]
        assert not ended, f"ended: {', '.join(ended)}\n{self.tails()}"

    def tails(self) -> str:
        """The ends of all logs, and what those that run say is wrong."""
        problems = [f"{worker.name}: {worker.problem()}" for worker in self.running]
        return "\n".join([*(worker.tail() for worker in self.workers), *problems])
