"""Copies alert rules and dashboards into the chart (file system): Helm reads no files outside of it.

Copies and not links: Flux, and archives for Windows, do not follow links. `--check` changes nothing, and ends
with status 1 where the chart has something else than what is tested.
"""

import argparse
from pathlib import Path


DEPLOY = Path(__file__).resolve().parents[1]
FILES = DEPLOY / "helm" / "abmonitor" / "files"
SOURCES = {
    "rules": (DEPLOY / "prometheus" / "rules", "*.yml"),
    "dashboards": (DEPLOY / "grafana" / "dashboards", "*.json"),
}
"""By folder of the chart: where the files come from, and which."""


def wanted() -> dict[Path, bytes]:
    """What the chart should have: file and content."""
    return {
        FILES / folder / file.name: file.read_bytes()
        for folder, (source, pattern) in SOURCES.items()
        for file in source.glob(pattern)
    }


def present() -> dict[Path, bytes]:
    """What the chart has."""
    return {file: file.read_bytes() for file in FILES.rglob("*") if file.is_file()}


def different() -> list[Path]:
    """Files of the chart that are old, missing, or should not be there."""
    want, have = wanted(), present()
    return sorted(file for file in want.keys() | have.keys() if want.get(file) != have.get(file))


def write() -> None:
    """Make the chart have what it should."""
    want = wanted()
    for file in present().keys() - want.keys():
        file.unlink()
    for file, content in want.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def main() -> int:
    """Copy, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is different")
    check = parser.parse_args().check
    found = different()
    for file in found:
        print(f"{'different' if check else 'written'}: {file.relative_to(DEPLOY)}")
    if check:
        return 1 if found else 0
    write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
