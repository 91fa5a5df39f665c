"""Writes what is assumed into the settings of an experiment (file system), and leaves every other byte alone.

Before the file is replaced, in one step, the result is read as the monitor would read it.
"""

import codecs
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from errno import EACCES, EBUSY
from pathlib import Path
from typing import Any

import msgspec

from abmonitor.folder import read_all
from abmonitor.ranking.yaml_edit import number, set_mapping
from abmonitor.settings import SettingsError, load
from abmonitor.yaml_source import Document, Mistake, parse
from metrics.experiment import Profitability


KEY = "profitability"


def write_profitability(
    settings: Path, experiment: str | None, profitability: Mapping[str, float]
) -> str:
    """Write `profitability` of an experiment into a settings file or a folder of them; say what was changed.

    `experiment` may be None where there is only one. Raises ValueError for an experiment that is not there or is
    not named, for numbers that allow no q, and where anchors or aliases make it unsafe to edit the file;
    SettingsError with all mistakes where the settings cannot be read, or would be wrong then; OSError. After any
    error nothing was written.
    """
    _check(profitability)
    documents, mistakes, _ = read_all(settings)
    if mistakes:
        raise SettingsError(mistakes)
    document, place, name = _chosen(documents, experiment)
    file = Path(document.position(()).file)
    content = file.read_bytes()
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    text = content.removeprefix(mark).decode()
    try:
        changed = set_mapping(text, ("experiments", place), KEY, profitability)
    except ValueError as error:
        raise ValueError(f"{file}: experiment {name!r}: {error}") from None
    before = _data(document)["experiments"][place].get(KEY)
    if changed == text:
        return f"{file}: experiment {name!r} has {KEY}: {_told(profitability)} already"
    _compare(document, changed, place, profitability)
    _try(settings, file, mark + changed.encode())
    _replace(file, content, mark + changed.encode())
    was = "" if before is None else f" (was {_told(before)})"
    return f"{file}: experiment {name!r} now has {KEY}: {_told(profitability)}{was}"


def _check(profitability: Mapping[str, float]) -> None:
    try:
        problem = msgspec.convert(dict(profitability), Profitability).problem()
    except msgspec.ValidationError as error:
        raise ValueError(f"{KEY}: {error}") from None
    if problem:
        raise ValueError(f"{KEY}: {problem}")


def _data(document: Document) -> dict[str, Any]:
    """The mapping at the top, which `read_all` made sure of."""
    return document.data if isinstance(document.data, dict) else {}


def _chosen(documents: list[Document], experiment: str | None) -> tuple[Document, int, str]:
    """The file, the place in it and the name of the experiment; raises ValueError with all names."""
    found = [
        (document, place, str(each["name"]))
        for document in documents
        if isinstance(listed := _data(document).get("experiments"), list)
        for place, each in enumerate(listed)
        if isinstance(each, dict) and "name" in each
    ]
    if not found:
        raise ValueError("expected settings with an experiment that has a name, got none")
    names = ", ".join(name for _, _, name in found)
    if experiment is None and len(found) > 1:
        raise ValueError(f"expected the name of one of several experiments: {names}")
    chosen = [each for each in found if experiment in {None, each[2]}]
    if not chosen:
        raise ValueError(f"no experiment is called {experiment!r}; expected one of: {names}")
    if len(chosen) > 1:
        raise ValueError(f"expected one experiment called {experiment!r}, got {len(chosen)}")
    return chosen[0]


def _compare(
    document: Document, changed: str, place: int, profitability: Mapping[str, float]
) -> None:
    """Raise ValueError unless the changed text says the same as before, but for what was to be written."""
    file = document.position(()).file
    expected = deepcopy(_data(document))
    expected["experiments"][place][KEY] = dict(profitability)
    found, mistakes = parse(changed, file)
    if mistakes or found is None or found.data != expected:
        raise ValueError(
            f"{file}: {KEY} cannot be written here without changing something else, too;"
            " please edit it by hand"
        )


def _try(settings: Path, file: Path, content: bytes) -> None:
    """Read the settings as they would be; raises SettingsError, which names the files as they are called."""
    with tempfile.TemporaryDirectory() as folder:
        tried = Path(folder) / "settings"
        if settings.is_dir():
            tried.mkdir()
            for each in settings.iterdir():
                if each.suffix in {".yaml", ".yml"} and each.is_file():
                    shutil.copyfile(each, tried / each.name)
            (tried / file.name).write_bytes(content)
        else:
            tried.write_bytes(content)
        try:
            load(tried)
        except SettingsError as error:
            told = str(tried)
            raise SettingsError(
                [_renamed(each, told, str(settings)) for each in error.mistakes]
            ) from None


def _renamed(mistake: Mistake, old: str, new: str) -> Mistake:
    return Mistake(
        mistake.file.replace(old, new),
        mistake.line,
        mistake.column,
        mistake.path,
        mistake.message.replace(old, new),
    )


def _replace(file: Path, before: bytes, content: bytes) -> None:
    """Replace the file behind symbolic links in one step; its rights and its owner stay."""
    real = Path(os.path.realpath(file))
    if not os.access(real, os.W_OK):
        raise PermissionError(EACCES, "it is read-only", str(file))
    if real.read_bytes() != before:
        raise OSError(EBUSY, "somebody else changed it meanwhile; please try again", str(file))
    old = real.stat()
    descriptor, temporary = tempfile.mkstemp(".tmp", f".{real.name}.", real.parent)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            with suppress(PermissionError):
                os.fchown(written.fileno(), old.st_uid, old.st_gid)
            os.fchmod(written.fileno(), old.st_mode & 0o7777)
            os.fsync(written.fileno())
        Path(temporary).replace(real)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _told(values: object) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    pairs = (
        f"{name}: {number(each) if isinstance(each, int | float) else each}"
        for name, each in values.items()
    )
    return "{" + ", ".join(pairs) + "}"
