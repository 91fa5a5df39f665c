"""A Prometheus for the tests: the one that is told of, or an own one that scrapes what it is given. This module does I/O.

The address in the environment is ABMONITOR_TEST_PROMETHEUS (a URL) for tests that only ask; the processes are
`prometheus` and `promtool`, which come together (Debian's package `prometheus`). A test's Prometheus lives in a
folder of its own, and scrapes twice a second; Prometheus begins with that five seconds after it is ready.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.servers.base import HOST, LocalServer, NoServerError, free_ports


ADDRESS = "ABMONITOR_TEST_PROMETHEUS"
SCRAPE_INTERVAL = "500ms"


@contextmanager
def prometheus_server(config: str | None = None) -> Iterator[str]:
    """The address of a Prometheus that tests may ask; raises NoServerError.

    With a `config` (the text of its file) it is always an own one: another's cannot be told what to scrape.
    """
    given = os.environ.get(ADDRESS)
    if given and config is None:
        yield given.rstrip("/")
        return
    with PrometheusServer(config) as server:
        yield server.url


class PrometheusServer(LocalServer):
    """One Prometheus on a free port of 127.0.0.1.

    `config` is the text of its file; without it, one is made by `scraping` for `jobs` (addresses by the name
    of their job). `files` are written beside it by their relative names, for rule files. `options` are further flags.
    """

    name = "prometheus"

    def __init__(
        self,
        config: str | None = None,
        *,
        jobs: Mapping[str, Sequence[str]] | None = None,
        files: Mapping[str, str] | None = None,
        alertmanagers: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._program = program("prometheus")
        (self.port,) = free_ports(1)
        rules = sorted(files or {})
        self._config = config or scraping(jobs or {}, rules=rules, alertmanagers=alertmanagers)
        self._files = dict(files or {})
        self._options = tuple(options)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        for name, text in {**self._files, "prometheus.yml": self._config}.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def _command(self) -> Sequence[str]:
        return [
            self._program,
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={HOST}:{self.port}",
            "--web.enable-lifecycle",  # a test may ask it to read its files again
            *self._options,
        ]

    def _is_ready(self) -> bool:
        return _is_ready(self.url)


def scraping(
    jobs: Mapping[str, Sequence[str]],
    *,
    rules: Sequence[str] = (),
    alertmanagers: Sequence[str] = (),
) -> str:
    """The text of a file that scrapes addresses (HOST:PORT) by the name of their job."""
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}]}
                for job, targets in jobs.items()
            ],
            "rule_files": list(rules),
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [each]}]} for each in alertmanagers
                ]
            },
        }
    )


def query(url: str, expr: str, time: float | None = None) -> list[dict[str, Any]]:
    """What an expression gives at `time` (epoch seconds, None for now): {"metric": labels, "value": [time, text]} each."""
    moment = {} if time is None else {"time": repr(time)}
    found: list[dict[str, Any]] = _asked(url, "query", {"query": expr, **moment})["result"]
    return found


def query_range(url: str, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
    """What an expression gives between two times (epoch seconds): {"metric": labels, "values": [[time, text], …]} each."""
    asked = {"query": expr, "start": repr(start), "end": repr(end), "step": repr(step)}
    found: list[dict[str, Any]] = _asked(url, "query_range", asked)["result"]
    return found


def rule_alerts(url: str) -> list[dict[str, Any]]:
    """The alerts of its own rules that are pending or firing, by alertname."""
    found: list[dict[str, Any]] = _asked(url, "alerts", {})["alerts"]
    return sorted(found, key=lambda alert: str(alert["labels"]["alertname"]))


def promtool(*arguments: str, folder: Path | None = None) -> tuple[int, str]:
    """The exit status of `promtool`, run in `folder`, and all that it says; raises NoServerError."""
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; raises NoServerError."""
    found = shutil.which(name)
    if found is None:
        raise NoServerError(f"no {name}: it was not found; install Prometheus 2.42 or newer")
    return found


def _asked(url: str, what: str, asked: Mapping[str, str]) -> dict[str, Any]:
    address = f"{url}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        # A test that asks something wrong learns what.
        raise AssertionError(f"{what} {asked}: {error.read().decode(errors='replace')}") from error
    found: dict[str, Any] = told["data"]
    return found


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
