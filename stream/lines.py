"""Lines of event files, plain or gzipped, some at a time. This module does I/O (files)."""

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path


MAX_LINE_BYTES = 1 << 20
CHUNK_LINES = 1_000
CHUNK_BYTES = 4 << 20

_GZIP = b"\x1f\x8b"
_Stream = BufferedReader | gzip.GzipFile


class EventFileError(Exception):
    """A file that cannot be read (to its end)."""


def chunks_of(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a file in chunks: the number of a chunk's first line, and its lines.

    Blank lines are left out, and so is white space around the others. Of a line that is too long only
    the beginning is kept, so that it still has more than `MAX_LINE_BYTES`. Raises EventFileError where
    the file cannot be read; what came before has been given by then.
    """
    try:
        with ExitStack() as stack:
            yield from _grouped(_opened(path, stack))
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        why = getattr(error, "strerror", None) or str(error)
        raise EventFileError(f"{path}: cannot be read to its end: {why}") from error


def _opened(path: Path, stack: ExitStack) -> _Stream:
    """The bytes of a file, to be read once from start to end: it may be a pipe."""
    plain = stack.enter_context(path.open("rb"))
    stream: _Stream = plain
    if plain.peek(len(_GZIP)).startswith(_GZIP):
        stream = stack.enter_context(gzip.GzipFile(fileobj=plain, mode="rb"))
    if stream.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
        stream.read(len(BOM_UTF8))
    return stream


def _grouped(stream: _Stream) -> Iterator[tuple[int, list[bytes]]]:
    """Consecutive lines that are not blank, in chunks of bounded size."""
    values, size = list[bytes](), 0
    number = 0
    for line in _stripped(stream):
        number += 1
        if line:
            values.append(line)
            size += len(line)
        if values and (not line or len(values) == CHUNK_LINES or size >= CHUNK_BYTES):
            yield number + bool(line) - len(values), values
            values, size = [], 0
    if values:
        yield number + 1 - len(values), values


def _stripped(stream: _Stream) -> Iterator[bytes]:
    """Every line without the white space around it; of one that is too long the beginning as it is."""
    while start := stream.readline(MAX_LINE_BYTES + 1):
        rest, cut = start, False
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES + 1)
            cut = cut or bool(rest.strip())
        yield start if cut else start.strip()
