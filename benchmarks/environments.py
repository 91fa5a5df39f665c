"""Virtual environments for the contenders that are not ours, made once and kept. This module does I/O."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


QUIX = ("quixstreams==3.28.1",)
BYTEWAX = ("bytewax[kafka]==0.21.1", "msgspec==0.22.0")


def python_with(requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages and no others of ours."""
    known = hashlib.sha256(f"{sys.version}{requirements}".encode()).hexdigest()[:8]
    name = requirements[0].partition("==")[0].partition("[")[0]
    folder = _cache() / f"{name}-{known}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        print(f"setting up {', '.join(requirements)} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *requirements], check=True)
        done.touch()
    return python


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "abmonitor-benchmarks"
