"""A flagd for the tests, where one is installed: `flagd` on the path, or ABMONITOR_TEST_FLAGD. This module does I/O."""

import json
import os
import shutil
import urllib.request
from collections.abc import Mapping, Sequence

from support.servers.base import HOST, LocalServer, NoServerError, free_ports


PROGRAM = "ABMONITOR_TEST_FLAGD"
"""Where it is."""


def program() -> str | None:
    """Where flagd is; None where there is none: no package index has it, so nobody is made to build it."""
    return os.environ.get(PROGRAM) or shutil.which("flagd")


class FlagdServer(LocalServer):
    """One flagd on free ports that reads one source of flags."""

    name = "flagd"

    def __init__(self, source: Mapping[str, object]) -> None:
        """`source`: as in https://flagd.dev/reference/sync-configuration/#source-configuration."""
        super().__init__()
        found = program()
        if found is None:
            raise NoServerError(f"no flagd: it is not on the path, and {PROGRAM} is not set")
        self._program, self._source = found, dict(source)
        self._ports = free_ports(4)

    @property
    def url(self) -> str:
        """Where OFREP is answered."""
        return f"http://{HOST}:{self._ports[3]}/ofrep/v1/evaluate/flags"

    def _command(self) -> Sequence[str]:
        names = ("port", "management-port", "sync-port", "ofrep-port")
        ports = [f"--{name}={port}" for name, port in zip(names, self._ports, strict=True)]
        return [self._program, "start", f"--sources={json.dumps([self._source])}", *ports]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://{HOST}:{self._ports[1]}/readyz", timeout=5
            ) as told:
                return bool(told.status == 200)
        except OSError:
            return False
