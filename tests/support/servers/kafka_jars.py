"""Apache Kafka's jars, fetched by Maven once and kept in the user's cache folder. This module does I/O."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.servers.base import need, run


VERSION = "4.0.1"
POM = Path(__file__).with_name("pom.xml")


def kafka_jars() -> Path:
    """The folder with all jars that a broker needs; raises NoServerError."""
    need("java", purpose="Kafka")
    kept = _cache() / f"kafka-{VERSION}"
    if kept.is_dir():
        return kept
    need("mvn", purpose="Kafka")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _locked(kept.parent / "lock"):
        if not kept.is_dir():  # nobody was faster
            _fetch(kept)
    return kept


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "abmonitor-tests"


def _fetch(kept: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        jars = Path(folder) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        where = [f"-DoutputDirectory={jars}", f"-Dkafka.version={VERSION}"]
        run(["mvn", "-q", "-B", "-f", str(POM), *goal, *where], purpose="Kafka")
        jars.rename(kept)  # all of it or nothing


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
