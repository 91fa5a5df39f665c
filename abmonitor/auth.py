"""Who may do what over HTTP: tokens, of which a file holds only hashes (file system, clock)."""

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from abmonitor import yaml_source
from abmonitor.convert import Problem, convert


logger = logging.getLogger(__name__)

Role = Literal["read", "operate"]
TokenName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._@+-]{1,64}$")]
Glob = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,64}$")]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]

EVERYTHING = "*"
PREFIX = "abm_"
"""So that scanners for leaked secrets can know a token."""
LOOK_EVERY_S = 1.0
_OURSELVES = "abmonitor"
_SECRETIVE = re.compile(r"[A-Za-z0-9_+/=-]{16,}")
"""What may be a token that was put where something else belongs."""


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the file: whom a token belongs to, and what they may do."""

    name: TokenName
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the token, in lower-case hexadecimal digits."""
    role: Role = "read"
    experiments: tuple[Glob, ...] = (EVERYTHING,)
    """Names of experiments; `*` stands for any characters."""
    on_behalf: HeaderName | None = None
    """The header in which a proxy that has this token says for whom it asks."""


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tokens: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what they may do."""

    name: str
    role: Role
    experiments: tuple[str, ...] = (EVERYTHING,)
    on_behalf: str | None = None

    @property
    def operates(self) -> bool:
        """Whether they may act."""
        return self.role == "operate"

    def covers(self, experiment: str) -> bool:
        """Whether the experiment is one of theirs."""
        return any(fnmatchcase(experiment, glob) for glob in self.experiments)

    @property
    def covers_all(self) -> bool:
        """Whether every experiment is theirs, whatever its name."""
        return EVERYTHING in self.experiments


class TokensError(Exception):
    """The file of tokens cannot be used; says where and why, and never repeats what may be a token."""


class Tokens:
    """The tokens of a file, which is read again when it changed; a bad file changes nothing."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds. Raises TokensError where the file cannot be used."""
        self._path, self._clock = path, clock
        self._looked_at, self._seen = clock(), _identity(path)
        self._entries = read(path)
        self.problem: str | None = None
        """Why the file as it is now is not used, None when it is."""

    def __len__(self) -> int:
        return len(self._entries)

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None for nobody's. Takes the same time whichever it is."""
        self._refresh()
        given, found = digest(token).encode(), None
        for entry in self._entries:
            if hmac.compare_digest(given, entry.sha256.encode()):
                found = entry
        if found is None:
            return None
        return Caller(found.name, found.role, found.experiments, found.on_behalf)

    def _refresh(self) -> None:
        """Look whether the file changed, at most once a second."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        identity = _identity(self._path)
        if identity == self._seen and (identity is not None or self.problem):
            return
        try:
            self._entries = read(self._path)
        except TokensError as error:
            self.problem = f"the tokens that were read before go on to count: {error}"
            logger.warning("api.tokens: %s", self.problem)
        else:
            self.problem = None
            logger.info("api.tokens: %d tokens", len(self._entries))
        self._seen = identity


def digest(token: str) -> str:
    """What the file holds of a token. Tokens are random and long: a slow hash would add nothing."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token(
    name: str, role: Role, experiments: tuple[str, ...] = (EVERYTHING,)
) -> tuple[str, Entry]:
    """A random token, and what to put into the file. Raises ValueError for a name that is none."""
    token = PREFIX + secrets.token_urlsafe(32)
    plain = {
        "name": name,
        "sha256": digest(token),
        "role": role,
        "experiments": experiments or (EVERYTHING,),
    }
    try:
        entry = msgspec.convert(plain, Entry)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    problems = [problem[1] for problem in _entry(entry)]
    if problems:
        raise ValueError("; ".join(problems))
    return token, entry


def line(entry: Entry) -> str:
    """The line that goes below `tokens:` in a YAML file."""
    globs = ", ".join(f'"{glob}"' for glob in entry.experiments)
    return (
        f'  - {{name: "{entry.name}", sha256: "{entry.sha256}", role: {entry.role},'
        f" experiments: [{globs}]}}"
    )


def read(path: Path) -> tuple[Entry, ...]:
    """The tokens in a YAML file, or in JSON lines (`*.jsonl`). Raises TokensError with all mistakes."""
    if path.suffix in {".jsonl", ".ndjson"}:
        entries, mistakes = _json_lines(path)
    else:
        entries, mistakes = _yaml(path)
    mistakes += [f"{path}: {message}" for message in _twice(entries)]
    if mistakes:
        raise TokensError("; ".join(_discreet(mistake) for mistake in mistakes))
    return entries


def _yaml(path: Path) -> tuple[tuple[Entry, ...], list[str]]:
    document, found = yaml_source.read(path)
    made = None
    if document is not None:
        made, more = convert(document, _File, {}, {Entry: (_entry,)})
        found += more
    mistakes = [str(mistake) for mistake in found]
    return (made.tokens if made else ()), mistakes


def _json_lines(path: Path) -> tuple[tuple[Entry, ...], list[str]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        return (), [f"{path}: cannot read the file: {error.strerror or 'unknown error'}"]
    entries, mistakes = [], []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            entry = msgspec.json.decode(text, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            mistakes.append(f"{path}:{number}: {error}")
            continue
        entries.append(entry)
        mistakes += [f"{path}:{number}: {problem[1]}" for problem in _entry(entry)]
    return tuple(entries), mistakes


def _entry(entry: Entry) -> Iterator[Problem]:
    if entry.name == _OURSELVES:
        yield ("name",), f"{_OURSELVES} is what decisions of the monitor itself are signed with"
    if not entry.experiments:
        yield ("experiments",), 'an empty list covers nothing; expected names, or ["*"] for all'


def _twice(entries: Iterable[Entry]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for entry in entries:
        first = owners.setdefault(entry.sha256, entry.name)
        if first != entry.name:
            yield f"{first} and {entry.name} share a token: who acted could not be told"


def _discreet(message: str) -> str:
    """A message without what may be a token."""
    where, got, _ = message.partition(", got ")
    if not got:
        where = message.partition("; got ")[0]
    path, colon, rest = where.partition(": ")
    return path + colon + _SECRETIVE.sub("…", rest)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
