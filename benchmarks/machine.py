"""What processes and the machine have used: CPU seconds, memory, load. This module does I/O (/proc)."""

import os
import platform
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """CPU seconds, user and system, of a process and all its children."""
    try:
        told = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    except FileNotFoundError:
        return 0.0
    own = sum(map(int, told[11:15])) / TICK  # with those of children that have ended
    return own + sum(cpu_seconds(int(child)) for child in children)


def resident_mib(pid: int) -> float:
    """MiB of memory that a process has."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


def busy_seconds() -> float:
    """CPU seconds that all cores were busy since the machine came up."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / TICK


def description() -> str:
    """The machine and the interpreter, in one line."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {python}, Linux {platform.release()}"


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds at one moment: of the machine, of this process with all its children, and of some by name."""

    at: float
    busy: float
    ours: float
    of: Mapping[str, float]

    @classmethod
    def now(cls, pids: Mapping[str, int], outside: Collection[str] = ()) -> "Reading":
        """Read the processes of `pids`; those called `outside` are no children of this one, but belong to it."""
        told = {name: cpu_seconds(pid) for name, pid in pids.items()}
        ours = cpu_seconds(os.getpid()) + sum(told[name] for name in outside)
        return cls(time.monotonic(), busy_seconds(), ours, told)

    def since(self, before: "Reading") -> "Usage":
        """What was used between the two."""
        seconds = self.at - before.at
        others = (self.busy - before.busy - self.ours + before.ours) / seconds
        of = {name: self.of[name] - before.of[name] for name in self.of}
        return Usage(seconds, max(0.0, others), of)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in some time."""

    seconds: float
    others: float
    """Cores that were busy with what has nothing to do with this benchmark."""
    of: Mapping[str, float]
    """CPU seconds by name."""


def middle(numbers: Iterable[float]) -> float:
    """The median."""
    found = sorted(numbers)
    half = len(found) // 2
    return found[half] if len(found) % 2 else (found[half - 1] + found[half]) / 2
