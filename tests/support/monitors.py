"""Processes of `abmonitor monitor`, which can die, be killed and be frozen. This module does I/O."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

from support.dying_monitor import REACHED, Birth


ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 150.0
"""An order is sent again after up to a minute."""

PAUSE_S = 0.03
ADDRESS = re.compile(r"http://\S+/metrics")
TICKED = "abmonitor_tick_timestamp_seconds "
HTTP = ClientTimeout(total=5)


async def until(
    is_true: Callable[[], Awaitable[bool]],
    what: str,
    tails: Callable[[], str],
    *,
    pause: float = PAUSE_S,
) -> None:
    """Ask until the answer is yes; fails after a long while with `what`, and with what `tails` gives."""
    deadline = time.monotonic() + WAIT_S
    while not await is_true():
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}\n{tails()}"
        await asyncio.sleep(pause)


class Nursery:
    """Where monitors come from: a process that has loaded everything, and forks."""

    def __init__(self) -> None:
        folders = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.dying_monitor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": folders},
            start_new_session=True,
        )

    def bear(self, birth: Birth) -> int:
        """The pid of a new process."""
        given, said = self._process.stdin, self._process.stdout
        assert given is not None
        assert said is not None
        given.write(msgspec.json.encode(birth) + b"\n")
        given.flush()
        return int(said.readline())

    def close(self) -> None:
        """End it, and all that it gave birth to."""
        self._process.communicate()


class MonitorProcess:
    """One `abmonitor monitor`."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log

    @property
    def is_alive(self) -> bool:
        """Whether there is such a process, frozen or not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        os.kill(self.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Let nothing of it run (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def ticked(self) -> float:
        """When its latest tick ended (s since 1970); 0 where it does not say."""
        served = ADDRESS.search(self.said())
        if served is None:
            return 0.0
        try:
            async with ClientSession() as session, session.get(served[0], timeout=HTTP) as answer:
                lines = (await answer.text()).splitlines()
        except (ClientError, TimeoutError):
            return 0.0
        told = [line.split()[1] for line in lines if line.startswith(TICKED)]
        return float(told[0]) if told else 0.0

    @property
    def reached_its_point(self) -> bool:
        """Whether it came to where it ends."""
        return REACHED in self.said()
