"""Touches files and the clock: a file of flag definitions that is never seen empty, half-written or missing.

flagd and its providers publish no flags while their file is missing or empty, and code then falls back to
whatever it has as default. So every change is written to a temporary file in the same folder, forced to the
disk, and renamed over the old one: a writer that is killed leaves the old file as it was.

Other people's flags are kept byte for byte. Writers agree by a lock file beside it, and read the file anew
before they change it. What cannot be parsed is left to whoever is writing it for `GRACE` seconds; after that
a rollback (and nothing else) keeps a copy named `<file>.broken-<time>`, and writes the file with the flags
that it was last seen with. A file that has vanished, or stays empty, is written again likewise.
"""

import asyncio
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from alerts.actuators.flag_definition import (
    Flag,
    Off,
    Shown,
    check_owner,
    forgotten,
    keeps_off,
    remembered,
    switched_off,
    written,
)
from alerts.actuators.flag_document import EMPTY, Document, FlagFileError, UnreadableError, parsed


GRACE = 3.0
"""Seconds for which a file that cannot be parsed may be somebody's unfinished work."""

LOCK_PATIENCE = 2.0
"""Seconds to wait for another writer; a rollback then goes on without the lock."""

NEWER_NS = 1_000_000
"""Each version of the file is at least so much newer than the last: watchers compare times of change."""

THREADS = 2
"""A rollback does not wait for a split that is being shown."""

P = ParamSpec("P")
T = TypeVar("T")

_LEFT_AFTER_S = 60.0
_LOCK_PAUSE = 0.01


Signature = tuple[int, ...]
"""What tells one version of a file from another; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of showing something."""

    changed: bool
    kept_off: tuple[str, ...] = ()
    """Treatments that stay off only because the file remembers that they were rolled back."""


@dataclass(slots=True)
class FlagFile:
    """One file, of which each flag is changed on its own.

    Everything that is `async` works in a thread: folders of several machines can be slow. It raises
    FlagFileError, ForeignFlagError (a flag is not ours), and ValueError for what cannot be shown.
    """

    path: Path
    clock: Callable[[], float] = time.time
    """Epoch seconds."""
    monotonic: Callable[[], float] = time.monotonic
    _good: Document | None = None
    """The file as it was last read well, or written."""
    _bad_since: float | None = None
    _shown: dict[str, tuple[Shown, Signature, Written]] = field(default_factory=dict)
    """By flag, what was shown last, and the file's signature then."""
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))
    """Own ones: a folder that hangs holds up nothing else."""

    async def show(self, shown: Shown) -> Written:
        """Let a flag deal as `shown` says, except for what the file remembers; writes only on change."""
        return await self._in_thread(self.show_now, shown)

    async def switch_off(
        self, shown: Shown, treatment: str, off: Off, *, rehearsal: bool = False
    ) -> Written:
        """Give nobody to one treatment, and remember why; see `flag_definition.switched_off`."""

        def change(flag: Flag | None) -> Flag:
            return switched_off(flag, shown, treatment, off, rehearsal=rehearsal)

        changed, _ = await self._in_thread(self._change, shown.key, change, urgent=not rehearsal)
        return Written(changed)

    async def off(self, experiment: str, key: str = "") -> dict[str, Off]:
        """What the file remembers of an experiment: by treatment, why it is off. {} without a file."""

        def read() -> dict[str, Off]:
            flag = (self.load() or EMPTY).flag(key or experiment)
            check_owner(experiment, key or experiment, flag)
            return remembered(flag)

        return await self._in_thread(read)

    async def keeps_off(self, experiment: str, treatment: str, key: str = "") -> bool:
        """Whether the file as it is now gives nobody to the treatment, and remembers that."""

        def read() -> bool:
            return keeps_off((self.load() or EMPTY).flag(key or experiment), experiment, treatment)

        return await self._in_thread(read)

    async def release(self, experiment: str, treatment: str, key: str = "") -> bool:
        """By a person's order, forget that a treatment is off; what is shown next counts again."""

        def change(flag: Flag | None) -> Flag | None:
            check_owner(experiment, key or experiment, flag)
            return None if flag is None else forgotten(flag, treatment)

        changed, _ = await self._in_thread(self._change, key or experiment, change, urgent=False)
        return changed

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def load(self) -> Document | None:
        """The flags that are in the file now; None where there is no file. Raises FlagFileError."""
        data = self._read()
        if data is None:
            return None
        self._good, self._bad_since = parsed(data), None
        return self._good

    def show_now(self, shown: Shown) -> Written:
        """As `show`, in this thread."""
        last = self._shown.get(shown.key)
        if last is not None and last[0] == shown and last[1] == self._signature():
            return last[2]
        kept: tuple[str, ...] = ()

        def change(flag: Flag | None) -> Flag:
            nonlocal kept
            fresh, kept = written(shown, flag)
            return fresh

        changed, signature = self._change(shown.key, change, urgent=False)
        self._shown[shown.key] = shown, signature, Written(changed=False, kept_off=kept)
        return Written(changed, kept)

    def _change(
        self, key: str, change: Callable[[Flag | None], Flag | None], *, urgent: bool
    ) -> tuple[bool, Signature]:
        """Whether the file had to be written, and the signature of what it was compared with."""
        try:
            with self._locked(urgent=urgent):
                signature = self._signature()
                document = self._current(urgent=urgent)
                known = document or self._good or EMPTY
                before = known.flag(key)
                after = change(before)
                if after is None or (after == before and document is not None):
                    return False, signature
                data = known.encoded({key: after})
                signature = self._write(data)
                self._good, self._bad_since = parsed(data), None
                return True, signature
        except OSError as error:
            raise FlagFileError(_in_words(error)) from error

    def _current(self, *, urgent: bool) -> Document | None:
        """The flags in the file; None where it has to be written as a whole."""
        try:
            return self.load()
        except UnreadableError as error:
            now = self.monotonic()
            self._bad_since = now if self._bad_since is None else self._bad_since
            left = GRACE - (now - self._bad_since)
            empty = not (self._read() or b"").strip()
            if left > 0:
                what = "it is written anew" if urgent or empty else "nothing is written"
                raise UnreadableError(f"{error}; in {left:.1f} s {what}") from error
            if not urgent and not empty:
                raise
            if not empty:
                self._keep_copy()
            return None

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FlagFileError(_in_words(error)) from error

    def _keep_copy(self) -> None:
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock()))
        copy = self.path.with_name(f"{self.path.name}.broken-{when}")
        copy.write_bytes(self.path.read_bytes())

    def _signature(self) -> Signature:
        try:
            return _signed(self.path.stat())
        except OSError:
            return ()

    @contextmanager
    def _locked(self, *, urgent: bool) -> Iterator[None]:
        """Keep other writers out. A holder that was frozen must not stop a rollback."""
        folder, name = self._target()
        with (folder / f".{name}.lock").open("a") as lock:
            deadline = time.monotonic() + LOCK_PATIENCE
            while not _taken(lock.fileno()):
                if time.monotonic() > deadline:
                    if urgent:
                        break
                    raise FlagFileError("another writer has held its lock for long")
                time.sleep(_LOCK_PAUSE)
            yield

    def _target(self) -> tuple[Path, str]:
        """The folder and name behind symbolic links: a link must stay one."""
        real = Path(os.path.realpath(self.path))
        return real.parent, real.name

    def _write(self, data: bytes) -> Signature:
        folder, name = self._target()
        _tidied(folder, name)
        descriptor, temporary = tempfile.mkstemp(".tmp", f".{name}.", folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                _like(folder / name, file.fileno())
                os.fsync(file.fileno())
                signature = _signed(os.fstat(file.fileno()))
            os.replace(temporary, folder / name)  # noqa: PTH105  # beside mkstemp, names are text
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108  # as above
            raise
        _synced(folder)
        return signature


def _signed(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _like(old: Path, descriptor: int) -> None:
    """Give a new file the rights and the owner of the old one, and a later time of change."""
    try:
        found = old.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)  # flagd is somebody else
        return
    os.fchmod(descriptor, found.st_mode & 0o777)
    with suppress(PermissionError):
        os.fchown(descriptor, found.st_uid, found.st_gid)
    when = max(os.fstat(descriptor).st_mtime_ns, found.st_mtime_ns + NEWER_NS)
    os.utime(descriptor, ns=(when, when))


def _tidied(folder: Path, name: str, *, older_than: float = _LEFT_AFTER_S) -> None:
    """Remove what killed writers left behind."""
    for left in folder.iterdir():
        if left.name.startswith(f".{name}.") and left.name.endswith(".tmp"):
            with suppress(OSError):
                if time.time() - left.stat().st_ctime > older_than:
                    left.unlink()


def _synced(folder: Path) -> None:
    """Force the rename to the disk, where a folder can be."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _in_words(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "its folder does not exist; make it, and let flagd read it"
    return (error.strerror or type(error).__name__).lower()
