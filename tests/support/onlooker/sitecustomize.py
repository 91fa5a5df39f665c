"""Says on standard error what a Python process writes to the file system; in effect where this folder is in PYTHONPATH."""

import os
import sys


_WRITES = "writes to the file system: "
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and not str(path).startswith("/dev/"):
            os.write(2, f"{_WRITES}{path}\n".encode())
    elif event in _CHANGING:
        os.write(2, f"{_WRITES}{event} {arguments[0]}\n".encode())


sys.addaudithook(_look)
