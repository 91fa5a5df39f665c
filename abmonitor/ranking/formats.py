"""Which format a file is of, by what is in it (touches files)."""

from pathlib import Path

from abmonitor.ranking.cells import FileError, Source
from abmonitor.ranking.csv_file import CsvFile
from abmonitor.ranking.json_file import JsonFile
from abmonitor.ranking.lines import BOM, opened
from abmonitor.ranking.parquet_file import ParquetFile


_PARQUET = b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": "a zip or Excel file; save it as CSV",
    b"ARROW1": "an Arrow or Feather file; save it as Parquet",
    b"\x89HDF": "an HDF5 file; save it as Parquet",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it, or pack it by gzip",
    b"BZh": "packed by bzip2; unpack it, or pack it by gzip",
    b"\xfd7zXZ": "packed by xz; unpack it, or pack it by gzip",
}


def opened_source(path: Path, separator: str | None) -> Source:
    """Open a file for reading; raises FileError, or OSError where it cannot be read at all."""
    if path.is_dir():
        raise FileError(f"{path}: is a folder; expected a file")
    piped = str(path) == "-" and not path.exists()
    if piped or (path.exists() and not path.is_file()):
        raise FileError(
            f"{path}: is no file on disk; it is read several times, so write it to one first"
        )
    with path.open("rb") as raw:
        outer = raw.read(8)
    with opened(path) as (file, _):
        start = file.read(1024)
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise FileError(f"{path}: is {what}")
    if start.startswith(_PARQUET) and not outer.startswith(_PARQUET):
        raise FileError(f"{path}: is Parquet packed by gzip; unpack it")
    text = start.removeprefix(BOM).lstrip()
    if start.startswith(_PARQUET):
        kind: type[ParquetFile | JsonFile] = ParquetFile
    elif text.startswith(b"{"):
        kind = JsonFile
    elif text.startswith(b"[") and text[1:].lstrip().startswith((b"{", b"]")):
        raise FileError(
            f"{path}: is one JSON array; expected one object on each line (`jq -c '.[]'` writes that)"
        )
    else:
        return CsvFile(path, separator)
    if separator is not None:
        raise FileError(f"{path}: --separator is for CSV, and this is another format; leave it out")
    return kind(path)
