"""Programs and definitions that `.ci/tools.sh` gets; tests without them are skipped, visibly. This module does I/O."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.servers.base import NoServerError


PROJECT = Path(__file__).resolve().parents[2]
FOLDER = "ABMONITOR_TOOLS"
RUN_S = 60


def folder() -> Path:
    """Where `.ci/tools.sh` puts what it gets."""
    return Path(os.environ.get(FOLDER) or PROJECT / "build" / "tools")


def tool(name: str) -> Path:
    """A program, from that folder or the path. Raises NoServerError."""
    own = folder() / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise NoServerError(f"no {name}: run .ci/tools.sh, or name its folder as {FOLDER}")
    return Path(found)


def definitions(ending: str = ".yaml") -> list[Path]:
    """The files with definitions of custom resources, or others that came with them. Raises NoServerError."""
    found = sorted((folder() / "definitions").glob(f"*{ending}"))
    if not found:
        raise NoServerError(
            f"no definitions of custom resources: run .ci/tools.sh, or name its folder as {FOLDER}"
        )
    return found


def run(command: Sequence[str | Path], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program, with `text` as its input."""
    return subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
