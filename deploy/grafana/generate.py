"""Write the dashboards' JSON beside this file; with --check only tell what is not up to date. Run from the root."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from board import Board
from experiment import experiment
from fleet import fleet
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from pipeline import pipeline


FOLDER = Path(__file__).parent / "dashboards"
BOARDS: Mapping[str, Callable[[], Board]] = {
    "experiment.json": experiment,
    "fleet.json": fleet,
    "pipeline.json": pipeline,
}


def text(board: Board) -> str:
    """A dashboard as its file has it."""
    return (
        json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False)
        + "\n"
    )


def main(arguments: list[str]) -> int:
    """Write or check; 1 where a file is not what it should be."""
    if arguments not in ([], ["--check"]):
        print(f"expected nothing or --check, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    stale = [
        name
        for name, make in BOARDS.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text(make())
    ]
    if not arguments:
        FOLDER.mkdir(exist_ok=True)
        for name in stale:
            (FOLDER / name).write_text(text(BOARDS[name]()))
            print(f"wrote {FOLDER / name}")
        return 0
    for name in stale:
        print(
            f"{FOLDER / name} is not what the generator makes: run python deploy/grafana/generate.py",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
