"""An Alertmanager for the tests: the first that is found of four, or an own one with a file of its own. This module does I/O.

The address in the environment is ABMONITOR_TEST_ALERTMANAGER (a URL); the process is `prometheus-alertmanager`
(Debian's package of that name) or `alertmanager`. Alerts cannot be deleted: tests use experiments of their own.
"""

import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.servers.base import (
    HOST,
    LocalServer,
    NoServerError,
    docker_answers,
    free_ports,
    wait_for,
)


ADDRESS = "ABMONITOR_TEST_ALERTMANAGER"
PORT = 9093
COMMANDS = "prometheus-alertmanager", "alertmanager"
QUIET = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextmanager
def alertmanager_server() -> Iterator[str]:
    """The address of an Alertmanager that tests may send alerts to; raises NoServerError."""
    given = os.environ.get(ADDRESS)
    if given:
        yield given.rstrip("/")
    elif docker_answers():
        with _container() as url:
            yield url
    else:
        with AlertmanagerServer() as server:
            yield server.url


class AlertmanagerServer(LocalServer):
    """One Alertmanager on a free port of 127.0.0.1, by itself; `config` is its file."""

    name = "alertmanager"

    def __init__(self, config: str = QUIET) -> None:
        super().__init__()
        self._program = next(filter(None, map(shutil.which, COMMANDS)), None)
        if self._program is None:
            raise NoServerError(
                "no Alertmanager: neither " + " nor ".join(COMMANDS) + " was found; install one"
            )
        (self.port,) = free_ports(1)
        self._config = config

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        (self.folder / "alertmanager.yml").write_text(self._config)

    def _command(self) -> Sequence[str]:
        assert self._program is not None, "it was found at the start"
        return [
            self._program,
            "--config.file=alertmanager.yml",
            f"--storage.path={Path('data')}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",  # alone
        ]

    def _is_ready(self) -> bool:
        return _is_ready(self.url)


def alerts_in(url: str, experiment: str) -> list[dict[str, Any]]:
    """What an Alertmanager says fires for an experiment, also where it is inhibited; by alertname."""
    wanted = urllib.parse.urlencode({"filter": f'experiment="{experiment}"'})
    with urllib.request.urlopen(f"{url}/api/v2/alerts?{wanted}", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return sorted(found, key=lambda alert: str(alert["labels"]["alertname"]))


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _container() -> Iterator[str]:
    # Not from testcontainers' modules: there is none for it.
    from testcontainers.core.container import DockerContainer

    with DockerContainer("prom/alertmanager:v0.27.0").with_exposed_ports(PORT) as container:
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}"
        wait_for(lambda: _is_ready(url), f"the Alertmanager at {url} answers")
        yield url
