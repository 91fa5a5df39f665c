"""What a settings file still leaves to a person: its comments that begin with TODO. Reads files."""

import re
from collections.abc import Iterator
from pathlib import Path


_TODO = re.compile(r"(?:^|\s)#\s*(TODO\b.*)")
_MORE = re.compile(r"\s*#\s{2,}(?!TODO\b)(\S.*)")


def todos(path: Path) -> list[str]:
    """`file:line: TODO ...` for each, in a settings file or a folder of them.

    A comment goes on in the lines below it that are indented further behind their `#`.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml"})
    found = []
    for file in files:
        if file.is_file():
            lines = file.read_text("utf-8", "replace").splitlines()
            found += [f"{file}:{number}: {told}" for number, told in _told(lines)]
    return found


def _told(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The number of each line that says TODO, and all that it says."""
    for number, line in enumerate(lines, 1):
        begun = _TODO.search(line)
        if begun is None:
            continue
        parts = [begun[1].strip()]
        for following in lines[number:]:
            more = _MORE.match(following)
            if more is None or not line.lstrip().startswith("#"):
                break
            parts.append(more[1].strip())
        yield number, " ".join(parts)
