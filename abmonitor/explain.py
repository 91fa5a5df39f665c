"""Where decisions and their reasoning are found: a monitor's API, the store, or a file. This module does I/O."""

import asyncio
import base64
import binascii
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from redis.exceptions import RedisError

from abmonitor.secret import SecretError
from abmonitor.settings import Settings
from alerts.book import Decision
from alerts.chain import broken
from alerts.explain import Explanation, explain
from alerts.reasoning import ReasoningFormatError, unpacked
from alerts.store import AlertStore
from stream.store import Store


EVERY = 10_000
"""As many decisions of an experiment are read at most."""
TIMEOUT_S = 30.0
ANSWER_MAX = 64 << 20

_T = TypeVar("_T")


class SourceError(Exception):
    """Decisions cannot be read; says what to do."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with what it rests on, as the API tells it and exports hold it."""

    decision: Decision
    reasoning: str | None = None
    """Base64 of what `alerts.reasoning.packed` wrote."""

    @classmethod
    def of(cls, decision: Decision, evidence: bytes | None) -> "Found":
        """From what the store holds."""
        packed = None if evidence is None else base64.b64encode(evidence).decode()
        return cls(decision=decision, reasoning=packed)

    def explained(self) -> Explanation:
        """How the decision came about."""
        if self.reasoning is None:
            return explain(self.decision, None)
        try:
            reasoning = unpacked(base64.b64decode(self.reasoning, validate=True))
        except (ReasoningFormatError, binascii.Error) as error:
            return explain(self.decision, None, str(error))
        return explain(self.decision, reasoning)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions are asked for."""

    experiment: str | None = None
    treatment: str | None = None
    action: str | None = None
    since: int | None = None
    """Epoch ms, arrival time."""
    until: int | None = None
    limit: int = EVERY

    def among(self, decisions: Iterable[Decision]) -> list[Decision]:
        """The newest of `decisions` that are wanted, oldest first."""
        found = sorted(filter(self._fits, decisions), key=_order)
        return found[-self.limit :]

    def _fits(self, decision: Decision) -> bool:
        names = ("experiment", "treatment", "action")
        if any(getattr(self, name) not in {None, getattr(decision, name)} for name in names):
            return False
        since, until = self.since, self.until
        return (since is None or decision.at >= since) and (until is None or decision.at <= until)


def _order(decision: Decision) -> tuple[int, str, int]:
    return decision.at, decision.experiment, _number(decision)


def _number(decision: Decision) -> int:
    """Which decision of its experiment it is; ids end with that."""
    number = decision.id.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


class Source(Protocol):
    """Where decisions are found. Every call raises SourceError where they cannot be read."""

    def decisions(self, wanted: Wanted) -> list[Decision]:
        """The decisions that are wanted, oldest first."""
        ...

    def find(self, name: str) -> Found | None:
        """The decision with the id `name` and what it rests on, None where there is none."""
        ...

    def heads(self) -> dict[str, str]:
        """By experiment the hash of the newest decision, of those where that is known otherwise."""
        ...


class ApiSource:
    """A running monitor."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises SourceError for what is no address of a monitor."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise SourceError(
                f"--url: expected an address such as http://127.0.0.1:8000, got {url!r}"
            )
        self._url, self._token = url.rstrip("/"), token

    def decisions(self, wanted: Wanted) -> list[Decision]:
        """See `Source`."""
        asked = {
            name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None
        }
        answer = self._get(f"/api/v1/decisions?{urllib.parse.urlencode(asked)}")
        return wanted.among(_decoded(answer or b"{}", _Decisions, self._url).decisions)

    def find(self, name: str) -> Found | None:
        """See `Source`."""
        answer = self._get(f"/api/v1/decisions/{urllib.parse.quote(name, safe='')}")
        return None if answer is None else _decoded(answer, Found, self._url)

    def heads(self) -> dict[str, str]:
        """See `Source`; the API does not tell."""
        return {}

    def _get(self, path: str) -> bytes | None:
        request = urllib.request.Request(self._url + path)  # noqa: S310  # the scheme was checked
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  # as above
                return bytes(response.read(ANSWER_MAX))
        except urllib.error.HTTPError as error:
            with error:
                said = _said(error.read(ANSWER_MAX))
            if error.code == 404 and "/decisions/" in path:
                return None
            raise SourceError(f"{self._url}: {error.code} {said or error.reason}") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or error
            raise SourceError(f"{self._url}: {why}; is the monitor running there?") from None


class _Decisions(msgspec.Struct):
    decisions: list[Decision] = []


def _said(answer: bytes) -> str | None:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, LookupError, TypeError):
        return None


def _decoded(answer: bytes, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise SourceError(f"{where}: not what a monitor of this version answers: {error}") from None


class StoreSource:
    """The store itself: also where no monitor runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def decisions(self, wanted: Wanted) -> list[Decision]:
        """See `Source`."""

        async def read(store: AlertStore) -> list[Decision]:
            names = [each.name for each in self._settings.experiments]
            names = [name for name in names if wanted.experiment in {None, name}]
            return [found for name in names for found in await store.decisions(name, EVERY)]

        return wanted.among(self._run(read))

    def find(self, name: str) -> Found | None:
        """See `Source`."""

        async def read(store: AlertStore) -> Found | None:
            experiment = name.partition(":")[0]
            decision = await store.decision(experiment, name)
            if decision is None:
                return None
            return Found.of(decision, await store.evidence(experiment, name))

        return self._run(read)

    def heads(self) -> dict[str, str]:
        """See `Source`."""

        async def read(store: AlertStore) -> dict[str, str]:
            names = [each.name for each in self._settings.experiments]
            return {name: (await store.load(name)).head for name in names}

        return self._run(read)

    def _run(self, read: Callable[[AlertStore], Awaitable[_T]]) -> _T:
        try:
            address = self._settings.redis.resolve(os.environ)
            store = Store.at(address, self._settings.deployment)
        except (SecretError, ValueError) as error:
            raise SourceError(f"redis: {error}") from None

        async def reading() -> _T:
            try:
                return await read(AlertStore(store.client, self._settings.deployment))
            finally:
                await store.close()

        try:
            return asyncio.run(reading())
        except (RedisError, OSError) as error:
            raise SourceError(f"redis: {error}") from None


class FileSource:
    """A file that was written by `export`."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError where it cannot be read."""
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from None
        self._found = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                found = _read_line(line, f"{path}:{number}")
                self._found[found.decision.id] = found

    def decisions(self, wanted: Wanted) -> list[Decision]:
        """See `Source`."""
        return wanted.among(found.decision for found in self._found.values())

    def find(self, name: str) -> Found | None:
        """See `Source`."""
        return self._found.get(name)

    def heads(self) -> dict[str, str]:
        """See `Source`; a file may have been written long ago."""
        return {}


def _read_line(line: bytes, where: str) -> Found:
    try:
        return msgspec.json.decode(line, type=Found)
    except msgspec.MsgspecError as error:
        raise SourceError(
            f"{where}: expected a line that `decisions --export` wrote: {error}"
        ) from None


def export(source: Source, wanted: Wanted, path: Path) -> int:
    """Write the decisions that are wanted to `path`, one JSON object a line; returns how many.

    Raises SourceError where they cannot be read, OSError where they cannot be written.
    """
    decisions = source.decisions(wanted)
    with path.open("wb") as stream:
        for decision in decisions:
            found = source.find(decision.id) or Found(decision=decision)
            stream.write(msgspec.json.encode(found) + b"\n")
    return len(decisions)


def verify(source: Source, experiment: str | None = None) -> Iterator[tuple[str, int, str | None]]:
    """Each experiment, how many decisions it has, and what is wrong with their chain (None: nothing)."""
    heads, chains = source.heads(), dict[str, list[Decision]]()
    for decision in source.decisions(Wanted(experiment=experiment)):
        chains.setdefault(decision.experiment, []).append(decision)
    for name in sorted({*chains, *(name for name, head in heads.items() if head)}):
        if experiment in {None, name}:
            # Their number is their order: a person's word may have been given between two looks.
            chain = sorted(chains.get(name, []), key=_number)
            yield name, len(chain), broken(chain) or _cut(chain, heads.get(name))


def _cut(chain: list[Decision], head: str | None) -> str | None:
    if head and (not chain or chain[-1].hash != head):
        last = chain[-1].id if chain else "the beginning"
        return f"after {last} something is missing"
    if chain and chain[0].previous and len(chain) < EVERY and head is not None:
        return f"before {chain[0].id} something is missing"
    return None
